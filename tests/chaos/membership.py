"""A hundred changes of the membership under load and kill -9, then check every promise.

    python -m tests.chaos.membership --changes 100 --seed 7

It begins with one process that is told of nobody. Then members come and go, one change after the
other, between one voter and seven: see `tests.chaos.churn`. All processes run on a disk that
forgets un-synced bytes at the kill, cut their logs often, and have their own clients. Afterwards:

* no acknowledged write is lost, no refused one was done, none counted or appended twice;
* registers and counters are linearizable, lists agree with real time;
* clients of nodes that were not killed, stopped or removed saw no error at all;
* all nodes name the same members, answer the same, and have equal state hashes at equal indexes;
* every removed node ended with 78 and said why.

Exit code 0: nothing found. 1: a violation; history, logs and data are kept. 3: undecided. The seed
makes the *plan* of a run repeatable; real processes on a real machine are not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from scripts.local_cluster import LocalNode, NodeFailed
from tests.chaos import smoke, verdict
from tests.chaos.checks.judgement import Judgement
from tests.chaos.churn import VOTERS_MAX, Churn
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.crew import LIST, Crews
from tests.chaos.forgetful import SEED_VARIABLE
from tests.chaos.smoke import Outcome
from tests.chaos.workload import Record, decode
from tests.sim.verdict import judge_lists
from tests.support.history import Kind, Operation, save
from tests.support.membership import MemberCluster

CLIENTS_PER_NODE = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `clients` is for each node."""

    changes: int
    seed: int
    clients: int = CLIENTS_PER_NODE
    voters_max: int = VOTERS_MAX


def run(plan: Plan) -> Outcome:
    """Run one plan from the first process to the verdict."""
    directory = Path(tempfile.mkdtemp(prefix="kvnode-members-"))
    cluster = MemberCluster(
        directory,
        command=(sys.executable, "-m", "tests.chaos.node"),
        environment={
            "PYTHONPATH": str(smoke.REPOSITORY),
            SEED_VARIABLE: str(plan.seed),
            "KVNODE_SNAPSHOT_LOG_BYTES": smoke.SNAPSHOT_LOG_BYTES,
        },
    )
    record, judgement = Record(), Judgement()
    crews = Crews(plan.clients, plan.seed, record)
    churn = Churn(cluster, crews, plan.seed, plan.voters_max)
    started = time.monotonic()
    try:
        uvloop.run(_storm(plan, churn, record, judgement))
        elapsed = time.monotonic() - started
        judgement.violations += churn.failures
        judgement.violations += verdict.check_incidents(record, churn.outages)
        _judge_histories(record, judgement)
    finally:
        cluster.stop()
        cluster.close()
    outcome = Outcome(judgement, _figures(plan, record, churn, elapsed))
    _keep(plan, outcome, record, directory)
    return outcome


async def _storm(plan: Plan, churn: Churn, record: Record, judgement: Judgement) -> None:
    """Clients and churn side by side; then, in calm weather, look at what is there."""
    await churn.found()
    await churn.run(plan.changes)
    await churn.crews.dismiss_all()
    if not churn.failures:
        await _judge_state(churn.cluster.nodes, record, judgement)


async def _judge_state(nodes: list[LocalNode], record: Record, judgement: Judgement) -> None:
    """Read everything back through every node, and compare."""
    finals: dict[str, dict[str, object]] = {}
    for node in nodes:
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
    judgement.violations += await smoke.compare_hashes(nodes)


async def _read_back(node: LocalNode, record: Record) -> dict[str, object]:
    """All keys of the run as this node answers them; contended ones join the history."""
    connection = await Connection.open(node.address)
    answers: dict[str, object] = {}
    for key in sorted({operation.key for operation in record.history}):
        family = Kind.INCREMENT if key.startswith("counter") else Kind.WRITE
        begin = time.monotonic_ns()
        (reply,) = await connection.call(("GET", key))
        value = decode(reply, family)
        end = time.monotonic_ns()
        record.history.append(verdict.final_reads(key, value, node.name, begin, end))
        answers[key] = value
    answers.update(await smoke.read_ledger(connection, record))
    connection.close()
    return answers


def _judge_histories(record: Record, judgement: Judgement) -> None:
    """Registers, counters and lists, key by key."""
    lists: list[Operation] = []
    rest = Record()
    for operation in record.history:
        (lists if operation.key.startswith(LIST) else rest.history).append(operation)
    verdict.check_histories(rest, judgement)
    if not judgement.violations:
        judgement.violations += judge_lists(lists)


def _figures(plan: Plan, record: Record, churn: Churn, elapsed_s: float) -> dict[str, Any]:
    ledger = record.ledger
    logs = [node.log_path for node in (*churn.cluster.nodes, *churn.former)]
    return {
        "seed": plan.seed,
        "seconds": round(elapsed_s, 1),
        "changes": churn.done.total(),
        "changes_by_kind": dict(churn.done),
        "longest_s": {kind: round(seconds, 1) for kind, seconds in churn.seconds.items()},
        "kills": churn.kills,
        "pauses": churn.pauses,
        "asked_again_because": dict(churn.refusals),
        "commands": record.acknowledged,
        "commands_per_s": round(record.acknowledged / max(elapsed_s, 0.001)),
        "ledger": {
            "done": len(ledger.done),
            "refused": len(ledger.refused),
            "unknown": len(ledger.unknown),
        },
        "history": len(record.history),
        "torn_tails_repaired": smoke.count_in_logs(logs, "WAL tail truncated"),
        "snapshots_taken": smoke.count_in_logs(logs, 'msg="snapshot taken"'),
        "snapshots_installed": smoke.count_in_logs(logs, 'msg="snapshot installed"'),
        "errors": dict(Counter(incident.text for incident in record.incidents)),
    }


def _keep(plan: Plan, outcome: Outcome, record: Record, directory: Path) -> None:
    """Write the report; keep history, logs and data of a run that found something."""
    smoke.RESULTS.mkdir(exist_ok=True)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-members-{plan.seed}"
    report = {**outcome.figures, **dataclasses.asdict(outcome.judgement)}
    (smoke.RESULTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    if outcome.judgement.exit_code == 0:
        shutil.rmtree(directory, ignore_errors=True)
        return
    save(directory / "history.jsonl", record.history)
    outcome.kept = directory


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.membership", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--clients", type=int, default=CLIENTS_PER_NODE, help="of each node")
    parser.add_argument("--voters-max", type=int, default=VOTERS_MAX)
    plan = Plan(**vars(parser.parse_args()))
    print(f"chaos of the membership, seed {plan.seed}, {plan.changes} changes")
    outcome = run(plan)
    smoke.tell(outcome.figures, outcome.judgement, outcome.kept)
    return outcome.judgement.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NodeFailed as failure:
        print(f"no verdict: {failure}", file=sys.stderr)
        sys.exit(3)
