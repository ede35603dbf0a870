"""What a leader stamps and tells: from its first entry on it is beyond all stamps in its log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from kvnode.node.clock import StampClock
from kvnode.node.leader import LeaderDuties
from kvnode.store.batch import encode_batch, stamp_of
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from raft.log import RaftLog
from raft.raft import Raft
from raft.types import Config, ConfState, Entry, EntryKind, HardState, Role
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
    duties = LeaderDuties(raft, machine, clock, loop, Random(1), lambda: None)
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
