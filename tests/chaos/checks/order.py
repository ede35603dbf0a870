"""Real time and places must agree: what began after the end of something else stands behind it."""

from __future__ import annotations

from collections.abc import Iterable

from tests.chaos.record import Entry

Placed = tuple[int, int, Entry]
"""An operation, with the first and the last place that it has."""


def out_of_order(placed: Iterable[Placed], only: str = "") -> list[tuple[Entry, Entry]]:
    """Pairs of which the second began after the first had ended, and begins no later place.

    Args:
        only: judge only operations of this kind as the later ones.
    """
    begins = sorted(
        ((first, entry) for first, _, entry in placed if only in ("", entry.what)),
        key=lambda one: one[1].invoked_ns,
    )
    ends = sorted(
        ((last, entry) for _, last, entry in placed if entry.is_done),
        key=lambda one: one[1].returned_ns,
    )
    wrong = []
    at, highest = 0, -1
    holder: Entry | None = None
    for first, entry in begins:
        while at < len(ends) and ends[at][1].returned_ns < entry.invoked_ns:
            if ends[at][0] > highest:
                highest, holder = ends[at]
            at += 1
        if holder is not None and first <= highest:
            wrong.append((holder, entry))
    return wrong
