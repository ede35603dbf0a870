"""Results of operations: plain data, so that every front end can render them its own way."""

from __future__ import annotations

from typing import TypeAlias

from kvnode.errors import CommandError


class Status(str):
    """A simple string such as OK: not data, but a word of the protocol."""

    __slots__ = ()


OK = Status("OK")

Result: TypeAlias = "int | float | bytes | Status | CommandError | list[Result] | None"
"""What an operation answers. Errors are values here: an apply never raises for a client's fault."""
