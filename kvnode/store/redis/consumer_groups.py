"""Consumer groups as rows: who was given which entry of a stream, and has not acknowledged it.

A group, a consumer and a pending entry are a row each (`DESIGN.md`, "Streams"), named by numbers
that are drawn once, so that names may be long and rows stay short. Redis does not count what
happens to a group as a write of the stream: WATCH does not see it, and neither does it here.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from kvnode.store.keyspace import HASH_BYTES, SUFFIX_KEY_BYTES_MAX, prefix_end
from kvnode.store.notices import Notice
from kvnode.store.redis.stream_ids import TOP, U64_MAX, ZERO
from kvnode.store.redis.streams import paged, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.redis.stream_ids import StreamId
    from kvnode.store.redis.streams import Stream

GROUPS: Final = b"\x04"
CONSUMERS: Final = b"\x05"
PENDING: Final = b"\x06"
PENDING_OF: Final = b"\x07"
NAMES: Final = b"\x08"

UNKNOWN: Final = -1
"""For `entries_read`: XGROUP said so, or XDEL made holes that nobody can count over."""

_GROUP = Struct(">I16sqQII")
_CONSUMER = Struct(">IQQ")
_NACK = Struct(">IQQ")
_NUMBER = Struct(">I")


class Consumer:
    """One consumer of a group.

    Attributes:
        number: in the rows of its group.
        name: the client's name for it.
        seen_ms: when it last asked for something.
        pending: entries that it has not acknowledged.
    """

    __slots__ = ("_row", "name", "number", "part", "pending", "seen_ms")

    def __init__(self, part: bytes, name: bytes, row: bytes | None, number: int = 0) -> None:
        self.part = part
        self.name = name
        self._row = row
        self.number, self.seen_ms, self.pending = number, 0, 0
        if row is not None:
            self.number, self.seen_ms, self.pending = _CONSUMER.unpack_from(row)

    def save(self, stream: Stream) -> None:
        """Write its row, if it changed."""
        row = _CONSUMER.pack(self.number, self.seen_ms, self.pending) + _long(self.name)
        if row != self._row:
            stream.rows.put(self.part, row, self._row)
            self._row = row

    def delete(self, stream: Stream) -> None:
        """Delete its row."""
        if self._row is not None:
            stream.rows.delete(self.part, self._row)


class Nack:
    """An entry that was delivered and not acknowledged.

    Attributes:
        consumer: number of the one that has it.
        delivered_ms: when it was given to it.
        deliveries: how often it was given to anybody, mod 2**64.
        row: what is stored of it; None before it is.
    """

    __slots__ = ("consumer", "delivered_ms", "deliveries", "row")

    def __init__(self, row: bytes | None = None) -> None:
        self.row = row
        self.consumer, self.delivered_ms, self.deliveries = 0, 0, 1
        if row is not None:
            self.consumer, self.delivered_ms, self.deliveries = _NACK.unpack(row)

    @property
    def is_stored(self) -> bool:
        """Whether somebody has it."""
        return self.row is not None


class Group:
    """A consumer group that is open for one op.

    Attributes:
        stream: whose entries it gives out.
        name: the client's name for it.
        number: in its row keys.
        last: the largest id that it gave out.
        entries_read: how many entries it is ahead of the stream's first ever, or `UNKNOWN`.
        pending: entries that are not acknowledged.
        consumers: how many it has.
    """

    __slots__ = (
        "_named",
        "_numbered",
        "_row",
        "consumers",
        "entries_read",
        "last",
        "name",
        "next_consumer",
        "number",
        "part",
        "pending",
        "stream",
    )

    def __init__(self, stream: Stream, part: bytes, name: bytes, row: bytes | None) -> None:
        self.stream = stream
        self.part = part
        self.name = name
        self._row = row
        self._named: dict[bytes, Consumer] = {}
        self._numbered: dict[int, Consumer] = {}
        self.number, self.last, self.entries_read = 0, ZERO, UNKNOWN
        self.pending = self.consumers = self.next_consumer = 0
        if row is not None:
            fields = _GROUP.unpack_from(row)
            self.number, self.last, self.entries_read, *counters = fields
            self.pending, self.consumers, self.next_consumer = counters

    # --- consumers --------------------------------------------------------------------------------

    def consumer(self, name: bytes) -> Consumer | None:
        """The consumer of a name."""
        found = self._named.get(name)
        if found is None:
            part = self._rows_of(CONSUMERS) + _suffix(self.stream, name)
            row = self.stream.rows.get(part)
            if row is not None:
                found = self._note(Consumer(part, name, row))
        return found

    def add_consumer(self, name: bytes) -> Consumer:
        """A new consumer of a name that none has."""
        part = self._rows_of(CONSUMERS) + _suffix(self.stream, name)
        made = self._note(Consumer(part, name, None, self.next_consumer))
        self.next_consumer += 1
        self.consumers += 1
        rows = self.stream.rows
        rows.put_derived(self._name_of(made.number), name)
        rows.space.notify(Notice.STREAM, b"xgroup-createconsumer", rows.number, rows.key)
        return made

    def _note(self, consumer: Consumer) -> Consumer:
        """All of an op work on the same one, and `save` writes it."""
        self._named[consumer.name] = self._numbered[consumer.number] = consumer
        return consumer

    def asking(self, name: bytes) -> Consumer:
        """The consumer that asks for something now; it is made if there is none of its name."""
        found = self.consumer(name) or self.add_consumer(name)
        found.seen_ms = self.stream.rows.space.stamp_ms
        return found

    def by_number(self, number: int) -> Consumer:
        """The consumer that a pending entry tells of."""
        found = self._numbered.get(number)
        if found is None:
            name = self.stream.rows.get(self._name_of(number))
            if name is None or (found := self.consumer(name)) is None:
                raise LookupError(f"a pending entry names the unknown consumer {number}")
        return found

    def all_consumers(self) -> Iterator[Consumer]:
        """All of them in the order of their names."""
        prefix = self._rows_of(CONSUMERS)
        for part, row in self.stream.rows.rows(prefix, prefix_end(prefix)):
            yield Consumer(part, _name_in(part[len(prefix) :], row, _CONSUMER.size), row)

    def delete_consumer(self, consumer: Consumer) -> None:
        """Delete a consumer and what it has not acknowledged."""
        rows = self.stream.rows
        prefix = self._pending_of(consumer)
        for part, _ in paged(rows, prefix, prefix_end(prefix)):
            rows.delete_derived(part)
            identity = part[len(prefix) :]
            row = rows.get(self._pending(identity))
            assert row is not None
            rows.delete(self._pending(identity), row)
            self.pending -= 1
        consumer.delete(self.stream)
        rows.delete_derived(self._name_of(consumer.number))
        del self._named[consumer.name], self._numbered[consumer.number]
        self.consumers -= 1

    # --- pending entries --------------------------------------------------------------------------

    def nack(self, identity: StreamId) -> Nack | None:
        """The pending entry of an id."""
        row = self.stream.rows.get(self._pending(identity))
        return None if row is None else Nack(row)

    def hand(self, identity: StreamId, nack: Nack, consumer: Consumer) -> None:
        """Write a pending entry, new or not, as the consumer's."""
        rows = self.stream.rows
        old = nack.row
        if old is None:
            self.pending += 1
        if old is None or nack.consumer != consumer.number:
            if old is not None:
                self._take(identity, nack)
            consumer.pending += 1
            rows.put_derived(self._pending_of(consumer) + identity, b"")
        nack.consumer = consumer.number
        row = _NACK.pack(nack.consumer, nack.delivered_ms, nack.deliveries & U64_MAX)
        if row != old:
            rows.put(self._pending(identity), row, old)
            nack.row = row

    def release(self, identity: StreamId, nack: Nack) -> None:
        """Delete a pending entry."""
        assert nack.row is not None
        self._take(identity, nack)
        self.stream.rows.delete(self._pending(identity), nack.row)
        self.pending -= 1

    def _take(self, identity: StreamId, nack: Nack) -> None:
        owner = self.by_number(nack.consumer)
        owner.pending -= 1
        self.stream.rows.delete_derived(self._pending_of(owner) + identity)

    def all_pending(self, first: StreamId, last: StreamId = TOP) -> Iterator[tuple[StreamId, Nack]]:
        """Pending entries from one id to another, both included; they may be changed meanwhile."""
        prefix = self._rows_of(PENDING)
        for part, row in paged(self.stream.rows, prefix + first, prefix + last + b"\x00"):
            yield part[len(prefix) :], Nack(row)

    def ends_of_pending(self) -> tuple[StreamId, StreamId]:
        """The smallest and the largest id that is pending."""
        rows, prefix = self.stream.rows, self._rows_of(PENDING)
        end = prefix_end(prefix)
        first, last = next(rows.rows(prefix, end)), next(rows.rows_back(prefix, end))
        return first[0][len(prefix) :], last[0][len(prefix) :]

    def pending_of(
        self, consumer: Consumer, first: StreamId, last: StreamId = TOP
    ) -> Iterator[tuple[StreamId, Nack]]:
        """The same of one consumer."""
        prefix = self._pending_of(consumer)
        for part, _ in paged(self.stream.rows, prefix + first, prefix + last + b"\x00"):
            identity = part[len(prefix) :]
            nack = self.nack(identity)
            assert nack is not None
            yield identity, nack

    # --- the row ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what changed, the stream's record at last.

        That is no write of the key to who watches it, unless the stream came with the group.
        """
        for consumer in self._named.values():
            consumer.save(self.stream)
        fields = (self.number, self.last, self.entries_read)
        row = _GROUP.pack(*fields, self.pending, self.consumers, self.next_consumer)
        row += _long(self.name)
        if row != self._row:
            self.stream.rows.put(self.part, row, self._row)
            self._row = row
        if self.stream.rows.is_new:
            self.stream.rows.space.advance()
            self.stream.save()
        else:
            self.stream.save_unseen()

    def destroy(self) -> None:
        """Delete the group with all its rows."""
        rows = self.stream.rows
        for content in (CONSUMERS, PENDING):
            prefix = self._rows_of(content)
            for part, row in paged(rows, prefix, prefix_end(prefix)):
                rows.delete(part, row)
        for derived in (PENDING_OF, NAMES):
            prefix = self._rows_of(derived)
            for part, _ in paged(rows, prefix, prefix_end(prefix)):
                rows.delete_derived(part)
        assert self._row is not None
        rows.delete(self.part, self._row)
        self.stream.save_unseen()

    def _rows_of(self, part: bytes) -> bytes:
        return part + _NUMBER.pack(self.number)

    def _pending(self, identity: StreamId) -> bytes:
        return PENDING + _NUMBER.pack(self.number) + identity

    def _pending_of(self, consumer: Consumer) -> bytes:
        return self._rows_of(PENDING_OF) + _NUMBER.pack(consumer.number)

    def _name_of(self, number: int) -> bytes:
        return self._rows_of(NAMES) + _NUMBER.pack(number)

    # --- how far it is ----------------------------------------------------------------------------

    def note_delivery(self, identity: StreamId) -> None:
        """The entry of an id above `last` is given out for the first time."""
        stream = self.stream
        if self.entries_read != UNKNOWN and not stream.has_deleted_from(identity):
            self.entries_read = signed(self.entries_read + 1)
        elif stream.added:
            read = stream.read_up_to(identity)
            self.entries_read = UNKNOWN if read is None else signed(read)
        self.last = identity

    def lag(self) -> int | None:
        """How many entries it has not given out; None where nobody can tell."""
        stream = self.stream
        if not stream.added:
            return 0
        if self.entries_read != UNKNOWN and not stream.has_deleted_from(self.last):
            return signed(stream.added - self.entries_read)
        read = stream.read_up_to(self.last)
        return None if read is None else signed(stream.added - read)


def _suffix(stream: Stream, name: bytes) -> bytes:
    """The end of a row key that stands for a name."""
    if len(name) <= SUFFIX_KEY_BYTES_MAX:
        return name
    return stream.rows.space.locate(name)[HASH_BYTES:]


def _long(name: bytes) -> bytes:
    """What a row keeps of a name: all of it, if the row's key cannot."""
    return name if len(name) > SUFFIX_KEY_BYTES_MAX else b""


def _name_in(suffix: bytes, row: bytes, fixed_bytes: int) -> bytes:
    return suffix if len(suffix) <= SUFFIX_KEY_BYTES_MAX else row[fixed_bytes:]


def group_of(stream: Stream, name: bytes) -> Group | None:
    """The group of a name."""
    part = GROUPS + _suffix(stream, name)
    row = stream.rows.get(part)
    return None if row is None else Group(stream, part, name, row)


def add_group(stream: Stream, name: bytes, last: StreamId, entries_read: int) -> Group:
    """A new group of a name that none has."""
    made = Group(stream, GROUPS + _suffix(stream, name), name, None)
    made.number, made.last, made.entries_read = stream.next_group, last, entries_read
    stream.next_group += 1
    return made


def all_groups(stream: Stream) -> Iterator[Group]:
    """All of them in the order of their names."""
    for part, row in stream.rows.rows(GROUPS, CONSUMERS):
        yield Group(stream, part, _name_in(part[1:], row, _GROUP.size), row)
