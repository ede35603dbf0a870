"""A disk in memory that may forget what was not synced: for crash tests and the simulator.

A file has a durable image and the writes since its last sync. At a crash each 512-byte sector of
those writes reached the disk or did not, in any combination; the file grew to any size on the way;
names changed up to any point. What was synced stays. `fail_at` makes one call fail, `short_writes`
makes writes take few bytes at a time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

SECTOR_BYTES = 512


@dataclass(slots=True)
class Inode:
    """A file: its bytes as written, as durable, and how it got from the latter to the former."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, bytes) of a write; (size, b"") of a change of size."""

    def write(self, offset: int, data: bytes) -> None:
        """Write at `offset`; a gap reads as zeros."""
        _put(self.data, offset, data)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        """Set the size."""
        _resize(self.data, size)
        self.pending.append((size, b""))

    def sync(self) -> None:
        """Make all durable."""
        # Only what changed: a simulator syncs large files after small writes.
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def crash(self, random: Random) -> None:
        """Lose what was not synced, except for the sectors that chance let through."""
        after = self.durable
        for offset, data in self.pending:
            if not data:
                if random.random() < 0.5:
                    _resize(after, offset)
                continue
            for start, end in _sectors(offset, offset + len(data)):
                if random.random() < 0.5:
                    _put(after, start, data[start - offset : end - offset])
        self.pending.clear()
        self.data = bytearray(after)


class MemoryDisk:
    """A `wal.FileSystem` without a disk.

    Attributes:
        calls: names of the calls so far that changed or synced something.
        fail_at: number of the call (from 1) that fails, 0 for none.
        error: its errno.
        failing: all calls after it fail, too.
        short_writes: a write takes at most so many bytes, 0 for all.
    """

    def __init__(self) -> None:
        self.names: dict[Path, Inode] = {}
        self.durable_names: dict[Path, Inode] = {}
        self.directories: set[Path] = set()
        self.name_changes: list[tuple[Path, Callable[[dict[Path, Inode]], None]]] = []
        self.open_files: dict[int, Inode] = {}
        self.calls: list[str] = []
        self.fail_at = 0
        self.error = errno.EIO
        self.failing = False
        self.short_writes = 0
        self._next_fd = 3

    # --- faults -------------------------------------------------------------------------------

    def crash(self, random: Random) -> None:
        """Lose power: what was synced stays, of the rest some."""
        kept = random.randint(0, len(self.name_changes))
        for _, change in self.name_changes[:kept]:
            change(self.durable_names)
        self.name_changes.clear()
        for _, inode in sorted(self.durable_names.items()):
            inode.crash(random)
        self.names = dict(self.durable_names)
        self.open_files.clear()
        self.fail_at = 0

    def settle(self) -> None:
        """Make everything durable, as an orderly shutdown of the machine does."""
        for inode in self.names.values():
            inode.sync()
        self.durable_names = dict(self.names)
        self.name_changes.clear()

    def image(self) -> dict[Path, bytes]:
        """All files as they are."""
        return {path: bytes(inode.data) for path, inode in sorted(self.names.items())}

    @classmethod
    def from_image(cls, image: dict[Path, bytes]) -> MemoryDisk:
        """A disk with these files, durable."""
        disk = cls()
        for path, data in image.items():
            disk.names[path] = Inode(bytearray(data), bytearray(data))
            disk.directories.add(path.parent)
        disk.durable_names = dict(disk.names)
        return disk

    def _step(self, name: str) -> None:
        self.calls.append(name)
        number = len(self.calls)
        if self.fail_at and (number == self.fail_at or (self.failing and number > self.fail_at)):
            raise OSError(self.error, os.strerror(self.error), name)

    # --- wal.FileSystem -----------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open, or make and empty, a file."""
        if create:
            self._step("create")
            inode = self.names.get(path)
            if inode is None:
                made = Inode()
                self._change_names(path.parent, lambda names: names.__setitem__(path, made))
            else:
                inode.truncate(0)
        elif path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._next_fd += 1
        self.open_files[self._next_fd] = self.names[path]
        return self._next_fd

    def close(self, fd: int) -> None:
        """Forget the descriptor."""
        del self.open_files[fd]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read."""
        return bytes(self.open_files[fd].data[offset : offset + size])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write, or write a part."""
        self._step("pwrite")
        taken = bytes(data[: self.short_writes] if self.short_writes else data)
        self.open_files[fd].write(offset, taken)
        return len(taken)

    def fdatasync(self, fd: int) -> None:
        """Make a file's bytes durable."""
        self._step("fdatasync")
        self.open_files[fd].sync()

    def truncate(self, fd: int, size: int) -> None:
        """Set a file's size."""
        self._step("truncate")
        self.open_files[fd].truncate(size)

    def size(self, fd: int) -> int:
        """A file's size."""
        return len(self.open_files[fd].data)

    def drop_cache(self, fd: int) -> None:
        """Nothing is cached."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename, durable with the next sync of the directory."""
        self._step("rename")
        self._change_names(
            target.parent, lambda names: names.__setitem__(target, names.pop(source))
        )

    def unlink(self, path: Path) -> None:
        """Remove, durable with the next sync of the directory."""
        self._step("unlink")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._change_names(path.parent, lambda names: names.__delitem__(path))

    def make_directory(self, path: Path) -> None:
        """Make a directory; directories are durable at once."""
        self.directories.add(path)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        self._step("sync_directory")
        for directory, change in self.name_changes:
            if directory == path:
                change(self.durable_names)
        self.name_changes = [entry for entry in self.name_changes if entry[0] != path]

    def list_directory(self, path: Path) -> list[str]:
        """Names in a directory."""
        return sorted(name.name for name in self.names if name.parent == path)

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path in self.names

    def _change_names(self, directory: Path, change: Callable[[dict[Path, Inode]], None]) -> None:
        """Change the names now, and the durable ones when the directory is synced."""
        change(self.names)
        self.name_changes.append((directory, change))


def _sectors(start: int, end: int) -> list[tuple[int, int]]:
    edges = [start, *range((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end, SECTOR_BYTES), end]
    return list(pairwise(edges))


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _put(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset + len(data):
        _resize(target, offset + len(data))
    target[offset : offset + len(data)] = data


def _apply(target: bytearray, offset: int, data: bytes) -> None:
    if data:
        _put(target, offset, data)
    else:
        _resize(target, offset)
