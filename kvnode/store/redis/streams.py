"""Streams: entries in the order of their ids, one row each (`DESIGN.md`, "Streams").

The record keeps what outlives the entries: the last id, how many were ever added, the largest id
that XDEL deleted, and the number for the next consumer group. An op costs what it touches: an XADD
writes one row and the record, whatever the length of the stream.

`~` in a trim: Redis drops whole nodes of its tree, by default of a hundred entries. Here a stream
counts as cut into such nodes from its first entry on, the last of them perhaps not full, and `~`
removes those that Redis could: so never an entry more than `=` would, and less than a hundred fewer
unless LIMIT ends it.
"""

from __future__ import annotations

from itertools import chain, islice
from struct import Struct
from typing import TYPE_CHECKING, Final

import msgpack

from kvnode.errors import CommandError
from kvnode.limits import MIB
from kvnode.store import collection as collections
from kvnode.store import ops
from kvnode.store.keyspace import STREAM
from kvnode.store.notices import Notice
from kvnode.store.redis import messages, stream_ids
from kvnode.store.redis.stream_ids import INVALID, NEWEST, TOP, U64_MAX, UNSEEN, ZERO
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvnode.store.collection import Collection
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.redis.stream_ids import StreamId
    from kvnode.store.reply import Result

ENTRIES: Final = b"\x09"
"""The last part: what comes at the end of a stream comes at the end of its rows too, and pages that
are only ever filled at their ends are filled whole."""
_ENTRIES_END: Final = b"\x0a"

NODE_ENTRIES: Final = 100
"""Entries of a node of Redis' tree, as far as `~` and XINFO tell of nodes."""

LEFT_ROWS_MIN: Final = 20_000
MOVED_ROWS_MAX: Final = 10_000
"""A trim that removes more entries than the one, and leaves no more rows than the other, moves what
stays: up to 0.1 s of work in the place of seconds."""

_PAGE_ROWS_MAX: Final = 1_000
_PAGE_BYTES_MAX: Final = MIB
"""What is read before some of it is changed."""

_EXTRA = Struct(">16sQ16sI")

_pack = msgpack.Packer(use_bin_type=True).pack
_unpack = msgpack.unpackb


class Stream:
    """A stream that is open for one op.

    Attributes:
        rows: the collection that holds it.
        last: the largest id that was ever given.
        added: entries that were ever added.
        max_deleted: the largest id that XDEL deleted; `ZERO` for none.
        next_group: number for the next consumer group.
    """

    __slots__ = ("added", "last", "max_deleted", "next_group", "rows")

    def __init__(self, rows: Collection) -> None:
        self.rows = rows
        if rows.is_new:
            self.last, self.added, self.max_deleted, self.next_group = ZERO, 0, ZERO, 0
        else:
            fields = _EXTRA.unpack(rows.extra)
            self.last, self.added, self.max_deleted, self.next_group = fields

    @property
    def length(self) -> int:
        """Entries that it has."""
        return self.rows.count

    def save(self) -> None:
        """Write the record as of this revision."""
        self.rows.extra = _EXTRA.pack(self.last, self.added, self.max_deleted, self.next_group)
        self.rows.save()

    def save_unseen(self) -> None:
        """Write the record if it changed, but not as a write of the key: WATCH looks away."""
        self.rows.extra = _EXTRA.pack(self.last, self.added, self.max_deleted, self.next_group)
        self.rows.save_unseen()

    def entry(self, identity: StreamId) -> bytes | None:
        """The packed fields of an entry."""
        return self.rows.get(ENTRIES + identity)

    def between(self, first: StreamId, last: StreamId) -> Iterator[tuple[StreamId, bytes]]:
        """(id, packed fields) of the entries from `first` to `last`, both included."""
        for part, packed in self.rows.rows(ENTRIES + first, _behind(last)):
            yield part[1:], packed

    def back_between(self, first: StreamId, last: StreamId) -> Iterator[tuple[StreamId, bytes]]:
        """The same, descending."""
        for part, packed in self.rows.rows_back(ENTRIES + first, _behind(last)):
            yield part[1:], packed

    def newer(self, identity: StreamId, count: int) -> list[tuple[StreamId, bytes]]:
        """The entries above an id, at most `count` of them unless that is 0."""
        start = stream_ids.after(identity)
        if start is None:
            return []
        return list(islice(self.between(start, TOP), count or None))

    def first(self) -> tuple[StreamId, bytes] | None:
        """The entry with the smallest id."""
        return next(self.between(ZERO, TOP), None)

    def newest(self) -> tuple[StreamId, bytes] | None:
        """The entry with the largest id."""
        return next(self.back_between(ZERO, TOP), None)

    def append(self, identity: StreamId, fields: list[bytes]) -> None:
        """Add an entry behind all others."""
        self.rows.put(ENTRIES + identity, _pack(fields), None)
        self.rows.count += 1
        self.added += 1
        self.last = identity

    def delete(self, ids: Iterable[StreamId]) -> int:
        """Delete the entries among `ids`; returns how many there were."""
        deleted = 0
        for identity in ids:
            packed = self.entry(identity)
            if packed is not None:
                self.rows.delete(ENTRIES + identity, packed)
                self.max_deleted = max(self.max_deleted, identity)
                deleted += 1
        self.rows.count -= deleted
        return deleted

    def trim(self, bound: int | StreamId, in_nodes: int, limit: int) -> int:
        """Remove entries from the front; returns how many.

        Args:
            bound: the length to keep, or the smallest id to keep.
            in_nodes: 1 for whole nodes only, as `~` asks.
            limit: the most entries that go; 0 for any number.
        """
        if isinstance(bound, int):
            end, surplus = _ENTRIES_END, max(self.length - bound, 0)
        else:
            end, surplus = ENTRIES + bound, self.length
        most = min(surplus, limit) if limit else surplus
        if isinstance(bound, bytes):
            most = _count(self.rows, ENTRIES, end, most) if in_nodes else self._before(end)
        if in_nodes and most < self.length:  # the last node goes only if it is the last to go
            most -= most % NODE_ENTRIES
        if LEFT_ROWS_MIN < most <= self.length and self._leave(most):
            return most
        removed = 0
        for part, packed in paged(self.rows, ENTRIES, end, most):
            self.rows.delete(part, packed)
            removed += 1
        self.rows.count -= removed
        return removed

    def _before(self, end: bytes) -> int:
        """How many entries lie before a row; `U64_MAX` if many do, and many behind it."""
        goes = _count(self.rows, ENTRIES, end, LEFT_ROWS_MIN + 1)
        if goes <= LEFT_ROWS_MIN:
            return goes
        stays = _count(self.rows, end, _ENTRIES_END, MOVED_ROWS_MAX + 1)
        return self.length - stays if stays <= MOVED_ROWS_MAX else U64_MAX

    def _leave(self, removed: int) -> bool:
        """Trim by moving what stays to another collection, if that is little; else do nothing.

        Entries that go are read one by one, for their hashes: a million would stop the node for
        seconds. A collection that is left goes with the hash that its record has.
        """
        rows = self.rows
        others = _count(rows, b"", ENTRIES, MOVED_ROWS_MAX + 1)
        kept = self.length - removed
        if kept + others > MOVED_ROWS_MAX:
            return False
        first = _ENTRIES_END
        if kept:
            first = ENTRIES + next(islice(self.back_between(ZERO, TOP), kept - 1, None))[0]
        moved = collections.create(rows.space, rows.number, rows.key, STREAM, rows.deadline_ms)
        for part, value in chain(paged(rows, b"", ENTRIES), paged(rows, first, _ENTRIES_END)):
            if part[0] in collections.CONTENT[STREAM]:
                moved.put(part, value, None)
            else:
                moved.put_derived(part, value)
        moved.count = kept
        self.rows = moved
        return True

    def has_deleted_from(self, identity: StreamId) -> bool:
        """Whether XDEL may have made a hole from this id on: at or behind the first entry."""
        if not self.length or self.max_deleted == ZERO or identity > self.max_deleted:
            return False
        found = self.first()
        return found is not None and found[0] <= self.max_deleted

    def read_up_to(self, identity: StreamId) -> int | None:
        """How many entries were ever added up to an id; None where nobody can tell.

        It can be told at the ends of the stream, if nothing was deleted between them.
        """
        if not self.added:
            return 0
        if not self.length and identity <= self.last:
            return self.added
        if identity >= self.last:
            return self.added if identity == self.last else None
        found = self.first()
        first = ZERO if found is None else found[0]
        if identity > first or ZERO != self.max_deleted >= first:
            return None
        return self.added - self.length + (identity == first)


def _behind(last: StreamId) -> bytes:
    """The end of a range of rows that includes an id."""
    return ENTRIES + last + b"\x00"


def paged(
    rows: Collection, first: bytes, end: bytes, limit: int = U64_MAX
) -> Iterator[tuple[bytes, bytes]]:
    """(part, value) of up to `limit` rows, which may be changed or deleted meanwhile."""
    while page := _page(rows, first, end, min(limit, _PAGE_ROWS_MAX)):
        yield from page
        first = page[-1][0] + b"\x00"
        limit -= len(page)


def _page(rows: Collection, first: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """Up to `limit` rows, fewer if they are large."""
    page: list[tuple[bytes, bytes]] = []
    size = 0
    for row in islice(rows.rows(first, end), limit):
        page.append(row)
        size += len(row[1])
        if size > _PAGE_BYTES_MAX:
            break
    return page


def _count(rows: Collection, first: bytes, end: bytes, limit: int) -> int:
    """How many rows there are, at most `limit`; their values are not read."""
    keys = rows.engine.keys(rows.prefix + first, rows.prefix + end)
    return sum(1 for _ in islice(keys, limit))


def signed(number: int) -> int:
    """A counter as Redis shows it: as a signed 64-bit number, whatever it was kept as."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def find(space: Keyspace, number: int, key: bytes) -> Stream | CommandError | None:
    """The stream of a key, to read it; None if it is absent, an error for another kind."""
    found = collections.find(space, number, key, STREAM)
    return Stream(found) if isinstance(found, collections.Collection) else found


def open_(space: Keyspace, number: int, key: bytes) -> Stream | CommandError:
    """The stream of a key, to change it; an empty one if it is absent."""
    opened = collections.open_(space, number, key, STREAM)
    return opened if isinstance(opened, CommandError) else Stream(opened)


def shown(identity: StreamId, packed: bytes) -> Result:
    """An entry as clients see it: its id, and fields and values."""
    return [stream_ids.text_of(identity), _unpack(packed)]


# --- writes ---------------------------------------------------------------------------------------


def xadd(space: Keyspace, op: Op) -> Result:
    """XADD: the new id.

    The wanted one comes as no bytes for `*`, as eight for `ms-*`, or whole.
    """
    _, number, key, wanted, only_if_there, trim, *fields = op
    stream = open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new and only_if_there:
        return None
    if stream.last == TOP:
        return CommandError(messages.STREAM_IS_FULL)
    identity = _next_id(stream.last, wanted, space.stamp_ms)
    if identity is None:
        return CommandError(messages.ID_TOO_SMALL)
    space.advance()
    stream.append(identity, fields)
    space.notify(Notice.STREAM, b"xadd", number, key)
    if trim and stream.trim(*trim):
        space.notify(Notice.STREAM, b"xtrim", number, key)
    stream.save()
    return stream_ids.text_of(identity)


def _next_id(last: StreamId, wanted: bytes, now_ms: int) -> StreamId | None:
    """The id of a new entry, None if it would not be above the last one."""
    if len(wanted) == stream_ids.ID_BYTES:
        return wanted if wanted > last else None
    last_ms, sequence = stream_ids.numbers_of(last)
    if not wanted:
        return stream_ids.make(now_ms, 0) if now_ms > last_ms else stream_ids.after(last)
    ms = int.from_bytes(wanted, "big")
    if ms == last_ms and sequence < U64_MAX:
        return stream_ids.make(ms, sequence + 1)
    return stream_ids.make(ms, 0) if ms > last_ms else None


def xdel(space: Keyspace, op: Op) -> Result:
    """XDEL: how many of the entries were there. The stream stays, even if it is empty now."""
    _, number, key, *ids = op
    stream = open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new:
        return 0
    if INVALID in ids:
        return CommandError(messages.INVALID_ID)
    deleted = stream.delete(ids)
    if deleted:
        space.advance()
        stream.save()
        space.notify(Notice.STREAM, b"xdel", number, key)
    return deleted


def xtrim(space: Keyspace, op: Op) -> Result:
    """XTRIM: how many entries went."""
    _, number, key, trim = op
    stream = open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new:
        return 0
    removed = stream.trim(*trim)
    if removed:
        space.advance()
        stream.save()
        space.notify(Notice.STREAM, b"xtrim", number, key)
    return removed


def xsetid(space: Keyspace, op: Op) -> Result:
    """XSETID; `added` is −1 and `max_deleted` is zero where they shall stay."""
    _, number, key, last, added, max_deleted = op
    stream = open_(space, number, key)
    if isinstance(stream, CommandError):
        return stream
    if stream.rows.is_new:
        return CommandError(messages.NO_SUCH_KEY)
    newest = stream.newest()
    if newest is not None:
        if last < newest[0]:
            return CommandError(messages.ID_BELOW_NEWEST)
        if added != -1 and added < stream.length:
            return CommandError(messages.ADDED_BELOW_LENGTH)
    stream.last = last
    if added != -1:
        stream.added = added
    if max_deleted != ZERO:
        stream.max_deleted = max_deleted
    stream.save_unseen()
    space.notify(Notice.STREAM, b"xsetid", number, key)
    return OK


# --- reads ----------------------------------------------------------------------------------------


def xlen(space: Keyspace, op: Op) -> Result:
    """XLEN."""
    stream = find(space, op[1], op[2])
    return stream.length if isinstance(stream, Stream) else stream or 0


def xrange_(space: Keyspace, op: Op) -> Result:
    """XRANGE and XREVRANGE: entries; `count` is −1 for all, and 0 makes the answer null."""
    _, number, key, first, last, count, descending = op
    stream = find(space, number, key)
    if not isinstance(stream, Stream):
        return [] if stream is None else stream
    if not count:
        return None
    entries = stream.back_between(first, last) if descending else stream.between(first, last)
    return [shown(*entry) for entry in islice(entries, None if count < 0 else count)]


def xread(space: Keyspace, op: Op) -> Result:
    """XREAD: key, entries, … of the streams that have newer ones; None if none has."""
    _, number, count, *wanted = op
    asked: list[tuple[bytes, Stream, StreamId]] = []
    for key, mark in zip(wanted[::2], wanted[1::2], strict=True):
        stream = find(space, number, key)
        if isinstance(stream, CommandError):
            return stream
        since = _since(stream, mark)
        if isinstance(since, CommandError):
            return since
        if stream is not None:
            asked.append((key, stream, since))
    answer: list[Result] = []
    for key, stream, since in asked:
        entries = stream.newer(since, count)
        if entries:
            answer += [key, [shown(*entry) for entry in entries]]
    return answer or None


def xread_since(space: Keyspace, op: Op) -> Result:
    """What an XREAD that is to wait asks first: the ids of its arguments, `$` resolved."""
    _, number, *wanted = op
    ids: list[Result] = []
    for key, mark in zip(wanted[::2], wanted[1::2], strict=True):
        stream = find(space, number, key)
        if isinstance(stream, CommandError):
            return stream
        since = _since(stream, mark)
        if isinstance(since, CommandError):
            return since
        ids.append(since)
    return ids


def _since(stream: Stream | None, mark: bytes) -> StreamId | CommandError:
    if mark == NEWEST:
        return ZERO if stream is None else stream.last
    if mark == UNSEEN:
        return CommandError(messages.UNSEEN_WITHOUT_GROUP)
    return CommandError(messages.INVALID_ID) if mark == INVALID else mark


READS: Final[dict[int, Meaning]] = {
    ops.XLEN: xlen,
    ops.XRANGE: xrange_,
    ops.XREAD: xread,
    ops.XREAD_SINCE: xread_since,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.XADD: xadd,
    ops.XDEL: xdel,
    ops.XTRIM: xtrim,
    ops.XSETID: xsetid,
}
