"""What gives memory back to the system near the ladder, and while a node stands on it.

CPython frees most objects at once, but two things stay behind: cycles, until the collector comes
by, and free memory that glibc keeps for the next `malloc`. Under load with large values the latter
is most of a process: of 900 MB nine tenths were free and still resident until `malloc_trim`.

* **Cycles**: one collection of the two younger generations, in the loop, since finalizers belong
  there: a tenth of a millisecond as a rule.
* **Free memory**: `malloc_trim(0)` takes about 4 ms per 64 MB that it gives back (measured), and
  0.1 ms to find that there is nothing. That is too long for the loop, so a thread does it, without
  the GIL. Whoever allocates more than 512 bytes meanwhile may wait for it; hence no more often than
  once a second. Other C libraries than glibc have no such function.

On a rung both are done every second. Ten points below the first one free memory is given back, too,
so that it is not taken for load: once, and again when five points more are held.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from typing import Final

from kvnode.admission.ladder import Rung
from kvnode.admission.pressure import Pressure

__all__ = ["Relief"]

INTERVAL_SECONDS: Final = 1.0
"""Between two looks."""

EARLY_TWELFTHS: Final = 10
GROWN_TWELFTHS: Final = 1
"""Of where the first rung begins, at 60 % of the limit: 50 %, and 5 %."""


class Relief:
    """Collects and trims when a rung is entered and every second on it, and trims before.

    Args:
        pressure: tells the rung.
        loop: where the collector runs.
        trim: gives free memory back, in a thread; None: nobody can.
        level: bytes that count towards the limit now.
        rung_bytes: where the first rung begins.

    Attributes:
        collected: times that the collector was run.
        trimmed: times that free memory was given back.
    """

    __slots__ = (
        "_early_bytes",
        "_floor_bytes",
        "_grown_bytes",
        "_is_relieving",
        "_level",
        "_loop",
        "_pressure",
        "_thread",
        "_timer",
        "_trim",
        "_unsubscribe",
        "collected",
        "trimmed",
    )

    def __init__(
        self,
        pressure: Pressure,
        loop: asyncio.AbstractEventLoop,
        trim: Callable[[], object] | None,
        *,
        level: Callable[[], int] = int,
        rung_bytes: int = sys.maxsize,
    ) -> None:
        self._pressure = pressure
        self._loop = loop
        self._trim = trim
        self._level = level
        self._early_bytes = rung_bytes * EARLY_TWELFTHS // 12
        self._grown_bytes = rung_bytes * GROWN_TWELFTHS // 12
        self._floor_bytes = 0
        self._thread: threading.Thread | None = None
        self._is_relieving = False
        self.collected = self.trimmed = 0
        self._timer = loop.call_later(INTERVAL_SECONDS, self._look)
        self._unsubscribe = pressure.subscribe(self._on_rung)

    def close(self) -> None:
        """Do nothing any more."""
        self._unsubscribe()
        self._timer.cancel()

    def _on_rung(self, rung: Rung) -> None:
        # Going up or down between rungs does not hurry it.
        if rung and not self._is_relieving:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)
        level = self._level()
        self._floor_bytes = min(self._floor_bytes, level)
        self._is_relieving = bool(self._pressure.rung)
        if self._is_relieving:
            self.collected += 1
            gc.collect(1)
        elif level < max(self._early_bytes, self._floor_bytes + self._grown_bytes):
            return
        self._floor_bytes = level
        self._give_back()

    def _give_back(self) -> None:
        if self._trim is None or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._trim, name="kvnode-trim", daemon=True)
        try:
            self._thread.start()
            self.trimmed += 1
        except RuntimeError:  # no memory for a thread: then the watchdog has the word
            self._thread = None
