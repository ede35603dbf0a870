"""The log itself: what a Raft node calls.

One thread calls the methods that write; they block on the disk and return when all is durable.
`read` may be called from another thread at the same time: it sees synced records only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import perf_counter

from wal.errors import Corruption, DiskFailed, DiskFull, InvalidArgument, disk
from wal.format import (
    SECTOR_BYTES,
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
from wal.observer import Observer, RepairReport, Silent
from wal.options import Options
from wal.reader import read_span
from wal.recovery import Recovered, Recovery, Visit
from wal.segment import Segment, create_segment
from wal.state import State, StateFiles

Salts = Callable[[], int]


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
            visit: called as visit(index, payload) for each good record in the order of writing. An
                index that came before supersedes that record and all above it.
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
        recovery = Recovery(
            fs, directory, identity, index, observer, strict=options.repair == "strict"
        )
        names = recovery.list_segments()
        states = StateFiles.load(fs, state_paths, identity, observer)
        if states is None:
            if names:
                raise Corruption("term and vote are lost: no state file exists", state_paths[0])
            states = StateFiles.create(fs, state_paths, identity)
        wal = cls(fs, directory, identity, options, observer, salts, states, index)
        wal._start(recovery.run(names, states.state.synced, visit))
        return wal

    # --- what it holds ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the state files hold."""
        return self._states.state

    @property
    def first_index(self) -> int:
        """The smallest index that the log may hold."""
        return self._first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry; `first_index` - 1 if there is none."""
        return self._last_index

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
        index and all above, in this group as well.

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
            self._reserve(size, records[0].index)
            group = self._write(Kind.ENTRY, records)
            with self._lock:
                self._note(records, group)

    def mark(self) -> None:
        """Write an idle marker: a later witness for what was written before. Same errors."""
        with self._writing():
            self._reserve(record_bytes(0), self._last_index + 1)
            self._write(Kind.MARKER, [Record(self._last_index, b"")])

    def save_state(self, *, term: int, vote: int, commit: int, recovering: bool = False) -> None:
        """Write both state files, one after the other; on return both are durable.

        Args:
            term: never smaller than before.
            vote: 0 for none; within a term it changes only from none.
            commit: a committed index; a smaller one than before is ignored.

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
            synced = max(old.synced, self.synced)
            self._states.save(State(term, vote, max(commit, old.commit), recovering, synced))

    def refresh_state(self, commit: int) -> None:
        """Write the synced position and `commit` to both state files, unless nothing changed."""
        self._usable()
        old = self.state
        if commit > old.commit or self.synced > old.synced:
            self.save_state(term=old.term, vote=old.vote, commit=commit, recovering=old.recovering)

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
            InvalidArgument: the range is empty or not in the log.
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
            files = [self._segments[span.segment] for span in spans]
        records: list[Record] = []
        for span, segment in zip(spans, files, strict=True):
            bytes_max = read_span(self._fs, segment, span, low, bytes_max, records)
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
        self._bytes = found.size
        self.last_repair = found.repair
        with self._writing():
            if found.segments:
                self._activate(found.segments[-1])
            else:
                self._create(1, 0, self._last_index + 1)

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
        first, following = self._first_index, self._last_index + 1
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

    def _reserve(self, size: int, next_index: int) -> None:
        """Go on to a new segment if `size` bytes do not fit into this one."""
        header = self._active.header
        if align(self._end, header.sector_bytes) + size > header.segment_bytes:
            self._create(header.sequence + 1, size, next_index)

    def _create(self, sequence: int, size: int, next_index: int) -> None:
        sector = self._options.sector_bytes
        header = SegmentHeader(
            identity=self._identity,
            sequence=sequence,
            first_index=next_index,
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
        self._states.save(_with_synced(self.state, self.synced))

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


def _with_synced(state: State, synced: Position) -> State:
    return State(state.term, state.vote, state.commit, state.recovering, max(state.synced, synced))
