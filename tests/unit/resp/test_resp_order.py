"""One property above all: pipelines, chunks and late results never change what a client reads."""

from __future__ import annotations

import asyncio
import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.service import Pending
from kvnode.store.ops import is_write
from kvnode.store.reply import Result
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve

NOW_MS = 1_700_000_000_000


class UnrulyService(FakeService):
    """A node that is as unhelpful as the port allows.

    Writes take effect in the order in which they came, but late and at once with others; a read
    sees the state of any moment from its arrival to its answer; answers come in any order.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(wall_ms=lambda: NOW_MS)
        self._rng = rng
        self._unapplied: list[Pending] = []
        self._results: dict[int, Result] = {}

    def submit_write(self, pending: Pending) -> None:
        self._unapplied.append(pending)
        self.held.append(pending)

    def submit_read(self, pending: Pending) -> None:
        if self._rng.random() < 0.5:
            self._results[id(pending)] = self.run(pending.op)
        self.held.append(pending)

    def misbehave(self) -> None:
        """Apply some writes and answer some operations."""
        if self._rng.random() < 0.7:
            self._apply(self._rng.randint(0, len(self._unapplied)))
        for _ in range(self._rng.randint(0, len(self.held))):
            pending = self.held.pop(self._rng.randrange(len(self.held)))
            if is_write(pending.op) and id(pending) not in self._results:
                self._apply(self._unapplied.index(pending) + 1)
            elif id(pending) not in self._results:
                self._results[id(pending)] = self.run(pending.op)
            pending.complete(self._results.pop(id(pending)))

    def _apply(self, count: int) -> None:
        for pending in self._unapplied[:count]:
            self._results[id(pending)] = self.run(pending.op)
        del self._unapplied[:count]


COMMANDS = """
    SET a 1 | SET a x | SET a 2 NX GET | SET b 5 EX 100 | GET a | GET b | INCR a | INCR b
    APPEND b 7 | MGET a b | MSET a 1 b 2 | DEL a | DEL a b | EXISTS a b | TTL b | EXPIRE a 50
    DBSIZE | FLUSHDB
    FLUSHALL | MULTI | MULTI | EXEC | EXEC | EXEC | DISCARD | WATCH a | WATCH a b | UNWATCH
    SELECT 0 | SELECT 1 | SELECT 99 | HELLO 2 | HELLO 3 | PING | ECHO hi | CLIENT SETNAME me
    CLIENT GETNAME | RESET | NOSUCH | GET | SET a 1 FOO | TYPE a | SCAN 0 | KEYS * | INCRBY b -9
"""
BLOCKS = """
    WATCH a | MULTI | SET a 3 | GET a | EXEC
    WATCH a | SET a 4 | MULTI | SELECT 1 | SET a 5 | EXEC | SET a 6
    MULTI | SELECT 1 | SET a 7 | PING | EXEC | GET a
    MULTI | GET none | HELLO 3 | GET none | EXEC | GET none
    SET a 8 | SELECT 1 | SET a 9 | SELECT 0 | GET a | INCR a | GET a
"""


def split(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.strip().split(separator)]


LINE = st.sampled_from(split(COMMANDS.replace("\n    ", "|").strip("|\n"), "|")).map(
    lambda line: [line]
)
BLOCK = st.sampled_from([split(block, "|") for block in split(BLOCKS, "\n")])
LINES = st.lists(st.one_of(LINE, LINE, BLOCK), max_size=25).map(
    lambda parts: list(chain.from_iterable(parts))
)


async def one_at_a_time(lines: list[str]) -> bytes:
    client = MemoryClient(serve(FakeService(wall_ms=lambda: NOW_MS)))
    return b"".join([await client.call_raw(*line.split()) for line in lines])


async def unruly(lines: list[str], rng: random.Random) -> bytes:
    service = UnrulyService(rng)
    server = serve(service)
    client = MemoryClient(server)
    stream = b"".join([encode(*line.split()) for line in lines])
    while stream:
        size = rng.choice((1, 7, 50, 500, 5000))
        client.send_bytes(stream[:size])
        stream = stream[size:]
        for _ in range(rng.randint(0, 3)):
            service.misbehave()
            await rest(rng.randint(0, 2))
    while not client.connection.is_idle:
        service.misbehave()
        await rest(2)
    assert server.ledger.requests == 0
    return await client.raw()


@settings(max_examples=400, deadline=None)
@given(LINES, st.integers(0, 2**32))
def test_replies_are_those_of_a_client_that_waits_for_each(lines: list[str], seed: int) -> None:
    with asyncio.Runner() as runner:
        expected = runner.run(one_at_a_time(lines))
        assert runner.run(unruly(lines, random.Random(seed))) == expected


STORES = (
    *("COPY a b", "SUNIONSTORE b a", "SINTERSTORE b a", "SDIFFSTORE b a"),
    *("ZUNIONSTORE b 1 a", "ZINTERSTORE b 1 a", "ZDIFFSTORE b 1 a", "ZRANGESTORE b a 0 1"),
    *("SORT a STORE b", "SORT a BY x STORE b", "GEOSEARCHSTORE b a FROMMEMBER x BYRADIUS 1 m"),
    *("GEORADIUS a 1 1 1 m STORE b", "GEORADIUSBYMEMBER a x 1 m STOREDIST b"),
)


@pytest.mark.parametrize("line", STORES)
async def test_what_may_be_carried_on_in_the_log_is_answered_before_the_next_begins(
    line: str,
) -> None:
    service = FakeService()
    client = MemoryClient(serve(service))
    service.hold()
    client.send_bytes(b"".join(encode(*part.split()) for part in ("PING", line, "DEL a")))
    await rest(3)
    (only,) = service.held
    service.answer()
    await rest(3)
    (behind,) = service.held
    assert behind is not only
    service.release()


@pytest.mark.parametrize("line", ["GET a", "SORT a", "SORT_RO a BY x", "XRANGE a - +"])
async def test_a_read_is_answered_before_the_write_behind_it_begins(line: str) -> None:
    """SORT without STORE reads; once the DEL behind it was begun before it was answered."""
    service = FakeService()
    client = MemoryClient(serve(service))
    service.hold()
    client.send_bytes(b"".join(encode(*part.split()) for part in (line, "DEL a")))
    await rest(3)
    (only,) = service.held
    assert not is_write(only.op)
    service.answer()
    await rest(3)
    assert is_write(service.held[0].op)
    service.release()
