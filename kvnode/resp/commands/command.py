"""What the front end knows of a command: its facts as data, its grammar as a function.

A *data* command (`READ`, `WRITE`) has a `parse` function: pure grammar from arguments to an
operation `[code, db, *arguments]`, with no connection, clock or store in sight. A *local* command
has a `run` function that answers on the spot from the connection's and the server's own state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import SUBCOMMAND_BYTES_MAX, text_of
from kvnode.resp.encoder import ANY, Render, Renders, array, status
from kvnode.service import Op

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

Parse: TypeAlias = Callable[[int, list[bytes]], Op]
"""`parse(db, arguments)`; raises `CommandError` for bad grammar. The first argument is the name."""

Run: TypeAlias = "Callable[[Connection, list[bytes]], bytes | None]"
"""`run(connection, arguments)` returns the encoded reply, or None if it replies by itself later.

Raises `CommandError` for bad grammar, `MustWait` to be called again when the connection's
unanswered commands are done.
"""

Keys: TypeAlias = Callable[[list[bytes]], list[bytes]]
"""Finds the keys among the arguments where they stand at no fixed places; raises `CommandError`."""

Form: TypeAlias = "Callable[[list[bytes]], Command | None]"
"""Finds the row that a command takes for these arguments, None for the one that it has anyway."""

NO_KEY: Final = (0, 0, 0)
"""Key positions of a command without keys."""

LOCAL: Final = 0
READ: Final = 1
WRITE: Final = 2


class Cost(StrEnum):
    """What the work of a command grows with. Admission treats the heavier ones apart."""

    POINT = "point"
    """With nothing, or with the logarithm of what is stored."""
    RANGE = "range"
    """With what is asked for."""
    WHOLE = "whole"
    """With what is stored."""


class MustWait(Exception):
    """A local command that needs the answers of the commands before it."""


class Blocks(Exception):
    """Raised by `parse` for a command that waits if it finds nothing.

    Attributes:
        op: its form that never waits, for MULTI.
        begin: begins to wait, given the connection, the size of the command and its renderer.
    """

    def __init__(self, op: Op, begin: Callable[[Connection, int, Render], object]) -> None:
        super().__init__(op[0])
        self.op = op
        self.begin = begin


def run_nothing(_connection: Connection, arguments: list[bytes]) -> bytes | None:
    """The `run` of data commands, which is never called."""
    raise AssertionError(arguments[0])


def parse_nothing(_db: int, arguments: list[bytes]) -> Op:
    """The `parse` of local commands, which is never called."""
    raise AssertionError(arguments[0])


_indexes = count()


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the command table.

    Attributes:
        name: in lower case; a subcommand is written `client|id`, as in Redis.
        arity: number of arguments with the name; negative: at least that many.
        flags: Redis' command flags, in its order.
        keys: position of the first and the last key (negative: from the end) and the step.
        since: version of Redis that had it first.
        group: Redis' command group.
        summary: one line for COMMAND DOCS.
        kind: `LOCAL`, `READ` or `WRITE`.
        parse: grammar of a data command.
        run: action of a local command.
        renders: how to write its result in RESP2 and RESP3.
        immediate: it is run, not queued, inside MULTI.
        cost: what its work grows with.
        stands_alone: it may be carried on in the log behind others (`kvnode.store.bulk`), so those
            of its own connection wait for its answer.
        find_keys: where `keys` cannot tell.
        form: of a command that is not of one kind for all arguments.
        subcommands: by name (`id` of `client|id`), if the command is nothing without one.
        index: number of the row; counters per command are lists.
    """

    name: str
    arity: int
    flags: tuple[str, ...]
    keys: tuple[int, int, int]
    since: str
    group: str
    summary: str
    kind: int = LOCAL
    parse: Parse = parse_nothing
    run: Run = run_nothing
    renders: Renders = ANY
    immediate: bool = False
    cost: Cost = Cost.POINT
    stands_alone: bool = False
    find_keys: Keys | None = None
    form: Form | None = None
    subcommands: dict[bytes, Command] = field(default_factory=dict)
    index: int = field(default_factory=_indexes.__next__, compare=False)

    def accepts(self, count: int) -> bool:
        """Whether `count` arguments, the name among them, fit the arity."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    @property
    def without_login(self) -> bool:
        """Whether a client may send it before AUTH."""
        return "no_auth" in self.flags

    def resolve(self, arguments: list[bytes]) -> Command:
        """The subcommand that `arguments` name; this command itself if they name none.

        Raises:
            CommandError: there is no such subcommand.
        """
        if len(arguments) == 1:
            return self
        found = self.subcommands.get(arguments[1].lower())
        if found is None:
            name = text_of(arguments[1][:SUBCOMMAND_BYTES_MAX])
            raise CommandError(f"ERR unknown subcommand '{name}'. Try {self.name.upper()} HELP.")
        return found


def container(
    name: str,
    arity: int,
    since: str,
    group: str,
    summary: str,
    rows: Iterable[Command],
    run: Run = run_nothing,
) -> Command:
    """A command that is nothing without a subcommand; `run` is what it does if it stands alone."""
    subcommands = {row.name.partition("|")[2].encode(): row for row in rows}
    if b"help" not in subcommands:
        subcommands[b"help"] = _help(name, group, list(subcommands.values()))
    return Command(name, arity, (), NO_KEY, since, group, summary, run=run, subcommands=subcommands)


def _help(name: str, group: str, rows: list[Command]) -> Command:
    """The HELP of a container: what its rows say of themselves."""
    title = f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    lines = [title]
    for row in rows:
        lines += [row.name.partition("|")[2].upper(), f"    {row.summary}"]
    lines += ["HELP", "    Print this help."]

    def run_help(_connection: Connection, _arguments: list[bytes]) -> bytes:
        return array([status(line) for line in lines])

    return Command(
        f"{name}|help",
        2,
        ("loading", "stale"),
        NO_KEY,
        "5.0.0",
        group,
        f"Lists the subcommands of {name.upper()}.",
        run=run_help,
    )
