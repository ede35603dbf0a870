"""Kill nodes under load for a minute, then check every promise.

    python -m tests.chaos.smoke --seconds 60 --seed 7

Three real processes on a disk that forgets un-synced bytes at the kill; clients on all of them; a
seeded nemesis that kills the leader, a follower, or all at once with SIGKILL. Afterwards:

* no acknowledged write is lost, no refused one was done, no INCR counted twice;
* every key's history is linearizable, so that no read was ever stale;
* every element of a queue is there, or was popped once, though clients wait on nodes that die;
* clients on nodes that were not killed saw no error at all;
* all nodes answer the same and have the same state hash at the same applied index.

Exit code 0: nothing found. 1: a violation; history, logs and data are kept. 3: undecided, or void
because the run was too calm to say anything. The seed makes the *plan* of a run repeatable; real
processes on a real machine are not.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from scripts.local_cluster import LocalCluster, LocalNode, NodeFailed
from tests.chaos import verdict
from tests.chaos.broken_builds import BROKEN
from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.forgetful import SEED_VARIABLE
from tests.chaos.nemesis import Nemesis
from tests.chaos.queues import Accounts, lists_are_known, make_queue_clients
from tests.chaos.workload import COUNTERS, REGISTERS, Client, Record, decode, make_clients, shape_of
from tests.support.history import Kind, save

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "chaos-results"
CLIENTS = 36
PROGRESS_SECONDS = 5.0
AGREE_SECONDS_MAX = 10.0
CLIENTS_DRAIN_SECONDS_MAX = 30.0
LEVEL_SECONDS_MAX = 30.0
SERVED_DUE = 50
"""Fewer pops in a run that had something have tried little."""

KEYS_PER_READ = 500
SNAPSHOT_LOG_BYTES = "256kb"
"""Small, so that logs are cut and snapshots are sent while nodes die."""

SNAPSHOTS_DUE_SECONDS = 30
"""A run of this length that took no snapshot has not tried what it should."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        broken: name of a broken build, or empty for the real one.
    """

    seconds: float
    seed: int
    nodes: int = 3
    clients: int = CLIENTS
    broken: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of a run: the figures and what was found."""

    judgement: Judgement
    figures: dict[str, Any]
    kept: Path | None = None


def run(plan: Plan) -> Outcome:
    """Run one plan from the first process to the verdict."""
    directory = Path(tempfile.mkdtemp(prefix="kvnode-chaos-"))
    flags = ["--broken", plan.broken] if plan.broken else []
    cluster = LocalCluster(
        directory,
        plan.nodes,
        (sys.executable, "-m", "tests.chaos.node", *flags),
        {
            "PYTHONPATH": str(REPOSITORY),
            SEED_VARIABLE: str(plan.seed),
            "KVNODE_SNAPSHOT_LOG_BYTES": SNAPSHOT_LOG_BYTES,
        },
    )
    record, accounts, judgement = Record(), Accounts(), Judgement()
    nemesis = Nemesis(cluster, plan.seed)
    started = time.monotonic()
    try:
        cluster.start()
        cluster.wait_leader()
        uvloop.run(_until_lists_are_known(cluster))
        started = time.monotonic()
        uvloop.run(_storm(plan, cluster, nemesis, record, accounts))
        elapsed = time.monotonic() - started
        figures = _figures(plan, record, accounts, nemesis, elapsed)
        _judge_run(figures, nemesis, judgement)
        if not nemesis.failures:
            uvloop.run(_judge_state(cluster, record, accounts, judgement))
        judgement.violations += verdict.check_incidents(record, nemesis.outages)
        verdict.check_histories(record, judgement)
    except NodeFailed as failure:
        judgement.violations.append(f"a node failed: {failure}")
        figures = _figures(plan, record, accounts, nemesis, time.monotonic() - started)
    finally:
        cluster.stop()
        cluster.close()
    outcome = Outcome(judgement, figures)
    _keep(plan, outcome, record, directory)
    return outcome


async def _until_lists_are_known(cluster: LocalCluster) -> None:
    """The feature level rises by itself soon after the start."""
    async with asyncio.timeout(LEVEL_SECONDS_MAX):
        for node in cluster.nodes:
            while not await lists_are_known(node):
                await asyncio.sleep(0.05)


async def _storm(
    plan: Plan, cluster: LocalCluster, nemesis: Nemesis, record: Record, accounts: Accounts
) -> None:
    """Clients and nemesis side by side; returns when all have ended and all nodes are ready."""
    killing_ends, clients_end = asyncio.Event(), asyncio.Event()
    clients: list[Client] = [
        *make_clients(cluster.nodes, plan.clients, plan.seed, record),
        *make_queue_clients(cluster.nodes, plan.seed, record, accounts),
    ]
    working = [asyncio.create_task(client.run(clients_end)) for client in clients]
    killer = asyncio.create_task(nemesis.run(killing_ends))
    begin = time.monotonic()
    while time.monotonic() < begin + plan.seconds and not killer.done():
        left = begin + plan.seconds - time.monotonic()
        # Sleeps, unless the nemesis gives up or a client meets a bug of ours.
        await asyncio.wait(
            [killer, *working],
            timeout=max(0.1, min(PROGRESS_SECONDS, left)),
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in working:
            if task.done():
                task.result()
        print(
            f"  {time.monotonic() - begin:5.0f} s  {record.acknowledged:8,} done  "
            f"{len(nemesis.outages):3} kills  {len(record.incidents):4} errors",
            flush=True,
        )
    killing_ends.set()
    await killer
    clients_end.set()
    async with asyncio.timeout(CLIENTS_DRAIN_SECONDS_MAX):
        await asyncio.gather(*working)


def _judge_run(figures: dict[str, Any], nemesis: Nemesis, judgement: Judgement) -> None:
    """Did all nodes come back, and was there enough of everything?"""
    judgement.violations += [f"a node did not come back: {text}" for text in nemesis.failures]
    if figures["commands_per_s"] < verdict.RATE_MIN:
        judgement.void.append(f"{figures['commands_per_s']} commands/s are too few")
    if figures["kills"] < verdict.KILLS_MIN:
        judgement.void.append(f"{figures['kills']} kills are too few")
    if figures["queues"]["served"] < SERVED_DUE:
        judgement.void.append(f"{figures['queues']['served']} pops are too few")
    if figures["seconds"] >= SNAPSHOTS_DUE_SECONDS and not figures["snapshots_taken"]:
        judgement.void.append("no snapshot was taken, so no log was cut")


async def _judge_state(
    cluster: LocalCluster, record: Record, accounts: Accounts, judgement: Judgement
) -> None:
    """Read everything back through every node, and compare."""
    finals: dict[str, dict[str, object]] = {}
    for node in cluster.nodes:
        try:
            answers = await _read_back(node, record)
        except (OSError, ConnectionLost, TimeoutError) as error:
            judgement.violations.append(f"{node.name} does not answer in calm weather: {error!r}")
            return
        finals[node.name] = answers
        texts = {k: v for k, v in answers.items() if v is None or isinstance(v, str)}
        judgement.violations += verdict.check_ledger(record, node.name, texts)
        counters = {k: v for k, v in answers.items() if isinstance(v, int)}
        judgement.violations += verdict.check_counters(record, counters)
    judgement.violations += verdict.differences(finals)
    judgement.violations += await _judge_queues(cluster.nodes[0], accounts)
    judgement.violations += await compare_hashes(cluster.nodes)


async def _judge_queues(node: LocalNode, accounts: Accounts) -> list[str]:
    """What clients had in hand that left at the very end comes back a moment later."""
    connection = await Connection.open(node.address)
    deadline = time.monotonic() + AGREE_SECONDS_MAX
    while (wrong := await accounts.judge(connection)) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    connection.close()
    return wrong


async def _read_back(node: LocalNode, record: Record) -> dict[str, object]:
    """All keys of the run as this node answers them; contended ones join the history."""
    connection = await Connection.open(node.address)
    answers: dict[str, object] = {}
    for number in range(REGISTERS + COUNTERS):
        is_register = number < REGISTERS
        key = f"register:{number}" if is_register else f"counter:{number - REGISTERS}"
        begin = time.monotonic_ns()
        (reply,) = await connection.call(shape_of(key).read)
        value = decode(reply, Kind.WRITE if is_register else Kind.INCREMENT)
        end = time.monotonic_ns()
        record.history.append(verdict.final_reads(key, value, node.name, begin, end))
        answers[key] = value
    answers.update(await read_ledger(connection, record))
    connection.close()
    return answers


async def read_ledger(connection: Connection, record: Record) -> dict[str, object]:
    """What is there of all keys that were written once."""
    answers: dict[str, object] = {}
    ledger = record.ledger
    keys = [*ledger.done, *ledger.refused, *ledger.unknown]
    for start in range(0, len(keys), KEYS_PER_READ):
        part = keys[start : start + KEYS_PER_READ]
        (found,) = await connection.call(("MGET", *part))
        assert isinstance(found, list), found
        answers.update(
            (key, decode(value, Kind.WRITE)) for key, value in zip(part, found, strict=True)
        )
    return answers


async def compare_hashes(nodes: Sequence[LocalNode]) -> list[str]:
    """Nodes may be some entries apart for a moment; then their hashes must be equal."""
    deadline = time.monotonic() + AGREE_SECONDS_MAX
    while wrong := await asyncio.to_thread(verdict.check_hashes, nodes):
        if time.monotonic() > deadline:
            return wrong
        await asyncio.sleep(0.1)
    return []


def count_in_logs(paths: Iterable[Path], sentence: str) -> int:
    """How often the nodes said something: shows that kills hit what they were meant to hit."""
    return sum(path.read_text(errors="replace").count(sentence) for path in paths if path.exists())


def _figures(
    plan: Plan, record: Record, accounts: Accounts, nemesis: Nemesis, elapsed_s: float
) -> dict[str, Any]:
    ledger = record.ledger
    logs = [node.log_path for node in nemesis.cluster.nodes]
    return {
        "seed": plan.seed,
        "build": plan.broken or "as it is",
        "seconds": round(elapsed_s, 1),
        "commands": record.acknowledged,
        "commands_per_s": round(record.acknowledged / max(elapsed_s, 0.001)),
        "kills": len(nemesis.outages),
        "kills_by_target": dict(Counter(outage.target.value for outage in nemesis.outages)),
        "ledger": {
            "done": len(ledger.done),
            "refused": len(ledger.refused),
            "unknown": len(ledger.unknown),
        },
        "history": len(record.history),
        "queues": {
            "pushed": len(accounts.waited.pushes) + len(accounts.straight.pushes),
            "served": accounts.served,
            "in_doubt": len(accounts.waited.doubts) + len(accounts.straight.doubts),
            "unblocked": accounts.unblocked,
        },
        "torn_tails_repaired": count_in_logs(logs, "WAL tail truncated"),
        "snapshots_taken": count_in_logs(logs, 'msg="snapshot taken"'),
        "snapshots_installed": count_in_logs(logs, 'msg="snapshot installed"'),
        "errors": dict(Counter(i.text for i in record.incidents)),
        "pause_after_leader_kill": verdict.spread(verdict.pauses_s(record, nemesis.outages)),
    }


def _keep(plan: Plan, outcome: Outcome, record: Record, directory: Path) -> None:
    """Write the report; keep history, logs and data of a run that found something."""
    RESULTS.mkdir(exist_ok=True)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{plan.broken or 'kvnode'}-{plan.seed}"
    report = {**outcome.figures, **dataclasses.asdict(outcome.judgement)}
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    if outcome.judgement.exit_code == 0 or plan.broken:
        shutil.rmtree(directory, ignore_errors=True)
        return
    save(directory / "history.jsonl", record.history)
    outcome.kept = directory


def report(outcome: Outcome) -> None:
    """Tell people."""
    tell(outcome.figures, outcome.judgement, outcome.kept)


def tell(figures: dict[str, Any], judgement: Judgement, kept: Path | None) -> None:
    """The figures, what was found, and where the rest is."""
    for name, value in figures.items():
        print(f"  {name}: {value}")
    for title, findings in (
        ("VIOLATION", judgement.violations),
        ("UNDECIDED", judgement.undecided),
        ("VOID", judgement.void),
    ):
        for finding in findings:
            print(f"{title}: {finding}")
    if kept is not None:
        print(f"kept: {kept}")
    if judgement.exit_code == 0:
        print("nothing found: every promise was kept")


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.smoke", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to kill")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--nodes", type=int, default=3, choices=[3, 5])
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--broken", choices=sorted(BROKEN), default="")
    plan = Plan(**vars(parser.parse_args()))
    print(f"chaos smoke, seed {plan.seed}, {plan.seconds:g} s, {plan.broken or 'real build'}")
    outcome = run(plan)
    report(outcome)
    return outcome.judgement.exit_code


if __name__ == "__main__":
    sys.exit(main())
