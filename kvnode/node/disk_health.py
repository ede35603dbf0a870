"""Is the log's disk slow, and would another node lead better?

A disk that is about to fail, or that others keep busy, reports no error: it lets a sync hang. A
judgement made when the sync returns comes too late, so the node asks at every tick how long the
job under way has been with the disk. Times are the event loop's, in seconds; a tick that the loop
itself ran late is to be judged at the time at which it was due, or the disk would be blamed for the
loop.

An *episode* begins with the first job that takes too long and ends when none did for a while: one
warning when it begins and one line when it ends, however many syncs are slow in between.

A slow disk is no reason to give leadership away as long as the others are no better: they may hang
on the same storage. What proves a follower better is an entry that is on its disk and not yet on
ours. Between two attempts, and after taking office, a leader holds off, so that leadership does not
go to and fro between two slow disks.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from kvnode.limits import (
    DISK_CALM_SECONDS,
    DISK_HAND_OVER_HOLD_OFF_SECONDS,
    DISK_HAND_OVER_MS_MIN,
    DISK_SLOW_MS,
)


class DiskHealth:
    """Judges the disk by the jobs that it is given, one at a time.

    Args:
        election_ms: the shortest election timeout; at half of it a leader looks for a better one.
    """

    def __init__(self, election_ms: int) -> None:
        self.hand_over_after_s = max(election_ms / 2, DISK_HAND_OVER_MS_MIN) / 1000
        self.slow_after_s = min(DISK_SLOW_MS / 1000, self.hand_over_after_s)
        self._began: float | None = None
        self._is_counted = False
        self._slow_at = 0.0
        self._held_off_until = 0.0
        self.is_slow = False
        """Within an episode."""
        self.slow_syncs = 0
        """Jobs that took longer than `slow_after_s`."""
        self.longest_s = 0.0
        """The longest wait of this episode, or of the last one."""

    def began(self, now: float) -> None:
        """A job was given to the disk."""
        self._began = now
        self._is_counted = False

    def ended(self) -> None:
        """The job returned. Called in the thread that did it: the loop may be late to learn."""
        self._began = None

    def wait_s(self, now: float) -> float:
        """How long the job under way has been with the disk; 0 without one."""
        began = self._began  # once: it may end in between
        return 0.0 if began is None else max(now - began, 0.0)

    def judge(self, now: float) -> bool:
        """Look at the job under way; True when an episode begins or ends with this call."""
        wait_s = self.wait_s(now)
        if wait_s < self.slow_after_s:
            if self.is_slow and now - self._slow_at >= DISK_CALM_SECONDS:
                self.is_slow = False
                return True
            return False
        self._slow_at = now
        if not self._is_counted:
            self._is_counted = True
            self.slow_syncs += 1
        if self.is_slow:
            self.longest_s = max(self.longest_s, wait_s)
            return False
        self.is_slow, self.longest_s = True, wait_s
        return True

    # --- leadership -------------------------------------------------------------------------------

    def hold_off(self, now: float) -> None:
        """Leadership was taken, or offered to another node: leave it alone for a while."""
        self._held_off_until = now + DISK_HAND_OVER_HOLD_OFF_SECONDS

    def should_hand_over(self, now: float) -> bool:
        """Whether a leader with this disk should look for a better one now."""
        return self.wait_s(now) >= self.hand_over_after_s and now >= self._held_off_until


def better_leader(
    durable: int, followers: Mapping[int, int], voters: int, unfit: Container[int] = ()
) -> int | None:
    """The follower that has most on its disk, if the cluster is better off with it.

    Args:
        durable: the last index on this node's disk.
        followers: those that can vote now, with the last index known to be on their disks.
        voters: how many there are, this node included.
        unfit: those of the followers that can vote but not lead.

    Returns:
        None when no follower has more than this node, or when they could not elect anybody without
        it: a vote is written to the disk, too.
    """
    if len(followers) < voters // 2 + 1:
        return None
    able = [peer for peer in followers if peer not in unfit and followers[peer] > durable]
    return max(able, key=lambda peer: (followers[peer], peer), default=None)
