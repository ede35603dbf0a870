"""What the tests of the log share: a log on a disk in memory, and a model of what it holds."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.support.disk import MemoryDisk
from wal import FileSystem, Identity, Observer, Options, Record, RepairReport, Wal
from wal.format import (
    RecordHeader,
    SegmentHeader,
    decode_segment_header,
    frame,
    parse_segment_name,
)
from wal.scan import Scan, scan

ROOT = Path("/data")
DIRECTORY = ROOT / "wal"
STATES = (ROOT / "state-a", ROOT / "state-b")
IDENTITY = Identity(0x1111, 0x2222)
SMALL = Options(segment_bytes=8192)


class Watcher(Observer):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.repairs: list[RepairReport] = []
        self.states: list[tuple[Path, str]] = []
        self.synced_bytes: list[int] = []

    def on_repair(self, report: RepairReport) -> None:
        self.repairs.append(report)

    def on_state_repaired(self, path: Path, reason: str) -> None:
        self.states.append((path, reason))

    def on_sync(self, seconds: float, size: int) -> None:
        self.synced_bytes.append(size)


class Snapshot(NamedTuple):
    """A snapshot marker."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    payload: bytes
    discard: bool


class Model:
    """The log as a list: what superseding means, and what snapshots do.

    Attributes:
        entries: those that are left, successive.
        last: index of the newest entry, or of the snapshot that replaced all.
        snapshots: all that were visited.
    """

    def __init__(self, last: int | None = 0) -> None:
        self.entries: list[Record] = []
        self.last = last
        self.snapshots: list[Snapshot] = []

    @property
    def first(self) -> int:
        """The smallest index that is left."""
        assert self.last is not None
        return self.entries[0].index if self.entries else self.last + 1

    @property
    def snapshot(self) -> Snapshot:
        """The newest one."""
        return self.snapshots[-1] if self.snapshots else Snapshot(0, b"", False)

    def visit(self, index: int, payload: bytes) -> None:
        """An entry; only the first of a log whose beginning was released may have any index."""
        assert self.snapshot.index < index
        assert self.last is None or index <= self.last + 1
        while self.entries and self.entries[-1].index >= index:
            self.entries.pop()
        self.entries.append(Record(index, payload))
        self.last = index

    def visit_snapshot(self, index: int, payload: bytes, discard: bool) -> None:
        """A snapshot marker."""
        assert index >= max(self.snapshot.index, 1)
        assert discard or self.last is None or index <= self.last
        self.snapshots.append(Snapshot(index, payload, discard))
        if discard:
            self.entries.clear()
            self.last = index

    def append(self, records: list[Record]) -> None:
        for record in records:
            self.visit(*record)

    def copy(self) -> Model:
        """One that may go another way."""
        other = Model(self.last)
        other.entries = list(self.entries)
        other.snapshots = list(self.snapshots)
        return other


def open_log(
    fs: FileSystem, options: Options = SMALL, *, root: Path = ROOT, seed: int = 0, **more: object
) -> tuple[Wal, Model]:
    """Open the log on `fs`; salts come from the seed and from what is on the disk."""
    model = Model(last=None)
    salts = Random(seed)
    wal = Wal.open(
        root / "wal",
        (root / "state-a", root / "state-b"),
        more.pop("identity", IDENTITY),  # type: ignore[arg-type]
        visit=model.visit,
        visit_snapshot=model.visit_snapshot,
        fs=fs,
        options=options,
        salts=lambda: salts.getrandbits(64),
        **more,  # type: ignore[arg-type]
    )
    return wal, model


def contents(wal: Wal) -> list[Record]:
    """All records by `read`."""
    found: list[Record] = []
    while (low := wal.first_index + len(found)) <= wal.last_index:
        found += wal.read(low, wal.last_index + 1, 1 << 30)
    return found


def newest_segment(disk: MemoryDisk) -> Path:
    """The last segment by sequence."""
    return max(path for path in disk.names if parse_segment_name(path.name))


def segment_bytes(disk: MemoryDisk, path: Path | None = None) -> bytes:
    """The bytes of a segment, the newest by default."""
    return bytes(disk.names[path or newest_segment(disk)].data)


def overwrite(disk: MemoryDisk, offset: int, data: bytes, path: Path | None = None) -> None:
    """Change bytes on the disk behind the log's back."""
    inode = disk.names[path or newest_segment(disk)]
    inode.data[offset : offset + len(data)] = data
    inode.durable = bytearray(inode.data)


def flip(disk: MemoryDisk, offset: int, bit: int = 0, path: Path | None = None) -> None:
    """Flip one bit."""
    byte = segment_bytes(disk, path)[offset] ^ (1 << bit)
    overwrite(disk, offset, bytes([byte]), path)


def cut(disk: MemoryDisk, size: int, path: Path | None = None) -> None:
    """Shorten a segment."""
    inode = disk.names[path or newest_segment(disk)]
    del inode.data[size:]
    inode.durable = bytearray(inode.data)


def header_of(data: bytes) -> SegmentHeader:
    """The header of a segment that has a good one."""
    header = decode_segment_header(data)
    assert header is not None
    return header


def scanned(disk: MemoryDisk, path: Path | None = None) -> Scan:
    """Scan a segment as the first of its log."""
    data = segment_bytes(disk, path)
    header = header_of(data)
    return scan(data, header, chain=header.previous_chain, last_index=header.first_index - 1)


def record_of(disk: MemoryDisk, number: int) -> RecordHeader:
    """The header of a record in the newest segment, by its number from 0 or from the end."""
    return scanned(disk).records[number]


def encode_record(
    kind: int, record: Record, offset: int, synced_upto: int, chain: int, salt: int
) -> tuple[bytes, int]:
    """One framed record and the chain value behind it."""
    group = frame(kind, [record], offset, synced_upto, chain, salt, record.index)
    return group.data, group.chain
