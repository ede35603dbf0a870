"""What a leader stamps and tells: from its first entry on it is beyond all stamps in its log."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from random import Random

import pytest
import uvloop

from kvnode.limits import GATHERED_COMMANDS_MIN
from kvnode.node.clock import StampClock
from kvnode.node.leader import LeaderDuties
from kvnode.store import batch, ops
from kvnode.store.batch import (
    Batch,
    Group,
    MalformedEntry,
    Noop,
    Register,
    encode_batch,
    encode_configure,
    encode_ops,
    stamp_of,
)
from kvnode.store.changes import Found, Founder
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from raft.log import RaftLog
from raft.raft import Raft
from raft.types import Config, ConfState, Entry, EntryKind, HardState, ProposalDropped, Role
from tests.support.nodes import cluster_of

STAMP_MS = 5_000_000
"""Of the newest entry in the log. It is not applied."""

WALL_SECONDS = 1_000.0
"""Far behind that stamp."""


class NoStorage:
    """All entries are in memory."""

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        raise AssertionError(f"nothing asks the disk for {low}")


async def duties_of_a_node_just_elected() -> tuple[Raft, LeaderDuties]:
    """Raft leads, and nobody was told yet."""
    log = RaftLog.restore(
        NoStorage(), [Entry(1, 1, EntryKind.NORMAL, encode_batch(STAMP_MS, 1, 1, 1, 1, b"\x90"))]
    )
    raft = Raft(
        Config(1, 5, 15, 30, lambda low, _high: low, boot_id=1),
        hard_state=HardState(1, 0, 0),
        conf_state=ConfState((1,)),
        log=log,
        applied=0,
    )
    loop = asyncio.get_running_loop()
    machine = StateMachine(MemoryEngine(), hash_key=bytes(16))
    clock = StampClock(lambda: 0.0, lambda: WALL_SECONDS)
    duties = LeaderDuties(raft, machine, clock, loop, Random(1), lambda: None, lambda _, __: None)
    raft.campaign()
    while (ready := raft.ready()) is not None:
        assert ready.soft_state is None or ready.soft_state.role is not Role.LEADER
        if ready.persist is not None:
            raft.synced(ready.persist.number)
            if raft.role is Role.LEADER:
                break
    return raft, duties


def newest_stamp(raft: Raft) -> int:
    (entry,), _ = raft.log.entries(raft.last_index, raft.last_index + 1, 1)
    return stamp_of(entry.data)


async def test_a_batch_that_comes_with_the_last_vote_is_stamped_beyond_the_whole_log() -> None:
    """One frame held both, and the batch was proposed before the node was told that it leads."""
    raft, duties = await duties_of_a_node_just_elected()
    assert duties.propose_batch(2, 1, 1, b"\x90")
    assert newest_stamp(raft) == STAMP_MS


async def test_so_is_a_registration() -> None:
    raft, duties = await duties_of_a_node_just_elected()
    assert duties.propose_registration(2, 7, 8)
    assert newest_stamp(raft) == STAMP_MS


async def test_what_a_leader_tells_its_peers_is_never_behind_its_log() -> None:
    _, duties = await duties_of_a_node_just_elected()
    assert duties.told_ms() == STAMP_MS


async def test_only_a_leader_tells_the_time_and_nobody_follows_another(tmp_path: Path) -> None:
    """A node that led, and started again, is the leader to the others until they notice."""
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        assert leader.duties.told_ms() > 0
        assert follower.duties.told_ms() == 0
        base_ms = follower.clock._base_ms
        follower.transport.receiver.on_messages(leader.identity.node_id, 0, [])
        assert follower.clock._base_ms == base_ms > 0


def test_a_deadline_that_is_over_may_be_looked_at_twice_on_the_loop_of_the_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uvloop's handle for what is due at once does not tell when: asking it ended the node."""
    monkeypatch.setattr(StateMachine, "next_deadline_ms", lambda _: 1)

    async def look_twice() -> None:
        _, duties = await duties_of_a_node_just_elected()
        duties.watch_deadlines()
        duties.watch_deadlines()

    uvloop.run(look_twice())


# --- batches that share an entry ------------------------------------------------------------------

BLOB = encode_ops([[ops.INCRBY, 0, b"n", 1]])


class Office:
    """A node that leads alone, in a cluster of a feature level."""

    def __init__(self, level: int = ops.LEVEL) -> None:
        self.loop = asyncio.get_running_loop()
        self.raft = Raft(
            Config(1, 5, 15, 30, lambda low, _high: low, boot_id=1),
            hard_state=HardState(0, 0, 0),
            conf_state=ConfState((1,)),
            log=RaftLog.restore(NoStorage(), []),
            applied=0,
        )
        self.machine = StateMachine(MemoryEngine(), hash_key=bytes(16))
        found = Found(level, (Founder(1, "a"),))
        if level >= ops.MEMBERS_LEVEL:
            self.machine.apply(1, encode_configure(1, 1, found))
        self.dropped: list[tuple[int, int]] = []
        passed = count()
        self.duties = LeaderDuties(
            self.raft,
            self.machine,
            StampClock(lambda: float(next(passed)), lambda: WALL_SECONDS),
            self.loop,
            Random(1),
            lambda: None,
            lambda node_id, sequence: self.dropped.append((node_id, sequence)),
        )
        self.raft.campaign()
        self.sync()
        self.seen = self.raft.last_index

    def sync(self) -> None:
        """All that is in the log gets committed."""
        while (ready := self.raft.ready()) is not None:
            if ready.persist is not None:
                self.raft.synced(ready.persist.number)

    def send(self, node_id: int, sequence: int, blob: bytes = BLOB) -> bool:
        return self.duties.propose_batch(node_id, 1, sequence, blob)

    def fill(self) -> None:
        """An entry is under way, with so many commands that the next one waits."""
        self.send(9, 1, encode_ops([[ops.INCRBY, 0, b"n", 1]] * GATHERED_COMMANDS_MIN))
        self.duties.flush()
        self.entries()

    def entries(self) -> list[object]:
        """What was proposed since the last time: (node, sequence) for each batch."""
        log, first = self.raft.log, self.seen + 1
        self.seen = log.last_index
        if first > self.seen:
            return []
        entries, _ = log.entries(first, self.seen + 1, 1 << 20)
        return [told(batch.decode(entry.data)) for entry in entries]


def told(entry: batch.Entry) -> object:
    if isinstance(entry, Batch):
        return entry.node_id, entry.sequence
    if isinstance(entry, Group):
        return [(part.node_id, part.sequence) for part in entry.parts]
    return type(entry)


async def test_the_batches_of_one_pass_share_an_entry() -> None:
    office = Office()
    assert all([office.send(2, 1), office.send(1, 7), office.send(3, 4), office.send(2, 2)])
    assert office.entries() == []
    office.duties.flush()
    assert office.entries() == [[(2, 1), (1, 7), (3, 4), (2, 2)]]
    assert office.duties.batches_grouped == 4


async def test_a_batch_that_is_alone_is_the_entry_that_it_always_was() -> None:
    office = Office()
    office.send(2, 1)
    office.duties.flush()
    assert office.entries() == [(2, 1)]
    assert office.duties.batches_grouped == 0


async def test_until_every_member_knows_groups_each_batch_is_an_entry_at_once() -> None:
    for level in (ops.BASE_LEVEL, ops.GROUPS_LEVEL - 1):
        office = Office(level)
        for sequence in range(1, 6):
            assert office.send(2, sequence)
        assert office.entries() == [(2, sequence) for sequence in range(1, 6)]


async def test_while_an_entry_is_under_way_batches_gather() -> None:
    office = Office()
    office.fill()
    for sequence in (1, 2):
        office.send(2, sequence)
        office.send(3, sequence)
        assert not office.duties.can_flush
        office.duties.flush()
    assert office.entries() == []
    office.sync()
    assert office.duties.can_flush
    office.duties.flush()
    assert office.entries() == [[(2, 1), (3, 1), (2, 2), (3, 2)]]
    assert not office.duties.can_flush


async def test_nothing_overtakes_what_gathered_before_it() -> None:
    office = Office()
    office.fill()
    office.send(2, 1)
    office.send(3, 1)
    assert office.duties.propose_registration(2, 7, 8)
    assert office.entries() == [[(2, 1), (3, 1)], Register]
    office.send(2, 1)
    assert office.duties.propose_change(Found(3, (Founder(1, "a"),))) is not None
    assert office.entries()[0] == (2, 1)
    stamps = [
        stamp_of(entry.data)
        for entry in office.raft.log.entries(2, office.raft.last_index + 1, 1 << 20)[0]
    ]
    assert stamps == sorted(stamps)


async def test_with_its_leadership_a_node_loses_what_gathered() -> None:
    office = Office()
    office.fill()
    office.send(2, 1)
    term = office.raft.term
    office.raft._become_follower(term + 1, 0)
    office.duties.flush()
    assert not office.send(2, 1)
    office.raft.campaign()
    office.sync()
    assert office.raft.role is Role.LEADER
    office.duties.flush()
    assert office.entries() == [Noop]
    office.fill()
    assert office.dropped == []


async def test_a_new_term_begins_with_nothing_gathered_whoever_asks_first() -> None:
    office = Office()
    office.fill()
    office.send(2, 1)
    office.raft._become_follower(office.raft.term + 1, 0)
    office.raft.campaign()
    office.sync()
    office.send(3, 1)
    office.duties.flush()
    assert office.entries() == [Noop, (3, 1)]


async def test_who_sent_a_batch_is_told_when_it_cannot_be_proposed_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office()
    office.send(2, 1)
    office.send(1, 4)

    def dropped(_raft: Raft, _data: object) -> int:
        raise ProposalDropped("leadership is being handed over")

    monkeypatch.setattr(Raft, "propose", dropped)
    office.duties.flush()
    assert office.dropped == [(2, 1), (1, 4)]
    monkeypatch.undo()
    office.duties.flush()
    assert office.entries() == []


async def test_a_batch_that_is_none_gets_into_no_log() -> None:
    office = Office()
    with pytest.raises(MalformedEntry):
        office.send(2, 1, b"nonsense")
    office.duties.flush()
    assert office.entries() == []
