"""The memory of slow commands: SLOWLOG's entries and LATENCY's events.

Time is what the client lived, see `kvnode.resp.stats`. So that a slow disk does not make every
write an entry, writes are left out of the slow log; LATENCY has them, and the histograms do.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from kvnode.limits import (
    LATENCY_SAMPLES_MAX,
    SLOW_LOG_ARGUMENT_BYTES_MAX,
    SLOW_LOG_ARGUMENTS_MAX,
    SLOW_LOG_RECORDS_PER_SECOND_MAX,
)

REDACTED = b"(redacted)"


@dataclass(frozen=True, slots=True)
class SlowEntry:
    """One slow command: number, seconds since the epoch, microseconds, and whose it was."""

    number: int
    at_s: int
    elapsed_us: int
    arguments: list[bytes]
    address: str
    name: str


class SlowLog:
    """The newest slow commands, oldest first in `entries`."""

    def __init__(self) -> None:
        self.entries: deque[SlowEntry] = deque()
        self._next = 0
        self._second = self._noted = 0

    def admits(self, second: int) -> bool:
        """Whether one more command may be noted in this second, by any clock; counts it if so.

        An overloaded node is slow at everything: it must not become slower by taking notes.
        """
        if second != self._second:
            self._second, self._noted = second, 0
        self._noted += 1
        return self._noted <= SLOW_LOG_RECORDS_PER_SECOND_MAX

    def add(
        self, elapsed_us: int, arguments: list[bytes], address: str, name: str, keep: int
    ) -> None:
        """Note a command and keep the newest `keep` ones."""
        entry = SlowEntry(
            self._next, int(time.time()), elapsed_us, shorten(arguments), address, name
        )
        self._next += 1
        self.entries.append(entry)
        self.trim(keep)

    def trim(self, keep: int) -> None:
        """Forget all but the newest `keep`."""
        while len(self.entries) > keep:
            self.entries.popleft()


def shorten(arguments: list[bytes]) -> list[bytes]:
    """So many arguments, so many bytes of each, and Redis' words for the rest; no passwords."""
    name = arguments[0].lower()
    if name in (b"auth", b"hello"):
        hidden = [REDACTED] * (len(arguments) - 1)
        arguments = [arguments[0], *(hidden if name == b"auth" else _without_login(arguments))]
    kept = arguments[:SLOW_LOG_ARGUMENTS_MAX]
    if len(arguments) > SLOW_LOG_ARGUMENTS_MAX:
        left_out = len(arguments) - SLOW_LOG_ARGUMENTS_MAX + 1
        kept[-1] = b"... (%d more arguments)" % left_out
    return [_shorten(argument) for argument in kept]


def _without_login(arguments: list[bytes]) -> list[bytes]:
    """HELLO's arguments with both that follow AUTH hidden."""
    shown = arguments[1:]
    for at, argument in enumerate(arguments[1:]):
        if argument.upper() == b"AUTH":
            shown[at + 1 : at + 3] = [REDACTED] * len(shown[at + 1 : at + 3])
            break
    return shown


def _shorten(argument: bytes) -> bytes:
    more = len(argument) - SLOW_LOG_ARGUMENT_BYTES_MAX
    if more <= 0:
        return argument
    return argument[:SLOW_LOG_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % more


@dataclass(slots=True)
class LatencyEvent:
    """The history of one kind of event: `[second, worst milliseconds in it]`, oldest first."""

    samples: deque[list[int]] = field(default_factory=lambda: deque(maxlen=LATENCY_SAMPLES_MAX))
    worst_ms: int = 0


class LatencyMonitor:
    """Events by name, as Redis names them: `command`, and `fast-command` for those flagged fast."""

    def __init__(self) -> None:
        self.events: dict[str, LatencyEvent] = {}

    def add(self, name: str, elapsed_ms: int) -> None:
        """Note an event; of one second only the worst is kept."""
        event = self.events.setdefault(name, LatencyEvent())
        event.worst_ms = max(event.worst_ms, elapsed_ms)
        now_s = int(time.time())
        if event.samples and event.samples[-1][0] == now_s:
            event.samples[-1][1] = max(event.samples[-1][1], elapsed_ms)
        else:
            event.samples.append([now_s, elapsed_ms])
