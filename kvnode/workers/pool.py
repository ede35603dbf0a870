"""The workers of a node: started when they are needed, never waited for.

All of this is the event loop's: it sends a job, takes an answer as it arrives, a piece at a time,
and keeps a timer. Nothing blocks but the start of a process, some milliseconds, once.

A read that finds no place is refused at once, with the time after which it may try again. There are
a few places to wait, so that polite clients are not refused: first come, first served by peer, and
no peer has more than half of them.

Linearizable: a job names the log index that its read must see, and goes to a worker only when the
engine has committed that far; the worker looks at the engine after it got the job.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from kvnode.admission.ledger import Ledger
from kvnode.errors import CommandError, Overloaded
from kvnode.limits import (
    HEAVY_COMMANDS_PER_WORKER_MAX,
    HEAVY_RETRY_MS_MAX,
    HEAVY_RETRY_MS_MIN,
    HEAVY_SECONDS_MAX,
    HOLD_MS,
    WORKER_RETRY_MS_MAX,
    WORKER_RETRY_MS_MIN,
)
from kvnode.obs.histogram import SecondsHistogram
from kvnode.obs.log import event
from kvnode.service import READ_FAILED, READ_STOPPING, RenderedPending, Rendering
from kvnode.workers.frames import Answer, Job, Status
from kvnode.workers.worker import ENDED, Task, Worker, start

_log = logging.getLogger("kvnode.workers")

ATTEMPTS_MAX: Final = 3
"""A job whose engine was replaced while it was on its way is sent again."""

CLOSE_SECONDS_MAX: Final = 0.2
"""A worker that was killed is waited for so long, so that it leaves no zombie behind."""

SECONDS_WEIGHT: Final = 0.2
"""Of the newest job in the moving average of their times."""

# fmt: off
BUCKETS_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)
# fmt: on


class Engine(Protocol):
    """What the pool needs to know of the node's engine."""

    @property
    def directory(self) -> str:
        """Where it is now."""

    @property
    def committed(self) -> int:
        """The log index up to which others see it."""

    def want_commit(self) -> None:
        """Commit soon, and call `WorkerPool.pump` then."""

    def release_stale_readers(self) -> None:
        """A worker is gone: free what it held."""

    def read_failed(self, code: int, traceback: str) -> None:
        """A read met a bug in a worker."""


@dataclass(slots=True)
class PoolStats:
    """Plain counters for metrics and /status.

    Attributes:
        refused: reads that found no place.
        restarts: workers that ended before they were told to.
        promoted: reads that were given to workers, by command.
        seconds: how long they took, from their arrival.
    """

    refused: int = 0
    restarts: int = 0
    promoted: Counter[str] = field(default_factory=Counter)
    seconds: SecondsHistogram = field(default_factory=lambda: SecondsHistogram(BUCKETS_SECONDS))


class WorkerPool:
    """At most `size` worker processes, and the heavy reads that wait for them.

    Args:
        engine: the node's.
        size: processes at most.
        hash_key: of the cluster.
        ledger: counts what is on its way; its budget has the largest reply, and the private memory
            of a worker.
        queue_per_worker: reads that may wait, for each process.
        seconds_max: a read that takes longer is ended.
    """

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        *,
        size: int,
        hash_key: bytes,
        ledger: Ledger,
        queue_per_worker: int = HEAVY_COMMANDS_PER_WORKER_MAX,
        seconds_max: float = HEAVY_SECONDS_MAX,
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._size = size
        self._hash_key = hash_key
        self.ledger = ledger
        self.seconds_max = seconds_max
        self.reply_bytes_max = ledger.budget.reply_bytes_max
        self._too_large = CommandError(f"ERR reply is larger than {self.reply_bytes_max} bytes")
        self._places = size * queue_per_worker
        self.stats = PoolStats()
        self._workers: list[Worker] = []
        self._waiting: OrderedDict[str, deque[Task]] = OrderedDict()
        self._waiting_count = 0
        self._mean_seconds = 0.0
        self._retry_ms = 0
        self._may_start_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._dying: list[subprocess.Popen[bytes]] = []
        self._is_closed = False

    # --- what others see --------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Heavy reads that have no worker yet."""
        return self._waiting_count

    @property
    def running(self) -> int:
        """Heavy reads that a worker is at."""
        return sum([worker.task is not None for worker in self._workers])

    @property
    def is_idle(self) -> bool:
        """No read waits or runs."""
        return not self._waiting and not self.running

    def pids(self) -> tuple[int, ...]:
        """Of the worker processes; any thread may ask."""
        return tuple([worker.process.pid for worker in tuple(self._workers)])

    def retry_ms(self) -> int:
        """When a place is likely to be free, as far as the last reads tell."""
        expected_s = self._mean_seconds * (self._waiting_count + 1) / self._size
        return max(HEAVY_RETRY_MS_MIN, min(round(expected_s * 1000), HEAVY_RETRY_MS_MAX))

    # --- taking reads -----------------------------------------------------------------------------

    def submit(self, pending: RenderedPending, rendering: Rendering, index: int) -> None:
        """Have a read done on what is committed at `index` or later, or refuse it now."""
        own = self._waiting.get(rendering.peer, ())
        if self._is_closed:
            pending.complete(READ_STOPPING)
        elif self._waiting_count >= self._places or len(own) >= max(1, self._places // 2):
            self.refuse(pending)
        else:
            self.stats.promoted[rendering.command] += 1
            self._wait(Task(pending, rendering, index, self._loop.time()))
            self.pump()

    def refuse(self, pending: RenderedPending) -> None:
        """There is no place for it."""
        self.stats.refused += 1
        pending.complete(Overloaded(self.retry_ms()))

    def _wait(self, task: Task, *, first: bool = False) -> None:
        peer = task.rendering.peer
        tasks = self._waiting.setdefault(peer, deque())
        self._waiting_count += 1
        if first:
            tasks.appendleft(task)
            self._waiting.move_to_end(peer, last=False)
        else:
            tasks.append(task)

    def _next(self) -> Task:
        """The first one of the peer whose turn it is; its next one comes after all other peers'."""
        peer, tasks = next(iter(self._waiting.items()))
        task = tasks.popleft()
        self._waiting_count -= 1
        if tasks:
            self._waiting.move_to_end(peer)
        else:
            del self._waiting[peer]
        return task

    def pump(self) -> None:
        """Give what waits to workers that have nothing to do; start some if there are too few."""
        while self._waiting and not self._is_closed:
            worker = next((each for each in self._workers if each.is_idle), None)
            if worker is None:
                self._start_more()
                return
            task = self._next()
            if not task.pending.is_wanted:
                task.pending.complete(None)
            elif task.index > self._engine.committed:
                self._wait(task, first=True)
                self._engine.want_commit()
                return
            else:
                worker.begin(task, self._job(task))

    def _job(self, task: Task) -> Job:
        rendering = task.rendering
        return Job(
            self._engine.directory,
            rendering.command,
            rendering.protocol,
            task.pending.op,
            self.reply_bytes_max,
        )

    def sweep(self) -> None:
        """Refuse what has waited too long, and collect processes that have ended."""
        self._dying = [process for process in self._dying if process.poll() is None]
        if not self._waiting:
            return
        before = self._loop.time() - HOLD_MS / 1000
        for peer, tasks in list(self._waiting.items()):
            while tasks and tasks[0].came_at <= before:
                self._waiting_count -= 1
                self.refuse(tasks.popleft().pending)
            if not tasks:
                del self._waiting[peer]
        self.pump()

    # --- workers come and go ----------------------------------------------------------------------

    def _start_more(self) -> None:
        starting = sum([not worker.is_ready for worker in self._workers])
        if len(self._workers) >= self._size or starting >= self._waiting_count:
            return
        wait_s = self._may_start_at - self._loop.time()
        if wait_s > 0:
            if self._timer is None:
                self._timer = self._loop.call_later(wait_s, self._start_later)
            return
        try:
            self._workers.append(start(self, self._loop, self._hash_key))
        except OSError as error:
            event(_log, logging.WARNING, "a worker process cannot be started", error=repr(error))
            self._back_off()
            self._start_more()

    def _start_later(self) -> None:
        self._timer = None
        self.pump()

    def _back_off(self) -> None:
        self._retry_ms = min(max(2 * self._retry_ms, WORKER_RETRY_MS_MIN), WORKER_RETRY_MS_MAX)
        self._may_start_at = self._loop.time() + self._retry_ms / 1000

    def gone(self, worker: Worker, why: CommandError) -> None:
        """A worker has ended, or is being killed: its command ends with it."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        worker.end()
        self._dying.append(worker.process)
        task, worker.task = worker.task, None
        if worker.is_wanted:
            self.stats.restarts += 1
            event(_log, logging.WARNING, "a worker process ended", pid=worker.process.pid, why=why)
            if not worker.has_served:
                self._back_off()
        self._loop.call_later(0.1, self._release_readers, worker.process)
        if task is not None:
            task.pending.complete(why)
        self.pump()

    def _release_readers(self, process: subprocess.Popen[bytes]) -> None:
        """Once it is really gone, what it held in the engine is nobody's."""
        if self._is_closed:
            return
        if process.poll() is None:
            self._loop.call_later(0.1, self._release_readers, process)
        else:
            self._engine.release_stale_readers()

    def answered(self, worker: Worker, answer: Answer, body: bytes) -> None:
        """A worker has done its job."""
        task, worker.task = worker.task, None
        if task is None:
            self.gone(worker, ENDED)
            return
        self._retry_ms = 0
        elapsed_s = self._loop.time() - worker.began_at
        self._mean_seconds += SECONDS_WEIGHT * (elapsed_s - self._mean_seconds)
        self.stats.seconds.observe(self._loop.time() - task.came_at)
        task.pending.charge(elapsed_s)
        self._complete(task, answer, body)
        self.pump()

    def _complete(self, task: Task, answer: Answer, body: bytes) -> None:
        pending, status = task.pending, answer.status
        if status == Status.REPLY:
            pending.complete_rendered(body, answer.missed, answer.found)
        elif status == Status.NIL:
            pending.complete(None)
        elif status == Status.TOO_LARGE:
            pending.complete(self._too_large)
        elif status == Status.FAILED:
            self._engine.read_failed(pending.op[0], bytes(body).decode("utf-8", "replace"))
            pending.complete(READ_FAILED)
        else:  # another engine took the place of the one that the job named
            task.attempts += 1
            if task.attempts < ATTEMPTS_MAX:
                self._wait(task, first=True)
            else:
                pending.complete(ENDED)

    def engine_replaced(self) -> None:
        """Workers with nothing to do let go of the engine that they have open."""
        for worker in self._workers:
            if worker.is_idle:
                worker.let_go()

    def shed(self, *, running: bool) -> None:
        """Memory is scarce: end workers that have nothing to do, or with `running` all of them.

        Then all reads that run or wait are refused.
        """
        busy = Overloaded(HEAVY_RETRY_MS_MAX)
        while running and self._waiting:
            self.refuse(self._next().pending)
        for worker in [each for each in self._workers if each.is_idle or running]:
            self.stats.refused += worker.task is not None
            worker.is_wanted = False
            self.gone(worker, busy)

    def close(self) -> None:
        """End all workers; what waits or runs is answered with an error."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for worker in list(self._workers):
            worker.is_wanted = False
            self.gone(worker, READ_STOPPING)
        while self._waiting:
            self._next().pending.complete(READ_STOPPING)
        for process in self._dying:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_SECONDS_MAX)
