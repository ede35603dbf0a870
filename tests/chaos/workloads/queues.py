"""Queues: clients that push, clients that wait, and an account of every element.

On the **waited** queues clients wait with BLPOP, BRPOP, BLMPOP and BLMOVE, from both ends, and some
leave while they wait. What is popped for a client that is gone by then is put back, so only the
account is judged there. The **straight** queue is RPUSHed and LPOPped only, by nobody who waits, so
there the order counts too.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.queues import MOVE, POP, PUSH, Account
from tests.chaos.client import Command, Connection, Reply
from tests.chaos.record import Entry, Json, Record
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, texts
from tests.support.history import Outcome

SOURCES = 8
PUSH_MAX = 3
PUSH_PAUSE_SECONDS = 0.03
"""The mean: clients shall wait more often than elements."""
WAIT_SECONDS_MAX = 2.0
LEAVE_SECONDS_MAX = 0.1
RETURN_SECONDS_MAX = 10.0
"""What was popped for somebody who left is back by then."""


class Queues(Workload):
    """See the module."""

    name: ClassVar[str] = "queues"
    clients_per_node: ClassVar[int] = 4

    @property
    def straight(self) -> str:
        """The queue where the order counts."""
        return self.key("straight")

    @property
    def moved(self) -> str:
        """Where BLMOVE moves to."""
        return self.key("moved")

    @property
    def sources(self) -> list[str]:
        """Where clients push to."""
        return [self.key(number) for number in range(SOURCES)]

    @property
    def waited(self) -> list[str]:
        """All queues on which clients wait."""
        return [*self.sources, self.moved]

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that pushes, or one that pops: taking turns."""
        return QueueClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """What is left, when what clients had in hand that left has come back."""
        deadline = time.monotonic() + RETURN_SECONDS_MAX
        keys = [self.straight, *self.waited]
        while True:
            found = await fetch(connection, *(("LRANGE", key, 0, -1) for key in keys))
            for key, elements in zip(keys, found, strict=True):
                record.final(node, key, [*texts(elements)])
            if not self._judge(record, node) or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)

    def check(self, record: Record) -> Judgement:
        """Every element is accounted for."""
        node = next(iter(self.finals(record)))
        return Judgement(violations=self._judge(record, node))

    def _judge(self, record: Record, node: str) -> list[str]:
        finals = record.finals.get(node, {})
        entries = list(record.of(self.name))
        straight = Account.of(entry for entry in entries if entry.key == self.straight)
        waited = Account.of(entry for entry in entries if entry.key != self.straight)
        ahead = _left(finals, [self.straight])
        return [
            *straight.judge(ahead),
            *straight.judge_order(self.straight, ahead),
            *waited.judge(_left(finals, self.waited)),
        ]


def _left(finals: dict[str, Json], keys: list[str]) -> list[str]:
    left = []
    for key in keys:
        elements = finals.get(key, [])
        assert isinstance(elements, list), elements
        left += [str(element) for element in elements]
    return left


class QueueClient(Client):
    """A client that pushes, or one that pops and waits."""

    def __init__(
        self, workload: Queues, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.queues = workload
        self.pushes = number % 2 == 0

    async def step(self) -> None:
        """Push, or pop, or leave while waiting."""
        if self.pushes:
            await self.push()
            await asyncio.sleep(self.random.random() * 2 * PUSH_PAUSE_SECONDS)
            return
        dice = self.random.random()
        if dice < 0.25:
            straight = self.queues.straight
            await self.pop(self.begin(POP, straight), ("LPOP", straight))
        elif dice < 0.30:
            await self.leave()
        else:
            command = self._wait()
            await self.pop(self._begin(command), command)

    async def push(self) -> None:
        """Push elements that are used once only."""
        straight = self.queues.straight
        key = self.random.choice((straight, *self.queues.sources))
        name = "RPUSH" if key == straight else self.random.choice(("LPUSH", "RPUSH"))
        elements = [self.unique() for _ in range(self.random.randint(1, PUSH_MAX))]
        entry = self.begin(PUSH, key, [*elements])
        if await self.ask(entry, (name, key, *elements)) is not None:
            entry.finish(Outcome.DONE)

    def _wait(self) -> Command:
        keys = self.random.sample(self.queues.waited, self.random.randint(1, 3))
        sides = self.random.choices(("LEFT", "RIGHT"), k=2)
        seconds = f"{self.random.uniform(0.01, WAIT_SECONDS_MAX):.3f}"
        dice = self.random.random()
        if dice < 0.2:
            source = self.random.choice(self.queues.sources)
            return ("BLMOVE", source, self.queues.moved, *sides, seconds)
        if dice < 0.4:
            return ("BLMPOP", seconds, len(keys), *keys, sides[0], "COUNT", 2)
        return ("BLPOP" if sides[0] == "LEFT" else "BRPOP", *keys, seconds)

    def _begin(self, command: Command) -> Entry:
        line = " ".join(str(word) for word in command)
        return self.begin(MOVE if command[0] == "BLMOVE" else POP, self.queues.key("waited"), line)

    async def pop(self, entry: Entry, command: Command) -> None:
        """Pop, and wait for something if the command does."""
        replies = await self.ask(entry, command)
        if replies is not None:
            entry.finish(Outcome.DONE, [*_popped(command, replies[0])])

    async def leave(self) -> None:
        """Wait, and be gone before there is an answer, as a rule."""
        command = self._wait()
        entry = self._begin(command)
        try:
            async with asyncio.timeout(self.random.random() * LEAVE_SECONDS_MAX):
                await self.pop(entry, command)
        except TimeoutError:
            self.hang_up()
            entry.finish(Outcome.UNKNOWN, note="left")


def _popped(command: Command, reply: Reply) -> list[str]:
    """The elements in a reply: LPOP's is one, BLPOP's has the key before it."""
    if reply is None or isinstance(reply, bytes):
        return [] if reply is None else [reply.decode()]
    assert isinstance(reply, list), reply
    return texts(reply[1] if command[0] == "BLMPOP" else reply[1:])
