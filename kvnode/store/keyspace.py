"""Databases and records over the rows of an engine (DESIGN.md, §1 and §2).

A key is found by its *tail*: a keyed 64-bit hash and a suffix that holds the key. The tail ends
both its record row and its expiry row. All writes of records go through `store` and `remove`, which
keep four things in step: the row, the expiry index, the counters, and the hash sum.

A key whose deadline the stamp has reached is absent to every reader, whether or not its row is
still there: `find` hides it, while `store` and `remove` take whatever record the row really has.
"""

from __future__ import annotations

import heapq
from hashlib import blake2b
from itertools import chain, islice, takewhile
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from kvnode.limits import DROPPED_ROWS_MAX, OUTPUT_BYTES_MAX
from kvnode.store.arrivals import Arrivals
from kvnode.store.buckets import Buckets
from kvnode.store.draws import Draws
from kvnode.store.jobs import Jobs
from kvnode.store.notices import Event, Notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.engine import Engine
    from kvnode.store.waiting import Waiters

DATABASES: Final = 16

FORMAT: Final = 2
"""Of rows and records. An engine of another format is thrown away (`engine_directory`)."""

FORMAT_WITH_MEMBERS: Final = 3
"""Of the meta row and of snapshots once there is a registry of members. The rows are the same, but
a program that knows nothing of the registry must not go on from them."""

TAG_META: Final = b"\x00"
TAG_GARBAGE: Final = b"\x01"
TAG_RECORD: Final = b"\x10"
TAG_EXPIRY: Final = b"\x11"
TAG_COLLECTION: Final = b"\x20"
TAG_WAITER: Final = b"\x30"

STRING: Final = 1
HASH: Final = 2
LIST: Final = 3
SET: Final = 4
ZSET: Final = 5
STREAM: Final = 6
COLLECTION_BITS: Final = 0x0E
"""A kind with one of these bits is a collection (`kvnode.store.collection`)."""

KIND_MASK: Final = 0x0F
HAS_DEADLINE: Final = 0x10
HAS_KEY: Final = 0x20

SUFFIX_KEY_BYTES_MAX: Final = 400
"""A longer key is stored in its record, and its suffix ends with a digest."""

PREFIX_BYTES: Final = 1 + 8
"""Tag and generation: where the tail begins in a record row, and the deadline in an expiry row."""

HASH_BYTES: Final = 8
HEADER_BYTES: Final = 1 + 8
"""Kind and version: where the payload begins in a record without deadline and key."""

HEAD_BYTES_MAX: Final = HEADER_BYTES + 8 + 4
"""Kind, version, deadline and the length of the key: enough to tell where the payload begins."""

NEAR_BYTES: Final = 4096
"""A part of a payload that ends so near is read together with the head."""

SUM_MASK: Final = 2**64 - 1

_DEADLINE_OR_COLLECTION: Final = HAS_DEADLINE | COLLECTION_BITS
_COLLECTION = Struct(">QQQQ")
"""How the payload of a collection's record begins: number, count, sum of its rows, their bytes."""

_U64 = Struct(">Q")
_pack_header = Struct(">BQ").pack
_pack_long_header = Struct(">BQQ").pack
_LENGTH = Struct(">I")
_unpack_deadline = _U64.unpack_from
_UNKNOWN: Final = -1


class Database:
    """Counters of one numbered database, and where its rows lie.

    Attributes:
        generation: the number in its row keys.
        keys: records, expired ones too.
        expires: records with a deadline.
        hash_sum: sum of the hashes of its records (`state_hash`).
        newest: no record has or had a higher version.
        swapped: revision of the SWAPDB that brought it here. To who watches a key it is a write of
            every record, so a record counts as at least this new.
        floor: `newest` of what FLUSH and SWAPDB took away from this number.
        record_bytes: sizes of its records, of their row keys, and of their collections' content.
    """

    __slots__ = (
        "expires",
        "expiry_prefix",
        "floor",
        "generation",
        "hash_sum",
        "keys",
        "newest",
        "record_bytes",
        "record_prefix",
        "swapped",
    )

    def __init__(
        self,
        generation: int,
        keys: int = 0,
        expires: int = 0,
        hash_sum: int = 0,
        newest: int = 0,
        swapped: int = 0,
        floor: int = 0,
        record_bytes: int = 0,
    ) -> None:
        number = _U64.pack(generation)
        self.generation = generation
        self.keys = keys
        self.expires = expires
        self.hash_sum = hash_sum
        self.newest = newest
        self.swapped = swapped
        self.floor = floor
        self.record_bytes = record_bytes
        self.record_prefix = TAG_RECORD + number
        self.expiry_prefix = TAG_EXPIRY + number

    def to_row(self) -> list[int]:
        """What the meta row keeps of it: the arguments of `Database`."""
        counters = [self.generation, self.keys, self.expires, self.hash_sum]
        return [*counters, self.newest, self.swapped, self.floor, self.record_bytes]


class Part(NamedTuple):
    """A part of a record's payload.

    Attributes:
        kind: of the record.
        size: of the whole payload, in bytes.
        data: the part; what lies behind the end is missing.
    """

    kind: int
    size: int
    data: bytes


def deadline_of(record: bytes) -> int:
    """Deadline in milliseconds since the epoch, 0 for none."""
    if record[0] & HAS_DEADLINE:
        deadline: int = _unpack_deadline(record, HEADER_BYTES)[0]
        return deadline
    return 0


def version_of(record: bytes) -> int:
    """Revision of the write that made the record."""
    return int.from_bytes(record[1:HEADER_BYTES], "big")


def payload_of(record: bytes) -> bytes:
    """What the record says after its header: the bytes of a string."""
    if record[0] < HAS_DEADLINE:
        return record[HEADER_BYTES:]
    return record[payload_start(record) :]


def payload_start(head: bytes) -> int:
    """Where the payload begins in the record that begins with `head`."""
    kind = head[0]
    start = HEADER_BYTES + 8 if kind & HAS_DEADLINE else HEADER_BYTES
    if kind & HAS_KEY:
        start += _LENGTH.size + _LENGTH.unpack_from(head, start)[0]
    return start


def collection_of(record: bytes) -> int:
    """The number of the collection that a record tells of; 0, which none has, for a string."""
    if record[0] & COLLECTION_BITS:
        number: int = _COLLECTION.unpack_from(record, payload_start(record))[0]
        return number
    return 0


def bytes_of(record: bytes) -> int:
    """What a record and the rows of its collection occupy."""
    if record[0] & COLLECTION_BITS:
        row_bytes: int = _COLLECTION.unpack_from(record, payload_start(record))[3]
        return len(record) + row_bytes
    return len(record)


def key_of(suffix: bytes, record: bytes) -> bytes:
    """The client's key, from the suffix of its row or, for a long key, from its record."""
    if not record[0] & HAS_KEY:
        return suffix
    start = HEADER_BYTES + 8 if record[0] & HAS_DEADLINE else HEADER_BYTES
    end = start + _LENGTH.size + _LENGTH.unpack_from(record, start)[0]
    return record[start + _LENGTH.size : end]


def prefix_end(prefix: bytes) -> bytes:
    """The smallest row key above all that begin with `prefix` (which does not end in 0xff…)."""
    number = int.from_bytes(prefix, "big") + 1
    return number.to_bytes(len(prefix), "big")


class Keyspace:
    """Sixteen databases, one stamp, one revision.

    Attributes:
        engine: the rows.
        databases: by number; a flushed one is replaced.
        stamp_ms: milliseconds since the epoch by which deadlines are judged.
        revision: of the newest write; a write op raises it once, with `advance`.
        removals: versions of removed records, for WATCH (`buckets`).
        arrivals: how keys came, for WATCH too; None until somebody watches (`arrivals`).
        draws: random numbers of the batch that is being applied (`draws`).
        jobs: commands that store their result a part at a time (`bulk`).
        is_atomic: what is being applied must happen at once (EXEC).
        notices: events that somebody wants to hear of; None while nobody does (`notices`).
        awaited: (database, tail) of the keys that a client waits for.
        ready: those of them that were stored or went since the last look; an empty tail stands for
            all of the database.
        waiters: who waits for them (`waiting`); set by the state machine.
        expired_keys: records deleted or overwritten because they had expired; local, for INFO.
        written_bytes: record bytes given to the engine so far; commits are bounded by it.
        reply_bytes_max: a read whose answer is larger is an error; local, as answers are no state.
        answers_room: what answers to reads may still take until the entry is applied; local, too.
        wants_answers: somebody here waits for what reads in an EXEC answer; local, too.
    """

    __slots__ = (
        "_next_deadline",
        "_prototype",
        "answers_room",
        "arrivals",
        "awaited",
        "databases",
        "draws",
        "engine",
        "expired_keys",
        "is_atomic",
        "jobs",
        "next_generation",
        "notices",
        "ready",
        "removals",
        "reply_bytes_max",
        "revision",
        "stamp_ms",
        "waiters",
        "wants_answers",
        "written_bytes",
    )

    waiters: Waiters

    def __init__(self, engine: Engine, hash_key: bytes) -> None:
        self.engine = engine
        self._prototype = blake2b(digest_size=HASH_BYTES, key=hash_key)
        self.stamp_ms = 0
        self.revision = 0
        self.written_bytes = 0
        self.reply_bytes_max = self.answers_room = OUTPUT_BYTES_MAX
        self.wants_answers = True
        self.expired_keys = 0
        self.databases = [Database(generation) for generation in range(DATABASES)]
        self.next_generation = DATABASES
        self.removals = Buckets()
        self.arrivals: Arrivals | None = None
        self.draws = Draws()
        self.jobs = Jobs()
        self.is_atomic = False
        self.notices: list[Event] | None = None
        self.awaited: set[tuple[int, bytes]] = set()
        self.ready: list[tuple[int, bytes]] = []
        self._next_deadline: int | None = None

    def restore(
        self,
        databases: list[Database],
        next_generation: int,
        removals: Buckets,
        arrivals: Arrivals | None,
        jobs: Jobs,
    ) -> None:
        """Take what the meta row tells of."""
        self.jobs = jobs
        self.is_atomic = False
        self.databases = databases
        self.next_generation = next_generation
        self.removals = removals
        self.arrivals = arrivals
        self._next_deadline = _UNKNOWN

    # --- one key ------------------------------------------------------------------------------

    def locate(self, key: bytes) -> bytes:
        """The tail of a key's rows: its hash and its suffix."""
        hasher = self._prototype.copy()  # far quicker than keying a new one
        hasher.update(key)
        if len(key) <= SUFFIX_KEY_BYTES_MAX:
            return hasher.digest() + key
        digest = blake2b(key, digest_size=32).digest()
        return hasher.digest() + key[:SUFFIX_KEY_BYTES_MAX] + digest

    def find(self, number: int, key: bytes) -> bytes | None:
        """The record of a key that is there and has not expired."""
        record = self.engine.get(self.databases[number].record_prefix + self.locate(key))
        if record is None or (record[0] & HAS_DEADLINE and self.is_expired(record)):
            return None
        return record

    def find_at(self, number: int, tail: bytes) -> bytes | None:
        """The same by the tail of its rows."""
        record = self.engine.get(self.databases[number].record_prefix + tail)
        return None if record is None or self.is_expired(record) else record

    def size(self, number: int, key: bytes) -> int | None:
        """Bytes of the value of a key that is there and has not expired; it is not copied."""
        row = self.databases[number].record_prefix + self.locate(key)
        found = self.engine.peek(row, HEAD_BYTES_MAX)
        if found is None or self.is_expired(found[0]):
            return None
        head, record_bytes = found
        if head[0] & COLLECTION_BITS:
            record = self.engine.get(row)
            assert record is not None
            record_bytes = bytes_of(record)
        return record_bytes - payload_start(head)

    def part(self, number: int, key: bytes, start: int, length: int) -> Part | None:
        """Some bytes of the payload of a key that is there and has not expired.

        The rest is not copied, nor what lies before if that is much.
        """
        row = self.databases[number].record_prefix + self.locate(key)
        ahead = HEAD_BYTES_MAX + start + length
        near = ahead <= NEAR_BYTES and len(key) <= SUFFIX_KEY_BYTES_MAX
        found = self.engine.peek(row, ahead if near else HEAD_BYTES_MAX)
        if found is None or self.is_expired(found[0]):
            return None
        head, record_bytes = found
        payload = payload_start(head)
        begin = payload + start
        if near:
            data = head[begin : begin + length]
        else:
            rest = self.engine.peek(row, length, begin)
            assert rest is not None
            data = rest[0]
        return Part(head[0] & KIND_MASK, record_bytes - payload, data)

    def look_up(self, number: int, key: bytes) -> tuple[bytes, bytes | None, bytes | None]:
        """For writes: the key's tail, what its row holds, and the same unless it has expired."""
        tail = self.locate(key)
        row = self.engine.get(self.databases[number].record_prefix + tail)
        if row is None or (row[0] & HAS_DEADLINE and self.is_expired(row)):
            return tail, row, None
        return tail, row, row

    def is_expired(self, record: bytes) -> bool:
        """Whether the stamp has reached the record's deadline."""
        return 0 < deadline_of(record) <= self.stamp_ms

    def advance(self) -> None:
        """Raise the revision: once per op that changes something, before its records are built."""
        self.revision += 1

    def note_arrivals(self) -> Arrivals:
        """Begin to note how keys come, unless that is done already (`kvnode.store.arrivals`)."""
        if self.arrivals is None:
            self.arrivals = Arrivals.begin(self.revision, DATABASES)
        return self.arrivals

    def record(self, kind: int, key: bytes, payload: bytes, deadline_ms: int = 0) -> bytes:
        """Build a record of this revision."""
        if not deadline_ms and len(key) <= SUFFIX_KEY_BYTES_MAX:
            return _pack_header(kind, self.revision) + payload
        inside = b""
        if len(key) > SUFFIX_KEY_BYTES_MAX:
            kind |= HAS_KEY
            inside = _LENGTH.pack(len(key)) + key
        if deadline_ms:
            head = _pack_long_header(kind | HAS_DEADLINE, self.revision, deadline_ms)
            return head + inside + payload
        return _pack_header(kind, self.revision) + inside + payload

    def store(self, number: int, tail: bytes, old: bytes | None, record: bytes) -> None:
        """Put a record in the place of `old`, which is what its row holds now, expired or not."""
        database = self.databases[number]
        seed = int.from_bytes(tail[:HASH_BYTES], "big")
        change = xxh3_64_intdigest(record, seed)
        if old is None:
            if self.arrivals is not None:
                self.arrivals.created.note(number, seed, self.revision)
            if self.notices is not None:
                self.notify(Notice.NEW, b"new", number, key_of(tail[HASH_BYTES:], record))
            database.keys += 1
            database.record_bytes += PREFIX_BYTES + len(tail) + len(record)
            if record[0] & _DEADLINE_OR_COLLECTION:
                database.record_bytes += bytes_of(record) - len(record)
                self._index(database, tail, deadline_of(record))
        else:
            database.record_bytes += len(record) - len(old)
            change -= xxh3_64_intdigest(old, seed)
            if (old[0] | record[0]) & _DEADLINE_OR_COLLECTION:
                self._replace(number, tail, old, record)
        if self.awaited and (number, tail) in self.awaited:
            self.ready.append((number, tail))
        database.hash_sum = (database.hash_sum + change) & SUM_MASK
        database.newest = self.revision
        self.written_bytes += len(record)
        self.engine.put(database.record_prefix + tail, record)

    def _replace(self, number: int, tail: bytes, old: bytes, record: bytes) -> None:
        """What `store` owes to deadlines and collections when `record` takes the place of `old`."""
        database = self.databases[number]
        if old[0] == record[0] < HAS_DEADLINE:  # a change of a collection without a deadline
            dropped, _, _, old_bytes = _COLLECTION.unpack_from(old, HEADER_BYTES)
            kept, _, _, row_bytes = _COLLECTION.unpack_from(record, HEADER_BYTES)
            database.record_bytes += row_bytes - old_bytes
            if dropped != kept:
                self._drop(dropped)
            return
        was_due_ms, due_ms = deadline_of(old), deadline_of(record)
        if 0 < was_due_ms <= self.stamp_ms:
            self.expired_keys += 1
            if self.arrivals is not None:
                seed = int.from_bytes(tail[:HASH_BYTES], "big")
                self.arrivals.created.note(number, seed, self.revision)
        if was_due_ms != due_ms:
            self._unindex(database, tail, was_due_ms)
            self._index(database, tail, due_ms)
        if (old[0] | record[0]) & COLLECTION_BITS:
            database.record_bytes += bytes_of(record) - len(record) - bytes_of(old) + len(old)
            dropped = collection_of(old)
            if dropped and dropped != collection_of(record):
                self._drop(dropped)

    def remove(self, number: int, tail: bytes, old: bytes) -> None:
        """Delete the row that holds `old`, and with it the collection that it tells of."""
        if old[0] & COLLECTION_BITS:
            self._drop(collection_of(old))
        self.detach(number, tail, old)

    def drop_rows(self, record: bytes) -> None:
        """Delete the rows of a collection that no key tells of, but this record."""
        self._drop(collection_of(record))

    def _drop(self, generation: int) -> None:
        """Delete the rows of a collection: a few at once, more by a row that tells of the garbage.

        Most collections that go are small, as those of queues; their garbage would pile up.
        """
        name = _U64.pack(generation)
        prefix = TAG_COLLECTION + name
        rows = list(islice(self.engine.keys(prefix, prefix_end(prefix)), DROPPED_ROWS_MAX + 1))
        if len(rows) > DROPPED_ROWS_MAX:
            self.engine.put(TAG_GARBAGE + name, b"")
            return
        for row in rows:
            self.engine.delete(row)

    def detach(self, number: int, tail: bytes, old: bytes) -> None:
        """Delete the row that holds `old`; its collection stays, for another record to take."""
        database = self.databases[number]
        seed = int.from_bytes(tail[:HASH_BYTES], "big")
        database.keys -= 1
        database.record_bytes -= PREFIX_BYTES + len(tail) + bytes_of(old)
        database.hash_sum = (database.hash_sum - xxh3_64_intdigest(old, seed)) & SUM_MASK
        was_due_ms = deadline_of(old)
        if 0 < was_due_ms <= self.stamp_ms:
            self.expired_keys += 1
        self._unindex(database, tail, was_due_ms)
        self.removals.note(number, seed, max(version_of(old), database.swapped))
        if self.awaited and (number, tail) in self.awaited:
            self.ready.append((number, tail))
        self.engine.delete(database.record_prefix + tail)

    def notify(self, notice: Notice, name: bytes, number: int, key: bytes) -> None:
        """Tell who wants to hear it what happened to a key."""
        if self.notices is not None:
            self.notices.append(Event(notice, name, number, key))

    # --- deadlines ----------------------------------------------------------------------------

    def _index(self, database: Database, tail: bytes, deadline_ms: int) -> None:
        if deadline_ms:
            database.expires += 1
            self.engine.put(database.expiry_prefix + _U64.pack(deadline_ms) + tail, b"")
            earliest = self._next_deadline
            if earliest is None or deadline_ms < earliest:
                self._next_deadline = deadline_ms

    def _unindex(self, database: Database, tail: bytes, deadline_ms: int) -> None:
        if deadline_ms:
            database.expires -= 1
            self.engine.delete(database.expiry_prefix + _U64.pack(deadline_ms) + tail)
            if deadline_ms == self._next_deadline:
                self._next_deadline = _UNKNOWN

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of all databases; remembered until it goes away."""
        if self._next_deadline == _UNKNOWN:
            due = next(self._deadlines(), None)
            self._next_deadline = None if due is None else due[0]
        return self._next_deadline

    def delete_expired(self, limit: int) -> int:
        """Delete up to `limit` expired keys in the order of (deadline, database, hash)."""
        earliest = self.next_deadline_ms()
        if earliest is None or earliest > self.stamp_ms:
            return 0
        expired = self._expired(limit)
        for _, number, tail in expired:
            record = self.engine.get(self.databases[number].record_prefix + tail)
            if record is None:
                raise LookupError(f"the expiry index names a key without a record: {tail!r}")
            self.remove(number, tail, record)
            key = key_of(tail[HASH_BYTES:], record)
            self.notify(Notice.EXPIRED, b"expired", number, key)
        return len(expired)

    def _expired(self, limit: int) -> list[tuple[int, int, bytes]]:
        """A list: no row may change while the engine is being walked."""
        stamp_ms = self.stamp_ms
        due = takewhile(lambda deadline: deadline[0] <= stamp_ms, self._deadlines())
        return list(islice(due, limit))

    def _deadlines(self) -> Iterator[tuple[int, int, bytes]]:
        """(deadline, database number, tail) of every key that has one, in this order."""
        return heapq.merge(
            *(
                self._deadlines_of(number, database)
                for number, database in enumerate(self.databases)
                if database.expires
            )
        )

    def _deadlines_of(self, number: int, database: Database) -> Iterator[tuple[int, int, bytes]]:
        prefix = database.expiry_prefix
        for row in self.engine.keys(prefix, prefix_end(prefix)):
            end = PREFIX_BYTES + 8
            yield int.from_bytes(row[PREFIX_BYTES:end], "big"), number, row[end:]

    # --- many keys ----------------------------------------------------------------------------

    def walk(self, number: int, from_hash: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """(hash, suffix, record) of every row, expired ones too, in hash order."""
        prefix = self.databases[number].record_prefix
        suffix_at = PREFIX_BYTES + HASH_BYTES
        start = prefix + _U64.pack(from_hash)
        for row, record in self.engine.rows(start, prefix_end(prefix)):
            yield int.from_bytes(row[PREFIX_BYTES:suffix_at], "big"), row[suffix_at:], record

    def flush(self, number: int) -> bool:
        """Drop all keys of a database at once; False if it had none."""
        database = self.databases[number]
        if not database.keys:
            return False
        self.engine.put(TAG_GARBAGE + _U64.pack(database.generation), b"")
        if self.arrivals is not None:
            self.arrivals.sweep(number)
        # It has keys, so it was written after whatever its floor tells of.
        self.databases[number] = Database(self.next_generation, floor=database.newest)
        self.next_generation += 1
        self._next_deadline = _UNKNOWN
        if self.awaited:
            self.ready.append((number, b""))
        return True

    def swap(self, first: int, second: int) -> None:
        """Exchange two databases at once, as a write of this revision."""
        one, other = self.databases[first], self.databases[second]
        one.floor, other.floor = max(other.floor, other.newest), max(one.floor, one.newest)
        for number, newcomer in ((first, other), (second, one)):
            if self.arrivals is not None:
                self.arrivals.sweep(number)
                if newcomer.keys:
                    self.arrivals.bring(number, self.revision)
            newcomer.swapped = newcomer.newest = self.revision
        self.databases[first], self.databases[second] = other, one
        if self.awaited:
            self.ready += [(first, b""), (second, b"")]

    @property
    def has_garbage(self) -> bool:
        """Whether rows of a flushed generation are left."""
        return next(self.engine.keys(TAG_GARBAGE, prefix_end(TAG_GARBAGE)), None) is not None

    def collect_garbage(self, budget: int) -> int:
        """Delete up to `budget` rows of flushed generations; returns how many.

        A collection goes by the same kind of row. Those of a flushed database get theirs here, as
        their records go.
        """
        deleted = 0
        while deleted < budget:
            garbage = next(self.engine.keys(TAG_GARBAGE, prefix_end(TAG_GARBAGE)), None)
            if garbage is None:
                break
            rows, is_last = self._rows_of(garbage[1:], budget - deleted)
            for row in rows:
                self.engine.delete(row)
            deleted += len(rows)
            if is_last:  # its own row counts too: most collections that go were small
                self.engine.delete(garbage)
                deleted += 1
        return deleted

    def _rows_of(self, generation: bytes, limit: int) -> tuple[list[bytes], bool]:
        """Up to `limit` row keys of a generation, whatever their tag, and whether that is all."""
        records, expiry = TAG_RECORD + generation, TAG_EXPIRY + generation
        elements = TAG_COLLECTION + generation
        found: list[bytes] = []
        dropped: list[int] = []
        for row, record in islice(self.engine.rows(records, prefix_end(records)), limit):
            found.append(row)
            if record[0] & COLLECTION_BITS:
                dropped.append(collection_of(record))
        for number in dropped:
            self.engine.put(TAG_GARBAGE + _U64.pack(number), b"")
        keys = chain(
            self.engine.keys(expiry, prefix_end(expiry)),
            self.engine.keys(elements, prefix_end(elements)),
        )
        found += islice(keys, limit - len(found))
        return found, len(found) < limit
