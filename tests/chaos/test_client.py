"""What a client notes about an operation is what its replies say, on either kind of connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Self, cast

import hiredis
import pytest
import uvloop

from tests.chaos.client import Command, Connection, ConnectionLost
from tests.chaos.library import LibraryConnection
from tests.chaos.record import Entry, Record
from tests.chaos.workloads.protocol import Client
from tests.support.history import Outcome

Server = Callable[[bytes], "bytes | None"]
Kind = type[Connection | LibraryConnection]
KINDS: list[Kind] = [Connection, LibraryConnection]


class Node:
    """A node that answers as it is told; None: it closes the connection."""

    name = "n1"

    def __init__(self, answer: Server) -> None:
        self.answer = answer
        self.address = ("", 0)
        self._server: asyncio.Server | None = None
        self.open: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Conversation(self), "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in self.open:
            transport.abort()
        while self.open:
            await asyncio.sleep(0)


class Conversation(asyncio.Protocol):
    """One connection to the node."""

    transport: asyncio.Transport

    def __init__(self, node: Node) -> None:
        self.node = node
        self.requests = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport, but is no subclass of it.
        self.transport = cast(asyncio.Transport, transport)
        self.node.open.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.requests.feed(data)
        while (command := self.requests.gets()) is not False:
            assert isinstance(command, list)
            # The library tells its name first.
            greets = command[0] == b"CLIENT"
            reply = b"+OK\r\n" if greets else self.node.answer(command[0])
            if reply is None:
                self.transport.close()
                return
            self.transport.write(reply)


class Asker(Client):
    """Does one thing."""

    async def step(self) -> None:
        raise NotImplementedError


async def ask(kind: Kind, answer: Server, *commands: Command) -> tuple[Entry, Record, Asker]:
    """What is noted about an operation of some commands."""
    async with Node(answer) as node:
        record = Record()
        client = Asker("w", 1, node, random.Random(0), record)
        client.connection = await kind.open(node.address)
        entry = client.begin("write", "k")
        replies = await client.ask(entry, *commands)
        if replies is not None:
            entry.finish(Outcome.DONE, len(replies))
        client.hang_up()
        await asyncio.sleep(0)
        return entry, record, client


TRANSACTION: tuple[Command, ...] = (("MULTI",), ("SET", "k", "v"), ("EXEC",))
GOOD = {b"MULTI": b"+OK\r\n", b"SET": b"+QUEUED\r\n", b"EXEC": b"*1\r\n+OK\r\n"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("replies", "outcome", "incidents"),
    [
        ({}, Outcome.DONE, 0),
        ({b"EXEC": b"-BUSY no leader\r\n"}, Outcome.REFUSED, 1),
        ({b"EXEC": b"-UNKNOWN it may have been done\r\n"}, Outcome.UNKNOWN, 1),
        ({b"EXEC": b"-UNBLOCKED go away\r\n"}, Outcome.UNKNOWN, 0),
        (
            {b"SET": b"-OOM no room\r\n", b"EXEC": b"-EXECABORT discarded\r\n"},
            Outcome.REFUSED,
            1,
        ),
        # Without a MULTI the SET is done at once, whatever EXEC says.
        (
            {b"MULTI": b"-BUSY\r\n", b"SET": b"+OK\r\n", b"EXEC": b"-ERR EXEC without MULTI\r\n"},
            Outcome.UNKNOWN,
            1,
        ),
        ({b"EXEC": b"*1\r\n-WRONGTYPE of value\r\n"}, Outcome.UNKNOWN, 1),
        ({b"EXEC": None}, Outcome.UNKNOWN, 1),
    ],
)
async def test_an_outcome_is_what_the_replies_say(
    kind: Kind,
    replies: dict[bytes, bytes | None],
    outcome: Outcome,
    incidents: int,
) -> None:
    answers = {**GOOD, **replies}
    entry, record, _ = await ask(kind, lambda name: answers[name], *TRANSACTION)
    assert entry.outcome is outcome
    assert len(record.incidents) == incidents
    assert entry.ended_ns is not None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_connection_is_not_used_again(
    kind: Kind,
) -> None:
    async with Node(lambda name: None if name == b"GET" else b"+OK\r\n") as node:
        connection = await kind.open(node.address)
        with pytest.raises(ConnectionLost):
            await connection.call(("GET", "k"))
        assert connection.lost
        with pytest.raises(ConnectionLost):
            await connection.call(("SET", "k", "v"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_that_is_closed_already_is_a_lost_connection_on_the_loop_of_the_run(
    kind: Kind,
) -> None:
    async def write_too_late() -> None:
        async with Node(lambda _: b"+OK\r\n") as node:
            connection = await kind.open(node.address)
            if isinstance(connection, LibraryConnection):
                writer = connection._connection._writer
                assert writer is not None
                writer.transport.abort()
            else:
                assert connection._transport is not None
                connection._transport.abort()
            with pytest.raises(ConnectionLost):
                await connection.call(("SET", "k", "v"))
            assert connection.lost

    uvloop.run(write_too_late())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_was_left_takes_its_connection_along(
    kind: Kind,
) -> None:
    async with Node(lambda name: b"" if name == b"BLPOP" else b"+OK\r\n") as node:
        connection = await kind.open(node.address)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.call(("BLPOP", "k", 0)), 0.05)
        connection.close()
        assert connection.lost


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_listens_is_an_error_of_the_system(
    kind: Kind,
) -> None:
    opened: Awaitable[object] = kind.open(("127.0.0.1", 1))
    with pytest.raises(OSError, match=r"."):
        await opened
