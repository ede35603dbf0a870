"""Streams and a group of consumers: every entry is delivered and acknowledged, none is lost.

Clients add entries, each once; they are consumers too: they take what is new (some of them wait for
it), acknowledge most of what they have, forget the rest as if they had died, and claim what others
forgot. Now and then somebody looks at the newest entries.
"""

from __future__ import annotations

import random
from typing import ClassVar

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.streams import (
    ACKNOWLEDGE,
    ADD,
    CLAIM,
    DELIVER,
    DELIVERED_MAX,
    READ,
    check_stream,
)
from tests.chaos.client import Connection, Reply
from tests.chaos.record import Entry, Json, Record, by_key
from tests.chaos.workloads.protocol import Client, Endpoint, Workload, fetch, texts
from tests.support.history import Outcome

STREAMS = 10
GROUP = "group"
BLOCK_MS = 400
FORGET_ODDS = 0.1
HAND_MAX = 50
IDLE_MS = (0, 50, 500)
NEWEST = 20
PENDING_MAX = 100_000


class Streams(Workload):
    """See the module."""

    name: ClassVar[str] = "streams"
    clients_per_node: ClassVar[int] = 3

    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """A producer and consumer."""
        return StreamClient(self, number, node, rng, record)

    async def prepare(self, connection: Connection) -> None:
        """The groups, which make the streams."""
        for number in range(STREAMS):
            await fetch(connection, ("XGROUP", "CREATE", self.key(number), GROUP, "0", "MKSTREAM"))

    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """Entries, what is pending, and how far the group has come."""
        for number in range(STREAMS):
            key = self.key(number)
            entries, pending, groups = await fetch(
                connection,
                ("XRANGE", key, "-", "+"),
                ("XPENDING", key, GROUP, "-", "+", PENDING_MAX),
                ("XINFO", "GROUPS", key),
            )
            assert isinstance(pending, list), pending
            assert isinstance(groups, list), groups
            (group,) = groups
            facts = _names(group)
            record.final(
                node,
                key,
                {
                    "entries": [*_entries(entries)],
                    "pending": [texts(one)[0] for one in pending],
                    "last": facts["last-delivered-id"],
                },
            )

    def check(self, record: Record) -> Judgement:
        """Stream by stream."""
        judgement = Judgement()
        finals = next(iter(self.finals(record).values()))
        for key, entries in by_key(record.of(self.name)).items():
            check_stream(key, entries, finals.get(key), judgement)
        return judgement


class StreamClient(Client):
    """Adds, takes, acknowledges, claims and looks."""

    def __init__(
        self, workload: Streams, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        super().__init__(workload.name, number, node, rng, record)
        self.streams = workload
        self.consumer = f"consumer{number}"
        self.hand: list[tuple[str, str]] = []
        """Streams and ids of what is not acknowledged yet."""

    async def step(self) -> None:
        """One command."""
        key = self.streams.key(self.random.randrange(STREAMS))
        dice = self.random.random()
        if len(self.hand) > HAND_MAX or (self.hand and dice < 0.35):
            await self.acknowledge()
        elif dice < 0.65:
            await self.add(key)
        elif dice < 0.90:
            await self.take(key)
        elif dice < 0.95:
            await self.claim(key)
        else:
            await self.look(key)

    async def add(self, key: str) -> None:
        """XADD."""
        entry = self.begin(ADD, key, self.unique())
        replies = await self.ask(entry, ("XADD", key, "*", "value", str(entry.argument)))
        if replies is not None:
            (identifier,) = texts(replies)
            entry.finish(Outcome.DONE, identifier)

    async def take(self, key: str) -> None:
        """XREADGROUP of what is new, and perhaps wait for it."""
        entry = self.begin(DELIVER, key, self.consumer)
        waits = ("BLOCK", self.random.randint(1, BLOCK_MS)) if self.random.random() < 0.4 else ()
        replies = await self.ask(
            entry,
            (
                *("XREADGROUP", "GROUP", GROUP, self.consumer),
                *("COUNT", self.random.randint(1, DELIVERED_MAX)),
                *waits,
                *("STREAMS", key, ">"),
            ),
        )
        if replies is None:
            return
        found: list[Json] = []
        if isinstance(replies[0], list):
            (stream,) = replies[0]
            assert isinstance(stream, list), stream
            found = [*_entries(stream[1])]
        entry.finish(Outcome.DONE, found)
        self._hold(entry)

    async def claim(self, key: str) -> None:
        """XAUTOCLAIM of what somebody forgot."""
        entry = self.begin(CLAIM, key, self.consumer)
        idle = self.random.choice(IDLE_MS)
        replies = await self.ask(
            entry, ("XAUTOCLAIM", key, GROUP, self.consumer, idle, "0", "COUNT", DELIVERED_MAX)
        )
        if replies is not None:
            assert isinstance(replies[0], list), replies
            entry.finish(Outcome.DONE, [*_entries(replies[0][1])])
            self._hold(entry)

    def _hold(self, entry: Entry) -> None:
        assert isinstance(entry.result, list), entry
        for found in entry.result:
            assert isinstance(found, list), entry
            if self.random.random() >= FORGET_ODDS:
                self.hand.append((entry.key, str(found[0])))

    async def acknowledge(self) -> None:
        """XACK of one entry."""
        key, identifier = self.hand.pop(self.random.randrange(len(self.hand)))
        entry = self.begin(ACKNOWLEDGE, key, identifier)
        replies = await self.ask(entry, ("XACK", key, GROUP, identifier))
        if replies is not None:
            assert isinstance(replies[0], int), replies
            entry.finish(Outcome.DONE, replies[0])

    async def look(self, key: str) -> None:
        """XREVRANGE: the newest entries."""
        entry = self.begin(READ, key)
        replies = await self.ask(entry, ("XREVRANGE", key, "+", "-", "COUNT", NEWEST))
        if replies is not None:
            entry.finish(Outcome.DONE, [*_entries(replies[0])])


def _entries(reply: Reply) -> list[Json]:
    """Each as its id and its value."""
    assert isinstance(reply, list), reply
    found: list[Json] = []
    for one in reply:
        assert isinstance(one, list), reply
        identifier, fields = one
        assert isinstance(identifier, bytes), reply
        found.append([identifier.decode(), texts(fields)[1]])
    return found


def _names(reply: Reply) -> dict[str, Json]:
    """Names and values that follow each other."""
    assert isinstance(reply, list), reply
    plain: list[Json] = []
    for one in reply:
        assert one is None or isinstance(one, bytes | int), reply
        plain.append(one.decode() if isinstance(one, bytes) else one)
    return {str(name): value for name, value in zip(plain[::2], plain[1::2], strict=True)}
