"""Faults by load: ten thousand idle connections, readers in a tight loop, memory taken away."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
from collections.abc import Sequence

import hiredis

from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.faults.protocol import Fault, Injection, NotApplicable
from tests.chaos.plan import Whom
from tests.chaos.stage import Stage, StageNode
from tests.support.cgroup import CgroupUnavailable, MemoryCgroup

FAMILY = "load"
IDLE_CONNECTIONS = 10_000
OF_ONE_ADDRESS = 1_000
"""A node lets in a few more of one peer."""
BACKLOG = 100
"""How many are opened before others get a turn."""
DESCRIPTORS_SPARE = 2_000
READERS = 16
STREAM = "load:stream"
STREAM_ENTRIES = 5_000
ENTRY_BYTES = 100
MIB = 1 << 20
SQUEEZED_MIB = 2
"""What is left above what a node holds when its limit is lowered."""
MEMORY_EXIT, KILLED = 2, -9


class Crowd(Injection):
    """Connections that say nothing."""

    def __init__(self, fault: Fault, stage: Stage, nodes: Sequence[StageNode]) -> None:
        super().__init__(fault, stage, nodes)
        self._callers: list[socket.socket] = []
        self._counted: dict[str, int] = {}

    async def gather(self, count: int) -> None:
        """Connect so many, from as many loopback addresses as that takes.

        Not through the fronts: they would need as many descriptors again.
        """
        each = count // len(self.nodes)
        for number in range(each * len(self.nodes)):
            node = self.nodes[number % len(self.nodes)]
            caller = socket.socket()
            self._callers.append(caller)
            if node.namespace is None:
                caller.bind((f"127.0.1.{1 + number // OF_ONE_ADDRESS}", 0))
            caller.setblocking(False)
            caller.connect_ex((node.host, node.own.client))
            if number % BACKLOG == 0:
                await asyncio.sleep(0.01)

    async def undo(self) -> None:
        """Count those that were let in, and hang up."""
        if not self._callers:
            return
        for node in self.nodes:
            status = await asyncio.to_thread(node.status)
            self._counted[node.name] = int((status or {}).get("clients", 0))
        for caller in self._callers:
            caller.close()
        self._callers.clear()

    def took_hold(self) -> str | None:
        """The nodes say how many were there."""
        there = sum(self._counted.values())
        return f"{there} connections: {self._counted}" if there >= IDLE_CONNECTIONS // 2 else None


class IdleConnections(Fault):
    """Ten thousand connections that say nothing, on all nodes together."""

    name = "idle-connections"
    family = FAMILY
    group = "descriptors"
    whom = (Whom.ALL,)
    seconds = (2.0, 6.0)

    def missing(self, disks: Sequence[str]) -> str | None:
        """Enough descriptors for this process."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        wanted = IDLE_CONNECTIONS + DESCRIPTORS_SPARE
        return None if limit >= wanted else f"{limit} descriptors are too few, {wanted} are needed"

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Connect."""
        injection = Crowd(self, stage, targets)
        await injection.gather(IDLE_CONNECTIONS)
        return injection


class Readers(Injection):
    """Clients that ask for a whole stream again and again."""

    def __init__(self, fault: Fault, stage: Stage, node: StageNode) -> None:
        super().__init__(fault, stage, [node])
        self._replies = self._busy = 0
        self._tasks = [asyncio.create_task(self._read(node)) for _ in range(READERS)]

    async def _read(self, node: StageNode) -> None:
        while True:
            with contextlib.suppress(OSError, ConnectionLost, TimeoutError):
                connection = await Connection.open((node.host, node.own.client))
                try:
                    await self._ask(connection)
                finally:
                    connection.close()
            await asyncio.sleep(0.05)

    async def _ask(self, connection: Connection) -> None:
        while True:
            (reply,) = await connection.call(("XREAD", "STREAMS", STREAM, "0"))
            self._replies += 1
            self._busy += isinstance(reply, hiredis.ReplyError)

    async def undo(self) -> None:
        """No more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def took_hold(self) -> str | None:
        """Replies came, or refusals."""
        return f"{self._replies} replies, {self._busy} refused" if self._replies else None


class HotReaders(Fault):
    """Clients of one node read a stream of thousands of entries in a tight loop."""

    name = "xread-loop"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (2.0, 8.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Make the stream if it is not there, and read."""
        node = targets[0]
        try:
            connection = await Connection.open((node.host, node.own.client))
            (length,) = await connection.call(("XLEN", STREAM))
            while isinstance(length, int) and length < STREAM_ENTRIES:
                entry = ("XADD", STREAM, "*", "field", b"x" * ENTRY_BYTES)
                await connection.call(*[entry] * 250)
                length += 250
            connection.close()
        except (OSError, ConnectionLost, TimeoutError) as error:
            raise NotApplicable(f"no stream can be made: {error!r}") from error
        return Readers(self, stage, node)


class Squeezed(Injection):
    """A node whose memory limit was lowered to little more than what it holds."""

    def __init__(
        self, fault: Fault, stage: Stage, node: StageNode, cgroup: MemoryCgroup, limit: int
    ) -> None:
        exits = [MEMORY_EXIT, KILLED]
        super().__init__(fault, stage, [node], excused=[node], exits=exits)
        stage.hold_down(node, self)
        self._cgroup = cgroup
        self._before = limit_hits(cgroup)
        self._after = -1
        self._limit = limit
        self._pid = node.pid
        with contextlib.suppress(OSError):  # version 1 refuses what it cannot reach at once
            cgroup.set_limit(limit)

    async def undo(self) -> None:
        """As much as before."""
        if self._after < 0:
            self._after = limit_hits(self._cgroup)
        self._cgroup.set_limit(self.stage.setting.memory_mib * MIB)
        for node in self.nodes:
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """The kernel says that the limit was reached."""
        hits = self._after - self._before
        return f"{self._limit // MIB} MiB were reached {hits} times" if hits > 0 else None


def limit_hits(cgroup: MemoryCgroup) -> int:
    """How often the processes in a cgroup met its limit."""
    if not cgroup.is_v2:
        return int((cgroup.directory / "memory.failcnt").read_text())
    words = (cgroup.directory / "memory.events").read_text().split()
    return int(dict(zip(words[::2], words[1::2], strict=True))["max"])


def usage_bytes(cgroup: MemoryCgroup) -> int:
    """What the processes in a cgroup hold, page cache included."""
    name = "memory.current" if cgroup.is_v2 else "memory.usage_in_bytes"
    return int((cgroup.directory / name).read_text())


class LessMemory(Fault):
    """A running node's memory limit is lowered: it sheds load, leaves with 2, or is killed."""

    name = "less-memory"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (2.0, 6.0)

    def missing(self, disks: Sequence[str]) -> str | None:
        """A memory cgroup of its own for every node."""
        try:
            trial = MemoryCgroup.make("kvnode-chaos-trial", 64 * MIB)
        except CgroupUnavailable as reason:
            return str(reason)
        trial.remove()
        return None

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Lower it."""
        node = targets[0]
        if node.cgroup is None:
            raise NotApplicable("the nodes have no memory cgroups")
        limit = usage_bytes(node.cgroup) + SQUEEZED_MIB * MIB
        return Squeezed(self, stage, node, node.cgroup, limit)
