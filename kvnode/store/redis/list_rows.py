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
from typing import TYPE_CHECKING, Final, TypeVar

from kvnode.store.redis import list_labels, list_node
from kvnode.store.spans import PART_ORDER, PART_SPANS, Spans, height_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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

Row = tuple[bytes, bytes]
"""Part and value of an end or a sealed node."""

_T = TypeVar("_T")


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
        self.settle()
        self.collection.save()

    def settle(self) -> None:
        """Let the collection know of its ends, for a record that somebody else writes."""
        self.collection.extra = bytes(self._ends)

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
        self._shorten(side, min(count, self.collection.count), taken)
        return taken

    def drop(self, side: int, count: int) -> None:
        """Take up to `count` elements off."""
        self._shorten(side, min(count, self.collection.count), None)

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

    def _shorten(self, side: int, count: int, taken: list[bytes] | None) -> None:
        """Take off as many elements as there are at least, and add them to `taken` if it is given.

        First the near end, then sealed nodes, then what is left in the far end.
        """
        self.collection.count -= count
        count -= self._shorten_end(side, side, count, taken)
        walk = self.collection.rows_back if side else self.collection.rows
        while count and (page := list(islice(walk(_FIRST_SEALED, _SEALED_END), _page_of(count)))):
            gone = list(_covered(page, count))
            self._delete_sealed(gone)
            for _, node in gone:
                count -= list_node.count_of(node)
                if taken is not None:
                    taken += _from(side, list_node.unpack(node))
            if count and len(gone) < len(page):
                opened = page[len(gone)]
                self._delete_sealed([opened])
                elements = _from(side, list_node.unpack(opened[1]))
                if taken is not None:
                    taken += elements[:count]
                self._put_end(side, None, _from(side, elements[count:]))
                count = 0
        self._shorten_end(1 - side, side, count, taken)

    def _shorten_end(self, end: int, side: int, count: int, taken: list[bytes] | None) -> int:
        """Take up to `count` elements off a side of an end; returns how many."""
        if not count or not self._ends[end]:
            return 0
        node = self._row(ENDS[end])
        elements = _from(side, list_node.unpack(node))
        if taken is not None:
            taken += elements[:count]
        self._put_end(end, node, _from(side, elements[count:]))
        return min(count, len(elements))

    def _put_end(self, side: int, old: bytes | None, elements: list[bytes]) -> None:
        """Let an end that holds `old` hold `elements`; what is too much is sealed off."""
        nodes, rest = list_node.spill(_from(1 - side, elements))
        if nodes:
            self._seal(side, [_from(1 - side, node) for node in nodes])
        if rest:
            self.collection.put(ENDS[side], list_node.pack(_from(1 - side, rest)), old)
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
            found += list_node.unpack(node)[offset:]
            offset = 0
            if len(found) >= count:
                break
        del found[count:]
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
        part, offset = self._locate_sealed(index - left, right_at - index)
        return part, self._row(part), offset

    def _locate_sealed(self, before: int, behind: int) -> tuple[bytes, int]:
        """The sealed node that holds an element, from how many are before it and from it on."""
        if before < list_node.NODE_ELEMENTS_MAX:
            part, node = next(self.collection.rows(_FIRST_SEALED, _SEALED_END))
            if before < list_node.count_of(node):
                return part, before
        if behind < list_node.NODE_ELEMENTS_MAX:
            part, node = next(self.collection.rows_back(_FIRST_SEALED, _SEALED_END))
            if behind <= list_node.count_of(node):
                return part, list_node.count_of(node) - behind
        found = self._spans.find(before)
        assert found is not None, "spans weigh what is between the ends"
        return PART_ORDER + found[0], found[1]

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
            self._delete_sealed([(part, old)])
            return
        first, *others = list_node.chunks(elements)
        self.collection.put(part, list_node.pack(first), old)
        more = len(first) - list_node.count_of(old)
        if more:
            self._spans.add(part[1:], more)
        label = int.from_bytes(part[1:], "big")
        for chunk in others:
            label = self._insert_sealed(label, chunk)

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
            (_, node), (_, next_node) = rows
            if len(node) + len(next_node) > MERGE_BYTES_MAX:
                return
            elements = list_node.unpack(node) + list_node.unpack(next_node)
            if not list_node.fits(elements):
                return
            self._delete_sealed([rows[1]])
            self._rewrite(part, node, elements)

    # --- sealed nodes -----------------------------------------------------------------------------

    def _seal(self, side: int, nodes: list[list[bytes]]) -> None:
        """Make elements the outermost of the sealed nodes, one node after the other."""
        walk = self.collection.rows_back if side else self.collection.rows
        edge = next(walk(_FIRST_SEALED, _SEALED_END), None)
        label = None if edge is None else _label(edge[0])
        sealed: list[Row] = []
        for elements in nodes:
            neighbours = (label, None) if side else (None, label)
            label = list_labels.between(*neighbours)
            if label is None:
                self._put_sealed(sealed)
                sealed = []
                label = self._make_room(*neighbours)
            sealed.append((_part(label), list_node.pack(elements)))
        self._put_sealed(sealed)

    def _insert_sealed(self, left: int, elements: list[bytes]) -> int:
        """Put a node behind the one of a label; returns its label."""
        behind = next(self.collection.rows(_part(left) + b"\x00", _SEALED_END), None)
        right = None if behind is None else _label(behind[0])
        label = list_labels.between(left, right)
        if label is None:
            label = self._make_room(left, right)
        self._put_sealed([(_part(label), list_node.pack(elements))])
        return label

    def _make_room(self, left: int | None, right: int | None) -> int:
        """A label between neighbours that have no room: the nodes around get other labels."""
        crowded = right if left is None else left
        assert crowded is not None, "there is always room in an empty list"
        old, new = list_labels.spread(crowded, self._labels)
        nodes = [(_part(label), self._row(_part(label))) for label in old]
        self._delete_sealed(nodes)
        self._put_sealed(
            [(_part(label), node) for label, (_, node) in zip(new, nodes, strict=True)]
        )
        moved: dict[int | None, int | None] = dict(zip(old, new, strict=True))
        label = list_labels.between(moved.get(left, left), moved.get(right, right))
        assert label is not None, "a range that was spread out has room"
        return label

    def _labels(self, first: int, end: int) -> list[int]:
        stop = _SEALED_END if end == list_labels.LABELS else _part(end)
        return [_label(part) for part, _ in self.collection.rows(_part(first), stop)]

    def _put_sealed(self, nodes: Iterable[Row]) -> None:
        """Add nodes that have no others between them, in order from either side."""
        self._change_sealed(nodes, self._put_new, self._spans.insert)

    def _put_new(self, part: bytes, node: bytes) -> None:
        self.collection.put(part, node, None)

    def _delete_sealed(self, nodes: Iterable[Row]) -> None:
        """Take nodes away that have no others between them, in order from either side."""
        self._change_sealed(nodes, self.collection.delete, self._spans.remove)

    def _change_sealed(
        self,
        nodes: Iterable[Row],
        change: Callable[[bytes, bytes], None],
        weigh: Callable[[bytes, int, int], None],
    ) -> None:
        """Change rows and spans. A run of nodes that stand on no level shares its spans."""
        run_at, run_weight = b"", 0
        for part, node in nodes:
            position = part[1:]
            height, weight = self._height(position), list_node.count_of(node)
            if height and run_weight:
                weigh(run_at, 0, run_weight)
                run_weight = 0
            change(part, node)
            if height:
                weigh(position, height, weight)
            else:
                run_at, run_weight = position, run_weight + weight
        if run_weight:
            weigh(run_at, 0, run_weight)

    def _height(self, position: bytes) -> int:
        hashed = self.collection.space.locate(position)[:_HASH_BYTES]
        return height_of(int.from_bytes(hashed, "big"))


def _part(label: int) -> bytes:
    return PART_ORDER + label.to_bytes(_LABEL_BYTES, "big")


def _label(part: bytes) -> int:
    return int.from_bytes(part[1:], "big")


def _from(side: int, items: list[_T]) -> list[_T]:
    """Items as they come from a side."""
    return items[::-1] if side else items


def _page_of(count: int) -> int:
    """How many rows to look at for so many elements: each has one at least."""
    return min(count, _PAGE_NODES)


def _covered(rows: Iterable[Row], count: int) -> Iterator[Row]:
    """The rows that the first `count` elements fill."""
    for row in rows:
        count -= list_node.count_of(row[1])
        if count < 0:
            return
        yield row


def _without(elements: list[bytes], element: bytes, limit: int, side: int) -> list[bytes]:
    """The elements but for up to `limit` that equal one, the nearest to a side."""
    kept: list[bytes] = []
    for each in _from(side, elements):
        if limit and each == element:
            limit -= 1
        else:
            kept.append(each)
    return _from(side, kept)
