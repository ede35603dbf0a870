"""Heavy commands: which reads leave the loop, and which writes go into the log one at a time.

A read may run here at once or in a worker process (`kvnode.workers`). It is sent away when what it
weighs (`kvnode.store.redis.weights`) is more than the loop can spare and the pending command knows
how its reply is to be written. Where there are no workers (tools, simulations) all run here.

A worker sees what the engine has committed, and the node's transaction is mostly open. So a read
goes to a worker only after a commit of what was applied when its turn came; commits for that are at
least ten milliseconds apart, as each has its price.

A write cannot leave: every node applies it, in one go. Where it is much more work than its own
bytes tell (`kvnode.store.redis.write_weights`), the node that takes it lets the next one into the
log only when this one is answered, and refuses others until then. So at most one of each node holds
up apply.
"""

from __future__ import annotations

import traceback
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from kvnode.admission.ladder import Rung
from kvnode.admission.pressure import Pressure
from kvnode.errors import CommandError, KvnodeError, Overloaded, Refused
from kvnode.limits import (
    HEAVY_COMMANDS_PER_WORKER_MAX,
    HEAVY_COMMIT_MS,
    HEAVY_RETRY_MS_MAX,
    HEAVY_RETRY_MS_MIN,
    HEAVY_ROWS_MIN,
    HEAVY_WRITE_ROWS_MIN,
    HOLD_MS,
)
from kvnode.service import Pending, RenderedPending, Rendering
from kvnode.store.engine import StoredEngine
from kvnode.store.redis.write_weights import STORES
from kvnode.store.reply import Result
from kvnode.store.state_machine import StateMachine

ROW_MICROSECONDS = 2
"""What a row of a weight takes, about."""


class Workers(Protocol):
    """What runs heavy reads (`kvnode.workers.pool.WorkerPool`)."""

    reply_bytes_max: int

    @property
    def is_idle(self) -> bool:
        """No read waits or runs."""

    def submit(self, pending: RenderedPending, rendering: Rendering, index: int) -> None:
        """Have a read done on what is committed at `index` or later, or refuse it."""

    def refuse(self, pending: RenderedPending) -> None:
        """Refuse a read, with a time to try again."""

    def pump(self) -> None:
        """More is committed."""

    def sweep(self) -> None:
        """Time passes."""

    def engine_replaced(self) -> None:
        """Nobody needs the old engine any more."""

    def shed(self, *, running: bool) -> None:
        """Memory is scarce: end idle workers, or all."""

    def close(self) -> None:
        """The node ends."""


class HeavyWrites:
    """The one place of a node for writes that hold up apply.

    Who stores a large result (`write_weights.STORES`) has nothing else under way on its connection,
    so it may wait for the place. Any other write may not: those behind it would overtake it.

    Args:
        machine: the store.
        pressure: from the first rung on, heavy writes are refused.
        propose: puts a write into the log.
        on_failure: told of a weighing that met a bug, by its op code and a traceback.
        monotonic: seconds.
    """

    def __init__(
        self,
        machine: StateMachine,
        pressure: Pressure,
        propose: Callable[[Pending], None],
        on_failure: Callable[[int, str], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._machine = machine
        self._pressure = pressure
        self._propose = propose
        self._on_failure = on_failure
        self._monotonic = monotonic
        self._weight = 0
        """Of the one that is on its way; 0: the place is free."""
        self._waiting: deque[tuple[Pending, int, str, float]] = deque()
        """Writes, their weights, their peers, and when they came."""
        self.admitted = 0
        self.refused = 0

    @property
    def is_idle(self) -> bool:
        """No write waits for the place."""
        return not self._waiting

    @property
    def waiting(self) -> int:
        """Writes that wait for the place."""
        return len(self._waiting)

    def admit(self, pending: Pending) -> Pending | None:
        """What to put into the log for a write; None if it waits, or was refused.

        Raises:
            KvnodeError: the engine failed.
        """
        try:
            return self._admit(pending)
        except KvnodeError:
            raise
        except Exception:  # noqa: BLE001 - nobody knows what it weighs, and it may weigh nothing
            self._on_failure(pending.op[0], traceback.format_exc())
            return pending

    def _admit(self, pending: Pending) -> Pending | None:
        weight = self._machine.weight_of(pending.op)
        if weight < HEAVY_WRITE_ROWS_MIN:
            return pending
        if self._pressure.rung >= Rung.SHED:
            self._refuse(pending, weight)
            return None
        if self._weight:
            self._wait(pending, weight)
            return None
        return self._in_place(pending, weight)

    def _in_place(self, pending: Pending, weight: int) -> Pending:
        self._weight = weight
        self.admitted += 1
        return _InPlace(pending, weight, self._leave)

    def _wait(self, pending: Pending, weight: int) -> None:
        rendering = pending.rendering if isinstance(pending, RenderedPending) else None
        peer = rendering.peer if rendering is not None else ""
        places = HEAVY_COMMANDS_PER_WORKER_MAX
        own = sum([each[2] == peer for each in self._waiting])
        if pending.op[0] in STORES and len(self._waiting) < places and own < places // 2:
            self._waiting.append((pending, weight, peer, self._monotonic()))
        else:
            self._refuse(pending, self._weight)

    def _leave(self) -> None:
        self._weight = 0
        if self._waiting:
            pending, weight, _, _ = self._waiting.popleft()
            self._propose(self._in_place(pending, weight))

    def sweep(self) -> None:
        """Refuse what has waited too long."""
        before = self._monotonic() - HOLD_MS / 1000
        while self._waiting and self._waiting[0][3] <= before:
            pending, weight, _, _ = self._waiting.popleft()
            self._refuse(pending, weight)

    def _refuse(self, pending: Pending, weight: int) -> None:
        expected_ms = weight * ROW_MICROSECONDS // 1000
        self.refused += 1
        pending.complete(Overloaded(max(HEAVY_RETRY_MS_MIN, min(expected_ms, HEAVY_RETRY_MS_MAX))))


class _InPlace:
    """A write that holds the place until it is answered (a `Pending`), and is charged for it."""

    __slots__ = ("_leave", "_pending", "_weight", "op", "size")

    def __init__(self, pending: Pending, weight: int, leave: Callable[[], None]) -> None:
        self.op = pending.op
        self.size = pending.size
        self._pending = pending
        self._weight = weight
        self._leave = leave

    def complete(self, result: Result) -> None:
        pending = self._pending
        self._leave()
        pending.complete(result)
        if isinstance(pending, RenderedPending) and not isinstance(result, Refused):
            pending.charge(self._weight * ROW_MICROSECONDS / 1e6)


def _all_peers(_peer: str) -> bool:
    return True


class HeavyReads:
    """See the module's docstring. To the workers it is the engine (`kvnode.workers.pool.Engine`).

    Args:
        machine: the store.
        commit: commits its engine; not called while `may_commit` says no.
        may_commit: whether the engine may be touched now.
        pressure: from the first rung on, heavy reads are refused.
        on_failure: told of a read that met a bug, by its op code and a traceback.
    """

    def __init__(
        self,
        machine: StateMachine,
        loop: AbstractEventLoop,
        *,
        commit: Callable[[], None],
        may_commit: Callable[[], bool],
        pressure: Pressure,
        on_failure: Callable[[int, str], None],
    ) -> None:
        self._machine = machine
        self._loop = loop
        self._commit_engine = commit
        self._may_commit = may_commit
        self._pressure = pressure
        self.read_failed = on_failure
        self.admits: Callable[[str], bool] = _all_peers
        """Whether a peer may run one more heavy read now; the front end knows."""
        self._workers: Workers | None = None
        self._timer: TimerHandle | None = None
        self._committed_at = 0.0
        self._unsubscribe = pressure.subscribe(self._on_rung)

    def employ(self, workers: Workers) -> None:
        """From now on heavy reads are theirs."""
        self._workers = workers

    # --- which reads ------------------------------------------------------------------------------

    def takes(self, pending: Pending) -> bool:
        """Whether this read is heavy; then it is answered later, or was refused.

        Raises:
            KvnodeError: the engine failed.
        """
        workers = self._workers
        if workers is None or self._machine.weight_of(pending.op) < HEAVY_ROWS_MIN:
            return False
        if not isinstance(pending, RenderedPending):
            return False
        rendering = pending.rendering
        if rendering is None:
            return False
        largest = workers.reply_bytes_max
        if self._machine.least_reply_bytes(pending.op) > largest:
            pending.complete(CommandError(f"ERR reply is larger than {largest} bytes"))
        elif self._pressure.rung >= Rung.SHED or not self.admits(rendering.peer):
            workers.refuse(pending)
        else:
            workers.submit(pending, rendering, self._machine.applied)
        return True

    @property
    def is_idle(self) -> bool:
        """No read is with the workers."""
        return self._workers is None or self._workers.is_idle

    # --- the engine, as workers see it ------------------------------------------------------------

    @property
    def directory(self) -> str:
        """Where it is now."""
        return str(cast("StoredEngine", self._machine.engine).path)

    @property
    def committed(self) -> int:
        """The log index up to which others see it."""
        return self._machine.committed

    def want_commit(self) -> None:
        """Commit soon."""
        if self._timer is None:
            wait_s = self._committed_at + HEAVY_COMMIT_MS / 1000 - self._loop.time()
            self._timer = self._loop.call_later(max(wait_s, 0.0), self._commit)

    def _commit(self) -> None:
        self._timer = None
        self._committed_at = self._loop.time()
        if self._may_commit():
            self._commit_engine()
        if self._workers is not None:
            self._workers.pump()

    def release_stale_readers(self) -> None:
        """A worker is gone: free what it held."""
        cast("StoredEngine", self._machine.engine).release_stale_readers()

    # --- what happens -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Time passes."""
        if self._workers is not None:
            self._workers.sweep()

    def engine_replaced(self) -> None:
        """A snapshot took the place of the store."""
        if self._workers is not None:
            self._workers.engine_replaced()

    def _on_rung(self, rung: Rung) -> None:
        if rung >= Rung.SHED and self._workers is not None:
            self._workers.shed(running=rung >= Rung.REFUSE)

    def close(self) -> None:
        """The node ends: no worker outlives this."""
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._workers is not None:
            self._workers.close()
