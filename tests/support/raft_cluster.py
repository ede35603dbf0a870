"""A Raft group in memory: no event loop, no clock, no threads; every step is a plain call.

Each node has a `Disk` that holds only what was synced. A `Persist` waits in `Node.pending` until
the test syncs it; a crash loses what waits (or keeps a prefix, as a real disk may). Messages wait
on the `wire` until the test delivers, drops, repeats or reorders them.
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
    HardState,
    Message,
    NodeId,
    Persist,
    Raft,
    RaftLog,
    ReadState,
    Role,
)
from raft.messages import AppendResponse, RequestVote, RequestVoteResponse

APPLY_BYTES_MAX = 1 << 20


class Envelope(NamedTuple):
    """A message on its way."""

    sender: NodeId
    to: NodeId
    message: Message


@dataclass(slots=True)
class Disk:
    """What survives a crash. Implements `raft.Storage`."""

    hard_state: HardState = field(default_factory=lambda: HardState(0, 0, 0))
    log: list[Entry] = field(default_factory=list)
    reads: int = 0

    def write(self, persist: Persist) -> None:
        if persist.hard_state is not None:
            self.hard_state = persist.hard_state
        for entry in persist.entries:
            assert entry.index <= len(self.log) + 1, f"{entry} leaves a gap after {len(self.log)}"
            del self.log[entry.index - 1 :]
            self.log.append(entry)

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        self.reads += 1
        return self.log[low - 1 : min(high - 1, low + 2)]

    def holds(self, index: int) -> bool:
        return len(self.log) >= index


class Node:
    """One member: its state machine, its disk, and what waits between them."""

    def __init__(self, config: Config, conf_state: ConfState, disk: Disk) -> None:
        self.disk = disk
        self.pending: list[Persist] = []
        self.applied: list[Entry] = []
        self.read_states: list[ReadState] = []
        self.autosync = True
        # The replayed log is all that a real node has at start; it applies again from nothing.
        log = RaftLog.restore(disk, list(disk.log), cache_bytes_max=config.cache_bytes_max)
        self.raft = Raft(
            config, hard_state=disk.hard_state, conf_state=conf_state, log=log, applied=0
        )

    def check_promises(self, message: Message) -> None:
        """Persist before send: what a leaving message promises is on the disk."""
        disk = self.disk
        if isinstance(message, AppendResponse) and not message.rejected:
            assert disk.holds(message.index), f"{message} but the disk ends at {len(disk.log)}"
        if (
            isinstance(message, RequestVote)
            or (isinstance(message, RequestVoteResponse) and message.granted)
            or type(message).__name__ not in ("RequestPreVote", "PreVoteResponse")
        ):
            assert disk.hard_state.term >= message.term, f"{message} with {disk.hard_state}"


class Cluster:
    """Nodes 1 to `nodes`, one wire, and hooks by which tests watch."""

    def __init__(self, nodes: int = 3, *, seed: int = 0, **options: Any) -> None:
        self.random = random.Random(seed)
        self.options: dict[str, Any] = {
            "heartbeat_ticks": 1,
            "election_ticks_min": 10,
            "election_ticks_max": 19,
            "random_ticks": self.random.randint,
            **options,
        }
        self.conf_state = ConfState(tuple(range(1, nodes + 1)))
        self.wire: list[Envelope] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.boots = 0
        self.nodes: dict[NodeId, Node] = {}
        self.down: set[NodeId] = set()
        self.on_send: Callable[[Envelope], None] = lambda envelope: None
        self.on_drop: Callable[[Envelope], None] = lambda envelope: None
        self.on_persist: Callable[[NodeId, Persist], None] = lambda node_id, persist: None
        self.on_apply: Callable[[NodeId, Entry], None] = lambda node_id, entry: None
        self.on_read: Callable[[NodeId, ReadState], None] = lambda node_id, state: None
        for node_id in self.conf_state.voters:
            self.start(node_id, Disk())

    def raft(self, node_id: NodeId) -> Raft:
        return self.nodes[node_id].raft

    def leaders(self) -> list[NodeId]:
        return [n for n in self.up() if self.raft(n).role is Role.LEADER]

    def up(self) -> list[NodeId]:
        return [n for n in self.nodes if n not in self.down]

    # --- life and death -------------------------------------------------------------------------

    def start(self, node_id: NodeId, disk: Disk) -> None:
        self.boots += 1
        config = Config(node_id=node_id, boot_id=self.boots, **self.options)
        self.nodes[node_id] = Node(config, self.conf_state, disk)
        self.down.discard(node_id)

    def crash(self, node_id: NodeId, *, kept: int = 0, torn: int | None = None) -> None:
        """Lose everything un-synced, but for the first `kept` writes that were on their way.

        `torn`: of the write after those, the hard state and this many entries survive too.
        """
        node = self.nodes[node_id]
        for persist in node.pending[:kept]:
            node.disk.write(persist)
        if torn is not None and kept < len(node.pending):
            node.disk.write(replace(node.pending[kept], entries=node.pending[kept].entries[:torn]))
        node.pending = []
        self.down.add(node_id)

    def restart(self, node_id: NodeId) -> None:
        self.start(node_id, self.nodes[node_id].disk)

    # --- the driver -----------------------------------------------------------------------------

    def pump(self, node_id: NodeId) -> None:
        """Take what is ready, as a driver does at the end of a loop pass."""
        node = self.nodes[node_id]
        while (ready := node.raft.ready()) is not None:
            for to, message in ready.messages:
                self.send(node_id, to, message)
            for state in ready.read_states:
                node.read_states.append(state)
                self.on_read(node_id, state)
            if ready.persist is not None:
                node.pending.append(ready.persist)
                self.on_persist(node_id, ready.persist)
                if node.autosync:
                    self.sync(node_id)
        self.apply(node_id)

    def sync(self, node_id: NodeId, count: int | None = None) -> None:
        """Make the first `count` pending writes durable with one fdatasync."""
        node = self.nodes[node_id]
        group = node.pending[:count]
        if not group:
            return
        del node.pending[: len(group)]
        for persist in group:
            node.disk.write(persist)
        for persist in group:
            for to, message in persist.messages:
                self.send(node_id, to, message)
        node.raft.synced(group[-1].number)
        self.pump(node_id)

    def apply(self, node_id: NodeId) -> None:
        node = self.nodes[node_id]
        while entries := node.raft.committed_entries(APPLY_BYTES_MAX):
            for entry in entries:
                assert node.disk.holds(entry.index), f"{entry} applied before it was durable"
                node.applied.append(entry)
                self.on_apply(node_id, entry)
            node.raft.applied_to(entries[-1].index)

    # --- the wire -------------------------------------------------------------------------------

    def send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        self.nodes[sender].check_promises(message)
        envelope = Envelope(sender, to, message)
        self.wire.append(envelope)
        self.on_send(envelope)

    def deliver(self, position: int = 0) -> None:
        """Take one message from the wire; it is lost if the way is cut or the node is down."""
        envelope = self.wire.pop(position)
        if (envelope.sender, envelope.to) in self.cut or envelope.to in self.down:
            self.on_drop(envelope)
            return
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
