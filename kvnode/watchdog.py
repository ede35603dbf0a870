"""The memory watchdog: leave politely before the kernel does it with SIGKILL.

A node that the kernel kills for memory loses its connections, its leadership and the work it had in
hand; one that leaves by itself hands them over. So the watchdog compares what cannot be evicted
with a threshold, and once it is reached raises `MemoryPressure` inside the root TaskGroup: the
siblings are cancelled and clean up, and the process exits with 2, a code used for nothing else.

Two rules, besides those of what counts (`kvnode.admission.memory`):

* **Measured in a thread.** A loop that is blocked, for instance by the very thing that eats the
  memory, would not see its own trouble. The first measurement comes before the first pause.
* **It fires once, and it ends.** If the loop has not reacted in half a second, or has reacted and
  the process is still there when its short stop should be over, the thread ends it with
  `os._exit(2)`. Nothing on that way waits for a disk: the note of the reason is written by another
  thread, which is given a tenth of a second.

Measuring alone cannot win against whoever allocates a gigabyte per second. So on a rung it measures
four times as often; each measurement moves a fence (`kvnode.admission.fence`) that the kernel holds
until the next one; and while the thread waits for the loop to react it goes on measuring, and ends
the process at once if the kernel is about to.

Below the threshold it feeds the ladder (`kvnode.admission.ladder`), whose rungs make leaving rare:
a change is logged here, at once and even if the loop hangs, and told in the loop by `Pressure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kvnode import limits
from kvnode.admission.departure import Departure, Turn, Verdict
from kvnode.admission.fence import Fence
from kvnode.admission.ladder import LEAVE_SHARE_PERCENT, Ladder, Rung
from kvnode.admission.memory import Meter, ProcMeter, Reading
from kvnode.admission.pressure import Pressure
from kvnode.errors import ConfigurationError, ExitCode, MemoryPressure
from kvnode.obs.log import event

if TYPE_CHECKING:
    from kvnode.config.serve import ServeConfig

logger = logging.getLogger("kvnode.watchdog")

AUTO_SHARE_PERCENT = LEAVE_SHARE_PERCENT
"""Of the limit, for a threshold that nobody set, and the most for one that somebody did."""

LAST_SHARE_PERCENT = 95
"""Of the limit: nobody waits for the loop any more, the kernel is about to kill."""

GUARD_INTERVAL_MS = 5
"""Between two measurements after the warning."""

RUNG_DIVISOR = 4
"""On a rung the interval is this much shorter."""

NOTE_SECONDS_MAX = 0.1
"""For a note of the reason, before the process is ended by force: the disk may be what hangs."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the one warning tells, in bytes."""

    reading: Reading
    limit_bytes: int
    threshold_bytes: int
    in_flight_bytes: int


def log_alarm(alarm: Alarm) -> None:
    """Write the one warning."""
    event(
        logger,
        logging.WARNING,
        "memory pressure shutdown",
        rss_anon_bytes=alarm.reading.rss_anon_bytes,
        cgroup_bytes=alarm.reading.cgroup_bytes,
        limit_bytes=alarm.limit_bytes,
        threshold_bytes=alarm.threshold_bytes,
        in_flight_bytes=alarm.in_flight_bytes,
        workers_bytes=alarm.reading.workers_bytes,
    )


def log_rung(rung: Rung, before: Rung, reading: Reading, begins: Mapping[Rung, int]) -> None:
    """Write the line that a rung is entered or left."""
    up = rung > before
    event(
        logger,
        logging.WARNING if up else logging.INFO,
        "memory rung entered" if up else "memory rung left",
        rung=rung.name.lower(),
        before=before.name.lower(),
        begins_bytes=begins[max(rung, before)],
        rss_anon_bytes=reading.rss_anon_bytes,
        cgroup_bytes=reading.cgroup_bytes,
        workers_bytes=reading.workers_bytes,
    )


def effective_threshold(configured: int | Literal["auto"], limit_bytes: int) -> int:
    """Return the threshold in bytes; 0 means that there is to be no watchdog.

    One between the largest share and the limit is lowered, since it leaves no room for the stop.

    Raises:
        ConfigurationError: it is above the limit, where the kernel would always be first.
    """
    largest = limit_bytes * AUTO_SHARE_PERCENT // 100
    if configured == "auto":
        return largest
    if configured > limit_bytes:
        raise ConfigurationError(
            f"the memory threshold of {configured // limits.MIB} MiB is above the limit of "
            f"{limit_bytes // limits.MIB} MiB: the kernel would kill the node before it is reached"
        )
    return min(configured, largest)


class MemoryWatchdog:
    """Samples memory in a thread and raises `MemoryPressure` in the loop, once.

    Put `run` into the root TaskGroup. An instance runs once and shares nothing with another.
    """

    def __init__(
        self,
        threshold_bytes: int,
        interval_ms: int,
        meter: Meter,
        *,
        in_flight_bytes: Callable[[], int] = int,
        pressure: Pressure | None = None,
        fence: Fence | None = None,
        on_alarm: Callable[[Alarm], None] = log_alarm,
        turn: Callable[[], Turn | None] = lambda: None,
        on_wait: Callable[[bool], None] = lambda _: None,
        before_exit: Callable[[], None] = lambda: None,
        exit_process: Callable[[int], object] = os._exit,
        reaction_ms_max: int = limits.WATCHDOG_REACTION_MS_MAX,
        stop_ms_max: int = limits.STOP_MEMORY_SECONDS_MAX * 1000,
    ) -> None:
        """Prepare; nothing runs before `run`.

        `in_flight_bytes` and `on_alarm` are called in the sampler's thread, `before_exit` in one
        of its own just before `exit_process`, to leave a note of the reason. `pressure` is told in
        the loop on which rung of the ladder the node stands. `turn`, called in the thread, tells
        whether the other nodes can do without this one; if it has to wait, `on_wait` is called
        in the loop with True, to drop whatever can be dropped, and with False if it then can stay.
        `fence` keeps the process within the limit between two measurements.
        """
        if threshold_bytes <= 0 or interval_ms <= 0:
            raise ValueError("a watchdog that is off is not created")
        self.threshold_bytes = threshold_bytes
        self.interval_ms = interval_ms
        self.latest: Reading | None = None
        """The newest measurement, for /status and metrics; read it from any thread."""
        self._meter = meter
        self._in_flight_bytes = in_flight_bytes
        self._on_alarm = on_alarm
        self._pressure = pressure or Pressure()
        self._fence = fence
        self._last_bytes = meter.limit_bytes * LAST_SHARE_PERCENT // 100
        self._ladder = Ladder(meter.limit_bytes, threshold_bytes)
        self._departure = Departure(threshold_bytes, meter.limit_bytes)
        self._turn = turn
        self._on_wait = on_wait
        self._is_waiting = False
        self._last_words = _LastWords(before_exit)
        self._exit_process = exit_process
        self._reaction_seconds_max = reaction_ms_max / 1000
        self._stop_seconds_max = stop_ms_max / 1000
        self._closed = threading.Event()
        self._reacted = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_config(
        cls,
        config: ServeConfig,
        *,
        in_flight_bytes: Callable[[], int] = int,
        workers: Callable[[], Iterable[int]] = tuple,
        pressure: Pressure | None = None,
        turn: Callable[[], Turn | None] = lambda: None,
        on_wait: Callable[[bool], None] = lambda _: None,
        before_exit: Callable[[], None] = lambda: None,
    ) -> MemoryWatchdog | None:
        """Return the watchdog that was asked for, or None when it is off. Logs what applies.

        Raises:
            ConfigurationError: memory cannot be measured on this machine (exit 78).
        """
        if config.memory_threshold_bytes == 0:
            return None
        meter = ProcMeter(workers)
        configured = config.memory_threshold_bytes
        threshold_bytes = effective_threshold(configured, meter.limit_bytes)
        if configured not in ("auto", threshold_bytes):
            event(
                logger,
                logging.WARNING,
                f"the memory threshold is lowered to {AUTO_SHARE_PERCENT} % of the limit",
                configured_bytes=configured,
                threshold_bytes=threshold_bytes,
            )
        event(
            logger,
            logging.INFO,
            "memory watchdog on",
            threshold_bytes=threshold_bytes,
            limit_bytes=meter.limit_bytes,
            interval_ms=config.memory_interval_ms,
        )
        return cls(
            threshold_bytes,
            config.memory_interval_ms,
            meter,
            in_flight_bytes=in_flight_bytes,
            pressure=pressure,
            fence=Fence(meter.limit_bytes),
            turn=turn,
            on_wait=on_wait,
            before_exit=before_exit,
        )

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            MemoryPressure: the threshold was reached (exit 2).
        """
        if self._thread is not None:
            raise RuntimeError("a watchdog runs once")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=self._sample, args=(loop, outcome), name="kvnode-watchdog", daemon=True
        )
        self._last_words.start()
        self._thread.start()
        try:
            await outcome
        except MemoryPressure:
            # The thread stays, to end the process if the stop takes too long.
            self._reacted.set()
            raise
        except BaseException:
            self._closed.set()
            raise

    @property
    def limit_bytes(self) -> int:
        """What the threshold is held against: the machine's memory or the cgroup's limit."""
        return self._meter.limit_bytes

    @property
    def rungs_begin(self) -> Mapping[Rung, int]:
        """At how many bytes each rung of the ladder begins."""
        return self._ladder.begins

    @property
    def _interval_seconds(self) -> float:
        seconds = self.interval_ms / 1000
        return seconds / RUNG_DIVISOR if self._ladder.rung else seconds

    def close(self) -> None:
        """Let the thread end without ending the process; for those who outlive a watchdog."""
        self._closed.set()

    def _sample(self, loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[None]) -> None:
        try:
            while True:
                reading = self._measure()
                self._climb(loop, reading)
                if self._must_leave(loop, reading):
                    break
                if self._closed.wait(self._interval_seconds):
                    self._stand_down()
                    return
        except MemoryError:
            # Not even a few bytes were left: there is nothing to measure.
            reading = self.latest or Reading(self.threshold_bytes, 0, 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, `run` raises it in the loop
            # A watchdog that cannot see is as bad as none: the node must not run on without it.
            self._stand_down()
            _tell(loop, outcome, error)
            return
        try:
            self._on_alarm(
                Alarm(
                    reading, self._meter.limit_bytes, self.threshold_bytes, self._in_flight_bytes()
                )
            )
        finally:
            # Nothing that an observer does may keep the node in memory that it has not got.
            _tell(loop, outcome, MemoryPressure(f"memory has reached {reading.total_bytes} bytes"))
            self._guard(time.monotonic() + self._stop_seconds_max)

    def _must_leave(self, loop: asyncio.AbstractEventLoop, reading: Reading) -> bool:
        """Whether the threshold is reached and it is this node's turn."""
        turn, was_waiting = self._turn(), self._is_waiting
        verdict = self._departure.judge(reading.total_bytes, turn, time.monotonic())
        self._is_waiting = verdict is Verdict.WAIT
        if self._is_waiting and not was_waiting:
            event(
                logger,
                logging.WARNING,
                "memory pressure: clients are dropped; waiting for the turn to leave",
                total_bytes=reading.total_bytes,
                threshold_bytes=self.threshold_bytes,
                place=turn.place if turn else 0,
                needed=turn is not None and turn.is_needed,
            )
        elif was_waiting and verdict is Verdict.STAY:
            text = "memory pressure is over: without its clients the node can stay"
            event(logger, logging.WARNING, text, total_bytes=reading.total_bytes)
        if self._is_waiting is not was_waiting and verdict is not Verdict.LEAVE:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._on_wait, self._is_waiting)
        return verdict is Verdict.LEAVE

    def _measure(self) -> Reading:
        reading = self.latest = self._meter.read()
        if self._fence is not None:
            self._fence.move(
                reading.total_bytes, reading.rss_anon_bytes, reading.data_bytes, time.monotonic()
            )
        return reading

    def _stand_down(self) -> None:
        """It is over, and the process lives on."""
        if self._fence is not None:
            self._fence.lift()
        self._last_words.drop()

    def _climb(self, loop: asyncio.AbstractEventLoop, reading: Reading) -> None:
        """Feed the ladder, and tell of a rung that is entered or left."""
        before = self._ladder.rung
        rung = self._ladder.observe(reading.total_bytes, time.monotonic())
        if rung is not None:
            log_rung(rung, before, reading, self._ladder.begins)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._pressure.change, rung)

    def _guard(self, deadline_s: float) -> None:
        """End the process if the loop does not react, or does not finish its short stop.

        Or if the kernel is about to end it.
        """
        reaction_s = time.monotonic() + self._reaction_seconds_max
        if self._wait(self._reacted, reaction_s):
            if self._wait(self._closed, deadline_s):
                self._stand_down()
                return
        elif self._closed.is_set():
            self._stand_down()
            return
        # The fence stays: whoever still allocates would have the rest before this is over.
        self._last_words.say(NOTE_SECONDS_MAX)
        self._exit_process(int(ExitCode.MEMORY))
        self._stand_down()

    def _wait(self, what: threading.Event, deadline_s: float) -> bool:
        """Whether it came about in time, and while there still was memory to wait in."""
        while not what.wait(min(GUARD_INTERVAL_MS / 1000, max(0.0, deadline_s - time.monotonic()))):
            if time.monotonic() >= deadline_s:
                return False
            with contextlib.suppress(Exception):  # who cannot see waits for the deadline
                if self._measure().total_bytes >= self._last_bytes:
                    return what.is_set()
        return True


class _LastWords:
    """Leaves a note in a thread of its own: a disk that hangs must not keep the process.

    The thread is made beforehand, as there may be no memory for one by then.
    """

    def __init__(self, speak: Callable[[], None]) -> None:
        self._speak = speak
        self._is_due = False
        self._go_on = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvnode-last-words", daemon=True)

    def start(self) -> None:
        """Make the thread."""
        self._thread.start()

    def say(self, seconds: float) -> None:
        """Leave the note, for so long at most."""
        self._is_due = True
        self._go_on.set()
        self._thread.join(seconds)

    def drop(self) -> None:
        """There is nothing to say."""
        self._go_on.set()

    def _run(self) -> None:
        self._go_on.wait()
        if self._is_due:
            with contextlib.suppress(MemoryError):  # then it leaves without a word
                self._speak()


def _tell(
    loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[None], error: BaseException
) -> None:
    """Hand an error to the loop's side, from the thread."""

    def fail() -> None:
        if not outcome.done():
            outcome.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is leaving anyway
        loop.call_soon_threadsafe(fail)
