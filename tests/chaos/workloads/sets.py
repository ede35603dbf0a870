"""Sets in pairs: every element is added once, moved about, and taken by one client.

SADD, SPOP, SREM of what somebody added, SMOVE between the two sets of a pair, and MULTI with
SMEMBERS of both: at every moment an element is in one of the two, or in neither.
"""

from __future__ import annotations

import random
from collections import deque
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.sets import ADD, MOVE, POP, READ, REMOVE, check_pair
from tests.chaos.client import Connection
from tests.chaos.record import Json, Record, by_key
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, text, texts
from tests.support.history import Outcome

PAIRS = 6
ADDED_MAX = 3
REMEMBERED = 500


class Sets(Workload):
    """See the module."""

    name: ClassVar[str] = "sets"
    clients_per_node: ClassVar[int] = 2

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.added: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        """Pairs and elements of late, for whoever wants to remove or move one."""

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that does all of it."""
        return SetClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """What is left in both sets of every pair."""
        for number in range(PAIRS):
            pair = self.key(number)
            found = await fetch(connection, *(("SMEMBERS", one) for one in sets_of(pair)))
            record.final(node, pair, _sorted(found[0], found[1]))

    def check(self, record: Record) -> Judgement:
        """Pair by pair."""
        judgement = Judgement()
        finals = next(iter(self.finals(record).values()))
        for pair, entries in by_key(record.of(self.name)).items():
            check_pair(pair, entries, finals.get(pair), judgement)
        return judgement


def sets_of(pair: str) -> tuple[str, str]:
    """The names of the two sets."""
    return f"{pair}:left", f"{pair}:right"


def _sorted(left: object, right: object) -> list[Json]:
    """Members have no order, so they are given one."""
    assert isinstance(left, list), left
    assert isinstance(right, list), right
    return [[*sorted(texts(left))], [*sorted(texts(right))]]


class SetClient(Client):
    """Adds as much as it takes."""

    def __init__(
        self, workload: Sets, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.sets = workload

    async def step(self) -> None:
        """One operation."""
        pair = self.sets.key(self.random.randrange(PAIRS))
        dice = self.random.random()
        if dice < 0.25 or not self.sets.added:
            await self.add(pair)
        elif dice < 0.45:
            await self.pop(pair)
        elif dice < 0.65:
            await self.remove(*self.random.choice(self.sets.added))
        elif dice < 0.80:
            await self.move(*self.random.choice(self.sets.added))
        else:
            await self.look(pair)

    async def add(self, pair: str) -> None:
        """SADD of elements that are used once only."""
        elements = [self.unique() for _ in range(self.random.randint(1, ADDED_MAX))]
        entry = self.begin(ADD, pair, [*elements])
        replies = await self.ask(entry, ("SADD", self._side(pair), *elements))
        if entry.outcome is not Outcome.REFUSED:
            self.sets.added += [(pair, element) for element in elements]
        if replies is not None:
            assert isinstance(replies[0], int), replies
            entry.finish(Outcome.DONE, replies[0])

    async def pop(self, pair: str) -> None:
        """SPOP of whatever comes."""
        entry = self.begin(POP, pair)
        replies = await self.ask(entry, ("SPOP", self._side(pair)))
        if replies is not None:
            element = text(replies[0])
            entry.finish(Outcome.DONE, [] if element is None else [element])

    async def remove(self, pair: str, element: str) -> None:
        """SREM from both sets, wherever it is."""
        entry = self.begin(REMOVE, pair, element)
        removals = [("SREM", one, element) for one in sets_of(pair)]
        replies = await self.ask(entry, ("MULTI",), *removals, ("EXEC",))
        if replies is not None:
            counts = replies[-1]
            assert isinstance(counts, list), counts
            entry.finish(Outcome.DONE, [count for count in counts if isinstance(count, int)])

    async def move(self, pair: str, element: str) -> None:
        """SMOVE to the other set."""
        entry = self.begin(MOVE, pair, element)
        left, right = sets_of(pair)
        ways = (left, right) if self.random.random() < 0.5 else (right, left)
        replies = await self.ask(entry, ("SMOVE", *ways, element))
        if replies is not None:
            assert isinstance(replies[0], int), replies
            entry.finish(Outcome.DONE, replies[0])

    async def look(self, pair: str) -> None:
        """SMEMBERS of both, as of one moment."""
        entry = self.begin(READ, pair)
        looks = [("SMEMBERS", one) for one in sets_of(pair)]
        replies = await self.ask(entry, ("MULTI",), *looks, ("EXEC",))
        if replies is not None:
            found = replies[-1]
            assert isinstance(found, list), found
            entry.finish(Outcome.DONE, _sorted(*found))

    def _side(self, pair: str) -> str:
        return self.random.choice(sets_of(pair))
