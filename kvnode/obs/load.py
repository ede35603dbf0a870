"""How busy a node is: rates of totals that somebody else counts.

A rate is looked at by whoever asks for /status, so it is computed then and costs nothing while
nobody asks. Each look weighs the growth since the look before against what was known, by how long
ago that was: after `HALF_LIFE_SECONDS` the past counts half. Somebody who asks every second sees a
steady figure, somebody who asks every minute the mean of that minute.
"""

from __future__ import annotations

from typing import Final

HALF_LIFE_SECONDS: Final = 7.0
"""The weight of what is older than ten seconds is about a third."""

LOOK_SECONDS_MIN: Final = 0.1
"""Looks that follow faster see the same figure: a few events in a moment are no rate."""


class DecayingRate:
    """How fast one total grows, per second."""

    __slots__ = ("_per_second", "_seen", "_seen_s")

    def __init__(self, now_s: float) -> None:
        """Begin at a total of 0."""
        self._seen = 0
        self._seen_s = now_s
        self._per_second: float | None = None

    def look(self, total: int, now_s: float) -> float:
        """Take the total as of `now_s` and return the rate. One that went back was reset to 0."""
        passed = now_s - self._seen_s
        if passed < LOOK_SECONDS_MIN:
            return self._per_second or 0.0
        grown = total - self._seen if total >= self._seen else total
        old, rate = self._per_second, grown / passed
        if old is not None:
            rate += (old - rate) * 0.5 ** (passed / HALF_LIFE_SECONDS)
        self._per_second, self._seen, self._seen_s = rate, total, now_s
        return rate
