"""Who this node is, and how consensus among the members looks from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvnode.node.roster import Roster
from kvnode.node.strain import CALM, Strain
from kvnode.service import MemberStatus, NodeStatus
from kvnode.store.members import Member, Role
from kvnode.store.ops import LEVEL
from raft import types as raft_types
from raft.node_state import Status
from raft.raft import Raft


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this node is; see `kvnode.directory` for where it comes from."""

    node_id: int
    name: str
    cluster_id: str
    storage_id: int
    incarnation: int
    version: str
    client_address: str
    peer_address: str = ""
    origin: str = ""
    """The id that the cluster had when its log began."""


@dataclass(frozen=True, slots=True)
class Contact:
    """What this node notices of a peer: whether it is connected, and how long ago it was heard."""

    is_connected: bool
    heard_ms: int | None
    strain: Strain = CALM


def describe(
    raft: Raft,
    applied: int,
    identity: NodeIdentity,
    roster: Roster,
    strain: Strain,
    contact: Callable[[int], Contact],
) -> NodeStatus:
    """What INFO and /status tell of consensus."""
    leader = roster.members.get(raft.leader)
    status = raft.status()
    return NodeStatus(
        node=identity.name,
        node_id=identity.node_id,
        cluster_id=identity.cluster_id,
        role=_own_role(raft, roster),
        leader=leader.name if leader else None,
        leader_client_address=roster.client_address(raft.leader) or None,
        term=raft.term,
        commit=raft.commit,
        applied=applied,
        last_index=raft.last_index,
        members=tuple(
            _describe_member(raft, status, identity, roster, member, strain, contact)
            for member in sorted(roster.members.values(), key=lambda member: member.name)
        ),
        recovering=raft.recovering,
        heals_at=status.recovers_at or None,
        voters_missing=status.voters_missing,
        level=roster.level,
    )


def _own_role(raft: Raft, roster: Roster) -> str:
    own = roster.members.get(raft.node_id)
    if own is not None and own.role is not Role.LEARNER:
        return raft.role.value
    return "learner"


def _describe_member(
    raft: Raft,
    status: Status,
    identity: NodeIdentity,
    roster: Roster,
    member: Member,
    own_strain: Strain,
    contact: Callable[[int], Contact],
) -> MemberStatus:
    progress = status.progress if raft.role is raft_types.Role.LEADER else {}
    node_id = member.node_id
    match = progress[node_id].match if node_id in progress else None
    is_self = node_id == identity.node_id
    seen = None if is_self else contact(node_id)
    strain = seen.strain if seen else own_strain
    return MemberStatus(
        node_id=node_id,
        name=member.name,
        peer_address=member.peer_address,
        client_address=identity.client_address if is_self else roster.client_address(node_id),
        role=_role_of(raft, member, is_self=is_self),
        match=match,
        lag=None if match is None else raft.last_index - match,
        recovering=node_id in status.recovering,
        level=LEVEL if is_self else roster.levels.get(node_id),
        connected=seen.is_connected if seen else None,
        heard_ms=seen.heard_ms if seen else None,
        rung=strain.rung,
        loop_late=strain.is_late,
        draining=strain.is_draining,
    )


def _role_of(raft: Raft, member: Member, *, is_self: bool) -> str:
    if member.node_id == raft.leader:
        return "leader"
    if member.role is Role.VOTER:
        return raft.role.value if is_self else "follower"
    return "learner" if member.role is Role.LEARNER else "leaving"
