"""How long the node keeps the event loop at a time, by what it does.

Nothing else runs meanwhile: no heartbeat leaves, no vote is answered. So what a node does is cut
into slices of a few milliseconds, and this is where it shows whether they are. A turn of the loop's
work is a few calls of the clock, one at each seam; it costs a microsecond.
"""

from __future__ import annotations

from time import perf_counter

from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram


class Slices:
    """Seconds by kind. `begin`, then `end` at each seam with what was done since the last one."""

    __slots__ = ("_began", "kinds")

    KINDS = ("consensus", "apply", "reads", "tick", "garbage", "commit")
    """Messages and log; entries applied, commits of the engine among them; reads run; what a tick
    looks at; rows of dropped databases deleted; and the commits of the engine by themselves."""

    def __init__(self) -> None:
        self.kinds = {kind: SecondsHistogram(LOOP_BUCKETS_SECONDS) for kind in self.KINDS}
        self._began = 0.0

    def begin(self) -> None:
        """Work begins."""
        self._began = perf_counter()

    def end(self, kind: str) -> None:
        """What was done since the last seam was of this kind."""
        now = perf_counter()
        self.kinds[kind].observe(now - self._began)
        self._began = now
