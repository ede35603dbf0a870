"""The command table: every command that kvnode knows, as data.

Arity, flags, key positions, version and group are those of Redis 7.0's command table (`COMMAND
INFO` prints them), so that tools which read them find what they expect. A command with subcommands
is a row of rows. The commands that a front end answers by itself are in `local_table.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvnode.resp.commands import keys, strings
from kvnode.resp.commands.command import NO_KEY, READ, WRITE, Command, Parse, container
from kvnode.resp.commands.local_table import local_commands
from kvnode.resp.encoder import ANY, Renders

ONE_KEY: Final = (1, 1, 1)
SECOND: Final = (2, 2, 1)
TWO_KEYS: Final = (1, 2, 1)
ALL_KEYS: Final = (1, -1, 1)
EVERY_SECOND: Final = (1, -1, 2)

_Row = tuple[str, int, str, tuple[int, int, int], str, str, Parse, str]

_READS: Final[tuple[_Row, ...]] = (
    ("get", 2, "readonly fast", ONE_KEY, "1.0.0", "string", strings.parse_get,
     "Returns the string value of a key."),
    ("mget", -2, "readonly fast", ALL_KEYS, "1.0.0", "string", strings.parse_mget,
     "Returns the string values of several keys, as of one moment."),
    ("strlen", 2, "readonly fast", ONE_KEY, "2.2.0", "string", strings.parse_strlen,
     "Returns the length of a string value in bytes."),
    ("getrange", 4, "readonly", ONE_KEY, "2.4.0", "string", strings.parse_getrange,
     "Returns a part of the string value of a key."),
    ("substr", 4, "readonly", ONE_KEY, "1.0.0", "string", strings.parse_getrange,
     "Returns a part of the string value of a key; GETRANGE is its newer name."),
    ("lcs", -3, "readonly", TWO_KEYS, "7.0.0", "string", strings.parse_lcs,
     "Finds the longest common subsequence of two string values."),
    ("exists", -2, "readonly fast", ALL_KEYS, "1.0.0", "generic", keys.parse_exists,
     "Counts how many of the keys exist."),
    ("type", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", keys.parse_type,
     "Tells the type of the value of a key."),
    ("ttl", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", keys.parse_ttl,
     "Returns the remaining lifetime of a key in seconds."),
    ("pttl", 2, "readonly fast", ONE_KEY, "2.6.0", "generic", keys.parse_pttl,
     "Returns the remaining lifetime of a key in milliseconds."),
    ("expiretime", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", keys.parse_expiretime,
     "Returns when a key expires, in seconds since the epoch."),
    ("pexpiretime", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", keys.parse_pexpiretime,
     "Returns when a key expires, in milliseconds since the epoch."),
    ("touch", -2, "readonly fast", ALL_KEYS, "3.2.1", "generic", keys.parse_exists,
     "Counts how many of the keys exist; reading leaves no trace on them."),
    ("randomkey", 1, "readonly", NO_KEY, "1.0.0", "generic", keys.parse_randomkey,
     "Returns one of the keys of the database."),
    ("keys", 2, "readonly", NO_KEY, "1.0.0", "generic", keys.parse_keys,
     "Returns all keys that match a pattern."),
    ("scan", -2, "readonly", NO_KEY, "2.8.0", "generic", keys.parse_scan,
     "Walks over the keys of a database, a page at a time."),
    ("dbsize", 1, "readonly fast", NO_KEY, "1.0.0", "server", keys.parse_dbsize,
     "Returns the number of keys in the database."),
)  # fmt: skip

_WRITES: Final[tuple[_Row, ...]] = (
    ("set", -3, "write denyoom", ONE_KEY, "1.0.0", "string", strings.parse_set,
     "Sets the string value of a key, on conditions and with a lifetime if asked."),
    ("mset", -3, "write denyoom", EVERY_SECOND, "1.0.1", "string", strings.parse_mset,
     "Sets the string values of several keys at one moment."),
    ("setnx", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_setnx,
     "Sets the string value of a key that is absent."),
    ("setex", 4, "write denyoom", ONE_KEY, "2.0.0", "string", strings.parse_setex,
     "Sets the string value of a key and its lifetime in seconds."),
    ("psetex", 4, "write denyoom", ONE_KEY, "2.6.0", "string", strings.parse_psetex,
     "Sets the string value of a key and its lifetime in milliseconds."),
    ("getset", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_getset,
     "Sets the string value of a key and returns the old one."),
    ("getdel", 2, "write fast", ONE_KEY, "6.2.0", "string", strings.parse_getdel,
     "Returns the string value of a key and deletes it."),
    ("getex", -2, "write fast", ONE_KEY, "6.2.0", "string", strings.parse_getex,
     "Returns the string value of a key and sets or removes its lifetime if asked."),
    ("msetnx", -3, "write denyoom", EVERY_SECOND, "1.0.1", "string", strings.parse_msetnx,
     "Sets the string values of several keys if all of them are absent."),
    ("setrange", 4, "write denyoom", ONE_KEY, "2.2.0", "string", strings.parse_setrange,
     "Overwrites a part of the string value of a key."),
    ("incrbyfloat", 3, "write denyoom fast", ONE_KEY, "2.6.0", "string",
     strings.parse_incrbyfloat,
     "Adds a number to the floating point value of a key; an absent key counts as 0."),
    ("incr", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_incr,
     "Adds one to the integer value of a key; an absent key counts as 0."),
    ("decr", 2, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_decr,
     "Subtracts one from the integer value of a key; an absent key counts as 0."),
    ("incrby", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_incrby,
     "Adds a number to the integer value of a key; an absent key counts as 0."),
    ("decrby", 3, "write denyoom fast", ONE_KEY, "1.0.0", "string", strings.parse_decrby,
     "Subtracts a number from the integer value of a key; an absent key counts as 0."),
    ("append", 3, "write denyoom fast", ONE_KEY, "2.0.0", "string", strings.parse_append,
     "Appends to the string value of a key and returns its new length."),
    ("del", -2, "write", ALL_KEYS, "1.0.0", "generic", keys.parse_del,
     "Deletes keys and counts those that were there."),
    ("unlink", -2, "write fast", ALL_KEYS, "4.0.0", "generic", keys.parse_del,
     "Deletes keys as DEL does, which never takes long here."),
    ("rename", 3, "write", TWO_KEYS, "1.0.0", "generic", keys.parse_rename,
     "Gives a key another name, in place of a key that had it."),
    ("renamenx", 3, "write fast", TWO_KEYS, "1.0.0", "generic", keys.parse_renamenx,
     "Gives a key another name that no key has."),
    ("copy", -3, "write denyoom", TWO_KEYS, "6.2.0", "generic", keys.parse_copy,
     "Copies a key, to another database if asked."),
    ("move", 3, "write fast", ONE_KEY, "1.0.0", "generic", keys.parse_move,
     "Moves a key to another database that has none of its name."),
    ("expire", -3, "write fast", ONE_KEY, "1.0.0", "generic", keys.parse_expire,
     "Sets the lifetime of a key in seconds."),
    ("pexpire", -3, "write fast", ONE_KEY, "2.6.0", "generic", keys.parse_pexpire,
     "Sets the lifetime of a key in milliseconds."),
    ("expireat", -3, "write fast", ONE_KEY, "1.2.0", "generic", keys.parse_expireat,
     "Sets when a key expires, in seconds since the epoch."),
    ("pexpireat", -3, "write fast", ONE_KEY, "2.6.0", "generic", keys.parse_pexpireat,
     "Sets when a key expires, in milliseconds since the epoch."),
    ("persist", 2, "write fast", ONE_KEY, "2.2.0", "generic", keys.parse_persist,
     "Lets a key live for ever."),
    ("flushdb", -1, "write", NO_KEY, "1.0.0", "server", keys.parse_flushdb,
     "Deletes all keys of the database."),
    ("flushall", -1, "write", NO_KEY, "1.0.0", "server", keys.parse_flushall,
     "Deletes all keys of all databases."),
    ("swapdb", 3, "write fast", NO_KEY, "4.0.0", "server", keys.parse_swapdb,
     "Exchanges two databases."),
)  # fmt: skip

_OBJECT: Final[tuple[_Row, ...]] = (
    ("object|encoding", 3, "readonly", SECOND, "2.2.3", "generic", keys.parse_object_encoding,
     "Tells how Redis would store the value of a key."),
    ("object|freq", 3, "readonly", SECOND, "4.0.0", "generic", keys.parse_object_freq,
     "Refused: accesses are not counted."),
    ("object|idletime", 3, "readonly", SECOND, "2.2.3", "generic", keys.parse_object_idletime,
     "Returns 0: accesses leave no trace."),
    ("object|refcount", 3, "readonly", SECOND, "2.2.3", "generic", keys.parse_object_refcount,
     "Returns how many references Redis would show for the value of a key."),
)  # fmt: skip

_RENDERS: Final[dict[str, Renders]] = {"setnx": strings.SETNX, "lcs": strings.LCS}
"""Of commands whose replies are not simply the result of their op."""


def _data(row: _Row, kind: int) -> Command:
    name, arity, flags, keys_at, since, group, parse, summary = row
    return Command(
        name,
        arity,
        tuple(flags.split()),
        keys_at,
        since,
        group,
        summary,
        kind=kind,
        parse=parse,
        renders=_RENDERS.get(name, ANY),
    )


def _object() -> Command:
    rows = [_data(row, READ) for row in _OBJECT]
    summary = "Prints what OBJECT can tell."
    rows.append(
        Command("object|help", 2, ("loading", "stale"), NO_KEY, "6.2.0", "generic", summary,
                run=keys.object_help)
    )  # fmt: skip
    return container("object", -2, "2.2.3", "generic", "About the insides of a key.", rows)


def _build() -> dict[str, Command]:
    rows = [_data(row, READ) for row in _READS]
    rows += [_data(row, WRITE) for row in _WRITES]
    rows += [_object(), *local_commands()]
    return {row.name: row for row in sorted(rows, key=lambda row: row.name)}


def _flatten(commands: Iterable[Command]) -> Iterator[Command]:
    for command in commands:
        yield command
        yield from _flatten(command.subcommands.values())


COMMANDS: Final[dict[str, Command]] = _build()
"""All commands by name, in its order."""

ROWS: Final[tuple[Command, ...]] = tuple(
    sorted(_flatten(COMMANDS.values()), key=lambda row: row.index)
)
"""All commands and subcommands, each at the place that its index tells."""
