"""The way of this node's batches to whoever leads: into the own log, or to another node.

What comes of it is heard elsewhere: `kvnode.node.outcomes` of what was applied, `kvnode.node.peers`
of what a leader could not take.
"""

from __future__ import annotations

from kvnode.node.leader import LeaderDuties
from kvnode.node.status import NodeIdentity
from kvnode.node.transport import Transport
from kvnode.node.wire import Forward, Register
from raft.raft import Raft
from raft.types import NONE


class LeaderChannel:
    """A `kvnode.node.proposals.Channel`."""

    def __init__(
        self, identity: NodeIdentity, raft: Raft, duties: LeaderDuties, transport: Transport
    ) -> None:
        self._identity = identity
        self._raft = raft
        self._duties = duties
        self._transport = transport

    def send_batch(self, incarnation: int, sequence: int, operations: bytes) -> bool:
        """Hand a batch of this node to whoever leads."""
        duties = self._duties
        if duties.leads:
            own = self._identity.node_id
            return duties.propose_batch(own, incarnation, sequence, operations)
        return self._send(Forward(incarnation, sequence, operations))

    def send_registration(self, nonce: int) -> bool:
        """Hand this node's registration to whoever leads."""
        own, duties = self._identity, self._duties
        if duties.leads:
            return duties.propose_registration(own.node_id, own.storage_id, nonce)
        return self._send(Register(own.storage_id, nonce))

    def _send(self, message: Forward | Register) -> bool:
        leader = self._raft.leader
        if leader in (NONE, self._identity.node_id) or not self._transport.is_connected(leader):
            return False
        self._transport.send(leader, message)
        return True
