"""Engines that are closed and opened while others are written leave nothing behind that kills."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from kvnode.store import ops
from tests.support.nodes import cluster_of, until, write

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = (sys.executable, "-X", "faulthandler")


async def story(root: Path) -> None:
    """Snapshots are taken under writes; a member that was away installs one, and is away again."""
    async with cluster_of(3, root, snapshot_log_bytes=4_000) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await cluster.stop(number)
        while leader.raft.log.compacted < 300:
            await write(leader, ops.SET, 0, b"k", b"v" * 100)
        node = await cluster.start(number)
        await until(lambda: node.snapshots.stats.installed > 0)
        await cluster.stop(number)
        node = await cluster.start(number)
        await write(node, ops.SET, 0, b"k", b"w")


def test_nodes_of_one_process_outlive_the_engines_of_each_other(tmp_path: Path) -> None:
    """LMDB's mutexes form a list of the thread's: a broken one ends the process."""
    told = subprocess.run(
        [*PYTHON, "-m", "tests.unit.node.test_engines_come_and_go", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )
    assert told.returncode == 0, told.stderr


if __name__ == "__main__":
    asyncio.run(story(Path(sys.argv[1])))
