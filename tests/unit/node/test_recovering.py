"""A node whose log lost its end heals from the others, and counts in no quorum until then."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from kvnode.errors import LogCorrupt
from kvnode.store import ops
from tests.support.nodes import Cluster, cluster_of, read, until, write
from wal.format import Identity, Record, parse_segment_name
from wal.fs import PosixFileSystem
from wal.log import Wal


def newest_segment(cluster: Cluster, number: int) -> Path:
    """The last segment of a node's log."""
    directory = cluster.root / f"n{number}" / "wal"
    return max(path for path in directory.iterdir() if parse_segment_name(path.name))


def lose_half(cluster: Cluster, number: int) -> None:
    """Cut acknowledged bytes off the end of a stopped node's log, as a lying disk would."""
    path = newest_segment(cluster, number)
    os.truncate(path, len(path.read_bytes().rstrip(b"\0")) // 2 & ~511)


def forget_half(cluster: Cluster, number: int) -> None:
    """The same, but the lost sectors read as zeros: nothing in the segment tells of it."""
    path = newest_segment(cluster, number)
    data = path.read_bytes()
    keep = len(data.rstrip(b"\0")) // 2 & ~511
    path.write_bytes(data[:keep].ljust(len(data), b"\0"))


@pytest.mark.parametrize("lose", [lose_half, forget_half])
async def test_a_follower_that_lost_acknowledged_entries_gets_them_back_and_counts_again(
    tmp_path: Path, lose: object
) -> None:
    assert callable(lose)
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number, other = (n for n, node in cluster.nodes.items() if node is not leader)
        for i in range(100):
            await write(leader, ops.SET, 0, b"k%d" % i, b"v" * 100)
        await cluster.stop(number)
        lose(cluster, number)
        node = await cluster.start(number)
        assert node.raft.recovering
        assert node.raft.last_index < leader.raft.commit
        await until(lambda: not node.raft.recovering)
        assert node.raft.log.stable >= leader.raft.commit
        # The majority of two is this node and the leader now.
        await cluster.stop(other)
        assert await write(leader, ops.INCRBY, 0, b"n", 1) == 1
        assert await read(node, ops.DBSIZE, 0) == 101
        index, own = node.applier.hash_at(None) or (0, "")
        await until(lambda: leader.machine.applied >= index)
        assert (index, own) == leader.applier.hash_at(index)
        await cluster.stop(number)
        assert not (await cluster.start(number)).raft.recovering


async def test_a_node_that_lost_its_log_below_a_snapshot_heals_with_it(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        for i in range(100):
            await write(leader, ops.SET, 0, b"k%d" % i, b"v" * 100)
        follower = cluster.nodes[number]
        await until(lambda: follower.machine.applied == leader.machine.applied)
        await follower.snapshots.take()
        await cluster.stop(number)
        lose_half(cluster, number)
        node = await cluster.start(number)
        assert node.raft.recovering
        await until(lambda: not node.raft.recovering)
        assert await read(node, ops.DBSIZE, 0) == 100
        await cluster.stop(number)
        node = await cluster.start(number)
        assert await read(node, ops.DBSIZE, 0) == 100


class TearingFileSystem(PosixFileSystem):
    """Writes the first sector of what it is told to write, and dies."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if len(data) < 4000:
            return super().pwrite(fd, data, offset)
        super().pwrite(fd, bytes(data)[:512], offset)
        raise KeyboardInterrupt


def tear(cluster: Cluster, number: int) -> None:
    """Leave what a kill in the middle of a write leaves: the front of one record."""
    data = cluster.root / f"n{number}"
    states = (data / "state-a", data / "state-b")
    log = Wal.open(
        data / "wal", states, Identity(99, number), visit=lambda i, p: None, fs=TearingFileSystem()
    )
    with pytest.raises(KeyboardInterrupt):
        log.append([Record(log.last_index + 1, b"x" * 4000)])


@pytest.mark.parametrize("machine_was_restarted", [False, True])
async def test_a_torn_tail_needs_no_recovery_if_the_kernel_forgot_nothing_since_the_last_start(
    tmp_path: Path, *, machine_was_restarted: bool
) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await write(leader, ops.SET, 0, b"k", b"v")
        await cluster.stop(number)
        tear(cluster, number)
        if machine_was_restarted:
            (note,) = (cluster.root / f"n{number}" / "engine").glob("*/opened")
            note.write_text(json.dumps(json.loads(note.read_text()) | {"boot_id": "another"}))
        node = await cluster.start(number)
        assert node.wal.last_repair is not None
        assert node.raft.recovering is machine_was_restarted
        await until(lambda: not node.raft.recovering)
        assert await read(node, ops.GET, 0, b"k") == b"v"


async def test_three_nodes_that_were_all_killed_in_the_middle_of_a_write_come_back(
    tmp_path: Path,
) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await write(leader, ops.SET, 0, b"k", b"v")
        for number in (1, 2, 3):
            await cluster.stop(number)
            tear(cluster, number)
        nodes = [await cluster.start(number) for number in (1, 2, 3)]
        assert await read(nodes[0], ops.GET, 0, b"k") == b"v"
        assert await write(nodes[1], ops.INCRBY, 0, b"n", 1) == 1


async def test_without_enough_whole_voters_nobody_is_elected_and_status_says_what_is_missing(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "kvnode.node")
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        for i in range(100):
            await write(leader, ops.SET, 0, b"k%d" % i, b"v" * 100)
        for number in (1, 2, 3):
            await cluster.stop(number)
        for number in (1, 2):
            lose_half(cluster, number)
        nodes = [await cluster.start(number) for number in (1, 2, 3)]
        whole = nodes[2]
        await until(lambda: whole.status().voters_missing == 1)
        alarm = "a member is recovering: it counts in no quorum"
        await until(lambda: alarm in [record.getMessage() for record in caplog.records])
        assert [member.recovering for member in whole.status().members] == [True, True, False]
        assert all(node.status().leader is None for node in nodes)


async def test_a_node_alone_that_lost_acknowledged_entries_is_refused_with_the_way_out(
    tmp_path: Path,
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        leader = await cluster.leader()
        for i in range(100):
            await write(leader, ops.SET, 0, b"k%d" % i, b"v" * 100)
        await cluster.stop(1)
        lose_half(cluster, 1)
        before = newest_segment(cluster, 1).read_bytes()
        with pytest.raises(LogCorrupt, match=r"acknowledged entries are gone.*--accept-loss"):
            await cluster.start(1)
        assert newest_segment(cluster, 1).read_bytes() == before
