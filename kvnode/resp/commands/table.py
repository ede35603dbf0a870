"""The command table: every command that kvnode knows, as data.

Arity, flags, key positions, version and group are those of Redis 7.0's command table (`COMMAND
INFO` prints them), so that tools which read them find what they expect. A command with subcommands
is run by `run_subcommand`, which finds the row of the subcommand first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands import connection as conn
from kvnode.resp.commands import keys, server, strings
from kvnode.resp.commands import transactions as txn
from kvnode.resp.commands.command import READ, WRITE, Command, Parse, Run, run_nothing
from kvnode.resp.commands.grammar import text_of, wrong_arity

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

ONE_KEY: Final = (1, 1, 1)
ALL_KEYS: Final = (1, -1, 1)
EVERY_SECOND: Final = (1, -1, 2)
NO_KEY: Final = (0, 0, 0)

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

_LocalRow = tuple[str, int, str, str, str, Run, str]

_LOCALS: Final[tuple[_LocalRow, ...]] = (
    ("ping", -1, "fast", "1.0.0", "connection", conn.ping,
     "Answers PONG, or the argument."),
    ("echo", 2, "loading stale fast", "1.0.0", "connection", conn.echo,
     "Answers the argument."),
    ("select", 2, "loading stale fast", "1.0.0", "connection", conn.select,
     "Chooses the database of this connection."),
    ("auth", -2, "noscript loading stale fast no_auth allow_busy", "1.0.0", "connection",
     conn.auth, "Logs in."),
    ("hello", -1, "noscript loading stale fast no_auth allow_busy", "6.0.0", "connection",
     conn.hello, "Chooses the protocol version and tells about the server."),
    ("time", 1, "loading stale fast", "2.6.0", "server", server.time,
     "Returns the cluster's clock."),
    ("info", -1, "loading stale", "1.0.0", "server", server.info,
     "Tells about the server and its figures."),
)  # fmt: skip

_IMMEDIATE: Final[tuple[_LocalRow, ...]] = (
    ("multi", 1, "noscript loading stale fast allow_busy", "1.2.0", "transactions", txn.multi,
     "Begins a transaction."),
    ("exec", 1, "noscript loading stale skip_slowlog", "1.2.0", "transactions", txn.exec_,
     "Runs the commands of a transaction."),
    ("discard", 1, "noscript loading stale fast allow_busy", "2.0.0", "transactions",
     txn.discard, "Forgets a transaction."),
    ("watch", -2, "noscript loading stale fast allow_busy", "2.2.0", "transactions", txn.watch,
     "Makes the next EXEC depend on keys staying as they are."),
    ("quit", -1, "noscript loading stale fast no_auth allow_busy", "1.0.0", "connection",
     conn.quit_, "Closes the connection."),
    ("reset", 1, "noscript loading stale fast no_auth allow_busy", "6.2.0", "connection",
     conn.reset, "Makes the connection as new."),
)  # fmt: skip

_UNWATCH: Final[_LocalRow] = (
    "unwatch", 1, "noscript loading stale fast allow_busy", "2.2.0", "transactions", txn.unwatch,
    "Forgets the watched keys.",
)  # fmt: skip

_SUBCOMMANDS: Final[dict[str, tuple[_LocalRow, ...]]] = {
    "client": (
        ("id", 2, "noscript loading stale", "5.0.0", "connection", conn.client_id,
         "Returns the number of this connection."),
        ("info", 2, "noscript loading stale", "6.2.0", "connection", conn.client_info,
         "Tells about this connection."),
        ("list", -2, "admin noscript loading stale", "2.4.0", "connection", conn.client_list,
         "Tells about all connections."),
        ("getname", 2, "noscript loading stale", "2.6.9", "connection", conn.client_getname,
         "Returns the name of this connection."),
        ("setname", 3, "noscript loading stale", "2.6.9", "connection", conn.client_setname,
         "Names this connection."),
        ("setinfo", 4, "noscript loading stale", "7.2.0", "connection", conn.client_setinfo,
         "Names the client library of this connection."),
        ("no-evict", 3, "admin noscript loading stale", "7.0.0", "connection",
         conn.client_no_evict, "Accepted; no connection is evicted."),
        ("no-touch", 3, "noscript loading stale", "7.2.0", "connection",
         conn.client_no_evict, "Accepted; reading a key leaves no trace."),
    ),
    "config": (
        ("get", -3, "admin noscript loading stale", "2.0.0", "server", server.config_get,
         "Returns settings by name or pattern."),
        ("set", -4, "admin noscript loading stale", "2.0.0", "server", server.config_set,
         "Refused: settings are made at start."),
        ("resetstat", 2, "admin noscript loading stale", "2.0.0", "server",
         server.config_resetstat, "Sets the counters of INFO to zero."),
        ("rewrite", 2, "admin noscript loading stale", "2.8.0", "server",
         server.config_rewrite, "Refused: settings are made at start."),
    ),
    "command": (
        ("count", 2, "loading stale", "2.8.13", "server", server.command_count,
         "Counts the commands."),
        ("docs", -2, "loading stale", "7.0.0", "server", server.command_docs,
         "Describes commands for people."),
        ("getkeys", -4, "loading stale", "2.8.13", "server", server.command_getkeys,
         "Finds the keys in a command line."),
        ("info", -2, "loading stale", "2.8.13", "server", server.command_info,
         "Describes commands for programs."),
        ("list", -2, "loading stale", "7.0.0", "server", server.command_list,
         "Lists the names of the commands."),
    ),
}  # fmt: skip


def _data(row: _Row, kind: int) -> Command:
    name, arity, flags, keys_at, since, group, parse, summary = row
    return Command(
        name, arity, tuple(flags.split()), keys_at, since, group, summary, kind=kind, parse=parse
    )


def _local(row: _LocalRow, prefix: str = "", *, immediate: bool = False) -> Command:
    name, arity, flags, since, group, run, summary = row
    keys_at = ALL_KEYS if name == "watch" else NO_KEY
    return Command(
        prefix + name,
        arity,
        tuple(flags.split()),
        keys_at,
        since,
        group,
        summary,
        run=run,
        immediate=immediate,
    )


def _container(
    name: str, arity: int, since: str, group: str, summary: str, alone: Run = run_nothing
) -> Command:
    """A command that is nothing without a subcommand; `alone` is run if it stands alone."""
    subcommands = tuple(_local(row, f"{name}|") for row in _SUBCOMMANDS[name])
    by_name = {sub.name.partition("|")[2].encode(): sub for sub in subcommands}

    def run_subcommand(connection: Connection, arguments: list[bytes]) -> bytes | None:
        if len(arguments) == 1:
            return alone(connection, arguments)
        sub = by_name.get(arguments[1].lower())
        if sub is None:
            raise CommandError(
                f"ERR unknown subcommand '{text_of(arguments[1][:128])}'. Try {name.upper()} HELP."
            )
        if not sub.accepts(len(arguments)):
            raise wrong_arity(sub.name)
        connection.last_command = sub
        return sub.run(connection, arguments)

    return Command(
        name, arity, (), NO_KEY, since, group, summary, run=run_subcommand, subcommands=subcommands
    )


def _build() -> dict[str, Command]:
    rows = [_data(row, READ) for row in _READS]
    rows += [_data(row, WRITE) for row in _WRITES]
    rows += [_local(row) for row in (*_LOCALS, _UNWATCH)]
    rows += [_local(row, immediate=True) for row in _IMMEDIATE]
    rows += [
        _container("client", -2, "2.4.0", "connection", "About connections."),
        _container("config", -2, "2.0.0", "server", "About settings."),
        _container("command", -1, "2.8.13", "server", "About commands.", server.command),
    ]
    rows.sort(key=lambda row: row.name)
    return {row.name: replace(row, index=index) for index, row in enumerate(rows)}


COMMANDS: Final[dict[str, Command]] = _build()
"""All commands by name, in its order."""
