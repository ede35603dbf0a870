"""A disk in memory that may forget what was not synced: for crash tests and the simulator.

A file has a durable image and the writes since its last sync. At a crash each 512-byte sector of
those writes reached the disk or did not, in any combination; the file grew to any size on the way;
names changed up to any point. What was synced stays. `fail_at` makes one call fail, `short_writes`
makes writes take few bytes at a time.

`StormyDisk` crashes in worse ways and may lie about what it synced. `FaultyDisk` fails, or does
half of, any single call, reads as well.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

SECTOR_BYTES = 512

Lost = Literal["old", "zeros", "noise"]
"""What a sector holds that was on its way when the power went."""


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
        inode = self.names[source]

        def change(names: dict[Path, Inode]) -> None:
            # A crash may have lost the source's own entry, and keeps the rename all the same.
            names.pop(source, None)
            names[target] = inode

        self._change_names(target.parent, change)

    def unlink(self, path: Path) -> None:
        """Remove, durable with the next sync of the directory."""
        self._step("unlink")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

        def change(names: dict[Path, Inode]) -> None:
            names.pop(path, None)

        self._change_names(path.parent, change)

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


@dataclass(frozen=True, slots=True)
class Power:
    """How a loss of power treats what was not synced.

    A sector in flight is written or not; bytes that the write does not change stay in any case.

    Attributes:
        kept: chance of each sector, and of each change of a name, to reach the disk.
        lost: what the others may hold afterwards, each with the same chance.
        any_order: an older write of a sector may come after a newer one.
        any_length: a file whose size was changing may end anywhere between.
        any_names: of the changes of names any subset is lost, not only the last ones.
    """

    kept: float = 0.5
    lost: tuple[Lost, ...] = ("old",)
    any_order: bool = False
    any_length: bool = False
    any_names: bool = False


class StormyDisk(MemoryDisk):
    """Tears, reorders, loses and lies.

    Attributes:
        power: how it crashes.
        lying: chance of a sync to return without having synced; a later one may make up for it.
        dice: decides about that.
        lies: how many syncs lied.
        sectors: how many sectors crashes left as they were told, as they had been, zero, or noise.
    """

    def __init__(self, power: Power | None = None, dice: Random | None = None) -> None:
        super().__init__()
        self.power = power or Power()
        self.dice = dice or Random(0)
        self.lying = 0.0
        self.lies = 0
        self.sectors = dict.fromkeys(("kept", "old", "zeros", "noise"), 0)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write, or write the beginning."""
        if self.short_writes:
            data = _begun(data, offset, self.short_writes)
        self._step("pwrite")
        self.open_files[fd].write(offset, bytes(data))
        return len(data)

    def fdatasync(self, fd: int) -> None:
        """Make a file's bytes durable, or say so."""
        if self._lies("fdatasync"):
            return
        super().fdatasync(fd)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable, or say so."""
        if self._lies("sync_directory"):
            return
        super().sync_directory(path)

    def _lies(self, name: str) -> bool:
        if not self.lying or self.dice.random() >= self.lying:
            return False
        self._step(name)
        self.lies += 1
        return True

    def crash(self, random: Random) -> None:
        """Lose power as `power` says."""
        changes = self.name_changes
        if self.power.any_names:
            changes = [change for change in changes if random.random() < self.power.kept]
        else:
            changes = changes[: random.randint(0, len(changes))]
        for _, change in changes:
            change(self.durable_names)
        self.name_changes.clear()
        for _, inode in sorted(self.durable_names.items()):
            self._tear(inode, random)
        self.names = dict(self.durable_names)
        self.open_files.clear()
        self.fail_at = 0
        self.failing = False

    def _tear(self, inode: Inode, random: Random) -> None:
        if not inode.pending:
            return
        after, power = inode.durable, self.power
        lengths = sorted((len(after), len(inode.data)))
        pieces = list(_pieces(inode.pending))
        if power.any_order:
            random.shuffle(pieces)
        for offset, data in pieces:
            if random.random() < power.kept:
                self.sectors["kept"] += bool(data)
                _apply(after, offset, data)
            elif data:
                lost = random.choice(power.lost)
                self.sectors[lost] += 1
                if lost == "zeros":
                    _put(after, offset, bytes(len(data)))
                elif lost == "noise":
                    _put(after, offset, _noise(data, random))
        if power.any_length and lengths[0] != lengths[1] and random.random() < 0.5:
            _resize(after, random.randint(*lengths))
        inode.pending.clear()
        inode.data = bytearray(after)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call.

    Attributes:
        error: its errno, 0 for none: then only `half` counts.
        half: a read or write does half of its bytes; the error meets the call after it.
        full: from here on all that needs room fails, until there is `room` again.
    """

    error: int = 0
    half: bool = False
    full: bool = False


class FaultyDisk(MemoryDisk):
    """Fails any single call, also those that change nothing.

    Attributes:
        history: name and file of every call, for a directory its own path.
        fault_at: number of the call (from 1) that meets `fault`, 0 for none.
        fault: what happens to it.
        struck: number of the call that raised, 0 for none so far.
        room: False as long as the disk is full.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: list[tuple[str, Path]] = []
        self.fault_at = 0
        self.fault = Fault(errno.EIO)
        self.struck = 0
        self.room = True
        self._paths: dict[int, Path] = {}

    def _meet(self, name: str, path: Path) -> bool:
        """Count a call; raise, or tell whether only half of it is done."""
        self.history.append((name, path))
        number, fault = len(self.history), self.fault
        if not self.fault_at or number < self.fault_at:
            return False
        if fault.full:
            self.room = self.room and number > self.fault_at
            failing = not self.room and name in ("create", "pwrite") and path.suffix == ".tmp"
            half = False
        else:
            failing = bool(fault.error) and number == self.fault_at + fault.half
            half = fault.half and number == self.fault_at
        if failing:
            self.struck = self.struck or number
            raise OSError(fault.error, os.strerror(fault.error), str(path))
        return half

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open."""
        self._meet("create" if create else "open", path)
        fd = super().open(path, create=create)
        self._paths[fd] = path
        return fd

    def close(self, fd: int) -> None:
        """Close; the descriptor is gone even if it fails, as on Linux."""
        super().close(fd)
        self._meet("close", self._paths.pop(fd))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read, or read half."""
        half = self._meet("pread", self._paths[fd])
        return super().pread(fd, (size + 1) // 2 if half else size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write, or write half."""
        half = self._meet("pwrite", self._paths[fd])
        return super().pwrite(fd, _begun(data, offset, len(data) // 2) if half else data, offset)

    def fdatasync(self, fd: int) -> None:
        """Sync. As on ext4, a failure forgets the dirty pages: the next one would succeed."""
        try:
            self._meet("fdatasync", self._paths[fd])
        except OSError:
            self.open_files[fd].pending.clear()
            raise
        super().fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Set the size."""
        self._meet("truncate", self._paths[fd])
        super().truncate(fd, size)

    def size(self, fd: int) -> int:
        """Tell the size."""
        self._meet("size", self._paths[fd])
        return super().size(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        self._meet("rename", source)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove."""
        self._meet("unlink", path)
        super().unlink(path)

    def make_directory(self, path: Path) -> None:
        """Make a directory."""
        self._meet("make_directory", path)
        super().make_directory(path)

    def sync_directory(self, path: Path) -> None:
        """Sync a directory."""
        self._meet("sync_directory", path)
        super().sync_directory(path)

    def list_directory(self, path: Path) -> list[str]:
        """List a directory."""
        self._meet("list_directory", path)
        return super().list_directory(path)

    def exists(self, path: Path) -> bool:
        """Look for a file."""
        self._meet("exists", path)
        return super().exists(path)


def _begun(data: bytes | memoryview, offset: int, size: int) -> bytes | memoryview:
    """What a write that was cut short after `size` bytes has done: whole sectors.

    The page cache works in pages; a write is interrupted between two of them.
    """
    return data[: -(-(offset + size) // SECTOR_BYTES) * SECTOR_BYTES - offset]


def _pieces(pending: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Cut writes at the edges of sectors; changes of size stay as they are."""
    for offset, data in pending:
        if not data:
            yield offset, data
            continue
        for start, end in _sectors(offset, offset + len(data)):
            yield start, data[start - offset : end - offset]


def _noise(data: bytes, random: Random) -> bytes:
    """Anything, or nearly what was meant."""
    if random.random() < 0.5:
        return random.randbytes(len(data))
    nearly = bytearray(data)
    nearly[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(nearly)


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
