"""The commands that a front end answers by itself: rows of the command table, as data.

They tell about the connection, the server or the transaction. EXEC, WATCH and MEMORY USAGE alone
send operations to the node.
"""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import blocking, client, config, introspection, server, slow
from kvnode.resp.commands import connection as conn
from kvnode.resp.commands import transactions as txn
from kvnode.resp.commands.command import NO_KEY, READ, Command, Run, container, run_nothing

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
    ("role", 1, "noscript loading stale fast", "2.8.12", "server", server.role,
     "Tells who leads, and how far the others are."),
    ("readonly", 1, "loading stale fast", "3.0.0", "cluster", server.readonly,
     "Lets reads of this connection be stale: answered by this node alone."),
    ("readwrite", 1, "loading stale fast", "3.0.0", "cluster", server.readwrite,
     "Makes reads of this connection linearizable again."),
    ("wait", 3, "noscript", "3.0.0", "generic", blocking.wait,
     "Waits until so many other voters have all earlier writes on disk."),
    ("save", 1, "admin noscript no_async_loading no_multi", "1.0.0", "server", blocking.save,
     "Takes a snapshot and waits for it."),
    ("bgsave", -1, "admin noscript no_async_loading", "1.0.0", "server", blocking.bgsave,
     "Begins a snapshot."),
    ("lastsave", 1, "loading stale fast", "1.0.0", "server", blocking.lastsave,
     "Tells when the newest snapshot was taken."),
    ("shutdown", -1, "admin noscript loading stale no_multi allow_busy", "1.0.0", "server",
     server.shutdown, "Stops the node gracefully, like SIGTERM."),
    ("debug", -2, "admin noscript loading stale", "1.0.0", "server", server.debug,
     "DEBUG SLEEP holds up this connection."),
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
        ("id", 2, "noscript loading stale", "5.0.0", "connection", client.client_id,
         "Returns the number of this connection."),
        ("info", 2, "noscript loading stale", "6.2.0", "connection", client.client_info,
         "Tells about this connection."),
        ("list", -2, "admin noscript loading stale", "2.4.0", "connection", client.client_list,
         "Tells about all connections."),
        ("getname", 2, "noscript loading stale", "2.6.9", "connection", client.client_getname,
         "Returns the name of this connection."),
        ("setname", 3, "noscript loading stale", "2.6.9", "connection", client.client_setname,
         "Names this connection."),
        ("setinfo", 4, "noscript loading stale", "7.2.0", "connection", client.client_setinfo,
         "Names the client library of this connection."),
        ("kill", -3, "admin noscript loading stale", "2.4.0", "connection", client.client_kill,
         "Closes connections by address or filters."),
        ("pause", -3, "admin noscript loading stale", "3.0.0", "connection",
         client.client_pause, "Begins no commands, or no writes, for so many milliseconds."),
        ("unpause", 2, "admin noscript loading stale", "6.2.0", "connection",
         client.client_unpause, "Ends CLIENT PAUSE."),
        ("unblock", -3, "admin noscript loading stale", "5.0.0", "connection",
         blocking.client_unblock, "Ends the waiting of another connection."),
        ("reply", 3, "noscript loading stale", "3.2.0", "connection", client.client_reply,
         "Suppresses replies: ON, OFF, or SKIP for the next one."),
        ("tracking", -3, "noscript loading stale", "6.0.0", "connection",
         client.client_tracking, "OFF is accepted, ON refused: no client-side caching."),
        ("getredir", 2, "noscript loading stale", "6.0.0", "connection",
         client.client_getredir, "Answers -1: tracking is never on."),
        ("no-evict", 3, "admin noscript loading stale", "7.0.0", "connection",
         client.client_no_evict, "Accepted; no connection is evicted."),
        ("no-touch", 3, "noscript loading stale", "7.2.0", "connection",
         client.client_no_evict, "Accepted; reading a key leaves no trace."),
    ),
    "config": (
        ("get", -3, "admin noscript loading stale", "2.0.0", "server", config.config_get,
         "Returns settings by name or pattern."),
        ("set", -4, "admin noscript loading stale", "2.0.0", "server", config.config_set,
         "Changes settings, all or none, until the node stops."),
        ("resetstat", 2, "admin noscript loading stale", "2.0.0", "server",
         config.config_resetstat, "Sets the counters of INFO to zero."),
        ("rewrite", 2, "admin noscript loading stale", "2.8.0", "server",
         config.config_rewrite, "Refused: settings are made at start."),
    ),
    "command": (
        ("count", 2, "loading stale", "2.8.13", "server", introspection.command_count,
         "Counts the commands."),
        ("docs", -2, "loading stale", "7.0.0", "server", introspection.command_docs,
         "Describes commands for people."),
        ("getkeys", -4, "loading stale", "2.8.13", "server", introspection.command_getkeys,
         "Finds the keys in a command line."),
        ("info", -2, "loading stale", "2.8.13", "server", introspection.command_info,
         "Describes commands for programs."),
        ("list", -2, "loading stale", "7.0.0", "server", introspection.command_list,
         "Lists the names of the commands."),
    ),
    "slowlog": (
        ("get", -2, "admin loading stale", "2.2.12", "server", slow.slowlog_get,
         "Returns the newest entries: reads and local commands that took long."),
        ("len", 2, "admin loading stale", "2.2.12", "server", slow.slowlog_len,
         "Counts the entries."),
        ("reset", 2, "admin loading stale", "2.2.12", "server", slow.slowlog_reset,
         "Forgets all entries."),
    ),
    "latency": (
        ("doctor", 2, "admin noscript loading stale", "2.8.13", "server", slow.latency_doctor,
         "Says in words what was slow."),
        ("histogram", -2, "admin noscript loading stale", "7.0.0", "server",
         slow.latency_histogram, "Returns how long commands took, by powers of two."),
        ("history", 3, "admin noscript loading stale", "2.8.13", "server", slow.latency_history,
         "Returns the worst of each second of an event."),
        ("latest", 2, "admin noscript loading stale", "2.8.13", "server", slow.latency_latest,
         "Returns the latest and the worst of all events."),
        ("reset", -2, "admin noscript loading stale", "2.8.13", "server", slow.latency_reset,
         "Forgets events."),
    ),
    "memory": (
        ("doctor", 2, "", "4.0.0", "server", server.memory_doctor,
         "Says in words where memory is."),
        ("stats", 2, "", "4.0.0", "server", server.memory_stats,
         "Returns figures of the process."),
    ),
    "module": (
        ("list", 2, "admin noscript", "4.0.0", "server", server.module_list,
         "Answers an empty list: there are no modules."),
    ),
}  # fmt: skip

_MEMORY_USAGE: Final = Command(
    "memory|usage", -3, ("readonly",), (2, 2, 1), "4.0.0", "server",
    "Estimates the bytes that a key takes.",
    kind=READ, parse=server.parse_memory_usage, renders=server.USAGE,
)  # fmt: skip

_CONTAINERS: Final[tuple[tuple[str, int, str, str, str, Run], ...]] = (
    ("client", -2, "2.4.0", "connection", "About connections.", run_nothing),
    ("config", -2, "2.0.0", "server", "About settings.", run_nothing),
    ("command", -1, "2.8.13", "server", "About commands.", introspection.command),
    ("slowlog", -2, "2.2.12", "server", "About slow commands.", run_nothing),
    ("latency", -2, "2.8.13", "server", "About the time that commands take.", run_nothing),
    ("memory", -2, "4.0.0", "server", "About memory.", run_nothing),
    ("module", -2, "4.0.0", "server", "About modules: there are none.", run_nothing),
)


def local_commands() -> list[Command]:
    """All rows of this module as commands, in no order."""
    rows = [_local(row) for row in (*_LOCALS, _UNWATCH)]
    rows += [_local(row, immediate=True) for row in _IMMEDIATE]
    rows += [
        container(name, arity, since, group, summary, _subrows(name), run)
        for name, arity, since, group, summary, run in _CONTAINERS
    ]
    return rows


def _subrows(name: str) -> list[Command]:
    rows = [_local(row, f"{name}|") for row in _SUBCOMMANDS[name]]
    return [*rows, _MEMORY_USAGE] if name == "memory" else rows


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
