"""The directory of snapshots: names that sort, two that are kept, others and leftovers that go.

A file gets its name `<index>-<term>.snap` by a rename when all of it was synced. What a crash left
under another name is no snapshot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvnode.limits import SNAPSHOT_FILES_MAX
from kvnode.snapshot.reader import verify
from wal.fs import FileSystem, PosixFileSystem

if TYPE_CHECKING:
    from pathlib import Path

    from kvnode.snapshot.format import SnapshotMeta

WRITING: Final = ".tmp"
"""Suffix of a file that is being written here."""

RECEIVING: Final = ".part"
"""Suffix of a file that is being received from a peer."""

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_POSIX = PosixFileSystem()


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A snapshot by its name alone; nothing of the file was read."""

    index: int
    term: int
    path: Path


def file_name(index: int, term: int) -> str:
    """The name of the snapshot at a log index of a term."""
    return f"{index:016x}-{term:016x}.snap"


def list_snapshots(directory: Path, *, fs: FileSystem = _POSIX) -> list[Stored]:
    """Snapshots in the directory, the newest first; files of other names are not looked at."""
    matches = [(_NAME.fullmatch(name), name) for name in fs.list_directory(directory)]
    return sorted(
        (
            Stored(int(match[1], 16), int(match[2], 16), directory / name)
            for match, name in matches
            if match
        ),
        reverse=True,
    )


def prune(
    directory: Path, *, marked: int, keep: int = SNAPSHOT_FILES_MAX, fs: FileSystem = _POSIX
) -> list[Path]:
    """Remove all but the newest `keep` snapshots that count; returns what was removed.

    The log must still begin at or below the oldest that stays, if that is to be of use.

    Args:
        directory: of the snapshots.
        marked: index of the newest snapshot that the log has a mark of. One of a higher index was
            received and could not be installed: nothing rests on it, and it may take the place of
            none on which something does.
        keep: how many stay, at least one.
        fs: where.
    """
    if keep < 1:
        raise ValueError("at least one snapshot must stay")
    stored = list_snapshots(directory, fs=fs)
    staying = [snapshot for snapshot in stored if snapshot.index <= marked][:keep]
    return _remove(directory, [one.path for one in stored if one not in staying], fs)


def remove_leftovers(
    directory: Path, *, received: bool = True, fs: FileSystem = _POSIX
) -> list[Path]:
    """Remove files that a crash left unfinished; returns them.

    Args:
        directory: of the snapshots.
        received: remove partly received ones too; else a transfer may go on with them.
        fs: where.
    """
    endings = (WRITING, RECEIVING) if received else (WRITING,)
    names = [name for name in fs.list_directory(directory) if name.endswith(endings)]
    return _remove(directory, [directory / name for name in names], fs)


def adopt(received: Path, *, fs: FileSystem = _POSIX) -> tuple[SnapshotMeta, Path]:
    """Verify a received file, make it durable, and give it its name in the same directory.

    Raises:
        SnapshotDamaged: it is not whole; it keeps its name.
        ConfigurationError: it is of a newer format.
        OSError: the disk failed or is full.
    """
    meta = verify(received, fs=fs)
    descriptor = fs.open(received)
    try:
        fs.fdatasync(descriptor)
    finally:
        fs.close(descriptor)
    target = received.parent / file_name(meta.index, meta.term)
    fs.rename(received, target)
    fs.sync_directory(target.parent)
    return meta, target


def _remove(directory: Path, paths: list[Path], fs: FileSystem) -> list[Path]:
    for path in paths:
        fs.unlink(path)
    if paths:
        fs.sync_directory(directory)
    return paths
