"""What the commands on consumer groups mean: XGROUP, XREADGROUP, XACK, XCLAIM, XPENDING, XINFO.

The groups themselves are in `consumer_groups`. A mark in the place of an id and a `fault` among the
arguments of an op are what the client did wrong, told only where Redis has looked at key and group
before it looks at that argument.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.notices import Notice
from kvnode.store.redis import messages, stream_ids, streams
from kvnode.store.redis.consumer_groups import UNKNOWN, Nack, add_group, all_groups, group_of
from kvnode.store.redis.stream_ids import INVALID, NEWEST, TOP, ZERO
from kvnode.store.redis.streams import NODE_ENTRIES, shown, signed
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.consumer_groups import Consumer, Group
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.redis.stream_ids import StreamId
    from kvnode.store.redis.streams import Stream
    from kvnode.store.reply import Result

CLAIM_LOOKS_PER_ENTRY: Final = 10
"""How many pending entries XAUTOCLAIM looks at for each one that it may return, as in Redis."""


# --- XGROUP ---------------------------------------------------------------------------------------


def xgroup_create(space: Keyspace, op: Op) -> Result:
    """XGROUP CREATE; the last argument is 1 to make the stream if it is absent."""
    _, number, key, name, mark, entries_read, makes_stream = op
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new and not makes_stream:
        return CommandError(messages.XGROUP_NEEDS_KEY)
    last = stream.last if mark == NEWEST else mark
    if last == INVALID:
        return CommandError(messages.INVALID_ID)
    if group_of(stream, name) is not None:
        return CommandError(messages.GROUP_IS_THERE)
    add_group(stream, name, last, entries_read).save()
    space.notify(Notice.STREAM, b"xgroup-create", number, key)
    return OK


def xgroup_setid(space: Keyspace, op: Op) -> Result:
    """XGROUP SETID."""
    _, number, key, name, mark, entries_read = op
    group = _existing(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    last = group.stream.last if mark == NEWEST else mark
    if last == INVALID:
        return CommandError(messages.INVALID_ID)
    group.last, group.entries_read = last, entries_read
    group.save()
    space.notify(Notice.STREAM, b"xgroup-setid", number, key)
    return OK


def xgroup_destroy(space: Keyspace, op: Op) -> Result:
    """XGROUP DESTROY: 1 if the group was there."""
    _, number, key, name = op
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new:
        return CommandError(messages.XGROUP_NEEDS_KEY)
    group = group_of(stream, name)
    if group is None:
        return 0
    group.destroy()
    space.notify(Notice.STREAM, b"xgroup-destroy", number, key)
    return 1


def xgroup_createconsumer(space: Keyspace, op: Op) -> Result:
    """XGROUP CREATECONSUMER: 1 if there was none of this name."""
    _, number, key, name, consumer = op
    group = _existing(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    if group.consumer(consumer) is not None:
        return 0
    group.asking(consumer)
    group.save()
    return 1


def xgroup_delconsumer(space: Keyspace, op: Op) -> Result:
    """XGROUP DELCONSUMER: how many entries it had not acknowledged."""
    _, number, key, name, consumer = op
    group = _existing(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    found = group.consumer(consumer)
    if found is None:
        return 0
    group.delete_consumer(found)
    group.save()
    space.notify(Notice.STREAM, b"xgroup-delconsumer", number, key)
    return found.pending


def _existing(space: Keyspace, number: int, key: bytes, name: bytes) -> Group | CommandError:
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new:
        return CommandError(messages.XGROUP_NEEDS_KEY)
    return group_of(stream, name) or _no_such_group(key, name)


def _no_such_group(key: bytes, name: bytes) -> CommandError:
    return CommandError(messages.NO_SUCH_GROUP.format(group=_text(name), key=_text(key)))


def _nothing_there(key: bytes, name: bytes) -> CommandError:
    return CommandError(messages.NO_KEY_OR_GROUP.format(group=_text(name), key=_text(key)))


def _text(argument: bytes) -> str:
    return argument.decode("utf-8", "surrogateescape")


# --- what consumers do ----------------------------------------------------------------------------


def xreadgroup(space: Keyspace, op: Op) -> Result:
    """XREADGROUP: as XREAD answers; None if nobody asked for history and nothing is new."""
    _, number, name, consumer, count, without_ack, *wanted = op
    groups: dict[bytes, Group] = {}
    asked: list[tuple[bytes, Group, StreamId]] = []
    for key, mark in zip(wanted[::2], wanted[1::2], strict=True):
        group = groups.get(key) or _to_read(space, number, key, name)
        if isinstance(group, CommandError):
            return group
        if mark in (NEWEST, INVALID):
            text = messages.NEWEST_OF_GROUP if mark == NEWEST else messages.INVALID_ID
            return CommandError(text)
        groups[key] = group
        asked.append((key, group, mark))
    answer: list[Result] = []
    for key, group, since in asked:
        if since == TOP:
            entries = _deliver(group, consumer, count, without_ack=bool(without_ack))
        else:
            entries = _deliver_again(group, consumer, since, count)
        if entries is not None:
            answer += [key, entries]
    for group in groups.values():
        group.save()
    return answer or None


def _to_read(space: Keyspace, number: int, key: bytes, name: bytes) -> Group | CommandError:
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    group = None if stream.rows.is_new else group_of(stream, name)
    if group is None:
        text = messages.NO_GROUP_TO_READ.format(group=_text(name), key=_text(key))
        return CommandError(text)
    return group


def _deliver(group: Group, name: bytes, count: int, *, without_ack: bool) -> Result:
    """Give a consumer what none was given; None if there is nothing, and then it is not made."""
    entries = group.stream.newer(group.last, count)
    if not entries:
        return None
    consumer = group.asking(name)
    for identity, _ in entries:
        group.note_delivery(identity)
        if not without_ack:
            nack = group.nack(identity) or Nack()  # there is one if XGROUP SETID went back
            nack.delivered_ms, nack.deliveries = consumer.seen_ms, 1
            group.hand(identity, nack, consumer)
    return [shown(*entry) for entry in entries]


def _deliver_again(group: Group, name: bytes, since: StreamId, count: int) -> Result:
    """Give a consumer what it was given before; an entry that is deleted has no fields."""
    consumer = group.asking(name)
    start = stream_ids.after(since)
    assert start is not None
    entries: list[Result] = []
    for identity, nack in islice(group.pending_of(consumer, start), count or None):
        packed = group.stream.entry(identity)
        if packed is None:
            entries.append([stream_ids.text_of(identity), None])
            continue
        nack.delivered_ms = consumer.seen_ms
        nack.deliveries += 1
        group.hand(identity, nack, consumer)
        entries.append(shown(identity, packed))
    return entries


def xack(space: Keyspace, op: Op) -> Result:
    """XACK: how many of the entries were pending."""
    _, number, key, name, *ids = op
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    group = None if stream.rows.is_new else group_of(stream, name)
    if group is None:
        return 0
    if INVALID in ids:
        return CommandError(messages.INVALID_ID)
    acknowledged = 0
    for identity in ids:
        nack = group.nack(identity)
        if nack is not None:
            group.release(identity, nack)
            acknowledged += 1
    group.save()
    return acknowledged


def xclaim(space: Keyspace, op: Op) -> Result:
    """XCLAIM. `fault` is what is wrong with the arguments, told if key and group are there."""
    _, number, key, name, wanted, idle_ms, flags, time_ms, deliveries, last, fault, *ids = op
    group = _to_claim(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    if fault is not None:
        return CommandError(_text(fault))
    group.last = max(group.last, last)
    claim = _Claim(group, wanted, idle_ms, flags)
    claim.delivered_ms = _delivery_time(space.stamp_ms, flags, time_ms)
    claim.deliveries = deliveries
    answer: list[Result] = []
    for identity in ids:
        nack = group.nack(identity)
        packed = group.stream.entry(identity)
        if packed is None:
            if nack is not None:
                group.release(identity, nack)
            continue
        if nack is None and flags & ops.ClaimFlag.FORCE:
            nack = Nack()
        if nack is not None and claim.take(identity, nack):
            answer.append(claim.shown(identity, packed))
    group.save()
    return answer


def xautoclaim(space: Keyspace, op: Op) -> Result:
    """XAUTOCLAIM: where to go on, the entries, and the ids that were pending and are deleted."""
    _, number, key, name, wanted, idle_ms, start, count, flags = op
    group = _to_claim(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    claim = _Claim(group, wanted, idle_ms, flags)
    looks = count * CLAIM_LOOKS_PER_ENTRY
    goes_on = ZERO
    claimed: list[Result] = []
    gone: list[Result] = []
    for identity, nack in group.all_pending(start):
        if not looks or len(claimed) + len(gone) == count:
            goes_on = identity
            break
        looks -= 1
        packed = group.stream.entry(identity)
        if packed is None:
            group.release(identity, nack)
            gone.append(stream_ids.text_of(identity))
        elif claim.take(identity, nack):
            claimed.append(claim.shown(identity, packed))
    group.save()
    return [stream_ids.text_of(goes_on), claimed, gone]


def _to_claim(space: Keyspace, number: int, key: bytes, name: bytes) -> Group | CommandError:
    stream = streams.open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    group = None if stream.rows.is_new else group_of(stream, name)
    return group or _nothing_there(key, name)


def _delivery_time(now_ms: int, flags: int, time_ms: int) -> int:
    """When XCLAIM says that the entries were delivered; what cannot be is now, as in Redis."""
    if flags & ops.ClaimFlag.IDLE:
        time_ms = now_ms - time_ms
    elif not flags & ops.ClaimFlag.TIME:
        return now_ms
    return time_ms if 0 <= time_ms <= now_ms else now_ms


class _Claim:
    """How pending entries become a consumer's. It is made with the first that it gets."""

    __slots__ = (
        "_consumer",
        "_name",
        "delivered_ms",
        "deliveries",
        "flags",
        "group",
        "idle_ms",
        "now_ms",
    )

    def __init__(self, group: Group, name: bytes, idle_ms: int, flags: int) -> None:
        self.group = group
        self._name = name
        self._consumer: Consumer | None = None
        self.idle_ms = idle_ms
        self.flags = flags
        self.now_ms = self.delivered_ms = group.stream.rows.space.stamp_ms
        self.deliveries = -1

    def take(self, identity: StreamId, nack: Nack) -> bool:
        """Claim an entry, unless somebody was given it a shorter time ago than `idle_ms`."""
        if nack.is_stored and self.now_ms - nack.delivered_ms < self.idle_ms:
            return False
        nack.delivered_ms = self.delivered_ms
        if self.deliveries >= 0:
            nack.deliveries = self.deliveries
        elif not self.flags & ops.ClaimFlag.JUSTID:
            nack.deliveries += 1
        if self._consumer is None:
            self._consumer = self.group.asking(self._name)
        self.group.hand(identity, nack, self._consumer)
        return True

    def shown(self, identity: StreamId, packed: bytes) -> Result:
        """What the client gets of it."""
        if self.flags & ops.ClaimFlag.JUSTID:
            return stream_ids.text_of(identity)
        return shown(identity, packed)


# --- telling --------------------------------------------------------------------------------------


def xpending(space: Keyspace, op: Op) -> Result:
    """XPENDING without a range: how many, the first, the last, and how many each consumer has."""
    _, number, key, name = op
    group = _to_tell(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    if not group.pending:
        return [0, None, None, None]
    consumers: list[Result] = [
        [consumer.name, b"%d" % consumer.pending]
        for consumer in group.all_consumers()
        if consumer.pending
    ]
    first, last = (stream_ids.text_of(identity) for identity in group.ends_of_pending())
    return [group.pending, first, last, consumers]


def xpending_range(space: Keyspace, op: Op) -> Result:
    """XPENDING with a range: id, consumer, idle milliseconds and deliveries of each entry."""
    _, number, key, name, idle_ms, first, last, count, wanted = op
    group = _to_tell(space, number, key, name)
    if isinstance(group, CommandError):
        return group
    if wanted is None:
        pending = group.all_pending(first, last)
    else:
        consumer = group.consumer(wanted)
        if consumer is None:
            return []
        pending = group.pending_of(consumer, first, last)
    now_ms = space.stamp_ms
    found = (
        (identity, nack) for identity, nack in pending if now_ms - nack.delivered_ms >= idle_ms
    )
    return [
        [
            stream_ids.text_of(identity),
            group.by_number(nack.consumer).name,
            max(now_ms - nack.delivered_ms, 0),
            signed(nack.deliveries),
        ]
        for identity, nack in islice(found, count)
    ]


def _to_tell(space: Keyspace, number: int, key: bytes, name: bytes) -> Group | CommandError:
    stream = streams.find(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    group = None if stream is None else group_of(stream, name)
    return group or _nothing_there(key, name)


def xinfo_stream(space: Keyspace, op: Op) -> Result:
    """XINFO STREAM: names and values; `count` is None without FULL. For `fault` see `xclaim`."""
    _, number, key, count, fault = op
    stream = _to_describe(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if fault is not None:
        return CommandError(_text(fault))
    first, newest = stream.first(), stream.newest()
    nodes = -(-stream.length // NODE_ENTRIES)
    told: list[Result] = [
        *(b"length", stream.length),
        *(b"radix-tree-keys", nodes),
        *(b"radix-tree-nodes", nodes + 1),
        *(b"last-generated-id", stream_ids.text_of(stream.last)),
        *(b"max-deleted-entry-id", stream_ids.text_of(stream.max_deleted)),
        *(b"entries-added", signed(stream.added)),
        *(b"recorded-first-entry-id", stream_ids.text_of(ZERO if first is None else first[0])),
    ]
    if count is None:
        told += [b"groups", sum(1 for _ in all_groups(stream))]
        told += [b"first-entry", None if first is None else shown(*first)]
        told += [b"last-entry", None if newest is None else shown(*newest)]
        return told
    entries = islice(stream.between(ZERO, TOP), count or None)
    told += [b"entries", [shown(*entry) for entry in entries]]
    told += [b"groups", [_in_full(group, count or None) for group in all_groups(stream)]]
    return told


def _in_full(group: Group, count: int | None) -> Result:
    pending: list[Result] = [
        [
            stream_ids.text_of(identity),
            group.by_number(nack.consumer).name,
            nack.delivered_ms,
            signed(nack.deliveries),
        ]
        for identity, nack in islice(group.all_pending(ZERO), count)
    ]
    return [
        *(b"name", group.name),
        *(b"last-delivered-id", stream_ids.text_of(group.last)),
        *(b"entries-read", None if group.entries_read == UNKNOWN else group.entries_read),
        *(b"lag", group.lag()),
        *(b"pel-count", group.pending),
        *(b"pending", pending),
        *(b"consumers", [_consumer_in_full(group, each, count) for each in group.all_consumers()]),
    ]


def _consumer_in_full(group: Group, consumer: Consumer, count: int | None) -> Result:
    pending: list[Result] = [
        [stream_ids.text_of(identity), nack.delivered_ms, signed(nack.deliveries)]
        for identity, nack in islice(group.pending_of(consumer, ZERO), count)
    ]
    return [
        *(b"name", consumer.name),
        *(b"seen-time", consumer.seen_ms),
        *(b"pel-count", consumer.pending),
        *(b"pending", pending),
    ]


def xinfo_groups(space: Keyspace, op: Op) -> Result:
    """XINFO GROUPS: names and values of each group."""
    _, number, key = op
    stream = _to_describe(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    return [
        [
            *(b"name", group.name),
            *(b"consumers", group.consumers),
            *(b"pending", group.pending),
            *(b"last-delivered-id", stream_ids.text_of(group.last)),
            *(b"entries-read", None if group.entries_read == UNKNOWN else group.entries_read),
            *(b"lag", group.lag()),
        ]
        for group in all_groups(stream)
    ]


def xinfo_consumers(space: Keyspace, op: Op) -> Result:
    """XINFO CONSUMERS: names and values of each consumer of a group."""
    _, number, key, name = op
    stream = _to_describe(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    group = group_of(stream, name)
    if group is None:
        return _no_such_group(key, name)
    now_ms = space.stamp_ms
    return [
        [
            *(b"name", consumer.name),
            *(b"pending", consumer.pending),
            *(b"idle", max(now_ms - consumer.seen_ms, 0)),
        ]
        for consumer in group.all_consumers()
    ]


def _to_describe(space: Keyspace, number: int, key: bytes) -> Stream | CommandError:
    stream = streams.find(space, number, key)
    return CommandError(messages.NO_SUCH_KEY) if stream is None else stream


READS: Final[dict[int, Meaning]] = {
    ops.XPENDING: xpending,
    ops.XPENDING_RANGE: xpending_range,
    ops.XINFO_STREAM: xinfo_stream,
    ops.XINFO_GROUPS: xinfo_groups,
    ops.XINFO_CONSUMERS: xinfo_consumers,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.XGROUP_CREATE: xgroup_create,
    ops.XGROUP_SETID: xgroup_setid,
    ops.XGROUP_DESTROY: xgroup_destroy,
    ops.XGROUP_CREATECONSUMER: xgroup_createconsumer,
    ops.XGROUP_DELCONSUMER: xgroup_delconsumer,
    ops.XREADGROUP: xreadgroup,
    ops.XACK: xack,
    ops.XCLAIM: xclaim,
    ops.XAUTOCLAIM: xautoclaim,
}
