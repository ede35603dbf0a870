"""Hashes: fields and their values, each in a row of its own.

Each function is the meaning of one op; its arguments are in `kvnode/store/redis/DESIGN.md`. A field
is a member of the collection, found by its keyed hash, so an op costs the fields that it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.collection import find, open_
from kvnode.store.draws import Draws
from kvnode.store.keyspace import HASH
from kvnode.store.notices import Notice
from kvnode.store.ops import HashPart
from kvnode.store.redis import drawing, long_double, messages, scanning
from kvnode.store.redis.strings import INT64_MAX, INT64_MIN, is_integer

if TYPE_CHECKING:
    from kvnode.store.collection import Collection
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result


# --- writes ---------------------------------------------------------------------------------------


def hset(space: Keyspace, op: Op) -> Result:
    """HSET and HMSET: how many of the fields are new."""
    number, key = op[1], op[2]
    fields = open_(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    added = 0
    for position in range(3, len(op), 2):
        if fields.set_member(op[position], op[position + 1]) is None:
            added += 1
    fields.count += added
    _save(space, fields, b"hset")
    return added


def hsetnx(space: Keyspace, op: Op) -> Result:
    """HSETNX: 1 if the field was not there."""
    _, number, key, field, value = op
    fields = open_(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    if fields.member(field) is not None:
        return 0
    fields.put_member(field, value, None)
    fields.count += 1
    _save(space, fields, b"hset")
    return 1


def hdel(space: Keyspace, op: Op) -> Result:
    """HDEL: how many of the fields were there; a hash without fields goes away."""
    number, key = op[1], op[2]
    fields = open_(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    removed = 0
    for field in op[3:]:
        removed += fields.take_member(field) is not None
    if removed:
        fields.count -= removed
        _save(space, fields, b"hdel")
        if not fields.count:
            space.notify(Notice.GENERIC, b"del", number, key)
    return removed


def hincrby(space: Keyspace, op: Op) -> Result:
    """HINCRBY: an absent field counts as 0."""
    _, number, key, field, delta = op
    fields = open_(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    old = fields.member(field)
    if old is not None and not is_integer(old):
        return CommandError(messages.HASH_NOT_AN_INTEGER)
    value: int = delta + (0 if old is None else int(old))
    if not INT64_MIN <= value <= INT64_MAX:
        return CommandError(messages.OVERFLOW)
    _replace(space, fields, field, old, b"%d" % value, b"hincrby")
    return value


def hincrbyfloat(space: Keyspace, op: Op) -> Result:
    """HINCRBYFLOAT: the sum as text, which is also what is stored."""
    _, number, key, field, increment = op
    delta = long_double.parse(increment)
    if delta is None:
        return CommandError(messages.NOT_A_FLOAT)
    fields = open_(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    old = fields.member(field)
    value = (0, 0) if old is None else long_double.parse(old)
    if value is None:
        return CommandError(messages.HASH_NOT_A_FLOAT)
    total = long_double.add(value, delta)
    if total is None:
        return CommandError(messages.NAN_OR_INFINITY)
    text = long_double.to_text(total)
    _replace(space, fields, field, old, text, b"hincrbyfloat")
    return text


def _replace(
    space: Keyspace, fields: Collection, field: bytes, old: bytes | None, value: bytes, event: bytes
) -> None:
    fields.put_member(field, value, old)
    fields.count += old is None
    _save(space, fields, event)


def _save(space: Keyspace, fields: Collection, event: bytes) -> None:
    space.advance()
    fields.save()
    space.notify(Notice.HASH, event, fields.number, fields.key)


# --- reads ----------------------------------------------------------------------------------------


def hget(space: Keyspace, op: Op) -> Result:
    """HGET."""
    _, number, key, field = op
    fields = find(space, number, key, HASH)
    if fields is None or isinstance(fields, CommandError):
        return fields
    return fields.member(field)


def hmget(space: Keyspace, op: Op) -> Result:
    """HMGET: nil for each field that is absent."""
    fields = find(space, op[1], op[2], HASH)
    if isinstance(fields, CommandError):
        return fields
    if fields is None:
        return [None] * (len(op) - 3)
    values: list[Result] = []
    room = space.reply_bytes_max
    for field in op[3:]:
        value = fields.member(field)
        values.append(value)
        if value is not None:
            room -= len(value)
            if room < 0:
                return CommandError(messages.reply_too_large(space.reply_bytes_max))
    return values


def hgetall(space: Keyspace, op: Op) -> Result:
    """HGETALL, HKEYS, HVALS: fields, values, or each field and its value in turn."""
    _, number, key, parts = op
    fields = find(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    listed: list[Result] = []
    if fields is not None:
        for _, field, value in fields.members():
            if parts & _FIELDS:
                listed.append(field)
            if parts & _VALUES:
                listed.append(value)
    return listed


def hlen(space: Keyspace, op: Op) -> Result:
    """HLEN."""
    fields = find(space, op[1], op[2], HASH)
    if isinstance(fields, CommandError):
        return fields
    return 0 if fields is None else fields.count


def hstrlen(space: Keyspace, op: Op) -> Result:
    """HSTRLEN: 0 for an absent field."""
    value = hget(space, op)
    return len(value) if isinstance(value, bytes) else value or 0


def hexists(space: Keyspace, op: Op) -> Result:
    """HEXISTS."""
    value = hget(space, op)
    return value if isinstance(value, CommandError) else int(value is not None)


def hrandfield(space: Keyspace, op: Op) -> Result:
    """HRANDFIELD: a field, or a list of fields or of `[field, value]`.

    The seed comes from the client's node, so that the ops of an EXEC answer alike everywhere.
    """
    _, number, key, seed, count, with_values = op
    fields = find(space, number, key, HASH)
    if isinstance(fields, CommandError):
        return fields
    draws = Draws(seed)
    if count is None:
        return None if fields is None else drawing.draw_one(fields, draws)
    if fields is None or not count:
        return []
    drawn = drawing.draw(fields, draws, count)
    if isinstance(drawn, CommandError):
        return drawn
    return [list(pair) for pair in drawn] if with_values else [field for field, _ in drawn]


def hscan(space: Keyspace, op: Op) -> Result:
    """HSCAN: the next cursor, and fields and values in turn."""
    page = scanning.page(space, op, HASH)
    if isinstance(page, CommandError):
        return page
    cursor, found = page
    return [cursor, [part for pair in found for part in pair]]


_FIELDS: Final = int(HashPart.FIELDS)
_VALUES: Final = int(HashPart.VALUES)

READS: Final[dict[int, Meaning]] = {
    ops.HGET: hget,
    ops.HMGET: hmget,
    ops.HGETALL: hgetall,
    ops.HLEN: hlen,
    ops.HSTRLEN: hstrlen,
    ops.HEXISTS: hexists,
    ops.HRANDFIELD: hrandfield,
    ops.HSCAN: hscan,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.HSET: hset,
    ops.HSETNX: hsetnx,
    ops.HDEL: hdel,
    ops.HINCRBY: hincrby,
    ops.HINCRBYFLOAT: hincrbyfloat,
}
