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
from kvnode.resp.commands.lookup import look_up
from kvnode.resp.encoder import encode3
from kvnode.store import ops
from kvnode.store.batch import Part, encode_configure, encode_group, encode_ops, encode_register
from kvnode.store.changes import Add, Change, Found, Founder, Remove, Update
from kvnode.store.ops import LEVEL
from tests.support.nodes import Cluster, read, write

VERSION = "v5"
GOLDEN = Path(__file__).parent / VERSION
FAR_MS = 32_503_680_000_000
"""The year 3000: a deadline that no test run reaches."""


LONG = " ".join(f"{number:060d}" for number in range(80))
"""Elements of more than one node."""

COLLECTIONS = (
    "HSET hash a 1 b 2 c 3|HDEL hash b|HINCRBY hash a 41|HINCRBYFLOAT hash c 0.5",
    "RPUSH list 1 2 3 4 5|LPUSH list 0|LPOP list|LREM list 1 3|LINSERT list BEFORE 4 x",
    f"LTRIM list 0 3|RPUSH long {LONG}|LPUSH long {LONG}|LSET long 50 x|LINSERT long BEFORE x y",
    "SADD set a b c d e|SREM set b|SPOP set|SADD other c d z|SUNIONSTORE union set other",
    "ZADD zset 1 a 2 b 2 c -inf d|ZINCRBY zset 0.5 a|ZPOPMIN zset",
    "ZADD geo 3479099956230698 Palermo",
    "ZRANGESTORE ranged zset 0 1|ZUNIONSTORE zunion 2 zset set WEIGHTS 2 3",
    "XADD stream * f v|XADD stream * f w g x|XADD stream * f y|XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group me COUNT 2 STREAMS stream >|XGROUP CREATECONSUMER stream group you",
    "SETBIT bits 1000 1|BITFIELD bits SET u8 #3 200|PFADD hll a b c|PFADD hll2 d|PFMERGE hll hll2",
    "COPY hash copied|RENAME other renamed|EXPIRE list 100000|PERSIST list",
)
"""Commands of every family; they are sent to database 3 before the snapshot, to 4 behind it."""

READINGS = (
    "HGETALL hash|LRANGE list 0 -1|SMEMBERS set|SMEMBERS union|ZRANGE zset 0 -1 WITHSCORES",
    "ZRANGE zunion 0 -1 WITHSCORES|ZRANGE ranged 0 -1|XRANGE stream - +|XPENDING stream group",
    "XINFO GROUPS stream|GET bits|PFCOUNT hll|HGETALL copied",
    "LRANGE long 0 -1|LINDEX long 50",
    "SMEMBERS renamed|ZRANK zset b|ZCOUNT zset 1 3|LINDEX list 1|SCAN 0 COUNT 1000",
)
"""What is read of them, as bytes in hexadecimal digits."""


def commands(lines: tuple[str, ...]) -> list[list[bytes]]:
    """The words of each."""
    return [part.encode().split() for line in lines for part in line.split("|")]


async def collections(node: Node, db: int) -> None:
    """A bit of every family."""
    for arguments in commands(COLLECTIONS):
        await write(node, *look_up(arguments).parse(db, arguments))


async def readings(node: Node) -> dict[str, str]:
    """What all families answer, by command and database."""
    answers = {}
    for db in (3, 4):
        for arguments in commands(READINGS):
            result = await read(node, *look_up(arguments).parse(db, arguments))
            answers[f"{db} {b' '.join(arguments).decode()}"] = encode3(result).hex()
    return answers


async def change(node: Node, wanted: Change) -> None:
    """Change the membership, and wait until it is applied."""
    index = node.raft.propose_conf_change(encode_configure(node.machine.stamp_ms, 0, wanted))
    node.pulse.wake()
    while node.machine.applied < index:
        await asyncio.sleep(0.01)


async def put(node: Node, data: bytes) -> None:
    """Have an entry in the log, and wait until it is applied."""
    index = node.raft.propose([data])
    node.pulse.wake()
    while node.machine.applied < index:
        await asyncio.sleep(0.01)


async def share_an_entry(node: Node) -> None:
    """Batches of a session of the learner's in one entry; two of them are refused."""
    learner, stamp = 3, node.machine.stamp_ms
    session = node.machine.session(learner)
    if session is None:
        await put(node, encode_register(stamp, 0, learner, 1003, 1))
        session = node.machine.session(learner)
    assert session is not None
    pushed = encode_ops([[ops.LIST_PUSH, 5, b"log", 1, 0, b"%d" % session.last]])
    drawn = encode_ops([[ops.SADD, 5, b"set", *b"a b c d e f".split()], [ops.SPOP, 5, b"set", 2]])
    sequences = [(1, pushed), (1, pushed), (2, drawn), (9, pushed), (3, drawn)]
    parts = [
        Part(learner, session.incarnation, session.last + sequence, blob)
        for sequence, blob in sequences
    ]
    await put(node, encode_group(stamp, 2**40, parts))


async def change_members(node: Node) -> None:
    """A registry with a voter, a name that is reserved for a learner, and a tombstone."""
    if node.machine.members is None:
        await change(node, Found(LEVEL, (Founder(1, "n1", "127.0.0.1:7379", "", 1001),)))
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
    await share_an_entry(node)
    await collections(node, 3)
    await node.snapshots.take()
    await share_an_entry(node)
    await collections(node, 4)
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
        "readings": await readings(node),
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
