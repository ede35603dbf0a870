"""A hundred changes of the membership under load and kill -9, then check every promise.

    python -m tests.chaos.membership --changes 100 --seed 7

It begins with one process that is told of nobody. Then members come and go, one change after the
other, between one voter and seven: see `tests.chaos.churn`. All processes run on a disk that
forgets un-synced bytes at the kill, cut their logs often, and have their own clients. Afterwards
the record is judged as that of every run, and besides

* all nodes name the same members;
* every removed node ended with 78 and said why.

Exit code 0: nothing found. 1: a violation; record, logs and data are kept. 3: undecided. The seed
makes the *plan* of a run repeatable; real processes on a real machine are not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis
import uvloop

from scripts.local_cluster import LocalNode, NodeFailed
from tests.chaos import record as records
from tests.chaos import verdict
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.wal import check_logs
from tests.chaos.churn import VOTERS_MAX, Churn
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.crew import Crews
from tests.chaos.digest import digest
from tests.chaos.forgetful import SEED_VARIABLE
from tests.chaos.record import Record
from tests.chaos.report import Chronicle, publish
from tests.chaos.telling import RESULTS, SNAPSHOT_LOG_BYTES, Outcome, count_in_logs, tell
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import Workload
from tests.support.membership import MemberCluster

REPOSITORY = Path(__file__).resolve().parents[2]
CLIENTS_PER_NODE = 1
CHOSEN = ("registers", "counters", "ledger", "transactions", "queues")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `clients` is for each workload at each node."""

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
            "PYTHONPATH": str(REPOSITORY),
            SEED_VARIABLE: str(plan.seed),
            "KVNODE_SNAPSHOT_LOG_BYTES": SNAPSHOT_LOG_BYTES,
        },
    )
    record = Record()
    workloads = [WORKLOADS[name]() for name in CHOSEN]
    churn = Churn(
        cluster, Crews(plan.clients, plan.seed, record, workloads), plan.seed, plan.voters_max
    )
    started = time.monotonic()
    try:
        judgement = uvloop.run(_storm(plan, churn, record, workloads))
        elapsed = time.monotonic() - started
    finally:
        cluster.stop()
        cluster.close()
    logs = {node.name: node.log_path for node in (*cluster.nodes, *churn.former)}
    check_logs(logs, judgement)
    outcome = Outcome(judgement, _figures(plan, record, churn, elapsed))
    _keep(plan, outcome, record, directory)
    return outcome


async def _storm(
    plan: Plan, churn: Churn, record: Record, workloads: Sequence[Workload]
) -> Judgement:
    """Clients and churn side by side; then, in calm weather, look at what is there."""
    judgement = Judgement()
    await churn.found()
    await churn.run(plan.changes)
    await churn.crews.dismiss_all()
    record.disturbances = churn.outages
    judgement.violations += churn.failures
    if not churn.failures:
        judgement.violations += await _read_back(churn.cluster.nodes, record, workloads)
        judgement.violations += await verdict.compare_hashes(churn.cluster.nodes)
    # One node with a few clients is slower than three with many: how fast is no matter here.
    judgement.add(verdict.judge(record, workloads, rate_min=0))
    return judgement


async def _read_back(
    nodes: Sequence[LocalNode], record: Record, workloads: Sequence[Workload]
) -> list[str]:
    """Read everything back through every node."""
    for node in nodes:
        try:
            connection = await Connection.open(node.address)
            for workload in workloads:
                await workload.read_back(node.name, connection, record)
            connection.close()
        except (OSError, ConnectionLost, TimeoutError, hiredis.ReplyError) as error:
            return [f"{node.name} does not answer in calm weather: {error!r}"]
    return []


def _figures(plan: Plan, record: Record, churn: Churn, elapsed_s: float) -> dict[str, Any]:
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
        "torn_tails_repaired": count_in_logs(logs, "WAL tail truncated"),
        "snapshots_taken": count_in_logs(logs, 'msg="snapshot taken"'),
        "snapshots_installed": count_in_logs(logs, 'msg="snapshot installed"'),
        "errors": dict(Counter(incident.text for incident in record.incidents)),
    }


def _keep(plan: Plan, outcome: Outcome, record: Record, directory: Path) -> None:
    """Write the report; keep record, logs and data of a run that found something."""
    results = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-members-{plan.seed}"
    chronicle = Chronicle(
        outcome.figures,
        f"python -m tests.chaos.membership --changes {plan.changes} --seed {plan.seed}",
        [digest(record, outcome.judgement)],
    )
    publish(results, chronicle, outcome.judgement)
    judged = outcome.judgement
    found = {"violations": judged.violations, "undecided": judged.undecided, "void": judged.void}
    document = json.dumps({**outcome.figures, **found}, indent=2)
    (results / "figures.json").write_text(document + "\n")
    if judged.exit_code == 0:
        shutil.rmtree(directory, ignore_errors=True)
        return
    records.save(directory / "record.jsonl", record)
    outcome.kept = directory


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.membership", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument(
        "--clients", type=int, default=CLIENTS_PER_NODE, help="of each workload at each node"
    )
    parser.add_argument("--voters-max", type=int, default=VOTERS_MAX)
    plan = Plan(**vars(parser.parse_args()))
    print(f"chaos of the membership, seed {plan.seed}, {plan.changes} changes")
    outcome = run(plan)
    tell(outcome.figures, outcome.judgement, outcome.kept)
    return outcome.judgement.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NodeFailed as failure:
        print(f"no verdict: {failure}", file=sys.stderr)
        sys.exit(3)
