"""Grammar of the list commands, and the shapes of their replies."""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    INT64_MIN,
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
    wrong_arity,
)
from kvnode.resp.encoder import NULL_ARRAYS, RESP2, RESP3, Renders, encode2, encode3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.reply import Result

LEFT: Final = 0
RIGHT: Final = 1

NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
NUMKEYS_NOT_POSITIVE: Final = "ERR numkeys should be greater than 0"
COUNT_NOT_POSITIVE: Final = "ERR count should be greater than 0"
RANK_IS_ZERO: Final = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
    "negative to start from the end of the list"
)

_SIDES: Final = {b"LEFT": LEFT, b"RIGHT": RIGHT}


def parse_lpush(db: int, arguments: list[bytes]) -> Op:
    return [ops.LIST_PUSH, db, check_key(arguments[1]), LEFT, 0, *arguments[2:]]


def parse_rpush(db: int, arguments: list[bytes]) -> Op:
    return [ops.LIST_PUSH, db, check_key(arguments[1]), RIGHT, 0, *arguments[2:]]


def parse_lpushx(db: int, arguments: list[bytes]) -> Op:
    return [ops.LIST_PUSH, db, check_key(arguments[1]), LEFT, 1, *arguments[2:]]


def parse_rpushx(db: int, arguments: list[bytes]) -> Op:
    return [ops.LIST_PUSH, db, check_key(arguments[1]), RIGHT, 1, *arguments[2:]]


def parse_lpop(db: int, arguments: list[bytes]) -> Op:
    return _parse_pop(db, arguments, LEFT, "lpop")


def parse_rpop(db: int, arguments: list[bytes]) -> Op:
    return _parse_pop(db, arguments, RIGHT, "rpop")


def _parse_pop(db: int, arguments: list[bytes], side: int, name: str) -> Op:
    if len(arguments) > 3:
        raise wrong_arity(name)
    count = None if len(arguments) == 2 else _natural(arguments[2], NOT_POSITIVE)
    return [ops.LIST_POP, db, check_key(arguments[1]), side, count]


def _natural(argument: bytes, text: str) -> int:
    """A number from 0 on."""
    number = integer(argument, text)
    if number < 0:
        raise CommandError(text)
    return number


def _positive(argument: bytes, text: str) -> int:
    """A number from 1 on."""
    number = integer(argument, text)
    if number < 1:
        raise CommandError(text)
    return number


def _possible(argument: bytes) -> int | None:
    """An index; None if it is no number, which is an error only for a list that is there."""
    try:
        return integer(argument)
    except CommandError:
        return None


def _side(argument: bytes) -> int:
    side = _SIDES.get(argument.upper())
    if side is None:
        raise CommandError(SYNTAX_ERROR)
    return side


def parse_llen(db: int, arguments: list[bytes]) -> Op:
    return [ops.LLEN, db, check_key(arguments[1])]


def parse_lindex(db: int, arguments: list[bytes]) -> Op:
    return [ops.LINDEX, db, check_key(arguments[1]), _possible(arguments[2])]


def parse_lrange(db: int, arguments: list[bytes]) -> Op:
    _, key, first, last = arguments
    return [ops.LRANGE, db, check_key(key), integer(first), integer(last)]


def parse_lset(db: int, arguments: list[bytes]) -> Op:
    _, key, index, element = arguments
    return [ops.LSET, db, check_key(key), _possible(index), element]


def parse_linsert(db: int, arguments: list[bytes]) -> Op:
    _, key, where, pivot, element = arguments
    place = where.upper()
    if place not in (b"BEFORE", b"AFTER"):
        raise CommandError(SYNTAX_ERROR)
    return [ops.LINSERT, db, check_key(key), int(place == b"AFTER"), pivot, element]


def parse_lrem(db: int, arguments: list[bytes]) -> Op:
    _, key, count, element = arguments
    return [ops.LREM, db, check_key(key), integer(count), element]


def parse_ltrim(db: int, arguments: list[bytes]) -> Op:
    _, key, first, last = arguments
    return [ops.LTRIM, db, check_key(key), integer(first), integer(last)]


def parse_lpos(db: int, arguments: list[bytes]) -> Op:
    rank, count, most = 1, None, 0
    for at in range(3, len(arguments), 2):
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            raise CommandError(SYNTAX_ERROR)
        value = arguments[at + 1]
        if option == b"RANK":
            rank = integer(value)
            if not rank:
                raise CommandError(RANK_IS_ZERO)
        elif option == b"COUNT":
            count = _natural(value, "ERR COUNT can't be negative")
        elif option == b"MAXLEN":
            most = _natural(value, "ERR MAXLEN can't be negative")
        else:
            raise CommandError(SYNTAX_ERROR)
    if rank == INT64_MIN:
        rank = -1  # Redis' negation of it overflows, and so every match has the rank
    return [ops.LPOS, db, check_key(arguments[1]), arguments[2], rank, count, most]


def parse_lmove(db: int, arguments: list[bytes]) -> Op:
    _, source, target, source_side, target_side = arguments
    sides = [_side(source_side), _side(target_side)]
    return [ops.LMOVE, db, *check_keys([source, target]), *sides]


def parse_rpoplpush(db: int, arguments: list[bytes]) -> Op:
    return [ops.LMOVE, db, *check_keys(arguments[1:]), RIGHT, LEFT]


def parse_lmpop(db: int, arguments: list[bytes]) -> Op:
    return parse_lmpop_at(db, arguments, 1)


def parse_lmpop_at(db: int, arguments: list[bytes], at: int) -> Op:
    """LMPOP whose number of keys stands at a place of its arguments."""
    keys_at = at + 1
    side_at = keys_at + _positive(arguments[at], NUMKEYS_NOT_POSITIVE)
    if side_at >= len(arguments):
        raise CommandError(SYNTAX_ERROR)
    side = _side(arguments[side_at])
    count = 0
    for option, value in zip_longest(arguments[side_at + 1 :: 2], arguments[side_at + 2 :: 2]):
        if count or value is None or option.upper() != b"COUNT":
            raise CommandError(SYNTAX_ERROR)
        count = _positive(value, COUNT_NOT_POSITIVE)
    return [ops.LMPOP, db, side, count or 1, *check_keys(arguments[keys_at:side_at])]


# --- replies --------------------------------------------------------------------------------------


def _render_pop2(result: Result) -> bytes:
    if not isinstance(result, list):
        return encode2(result)
    return encode2(result[0]) if result else NULL_ARRAYS[0]


def _render_pop3(result: Result) -> bytes:
    if not isinstance(result, list):
        return encode3(result)
    return encode3(result[0]) if result else NULL_ARRAYS[RESP3 - RESP2]


POP: Final[Renders] = (_render_pop2, _render_pop3)
"""LPOP with a count has another nil than without."""
