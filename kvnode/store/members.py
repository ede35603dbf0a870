"""The registry of members: who takes part, in which role, and who never may again.

It changes only by the entries of `kvnode.store.changes`, one at a time, so that it is the same on
every node at an equal index. A change that does not fit what is there does nothing; the sentence
that says why is its result, on every node alike.

Voters decide, learners only follow. A single step adds or removes at most one voter, so majorities
before and after it share a member (Ongaro's thesis, §4.1). Exchanging one voter for another is two
such steps, and in between the cluster would be weaker than before; so it is *joint* instead
(§4.3): for a while majorities of both the old half and the new half are needed.

The id of a member that went stays as a tombstone. A machine that comes back gets a fresh id, since
an old one would vouch for entries that its disk no longer has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgpack

from kvnode.limits import CLUSTER_MEMBERS_MAX, REMOVED_IDS_MAX
from kvnode.store.changes import (
    Add,
    Force,
    Found,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
)
from kvnode.store.ops import BASE_LEVEL, MEMBERS_LEVEL, check_level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kvnode.store.changes import Change


class Role(IntEnum):
    """What a member does. Permanent numbers, since the meta row holds them."""

    VOTER = 1
    LEARNER = 2
    LEAVING = 3
    """A voter of the old half only, while a joint change is under way."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster.

    Attributes:
        node_id: unsigned 64 bits, above 0; never that of a member that went.
        name: what operators call it; unique, but for a member and the one that replaces it.
        peer_address: where peers reach it, "" while unknown.
        client_address: where clients do, "" while unknown.
        storage_id: of the data directory that it is bound to; 0 until its first join.
        role: what it does.
        promote: a learner that becomes a voter by itself once it has caught up.
        replaces: id of the member whose place it is to take, 0 for none.
    """

    node_id: int
    name: str
    peer_address: str = ""
    client_address: str = ""
    storage_id: int = 0
    role: Role = Role.VOTER
    promote: bool = True
    replaces: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.node_id:016x})"

    def to_row(self) -> list[Any]:
        """Plain values, for the meta row, snapshots and the state hash."""
        addresses = [self.peer_address, self.client_address]
        return [
            *(self.node_id, self.name, *addresses, self.storage_id),
            *(int(self.role), int(self.promote), self.replaces),
        ]

    @classmethod
    def from_row(cls, row: list[Any]) -> Member:
        """What `to_row` wrote."""
        node_id, name, peer, client, storage_id, role, promote, replaces = row
        return cls(node_id, name, peer, client, storage_id, Role(role), promote == 1, replaces)


class _Refused(Exception):
    """A change does not fit; its text is the sentence that says why."""


class Members:
    """The registry; empty until the cluster founds it.

    Attributes:
        index: log index of the newest change that took effect; 0 while there is no registry.
        level: the cluster's feature level.
        cluster_id: "" unless `Force` changed it.
        by_id: members in the order of their ids; read-only, and never changed in place.
        outgoing: voters of the old half while a joint change is under way, else none.
        removed: ids of members that went, the oldest first; at most `REMOVED_IDS_MAX`.
    """

    __slots__ = ("_packed", "by_id", "cluster_id", "index", "level", "outgoing", "removed")

    def __init__(self) -> None:
        self.index = 0
        self.level = BASE_LEVEL
        self.cluster_id = ""
        self.by_id: Mapping[int, Member] = MappingProxyType({})
        self.outgoing: tuple[int, ...] = ()
        self.removed: tuple[int, ...] = ()
        self._packed: bytes | None = None

    @property
    def is_founded(self) -> bool:
        """There is a registry: a cluster without one has the members of its bootstrapping."""
        return self.index > 0

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of the voters, ascending; of the new half while a joint change is under way."""
        return self._with(Role.VOTER)

    @property
    def learners(self) -> tuple[int, ...]:
        """Ids of the learners, ascending."""
        return self._with(Role.LEARNER)

    @property
    def is_joint(self) -> bool:
        """A joint change is under way: majorities of both halves are needed."""
        return bool(self.outgoing)

    def named(self, name: str) -> Member | None:
        """The member of this name; of two, the one that takes the other's place."""
        found = [member for member in self.by_id.values() if member.name == name]
        replaced = [member.replaces for member in found]
        return next((one for one in found if one.node_id not in replaced), None)

    def admits(self, node_id: int, storage_id: int) -> bool:
        """Whether a node may register a session from this data directory."""
        if not self.is_founded:
            return True
        member = self.by_id.get(node_id)
        return member is not None and member.storage_id in (0, storage_id)

    def bind(self, node_id: int, storage_id: int) -> None:
        """A node came from this data directory: from now on it comes from no other."""
        member = self.by_id.get(node_id)
        if member is not None and not member.storage_id:
            self._put(replace(member, storage_id=storage_id))

    # --- changes --------------------------------------------------------------------------------

    def apply(self, index: int, change: Change) -> str | None:
        """Make the change of the entry at `index`, or refuse it and leave everything as it is.

        Returns:
            why it was refused; None if it took effect.
        """
        try:
            self._take(change)
        except _Refused as refusal:
            return str(refusal)
        self.index = index
        self._packed = None
        return None

    def _take(self, change: Change) -> None:
        if not self.is_founded and not isinstance(change, Found):
            raise _Refused("the cluster has no registry of members yet")
        match change:
            case Found():
                self._found(change)
            case Add():
                self._add(change)
            case Promote():
                self._promote(change)
            case Remove():
                self._remove(change)
            case Replace():
                self._replace(change)
            case LeaveJoint():
                self._leave_joint()
            case Update():
                self._update(change)
            case Force():
                self._force(change)
            case Raise():
                self._raise(change)

    def _found(self, change: Found) -> None:
        if self.is_founded:
            raise _Refused("the cluster has its registry of members already")
        if change.level < MEMBERS_LEVEL:
            raise _Refused(f"a registry of members needs feature level {MEMBERS_LEVEL}")
        if len(change.members) > CLUSTER_MEMBERS_MAX:
            raise _Refused(_too_many())
        names = [founder.name for founder in change.members]
        ids = [founder.node_id for founder in change.members]
        for founder in change.members:
            if names.count(founder.name) > 1:
                raise _Refused(f"two members are called {founder.name}")
            if ids.count(founder.node_id) > 1:
                raise _Refused(f"two members have the id {founder.node_id:016x}")
        self.level = change.level
        self._keep(
            Member(one.node_id, one.name, one.peer_address, one.client_address, one.storage_id)
            for one in change.members
        )

    def _add(self, change: Add) -> None:
        self._refuse_while_joint()
        node_id, name = change.node_id, change.name
        if node_id in self.by_id:
            raise _Refused(f"{self.by_id[node_id]} is a member already")
        if node_id in self.removed:
            raise _Refused(f"{name} ({node_id:016x}) was removed, and ids are never reused")
        if change.replaces:
            self._member(change.replaces)
        for member in self.by_id.values():
            if member.name == name and member.node_id != change.replaces:
                raise _Refused(f"the name {name} belongs to {member}")
            if change.replaces and member.replaces == change.replaces:
                raise _Refused(f"{self.by_id[change.replaces]} is being replaced by {member}")
        if len(self.by_id) >= CLUSTER_MEMBERS_MAX:
            raise _Refused(_too_many())
        addresses = change.peer_address, change.client_address
        self._put(
            Member(
                *(node_id, name, *addresses, change.storage_id),
                *(Role.LEARNER, change.promote, change.replaces),
            )
        )

    def _promote(self, change: Promote) -> None:
        self._refuse_while_joint()
        self._put(replace(self._learner(change.node_id), role=Role.VOTER))

    def _remove(self, change: Remove) -> None:
        self._refuse_while_joint()
        member = self._member(change.node_id)
        if self.voters == (member.node_id,):
            raise _Refused(f"{member} is the last voter")
        self._bury([member.node_id])

    def _replace(self, change: Replace) -> None:
        self._refuse_while_joint()
        old, new = self._member(change.old), self._learner(change.new)
        if old is new:
            raise _Refused(f"{new} cannot replace itself")
        if new.replaces not in (0, old.node_id):
            raise _Refused(f"{new} was added to replace {self.by_id[new.replaces]}, not {old}")
        if old.role is Role.VOTER:
            self.outgoing = self.voters
            self._put(replace(old, role=Role.LEAVING))
        else:
            self._bury([old.node_id])
        self._put(replace(self.by_id[new.node_id], role=Role.VOTER))

    def _leave_joint(self) -> None:
        if not self.is_joint:
            raise _Refused("no joint change is under way")
        self.outgoing = ()
        self._bury(list(self._with(Role.LEAVING)))

    def _update(self, change: Update) -> None:
        member = self._member(change.node_id)
        storage_id = change.storage_id or member.storage_id
        if member.storage_id not in (0, storage_id):
            raise _Refused(f"{member} is bound to another data directory")
        self._put(
            replace(
                member,
                peer_address=change.peer_address,
                client_address=change.client_address,
                storage_id=storage_id,
            )
        )

    def _force(self, change: Force) -> None:
        member = self._member(change.node_id)
        if change.cluster_id == self.cluster_id:
            raise _Refused(f"the cluster has the id {change.cluster_id} already")
        self.cluster_id = change.cluster_id
        self.outgoing = ()
        self._bury([other for other in self.by_id if other != member.node_id])
        self._put(replace(member, role=Role.VOTER, replaces=0))

    def _raise(self, change: Raise) -> None:
        if change.level <= self.level:
            raise _Refused(f"the cluster is at feature level {self.level} already")
        self.level = change.level

    # --- what changes are made of ---------------------------------------------------------------

    def _refuse_while_joint(self) -> None:
        if self.is_joint:
            (leaving,) = self._with(Role.LEAVING)
            raise _Refused(f"a joint change is under way: {self.by_id[leaving]} is leaving")

    def _member(self, node_id: int) -> Member:
        member = self.by_id.get(node_id)
        if member is None:
            raise _Refused(f"no member has the id {node_id:016x}")
        return member

    def _learner(self, node_id: int) -> Member:
        member = self._member(node_id)
        if member.role is not Role.LEARNER:
            raise _Refused(f"{member} is not a learner")
        return member

    def _with(self, role: Role) -> tuple[int, ...]:
        return tuple([one.node_id for one in self.by_id.values() if one.role is role])

    def _put(self, member: Member) -> None:
        """Add a member or put another version in its place."""
        self._keep({**self.by_id, member.node_id: member}.values())

    def _bury(self, node_ids: list[int]) -> None:
        """Members go for good; who was to replace them replaces nobody any more."""
        self.removed = (self.removed + tuple(node_ids))[-REMOVED_IDS_MAX:]
        self._keep(
            replace(member, replaces=0) if member.replaces in node_ids else member
            for member in self.by_id.values()
            if member.node_id not in node_ids
        )

    def _keep(self, members: Iterable[Member]) -> None:
        ordered = sorted(members, key=lambda member: member.node_id)
        self.by_id = MappingProxyType({member.node_id: member for member in ordered})
        self._packed = None

    # --- what is kept of it ---------------------------------------------------------------------

    def pack(self) -> bytes:
        """The whole registry as bytes, for the meta row, snapshots and the state hash.

        Packed anew only after a change: the state hash asks for it at every entry.
        """
        if self._packed is None:
            members = [member.to_row() for member in self.by_id.values()]
            row = [self.level, self.index, self.cluster_id, members, self.outgoing, self.removed]
            self._packed = msgpack.packb(row)
        return self._packed

    @classmethod
    def unpack(cls, packed: bytes) -> Members:
        """What `pack` wrote.

        Raises:
            ConfigurationError: of a higher feature level than this program knows.
        """
        level, *fields = msgpack.unpackb(packed)
        check_level(level)  # whatever follows may have another form
        members = cls()
        members.level = level
        members.index, members.cluster_id, rows, outgoing, removed = fields
        members._keep([Member.from_row(row) for row in rows])
        members.outgoing, members.removed = tuple(outgoing), tuple(removed)
        return members


def _too_many() -> str:
    return f"a cluster has at most {CLUSTER_MEMBERS_MAX} members"
