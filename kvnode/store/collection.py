"""One hash, list, set, sorted set or stream: a record, and a row for each of its elements.

The record of a key holds a collection's number, what it counts, and the sum of its rows' hashes;
its elements are rows under that number (DESIGN.md, §9). So an op costs what it touches, a rename
moves one record, and a deletion leaves one row that tells the garbage collector the number.

An op opens a collection, changes rows and `count`, and saves it, once, after `Keyspace.advance`.
What `find` gives is for reading only. Two kinds of rows:

* *content*, by `put` and `delete`: it is in `content_sum`, so that replicas are compared by it, and
  in `content_bytes`. Which parts are content is told by `CONTENT`.
* *derived*, by `put_derived` and `delete_derived`: an order or an index that content implies.

Members (part 00) are found by the tail of a key: a keyed hash and a suffix, so a walk is in the
order of the hash, and a cursor is a position in it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from xxhash import xxh3_64_intdigest

from kvnode.errors import CommandError
from kvnode.limits import ENGINE_ROW_BYTES
from kvnode.store.keyspace import (
    HASH,
    HASH_BYTES,
    HEADER_BYTES,
    KIND_MASK,
    LIST,
    SET,
    STREAM,
    SUFFIX_KEY_BYTES_MAX,
    SUM_MASK,
    TAG_COLLECTION,
    ZSET,
    deadline_of,
    payload_start,
)
from kvnode.store.redis.messages import WRONG_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Keyspace

PART_MEMBERS: Final = b"\x00"
_MEMBERS_END: Final = b"\x01"

CONTENT: Final[dict[int, frozenset[int]]] = {
    HASH: frozenset((0,)),
    LIST: frozenset((1, 3)),
    SET: frozenset((0,)),
    ZSET: frozenset((0,)),
    STREAM: frozenset((4, 5, 6, 9)),
}
"""By kind: the parts that are content."""

PARTS_END: Final = b"\xff"
"""Above all parts."""

PREFIX_BYTES: Final = 1 + 8
"""Tag and number: what stands before the part in a row key."""

_FIXED = Struct(">QQQQ")
FIXED_BYTES: Final = _FIXED.size
_NUMBER = Struct(">Q")
_LENGTH = Struct(">I")
_MEMBER_AT: Final = 1 + HASH_BYTES
"""Where the suffix begins in the part of a member."""


def prefix_of(number: int) -> bytes:
    """What all row keys of a collection begin with."""
    return TAG_COLLECTION + _NUMBER.pack(number)


def member_in(suffix: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The member in a row, from the suffix of its key and what it holds, and the member's value."""
    if len(suffix) <= SUFFIX_KEY_BYTES_MAX:
        return suffix, value
    end = _LENGTH.size + _LENGTH.unpack_from(value)[0]
    return value[_LENGTH.size : end], value[end:]


def hash_of(part: bytes, value: bytes) -> int:
    """What a row of content adds to the sum."""
    return xxh3_64_intdigest(part + value, len(part))


class Collection:
    """A collection that is open for one op. Made by `find`, `open_` and `create`.

    Attributes:
        space: where it lies.
        number: of its database.
        key: the client's key.
        kind: HASH, LIST, SET, ZSET or STREAM.
        prefix: of its row keys.
        generation: its number, drawn from the same counter as those of databases.
        count: its elements, as clients count them; kept by who changes it.
        content_sum: of the hashes of its content, mod 2**64.
        content_bytes: sizes of parts and values of its content.
        extra: what its family keeps in the record.
        deadline_ms: of the key, 0 for none.
        is_new: nothing of it is stored yet.
        replaced: what the row of its key held when it was opened, expired or not.
    """

    __slots__ = (
        "_old",
        "content_bytes",
        "content_sum",
        "count",
        "deadline_ms",
        "engine",
        "extra",
        "generation",
        "is_new",
        "key",
        "kind",
        "number",
        "prefix",
        "replaced",
        "space",
        "tail",
    )

    def __init__(
        self,
        space: Keyspace,
        number: int,
        key: bytes,
        tail: bytes,
        kind: int,
        old: bytes | None,
        live: bytes | None,
    ) -> None:
        self.space = space
        self.engine: Engine = space.engine
        self.number = number
        self.key = key
        self.tail = tail
        self.kind = kind
        self.replaced = self._old = old
        self.is_new = live is None
        if live is None:
            self.generation = space.next_generation
            space.next_generation += 1
            self.count = self.content_sum = self.content_bytes = self.deadline_ms = 0
            self.extra = b""
        else:
            start = payload_start(live)
            self.deadline_ms = deadline_of(live)
            fixed = _FIXED.unpack_from(live, start)
            self.generation, self.count, self.content_sum, self.content_bytes = fixed
            self.extra = live[start + FIXED_BYTES :]
        self.prefix = prefix_of(self.generation)

    # --- rows -------------------------------------------------------------------------------------

    def get(self, part: bytes) -> bytes | None:
        """The value of a row."""
        return self.engine.get(self.prefix + part)

    def put(self, part: bytes, value: bytes, old: bytes | None) -> None:
        """Write a row of content in the place of `old`, which is what it holds now."""
        change = hash_of(part, value)
        if old is None:
            self.content_bytes += len(part) + len(value)
        else:
            change -= hash_of(part, old)
            self.content_bytes += len(value) - len(old)
        self.content_sum = (self.content_sum + change) & SUM_MASK
        self.space.written_bytes += ENGINE_ROW_BYTES + len(value)
        self.engine.put(self.prefix + part, value)

    def delete(self, part: bytes, old: bytes) -> None:
        """Delete a row of content that holds `old`."""
        self.content_bytes -= len(part) + len(old)
        self.content_sum = (self.content_sum - hash_of(part, old)) & SUM_MASK
        self.engine.delete(self.prefix + part)

    def put_derived(self, part: bytes, value: bytes) -> None:
        """Write a row that content implies."""
        self.space.written_bytes += ENGINE_ROW_BYTES + len(value)
        self.engine.put(self.prefix + part, value)

    def delete_derived(self, part: bytes) -> None:
        """Delete a row that content implied."""
        self.engine.delete(self.prefix + part)

    def rows(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(part, value) with first <= part < end, ascending. Nothing may be written meanwhile."""
        prefix = self.prefix
        for row, value in self.engine.rows(prefix + first, prefix + end):
            yield row[PREFIX_BYTES:], value

    def rows_back(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same rows, descending."""
        prefix = self.prefix
        for row, value in self.engine.rows_back(prefix + first, prefix + end):
            yield row[PREFIX_BYTES:], value

    # --- members ----------------------------------------------------------------------------------

    def member(self, member: bytes) -> bytes | None:
        """The value of a member, None if it is none."""
        row = self.engine.get(self.prefix + PART_MEMBERS + self.space.locate(member))
        if row is None or len(member) <= SUFFIX_KEY_BYTES_MAX:
            return row
        return row[_LENGTH.size + len(member) :]

    def set_member(self, member: bytes, value: bytes) -> bytes | None:
        """Give a member a value, and return the one that it had, None if it was none.

        One look where `member` and `put_member` are two; nothing is written if nothing changes.
        """
        part = PART_MEMBERS + self.space.locate(member)
        row = self.engine.get(self.prefix + part)
        head = b""
        if len(member) > SUFFIX_KEY_BYTES_MAX:
            head = _LENGTH.pack(len(member)) + member
            value = head + value
        if value != row:
            self.put(part, value, row)
        return row if row is None or not head else row[len(head) :]

    def take_member(self, member: bytes) -> bytes | None:
        """Take a member away, and return its value, None if it was none."""
        part = PART_MEMBERS + self.space.locate(member)
        row = self.engine.get(self.prefix + part)
        if row is None:
            return None
        self.delete(part, row)
        return row if len(member) <= SUFFIX_KEY_BYTES_MAX else row[_LENGTH.size + len(member) :]

    def put_member(self, member: bytes, value: bytes, old: bytes | None) -> None:
        """Give a member a value in the place of `old`, its value now (None: it is none yet)."""
        part = PART_MEMBERS + self.space.locate(member)
        if len(member) > SUFFIX_KEY_BYTES_MAX:
            inside = _LENGTH.pack(len(member)) + member
            self.put(part, inside + value, None if old is None else inside + old)
        else:
            self.put(part, value, old)

    def delete_member(self, member: bytes, old: bytes) -> None:
        """Take a member away whose value is `old`."""
        part = PART_MEMBERS + self.space.locate(member)
        if len(member) > SUFFIX_KEY_BYTES_MAX:
            old = _LENGTH.pack(len(member)) + member + old
        self.delete(part, old)

    def members(self, from_hash: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """(hash, member, value) from a hash on, in the order of hashes."""
        prefix = self.prefix
        start = prefix + PART_MEMBERS + _NUMBER.pack(from_hash)
        hash_at = PREFIX_BYTES + 1
        suffix_at = PREFIX_BYTES + _MEMBER_AT
        for row, value in self.engine.rows(start, prefix + _MEMBERS_END):
            hashed = int.from_bytes(row[hash_at:suffix_at], "big")
            yield hashed, *member_in(row[suffix_at:], value)

    # --- the record -------------------------------------------------------------------------------

    def to_record(self) -> bytes:
        """The record that tells of it as it is, as of this revision."""
        fixed = _FIXED.pack(self.generation, self.count, self.content_sum, self.content_bytes)
        return self.space.record(self.kind, self.key, fixed + self.extra, self.deadline_ms)

    def save(self) -> None:
        """Write the record as of this revision; a collection without elements goes away.

        A stream stays without entries: it has more to remember than these.
        """
        space = self.space
        if self.count or self.kind == STREAM:
            self._store(self.to_record())
        elif self._old is not None:
            space.remove(self.number, self.tail, self._old)
            self._old = None

    def save_unseen(self) -> None:
        """Write what changed but as of the revision that the key has: WATCH does not see it.

        For what Redis does not count as a write of the key. The collection is one that is there.
        """
        old, record = self._old, self.to_record()
        assert old is not None
        record = record[:1] + old[1:HEADER_BYTES] + record[HEADER_BYTES:]
        if record != old:
            self._store(record)

    def _store(self, record: bytes) -> None:
        self.space.store(self.number, self.tail, self._old, record)
        self._old = record
        self.is_new = False


def count_of(record: bytes) -> int:
    """How many elements the record of a collection tells of."""
    count: int = _FIXED.unpack_from(record, payload_start(record))[1]
    return count


def totals_of(record: bytes) -> tuple[int, int]:
    """(content_sum, content_bytes) that the record of a collection tells."""
    fixed = _FIXED.unpack_from(record, payload_start(record))
    return fixed[2], fixed[3]


def with_totals(record: bytes, content_sum: int, content_bytes: int) -> bytes:
    """The record of a collection with other totals."""
    start = payload_start(record)
    generation, count, _, _ = _FIXED.unpack_from(record, start)
    fixed = _FIXED.pack(generation, count, content_sum, content_bytes)
    return record[:start] + fixed + record[start + FIXED_BYTES :]


class Totals:
    """Adds up the content among the rows of one collection.

    Args:
        kind: of the collection.

    Attributes:
        content_sum: as in `Collection`.
        content_bytes: the same.
    """

    __slots__ = ("_parts", "content_bytes", "content_sum")

    def __init__(self, kind: int) -> None:
        self._parts = CONTENT[kind]
        self.content_sum = self.content_bytes = 0

    def add(self, row: bytes, value: bytes) -> None:
        """Take a row of the collection, with the whole of its key."""
        part = row[PREFIX_BYTES:]
        if part[0] in self._parts:
            self.content_sum = (self.content_sum + hash_of(part, value)) & SUM_MASK
            self.content_bytes += len(part) + len(value)


def find(space: Keyspace, number: int, key: bytes, kind: int) -> Collection | CommandError | None:
    """The collection of a key, to read it; None if the key is absent, an error for another kind."""
    tail = space.locate(key)
    record = space.engine.get(space.databases[number].record_prefix + tail)
    if record is None or space.is_expired(record):
        return None
    if record[0] & KIND_MASK != kind:
        return CommandError(WRONG_TYPE)
    return Collection(space, number, key, tail, kind, record, record)


def open_(space: Keyspace, number: int, key: bytes, kind: int) -> Collection | CommandError:
    """The collection of a key, to change it; a new one if it is absent, an error for another kind.

    Of a new one nothing is there until it is saved, but what rows were put; so whoever may still
    refuse looks before it puts.
    """
    tail, row, live = space.look_up(number, key)
    if live is not None and live[0] & KIND_MASK != kind:
        return CommandError(WRONG_TYPE)
    return Collection(space, number, key, tail, kind, row, live)


def create(space: Keyspace, number: int, key: bytes, kind: int, deadline_ms: int = 0) -> Collection:
    """A new collection that takes the place of whatever the key holds when it is saved.

    Saved without elements it removes what was there (an expired record too).
    """
    tail, row, _ = space.look_up(number, key)
    made = Collection(space, number, key, tail, kind, row, None)
    made.deadline_ms = deadline_ms
    return made


def resume(space: Keyspace, number: int, key: bytes, record: bytes) -> Collection:
    """A collection that was begun by `create` and not saved, from its `to_record`."""
    tail = space.locate(key)
    row = space.engine.get(space.databases[number].record_prefix + tail)
    return Collection(space, number, key, tail, record[0] & KIND_MASK, row, record)
