"""When Python's cyclic garbage collector runs: seldom, for a short time, and where nobody waits.

Reference counting frees almost all garbage of the hot path; the collector is for the rest, and
everything stands still while it looks. Three things keep its pauses short:

* What lives as long as the process is *frozen*: never looked at again. That is done after the
  start, and again when an installed snapshot has taken the place of the state.
* Its thresholds. A young collection comes when 20,000 more objects were made than freed, and takes
  half a millisecond for these. What survived five of them is looked at once more, in six
  milliseconds if all of it lives, as when thousands of clients connect (27 ms for twenty). Under
  load a young collection has more to look at, since those that are freed make up for those that
  are made: 50,000 pipelined commands are 200,000 objects and 20 ms. So the fewer the better.
* The rest is done when the loop is idle. A full collection takes 70 ms for a million objects, so it
  is worth a ten-thousandth of the time: no sooner again than after 10,000 times its last pause.
  While the loop is never idle Python runs one itself when a quarter of all objects is new.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""By so many may the allocations of containers outrun their deallocations before a collection."""

YOUNG_COLLECTIONS: Final = 5
"""Before the middle generation is looked at, too."""

MIDDLE_COLLECTIONS: Final = 100
"""Before all are, if a quarter of them is new."""

IDLE_OBJECTS_MIN: Final = 2_000
"""A loop that has nothing to do collects no fewer."""

FULL_SECONDS_MIN: Final = 60.0
"""Between two full collections of an idle loop."""

FULL_PAUSES_APART: Final = 10_000


class Collector:
    """Governs the collector of this process. One thread, that of the event loop, uses it."""

    __slots__ = ("_full_due_s", "_now_s")

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Set the thresholds; a log is replayed faster with them, too."""
        self._now_s = now_s
        self._full_due_s = 0.0
        gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, MIDDLE_COLLECTIONS)

    def settle(self) -> None:
        """What lives now will live long, so it is frozen, without what died since the last time."""
        gc.unfreeze()
        self._collect_all()
        gc.freeze()

    def idle(self) -> None:
        """The loop has nothing to do: a good moment. Costs nothing when there is nothing to do."""
        young, middle, old = gc.get_count()
        if (middle or old) and self._now_s() >= self._full_due_s:
            self._collect_all()
        elif middle > 1:
            gc.collect(1)
        elif young >= IDLE_OBJECTS_MIN:
            gc.collect(0)

    def _collect_all(self) -> None:
        began_s = self._now_s()
        gc.collect()
        now_s = self._now_s()
        pause_s = now_s - began_s
        self._full_due_s = now_s + max(FULL_SECONDS_MIN, FULL_PAUSES_APART * pause_s)
