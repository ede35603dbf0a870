"""The port between the front ends and the node.

A front end (RESP today, etcd later) turns bytes into operations and results into bytes. It knows
the node only by the `Service` protocol below. The node knows a front end only by `Pending`.

An operation is a list `[code, db, *arguments]`; codes are permanent and live in
`kvnode.store.ops`. A result is plain data: `None`, `int`, `bytes`, `Status` (a simple string), a
list of results, or a `CommandError` *instance* (not raised: it is the answer).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from kvnode.errors import CommandError, Refused
from kvnode.store.reply import Result, Status

Op = list[Any]


class Pending(Protocol):
    """One operation on its way, and the place where its result goes.

    Attributes:
        op: the operation.
        size: bytes that it occupies while it is in flight.
    """

    op: Op
    size: int

    def complete(self, result: Result) -> None:
        """Take the result. Called exactly once, in the event loop; must not raise or block."""


class Rendering(NamedTuple):
    """What a worker process must know to write a reply.

    Attributes:
        command: its name in the command table.
        protocol: the client's, 2 or 3.
        peer: whoever the client counts as where places are few.
    """

    command: str
    protocol: int
    peer: str


RENDERED: Final = Status("RENDERED")
"""In the place of a result whose reply is written already."""

READ_FAILED: Final = CommandError("ERR internal error")
"""A read met a bug, on the node or in a worker; the log has it."""

READ_STOPPING: Final = Refused("BUSY the node is stopping; the read was not executed")


class RenderedPending(ABC):
    """A `Pending` whose reply may be written elsewhere, as heavy reads are by their worker."""

    __slots__ = ()

    op: Op

    @property
    @abstractmethod
    def rendering(self) -> Rendering | None:
        """How to write the reply; None if it must be written here."""

    @property
    @abstractmethod
    def is_wanted(self) -> bool:
        """Whether the client is still there."""

    @abstractmethod
    def complete(self, result: Result) -> None:
        """See `Pending`."""

    @abstractmethod
    def complete_rendered(self, reply: bytes, missed: int, found: int) -> None:
        """Take the reply; `missed` and `found` count the keys that were looked for."""

    @abstractmethod
    def charge(self, seconds: float) -> None:
        """Know what it cost: time that the loop, or a worker, was at it and nothing else."""


class PatientPending(ABC):
    """A `Pending` that may outlast the time for which commands are held: its client waits anyway.

    Its outcome is not told as unknown while `is_patient` holds.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def is_patient(self) -> bool:
        """Whether it would rather wait on than hear that its outcome is unknown."""


class Wait(Protocol):
    """A blocked client, as the node knows it."""

    def expire(self) -> None:
        """Its time is over: it is completed with what it has in hand, or None."""

    def leave(self) -> None:
        """The client is gone: it is not completed any more, and nothing is consumed for it."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member as the node that was asked sees it. `match` and `lag` are the leader's view."""

    node_id: int
    name: str
    peer_address: str
    client_address: str
    role: str
    """One of leader, follower, learner, leaving (its successor has caught up)."""
    match: int | None = None
    lag: int | None = None
    recovering: bool = False
    level: int | None = None
    """The newest feature level that it knows, once it has told."""
    connected: bool | None = None
    """Whether the node that was asked can send to it; None of itself."""
    heard_ms: int | None = None
    """Since the node that was asked has heard it; None of itself, and if it never has."""
    rung: int = 0
    """Of the memory ladder, as far as it told; from 2 on it cannot become the leader."""
    loop_late: bool = False
    """Its event loop cannot keep up, as far as it told."""
    draining: bool = False
    """It is about to be stopped, as far as it told, and does not want to lead."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What INFO and /status tell of consensus. Indexes are log indexes."""

    node: str
    node_id: int
    cluster_id: str
    role: str
    """One of leader, follower, candidate, pre-candidate, learner."""
    leader: str | None
    """Name of the leader, None while there is none."""
    leader_client_address: str | None
    term: int
    commit: int
    applied: int
    last_index: int
    members: tuple[MemberStatus, ...] = field(default=())
    recovering: bool = False
    """This node lost acknowledged entries; it counts in no quorum until it is healed."""
    heals_at: int | None = None
    """While recovering: the log must be durable and committed up to here, once that is known."""
    voters_missing: int = 0
    """So many voters more must be whole before anybody can be elected."""
    level: int = 2
    """The cluster's feature level: what every member must know."""


class Service(Protocol):
    """What a front end may ask of the node. All methods belong to the event loop's thread."""

    def submit_write(self, pending: Pending) -> None:
        """Put a write into the log; its result arrives when this node has applied it."""

    def submit_read(self, pending: Pending) -> None:
        """Run a read after a read index that was asked for after this call (linearizable)."""

    def submit_blocking(self, db: int, op: Op, size: int, done: Callable[[Result], None]) -> Wait:
        """Do a write that answers None when there is nothing, as soon as it has an answer.

        `done` gets the answer, once; perhaps within this call, if it is an error.
        """

    def when_found(
        self,
        questions: Mapping[bytes, Op],
        found: Callable[[Result], None],
        again: Callable[[], None],
    ) -> Callable[[], None]:
        """Do a read of `questions` whenever this node has applied a write to its key.

        `found` is called with what it found, unless that is nil or an error; `again` when
        nobody knows, and the read must be asked anew.

        Returns:
            what ends it.
        """

    def status(self) -> NodeStatus:
        """Describe consensus as this node sees it now."""

    def now_ms(self) -> int:
        """The cluster's clock (milliseconds since the epoch) as this node estimates it."""

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Keys and keys with a deadline per database, as applied here: {db: (keys, expires)}."""

    def expired_keys(self) -> int:
        """Keys that went because they had expired, as applied here since the program started."""


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """The snapshots of this node, for LASTSAVE and INFO."""

    saved_at_s: int
    """When the newest one was complete, in seconds since the epoch; 0 while there is none."""
    in_progress: bool
    last_succeeded: bool
    """Whether the last attempt ended well; True before the first."""
    last_duration_s: int
    """Of the last attempt; -1 before the first."""
    entries_since: int
    """Log entries applied since the newest one."""


@dataclass(frozen=True, slots=True)
class LogDiskStatus:
    """The disk of this node's log, for INFO."""

    is_full: bool
    is_slow: bool
    slow_syncs: int
    """Since the start."""
    wait_ms: int
    """How long it has been at what it does now; 0 while it rests."""


class Action(StrEnum):
    """What operators can ask for: of the membership, and before one member is stopped."""

    ADD = "add"
    """Reserve a name; the member itself comes with `serve --join`."""
    JOIN = "join"
    """A node asks for itself: become a learner, or learn the id that it has already."""
    PROMOTE = "promote"
    REMOVE = "remove"
    REPLACE = "replace"
    TRANSFER = "transfer"
    DRAIN = "drain"
    """The node that is asked shall not lead, and clients shall go elsewhere."""
    UNDRAIN = "undrain"
    SPARE = "spare"
    """Can the others do without the member now? Changes nothing; refused with a reason per line."""


class Verdict(StrEnum):
    """What became of a change."""

    DONE = "done"
    REFUSED = "refused"
    """Nothing was changed; the text says why."""
    AGAIN = "again"
    """Nobody can tell yet, such as without a leader. Every change may be asked for twice."""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A wish to change who takes part. Members are called by name or by id (16 hex digits).

    Attributes:
        action: what to do.
        member: whom it is about; with TRANSFER who shall lead ("": the best follower).
        other: with REPLACE the learner that takes the member's place; with JOIN the member whose
            place the new one shall take.
        peer_address: with JOIN and ADD, where its peers reach it ("" while unknown).
        client_address: the same for clients.
        storage_id: with JOIN, of its data directory.
        promote: with JOIN and ADD, whether it becomes a voter by itself when it has caught up.
        level: with JOIN, the newest feature level that it knows.
    """

    action: Action
    member: str = ""
    other: str = ""
    peer_address: str = ""
    client_address: str = ""
    storage_id: int = 0
    promote: bool = True
    level: int = 0


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """What became of a `ChangeRequest`.

    Attributes:
        verdict: see there.
        text: one sentence for the operator.
        node_id: of the member concerned, 0 if there is none.
        cluster_id: with JOIN, of the cluster that was joined.
        origin: with JOIN, the id that the cluster had when its log began.
    """

    verdict: Verdict
    text: str
    node_id: int = 0
    cluster_id: str = ""
    origin: str = ""


class Membership(Protocol):
    """How operators change who takes part. Any member may be asked; the leader decides."""

    def request_change(
        self, request: ChangeRequest, done: Callable[[ChangeAnswer], None]
    ) -> Callable[[], None]:
        """Ask for a change; `done` is called once, in the event loop, with what became of it.

        Returns:
            what ends the waiting before: after it `done` is not called any more.
        """


class Control(Protocol):
    """What operators' commands ask of the node besides data: READONLY, WAIT, SAVE, LASTSAVE.

    Apart from `Service`, since a front end can serve data without it: it then answers these
    commands with an error. All methods belong to the event loop's thread.
    """

    def submit_stale_read(self, pending: Pending) -> None:
        """Run a read on what is applied here, without a round: it may be behind other nodes.

        The result comes in a later pass of the loop, never inside this call.
        """

    def replicas_covering(self, index: int) -> int:
        """How many voters besides this node are known to have the log up to `index` on disk.

        The leader knows it. Elsewhere it is what the leader last told, and what commit implies: a
        majority has all up to the commit index, so at least a majority less this node.
        """

    def when_covered(
        self, index: int, count: int, done: Callable[[int], None]
    ) -> Callable[[], None]:
        """Find out when `count` voters besides this node have the log up to `index` on disk.

        `done` is called once, in a later pass of the loop, with how many they are; never, if the
        function that this returns was called before.
        """

    def take_snapshot(self, done: Callable[[str | None], None]) -> bool:
        """Begin a snapshot; False when one is being taken already.

        `done` is called once, in a later pass of the loop: with None when the snapshot is durable,
        else with the reason why there is none.
        """

    def snapshot_status(self) -> SnapshotStatus:
        """Describe the snapshots of this node."""

    def log_disk_status(self) -> LogDiskStatus:
        """Describe the disk of this node's log."""
