"""The cluster's clock: milliseconds that never go back, whoever leads.

Every batch in the log carries the leader's stamp, and expiry is judged by nothing else. So the
clock that makes the stamps must not jump, whatever the wall clocks of the machines do:

* A node follows the clock of the leader: every frame from the leader carries it, and the node
  keeps it going by its own *monotonic* clock. When the node becomes leader it goes on from there.
* While it leads it slews towards its wall clock, by at most one part in twenty.
* A wall clock that is off by more than a second is alarmed and not followed.
* Only when nobody can tell it better (the first leader after a start of the whole cluster) does
  the wall clock set it, and then never behind the largest stamp in the log.
"""

from __future__ import annotations

from collections.abc import Callable

JUMP_MS_MAX = 1_000
"""A wall clock further away than this is alarmed, not followed."""

SLEW_DIVISOR = 20
"""Slewing gains or loses at most one millisecond in this many."""


class StampClock:
    """Estimates the cluster's clock and issues stamps.

    Invariant: once the clock is set, neither `now_ms` nor `stamp_ms` ever goes back.

    Args:
        monotonic: seconds from any origin, never back, like `time.monotonic`.
        wall: seconds since the epoch, like `time.time`.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._base_ms = 0.0
        self._base_at = monotonic()
        self._floor_ms = 0
        self._is_set = False
        self.jumps_alarmed = 0
        """Times that the wall clock was found more than a second away."""
        self._is_alarmed = False

    def observe(self, stamp_ms: int) -> None:
        """A stamp from the log: the clock is never behind it."""
        self._floor_ms = max(self._floor_ms, stamp_ms)

    def follow(self, leader_ms: int) -> None:
        """Take over the leader's clock, as a frame from it told."""
        self._set(float(leader_ms))

    def lead(self) -> None:
        """This node begins to lead: without a better source the wall clock sets the clock."""
        if not self._is_set:
            self._set(max(self._wall() * 1000, float(self._floor_ms)))

    def now_ms(self) -> int:
        """The estimate of the cluster's clock: before any leader was heard, the wall clock."""
        if not self._is_set:
            # Not remembered: a wrong wall clock must leave no trace once a leader is heard.
            return max(int(self._wall() * 1000), self._floor_ms)
        elapsed_ms = (self._monotonic() - self._base_at) * 1000
        self._floor_ms = max(self._floor_ms, int(self._base_ms + elapsed_ms))
        return self._floor_ms

    def stamp_ms(self) -> int:
        """A stamp for a new entry; only a leader asks. Slews towards the wall clock."""
        now = self._monotonic()
        elapsed_ms = (now - self._base_at) * 1000
        estimate = self._base_ms + elapsed_ms
        error_ms = self._wall() * 1000 - estimate
        if abs(error_ms) > JUMP_MS_MAX:
            self._alarm()
        else:
            self._is_alarmed = False
            slew_ms = elapsed_ms / SLEW_DIVISOR
            estimate += max(-slew_ms, min(slew_ms, error_ms))
        self._base_ms, self._base_at = estimate, now
        self._floor_ms = max(self._floor_ms, int(estimate))
        return self._floor_ms

    def _set(self, base_ms: float) -> None:
        self._base_ms, self._base_at = base_ms, self._monotonic()
        self._is_set = True

    def _alarm(self) -> None:
        if not self._is_alarmed:
            self.jumps_alarmed += 1
        self._is_alarmed = True
