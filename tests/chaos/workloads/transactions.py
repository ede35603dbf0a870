"""Transactions on lists: a list tells in which order its elements came.

MULTI with reads and appends of a few lists at a time, and the same behind a WATCH, where what was
read before MULTI must still hold at EXEC. Every element is appended once. Lists are given up when
they have grown, so that reading them stays cheap.
"""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.transactions import APPEND, READ, check_transactions
from tests.chaos.client import Command, Connection, Reply
from tests.chaos.record import Json, Record
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, texts
from tests.support.history import Outcome

LISTS = 12
"""In play at a time."""
LENGTH = 60
"""The mean, when a list is given up."""
STEPS = (1, 4)
WATCH_ODDS = 0.2
LISTS_PER_READ = 100


class Transactions(Workload):
    """See the module."""

    name: ClassVar[str] = "transactions"
    clients_per_node: ClassVar[int] = 3

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.appends = 0

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that does transactions."""
        return TransactionClient(self, number, node, rng, record)

    def list_now(self, rng: random.Random) -> str:
        """One of the lists in play."""
        generation = self.appends // (LISTS * LENGTH)
        return self.key(generation * LISTS + rng.randrange(LISTS))

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """All lists that there ever were."""
        lists = (self.appends // (LISTS * LENGTH) + 1) * LISTS
        for start in range(0, lists, LISTS_PER_READ):
            keys = [self.key(n) for n in range(start, min(lists, start + LISTS_PER_READ))]
            found = await fetch(connection, *(("LRANGE", key, 0, -1) for key in keys))
            for key, elements in zip(keys, found, strict=True):
                record.final(node, key, [*texts(elements)])

    def check(self, record: Record) -> Judgement:
        """Strictly serializable."""
        judgement = Judgement()
        finals = next(iter(self.finals(record).values()))
        check_transactions(list(record.of(self.name)), finals, judgement)
        return judgement


class TransactionClient(Client):
    """Reads and appends, a few lists at a time."""

    def __init__(
        self,
        workload: Transactions,
        number: int,
        node: Endpoint,
        rng: random.Random,
        record: Record,
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.transactions = workload

    async def step(self) -> None:
        """One transaction."""
        steps = [self._step() for _ in range(self.random.randint(*STEPS))]
        if self.random.random() < WATCH_ODDS:
            await self.watched(self.transactions.list_now(self.random), steps)
        else:
            await self.plain(steps)

    def _step(self) -> list[Json]:
        key = self.transactions.list_now(self.random)
        if self.random.random() < 0.5:
            return [READ, key]
        self.transactions.appends += 1
        return [APPEND, key, self.unique()]

    async def plain(self, steps: list[list[Json]]) -> None:
        """MULTI, the steps, EXEC."""
        changes = any(step[0] == APPEND for step in steps)
        entry = self.begin("transaction" if changes else "read", _keys(steps), [*steps])
        replies = await self.ask(entry, ("MULTI",), *_commands(steps), ("EXEC",))
        if replies is not None:
            entry.finish(Outcome.DONE, _results(replies[-1]))

    async def watched(self, key: str, steps: list[list[Json]]) -> None:
        """The same, if a list is at EXEC as it was before."""
        entry = self.begin("watched", _keys([[READ, key], *steps]), [[READ, key], *steps])
        replies = await self.ask(entry, ("WATCH", key), ("LRANGE", key, 0, -1))
        if replies is None:
            # Nothing was sent that changes anything.
            entry.outcome = Outcome.REFUSED
            return
        seen = texts(replies[1])
        replies = await self.ask(entry, ("MULTI",), *_commands(steps), ("EXEC",))
        if replies is None:
            return
        if replies[-1] is None:
            entry.finish(Outcome.REFUSED)
        else:
            entry.finish(Outcome.DONE, [[*seen], *_results(replies[-1])])


def _keys(steps: list[list[Json]]) -> str:
    return " ".join(sorted({str(step[1]) for step in steps}))


def _commands(steps: list[list[Json]]) -> list[Command]:
    return [
        ("LRANGE", str(step[1]), 0, -1)
        if step[0] == READ
        else ("RPUSH", str(step[1]), str(step[2]))
        for step in steps
    ]


def _results(reply: Reply) -> list[Json]:
    """Lists that were read, and lengths that an append made."""
    assert isinstance(reply, list), reply
    return [one if isinstance(one, int) else [*texts(one)] for one in reply]
