"""Grammar of the hash commands, and the shapes of their replies."""

from __future__ import annotations

import random
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    INT64_MAX,
    SYNTAX_ERROR,
    check_key,
    integer,
    wrong_arity,
)
from kvnode.resp.commands.scanning import member_scan
from kvnode.resp.encoder import OK_BYTES, Renders, array, encode2, encode3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import HashPart
from kvnode.store.redis import long_double
from kvnode.store.redis.messages import NOT_A_FLOAT, OUT_OF_RANGE, VALUE_NAN_OR_INFINITY
from kvnode.store.reply import Result

_FIELDS, _VALUES = (int(part) for part in HashPart)

_NOT_A_COUNT: Final = f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"


def parse_hset(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) % 2:
        raise wrong_arity("hset")
    return [ops.HSET, db, check_key(arguments[1]), *arguments[2:]]


def parse_hmset(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) % 2:
        raise wrong_arity("hmset")
    return [ops.HSET, db, check_key(arguments[1]), *arguments[2:]]


def _render_hmset(result: Result) -> bytes:
    return encode2(result) if isinstance(result, CommandError) else OK_BYTES


HMSET: Final[Renders] = (_render_hmset, _render_hmset)
"""HMSET says OK where HSET counts."""


def parse_hsetnx(db: int, arguments: list[bytes]) -> Op:
    _, key, field, value = arguments
    return [ops.HSETNX, db, check_key(key), field, value]


def parse_hdel(db: int, arguments: list[bytes]) -> Op:
    return [ops.HDEL, db, check_key(arguments[1]), *arguments[2:]]


def parse_hincrby(db: int, arguments: list[bytes]) -> Op:
    _, key, field, delta = arguments
    return [ops.HINCRBY, db, check_key(key), field, integer(delta)]


def parse_hincrbyfloat(db: int, arguments: list[bytes]) -> Op:
    _, key, field, increment = arguments
    delta = long_double.parse(increment)
    if delta is None:
        raise CommandError(NOT_A_FLOAT)
    if long_double.is_infinite(delta):
        raise CommandError(VALUE_NAN_OR_INFINITY)
    return [ops.HINCRBYFLOAT, db, check_key(key), field, increment]


def parse_hget(db: int, arguments: list[bytes]) -> Op:
    return [ops.HGET, db, check_key(arguments[1]), arguments[2]]


def parse_hmget(db: int, arguments: list[bytes]) -> Op:
    return [ops.HMGET, db, check_key(arguments[1]), *arguments[2:]]


def parse_hgetall(db: int, arguments: list[bytes]) -> Op:
    return [ops.HGETALL, db, check_key(arguments[1]), _FIELDS | _VALUES]


def parse_hkeys(db: int, arguments: list[bytes]) -> Op:
    return [ops.HGETALL, db, check_key(arguments[1]), _FIELDS]


def parse_hvals(db: int, arguments: list[bytes]) -> Op:
    return [ops.HGETALL, db, check_key(arguments[1]), _VALUES]


def parse_hlen(db: int, arguments: list[bytes]) -> Op:
    return [ops.HLEN, db, check_key(arguments[1])]


def parse_hstrlen(db: int, arguments: list[bytes]) -> Op:
    return [ops.HSTRLEN, db, check_key(arguments[1]), arguments[2]]


def parse_hexists(db: int, arguments: list[bytes]) -> Op:
    return [ops.HEXISTS, db, check_key(arguments[1]), arguments[2]]


def parse_hrandfield(db: int, arguments: list[bytes]) -> Op:
    """Draws a seed: replicas get it with the op and answer alike."""
    count: int | None = None
    with_values = 0
    if len(arguments) > 2:
        count = integer(arguments[2])
        if count < -INT64_MAX:
            raise CommandError(_NOT_A_COUNT)
        if len(arguments) > 4 or (len(arguments) == 4 and arguments[3].upper() != b"WITHVALUES"):
            raise CommandError(SYNTAX_ERROR)
        with_values = int(len(arguments) == 4)
        if with_values and abs(count) > INT64_MAX // 2:
            raise CommandError(OUT_OF_RANGE)
    seed = random.getrandbits(64)
    return [ops.HRANDFIELD, db, check_key(arguments[1]), seed, count, with_values]


def _flat(result: Result) -> bytes:
    """Pairs one behind the other, as RESP2 knows them."""
    if not isinstance(result, list):
        return encode2(result)
    return array(
        [encode2(part) for item in result for part in (item if isinstance(item, list) else (item,))]
    )


HRANDFIELD: Final[Renders] = (_flat, encode3)

parse_hscan: Final = member_scan(ops.HSCAN)
