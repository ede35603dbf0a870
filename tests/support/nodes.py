"""Whole nodes in one event loop, over real sockets and a real log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from kvnode.node.log_writer import ThreadWorker
from kvnode.node.membership import Member, NodeIdentity
from kvnode.node.node import Node
from kvnode.node.recovery import RecoveryPlan, recover
from kvnode.store.reply import Result
from wal.fs import FileSystem, PosixFileSystem
from wal.observer import Silent
from wal.options import Options


@dataclass
class Command:
    """One command whose result can be awaited."""

    op: list[object]
    size: int = 64
    result: asyncio.Future[Result] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def complete(self, result: Result) -> None:
        self.result.set_result(result)


class Cluster:
    """Some nodes that can be stopped hard and started again."""

    segment_bytes = 1 << 20

    def __init__(
        self,
        root: Path,
        count: int,
        snapshot_log_bytes: int = 1 << 30,
        *,
        lease_reads: bool = False,
    ) -> None:
        self.root = root
        self.lease_reads = lease_reads
        self.snapshot_log_bytes = snapshot_log_bytes
        self.members = tuple(
            Member(number, f"n{number}", "127.0.0.1", free_port()) for number in range(1, count + 1)
        )
        self.nodes: dict[int, Node] = {}
        self.incarnations = dict.fromkeys(range(1, count + 1), 0)
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.file_systems: dict[int, FileSystem] = {}
        """What the log of a node writes to, where it is not the real thing."""

    async def start(self, number: int) -> Node:
        loop = asyncio.get_running_loop()
        worker = ThreadWorker(loop, f"wal-{number}")
        data = self.root / f"n{number}"
        data.mkdir(exist_ok=True)
        self.incarnations[number] += 1
        plan = RecoveryPlan(
            data=data,
            cluster_number=99,
            node_id=number,
            voters=tuple(m.node_id for m in self.members),
            boot_id=self.incarnations[number],
            heartbeat_ms=50,
            election_ms=(150, 300),
            wal_options=Options(segment_bytes=self.segment_bytes),
            lease_reads=self.lease_reads,
        )
        rng = random.Random(number)
        file_system = self.file_systems.get(number) or PosixFileSystem()
        found = await asyncio.to_thread(
            recover, plan, file_system, Silent(), rng, lambda text: None
        )
        member = self.members[number - 1]
        node = Node(
            identity=NodeIdentity(
                number, member.name, "c", 1000 + number, self.incarnations[number], "test", ""
            ),
            members=self.members,
            found=found,
            worker=worker,
            loop=loop,
            rng=random.Random(random.getrandbits(64)),
            wall=time.time,
            bind_peer=lambda peer, storage, incarnation: None,
            snapshot_log_bytes=self.snapshot_log_bytes,
            lease_reads=self.lease_reads,
        )
        await node.start(member.host, member.port)
        self.nodes[number] = node
        self.tasks[number] = asyncio.create_task(node.run())
        return node

    async def stop(self, number: int) -> None:
        self.tasks[number].cancel()
        await asyncio.gather(self.tasks[number], return_exceptions=True)
        await self.nodes.pop(number).close(clean=True)

    async def leader(self) -> Node:
        while True:
            for node in self.nodes.values():
                if node.duties.leads and node.proposer.incarnation:
                    return node
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def cluster_of(
    count: int, root: Path, snapshot_log_bytes: int = 1 << 30, *, lease_reads: bool = False
) -> AsyncIterator[Cluster]:
    cluster = Cluster(root, count, snapshot_log_bytes, lease_reads=lease_reads)
    for number in range(1, count + 1):
        await cluster.start(number)
    try:
        yield cluster
    finally:
        for number in list(cluster.nodes):
            await cluster.stop(number)


async def write(node: Node, *op: object) -> Result:
    command = Command(list(op))
    node.submit_write(command)
    return await command.result


async def read(node: Node, *op: object) -> Result:
    command = Command(list(op))
    node.submit_read(command)
    return await command.result


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not condition():
        await asyncio.sleep(0.01)
