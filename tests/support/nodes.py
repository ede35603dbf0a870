"""Whole nodes in one event loop, over real sockets and a real log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvnode.node.hello import Refusal
from kvnode.node.log_writer import ThreadWorker
from kvnode.node.node import Node
from kvnode.node.recovery import RecoveryPlan, recover
from kvnode.node.roster import founder
from kvnode.node.status import NodeIdentity
from kvnode.store.members import Member
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


class Strangers:
    """A data directory that remembers nobody and refuses nobody."""

    def bind_peer(self, peer: int, storage_id: int, incarnation: int) -> Refusal | None:
        return None

    def note_members(self, index: int, members: Mapping[int, Member]) -> None:
        pass


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
            founder(number, f"n{number}", f"127.0.0.1:{free_port()}")
            for number in range(1, count + 1)
        )
        self.nodes: dict[int, Node] = {}
        self.incarnations = dict.fromkeys(range(1, count + 1), 0)
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.file_systems: dict[int, FileSystem] = {}
        """What the log of a node writes to, where it is not the real thing."""

    async def start(self, number: int) -> Node:
        """Start a founder."""
        port = int(self.members[number - 1].peer_address.rpartition(":")[2])
        return await self._start(number, number, port, self.members)

    async def start_joined(self, number: int, node_id: int, port: int) -> Node:
        """Start a node that has joined; it is known by its node id here."""
        return await self._start(number, node_id, port, ())

    async def _start(
        self, number: int, node_id: int, port: int, founders: tuple[Member, ...]
    ) -> Node:
        loop = asyncio.get_running_loop()
        worker = ThreadWorker(loop, f"wal-{number}")
        data = self.root / f"n{number}"
        data.mkdir(exist_ok=True)
        incarnation = self.incarnations[node_id] = self.incarnations.get(node_id, 0) + 1
        plan = RecoveryPlan(
            data=data,
            cluster_number=99,
            node_id=node_id,
            founders={member.node_id: member for member in founders},
            is_alone=len(founders) == 1,
            boot_id=incarnation,
            heartbeat_ms=50,
            election_ms=(150, 300),
            wal_options=Options(segment_bytes=self.segment_bytes),
            lease_reads=self.lease_reads,
        )
        rng = random.Random(number)
        file_system = self.file_systems.get(node_id) or PosixFileSystem()
        found = await asyncio.to_thread(
            recover, plan, file_system, Silent(), rng, lambda text: None
        )
        node = Node(
            identity=NodeIdentity(
                node_id,
                f"n{number}",
                "c",
                1000 + number,
                incarnation,
                "test",
                "",
                f"127.0.0.1:{port}",
            ),
            founders=founders,
            found=found,
            worker=worker,
            loop=loop,
            rng=random.Random(random.getrandbits(64)),
            wall=time.time,
            directory=Strangers(),
            snapshot_log_bytes=self.snapshot_log_bytes,
            election_ms=150,
            lease_reads=self.lease_reads,
        )
        await node.start("127.0.0.1", port)
        self.nodes[node_id] = node
        self.tasks[node_id] = asyncio.create_task(node.run())
        return node

    async def stop(self, number: int) -> None:
        self.tasks[number].cancel()
        await asyncio.gather(self.tasks[number], return_exceptions=True)
        await self.nodes.pop(number).close(clean=True)

    async def leader(self) -> Node:
        while True:
            for node in self.nodes.values():
                # The registry is founded when all have been heard: no entry comes by itself after.
                is_quiet = node.roster.registry or len(self.nodes) < len(self.members)
                if node.duties.leads and node.proposer.incarnation and is_quiet:
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
