"""Locks with a lifetime, and fencing tokens for what they protect.

A client takes a lock with SET NX PX, gets a token from a counter, and writes what the lock protects
with that token. It may dawdle until the lock is somebody else's: a lock with a lifetime excludes
nobody for certain, and kvnode does not promise that it does. What must hold is what the store does:
tokens ascend, writes are accepted in the order of their tokens, and a lock is given to another only
after its deadline by the cluster's clock, or after it was released.
"""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.locks import ACQUIRE, FENCE, RELEASE, WRITE, check_lock
from tests.chaos.client import Connection
from tests.chaos.record import Record, by_key
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, text, texts
from tests.support.history import Outcome

LOCKS = 10
LIFETIMES_MS = (50, 200, 800)
WRITES_MAX = 4
DAWDLE_ODDS = 0.3
RELEASE_ODDS = 0.7


class Locks(Workload):
    """See the module."""

    name: ClassVar[str] = "locks"
    clients_per_node: ClassVar[int] = 2

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One that takes a lock, writes, and lets go."""
        return LockClient(self, number, node, rng, record)

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """The writes that were accepted under each lock, and the last token."""
        for number in range(LOCKS):
            lock = self.key(number)
            log, last = await fetch(
                connection, ("LRANGE", f"{lock}:log", 0, -1), ("GET", f"{lock}:last")
            )
            record.final(node, lock, {"log": [*texts(log)], "last": text(last)})

    def check(self, record: Record) -> Judgement:
        """Lock by lock."""
        judgement = Judgement()
        finals = next(iter(self.finals(record).values()))
        for lock, entries in by_key(record.of(self.name)).items():
            check_lock(lock, entries, finals.get(lock), judgement)
        return judgement


class LockClient(Client):
    """Takes one lock at a time."""

    def __init__(
        self, workload: Locks, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.locks = workload

    async def step(self) -> None:
        """Acquire, and if that went well all the rest."""
        lock = self.locks.key(self.random.randrange(LOCKS))
        holder, lifetime = self.unique(), self.random.choice(LIFETIMES_MS)
        if not await self.acquire(lock, holder, lifetime):
            return
        token = await self.fence(lock)
        if token is None:
            return
        for number in range(self.random.randint(1, WRITES_MAX)):
            if self.random.random() < DAWDLE_ODDS:
                await asyncio.sleep(self.random.random() * lifetime / 1000)
            if self._is_cut_off or not await self.write(lock, token, number):
                return
        if self.random.random() < RELEASE_ODDS and not self._is_cut_off:
            await self.release(lock, holder)

    async def acquire(self, lock: str, holder: str, lifetime: int) -> bool:
        """SET NX PX; and until when by the cluster's clock?"""
        entry = self.begin(ACQUIRE, lock, [holder, lifetime])
        replies = await self.ask(
            entry,
            ("MULTI",),
            ("SET", lock, holder, "NX", "PX", lifetime),
            ("PEXPIRETIME", lock),
            ("EXEC",),
        )
        if replies is None:
            return False
        found = replies[-1]
        assert isinstance(found, list), found
        deadline = found[1]
        assert isinstance(deadline, int), found
        entry.finish(Outcome.DONE, None if found[0] is None else deadline)
        return found[0] is not None

    async def fence(self, lock: str) -> int | None:
        """INCR: the token."""
        entry = self.begin(FENCE, lock)
        replies = await self.ask(entry, ("INCR", f"{lock}:fence"))
        if replies is None:
            return None
        assert isinstance(replies[0], int), replies
        entry.finish(Outcome.DONE, replies[0])
        return replies[0]

    async def write(self, lock: str, token: int, number: int) -> bool:
        """Write with a token, unless a later one has been seen; tells whether it was accepted."""
        line = f"{token} {self.number}.{number}"
        entry = self.begin(WRITE, lock, line)
        last = f"{lock}:last"
        replies = await self.ask(entry, ("WATCH", last), ("GET", last))
        if replies is None:
            entry.outcome = Outcome.REFUSED  # nothing was sent that changes anything
            return False
        if int(text(replies[1]) or 0) > token:
            await self.ask(self.begin("read", lock), ("UNWATCH",))
            entry.finish(Outcome.REFUSED, note="a later token was seen")
            return False
        replies = await self.ask(
            entry, ("MULTI",), ("SET", last, token), ("RPUSH", f"{lock}:log", line), ("EXEC",)
        )
        if replies is None:
            return False
        is_accepted = replies[-1] is not None
        entry.finish(Outcome.DONE if is_accepted else Outcome.REFUSED)
        return is_accepted

    async def release(self, lock: str, holder: str) -> None:
        """DEL, if the lock is still ours."""
        entry = self.begin(RELEASE, lock, holder)
        replies = await self.ask(entry, ("WATCH", lock), ("GET", lock))
        if replies is None:
            entry.outcome = Outcome.REFUSED
            return
        if text(replies[1]) != holder:
            await self.ask(self.begin("read", lock), ("UNWATCH",))
            entry.finish(Outcome.REFUSED, note="it is somebody else's")
            return
        replies = await self.ask(entry, ("MULTI",), ("DEL", lock), ("EXEC",))
        if replies is not None:
            is_released = isinstance(replies[-1], list) and replies[-1][0] == 1
            entry.finish(Outcome.DONE if is_released else Outcome.REFUSED)

    @property
    def _is_cut_off(self) -> bool:
        """A new connection is for a new lock."""
        return self.connection is None or self.connection.lost
