"""What each command looks like: one row per command, and a reason for every command without one.

A row is picked up as soon as both servers know its command. Values are chosen so that most commands
succeed most of the time: few keys, of which some mostly hold numbers, and lifetimes so long and so
far apart that the two servers' clocks never matter (`rules.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.differential.templates import compile_template

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


def _mostly(usual: tuple[bytes, ...], rare: tuple[bytes, ...] = (), share: float = 0.9) -> Atom:
    """One of the usual values in `share` of all cases, else a rare one."""
    return lambda rng: rng.choice(usual if not rare or rng.random() < share else rare)


ATOMS: Final[dict[str, Atom]] = {
    "key": _mostly(NUMBER_KEYS + TEXT_KEYS, ABSENT_KEYS + ODD_KEYS, 0.85),
    "nkey": _mostly(NUMBER_KEYS, TEXT_KEYS + ODD_KEYS, 0.85),
    "tkey": _mostly(TEXT_KEYS, NUMBER_KEYS + ODD_KEYS, 0.85),
    "newkey": _mostly(ABSENT_KEYS, NUMBER_KEYS + TEXT_KEYS + ODD_KEYS, 0.5),
    "value": _mostly(NUMBERS + TEXTS, EDGES + FLOATS),
    "number": _mostly(NUMBERS, EDGES + JUNK),
    "float": _mostly(FLOATS, ODD_FLOATS + EDGES),
    "text": _mostly(TEXTS),
    "position": _mostly((b"0", b"1", b"3", b"10", b"-1", b"-4", b"100"), JUNK),
    "offset": _mostly((b"0", b"1", b"3", b"10", b"100"), (b"-1", b"536870912", *JUNK)),
    "length": _mostly((b"0", b"1", b"2", b"4"), JUNK),
    "seconds": _mostly(SECONDS, BAD_TIMES),
    "millis": _mostly(MILLIS, BAD_TIMES),
    "atseconds": _mostly(AT_SECONDS, BAD_TIMES[1:]),
    "atmillis": _mostly(AT_MILLIS, BAD_TIMES[1:]),
    "past": _mostly(PAST_SECONDS),
    "pattern": _mostly(PATTERNS),
    "database": _mostly((b"0", b"0", b"1", b"15"), (b"16", b"-1", b"abc", b"", EDGES[0]), 0.95),
    "count": _mostly((b"1000",), (b"1", b"3", b"0", b"-1", b"abc"), 0.7),
    "type": _mostly((b"string", b"STRING"), (b"hash", b"list", b"nosuch", b"")),
    "name": _mostly((b"tester", b"", b"a-b"), (b"a b", b"a\nb")),
    "command": _mostly(COMMAND_NAMES),
    "parameter": _mostly(
        (b"databases", b"maxmemory-policy", b"DATABASES", b"maxmemory-po*", b"proto-nosuch"),
        (b"", b"nosuch"),
    ),
    "section": _mostly((b"server", b"keyspace", b"all", b"everything", b"default", b"nosuch")),
}
"""What a word in lower case stands for."""

_EXPIRY: Final = "EX seconds|PX millis|EXAT atseconds|PXAT atmillis"
_WHEN: Final = "{|NX|XX|GT|LT|'nx}"


class Row(NamedTuple):
    """How often a command is sent, compared to the others, and what it looks like."""

    weight: float
    template: str


def _rows(weight: float, templates: dict[str, str]) -> dict[str, Row]:
    return {name: Row(weight, template) for name, template in templates.items()}


COMMANDS: Final[dict[str, Row]] = {
    **_rows(4, {"set": f"SET key value|SET key value {{NX|XX|GET|}} {{{_EXPIRY}|KEEPTTL|}} [GET]"}),
    **_rows(2, {
        "get": "GET key",
        "mset": "MSET {key value}+",
        "incr": "INCR nkey",
        "expire": f"EXPIRE key seconds {_WHEN}",
        "ttl": "TTL key",
    }),
    **_rows(1, {
        # Strings.
        "append": "APPEND tkey text",
        "decr": "DECR nkey",
        "decrby": "DECRBY nkey number",
        "getdel": "GETDEL key",
        "getex": f"GETEX key [{{{_EXPIRY}|PERSIST}}]",
        "getrange": "GETRANGE tkey position position",
        "getset": "GETSET key value",
        "incrby": "INCRBY nkey number",
        "incrbyfloat": "INCRBYFLOAT nkey float",
        "lcs": "LCS tkey tkey {LEN||IDX|IDX MINMATCHLEN length|IDX WITHMATCHLEN|LEN IDX}",
        "mget": "MGET key+",
        "msetnx": "MSETNX {newkey value}+",
        "psetex": "PSETEX key millis value",
        "setex": "SETEX key seconds value",
        "setnx": "SETNX newkey value",
        "setrange": "SETRANGE tkey offset text",
        "strlen": "STRLEN key",
        "substr": "SUBSTR tkey position position",
        # Keys.
        "copy": "COPY key newkey [DB database] [REPLACE]",
        "del": "DEL key+",
        "exists": "EXISTS key+",
        "expireat": f"EXPIREAT key atseconds {_WHEN}|EXPIREAT key past",
        "expiretime": "EXPIRETIME key",
        "keys": "KEYS pattern",
        "move": "MOVE key database",
        "object|encoding": "OBJECT {ENCODING|ENCODING|ENCODING|FOO} key",
        "object|freq": "OBJECT FREQ key",
        "object|idletime": "OBJECT IDLETIME key",
        "object|refcount": "OBJECT REFCOUNT key",
        "persist": "PERSIST key",
        "pexpire": f"PEXPIRE key millis {_WHEN}",
        "pexpireat": f"PEXPIREAT key atmillis {_WHEN}|PEXPIREAT key past",
        "pexpiretime": "PEXPIRETIME key",
        "pttl": "PTTL key",
        "randomkey": "RANDOMKEY",
        "rename": "RENAME key newkey",
        "renamenx": "RENAMENX key newkey",
        "scan": "SCAN 0 COUNT count [MATCH pattern] [TYPE type]|SCAN number",
        "touch": "TOUCH key+",
        "type": "TYPE key",
        "unlink": "UNLINK key+",
        # Databases and server.
        "dbsize": "DBSIZE",
        "swapdb": "SWAPDB database database",
        # Transactions: most come from `generator.py`, these stand alone.
        "discard": "DISCARD",
        "exec": "EXEC",
        "multi": "MULTI",
        "unwatch": "UNWATCH",
        "watch": "WATCH key+",
        # Connections.
        "echo": "ECHO text",
        "hello": "HELLO {|2|3|4|'abc|3 SETNAME name|2 FOO}",
        "ping": "PING [text]",
        "quit": "QUIT",
    }),
    **_rows(0.4, {
        "auth": "AUTH {text|DEFAULT text|'default text|'default text}",
        "client|getname": "CLIENT GETNAME",
        "client|getredir": "CLIENT GETREDIR",
        "client|id": "CLIENT ID",
        "client|info": "CLIENT INFO",
        "client|kill": "CLIENT KILL {ID 99999999|ID 99999998|ADDR 1.2.3.4:5|1.2.3.4:5|ID A|TYPE B}",
        "client|list": "CLIENT LIST {|||ID 999999999|TYPE 'foo|FOO}",
        "client|no-evict": "CLIENT NO-EVICT {'on|OFF|'foo}",
        "client|pause": "CLIENT PAUSE {0|1|'abc|-1} {|WRITE|ALL|FOO}",
        "client|reply": "CLIENT REPLY {ON|FOO}",
        "client|setname": "CLIENT SETNAME name",
        "client|tracking": "CLIENT TRACKING {OFF|FOO}",
        "client|unblock": "CLIENT UNBLOCK {99999999|99999998|'abc} {|TIMEOUT|ERROR|FOO}",
        "client|unpause": "CLIENT UNPAUSE",
        "command|getkeys": "COMMAND GETKEYS {GET 'a|MSET 'a 'b 'c 'd|DEL key+|command key+}",
        "command|info": "COMMAND INFO command+",
        "config|get": "CONFIG GET parameter+",
        "config|resetstat": "CONFIG RESETSTAT",
        "config|set": "CONFIG SET 'slowlog-max-len {128|128|128|128 'nosuch 1|'abc}"
        "|CONFIG SET {'slowlog-max-len 128|'nosuch 1|'maxmemory}",
        "debug": "DEBUG SLEEP {0|0.001}",
        "info": "INFO section+",
        "lastsave": "LASTSAVE",
        "latency|doctor": "LATENCY DOCTOR",
        "latency|histogram": "LATENCY HISTOGRAM [command]",
        "latency|history": "LATENCY HISTORY command",
        "latency|latest": "LATENCY LATEST",
        "latency|reset": "LATENCY RESET",
        "memory|doctor": "MEMORY DOCTOR",
        "memory|stats": "MEMORY STATS",
        "memory|usage": "MEMORY USAGE key [SAMPLES {0|5|-1|'abc}]",
        "module|list": "MODULE LIST",
        "reset": "RESET",
        "role": "ROLE",
        "slowlog|get": "SLOWLOG GET {|0|1|-1|-2|'abc}",
        "slowlog|len": "SLOWLOG LEN",
        "select": "SELECT database",
        "slowlog|reset": "SLOWLOG RESET",
        "time": "TIME",
        "wait": "WAIT {0|0|0|1|'abc|-1} {1|1|1|-1|'abc}",
    }),
    **_rows(0.4, {
        "flushall": "FLUSHALL {||ASYNC|SYNC|FOO}",
        "flushdb": "FLUSHDB {||ASYNC|SYNC|FOO}",
        "command": "COMMAND",
        "command|count": "COMMAND COUNT",
        "command|docs": "COMMAND DOCS command+",
        "command|list": "COMMAND LIST",
    }),
}  # fmt: skip
"""Rows by name; a subcommand is written `container|subcommand`."""

UNKNOWN: Final = Row(1, "FOO|FOO text+|GETT key|CLIENT FOO|CONFIG FOO 'bar|COMMAND FOO")
"""What neither server knows; it is sent whatever they know."""

NEVER_MANGLED: Final = frozenset({"client|kill", "client|pause", "config|set", "debug", "wait"})
"""A wrong argument could stop a server for hours, or change it for all sequences to come."""

EXCLUDED: Final[dict[str, str]] = {
    "asking": "cluster mode, which neither server runs in",
    "bgsave": "makes a snapshot: no reply or key depends on it, and both would be slow",
    "client|caching": "client-side caching is not offered",
    "client|no-touch": "newer than the redis-server 7.0 that we compare with",
    "client|setinfo": "newer than the redis-server 7.0 that we compare with",
    "command|getkeysandflags": "flags of keys are a detail of Redis' table",
    "config|rewrite": "kvnode has no file of its own to write",
    "readonly": "kvnode: opt in to stale reads, which would be compared with fresh ones; Redis: an "
    "error outside of cluster mode",
    "readwrite": "goes with READONLY",
    "save": "makes a snapshot, as BGSAVE",
    "shutdown": "ends the server",
}
"""Commands that kvnode may know and that are left out, with the reason. HELP texts are, too."""


def without_row(names: set[str]) -> set[str]:
    """Of these commands, those that have neither a row nor a reason."""
    return (
        {name for name in names if not name.endswith("|help")} - COMMANDS.keys() - EXCLUDED.keys()
    )


RENDERS: Final = {
    name: compile_template(row.template, ATOMS) for name, row in [*COMMANDS.items(), ("", UNKNOWN)]
}
"""The templates as functions; the unknown ones under no name."""
