"""Grammar and replies of the sorted set commands; their meaning is in `store.redis.sorted_sets`."""

from __future__ import annotations

import random
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    INT64_MAX,
    INT64_MIN,
    SYNTAX_ERROR,
    check_key,
    check_keys,
    integer,
)
from kvnode.resp.commands.scanning import member_scan
from kvnode.resp.encoder import Renders, encode2, encode3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import ZAddFlag, ZAggregate, ZBy, ZOperation, ZRangeFlag
from kvnode.store.redis.messages import NOT_A_FLOAT, OUT_OF_RANGE
from kvnode.store.reply import Result
from kvnode.store.scores import pack_score, parse_bound, parse_score

_NX, _XX, _GT, _LT, _CH, _INCR = (int(flag) for flag in ZAddFlag)
_REV, _WITHSCORES = (int(flag) for flag in ZRangeFlag)
_RANK, _SCORE, _LEX = (int(by) for by in ZBy)

NOT_A_SCORE_BOUND: Final = "ERR min or max is not a float"
NOT_A_MEMBER_BOUND: Final = "ERR min or max not valid string range item"
NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
NOT_A_RANDOM_COUNT: Final = (
    f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"
)

Options = list[bytes]
"""The arguments behind those that a command must have."""


def encode_pairs2(result: Result) -> bytes:
    """Pairs in RESP2: one flat list; whatever is not a list of pairs stays as it is."""
    if isinstance(result, list):
        flat: list[Result] = []
        for item in result:
            if isinstance(item, list):
                flat += item
            else:
                flat.append(item)
        return encode2(flat)
    return encode2(result)


FLAT_PAIRS: Final[Renders] = (encode_pairs2, encode3)
"""Members, or pairs of member and score, which are nested in RESP3 only."""


def score_of(argument: bytes, text: str = NOT_A_FLOAT) -> float:
    """A score; raises `CommandError` with `text` if it is no number."""
    score = parse_score(argument)
    if score is None:
        raise CommandError(text)
    return score


# --- members and scores ---------------------------------------------------------------------------

_ADD_OPTIONS: Final = {
    b"NX": _NX,
    b"XX": _XX,
    b"GT": _GT,
    b"LT": _LT,
    b"CH": _CH,
    b"INCR": _INCR,
}


def parse_zadd(db: int, arguments: list[bytes]) -> Op:
    flags, at = 0, 2
    while at < len(arguments):
        flag = _ADD_OPTIONS.get(arguments[at].upper())
        if flag is None:
            break
        flags |= flag
        at += 1
    given = arguments[at:]
    if not given or len(given) % 2:
        raise CommandError(SYNTAX_ERROR)
    if flags & _NX and flags & _XX:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if bool(flags & _GT) + bool(flags & _LT) + bool(flags & _NX) > 1:
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if flags & _INCR and len(given) > 2:
        raise CommandError("ERR INCR option supports a single increment-element pair")
    given[::2] = [pack_score(score_of(score)) for score in given[::2]]
    return [ops.ZADD, db, check_key(arguments[1]), flags, *given]


def parse_zincrby(db: int, arguments: list[bytes]) -> Op:
    _, key, increment, member = arguments
    return [ops.ZADD, db, check_key(key), _INCR, pack_score(score_of(increment)), member]


def parse_zrem(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZREM, db, check_key(arguments[1]), *arguments[2:]]


def parse_zscore(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZSCORE, db, check_key(arguments[1]), arguments[2]]


def parse_zmscore(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZMSCORE, db, check_key(arguments[1]), *arguments[2:]]


def parse_zcard(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZCARD, db, check_key(arguments[1])]


def parse_zrank(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZRANK, db, check_key(arguments[1]), arguments[2], 0]


def parse_zrevrank(db: int, arguments: list[bytes]) -> Op:
    return [ops.ZRANK, db, check_key(arguments[1]), arguments[2], 1]


# --- ranges ---------------------------------------------------------------------------------------


def _score_bound(argument: bytes) -> bytes:
    is_open = argument[:1] == b"("
    score = parse_bound(argument[1:] if is_open else argument)
    if score is None:
        raise CommandError(NOT_A_SCORE_BOUND)
    return (b"(" if is_open else b"[") + pack_score(score)


def _member_bound(argument: bytes) -> bytes:
    kind = argument[:1]
    if kind in (b"[", b"("):
        return argument
    if kind in (b"-", b"+") and argument[1:2] in (b"", b"\x00"):
        return kind
    raise CommandError(NOT_A_MEMBER_BOUND)


def _bounds(by: int, low: bytes, high: bytes) -> list[int | bytes]:
    """The three arguments of an op that tell a range."""
    if by == _RANK:
        return [by, integer(low), integer(high)]
    bound = _score_bound if by == _SCORE else _member_bound
    return [by, bound(low), bound(high)]


def parse_zcount(db: int, arguments: list[bytes]) -> Op:
    _, key, low, high = arguments
    return [ops.ZCOUNT, db, check_key(key), *_bounds(_SCORE, low, high)]


def parse_zlexcount(db: int, arguments: list[bytes]) -> Op:
    _, key, low, high = arguments
    return [ops.ZCOUNT, db, check_key(key), *_bounds(_LEX, low, high)]


def parse_zremrangebyrank(db: int, arguments: list[bytes]) -> Op:
    return _parse_zremrange(db, arguments, _RANK)


def parse_zremrangebyscore(db: int, arguments: list[bytes]) -> Op:
    return _parse_zremrange(db, arguments, _SCORE)


def parse_zremrangebylex(db: int, arguments: list[bytes]) -> Op:
    return _parse_zremrange(db, arguments, _LEX)


def _parse_zremrange(db: int, arguments: list[bytes], by: int) -> Op:
    _, key, low, high = arguments
    return [ops.ZREMRANGE, db, check_key(key), *_bounds(by, low, high)]


_RANGE_OPTIONS: Final = {b"BYSCORE": _SCORE, b"BYLEX": _LEX}


def _parse_range(
    low: bytes, high: bytes, options: Options, by: int | None, flags: int, *, stores: bool = False
) -> list[int | bytes]:
    """By, bounds, flags, offset and limit of a range.

    Args:
        low: as it stands in the command, first.
        high: likewise, second; both change places where the range is reversed.
        options: what follows.
        by: how the command means its range, None if the options tell that, and the direction.
        flags: REV of the commands that are reversed.
        stores: there are no scores to be shown.
    """
    is_open = by is None
    offset, limit, at = 0, -1, 0
    while at < len(options):
        option = options[at].upper()
        at += 1
        if option == b"WITHSCORES" and not stores:
            flags |= _WITHSCORES
        elif option == b"LIMIT" and len(options) - at >= 2:
            offset, limit = integer(options[at]), integer(options[at + 1])
            at += 2
        elif option == b"REV" and is_open and not flags & _REV:
            flags |= _REV
        elif option in _RANGE_OPTIONS and is_open and by is None:
            by = _RANGE_OPTIONS[option]
        else:
            raise CommandError(SYNTAX_ERROR)
    by = by or _RANK
    if by == _RANK and limit != -1:
        raise CommandError(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
        )
    if by == _LEX and flags & _WITHSCORES:
        raise CommandError("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
    if flags & _REV and by != _RANK:
        low, high = high, low
    return [*_bounds(by, low, high), flags, offset, limit]


def _parse_zrange(db: int, arguments: list[bytes], by: int | None, flags: int) -> Op:
    _, key, low, high, *options = arguments
    return [ops.ZRANGE, db, check_key(key), *_parse_range(low, high, options, by, flags)]


def parse_zrange(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, None, 0)


def parse_zrevrange(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, _RANK, _REV)


def parse_zrangebyscore(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, _SCORE, 0)


def parse_zrevrangebyscore(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, _SCORE, _REV)


def parse_zrangebylex(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, _LEX, 0)


def parse_zrevrangebylex(db: int, arguments: list[bytes]) -> Op:
    return _parse_zrange(db, arguments, _LEX, _REV)


def parse_zrangestore(db: int, arguments: list[bytes]) -> Op:
    _, target, key, low, high, *options = arguments
    found = _parse_range(low, high, options, None, 0, stores=True)
    return [ops.ZRANGESTORE, db, *check_keys([target, key]), *found]


# --- popping --------------------------------------------------------------------------------------


def parse_zpopmin(db: int, arguments: list[bytes]) -> Op:
    return _parse_zpop(db, arguments, 0)


def parse_zpopmax(db: int, arguments: list[bytes]) -> Op:
    return _parse_zpop(db, arguments, 1)


def _parse_zpop(db: int, arguments: list[bytes], from_end: int) -> Op:
    if len(arguments) > 3:
        raise CommandError(SYNTAX_ERROR)
    count = None
    if len(arguments) == 3:
        count = integer(arguments[2], NOT_POSITIVE)
        if count < 0:
            raise CommandError(NOT_POSITIVE)
    return [ops.ZPOP, db, check_key(arguments[1]), from_end, count]


def parse_zmpop(db: int, arguments: list[bytes]) -> Op:
    return parse_pop_of_many(db, arguments[1:])


def parse_pop_of_many(db: int, arguments: list[bytes]) -> Op:
    """The op of ZMPOP, from what stands behind its name (BZMPOP: behind the timeout)."""
    keys_error = "ERR numkeys should be greater than 0"
    count_error = "ERR count should be greater than 0"
    key_count = _at_least_one(arguments[0], keys_error)
    keys, options = arguments[1 : key_count + 1], arguments[key_count + 1 :]
    if not options or options[0].upper() not in (b"MIN", b"MAX"):
        raise CommandError(SYNTAX_ERROR)
    count = 1
    if len(options) == 3 and options[1].upper() == b"COUNT":
        count = _at_least_one(options[2], count_error)
    elif len(options) > 1:
        if len(options) > 3 and options[1].upper() == b"COUNT":
            _at_least_one(options[2], count_error)
        raise CommandError(SYNTAX_ERROR)
    from_end = int(options[0].upper() == b"MAX")
    return [ops.ZMPOP, db, from_end, count, *check_keys(keys)]


def _at_least_one(argument: bytes, text: str) -> int:
    number = integer(argument, text)
    if number < 1:
        raise CommandError(text)
    return number


# --- algebra --------------------------------------------------------------------------------------

_AGGREGATES: Final = {
    b"SUM": int(ZAggregate.SUM),
    b"MIN": int(ZAggregate.MIN),
    b"MAX": int(ZAggregate.MAX),
}


class _Algebra:
    """What follows the number of keys in ZUNION and its kin.

    The options come after a look at the keys, so what is wrong with them is kept, not raised.
    """

    def __init__(
        self, arguments: list[bytes], at: int, *, weighs: bool, stores: bool, counts: bool
    ) -> None:
        key_count = integer(arguments[at])
        if key_count < 1:
            name = arguments[0].decode("utf-8", "surrogateescape").lower()
            raise CommandError(f"ERR at least 1 input key is needed for '{name}' command")
        if key_count > len(arguments) - at - 1:
            raise CommandError(SYNTAX_ERROR)
        self.keys = check_keys(arguments[at + 1 : at + 1 + key_count])
        self.weights: list[bytes] = []
        self.aggregate = int(ZAggregate.SUM)
        self.with_scores = 0
        self.limit = 0
        self.refusal: bytes | None = None
        self._weighs = weighs
        self._shows = not stores and not counts
        self._counts = counts
        try:
            self._read(arguments[at + 1 + key_count :])
        except CommandError as bad:
            self.refusal = bad.text.encode("utf-8", "surrogateescape")

    def _read(self, options: Options) -> None:
        at = 0
        while at < len(options):
            option, left = options[at].upper(), len(options) - at - 1
            at += 1
            if option == b"WEIGHTS" and self._weighs and left >= len(self.keys):
                given = options[at : at + len(self.keys)]
                text = "ERR weight value is not a float"
                self.weights = [pack_score(score_of(weight, text)) for weight in given]
                at += len(given)
            elif option == b"AGGREGATE" and self._weighs and left:
                if options[at].upper() not in _AGGREGATES:
                    raise CommandError(SYNTAX_ERROR)
                self.aggregate = _AGGREGATES[options[at].upper()]
                at += 1
            elif option == b"WITHSCORES" and self._shows:
                self.with_scores = 1
            elif option == b"LIMIT" and self._counts and left:
                self.limit = integer(options[at], "ERR LIMIT can't be negative")
                if self.limit < 0:
                    raise CommandError("ERR LIMIT can't be negative")
                at += 1
            else:
                raise CommandError(SYNTAX_ERROR)


def parse_zunion(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra(db, arguments, ZOperation.UNION)


def parse_zinter(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra(db, arguments, ZOperation.INTER)


def parse_zdiff(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra(db, arguments, ZOperation.DIFF)


def _parse_algebra(db: int, arguments: list[bytes], operation: ZOperation) -> Op:
    weighs = operation != ZOperation.DIFF
    read = _Algebra(arguments, 1, weighs=weighs, stores=False, counts=False)
    how = [read.keys, read.weights, read.aggregate, read.with_scores, read.refusal]
    return [ops.ZALGEBRA, db, int(operation), *how]


def parse_zunionstore(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra_store(db, arguments, ZOperation.UNION)


def parse_zinterstore(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra_store(db, arguments, ZOperation.INTER)


def parse_zdiffstore(db: int, arguments: list[bytes]) -> Op:
    return _parse_algebra_store(db, arguments, ZOperation.DIFF)


def _parse_algebra_store(db: int, arguments: list[bytes], operation: ZOperation) -> Op:
    weighs = operation != ZOperation.DIFF
    read = _Algebra(arguments, 2, weighs=weighs, stores=True, counts=False)
    target = check_key(arguments[1])
    how = [read.keys, read.weights, read.aggregate, read.refusal]
    return [ops.ZALGEBRASTORE, db, int(operation), target, *how]


def parse_zintercard(db: int, arguments: list[bytes]) -> Op:
    read = _Algebra(arguments, 1, weighs=False, stores=False, counts=True)
    return [ops.ZINTERCARD, db, read.keys, read.limit, read.refusal]


# --- random members and pages ---------------------------------------------------------------------


def parse_zrandmember(db: int, arguments: list[bytes]) -> Op:
    count, with_scores = None, 0
    if len(arguments) > 2:
        count = integer(arguments[2])
        if count == INT64_MIN:
            raise CommandError(NOT_A_RANDOM_COUNT)
        if len(arguments) > 4 or (len(arguments) == 4 and arguments[3].upper() != b"WITHSCORES"):
            raise CommandError(SYNTAX_ERROR)
        with_scores = int(len(arguments) == 4)
        if with_scores and abs(count) > INT64_MAX // 2:
            raise CommandError(OUT_OF_RANGE)
    key, seed = check_key(arguments[1]), random.getrandbits(64)
    return [ops.ZRANDMEMBER, db, key, seed, count, with_scores]


parse_zscan: Final = member_scan(ops.ZSCAN)
