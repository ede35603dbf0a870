"""The connection of redis-py, with its retries off, in the place of our own.

What real clients send is what their library sends: a handshake with its name, commands in pieces,
replies read as it reads them. Some of the chaos clients speak through it. It must hide nothing
either, so it never connects a second time: what is lost is lost.
"""

from __future__ import annotations

import asyncio

import hiredis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.chaos.client import CALL_SECONDS_MAX, Command, ConnectionLost, Reply


class LibraryConnection:
    """One connection of the library with at most one call under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = redis.asyncio.Connection(
            host=address[0],
            port=address[1],
            protocol=2,
            socket_timeout=CALL_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
        )
        self.lost = False

    @classmethod
    async def open(cls, address: tuple[str, int]) -> LibraryConnection:
        """Connect.

        Raises:
            OSError: nobody listens, or the handshake failed.
        """
        opened = cls(address)
        try:
            await opened._connection.connect()  # type: ignore[no-untyped-call]  # it has no hints
        except (redis.RedisError, RuntimeError) as error:
            # uvloop's word for a socket that was reset before anything was written to it.
            opened.close()
            raise OSError(str(error)) from error
        return opened

    async def call(self, *commands: Command) -> list[Reply]:
        """Send commands together and wait for all of their replies.

        Raises:
            ConnectionLost: the outcome of every command is unknown.
            TimeoutError: likewise; the connection has been closed.
        """
        if self.lost or not self._connection.is_connected:
            self.lost = True
            raise ConnectionLost
        is_whole = False
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                await self._connection.send_packed_command(self._connection.pack_commands(commands))
                replies = [await self._reply() for _ in commands]
            is_whole = True
            return replies
        except (redis.TimeoutError, TimeoutError):
            raise TimeoutError from None
        except (redis.ConnectionError, OSError, RuntimeError):
            raise ConnectionLost from None
        finally:
            # Left in the middle, by whatever: a late reply would be taken for the next one.
            if not is_whole:
                self.close()

    async def _reply(self) -> Reply:
        try:
            return _plain(await self._connection.read_response(disconnect_on_error=False))
        except redis.ResponseError as error:
            return hiredis.ReplyError(str(error))

    def close(self) -> None:
        """Give the connection up at once."""
        self.lost = True
        self._connection._close()  # type: ignore[no-untyped-call]  # the other way has to wait


def _plain(reply: object) -> Reply:
    """A reply as our own connection gives it; errors may stand inside."""
    if isinstance(reply, redis.ResponseError):
        return hiredis.ReplyError(str(reply))
    if isinstance(reply, list):
        return [_plain(one) for one in reply]
    assert reply is None or isinstance(reply, bytes | int), reply
    return reply
