"""Epoch after epoch, until the time is over or something was found; then verdict and report."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from scripts.local_cluster import NodeFailed
from tests.chaos import record as records
from tests.chaos import verdict
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.wal import check_logs, verify
from tests.chaos.digest import digest
from tests.chaos.plan import Round, rounds
from tests.chaos.report import Chronicle, publish
from tests.chaos.running import EPOCH_SECONDS, Order, Storm, Tale, offers
from tests.chaos.stage import Setting, Stage
from tests.chaos.telling import RESULTS, Outcome, count_in_logs, tell
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import Workload

ENDINGS = (signal.SIGINT, signal.SIGTERM)
RECORDS_KEPT_MAX = 5
"""Epochs without a finding whose records are kept with the report; ten megabytes each."""
SAID = {
    "torn_tails_repaired": "WAL tail truncated",
    "snapshots_taken": 'msg="snapshot taken"',
    "snapshots_installed": 'msg="snapshot installed"',
}
"""Figures that nodes tell in their logs: faults hit what they were meant to hit."""


def run(order: Order) -> Outcome:
    """Run an order from the first process to the verdict, and tell people."""
    print(f"chaos, seed {order.seed}, {order.seconds:g} s, {order.broken or 'the real build'}")
    print(f"  {order.nodes} nodes on disks: {', '.join(order.disks)}")
    print(f"  faults: {', '.join(f'{name}={rate:g}' for name, rate in order.faults.items())}")
    print(f"  workloads: {', '.join(order.workloads)}")
    directory = Path(tempfile.mkdtemp(prefix="kvnode-chaos-"))
    setting = Setting(
        order.nodes,
        order.seed,
        order.disks,
        order.broken,
        memory_mib=order.memory_mib,
        netns=order.netns,
    )
    stage = Stage(directory, setting)
    tale = Tale()
    chronicle = Chronicle(command=command_of(order))
    played: list[Round] = []
    is_interrupted = False
    try:
        stage.found()
        uvloop.run(_epochs(order, stage, tale, chronicle, played))
    except NodeFailed as failure:
        tale.judgement.violations.append(f"a node failed: {failure}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        is_interrupted = True
        raise KeyboardInterrupt from None
    finally:
        with undisturbed():
            stage.close()
            if is_interrupted:
                shutil.rmtree(directory, ignore_errors=True)
    return _finish(order, tale, chronicle, played, directory)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Take back what was done to the machine, however often somebody asks this process to end."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def command_of(order: Order) -> str:
    """How to run the same plan again."""
    words = {
        "seconds": f"{order.seconds:g}",
        "seed": order.seed,
        "nodes": order.nodes,
        "faults": ",".join(f"{name}={rate:g}" for name, rate in order.faults.items()),
        "workloads": ",".join(order.workloads),
        "disks": ",".join(order.disks),
        "pairs": order.pair_odds,
        "netns": "on" if order.netns else "off",
        "broken": order.broken,
    }
    flags = " ".join(f"--{name} {value}" for name, value in words.items() if value != "")
    return f"python -m tests.chaos {flags}"


async def _epochs(
    order: Order, stage: Stage, tale: Tale, chronicle: Chronicle, played: list[Round]
) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in ENDINGS:
        # An exception from a handler of Python's own might end in a callback of some connection.
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    plan = _noted(rounds(order.seed, offers(order), order.pair_odds), played)
    deadline = time.monotonic() + order.seconds
    for epoch in itertools.count():
        left = deadline - time.monotonic()
        if left <= 0:
            return
        workloads = [WORKLOADS[name](epoch) for name in order.workloads]
        storm = Storm(stage, workloads, order.seed + epoch, plan, tale)
        await storm.run(min(left, EPOCH_SECONDS))
        found = await _judge(storm, workloads)
        if not storm.broken_off and time.monotonic() >= deadline:
            found.violations += await _verify_logs(stage)
        tale.judgement.add(found)
        chronicle.digests.append(digest(storm.record, found))
        tale.epochs += 1
        if found.violations or epoch < RECORDS_KEPT_MAX:
            records.save(stage.directory / f"record-{epoch}.jsonl", storm.record)
        if storm.broken_off or (found.violations and not order.keep_going):
            return


def _noted(plan: Any, played: list[Round]) -> Any:
    """The plan, while what is taken from it is written down."""
    for one in plan:
        played.append(one)
        print(f"  {one}", flush=True)
        yield one


async def _judge(storm: Storm, workloads: Sequence[Workload]) -> Judgement:
    judgement = Judgement(violations=list(storm.findings))
    if storm.broken_off:
        judgement.violations.append(f"a node did not come back: {storm.broken_off}")
    else:
        judgement.violations += await storm.read_back()
        judgement.violations += await verdict.compare_hashes(storm.stage.nodes)
    judgement.add(verdict.judge(storm.record, workloads))
    everybody = [*storm.stage.nodes, *storm.stage.former]
    check_logs({node.name: node.log_path for node in everybody}, judgement)
    return judgement


async def _verify_logs(stage: Stage) -> list[str]:
    """What `kvnode wal verify` finds wrong with the log of any node, in calm weather."""
    found = [await asyncio.to_thread(verify, node.name, node.data) for node in stage.nodes]
    return [text for text in found if text is not None]


def _finish(
    order: Order, tale: Tale, chronicle: Chronicle, played: Sequence[Round], directory: Path
) -> Outcome:
    """Tell people, write the report, keep what shows a violation."""
    figures = {
        "seed": order.seed,
        "build": order.broken or "as it is",
        "seconds": round(time.monotonic() - tale.began, 1),
        "epochs": tale.epochs,
        "rounds": tale.rounds,
        "operations": tale.operations,
        "faults": {
            name: f"{tale.held[name]} of {count} took hold"
            for name, count in sorted(tale.injected.items())
        },
        "not_injected": dict(tale.skipped),
        **{
            name: count_in_logs(directory.glob("*.log"), sentence)
            for name, sentence in SAID.items()
        },
    }
    judgement = tale.judgement
    results = order.report or RESULTS
    results.mkdir(parents=True, exist_ok=True)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-chaos-{order.broken or 'kvnode'}-{order.seed}"
    found = {
        "violations": judgement.violations,
        "undecided": judgement.undecided,
        "void": judgement.void,
    }
    rounds_played = [
        [asdict(strike) | {"whom": strike.whom.value} for strike in one.strikes] for one in played
    ]
    figures |= chronicle.figures()
    pauses_ms = [round(pause, 1) for pause in chronicle.pauses_ms]
    document = {**figures, **found, "pauses_ms": pauses_ms, "plan": rounds_played}
    (results / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    chronicle.facts = figures
    logs = sorted(directory.glob("*.log")) if judgement.violations else []
    page = publish(results / name, chronicle, judgement, [*logs, *directory.glob("*.jsonl")])
    print(f"report: {page}")
    keeps = bool(judgement.violations) and not order.broken
    if not keeps:
        shutil.rmtree(directory, ignore_errors=True)
    outcome = Outcome(judgement, figures, directory if keeps else None)
    tell(outcome.figures, judgement, outcome.kept)
    return outcome
