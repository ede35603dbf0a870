"""COMMAND: the command table, told to programs and people in Redis' shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import TYPE_CHECKING

from kvnode.errors import CommandError
from kvnode.resp.commands.command import Command
from kvnode.resp.commands.grammar import SYNTAX_ERROR, text_of
from kvnode.resp.encoder import (
    NULLS,
    RESP2,
    array,
    bulk,
    collection,
    integer,
    mapping,
    status,
)

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.listener import RespServer

PATTERN_BYTES_MAX = 128

_FAMILIES = {"generic": "keyspace", "sorted-set": "sortedset", "transactions": "transaction"}
"""Groups of the documentation whose ACL category has another name."""


def command(connection: Connection, _arguments: list[bytes]) -> bytes:
    commands = connection.server.commands.values()
    return array([_command_row(each, connection.protocol) for each in commands])


def command_count(connection: Connection, _arguments: list[bytes]) -> bytes:
    return integer(len(connection.server.commands))


def command_list(connection: Connection, arguments: list[bytes]) -> bytes:
    """COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN glob], subcommands too."""
    rows: Iterable[Command] = connection.server.rows
    if len(arguments) == 2:
        return array([bulk(row.name.encode()) for row in rows])
    if len(arguments) != 5 or arguments[2].upper() != b"FILTERBY":
        raise CommandError(SYNTAX_ERROR)
    chosen = _filter(rows, arguments[3].upper(), text_of(arguments[4]).lower())
    return array([bulk(row.name.encode()) for row in chosen])


def _filter(rows: Iterable[Command], kind: bytes, value: str) -> list[Command]:
    if kind == b"MODULE":
        return []
    if kind == b"ACLCAT":
        return [row for row in rows if f"@{value}" in _categories(row)]
    if kind == b"PATTERN":
        matches = re.compile(translate(value[:PATTERN_BYTES_MAX])).match
        return [row for row in rows if matches(row.name)]
    raise CommandError(SYNTAX_ERROR)


def _categories(row: Command) -> list[str]:
    """Redis' ACL categories, as far as the table implies them."""
    access: list[str] = {0: [], 1: ["@read"], 2: ["@write"]}[row.kind]
    admin = ["@admin", "@dangerous"] if "admin" in row.flags else []
    blocking = ["@blocking"] if "blocking" in row.flags else []
    speed = "@fast" if "fast" in row.flags else "@slow"
    family = [] if row.group == "server" else [f"@{_FAMILIES.get(row.group, row.group)}"]
    return [*access, *admin, *family, speed, *blocking]


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
    if found.subcommands:
        try:
            found = found.resolve(inner)
        except CommandError as unknown:
            raise CommandError("ERR Invalid command specified") from unknown
    first, last, step = found.keys
    if not first and found.find_keys is None:
        raise CommandError("ERR The command has no key arguments")
    if not found.accepts(len(inner)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    if found.find_keys is not None:
        return array([bulk(key) for key in found.find_keys(inner)])
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
    return array(
        [
            bulk(entry.name.encode()),
            integer(entry.arity),
            collection([status(flag) for flag in entry.flags], protocol),
            integer(first),
            integer(last),
            integer(step),
            collection([status(category) for category in _categories(entry)], protocol),
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
