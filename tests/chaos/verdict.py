"""After the storm: was every promise kept?

    python -m tests.chaos.verdict chaos-results/…/record-0.jsonl

Each check looks at one promise and says what is wrong; nothing is good. What cannot be decided is
kept apart, and so is a run that was too calm to say anything (void). Started by itself it judges a
saved record again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.local_cluster import LocalNode
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.void import RATE_MIN, check_void
from tests.chaos.checks.weather import (
    check_agreement,
    check_errors,
    check_exits,
    check_memory,
    check_progress,
)
from tests.chaos.record import Record, load
from tests.chaos.telling import tell
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import Workload

AGREE_SECONDS_MAX = 10.0


def judge(record: Record, workloads: Sequence[Workload], rate_min: float = RATE_MIN) -> Judgement:
    """Everything that a record tells: of every workload, of the nodes, and whether it counts.

    Args:
        rate_min: checked operations a second that are due.
    """
    judgement = Judgement()
    for workload in workloads:
        judgement.add(workload.judge(record))
    for check_all in (check_errors, check_exits, check_progress, check_agreement, check_memory):
        check_all(record, judgement)
    check_void(record, [workload.name for workload in workloads], judgement, rate_min)
    return judgement


async def compare_hashes(nodes: Sequence[LocalNode]) -> list[str]:
    """Nodes may be some entries apart for a moment; then their state hashes must be equal."""
    deadline = time.monotonic() + AGREE_SECONDS_MAX
    while wrong := await asyncio.to_thread(_different_hashes, nodes):
        if time.monotonic() > deadline:
            return wrong
        await asyncio.sleep(0.1)
    return []


def _different_hashes(nodes: Sequence[LocalNode]) -> list[str]:
    hashes = {}
    for node in nodes:
        answer = node.get_json("/hash")
        if answer is None:
            return [f"{node.name} does not tell its state hash"]
        hashes[node.name] = (answer["index"], answer["hash"])
    if len(set(hashes.values())) > 1:
        return [f"state hashes differ: {hashes}"]
    return []


def main() -> int:
    """Judge a saved record; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.verdict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("record", type=Path)
    record = load(parser.parse_args().record)
    # Keys begin with the name of the workload and the number of the epoch.
    begins = {tuple(entry.key.split(":")[:2]) for entry in record.entries}
    workloads = [WORKLOADS[name](int(epoch)) for name, epoch in sorted(begins)]
    judgement = judge(record, workloads)
    tell({"operations": len(record.entries)}, judgement, None)
    return judgement.exit_code


if __name__ == "__main__":
    sys.exit(main())
