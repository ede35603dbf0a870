"""Grammar of the set commands."""

from __future__ import annotations

import random
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.command import Parse
from kvnode.resp.commands.grammar import (
    INT64_MAX,
    INT64_MIN,
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
)
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import SetOperation

NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
TOO_NEGATIVE: Final = f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"
NO_KEYS: Final = "ERR numkeys should be greater than 0"
TOO_FEW_KEYS: Final = "ERR Number of keys can't be greater than number of args"
NEGATIVE_LIMIT: Final = "ERR LIMIT can't be negative"


def one_key(code: int) -> Parse:
    """Grammar of a command that names a key and nothing else, or members behind it."""

    def parse(db: int, arguments: list[bytes]) -> Op:
        return [code, db, check_key(arguments[1]), *arguments[2:]]

    return parse


def parse_spop(db: int, arguments: list[bytes]) -> Op:
    count: int | None = None
    if len(arguments) > 3:
        raise CommandError(SYNTAX_ERROR)
    if len(arguments) == 3:
        count = _natural(arguments[2], NOT_POSITIVE)
    return [ops.SPOP, db, check_key(arguments[1]), count]


def parse_srandmember(db: int, arguments: list[bytes]) -> Op:
    count: int | None = None
    if len(arguments) > 3:
        raise CommandError(SYNTAX_ERROR)
    if len(arguments) == 3:
        count = integer(arguments[2])
        if count == INT64_MIN:
            raise CommandError(TOO_NEGATIVE)
    return [ops.SRANDMEMBER, db, check_key(arguments[1]), random.getrandbits(64), count]


def parse_smove(db: int, arguments: list[bytes]) -> Op:
    _, *keys, member = arguments
    return [ops.SMOVE, db, *check_keys(keys), member]


def combine(operation: SetOperation) -> Parse:
    """Grammar of SUNION, SINTER or SDIFF."""

    def parse(db: int, arguments: list[bytes]) -> Op:
        return [ops.SCOMBINE, db, int(operation), *check_keys(arguments[1:])]

    return parse


def combine_store(operation: SetOperation) -> Parse:
    """Grammar of SUNIONSTORE, SINTERSTORE or SDIFFSTORE: the destination is the first key."""

    def parse(db: int, arguments: list[bytes]) -> Op:
        return [ops.SCOMBINESTORE, db, int(operation), *check_keys(arguments[1:])]

    return parse


def parse_sintercard(db: int, arguments: list[bytes]) -> Op:
    count = _natural(arguments[1], NO_KEYS)
    if not count:
        raise CommandError(NO_KEYS)
    if count > len(arguments) - 2:
        raise CommandError(TOO_FEW_KEYS)
    limit = 0
    options = arguments[2 + count :]
    for at in range(0, len(options), 2):
        if options[at].upper() != b"LIMIT" or at + 1 == len(options):
            raise CommandError(SYNTAX_ERROR)
        limit = _natural(options[at + 1], NEGATIVE_LIMIT)
    return [ops.SINTERCARD, db, limit, *check_keys(arguments[2 : 2 + count])]


def _natural(argument: bytes, text: str) -> int:
    """A number from 0 on, else raises `CommandError` with the text."""
    number = integer(argument, text)
    if number < 0:
        raise CommandError(text)
    return number
