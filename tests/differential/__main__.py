"""`python -m tests.differential`: the same random conversations with redis-server and kvnode.

Most sequences go to a single node, every tenth through a follower of a cluster of three, its
second connection through the leader. Exit code 0: nothing found; 1: a difference that is neither a
rule nor accepted; 3: the run proves nothing (no redis-server, too many sequences that could not be
compared, or commands tried too seldom).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.local_cluster import LocalNode, NodeFailed
from tests.differential.campaign import NOTHING_PROVEN, Campaign, Coverage, coverage
from tests.differential.families import FAMILIES
from tests.differential.generator import Generator
from tests.differential.machine import Machine
from tests.differential.report import print_report, record
from tests.differential.resp import NotResp
from tests.differential.sequence import redis_cli_lines
from tests.support.cluster import REPOSITORY, NodeCluster, RedisStandIn

FOLLOWER_EVERY = 10
"""One sequence in so many goes through a follower."""
PROGRESS_SECONDS = 30.0
OBITUARY_SECONDS = 1.0
"""How long each node may take to end after its clients noticed."""


@dataclass(frozen=True, slots=True)
class Servers:
    """A redis-server, a single node and a cluster of three.

    Attributes:
        alone: plays to redis-server and the single node.
        through_follower: plays to redis-server and a follower of the cluster.
        nodes: all four nodes.
    """

    alone: Machine
    through_follower: Machine
    nodes: tuple[LocalNode, ...]

    def machine(self, number: int) -> Machine:
        """Which of the two plays the sequence of this number."""
        return self.alone if number % FOLLOWER_EVERY else self.through_follower

    def coverage(self) -> Coverage:
        """Which commands can be compared."""
        return coverage(self.alone.redis.connections[0], self.alone.kvnode.connections[0])

    def obituary(self) -> str:
        """What nodes wrote before they ended; nothing while all of them run."""
        dead = [node for node in self.nodes if node.wait_exit(OBITUARY_SECONDS) is not None]
        return "\n".join(f"{node.name} ended:\n{node.log_tail()}" for node in dead)


@contextmanager
def servers() -> Iterator[Servers]:
    """Start everything, and stop it at the end.

    Raises:
        NodeFailed: one of them did not start.
    """
    with ExitStack() as stack:
        redis = RedisStandIn()
        stack.callback(redis.finish, keep=False)
        single, cluster = NodeCluster(1), NodeCluster(3)
        for nodes in (single, cluster):
            stack.callback(nodes.finish, keep=False)
            nodes.start()
        leader = cluster.wait_leader()
        single.wait_leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        address = redis.addresses()[0]
        alone = Machine(address, single.nodes[0].address)
        stack.callback(alone.close)
        through_follower = Machine(address, follower.address, leader.address)
        stack.callback(through_follower.close)
        yield Servers(alone, through_follower, (*single.nodes, *cluster.nodes))


def run(
    sequences: int, seed: int, start: int = 0, families: Collection[str] = tuple(FAMILIES)
) -> tuple[Campaign, Coverage]:
    """Play sequences until all are done or a node is gone.

    Raises:
        NodeFailed: a server did not start.
        NotResp, OSError: no node is gone, and yet it cannot go on.
    """
    with servers() as started:
        covered = started.coverage()
        campaign = Campaign(Generator(seed, covered.compared, families))
        told = time.monotonic()
        for number in range(start, start + sequences):
            try:
                campaign.play(started.machine(number), number)
            except (NotResp, OSError):
                if not (obituary := started.obituary()):
                    raise
                lines = "\n".join(redis_cli_lines(campaign.generator.sequence(number)))
                campaign.crash = f"sequence {number}:\n{lines}\n{obituary}"
                break
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                print(f"  {number + 1 - start} of {sequences}, {len(campaign.seen)} differences")
        return campaign, covered


def commit() -> str:
    """The commit of the checkout, with a mark if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    return done.stdout.decode().strip() or "unknown"


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first sequence")
    parser.add_argument(
        "--family",
        action="append",
        choices=sorted(FAMILIES),
        help="only sequences about this family, or these (again and again)",
    )
    parser.add_argument("--demand", type=int, default=0, help="least replies per command")
    parser.add_argument("--record", type=Path, help="write the outcome to this file")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("void: redis-server is not installed")
        return NOTHING_PROVEN
    families = options.family or tuple(FAMILIES)
    about = f" about {', '.join(options.family)}" if options.family else ""
    print(f"differential, seed {options.seed}, {options.sequences} sequences{about}")
    began = time.monotonic()
    try:
        campaign, covered = run(options.sequences, options.seed, options.start, families)
    except (NodeFailed, NotResp, OSError) as reason:
        print(f"void: {reason!r}")
        return NOTHING_PROVEN
    print_report(campaign, covered, options.demand)
    verdict = campaign.verdict(options.demand)
    if options.record is not None:
        command = (
            f"python -m tests.differential --sequences {options.sequences} --seed {options.seed}"
        )
        command += "".join(f" --family {name}" for name in options.family or ())
        text = record(campaign, covered, command, commit(), time.monotonic() - began)
        options.record.write_text(text)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
