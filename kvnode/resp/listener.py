"""The Redis front end as a whole: the listening socket, its clients, one flush per pass, limits.

`RespServer` owns what its connections share: the table of clients, the counters, the bytes in
flight and the *dirty list*. A connection that has something to write enters the list; one callback
at the end of the pass writes for all of them, so that a pass that answered a thousand commands
costs one `write` per client and not one per command.

Who sent more than fits into one pass of the loop has a *backlog*: after the replies are written,
whoever waits longest begins some of its commands, for a millisecond at the most, and stands at the
end of the queue again. Writing and backlogs take two milliseconds of a pass; one backlog goes on
always. Then the loop looks at its sockets, the peers' among them. So a thousand pipelines are slow,
and a client with a single command waits neither for them nor in their queue.

What is bounded here for all clients together:

* their number (`clients_max`), and that of one address: one more gets an error and is closed, and
  costs no more than that (`kvnode.resp.doorstep`);
* bytes of requests (commands not answered, and unfinished commands): `turns.py` decides whose
  socket is read;
* bytes of replies that clients do not take: `unread.py` decides who is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from kvnode.admission.budget import Budget
from kvnode.admission.costs import Costs
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.pressure import Pressure
from kvnode.limits import (
    CLIENTS_TICK_MS,
    CLOSED_CLIENT_BYTES_MIN,
    FLUSH_LOOK_CONNECTIONS,
    FLUSH_SLICE_MS,
    READING_SLICE_MS,
)
from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram
from kvnode.obs.log import event
from kvnode.resp.acceptor import Acceptor
from kvnode.resp.commands.command import WRITE
from kvnode.resp.commands.table import COMMANDS, ROWS
from kvnode.resp.commands.waiting import SharedReply
from kvnode.resp.config import RespConfig
from kvnode.resp.connection import STOPPING, VALUES_PER_BURST, Connection
from kvnode.resp.doorstep import Doorstep
from kvnode.resp.info import memory_figures
from kvnode.resp.pause import Pause
from kvnode.resp.rates import Rate
from kvnode.resp.settings import OutputLimit, Settings
from kvnode.resp.slow import LatencyMonitor, SlowLog
from kvnode.resp.stats import Stats
from kvnode.resp.turns import Turns
from kvnode.resp.unread import SlowReaders

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kvnode.resp.commands.command import Command
    from kvnode.service import Control, Pending, Service

__all__ = ["RespConfig", "RespServer", "Stats"]

_log = logging.getLogger("kvnode.resp")

READING_SLICE_NS: Final = READING_SLICE_MS * 1_000_000

REDIS_VERSION: Final = "7.0.15"
"""The version whose commands and texts we follow; libraries refuse or degrade below 7.0."""


class RespServer:
    """Serves Redis clients from a `Service`.

    Attributes:
        service: the node.
        control: what operators' commands ask of the node, None: they are refused.
        pressure: on which rung of the memory's ladder the node stands.
        request_stop: begins a graceful stop of the process, None: SHUTDOWN is refused.
        config: what was settled at start.
        settings: what CONFIG SET can change.
        stats: counters, also read by the metrics page.
        commands: the command table; rows: the same with all subcommands.
        clients: connections by id, oldest first.
        doorstep: lets them in, or not.
        costs: whose commands take how much of the node's time.
        turns: whose socket is read while much is in flight.
        slow_readers: those of them that have not taken all of their replies.
        ledger: counts what is in flight: commands that are not answered, or not complete.
        budget: how much may be; requests_bytes_low: above it one has to look closer.
        reads_min: of the largest reads so many may be begun for one client at once.
        reply_bytes_max: all that one client may leave unread.
        pause: CLIENT PAUSE, while it holds.
        slow_log: SLOWLOG's entries; latency: LATENCY's events.
        flushes: turns of writing replies, of all connections that had some.
        clock_ns: when the last connection entered the dirty list (monotonic).
        notable_ns: commands that take longer are handed to `note_slow`.
        loop: the event loop of `start`.
        used_memory_at_start: bytes of this process when the front end was built.
    """

    __slots__ = (
        "_acceptor",
        "_backlogs",
        "_dirty",
        "_idle",
        "_is_reading",
        "_is_scheduled",
        "_next_id",
        "_reading_ends_ns",
        "_ticker",
        "_unsubscribe",
        "budget",
        "clients",
        "clock_ns",
        "commands",
        "config",
        "control",
        "costs",
        "doorstep",
        "flushes",
        "host",
        "input_rate",
        "latency",
        "ledger",
        "loop",
        "notable_ns",
        "output_rate",
        "pause",
        "port",
        "pressure",
        "rate",
        "reads_min",
        "redis_version",
        "reply_bytes_max",
        "request_stop",
        "requests_bytes_low",
        "rows",
        "service",
        "settings",
        "shared_reply",
        "slow_log",
        "slow_readers",
        "started_at",
        "started_at_s",
        "stats",
        "submit_read",
        "submit_write",
        "tallies",
        "turns",
        "used_memory_at_start",
    )

    def __init__(
        self,
        service: Service,
        config: RespConfig,
        stats: Stats | None = None,
        *,
        control: Control | None = None,
        request_stop: Callable[[], None] | None = None,
        pressure: Pressure | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.service = service
        self.ledger = ledger or Ledger()
        self.keep_within(self.ledger.budget)
        self.control = control
        self.request_stop = request_stop
        self.pressure = pressure or Pressure()
        self.submit_read: Callable[[Pending], None] = service.submit_read
        self.submit_write: Callable[[Pending], None] = service.submit_write
        self.config = config
        self.settings = Settings(
            clients_max=config.clients_max,
            connections_per_peer_max=config.connections_per_peer_max,
            normal_output=OutputLimit(self.budget.reply_bytes_max),
        )
        self.notable_ns = self.settings.notable_ns
        self.stats = Stats() if stats is None else stats
        self.tallies = self.stats.tallies
        self.slow_log = SlowLog()
        self.shared_reply = SharedReply()
        self.latency = LatencyMonitor()
        self.rate, self.input_rate, self.output_rate = Rate(), Rate(), Rate()
        self.pause: Pause | None = None
        self.commands = COMMANDS
        self.rows = ROWS
        self.redis_version = REDIS_VERSION
        self.clients: dict[int, Connection] = {}
        self.doorstep = Doorstep(self)
        self.costs = Costs(time.monotonic)
        self.slow_readers = SlowReaders(self.ledger)
        self.turns = Turns(
            self.ledger, self.clients, time.monotonic, self._close_unfinished, self._close_stuck
        )
        self.host = ""
        self.port = config.port
        self._dirty: list[Connection] = []
        self._backlogs: deque[Connection] = deque()
        self._is_scheduled = self._is_reading = False
        self._reading_ends_ns = 0
        self.flushes = SecondsHistogram(LOOP_BUCKETS_SECONDS)
        self._idle: asyncio.Event | None = None
        self._next_id = 1
        self._acceptor: Acceptor | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self.clock_ns = time.monotonic_ns()
        self._ticker: asyncio.TimerHandle | None = None
        self.started_at_s = int(time.time())
        self.used_memory_at_start = memory_figures().used_bytes

    def keep_within(self, budget: Budget) -> None:
        """Let the caps on memory be these."""
        self.budget = self.ledger.budget = budget
        self.requests_bytes_low = budget.requests_bytes_max // 8
        self.reply_bytes_max = budget.reply_bytes_max
        self.reads_min = max(1, budget.reply_bytes_max // VALUES_PER_BURST)

    @property
    def blocked_clients(self) -> int:
        """Clients that wait for something besides their own operations."""
        return sum([each.blocked is not None for each in self.clients.values()])

    @property
    def pending_bytes(self) -> int:
        """Bytes of commands unanswered or unfinished, and of replies that are not taken."""
        return self.ledger.clients

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
        acceptor = Acceptor(self.loop, lambda: self.doorstep, self.budget.socket_bytes_max)
        await acceptor.open(host, port, listening)
        self._acceptor = acceptor
        self.host, self.port = acceptor.address[0], acceptor.address[1] or self.port
        self._unsubscribe = self.pressure.subscribe(self._on_rung)
        self._tick()

    def stop_accepting(self) -> None:
        """Close the listening socket; clients that are connected stay."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None

    async def drain(self, deadline_s: float) -> None:
        """Read no more commands, let the unanswered ones finish, answer the rest, and write it all.

        After `deadline_s` seconds a write that the node has gets `-UNKNOWN`; anything else that is
        open was not done and gets `-BUSY`. Further results are dropped.
        """
        self.unpause()
        for connection in self.clients.values():
            connection.pause(STOPPING)
            if connection.blocked is not None:
                connection.blocked.expire()
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
        if self._ticker is not None:
            self._ticker.cancel()
        for connection in list(self.clients.values()):
            connection.close()

    # --- clients ----------------------------------------------------------------------------------

    def add(self, transport: asyncio.Transport, peer: str) -> None:
        """A client has connected, and was let in."""
        self.stats.connections_total += 1
        connection = Connection(self, self._next_id, peer)
        self._next_id += 1
        self.clients[connection.id] = connection
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self.turns.is_full:
            # Only then, since the transport begins to read when we return.
            self.loop.call_soon(self.turns.add, connection)

    def remove(self, connection: Connection) -> None:
        """A client is gone."""
        del self.clients[connection.id]
        self.slow_readers.discard(connection)
        self.doorstep.door.leave(connection.peer)
        self.turns.discard(connection)
        self._note_idle()

    # --- from time to time ------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(CLIENTS_TICK_MS / 1000, self._tick)
        now_s = time.monotonic()
        stats = self.stats
        self.rate.sample(stats.commands_total, now_s)
        self.input_rate.sample(stats.input_bytes_total, now_s)
        self.output_rate.sample(stats.output_bytes_total, now_s)
        self.costs.fade()
        self.close_idle_clients()
        if self.pressure.rung >= Rung.CLOSE:
            self.close_largest()
        self.ledger.observe()
        self.turns.look()
        for connection in self.slow_readers.look(self.loop.time(), self.settings.normal_output):
            self.close_slow(connection)

    def close_idle_clients(self) -> None:
        """Close the clients that sent nothing for too long and wait for nothing, if so set."""
        if not self.settings.idle_seconds_max:
            return
        heard_after_ns = time.monotonic_ns() - self.settings.idle_seconds_max * 1_000_000_000
        for connection in list(self.clients.values()):
            if connection.last_heard_ns < heard_after_ns and connection.is_idle:
                self.stats.count_closed("idle")
                connection.close()

    def note_slow(
        self, connection: Connection, command: Command, arguments: list[bytes], elapsed_ns: int
    ) -> None:
        """A command took longer than `notable_ns`: remember it where settings say so."""
        settings = self.settings
        elapsed_us = elapsed_ns // 1000
        if (
            0 <= settings.slow_log_us <= elapsed_us
            and command.kind != WRITE
            and arguments
            and "skip_slowlog" not in command.flags
            and self.slow_log.admits(int(self.loop.time()))
        ):
            self.slow_log.add(
                elapsed_us,
                arguments,
                connection.address,
                connection.name,
                settings.slow_log_records,
            )
        if settings.latency_ms and elapsed_us >= settings.latency_ms * 1000:
            name = "fast-command" if "fast" in command.flags else "command"
            self.latency.add(name, elapsed_us // 1000)

    def change_settings(self, settings: Settings) -> None:
        """Let new settings take effect (CONFIG SET)."""
        self.settings = settings
        self.notable_ns = settings.notable_ns
        self.slow_log.trim(settings.slow_log_records)

    def pause_commands(self, seconds: float, *, only_writes: bool) -> None:
        """CLIENT PAUSE: begin none of them, or no writes, for so long."""
        if self.pause is None:
            self.pause = Pause(self.loop, self.unpause)
        self.pause.extend(seconds, only_writes=only_writes)
        self._tell_pause()

    def unpause(self) -> None:
        """Go on with what CLIENT PAUSE held."""
        if self.pause is not None:
            self.pause.cancel()
            self.pause = None
            self._tell_pause()

    def _tell_pause(self) -> None:
        for connection in self.clients.values():
            connection.note_pause()

    # --- writing ----------------------------------------------------------------------------------

    def mark_dirty(self, connection: Connection) -> None:
        """Flush `connection` at the end of this pass."""
        self.clock_ns = time.monotonic_ns()
        self._dirty.append(connection)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._flush)

    def has_begun_enough(self, now_ns: int) -> bool:
        """Whether clients began what they may in this turn of the loop, while it read sockets.

        Then a pipeline waits for its turn; a few commands do not.
        """
        if not self._is_reading:
            self._is_reading = True
            self._reading_ends_ns = now_ns + READING_SLICE_NS
            self.loop.call_soon(self._has_read)
        return now_ns > self._reading_ends_ns

    def _has_read(self) -> None:
        self._is_reading = False

    def work_off_later(self, connection: Connection) -> None:
        """Let it work off its backlog, in this pass of the loop or one of the next."""
        if not connection.is_queued:
            connection.is_queued = True
            self._backlogs.append(connection)

    def _flush(self) -> None:
        dirty = self._dirty
        self._dirty = []
        began = time.perf_counter()
        ends = began + FLUSH_SLICE_MS / 1000
        for at, connection in enumerate(dirty, 1):
            connection.flush()
            if not at % FLUSH_LOOK_CONNECTIONS and time.perf_counter() > ends:
                self._dirty[:0] = dirty[at:]
                break
        backlogs = self._backlogs
        while backlogs:
            backlogs.popleft().work_off()
            if time.perf_counter() > ends:
                break
        self._is_scheduled = bool(self._dirty or backlogs)
        if self._is_scheduled:
            self.loop.call_soon(self._flush)
        self.flushes.observe(time.perf_counter() - began)
        if self.turns.is_short:
            self.turns.go_on()
        if self._idle is not None:
            self._note_idle()

    def _note_idle(self) -> None:
        if self._idle is not None and all(each.is_idle for each in self.clients.values()):
            self._idle.set()

    # --- memory -----------------------------------------------------------------------------------

    def release(self, size: int) -> None:
        """Bytes in flight that nobody waits for any more."""
        self.ledger.requests -= size
        if self.turns.is_short:
            self.turns.go_on()

    def check_slow_reader(self, connection: Connection) -> None:
        """Close a client that leaves too much unread, or the slowest when all leave too much.

        A read is begun while there is any room, so a little more than the room is nothing unusual.
        """
        budget, ledger = self.budget, self.ledger
        if self.settings.normal_output.is_passed(connection.unwritten_bytes):
            self.close_slow(connection)
        elif ledger.replies > budget.replies_bytes_max + budget.reply_bytes_max:
            slowest = self.slow_readers.slowest()
            if slowest is not None:
                self.close_slow(slowest)

    def close_slow(self, connection: Connection) -> None:
        """Close a client that does not take its replies."""
        self.stats.count_closed("output")
        connection.abort()

    def _on_rung(self, rung: Rung) -> None:
        """Let nobody in while writes are refused; everybody again when there is room."""
        if self._acceptor is not None:
            self._acceptor.rest(rung >= Rung.REFUSE)

    def drop_clients(self) -> None:
        """Close all clients at once, and what they hold with them."""
        for connection in list(self.clients.values()):
            self.stats.count_closed("memory")
            connection.abort()

    def close_largest(self) -> None:
        """Close the client that holds the most bytes, for the others' sake.

        Those that hold next to nothing stay: closing them would free nothing.
        """
        largest = max(self.clients.values(), key=lambda each: each.memory_bytes, default=None)
        if largest is None or largest.memory_bytes < CLOSED_CLIENT_BYTES_MIN:
            return
        self.stats.count_closed("memory")
        event(
            _log,
            logging.WARNING,
            "memory is scarce: closing the client that holds the most",
            address=largest.address,
            requests_bytes=largest.unanswered_bytes + largest.held_bytes,
            replies_bytes=largest.unwritten_bytes,
        )
        largest.abort()

    def _close_stuck(self) -> None:
        """Commands that are never answered fill the room: the client with most of them must go."""
        largest = max(self.clients.values(), key=lambda each: each.requests_bytes, default=None)
        if largest is not None:
            self.stats.count_closed("stuck")
            largest.abort()

    def _close_unfinished(self) -> None:
        """Unfinished commands finish only if their clients go on: one must go instead."""
        largest = max(self.clients.values(), key=lambda each: each.held_bytes)
        self.stats.count_closed("unfinished")
        largest.abort()
