"""Snapshots: taken when the log has grown, sent to followers that lack entries, installed there.

Taking one: a worker process copies the engine's committed state into a file (`kvnode.snapshot`),
the file's index and term are marked in the log, and then the log may be cut. What is cut is what
lies behind the *older* of two snapshots, so that a damaged one can be done without. A file counts
from its mark in the log on: one that was received and not installed takes the place of none.

Installing one, in an order that a crash cannot hurt: the file is whole, verified and durable → a
new engine is loaded from it → Raft is frozen for the moment that the log's marker takes → the
marker is durable → the engine is switched → Raft learns of it and acknowledges. A crash anywhere
leaves the old log with the old engine, or the new marker with the new file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from kvnode.limits import SNAPSHOT_FILES_MAX, SNAPSHOT_RETRY_SECONDS
from kvnode.node.faults import is_disk_failure
from kvnode.node.log_writer import LogWriter
from kvnode.node.snapshot_library import SnapshotLibrary
from kvnode.node.snapshot_transfer import Inbound, Outbound, Slice, SnapshotFile
from kvnode.node.wire import AnyMessage, SnapshotAck, SnapshotChunk, SnapshotOffer, Verdict
from kvnode.obs.log import event
from kvnode.snapshot.errors import SnapshotFailed
from kvnode.store.engine import StoredEngine
from raft.raft import Raft
from raft.types import ConfState
from wal.log import Wal

_log = logging.getLogger("kvnode.node")
_MARKER = struct.Struct("<Q")

T = TypeVar("T")


def encode_marker(term: int) -> bytes:
    """What the log's marker of a snapshot carries besides its index."""
    return _MARKER.pack(term)


def decode_marker(payload: bytes) -> int:
    """The term in a marker."""
    term: int = _MARKER.unpack(payload)[0]
    return term


@dataclass(slots=True)
class SnapshotStats:
    """Counters since the start."""

    taken: int = 0
    installed: int = 0
    sent: int = 0
    failed: int = 0


class Snapshots:
    """All that a node does with snapshots.

    Args:
        log_bytes: bytes logged between two snapshots.
        pump: carries out what Raft has ready.
        freeze: True: no message and no tick reaches Raft until False, and nothing is applied.
        commit_engine: ends the engine's transaction, so that a worker sees what was applied.
        switch_engine: makes an engine the node's own.
        conf_state: the membership in the engine that is the node's own now.
        on_installed: called when Raft knows of an installed snapshot.
        send: queues a message for a peer; `flush` lets it leave.
        fail: ends the node.
    """

    def __init__(
        self,
        *,
        library: SnapshotLibrary,
        raft: Raft,
        wal: Wal,
        writer: LogWriter,
        loop: asyncio.AbstractEventLoop,
        log_bytes: int,
        pump: Callable[[], None],
        freeze: Callable[[bool], None],
        commit_engine: Callable[[], None],
        switch_engine: Callable[[StoredEngine], None],
        conf_state: Callable[[], ConfState],
        on_installed: Callable[[], None],
        send: Callable[[int, AnyMessage], None],
        flush: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._library = library
        self._fs = library.fs
        self._raft = raft
        self._wal = wal
        self._writer = writer
        self._loop = loop
        self._log_bytes = log_bytes
        self._pump = pump
        self._freeze = freeze
        self._commit_engine = commit_engine
        self._switch_engine = switch_engine
        self._conf_state = conf_state
        self._on_installed = on_installed
        self._send = send
        self._flush = flush
        self._fail = fail
        self._outbound: dict[int, tuple[Outbound, int]] = {}
        self._inbound: Inbound | None = None
        self._inbound_fd = -1
        self._task: asyncio.Task[None] | None = None
        self._taken_at_bytes = writer.bytes_written
        self._not_before = 0.0
        self.newest: SnapshotFile | None = None
        self.saved_at_s = 0
        """When the newest one was complete, in seconds since the epoch; 0 while there is none."""
        self.last_failure: str | None = None
        """Why the last attempt failed, if it did."""
        self.last_duration_s = -1
        """Of the last attempt; -1 before the first."""
        self._note_newest()
        self.stats = SnapshotStats()

    @property
    def is_busy(self) -> bool:
        """One is being taken or installed."""
        return self._task is not None

    def _note_newest(self) -> None:
        marked = self._wal.snapshot_index
        newest = next((f for f in self._library.files() if f[0].index <= marked), None)
        if newest is not None:
            self.newest = newest[0]
            self.saved_at_s = int(self._library.modified(newest[1]))

    # --- the clock --------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Ten times a second: start a snapshot if one is due, and move those on their way."""
        for peer in sorted(self._outbound):
            self._move(peer)
        grown = self._writer.bytes_written - self._taken_at_bytes >= self._log_bytes
        if grown and self._task is None and self._loop.time() >= self._not_before:
            self.take()

    def take(self) -> asyncio.Task[None]:
        """Take a snapshot now, or join the one that is being taken."""
        if self._task is None:
            self._start(self._take())
        assert self._task is not None
        return self._task

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one thing at a time: taking and installing exclude each other."""
        self._task = self._loop.create_task(self._guarded(work), name="snapshot")

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        began = self._loop.time()
        self.last_failure = "interrupted"
        try:
            await work
            self.last_failure = None
        except SnapshotFailed as failure:
            self.last_failure = str(failure)
            self.stats.failed += 1
            self._not_before = self._loop.time() + SNAPSHOT_RETRY_SECONDS
            event(_log, logging.WARNING, "snapshot failed", why=str(failure))
        except Exception as error:  # noqa: BLE001 - a bug or a dead disk: the node ends
            self._fail(error)
        finally:
            self.last_duration_s = int(self._loop.time() - began)
            self._task = None

    # --- taking -----------------------------------------------------------------------------------

    async def _take(self) -> None:
        if self.newest is not None and self.newest.index >= self._raft.applied:
            return  # nothing has happened since, or the log is still being applied again
        at_bytes = self._writer.bytes_written
        self._commit_engine()
        file = await self._library.take()
        if file.index < self._wal.snapshot_index:
            await self._prune()
            return  # the engine was further behind than apply: its last commit is older
        await self._on_log(lambda: self._wal.mark_snapshot(file.index, encode_marker(file.term)))
        self._note_newest()
        self._taken_at_bytes = at_bytes
        self.stats.taken += 1
        await self._cut_log()
        event(_log, logging.INFO, "snapshot taken", index=file.index, bytes=file.size)

    async def _cut_log(self) -> None:
        """Forget what lies behind the older of the snapshots that are kept."""
        await self._prune()
        files = self._library.files()
        if len(files) < SNAPSHOT_FILES_MAX:
            return
        oldest = files[-1][0].index
        self._raft.compact(oldest)
        # Appends wait while a file is removed, so one at a time.
        while await self._on_log(lambda: self._wal.release(oldest, segments_max=1)):
            pass

    async def _prune(self) -> None:
        """Remove files that are not needed: for a gigabyte that takes a tenth of a second."""
        try:
            await asyncio.to_thread(self._library.prune, self._wal.snapshot_index)
        except RuntimeError:  # no memory for one more thread
            self._library.prune(self._wal.snapshot_index)

    async def _on_log(self, work: Callable[[], T]) -> T:
        """Do something on the log's thread, behind everything submitted so far."""
        done: asyncio.Future[T] = self._loop.create_future()
        results: list[T] = []

        def then() -> None:
            if not done.cancelled():
                done.set_result(results[0])

        self._writer.run(lambda: results.append(work()), then)
        return await done

    # --- sending ----------------------------------------------------------------------------------

    def needed_by(self, peer: int) -> None:
        """Raft found that the log no longer holds what `peer` needs."""
        self._drop_outbound(peer)
        # A file may be ahead of what was applied: received, and not installed before a crash.
        applied = self._raft.applied
        newest = next((f for f in self._library.files() if f[0].index <= applied), None)
        if newest is None or newest[0].index < self._raft.log.compacted:
            self._raft.snapshot_finished(peer, 0, ok=False)
            return
        file, path = newest
        outbound = Outbound(file, self._raft.term, self._loop.time())
        self._outbound[peer] = outbound, self._fs.open(path)
        event(_log, logging.INFO, "sending a snapshot", peer=f"{peer:016x}", index=file.index)
        self._move(peer)

    def _move(self, peer: int) -> None:
        outbound, fd = self._outbound[peer]
        message = outbound.next(self._loop.time())
        if outbound.finished is not None:
            self._finish_outbound(peer, ok=outbound.finished)
        elif isinstance(message, Slice):
            data = self._fs.pread(fd, message.length, message.offset)
            index = outbound.file.index
            self._send(peer, SnapshotChunk(outbound.term, index, message.offset, data))
        elif message is not None:
            self._send(peer, message)
        elif (delay := outbound.due_in(self._loop.time())) is not None:
            self._loop.call_later(delay, self._go_on, peer, outbound)

    def _go_on(self, peer: int, outbound: Outbound) -> None:
        """The rate allows the next chunk, unless another transfer has taken the place."""
        if peer in self._outbound and self._outbound[peer][0] is outbound:
            self._move(peer)
            self._flush()

    def _finish_outbound(self, peer: int, *, ok: bool) -> None:
        outbound, _ = self._outbound[peer]
        self._drop_outbound(peer)
        self.stats.sent += ok
        self._raft.snapshot_finished(peer, outbound.file.index, ok=ok)

    def _drop_outbound(self, peer: int) -> None:
        if peer in self._outbound:
            self._fs.close(self._outbound.pop(peer)[1])

    def leadership_lost(self) -> None:
        """Whoever leads now sends what is needed."""
        for peer in list(self._outbound):
            self._drop_outbound(peer)

    # --- receiving --------------------------------------------------------------------------------

    def on_message(self, sender: int, message: SnapshotOffer | SnapshotChunk | SnapshotAck) -> None:
        """A message about snapshots from a peer."""
        if isinstance(message, SnapshotAck):
            if sender in self._outbound:
                self._outbound[sender][0].acknowledged(message, self._loop.time())
                self._move(sender)
        elif isinstance(message, SnapshotOffer):
            self._on_offer(sender, message)
        else:
            self._on_chunk(sender, message)

    def _on_offer(self, sender: int, offer: SnapshotOffer) -> None:
        file = SnapshotFile(offer.index, offer.snapshot_term, offer.size)
        inbound = self._inbound
        if not self._raft.accepts_snapshot(sender, offer.term, offer.index):
            covered = self._raft.commit >= offer.index
            verdict = Verdict.INSTALLED if covered else Verdict.REFUSED
            self._send(sender, SnapshotAck(offer.index, 0, verdict))
            return
        if inbound is None or inbound.file != file:
            if self._task is not None:
                return  # taking or installing another one: the offer is repeated
            try:
                inbound = self._begin_inbound(sender, offer.term, file)
            except OSError as error:
                self._cannot_store(sender, offer.index, error)
                return
        inbound.sender, inbound.leader_term = sender, offer.term
        self._send(sender, SnapshotAck(file.index, inbound.have, Verdict.GO_ON))
        self._install_when_complete(inbound)

    def _begin_inbound(self, sender: int, term: int, file: SnapshotFile) -> Inbound:
        self._end_inbound()
        # One that came whole and could not be installed has to make room for this.
        self._library.prune(self._wal.snapshot_index)
        path = self._library.part(file)
        # To create would empty it: what came before a break is kept.
        self._inbound_fd = self._fs.open(path, create=not self._fs.exists(path))
        have = min(self._fs.size(self._inbound_fd), file.size)
        self._inbound = Inbound(sender, term, file, have)
        event(_log, logging.INFO, "receiving a snapshot", index=file.index, have=have, of=file.size)
        return self._inbound

    def _on_chunk(self, sender: int, chunk: SnapshotChunk) -> None:
        inbound = self._inbound
        if inbound is None or not self._raft.accepts_snapshot(sender, chunk.term, chunk.index):
            return
        if inbound.takes(chunk.index, chunk.offset, len(chunk.data)):
            try:
                written = self._fs.pwrite(self._inbound_fd, chunk.data, chunk.offset)
            except OSError as error:
                self._cannot_store(sender, chunk.index, error)
                return
            inbound.have += written
        self._send(sender, SnapshotAck(inbound.file.index, inbound.have, Verdict.GO_ON))
        self._install_when_complete(inbound)

    def _cannot_store(self, sender: int, index: int, error: OSError) -> None:
        """Without room the sender comes again later; a disk that fails is the end of this node."""
        self._end_inbound()
        if is_disk_failure(error):
            self._fail(error)
            return
        event(_log, logging.WARNING, "snapshot cannot be stored", why=str(error))
        self._send(sender, SnapshotAck(index, 0, Verdict.REFUSED))

    def _end_inbound(self) -> None:
        self._inbound = None
        if self._inbound_fd >= 0:
            self._fs.close(self._inbound_fd)
            self._inbound_fd = -1

    # --- installing -------------------------------------------------------------------------------

    def _install_when_complete(self, inbound: Inbound) -> None:
        if inbound.is_complete and self._task is None:
            self._start(self._install(inbound))

    async def _install(self, inbound: Inbound) -> None:
        file, library = inbound.file, self._library
        try:
            part = library.part(file)
            path = await asyncio.to_thread(library.adopt, part, file)
            engine = await asyncio.to_thread(library.load, path)
        except SnapshotFailed:
            self._end_inbound()
            self._send(inbound.sender, SnapshotAck(file.index, 0, Verdict.REFUSED))
            raise
        self._end_inbound()
        self._freeze(True)
        try:
            await self._switch(inbound, engine)
        finally:
            self._freeze(False)
        self._send(inbound.sender, SnapshotAck(file.index, file.size, Verdict.INSTALLED))
        event(_log, logging.INFO, "snapshot installed", index=file.index, bytes=file.size)

    async def _switch(self, inbound: Inbound, engine: StoredEngine) -> None:
        """The moment of truth: marker durable, engine switched, Raft told, in this order."""
        raft, file = self._raft, inbound.file
        # What Raft has taken in but not yet handed to the log must lie before the marker.
        self._pump()
        if raft.commit >= file.index:
            self._library.discard(engine)
            return  # appends were quicker
        discard = raft.log.term(file.index) != file.term
        marker = encode_marker(file.term)
        await self._on_log(lambda: self._wal.mark_snapshot(file.index, marker, discard=discard))
        self._switch_engine(engine)
        self._library.use(engine)
        raft.install_snapshot(
            inbound.sender,
            inbound.leader_term,
            file.index,
            file.term,
            conf_state=self._conf_state(),
        )
        self._on_installed()
        self._note_newest()
        self._taken_at_bytes = self._writer.bytes_written
        self.stats.installed += 1
        await self._cut_log()

    # --- the end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop taking, sending and receiving."""
        task = self._task
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.leadership_lost()
        self._end_inbound()
