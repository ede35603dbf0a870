"""The Redis front end as a whole: the listening socket, its life, and what its clients share.

`RespServer` owns what its connections share: the table of clients (`clients.py`), what they may do
in one pass of the loop (`passes.py`), the counters, the settings and the bytes in flight.

What is bounded here for all clients together:

* their number (`clients_max`), and that of one address: one more gets an error and is closed, and
  costs no more than that (`kvnode.resp.doorstep`);
* bytes of requests (commands not answered, and unfinished commands): `turns.py` decides whose
  socket is read;
* bytes of replies that clients do not take: `unread.py` decides who is closed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from kvnode.admission.budget import Budget
from kvnode.admission.costs import Costs
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.pressure import Pressure
from kvnode.limits import CLIENTS_TICK_MS
from kvnode.resp.acceptor import Acceptor
from kvnode.resp.clients import Clients
from kvnode.resp.commands.command import WRITE
from kvnode.resp.commands.table import COMMANDS, ROWS
from kvnode.resp.commands.waiting import SharedReply
from kvnode.resp.config import RespConfig
from kvnode.resp.doorstep import Doorstep
from kvnode.resp.info import memory_figures
from kvnode.resp.passes import Passes
from kvnode.resp.pause import Pause
from kvnode.resp.rates import Rate
from kvnode.resp.run import VALUES_PER_BURST
from kvnode.resp.settings import OutputLimit, Settings
from kvnode.resp.slow import LatencyMonitor, SlowLog
from kvnode.resp.stats import Stats
from kvnode.resp.turns import Turns
from kvnode.resp.unread import SlowReaders

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kvnode.resp.commands.command import Command
    from kvnode.resp.connection import Connection
    from kvnode.service import Control, Pending, Service

__all__ = ["RespConfig", "RespServer", "Stats"]

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
        passes: what they do in one pass of the loop.
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
        notable_ns: commands that take longer are handed to `note_slow`.
        loop: the event loop of `start`.
        used_memory_at_start: bytes of this process when the front end was built.
    """

    __slots__ = (
        "_acceptor",
        "_ticker",
        "_unsubscribe",
        "budget",
        "clients",
        "commands",
        "config",
        "control",
        "costs",
        "doorstep",
        "host",
        "input_rate",
        "latency",
        "ledger",
        "loop",
        "notable_ns",
        "output_rate",
        "passes",
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
        self.clients = Clients(self)
        self.passes = Passes(self)
        self.doorstep = Doorstep(self)
        self.costs = Costs(time.monotonic)
        self.slow_readers = SlowReaders(self.ledger)
        self.turns = Turns(
            self.ledger,
            self.clients,
            time.monotonic,
            self.clients.close_unfinished,
            self.clients.close_stuck,
        )
        self.host = ""
        self.port = config.port
        self._acceptor: Acceptor | None = None
        self._unsubscribe: Callable[[], None] | None = None
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
        """Let clients have their answers, for so many seconds at the most, and close them."""
        self.unpause()
        await self.clients.drain(deadline_s)

    def close(self) -> None:
        """Close the listener and all clients. What was written still goes out if they take it."""
        self.stop_accepting()
        if self._ticker is not None:
            self._ticker.cancel()
        self.clients.close()

    # --- from time to time ------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(CLIENTS_TICK_MS / 1000, self._tick)
        now_s = time.monotonic()
        stats = self.stats
        self.rate.sample(stats.commands_total, now_s)
        self.input_rate.sample(stats.input_bytes_total, now_s)
        self.output_rate.sample(stats.output_bytes_total, now_s)
        self.costs.fade()
        self.clients.close_idle(self.settings.idle_seconds_max)
        if self.pressure.rung >= Rung.CLOSE:
            self.clients.close_largest()
        self.ledger.observe()
        self.turns.look()
        for connection in self.slow_readers.look(self.loop.time(), self.settings.normal_output):
            self.clients.close_slow(connection)

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

    # --- what clients change for all --------------------------------------------------------------

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
        self.clients.note_pause()

    def unpause(self) -> None:
        """Go on with what CLIENT PAUSE held."""
        if self.pause is not None:
            self.pause.cancel()
            self.pause = None
            self.clients.note_pause()

    # --- memory -----------------------------------------------------------------------------------

    def release(self, size: int) -> None:
        """Bytes in flight that nobody waits for any more."""
        self.ledger.requests -= size
        if self.turns.is_short:
            self.turns.go_on()

    def _on_rung(self, rung: Rung) -> None:
        """Let nobody in while writes are refused; everybody again when there is room."""
        if self._acceptor is not None:
            self._acceptor.rest(rung >= Rung.REFUSE)
