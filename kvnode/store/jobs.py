"""Commands under way that store their result a part at a time (`kvnode.store.bulk`).

Jobs are replicated: a few short rows in the meta row, and part of the state hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack

from kvnode.limits import BULK_STALE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op

BEGIN: Final = b""
"""The first cursor."""


class Job:
    """A command under way.

    Attributes:
        number: drawn from the same counter as generations.
        node_id: the node that steps it; 0 until the state machine tells.
        stamp_ms: of the last step.
        op: the command.
        versions: of the sources when it began.
        record: of the result so far (`Collection.to_record`).
        cursor: where the next part begins.
        restarts: how often it began anew.
    """

    __slots__ = ("cursor", "node_id", "number", "op", "record", "restarts", "stamp_ms", "versions")

    def __init__(
        self,
        number: int,
        node_id: int,
        stamp_ms: int,
        op: Op,
        versions: list[int],
        record: bytes,
        cursor: bytes = BEGIN,
        restarts: int = 0,
    ) -> None:
        self.number = number
        self.node_id = node_id
        self.stamp_ms = stamp_ms
        self.op = op
        self.versions = versions
        self.record = record
        self.cursor = cursor
        self.restarts = restarts

    def to_row(self) -> list[Any]:
        """What the meta row keeps of it: the arguments of `Job`."""
        fields = [self.number, self.node_id, self.stamp_ms, self.op, self.versions]
        return [*fields, self.record, self.cursor, self.restarts]


class Jobs:
    """All jobs under way.

    Attributes:
        begun: those that the batch which is being applied has begun.
    """

    __slots__ = ("_by_number", "begun")

    def __init__(self) -> None:
        self._by_number: dict[int, Job] = {}
        self.begun: list[Job] = []

    def __bool__(self) -> bool:
        return bool(self._by_number)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_number.values())

    def pack(self) -> bytes:
        """For the meta row and the state hash."""
        packed: bytes = msgpack.packb([job.to_row() for job in self])
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Jobs:
        """What `pack` gave."""
        jobs = cls()
        for row in msgpack.unpackb(packed):
            jobs.add(Job(*row))
        return jobs

    def add(self, job: Job) -> None:
        """Take a job up."""
        self._by_number[job.number] = job

    def get(self, number: int) -> Job | None:
        return self._by_number.get(number)

    def begun_by(self, node_id: int) -> None:
        """Those that the batch has begun belong to the node that it came from."""
        for job in self.begun:
            job.node_id = node_id
        self.begun = []

    def end(self, job: Job) -> None:
        """It is done, or will not be."""
        del self._by_number[job.number]

    def drop(self, space: Keyspace, *, node_id: int | None = None) -> None:
        """End the jobs of a node, or those that nobody steps any more; their rows go."""
        for job in list(self):
            is_stale = job.stamp_ms + BULK_STALE_MS < space.stamp_ms
            if job.node_id == node_id or (node_id is None and is_stale):
                self.end(job)
                space.drop_rows(job.record)
