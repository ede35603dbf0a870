"""Is the event loop late, and would another node lead better? Decisions only.

A node does everything in one loop, so what takes long in it delays all else: a heartbeat that
leaves late looks to the followers like a leader that is gone. Every tick tells how late the loop
ran it.

Above `LOOP_LAG_ALARM_MS` there is a line in the log, one per `LOOP_LAG_ALARM_SECONDS` at most, with
the processor time that the loop's thread spent meanwhile. That tells a loop that worked too long
(about as much) from a process that did not run: stopped, starved or waiting for the disk (none).

Half of the election timeout makes a tick *late*, and one late tick proves nothing: it may be a full
garbage collection, or a process that somebody stopped for a minute; however long that was, it is
one late tick, since the ticks that were missed are not run. (A machine that slept is not late at
all, as the loop's clock slept, too.) `LATE_TICKS_MIN` of them within `LATE_TICKS_SECONDS` are a
loop that cannot keep up, whatever keeps it. That state lasts until none was late for as long.

A leader with such a loop looks for a better one (`kvnode.node.succession`), but only after it has
given the others `LATE_TOLD_SECONDS` to say that their loops are late as well: under one attack on
all nodes leadership stays where it is. Then, and after taking office, it holds off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kvnode.limits import (
    LATE_TICKS_MIN,
    LATE_TICKS_SECONDS,
    LATE_TOLD_SECONDS,
    LOOP_HAND_OVER_MS_MIN,
    LOOP_LAG_ALARM_MS,
    LOOP_LAG_ALARM_SECONDS,
)
from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram


class Alarm(NamedTuple):
    """One line of the log about lags, in seconds."""

    lag_s: float
    """The one that made the line."""
    ran_s: float
    """Processor time that the loop's thread spent since the tick before."""
    times: int
    """How often the loop was late since the last line, this time included."""
    longest_s: float
    """The longest of them."""

    def fields(self) -> dict[str, int]:
        """For the log, in milliseconds."""
        lag_ms, ran_ms = round(self.lag_s * 1000), round(self.ran_s * 1000)
        longest_ms = round(self.longest_s * 1000)
        return {"lag_ms": lag_ms, "ran_ms": ran_ms, "times": self.times, "longest_ms": longest_ms}


class LoopLag:
    """Judges the loop by how late it ran its ticks. Times are the loop's, in seconds.

    Args:
        election_ms: the shortest election timeout; half of it makes a tick late.
        ran: processor time of the loop's thread, in seconds.
    """

    def __init__(self, election_ms: int, ran: Callable[[], float]) -> None:
        self._ran = ran
        self._ran_s = ran()
        self.late_after_s = max(election_ms / 2, LOOP_HAND_OVER_MS_MIN) / 1000
        self.is_late = False
        """The loop cannot keep up."""
        self.latest_s = 0.0
        """Of the last tick."""
        self.lags = SecondsHistogram(LOOP_BUCKETS_SECONDS)
        """Of all ticks since the start."""
        self._late: deque[float] = deque(maxlen=LATE_TICKS_MIN)
        """When the last late ticks were."""
        self._since = 0.0
        self._times = 0
        self._longest_s = 0.0
        self._told_at = float("-inf")

    def judge(self, now: float, lag_s: float) -> bool:
        """Take the lag of one tick; True when `is_late` changes with it."""
        self.latest_s = lag_s
        self.lags.observe(lag_s)
        late = self._late
        if lag_s >= self.late_after_s:
            late.append(now)
        elif not late:
            return False
        recent = now - LATE_TICKS_SECONDS
        was_late = self.is_late
        if was_late:
            self.is_late = late[-1] > recent
        elif len(late) == LATE_TICKS_MIN and late[0] > recent:
            self.is_late, self._since = True, now
        return self.is_late is not was_late

    def alarm(self, now: float, lag_s: float) -> Alarm | None:
        """What to log about this tick, if anything; asked at every tick."""
        before, self._ran_s = self._ran_s, self._ran()
        if lag_s * 1000 <= LOOP_LAG_ALARM_MS:
            return None
        self._times += 1
        self._longest_s = max(self._longest_s, lag_s)
        if now - self._told_at < LOOP_LAG_ALARM_SECONDS:
            return None
        alarm = Alarm(lag_s, self._ran_s - before, self._times, self._longest_s)
        self._told_at, self._times, self._longest_s = now, 0, 0.0
        return alarm

    def should_hand_over(self, now: float) -> bool:
        """Whether a leader with this loop should look for a better one now."""
        return self.is_late and now - self._since >= LATE_TOLD_SECONDS
