"""What peers say to this node, and which of them are believed.

`Transport` brings it, with `Peers` as its receiver: who may connect is decided here, and each
message goes to the part that it is for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from kvnode.errors import ConfigurationError
from kvnode.node.frames import MalformedFrame
from kvnode.node.hello import Hello, JoinAnswer, JoinRequest, Refusal, RefusalReason, Welcome
from kvnode.node.wire import (
    AnyMessage,
    ChangeDecided,
    ChangeForward,
    CoverageAnswer,
    CoverageQuery,
    Fitness,
    Forward,
    ForwardRejected,
    Register,
    SnapshotAck,
    SnapshotChunk,
    SnapshotOffer,
    Strained,
)
from kvnode.obs.log import event
from kvnode.store.batch import MalformedEntry
from kvnode.store.ops import LEVEL
from raft.types import NONE

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from raft.messages import Message

_log = logging.getLogger("kvnode.node")

REGISTRATION = 0
"""`ForwardRejected` carries this instead of a sequence when a `Register` was not proposed."""


class Peers:
    """A `kvnode.node.transport.Receiver`.

    Args:
        bind_peer: remembers a peer's storage id and incarnation, durably; returns why it is
            refused, or None.
    """

    def __init__(self, node: Node, bind_peer: Callable[[int, int, int], Refusal | None]) -> None:
        self._node = node
        self._bind_peer = bind_peer
        self._takers: dict[type, Callable[[int, Any], None]] = {
            Forward: self._on_forward,
            Register: self._on_register,
            ForwardRejected: lambda _, __: node.proposer.rejected(),
            SnapshotOffer: self._on_snapshot,
            SnapshotChunk: self._on_snapshot,
            SnapshotAck: self._on_snapshot,
            CoverageQuery: lambda sender, _: node.coverage.asked(sender),
            CoverageAnswer: lambda _, message: node.coverage.answered(message),
            ChangeForward: node.changes.on_forward,
            ChangeDecided: lambda _, message: node.changes.on_decided(message),
            Strained: self._on_strained,
            Fitness: self._on_strained,
        }
        """By type, messages of nodes; all others are Raft's."""

    def on_messages(self, sender: int, stamp_ms: int, messages: list[AnyMessage]) -> None:
        """Feed a frame to Raft and to the leader's duties."""
        node = self._node
        if node.is_stopped:
            return
        node.changes.heard(sender)
        node.pulse.before_reads()
        for message in messages:
            take = self._takers.get(type(message))
            if take is not None:
                take(sender, message)
            elif not node.is_frozen:
                node.raft.step(sender, cast("Message", message))
        if stamp_ms and sender == node.raft.leader:
            node.clock.follow(stamp_ms)
        node.pulse.wake()

    def _on_snapshot(
        self, sender: int, message: SnapshotOffer | SnapshotChunk | SnapshotAck
    ) -> None:
        self._node.snapshots.on_message(sender, message)

    def _on_strained(self, sender: int, message: Strained | Fitness) -> None:
        self._node.strains.told(sender, message)
        self._node.succession.look()

    def _on_forward(self, sender: int, batch: Forward) -> None:
        node = self._node
        try:
            accepted = node.duties.propose_batch(
                sender, batch.incarnation, batch.sequence, batch.operations
            )
        except MalformedEntry as error:
            raise MalformedFrame(f"a forwarded batch is no list of operations: {error}") from error
        if not accepted:
            node.transport.send(sender, ForwardRejected(batch.sequence))

    def _on_register(self, sender: int, request: Register) -> None:
        node = self._node
        accepted = node.duties.leads and node.duties.propose_registration(
            sender, request.storage_id, request.nonce
        )
        if not accepted:
            node.transport.send(sender, ForwardRejected(REGISTRATION))

    def check_welcome(self, peer: int, welcome: Welcome) -> Refusal | None:
        """Believe an acceptor only if its storage is the one that its name is bound to."""
        refusal = self._bind_peer(peer, welcome.storage_id, welcome.incarnation)
        if refusal is None:
            self._node.roster.welcomed(peer, welcome)
        return refusal

    def on_connected(self, peer: int, *, recovering: bool) -> None:
        """The way to a peer is open (again)."""
        node = self._node
        node.raft.peer_connected(peer, recovering=recovering)
        node.strains.connected(peer)
        node.proposer.resume()
        node.reads.resume()
        node.pulse.wake()

    def on_unreachable(self, peer: int) -> None:
        """Messages to a peer were dropped."""
        self._node.raft.report_unreachable(peer)

    def on_refused(self, peer: int, refusal: Refusal) -> None:
        """A peer will not talk to this node: for some reasons that is the end."""
        node = self._node
        event(
            _log,
            logging.WARNING,
            "refused by peer",
            peer=node.roster.name_of(peer),
            why=refusal.text,
        )
        if not refusal.reason.is_final:
            return
        if node.membership.is_leaving:
            node.membership.leave()
        else:
            node.fail(ConfigurationError(refusal.text))

    def on_malformed(self, peer: int | None, reason: str) -> None:
        """Somebody spoke nonsense on the peer port and was dropped."""
        name = "unknown" if peer is None else self._node.roster.name_of(peer)
        event(_log, logging.WARNING, "malformed peer frame", peer=name, why=reason)

    def check_hello(self, hello: Hello) -> Refusal | None:
        """Believe a dialler only if cluster, receiver and storage are what they must be."""
        node = self._node
        own = node.identity
        if hello.cluster_id != own.cluster_id:
            return Refusal(
                RefusalReason.WRONG_CLUSTER,
                f"this is cluster {own.cluster_id}, not {hello.cluster_id}",
            )
        if hello.sender == own.node_id:
            # A member that left had this address. Nobody learns from itself that it was removed.
            return Refusal(RefusalReason.WRONG_RECEIVER, f"this is node {own.name!r} itself")
        refusal = node.roster.check_removed(hello.sender)
        if refusal is not None:
            # Before the receiver: all that it knew may have left, and others have their addresses.
            return refusal
        if hello.receiver != own.node_id:
            return Refusal(RefusalReason.WRONG_RECEIVER, f"this is node {own.name!r}")
        refusal = node.roster.check(hello)
        if refusal is not None:
            return refusal
        if hello.lease_reads is not node.lease_reads:
            text = "--lease-reads must be given to all members or to none"
            return Refusal(RefusalReason.OTHER_LEASES, text)
        refusal = self._bind_peer(hello.sender, hello.storage_id, hello.incarnation)
        if refusal is None:
            node.changes.heard(hello.sender)
            node.strains.forget(hello.sender)
            node.membership.met(hello)
        return refusal

    def hello(self) -> Hello:
        """Who this node is now; to nobody in particular."""
        node, own = self._node, self._node.identity
        return Hello(
            own.cluster_id,
            own.node_id,
            NONE,
            own.storage_id,
            own.incarnation,
            own.version,
            own.client_address,
            node.raft.recovering,
            node.lease_reads,
            LEVEL,
            node.roster.configured_at,
            own.peer_address,
        )

    def on_join(
        self, request: JoinRequest, answer: Callable[[JoinAnswer], None]
    ) -> Callable[[], None]:
        """Somebody wants to become a member."""
        return self._node.changes.on_join(request, answer)

    def clock_ms(self) -> int:
        """The stamp for an outgoing frame."""
        return self._node.duties.told_ms()
