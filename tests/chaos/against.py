"""Clients against nodes that somebody else runs: containers, say, that are being updated.

    python -m tests.chaos.against 10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379 --seconds 120 --restarts

All workloads on every node, and every check of what clients saw; nothing is broken here, and the
nodes are told nothing but commands. With `--restarts` nodes may be taken away and come back: who
loses a connection has seen no error by that. Any other error is a violation.

Exit code 0: nothing found, 1: a violation; 3: undecided, or too calm to say anything.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hiredis
import uvloop

from tests.chaos import record as records
from tests.chaos import verdict
from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.digest import digest
from tests.chaos.record import Record
from tests.chaos.report import Chronicle, publish
from tests.chaos.telling import RESULTS, tell
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import CUT_OFF, Client, Workload, dial

ANSWER_SECONDS_MAX = 30.0
"""A node that is back answers by then."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A node by its address, and the password that it asks for."""

    name: str
    address: tuple[str, int]
    password: str = ""


def guests(addresses: Sequence[str], password: str = "") -> list[Guest]:
    """Nodes by `HOST:PORT`.

    Raises:
        ValueError: one has no port.
    """
    found = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        found.append(Guest(address, (host.strip("[]"), int(port)), password))
    return found


async def work(
    nodes: Sequence[Guest], workloads: Sequence[Workload], seed: int, end: asyncio.Event
) -> Record:
    """Let the clients of all workloads work until the end, then read everything back."""
    record, rng = Record(), random.Random(seed)
    connection = await dial(nodes[0])
    for workload in workloads:
        await workload.prepare(connection)
    connection.close()
    clients: list[Client] = []
    for workload in workloads:
        clients += workload.clients(nodes, len(clients), rng, record)
    await asyncio.gather(*(client.run(end) for client in clients))
    for node in nodes:
        connection = await _awaited(node)
        for workload in workloads:
            await workload.read_back(node.name, connection, record)
        connection.close()
    return record


async def _awaited(node: Guest) -> Connection:
    """A connection to a node that may have been restarted a moment ago."""
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        while True:
            try:
                connection = await dial(node)
                (reply,) = await connection.call(("DBSIZE",))
                if isinstance(reply, int):
                    return connection
                connection.close()
            except (OSError, ConnectionLost):
                pass
            await asyncio.sleep(0.1)


def judge(record: Record, workloads: Sequence[Workload], *, restarts: bool) -> Judgement:
    """The verdict; with `restarts` a lost connection is no error."""
    if restarts:
        record.incidents = [one for one in record.incidents if one.text != CUT_OFF]
    return verdict.judge(record, workloads)


async def _run(arguments: argparse.Namespace) -> int:
    password = arguments.password_file.read_text().strip() if arguments.password_file else ""
    # Whoever comes again to the same nodes must not meet the keys of the last time.
    workloads = [WORKLOADS[name](int(time.time())) for name in arguments.workloads.split(",")]
    end = asyncio.Event()
    asyncio.get_running_loop().call_later(arguments.seconds, end.set)
    nodes = guests(arguments.nodes, password)
    try:
        record = await work(nodes, workloads, arguments.seed, end)
    except (OSError, ConnectionLost, TimeoutError, hiredis.ReplyError) as error:
        print(f"VIOLATION: a node does not answer in calm weather: {error!r}")
        return 1
    judgement = judge(record, workloads, restarts=arguments.restarts)
    results = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-against-{arguments.seed}"
    chronicle = Chronicle({"nodes": arguments.nodes}, " ".join(sys.argv))
    chronicle.digests.append(digest(record, judgement))
    print(f"report: {publish(results, chronicle, judgement)}")
    records.save(results / "record-0.jsonl", record)
    tell(chronicle.figures(), judgement, None)
    return judgement.exit_code


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.against", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("nodes", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), metavar="NAME,…")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--restarts", action="store_true", help="nodes may be restarted meanwhile")
    return uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
