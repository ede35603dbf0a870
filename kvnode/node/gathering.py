"""Batches of all nodes that wait at the leader for the next log entry: decisions only.

An entry costs every node about the same however many commands it holds. So while one is under way
the batches of all nodes gather here, and go together into the next (`Kind.GROUP`). That is how
Nagle's algorithm fills packets (RFC 896): what is alone leaves at once, what fills an entry too,
and the rest waits for an acknowledgement, not for a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kvnode.limits import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BATCH_ROWS_MAX
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


class Gathering:
    """Batches in the order in which they came; one that is sent again meanwhile is here once."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int, int], tuple[Part, _Weight]] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: Part) -> None:
        """Take a batch.

        Raises:
            MalformedEntry: its ops are none; what is in the log cannot be refused any more.
        """
        self._parts.setdefault(part[:3], (part, _weigh(part.ops_blob)))

    def may_leave(self, under_way: Iterable[set[int]]) -> bool:
        """Whether an entry of what gathered is due. Something has.

        Args:
            under_way: of each entry that is not committed yet, the nodes whose batches it holds.
        """
        nodes = set().union(*under_way)
        if not nodes:
            return True
        # A node that is alone bounds itself (`BATCHES_IN_FLIGHT_MAX`) and has nobody to wait for.
        nodes.update(node_id for node_id, _, _ in self._parts)
        return len(nodes) == 1 or self._fills_an_entry

    @property
    def _fills_an_entry(self) -> bool:
        total = _LEAST
        for _, weight in self._parts.values():
            total = total.plus(weight)
        return total.is_too_much

    def take(self) -> list[Part]:
        """Take out what goes into one entry: the first batch, and those behind it as they fit."""
        taken: list[Part] = []
        total = _NOTHING
        for part, weight in self._parts.values():
            total = total.plus(weight)
            if taken and total.is_too_much:
                break
            taken.append(part)
        for part in taken:
            del self._parts[part[:3]]
        return taken

    def clear(self) -> None:
        """Forget all of them: their nodes send them again."""
        self._parts.clear()
