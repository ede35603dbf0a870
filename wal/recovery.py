"""From files to a log: reads all segments, repairs the tail or refuses.

The order matters: the last segment is read from the disk and not from the page cache; it is judged
before anything is changed; it is synced before any record of it counts as synced; records are
handed out only from segments that were judged good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wal.errors import (
    Corruption,
    IdentityMismatch,
    Unrepairable,
    UnsupportedVersion,
    disk,
)
from wal.format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    VERSION,
    Identity,
    Kind,
    SegmentHeader,
    decode_segment_header,
    first_nonzero,
    is_zero,
    parse_evidence_name,
    parse_segment_name,
)
from wal.fs import FileSystem
from wal.index import SparseIndex
from wal.observer import Observer, RepairReport
from wal.repair import repair
from wal.scan import Damage, Scan, Verdict, scan
from wal.segment import Segment, read_segment, remove
from wal.state import NOWHERE, State

Visit = Callable[[int, bytes], None]
"""visit(index, payload) for an entry."""

VisitSnapshot = Callable[[int, bytes, bool], None]
"""visit_snapshot(index, payload, discard) for a snapshot marker."""

EVIDENCE_MAX = 3
"""So many copies of damaged segments are kept: a disk that tears often must not fill itself."""


@dataclass(slots=True)
class Recovered:
    """The log as it was found, after repair.

    Attributes:
        segments: in order.
        end: behind the last good record.
        chain: chain value there.
        first_index: of the oldest entry that can be read, last_index + 1 if there is none.
        last_index: of the newest entry, or of the snapshot that replaced the log.
        snapshot_index: of the newest snapshot marker, 0 if there is none.
        snapshot_segment: where that marker is.
        size: bytes of all segments.
        repair: what was cut off, if so.
    """

    segments: list[Segment] = field(default_factory=list)
    end: int = 0
    chain: int = 0
    first_index: int = 1
    last_index: int = 0
    snapshot_index: int = 0
    snapshot_segment: int = 0
    size: int = 0
    repair: RepairReport | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    sequence: int
    first_index: int
    path: Path


class Recovery:
    """One opening of the log in `directory`.

    Args:
        strict: repair true ends of file only.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: Path,
        identity: Identity,
        index: SparseIndex,
        observer: Observer,
        visit: Visit,
        visit_snapshot: VisitSnapshot | None,
        *,
        strict: bool,
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._identity = identity
        self._index = index
        self._observer = observer
        self._visit = visit
        self._visit_snapshot = visit_snapshot
        self._strict = strict
        self._log = Recovered()
        self._floor = NOWHERE
        self._leftovers: list[Path] = []
        self._evidence: list[tuple[int, int, Path]] = []

    def list_segments(self) -> list[_Name]:
        """Return the segments in order."""
        names = []
        with disk("listing", self._directory):
            for name in self._fs.list_directory(self._directory):
                path = self._directory / name
                parsed = parse_segment_name(name)
                copy = parse_evidence_name(name)
                if parsed is not None:
                    names.append(_Name(*parsed, path))
                elif copy is not None:
                    self._evidence.append((*copy, path))
                elif name.endswith(".tmp"):
                    self._leftovers.append(path)
        names.sort(key=lambda name: name.sequence)
        return names

    def run(self, names: list[_Name], state: State) -> Recovered:
        """Read the segments; return the log.

        Args:
            state: from the state files: up to where the log was durable, and where it begins.

        Raises:
            Corruption: acknowledged bytes are damaged or gone, or may be.
            IdentityMismatch, UnsupportedVersion: not our files.
            DiskFailed, DiskFull: reading, or repairing, failed.
        """
        self._floor = floor = state.synced
        names = self._skip_released(names, state.oldest)
        names, sealed = self._skip_unfinished(names)
        last = names[-1].sequence if names else 0
        if last < floor.segment:
            raise Corruption(
                "acknowledged entries are gone: the newest segment is missing",
                self._directory,
                0,
                f"segment {floor.segment}",
                f"{last}",
            )
        for name in names[:-1]:
            self._take(name, sealed=True)
        if names:
            self._take(names[-1], sealed=sealed)
        self._finish()
        self._remove_leftovers()
        return self._log

    def _skip_released(self, names: list[_Name], oldest: int) -> list[_Name]:
        """Skip what a release did not get to remove; from `oldest` on nothing may be missing."""
        self._leftovers += [name.path for name in names if name.sequence < oldest]
        names = [name for name in names if name.sequence >= oldest]
        for expected, name in enumerate(names, oldest):
            if name.sequence != expected:
                raise Corruption(
                    "segment is missing", name.path, 0, f"sequence {expected}", f"{name.sequence}"
                )
        return names

    def _finish(self) -> None:
        """Check that nothing is missing between the newest snapshot and the oldest entry."""
        log, first = self._log, self._index.first
        log.first_index = log.last_index + 1 if first is None else first
        if log.first_index > log.snapshot_index + 1:
            raise Corruption(
                "entries were released that no snapshot covers",
                self._directory,
                0,
                f"a snapshot of index {log.first_index - 1}",
                f"{log.snapshot_index}",
            )

    def _skip_unfinished(self, names: list[_Name]) -> tuple[list[_Name], bool]:
        """Skip a last segment that a crash kept from being made. Its predecessor was complete."""
        if not names:
            return names, False
        last = names[-1]
        start = read_segment(self._fs, last.path, from_disk=True, bytes_max=SEGMENT_HEADER_BYTES)
        short = len(start) < SEGMENT_HEADER_BYTES
        if self._floor.segment >= last.sequence or not (short or is_zero(start, 0, len(start))):
            return names, False
        data = read_segment(self._fs, last.path, from_disk=True)
        if not short and not is_zero(data, 0, len(data)):
            return names, False
        self._leftovers.append(last.path)
        return names[:-1], True

    def _remove_leftovers(self) -> None:
        """Remove what a crash left over and old evidence; a log that is refused keeps both."""
        self._leftovers += [path for *_, path in sorted(self._evidence)[:-EVIDENCE_MAX]]
        with disk("looking for leftovers", self._directory):
            # A repair may have used the name of an earlier one that was cut short.
            leftovers = [path for path in self._leftovers if self._fs.exists(path)]
        remove(self._fs, self._directory, leftovers)

    def _take(self, name: _Name, *, sealed: bool) -> None:
        """Read one segment, judge it, and hand out its records."""
        data = read_segment(self._fs, name.path, from_disk=not sealed)
        segment = Segment(name.path, self._accept(name, data))
        found = self._scan(segment, data)
        if sealed and found.verdict is not Verdict.CLEAN:
            raise _corruption(segment, found, "in a segment that has a successor")
        if not sealed and found.verdict is not Verdict.CLEAN:
            data, found = self._repair(segment, data, found)
        if not sealed:
            self._settle(segment)
        self._hand_out(segment, data, found)

    def _accept(self, name: _Name, data: bytes) -> SegmentHeader:
        """Check that a segment is ours and follows the one before it."""
        header = decode_segment_header(data)
        if header is None:
            raise Corruption("segment header is damaged", name.path)
        if header.version != VERSION:
            raise UnsupportedVersion(
                f"{name.path}: version {header.version}, this code knows {VERSION}"
            )
        if header.identity != self._identity:
            raise IdentityMismatch(
                f"{name.path}: belongs to {header.identity}, this is {self._identity}"
            )
        sector_end = min(header.sector_bytes, len(data))
        if not is_zero(data, min(SEGMENT_HEADER_BYTES, sector_end), sector_end):
            at = first_nonzero(data, SEGMENT_HEADER_BYTES, sector_end)
            raise Corruption("segment header is damaged", name.path, at, "zeros")
        log = self._log
        chain = log.chain if log.segments else header.previous_chain
        for what, fits, found in (
            ("sequence", name.sequence, header.sequence),
            ("first index", name.first_index, header.first_index),
            ("chain with the segment before", chain, header.previous_chain),
        ):
            if fits != found:
                raise Corruption(f"{what} does not fit", name.path, 0, f"{fits}", f"{found}")
        if not log.segments:
            log.last_index = header.first_index - 1
        elif header.first_index != log.last_index + 1:
            expected = f"{log.last_index + 1}"
            raise Corruption("gap in index", name.path, 0, expected, f"{header.first_index}")
        return header

    def _scan(self, segment: Segment, data: bytes) -> Scan:
        header = segment.header
        log = self._log
        return scan(
            data,
            header,
            chain=header.previous_chain,
            last_index=log.last_index,
            snapshot_index=log.snapshot_index,
            floor=self._floor.offset if self._floor.segment == header.sequence else 0,
        )

    def _repair(self, segment: Segment, data: bytes, found: Scan) -> tuple[bytes, Scan]:
        """Repair the tail if that is allowed, and read it again: once."""
        if found.verdict is Verdict.CORRUPT:
            raise _corruption(segment, found)
        if self._strict and found.verdict is not Verdict.SHORT:
            raise _corruption(segment, found, f"{found.verdict.value}, but repair is strict")
        sequence = segment.header.sequence
        number = 1 + max((n for at, n, _ in self._evidence if at == sequence), default=0)
        evidence = repair(self._fs, segment, data, found, number)
        self._evidence.append((sequence, number, evidence))
        report = RepairReport(
            directory=self._directory,
            path=segment.path,
            segment=sequence,
            offset=found.end,
            bytes_dropped=found.dropped_bytes,
            indexes_dropped=found.dropped_indexes,
            kind=found.verdict.value,
            error=str(_corruption(segment, found)),
            evidence=evidence,
        )
        data = read_segment(self._fs, segment.path, from_disk=True)
        again = self._scan(segment, data)
        if again.verdict is not Verdict.CLEAN:
            damage = again.damage or Damage(again.end, "not clean")
            raise Unrepairable(f"WAL unrepairable: {damage.text}", segment.path, damage.offset)
        self._log.repair = report
        self._observer.on_repair(report)
        return data, again

    def _settle(self, segment: Segment) -> None:
        """Make what was read durable: it may have been only in the page cache."""
        with disk("syncing segment", segment.path):
            fd = self._fs.open(segment.path)
            try:
                self._fs.fdatasync(fd)
            finally:
                self._fs.close(fd)
            self._fs.sync_directory(self._directory)

    def _hand_out(self, segment: Segment, data: bytes, found: Scan) -> None:
        log = self._log
        last = log.last_index
        chain = segment.header.previous_chain
        sequence = segment.header.sequence
        index, visit = self._index, self._visit
        for record in found.records:
            if record.kind == Kind.ENTRY:
                superseding = record.index <= last
                last = record.index
                index.add(last, sequence, record.offset, chain, supersedes=superseding)
                start = record.offset + RECORD_HEADER_BYTES
                visit(last, data[start : start + record.length])
            elif record.kind != Kind.MARKER:
                log.snapshot_segment = sequence
                discard = record.kind == Kind.INSTALL
                if discard:
                    index.clear()
                    last = record.index
                if self._visit_snapshot is not None:
                    payload = data[record.payload_start : record.payload_end]
                    self._visit_snapshot(record.index, payload, discard)
            chain = record.chain
        log.segments.append(segment)
        log.end = found.end
        log.chain = found.chain
        log.last_index = found.last_index
        log.snapshot_index = found.snapshot_index
        log.size += len(data)


def _corruption(segment: Segment, found: Scan, context: str = "") -> Corruption:
    damage = found.damage or Damage(found.end, "damage")
    text = f"{damage.text} ({context})" if context else damage.text
    return Corruption(text, segment.path, damage.offset, damage.expected, damage.found)
