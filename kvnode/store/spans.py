"""Ranks in O(log n): a skip list whose towers come from a hash and whose spans are rows.

An ordered collection has its *base* rows, one per position, and asks for the rank of a position or
the position of a rank. As in a skip list (Pugh 1990, with the widths of his "Skip List Cookbook")
some positions stand on higher levels too, and there a row tells the weight from this position up to
the next one of its level. A level has a sixteenth of the positions of the level below.

How high a position stands is decided by a keyed hash and not by chance. So the rows depend on what
the collection holds and not on how it came to be, all replicas agree, and nothing has to be
balanced. Who does not know the key cannot build a lopsided list.

Rows of part 02: `02 level:u8 position` → weight:u64. Each level begins with a *head*, whose
position is empty and lies before all others; a level is there as long as it has more than its head.
The weights of a level always add up to the collection's whole weight.

| Call | Rows looked at, of n |
|---|---|
| `insert`, `remove`, `add` | 1 per level; a tower's own levels 16 each |
| `rank`, `find` | 8 per level; log₁₆ n levels |
"""

from __future__ import annotations

import sys
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvnode.store.collection import Collection

PART_ORDER: Final = b"\x01"
PART_SPANS: Final = b"\x02"
_ORDER_END: Final = PART_SPANS
_SPANS_END: Final = b"\x03"

_STEP_BITS: Final = 4
_STEP_MASK: Final = (1 << _STEP_BITS) - 1
HEIGHT_MAX: Final = 12
"""16 ** 12 positions are more than any collection has."""

_HEAD: Final = b""
_WEIGHT = Struct(">Q")
_pack = _WEIGHT.pack
_unpack = _WEIGHT.unpack
_LEVELS: Final = tuple(PART_SPANS + bytes((level,)) for level in range(HEIGHT_MAX + 2))
_NAME: Final = len(_LEVELS[0])


def height_of(hashed: int) -> int:
    """How many levels a position stands on, from a hash of 64 bits of what it holds."""
    height = 0
    while not hashed & _STEP_MASK and height < HEIGHT_MAX:
        height += 1
        hashed >>= _STEP_BITS
    return height


class Spans:
    """The levels above the base rows (part 01) of one collection.

    Args:
        collection: whose rows they are.
        weigh: weight of a base row, from its value; None: each weighs 1.
    """

    __slots__ = ("_collection", "_known_top", "_weigh")

    def __init__(self, collection: Collection, weigh: Callable[[bytes], int] | None = None) -> None:
        self._collection = collection
        self._weigh = weigh
        self._known_top: int | None = None

    # --- changing ---------------------------------------------------------------------------------

    def insert(self, position: bytes, height: int, weight: int = 1) -> None:
        """Add a position that is not there. Its own base row may be put before or after this."""
        top = self._top()
        if height > top:
            total = self._total(top, position)
            for level in range(top + 1, height + 1):
                self._put(level, _HEAD, total)
            self._known_top = top = height
        reached = position
        before = 0
        for level in range(1, top + 1):
            start, span = self._last_before(level, position)
            if level <= height:
                before += self._weight_between(level - 1, start, reached)
                self._put(level, start, before)
                self._put(level, position, span - before + weight)
                reached = start
            else:
                self._put(level, start, span + weight)

    def remove(self, position: bytes, height: int, weight: int = 1) -> None:
        """Take a position away. Its base row may be deleted before or after this."""
        top = self._top()
        for level in range(1, top + 1):
            start, span = self._last_before(level, position)
            if level <= height:
                part = _LEVELS[level] + position
                own = self._collection.get(part)
                assert own is not None, "a tower is as high as its hash tells"
                span += int.from_bytes(own, "big")
                self._collection.delete_derived(part)
            self._put(level, start, span - weight)
        for level in range(min(top, height), 0, -1):
            if level == self._top() and self._is_bare(level):
                self._collection.delete_derived(_LEVELS[level])
                self._known_top = level - 1

    def add(self, position: bytes, delta: int) -> None:
        """The base row of a position weighs more, or less, than before."""
        for level in range(1, self._top() + 1):
            start, span = self._last_before(level, position + b"\x00")
            self._put(level, start, span + delta)

    def rebuild(self, height_of_row: Callable[[bytes, bytes], int]) -> None:
        """Make all spans anew from the base rows: cheaper than mending after many changes.

        Args:
            height_of_row: from position and value of a base row.
        """
        collection = self._collection
        for part, _ in list(collection.rows(PART_SPANS, _SPANS_END)):
            collection.delete_derived(part)
        starts, weights = [_HEAD] * (HEIGHT_MAX + 1), [0] * (HEIGHT_MAX + 1)
        spans: list[tuple[int, bytes, int]] = []
        top = before = 0
        for part, value in collection.rows(PART_ORDER, _ORDER_END):
            position = part[1:]
            height = height_of_row(position, value)
            for level in range(1, height + 1):
                spans.append((level, starts[level], before - weights[level]))
                starts[level], weights[level] = position, before
            top = max(top, height)
            before += 1 if self._weigh is None else self._weigh(value)
        levels = range(1, top + 1)
        spans += [(level, starts[level], before - weights[level]) for level in levels]
        for level, position, weight in spans:
            self._put(level, position, weight)
        self._known_top = top

    # --- asking -----------------------------------------------------------------------------------

    def rank(self, position: bytes) -> int:
        """The weight of all that lies before a position."""
        collection = self._collection
        rank, start = 0, _HEAD
        for level in range(self._top(), 0, -1):
            prefix = collection.prefix + _LEVELS[level]
            rows = list(collection.engine.rows(prefix + start, prefix + position + b"\x00"))
            start = rows.pop()[0][len(prefix) :]
            for _, value in rows:
                rank += _unpack(value)[0]
        return rank + self._weight_between(0, start, position)

    def find(self, rank: int) -> tuple[bytes, int] | None:
        """The position that holds a rank, and how far inside it; None beyond the end."""
        if not 0 <= rank <= sys.maxsize:  # a client may skip more than there can be
            return None
        collection = self._collection
        start = _HEAD
        for level in range(self._top(), 0, -1):
            prefix, end = collection.prefix + _LEVELS[level], collection.prefix + _LEVELS[level + 1]
            for row, value in collection.engine.rows(prefix + start, end):
                weight = _unpack(value)[0]
                if rank < weight:
                    start = row[len(prefix) :]
                    break
                rank -= weight
            else:
                return None
        prefix, end = collection.prefix + PART_ORDER, collection.prefix + _ORDER_END
        weigh = self._weigh
        if weigh is None:
            found = next(islice(collection.engine.keys(prefix + start, end), rank, None), None)
            return None if found is None else (found[len(prefix) :], 0)
        for row, value in collection.engine.rows(prefix + start, end):
            weight = weigh(value)
            if rank < weight:
                return row[len(prefix) :], rank
            rank -= weight
        return None

    # --- rows -------------------------------------------------------------------------------------

    def _top(self) -> int:
        """The highest level. It is looked up once: nobody else changes the spans meanwhile."""
        top = self._known_top
        if top is None:
            last = next(self._collection.rows_back(PART_SPANS, _SPANS_END), None)
            self._known_top = top = 0 if last is None else last[0][1]
        return top

    def _total(self, top: int, but: bytes) -> int:
        """The whole weight, without that of the position `but`."""
        return sum(weight for name, weight in self._level(top, _HEAD) if top or name != but)

    def _is_bare(self, level: int) -> bool:
        """Whether a level has nothing but its head."""
        return len(list(islice(self._level(level, _HEAD), 2))) == 1

    def _put(self, level: int, position: bytes, weight: int) -> None:
        self._collection.put_derived(_LEVELS[level] + position, _pack(weight))

    def _last_before(self, level: int, position: bytes) -> tuple[bytes, int]:
        """Position and span of the last row of a level that lies before `position`."""
        collection = self._collection
        prefix = collection.prefix + _LEVELS[level]
        row, value = next(collection.engine.rows_back(prefix, prefix + position))
        return row[len(prefix) :], _unpack(value)[0]

    def _weight_between(self, level: int, first: bytes, end: bytes) -> int:
        if level or self._weigh is not None:
            return sum(weight for _, weight in self._level(level, first, end))
        prefix = self._collection.prefix + PART_ORDER
        return sum(1 for _ in self._collection.engine.keys(prefix + first, prefix + end))

    def _level(
        self, level: int, first: bytes, end: bytes | None = None
    ) -> Iterator[tuple[bytes, int]]:
        """(position, weight) of a level from `first` on, up to `end`; level 0 are the base rows."""
        collection = self._collection
        if level:
            prefix = _LEVELS[level]
            stop = _LEVELS[level + 1] if end is None else prefix + end
            for part, value in collection.rows(prefix + first, stop):
                yield part[_NAME:], int.from_bytes(value, "big")
            return
        weigh = self._weigh
        stop = _ORDER_END if end is None else PART_ORDER + end
        for part, value in collection.rows(PART_ORDER + first, stop):
            yield part[1:], 1 if weigh is None else weigh(value)
