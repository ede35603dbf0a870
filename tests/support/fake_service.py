"""A node without consensus: the real state machine behind the front ends' ports, in this process.

By itself it answers in the next pass of the loop, like a node whose disk takes no time. With
`hold()` it keeps what arrives, and the test answers in whatever order it wants to see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from kvnode.errors import CommandError
from kvnode.node.waiters import Waits
from kvnode.service import (
    LogDiskStatus,
    MemberStatus,
    NodeStatus,
    Op,
    Pending,
    SnapshotStatus,
    Wait,
)
from kvnode.store import batch
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import STEP, is_write
from kvnode.store.reply import Result, Unfinished
from kvnode.store.state_machine import StateMachine
from kvnode.store.waiting import News

NODE_ID = 1


class FakeService:
    """An in-memory `Service` and `Control`.

    Attributes:
        held: operations that wait for the test, in order of arrival.
        written: how many writes arrived; `read`: how many reads; `read_stale`: how many of them
            without a round.
        matches: up to where each other voter has the log.
        coverage_waits: who waits for them, as (index, count, what is called then).
        waits: blocked clients.
        snapshots: who waits for the end of a snapshot.
        role: what `status` claims this node to be.
        refuse: if set, every operation is answered with it.
    """

    def __init__(self, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.held: list[Pending] = []
        self.written = self.read = self.read_stale = 0
        self._matches = [6]
        self.coverage_waits: dict[object, tuple[int, int, Callable[[int], None]]] = {}
        self.snapshots: list[Callable[[str | None], None]] = []
        self.log_disk = LogDiskStatus(is_full=False, is_slow=False, slow_syncs=0, wait_ms=0)
        self.saved_at_s = 0
        self.role = "leader"
        self.refuse: CommandError | None = None
        self._wall_ms = wall_ms
        self._is_holding = False
        self._arrived: list[Pending] = []
        self._machine = StateMachine(MemoryEngine(), hash_key=bytes(16))
        self._machine.apply(1, batch.encode_register(wall_ms(), 0, NODE_ID, 1, 1))
        self._sequence = 0
        self.waits = Waits(
            self._machine,
            NODE_ID,
            time.monotonic,
            submit=self.submit_write,
            has_room=lambda: True,
            silent_nodes=lambda _nodes, _ms: [],
        )

    # --- the port ---------------------------------------------------------------------------------

    def submit_write(self, pending: Pending) -> None:
        assert is_write(pending.op), pending.op
        self.written += 1
        self._take(pending)

    def submit_read(self, pending: Pending) -> None:
        assert not is_write(pending.op), pending.op
        self.read += 1
        self._take(pending)

    def submit_blocking(self, db: int, op: Op, size: int, done: Callable[[Result], None]) -> Wait:
        return self.waits.wait(db, op, size, done)

    def when_found(
        self,
        questions: Mapping[bytes, Op],
        found: Callable[[Result], None],
        again: Callable[[], None],
    ) -> Callable[[], None]:
        return self.waits.when_found(questions, found, again)

    @property
    def blocked(self) -> int:
        """How many clients wait in the store."""
        return len(self._machine._space.waiters.of_node(NODE_ID))

    def status(self) -> NodeStatus:
        members = (
            MemberStatus(1, "n1", "127.0.0.1:7379", "127.0.0.1:6379", "voter", 7, 0),
            MemberStatus(2, "n2", "127.0.0.1:7380", "127.0.0.1:6380", "voter", 6, 1),
        )
        leader = members[0] if self.role == "leader" else members[1]
        return NodeStatus(
            node="n1",
            node_id=NODE_ID,
            cluster_id="fake",
            role=self.role,
            leader=leader.name,
            leader_client_address=leader.client_address,
            term=3,
            commit=7,
            applied=7,
            last_index=7,
            members=members,
        )

    def now_ms(self) -> int:
        return self._wall_ms()

    def keyspace(self) -> dict[int, tuple[int, int]]:
        return self._machine.keyspace()

    def expired_keys(self) -> int:
        return self._machine.expired_keys

    # --- control ----------------------------------------------------------------------------------

    def submit_stale_read(self, pending: Pending) -> None:
        self.read_stale += 1
        self.submit_read(pending)

    def replicas_covering(self, index: int) -> int:
        return sum(match >= index for match in self.matches)

    def when_covered(
        self, index: int, count: int, done: Callable[[int], None]
    ) -> Callable[[], None]:
        key = object()
        self.coverage_waits[key] = (index, count, done)
        return lambda: self.coverage_waits.pop(key, None) and None

    @property
    def matches(self) -> list[int]:
        return self._matches

    @matches.setter
    def matches(self, matches: list[int]) -> None:
        self._matches = matches
        for index, count, done in list(self.coverage_waits.values()):
            if self.replicas_covering(index) >= count:
                done(self.replicas_covering(index))

    def take_snapshot(self, done: Callable[[str | None], None]) -> bool:
        if self.snapshots:
            return False
        self.snapshots.append(done)
        return True

    def snapshot_status(self) -> SnapshotStatus:
        return SnapshotStatus(self.saved_at_s, bool(self.snapshots), True, -1, 7)

    def log_disk_status(self) -> LogDiskStatus:
        return self.log_disk

    # --- what a test controls ---------------------------------------------------------------------

    def hold(self) -> None:
        """Keep what arrives from now on in `held`."""
        self._is_holding = True

    def answer(self, at: int = 0) -> None:
        """Answer one held operation."""
        pending = self.held.pop(at)
        pending.complete(self.run(pending.op))

    def answer_all(self) -> None:
        """Answer everything that is held, in order of arrival."""
        while self.held:
            self.answer()

    def release(self) -> None:
        """Answer everything, and hold no longer."""
        self._is_holding = False
        self.answer_all()

    def run(self, op: Op) -> Result:
        """The result of an operation, applied now."""
        if self.refuse is not None:
            return self.refuse
        if not is_write(op):
            return self._machine.read(op)
        result = self._write(op)
        while isinstance(result, Unfinished):
            result = self._write([STEP, 0, result.job])
        return result

    def _write(self, op: Op) -> Result:
        self._sequence += 1
        data = batch.encode_batch(
            self._wall_ms(), 0, NODE_ID, 1, self._sequence, batch.encode_ops([op])
        )
        applied = self._machine.apply(self._machine.applied + 1, data)
        if applied.news is not None:
            index = self._machine.applied
            asyncio.get_running_loop().call_soon(self._tell, index, applied.news)
        assert applied.results is not None
        return applied.results[0]

    def _tell(self, index: int, news: News) -> None:
        self.waits.applied(index, news)
        while self.waits.tell():
            pass

    def _take(self, pending: Pending) -> None:
        if self._is_holding:
            self.held.append(pending)
            return
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._answer_arrived)
        self._arrived.append(pending)

    def _answer_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        for pending in arrived:
            pending.complete(self.run(pending.op))
