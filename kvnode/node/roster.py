"""Who the members are, as this node knows it, and where they are to be found.

The membership is part of the replicated state (`kvnode.store.members`). Before its first change it
is what `--cluster` bootstrapped: the *founders*; a node that joins has none, and learns the members
from the log.

A node that is behind may not know a member yet that already leads. So a node that has applied a
newer membership than this one is believed to be a member although nothing here says so, until
what is applied here knows better: a *stranger*. Its hello says where it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvnode.node.hello import Hello, Refusal, RefusalReason, Welcome
from kvnode.store.members import Member, Members, Role
from kvnode.store.state_machine import StateMachine
from raft.types import ConfState


def founder(node_id: int, name: str, peer_address: str) -> Member:
    """A member that `--cluster` names."""
    return Member(node_id, name, peer_address, "", 0, Role.VOTER, promote=False, replaces=0)


def conf_state_of(registry: Members | None, founders: Mapping[int, Member]) -> ConfState:
    """What Raft must know of the membership."""
    if registry is None:
        return ConfState(tuple(sorted(founders)))
    return ConfState(registry.voters, registry.learners, registry.outgoing)


class Roster:
    """See the module's docstring.

    Args:
        own: this node's id.
        founders: the members that `--cluster` bootstrapped, by id; none on a node that joined.
        machine: holds the membership from its first change on.
    """

    def __init__(self, own: int, founders: Mapping[int, Member], machine: StateMachine) -> None:
        self._own = own
        self._founders = dict(sorted(founders.items()))
        self._machine = machine
        self.strangers: dict[int, str] = {}
        """Peer addresses, by id."""
        self.levels: dict[int, int] = {}
        """The newest feature level that each peer knows, as far as it has told."""
        self._client_addresses: dict[int, str] = {}
        self._peer_addresses: dict[int, str] = {}

    # --- who --------------------------------------------------------------------------------------

    @property
    def registry(self) -> Members | None:
        """The replicated membership; None before its first change."""
        return self._machine.members

    @property
    def members(self) -> Mapping[int, Member]:
        """By id, sorted."""
        registry = self.registry
        return self._founders if registry is None else registry.by_id

    @property
    def is_alone(self) -> bool:
        """Nobody else is a member."""
        return list(self.members) == [self._own]

    @property
    def level(self) -> int:
        """The cluster's feature level."""
        return self._machine.level

    @property
    def configured_at(self) -> int:
        """Index of the newest change that was applied here; 0 before the first."""
        registry = self.registry
        return 0 if registry is None else registry.index

    @property
    def was_removed(self) -> bool:
        """This node is no member any more."""
        return self.has_removed(self._own)

    def has_removed(self, node_id: int) -> bool:
        """Whether a node was a member once."""
        registry = self.registry
        return registry is not None and node_id in registry.removed

    def conf_state(self) -> ConfState:
        """What Raft must know of the membership."""
        return conf_state_of(self.registry, self._founders)

    def name_of(self, node_id: int) -> str:
        """A member's name; of a stranger the id."""
        member = self.members.get(node_id)
        return member.name if member else f"{node_id:016x}"

    # --- where ------------------------------------------------------------------------------------

    def peer_addresses(self) -> dict[int, str]:
        """Where the others are: what they said of themselves last, else what the registry says."""
        addresses = {
            member.node_id: self._peer_addresses.get(member.node_id) or member.peer_address
            for member in self.members.values()
            if member.node_id != self._own
        }
        return {node_id: address for node_id, address in addresses.items() if address} | {
            node_id: address
            for node_id, address in self.strangers.items()
            if node_id not in addresses
        }

    def told_peer_address(self, node_id: int) -> str:
        """What a peer said of itself; "" for nothing."""
        return self._peer_addresses.get(node_id, "")

    def client_address(self, node_id: int) -> str:
        """Where clients reach a node; "" while that is unknown."""
        told = self._client_addresses.get(node_id)
        member = self.members.get(node_id)
        return told or (member.client_address if member else "")

    # --- what peers say of themselves -------------------------------------------------------------

    def check_removed(self, sender: int) -> Refusal | None:
        """Whether who dials was a member once: no matter whom it looks for, it must be told."""
        if not self.has_removed(sender):
            return None
        text = f"node {sender:016x} was removed from the cluster, and no id is used again"
        return Refusal(RefusalReason.REMOVED, text)

    def check(self, hello: Hello) -> Refusal | None:
        """Whether who dials has a place in the membership."""
        sender = hello.sender
        member = self.members.get(sender)
        if member is None and hello.configured_at <= self.configured_at:
            return Refusal(RefusalReason.UNKNOWN_SENDER, f"node {sender} is no member")
        if hello.level < self._machine.level:
            text = (
                f"the cluster is at feature level {self._machine.level}, and {hello.version} knows "
                f"{hello.level}: use a newer program"
            )
            return Refusal(RefusalReason.TOO_OLD, text)
        if member is not None and member.storage_id not in (0, hello.storage_id):
            text = (
                f"{member.name} has another data directory: what was wiped must join as a new "
                f"member (kvnode member replace)"
            )
            return Refusal(RefusalReason.STORAGE_CHANGED, text)
        return None

    def greeted(self, hello: Hello) -> None:
        """A peer was believed: remember what it said of itself."""
        sender = hello.sender
        self.levels[sender] = hello.level
        self._client_addresses[sender] = hello.client_address
        if hello.peer_address:
            self._peer_addresses[sender] = hello.peer_address
        if sender not in self.members:
            self.strangers[sender] = hello.peer_address

    def welcomed(self, peer: int, welcome: Welcome) -> None:
        """A peer accepted this node."""
        self.levels[peer] = welcome.level
        self._client_addresses[peer] = welcome.client_address

    def configured(self) -> list[int]:
        """The membership changed: forget who is not in it; returns who they are."""
        members = self.members
        for node_id in list(self.strangers):
            if node_id in members or self.has_removed(node_id):
                del self.strangers[node_id]
        known = {*self.levels, *self._peer_addresses, *self._client_addresses}
        gone = [node_id for node_id in sorted(known) if self.has_removed(node_id)]
        for node_id in gone:
            self.levels.pop(node_id, None)
            self._peer_addresses.pop(node_id, None)
            self._client_addresses.pop(node_id, None)
        return gone
