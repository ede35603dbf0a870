"""Grammar of the string commands: arguments become operations, nothing else happens here."""

from __future__ import annotations

from typing import Final

from kvnode.errors import CommandError
from kvnode.limits import KEY_BYTES_MAX
from kvnode.resp.commands.grammar import (
    DEADLINE_MS_MAX,
    INT64_MIN,
    KEY_TOO_LONG,
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
    wrong_arity,
)
from kvnode.resp.encoder import RESP3, Renders, encode2, encode3, error, mapping
from kvnode.resp.encoder import integer as reply_integer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import GetexFlag, LcsFlag, SetFlag
from kvnode.store.redis import long_double
from kvnode.store.redis.messages import NOT_A_FLOAT
from kvnode.store.reply import Result

# Plain ints: arithmetic on an IntFlag is slow.
_NX, _XX, _GET, _KEEPTTL, _PX, _PXAT = (int(flag) for flag in SetFlag)

_EXPIRY_UNITS: Final = {
    b"EX": (1000, _PX),
    b"PX": (1, _PX),
    b"EXAT": (1000, _PXAT),
    b"PXAT": (1, _PXAT),
}
_LCS_OPTIONS: Final = {flag.name.encode(): int(flag) for flag in LcsFlag if flag.name}
_CONDITIONS: Final = {b"NX": (_NX, _XX), b"XX": (_XX, _NX)}


def parse_get(db: int, arguments: list[bytes]) -> Op:
    key = arguments[1]
    if len(key) > KEY_BYTES_MAX:
        raise CommandError(KEY_TOO_LONG)
    return [ops.GET, db, key]


def parse_set(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) == 3:
        key = arguments[1]
        if len(key) > KEY_BYTES_MAX:
            raise CommandError(KEY_TOO_LONG)
        return [ops.SET, db, key, arguments[2]]
    flags, expire_ms = _parse_set_options(arguments)
    return [ops.SET, db, check_key(arguments[1]), arguments[2], flags, expire_ms]


def _parse_set_options(arguments: list[bytes]) -> tuple[int, int]:
    """Read NX XX GET KEEPTTL EX PX EXAT PXAT; return the flags and the expiry in milliseconds."""
    flags = 0
    expiry: bytes | None = None
    unit = b""
    at = 3
    while at < len(arguments):
        option = arguments[at].upper()
        at += 1
        if option in _CONDITIONS:
            flag, opposite = _CONDITIONS[option]
            if flags & opposite:
                raise CommandError(SYNTAX_ERROR)
            flags |= flag
        elif option == b"GET":
            flags |= _GET
        elif option == b"KEEPTTL" and not unit:
            flags |= _KEEPTTL
        elif _takes_time(option, unit, arguments[at:]) and not flags & _KEEPTTL:
            unit, expiry = option, arguments[at]
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    if expiry is None:
        return flags, 0
    factor, flag = _EXPIRY_UNITS[unit]
    return flags | flag, _expire_ms("set", expiry, factor)


def _takes_time(option: bytes, unit: bytes, rest: list[bytes]) -> bool:
    """Whether it is a unit of time that may stand here: a time follows, and no other unit did."""
    return option in _EXPIRY_UNITS and unit in (b"", option) and bool(rest)


def _expire_ms(name: str, argument: bytes, factor: int) -> int:
    value = integer(argument) * factor
    if not 0 < value <= DEADLINE_MS_MAX:
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    return value


def parse_setnx(db: int, arguments: list[bytes]) -> Op:
    return [ops.SET, db, check_key(arguments[1]), arguments[2], _NX, 0]


def _render_setnx(result: Result) -> bytes:
    if isinstance(result, CommandError):
        return error(result.text)
    return reply_integer(result is not None)


SETNX: Final[Renders] = (_render_setnx, _render_setnx)
"""SETNX answers 1 and 0 where SET with NX says OK and nothing."""


def parse_setex(db: int, arguments: list[bytes]) -> Op:
    return _parse_setex(db, arguments, "setex", 1000)


def parse_psetex(db: int, arguments: list[bytes]) -> Op:
    return _parse_setex(db, arguments, "psetex", 1)


def _parse_setex(db: int, arguments: list[bytes], name: str, factor: int) -> Op:
    _, key, expiry, value = arguments
    return [ops.SET, db, check_key(key), value, _PX, _expire_ms(name, expiry, factor)]


def parse_getset(db: int, arguments: list[bytes]) -> Op:
    return [ops.SET, db, check_key(arguments[1]), arguments[2], _GET, 0]


def parse_getdel(db: int, arguments: list[bytes]) -> Op:
    return [ops.GETDEL, db, check_key(arguments[1])]


def parse_getex(db: int, arguments: list[bytes]) -> Op:
    """A bad time is no error yet: whether it is one depends on the key (`store.redis.strings`)."""
    key = check_key(arguments[1])
    expiry: bytes | None = None
    unit = b""
    persists = False
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        at += 1
        if option == b"PERSIST" and not unit:
            persists = True
        elif _takes_time(option, unit, arguments[at:]) and not persists:
            unit, expiry = option, arguments[at]
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    if expiry is None:
        return [ops.GETEX, db, key, int(GetexFlag.PERSIST) if persists else 0, 0]
    factor, flag = _EXPIRY_UNITS[unit]  # the flags of SET and GETEX are the same
    return [ops.GETEX, db, key, flag, _possible_ms(expiry, factor)]


def _possible_ms(argument: bytes, factor: int) -> int | None:
    """Milliseconds; 0 if they are out of range, None if that is no integer."""
    try:
        value = integer(argument) * factor
    except CommandError:
        return None
    return value if 0 < value <= DEADLINE_MS_MAX else 0


def parse_mget(db: int, arguments: list[bytes]) -> Op:
    return [ops.MGET, db, *check_keys(arguments[1:])]


def parse_mset(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) % 2 == 0:
        raise wrong_arity("mset")
    check_keys(arguments[1::2])
    return [ops.MSET, db, *arguments[1:]]


def parse_msetnx(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) % 2 == 0:
        raise wrong_arity("msetnx")
    check_keys(arguments[1::2])
    return [ops.MSETNX, db, *arguments[1:]]


def parse_incr(db: int, arguments: list[bytes]) -> Op:
    return [ops.INCRBY, db, check_key(arguments[1]), 1]


def parse_decr(db: int, arguments: list[bytes]) -> Op:
    return [ops.INCRBY, db, check_key(arguments[1]), -1]


def parse_incrby(db: int, arguments: list[bytes]) -> Op:
    return [ops.INCRBY, db, check_key(arguments[1]), integer(arguments[2])]


def parse_decrby(db: int, arguments: list[bytes]) -> Op:
    delta = integer(arguments[2])
    if delta == INT64_MIN:
        raise CommandError("ERR decrement would overflow")
    return [ops.INCRBY, db, check_key(arguments[1]), -delta]


def parse_incrbyfloat(db: int, arguments: list[bytes]) -> Op:
    _, key, increment = arguments
    if len(increment) > long_double.TEXT_BYTES_MAX:
        raise CommandError(NOT_A_FLOAT)
    return [ops.INCRBYFLOAT, db, check_key(key), increment]


def parse_append(db: int, arguments: list[bytes]) -> Op:
    return [ops.APPEND, db, check_key(arguments[1]), arguments[2]]


def parse_strlen(db: int, arguments: list[bytes]) -> Op:
    return [ops.STRLEN, db, check_key(arguments[1])]


def parse_setrange(db: int, arguments: list[bytes]) -> Op:
    _, key, offset, part = arguments
    start = integer(offset)
    if start < 0:
        raise CommandError("ERR offset is out of range")
    return [ops.SETRANGE, db, check_key(key), start, part]


def parse_getrange(db: int, arguments: list[bytes]) -> Op:
    _, key, first, last = arguments
    return [ops.GETRANGE, db, check_key(key), integer(first), integer(last)]


def parse_lcs(db: int, arguments: list[bytes]) -> Op:
    keys = check_keys(arguments[1:3])
    flags = match_bytes_min = 0
    at = 3
    while at < len(arguments):
        option = arguments[at].upper()
        at += 1
        if option in _LCS_OPTIONS:
            flags |= _LCS_OPTIONS[option]
        elif option == b"MINMATCHLEN" and at < len(arguments):
            match_bytes_min = max(integer(arguments[at]), 0)
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    if flags & LcsFlag.LEN and flags & LcsFlag.IDX:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    return [ops.LCS, db, *keys, flags, match_bytes_min]


def _render_lcs3(result: Result) -> bytes:
    """The answer to IDX is a map in RESP3."""
    if not isinstance(result, list):
        return encode3(result)
    items = [encode3(item) for item in result]
    return mapping(zip(items[::2], items[1::2], strict=True), RESP3)


LCS: Final[Renders] = (encode2, _render_lcs3)
