"""Random command lines for strings, keys and databases, as strategies of Hypothesis.

`COMMANDS` has a strategy per command that draws the arguments behind its name. Few keys, of which
some mostly hold numbers, give most lines something to work on; about one argument in ten is wrong
on purpose. Lifetimes are tens of thousands of seconds and far apart, so that two servers which run
a line at slightly different moments still do the same. `comparable` drops what may differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from hypothesis import strategies as st

Line = list[bytes]
"""A command name and its arguments."""

DATABASES: Final = (0, 1, 2)
NUMBER_KEYS: Final = (b"n1", b"n2")
TEXT_KEYS: Final = (b"s1", b"s2", b"s:3")
KEYS: Final = (*NUMBER_KEYS, *TEXT_KEYS)

TOLERANCE_MS: Final = 10_000
"""How much two servers' clocks and moments may differ."""


def mostly(usual: st.SearchStrategy[bytes], *rare: bytes) -> st.SearchStrategy[bytes]:
    """The usual, but one time in ten something rare."""
    odds = st.integers(0, 9)
    return odds.flatmap(lambda odd: usual if odd else st.sampled_from(rare))


def number(low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.integers(low, high).map(lambda value: b"%d" % value)


def joined(parts: Iterable[bytes | Line]) -> Line:
    """Arguments and lists of them, one after another."""
    return list(chain.from_iterable(part if isinstance(part, list) else [part] for part in parts))


def line(*parts: st.SearchStrategy[Any] | bytes) -> st.SearchStrategy[Line]:
    """Arguments one after another; a part may be a list of them."""
    strategies = [st.just(part) if isinstance(part, bytes) else part for part in parts]
    return st.tuples(*strategies).map(joined)


def maybe(*words: bytes) -> st.SearchStrategy[Line]:
    """One of the words, or none."""
    return st.sampled_from([[], *([word] for word in words)])


def some(*parts: st.SearchStrategy[Line]) -> st.SearchStrategy[Line]:
    """Up to two of the parts."""
    return st.lists(st.one_of(parts), max_size=2).map(joined)


key = st.sampled_from(KEYS)
number_key = mostly(st.sampled_from(NUMBER_KEYS), *TEXT_KEYS)
text = st.one_of(
    st.sampled_from([b"", b"x", b"ohmytext", b"mynewtext", b"007", b"\x00\xff\r\n", b"y" * 45]),
    number(-20, 20_000),
    st.text("abc", max_size=12).map(str.encode),
)
integer = mostly(number(-100, 100), b"", b"1.5", b"abc", b"9223372036854775807", b"+1", b" 1")
real = mostly(
    st.one_of(
        number(-100, 100),
        st.decimals(-1000, 1000, places=3, allow_nan=False).map(lambda value: str(value).encode()),
        st.sampled_from([b"1e3", b"-5.0e2", b"1e-5", b"0x10", b".5", b"3.", b"1e30"]),
    ),
    *(b"", b"abc", b"inf", b"-inf", b"nan", b" 1", b"1e5000", b"1e"),
)
position = mostly(number(-12, 12), b"", b"abc", b"9223372036854775808", b"-9223372036854775808")
database = mostly(number(0, DATABASES[-1]), b"16", b"-1", b"abc", b"99999999999")
pattern = st.sampled_from(
    [b"*", b"n*", b"s?", b"[ns]1", b"[^n]*", b"s\\1", b"zz*", b"s:[0-9]", b"["]
)

seconds = mostly(
    st.integers(1, 9).map(lambda step: b"%d" % (step * 10_000)), b"0", b"-1", b"abc", b"1.5",
    b"9223372036854775807",
)  # fmt: skip
milliseconds = mostly(
    st.integers(1, 9).map(lambda step: b"%d" % (step * 10_000_000)), b"0", b"-1", b"abc",
)  # fmt: skip
at_seconds = mostly(
    st.integers(1, 9).map(lambda step: b"%d" % (4_000_000_000 + step * 10_000)), b"1", b"-1", b"x"
)
at_milliseconds = mostly(
    st.integers(1, 9).map(lambda step: b"%d" % (4_000_000_000_500 + step * 10_000_000)), b"1", b"0"
)
relative = st.one_of(line(b"EX", seconds), line(b"px", milliseconds))
lifetime = st.one_of(relative, line(b"EXAT", at_seconds), line(b"PXAT", at_milliseconds))
lifetime_to_come = st.one_of(relative, line(st.sampled_from([b"exat", b"PXAT"]), b"4000000100000"))
"""SET with a time that has passed leaves a key in Redis that DBSIZE counts for a moment."""
conditions = some(maybe(b"NX", b"XX", b"GT", b"lt"), st.just([b"XX"]))
keys = st.lists(key, min_size=1, max_size=3)
pairs = st.lists(line(key, text), min_size=1, max_size=3).map(joined)

COMMANDS: Final[dict[bytes, st.SearchStrategy[Line]]] = {
    b"APPEND": line(key, text),
    b"COPY": line(key, key, some(line(b"DB", database), st.just([b"REPLACE"]))),
    b"DBSIZE": line(),
    b"DECR": line(number_key),
    b"DECRBY": line(number_key, integer),
    b"DEL": keys,
    b"EXISTS": keys,
    b"EXPIRE": line(key, seconds, conditions),
    b"EXPIREAT": line(key, at_seconds, conditions),
    b"EXPIRETIME": line(key),
    b"FLUSHALL": line(maybe(b"ASYNC", b"SYNC")),
    b"FLUSHDB": line(maybe(b"ASYNC", b"SYNC")),
    b"GET": line(key),
    b"GETDEL": line(key),
    b"GETEX": line(key, some(lifetime, st.just([b"PERSIST"]))),
    b"GETRANGE": line(key, position, position),
    b"GETSET": line(key, text),
    b"INCR": line(number_key),
    b"INCRBY": line(number_key, integer),
    b"INCRBYFLOAT": line(number_key, real),
    b"KEYS": line(pattern),
    b"LCS": line(
        key, key, some(maybe(b"LEN", b"IDX", b"WITHMATCHLEN"), line(b"MINMATCHLEN", integer))
    ),
    b"MGET": keys,
    b"MOVE": line(key, database),
    b"MSET": pairs,
    b"MSETNX": pairs,
    b"OBJECT": line(st.sampled_from([b"ENCODING", b"FREQ", b"idletime", b"REFCOUNT", b"FOO"]), key),
    b"PERSIST": line(key),
    b"PEXPIRE": line(key, milliseconds, conditions),
    b"PEXPIREAT": line(key, at_milliseconds, conditions),
    b"PEXPIRETIME": line(key),
    b"PSETEX": line(key, milliseconds, text),
    b"PTTL": line(key),
    b"RANDOMKEY": line(),
    b"RENAME": line(key, key),
    b"RENAMENX": line(key, key),
    b"SCAN": line(
        b"0", b"COUNT", b"1000", some(line(b"MATCH", pattern), line(b"TYPE", text), maybe(b"TYPE"))
    ),
    b"SELECT": line(database),
    b"SET": line(
        key,
        text,
        some(lifetime_to_come, maybe(b"NX", b"xx"), maybe(b"GET"), maybe(b"KEEPTTL")),
    ),
    b"SETEX": line(key, seconds, text),
    b"SETNX": line(key, text),
    b"SETRANGE": line(key, position, text),
    b"STRLEN": line(key),
    b"SUBSTR": line(key, position, position),
    b"SWAPDB": line(database, database),
    b"TOUCH": keys,
    b"TTL": line(key),
    b"TYPE": line(key),
    b"UNLINK": keys,
}

FILLING: Final = (b"SET", b"SET", b"SETRANGE", b"INCRBY", b"INCRBYFLOAT", b"MSET", b"APPEND")
"""Drawn more often than others, so that most lines find a key."""

LINE: Final[st.SearchStrategy[Line]] = st.sampled_from(
    [*COMMANDS, *(name for name in FILLING for _ in range(4))]
).flatmap(lambda name: st.tuples(st.just(name), COMMANDS[name]).map(joined))
"""Any of them."""

_MILLISECONDS_PER_UNIT: Final = {b"TTL": 1000, b"EXPIRETIME": 1000, b"PTTL": 1, b"PEXPIRETIME": 1}
_INSIDES: Final = {b"OBJECT", b"RANDOMKEY"}
_UNORDERED: Final = {b"KEYS", b"SCAN"}


def comparable(name: bytes, reply: object) -> object:
    """What two servers must agree on.

    - Times to live and to die: to within `TOLERANCE_MS`, rounded; never whether there is one.
    - KEYS and SCAN: the set of keys.
    - RANDOMKEY: whether there is one.
    - OBJECT: whether the key is there. How Redis stores a value depends on the command that made
      it; kvnode tells from the value alone.
    """
    if isinstance(reply, Exception):
        return str(reply)
    if name in _MILLISECONDS_PER_UNIT and isinstance(reply, int) and reply >= 0:
        return round(reply * _MILLISECONDS_PER_UNIT[name] / TOLERANCE_MS / 100)
    if name in _UNORDERED and isinstance(reply, list):
        return sorted(reply[-1] if name == b"SCAN" else reply)
    if name in _INSIDES:
        return reply is not None
    return reply
