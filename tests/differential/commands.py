"""What each command looks like: one row per command, and a reason for every command without one.

A row is picked up as soon as both servers know its command. The rows of one kind of values come
from `families`; here is what all sequences have: keys, transactions, connections and the server.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Final

from tests.differential.families import FAMILIES
from tests.differential.family import Companions, Family
from tests.differential.templates import Render, compile_template
from tests.differential.words import (
    ABSENT_KEYS,
    ATOMS,
    ODD_KEYS,
    Atom,
    Row,
    mostly,
    rows,
)

_WHEN: Final = "{|NX|XX|GT|LT|'nx}"


COMMON: Final[dict[str, Row]] = {
    **rows(2, {
        "expire": f"EXPIRE key seconds {_WHEN}",
        "ttl": "TTL key",
    }),
    **rows(1, {
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
        "scan": "SCAN 0 COUNT count [MATCH pattern] [TYPE type]|SCAN {cursor|number}",
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
    **rows(0.4, {
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
    **rows(0.4, {
        "flushall": "FLUSHALL {||ASYNC|SYNC|FOO}",
        "flushdb": "FLUSHDB {||ASYNC|SYNC|FOO}",
        "command": "COMMAND",
        "command|count": "COMMAND COUNT",
        "command|docs": "COMMAND DOCS command+",
        "command|list": "COMMAND LIST",
    }),
}  # fmt: skip
"""Rows by name; a subcommand is written `container|subcommand`."""

COMMANDS: Final[dict[str, Row]] = COMMON | {
    name: row for family in FAMILIES.values() for name, row in family.commands.items()
}
"""The rows of all families too."""

UNKNOWN: Final = Row(1, "FOO|FOO text+|GETT key|CLIENT FOO|CONFIG FOO 'bar|COMMAND FOO")
"""What neither server knows; it is sent whatever they know."""

NEVER_MANGLED: Final = frozenset(
    {
        *("client|kill", "client|pause", "config|set", "debug", "wait"),
        *("blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"),
    }
)
"""A wrong argument could stop a server or a client for hours, or change what comes later."""

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


OWN_SHARE: Final = 0.6
"""Commands of the families that a sequence is about."""


class Cast:
    """The families that a sequence is about: how often each command comes, and what it looks like.

    Most commands are of the families, the rest is common to all sequences; generic commands work on
    the keys of the families.

    Args:
        families: of which there is one at least.
        names: commands that may be used, as in `COMMANDS`.
    """

    def __init__(self, families: tuple[Family, ...], names: Collection[str]) -> None:
        self.families = families
        self.keys = tuple(key for family in families for key in family.keys)
        self.waits = tuple(form for family in families for form in family.waits)
        self.walks = tuple(form for family in families for form in family.walks)
        self.atoms: dict[str, Atom] = {
            **ATOMS,
            **{name: atom for each in FAMILIES.values() for name, atom in each.atoms.items()},
            "key": mostly(self.keys, ABSENT_KEYS + ODD_KEYS, 0.85),
            "newkey": mostly(ABSENT_KEYS, self.keys + ODD_KEYS, 0.5),
        }
        own = [(name, row) for each in families for name, row in each.commands.items()]
        common = [*COMMON.items(), ("", UNKNOWN)]
        self._names: list[str] = []
        self._weights: list[float] = []
        for part, share in ((own, OWN_SHARE), (common, 1 - OWN_SHARE)):
            usable = [(name, row) for name, row in part if name in names or not name]
            total = sum(row.weight for _, row in usable)
            self._names += [name for name, _ in usable]
            self._weights += [share * row.weight / total for _, row in usable]
        self._renders: dict[str, Render] = {}

    def choose(self, rng: random.Random) -> str:
        """The name of a command; none for one that nobody knows."""
        return rng.choices(self._names, self._weights)[0]

    def render(self, name: str, rng: random.Random) -> list[bytes]:
        """A command line for a name of `COMMANDS`, or for none."""
        if name not in self._renders:
            row = COMMANDS[name] if name else UNKNOWN
            self._renders[name] = compile_template(row.template, self.atoms)
        return self._renders[name](rng)

    def furniture(self, rng: random.Random) -> list[tuple[bytes, ...]]:
        """What most sequences begin with."""
        templates = (template for family in self.families for template in family.furniture)
        return self.lines(templates, rng)

    def lines(self, templates: Iterable[str], rng: random.Random) -> list[tuple[bytes, ...]]:
        """Command lines of templates that stand in no row."""
        return [tuple(compile_template(each, self.atoms)(rng)) for each in templates]

    def unit(self, line: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
        """The lines that go in one write with this one, itself included."""
        companions = _COMPANIONS.get(line[0].lower())
        return companions(line) if companions else [line]


_COMPANIONS: Final[dict[bytes, Companions]] = {
    name: companions
    for family in FAMILIES.values()
    for name, companions in family.companions.items()
}
