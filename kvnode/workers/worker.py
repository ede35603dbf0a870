"""The node's end of the socket to one worker process."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import subprocess
import sys
from typing import Final, Protocol, cast

from kvnode.admission.ledger import Ledger
from kvnode.errors import CommandError
from kvnode.limits import MIB, WORKER_START_SECONDS_MAX
from kvnode.service import RenderedPending, Rendering
from kvnode.workers.frames import ANSWER_BYTES, LET_GO, Answer, Job, Status

ENDED = CommandError("ERR the worker process of this command ended; the command was not done")

MAPPED_BYTES_MIN: Final = MIB
"""Larger replies are received into a mapping of their own: the kernel makes its pages as they are
filled, and takes them back when the reply is gone."""


class Task:
    """One heavy read on its way.

    Attributes:
        pending: who asks.
        rendering: how to write the reply.
        index: of the log, which the read must see.
        came_at: when (the loop's time).
        attempts: how often it was given to a worker in vain.
    """

    __slots__ = ("attempts", "came_at", "index", "pending", "rendering")

    def __init__(
        self, pending: RenderedPending, rendering: Rendering, index: int, came_at: float
    ) -> None:
        self.pending = pending
        self.rendering = rendering
        self.index = index
        self.came_at = came_at
        self.attempts = 0


class Owner(Protocol):
    """Who has workers (`WorkerPool`)."""

    @property
    def seconds_max(self) -> float:
        """A job that takes longer is ended."""

    @property
    def ledger(self) -> Ledger:
        """Where bytes on their way are counted."""

    def pump(self) -> None:
        """A worker has nothing to do."""

    def answered(self, worker: Worker, answer: Answer, body: bytes) -> None:
        """It has done its job."""

    def gone(self, worker: Worker, why: CommandError) -> None:
        """It has ended, or must be ended."""


class Worker(asyncio.BufferedProtocol):
    """The node's end of the socket to one worker process.

    Attributes:
        connecting: what connects it to the loop.
        process: that it is.
        task: what it is doing.
        is_ready: it has started, and may get jobs.
        is_wanted: nobody has told it to end.
        has_served: it has answered at least once.
        received: bytes of the answer that is arriving.
        began_at: when it got its job (the loop's time).
    """

    def __init__(
        self,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        process: subprocess.Popen[bytes],
    ) -> None:
        self._owner = owner
        self._loop = loop
        self.process = process
        self.task: Task | None = None
        self.is_ready = False
        self.is_wanted = True
        self.has_served = False
        self.began_at = 0.0
        self.received = 0
        self._is_over = False
        self._charged = 0
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._buffer: bytearray | mmap.mmap = bytearray(ANSWER_BYTES)
        self._expected = ANSWER_BYTES
        self.connecting: asyncio.Task[object] | None = None
        self._timer = loop.call_later(WORKER_START_SECONDS_MAX, self._too_slow)

    @property
    def is_idle(self) -> bool:
        """It may get a job."""
        return self.is_ready and self.task is None

    def begin(self, task: Task, job: Job) -> None:
        """Give it a job."""
        assert self._transport is not None
        self.task = task
        self.began_at = self._loop.time()
        self._timer = self._loop.call_later(self._owner.seconds_max, self._too_slow)
        frame = job.pack()
        self._charge(len(frame))
        self._transport.write(frame)

    def _charge(self, size: int) -> None:
        """Account for what is on its way."""
        self._owner.ledger.workers += size
        self._charged += size

    def discharge(self) -> None:
        """Nothing is on its way any more: the reply, if there is one, is somebody else's now."""
        self._charge(-self._charged)

    def let_go(self) -> None:
        """Have it close the engine that it has open."""
        assert self._transport is not None
        self._transport.write(LET_GO.pack())

    def _too_slow(self) -> None:
        text = f"ERR the command was ended after {self._owner.seconds_max:g} seconds"
        self._owner.gone(self, CommandError(text))

    def end(self) -> None:
        """Kill it."""
        self._timer.cancel()
        self.discharge()
        self._is_over = True
        self.is_ready = False
        if self._transport is not None:
            self._transport.abort()
        self.process.kill()

    # --- the socket -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._is_over:  # it was ended before it was connected
            self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._owner.gone(self, ENDED)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self.received : self._expected]

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self.received < self._expected:
            return
        if self._answer is None:
            assert isinstance(self._buffer, bytearray)
            try:
                self._answer = Answer.unpack(self._buffer)
            except ValueError:
                self._owner.gone(self, ENDED)
                return
            if self._answer.length:
                self._expect(self._answer.length)
                self._charge(self._answer.length)
                return
        self._take()

    def _expect(self, length: int) -> None:
        self.received = 0
        self._expected = length
        self._buffer = mmap.mmap(-1, length) if length >= MAPPED_BYTES_MIN else bytearray(length)

    def _take(self) -> None:
        answer, body = self._answer, self._buffer
        assert answer is not None
        self._answer = None
        self.discharge()
        self._expect(ANSWER_BYTES)
        self._timer.cancel()
        if answer.status == Status.READY:
            self.is_ready = True
            self._owner.pump()
            return
        self.has_served = True
        # A view of a mapping does for bytes wherever a reply goes, and is not copied.
        reply = bytes(body) if isinstance(body, bytearray) else cast("bytes", memoryview(body))
        self._owner.answered(self, answer, reply if answer.length else b"")


def start(owner: Owner, loop: asyncio.AbstractEventLoop, hash_key: bytes) -> Worker:
    """Start a process. Call it from the main thread: the kernel ends the worker with its thread.

    Raises:
        OSError: there is no room for one.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        data_bytes_max = owner.ledger.budget.worker_bytes_max
        numbers = map(str, (theirs.fileno(), os.getpid(), data_bytes_max))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "kvnode.workers.process", *numbers, hash_key.hex()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except OSError:
            ours.close()
            raise
    worker = Worker(owner, loop, process)
    ours.setblocking(False)
    connecting = loop.create_task(loop.create_connection(lambda: worker, sock=ours))
    worker.connecting = connecting  # the loop keeps only weak references to tasks
    return worker
