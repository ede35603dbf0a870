"""Expiry: nothing comes back, and nothing goes before its time.

Every key is written once, with a lifetime, by its owner, who learns the deadline by the cluster's
clock in the same transaction, and may move it or let the key live for ever. Everybody looks at keys
of late; who finds one missing asks what time the cluster has *afterwards*. So no clock but the
cluster's is needed to tell whether the key went too early.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import ClassVar

from tests.chaos.checks.expiry import KEEP, MOVE, READ, WRITE, check_expiry, deadlines
from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Connection, Reply
from tests.chaos.record import Entry, Record
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, read_keys, text
from tests.support.history import Outcome

LIFETIMES_MS = (20, 100, 400, 1_000, 3_000)
RECENT = 60
OWNED = 8
AFTERWARDS_MS = 1_000
"""So long after its deadline a key is gone for certain."""
AFTERWARDS_SECONDS_MAX = 15.0
"""The cluster's clock may have fallen behind while nobody led."""


class Expiry(Workload):
    """See the module."""

    name: ClassVar[str] = "expiry"
    clients_per_node: ClassVar[int] = 2

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.recent: deque[str] = deque(maxlen=RECENT)

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that writes keys, and looks at those of all."""
        return ExpiryClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """What is there when every deadline is over."""
        entries = list(record.of(self.name))
        latest = max(deadlines(entries), default=0) + AFTERWARDS_MS
        patience = time.monotonic() + AFTERWARDS_SECONDS_MAX
        while await cluster_ms(connection) < latest and time.monotonic() < patience:
            await asyncio.sleep(0.1)
        keys = [entry.key for entry in entries if entry.what == WRITE]
        await read_keys(node, connection, record, keys)

    def check(self, record: Record) -> Judgement:
        """Key by key, and the clock as a whole."""
        judgement = Judgement()
        check_expiry(
            list(record.of(self.name)), self.finals(record), record.disturbances, judgement
        )
        return judgement


class ExpiryClient(Client):
    """Owns the keys that it writes."""

    def __init__(
        self, workload: Expiry, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.expiry = workload
        self.owned: deque[str] = deque(maxlen=OWNED)

    async def step(self) -> None:
        """One operation."""
        dice = self.random.random()
        if dice < 0.3 or not self.expiry.recent:
            await self.write()
        elif dice < 0.4 and self.owned:
            await self.change(self.random.choice(self.owned))
        else:
            await self.look(self.random.choice(self.expiry.recent))

    async def write(self) -> None:
        """SET with a lifetime."""
        value, lifetime = self.unique(), self.random.choice(LIFETIMES_MS)
        key = self.expiry.key(value)
        entry = self.begin(WRITE, key, [value, lifetime])
        replies = await self.ask(
            entry, ("MULTI",), ("SET", key, value, "PX", lifetime), ("PEXPIRETIME", key), ("EXEC",)
        )
        self.owned.append(key)
        self.expiry.recent.append(key)
        if replies is not None:
            entry.finish(Outcome.DONE, _numbers(replies[-1])[-1])

    async def change(self, key: str) -> None:
        """PEXPIRE, or now and then PERSIST."""
        if self.random.random() < 0.2:
            entry = self.begin(KEEP, key)
            command: tuple[str | int, ...] = ("PERSIST", key)
        else:
            lifetime = self.random.choice(LIFETIMES_MS)
            entry = self.begin(MOVE, key, lifetime)
            command = ("PEXPIRE", key, lifetime)
        replies = await self.ask(entry, ("MULTI",), command, ("PEXPIRETIME", key), ("EXEC",))
        if replies is not None:
            entry.finish(Outcome.DONE, [*_numbers(replies[-1])])

    async def look(self, key: str) -> None:
        """GET; if there is nothing, what time is it?"""
        entry = self.begin(READ, key)
        replies = await self.ask(entry, ("GET", key))
        if replies is None:
            return
        entry.finish(Outcome.DONE, [text(replies[0]), None])
        if replies[0] is None:
            clock = await self.ask(self._aside(), ("TIME",))
            if clock is not None:
                entry.result = [None, _milliseconds(clock[0])]

    def _aside(self) -> Entry:
        """A question that is no operation of the history."""
        return Entry(self.workload, self.number, self.node.name, "read", "", time.monotonic_ns())


async def cluster_ms(connection: Connection) -> int:
    """What time the cluster has, in ms since the epoch, as a node knows it."""
    (reply,) = await fetch(connection, ("TIME",))
    return _milliseconds(reply)


def _milliseconds(reply: Reply) -> int:
    assert isinstance(reply, list), reply
    seconds, microseconds = (int(one) for one in reply if isinstance(one, bytes))
    return seconds * 1000 + microseconds // 1000


def _numbers(reply: Reply) -> list[int]:
    """The integers that EXEC answers with."""
    assert isinstance(reply, list), reply
    return [one for one in reply if isinstance(one, int)]
