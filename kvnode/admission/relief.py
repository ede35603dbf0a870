"""What gives memory back to the system while a node stands on a rung of the ladder.

CPython frees most objects at once, but two things stay behind: cycles, until the collector comes
by, and free memory that glibc keeps for the next `malloc`. Under load with large values the latter
is most of a process: of 900 MB nine tenths were free and still resident until `malloc_trim`.

* **Cycles**: one collection of the two younger generations, in the loop, since finalizers belong
  there: a tenth of a millisecond as a rule.
* **Free memory**: `malloc_trim(0)` takes about 4 ms per 64 MB that it gives back (measured), and
  0.1 ms to find that there is nothing. That is too long for the loop, so a thread does it, without
  the GIL. Whoever allocates more than 512 bytes meanwhile may wait for it; hence no more often than
  once a second, and only on a rung. Other C libraries than glibc have no such function.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import threading
from collections.abc import Callable
from typing import Final

from kvnode.admission.ladder import Rung
from kvnode.admission.pressure import Pressure

__all__ = ["Relief", "find_trim"]

INTERVAL_SECONDS: Final = 1.0
"""Between two reliefs, on a rung."""


def find_trim() -> Callable[[], object] | None:
    """Return glibc's `malloc_trim(0)`, None where the C library is another one."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes = (ctypes.c_size_t,)
    trim.restype = ctypes.c_int
    return lambda: trim(0)


class Relief:
    """Collects and trims when a rung is entered, and every second on it; nothing while calm.

    Args:
        loop: where the collector runs.
        trim: gives free memory back, in a thread; None: nobody can.
    """

    __slots__ = ("_loop", "_thread", "_timer", "_trim", "_unsubscribe", "done")

    def __init__(
        self,
        pressure: Pressure,
        loop: asyncio.AbstractEventLoop,
        trim: Callable[[], object] | None,
    ) -> None:
        self._loop = loop
        self._trim = trim
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self.done = 0
        """Times that it was tried."""
        self._unsubscribe = pressure.subscribe(self._on_rung)

    def close(self) -> None:
        """Do nothing any more."""
        self._unsubscribe()
        self._rest()

    def _on_rung(self, rung: Rung) -> None:
        if not rung:
            self._rest()
        elif self._timer is None:
            self._relieve()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _relieve(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._relieve)
        self.done += 1
        gc.collect(1)
        if self._trim is None or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._trim, name="kvnode-trim", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no memory for a thread: then the watchdog has the word
            self._thread = None
