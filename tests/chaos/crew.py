"""Clients that are hired and let go while nodes come and go.

Each node that serves has a few clients of its own. What they do is that of `tests.chaos.workload`,
on keys that change every few seconds so that no history grows without bound, and lists besides:
APPEND of words of one length, whose final value tells the order of all that was done.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from scripts.local_cluster import LocalNode
from tests.chaos.workload import COUNTERS, REGISTERS, Client, Record, Unfinished, plain
from tests.sim.dialects import TOKEN_CHARACTERS
from tests.support.history import Kind

EPOCH_SECONDS = 20.0
LIST = "list"
LISTS = 4
LIST_ODDS = 0.08
APPEND_ODDS = 0.6
STOP_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Keys:
    """Which keys are used now, and which words are new."""

    words: Iterator[int] = field(default_factory=itertools.count)
    began: float = field(default_factory=time.monotonic)

    def name(self, family: str, number: int) -> str:
        """A key of this epoch: nobody comes back to those of the one before."""
        epoch = int((time.monotonic() - self.began) / EPOCH_SECONDS)
        return f"{family}:{epoch}:{number}"


class ListClient(Client):
    """A client that also keeps lists; all its keys are strings."""

    shape_of = staticmethod(plain)

    def __init__(self, number: int, node: LocalNode, seed: int, record: Record, keys: Keys) -> None:
        super().__init__(number, node, seed, record)
        self.keys = keys

    async def _step(self) -> None:
        if self.random.random() >= LIST_ODDS:
            await super()._step()
            return
        key = self.keys.name(LIST, self.random.randrange(LISTS))
        if self.random.random() < APPEND_ODDS:
            await self.append(key)
        else:
            await self.read(key, Kind.WRITE)

    def _register(self) -> str:
        return self.keys.name("register", self.random.randrange(REGISTERS))

    def _counter(self) -> str:
        return self.keys.name("counter", self.random.randrange(COUNTERS))

    async def append(self, key: str) -> None:
        """APPEND a word that is used once only; told apart from other writes by its key."""
        operation = self._begin(key, Kind.WRITE)
        operation.argument = f"{next(self.keys.words):0{TOKEN_CHARACTERS}d}"
        try:
            (reply,) = await self._call(("APPEND", key, operation.argument))
        except Unfinished as error:
            self._fail(operation, error)
            return
        assert isinstance(reply, int), reply
        operation.result = reply
        self._finish(operation)


@dataclass(slots=True)
class Crews:
    """The clients of all nodes.

    Attributes:
        size: clients of each node.
    """

    size: int
    seed: int
    record: Record
    keys: Keys = field(default_factory=Keys)
    _stops: dict[str, asyncio.Event] = field(default_factory=dict)
    _tasks: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def hire(self, node: LocalNode) -> None:
        """Set clients to work at a node; nothing happens if it has some."""
        if node.name in self._stops:
            return
        stop = self._stops[node.name] = asyncio.Event()
        self._tasks[node.name] = [
            asyncio.create_task(
                ListClient(next(self._numbers), node, self.seed, self.record, self.keys).run(stop)
            )
            for _ in range(self.size)
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
