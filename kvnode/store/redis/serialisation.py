"""DUMP and RESTORE: a value as Redis serialises it, out of the keyspace and back into it.

The bytes are those of `kvnode.store.rdb`; here they meet rows. A payload travels through the log as
the client sent it, and each node reads it for itself: nothing is stored before all of it was found
to be good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from kvnode.errors import CommandError
from kvnode.limits import (
    BULK_ROWS_AT_ONCE_MAX,
    DUMP_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.store import ops
from kvnode.store.collection import Collection, create, find
from kvnode.store.keyspace import (
    HASH,
    KIND_MASK,
    LIST,
    SET,
    STREAM,
    STRING,
    ZSET,
    bytes_of,
    payload_of,
)
from kvnode.store.notices import Notice
from kvnode.store.ops import RestoreFlag
from kvnode.store.rdb.reader import check_footer, read_value
from kvnode.store.rdb.values import (
    BadPayload,
    Consumer,
    Group,
    HashValue,
    ListValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamValue,
    TooLarge,
    Value,
)
from kvnode.store.rdb.writer import write_value
from kvnode.store.redis import consumer_groups, messages, stream_ids
from kvnode.store.redis.list_rows import RIGHT, ListRows
from kvnode.store.redis.stream_ids import TOP, ZERO
from kvnode.store.redis.streams import Stream, shown
from kvnode.store.reply import OK
from kvnode.store.scores import unpack_score
from kvnode.store.sorted_set import SortedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

_INT64_SPAN: Final = 2**64
_INT64_HALF: Final = 2**63


def dump(space: Keyspace, op: Op) -> Result:
    """DUMP: a payload for RESTORE, None for an absent key."""
    _, number, key = op
    record = space.find(number, key)
    if record is None:
        return None
    if bytes_of(record) > DUMP_BYTES_MAX:
        return CommandError(messages.TOO_LARGE_TO_DUMP)
    kind = record[0] & KIND_MASK
    if kind == STRING:
        return write_value(payload_of(record))
    collection = find(space, number, key, kind)
    assert isinstance(collection, Collection)
    return write_value(_TAKEN[kind](collection))


def restore(space: Keyspace, op: Op) -> Result:
    """RESTORE: OK, the value in the key's place. As in Redis the key is looked at first.

    `ttl_ms` is None if the client's number was no integer. It counts from now, unless ABSTTL says
    that it is a deadline; 0 is none. A deadline that has passed leaves no key.
    """
    _, number, key, ttl_ms, payload, flags = op
    tail, row, live = space.look_up(number, key)
    if live is not None and not flags & RestoreFlag.REPLACE:
        return CommandError(messages.BUSY_KEY)
    value = _read(ttl_ms, payload)
    if isinstance(value, CommandError):
        return value
    deadline_ms = _deadline(space, ttl_ms, flags)
    if ttl_ms > 0 and deadline_ms <= space.stamp_ms:
        if row is not None:
            if live is not None:
                space.advance()
                space.notify(Notice.GENERIC, b"del", number, key)
            space.remove(number, tail, row)
        return OK
    space.advance()
    if isinstance(value, bytes):
        space.store(number, tail, row, space.record(STRING, key, value, deadline_ms))
    else:
        _put(space, number, key, value, deadline_ms)
    space.notify(Notice.GENERIC, b"restore", number, key)
    return OK


def _read(ttl_ms: int | None, payload: bytes) -> Value | CommandError:
    """What is to be restored, or the first thing that Redis says is wrong."""
    if ttl_ms is None:
        return CommandError(messages.NOT_AN_INTEGER)
    if ttl_ms < 0:
        return CommandError(messages.INVALID_TTL)
    if not check_footer(payload):
        return CommandError(messages.BAD_CHECKSUM)
    try:
        return read_value(
            payload,
            string_bytes=VALUE_BYTES_MAX,
            total_bytes=VALUE_BYTES_MAX,
            elements=BULK_ROWS_AT_ONCE_MAX,
        )
    except TooLarge:
        return CommandError(messages.TOO_LARGE_TO_RESTORE)
    except BadPayload:
        return CommandError(messages.BAD_DATA)


def _deadline(space: Keyspace, ttl_ms: int, flags: int) -> int:
    """The deadline as a number of 64 bits: a lifetime beyond them ends in the past, as in Redis."""
    if not ttl_ms or flags & RestoreFlag.ABSTTL:
        return ttl_ms
    return (ttl_ms + space.stamp_ms + _INT64_HALF) % _INT64_SPAN - _INT64_HALF


def _put(space: Keyspace, number: int, key: bytes, value: Value, deadline_ms: int) -> None:
    """Make a collection of this value in the key's place."""
    if isinstance(value, ListValue):
        _put_list(create(space, number, key, LIST, deadline_ms), value)
    elif isinstance(value, HashValue):
        _put_members(create(space, number, key, HASH, deadline_ms), value.pairs)
    elif isinstance(value, SetValue):
        pairs = [(member, b"") for member in value.members]
        _put_members(create(space, number, key, SET, deadline_ms), pairs)
    elif isinstance(value, SortedSetValue):
        made = create(space, number, key, ZSET, deadline_ms)
        SortedSet(made).fill(value.pairs)
        made.save()
    elif isinstance(value, StreamValue):
        _put_stream(create(space, number, key, STREAM, deadline_ms), value)


# --- lists, hashes, sets, sorted sets -------------------------------------------------------------


def _take_list(collection: Collection) -> Value:
    return ListValue(ListRows(collection).slice(0, collection.count))


def _put_list(collection: Collection, value: ListValue) -> None:
    rows = ListRows(collection)
    rows.push(RIGHT, value.elements)
    rows.save()


def _take_hash(collection: Collection) -> Value:
    return HashValue([(field, value) for _, field, value in collection.members()])


def _put_members(collection: Collection, pairs: list[tuple[bytes, bytes]]) -> None:
    for member, value in pairs:
        collection.put_member(member, value, None)
    collection.count = len(pairs)
    collection.save()


def _take_set(collection: Collection) -> Value:
    return SetValue([member for _, member, _ in collection.members()])


def _take_sorted_set(collection: Collection) -> Value:
    return SortedSetValue(
        [(member, unpack_score(packed)) for _, member, packed in collection.members()]
    )


# --- streams --------------------------------------------------------------------------------------


def _take_stream(collection: Collection) -> Value:
    stream = Stream(collection)
    entries = []
    for identity, packed in stream.between(ZERO, TOP):
        told = cast("tuple[bytes, list[bytes]]", shown(identity, packed))
        entries.append((stream_ids.numbers_of(identity), told[1]))
    return StreamValue(
        entries,
        stream_ids.numbers_of(stream.last),
        stream_ids.numbers_of(stream.max_deleted),
        stream.added,
        [_take_group(group) for group in consumer_groups.all_groups(stream)],
    )


def _take_group(group: consumer_groups.Group) -> Group:
    pending: list[Pending] = []
    owned: dict[int, list[tuple[int, int]]] = {}
    for identity, nack in group.all_pending(ZERO):
        entry = Pending(stream_ids.numbers_of(identity), nack.delivered_ms, nack.deliveries)
        pending.append(entry)
        owned.setdefault(nack.consumer, []).append(entry.id)
    consumers = [
        Consumer(consumer.name, consumer.seen_ms, owned.get(consumer.number, []))
        for consumer in group.all_consumers()
    ]
    last_id = stream_ids.numbers_of(group.last)
    return Group(group.name, last_id, group.entries_read, pending, consumers)


def _put_stream(collection: Collection, value: StreamValue) -> None:
    stream = Stream(collection)
    for (ms, sequence), fields in value.entries:
        stream.append(stream_ids.make(ms, sequence), fields)
    stream.last = stream_ids.make(*value.last_id)
    stream.max_deleted = stream_ids.make(*value.max_deleted_id)
    stream.added = value.entries_added
    stream.save()
    # Who listens hears of the RESTORE alone, not of each group and consumer.
    space = collection.space
    heard, space.notices = space.notices, None
    for group in value.groups:
        _put_group(stream, group)
    space.notices = heard


def _put_group(stream: Stream, group: Group) -> None:
    last = stream_ids.make(*group.last_id)
    made = consumer_groups.add_group(stream, group.name, last, group.entries_read)
    owners: dict[tuple[int, int], consumer_groups.Consumer] = {}
    for consumer in group.consumers:
        owner = made.add_consumer(consumer.name)
        owner.seen_ms = consumer.seen_ms
        owners.update(dict.fromkeys(consumer.pending, owner))
    for entry in group.pending:
        nack = consumer_groups.Nack()
        nack.delivered_ms, nack.deliveries = entry.delivered_ms, entry.deliveries
        made.hand(stream_ids.make(*entry.id), nack, owners[entry.id])
    made.save()


_TAKEN: Final[dict[int, Callable[[Collection], Value]]] = {
    LIST: _take_list,
    HASH: _take_hash,
    SET: _take_set,
    ZSET: _take_sorted_set,
    STREAM: _take_stream,
}
"""By kind: what a collection holds."""

READS: Final[dict[int, Meaning]] = {ops.DUMP: dump}

WRITES: Final[dict[int, Meaning]] = {ops.RESTORE: restore}
