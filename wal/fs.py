"""The file system as the log sees it: one Protocol, so that a test can lose what was not synced.

Every I/O of the package goes through it. The methods are single system calls: they may write less
than asked and they raise `OSError`. What is made of that is decided above.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn, Protocol

ZERO_CHUNK_BYTES = 1024 * 1024
"""Zeros are written in pieces of this size: large enough to be quick, small enough to hold."""

_ZEROS = bytes(ZERO_CHUNK_BYTES)


class FileSystem(Protocol):
    """What the log needs of an operating system. Descriptors are plain numbers."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing; with `create` make it, or empty it (mode 0600)."""

    def close(self, fd: int) -> None:
        """Give the descriptor back."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end of the file or when interrupted."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of `data`, return how many bytes."""

    def fdatasync(self, fd: int) -> None:
        """Return when the file's bytes and size are on the disk."""

    def truncate(self, fd: int, size: int) -> None:
        """Set the file's size in bytes."""

    def size(self, fd: int) -> int:
        """Return the file's size in bytes."""

    def drop_cache(self, fd: int) -> None:
        """Ask that the next read comes from the disk. A hint: dirty pages stay."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one directory, replacing the target."""

    def unlink(self, path: Path) -> None:
        """Remove the file."""

    def make_directory(self, path: Path) -> None:
        """Make the directory (mode 0700) unless it exists."""

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's names are on the disk."""

    def list_directory(self, path: Path) -> list[str]:
        """Return the names in the directory, sorted."""

    def exists(self, path: Path) -> bool:
        """Tell whether there is a file of that name."""


class PosixFileSystem:
    """The real one."""

    def open(self, path: Path, *, create: bool = False) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        # macOS has no fdatasync; there fsync is the nearest thing.
        getattr(os, "fdatasync", os.fsync)(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def drop_cache(self, fd: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def list_directory(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def exists(self, path: Path) -> bool:
        return path.exists()


class ReadOnlyFileSystem(PosixFileSystem):
    """One that only reads, for tools: nothing that goes through it can change a file.

    Works on a file system that is mounted read-only. An attempt to write is a bug of the caller.
    """

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._refuse()
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _refuse(self, *_arguments: object, **_named: object) -> NoReturn:
        raise AssertionError("a write through a file system that only reads")

    pwrite = fdatasync = truncate = rename = unlink = make_directory = sync_directory = _refuse


def write_all(fs: FileSystem, fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however little the system takes at a time."""
    written = fs.pwrite(fd, data, offset)
    while written < len(data):
        count = fs.pwrite(fd, memoryview(data)[written:], offset + written)
        if count <= 0:
            raise OSError("the file system accepts no bytes and reports no error")
        written += count


def write_zeros(fs: FileSystem, fd: int, start: int, end: int) -> None:
    """Fill the file with real zeros from `start` to `end`: blocks must be written, not reserved."""
    for offset in range(start, end, ZERO_CHUNK_BYTES):
        write_all(fs, fd, _ZEROS[: min(ZERO_CHUNK_BYTES, end - offset)], offset)


def read_all(fs: FileSystem, fd: int, size: int, offset: int = 0) -> bytes:
    """Read `size` bytes from `offset`; fewer only if the file ends before."""
    data = fs.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing:
        data = fs.pread(fd, missing, offset + size - missing)
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
