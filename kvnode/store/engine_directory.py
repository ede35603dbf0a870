"""Which engine directory may be opened again, and which must be thrown away.

LMDB runs without sync. What a killed process had committed is still in the kernel's cache; what a
crashed machine or a remounted disk has left may open without error and yet miss most of its rows.
So an old engine is trusted only if nothing can have happened to the cache in between:

* a *clean mark* says that all of it was synced when it was closed; or
* boot, device and mount are the ones that were noted when it was opened, and no write has failed.

Everything else is rebuilt from snapshot and log, in a fresh directory `<root>/<number>/`. One that
was never finished has no note, so it is not trusted either.

A fresh one needs room on the disk: LMDB writes its lock file through a memory map, and a page of a
map that finds no block on the disk is no error but the death of the process (SIGBUS). So the file
gets its blocks before LMDB opens it, and not after: what else this process opens and closes takes
LMDB's locks away (`lmdb_engine`).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import struct
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import lmdb

from kvnode.errors import DiskFailed, DiskFull
from kvnode.limits import ENGINE_LOCK_BYTES, ENGINE_MAP_BYTES_MAX, ENGINE_ROOM_BYTES_MIN
from kvnode.store.keyspace import FORMAT
from kvnode.store.lmdb_engine import LmdbEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kvnode.store.engine import StoredEngine

_NOTE: Final = "opened"
_MARK: Final = "clean"
_LOCK: Final = "lock.mdb"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

_AT_EMPTY_PATH: Final = 0x1000
_STATX_MNT_ID_UNIQUE: Final = 0x4000
_STATX_BYTES: Final = 256
_STATX_MASK: Final = struct.Struct("=I")
_STATX_MNT_ID: Final = struct.Struct("=144xQ")
"""Linux' statx(2): the figures of its ABI, the same on all architectures."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an engine was opened: equal twice means that the kernel never lost its pages."""

    format: int
    boot_id: str
    """Empty where the system does not tell (no /proc); then only a clean mark counts."""
    device: int
    mount_id: str


def may_reuse(noted: Whereabouts | None, here: Whereabouts, *, clean: bool) -> bool:
    """Whether the rows of an engine can be trusted."""
    if noted is None or noted.format != here.format:
        return False
    return clean or (noted == here and here.boot_id != "")


class CleanMark:
    """A file that says: all rows of this directory are on disk, and none was written since."""

    __slots__ = ("_directory", "_present")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._present = (directory / _MARK).exists()

    @property
    def present(self) -> bool:
        """Whether the mark is there."""
        return self._present

    def write(self) -> None:
        """Put the mark, if there is room; the rows must be synced and the engine closed."""
        self._present |= _write_if_room(self._directory / _MARK, b"")

    def remove(self) -> None:
        """Remove the mark and sync that, before the first row is written; later calls are free."""
        if self._present:
            (self._directory / _MARK).unlink()
            _sync_directory(self._directory)
            self._present = False


def open_engine(
    root: Path, *, rebuild: bool = False, map_bytes: int = ENGINE_MAP_BYTES_MAX
) -> tuple[LmdbEngine, bool]:
    """Open the newest engine under `root`, or make a fresh one in its place.

    Args:
        root: holds the numbered directories; created if need be.
        rebuild: do not reuse (the engine was found ahead of the log, or of another cluster).
        map_bytes: see `LmdbEngine`.

    Returns:
        The engine, and whether it holds what an earlier process had committed.

    Raises:
        DiskFull: there is no room for a fresh one.
        DiskFailed: the disk fails.
    """
    with _disk(root):
        root.mkdir(parents=True, exist_ok=True)
        numbers = _numbers(root)
        newest = numbers[-1] if numbers else 0
        if numbers and not rebuild:
            engine = _reopen(root / str(newest), map_bytes)
            if engine is not None:
                _remove_all(root, numbers[:-1])
                return engine, True
        # Before the new one is made, since they may take all the room that there is.
        _remove_all(root, numbers)
        engine = _create(root / str(newest + 1), map_bytes)
        trust(engine.path)
        return engine, False


def create_engine(root: Path, *, map_bytes: int = ENGINE_MAP_BYTES_MAX) -> LmdbEngine:
    """Make a fresh engine beside those that are there: to be filled before it takes their place.

    Until `trust` it has no note: what a kill leaves of it half filled is never opened again.

    Raises:
        DiskFull: there is no room for it.
        DiskFailed: the disk fails.
    """
    with _disk(root):
        return _create(root / str(_numbers(root)[-1] + 1), map_bytes)


def trust(directory: Path) -> None:
    """The engine in `directory` is complete: a later start on this boot may open it again."""
    _write_synced(directory / _NOTE, _note(_whereabouts(directory)))


def remove_engines(root: Path, *, keep: Path) -> None:
    """Remove all engines but the one in `keep`; those must be closed."""
    _remove_all(root, [number for number in _numbers(root) if root / str(number) != keep])


def distrust(directory: Path) -> None:
    """An engine was found to lack rows: the next start makes a fresh one in its place."""
    (directory / _NOTE).unlink(missing_ok=True)
    (directory / _MARK).unlink(missing_ok=True)
    _sync_directory(directory)


def cache_kept(root: Path, beside: Path) -> bool:
    """Whether the kernel has all that was written to `beside` since the last start.

    So it is if this machine has not been started again since then, no disk has failed, and
    `beside` is on the same mount as the engines, still the one of the last start.
    """
    with _disk(root):
        numbers = _numbers(root) if root.exists() else []
        if not numbers:
            return False
        engine = root / str(numbers[-1])
        here = _whereabouts(engine)
        return here.boot_id != "" and _read_note(engine) == here == _whereabouts(beside)


class EngineDirectory:
    """All engine generations under one directory, of which one is in use."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, *, rebuild: bool = False) -> tuple[StoredEngine, bool]:
        """See `open_engine`."""
        return open_engine(self._root, rebuild=rebuild)

    def create(self) -> StoredEngine:
        """See `create_engine`."""
        return create_engine(self._root)

    def use(self, engine: StoredEngine) -> None:
        """A filled engine has taken the place of the others, which are closed: remove them."""
        trust(engine.path)
        remove_engines(self._root, keep=engine.path)

    def discard(self, engine: StoredEngine) -> None:
        """Close an engine that was not needed after all, and remove it."""
        engine.close(clean=False)
        shutil.rmtree(engine.path, ignore_errors=True)

    def distrust(self, engine: StoredEngine) -> None:
        """See `distrust`."""
        distrust(engine.path)

    def cache_kept(self, beside: Path) -> bool:
        """See `cache_kept`."""
        return cache_kept(self._root, beside)


def _numbers(root: Path) -> list[int]:
    return sorted(int(entry.name) for entry in root.iterdir() if entry.name.isdecimal())


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """Say what an error of the system, or of LMDB, means for a start."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        text = f"the engine in {root} cannot be opened: {error}"
        if isinstance(error, lmdb.DiskError) or getattr(error, "errno", None) in _NO_ROOM:
            raise DiskFull(text) from error
        raise DiskFailed(text) from error


def _reopen(directory: Path, map_bytes: int) -> LmdbEngine | None:
    mark = CleanMark(directory)
    here, noted = _whereabouts(directory), _read_note(directory)
    if not may_reuse(noted, here, clean=mark.present):
        return None
    try:
        engine = LmdbEngine(directory, map_bytes=map_bytes, mark=mark)
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
        return None
    if noted != here and not _write_if_room(directory / _NOTE, _note(here)):
        # Without a note a kill costs a rebuild; with a wrong one it might cost rows.
        (directory / _NOTE).unlink()
    return engine


def _create(directory: Path, map_bytes: int) -> LmdbEngine:
    room = os.statvfs(directory.parent)
    if room.f_bavail * room.f_frsize < ENGINE_ROOM_BYTES_MIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    directory.mkdir(mode=0o700)
    try:
        _allocate(directory / _LOCK, ENGINE_LOCK_BYTES)
        return LmdbEngine(directory, map_bytes=map_bytes, mark=CleanMark(directory))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _allocate(path: Path, size: int) -> None:
    """Make a file of zeros, every page of which has its place on the disk."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def _remove_all(root: Path, numbers: list[int]) -> None:
    for number in numbers:
        shutil.rmtree(root / str(number))
    _sync_directory(root)


def _whereabouts(directory: Path) -> Whereabouts:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        device = os.fstat(descriptor).st_dev
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot_id = file.read().strip()
        return Whereabouts(FORMAT, boot_id, device, _mount_id(descriptor))
    except (FileNotFoundError, KeyError):
        return Whereabouts(FORMAT, "", device, "")
    finally:
        os.close(descriptor)


def _mount_id(descriptor: int) -> str:
    """Which mount a file is on.

    A disk that is mounted again gets the number of the mount before, if that is free: since Linux
    6.8 there is a second number that is given only once. Older kernels have none to tell.

    Raises:
        FileNotFoundError, KeyError: the system does not tell.
    """
    found = ctypes.create_string_buffer(_STATX_BYTES)
    statx = getattr(ctypes.CDLL(None), "statx", None)
    if statx and statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, found) == 0:
        mask, number = _STATX_MASK.unpack_from(found)[0], _STATX_MNT_ID.unpack_from(found)[0]
        if mask & _STATX_MNT_ID_UNIQUE:
            return f"unique {number}"
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return fields["mnt_id"].strip()


def _read_note(directory: Path) -> Whereabouts | None:
    try:
        return Whereabouts(**json.loads((directory / _NOTE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None  # never finished, damaged, or by another program: not to be trusted


def _note(here: Whereabouts) -> bytes:
    return json.dumps(asdict(here)).encode()


def _write_if_room(path: Path, content: bytes) -> bool:
    """As `_write_synced`; False when the disk is full."""
    try:
        _write_synced(path, content)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return False
    return True


def _write_synced(path: Path, content: bytes) -> None:
    """Replace a file as a whole, durably."""
    scratch = path.with_suffix(".new")
    with open(scratch, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
