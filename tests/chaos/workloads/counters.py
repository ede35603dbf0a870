"""Counters: a few contended keys that are counted up, exactly once each time.

Some are strings, some fields of hashes, some scores. An increment that is applied twice shows in
the answers, and at the end in the sum.
"""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.registers import INCREMENT, READ, check_counter
from tests.chaos.client import Connection, Reply
from tests.chaos.record import FINAL_CLIENT, Record, by_key
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch
from tests.chaos.workloads.shapes import Shape, field, plain, score
from tests.support.history import Outcome

KEYS = 12


class Counters(Workload):
    """See the module."""

    name: ClassVar[str] = "counters"
    needs_finals: ClassVar[bool] = False
    clients_per_node: ClassVar[int] = 2

    def shape(self, number: int) -> Shape:
        """How a counter is spoken to."""
        return (plain, field, score)[number % 3](self.key(number))

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that counts."""
        return CounterClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """The last reads belong to the history."""
        for number in range(KEYS):
            entry = record.begin(self.name, FINAL_CLIENT, node, READ, self.key(number))
            (reply,) = await fetch(connection, self.shape(number).read)
            entry.finish(Outcome.DONE, count(reply))
            record.final(node, entry.key, entry.result)

    def check(self, record: Record) -> Judgement:
        """Linearizable, and the sum is right."""
        judgement = Judgement()
        for key, entries in by_key(record.of(self.name)).items():
            check_counter(key, entries, judgement)
        return judgement


class CounterClient(Client):
    """Counts, and looks now and then."""

    def __init__(
        self, workload: Counters, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.counters = workload

    async def step(self) -> None:
        """INCR, HINCRBY, ZINCRBY, or a look."""
        number = self.random.randrange(KEYS)
        shape = self.counters.shape(number)
        is_look = self.random.random() < 0.3
        entry = self.begin(READ if is_look else INCREMENT, self.counters.key(number))
        replies = await self.ask(entry, shape.read if is_look else shape.increment)
        if replies is not None:
            entry.finish(Outcome.DONE, count(replies[0]))


def count(reply: Reply) -> int:
    """The number in a reply; a counter that is absent counts as 0."""
    assert reply is None or isinstance(reply, int | bytes), reply
    return 0 if reply is None else int(reply)
