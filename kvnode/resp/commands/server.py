"""Commands about the server: INFO, CONFIG, TIME, COMMAND. Tools read them, in Redis' shapes."""

from __future__ import annotations

import re
from contextlib import suppress
from fnmatch import translate
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import CLIENT_KEEPALIVE_SECONDS, VALUE_BYTES_MAX
from kvnode.resp import info as info_text
from kvnode.resp.commands.command import Command
from kvnode.resp.commands.grammar import SYNTAX_ERROR, text_of
from kvnode.resp.encoder import (
    NULLS,
    OK_BYTES,
    RESP2,
    array,
    bulk,
    collection,
    integer,
    mapping,
    status,
    verbatim,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvnode.resp.connection import Connection
    from kvnode.resp.listener import RespServer

CONFIG_PATTERNS_MAX: Final = 64
"""Patterns of one CONFIG GET; each is compiled."""

PATTERN_BYTES_MAX: Final = 128


def time(connection: Connection, _arguments: list[bytes]) -> bytes:
    now_ms = connection.server.service.now_ms()
    seconds, rest_ms = divmod(now_ms, 1000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % (rest_ms * 1000))])


def info(connection: Connection, arguments: list[bytes]) -> bytes:
    sections = [text_of(argument).lower() for argument in arguments[1:]]
    return verbatim(info_text.render(connection.server, sections).encode(), connection.protocol)


# --- CONFIG ---------------------------------------------------------------------------------------


def config_parameters(server: RespServer) -> dict[str, str]:
    """What CONFIG GET shows: facts of this node in Redis' names, none of which can be set."""
    config = server.config
    return {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": server.host,
        "cluster-enabled": "no",
        "databases": str(config.databases),
        "dir": ".",
        "maxclients": str(config.clients_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "",
        "port": str(server.port),
        "proto-max-bulk-len": str(VALUE_BYTES_MAX),
        "requirepass": "",  # never shown, not even to those who know it
        "save": "",
        "slowlog-log-slower-than": "-1",
        "slowlog-max-len": "0",
        "tcp-keepalive": str(CLIENT_KEEPALIVE_SECONDS),
        "timeout": "0",
    }


def config_get(connection: Connection, arguments: list[bytes]) -> bytes:
    patterns = arguments[2 : 2 + CONFIG_PATTERNS_MAX]
    parameters = config_parameters(connection.server)
    chosen: dict[str, str] = {}
    for pattern in patterns:
        name = text_of(pattern).lower()
        if name in parameters:
            chosen[name] = parameters[name]
        elif len(name) <= PATTERN_BYTES_MAX and any(sign in name for sign in "*?["):
            matches = re.compile(translate(name)).match
            chosen.update((key, value) for key, value in parameters.items() if matches(key))
    pairs = [(bulk(key.encode()), bulk(value.encode())) for key, value in chosen.items()]
    return mapping(pairs, connection.protocol)


def config_set(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) % 2:
        raise CommandError("ERR wrong number of arguments for 'config|set' command")
    name = text_of(arguments[2]).lower()
    if name not in config_parameters(connection.server):
        raise CommandError(
            f"ERR Unknown option or number of arguments for CONFIG SET - '{text_of(arguments[2])}'"
        )
    raise CommandError(
        f"ERR CONFIG SET failed (possibly related to argument '{name}') - "
        "kvnode is configured by flags, environment or file, and only at start"
    )


def config_resetstat(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.server.stats.reset()
    return OK_BYTES


def config_rewrite(_connection: Connection, _arguments: list[bytes]) -> bytes:
    raise CommandError("ERR The server is running without a config file")


# --- COMMAND --------------------------------------------------------------------------------------


def command(connection: Connection, _arguments: list[bytes]) -> bytes:
    commands = connection.server.commands.values()
    return array([_command_row(each, connection.protocol) for each in commands])


def command_count(connection: Connection, _arguments: list[bytes]) -> bytes:
    return integer(len(connection.server.commands))


def command_list(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise CommandError(SYNTAX_ERROR)  # FILTERBY is about modules, ACL and patterns
    names = [bulk(name.encode()) for name in connection.server.commands]
    return collection(names, connection.protocol)


def command_info(connection: Connection, arguments: list[bytes]) -> bytes:
    null = NULLS[connection.protocol - RESP2]
    if len(arguments) == 2:
        return command(connection, arguments)
    found = [_find(connection.server, argument) for argument in arguments[2:]]
    return array([_command_row(c, connection.protocol) if c else null for c in found])


def command_docs(connection: Connection, arguments: list[bytes]) -> bytes:
    server = connection.server
    if len(arguments) == 2:
        chosen: Iterable[Command] = server.commands.values()
    else:
        named = dict.fromkeys(arguments[2:])
        chosen = [found for argument in named if (found := _find(server, argument))]
    return _docs(chosen, connection.protocol)


def command_getkeys(connection: Connection, arguments: list[bytes]) -> bytes:
    found = _find(connection.server, arguments[2])
    inner = arguments[2:]
    if found is None:
        raise CommandError("ERR Invalid command specified")
    with suppress(CommandError):
        found = found.resolve(inner) if found.subcommands else found
    if not found.accepts(len(inner)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    first, last, step = found.keys
    if not first:
        raise CommandError("ERR The command has no key arguments")
    stop = last + 1 if last >= 0 else len(inner) + last + 1
    return array([bulk(key) for key in inner[first:stop:step]])


def _find(server: RespServer, name: bytes) -> Command | None:
    """A command, or a subcommand written as `client|id`."""
    parent, _, child = text_of(name).lower().partition("|")
    found = server.commands.get(parent)
    if found is None or not child:
        return found
    return found.subcommands.get(child.encode("utf-8", "surrogateescape"))


def _command_row(entry: Command, protocol: int) -> bytes:
    """What COMMAND tells of one command: ten fields since Redis 7."""
    first, last, step = entry.keys
    access = {0: "", 1: "@read", 2: "@write"}[entry.kind]
    categories = [access, f"@{entry.group}", "@fast" if "fast" in entry.flags else "@slow"]
    return array(
        [
            bulk(entry.name.encode()),
            integer(entry.arity),
            collection([status(flag) for flag in entry.flags], protocol),
            integer(first),
            integer(last),
            integer(step),
            collection([status(category) for category in categories if category], protocol),
            array([]),
            array([]),
            array([_command_row(sub, protocol) for sub in entry.subcommands.values()]),
        ]
    )


def _docs(entries: Iterable[Command], protocol: int) -> bytes:
    return mapping(
        [(bulk(entry.name.encode()), _command_docs(entry, protocol)) for entry in entries],
        protocol,
    )


def _command_docs(entry: Command, protocol: int) -> bytes:
    pairs = [
        (bulk(b"summary"), bulk(entry.summary.encode())),
        (bulk(b"since"), bulk(entry.since.encode())),
        (bulk(b"group"), bulk(entry.group.encode())),
    ]
    if entry.subcommands:
        pairs.append((bulk(b"subcommands"), _docs(entry.subcommands.values(), protocol)))
    return mapping(pairs, protocol)
