"""Handing leadership over: the leader waits for its heir, and not for ever (thesis, section 3.10).

The leader takes no proposals, brings the target's log to the end of its own, and tells it once to
stand for election. If the target does not win within an election timeout, the leader goes on.
"""

from __future__ import annotations

from raft.types import NONE, NodeId


class Transfer:
    """At most one order of a leader to hand over. Time is in ticks.

    Invariant: the target is told at most once per order; after `ticks_max` the order is over.

    Attributes:
        target: who is to lead, `NONE` if nobody.
    """

    __slots__ = ("_ticks", "_ticks_max", "_told", "target")

    def __init__(self, ticks_max: int) -> None:
        self._ticks_max = ticks_max
        self._ticks = 0
        self._told = False
        self.target: NodeId = NONE

    def begin(self, target: NodeId) -> None:
        """Start (again); `NONE` withdraws the order."""
        self.target = target
        self._ticks = 0
        self._told = False

    def tick(self) -> None:
        """Let one tick pass; a target that did not make it in time is given up."""
        self._ticks += 1
        if self._ticks >= self._ticks_max:
            self.target = NONE

    @property
    def waits(self) -> bool:
        """The target has not been told yet."""
        return self.target != NONE and not self._told

    def told(self) -> None:
        """`TimeoutNow` was sent."""
        self._told = True
