"""The commands that a front end answers by itself: rows of the command table, as data.

They tell about the connection, the server or the transaction, and never go to the log (EXEC, WATCH
and MEMORY USAGE send operations of their own).
"""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import connection as conn
from kvnode.resp.commands import server
from kvnode.resp.commands import transactions as txn
from kvnode.resp.commands.command import NO_KEY, Command, Run, container

ALL_KEYS: Final = (1, -1, 1)

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


def local_commands() -> list[Command]:
    """All rows of this module as commands, in no order."""
    rows = [_local(row) for row in (*_LOCALS, _UNWATCH)]
    rows += [_local(row, immediate=True) for row in _IMMEDIATE]
    rows += [
        container("client", -2, "2.4.0", "connection", "About connections.", _subrows("client")),
        container("config", -2, "2.0.0", "server", "About settings.", _subrows("config")),
        container("command", -1, "2.8.13", "server", "About commands.", _subrows("command"),
                  server.command),
    ]  # fmt: skip
    return rows


def _subrows(name: str) -> list[Command]:
    return [_local(row, f"{name}|") for row in _SUBCOMMANDS[name]]


def _local(row: _LocalRow, prefix: str = "", *, immediate: bool = False) -> Command:
    name, arity, flags, since, group, run, summary = row
    return Command(
        prefix + name,
        arity,
        tuple(flags.split()),
        ALL_KEYS if name == "watch" else NO_KEY,
        since,
        group,
        summary,
        run=run,
        immediate=immediate,
    )
