"""What commands are made of: keys, values and lifetimes, and the atoms that choose among them.

Values are chosen so that most commands succeed most of the time: few keys, of which some mostly
hold numbers, and lifetimes so long and so far apart that the two servers' clocks never matter
(`rules.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

NUMBER_KEYS: Final = (b"n1", b"n2")
TEXT_KEYS: Final = (b"s1", b"s2")
ODD_KEYS: Final = (b"s 3", b"", b"\xd0\xba\r\n\x00", b"n:3")
ABSENT_KEYS: Final = (b"absent", b"gone")
"""Rarely written: what is conditional on a key being absent must succeed often enough."""
DATABASES: Final = (0, 1, 15)
"""Where sequences write; all are compared at the end."""

NUMBERS: Final = (b"0", b"1", b"-1", b"7", b"10", b"-12345", b"2147483648")
EDGES: Final = (
    *(b"9223372036854775807", b"-9223372036854775808", b"9223372036854775806"),
    *(b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616"),
)
FLOATS: Final = (
    *(b"0.5", b"-0.1", b"3.0", b"1e3", b"-2.25", b"10", b"0.0001", b"1.10", b"5.0e2", b"1e-5"),
    *(b"100000000.5", b"-3", b"12345.678", b"0"),
)
ODD_FLOATS: Final = (b"inf", b"-inf", b"nan", b"1e400", b"abc", b"", b" 1", b"1 ", b"0x10", b"1e")
TEXTS: Final = (
    *(b"", b"x", b"hello", b"Hello World", b"ohmytext", b"mynewtext", b"a b\tc"),
    *(b"\x00\xff\r\n$-1\r\n", b"x" * 44, b"y" * 45, b"z" * 300, b"007", b"1.50"),
)
JUNK: Final = (
    *(b"", b"abc", b"1.5", b" 1", b"+1", b"-0", b"0x10", b"1e3", b"-1", b"0", b"\x00", b"NX"),
    *(b"GET", b"EX", b"PERSIST", b"9999999999999999", b"0012", *EDGES),
)
"""What a wrong argument is. No number here is a lifetime that could end during a sequence."""
PATTERNS: Final = (
    *(b"*", b"s*", b"n?", b"[ns]1", b"[^n]*", b"[a-s]*", b"*1", b"n:*", b"", b"s\\ 3", b"??"),
    *(b"nosuch*", b"*s*1*", b"[", b"[a", b"\\", b"n[1-2]", b"n[2-1]"),
)
SECONDS: Final = tuple(b"%d" % (step * 10_000) for step in range(1, 10))
MILLIS: Final = tuple(b"%d" % (step * 10_000_000 + 500) for step in range(1, 10))
AT_SECONDS: Final = tuple(b"%d" % (4_000_000_000 + step * 10_000) for step in range(1, 10))
AT_MILLIS: Final = tuple(b"%d" % (4_000_000_000_500 + step * 10_000_000) for step in range(1, 10))
BAD_TIMES: Final = (b"0", b"-1", b"abc", b"", b"1.5", *EDGES[:4])
PAST_SECONDS: Final = (b"1", b"1000000000", b"0", b"-1")
COMMAND_NAMES: Final = (b"get", b"SET", b"mset", b"del", b"ping", b"exec", b"expire", b"nosuch")


Atom = Callable[[random.Random], bytes]


def mostly(usual: tuple[bytes, ...], rare: tuple[bytes, ...] = (), share: float = 0.9) -> Atom:
    """One of the usual values in `share` of all cases, else a rare one."""
    return lambda rng: rng.choice(usual if not rare or rng.random() < share else rare)


def keyed(keys: tuple[bytes, ...]) -> Atom:
    """Mostly one of a family's keys, else one that is absent or holds something else."""
    return mostly(keys, ABSENT_KEYS + TEXT_KEYS + ODD_KEYS, 0.92)


ATOMS: Final[dict[str, Atom]] = {
    "skey": mostly(NUMBER_KEYS + TEXT_KEYS, ABSENT_KEYS + ODD_KEYS, 0.85),
    "nkey": mostly(NUMBER_KEYS, TEXT_KEYS + ODD_KEYS, 0.85),
    "tkey": mostly(TEXT_KEYS, NUMBER_KEYS + ODD_KEYS, 0.85),
    "value": mostly(NUMBERS + TEXTS, EDGES + FLOATS),
    "digits": mostly(NUMBERS),
    "number": mostly(NUMBERS, EDGES + JUNK),
    "float": mostly(FLOATS, ODD_FLOATS + EDGES),
    "text": mostly(TEXTS),
    "position": mostly((b"0", b"1", b"3", b"10", b"-1", b"-4", b"100"), JUNK),
    "offset": mostly((b"0", b"1", b"3", b"10", b"100"), (b"-1", b"536870912", *JUNK)),
    "length": mostly((b"0", b"1", b"2", b"4"), JUNK),
    "seconds": mostly(SECONDS, BAD_TIMES),
    "millis": mostly(MILLIS, BAD_TIMES),
    "atseconds": mostly(AT_SECONDS, BAD_TIMES[1:]),
    "atmillis": mostly(AT_MILLIS, BAD_TIMES[1:]),
    "past": mostly(PAST_SECONDS),
    "pattern": mostly(PATTERNS),
    "database": mostly((b"0", b"0", b"1", b"15"), (b"16", b"-1", b"abc", b"", EDGES[0]), 0.95),
    "count": mostly((b"1000",), (b"1", b"3", b"0", b"-1", b"abc"), 0.7),
    "cursor": mostly((b"0", b"00", b""), (b"5", b"-1", b"+3", b"-", b"18446744073709551616", b"x")),
    "type": mostly(
        (b"string", b"hash", b"list", b"set", b"zset", b"stream"), (b"HASH", b"no", b"")
    ),
    "name": mostly((b"tester", b"", b"a-b"), (b"a b", b"a\nb")),
    "command": mostly(COMMAND_NAMES),
    "parameter": mostly(
        (b"databases", b"maxmemory-policy", b"DATABASES", b"maxmemory-po*", b"proto-nosuch"),
        (b"", b"nosuch"),
    ),
    "section": mostly((b"server", b"keyspace", b"all", b"everything", b"default", b"nosuch")),
}
"""What a word in lower case stands for, in every family."""


class Row(NamedTuple):
    """How often a command is sent, compared to the others, and what it looks like."""

    weight: float
    template: str


def rows(weight: float, templates: dict[str, str]) -> dict[str, Row]:
    """Rows of one weight, by the names of their commands."""
    return {name: Row(weight, template) for name, template in templates.items()}


EXPIRY: Final = "EX seconds|PX millis|EXAT atseconds|PXAT atmillis"
