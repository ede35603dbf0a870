"""Which snapshot files count: those that the log has a mark of, and none that would go back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kvnode.node import snapshot_library
from kvnode.snapshot.catalog import file_name
from kvnode.store import ops
from kvnode.store.engine import EngineFull
from tests.support.nodes import cluster_of, until, write


async def test_a_snapshot_asked_for_while_the_log_is_applied_again_is_not_taken(
    tmp_path: Path,
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        await node.snapshots.take()
        assert node.snapshots.newest is not None
        await write(node, ops.SET, 0, b"k", b"w")
        ahead = replace(node.snapshots.newest, index=node.machine.applied + 1)
        node.snapshots.newest = ahead
        await node.snapshots.take()
        assert node.snapshots.stats.taken == 1
        assert node.snapshots.newest == ahead


async def test_a_snapshot_older_than_the_newest_mark_is_not_marked(tmp_path: Path) -> None:
    """The engine may be behind what is applied: then the file that comes is an older one."""
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        marked = node.wal._snapshot_index = node.machine.applied + 1
        await node.snapshots.take()
        assert not node.failure.done()
        assert node.snapshots.stats.taken == 0
        assert node.wal.snapshot_index == marked
        node.wal._snapshot_index = 0


async def test_snapshots_that_were_received_and_not_installed_take_the_place_of_none(
    tmp_path: Path,
) -> None:
    """They were kept as the newest two: the files on which log and engine rested were removed."""
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        await node.snapshots.take()
        ((kept, path),) = node._library.files()
        for ahead in (100, 105):
            shutil.copy(path, path.with_name(file_name(ahead, kept.term)))
        await write(node, ops.SET, 0, b"k", b"w")
        await node.snapshots.take()
        assert not node.failure.done()
        marked = node.wal.snapshot_index
        assert [file.index for file, _ in node._library.files()] == [marked, kept.index]
        assert node.snapshots.newest is not None
        assert node.snapshots.newest.index == marked
        assert node.raft.log.compacted == kept.index


async def test_one_that_cannot_be_installed_makes_room_for_the_next_that_is_received(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await cluster.stop(number)
        for _ in range(3):
            for i in range(60):
                await write(leader, ops.SET, 0, b"k%d" % i, b"x" * 30_000)
            await leader.snapshots.take()

        def no_room(*_arguments: object, **_options: object) -> None:
            raise EngineFull("no room")

        with monkeypatch.context() as patch:
            patch.setattr(snapshot_library.reader, "load", no_room)
            node = await cluster.start(number)
            await until(lambda: node.snapshots.stats.failed >= 1)
            await write(leader, ops.SET, 0, b"k", b"v")
            await leader.snapshots.take()
            newest = leader.snapshots.newest
            assert newest is not None
            await until(lambda: newest in [file for file, _ in node._library.files()])
            assert len(node._library.files()) == 1
            assert node.snapshots.newest is None
        await until(lambda: node.snapshots.stats.installed == 1)
