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
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import SetFlag

# Plain ints: arithmetic on an IntFlag is slow.
_NX, _XX, _GET, _KEEPTTL, _PX, _PXAT = (int(flag) for flag in SetFlag)

_EXPIRY_UNITS: Final = {
    b"EX": (1000, _PX),
    b"PX": (1, _PX),
    b"EXAT": (1000, _PXAT),
    b"PXAT": (1, _PXAT),
}
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
    unit: bytes = b""
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
        elif (
            option in _EXPIRY_UNITS
            and unit in (b"", option)
            and not flags & _KEEPTTL
            and at < len(arguments)
        ):
            unit, expiry = option, arguments[at]
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    if expiry is None:
        return flags, 0
    factor, flag = _EXPIRY_UNITS[unit]
    return flags | flag, _expire_ms(expiry, factor)


def _expire_ms(argument: bytes, factor: int) -> int:
    value = integer(argument) * factor
    if not 0 < value <= DEADLINE_MS_MAX:
        raise CommandError("ERR invalid expire time in 'set' command")
    return value


def parse_mget(db: int, arguments: list[bytes]) -> Op:
    return [ops.MGET, db, *check_keys(arguments[1:])]


def parse_mset(db: int, arguments: list[bytes]) -> Op:
    if len(arguments) % 2 == 0:
        raise wrong_arity("mset")
    check_keys(arguments[1::2])
    return [ops.MSET, db, *arguments[1:]]


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


def parse_append(db: int, arguments: list[bytes]) -> Op:
    return [ops.APPEND, db, check_key(arguments[1]), arguments[2]]


def parse_strlen(db: int, arguments: list[bytes]) -> Op:
    return [ops.STRLEN, db, check_key(arguments[1])]
