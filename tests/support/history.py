"""What clients did and what they were told: the only witness of a chaos run.

Every operation notes when it was invoked and when it returned, by one monotonic clock (all clients
live in one process). Its outcome is one of three: done, refused (definitely not done)
or unknown. An operation of unknown outcome never returns: it may take effect at any later
moment, or never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Value = str | int | None


class Kind(Enum):
    """What an operation does to its key."""

    READ = "read"
    WRITE = "write"
    SWAP = "swap"
    """Write `argument` if the value is `expected` (WATCH, MULTI, SET, EXEC)."""
    INCREMENT = "increment"


class Outcome(Enum):
    """What the client knows about an operation."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Operation:
    """One operation of one client on one key.

    Attributes:
        client: number of the client; one client has at most one operation under way.
        node: the node that was asked.
        argument: the value written by WRITE and SWAP; unique within the key.
        expected: the value that SWAP compares with.
        result: the value that READ found, or that INCREMENT answered.
        invoked_ns: monotonic clock before the request was sent.
        returned_ns: monotonic clock after the reply arrived; None when the outcome is unknown.
        note: the error text, if there was one.
    """

    client: int
    node: str
    key: str
    kind: Kind
    invoked_ns: int
    argument: Value = None
    expected: Value = None
    result: Value = None
    outcome: Outcome = Outcome.UNKNOWN
    returned_ns: int | None = None
    note: str = ""

    def __str__(self) -> str:
        """One line for people: who, where, what, when (milliseconds), and the outcome."""
        end = "…" if self.returned_ns is None else f"{self.returned_ns / 1e6:.3f}"
        what = {
            Kind.READ: f"read -> {self.result!r}",
            Kind.WRITE: f"write {self.argument!r}",
            Kind.SWAP: f"swap {self.expected!r} for {self.argument!r}",
            Kind.INCREMENT: f"increment -> {self.result!r}",
        }[self.kind]
        return (
            f"client {self.client} at {self.node}, {self.key}: {what}, {self.outcome.value}, "
            f"[{self.invoked_ns / 1e6:.3f}, {end}]"
        )


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Split a history into one per key, in order of the keys' names."""
    parts: dict[str, list[Operation]] = {}
    for operation in operations:
        parts.setdefault(operation.key, []).append(operation)
    return {key: parts[key] for key in sorted(parts)}


def save(path: Path, operations: Iterable[Operation]) -> None:
    """Write a history as JSON lines, so that a failed run can be judged again later."""
    with path.open("w") as file:
        for operation in operations:
            row = [
                operation.client,
                operation.node,
                operation.key,
                operation.kind.value,
                operation.argument,
                operation.expected,
                operation.result,
                operation.outcome.value,
                operation.invoked_ns,
                operation.returned_ns,
                operation.note,
            ]
            file.write(json.dumps(row) + "\n")
