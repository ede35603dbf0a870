"""How long Python's cyclic garbage collector stops everything.

With many live objects a full collection takes tens of milliseconds, and nothing else runs
meanwhile, heartbeats included. Reference counting frees most garbage without it.
"""

from __future__ import annotations

import gc
import time

from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram


class GcPauses:
    """Counts collections and the time they take, from `start` to `stop`."""

    __slots__ = ("_began", "pauses")

    def __init__(self) -> None:
        self.pauses = SecondsHistogram(LOOP_BUCKETS_SECONDS)
        self._began = 0.0

    def start(self) -> None:
        """Begin to count."""
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        """Count no longer."""
        gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.pauses.observe(time.perf_counter() - self._began)
