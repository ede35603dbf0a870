"""The vocabulary of the package: the field's standard terms as small immutable types.

Names follow the Raft paper (Ongaro and Ousterhout, 2014), Ongaro's thesis (2014) and etcd-io/raft.
Terms, indexes and node ids are unsigned 64-bit integers. Index 0 and term 0 stand for the place
before the first entry; node id 0 (`NONE`) stands for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from raft.messages import Message

NodeId: TypeAlias = int
"""Identity of a node: 1 to 2**64 - 1, never used again for another machine."""

NONE: NodeId = 0
"""Nobody: no leader known, no vote given."""

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1

ENTRY_OVERHEAD_BYTES = 160
"""What an `Entry` occupies in CPython besides its data: the tuple, two integers, the bytes header.

Charged wherever entries are bounded by bytes, so that a million empty entries are not free."""


class RaftError(Exception):
    """The root of the errors that the package raises on purpose."""


class NotLeader(RaftError):
    """Only a leader can do this; `leader` is who leads as far as this node knows, or `NONE`."""

    def __init__(self, leader: NodeId) -> None:
        super().__init__(f"not the leader; leader is {leader or 'unknown'}")
        self.leader = leader


class NoLeader(RaftError):
    """No leader is known at the moment; ask again after an election."""


class ProposalDropped(RaftError):
    """The proposal was definitely not appended; the text says why."""


class ReadDropped(RaftError):
    """Too many reads wait for a round; this one was not queued."""


class Role(Enum):
    """What a node is in its current term (paper, figure 4; PreVote: thesis, section 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryKind(IntEnum):
    """What an entry means to Raft itself. Its data is the state machine's, whatever the kind."""

    NORMAL = 0
    CONF_CHANGE = 1


# A field called `index` clashes with tuple.index in a NamedTuple class statement (says mypy); in a
# NamedTuple used as a base class it does not.
class Entry(NamedTuple("Entry", [("term", int), ("index", int), ("kind", int), ("data", bytes)])):
    """One entry of the replicated log. Empty data marks the no-op with which a leader begins."""

    __slots__ = ()


def memory_size(entries: Sequence[Entry]) -> int:
    """Return what `entries` occupy in memory, in bytes."""
    size = len(entries) * ENTRY_OVERHEAD_BYTES
    for entry in entries:
        size += len(entry[3])
    return size


class HardState(NamedTuple):
    """What must survive a crash (paper, figure 2: persistent state).

    `commit` is a hint: losing it costs nothing but time, so it causes no write by itself, but when
    a change of membership is committed.
    """

    term: int
    vote: NodeId
    commit: int


class SoftState(NamedTuple):
    """What need not survive a crash, but interests the rest of the node."""

    leader: NodeId
    role: Role


class ConfState(NamedTuple):
    """Who takes part. Only voters count in quorums; learners are replicated to.

    `outgoing`: while a change is joint, the voters of the old half. A majority of each half is
    needed then. Otherwise empty.
    """

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()


class ReadState(NamedTuple("ReadState", [("request_id", int), ("index", int)])):
    """The read `request_id` is linearizable once everything up to `index` is applied."""

    __slots__ = ()


class Storage(Protocol):
    """Read access to the durable log, for entries that memory no longer holds."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Return stable entries `low` to `high - 1`: at least one, then as many as fit.

        Only asked for indexes that were covered by an acknowledged `Persist` (or replayed at
        start), were not replaced since, and lie beyond what was compacted. Errors are the
        driver's own and pass through.
        """


@dataclass(slots=True)
class Persist:
    """What must become durable, in the order of `number`; then `messages` may leave.

    Attributes:
        number: acknowledged by `Raft.synced(number)`; counts up by one from 1.
        hard_state: set when term or vote changed, or a change of membership is to be applied.
        entries: appended to the log; the first may overwrite a suffix written earlier.
        messages: (to, message): promises that rest on the state above, or on an earlier Persist.
        recovering: set when the node began to recover, or is healed: the flag that must be durable
            with this Persist. None: as it was.
    """

    number: int
    hard_state: HardState | None
    entries: list[Entry]
    messages: list[tuple[NodeId, Message]]
    recovering: bool | None = None


@dataclass(slots=True)
class Ready:
    """One batch of work for the driver.

    Attributes:
        messages: (to, message): may leave at once; nothing in them rests on un-synced state.
        persist: what to make durable, if anything.
        read_states: reads that got their index.
        soft_state: the new leader and role, if either changed.
        snapshots: peers whose next entry the log has forgotten. Each is named once; nothing is
            sent to it until `Raft.snapshot_finished`, but heartbeats.
    """

    messages: list[tuple[NodeId, Message]]
    persist: Persist | None
    read_states: list[ReadState]
    soft_state: SoftState | None
    snapshots: list[NodeId] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of one node. Durations are in ticks; the driver decides how long a tick is.

    Attributes:
        node_id: this node; 1 to 2**64 - 1.
        heartbeat_ticks: between two heartbeats of a leader.
        election_ticks_min: shortest election timeout; also the span of leader stickiness and of
            CheckQuorum.
        election_ticks_max: longest election timeout.
        random_ticks: (low, high) to a uniformly random integer, both ends included.
        boot_id: unsigned 32 bits, different at every start of this node: the high half of round
            ids and of the request ids that the driver chooses.
        message_bytes_max: entries in one AppendEntries (a larger single entry still travels).
        inflight_messages_max: unacknowledged AppendEntries per follower.
        inflight_bytes_max: the same in bytes.
        uncommitted_bytes_max: proposals of one leader that are not committed yet.
        cache_bytes_max: newest entries kept in memory.
        pre_vote: ask before disturbing (thesis, section 9.6).
        check_quorum: a leader without contact to a quorum steps down, and a vote is refused while
            a leader is heard (thesis, sections 6.2 and 4.2.3).
        reads_waiting_max: reads of one leader that wait for a round.
        lease_reads: answer reads without a round for a while after one (`raft.lease`, which says
            what that trusts). Needs `check_quorum`, and must be the same on all members.
        lease_drift_ticks: by how much a lease is shorter than `election_ticks_min`.
        commit_notices: answer requests for votes with what is committed (`CommitNotice`) from the
            start; for groups whose membership has changed before. In any case a node does so once
            it has applied a change; until then others may not know the message.
    """

    node_id: NodeId
    heartbeat_ticks: int
    election_ticks_min: int
    election_ticks_max: int
    random_ticks: Callable[[int, int], int] = field(repr=False)
    boot_id: int
    message_bytes_max: int = 1024 * 1024
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 * 1024 * 1024
    uncommitted_bytes_max: int = 64 * 1024 * 1024
    cache_bytes_max: int = 64 * 1024 * 1024
    pre_vote: bool = True
    check_quorum: bool = True
    reads_waiting_max: int = 65_536
    lease_reads: bool = False
    lease_drift_ticks: int = 2
    commit_notices: bool = False

    def __post_init__(self) -> None:
        """Refuse nonsense with a `ValueError` that names the field and its value."""
        require(1 <= self.node_id <= U64_MAX, "node_id", self.node_id)
        require(0 <= self.boot_id <= U32_MAX, "boot_id", self.boot_id)
        require(self.heartbeat_ticks >= 1, "heartbeat_ticks", self.heartbeat_ticks)
        # A follower that times out before the next heartbeat is due can never have a leader.
        require(
            self.election_ticks_min > self.heartbeat_ticks,
            "election_ticks_min",
            self.election_ticks_min,
        )
        require(
            self.election_ticks_max >= self.election_ticks_min,
            "election_ticks_max",
            self.election_ticks_max,
        )
        require(self.check_quorum or not self.lease_reads, "lease_reads", self.lease_reads)
        require(
            not self.lease_reads or 1 <= self.lease_drift_ticks < self.election_ticks_min,
            "lease_drift_ticks",
            self.lease_drift_ticks,
        )
        for name in BOUNDS:
            require(getattr(self, name) >= 1, name, getattr(self, name))


BOUNDS: Sequence[str] = (
    "message_bytes_max",
    "inflight_messages_max",
    "inflight_bytes_max",
    "uncommitted_bytes_max",
    "cache_bytes_max",
    "reads_waiting_max",
)


def require(condition: bool, name: str, value: object) -> None:
    """Raise a `ValueError` that shows `name` and `value` unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name}={value!r} is out of range")
