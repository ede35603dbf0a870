"""Clients that are hired and let go while nodes come and go.

Each node that serves has a few clients of every workload; what they see goes into one record.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.record import Record
from tests.chaos.workloads.protocol import Endpoint, Workload

STOP_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Crews:
    """The clients of all nodes.

    Attributes:
        size: clients of each workload at each node.
    """

    size: int
    seed: int
    record: Record
    workloads: Sequence[Workload]
    _stops: dict[str, asyncio.Event] = field(default_factory=dict)
    _tasks: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def hire(self, node: Endpoint) -> None:
        """Set clients to work at a node; nothing happens if it has some."""
        if node.name in self._stops:
            return
        stop = self._stops[node.name] = asyncio.Event()
        self._tasks[node.name] = [
            asyncio.create_task(
                workload.client(
                    number, node, random.Random(self.seed * 1_000_003 + number), self.record
                ).run(stop)
            )
            for workload in self.workloads
            for number in itertools.islice(self._numbers, self.size)
        ]

    async def dismiss(self, name: str) -> None:
        """Let the clients of a node finish what they do; raises what a bug of theirs raised."""
        stop = self._stops.pop(name, None)
        if stop is None:
            return
        stop.set()
        async with asyncio.timeout(STOP_SECONDS_MAX):
            await asyncio.gather(*self._tasks.pop(name))

    async def dismiss_all(self) -> None:
        """The work is done."""
        for name in list(self._stops):
            await self.dismiss(name)

    def look_after(self) -> None:
        """Raise what a client died of, if that was a bug of ours."""
        for tasks in self._tasks.values():
            for task in tasks:
                if task.done():
                    task.result()
