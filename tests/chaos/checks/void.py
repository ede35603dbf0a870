"""Was the run worth anything?

A run that was too calm finds nothing, and says nothing. So it is void if too little was checked, if
nobody was writing at the moment of a kill, or if a fault did not take hold.
"""

from __future__ import annotations

from tests.chaos.checks.judgement import Judgement
from tests.chaos.record import Record

RATE_MIN = 200.0
"""Checked operations a second, faults and all."""


def check_void(
    record: Record, workloads: list[str], judgement: Judgement, rate_min: float = RATE_MIN
) -> None:
    """Find out what makes it void.

    Args:
        workloads: names of those that were to work.
    """
    rate = checked_per_second(record)
    if rate < rate_min:
        judgement.void.append(f"{rate:.0f} checked operations/s, {rate_min:.0f} are due")
    worked = {entry.workload for entry in record.entries if entry.is_done and not entry.is_final}
    judgement.void += [f"{name} did nothing" for name in workloads if name not in worked]
    for one in record.disturbances:
        if one.evidence is None:
            judgement.void.append(f"{one.fault} on {', '.join(one.targets)} did not take hold")
        if one.kills and not is_write_in_flight(record, one.since_ns):
            judgement.void.append(f"{one.fault} on {', '.join(one.targets)}: no write in flight")


def checked_per_second(record: Record) -> float:
    """Acknowledged operations of clients, over the time that they worked."""
    done = [entry for entry in record.entries if entry.is_done and not entry.is_final]
    if not done:
        return 0.0
    begin = min(entry.invoked_ns for entry in done)
    end = max(entry.returned_ns for entry in done)
    return len(done) / max((end - begin) / 1e9, 0.001)


def is_write_in_flight(record: Record, at_ns: int) -> bool:
    """Whether a change had been sent by then and had no end yet."""
    return any(
        entry.invoked_ns <= at_ns
        and (entry.ended_ns is None or at_ns <= entry.ended_ns)
        and entry.is_change
        for entry in record.entries
    )
