"""Whose turn it is to leave, when several nodes run out of memory at once.

Under one attack on all nodes their memory reaches the threshold at about the same moment. If all of
them left then, nobody would serve until they are back. So they go one after the other, without any
agreement, by what each sees:

* Who has to leave tells the others so (`kvnode.node.strain`), and that it goes when it goes. It
  waits a quarter of a second first: time to hear of those who began to wait or to go just before.
* Of those who wait the first by id goes; the others stay behind it.
* Who is *needed*, because the other voters it can reach, without those who go, are no majority,
  waits until they are back.
* Nobody is waited for longer than ten seconds. Then they go by their places, a quarter of a second
  apart.
* Never beyond what memory allows: at a third of the way from the threshold to the limit it leaves
  at once, whoever is missing.

A node that waits has dropped all its clients: leaving would do that anyway, and what they held is
most of what there is. If that is enough, and memory falls below the threshold again, it stays. With
fewer than three voters there is nobody to take turns with: such a node leaves at once.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kvnode.limits import LEAVE_TURN_MS, LEAVE_WAIT_SECONDS_MAX


class Turn(NamedTuple):
    """How a node stands with the other voters."""

    place: int = 0
    """So many voters wait to leave that come before it."""
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

    def judge(self, total_bytes: int, turn: Turn | None, now_s: float) -> Verdict:
        """Take a measurement, made at `now_s` on a clock that never goes back.

        `turn` is None where there is nobody to take turns with.
        """
        if total_bytes < self._threshold_bytes:
            self._since_s = self._free_since_s = None
            return Verdict.STAY
        if turn is None or total_bytes >= self.last_bytes or self._is_its_turn(turn, now_s):
            return Verdict.LEAVE
        return Verdict.WAIT

    def _is_its_turn(self, turn: Turn, now_s: float) -> bool:
        if self._since_s is None:
            self._since_s = now_s
        is_held = turn.is_needed or turn.place > 0
        if is_held and now_s - self._since_s < LEAVE_WAIT_SECONDS_MAX:
            self._free_since_s = None
            return False
        if self._free_since_s is None:
            self._free_since_s = now_s
        return now_s - self._free_since_s >= (1 + turn.place) * LEAVE_TURN_MS / 1000
