"""A node that applies its log again takes no snapshot older than those that it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kvnode.store import ops
from tests.support.nodes import cluster_of, write


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
