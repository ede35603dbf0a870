"""The listening sockets: open, at rest while memory is scarce, and closed.

At rest nothing is accepted, yet the sockets go on listening: who connects stands in the kernel's
queue, which is bounded (`BACKLOG_CONNECTIONS`), costs this process nothing, and is served as soon
as there is room again. Closing them instead would turn every client away at once, and each would
come back at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["BACKLOG_CONNECTIONS", "Acceptor"]

BACKLOG_CONNECTIONS: Final = 511
"""Redis' default for tcp-backlog."""


class Acceptor:
    """Accepts connections for a protocol factory, and can be told to rest.

    An event loop's server cannot rest, it can only close its sockets. So the acceptor keeps its own
    descriptors of them, and makes a new server of these when it goes on.

    Args:
        buffer_bytes: what the kernel may keep for a client in each direction; 0: what it likes,
            which is megabytes for one that does not read. It takes the figure twice. A client
            inherits it from the listening socket, as it must be known when it connects.

    Attributes:
        address: host and port of the first socket; "" and 0 for a Unix socket.
    """

    __slots__ = (
        "_buffer_bytes",
        "_factory",
        "_loop",
        "_resting",
        "_servers",
        "_sockets",
        "_waking",
        "address",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.Protocol],
        buffer_bytes: int = 0,
    ) -> None:
        self._buffer_bytes = buffer_bytes
        self._loop = loop
        self._factory = factory
        self._resting = False
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._waking: asyncio.Task[None] | None = None
        self.address = ("", 0)

    async def open(self, host: str, port: int, listening: socket.socket | None = None) -> None:
        """Listen on `host` and `port` (0: any free one), or take over a listening socket.

        Raises:
            OSError: the address is not available.
        """
        if listening is not None:
            server = await self._loop.create_server(self._factory, sock=listening)
        else:
            server = await self._loop.create_server(
                self._factory, host, port, backlog=BACKLOG_CONNECTIONS
            )
        self._servers = [server]
        self._sockets = [
            socket.fromfd(each.fileno(), each.family, each.type) for each in server.sockets
        ]
        for each in self._sockets if self._buffer_bytes else ():
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer_bytes)
        name = self._sockets[0].getsockname()
        if isinstance(name, tuple):
            self.address = name[0], name[1]
        if self._resting:
            self._close_servers()

    def rest(self, resting: bool) -> None:
        """Accept nobody from now on, or everybody again."""
        self._resting = resting
        if resting:
            self._close_servers()
        elif not self._servers and self._waking is None:
            self._waking = self._loop.create_task(self._wake(), name="accept again")

    async def _wake(self) -> None:
        try:
            for each in self._sockets:
                server = await self._loop.create_server(
                    self._factory, sock=each.dup(), backlog=BACKLOG_CONNECTIONS
                )
                self._servers.append(server)
        finally:
            self._waking = None
        if self._resting or not self._sockets:
            self._close_servers()

    def close(self) -> None:
        """Listen no longer; who stands in the kernel's queue is turned away. Idempotent."""
        self._close_servers()
        for each in self._sockets:
            each.close()
        self._sockets = []
        if self._waking is not None:
            self._waking.cancel()

    def _close_servers(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
