"""Per-second figures of INFO: `instantaneous_ops_per_sec` and its like.

Like Redis we sample totals ten times a second and show the mean of the last sixteen differences:
steady enough to read, quick enough to follow.
"""

from __future__ import annotations

from collections import deque
from typing import Final

SAMPLES: Final = 16


class Rate:
    """How fast one total grows, per second."""

    __slots__ = ("_previous", "_previous_s", "_rates")

    def __init__(self) -> None:
        self._previous = 0
        self._previous_s: float | None = None
        self._rates: deque[float] = deque(maxlen=SAMPLES)

    def sample(self, total: int, now_s: float) -> None:
        """Take the total as of `now_s`. A total that went back was reset: it starts anew."""
        if self._previous_s is not None and now_s > self._previous_s:
            self._rates.append(max(total - self._previous, 0) / (now_s - self._previous_s))
        self._previous = total
        self._previous_s = now_s

    @property
    def per_second(self) -> float:
        """The mean over the last samples; 0 before there are any."""
        return sum(self._rates) / len(self._rates) if self._rates else 0.0
