"""The command table: every command that kvnode knows, as data.

Each family of data commands has its rows in `facts`; the commands that a front end answers by
itself are in `local_table.py`. `COMMAND INFO` prints the facts of Redis 7.0's own table, so that
tools which read them find what they expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvnode.resp.commands.command import READ, WRITE, Command
from kvnode.resp.commands.facts import (
    bitmaps,
    geo,
    hashes,
    hyperloglog,
    keys,
    lists,
    serialisation,
    sets,
    sorted_sets,
    sorting,
    streams,
    strings,
    waiting,
)
from kvnode.resp.commands.facts.row import to_command
from kvnode.resp.commands.local_table import local_commands

_FAMILIES: Final = (
    strings,
    keys,
    lists,
    bitmaps,
    hyperloglog,
    streams,
    hashes,
    sorted_sets,
    geo,
    waiting,
    sets,
    serialisation,
    sorting,
)


def _build() -> dict[str, Command]:
    rows: list[Command] = []
    for family in _FAMILIES:
        rows += [to_command(row, READ) for row in family.READS]
        rows += [to_command(row, WRITE) for row in family.WRITES]
    rows += [
        keys.object_command(),
        sorting.sort_command(),
        *geo.radius_commands(),
        *streams.containers(),
        *local_commands(),
    ]
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
