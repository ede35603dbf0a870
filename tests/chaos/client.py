"""A Redis client that hides nothing: no retries, no pool, no reconnect behind our back.

What a chaos client must know is what happened to *this* request on *this* connection. So a call is
one write, and its end is one of three: all replies, a `ConnectionLost`, or a `TimeoutError` (after
which the connection is given up, since a late reply would be taken for the next one).
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias, cast

import hiredis

CALL_SECONDS_MAX = 15.0
"""Longer than any node holds a command through an election: silence past it is a defect."""

Command: TypeAlias = "tuple[str | bytes | int, ...]"
Reply: TypeAlias = "bytes | int | hiredis.ReplyError | list[Reply] | None"


def pack(command: Command) -> bytes:
    """One request as bytes."""
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub takes 1-tuples


class ConnectionLost(Exception):
    """The connection ended before all replies were there."""


class Connection(asyncio.Protocol):
    """One connection with at most one call under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._replies: list[Reply] = []
        self._wanted = 0
        self._waiter: asyncio.Future[list[Reply]] | None = None
        self.lost = False

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Connection:
        """Connect.

        Raises:
            OSError: nobody listens.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, *address)
        return connection

    async def call(self, *commands: Command) -> list[Reply]:
        """Send commands in one write and wait for all of their replies.

        Raises:
            ConnectionLost: the outcome of every command is unknown.
            TimeoutError: likewise; the connection has been closed.
        """
        if self.lost or self._transport is None:
            raise ConnectionLost
        self._wanted = len(commands)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join([pack(command) for command in commands]))
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await self._waiter
        except TimeoutError:
            self.close()
            raise
        finally:
            self._waiter = None

    def close(self) -> None:
        """Give the connection up at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # uvloop's transport has the methods of asyncio.Transport, but is no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; wakes the call when its last reply is complete."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._replies.append(reply)
        if self._waiter is not None and len(self._replies) >= self._wanted:
            replies, self._replies = self._replies, []
            if not self._waiter.done():
                self._waiter.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop; what was under way ends with an unknown outcome."""
        self.lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionLost())
