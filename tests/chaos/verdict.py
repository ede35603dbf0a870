"""After the storm: was every promise kept?

Each check looks at one promise and returns sentences about what is wrong; none is good. What cannot
be decided is kept apart, and so is a run that was too calm to say anything (void).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from scripts.local_cluster import LocalNode
from tests.chaos.checks.judgement import EXAMPLES_MAX, Judgement
from tests.chaos.checks.void import check_void
from tests.chaos.checks.weather import (
    check_agreement,
    check_errors,
    check_exits,
    check_memory,
    check_progress,
)
from tests.chaos.nemesis import Outage, Target
from tests.chaos.record import Record
from tests.chaos.workload import Incident
from tests.chaos.workload import Record as OldRecord
from tests.chaos.workloads.protocol import Workload
from tests.support.history import Kind, Operation, Outcome, by_key
from tests.support.linearizability import Verdict, check

RATE_MIN = 1_000.0
"""Commands a second; below it the nodes were never busy enough for a kill to hit anything."""
KILLS_MIN = 5


def judge(record: Record, workloads: Sequence[Workload]) -> Judgement:
    """Everything that a record tells: of every workload, of the nodes, and whether it counts."""
    judgement = Judgement()
    for workload in workloads:
        judgement.add(workload.judge(record))
    for check_all in (check_errors, check_exits, check_progress, check_agreement, check_memory):
        check_all(record, judgement)
    check_void(record, [workload.name for workload in workloads], judgement)
    return judgement


# --- what the smoke run and the run of the membership ask -----------------------------------------


def check_histories(record: OldRecord, judgement: Judgement) -> None:
    """Registers and counters: linearizable, key by key."""
    for key, operations in by_key(record.history).items():
        finding = check(operations, 0 if key.startswith("counter") else None)
        if finding.verdict is Verdict.VIOLATION:
            judgement.violations.append(finding.text)
        elif finding.verdict is Verdict.UNDECIDED:
            judgement.undecided.append(f"{key}: {finding.text}")


def check_counters(record: OldRecord, finals: dict[str, int]) -> list[str]:
    """Every acknowledged INCR is in the final value, and none of them twice."""
    wrong = []
    for key, operations in by_key(record.history).items():
        counts = dict.fromkeys(Outcome, 0)
        for operation in operations:
            if operation.kind is Kind.INCREMENT:
                counts[operation.outcome] += 1
        low, high = counts[Outcome.DONE], counts[Outcome.DONE] + counts[Outcome.UNKNOWN]
        if key in finals and not low <= finals[key] <= high:
            wrong.append(f"{key} is {finals[key]}, but {low} to {high} increments can have counted")
    return wrong


def check_ledger(record: OldRecord, node: str, found: dict[str, str | None]) -> list[str]:
    """Every acknowledged write is there, no refused one is, and no value is another's."""
    ledger = record.ledger
    lost = [key for key in ledger.done if found.get(key) is None]
    phantoms = [key for key in ledger.refused if found.get(key) is not None]
    strange = [
        key
        for key, value in (*ledger.done.items(), *ledger.unknown.items())
        if found.get(key) not in {None, value}
    ]
    wrong = []
    for what, keys in (
        ("acknowledged writes are lost", lost),
        ("refused writes were done", phantoms),
        ("values are not what was written", strange),
    ):
        if keys:
            examples = ", ".join(keys[:EXAMPLES_MAX])
            wrong.append(f"{node}: {len(keys)} {what}, for example {examples}")
    return wrong


def unexcused(incidents: Iterable[Incident], outages: Sequence[Outage]) -> list[Incident]:
    """Errors of clients whose own node was neither killed nor still starting meanwhile."""
    by_node: dict[str, list[Outage]] = {}
    for outage in outages:
        by_node.setdefault(outage.node, []).append(outage)
    return [
        incident
        for incident in incidents
        if not any(
            outage.since_ns <= incident.until_ns
            and (outage.until_ns is None or incident.since_ns <= outage.until_ns)
            for outage in by_node.get(incident.node, ())
        )
    ]


def check_incidents(record: OldRecord, outages: Sequence[Outage]) -> list[str]:
    """Clients of nodes that lived saw no error at all."""
    wrong = unexcused(record.incidents, outages)
    if not wrong:
        return []
    examples = "; ".join(
        f"client {i.client} at {i.node}: {i.text} after {(i.until_ns - i.since_ns) / 1e9:.3f} s"
        for i in wrong[:EXAMPLES_MAX]
    )
    return [f"{len(wrong)} errors at nodes that were not killed: {examples}"]


def differences(finals: dict[str, dict[str, object]]) -> list[str]:
    """All nodes answer the same about every key."""
    (first, answers), *others = finals.items()
    wrong = []
    for node, its in others:
        differing = [key for key in answers if its.get(key) != answers[key]]
        if differing:
            key = differing[0]
            wrong.append(
                f"{node} and {first} differ on {len(differing)} keys, for example "
                f"{key}: {its.get(key)!r} and {answers[key]!r}"
            )
    return wrong


def check_hashes(nodes: Sequence[LocalNode]) -> list[str]:
    """The same applied index gives the same state hash on all nodes."""
    hashes = {}
    for node in nodes:
        answer = node.get_json("/hash")
        if answer is None:
            return [f"{node.name} does not tell its state hash"]
        hashes[node.name] = (answer["index"], answer["hash"])
    if len(set(hashes.values())) > 1:
        return [f"state hashes differ: {hashes}"]
    return []


def pauses_s(record: OldRecord, outages: Sequence[Outage]) -> list[float]:
    """For every kill of the leader: seconds until a write begun after it was acknowledged."""
    writes = sorted(record.writes)
    pauses = []
    for outage in outages:
        if outage.target is Target.LEADER:
            later = [end for begin, end in writes if begin >= outage.since_ns]
            if later:
                pauses.append((min(later) - outage.since_ns) / 1e9)
    return pauses


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and maximum, in milliseconds."""
    if not seconds:
        return {}
    return {
        "median_ms": round(statistics.median(seconds) * 1e3, 1),
        "max_ms": round(max(seconds) * 1e3, 1),
    }


def final_reads(key: str, value: object, node: str, begin_ns: int, end_ns: int) -> Operation:
    """The read of one key after everything, as one more operation of its history."""
    assert value is None or isinstance(value, str | int)
    return Operation(
        -1, node, key, Kind.READ, begin_ns, None, None, value, Outcome.DONE, end_ns, "final"
    )
