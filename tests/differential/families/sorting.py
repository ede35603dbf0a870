"""SORT: lists, sets and sorted sets, weights in strings and hashes."""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.differential.comparing import Accepted, Answer, Rule, as_set, same_shape
from tests.differential.family import Family, Line
from tests.differential.words import keyed, mostly, rows

KEYS: Final = (b"o1", b"o2", b"o3", b"o4")
NUMBERS: Final = (b"1", b"2", b"3", b"10", b"-7", b"2.5", b"1e3")
WORDS: Final = (b"a", b"b", b"ab", b"B")
WEIGHTS: Final = (b"w_*", b"g_*->w", b"g_*->a")
ODD_NUMBERS: Final = (b"inf", b"0x10", b" 4", b"01", b"nan", b"1 ", b"")
"""None of them is out of a double's range: Redis remembers such an error in `errno`."""


def _same_elements(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """The same; or, where SORT does not sort, an order that is the server's own.

    Members of a set lie in no order that is promised, and so do elements of equal weight.
    """
    one, other = redis[at].reply, kvnode[at].reply
    if one == other:
        return True
    words = [word.upper() for word in redis[at].arguments[2:]]
    if b"BY" not in words:
        return False
    return same_shape(one, other) if b"LIMIT" in words else as_set(one) == as_set(other)


def _and_what_was_stored(line: Line) -> list[Line]:
    """Behind a SORT that stores, its result as it lies."""
    if len(line) < 4 or line[-2].upper() != b"STORE":
        return [line]
    return [line, (b"SORT_RO", line[-1], b"BY", b"nosort")]


def _stale_errno(name: str, line: Line, redis: str, kvnode: str, *, stores: bool) -> bool:
    refused = redis.startswith('-b"ERR One or more scores') and not kvnode.startswith("-")
    return name.startswith("sort") and refused and stores == (b"STORE" in map(bytes.upper, line))


_STALE_ERRNO: Final = (
    "Redis 7.0 reads a number of SORT without clearing errno before, so that it may refuse one "
    "because of another command's number that was out of range"
)


FAMILY: Final = Family(
    name="sorting",
    keys=KEYS,
    atoms={
        "okey": keyed(KEYS),
        "olist": mostly((b"o1", b"o4"), (b"o2", b"o3", b"s1", b"absent"), 0.9),
        "onumber": mostly(NUMBERS, ODD_NUMBERS, 0.97),
        "oword": mostly(WORDS + NUMBERS),
        "oweight": mostly(WEIGHTS, (b"w_*->x", b"w_1", b"#", b"*", b"g_*->"), 0.8),
        "oget": mostly((b"#", b"w_*", b"g_*->w"), (b"g_*", b"const", b"w_*_*", b""), 0.8),
        "ostart": mostly((b"0", b"1", b"2"), (b"-1", b"100", b"9223372036854775807", b"x")),
        "onumberof": mostly((b"1", b"2", b"-1", b"100"), (b"0", b"-9223372036854775808", b"x")),
    },
    furniture=(
        "RPUSH 'o1 onumber+ onumber+ onumber+",
        "SADD 'o2 onumber+ onumber+",
        "ZADD 'o3 '3 '1 '1 '2 '2 '3 '-1 '10",
        "RPUSH 'o4 oword+ oword+",
        "MSET 'w_1 '5 'w_2 '4 'w_3 '-3 'w_10 '2.5 'w_-7 '1",
        "HSET 'g_1 'w '9 'a 'z",
    ),
    commands={
        **rows(8, {
            "sort": "SORT okey {|ALPHA|DESC|ASC} {|ALPHA} [LIMIT ostart onumberof] [GET oget]"
            "|SORT okey BY oweight {|ALPHA|DESC} [GET oget] [GET oget]"
            "|SORT olist BY {'nosort|oweight} {|DESC|ALPHA} [LIMIT ostart onumberof]"
            "|SORT okey {|DESC} ALPHA [LIMIT ostart onumberof] [GET oget] STORE okey"
            "|SORT okey {|DESC} [LIMIT ostart onumberof] [GET oget] STORE okey"
            "|SORT {'o3|okey} BY NOSORT [DESC] STORE okey",
        }),
        **rows(4, {
            "sort_ro": "SORT_RO okey {|ALPHA|DESC|ASC} {|ALPHA} [LIMIT ostart onumberof] [GET oget]"
            "|SORT_RO okey BY oweight {|ALPHA|DESC} [GET oget] [STORE okey]",
        }),
    },
    deliberate=(
        Accepted(_STALE_ERRNO, partial(_stale_errno, stores=False)),
        Accepted(f"{_STALE_ERRNO} (STORE)", partial(_stale_errno, stores=True), lasting=True),
    ),
    companions={b"sort": _and_what_was_stored},
    rules=(
        Rule(("sort", "sort_ro"), "BY: members of a set that is not sorted, and elements of equal "
             "weight, come in an order of the server's own", _same_elements),
    ),
)  # fmt: skip
