"""Batches of all nodes that wait at the leader for the next log entry: decisions only.

An entry costs every node about the same however many commands it holds. So where there is much to
do, and one is under way, the batches of all nodes gather here, and go together into the next
(`Kind.GROUP`). That is how Nagle's algorithm fills packets (RFC 896): what is alone leaves at once,
what fills an entry too, and the rest waits for an acknowledgement, not for a clock.
"""

from __future__ import annotations

from typing import NamedTuple

from kvnode.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    BATCH_ROWS_MAX,
    GATHERED_COMMANDS_MIN,
)
from kvnode.store.batch import MalformedEntry, Part, decode_ops
from kvnode.store.ops import rows_of


class _Weight(NamedTuple):
    """What bounds an entry."""

    commands: int
    rows: int
    ops_bytes: int

    def plus(self, other: _Weight) -> _Weight:
        return _Weight(*map(int.__add__, self, other))

    @property
    def is_too_much(self) -> bool:
        """For one entry that holds several batches."""
        return (
            self.commands > BATCH_COMMANDS_MAX
            or self.rows > BATCH_ROWS_MAX
            or self.ops_bytes > BATCH_BYTES_MAX
        )


def _weigh(ops_blob: bytes) -> _Weight:
    ops = decode_ops(ops_blob)
    try:
        rows = sum([rows_of(op) for op in ops])
    except (TypeError, IndexError) as error:
        raise MalformedEntry("an op of a batch is none") from error
    return _Weight(len(ops), rows, len(ops_blob))


_NOTHING = _Weight(0, 0, 0)
_LEAST = _Weight(1, 1, 1)


class Taken(NamedTuple):
    """What goes into one entry."""

    parts: list[Part]
    commands: int


class _UnderWay(NamedTuple):
    """An entry with batches that was proposed, at an index of the log."""

    at: int
    nodes: set[int]
    commands: int


class Gathering:
    """Batches in the order in which they came; one that is sent again meanwhile is here once."""

    __slots__ = ("_parts", "_under_way")

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int, int], tuple[Part, _Weight]] = {}
        self._under_way: list[_UnderWay] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: Part) -> None:
        """Take a batch.

        Raises:
            MalformedEntry: its ops are none; what is in the log cannot be refused any more.
        """
        self._parts.setdefault(part[:3], (part, _weigh(part.ops_blob)))

    def is_due(self, commit: int) -> bool:
        """Whether an entry of what gathered should leave; those up to `commit` are committed."""
        if not self._parts:
            return False
        under_way = self._not_committed(commit)
        if not under_way:
            return True
        total = _NOTHING
        for _, weight in self._parts.values():
            total = total.plus(weight)
        # A node that is alone bounds itself (`BATCHES_IN_FLIGHT_MAX`) and has nobody to wait for.
        nodes = {node_id for node_id, _, _ in self._parts}.union(*[one.nodes for one in under_way])
        commands = total.commands + sum([one.commands for one in under_way])
        is_full = total.plus(_LEAST).is_too_much
        return len(nodes) == 1 or commands < GATHERED_COMMANDS_MIN or is_full

    def take(self) -> Taken:
        """Take out what goes into one entry: the first batch, and those behind it as they fit."""
        parts: list[Part] = []
        weight = _NOTHING
        for part, more in self._parts.values():
            with_it = weight.plus(more)
            if parts and with_it.is_too_much:
                break
            parts.append(part)
            weight = with_it
        for part in parts:
            del self._parts[part[:3]]
        return Taken(parts, weight.commands)

    def proposed(self, taken: Taken, index: int, commit: int) -> None:
        """What was taken is the entry at `index`; those up to `commit` are committed."""
        nodes = {part.node_id for part in taken.parts}
        entry = _UnderWay(index, nodes, taken.commands)
        self._under_way = [*self._not_committed(commit), entry]

    def _not_committed(self, commit: int) -> list[_UnderWay]:
        return [one for one in self._under_way if one.at > commit]

    def clear(self) -> None:
        """Forget all of them, and what is under way: their nodes send them again."""
        self._parts.clear()
        self._under_way = []
