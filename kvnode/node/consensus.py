"""What Raft decided, and which parts of the node it concerns.

A new leader starts its clock, its duties and its hold-offs. Who leads no more sends no snapshots
and decides no changes. With another leader, batches and read rounds under way are sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft.types import NONE, ReadState, Role, SoftState

if TYPE_CHECKING:
    from kvnode.node.node import Node


class Consensus:
    """Hears of it from `kvnode.node.driver`, before anything that follows from it happens."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._leader_term = (NONE, 0)
        self.leader_changes_seen = 0

    def on_soft_state(self, state: SoftState) -> None:
        """Role or leader changed."""
        node = self._node
        leader_term = (state.leader, node.raft.term)
        if state.role is not Role.LEADER:
            node.snapshots.leadership_lost()
            node.changes.leadership_lost()
        elif leader_term != self._leader_term:
            self._take_office()
        if state.leader != NONE and leader_term != self._leader_term:
            self._leader_term = leader_term
            self.leader_changes_seen += 1
            node.proposer.leader_changed()
            node.reads.leader_changed()
            node.pulse.wake()
        node.succession.leader_changed()

    def _take_office(self) -> None:
        node, now = self._node, self._node.loop.time()
        node.duties.take_office()
        node.changes.took_office()
        node.condition.disk_health.hold_off(now)
        node.succession.hold_off(now)

    def on_read_state(self, state: ReadState) -> None:
        """A read index was confirmed."""
        self._node.reads.confirmed(state.request_id, state.index)

    def on_snapshot_needed(self, peer: int) -> None:
        """A peer lacks entries that the log no longer holds."""
        self._node.snapshots.needed_by(peer)
