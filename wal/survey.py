"""What the files say: all segments are read and judged, and nothing is ever written.

This half of opening a log is of use by itself: a tool may look at the directory of a running node
with it. `wal.recovery` is the other half, which acts on what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wal.errors import Corruption, IdentityMismatch, UnsupportedVersion, disk
from wal.format import (
    SEGMENT_HEADER_BYTES,
    VERSION,
    Identity,
    Position,
    SegmentHeader,
    decode_segment_header,
    first_nonzero,
    is_zero,
    parse_evidence_name,
    parse_segment_name,
)
from wal.fs import FileSystem
from wal.scan import Damage, Scan, Verdict, scan
from wal.segment import Segment, read_segment
from wal.state import NOWHERE, State


class SegmentName(NamedTuple):
    """What the name of a segment file says."""

    sequence: int
    first_index: int
    path: Path


class Evidence(NamedTuple):
    """A copy of a damaged segment; `number` counts those of one segment from 1."""

    sequence: int
    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a log's directory, each kind in order. Others are nobody's business."""

    segments: list[SegmentName]
    evidence: list[Evidence]
    temporaries: list[Path]


def list_log(fs: FileSystem, directory: Path) -> Listing:
    """Return what is in the directory."""
    listing = Listing([], [], [])
    with disk("listing", directory):
        for name in fs.list_directory(directory):
            path = directory / name
            parsed = parse_segment_name(name)
            copy = parse_evidence_name(name)
            if parsed is not None:
                listing.segments.append(SegmentName(*parsed, path))
            elif copy is not None:
                listing.evidence.append(Evidence(*copy, path))
            elif name.endswith(".tmp"):
                listing.temporaries.append(path)
    listing.segments.sort()
    listing.evidence.sort()
    return listing


class Place(NamedTuple):
    """What is known of the log before a segment: `scan` starts from it."""

    chain: int
    last_index: int
    snapshot_index: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One segment, read.

    Attributes:
        data: all bytes of the file.
        before: where its records go on from.
        scan: its good records, and the verdict on what is behind them.
        corruption: why the log must be refused, None if this segment is no reason.
    """

    segment: Segment
    data: bytes
    before: Place
    scan: Scan
    corruption: Corruption | None

    @property
    def end(self) -> Position:
        """Behind the last good record."""
        return Position(self.segment.header.sequence, self.scan.end)


class Survey:
    """One reading of the log in `directory`.

    Attributes:
        listing: the files.
        leftovers: segments that do not belong to the log any more, or not yet: those that were
            released, and a last one that a crash kept from being made.
    """

    def __init__(
        self, fs: FileSystem, directory: Path, identity: Identity, state: State, listing: Listing
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._identity = identity
        self._state = state
        self._next_first_index = 0
        self._place = Place(0, 0, 0)
        self.listing = listing
        self.leftovers: list[Path] = []

    def segments(self) -> Iterator[Judged]:
        """Read and judge one segment after the other. Ends behind one that is corrupt.

        The last one, and it alone, may be torn, short or stale without being corrupt.

        Raises:
            Corruption: a segment is missing, or its header is damaged or does not fit.
            IdentityMismatch, UnsupportedVersion: not our files.
            DiskFailed: reading failed.
        """
        names, sealed = self._skip_unfinished(self._skip_released())
        if not names and self._state.oldest > 1:
            raise Corruption(
                "no segment is left, and none says which snapshot the log began with",
                self._directory,
                0,
                f"segment {self._state.oldest}",
                "none",
            )
        for number, name in enumerate(names, 1):
            judged = self._judge(name, sealed=sealed or number < len(names))
            yield judged
            if judged.corruption is not None:
                return

    def again(self, judged: Judged) -> Judged:
        """Read a last segment once more, from the disk."""
        data = read_segment(self._fs, judged.segment.path, from_disk=True)
        return _judged(judged.segment, data, judged.before, sealed=False)

    def _skip_released(self) -> list[SegmentName]:
        """Skip what a release did not get to remove; from the oldest on nothing may be missing."""
        oldest = self._state.oldest
        names = [name for name in self.listing.segments if name.sequence >= oldest]
        self.leftovers += [n.path for n in self.listing.segments if n.sequence < oldest]
        for expected, name in enumerate(names, oldest):
            if name.sequence != expected:
                raise Corruption(
                    "segment is missing", name.path, 0, f"sequence {expected}", f"{name.sequence}"
                )
        return names

    def _skip_unfinished(self, names: list[SegmentName]) -> tuple[list[SegmentName], bool]:
        """Skip a last segment that a crash kept from being made. Its predecessor was complete."""
        if not names:
            return names, False
        path = names[-1].path
        start = read_segment(self._fs, path, from_disk=True, bytes_max=SEGMENT_HEADER_BYTES)
        short = len(start) < SEGMENT_HEADER_BYTES
        if not short:
            if not is_zero(start, 0, len(start)):
                return names, False
            data = read_segment(self._fs, path, from_disk=True)
            if not is_zero(data, 0, len(data)):
                return names, False
        self.leftovers.append(path)
        return names[:-1], True

    def _judge(self, name: SegmentName, *, sealed: bool) -> Judged:
        data = read_segment(self._fs, name.path, from_disk=not sealed)
        header = decode_segment_header(data)
        if header is None:
            raise Corruption("segment header is damaged", name.path)
        self._accept(name, header, data)
        before = Place(header.previous_chain, header.first_index - 1, self._place.snapshot_index)
        judged = _judged(Segment(name.path, header), data, before, sealed=sealed)
        found = judged.scan
        self._place = Place(found.chain, found.last_index, found.snapshot_index)
        self._next_first_index = found.last_index + 1
        return judged

    def _accept(self, name: SegmentName, header: SegmentHeader, data: bytes) -> None:
        """Check that a segment is ours and follows the one before it."""
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
        is_first = self._next_first_index == 0
        chain = header.previous_chain if is_first else self._place.chain
        for what, fits, found in (
            ("sequence", name.sequence, header.sequence),
            ("first index", name.first_index, header.first_index),
            ("chain with the segment before", chain, header.previous_chain),
        ):
            if fits != found:
                raise Corruption(f"{what} does not fit", name.path, 0, f"{fits}", f"{found}")
        if not is_first and header.first_index != self._next_first_index:
            expected = f"{self._next_first_index}"
            raise Corruption("gap in index", name.path, 0, expected, f"{header.first_index}")


def corruption_of(segment: Segment, found: Scan, context: str = "") -> Corruption:
    """Return the damage of a segment as an error."""
    damage = found.damage or Damage(found.end, "damage")
    text = f"{damage.text} ({context})" if context else damage.text
    return Corruption(text, segment.path, damage.offset, damage.expected, damage.found)


def end_of(judged: Judged | None) -> Position:
    """Return where a log ends whose last segment this is, None for a log without any."""
    return NOWHERE if judged is None else judged.end


def _judged(segment: Segment, data: bytes, before: Place, *, sealed: bool) -> Judged:
    found = scan(
        data,
        segment.header,
        chain=before.chain,
        last_index=before.last_index,
        snapshot_index=before.snapshot_index,
    )
    corruption = None
    if found.verdict is Verdict.CORRUPT:
        corruption = corruption_of(segment, found)
    elif sealed and found.verdict is not Verdict.CLEAN:
        corruption = corruption_of(segment, found, "in a segment that has a successor")
    return Judged(segment, data, before, found, corruption)
