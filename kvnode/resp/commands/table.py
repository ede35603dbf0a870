"""The command table: every command that kvnode knows, as data.

Arity, flags, key positions, version and group are those of Redis 7.0's command table (`COMMAND
INFO` prints them), so that tools which read them find what they expect. A command with subcommands
is a row of rows. The commands that a front end answers by itself are in `local_table.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvnode.resp.commands import keys, strings
from kvnode.resp.commands.command import NO_KEY, READ, WRITE, Command, Parse
from kvnode.resp.commands.local_table import local_commands

ONE_KEY: Final = (1, 1, 1)
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
    ("exists", -2, "readonly fast", ALL_KEYS, "1.0.0", "generic", keys.parse_exists,
     "Counts how many of the keys exist."),
    ("type", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", keys.parse_type,
     "Tells the type of the value of a key."),
    ("ttl", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", keys.parse_ttl,
     "Returns the remaining lifetime of a key in seconds."),
    ("pttl", 2, "readonly fast", ONE_KEY, "2.6.0", "generic", keys.parse_pttl,
     "Returns the remaining lifetime of a key in milliseconds."),
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
)  # fmt: skip


def _data(row: _Row, kind: int) -> Command:
    name, arity, flags, keys_at, since, group, parse, summary = row
    return Command(
        name, arity, tuple(flags.split()), keys_at, since, group, summary, kind=kind, parse=parse
    )


def _build() -> dict[str, Command]:
    rows = [_data(row, READ) for row in _READS]
    rows += [_data(row, WRITE) for row in _WRITES]
    rows += local_commands()
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
