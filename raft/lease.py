"""Lease reads: answers to reads without a round, for a while after one (thesis, section 6.4.1).

A follower that hears its leader helps nobody else to lead for an election timeout. So a leader
that was confirmed by a quorum knows that there is no other until that time has passed, counted from
when it *asked*, and may answer reads from what it knows. Off by default, since it trusts clocks: it
holds if no follower's clock runs so much faster than the leader's that its election timeout is over
before the lease is.

What makes it sound here, beyond etcd's lease (all of it only with `Config.lease_reads`, which must
be the same on all members):

* the lease is shorter than the shortest election timeout by `lease_drift_ticks`, at least one tick,
  because ticks of two nodes do not coincide;
* the promise of a follower outlives a restart, a change of its term and a ballot of its own
  (`Elections`): it gives no vote, not even to itself, within an election timeout of having heard a
  leader, or of its start;
* an election that the leader asked for breaks the promise. So there is no lease while leadership is
  being handed over, and none for the rest of the term once `TimeoutNow` was sent: the message may
  arrive at any time.

The driver owes two things: ticks of a monotonic clock that goes on while the process or the machine
sleeps, and all ticks that are due *before* the reads of a pass. A leader that was paused would
otherwise believe in a lease that is long over.

Invariant: `held` only within `span` ticks of the start of a round that a quorum has confirmed.
"""

from __future__ import annotations

from collections import deque


class Lease:
    """The lease of one leadership. All times are in ticks.

    `span` is how long a confirmed round is good for.
    """

    __slots__ = ("_now", "_revoked", "_rounds", "_span", "_until")

    def __init__(self, span: int) -> None:
        self._span = span
        self._now = 0
        self._until = 0
        self._revoked = False
        # (round id, when it started), oldest first, until it is confirmed. CheckQuorum bounds it.
        self._rounds: deque[tuple[int, int]] = deque()

    def tick(self) -> None:
        """Let one tick pass."""
        self._now += 1

    def started(self, round_id: int) -> None:
        """A round is about to be sent."""
        self._rounds.append((round_id, self._now))

    def confirmed(self, round_id: int) -> None:
        """A quorum has confirmed `round_id`, and with it every round before."""
        rounds = self._rounds
        while rounds and rounds[0][0] <= round_id:
            self._until = rounds.popleft()[1] + self._span

    def lapse(self) -> None:
        """No lease until another round is confirmed."""
        self._until = self._now

    def revoke(self) -> None:
        """No lease any more in this term."""
        self._revoked = True

    @property
    def held(self) -> bool:
        """Nobody else can lead now."""
        return self._now < self._until and not self._revoked
