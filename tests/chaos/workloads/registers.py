"""Registers: a few contended keys with unique values.

GET, SET, and a swap by WATCH, MULTI, SET, EXEC. Some are strings, some fields of hashes. Every
key's history must be linearizable, and that says it all: no acknowledged write is lost, none is
done twice or after it was refused, no read is stale, no swap overtakes a change.

One client of each node only watches: it reads a handful of keys, waits a moment, and reads again.
Whoever writes is soon stuck at a node that was cut off or that stands still, and a read that was
sent before that may well see what was there then. A stale read must be *sent* late, by somebody who
had nothing under way.
"""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.registers import READ, SWAP, WRITE, check_register
from tests.chaos.client import Connection
from tests.chaos.record import FINAL_CLIENT, Record, by_key
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, text
from tests.chaos.workloads.shapes import Shape, field, plain
from tests.support.history import Outcome

KEYS = 16
WATCHED_KEYS = 6
"""Read together by a client that watches."""
WATCH_SECONDS = 0.1
"""The mean between two looks."""


class Registers(Workload):
    """See the module."""

    name: ClassVar[str] = "registers"
    needs_finals: ClassVar[bool] = False
    clients_per_node: ClassVar[int] = 4

    def shape(self, number: int) -> Shape:
        """How a register is spoken to."""
        return (field if number % 3 == 1 else plain)(self.key(number))

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that reads, writes and swaps."""
        return RegisterClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """The last reads belong to the history."""
        for number in range(KEYS):
            entry = record.begin(self.name, FINAL_CLIENT, node, READ, self.key(number))
            (reply,) = await fetch(connection, self.shape(number).read)
            entry.finish(Outcome.DONE, text(reply))
            record.final(node, entry.key, entry.result)

    def check(self, record: Record) -> Judgement:
        """Linearizable, key by key."""
        judgement = Judgement()
        for key, entries in by_key(record.of(self.name)).items():
            check_register(key, entries, judgement)
        return judgement


class RegisterClient(Client):
    """Reads as often as it writes, and swaps now and then."""

    def __init__(
        self, workload: Registers, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.registers = workload

    async def step(self) -> None:
        """One operation on one key, or a look at some."""
        if self.number % self.registers.clients_per_node == 0:
            await asyncio.sleep(self.random.expovariate(1 / WATCH_SECONDS))
            await self.watch()
            return
        number = self.random.randrange(KEYS)
        shape, key = self.registers.shape(number), self.registers.key(number)
        dice = self.random.random()
        if dice < 0.4:
            await self.read(key, shape)
        elif dice < 0.8:
            await self.write(key, shape)
        else:
            await self.swap(key, shape)

    async def read(self, key: str, shape: Shape) -> None:
        """GET."""
        entry = self.begin(READ, key)
        if (replies := await self.ask(entry, shape.read)) is not None:
            entry.finish(Outcome.DONE, text(replies[0]))

    async def watch(self) -> None:
        """GET of some keys in one pipeline, each an operation of its own."""
        numbers = self.random.sample(range(KEYS), WATCHED_KEYS)
        entries = [self.begin(READ, self.registers.key(number)) for number in numbers]
        await self.ask_each(
            entries, [self.registers.shape(number).read for number in numbers], text
        )

    async def write(self, key: str, shape: Shape) -> None:
        """SET to a value that is used once only."""
        entry = self.begin(WRITE, key, self.unique())
        if await self.ask(entry, (*shape.write, str(entry.argument))) is not None:
            entry.finish(Outcome.DONE)

    async def swap(self, key: str, shape: Shape) -> None:
        """Replace the value that was just read, unless somebody else changes it meanwhile."""
        reading = self.begin(READ, key)
        replies = await self.ask(reading, ("WATCH", key), shape.read)
        if replies is None:
            return
        reading.finish(Outcome.DONE, text(replies[1]))
        fresh = self.unique()
        entry = self.begin(SWAP, key, [reading.result, fresh])
        replies = await self.ask(entry, ("MULTI",), (*shape.write, fresh), ("EXEC",))
        if replies is not None:
            # EXEC is answered with nothing: somebody else was quicker. That is no error.
            entry.finish(Outcome.REFUSED if replies[-1] is None else Outcome.DONE)
