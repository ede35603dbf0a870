"""From the words of a request to the row of the command table, or to Redis' error for unknown ones.

The common way is one look into `SPELLINGS`, which holds the usual spellings (`get`, `GET`) of all
commands that are one row whatever their arguments are, and remembers others (`Get`) within a limit.
Everything else goes through `look_up`.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.command import Command
from kvnode.resp.commands.grammar import text_of
from kvnode.resp.commands.refused import REFUSED
from kvnode.resp.commands.table import COMMANDS

SPELLING_KEYS_MAX: Final = 4096
"""Spellings remembered beyond the usual two."""

ERROR_NAME_BYTES_MAX: Final = 128
"""How much of an unknown command and its arguments an error repeats (Redis' own figure)."""

SPELLINGS: Final[dict[bytes, Command]] = {}
for _command in COMMANDS.values():
    if not _command.subcommands and _command.form is None:
        SPELLINGS[_command.name.encode()] = SPELLINGS[_command.name.upper().encode()] = _command


def look_up(arguments: list[bytes]) -> Command:
    """The command or subcommand that a request names, in whatever case.

    Raises:
        CommandError: there is no such command, or it has no such subcommand.
    """
    name = arguments[0]
    lower = name.decode("ascii", "replace").lower()
    command = COMMANDS.get(lower)
    if command is None:
        raise CommandError(REFUSED.get(lower) or _unknown(arguments))
    if command.subcommands:
        if len(arguments) > 1:
            refusal = REFUSED.get(f"{lower}|{text_of(arguments[1]).lower()}")
            if refusal is not None:
                raise CommandError(refusal)
        return command.resolve(arguments)
    if command.form is not None:
        return command.form(arguments) or command
    if len(SPELLINGS) < SPELLING_KEYS_MAX:
        SPELLINGS[name] = command
    return command


def _unknown(arguments: list[bytes]) -> str:
    """Redis' text: the name is cut at 128 bytes, the arguments when they are that long together."""
    listed = ""
    for argument in islice(arguments, 1, None):
        if len(listed) >= ERROR_NAME_BYTES_MAX:
            break
        listed += f"'{text_of(argument[: ERROR_NAME_BYTES_MAX - len(listed)])}' "
    name = text_of(arguments[0][:ERROR_NAME_BYTES_MAX])
    return f"ERR unknown command '{name}', with args beginning with: {listed}"
