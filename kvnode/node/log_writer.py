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
from collections.abc import Callable
from typing import Protocol

from raft.messages import Message
from raft.types import Entry, Persist
from wal.format import Record
from wal.log import Wal

_ENTRY_HEAD = struct.Struct("<QB")

IDLE_MARK_SECONDS = 0.1
"""After this long without an append a marker makes the last group a witnessed one."""

STATE_REFRESH_SECONDS = 1.0
"""Under load the state files learn the synced position at least this often."""

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

    __slots__ = ("messages", "number", "records", "state")

    def __init__(self, persists: list[Persist]) -> None:
        self.number = persists[-1].number
        self.state = next((p.hard_state for p in reversed(persists) if p.hard_state), None)
        self.records = [encode_entry(entry) for p in persists for entry in p.entries]
        self.messages: Outgoing = [message for p in persists for message in p.messages]

    def write(self, wal: Wal, commit: int, *, refresh: bool) -> None:
        """Make it durable; runs in the worker."""
        # The term first: an entry of a term that is not durable must not be in the log.
        if self.state is not None:
            wal.save_state(term=self.state.term, vote=self.state.vote, commit=commit)
        if self.records:
            wal.append(self.records)
        if refresh:
            wal.refresh_state(commit)


class LogWriter:
    """Makes Raft's output durable, group by group.

    Args:
        wal: the open log; from here on only the worker calls its writing methods.
        worker: where the writing is done.
        loop: for the idle marker's timer.
        commit: the commit index to note in the state files; never beyond what is durable here,
            since a log that ends below it is refused at the next start.
        on_synced: called in the loop with (number, messages that may leave now).
        on_failure: called in the loop, once, with the exception of a failed write or sync.
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
    ) -> None:
        self._wal = wal
        self._worker = worker
        self._loop = loop
        self.commit_to_note = commit
        self._on_synced = on_synced
        self._on_failure = on_failure
        self._waiting: list[Persist] = []
        self._group: _Group | None = None
        self._idle_timer: TimerHandle | None = None
        self._refreshed_at = loop.time()
        self._failed = False
        self.busy = False
        """A job is with the worker: what is submitted now gathers for the next group."""

    def submit(self, persist: Persist) -> None:
        """Queue one `Persist`; it is acknowledged through `on_synced`."""
        self._waiting.append(persist)
        if not self.busy:
            self._start_group()

    def _start_group(self) -> None:
        group = self._group = _Group(self._waiting)
        self._waiting = []
        if not group.records and group.state is None:
            # Nothing to write: its messages only had to stay behind what was written before.
            self._loop.call_soon(self._done, None)
        else:
            self._worker.submit(self._job(group), self._done)
        self.busy = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _job(self, group: _Group) -> Callable[[], None]:
        wal, commit = self._wal, self.commit_to_note()
        now = self._loop.time()
        refresh = now - self._refreshed_at >= STATE_REFRESH_SECONDS
        if refresh:
            self._refreshed_at = now
        return lambda: group.write(wal, commit, refresh=refresh)

    def _done(self, error: BaseException | None) -> None:
        group, self._group = self._group, None
        self.busy = False
        if error is not None:
            self._fail(error)
            return
        assert group is not None, "a group was acknowledged twice"
        self._on_synced(group.number, group.messages)
        if self._waiting and not self.busy:
            self._start_group()
        if not self.busy and self._idle_timer is None:
            self._idle_timer = self._loop.call_later(IDLE_MARK_SECONDS, self._mark)

    def _mark(self) -> None:
        self._idle_timer = None
        if self.busy or self._failed:
            return
        wal, commit = self._wal, self.commit_to_note()

        def job() -> None:
            wal.mark()
            wal.refresh_state(commit)

        self._refreshed_at = self._loop.time()
        self.busy = True
        self._worker.submit(job, self._marked)

    def _marked(self, error: BaseException | None) -> None:
        self.busy = False
        if error is not None:
            self._fail(error)
        elif self._waiting:
            self._start_group()

    def _fail(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            self.busy = True  # for ever: nothing is retried, nothing more is acknowledged
            self._on_failure(error)

    def close(self, done: Callable[[BaseException | None], None]) -> None:
        """Write what is left, mark the end, close the log; then call `done`."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        group = _Group(self._waiting) if self._waiting else None
        wal, commit, failed = self._wal, self.commit_to_note(), self._failed
        self._waiting = []
        self._failed = self.busy = True  # whatever is submitted from here on goes nowhere

        def job() -> None:
            if not failed:
                if group is not None:
                    group.write(wal, commit, refresh=False)
                wal.mark()
                wal.refresh_state(commit)
            wal.close()

        self._worker.submit(job, done)
        self._worker.stop()
