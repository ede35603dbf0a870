"""Durations counted in buckets: what a mean hides.

Whoever measures holds one of these and counts; whoever is scraped turns it into what Prometheus
wants (`kvnode.obs.metrics`). To count one costs half a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class SecondsHistogram:
    """Durations, counted in buckets. One thread observes; any thread may read.

    Args:
        bounds: the upper bounds of the buckets in seconds, ascending; above them is one more.
    """

    __slots__ = ("_bounds", "_counts", "longest", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        """Of all of them, in seconds."""
        self.longest = 0.0
        """In seconds."""

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds
        if seconds > self.longest:
            self.longest = seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, int]]:
        """How many took at most so long, by the bound, as Prometheus counts them."""
        edges = (*map(str, self._bounds), "+Inf")
        return list(zip(edges, accumulate(self._counts), strict=True))


# fmt: off
LOOP_BUCKETS_SECONDS = (
    0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)
# fmt: on
"""What keeps the event loop from the next callback: from a slice of work to a lost election."""
