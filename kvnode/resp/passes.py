"""What all clients together do in one pass of the loop: begin commands, write replies, go on.

A connection that has something to write enters the *dirty list*; one callback at the end of the
pass writes for all of them, so that a pass that answered a thousand commands costs one `write` per
client and not one per command.

Who sent more than fits into one pass of the loop has a *backlog*: after the replies are written,
whoever waits longest begins some of its commands, for a millisecond at the most, and stands at the
end of the queue again. Writing and backlogs take two milliseconds of a pass; one backlog goes on
always. Then the loop looks at its sockets, the peers' among them. So a thousand pipelines are slow,
and a client with a single command waits neither for them nor in their queue.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns, perf_counter
from typing import TYPE_CHECKING, Final

from kvnode.limits import FLUSH_LOOK_CONNECTIONS, FLUSH_SLICE_MS, READING_SLICE_MS
from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.listener import RespServer

READING_SLICE_NS: Final = READING_SLICE_MS * 1_000_000


class Passes:
    """The clients' share of the loop's passes.

    Attributes:
        clock_ns: when the last connection entered the dirty list (monotonic).
        flushes: turns of writing replies, of all connections that had some.
    """

    __slots__ = (
        "_backlogs",
        "_dirty",
        "_is_reading",
        "_is_scheduled",
        "_reading_ends_ns",
        "_server",
        "clock_ns",
        "flushes",
    )

    def __init__(self, server: RespServer) -> None:
        self._server = server
        self._dirty: list[Connection] = []
        self._backlogs: deque[Connection] = deque()
        self._is_scheduled = self._is_reading = False
        self._reading_ends_ns = 0
        self.clock_ns = monotonic_ns()
        self.flushes = SecondsHistogram(LOOP_BUCKETS_SECONDS)

    def has_begun_enough(self, now_ns: int) -> bool:
        """Whether clients began what they may in this turn of the loop, while it read sockets.

        Then a pipeline waits for its turn; a few commands do not.
        """
        if not self._is_reading:
            self._is_reading = True
            self._reading_ends_ns = now_ns + READING_SLICE_NS
            self._server.loop.call_soon(self._has_read)
        return now_ns > self._reading_ends_ns

    def _has_read(self) -> None:
        self._is_reading = False

    def mark_dirty(self, connection: Connection) -> None:
        """Flush `connection` at the end of this pass."""
        self.clock_ns = monotonic_ns()
        self._dirty.append(connection)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._server.loop.call_soon(self._flush)

    def work_off_later(self, connection: Connection) -> None:
        """Let it work off its backlog, in this pass of the loop or one of the next."""
        if not connection.is_queued:
            connection.is_queued = True
            self._backlogs.append(connection)

    def _flush(self) -> None:
        dirty = self._dirty
        self._dirty = []
        began = perf_counter()
        ends = began + FLUSH_SLICE_MS / 1000
        for at, connection in enumerate(dirty, 1):
            connection.flush()
            if not at % FLUSH_LOOK_CONNECTIONS and perf_counter() > ends:
                self._dirty[:0] = dirty[at:]
                break
        backlogs = self._backlogs
        while backlogs:
            backlogs.popleft().work_off()
            if perf_counter() > ends:
                break
        server = self._server
        self._is_scheduled = bool(self._dirty or backlogs)
        if self._is_scheduled:
            server.loop.call_soon(self._flush)
        self.flushes.observe(perf_counter() - began)
        if server.turns.is_short:
            server.turns.go_on()
        if server.clients.is_draining:
            server.clients.note_idle()
