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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.local_cluster import NodeFailed
from tests.differential.campaign import NOTHING_PROVEN, Campaign, Coverage, coverage
from tests.differential.generator import Generator
from tests.differential.machine import Machine
from tests.differential.report import print_report, record
from tests.differential.resp import NotResp
from tests.support.cluster import REPOSITORY, NodeCluster, RedisStandIn

FOLLOWER_EVERY = 10
"""One sequence in so many goes through a follower."""
PROGRESS_SECONDS = 30.0


@contextmanager
def servers() -> Iterator[tuple[Machine, Machine]]:
    """A redis-server, a single node and a cluster; machines for the node and for a follower.

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
        yield alone, through_follower


def what_to_compare(machine: Machine) -> Coverage:
    """Which commands both servers of a machine know."""
    return coverage(machine.redis.connections[0], machine.kvnode.connections[0])


def run(sequences: int, seed: int, start: int = 0) -> tuple[Campaign, Coverage]:
    """Play sequences until all are done or a server is gone."""
    with servers() as (alone, through_follower):
        covered = what_to_compare(alone)
        campaign = Campaign(Generator(seed, covered.compared))
        told = time.monotonic()
        for number in range(start, start + sequences):
            machine = alone if number % FOLLOWER_EVERY else through_follower
            campaign.play(machine, number)
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
    parser.add_argument("--demand", type=int, default=0, help="least replies per command")
    parser.add_argument("--record", type=Path, help="write the outcome to this file")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("void: redis-server is not installed")
        return NOTHING_PROVEN
    print(f"differential, seed {options.seed}, {options.sequences} sequences")
    began = time.monotonic()
    try:
        campaign, covered = run(options.sequences, options.seed, options.start)
    except (NodeFailed, NotResp, OSError) as reason:
        print(f"void: {reason!r}")
        return NOTHING_PROVEN
    print_report(campaign, covered, options.demand)
    verdict = campaign.verdict(options.demand)
    if options.record is not None:
        command = (
            f"python -m tests.differential --sequences {options.sequences} --seed {options.seed}"
        )
        text = record(campaign, covered, command, commit(), time.monotonic() - began)
        options.record.write_text(text)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
