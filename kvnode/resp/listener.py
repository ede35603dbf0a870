"""The Redis front end as a whole: the listening socket, its clients, one flush per pass, limits.

`RespServer` owns what its connections share: the table of clients, the counters, the bytes in
flight and the *dirty list*. A connection that has something to write enters the list; one callback
at the end of the pass writes for all of them, so that a pass that answered a thousand commands
costs one `write` per client and not one per command.

What is bounded here for all clients together:

* their number (`clients_max`): one more gets an error and is closed;
* bytes in flight (commands not answered, and unfinished commands): above `IN_FLIGHT_BYTES_MAX` no
  client's socket is read until enough is answered. The unfinished ones alone may take half of it;
  above that the client that holds most is closed, because waiting would not help;
* bytes of replies that clients do not take: above `IN_FLIGHT_BYTES_MAX` the slowest is closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kvnode.limits import IN_FLIGHT_BYTES_MAX
from kvnode.resp.commands.table import COMMANDS
from kvnode.resp.config import RespConfig
from kvnode.resp.connection import NODE_FULL, STOPPING, Connection
from kvnode.resp.stats import Stats

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kvnode.service import Pending, Service

__all__ = ["RespConfig", "RespServer", "Stats"]

REDIS_VERSION: Final = "7.0.15"
"""The version whose commands and texts we follow; libraries refuse or degrade below 7.0."""

BACKLOG_CONNECTIONS: Final = 511
"""Redis' default for tcp-backlog."""


class RespServer:
    """Serves Redis clients from a `Service`.

    Attributes:
        service: the node.
        config: settings.
        stats: counters, also read by the metrics page.
        commands: the command table.
        clients: connections by id, oldest first.
        slow_readers: those of them whose replies pile up.
        in_flight_bytes: size of all commands that are not answered.
        held_bytes: size of all commands that are not complete, and of open transactions.
        loop: the event loop of `start`.
    """

    __slots__ = (
        "_dirty",
        "_idle",
        "_is_full",
        "_is_scheduled",
        "_next_id",
        "_server",
        "clients",
        "commands",
        "config",
        "held_bytes",
        "host",
        "in_flight_bytes",
        "loop",
        "port",
        "redis_version",
        "service",
        "slow_readers",
        "started_at",
        "stats",
        "submit_read",
        "submit_write",
    )

    def __init__(self, service: Service, config: RespConfig, stats: Stats | None = None) -> None:
        self.service = service
        self.submit_read: Callable[[Pending], None] = service.submit_read
        self.submit_write: Callable[[Pending], None] = service.submit_write
        self.config = config
        self.stats = Stats() if stats is None else stats
        self.commands = COMMANDS
        self.redis_version = REDIS_VERSION
        self.clients: dict[int, Connection] = {}
        self.slow_readers: dict[int, Connection] = {}
        self.in_flight_bytes = 0
        self.held_bytes = 0
        self.host = ""
        self.port = config.port
        self._dirty: list[Connection] = []
        self._is_scheduled = False
        self._is_full = False
        self._idle: asyncio.Event | None = None
        self._next_id = 1
        self._server: asyncio.Server | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes of commands unanswered or unfinished, and of replies that are not taken."""
        return self.in_flight_bytes + self.held_bytes + self._slow_bytes()

    def _slow_bytes(self) -> int:
        return sum([each.unwritten_bytes for each in self.slow_readers.values()])

    # --- the life of the listener -----------------------------------------------------------------

    async def start(
        self, host: str = "", port: int = 0, *, listening: socket.socket | None = None
    ) -> None:
        """Listen on `host` and `port` (0: any free one), or take over a listening socket.

        Raises:
            OSError: the address is not available.
        """
        self.loop = asyncio.get_running_loop()
        self.started_at = self.loop.time()
        if listening is not None:
            self._server = await self.loop.create_server(self._new_connection, sock=listening)
        else:
            self._server = await self.loop.create_server(
                self._new_connection, host, port, backlog=BACKLOG_CONNECTIONS
            )
        name = self._server.sockets[0].getsockname()
        if isinstance(name, tuple):
            self.host, self.port = name[0], name[1]

    def _new_connection(self) -> Connection:
        number = self._next_id
        self._next_id += 1
        return Connection(self, number)

    def stop_accepting(self) -> None:
        """Close the listening socket; clients that are connected stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def drain(self, deadline_s: float) -> None:
        """Read no more commands, let the unanswered ones finish, answer the rest, and write it all.

        After `deadline_s` seconds a write that the node has gets `-UNKNOWN`; anything else that is
        open was not done and gets `-BUSY`. Further results are dropped.
        """
        for connection in self.clients.values():
            connection.pause(STOPPING)
        self._idle = asyncio.Event()
        self._note_idle()
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        self._idle = None
        for connection in list(self.clients.values()):
            connection.abandon()

    def close(self) -> None:
        """Close the listener and all clients. What was written still goes out if they take it."""
        self.stop_accepting()
        for connection in list(self.clients.values()):
            connection.close()

    # --- clients ----------------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """A client has connected."""
        if len(self.clients) >= self.config.clients_max:
            self.stats.connections_rejected_total += 1
            connection.refuse("ERR max number of clients reached")
            return
        self.stats.connections_total += 1
        self.clients[connection.id] = connection
        if self._is_full:
            connection.pause(NODE_FULL)

    def remove(self, connection: Connection) -> None:
        """A client is gone."""
        self.clients.pop(connection.id, None)
        self.slow_readers.pop(connection.id, None)
        self._note_idle()

    # --- writing ----------------------------------------------------------------------------------

    def mark_dirty(self, connection: Connection) -> None:
        """Flush `connection` at the end of this pass."""
        self._dirty.append(connection)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        dirty = self._dirty
        self._dirty = []
        self._is_scheduled = False
        for connection in dirty:
            connection.flush()
        if self._is_full:
            self.check_memory()
        if self._idle is not None:
            self._note_idle()

    def _note_idle(self) -> None:
        if self._idle is not None and all(each.is_idle for each in self.clients.values()):
            self._idle.set()

    # --- memory -----------------------------------------------------------------------------------

    def release(self, size: int) -> None:
        """Bytes in flight that nobody waits for any more."""
        self.in_flight_bytes -= size
        if self._is_full:
            self.check_memory()

    def check_memory(self) -> None:
        """Stop reading clients when too much is in flight, and go on when enough was answered."""
        pending = self.in_flight_bytes + self.held_bytes
        if self._is_full:
            if pending <= IN_FLIGHT_BYTES_MAX * 3 // 4:
                self._is_full = False
                for connection in self.clients.values():
                    connection.resume(NODE_FULL)
        elif pending > IN_FLIGHT_BYTES_MAX:
            self._is_full = True
            for connection in self.clients.values():
                connection.pause(NODE_FULL)
        if self.held_bytes > IN_FLIGHT_BYTES_MAX // 2:
            self._close_largest_holder()

    def check_slow_readers(self) -> None:
        """Close the client with most replies waiting when those of all are too many."""
        if self._slow_bytes() > IN_FLIGHT_BYTES_MAX:
            slowest = max(self.slow_readers.values(), key=lambda each: each.unwritten_bytes)
            self.stats.count_closed("output")
            slowest.abort()

    def _close_largest_holder(self) -> None:
        """Unfinished commands finish only if their clients go on: one must go instead."""
        largest = max(self.clients.values(), key=lambda each: each.held_bytes)
        self.stats.count_closed("unfinished")
        largest.abort()
