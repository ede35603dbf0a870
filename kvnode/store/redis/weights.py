"""How much work a read is, told before it is done.

A weight counts *rows*: the work of walking over a small row of a collection and rendering what is
in it, about two microseconds. It is told from the head of a record (how many elements, how many
bytes) and the op's own limits, at the cost of a look-up or two, and is mostly an upper bound: LPOS
may find its element at once. Where the head does not tell (a range of a stream, places within a
circle) rows are counted without their values, up to `HEAVY_ROWS_MIN` of them.

Ops that work on single keys and elements have no entry: they weigh nothing and are not looked at.
What an op reads by its own arguments weighs what they are (MGET of a thousand keys), before any
look-up.

A KiB that is read and sent counts as a row, too. The factors beside the rows are measured, as
ratios of one run (LMDB, small elements): a member of a sorted set takes twice as long as one of a
set, an entry of a stream five times, and so on.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from kvnode.limits import DRAWN_MEMBERS_MAX, DUMP_BYTES_MAX, HEAVY_ROWS_MIN, KIB, SCAN_ROWS_MAX
from kvnode.store import ops, set_algebra
from kvnode.store.collection import (
    PARTS_END,
    Collection,
    count_of,
    find,
    totals_of,
)
from kvnode.store.keyspace import COLLECTION_BITS, KIND_MASK, LIST, SET, STRING, ZSET
from kvnode.store.ops import HashPart, SetOperation, SortFlag, ZBy, ZOperation, ZRangeFlag
from kvnode.store.redis import geo, lists, sets, sorted_sets, streams
from kvnode.store.redis.consumer_groups import CONSUMERS, GROUPS, group_of
from kvnode.store.redis.drawing import WALK_ROWS_MAX, WINDOW_ROWS
from kvnode.store.redis.stream_ids import ID_BYTES
from kvnode.store.redis.streams import ENTRIES, Stream
from kvnode.store.sorted_set import SortedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op

Weigh: TypeAlias = "Callable[[Keyspace, Op], int]"
Range: TypeAlias = tuple[int, "int | bytes", "int | bytes", int, int, int]
"""How a range of a sorted set is meant, its ends, flags, offset and limit."""

# Rows that an element counts for, by what is done with it.
_SCORED: Final = 2
_PAIR: Final = 3
ENTRY: Final = 5
PLACE: Final = 6
MERGED: Final = 2
COMBINED: Final = 10
_SORTED: Final = 2
_LOOKED_UP: Final = 2
DRAWN: Final = WINDOW_ROWS // 2
_SERIALISED: Final = 5
PENDING: Final = 3
HYPERLOGLOG: Final = 150
"""A HyperLogLog."""

_COUNTED_PER_KIB: Final = 3
"""A KiB whose bits are counted, or that is serialised."""
_CUT_PER_ROW_BYTES: Final = 4 * KIB
"""Bytes of a string that are cut out and sent in the time of a row."""
COMPARED_PER_ROW: Final = 16
"""Elements of a list that are compared in the time of a row."""
_CELLS_PER_ROW: Final = 1024
"""Pairs of bytes that LCS compares in the time of a row."""


class Head(NamedTuple):
    """What the record of a key tells: rows and bytes of a collection, bytes of a string."""

    kind: int
    rows: int
    size: int

    def weight(self, taken: int, each: int = 1) -> int:
        """Of so many of its elements, if they are as large as the average."""
        if not self.rows:
            return 0
        taken = min(taken, self.rows)
        return taken * each + self.size * taken // self.rows // KIB


_NOTHING: Final = Head(0, 0, 0)


def least_reply_bytes(space: Keyspace, op: Op) -> int:
    """What the reply of an op certainly has; 0 if nobody can tell.

    Told of ops that answer a collection as a whole. Its rows have keys of their own, and those of
    long members hold them twice; a quarter of them is in the reply for certain.
    """
    code = op[0]
    is_whole = (
        code == ops.SMEMBERS
        or (code == ops.HGETALL and op[3] == HashPart.FIELDS | HashPart.VALUES)
        or (code == ops.LRANGE and op[3:] == [0, -1])
        or (code == ops.ZRANGE and op[3:6] == [ZBy.RANK, 0, -1])
    )
    return head_of(space, op[1], op[2]).size // 4 if is_whole else 0


SMALL_REPLY_BYTES_MAX: Final = 16 * KIB
"""A string of this size is answered even where there is no room for large replies."""

_NUMBERS: Final = frozenset(
    [
        *(ops.EXISTS, ops.TYPE, ops.STRLEN, ops.TTL, ops.EXPIRETIME, ops.DBSIZE, ops.VERSION),
        *(ops.GETBIT, ops.HLEN, ops.HSTRLEN, ops.HEXISTS, ops.LLEN, ops.SCARD, ops.SISMEMBER),
        *(ops.ZCARD, ops.ZSCORE, ops.ZRANK, ops.XLEN),
    ]
)
"""Reads that answer a number or a word."""


def has_small_reply(space: Keyspace, op: Op) -> bool:
    """Whether the reply of a read is small for certain, told by a look-up at most."""
    if op[0] == ops.GET:
        return string_bytes(space, op[1], op[2]) <= SMALL_REPLY_BYTES_MAX
    return op[0] in _NUMBERS


def head_of(space: Keyspace, number: int, key: bytes) -> Head:
    record = space.find(number, key)
    if record is None:
        return _NOTHING
    kind = record[0] & KIND_MASK
    if record[0] & COLLECTION_BITS:
        return Head(kind, count_of(record), totals_of(record)[1])
    return Head(kind, 0, len(record))


def string_bytes(space: Keyspace, number: int, key: bytes) -> int:
    """Of a string, without reading it."""
    found = space.part(number, key, 0, 0)
    return 0 if found is None or found.kind != STRING else found.size


# --- by arguments ---------------------------------------------------------------------------------


def _each_key(_space: Keyspace, op: Op) -> int:
    return len(op) - 2


def _each_member(_space: Keyspace, op: Op) -> int:
    return len(op) - 3


def _each_place(_space: Keyspace, op: Op) -> int:
    return (len(op) - 3) * PLACE


def _each_hyperloglog(_space: Keyspace, op: Op) -> int:
    return (len(op) - 2) * HYPERLOGLOG


def _each_step(_space: Keyspace, op: Op) -> int:
    return len(op[3]) // 16


# --- strings --------------------------------------------------------------------------------------


def _getrange(space: Keyspace, op: Op) -> int:
    _, number, key, first, last = op
    if first >= 0 and 0 <= last - first < _CUT_PER_ROW_BYTES:
        return 0
    return string_bytes(space, number, key) // _CUT_PER_ROW_BYTES


def _bits(space: Keyspace, op: Op) -> int:
    return string_bytes(space, op[1], op[2]) // KIB * _COUNTED_PER_KIB


def _lcs(space: Keyspace, op: Op) -> int:
    one, other = (string_bytes(space, op[1], key) for key in op[2:4])
    return (one + 1) * (other + 64) // _CELLS_PER_ROW


def _dump(space: Keyspace, op: Op) -> int:
    head = head_of(space, op[1], op[2])
    if head.size > DUMP_BYTES_MAX:
        return 0  # it is refused
    return head.rows * _SERIALISED + head.size // KIB * _COUNTED_PER_KIB


# --- keys -----------------------------------------------------------------------------------------


def _keys(space: Keyspace, op: Op) -> int:
    database = space.databases[op[1]]
    return database.keys + database.record_bytes // KIB


def _scan(space: Keyspace, op: Op) -> int:
    database, count = space.databases[op[1]], op[4]
    return Head(0, database.keys, database.record_bytes).weight(min(count, SCAN_ROWS_MAX))


# --- collections ----------------------------------------------------------------------------------


def _whole(space: Keyspace, op: Op) -> int:
    head = head_of(space, op[1], op[2])
    return head.weight(head.rows)


def _page(space: Keyspace, op: Op) -> int:
    """HSCAN and its kin; a bad count is an error that costs nothing."""
    count = op[5] or 0
    return head_of(space, op[1], op[2]).weight(min(count, SCAN_ROWS_MAX))


def _drawn(space: Keyspace, op: Op) -> int:
    """HRANDFIELD and its kin: some are looked for one by one, many by a walk over all."""
    count: int | None = op[4]
    if not count or -count > DRAWN_MEMBERS_MAX:
        return 0
    head = head_of(space, op[1], op[2])
    wanted = -count if count < 0 else min(count, head.rows)
    if not head.rows:
        return 0
    content = head.size * wanted // head.rows // KIB
    if head.rows <= WALK_ROWS_MAX or wanted * 3 > head.rows:
        return head.rows + wanted + content
    return wanted * DRAWN + content


def _lrange(space: Keyspace, op: Op) -> int:
    _, number, key, first, last = op
    head = head_of(space, number, key)
    _, taken = lists.clip(first, last, head.rows)
    return head.weight(taken)


def _lpos(space: Keyspace, op: Op) -> int:
    _, number, key, _, _, _, most = op
    head = head_of(space, number, key)
    taken = min(most or head.rows, head.rows)
    return head.weight(taken) // COMPARED_PER_ROW


def _combine(space: Keyspace, op: Op) -> int:
    """SUNION, SINTER, SDIFF."""
    _, number, operation, *keys = op
    rows = rows_of_algebra(space, number, keys, sets.OPERATIONS[operation])
    return rows * (1 if operation == SetOperation.UNION else len(keys)) * MERGED


def _sintercard(space: Keyspace, op: Op) -> int:
    _, number, _, *keys = op
    return rows_of_algebra(space, number, keys, set_algebra.INTERSECTION) * len(keys) * MERGED


def _zalgebra(space: Keyspace, op: Op) -> int:
    _, number, operation, keys, *_ = op
    rows = rows_of_algebra(space, number, keys, sorted_sets.OPERATIONS[operation])
    return rows * (1 if operation == ZOperation.UNION else len(keys)) * COMBINED


def _zintercard(space: Keyspace, op: Op) -> int:
    _, number, keys, *_ = op
    return rows_of_algebra(space, number, keys, set_algebra.INTERSECTION) * len(keys) * MERGED


def rows_of_algebra(
    space: Keyspace, number: int, keys: list[bytes], operation: set_algebra.Operation
) -> int:
    """Rows walked over; with very many keys their number, which is enough to be heavy."""
    if len(keys) >= HEAVY_ROWS_MIN:
        return len(keys)
    sources: list[Collection | None] = []
    for key in keys:
        record = space.find(number, key)
        kind = 0 if record is None else record[0] & KIND_MASK
        source = find(space, number, key, kind) if kind in (SET, ZSET) else None
        sources.append(source if isinstance(source, Collection) else None)
    return operation.rows(sources)


def _zrange(space: Keyspace, op: Op) -> int:
    _, number, key, by, low, high, flags, offset, limit = op
    each = _PAIR if flags & ZRangeFlag.WITHSCORES else _SCORED
    return _ranged(space, number, key, (by, low, high, flags, offset, limit), each)


def _ranged(space: Keyspace, number: int, key: bytes, how: Range, each: int) -> int:
    """Of a range of a sorted set; where that may be much, members are counted."""
    head = head_of(space, number, key)
    by, low, high, _, offset, limit = how
    if head.kind != ZSET:
        return 0
    if by == ZBy.RANK:
        return head.weight(sorted_sets.slice_of(head.rows, low, high)[1], each)
    taken = head.rows if limit < 0 else min(limit, head.rows)
    if head.weight(taken, each) >= HEAVY_ROWS_MIN and offset >= 0:
        found = find(space, number, key, ZSET)
        assert isinstance(found, Collection)
        members, most = SortedSet(found), HEAVY_ROWS_MIN // each + 1
        if offset < most:
            met = sorted_sets.members_met(members, by, low, high, most + offset)
            taken = min(max(met - offset, 0), taken)
        else:
            _, taken = sorted_sets.ranks(members, *how)
    return head.weight(taken, each)


def _geosearch(space: Keyspace, op: Op) -> int:
    _, number, key, checks, centre, shape, *_ = op
    head = head_of(space, number, key)
    if head.kind != ZSET or head.weight(head.rows, PLACE) < HEAVY_ROWS_MIN:
        return 0
    met = geo.rows_met(space, number, key, checks, centre, shape, HEAVY_ROWS_MIN // PLACE + 1)
    return head.weight(met, PLACE)


def _sort(space: Keyspace, op: Op) -> int:
    _, number, key, flags, start, limit, by, *gets = op
    return weight_of_sort(space, number, key, flags, start, limit, by, gets)


def weight_of_sort(
    space: Keyspace, number: int, key: bytes, flags: int, start: int, limit: int,
    by: bytes | None, gets: list[bytes],
) -> int:  # fmt: skip
    head = head_of(space, number, key)
    if head.kind not in (LIST, SET, ZSET):
        return 0
    answered = max(head.rows - max(start, 0), 0)
    if limit >= 0:
        answered = min(answered, limit)
    walked = answered + max(start, 0) if flags & SortFlag.NOSORT else head.rows
    each = _SORTED + (_LOOKED_UP if by is not None else 0)
    return head.weight(walked, each) + answered * len(gets) * _LOOKED_UP


# --- streams --------------------------------------------------------------------------------------


def _xrange(space: Keyspace, op: Op) -> int:
    _, number, key, first, last, count, _ = op
    return weight_of_entries(space, number, key, ENTRIES + first, ENTRIES + last + b"\x00", count)


def _xread(space: Keyspace, op: Op) -> int:
    _, number, count, *wanted = op
    weight = len(wanted)
    for key, since in zip(wanted[::2], wanted[1::2], strict=True):
        if weight >= HEAVY_ROWS_MIN:
            break
        if len(since) == ID_BYTES:  # it is no mark that stands for the end
            first = ENTRIES + since + b"\x00"
            weight += weight_of_entries(space, number, key, first, PARTS_END, count or -1)
    return weight


def weight_of_entries(
    space: Keyspace,
    number: int,
    key: bytes,
    first: bytes,
    end: bytes,
    count: int,
    enough: int = HEAVY_ROWS_MIN,
) -> int:
    """Of up to `count` (below 0: all) entries between two rows."""
    stream = streams.find(space, number, key)
    if not isinstance(stream, Stream):
        return 0
    rows = stream.rows
    head = Head(rows.kind, stream.length, rows.content_bytes)
    taken = stream.length if count < 0 else min(count, stream.length)
    if head.weight(taken, ENTRY) >= enough:
        taken = min(taken, rows_between(rows, first, end, enough // ENTRY + 1))
    return head.weight(taken, ENTRY)


def rows_between(rows: Collection, first: bytes, end: bytes, most: int) -> int:
    """How many rows there are, at most `most`; their values are not read."""
    keys = rows.engine.keys(rows.prefix + first, rows.prefix + end)
    return sum(1 for _ in islice(keys, most))


def _xpending(space: Keyspace, op: Op) -> int:
    stream = streams.find(space, op[1], op[2])
    group = group_of(stream, op[3]) if isinstance(stream, Stream) else None
    return 0 if group is None else group.consumers * PENDING


def _xpending_range(space: Keyspace, op: Op) -> int:
    _, number, key, name, idle_ms, _, _, count, _ = op
    stream = streams.find(space, number, key)
    group = group_of(stream, name) if isinstance(stream, Stream) else None
    if group is None:
        return 0
    return (group.pending if idle_ms else min(max(count, 0), group.pending)) * PENDING


def _xinfo_stream(space: Keyspace, op: Op) -> int:
    _, number, key, count, fault = op
    stream = streams.find(space, number, key)
    if not isinstance(stream, Stream) or fault is not None:
        return 0
    rows = stream.rows
    if count is None:
        return rows_between(rows, GROUPS, CONSUMERS, HEAVY_ROWS_MIN)
    groups = rows_between(rows, b"", ENTRIES, HEAVY_ROWS_MIN // PENDING + 1)
    head = Head(rows.kind, stream.length, rows.content_bytes)
    return groups * PENDING + head.weight(count or stream.length, ENTRY)


def _xinfo_groups(space: Keyspace, op: Op) -> int:
    stream = streams.find(space, op[1], op[2])
    if not isinstance(stream, Stream):
        return 0
    return rows_between(stream.rows, GROUPS, CONSUMERS, HEAVY_ROWS_MIN) * PENDING


WEIGHTS: Final[dict[int, Weigh]] = {
    ops.MGET: _each_key,
    ops.EXISTS: _each_key,
    ops.KEYS: _keys,
    ops.SCAN: _scan,
    ops.GETRANGE: _getrange,
    ops.LCS: _lcs,
    ops.HMGET: _each_member,
    ops.HGETALL: _whole,
    ops.HRANDFIELD: _drawn,
    ops.HSCAN: _page,
    ops.LRANGE: _lrange,
    ops.LPOS: _lpos,
    ops.SMEMBERS: _whole,
    ops.SMISMEMBER: _each_member,
    ops.SRANDMEMBER: _drawn,
    ops.SCOMBINE: _combine,
    ops.SINTERCARD: _sintercard,
    ops.SSCAN: _page,
    ops.ZMSCORE: _each_member,
    ops.ZRANGE: _zrange,
    ops.ZALGEBRA: _zalgebra,
    ops.ZINTERCARD: _zintercard,
    ops.ZRANDMEMBER: _drawn,
    ops.ZSCAN: _page,
    ops.XRANGE: _xrange,
    ops.XREAD: _xread,
    ops.XREAD_SINCE: _each_key,
    ops.XPENDING: _xpending,
    ops.XPENDING_RANGE: _xpending_range,
    ops.XINFO_STREAM: _xinfo_stream,
    ops.XINFO_GROUPS: _xinfo_groups,
    ops.XINFO_CONSUMERS: _xpending,
    ops.BITCOUNT: _bits,
    ops.BITPOS: _bits,
    ops.BITFIELD_RO: _each_step,
    ops.PFCOUNT: _each_hyperloglog,
    ops.GEOPOS: _each_place,
    ops.GEOHASH: _each_place,
    ops.GEOSEARCH: _geosearch,
    ops.SORT: _sort,
    ops.DUMP: _dump,
}
"""By op code, reads whose work grows with what they ask for or with what is stored."""
