"""The ladder below the watchdog: measurements of memory in, a rung out.

Leaving is the last resort. Before it there are three rungs, and each keeps what the ones below it
do:

| Rung | From | What it does |
|---|---|---|
| `SHED` | 60 % of the limit | heavy commands are refused, unused memory is collected and returned |
| `REFUSE` | 70 % | writes that can grow are refused, nobody new is let in, the node is not ready |
| `CLOSE` | 80 % | the client that holds the most bytes is closed, again and again |

A threshold of the watchdog that was set below its 85 % moves all three down with it, in proportion,
so that none lies behind the exit.

Going up is immediate. Going down takes a second in which no measurement came within five points of
the rung's own share (*hysteresis*): a node must not refuse and allow in turn, twice a second. It
then goes down as far as the largest measurement of that second allows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["LEAVE_SHARE_PERCENT", "Ladder", "Rung"]


class Rung(IntEnum):
    """How scarce memory is."""

    CALM = 0
    SHED = 1
    REFUSE = 2
    CLOSE = 3


LEAVE_SHARE_PERCENT: Final = 85
"""Of the limit, where the watchdog leaves. The rest is room for what is allocated between two
measurements and during the stop."""

SHARES_PERCENT: Final = {Rung.SHED: 60, Rung.REFUSE: 70, Rung.CLOSE: 80}
"""Of the limit, where each rung begins."""

MARGIN_PERCENT: Final = 5
"""A rung is left so far below its beginning, and no sooner."""

CALM_SECONDS: Final = 1.0
"""Measurements must stay below the margin for so long."""


class Ladder:
    """Decides on which rung a node stands; no clock, no I/O.

    Attributes:
        rung: where it stands.
        begins: bytes at which each rung begins.
    """

    __slots__ = ("_below_since", "_margin_bytes", "_peak_bytes", "begins", "rung")

    def __init__(self, limit_bytes: int, threshold_bytes: int) -> None:
        """Lay the rungs below the limit and below the watchdog's threshold."""
        top = min(limit_bytes * LEAVE_SHARE_PERCENT // 100, threshold_bytes)
        self.begins = {rung: _share(top, percent) for rung, percent in SHARES_PERCENT.items()}
        self.rung = Rung.CALM
        self._margin_bytes = _share(top, MARGIN_PERCENT)
        self._below_since: float | None = None
        self._peak_bytes = 0

    def observe(self, total_bytes: int, now_s: float) -> Rung | None:
        """Take a measurement, made at `now_s` on a clock that never goes back.

        Returns:
            the new rung, None: it is as before.
        """
        reached = self._reached(total_bytes)
        if reached > self.rung:
            return self._go(reached)
        if not self.rung or total_bytes > self.begins[self.rung] - self._margin_bytes:
            self._below_since = None
            return None
        if self._below_since is None:
            self._below_since, self._peak_bytes = now_s, total_bytes
        self._peak_bytes = max(self._peak_bytes, total_bytes)
        if now_s - self._below_since < CALM_SECONDS:
            return None
        # The margin counts for the rungs in between too: they are not entered to be left at once.
        return self._go(self._reached(self._peak_bytes + self._margin_bytes - 1))

    def _reached(self, total_bytes: int) -> Rung:
        return max(
            (rung for rung, begin in self.begins.items() if total_bytes >= begin),
            default=Rung.CALM,
        )

    def _go(self, rung: Rung) -> Rung:
        self.rung = rung
        self._below_since = None
        return rung


def _share(top_bytes: int, percent: int) -> int:
    return top_bytes * percent // LEAVE_SHARE_PERCENT
