"""How long the node keeps the event loop at a time, by what it does.

Nothing else runs meanwhile: no heartbeat leaves, no vote is answered. So what a node does is cut
into slices of a few milliseconds, and this is where it shows whether they are. Passes are all
counted; what took its time in them is told only of those that took a millisecond, since there are
thousands in a second and to count one costs as much as a command's share of it.
"""

from __future__ import annotations

from time import perf_counter

from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram

LONG_PASS_SECONDS = 0.001


class Slices:
    """Seconds by kind. `begin`, then `end` at the seams of what is measured by itself."""

    __slots__ = ("_began", "_pass", "kinds")

    KINDS = ("pass", "consensus", "apply", "reads", "tick", "garbage", "commit")
    """Whole passes, and of long ones: messages and log, entries applied (with commits), reads run.
    What a tick looks at; rows of dropped databases deleted; commits of the engine by themselves."""

    def __init__(self) -> None:
        self.kinds = {kind: SecondsHistogram(LOOP_BUCKETS_SECONDS) for kind in self.KINDS}
        self._pass = self.kinds["pass"]
        self._began = 0.0

    def begin(self) -> None:
        """Work begins."""
        self._began = perf_counter()

    def end(self, kind: str) -> None:
        """What was done since `begin`, or since the last seam, was of this kind."""
        now = perf_counter()
        self.kinds[kind].observe(now - self._began)
        self._began = now

    def passed(self, began: float, applies: float, reads: float) -> None:
        """A pass is over: when it began, and when apply and reads in it did (`perf_counter`)."""
        now = perf_counter()
        took = now - began
        self._pass.observe(took)
        if took >= LONG_PASS_SECONDS:
            self.kinds["consensus"].observe(applies - began)
            self.kinds["apply"].observe(reads - applies)
            self.kinds["reads"].observe(now - reads)
