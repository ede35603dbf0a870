"""Results of operations: plain data, so that every front end can render them its own way."""

from __future__ import annotations

from typing import TypeAlias

from kvnode.errors import CommandError


class Status(str):
    """A simple string such as OK: not data, but a word of the protocol."""

    __slots__ = ()


OK = Status("OK")

KEPT = Status("KEPT")
"""BLOCK found nothing: its client waits (`kvnode.store.redis.waiting`). No client sees it."""

GONE = Status("GONE")
"""RESOLVE found no such waiter. No client sees it."""

ASK_AGAIN = Status("AGAIN")
"""There was no room for what a waiting read found: it asks anew. No client sees it."""


class Unfinished:
    """In the place of a result: propose STEP of this job (`kvnode.store.bulk`).

    Attributes:
        job: its number.
    """

    __slots__ = ("job",)

    def __init__(self, job: int) -> None:
        self.job = job


Result: TypeAlias = "int | float | bytes | Status | CommandError | list[Result] | Unfinished | None"
"""What an operation answers. Errors are values here: an apply never raises for a client's fault."""
