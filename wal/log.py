"""The log itself: what a Raft node calls.

One thread calls the methods that write; they block on the disk and return when all is durable.
`read` may be called from another thread at the same time: it sees synced records only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Lock
from time import perf_counter

from wal.errors import Corruption, DiskFailed, DiskFull, InvalidArgument, disk
from wal.format import (
    INDEX_MAX,
    SECTOR_BYTES,
    SNAPSHOT_BYTES_MAX,
    Frame,
    Identity,
    Kind,
    Position,
    Record,
    SegmentHeader,
    align,
    frame,
    record_bytes,
)
from wal.fs import FileSystem, PosixFileSystem, write_all
from wal.index import SparseIndex
from wal.loss import OnLoss, accept_only_torn
from wal.observer import Observer, RepairReport, Silent
from wal.options import Options
from wal.reader import read_spans
from wal.recovery import Recovered, Recovery, Replay, Visit, VisitSnapshot
from wal.segment import Segment, create_segment, remove
from wal.state import State, StateFiles
from wal.survey import Survey, list_log

Salts = Callable[[], int]
Payload = bytes


def random_salt() -> int:
    """Return 64 random bits."""
    return int.from_bytes(os.urandom(8), "little")


class Wal:
    """A write-ahead log in one directory. Made by `Wal.open`.

    Attributes:
        last_repair: what opening cut off, None if nothing.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        identity: Identity,
        options: Options,
        observer: Observer,
        salts: Salts,
        states: StateFiles,
        index: SparseIndex,
    ) -> None:
        """Use `Wal.open`."""
        self._fs = fs
        self._directory = directory
        self._identity = identity
        self._options = options
        self._observer = observer
        self._salts = salts
        self._states = states
        self._index = index
        self._lock = Lock()
        self._segments: dict[int, Segment] = {}
        self._failure: DiskFailed | None = None
        self._fd = -1
        self._active: Segment
        self._end = 0
        self._chain = 0
        self._first_index = 1
        self._last_index = 0
        self._snapshot_index = 0
        self._snapshot_segment = 0
        self._bytes = 0
        self.last_repair: RepairReport | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        state_paths: tuple[Path, Path],
        identity: Identity,
        *,
        visit: Visit,
        visit_snapshot: VisitSnapshot | None = None,
        on_loss: OnLoss = accept_only_torn,
        fs: FileSystem | None = None,
        options: Options | None = None,
        observer: Observer | None = None,
        salts: Salts = random_salt,
    ) -> Wal:
        """Open the log, or make a new one where there is neither a segment nor a state file.

        Args:
            directory: of the segments; made if it does not exist, its parent must.
            state_paths: the two state files.
            identity: whose log this is.
            visit: called as visit(index, payload) for each entry in the order of writing. Each
                supersedes all of its index and above that came before. The first index is any, and
                a later one may be below it, where released entries were superseded.
            visit_snapshot: called as visit_snapshot(index, payload, discard) for each snapshot
                marker, in order with the entries. With `discard` all entries before are superseded
                and the next one is index + 1.
            on_loss: asked once, when all was read and before anything is changed, if the tail
                must be cut or the log ends below what the state files know was durable. Without
                it a torn tail is cut, and a log that ends below is refused. What it raises is
                passed on, and nothing was changed.
            salts: returns 64 random bits for a new segment.

        Raises:
            Corruption: acknowledged bytes are damaged or gone, or may be. Nothing was changed.
            Unrepairable: a repair did not help.
            IdentityMismatch, UnsupportedVersion: these are not our files.
            DiskFull: no room for a new log, or for the evidence before a repair.
            DiskFailed: a system call failed.
        """
        fs = fs or PosixFileSystem()
        options = options or Options()
        observer = observer or Silent()
        with disk("making directory", directory):
            fs.make_directory(directory)
            fs.sync_directory(directory.parent)
        index = SparseIndex()
        listing = list_log(fs, directory)
        states = StateFiles.read(fs, state_paths, identity)
        if states is None:
            if listing.segments:
                raise Corruption("term and vote are lost: no state file exists", state_paths[0])
            states = StateFiles.create(fs, state_paths, identity)
        survey = Survey(fs, directory, identity, states.state, listing)
        replay = Replay(index, visit, visit_snapshot)
        strict = options.repair == "strict"
        recovery = Recovery(fs, directory, states, observer, on_loss, strict=strict)
        wal = cls(fs, directory, identity, options, observer, salts, states, index)
        wal._start(recovery.run(survey, replay))
        return wal

    # --- what it holds ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the state files hold."""
        return self._states.state

    @property
    def first_index(self) -> int:
        """The smallest index that can be read; `last_index` + 1 if there is none."""
        return self._first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry, or of the snapshot that replaced the log; 0 if new."""
        return self._last_index

    @property
    def snapshot_index(self) -> int:
        """Index of the newest snapshot marker, 0 if there is none."""
        return self._snapshot_index

    @property
    def synced(self) -> Position:
        """Behind the last record; all below is durable."""
        return Position(self._active.header.sequence, self._end)

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._segments)

    @property
    def bytes(self) -> int:
        """Bytes of all segments on the disk."""
        return self._bytes

    # --- writing ------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write one group; on return all of it is durable.

        Indexes are successive, except that a record may go back: it supersedes the record of its
        index and all above, in this group as well. What a snapshot covers is not superseded.

        Raises:
            InvalidArgument: wrong indexes, or too large; nothing was changed.
            DiskFull: a new segment is needed and there is no room; the log stays usable.
            DiskFailed: the log is unusable from now on.
        """
        self._usable()
        if not records:
            return
        size = self._check(records)
        with self._writing():
            self._reserve(size)
            group = self._write(Kind.ENTRY, records)
            with self._lock:
                self._note(records, group)

    def mark(self) -> None:
        """Write an idle marker: a later witness for what was written before. Same errors."""
        with self._writing():
            self._reserve(record_bytes(0))
            self._write(Kind.MARKER, [Record(self._last_index, b"")])

    def mark_snapshot(self, index: int, payload: Payload, *, discard: bool = False) -> None:
        """Note that a snapshot which is durable elsewhere covers all entries up to `index`.

        One group, one sync. A later `release` may remove what the newest snapshot covers.

        Args:
            index: not below that of the snapshot before.
            payload: handed to `visit_snapshot` when the log is opened; at most SNAPSHOT_BYTES_MAX.
            discard: False for a snapshot of our own: `index` is in the log, and what is above it
                stays. True for one that replaces the log: all entries are superseded, whatever
                their index, and the next one is `index` + 1.

        Raises:
            InvalidArgument: wrong index, or payload too large; nothing was changed.
            DiskFull: a new segment is needed and there is no room; the log stays usable.
            DiskFailed: the log is unusable from now on.
        """
        self._usable()
        high = INDEX_MAX if discard else self._last_index
        if not max(self._snapshot_index, 1) <= index <= high:
            raise InvalidArgument(
                f"snapshot of index {index} after one of {self._snapshot_index} "
                f"in a log that ends at {self._last_index}"
            )
        if len(payload) > SNAPSHOT_BYTES_MAX:
            raise InvalidArgument(f"{len(payload)} bytes: at most {SNAPSHOT_BYTES_MAX}")
        with self._writing():
            self._reserve(record_bytes(len(payload)))
            kind = Kind.INSTALL if discard else Kind.SNAPSHOT
            self._write(kind, [Record(index, payload)])
            self._snapshot_segment = self._active.header.sequence
            with self._lock:
                self._snapshot_index = index
                if discard:
                    self._index.clear()
                    self._last_index = index
                    self._first_index = index + 1

    def release(self, index: int, *, segments_max: int | None = None) -> int:
        """Remove the oldest segments, as far as they hold nothing that is needed.

        A segment goes if no entry above `index` is in it or before it, and if the newest snapshot
        marker lies behind it. The state files note first where the log begins from now on: whatever
        a crash leaves of the rest is removed when the log is opened.

        Args:
            index: at most that of the newest snapshot marker.
            segments_max: remove so many at most, None for all: appends wait while files go.

        Returns:
            Bytes freed on the disk; 0 when there is nothing more to remove.

        Raises:
            InvalidArgument: no snapshot covers `index`; nothing was changed.
            DiskFailed: the log is unusable from now on.
        """
        self._usable()
        if index > self._snapshot_index:
            raise InvalidArgument(
                f"entries up to {index} are needed: the snapshot is of {self._snapshot_index}"
            )
        released = self._covered(index)[:segments_max]
        if not released:
            return 0
        oldest = released[-1].header.sequence + 1
        with self._writing():
            self._states.save(replace(self.state, synced=self._best_synced(), oldest=oldest))
            with self._lock:
                for segment in released:
                    del self._segments[segment.header.sequence]
                self._index.forget_before(oldest)
                first = self._index.first
                self._first_index = self._last_index + 1 if first is None else first
            remove(self._fs, self._directory, [segment.path for segment in released])
        freed = sum(segment.header.segment_bytes for segment in released)
        self._bytes -= freed
        return freed

    def save_state(
        self, *, term: int, vote: int, commit: int, recovering: bool | None = None
    ) -> None:
        """Write both state files, one after the other; on return both are durable.

        Args:
            term: never smaller than before.
            vote: 0 for none; within a term it changes only from none.
            commit: a committed index; a smaller one than before is ignored.
            recovering: None leaves the flag as it is. When it ends, synced position and commit
                become what they are now, even if they were higher: at no other time.

        Raises:
            InvalidArgument: term or vote would go back; nothing was changed.
            DiskFailed: the log is unusable from now on.
        """
        old = self.state
        if term < old.term or (term == old.term and old.vote not in (0, vote)):
            raise InvalidArgument(
                f"term {term} vote {vote} after term {old.term} vote {old.vote}: they never go back"
            )
        with self._writing():
            if old.recovering and recovering is False:
                synced = self.synced
            else:
                commit, synced = max(commit, old.commit), self._best_synced()
            flag = old.recovering if recovering is None else recovering
            self._states.save(State(term, vote, commit, flag, synced, old.oldest))

    def refresh_state(self, commit: int) -> None:
        """Write the synced position and `commit` to both state files, unless nothing changed."""
        self._usable()
        old = self.state
        if commit > old.commit or self.synced > old.synced:
            self.save_state(term=old.term, vote=old.vote, commit=commit)

    def close(self) -> None:
        """Give the file back. All is durable already. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with disk("closing segment", self._active.path):
                self._fs.close(fd)

    # --- reading ------------------------------------------------------------------------------

    def read(self, low: int, high: int, bytes_max: int) -> list[Record]:
        """Return records `low` to `high` - 1, or fewer: at least one, then up to `bytes_max`.

        Payloads are checked against the chain. May be called from any thread.

        Raises:
            InvalidArgument: the range is empty or not in the log: below `first_index`, where it was
                released or replaced by a snapshot, or above `last_index`.
            Corruption: the bytes on disk are not what was written.
            DiskFailed: reading failed; the log itself stays usable.
        """
        self._usable()
        with self._lock:
            if not self._first_index <= low < high <= self._last_index + 1:
                raise InvalidArgument(
                    f"records {low} to {high - 1} are not in {self._first_index} "
                    f"to {self._last_index}"
                )
            spans = self._index.spans(low, high, 2 + bytes_max // SECTOR_BYTES)
            files = {span.segment: self._segments[span.segment] for span in spans}
        records: list[Record] = []
        for sequence, run in groupby(spans, key=lambda span: span.segment):
            try:
                bytes_max = read_spans(self._fs, files[sequence], run, low, bytes_max, records)
            except DiskFailed as failure:
                if sequence in self._segments:
                    raise
                if not records:
                    raise InvalidArgument(f"record {low} was released meanwhile") from failure
                break
            if bytes_max < 0:
                break
        return records

    # --- inside -------------------------------------------------------------------------------

    def _start(self, found: Recovered) -> None:
        self._segments = {segment.header.sequence: segment for segment in found.segments}
        self._end = found.end
        self._chain = found.chain
        self._first_index = found.first_index
        self._last_index = found.last_index
        self._snapshot_index = found.snapshot_index
        self._snapshot_segment = found.snapshot_segment
        self._bytes = found.size
        self.last_repair = found.repair
        with self._writing():
            if found.segments:
                self._activate(found.segments[-1])
            else:
                self._create(1, 0)  # the first; later ones are never all released

    def _usable(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the log unusable if anything but a full disk interrupts a write."""
        self._usable()
        try:
            yield
        except (DiskFull, InvalidArgument):
            raise
        except DiskFailed as failure:
            self._failure = failure
            raise
        except BaseException as error:
            # Bytes may be on the disk that nobody accounted for: writing on could mix two groups.
            cause = OSError(f"interrupted by {error!r}")
            self._failure = DiskFailed("writing", self._directory, cause)
            raise

    def _check(self, records: Sequence[Record]) -> int:
        """Check a group before anything is changed; return the bytes that it needs."""
        first, following = self._snapshot_index + 1, self._last_index + 1
        longest = size = payload = 0
        for index, data in records:
            if not first <= index <= following:
                raise InvalidArgument(f"index {index} is not between {first} and {following}")
            following = index + 1
            length = len(data)
            payload += length
            size += record_bytes(length)
            if length > longest:
                longest = length
        if longest > self._options.record_bytes_max or payload > self._options.group_bytes_max:
            raise InvalidArgument(
                f"record of {longest} bytes in a group of {payload}: at most "
                f"{self._options.record_bytes_max} and {self._options.group_bytes_max}"
            )
        return size

    def _reserve(self, size: int) -> None:
        """Go on to a new segment if `size` bytes do not fit into this one."""
        header = self._active.header
        if align(self._end, header.sector_bytes) + size > header.segment_bytes:
            self._create(header.sequence + 1, size)

    def _create(self, sequence: int, size: int) -> None:
        sector = self._options.sector_bytes
        header = SegmentHeader(
            identity=self._identity,
            sequence=sequence,
            # Not that of the first record: it may supersede, and it may be lost in a crash.
            first_index=self._last_index + 1,
            segment_bytes=max(self._options.segment_bytes, sector + align(size, sector)),
            sector_bytes=sector,
            salt=self._salts() | 0x8000_0000_0000_0001,
            previous_chain=self._chain,
        )
        segment = create_segment(self._fs, self._directory, header)
        self.close()
        self._end = sector
        self._bytes += header.segment_bytes
        with self._lock:
            self._segments[sequence] = segment
        self._activate(segment)
        # A witness outside the log: should this segment vanish, we know that it was there.
        self._states.save(replace(self.state, synced=self._best_synced()))

    def _activate(self, segment: Segment) -> None:
        self._active = segment
        with disk("opening segment", segment.path):
            self._fd = self._fs.open(segment.path)

    def _write(self, kind: Kind, records: Sequence[Record]) -> Frame:
        """Write one group and sync it."""
        header = self._active.header
        start = align(self._end, header.sector_bytes)
        group = frame(
            kind, records, start, self._end, self._chain, header.salt, self._last_index + 1
        )
        began = perf_counter()
        with disk("writing log", self._active.path):
            write_all(self._fs, self._fd, group.data, start)
            self._fs.fdatasync(self._fd)
        self._end = start + len(group.data)
        self._chain = group.chain
        self._observer.on_sync(perf_counter() - began, len(group.data))
        return group

    def _note(self, records: Sequence[Record], group: Frame) -> None:
        """Put a synced group into the index."""
        sequence = self._active.header.sequence
        for index, offset, chain, supersedes in group.checkpoints:
            self._index.add(index, sequence, offset, chain, supersedes=supersedes)
        self._last_index = records[-1].index

    def _best_synced(self) -> Position:
        """Return the position to note in the state files: it never goes back."""
        return max(self.state.synced, self.synced)

    def _covered(self, index: int) -> list[Segment]:
        """Return the oldest segments, before the newest marker, with no entry above `index`."""
        covered = []
        for sequence, segment in sorted(self._segments.items()):
            following = self._index.first_from(sequence + 1)
            highest = self._last_index if following is None else following - 1
            if sequence >= self._snapshot_segment or highest > index:
                break
            covered.append(segment)
        return covered
