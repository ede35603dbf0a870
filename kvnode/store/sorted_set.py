"""A sorted set in rows: members with scores, their order, and ranks in it.

| Part | Row | |
|---|---|---|
| 00 | hash8 suffix → score:f64 | content: the score of a member |
| 01 | score8 suffix → empty, or hash8 for a member above 400 bytes | its place in the order |
| 02 | spans of that order | `kvnode.store.spans` |

`score8` is the score in an order that bytes have too (`kvnode.store.scores`); a *place* is score8
and suffix, and everything that is asked for by score, by member or by rank is a range of places.
The suffix of a long member ends in a digest, so the row of its place tells the hash under which its
whole text is found. Minus zero is kept as zero, as in a small sorted set of Redis.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from kvnode.store.collection import PART_MEMBERS
from kvnode.store.keyspace import HASH_BYTES, SUFFIX_KEY_BYTES_MAX
from kvnode.store.scores import SCORE_BYTES, from_sortable, pack_score, sortable, unpack_score
from kvnode.store.spans import PART_ORDER, PART_SPANS, Spans, height_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvnode.store.collection import Collection

Pair: TypeAlias = tuple[bytes, float]
"""A member and its score."""

PLACES_END: Final = b"\xff" * SCORE_BYTES
"""Above all places: no score has these bytes."""

SKIPPED_ROWS_MAX: Final = 64
"""So many rows are rather walked over than found by rank."""

RESPAN_MEMBERS_MIN: Final = 256
"""From so many changed members on, an op may build the spans anew instead of mending them."""

_MEMBER_AT: Final = 1 + SCORE_BYTES
"""Where the suffix begins in the part of a place."""


def after_score(score: float) -> bytes:
    """The lowest place above all that have the score."""
    number = int.from_bytes(sortable(score), "big") + 1
    return number.to_bytes(SCORE_BYTES, "big")


class SortedSet:
    """The members of one open collection. Who changes something saves the collection.

    Args:
        collection: of kind ZSET.
    """

    __slots__ = ("_located", "_mends", "_tail", "collection", "spans")

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.spans = Spans(collection)
        self._mends = True
        self._located: bytes | None = None
        self._tail = b""

    # --- one member -------------------------------------------------------------------------------

    def score(self, member: bytes) -> float | None:
        """The score of a member, None if it is none."""
        row = self.collection.get(PART_MEMBERS + self._locate(member))
        return None if row is None else unpack_score(row[-SCORE_BYTES:])

    def place(self, member: bytes, score: float) -> bytes:
        """Where a member with this score stands; also of one that is not there."""
        return sortable(score) + self._locate(member)[HASH_BYTES:]

    def _locate(self, member: bytes) -> bytes:
        """The hash and the suffix of a member; it is mostly asked for several times in a row."""
        if member is not self._located:
            self._located, self._tail = member, self.collection.space.locate(member)
        return self._tail

    def rank(self, member: bytes, score: float) -> int:
        """How many members stand before one of this score."""
        return self.spans.rank(self.place(member, score))

    # --- changing ---------------------------------------------------------------------------------

    def put(self, member: bytes, score: float, old: float | None) -> None:
        """Give a member a score; `old` is the one that it has, None if it is new."""
        collection = self.collection
        tail = self._locate(member)
        if old is None:
            collection.count += 1
        else:
            self._leave(tail, old)
        score += 0.0
        place = sortable(score) + tail[HASH_BYTES:]
        if len(member) <= SUFFIX_KEY_BYTES_MAX:
            part = PART_MEMBERS + tail
            collection.put(part, pack_score(score), None if old is None else pack_score(old))
            collection.put_derived(PART_ORDER + place, b"")
        else:
            collection.put_member(
                member, pack_score(score), None if old is None else pack_score(old)
            )
            collection.put_derived(PART_ORDER + place, tail[:HASH_BYTES])
        if self._mends:
            self.spans.insert(place, _height(tail))

    def remove(self, member: bytes, score: float) -> None:
        """Take a member away that has this score."""
        collection = self.collection
        self._leave(self._locate(member), score)
        collection.delete_member(member, pack_score(score))
        collection.count -= 1

    def _leave(self, tail: bytes, score: float) -> None:
        place = sortable(score) + tail[HASH_BYTES:]
        if self._mends:
            self.spans.remove(place, _height(tail))
        self.collection.delete_derived(PART_ORDER + place)

    # --- changing many ----------------------------------------------------------------------------

    def expect(self, changes: int) -> None:
        """So many members are about to change: where they are a good part of all, the spans are
        built anew once, by `settle`, which must follow them."""
        self._mends = changes < RESPAN_MEMBERS_MIN or changes * 8 < self.collection.count

    def settle(self) -> None:
        """Bring the spans up to date after what `expect` announced."""
        if self._mends:
            return
        self._mends = True
        locate = self.collection.space.locate

        def height(place: bytes, hashed: bytes) -> int:
            return _height(hashed or locate(place[SCORE_BYTES:]))

        self.spans.rebuild(height)

    def fill(self, pairs: Iterable[Pair]) -> None:
        """Put members into a set that has none; each of them once, in any order."""
        self.expect(RESPAN_MEMBERS_MIN)
        for member, score in pairs:
            self.put(member, score, None)
        self.settle()

    def remove_all(self, pairs: list[Pair]) -> None:
        """Take members away. If these are all, their rows go with the collection."""
        collection = self.collection
        if len(pairs) == collection.count:
            collection.count = 0
            return
        self.expect(len(pairs))
        for member, score in pairs:
            self.remove(member, score)
        self.settle()

    # --- ranges -----------------------------------------------------------------------------------

    def ends(self) -> tuple[float, float] | None:
        """The lowest and the highest score; None if there are no members."""
        collection = self.collection
        first = next(collection.rows(PART_ORDER, PART_SPANS), None)
        last = next(collection.rows_back(PART_ORDER, PART_SPANS), None)
        if first is None or last is None:
            return None
        lowest, highest = (from_sortable(part[1:_MEMBER_AT]) for part, _ in (first, last))
        return lowest, highest

    def bound(self, member: bytes, score: float, *, after: bool) -> bytes:
        """The lowest place at or, if `after`, behind that of a member."""
        place = self.place(member, score)
        return place + b"\x00" if after else place

    def count_between(self, first: bytes, end: bytes) -> int:
        """How many members stand at first <= place < end."""
        return self.spans.rank(end) - self.spans.rank(first) if first < end else 0

    def count_rows(self, first: bytes, end: bytes, most: int) -> int:
        """The same, by looking at them, and at no more than `most`: quicker where they are few."""
        if first >= end:
            return 0
        prefix = self.collection.prefix + PART_ORDER
        keys = self.collection.engine.keys(prefix + first, prefix + end)
        return sum(1 for _ in islice(keys, most))

    def between(self, first: bytes, end: bytes, *, reverse: bool, skip: int = 0) -> Iterator[Pair]:
        """(member, score) at first <= place < end, less the first `skip`; backwards if `reverse`.

        Nothing may be written while it runs.
        """
        if skip > SKIPPED_ROWS_MAX and first < end:
            spans = self.spans
            rank = spans.rank(end) - 1 - skip if reverse else spans.rank(first) + skip
            found = spans.find(rank)
            if found is None:
                return iter(())
            first, end, skip = (first, found[0] + b"\x00", 0) if reverse else (found[0], end, 0)
        if first >= end:
            return iter(())
        return islice(self._walk(first, end, reverse=reverse), skip, None)

    def from_rank(self, rank: int, size: int, *, reverse: bool = False) -> Iterable[Pair]:
        """`size` pairs from a rank on, counted from the last one and downwards if `reverse`.

        Those near the other end are found from there: ranks of the last ten are asked for often.
        """
        if size <= 0 or not 0 <= rank < self.collection.count:
            return ()
        behind = self.collection.count - rank - size
        if 0 <= behind < rank and size <= SKIPPED_ROWS_MAX:
            pairs = self.between(b"", PLACES_END, reverse=not reverse, skip=behind)
            return list(islice(pairs, size))[::-1]
        return islice(self.between(b"", PLACES_END, reverse=reverse, skip=rank), size)

    def _walk(self, first: bytes, end: bytes, *, reverse: bool) -> Iterator[Pair]:
        collection = self.collection
        rows = collection.rows_back if reverse else collection.rows
        for part, hashed in rows(PART_ORDER + first, PART_ORDER + end):
            member = part[_MEMBER_AT:]
            if hashed:
                member = self._long_member(hashed + member)
            yield member, from_sortable(part[1:_MEMBER_AT])

    def _long_member(self, tail: bytes) -> bytes:
        row = self.collection.get(PART_MEMBERS + tail)
        assert row is not None, "every place is that of a member"
        return row[4:-SCORE_BYTES]


def _height(tail: bytes) -> int:
    return height_of(int.from_bytes(tail[:HASH_BYTES], "big"))
