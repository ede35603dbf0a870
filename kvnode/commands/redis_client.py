"""A Redis client of a few lines, for commands that ask one node something.

It sends one command at a time and waits for the reply. No pool, no retry: what a command of an
operator finds out must be what happened the first time.
"""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Any, Self

import hiredis

from kvnode.address import Address

RECEIVE_BYTES = 65_536


class ReplyError(Exception):
    """The node answered with an error; the text is its own."""


class RedisClient:
    """One connection. All of its life is bounded by one deadline.

    Args:
        address: of the node.
        seconds: how long everything together may take.

    Raises:
        OSError: the node cannot be reached.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._socket = socket.create_connection((address.host, address.port), seconds)
        self._reader = hiredis.Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, *command: bytes) -> Any:
        """Send a command and return its reply.

        Raises:
            ReplyError: the reply is an error.
            TimeoutError: there is none by the deadline.
            OSError: the connection was lost.
        """
        self._limit()
        arguments = (b"$%d\r\n%s\r\n" % (len(one), one) for one in command)
        self._socket.sendall(b"*%d\r\n" % len(command) + b"".join(arguments))
        while (reply := self._reader.gets()) is False:
            self._limit()
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise ConnectionResetError("the node closed the connection")
            self._reader.feed(received)
        if isinstance(reply, hiredis.ReplyError):
            raise ReplyError(str(reply))
        return reply

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._socket.settimeout(left)
