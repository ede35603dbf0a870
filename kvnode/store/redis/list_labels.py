"""Labels of a list's nodes: numbers of 64 bits in the order of the list, with gaps between.

A node that comes between two others gets a number between theirs. Where none is left, the nodes
around are given new numbers, evenly apart, in the smallest range that is sparse enough: an aligned
range of 2^i numbers, of which at most one in (3/2)^i is taken. A range that was spread out takes
many new nodes before it is dense again, so a node costs O(log n) moves on average, wherever it is
put (Bender, Cole, Demaine, Farach-Colton, Zito: "Two Simplified Algorithms for Maintaining Order in
a List", 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LABEL_BITS: Final = 64
LABELS: Final = 1 << LABEL_BITS
MIDDLE: Final = LABELS // 2
"""Label of the first node."""

STEP: Final = 1 << 20
"""From the last node of a list to the next: 2^43 nodes find room that way on each side."""

_BITS_STEP: Final = 4
"""Ranges grow by this many bits at a time; the smallest has sixteen numbers."""


def between(left: int | None, right: int | None) -> int | None:
    """A label between two neighbours, of which None lies beyond an end; None without room."""
    if left is None and right is None:
        return MIDDLE
    if left is None:
        assert right is not None
        return right - min(STEP, (right + 1) // 2) if right else None
    gap = (LABELS if right is None else right) - left
    if gap < 2:
        return None
    return left + (min(STEP, gap // 2) if right is None else gap // 2)


def spread(
    label: int, taken_in: Callable[[int, int], Sequence[int]]
) -> tuple[Sequence[int], list[int]]:
    """Which labels around `label` must give way, and what they become, in the same order.

    Args:
        label: one that is taken.
        taken_in: labels that are taken from one number up to, not including, another; ascending.
    """
    taken: Sequence[int] = ()
    for bits in range(_BITS_STEP, LABEL_BITS + 1, _BITS_STEP):
        first = label >> bits << bits
        taken = taken_in(first, first + (1 << bits))
        if len(taken) * 3**bits <= 4**bits:
            break
    count = len(taken)
    return taken, [first + (((2 * place + 1) << bits) // (2 * count)) for place in range(count)]
