"""Facts of the commands for keys of any kind, databases included."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import keys
from kvnode.resp.commands.command import NO_KEY, READ, Command, container
from kvnode.resp.commands.facts.row import (
    ALL_KEYS,
    ONE_KEY,
    POINT,
    RANGE,
    SECOND,
    TWO_KEYS,
    WHOLE,
    Row,
    to_command,
)

READS: Final[tuple[Row, ...]] = (
    Row("exists", -2, "readonly fast", ALL_KEYS, "1.0.0", "generic", RANGE,
        keys.parse_exists, "Counts how many of the keys exist."),
    Row("type", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", POINT,
        keys.parse_type, "Tells the type of the value of a key."),
    Row("ttl", 2, "readonly fast", ONE_KEY, "1.0.0", "generic", POINT,
        keys.parse_ttl, "Returns the remaining lifetime of a key in seconds."),
    Row("pttl", 2, "readonly fast", ONE_KEY, "2.6.0", "generic", POINT,
        keys.parse_pttl, "Returns the remaining lifetime of a key in milliseconds."),
    Row("expiretime", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", POINT,
        keys.parse_expiretime, "Returns when a key expires, in seconds since the epoch."),
    Row("pexpiretime", 2, "readonly fast", ONE_KEY, "7.0.0", "generic", POINT,
        keys.parse_pexpiretime, "Returns when a key expires, in milliseconds since the epoch."),
    Row("touch", -2, "readonly fast", ALL_KEYS, "3.2.1", "generic", RANGE,
        keys.parse_exists, "Counts how many of the keys exist; reading leaves no trace on them."),
    Row("randomkey", 1, "readonly", NO_KEY, "1.0.0", "generic", POINT,
        keys.parse_randomkey, "Returns one of the keys of the database."),
    Row("keys", 2, "readonly", NO_KEY, "1.0.0", "generic", WHOLE,
        keys.parse_keys, "Returns all keys that match a pattern."),
    Row("scan", -2, "readonly", NO_KEY, "2.8.0", "generic", RANGE,
        keys.parse_scan, "Walks over the keys of a database, a page at a time."),
    Row("dbsize", 1, "readonly fast", NO_KEY, "1.0.0", "server", POINT,
        keys.parse_dbsize, "Returns the number of keys in the database."),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("del", -2, "write", ALL_KEYS, "1.0.0", "generic", RANGE,
        keys.parse_del, "Deletes keys and counts those that were there."),
    Row("unlink", -2, "write fast", ALL_KEYS, "4.0.0", "generic", RANGE,
        keys.parse_del, "Deletes keys as DEL does, which never takes long here."),
    Row("rename", 3, "write", TWO_KEYS, "1.0.0", "generic", POINT,
        keys.parse_rename, "Gives a key another name, in place of a key that had it."),
    Row("renamenx", 3, "write fast", TWO_KEYS, "1.0.0", "generic", POINT,
        keys.parse_renamenx, "Gives a key another name that no key has."),
    Row("copy", -3, "write denyoom", TWO_KEYS, "6.2.0", "generic", WHOLE,
        keys.parse_copy, "Copies a key, to another database if asked.", stands_alone=True),
    Row("move", 3, "write fast", ONE_KEY, "1.0.0", "generic", POINT,
        keys.parse_move, "Moves a key to another database that has none of its name."),
    Row("expire", -3, "write fast", ONE_KEY, "1.0.0", "generic", POINT,
        keys.parse_expire, "Sets the lifetime of a key in seconds."),
    Row("pexpire", -3, "write fast", ONE_KEY, "2.6.0", "generic", POINT,
        keys.parse_pexpire, "Sets the lifetime of a key in milliseconds."),
    Row("expireat", -3, "write fast", ONE_KEY, "1.2.0", "generic", POINT,
        keys.parse_expireat, "Sets when a key expires, in seconds since the epoch."),
    Row("pexpireat", -3, "write fast", ONE_KEY, "2.6.0", "generic", POINT,
        keys.parse_pexpireat, "Sets when a key expires, in milliseconds since the epoch."),
    Row("persist", 2, "write fast", ONE_KEY, "2.2.0", "generic", POINT,
        keys.parse_persist, "Lets a key live for ever."),
    Row("flushdb", -1, "write", NO_KEY, "1.0.0", "server", POINT,
        keys.parse_flushdb, "Deletes all keys of the database."),
    Row("flushall", -1, "write", NO_KEY, "1.0.0", "server", POINT,
        keys.parse_flushall, "Deletes all keys of all databases."),
    Row("swapdb", 3, "write fast", NO_KEY, "4.0.0", "server", POINT,
        keys.parse_swapdb, "Exchanges two databases."),
)  # fmt: skip

_OBJECT: Final[tuple[Row, ...]] = (
    Row("object|encoding", 3, "readonly", SECOND, "2.2.3", "generic", POINT,
        keys.parse_object_encoding, "Tells how Redis would store the value of a key."),
    Row("object|freq", 3, "readonly", SECOND, "4.0.0", "generic", POINT,
        keys.parse_object_freq, "Refused: accesses are not counted."),
    Row("object|idletime", 3, "readonly", SECOND, "2.2.3", "generic", POINT,
        keys.parse_object_idletime, "Returns 0: accesses leave no trace."),
    Row("object|refcount", 3, "readonly", SECOND, "2.2.3", "generic", POINT,
        keys.parse_object_refcount,
        "Returns how many references Redis would show for the value of a key."),
)  # fmt: skip


def object_command() -> Command:
    """OBJECT and its subcommands."""
    rows = [to_command(row, READ) for row in _OBJECT]
    summary = "Prints what OBJECT can tell."
    rows.append(
        Command("object|help", 2, ("loading", "stale"), NO_KEY, "6.2.0", "generic", summary,
                run=keys.object_help)
    )  # fmt: skip
    return container("object", -2, "2.2.3", "generic", "About the insides of a key.", rows)
