"""A list over the rows of its collection: two ends, and sealed nodes between them.

    03 00          the left end: up to two nodes' worth of elements, or one large element;
    03 01          the right end       a row only while there are any
    01 label:u64   a sealed node, in the order of the list (`list_node`, `list_labels`)
    02 …           spans of the sealed nodes, weighed by their elements (`spans`)

The record's `extra` has the counts of both ends, one byte each.

A push or pop changes an end and the record, which is O(1). When an end is full its inner half is
sealed off as a node; when it is empty the next pop takes a node into it. Half an end lies between
the two, so a client that pushes and pops by turns does not go over that edge each time.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from kvnode.store.redis import list_labels, list_node
from kvnode.store.spans import PART_ORDER, PART_SPANS, Spans, height_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvnode.store.collection import Collection

LEFT: Final = 0
RIGHT: Final = 1

ENDS: Final = (b"\x03\x00", b"\x03\x01")
"""Parts of the left and the right end."""

_FIRST_SEALED: Final = PART_ORDER
_SEALED_END: Final = PART_SPANS
_LABEL_BYTES: Final = 8
_HASH_BYTES: Final = 8

MERGE_BYTES_MAX: Final = list_node.NODE_BYTES_MAX * 3 // 4
"""Neighbours become one node only if that node has room left: the next insertion would split it."""

_PAGE_NODES: Final = 256
"""Nodes that are changed at a time where a whole list may have to be."""

_PAGE_ELEMENTS: Final = 4096

Row = tuple[bytes, bytes]
"""Part and value of an end or a sealed node."""


class ListRows:
    """The elements of one list; indexes count from 0 and must lie inside.

    Args:
        collection: the list's; `save` writes its record.
    """

    __slots__ = ("_ends", "_spans", "collection")

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._ends = list(collection.extra) or [0, 0]
        self._spans = Spans(collection, list_node.count_of)

    def save(self) -> None:
        """Write the record as of this revision."""
        self.collection.extra = bytes(self._ends)
        self.collection.save()

    # --- the ends ---------------------------------------------------------------------------------

    def push(self, side: int, elements: Sequence[bytes]) -> None:
        """Put elements on, one after the other."""
        part = ENDS[side]
        old = self.collection.get(part) if self._ends[side] else None
        self.collection.count += len(elements)
        if old is not None and len(elements) == 1:
            extended = list_node.with_last if side else list_node.with_first
            node = extended(old, elements[0])
            if node is not None:
                self.collection.put(part, node, old)
                self._ends[side] += 1
                return
        stored = [] if old is None else list_node.unpack(old)
        joined = [*stored, *elements] if side else [*reversed(elements), *stored]
        self._put_end(side, old, joined)

    def pop(self, side: int, count: int) -> list[bytes]:
        """Take up to `count` elements off, in the order in which they come."""
        if count == 1 and self._ends[side]:
            return [self._pop_end(side)]
        taken: list[bytes] = []
        while len(taken) < count and self.collection.count:
            taken += self._pop_some(side, count - len(taken))
        return taken

    def drop(self, side: int, count: int) -> None:
        """Take `count` elements off."""
        while count > 0:
            count -= len(self.pop(side, min(count, _PAGE_ELEMENTS)))

    def _pop_end(self, side: int) -> bytes:
        part = ENDS[side]
        old = self._row(part)
        element, rest = list_node.take_last(old) if side else list_node.take_first(old)
        if rest:
            self.collection.put(part, rest, old)
        else:
            self.collection.delete(part, old)
        self._ends[side] -= 1
        self.collection.count -= 1
        return element

    def _pop_some(self, side: int, count: int) -> list[bytes]:
        """Take up to `count` elements of the outermost row off."""
        part, node = self._outermost(side)
        elements = list_node.unpack(node)
        if side:
            kept = max(len(elements) - count, 0)
            rest, taken = elements[:kept], elements[kept:][::-1]
        else:
            rest, taken = elements[count:], elements[:count]
        self.collection.count -= len(taken)
        if part in ENDS:
            self._put_end(ENDS.index(part), node, rest)
        else:
            self._delete_sealed(part, node)
            self._put_end(side, None, rest)
        return taken

    def _outermost(self, side: int) -> Row:
        """The row that holds the first or the last element of a list that has any."""
        if self._ends[side]:
            return ENDS[side], self._row(ENDS[side])
        if self.collection.count > sum(self._ends):
            walk = self.collection.rows_back if side else self.collection.rows
            return next(walk(_FIRST_SEALED, _SEALED_END))
        return ENDS[1 - side], self._row(ENDS[1 - side])

    def _put_end(self, side: int, old: bytes | None, elements: list[bytes]) -> None:
        """Let an end that holds `old` hold `elements`; what is too much is sealed off."""
        if side:
            nodes, rest = list_node.spill(elements)
        else:
            nodes, rest = list_node.spill(elements[::-1])
            nodes = [node[::-1] for node in nodes]
            rest = rest[::-1]
        for node in nodes:
            self._seal(side, node)
        if rest:
            self.collection.put(ENDS[side], list_node.pack(rest), old)
        elif old is not None:
            self.collection.delete(ENDS[side], old)
        self._ends[side] = len(rest)

    # --- asking -----------------------------------------------------------------------------------

    def at(self, index: int) -> bytes:
        """One element."""
        _, node, offset = self._locate(index)
        return list_node.unpack(node)[offset]

    def slice(self, first: int, count: int) -> list[bytes]:
        """`count` elements from `first` on, as far as there are so many."""
        part, _, offset = self._locate(first)
        found: list[bytes] = []
        for _, node in self.nodes(part):
            found += list_node.unpack(node)[offset : offset + count - len(found)]
            offset = 0
            if len(found) >= count:
                break
        return found

    def nodes(self, first: bytes = ENDS[LEFT]) -> Iterator[Row]:
        """The rows from a part on. Nothing may be written meanwhile, as for those below."""
        if first == ENDS[LEFT] and self._ends[LEFT]:
            yield first, self._row(first)
        if first != ENDS[RIGHT]:
            start = _FIRST_SEALED if first == ENDS[LEFT] else first
            yield from self.collection.rows(start, _SEALED_END)
        if self._ends[RIGHT]:
            yield ENDS[RIGHT], self._row(ENDS[RIGHT])

    def nodes_back(self, last: bytes = ENDS[RIGHT]) -> Iterator[Row]:
        """The rows from a part on to the left."""
        if last == ENDS[RIGHT] and self._ends[RIGHT]:
            yield last, self._row(last)
        if last != ENDS[LEFT]:
            end = _SEALED_END if last == ENDS[RIGHT] else last + b"\x00"
            yield from self.collection.rows_back(_FIRST_SEALED, end)
        if self._ends[LEFT]:
            yield ENDS[LEFT], self._row(ENDS[LEFT])

    def _locate(self, index: int) -> tuple[bytes, bytes, int]:
        """Part and value of the row that holds an element, and where in it."""
        left, right = self._ends
        if index < left:
            return ENDS[LEFT], self._row(ENDS[LEFT]), index
        right_at = self.collection.count - right
        if index >= right_at:
            return ENDS[RIGHT], self._row(ENDS[RIGHT]), index - right_at
        found = self._spans.find(index - left)
        assert found is not None, "spans weigh what is between the ends"
        position, offset = found
        part = PART_ORDER + position
        return part, self._row(part), offset

    def _row(self, part: bytes) -> bytes:
        value = self.collection.get(part)
        assert value is not None, "the record counts a row that is not there"
        return value

    # --- changing ---------------------------------------------------------------------------------

    def replace(self, index: int, element: bytes) -> None:
        """Put an element in the place of another."""
        part, node, offset = self._locate(index)
        elements = list_node.unpack(node)
        elements[offset] = element
        self._rewrite(part, node, elements)
        self._merge_around(part)

    def insert_beside(self, pivot: bytes, element: bytes, *, after: int) -> bool:
        """Put an element before or after the first that equals `pivot`; False if there is none."""
        found = next(self._rows_with(pivot, self.nodes()), None)
        if found is None:
            return False
        part, node = found
        elements = list_node.unpack(node)
        elements.insert(elements.index(pivot) + after, element)
        self.collection.count += 1
        self._rewrite(part, node, elements)
        return True

    def remove(self, element: bytes, limit: int, side: int) -> int:
        """Remove up to `limit` elements that equal one, the nearest to a side first; how many."""
        walk = self.nodes_back if side else self.nodes
        removed = 0
        changed: list[bytes] = []
        part = ENDS[side]
        while removed < limit:
            page = list(islice(self._rows_with(element, walk(part)), _PAGE_NODES))
            for part, node in page:
                elements = list_node.unpack(node)
                rest = _without(elements, element, limit - removed, side)
                removed += len(elements) - len(rest)
                self.collection.count -= len(elements) - len(rest)
                self._rewrite(part, node, rest)
                changed.append(part)
                if removed == limit:
                    break
            if len(page) < _PAGE_NODES:
                break
        for part in changed:
            self._merge_around(part)
        return removed

    @staticmethod
    def _rows_with(element: bytes, rows: Iterable[Row]) -> Iterator[Row]:
        for part, node in rows:
            # The first look needs no unpacking.
            if element in node and element in list_node.unpack(node):
                yield part, node

    def _rewrite(self, part: bytes, old: bytes, elements: list[bytes]) -> None:
        """Let a row that holds `old` hold `elements`, which may be none or too many."""
        if part in ENDS:
            self._put_end(ENDS.index(part), old, elements)
            return
        if not elements:
            self._delete_sealed(part, old)
            return
        first, *others = list_node.chunks(elements)
        self.collection.put(part, list_node.pack(first), old)
        more = len(first) - list_node.count_of(old)
        if more:
            self._spans.add(part[1:], more)
        label = int.from_bytes(part[1:], "big")
        for chunk in others:
            label = self._insert_sealed(label, self._neighbour(label), chunk)

    def _merge_around(self, part: bytes) -> None:
        """Join a node with what follows it, and what precedes it with it, where they are small."""
        if part in ENDS:
            return
        before = next(self.collection.rows_back(_FIRST_SEALED, part), None)
        if before is not None:
            self._merge(before[0])
        self._merge(part)

    def _merge(self, part: bytes) -> None:
        """Join a sealed node with those that follow it, as long as they fit loosely."""
        while True:
            rows = list(islice(self.collection.rows(part, _SEALED_END), 2))
            if len(rows) < 2 or rows[0][0] != part:
                return
            (_, node), (next_part, next_node) = rows
            if len(node) + len(next_node) > MERGE_BYTES_MAX:
                return
            elements = list_node.unpack(node) + list_node.unpack(next_node)
            if not list_node.fits(elements):
                return
            self._delete_sealed(next_part, next_node)
            self._rewrite(part, node, elements)

    # --- sealed nodes -----------------------------------------------------------------------------

    def _seal(self, side: int, elements: list[bytes]) -> None:
        """Make elements the first or the last of the sealed nodes."""
        walk = self.collection.rows_back if side else self.collection.rows
        edge = next(walk(_FIRST_SEALED, _SEALED_END), None)
        label = None if edge is None else _label(edge[0])
        if side:
            self._insert_sealed(label, None, elements)
        else:
            self._insert_sealed(None, label, elements)

    def _insert_sealed(self, left: int | None, right: int | None, elements: list[bytes]) -> int:
        """Put a node between two neighbours; returns its label."""
        label = list_labels.between(left, right)
        if label is None:
            moved = self._spread(right if left is None else left)
            left = None if left is None else moved[left]
            if right is not None:
                right = moved.get(right, right)
            label = list_labels.between(left, right)
            assert label is not None, "a range that was spread out has room"
        self._put_sealed(_part(label), list_node.pack(elements))
        return label

    def _spread(self, label: int | None) -> dict[int, int]:
        """Give the nodes around a label other labels; returns the new ones by the old."""
        assert label is not None, "there is always room in an empty list"
        old, new = list_labels.spread(label, self._labels)
        nodes = [self._row(_part(each)) for each in old]
        for each, node in zip(old, nodes, strict=True):
            self._delete_sealed(_part(each), node)
        for each, node in zip(new, nodes, strict=True):
            self._put_sealed(_part(each), node)
        return dict(zip(old, new, strict=True))

    def _labels(self, first: int, end: int) -> list[int]:
        stop = _SEALED_END if end == list_labels.LABELS else _part(end)
        return [_label(part) for part, _ in self.collection.rows(_part(first), stop)]

    def _neighbour(self, label: int) -> int | None:
        """The label that follows."""
        following = next(self.collection.rows(_part(label) + b"\x00", _SEALED_END), None)
        return None if following is None else _label(following[0])

    def _put_sealed(self, part: bytes, node: bytes) -> None:
        self.collection.put(part, node, None)
        position = part[1:]
        self._spans.insert(position, self._height(position), list_node.count_of(node))

    def _delete_sealed(self, part: bytes, node: bytes) -> None:
        self.collection.delete(part, node)
        position = part[1:]
        self._spans.remove(position, self._height(position), list_node.count_of(node))

    def _height(self, position: bytes) -> int:
        hashed = self.collection.space.locate(position)[:_HASH_BYTES]
        return height_of(int.from_bytes(hashed, "big"))


def _part(label: int) -> bytes:
    return PART_ORDER + label.to_bytes(_LABEL_BYTES, "big")


def _label(part: bytes) -> int:
    return int.from_bytes(part[1:], "big")


def _without(elements: list[bytes], element: bytes, limit: int, side: int) -> list[bytes]:
    """The elements but for up to `limit` that equal one, the nearest to a side."""
    ordered = elements[::-1] if side else elements
    kept: list[bytes] = []
    for each in ordered:
        if limit and each == element:
            limit -= 1
        else:
            kept.append(each)
    return kept[::-1] if side else kept
