"""A Raft group in memory: no event loop, no clock, no threads; every step is a plain call.

Each node has a `Disk` that holds only what was synced. A `Persist` waits in `Node.pending` until
the test syncs it; a crash loses what waits (or keeps a prefix, as a real disk may). Messages wait
on the `wire` until the test delivers, drops, repeats or reorders them. Snapshots that Raft asked
for wait in `streams` until the test installs them or lets them fail; a node is frozen from the
decision to install one until that is done, as the contract with the driver says (raft/DESIGN.md).

Who takes part is state of the state machine, as in a real node: a `CONF_CHANGE` entry says what
changes (`Members`), and each node goes by the result when it has applied it. A node that joins
knows nobody before the first such entry. Whoever sends something is introduced to the receiver,
unless the receiver knows that it was removed.

A disk can also `lose` the end of what it had synced. Its node then comes back recovering; nothing
of what it sent before is stepped by anyone who has heard its new start.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from raft import (
    Config,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Message,
    NodeId,
    Persist,
    Raft,
    RaftLog,
    ReadState,
    Role,
)
from raft.messages import (
    AppendResponse,
    CommitNotice,
    HeartbeatResponse,
    PreVoteResponse,
    ReadIndexRequest,
    RequestVote,
    RequestVoteResponse,
)

APPLY_BYTES_MAX = 1 << 20


class Envelope(NamedTuple):
    """A message on its way."""

    sender: NodeId
    to: NodeId
    message: Message
    boot: int = 0
    """The start of the sender that sent it."""


class Members(NamedTuple):
    """What a state machine knows of the membership: who takes part, and who was removed for ever.

    `changes` counts what was applied; before the first a node that joins has heard nothing.
    """

    conf_state: ConfState
    removed: frozenset[NodeId] = frozenset()
    changes: int = 0

    def apply(self, data: bytes) -> Members:
        """Return what a change leads to; one that does not fit changes nothing.

        `add N` (a learner) · `promote N` · `remove N` · `joint N,N…` (the new voters) · `leave`.
        """
        after = Members(self.conf_state, self.removed, self.changes + 1)
        name, _, rest = data.decode().partition(" ")
        named = [int(word) for word in rest.split(",") if word]
        voters, learners, outgoing = map(set, self.conf_state)
        everybody = voters | learners | outgoing
        match name:
            case "add" if not everybody & set(named) and not self.removed & set(named):
                learners |= set(named)
            case "promote" if learners >= set(named) and not outgoing:
                learners -= set(named)
                voters |= set(named)
            case "remove" if voters | learners > set(named) and not outgoing:
                voters -= set(named)
                learners -= set(named)
            case "joint" if voters | learners >= set(named) and not outgoing:
                voters, learners, outgoing = set(named), learners - set(named), voters
            case "leave" if outgoing:
                outgoing = set()
            case _:
                return after
        if not voters:
            return after
        gone = everybody - voters - learners - outgoing
        conf_state = ConfState(*(tuple(sorted(part)) for part in (voters, learners, outgoing)))
        return Members(conf_state, self.removed | gone, after.changes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a state machine, which in these tests is all that it has applied."""

    index: int
    term: int
    state: tuple[Entry, ...]
    members: Members


class Stream(NamedTuple):
    """A snapshot on its way; `boot` tells of which run of the sender."""

    sender: NodeId
    boot: int
    to: NodeId
    term: int
    snapshot: Snapshot


class Mark(NamedTuple):
    """A received snapshot's place in the order of writing; `discard`: it replaces the log."""

    stream: Stream
    discard: bool


@dataclass(slots=True)
class Disk:
    """What survives a crash. Implements `raft.Storage`.

    `log` holds the entries after index `base`; those before were released.
    """

    hard_state: HardState = field(default_factory=lambda: HardState(0, 0, 0))
    log: list[Entry] = field(default_factory=list)
    base: int = 0
    snapshot: Snapshot | None = None
    recovering: bool = False
    replaced: list[Entry] = field(default_factory=list)
    """The suffix that was replaced last: it is still in the file, before what replaced it."""
    reads: int = 0

    @property
    def last_index(self) -> int:
        return self.base + len(self.log)

    def write(self, item: Persist | Mark) -> None:
        if isinstance(item, Mark):
            self.mark(item.stream.snapshot, discard=item.discard)
            return
        if item.hard_state is not None:
            self.hard_state = item.hard_state
        if item.recovering is not None:
            self.recovering = item.recovering
        for entry in item.entries:
            assert self.base < entry.index <= self.last_index + 1, (
                f"{entry} does not fit behind {self.base} to {self.last_index}"
            )
            place = entry.index - self.base - 1
            self.replaced = self.log[place:] or self.replaced
            del self.log[place:]
            self.log.append(entry)

    def mark(self, snapshot: Snapshot, *, discard: bool) -> None:
        """Note a snapshot; one that the log does not lead to takes the log's place."""
        self.snapshot = snapshot
        if discard:
            self.base = snapshot.index
            self.log = []
        else:
            entry = self.log[snapshot.index - self.base - 1]
            assert entry.term == snapshot.term, f"{entry} is not where {snapshot} was taken"

    def release(self, index: int) -> None:
        """Forget the entries up to `index`, which a snapshot covers."""
        assert self.snapshot is not None
        assert index <= self.snapshot.index, f"{index} is beyond {self.snapshot}"
        if index > self.base:
            del self.log[: index - self.base]
            self.base = index

    def lose(self, count: int) -> None:
        """Lose the last `count` entries, though they were synced; the flag is durable before that.

        If that takes back all that replaced an older suffix, the older one is the end again.
        """
        self.recovering = True
        del self.log[max(len(self.log) - count, 0) :]
        replaced = [entry for entry in self.replaced if entry.index > self.last_index]
        if replaced and replaced[0].index == self.last_index + 1:
            before = self.log[-1].term if self.log else 0
            self.log += replaced if replaced[0].term >= before else []
        snapshot = self.snapshot
        if snapshot is not None and not self.has(snapshot):
            self.mark(snapshot, discard=True)

    def has(self, snapshot: Snapshot) -> bool:
        """Tell whether the log leads to where `snapshot` was taken."""
        if snapshot.index == self.base:
            return True
        held = self.base < snapshot.index <= self.last_index
        return held and self.log[snapshot.index - self.base - 1].term == snapshot.term

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        assert low > self.base, f"{low} was released with all up to {self.base}"
        self.reads += 1
        return self.log[low - self.base - 1 : min(high - 1, low + 2) - self.base]

    def holds(self, index: int) -> bool:
        return self.last_index >= index


class Node:
    """One member: its state machine, its disk, and what waits between them."""

    def __init__(
        self, config: Config, founded: ConfState, disk: Disk, *, joins: bool = False
    ) -> None:
        self.boot = config.boot_id
        self.disk = disk
        self.pending: list[Persist | Mark] = []
        self.read_states: list[ReadState] = []
        self.autosync = True
        self.autoapply = True
        self.frozen = False
        self.ticks_owed = 0
        # A real node has no more at start: the newest snapshot, and the log that is applied again.
        log = RaftLog.restore(disk, list(disk.log), cache_bytes_max=config.cache_bytes_max)
        self.applied: list[Entry] = []
        self.joins = joins
        self.members = Members(founded)
        if disk.snapshot is not None:
            log.restore_snapshot(disk.snapshot.index, disk.snapshot.term, discard=False)
            self.applied = list(disk.snapshot.state)
            self.members = disk.snapshot.members
        self.raft = Raft(
            config,
            hard_state=disk.hard_state,
            conf_state=self.conf_state,
            log=log,
            applied=len(self.applied),
            recovering=disk.recovering,
        )

    @property
    def conf_state(self) -> ConfState:
        """The membership that the node's state machine knows of."""
        heard = self.members.changes > 0 or not self.joins
        return self.members.conf_state if heard else ConfState(())

    def introduce(self, sender: NodeId) -> None:
        """Hear `sender` too, unless it was removed."""
        if sender not in self.members.removed:
            self.raft.introduce(sender)

    def check_promises(self, message: Message) -> None:
        """Persist before send: what a leaving message promises is on the disk."""
        disk = self.disk
        if isinstance(message, AppendResponse | HeartbeatResponse):
            assert message.recovering or not disk.recovering, f"{message} with the flag on disk"
        elif disk.recovering and not isinstance(message, ReadIndexRequest | CommitNotice):
            # Else whatever tells the sender of an old message our term.
            assert isinstance(message, PreVoteResponse | RequestVoteResponse), message
            assert not message.granted, message
        if isinstance(message, AppendResponse) and not message.rejected:
            assert disk.holds(message.index), f"{message} but the disk ends at {disk.last_index}"
        if (
            isinstance(message, RequestVote)
            or (isinstance(message, RequestVoteResponse) and message.granted)
            or type(message).__name__ not in ("RequestPreVote", "PreVoteResponse")
        ):
            assert disk.hard_state.term >= message.term, f"{message} with {disk.hard_state}"


class Cluster:
    """Nodes 1 to `nodes`, then learners, one wire, and hooks by which tests watch."""

    def __init__(self, nodes: int = 3, *, learners: int = 0, seed: int = 0, **options: Any) -> None:
        self.random = random.Random(seed)
        self.options: dict[str, Any] = {
            "heartbeat_ticks": 1,
            "election_ticks_min": 10,
            "election_ticks_max": 19,
            "random_ticks": self.random.randint,
            **options,
        }
        members = tuple(range(1, nodes + learners + 1))
        self.conf_state = ConfState(members[:nodes], members[nodes:])
        self.wire: list[Envelope] = []
        self.streams: list[Stream] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()
        # (receiver, sender): the oldest start of the sender whose messages may still be stepped,
        # and those pairs where the receiver has not heard of it yet.
        self.oldest_boot: dict[tuple[NodeId, NodeId], int] = {}
        self.unconnected: set[tuple[NodeId, NodeId]] = set()
        self.boots = 0
        self.nodes: dict[NodeId, Node] = {}
        self.joiners: set[NodeId] = set()
        self.down: set[NodeId] = set()
        self.on_send: Callable[[Envelope], None] = lambda envelope: None
        self.on_drop: Callable[[Envelope], None] = lambda envelope: None
        self.on_persist: Callable[[NodeId, Persist], None] = lambda node_id, persist: None
        self.on_apply: Callable[[NodeId, Entry], None] = lambda node_id, entry: None
        self.on_read: Callable[[NodeId, ReadState], None] = lambda node_id, state: None
        self.on_stream: Callable[[Stream], None] = lambda stream: None
        self.on_install: Callable[[Stream], None] = lambda stream: None
        for node_id in members:
            self.start(node_id, Disk())

    def raft(self, node_id: NodeId) -> Raft:
        return self.nodes[node_id].raft

    def leaders(self) -> list[NodeId]:
        return [
            n for n in self.up() if self.raft(n).role is Role.LEADER and not self.nodes[n].frozen
        ]

    def up(self) -> list[NodeId]:
        return [n for n in self.nodes if n not in self.down]

    # --- life and death -------------------------------------------------------------------------

    def start(self, node_id: NodeId, disk: Disk) -> None:
        self.boots += 1
        config = Config(node_id=node_id, boot_id=self.boots, **self.options)
        joins = node_id in self.joiners
        self.nodes[node_id] = Node(config, self.conf_state, disk, joins=joins)
        self.down.discard(node_id)

    def join(self, node_id: NodeId) -> None:
        """Start a new node, which knows nobody."""
        self.joiners.add(node_id)
        self.start(node_id, Disk())

    def crash(self, node_id: NodeId, *, kept: int = 0, torn: int | None = None) -> None:
        """Lose everything un-synced, but for the first `kept` writes that were on their way.

        `torn`: of the write after those, the hard state and this many entries survive too.
        """
        node = self.nodes[node_id]
        for item in node.pending[:kept]:
            node.disk.write(item)
        if torn is not None and kept < len(node.pending):
            item = node.pending[kept]
            if isinstance(item, Persist):
                node.disk.write(replace(item, entries=item.entries[:torn]))
        node.pending = []
        self.down.add(node_id)

    def restart(self, node_id: NodeId) -> None:
        self.start(node_id, self.nodes[node_id].disk)

    def lose(self, node_id: NodeId, count: int) -> None:
        """Crash, lose the last `count` synced entries, and come back recovering.

        Each peer hears of the new start with the first message that reaches it, or by `connect`.
        """
        if node_id not in self.down:
            self.crash(node_id)
        self.nodes[node_id].disk.lose(count)
        self.restart(node_id)
        self.unconnected |= {(peer, node_id) for peer in self.nodes if peer != node_id}

    def connect(self, node_id: NodeId, peer: NodeId) -> None:
        """`node_id` hears the hello of `peer`; what an earlier start of it sent is lost."""
        self.unconnected.discard((node_id, peer))
        self.oldest_boot[node_id, peer] = self.nodes[peer].boot
        self.raft(node_id).peer_connected(peer, recovering=self.raft(peer).recovering)

    def is_too_old(self, envelope: Envelope) -> bool:
        """Tell whether the receiver has heard a later start of a sender that had lost something."""
        sender, to, _, boot = envelope
        if (to, sender) in self.unconnected and boot == self.nodes[sender].boot:
            self.connect(to, sender)
            self.pump(to)
        return boot < self.oldest_boot.get((to, sender), 0)

    # --- the driver -----------------------------------------------------------------------------

    def pump(self, node_id: NodeId) -> None:
        """Take what is ready, as a driver does at the end of a loop pass."""
        node = self.nodes[node_id]
        if node.frozen:
            return
        while (ready := node.raft.ready()) is not None:
            for to, message in ready.messages:
                self.send(node_id, to, message)
            for state in ready.read_states:
                node.read_states.append(state)
                self.on_read(node_id, state)
            for peer in ready.snapshots:
                self.open_stream(node_id, peer)
            if ready.persist is not None:
                node.pending.append(ready.persist)
                self.on_persist(node_id, ready.persist)
                if node.autosync:
                    self.sync(node_id)
        if node.autoapply:
            self.apply(node_id)

    def sync(self, node_id: NodeId, count: int | None = None) -> None:
        """Make the first `count` pending writes durable with one fdatasync."""
        node = self.nodes[node_id]
        group = node.pending[:count]
        if not group:
            return
        del node.pending[: len(group)]
        persists = [item for item in group if isinstance(item, Persist)]
        for item in group:
            node.disk.write(item)
            # Kept as of its own write: a later one may replace what an earlier leader was promised.
            for _, message in item.messages if isinstance(item, Persist) else ():
                node.check_promises(message)
        for persist in persists:
            for to, message in persist.messages:
                self.post(node_id, to, message)
        if persists:
            node.raft.synced(persists[-1].number)
        if isinstance(group[-1], Mark):
            self.finish_installation(group[-1].stream)
        self.pump(node_id)

    def apply(self, node_id: NodeId, bytes_max: int | None = None) -> None:
        """Apply what is committed and durable: all of it, or one helping of `bytes_max`."""
        node = self.nodes[node_id]
        while entries := node.raft.committed_entries(bytes_max or APPLY_BYTES_MAX):
            for entry in entries:
                assert node.disk.holds(entry.index), f"{entry} applied before it was durable"
                assert entry.index == len(node.applied) + 1, f"{entry} after {len(node.applied)}"
                node.applied.append(entry)
                if entry.kind == EntryKind.CONF_CHANGE:
                    node.members = node.members.apply(entry.data)
                    node.raft.apply_conf_state(node.conf_state)
                self.on_apply(node_id, entry)
            node.raft.applied_to(entries[-1].index)
            if bytes_max is not None:
                break
        if node.raft.has_ready():  # another membership took effect
            self.pump(node_id)

    # --- snapshots ------------------------------------------------------------------------------

    def take_snapshot(self, node_id: NodeId, *, keep: int = 0) -> Snapshot:
        """Take a snapshot of what is applied; forget the log behind it but for `keep` entries."""
        node = self.nodes[node_id]
        index = node.raft.applied
        term = node.raft.log.term(index)
        assert term is not None
        snapshot = Snapshot(index, term, tuple(node.applied), node.members)
        node.disk.snapshot = snapshot
        released = max(index - keep, 0)
        node.raft.compact(released)
        node.disk.release(released)
        self.pump(node_id)
        return snapshot

    def open_stream(self, sender: NodeId, to: NodeId) -> None:
        node = self.nodes[sender]
        snapshot = node.disk.snapshot
        assert snapshot is not None
        assert snapshot.index >= node.raft.log.compacted, f"{snapshot} would leave a gap"
        stream = Stream(sender, node.boot, to, node.raft.term, snapshot)
        self.streams.append(stream)
        self.on_stream(stream)

    def accept(self, stream: Stream) -> bool:
        """The first bytes of a stream have arrived: are the others wanted?"""
        node = self.nodes[stream.to]
        node.introduce(stream.sender)
        accepted = not node.frozen and node.raft.accepts_snapshot(
            stream.sender, stream.term, stream.snapshot.index
        )
        self.pump(stream.to)
        return accepted

    def install(self, stream: Stream) -> bool:
        """An accepted stream has arrived whole: begin to install it, unless it was overtaken."""
        node = self.nodes[stream.to]
        snapshot = stream.snapshot
        if node.frozen or node.raft.commit >= snapshot.index:
            return False
        # What the log got so far goes to the disk before the mark.
        self.pump(stream.to)
        discard = node.raft.log.term(snapshot.index) != snapshot.term
        node.pending.append(Mark(stream, discard))
        node.frozen = True
        if node.autosync:
            self.sync(stream.to)
        return True

    def finish_installation(self, stream: Stream) -> None:
        """The mark is durable: switch the state machine, then tell Raft."""
        node = self.nodes[stream.to]
        snapshot = stream.snapshot
        node.applied = list(snapshot.state)
        node.members = snapshot.members
        assert node.raft.install_snapshot(
            stream.sender,
            stream.term,
            snapshot.index,
            snapshot.term,
            conf_state=node.conf_state,
        ), f"{stream} was overtaken while the node was frozen"
        node.frozen = False
        if self.options.get("lease_reads"):
            # A lease needs all ticks of the time that has passed.
            for _ in range(node.ticks_owed):
                node.raft.tick()
        node.ticks_owed = 0
        self.on_install(stream)

    def finish(self, stream: Stream, *, ok: bool) -> None:
        """Tell the sender, if it still runs, how its stream ended."""
        node = self.nodes[stream.sender]
        if stream.sender not in self.down and node.boot == stream.boot:
            node.raft.snapshot_finished(stream.to, stream.snapshot.index, ok=ok)
            self.pump(stream.sender)

    # --- the wire -------------------------------------------------------------------------------

    def send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        self.nodes[sender].check_promises(message)
        self.post(sender, to, message)

    def post(self, sender: NodeId, to: NodeId, message: Message) -> None:
        envelope = Envelope(sender, to, message, self.nodes[sender].boot)
        self.wire.append(envelope)
        self.on_send(envelope)

    def deliver(self, position: int = 0) -> None:
        """Take one message from the wire; it is lost if the way is cut or the node is down."""
        envelope = self.wire.pop(position)
        if (
            (envelope.sender, envelope.to) in self.cut
            or envelope.to in self.down
            or self.nodes[envelope.to].frozen
            or self.is_too_old(envelope)
        ):
            self.on_drop(envelope)
            return
        self.nodes[envelope.to].introduce(envelope.sender)
        self.raft(envelope.to).step(envelope.sender, envelope.message)
        self.pump(envelope.to)

    def stabilize(self, steps_max: int = 10_000) -> None:
        """Deliver in order until nothing is on its way."""
        for node_id in self.up():
            self.pump(node_id)
        for _ in range(steps_max):
            if not self.wire:
                return
            self.deliver()
        raise AssertionError(f"still busy after {steps_max} messages")

    def tick(self, node_id: NodeId, count: int = 1) -> None:
        node = self.nodes[node_id]
        if node.frozen:
            node.ticks_owed += count
            return
        for _ in range(count):
            self.raft(node_id).tick()
            self.pump(node_id)

    def elect(self, node_id: NodeId) -> Raft:
        """Make `node_id` leader of a healthy group."""
        self.raft(node_id).campaign()
        self.stabilize()
        assert self.raft(node_id).role is Role.LEADER
        return self.raft(node_id)

    def partition(self, *groups: Iterable[NodeId]) -> None:
        """Only nodes of the same group hear each other; a node in no group hears nobody."""
        place = {node: number for number, group in enumerate(groups) for node in group}
        self.cut = {
            (a, b)
            for a in self.nodes
            for b in self.nodes
            if a != b and (a not in place or place.get(b) != place[a])
        }

    def heal(self) -> None:
        self.cut = set()
