"""A leader whose disk hangs: another one takes over, and nobody but its own clients waits for it.

The test holds the disk's syncs, for as long as it likes; nothing here depends on how long that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvnode.node.node import Node
from kvnode.store import ops
from kvnode.store.reply import OK
from tests.support.nodes import Cluster, read, until, write
from wal.fs import PosixFileSystem

OFFERED = "leadership is offered to a node with a quicker disk"


class HoldableDisk(PosixFileSystem):
    """A disk whose syncs return only while they may."""

    def __init__(self) -> None:
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.is_held = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if not self.may_sync.is_set():
            self.is_held.set()
            self.may_sync.wait()
        super().fdatasync(fd)

    def hold(self) -> None:
        """From now on no sync returns."""
        self.may_sync.clear()

    def release(self) -> None:
        """All go on."""
        self.may_sync.set()


@contextlib.asynccontextmanager
async def cluster_on_holdable_disks(
    root: Path, count: int
) -> AsyncIterator[tuple[Cluster, dict[int, HoldableDisk]]]:
    cluster = Cluster(root, count)
    disks = {number: HoldableDisk() for number in range(1, count + 1)}
    cluster.file_systems = dict(disks)
    for number in disks:
        await cluster.start(number)
    try:
        yield cluster, disks
    finally:
        for disk in disks.values():
            disk.release()
        for number in list(cluster.nodes):
            await cluster.stop(number)


async def settled_leader(cluster: Cluster) -> Node:
    """A leader that has been in office for so long that it holds off no more."""
    leader = await cluster.leader()
    leader.condition.disk_health.hold_off(float("-inf"))
    return leader


async def test_a_leader_whose_sync_hangs_hands_over_and_rejoins_when_it_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kvnode.node")
    async with cluster_on_holdable_disks(tmp_path, 3) as (cluster, disks):
        old = await settled_leader(cluster)
        others = [node for node in cluster.nodes.values() if node is not old]
        disk = disks[old.identity.node_id]
        disk.hold()
        for number in range(200):
            assert await write(others[number % 2], ops.INCRBY, 0, b"n", 1) == number + 1
            if any(node.duties.leads for node in others):
                break
        await until(lambda: any(node.duties.leads for node in others))
        await until(lambda: not old.duties.leads)
        so_far = await write(others[0], ops.INCRBY, 0, b"n", 1)
        assert disk.is_held.is_set()
        assert old.condition.sync_wait_s >= old.condition.disk_health.hand_over_after_s
        assert old.condition.disk_health.is_slow

        disk.release()
        assert await write(old, ops.INCRBY, 0, b"n", 1) == so_far + 1
        assert await read(old, ops.GET, 0, b"n") == b"%d" % (so_far + 1)
        index, own = old.applier.hash_at(None) or (0, "")
        for node in others:
            await until(lambda node=node: node.machine.applied >= index)  # type: ignore[misc]
            assert node.applier.hash_at(index) == (index, own)
    messages = [record.getMessage() for record in caplog.records]
    assert "the log's disk is slow" in messages
    assert messages.count(OFFERED) == 1


async def test_leadership_stays_where_it_is_when_no_disk_is_better(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster_on_holdable_disks(tmp_path, 3) as (cluster, disks):
        leader = await settled_leader(cluster)
        term = leader.raft.term
        for disk in disks.values():
            disk.hold()
        writing = asyncio.create_task(write(leader, ops.SET, 0, b"k", b"v"))
        health = leader.condition.disk_health
        await until(lambda: leader.condition.sync_wait_s >= health.hand_over_after_s)
        ticks = leader.pulse.ticks
        await until(lambda: leader.pulse.ticks >= ticks + 50)
        assert (leader.duties.leads, leader.raft.term) == (True, term)
        assert not writing.done()
        for disk in disks.values():
            disk.release()
        assert await writing == OK
    assert OFFERED not in [record.getMessage() for record in caplog.records]


async def test_who_is_recovering_is_neither_offered_leadership_nor_counted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_on_holdable_disks(tmp_path, 3) as (cluster, _):
        leader = await settled_leader(cluster)
        peers = {number for number in cluster.nodes if number != leader.identity.node_id}
        await until(lambda: set(leader.succession._electable()) == peers)
        recovering = max(peers)
        views = leader.raft.progress()
        views[recovering] = views[recovering]._replace(match=1 << 40, recovering=True)
        monkeypatch.setattr(type(leader.raft), "progress", lambda raft: views)
        assert set(leader.succession._electable()) == peers - {recovering}
        assert leader.succession.best_follower() not in (recovering, None)
