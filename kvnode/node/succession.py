"""Who leads next: giving leadership away, when the node stops or another one can do better.

Nobody who is so short of memory that it refuses writes is ever chosen, and who is strained
(`kvnode.node.strain`) only where nobody is calm. A leader that gets under strain itself looks for a
node that is better off: for one on rung 0 when it is short of memory, for one whose loop keeps up
when its own does not. If there is none it goes on: each leaves for itself, and an election among
equals costs more than it brings. A node that is drained is not chosen either, and if it leads all
the same it hands on as soon as somebody who is caught up can take over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvnode.admission.departure import Turn
from kvnode.limits import (
    DRAIN_HAND_OVER_RETRY_SECONDS,
    PROMOTION_LAG_ENTRIES_MAX,
    STRAINED_HAND_OVER_HOLD_OFF_SECONDS,
)
from kvnode.node.disk_health import DiskHealth, better_leader
from kvnode.node.strain import RUNG_GOES, RUNG_WAITS
from kvnode.obs.log import event
from raft.types import NONE, Role

if TYPE_CHECKING:
    from kvnode.node.roster import Roster
    from kvnode.node.strain import Strains
    from kvnode.node.transport import Transport
    from raft.raft import Raft

_log = logging.getLogger("kvnode.node")

VOTERS_TAKING_TURNS_MIN = 3
"""Of fewer none can leave without ending the quorum."""

ORDER_SECONDS = 0.5
"""After this long an order to take over that nobody followed is given again, perhaps elsewhere."""


class Succession:
    """Chooses successors among the voters that can be reached and are whole."""

    def __init__(
        self,
        raft: Raft,
        roster: Roster,
        transport: Transport,
        strains: Strains,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._roster = roster
        self._transport = transport
        self._strains = strains
        self._loop = loop
        self._wake = wake
        self._changed = asyncio.Event()
        self._held_off_until = 0.0
        self._steps_aside_at = 0.0
        self.last_turn: Turn | None = None
        """The newest `turn`, for another thread."""
        """What `turn` said in the last sweep; read by any thread."""

    def leader_changed(self) -> None:
        """Role or leader are others now."""
        self._changed.set()

    @property
    def _leads(self) -> bool:
        return self._raft.role is Role.LEADER

    def _electable(self) -> dict[int, int]:
        """Peers that can vote now, with the last index that each is known to have."""
        progress = self._raft.progress()
        return {
            peer: progress[peer].match if peer in progress else 0
            for peer in self._raft.conf_state.voters
            if self._transport.is_connected(peer)
            and not (peer in progress and progress[peer].recovering)
        }

    def best_follower(self) -> int | None:
        """Of those that have about all of the log the one that is best off; None: none can lead."""
        electable = self._electable()
        strain = self._strains.of
        able = [peer for peer in electable if strain(peer).may_lead]
        caught_up = max(electable.values(), default=0) - PROMOTION_LAG_ENTRIES_MAX

        def merit(peer: int) -> tuple[bool, int, bool, int, int]:
            rung, is_late, _ = strain(peer)
            return electable[peer] >= caught_up, -rung, not is_late, electable[peer], peer

        return max(able, key=merit, default=None)

    def caught_up_follower(self) -> int | None:
        """The best follower, if it has about all of this leader's log; None: nobody has."""
        target = self.best_follower()
        if target is None:
            return None
        behind = self._raft.last_index - self._electable()[target]
        return target if behind <= PROMOTION_LAG_ENTRIES_MAX else None

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
        followers = self._electable()
        unfit = [peer for peer in followers if not self._strains.of(peer).may_lead]
        target = better_leader(self._raft.log.stable, followers, voters, unfit)
        if target is None or not self._raft.transfer_leader(target):
            return
        health.hold_off(now)
        text = "leadership is offered to a node with a quicker disk"
        event(_log, logging.WARNING, text, to=self._roster.name_of(target))
        self._wake()

    def step_aside(self, now: float) -> None:
        """A draining leader hands on; who follows a long way behind would only hold up writes."""
        if now < self._steps_aside_at or self._raft.status().transferee != NONE:
            return
        target = self.caught_up_follower()
        if target is None or not self._raft.transfer_leader(target):
            return
        self._steps_aside_at = now + DRAIN_HAND_OVER_RETRY_SECONDS
        text = "draining: leadership is offered to another node"
        event(_log, logging.INFO, text, to=self._roster.name_of(target))
        self._wake()

    # --- leaving ----------------------------------------------------------------------------------

    def turn(self) -> Turn | None:
        """How this node stands with the other voters, should it have to leave; None: alone."""
        voters, own = self._raft.conf_state.voters, self._raft.node_id
        if own not in voters or len(voters) < VOTERS_TAKING_TURNS_MIN:
            return None
        rungs = {peer: self._strains.of(peer).rung for peer in self._electable()}
        stay = [peer for peer, rung in rungs.items() if rung < RUNG_GOES]
        before = [peer for peer in stay if rungs[peer] == RUNG_WAITS and peer < own]
        return Turn(len(before), len(stay) < len(voters) // 2 + 1)

    def look(self) -> None:
        """Ten times a second, and whenever one of them says how it is: see how the others are."""
        self.last_turn = self.turn()

    # --- strain -----------------------------------------------------------------------------------

    def hold_off(self, now: float) -> None:
        """Leadership was taken, or offered to another node: leave it alone for a while."""
        self._held_off_until = now + STRAINED_HAND_OVER_HOLD_OFF_SECONDS

    def leave_strain(self, now: float) -> None:
        """Hand leadership to a follower that is caught up and better off than this node."""
        if now < self._held_off_until or self._raft.status().transferee != NONE:
            return
        target = self._better_off()
        if target is None or not self._raft.transfer_leader(target):
            return
        self.hold_off(now)
        text = "leadership is offered to a node that is better off"
        rung, is_late, _ = self._strains.own
        to = self._roster.name_of(target)
        event(_log, logging.WARNING, text, to=to, own_rung=rung, own_loop_late=is_late)
        self._wake()

    def _better_off(self) -> int | None:
        """Of the followers on rung 0 that have it easier than this node the best; None: none."""
        commit, strains = self._raft.commit, self._strains
        able = [
            (strain, -match, peer)
            for peer, match in self._electable().items()
            if match >= commit
            and (strain := strains.of(peer)).rung == 0
            and strain.may_lead
            and strain < strains.own
        ]
        return min(able)[2] if able else None
