"""A process that writes a log until somebody ends it, and promises line by line what is durable.

Run as `python -m tests.support.doomed_writer DIRECTORY SEED HALF`. What it promised, and nothing
else, must be there after the next mount: `found` reads it back. An entry's payload follows from its
index alone, so that a reader knows what it must be.

With HALF greater than 0 the HALF-th sync of a segment never happens. Some pages of the group, never
all, are pushed to the disk, as the kernel does on its own when memory is short, and the process
waits to be killed: the front, the end or the middle of the group is on the disk, the rest is zeros.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

from wal import DiskFailed, Identity, Options, PosixFileSystem, Record, RepairReport, Silent, Wal

IDENTITY = Identity(0x5EED, 1)
OPTIONS = Options(segment_bytes=1 << 18)
PAGE_BYTES = 4096
RECORDS_PER_GROUP_MAX = 24
SNAPSHOT_ENTRIES = 400
SYNC_FILE_RANGE_WAIT_WRITE_WAIT = 7
HALF_WRITTEN = "half written"


def payload(index: int) -> bytes:
    """What the entry of this index holds: of any size, and now and then full of zeros."""
    chance = Random(index)
    size = chance.choice((16, 128, 700, 5_000))
    return bytes(size) if chance.random() < 0.1 else chance.randbytes(size)


class Repairs(Silent):
    """Remembers what opening the log cut off."""

    def __init__(self) -> None:
        self.report: RepairReport | None = None

    def on_repair(self, report: RepairReport) -> None:
        self.report = report


@dataclass(slots=True)
class Found:
    """What a directory holds.

    Attributes:
        last_index: of the log; every entry that it must hold was compared.
        term: in the state files.
        repair: what was cut off, None for a clean end.
    """

    last_index: int
    term: int
    repair: RepairReport | None


def open_log(directory: Path, fs: PosixFileSystem, repairs: Repairs) -> Wal:
    """Open the log in `directory`, and compare every entry that is read.

    Raises:
        AssertionError: an entry is not what was written.
    """

    def visit(index: int, data: bytes) -> None:
        assert bytes(data) == payload(index), f"entry {index} is not what was written"

    return Wal.open(
        directory / "wal",
        (directory / "state-a", directory / "state-b"),
        IDENTITY,
        visit=visit,
        visit_snapshot=lambda index, data, discard: None,
        fs=fs,
        options=OPTIONS,
        observer=repairs,
    )


def found(directory: Path) -> Found:
    """Open the log as a start does, and tell what is in it."""
    repairs = Repairs()
    wal = open_log(directory, PosixFileSystem(), repairs)
    wal.close()
    return Found(wal.last_index, wal.state.term, repairs.report)


class HalfWrittenDisk(PosixFileSystem):
    """Loses power, as it were, between the write of a group and its sync.

    It takes a page at a time, each into a place of its own in the kernel's cache: what lies
    together there would reach the disk together.
    """

    def __init__(self, chance: Random, at: int) -> None:
        self._chance = chance
        self._groups_left = at
        self._pages: list[int] = []
        self._libc = ctypes.CDLL(None, use_errno=True)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        page = offset - offset % PAGE_BYTES
        self._pages.append(page)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return super().pwrite(fd, data[: page + PAGE_BYTES - offset], offset)

    def fdatasync(self, fd: int) -> None:
        pages, self._pages = self._pages, []
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".wal"):
            self._groups_left -= 1
            if self._groups_left == 0:
                self._push_some(fd, pages)
                promise(HALF_WRITTEN)
                signal.pause()
        super().fdatasync(fd)

    def _push_some(self, fd: int, pages: list[int]) -> None:
        for page in self._chance.sample(pages, self._chance.randrange(len(pages))):
            offset, size = ctypes.c_int64(page), ctypes.c_int64(PAGE_BYTES)
            if self._libc.sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WAIT_WRITE_WAIT):
                raise OSError(ctypes.get_errno(), "sync_file_range")


def promise(text: str) -> None:
    """Tell whoever watches; but for what is only begun, from here on it must be true."""
    os.write(1, f"{text}\n".encode())


def write_until_killed(directory: Path, chance: Random, fs: PosixFileSystem) -> None:
    """Groups, and in between the other things that a node does to its log."""
    wal = open_log(directory, fs, Repairs())
    while True:
        first = wal.last_index + 1
        count = chance.randint(1, RECORDS_PER_GROUP_MAX)
        promise(f"begun {first + count - 1}")
        wal.append([Record(index, payload(index)) for index in range(first, first + count)])
        promise(f"index {wal.last_index}")
        if chance.random() < 0.1:
            wal.mark()
        if chance.random() < 0.1:
            term = wal.state.term + 1
            wal.save_state(term=term, vote=1, commit=wal.last_index)
            promise(f"term {term}")
        if wal.last_index - wal.snapshot_index > SNAPSHOT_ENTRIES:
            wal.mark_snapshot(wal.last_index, b"")
            wal.release(wal.last_index)


if __name__ == "__main__":
    root, seed, half = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    rng = Random(seed)
    try:
        write_until_killed(root, rng, HalfWrittenDisk(rng, half) if half else PosixFileSystem())
    except DiskFailed:
        sys.exit("power was lost first")
