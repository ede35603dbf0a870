"""Where records are: a sparse index in memory.

One checkpoint per CHECKPOINT_BYTES of log and per break in the sequence of indexes, 20 bytes each.
Between two checkpoints the records lie one behind the other with successive indexes. A record that
supersedes older ones removes their checkpoints, so that the walk from any checkpoint ends before
what was superseded.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from wal.format import CHECKPOINT_BYTES


class Span(NamedTuple):
    """Records `first` to `until - 1`, which lie in one segment from `offset` on."""

    first: int
    until: int
    segment: int
    offset: int
    chain: int


class SparseIndex:
    """From a log index to a place in a segment. Not locked: the log does that."""

    __slots__ = ("_chains", "_firsts", "_places")

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._places = array("Q")
        self._chains = array("I")

    def __len__(self) -> int:
        return len(self._firsts)

    def add(
        self, index: int, segment: int, offset: int, chain: int, *, supersedes: bool = False
    ) -> None:
        """Note the record `index`, unless a checkpoint is near.

        Args:
            chain: value before the record.
            supersedes: `index` was there before; it and all above are forgotten.
        """
        place = segment << 32 | offset
        if supersedes:
            cut = bisect_left(self._firsts, index)
            del self._firsts[cut:], self._places[cut:], self._chains[cut:]
        elif self._places and place - self._places[-1] < CHECKPOINT_BYTES:
            return
        self._firsts.append(index)
        self._places.append(place)
        self._chains.append(chain)

    def clear(self) -> None:
        """Forget all records."""
        del self._firsts[:], self._places[:], self._chains[:]

    @property
    def first(self) -> int | None:
        """The smallest index that is held, None if there is none."""
        return self._firsts[0] if self._firsts else None

    def first_from(self, segment: int) -> int | None:
        """Return the smallest index that lies in `segment` or behind it, None if there is none."""
        at = bisect_left(self._places, segment << 32)
        return self._firsts[at] if at < len(self._firsts) else None

    def forget_before(self, segment: int) -> None:
        """Forget the records that lie before `segment`."""
        cut = bisect_left(self._places, segment << 32)
        del self._firsts[:cut], self._places[:cut], self._chains[:cut]

    def spans(self, low: int, high: int, count_max: int) -> list[Span]:
        """Return where the records `low` to `high - 1` are: at most `count_max` spans."""
        firsts = self._firsts
        at = bisect_right(firsts, low) - 1
        found = []
        for position in range(at, min(at + count_max, len(firsts))):
            first = firsts[position]
            if first >= high:
                break
            following = firsts[position + 1] if position + 1 < len(firsts) else high
            place = self._places[position]
            found.append(
                Span(
                    first,
                    min(high, following),
                    place >> 32,
                    place & 0xFFFF_FFFF,
                    self._chains[position],
                )
            )
        return found
