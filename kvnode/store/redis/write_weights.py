"""How much work a write is that does more than its own size tells: in rows, as for reads.

A write is applied by every node, in one go. Of most the work is in proportion to the command
itself: its client pays for each member of an SADD with the bytes that tell it. Those here cost what
is stored: an LREM looks at the whole list, an EXEC may hold reads of everything. The node that
takes them lets one at a time into the log (`kvnode.node.heavy`).

Commands that store large results go on in steps (`kvnode.store.bulk`), unless they are inside EXEC,
where all happens at once. Steps of many of them together would leave nobody else any room, so they
have a weight, too; but whoever sends one does nothing else meanwhile, so they may wait for theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.limits import HEAVY_WRITE_ROWS_MIN, KIB
from kvnode.store import ops
from kvnode.store.collection import Collection, find
from kvnode.store.keyspace import ZSET
from kvnode.store.redis import geo, lists, sets, sorted_sets, streams
from kvnode.store.redis.consumer_groups import Group, group_of
from kvnode.store.redis.stream_ids import TOP
from kvnode.store.redis.streams import ENTRIES, MOVED_ROWS_MAX, Stream
from kvnode.store.redis.weights import (
    COMBINED,
    COMPARED_PER_ROW,
    DRAWN,
    ENTRY,
    HYPERLOGLOG,
    PENDING,
    PLACE,
    WEIGHTS,
    Weigh,
    head_of,
    rows_between,
    rows_of_algebra,
    string_bytes,
    weight_of_entries,
    weight_of_sort,
)
from kvnode.store.sorted_set import SortedSet

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op

_REMOVED: Final = 5
"""An element that is taken away with what tells where it lies."""
_STORED: Final = 5
_LOOKED_AT: Final = 4
"""An op in an EXEC that must be weighed; so few that weigh little end the weighing, too."""
_RESTORED_BYTES: Final = 128
"""Of a payload, as long as an element mostly is at the most."""


# --- lists ----------------------------------------------------------------------------------------


def _compared(space: Keyspace, op: Op) -> int:
    """LREM, LINSERT: every element, at the worst."""
    head = head_of(space, op[1], op[2])
    return head.weight(head.rows) // COMPARED_PER_ROW


def _ltrim(space: Keyspace, op: Op) -> int:
    _, number, key, first, last = op
    head = head_of(space, number, key)
    _, kept = lists.clip(first, last, head.rows)
    return head.weight(min(2 * kept, head.rows - kept)) // 4


def _pop(space: Keyspace, op: Op) -> int:
    """LIST_POP and ZPOP."""
    _, number, key, _, count = op
    return _popped(space, number, [key], count or 0)


def _pop_of_many(space: Keyspace, op: Op) -> int:
    """LMPOP and ZMPOP."""
    _, number, _, count, *keys = op
    return _popped(space, number, keys, count)


def _popped(space: Keyspace, number: int, keys: list[bytes], count: int) -> int:
    """The first of the keys that is there gives all."""
    if count * _REMOVED < HEAVY_WRITE_ROWS_MIN:
        return 0
    for key in keys[:HEAVY_WRITE_ROWS_MIN]:
        head = head_of(space, number, key)
        if head.rows:
            return head.weight(min(count, head.rows), _REMOVED if head.kind == ZSET else 1)
    return 0


# --- sets and sorted sets -------------------------------------------------------------------------


def _spop(space: Keyspace, op: Op) -> int:
    _, number, key, count = op
    if not count:
        return 0
    head = head_of(space, number, key)
    wanted = min(count, head.rows)
    if wanted * 3 > head.rows:
        return head.rows + head.weight(wanted, _REMOVED)
    return head.weight(wanted, DRAWN + _REMOVED)


def _zremrange(space: Keyspace, op: Op) -> int:
    _, number, key, by, low, high = op
    head = head_of(space, number, key)
    if head.kind != ZSET or head.rows * _REMOVED < HEAVY_WRITE_ROWS_MIN:
        return 0
    found = find(space, number, key, ZSET)
    assert isinstance(found, Collection)
    _, gone = sorted_sets.ranks(SortedSet(found), by, low, high, 0, 0, -1)
    return head.weight(min(gone, head.rows - gone), 2 * _REMOVED)


# --- streams --------------------------------------------------------------------------------------


def _group(space: Keyspace, number: int, key: bytes, name: bytes) -> Group | None:
    stream = streams.find(space, number, key)
    return group_of(stream, name) if isinstance(stream, Stream) else None


def _xtrim(space: Keyspace, op: Op) -> int:
    _, number, key, (bound, _, limit) = op
    stream = streams.find(space, number, key)
    if not isinstance(stream, Stream):
        return 0
    if isinstance(bound, int):
        gone = max(stream.length - bound, 0)
    else:
        most = HEAVY_WRITE_ROWS_MIN // PENDING + 1
        gone = rows_between(stream.rows, ENTRIES, ENTRIES + bound, most)
    kept = stream.length - gone
    moved = 2 * kept * PENDING if kept <= MOVED_ROWS_MAX else gone * PENDING
    return min(moved, (min(gone, limit) if limit else gone) * PENDING)


def _xgroup_destroy(space: Keyspace, op: Op) -> int:
    group = _group(space, op[1], op[2], op[3])
    return 0 if group is None else (group.pending + group.consumers) * PENDING


def _xgroup_delconsumer(space: Keyspace, op: Op) -> int:
    group = _group(space, op[1], op[2], op[3])
    consumer = None if group is None else group.consumer(op[4])
    return 0 if consumer is None else consumer.pending * PENDING


def _xreadgroup(space: Keyspace, op: Op) -> int:
    _, number, name, _, count, _, *wanted = op
    weight = 0
    for key, since in zip(wanted[::2], wanted[1::2], strict=True):
        group = _group(space, number, key, name)
        weight += _LOOKED_AT
        if group is not None and since == TOP:
            first = ENTRIES + group.last + b"\x00"
            end, enough = ENTRIES + TOP + b"\x00", HEAVY_WRITE_ROWS_MIN
            weight += weight_of_entries(space, number, key, first, end, count or -1, enough)
        elif group is not None:
            weight += min(count or group.pending, group.pending) * ENTRY
        if weight >= HEAVY_WRITE_ROWS_MIN:
            break
    return weight


def _xautoclaim(space: Keyspace, op: Op) -> int:
    _, number, key, name, _, _, _, count, _ = op
    if count * ENTRY < HEAVY_WRITE_ROWS_MIN:
        return 0
    group = _group(space, number, key, name)
    return 0 if group is None else min(count, group.pending) * ENTRY


# --- strings, whole values and everything at once -------------------------------------------------


def _bitop(space: Keyspace, op: Op) -> int:
    keys = op[4:]
    if len(keys) >= HEAVY_WRITE_ROWS_MIN:
        return len(keys)
    return sum([1 + string_bytes(space, op[1], key) // KIB // 2 for key in keys])


def _pfmerge(_space: Keyspace, op: Op) -> int:
    return (len(op) - 2) * HYPERLOGLOG


def _restore(_space: Keyspace, op: Op) -> int:
    payload = op[4]
    if payload[:1] == b"\x00":  # a string
        return len(payload) // KIB
    return len(payload) // _RESTORED_BYTES * _STORED


def _sort_store(space: Keyspace, op: Op) -> int:
    _, number, _, key, flags, start, limit, by, *gets = op
    weight = weight_of_sort(space, number, key, flags, start, limit, by, gets)
    return weight + head_of(space, number, key).rows


def _geosearchstore(space: Keyspace, op: Op) -> int:
    _, number, _, key, checks, centre, shape, *_ = op
    most = HEAVY_WRITE_ROWS_MIN // PLACE + 1
    return geo.rows_met(space, number, key, checks, centre, shape, most) * PLACE


def _copied(space: Keyspace, op: Op) -> int:
    head = head_of(space, op[1], op[2])
    return head.weight(head.rows, _STORED)


def _combined(space: Keyspace, op: Op) -> int:
    _, number, operation, _, *keys = op
    return rows_of_algebra(space, number, keys, sets.OPERATIONS[operation]) * _STORED


def _zcombined(space: Keyspace, op: Op) -> int:
    _, number, operation, _, keys, *_ = op
    rows = rows_of_algebra(space, number, keys, sorted_sets.OPERATIONS[operation])
    return rows * (COMBINED + _STORED)


def _zrangestore(space: Keyspace, op: Op) -> int:
    head = head_of(space, op[1], op[3])
    return head.weight(head.rows, 2 * _STORED)


def _exec(space: Keyspace, op: Op) -> int:
    """EXEC: all that is in it, as far as it is more than it says."""
    weight = 0
    for inner in op[3]:
        weigh = _INSIDE_EXEC.get(inner[0])
        if weigh is not None:
            weight += _LOOKED_AT + weigh(space, inner)
            if weight >= HEAVY_WRITE_ROWS_MIN:
                break
    return weight


_BY_THEMSELVES: Final[dict[int, Weigh]] = {
    ops.LREM: _compared,
    ops.LINSERT: _compared,
    ops.LTRIM: _ltrim,
    ops.LIST_POP: _pop,
    ops.LMPOP: _pop_of_many,
    ops.SPOP: _spop,
    ops.ZPOP: _pop,
    ops.ZMPOP: _pop_of_many,
    ops.ZREMRANGE: _zremrange,
    ops.XTRIM: _xtrim,
    ops.XGROUP_DESTROY: _xgroup_destroy,
    ops.XGROUP_DELCONSUMER: _xgroup_delconsumer,
    ops.XREADGROUP: _xreadgroup,
    ops.XAUTOCLAIM: _xautoclaim,
    ops.BITOP: _bitop,
    ops.PFMERGE: _pfmerge,
    ops.RESTORE: _restore,
}

STORES: Final[dict[int, Weigh]] = {
    ops.SORTSTORE: _sort_store,
    ops.GEOSEARCHSTORE: _geosearchstore,
    ops.COPY: _copied,
    ops.SCOMBINESTORE: _combined,
    ops.ZALGEBRASTORE: _zcombined,
    ops.ZRANGESTORE: _zrangestore,
}
"""Those that store what they find; no data command of their connection begins before they end."""

_INSIDE_EXEC: Final[dict[int, Weigh]] = {**WEIGHTS, **_BY_THEMSELVES, **STORES}

WRITE_WEIGHTS: Final[dict[int, Weigh]] = {
    **_BY_THEMSELVES,
    **STORES,
    ops.EXEC: _exec,
    ops.EXEC_WATCHED: _exec,
}
"""By op code, writes whose work may be more than their own size tells."""
