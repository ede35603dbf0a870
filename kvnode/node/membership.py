"""Who the members are, and how consensus among them looks from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvnode.service import MemberStatus, NodeStatus
from raft.node_state import Status
from raft.raft import Raft
from raft.types import Role


@dataclass(frozen=True, slots=True)
class Member:
    """A configured member of the cluster."""

    node_id: int
    name: str
    host: str
    port: int

    @property
    def peer_address(self) -> str:
        """Where its peers reach it, as HOST:PORT."""
        return f"{self.host}:{self.port}"


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


def describe(
    raft: Raft,
    applied: int,
    identity: NodeIdentity,
    members: Mapping[int, Member],
    client_addresses: Mapping[int, str],
) -> NodeStatus:
    """What INFO and /status tell of consensus."""
    leader = members.get(raft.leader)
    status = raft.status()
    return NodeStatus(
        node=identity.name,
        node_id=identity.node_id,
        cluster_id=identity.cluster_id,
        role=raft.role.value,
        leader=leader.name if leader else None,
        leader_client_address=client_addresses.get(raft.leader),
        term=raft.term,
        commit=raft.commit,
        applied=applied,
        last_index=raft.last_index,
        members=tuple(
            _describe_member(
                raft, status, identity, member, client_addresses.get(member.node_id, "")
            )
            for member in sorted(members.values(), key=lambda member: member.name)
        ),
        recovering=raft.recovering,
        heals_at=status.recovers_at or None,
        voters_missing=status.voters_missing,
    )


def _describe_member(
    raft: Raft, status: Status, identity: NodeIdentity, member: Member, client_address: str
) -> MemberStatus:
    progress = status.progress if raft.role is Role.LEADER else {}
    match = progress[member.node_id].match if member.node_id in progress else None
    if member.node_id == identity.node_id:
        role = raft.role.value
    else:
        role = "leader" if member.node_id == raft.leader else "follower"
    return MemberStatus(
        node_id=member.node_id,
        name=member.name,
        peer_address=member.peer_address,
        client_address=client_address,
        role=role,
        match=match,
        lag=None if match is None else raft.last_index - match,
        recovering=member.node_id in status.recovering,
    )
