"""A client without a socket: it talks to a real `Connection` over a transport made of lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis

from kvnode.admission.budget import AMPLE, Budget
from kvnode.admission.ledger import Ledger
from kvnode.resp.connection import Connection
from kvnode.resp.listener import RespConfig, RespServer
from kvnode.service import Control, Service


def encode(*arguments: bytes | str | int) -> bytes:
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class MemoryTransport:
    """What a connection does to its socket, written down.

    Attributes:
        writes: the chunks written, one per `write`.
        takes: whether the client takes what is written; else it piles up in the buffer.
    """

    def __init__(self, protocol: asyncio.Protocol, peer: object) -> None:
        self._protocol = protocol
        self._peer = peer
        self.writes: list[bytes] = []
        self.takes = True
        self.is_reading = True
        self.closed = False
        self.aborted = False
        self._buffered = 0
        self._high = 0

    def get_extra_info(self, name: str) -> object:
        return {"peername": self._peer, "sockname": ("10.0.0.2", 6379)}.get(name)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        self.writes.append(data)
        if not self.takes:
            was_below = self._buffered <= self._high
            self._buffered += len(data)
            if was_below and self._buffered > self._high:
                self._protocol.pause_writing()

    def writelines(self, chunks: list[bytes]) -> None:
        self.write(b"".join(chunks))

    def take(self, size: int) -> None:
        """The client reads so much, and not all."""
        assert 0 < size < self._buffered
        self._buffered -= size

    def take_all(self) -> None:
        """The client reads everything."""
        self.takes = True
        was_above = self._buffered > self._high
        self._buffered = 0
        if was_above:
            self._protocol.resume_writing()

    def pause_reading(self) -> None:
        assert self.is_reading, "paused twice"
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading, "resumed twice"
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self._buffered = 0
        self.close()


class MemoryClient:
    """Sends commands and reads replies, decoded by hiredis."""

    def __init__(self, server: RespServer, peer: object = ("10.0.0.1", 4711)) -> None:
        doorstep = server.doorstep
        self.transport = MemoryTransport(doorstep, peer)
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._read = 0
        doorstep.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def is_served(self) -> bool:
        """Whether it was let in."""
        return isinstance(self.transport.get_protocol(), Connection)

    @property
    def connection(self) -> Connection:
        """The node's end of it, if it was let in."""
        connection = self.transport.get_protocol()
        assert isinstance(connection, Connection)
        return connection

    def send(self, *arguments: bytes | str | int) -> None:
        """Send one command."""
        self.connection.data_received(encode(*arguments))

    def send_bytes(self, data: bytes) -> None:
        self.connection.data_received(data)

    async def raw(self) -> bytes:
        """The bytes that arrived since the last look, when all has come to rest."""
        await rest()
        writes = self.transport.writes[self._read :]
        self._read = len(self.transport.writes)
        return b"".join(writes)

    async def replies(self) -> list[Any]:
        """The replies that arrived since the last look."""
        self._reader.feed(await self.raw())
        found = []
        while (reply := self._reader.gets()) is not Ellipsis:
            found.append(reply)
        return found

    async def call(self, *arguments: bytes | str | int) -> Any:
        """Send one command and return its only reply."""
        self.send(*arguments)
        (reply,) = await self.replies()
        return reply

    async def call_raw(self, *arguments: bytes | str | int) -> bytes:
        self.send(*arguments)
        return await self.raw()


async def rest(passes: int = 30) -> None:
    """Let the loop run until nothing that is ready is left."""
    for _ in range(passes):
        await asyncio.sleep(0)


def serve(
    service: Service,
    control: Control | None = None,
    request_stop: Callable[[], None] | None = None,
    budget: Budget = AMPLE,
    **settings: Any,
) -> RespServer:
    """A front end without a listening socket."""
    config = RespConfig(node="n1", version="1.2.3", **settings)
    server = RespServer(
        service, config, control=control, request_stop=request_stop, ledger=Ledger(budget)
    )
    server.loop = asyncio.get_running_loop()
    server.started_at = server.loop.time()
    return server
