"""What a node does when the membership changes, and when a peer introduces itself.

A change is applied by the state machine like any entry. Then, in this order: Raft is told who takes
part, before it is told that the entry was applied; the node dials who came and ends the connections
to who went, a moment later, so that they can still be told; the list goes into the data directory,
as a hint for the next start. A node that was itself removed ends when a member refuses it for that:
until then its word may be needed by those who do not know yet that the change is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from kvnode.address import parse_address
from kvnode.errors import ConfigurationError, FatalError
from kvnode.limits import LEAVE_SECONDS, LEAVE_SECONDS_MAX
from kvnode.node.hello import Hello, Refusal
from kvnode.obs.log import event
from kvnode.store.members import Member
from kvnode.store.state_machine import Applied

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from kvnode.node.status import NodeIdentity

_log = logging.getLogger("kvnode.node")


class Acquaintances(Protocol):
    """The data directory, as far as it remembers others."""

    def bind_peer(self, peer: int, storage_id: int, incarnation: int) -> Refusal | None:
        """Remember a peer's directory, durably; returns why the peer is refused, or None."""

    def note_members(self, index: int, members: Mapping[int, Member]) -> None:
        """Remember the membership that was applied, durably."""


class Membership:
    """See the module's docstring.

    Args:
        node: whose membership it is.
        directory: where it is remembered.
    """

    def __init__(self, node: Node, directory: Acquaintances) -> None:
        self._node = node
        self._directory = directory
        self.is_leaving = False
        """This node was removed and ends in a moment."""
        self._recovering: frozenset[int] = frozenset()

    def start(self) -> None:
        """Get to know the members that the disk knows of; leave if this node is none any more."""
        self._meet()
        self._leave_if_removed()

    def on_configured(self, index: int, applied: Applied) -> None:
        """A change was applied, or did not fit: Raft must know either way."""
        node = self._node
        assert applied.results is not None
        node.raft.apply_conf_state(node.roster.conf_state())
        if applied.results[0] is None:
            self.on_changed()
        node.changes.on_applied(index, applied.results[0])
        node.pulse.wake()

    def on_changed(self) -> None:
        """Meet who came, forget who went, and leave if that is this node."""
        node, roster = self._node, self._node.roster
        node.proposer.set_level(roster.level)
        for peer in roster.configured():
            node.changes.forget(peer)
        self._meet()
        node.loop.call_later(LEAVE_SECONDS, self._part)
        self._directory.note_members(roster.configured_at, roster.members)
        names = " ".join(f"{m.name}:{m.role.name.lower()}" for m in roster.members.values())
        event(_log, logging.INFO, "members", index=roster.configured_at, now=names)
        self._leave_if_removed()

    def _leave_if_removed(self) -> None:
        """Not at once, not after a restart either: the others may not know yet, and have to ask."""
        node = self._node
        if node.roster.was_removed and not self.is_leaving:
            self.is_leaving = True
            node.loop.call_later(LEAVE_SECONDS_MAX, self.leave)

    def leave(self) -> None:
        """End, now that a member knows that this is none any more, or that nobody tells."""
        self._node.fail(_removed(self._node.identity))

    def met(self, hello: Hello) -> None:
        """A peer introduced itself: what it said of itself counts from now on."""
        node = self._node
        node.roster.greeted(hello)
        if hello.sender in node.roster.strangers:
            node.raft.introduce(hello.sender)
        self._meet()
        # Before the first message of this start: it may take back what the last one said.
        node.raft.peer_connected(hello.sender, recovering=hello.recovering)
        node.pulse.wake()

    def sweep(self) -> None:
        """Ten times a second: say who began to recover, or has all again."""
        node = self._node
        status = node.raft.status()
        recovering = frozenset(status.recovering) - {node.identity.node_id}
        for peer in sorted(recovering - self._recovering):
            text = "a member is recovering: it counts in no quorum"
            missing = status.voters_missing
            name = node.roster.name_of(peer)
            event(_log, logging.WARNING, text, member=name, voters_missing=missing)
        for peer in sorted(self._recovering - recovering):
            event(_log, logging.WARNING, "a member has recovered", member=node.roster.name_of(peer))
        self._recovering = recovering

    def _meet(self) -> None:
        """Dial whoever is a member, or is believed to be one."""
        for peer, text in self._node.roster.peer_addresses().items():
            try:
                address = parse_address(text)
            except ValueError:
                continue  # who gave it was told; a member without an address is dialled by nobody
            self._node.transport.add_peer(peer, address.host, address.port)

    def _part(self) -> None:
        """Dial nobody any more who is no member."""
        transport, addresses = self._node.transport, self._node.roster.peer_addresses()
        for peer in transport.peers:
            if peer not in addresses:
                transport.remove_peer(peer)


def _removed(identity: NodeIdentity) -> FatalError:
    return ConfigurationError(
        f"node {identity.name!r} ({identity.node_id:016x}) was removed from the cluster, and no id "
        f"is used again; to bring the machine back, let it join with an empty data directory"
    )
