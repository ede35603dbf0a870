"""The table of clients: who comes and goes, and who is closed for the sake of the others.

A client that was let in (`kvnode.resp.doorstep`) is here until it is gone. Closing one is what is
left when nothing milder helps: it takes no replies, it never finishes its command, it holds the
most while memory is scarce. Whoever is chosen, all its bytes leave the ledger at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from time import monotonic_ns
from typing import TYPE_CHECKING

from kvnode.limits import CLIENT_KEEPALIVE_SECONDS, CLOSED_CLIENT_BYTES_MIN
from kvnode.obs.log import event
from kvnode.resp.connection import Connection
from kvnode.resp.reading import STOPPING

if TYPE_CHECKING:
    from kvnode.resp.listener import RespServer

_log = logging.getLogger("kvnode.resp")


class Clients(dict[int, Connection]):
    """Connections by id, oldest first."""

    __slots__ = ("_idle", "_next_id", "_server")

    def __init__(self, server: RespServer) -> None:
        super().__init__()
        self._server = server
        self._next_id = 1
        self._idle: asyncio.Event | None = None

    # --- coming and going -------------------------------------------------------------------------

    def add(self, transport: asyncio.Transport, peer: str) -> None:
        """A client has connected, and was let in."""
        server = self._server
        server.stats.connections_total += 1
        connection = Connection(server, self._next_id, peer, transport)
        self._next_id += 1
        self[connection.id] = connection
        transport.set_protocol(connection)
        _tune(transport)
        if server.turns.is_full:
            # Only then, since the transport begins to read when we return.
            server.loop.call_soon(server.turns.add, connection)

    def remove(self, connection: Connection) -> None:
        """A client is gone."""
        server = self._server
        del self[connection.id]
        server.slow_readers.discard(connection)
        server.doorstep.door.leave(connection.peer)
        server.turns.discard(connection)
        self.note_idle()

    @property
    def blocked(self) -> int:
        """Those that wait for something besides their own operations."""
        return sum([each.blocked is not None for each in self.values()])

    def note_pause(self) -> None:
        """CLIENT PAUSE began or ended."""
        for connection in self.values():
            connection.note_pause()

    # --- the end of them all ----------------------------------------------------------------------

    async def drain(self, deadline_s: float) -> None:
        """Read no more commands, let the unanswered ones finish, answer the rest, and write it all.

        After `deadline_s` seconds a write that the node has gets `-UNKNOWN`; anything else that is
        open was not done and gets `-BUSY`. Further results are dropped.
        """
        for connection in self.values():
            connection.reading.pause(STOPPING)
            if connection.blocked is not None:
                connection.blocked.expire()
        self._idle = asyncio.Event()
        self.note_idle()
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        self._idle = None
        for connection in list(self.values()):
            connection.abandon()

    @property
    def is_draining(self) -> bool:
        """Somebody waits until all is answered."""
        return self._idle is not None

    def note_idle(self) -> None:
        """A client was answered, or is gone: perhaps it was the last."""
        if self._idle is not None and all(each.is_idle for each in self.values()):
            self._idle.set()

    def close(self) -> None:
        """Close all. What was written still goes out if they take it."""
        for connection in list(self.values()):
            connection.close()

    def drop(self) -> None:
        """Close all clients at once, and what they hold with them."""
        for connection in list(self.values()):
            self._server.stats.count_closed("memory")
            connection.abort()

    # --- closing one ------------------------------------------------------------------------------

    def close_idle(self, seconds_max: int) -> None:
        """Close those that sent nothing for longer and wait for nothing; 0: nobody."""
        if not seconds_max:
            return
        heard_after_ns = monotonic_ns() - seconds_max * 1_000_000_000
        for connection in list(self.values()):
            if connection.last_heard_ns < heard_after_ns and connection.is_idle:
                self._server.stats.count_closed("idle")
                connection.close()

    def check_slow_reader(self, connection: Connection) -> None:
        """Close a client that leaves too much unread, or the slowest when all leave too much.

        A read is begun while there is any room, so a little more than the room is nothing unusual.
        """
        server = self._server
        budget = server.budget
        if server.settings.normal_output.is_passed(connection.outbox.unwritten_bytes):
            self.close_slow(connection)
        elif server.ledger.replies > budget.replies_bytes_max + budget.reply_bytes_max:
            slowest = server.slow_readers.slowest()
            if slowest is not None:
                self.close_slow(slowest)

    def close_slow(self, connection: Connection) -> None:
        """Close a client that does not take its replies."""
        self._server.stats.count_closed("output")
        connection.abort()

    def close_largest(self) -> None:
        """Close the client that holds the most bytes, for the others' sake.

        Those that hold next to nothing stay: closing them would free nothing.
        """
        largest = max(self.values(), key=lambda each: each.memory_bytes, default=None)
        if largest is None or largest.memory_bytes < CLOSED_CLIENT_BYTES_MIN:
            return
        self._server.stats.count_closed("memory")
        event(
            _log,
            logging.WARNING,
            "memory is scarce: closing the client that holds the most",
            address=largest.address,
            requests_bytes=largest.requests_bytes,
            replies_bytes=largest.outbox.unwritten_bytes,
        )
        largest.abort()

    def close_stuck(self) -> None:
        """Commands that are never answered fill the room: the client with most of them must go."""
        largest = max(self.values(), key=lambda each: each.requests_bytes, default=None)
        if largest is not None:
            self._server.stats.count_closed("stuck")
            largest.abort()

    def close_unfinished(self) -> None:
        """Unfinished commands finish only if their clients go on: one must go instead."""
        largest = max(self.values(), key=lambda each: each.held_bytes)
        self._server.stats.count_closed("unfinished")
        largest.abort()


def _tune(transport: asyncio.Transport) -> None:
    """Have the transport tell at once when the kernel does not take all, and notice dead peers."""
    transport.set_write_buffer_limits(high=0)
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_KEEPALIVE_SECONDS)
