"""Who leads next: giving leadership away, when the node stops or another one can do better."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvnode.node.disk_health import DiskHealth, better_leader
from kvnode.obs.log import event
from raft.types import NONE, Role

if TYPE_CHECKING:
    from kvnode.node.roster import Roster
    from kvnode.node.transport import Transport
    from raft.raft import Raft

_log = logging.getLogger("kvnode.node")

ORDER_SECONDS = 0.5
"""After this long an order to take over that nobody followed is given again, perhaps elsewhere."""


class Succession:
    """Chooses successors among the voters that can be reached and are whole."""

    def __init__(
        self,
        raft: Raft,
        roster: Roster,
        transport: Transport,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._roster = roster
        self._transport = transport
        self._loop = loop
        self._wake = wake
        self._changed = asyncio.Event()

    def leader_changed(self) -> None:
        """Role or leader are others now."""
        self._changed.set()

    @property
    def _leads(self) -> bool:
        return self._raft.role is Role.LEADER

    def _electable(self) -> dict[int, int]:
        """Peers that can vote and lead now, with the last index that each is known to have."""
        progress = self._raft.progress()
        return {
            peer: progress[peer].match if peer in progress else 0
            for peer in self._raft.conf_state.voters
            if self._transport.is_connected(peer)
            and not (peer in progress and progress[peer].recovering)
        }

    def best_follower(self) -> int | None:
        """The follower that has most of the log; None if none can lead."""
        electable = self._electable()
        return max(electable, key=lambda peer: (electable[peer], peer)) if electable else None

    async def hand_over(self, seconds: float) -> bool:
        """Give leadership to the best follower, if this node leads. True when another one leads."""
        if not self._leads:
            return False
        own, deadline = self._raft.node_id, self._loop.time() + seconds
        while self._raft.leader in (NONE, own) and self._loop.time() < deadline:
            target = self.best_follower()
            if target is None:
                return False  # nobody is left to lead, or to elect anyone
            if self._leads:
                self._raft.transfer_leader(target)
                self._wake()
            await self._wait(min(ORDER_SECONDS, deadline - self._loop.time()))
        return self._raft.leader not in (NONE, own)

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._changed.wait()
        except TimeoutError:
            return

    def offer(self) -> None:
        """Another node can do better now; without one this stays the leader."""
        if self._leads and (target := self.best_follower()) is not None:
            self._raft.transfer_leader(target)

    def leave_slow_disk(self, health: DiskHealth, now: float) -> None:
        """Hand leadership to a follower whose disk has what this one's still has not."""
        voters = len(self._raft.conf_state.voters)
        target = better_leader(self._raft.log.stable, self._electable(), voters)
        if target is None or not self._raft.transfer_leader(target):
            return
        health.hold_off(now)
        text = "leadership is offered to a node with a quicker disk"
        event(_log, logging.WARNING, text, to=self._roster.name_of(target))
        self._wake()
