"""A node whose memory is scarce refuses what can grow, and says that it was not done."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kvnode.admission.ladder import Rung
from kvnode.errors import Refused
from kvnode.node.node import Node
from kvnode.store import ops
from kvnode.store.reply import OK, Result
from tests.support.nodes import cluster_of, read, write

CALM, SHED, REFUSE, CLOSE = Rung
OOM = "OOM command not allowed when used memory > 'maxmemory'."


def text(result: Result) -> str:
    assert isinstance(result, Refused), "it was definitely not done"
    return result.text


async def transaction(node: Node, *inner: list[object]) -> Result:
    return await write(node, ops.EXEC, 0, [], list(inner))


async def test_writes_that_can_grow_are_refused_from_the_second_rung_on(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        node.pressure.change(SHED)
        assert await write(node, ops.SET, 0, b"k", b"v") == OK
        for rung in (REFUSE, CLOSE):
            node.pressure.change(rung)
            assert text(await write(node, ops.SET, 0, b"k", b"w")) == OOM
        assert await read(node, ops.GET, 0, b"k") == b"v"
        node.pressure.change(SHED)
        assert await write(node, ops.SET, 0, b"k", b"w") == OK


async def test_deletes_pass_on_every_rung(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        node.pressure.change(CLOSE)
        assert await write(node, ops.DEL, 0, b"k") == 1
        assert await read(node, ops.EXISTS, 0, b"k") == 0


async def test_a_transaction_that_holds_such_a_write_is_refused_whole(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        node.pressure.change(REFUSE)
        delete: list[object] = [ops.DEL, 0, b"k"]
        refused = await transaction(node, delete, [ops.SET, 0, b"k2", b"v"])
        assert text(refused) == f"EXECABORT Transaction discarded because of: {OOM}"
        assert await read(node, ops.GET, 0, b"k") == b"v"
        assert await transaction(node, delete) == [1]


async def test_a_rung_commits_what_the_engine_holds_in_memory(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        assert node.machine.uncommitted_ops
        node.pressure.change(SHED)
        assert node.machine.uncommitted_ops == 0
        await write(node, ops.SET, 0, b"k", b"w")
        await asyncio.sleep(0)
        assert node.machine.uncommitted_ops == 0, "nor does it gather new ones there"
        node.pressure.change(CALM)
        await write(node, ops.SET, 0, b"k", b"x")
        assert node.machine.uncommitted_ops
