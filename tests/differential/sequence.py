"""What is played to both servers: sequences of steps, in units that only make sense together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

FIRST, SECOND = 0, 1
"""Connections of a sequence. The second one interferes; the two never speak at the same time."""


@dataclass(frozen=True, slots=True)
class Send:
    """One command.

    Attributes:
        arguments: name and arguments.
        connection: `FIRST` or `SECOND`.
        joined: it goes in one write with the step before, if that has the same connection.
        silent: the client asked not to be answered (`CLIENT REPLY`).
    """

    arguments: tuple[bytes, ...]
    connection: int = FIRST
    joined: bool = False
    silent: bool = False

    @property
    def name(self) -> bytes:
        """The command in lower case."""
        return self.arguments[0].lower() if self.arguments else b""


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait until a key with a lifetime of milliseconds is gone, and no longer counted, on both."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Walk:
    """A whole SCAN of one database with these options, on a connection of its own.

    Attributes:
        database: where.
        options: behind the cursor.
        command: what stands before the cursor: SCAN, or e.g. HSCAN and a key.
        width: elements of a page that belong together.
    """

    database: int
    options: tuple[bytes, ...]
    command: tuple[bytes, ...] = (b"SCAN",)
    width: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    """A command on the first connection that may wait; what it answers comes with `Release`.

    The steps between the two are on the second connection, and are begun when the command either
    waits or has been answered.
    """

    arguments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Wait for the answer to the command that was held."""

    held: Held


Step: TypeAlias = Send | Settle | Walk | Held | Release
Unit: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """One conversation of two connections with a server that holds nothing at its start.

    Attributes:
        protocols: 2 or 3, for each connection.
        units: what a smaller sequence may leave out as a whole.
    """

    protocols: tuple[int, int]
    units: tuple[Unit, ...]

    @property
    def steps(self) -> list[Step]:
        """All steps in order."""
        return [step for unit in self.units for step in unit]

    def with_units(self, units: tuple[Unit, ...]) -> Sequence:
        """The same with other units."""
        return replace(self, units=units)


def quoted(argument: bytes) -> str:
    """An argument as redis-cli reads it back: bare if that is safe, else quoted."""
    text = argument.decode("latin-1")
    if text and all(33 <= ord(sign) < 127 and sign not in "\"'\\#" for sign in text):
        return text
    signs = (
        f"\\x{ord(sign):02x}"
        if not 32 <= ord(sign) < 127
        else (f"\\{sign}" if sign in '"\\' else sign)
        for sign in text
    )
    return f'"{"".join(signs)}"'


def redis_cli_lines(sequence: Sequence) -> list[str]:
    """The sequence as lines for redis-cli; what redis-cli cannot do stands in comments."""
    lines: list[str] = []
    speaking = None
    for step in sequence.steps:
        if isinstance(step, Settle):
            lines.append(f"# wait until EXISTS {quoted(step.key)} answers 0")
        elif isinstance(step, Held):
            speaking = None
            lines.append("# first connection, which waits while the second goes on:")
            lines.append(" ".join(map(quoted, step.arguments)))
        elif isinstance(step, Release):
            speaking = None
            lines.append("# what the first connection waited for has come")
        elif isinstance(step, Walk):
            options = " ".join(map(quoted, step.options))
            command = " ".join(map(quoted, step.command))
            lines.append(f"# redis-cli -n {step.database}: {command} 0 {options}, on to its end")
        else:
            if step.connection != speaking:
                speaking = step.connection
                protocol = sequence.protocols[speaking]
                lines.append(f"# {('first', 'second')[speaking]} connection, redis-cli -{protocol}")
            if step.joined:
                lines.append("# in one write with the line above:")
            lines.append(" ".join(map(quoted, step.arguments)))
    return lines
