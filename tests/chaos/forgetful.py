"""A file system that loses at the kill what was never synced.

`kill -9` alone proves little about a log: what a process wrote is safe in the kernel's page cache,
synced or not. Here it is not. Written bytes stay in the memory of the process, where its own reads
find them, and reach the real file in `fdatasync` only; SIGKILL takes the rest along, as a power cut
would.

A disk may also persist any part of un-synced bytes early. So now and then some sectors of a write
reach the file at once, and the sync that would complete them takes its time: a kill in between
leaves a torn record behind.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from wal.fs import PosixFileSystem

SEED_VARIABLE = "CHAOS_SEED"
"""Environment variable with the seed of a node's misfortunes."""
SECTOR_BYTES = 512
EARLY_WRITES = 0.05
"""Share of writes of which some sectors reach the disk early."""
SLOW_SYNC_SECONDS_MAX = 0.03
"""How long the sync after such a write may take, so that a kill can come in between."""


@dataclass(frozen=True, slots=True)
class Unsynced:
    """Bytes that the process wrote and the disk does not have."""

    offset: int
    data: bytes
    written_at: float
    """Monotonic seconds."""


class ForgetfulFileSystem(PosixFileSystem):
    """The real file system, except for what was not synced. Safe to use from several threads."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._inodes: dict[int, int] = {}
        self._unsynced: dict[int, list[Unsynced]] = {}
        self._torn: set[int] = set()
        """Inodes of which a write reached the disk in part."""

    @property
    def unsynced_bytes(self) -> int:
        """What a kill now would take along."""
        with self._lock:
            return sum(len(u.data) for writes in self._unsynced.values() for u in writes)

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open; a file that is made or emptied has no un-synced bytes yet."""
        fd = super().open(path, create=create)
        inode = os.fstat(fd).st_ino
        with self._lock:
            self._inodes[fd] = inode
            if create:
                self._unsynced.pop(inode, None)
        return fd

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Keep the bytes in memory; some of their sectors may reach the disk already."""
        written = Unsynced(offset, bytes(data), time.monotonic())
        with self._lock:
            inode = self._inodes[fd]
            self._unsynced.setdefault(inode, []).append(written)
            if self._random.random() < EARLY_WRITES:
                self._write_some_sectors(fd, written)
                self._torn.add(inode)
        return len(written.data)

    def _write_some_sectors(self, fd: int, written: Unsynced) -> None:
        end = written.offset + len(written.data)
        start = written.offset
        while start < end:
            edge = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if self._random.random() < 0.5:
                os.pwrite(fd, written.data[start - written.offset : edge - written.offset], start)
            start = edge

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read what the process believes is in the file."""
        with self._lock:
            data = os.pread(fd, size, offset)
            unsynced = self._unsynced.get(self._inodes[fd])
            return data if not unsynced else _overlay(data, size, offset, unsynced)

    def size(self, fd: int) -> int:
        """The size that the process believes in."""
        with self._lock:
            ends = [u.offset + len(u.data) for u in self._unsynced.get(self._inodes[fd], ())]
            return max(super().size(fd), *ends, 0)

    def truncate(self, fd: int, size: int) -> None:
        """Set the size; un-synced bytes behind it are forgotten at once."""
        with self._lock:
            inode = self._inodes[fd]
            kept = [
                Unsynced(u.offset, u.data[: size - u.offset], u.written_at)
                for u in self._unsynced.get(inode, ())
                if u.offset < size
            ]
            self._unsynced[inode] = kept
            super().truncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        """Let the un-synced bytes of this file reach the disk, at times slowly."""
        inode = self._inodes[fd]
        if inode in self._torn:
            time.sleep(self._random.uniform(0, SLOW_SYNC_SECONDS_MAX))
        with self._lock:
            self._torn.discard(inode)
            for unsynced in self._unsynced.pop(inode, ()):
                _write_through(fd, unsynced)
        super().fdatasync(fd)


class NeverSyncingFileSystem(ForgetfulFileSystem):
    """What a log without fdatasync meets: bytes reach the disk when the kernel gets round to it."""

    WRITE_BACK_SECONDS = 0.3

    def fdatasync(self, fd: int) -> None:
        """Write back what is old; promise nothing about the rest."""
        before = time.monotonic() - self.WRITE_BACK_SECONDS
        with self._lock:
            inode = self._inodes[fd]
            unsynced = self._unsynced.get(inode, [])
            for old in unsynced:
                if old.written_at < before:
                    _write_through(fd, old)
            self._unsynced[inode] = [u for u in unsynced if u.written_at >= before]


def _write_through(fd: int, unsynced: Unsynced) -> None:
    written = 0
    while written < len(unsynced.data):
        written += os.pwrite(fd, unsynced.data[written:], unsynced.offset + written)


def _overlay(data: bytes, size: int, offset: int, unsynced: list[Unsynced]) -> bytes:
    """Put un-synced bytes over what the disk holds, in the order they were written."""
    view = bytearray(data)
    for u in unsynced:
        start = max(u.offset, offset)
        end = min(u.offset + len(u.data), offset + size)
        if start < end:
            view.extend(bytes(max(0, end - offset - len(view))))
            view[start - offset : end - offset] = u.data[start - u.offset : end - u.offset]
    return bytes(view)
