"""Grammar of the commands on keys of any type and on whole databases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import SCAN_ROWS_MAX
from kvnode.resp.commands.grammar import (
    DEADLINE_MS_MAX,
    SYNTAX_ERROR,
    check_database,
    check_key,
    check_keys,
    int32,
    integer,
    text_of,
)
from kvnode.resp.commands.scanning import COUNT_DEFAULT, cursor
from kvnode.resp.encoder import array, status
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.keyspace import DATABASES
from kvnode.store.ops import ExpireFlag, ObjectQuery

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

_NX, _XX, _GT, _LT = (int(flag) for flag in ExpireFlag)
_EXPIRE_CONDITIONS: Final = {
    b"NX": _NX,
    b"XX": _XX,
    b"GT": _GT,
    b"LT": _LT,
}

SAME_OBJECT: Final = "ERR source and destination objects are the same"

OBJECT_HELP: Final = (
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    How Redis would store the value that was just set: int, embstr or raw.",
    "FREQ <key>",
    "    An error: accesses are not counted.",
    "IDLETIME <key>",
    "    0: accesses leave no trace.",
    "REFCOUNT <key>",
    "    1, and for the integers below 10,000 the number that marks shared ones in Redis.",
    "HELP",
    "    Prints this help.",
)


def parse_del(db: int, arguments: list[bytes]) -> Op:
    return [ops.DEL, db, *check_keys(arguments[1:])]


def parse_exists(db: int, arguments: list[bytes]) -> Op:
    return [ops.EXISTS, db, *check_keys(arguments[1:])]


def parse_type(db: int, arguments: list[bytes]) -> Op:
    return [ops.TYPE, db, check_key(arguments[1])]


def parse_expire(db: int, arguments: list[bytes]) -> Op:
    return _parse_expiry(db, arguments, "expire", absolute=0, factor=1000)


def parse_pexpire(db: int, arguments: list[bytes]) -> Op:
    return _parse_expiry(db, arguments, "pexpire", absolute=0, factor=1)


def parse_expireat(db: int, arguments: list[bytes]) -> Op:
    return _parse_expiry(db, arguments, "expireat", absolute=1, factor=1000)


def parse_pexpireat(db: int, arguments: list[bytes]) -> Op:
    return _parse_expiry(db, arguments, "pexpireat", absolute=1, factor=1)


def _parse_expiry(db: int, arguments: list[bytes], name: str, *, absolute: int, factor: int) -> Op:
    conditions = 0
    for argument in arguments[3:]:
        condition = _EXPIRE_CONDITIONS.get(argument.upper())
        if condition is None:
            raise CommandError(f"ERR Unsupported option {text_of(argument)}")
        conditions |= condition
    if conditions & _NX and conditions != _NX:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if conditions & _GT and conditions & _LT:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    value_ms = integer(arguments[2]) * factor
    if abs(value_ms) > DEADLINE_MS_MAX:
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    return [ops.EXPIRE, db, check_key(arguments[1]), absolute, value_ms, conditions]


def parse_ttl(db: int, arguments: list[bytes]) -> Op:
    return [ops.TTL, db, check_key(arguments[1]), 0]


def parse_pttl(db: int, arguments: list[bytes]) -> Op:
    return [ops.TTL, db, check_key(arguments[1]), 1]


def parse_persist(db: int, arguments: list[bytes]) -> Op:
    return [ops.PERSIST, db, check_key(arguments[1])]


def parse_expiretime(db: int, arguments: list[bytes]) -> Op:
    return [ops.EXPIRETIME, db, check_key(arguments[1]), 0]


def parse_pexpiretime(db: int, arguments: list[bytes]) -> Op:
    return [ops.EXPIRETIME, db, check_key(arguments[1]), 1]


def parse_rename(db: int, arguments: list[bytes]) -> Op:
    return [ops.RENAME, db, *check_keys(arguments[1:]), 0]


def parse_renamenx(db: int, arguments: list[bytes]) -> Op:
    return [ops.RENAME, db, *check_keys(arguments[1:]), 1]


def parse_copy(db: int, arguments: list[bytes]) -> Op:
    key, new_key = check_keys(arguments[1:3])
    new_db, replace = db, 0
    at = 3
    while at < len(arguments):
        option = arguments[at].upper()
        at += 1
        if option == b"REPLACE":
            replace = 1
        elif option == b"DB" and at < len(arguments):
            new_db = check_database(int32(arguments[at]), DATABASES)
            at += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    if (new_db, new_key) == (db, key):
        raise CommandError(SAME_OBJECT)
    return [ops.COPY, db, key, new_db, new_key, replace]


def parse_move(db: int, arguments: list[bytes]) -> Op:
    new_db = check_database(int32(arguments[2]), DATABASES)
    if new_db == db:
        raise CommandError(SAME_OBJECT)
    return [ops.MOVE, db, check_key(arguments[1]), new_db]


def parse_swapdb(db: int, arguments: list[bytes]) -> Op:
    first = int32(arguments[1], "ERR invalid first DB index")
    second = int32(arguments[2], "ERR invalid second DB index")
    return [
        ops.SWAPDB,
        db,
        check_database(first, DATABASES),
        check_database(second, DATABASES),
    ]


def parse_randomkey(db: int, arguments: list[bytes]) -> Op:  # noqa: ARG001 - one shape for all
    """The only grammar that draws a number: replicas get it with the op and answer alike."""
    return [ops.RANDOMKEY, db, random.getrandbits(64)]


def parse_object_encoding(db: int, arguments: list[bytes]) -> Op:
    return [ops.OBJECT, db, check_key(arguments[2]), int(ObjectQuery.ENCODING)]


def parse_object_freq(db: int, arguments: list[bytes]) -> Op:
    return [ops.OBJECT, db, check_key(arguments[2]), int(ObjectQuery.FREQ)]


def parse_object_idletime(db: int, arguments: list[bytes]) -> Op:
    return [ops.OBJECT, db, check_key(arguments[2]), int(ObjectQuery.IDLETIME)]


def parse_object_refcount(db: int, arguments: list[bytes]) -> Op:
    return [ops.OBJECT, db, check_key(arguments[2]), int(ObjectQuery.REFCOUNT)]


def object_help(_connection: Connection, _arguments: list[bytes]) -> bytes:
    return array([status(line) for line in OBJECT_HELP])


def parse_keys(db: int, arguments: list[bytes]) -> Op:
    return [ops.KEYS, db, arguments[1]]


def parse_scan(db: int, arguments: list[bytes]) -> Op:
    position = cursor(arguments[1])
    pattern: bytes | None = None
    count = COUNT_DEFAULT
    kind: bytes | None = None
    for at in range(2, len(arguments), 2):
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            raise CommandError(SYNTAX_ERROR)
        value = arguments[at + 1]
        if option == b"MATCH":
            pattern = None if value == b"*" else value
        elif option == b"COUNT":
            count = integer(value)
            if count < 1:
                raise CommandError(SYNTAX_ERROR)
        elif option == b"TYPE":
            kind = value.lower()
        else:
            raise CommandError(SYNTAX_ERROR)
    return [ops.SCAN, db, position, pattern, min(count, SCAN_ROWS_MAX), kind]


def parse_dbsize(db: int, arguments: list[bytes]) -> Op:  # noqa: ARG001 - one shape for all
    return [ops.DBSIZE, db]


def parse_flushdb(db: int, arguments: list[bytes]) -> Op:
    _check_flush(arguments)
    return [ops.FLUSHDB, db]


def parse_flushall(db: int, arguments: list[bytes]) -> Op:
    _check_flush(arguments)
    return [ops.FLUSHALL, db]


def _check_flush(arguments: list[bytes]) -> None:
    """Dropping a database is cheap here whether SYNC or ASYNC is asked for."""
    if len(arguments) > 2 or (
        len(arguments) == 2 and arguments[1].upper() not in (b"SYNC", b"ASYNC")
    ):
        raise CommandError(SYNTAX_ERROR)
