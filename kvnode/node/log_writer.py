"""The way to the disk: one thread, one group per sync, acknowledgements back in order.

The driver submits what Raft wants durable (`raft.Persist`). While the thread is busy with one
group, further ones gather and become the next group, so that the cost of one fdatasync is shared
by everything that arrived meanwhile (group commit). When a group is durable, its numbers go back
to Raft, and only then do the messages leave that waited for it: *persist before send* is kept by
the shape of this class, nothing else ever sees those messages.

An entry's payload in the log is ``term:u64-le kind:u8 data``; the index is the record's own.
"""

from __future__ import annotations

import queue
import struct
import threading
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kvnode.node.disk_health import DiskHealth
from raft.messages import Message
from raft.types import Entry, Persist
from wal.errors import DiskFull
from wal.format import Record
from wal.log import Wal

_ENTRY_HEAD = struct.Struct("<QB")

IDLE_MARK_SECONDS = 0.1
"""After this long without an append a marker makes the last group a witnessed one."""

STATE_REFRESH_SECONDS = 1.0
"""Under load the state files learn the synced position at least this often."""

GROUP_COPIES = 2
"""What a group that is being written costs: its records, and the frame of them all."""

FULL_RETRY_SECONDS = 1.0
"""A full disk is tried again after this long."""

Outgoing = list[tuple[int, Message]]


def encode_entry(entry: Entry) -> Record:
    """A Raft entry as a record of the log."""
    return Record(entry.index, _ENTRY_HEAD.pack(entry.term, entry.kind) + entry.data)


def decode_entry(index: int, payload: bytes | memoryview) -> Entry:
    """The Raft entry in a record's payload."""
    term, kind = _ENTRY_HEAD.unpack_from(payload)
    return Entry(term, index, kind, bytes(payload[_ENTRY_HEAD.size :]))


class WalStorage:
    """Reads entries back for followers that are behind what memory holds (`raft.Storage`).

    Raft's log wants it before the log is open, since it is fed while the log opens.
    """

    def __init__(self) -> None:
        self.wal: Wal | None = None

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Entries low..high-1 that are durable here: at least one, about `bytes_max` in all."""
        assert self.wal is not None, "entries are read only after the log was opened"
        return [decode_entry(r.index, r.payload) for r in self.wal.read(low, high, bytes_max)]


class Worker(Protocol):
    """Runs one job after another outside the loop (the simulator runs them inside)."""

    def submit(self, job: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Run `job`, then call `done` in the event loop with its exception or None."""

    def stop(self) -> None:
        """Finish the jobs that were submitted and end."""


class ThreadWorker:
    """A worker that is one thread of its own: a job costs one hop there and one back."""

    def __init__(self, loop: AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], None], Callable[[BaseException | None], None]] | None
        ] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """Run `job` in the thread, then `done` in the loop."""
        self._jobs.put((job, done))

    def stop(self) -> None:
        """Let the thread finish what it has; does not wait."""
        self._jobs.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; False when a stuck disk holds it longer."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            error: BaseException | None = None
            try:
                job()
            except BaseException as caught:  # noqa: BLE001 - handed to the loop, which dies of it
                error = caught
            try:
                self._loop.call_soon_threadsafe(done, error)
            except RuntimeError:
                return  # the loop is closed: the process is leaving


class _Group:
    """What one job makes durable."""

    __slots__ = ("flags", "messages", "number", "records", "size", "state")

    def __init__(self, persists: list[Persist]) -> None:
        self.number = persists[-1].number
        self.state = next((p.hard_state for p in reversed(persists) if p.hard_state), None)
        self.flags = [p.recovering for p in persists if p.recovering is not None]
        """What the flag *recovering* became, in order."""
        self.records = [encode_entry(entry) for p in persists for entry in p.entries]
        self.messages: Outgoing = [message for p in persists for message in p.messages]
        self.size = sum([len(record.payload) for record in self.records])

    def write(self, wal: Wal, commit: int, *, refresh: bool) -> None:
        """Make it durable; runs in the worker."""
        # The term first: an entry of a term that is not durable must not be in the log. With it the
        # beginning of a recovery; its end only when all that heals the log is durable.
        begins = True if True in self.flags else None
        if self.state is not None or begins:
            state = self.state or wal.state
            wal.save_state(term=state.term, vote=state.vote, commit=commit, recovering=begins)
        if self.records:
            wal.append(self.records)
        if self.flags and not self.flags[-1]:
            state = wal.state
            wal.save_state(term=state.term, vote=state.vote, commit=commit, recovering=False)
        elif refresh:
            wal.refresh_state(commit)

    @property
    def is_empty(self) -> bool:
        """Nothing is to be written: its messages only have to stay behind what was before."""
        return not self.records and self.state is None and not self.flags


class _Job(NamedTuple):
    """Something to do in the worker, and what follows in the loop once it is durable."""

    work: Callable[[], None]
    then: Callable[[], None]
    behind: int
    """Runs only after every `Persist` up to this number."""


class LogWriter:
    """Makes Raft's output durable, group by group, and runs other jobs on the log in between.

    A full disk (`wal.DiskFull`: nothing was changed, the log stays usable) holds everything up and
    is tried again every second; entries that were already sent keep their fate open meanwhile. Any
    other failure is final.

    Args:
        wal: the open log; from here on only the worker calls its writing methods.
        worker: where the writing is done.
        loop: for the idle marker's timer.
        commit: the commit index to note in the state files; never beyond what is durable here,
            since a log that ends below it is refused at the next start.
        on_synced: called in the loop with (number, messages that may leave now).
        on_failure: called in the loop, once, with the exception of a failed write or sync.
        on_full: called in the loop with True when the disk turns out to be full, and with False
            when writing goes on.
        health: told when the disk is given something to do, and when it is done.
    """

    def __init__(
        self,
        wal: Wal,
        worker: Worker,
        loop: AbstractEventLoop,
        *,
        commit: Callable[[], int],
        on_synced: Callable[[int, Outgoing], None],
        on_failure: Callable[[BaseException], None],
        on_full: Callable[[bool], None],
        health: DiskHealth,
    ) -> None:
        self._wal = wal
        self._worker = worker
        self._loop = loop
        self.commit_to_note = commit
        self._on_synced = on_synced
        self._on_failure = on_failure
        self._on_full = on_full
        self._health = health
        self._waiting: list[Persist] = []
        self._jobs: deque[_Job] = deque()
        self._submitted = 0
        self._timer: TimerHandle | None = None
        self._refreshed_at = loop.time()
        self._failed = False
        self._is_marked = True
        self.busy = False
        """A job is with the worker: what is submitted now gathers for the next group."""
        self.is_full = False
        """The disk has no room for the log's next segment."""
        self.bytes_written = 0
        """Payload bytes that were made durable."""
        self.writing_bytes = 0
        """Copies of entries that are with the worker: as records, and framed for the disk."""

    def submit(self, persist: Persist) -> None:
        """Queue one `Persist`; it is acknowledged through `on_synced`."""
        self._waiting.append(persist)
        self._submitted = persist.number
        if not self.busy:
            self._next()

    def run(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do `work` on the log behind everything that was submitted so far; then call `then`.

        An exception of `work` is a failure of the log, like that of a write.
        """
        self._jobs.append(_Job(work, then, self._submitted))
        if not self.busy:
            self._next()

    # --- one thing after another ------------------------------------------------------------------

    def _next(self) -> None:
        """Start what waits, or the clock of the idle marker."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        jobs, waiting = self._jobs, self._waiting
        if jobs and (not waiting or waiting[0].number > jobs[0].behind):
            job = jobs.popleft()
            self._start(job.work, job.then)
        elif waiting:
            self._start_group()
        elif not self._is_marked:
            self._timer = self._loop.call_later(IDLE_MARK_SECONDS, self._mark)

    def _start_group(self) -> None:
        group = _Group(self._waiting)
        self._waiting = []
        self.writing_bytes = GROUP_COPIES * group.size

        def then() -> None:
            self.writing_bytes = 0
            self.bytes_written += group.size
            self._on_synced(group.number, group.messages)

        if not group.is_empty:
            self._start(self._write(group), then)
        else:
            self.busy = True
            self._loop.call_soon(self._done, None, _nothing, then)

    def _write(self, group: _Group) -> Callable[[], None]:
        wal, commit = self._wal, self.commit_to_note()
        now = self._loop.time()
        refresh = now - self._refreshed_at >= STATE_REFRESH_SECONDS
        if refresh:
            self._refreshed_at = now
        return lambda: group.write(wal, commit, refresh=refresh)

    def _mark(self) -> None:
        """Make the last group a witnessed one."""
        self._timer = None
        if self._failed:
            return
        wal, commit = self._wal, self.commit_to_note()

        def work() -> None:
            wal.mark()
            wal.refresh_state(commit)

        self._refreshed_at = self._loop.time()
        self._start(work, self._rest)

    def _rest(self) -> None:
        """One marker is enough: no other until something was written again."""
        self._is_marked = True

    def _start(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        self.busy = True
        health = self._health

        def timed() -> None:
            try:
                work()
            finally:
                health.ended()

        health.began(self._loop.time())
        self._worker.submit(timed, lambda error: self._done(error, work, then))

    def _done(
        self, error: BaseException | None, work: Callable[[], None], then: Callable[[], None]
    ) -> None:
        if isinstance(error, DiskFull) and not self._failed:
            self._tell_full(full=True)
            self._timer = self._loop.call_later(FULL_RETRY_SECONDS, self._start, work, then)
            return
        if error is not None:
            self._fail(error)
            return
        self._tell_full(full=False)
        self.busy = self._is_marked = False
        then()
        if not self.busy:
            self._next()

    def _tell_full(self, *, full: bool) -> None:
        if full is not self.is_full:
            self.is_full = full
            self._on_full(full)

    def _fail(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            self.busy = True  # for ever: nothing is retried, nothing more is acknowledged
            self._on_failure(error)

    # --- the end ----------------------------------------------------------------------------------

    def close(self, done: Callable[[BaseException | None], None]) -> None:
        """Write what is left, mark the end, close the log; then call `done`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group = _Group(self._waiting) if self._waiting else None
        wal, commit = self._wal, self.commit_to_note()
        usable = not self._failed and not self.is_full
        self._waiting = []
        self._jobs.clear()
        self._failed = self.busy = True  # whatever is submitted from here on goes nowhere

        def work() -> None:
            if usable:
                if group is not None:
                    group.write(wal, commit, refresh=False)
                wal.mark()
                wal.refresh_state(commit)
            wal.close()

        self._worker.submit(work, done)
        self._worker.stop()


def _nothing() -> None:
    """No work."""
