"""Makes a failing sequence as short as it can be while it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.differential.sequence import FIRST, Held, Send, Sequence, Unit

REPLAYS_MAX = 400
"""Sequences played for one shrink: thirty units need about a hundred."""


def shrink(sequence: Sequence, fails: Callable[[Sequence], bool]) -> Sequence:
    """Leave out units in ever smaller runs, then simplify what is left.

    Args:
        sequence: one that fails.
        fails: plays a candidate.

    Returns:
        A sequence that fails and of which no single unit can be left out, unless `REPLAYS_MAX`
        were not enough.
    """
    budget = REPLAYS_MAX

    def still_fails(candidate: Sequence) -> bool:
        nonlocal budget
        budget -= 1
        return budget >= 0 and fails(candidate)

    size = max(len(sequence.units) // 2, 1)
    while True:
        at = 0
        shorter = False
        while at < len(sequence.units):
            candidate = sequence.with_units(sequence.units[:at] + sequence.units[at + size :])
            if still_fails(candidate):
                sequence, shorter = candidate, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(size // 2, 1)
    for simpler in _simpler(sequence):
        if still_fails(simpler):
            sequence = simpler
    return sequence


def _simpler(sequence: Sequence) -> list[Sequence]:
    """Candidates that are easier to read, the best one last."""
    apart = sequence.with_units(tuple(map(_apart, sequence.units)))
    alone = sequence.with_units(tuple(map(_alone, apart.units)))
    return [
        apart,
        replace(sequence, protocols=(2, 2)),
        replace(apart, protocols=(2, 2)),
        alone,
        replace(alone, protocols=(2, 2)),
    ]


def _apart(unit: Unit) -> Unit:
    """The unit with a write for each command, where it stands by itself."""
    if len(unit) > 1:
        return unit
    return tuple(replace(step, joined=False) if isinstance(step, Send) else step for step in unit)


def _alone(unit: Unit) -> Unit:
    """The unit on one connection, unless it needs two."""
    if any(isinstance(step, Held) for step in unit):
        return unit
    return tuple(
        replace(step, connection=FIRST) if isinstance(step, Send) else step for step in unit
    )
