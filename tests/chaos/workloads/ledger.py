"""A ledger: keys that are written exactly once, each by one client.

APPEND, so that a write that is applied twice shows. Cheap to check in any number, so clients send
many at a time: every acknowledged one is there at the end, once, and no refused one is.
"""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.checks.exactly_once import check_ledger
from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Connection
from tests.chaos.record import Record
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, read_keys

APPEND = "append"
PIPELINE_MAX = 6


class Ledger(Workload):
    """See the module."""

    name: ClassVar[str] = "ledger"
    clients_per_node: ClassVar[int] = 3

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that writes."""
        return LedgerClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """All keys."""
        keys = [entry.key for entry in record.of(self.name)]
        await read_keys(node, connection, record, keys)

    def check(self, record: Record) -> Judgement:
        """Every node has what was acknowledged."""
        judgement = Judgement()
        check_ledger(list(record.of(self.name)), self.finals(record), judgement)
        return judgement


class LedgerClient(Client):
    """Appends to keys that nobody wrote before and nobody will write again."""

    def __init__(
        self, workload: Ledger, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.ledger = workload

    async def step(self) -> None:
        """A few at a time, in one pipeline."""
        values = [self.unique() for _ in range(self.random.randint(1, PIPELINE_MAX))]
        entries = [self.begin(APPEND, self.ledger.key(value), value) for value in values]
        await self.ask_each(
            entries, [("APPEND", entry.key, str(entry.argument)) for entry in entries]
        )
