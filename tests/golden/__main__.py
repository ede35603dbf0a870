"""Makes the golden directory of today's formats: `python -m tests.golden`.

Run it when a format gets a new version, never to make a test pass: what is here was written by
programs that are in use.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

from kvnode.node.node import Node
from kvnode.store import ops
from kvnode.store.batch import encode_configure
from kvnode.store.changes import Add, Change, Found, Founder, Remove, Update
from tests.support.nodes import Cluster, read, write

VERSION = "v3"
GOLDEN = Path(__file__).parent / VERSION
FAR_MS = 32_503_680_000_000
"""The year 3000: a deadline that no test run reaches."""


async def change(node: Node, wanted: Change) -> None:
    """Change the membership, and wait until it is applied."""
    index = node.raft.propose_conf_change(encode_configure(node.machine.stamp_ms, 0, wanted))
    node.wake()
    while node.machine.applied < index:
        await asyncio.sleep(0.01)


async def change_members(node: Node) -> None:
    """A registry with a voter, a name that is reserved for a learner, and a tombstone."""
    if node.machine.members is None:
        await change(node, Found(3, (Founder(1, "n1", "127.0.0.1:7379", "", 1001),)))
    await change(node, Add(2, "gone", storage_id=1002))
    await change(node, Remove(2))
    await change(node, Add(3, "reserved", promote=False))


async def fill(cluster: Cluster) -> dict[str, object]:
    """A bit of everything, with a snapshot in the middle; what a reader must find."""
    node = await cluster.start(1)
    await cluster.leader()
    for number in range(60):
        await write(node, ops.SET, number % 16, b"key:%d" % number, b"value:%d" % number * 20)
    await write(node, ops.SET, 0, b"deadline", b"v", int(ops.SetFlag.PXAT), FAR_MS)
    await write(node, ops.SET, 0, b"long" * 1_000, b"a long key")
    await write(node, ops.SET, 0, b"binary\x00\xff", bytes(range(256)) * 3)
    await write(node, ops.INCRBY, 1, b"counter", 41)
    # Watched from before the snapshot until behind it, so that arrivals are in both.
    watch = [9, b"nobody", await read(node, ops.VERSION, 9, b"nobody")]
    await write(node, ops.EXEC_WATCHED, 0, [watch], [[ops.SET, 9, b"somebody", b"1"]])
    watch = [9, b"nobody", await read(node, ops.VERSION, 9, b"nobody")]
    await write(node, ops.SWAPDB, 0, 9, 10)
    await change_members(node)
    await node.snapshots.take()
    await write(node, ops.INCRBY, 1, b"counter", 1)
    await write(node, ops.DEL, 0, b"key:0")
    await write(node, ops.FLUSHDB, 15)
    await write(node, ops.EXEC_WATCHED, 0, [watch], [[ops.SET, 9, b"passed", b"1"]])
    await change(node, Update(3, "127.0.0.1:9", "127.0.0.1:9"))
    await write(node, ops.EXEC, 0, [], [[ops.APPEND, 0, b"key:16", b"!"], [ops.GET, 0, b"key:16"]])
    keys = {str(db): await read(node, ops.DBSIZE, db) for db in range(16)}
    newest = node.applier.hash_at(None)
    members = node.machine.members
    assert newest is not None
    assert members is not None
    return {
        "index": newest[0],
        "hash": newest[1],
        "keys": keys,
        "level": members.level,
        "removed": members.removed,
        "members": [[one.node_id, one.name, one.role.name] for one in members.by_id.values()],
    }


async def make(target: Path) -> None:
    """Write the directory and what to expect of it."""
    with tempfile.TemporaryDirectory() as scratch:
        cluster = Cluster(Path(scratch), 1)
        cluster.segment_bytes = 64 * 1024
        expected = await fill(cluster)
        await cluster.stop(1)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(Path(scratch) / "n1", target / "data")
        # A cache of the rest, and bound to the machine that made it.
        shutil.rmtree(target / "data" / "engine")
    (target / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} is there already; a new format version gets a new directory")
    asyncio.run(make(GOLDEN))
