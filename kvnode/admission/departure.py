"""Whose turn it is to leave, when several nodes run out of memory at once.

Under one attack on all nodes their memory reaches the threshold at about the same moment. If all of
them left then, nobody would serve until they are back. So they go one after the other, without any
agreement, by what each sees:

* Voters have an order (by id). The first leaves at once, the next a quarter of a second later, and
  so on: time to notice that another one is gone.
* Who is *needed*, because the other voters it can reach are no majority, waits until they are back,
  ten seconds at most. Then it is the same order again, or those who waited would leave together.
* Never beyond what memory allows: at a third of the way from the threshold to the limit it leaves
  at once, whoever is missing.

A node that waits has dropped all its clients: leaving would do that anyway, and what they held is
most of what there is. If that is enough, and memory falls below the threshold again, it stays. With
fewer than three voters there is nobody to take turns with, and nothing changes.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kvnode.limits import LEAVE_TURN_MS, LEAVE_WAIT_SECONDS_MAX


class Turn(NamedTuple):
    """How a node stands with the other voters."""

    place: int = 0
    """In the order of voters; 0 leaves at once."""
    is_needed: bool = False
    """Without it the voters that can be reached are no majority."""


class Verdict(Enum):
    """What to do about a measurement."""

    STAY = "stay"
    WAIT = "wait"
    LEAVE = "leave"


class Departure:
    """Judges measurements; no clock, no I/O. Used by the sampler's thread.

    Args:
        threshold_bytes: where the watchdog leaves.
        limit_bytes: where the kernel kills.
    """

    __slots__ = ("_free_since_s", "_since_s", "_threshold_bytes", "last_bytes")

    def __init__(self, threshold_bytes: int, limit_bytes: int) -> None:
        self._threshold_bytes = threshold_bytes
        self.last_bytes = threshold_bytes + max(0, limit_bytes - threshold_bytes) // 3
        """Nobody waits any longer here."""
        self._since_s: float | None = None
        self._free_since_s: float | None = None

    def judge(self, total_bytes: int, turn: Turn, now_s: float) -> Verdict:
        """Take a measurement, made at `now_s` on a clock that never goes back."""
        if total_bytes < self._threshold_bytes:
            self._since_s = self._free_since_s = None
            return Verdict.STAY
        if self._since_s is None:
            self._since_s = now_s
        if turn.is_needed and now_s - self._since_s < LEAVE_WAIT_SECONDS_MAX:
            self._free_since_s = None
        elif self._free_since_s is None:
            self._free_since_s = now_s
        free_since_s = self._free_since_s
        turn_s = turn.place * LEAVE_TURN_MS / 1000
        is_its_turn = free_since_s is not None and now_s - free_since_s >= turn_s
        return Verdict.LEAVE if is_its_turn or total_bytes >= self.last_bytes else Verdict.WAIT
