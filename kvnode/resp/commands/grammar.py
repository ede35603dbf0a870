"""What the grammars of several commands share: numbers, keys, options, and Redis' error texts."""

from __future__ import annotations

import re
from typing import Final

from kvnode.errors import CommandError
from kvnode.limits import KEY_BYTES_MAX

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

DEADLINE_MS_MAX: Final = INT64_MAX - (1 << 43)
"""Longest relative lifetime: the grammar has no clock, so it leaves room for any date to come."""

INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_AN_INT32: Final = f"ERR value is out of range, value must between {INT32_MIN} and {INT32_MAX}"
SYNTAX_ERROR: Final = "ERR syntax error"
KEY_TOO_LONG: Final = f"ERR key is larger than {KEY_BYTES_MAX} bytes"

SUBCOMMAND_BYTES_MAX: Final = 128
"""How much of a subcommand an error repeats (Redis' own figure)."""

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def integer(argument: bytes, text: str = NOT_AN_INTEGER) -> int:
    """A signed 64-bit number in its shortest decimal form, as Redis' `string2ll` reads it.

    Raises:
        CommandError: with `text`, if it is anything else.
    """
    if _INTEGER.fullmatch(argument):
        value = int(argument)
        if INT64_MIN <= value <= INT64_MAX:
            return value
    raise CommandError(text)


def int32(argument: bytes, text: str | None = None) -> int:
    """A signed 32-bit number.

    Raises:
        CommandError: with `text` or Redis' usual ones, if it is anything else.
    """
    number = integer(argument, text or NOT_AN_INTEGER)
    if not INT32_MIN <= number <= INT32_MAX:
        raise CommandError(text or NOT_AN_INT32)
    return number


def check_database(number: int, databases: int) -> int:
    """The number, if a database has it; else raises `CommandError`."""
    if not 0 <= number < databases:
        raise CommandError("ERR DB index is out of range")
    return number


def check_keys(keys: list[bytes]) -> list[bytes]:
    """The keys, if none is too long.

    Raises:
        CommandError: one is longer than `KEY_BYTES_MAX` bytes.
    """
    for key in keys:
        if len(key) > KEY_BYTES_MAX:
            raise CommandError(KEY_TOO_LONG)
    return keys


def check_key(key: bytes) -> bytes:
    """The key, if it is not longer than `KEY_BYTES_MAX` bytes; else raises `CommandError`."""
    if len(key) > KEY_BYTES_MAX:
        raise CommandError(KEY_TOO_LONG)
    return key


def wrong_arity(name: str) -> CommandError:
    return CommandError(f"ERR wrong number of arguments for '{name}' command")


def wrong_subcommand(arguments: list[bytes]) -> CommandError:
    """What Redis says of arguments too many behind a subcommand that takes a varying number."""
    name = text_of(arguments[1][:SUBCOMMAND_BYTES_MAX])
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{name}'. "
        f"Try {text_of(arguments[0]).upper()} HELP."
    )


def text_of(argument: bytes) -> str:
    """An argument inside an error text: any byte survives the way back to bytes."""
    return argument.decode("utf-8", "surrogateescape")
