"""Snapshot files and the engines made from them, as the node uses them.

Joins two directories: `DATA/snap` with the files (`kvnode.snapshot`), and `DATA/engine` with one
directory per engine generation. A new generation stands beside the one in use until it has taken
its place, so that whatever goes wrong before leaves the node as it was.

Disk, engines and the process that writes are given from outside: the real ones by default.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kvnode.errors import DiskFailed, DiskFull, FatalError, KvnodeError
from kvnode.limits import (
    SNAPSHOT_TAKE_RATE_BYTES_PER_SECOND_MAX,
    SNAPSHOT_TAKE_SECONDS_MAX,
)
from kvnode.node.snapshot_transfer import SnapshotFile
from kvnode.snapshot import catalog, process, reader
from kvnode.snapshot.errors import NoRoomToLoad, SnapshotDamaged, SnapshotFailed
from kvnode.snapshot.format import SnapshotMeta
from kvnode.snapshot.worker import Request
from kvnode.store.engine import EngineFull, StoredEngine
from kvnode.store.engine_directory import EngineDirectory
from kvnode.store.export import RowsMissing
from wal.fs import FileSystem, PosixFileSystem

TermRuns = Callable[[], list[tuple[int, int]]]
"""(first index, term) of every run of entries with one term that the log still knows."""

_POSIX = PosixFileSystem()


class Engines(Protocol):
    """The engine generations of one node; `EngineDirectory` says what each call does."""

    def open(self, *, rebuild: bool = False) -> tuple[StoredEngine, bool]:
        """The engine of the last run, or a fresh one; and whether it is the former."""

    def create(self) -> StoredEngine:
        """A fresh engine beside those that are there."""

    def use(self, engine: StoredEngine) -> None:
        """Trust a loaded engine and remove the others, which are closed."""

    def discard(self, engine: StoredEngine) -> None:
        """Close and remove an engine that was not needed after all."""

    def distrust(self, engine: StoredEngine) -> None:
        """The next start makes a fresh one in its place."""

    def cache_kept(self, beside: Path) -> bool:
        """Whether the kernel has all that was written to this directory since the last start."""


class Take(Protocol):
    """Writes a snapshot somewhere outside the loop; `kvnode.snapshot.process.take` does."""

    async def __call__(
        self,
        request: Request,
        *,
        term_runs: TermRuns,
        timeout_seconds: float,
        on_start: Callable[[int], None],
    ) -> SnapshotMeta:
        """Take what is asked for; the errors are those of `process.take`."""


def modified_at_s(path: Path) -> float:
    """When a file was written, in seconds since the epoch."""
    return path.stat().st_mtime


class SnapshotLibrary:
    """See the module's docstring.

    Args:
        data: the node's data directory.
        cluster_number: whose snapshots these are.
        hash_key: the key by which the cluster orders its keys.
        fs: where the files are.
        engines: where the engines are; by default in the data directory.
        take: writes a snapshot.
        modified: when a file was written, in seconds since the epoch.
    """

    def __init__(
        self,
        data: Path,
        cluster_number: int,
        hash_key: bytes,
        *,
        fs: FileSystem = _POSIX,
        engines: Engines | None = None,
        take: Take = process.take,
        modified: Callable[[Path], float] = modified_at_s,
    ) -> None:
        self._directory = data / "snap"
        fs.make_directory(self._directory)
        catalog.remove_leftovers(self._directory, received=False, fs=fs)
        self._cluster_number = cluster_number
        self._hash_key = hash_key
        self._engines = engines or EngineDirectory(data / "engine")
        self._take = take
        self._in_use: StoredEngine | None = None
        self.fs = fs
        self.modified = modified
        self.term_runs: TermRuns = list
        """Set once the log is open."""
        self.workers: set[int] = set()
        """Process ids of workers, so that their memory is counted."""

    # --- engines ----------------------------------------------------------------------------------

    def open(self, *, rebuild: bool = False) -> tuple[StoredEngine, bool]:
        """The engine of the last run, or a fresh one; and whether it is the former."""
        engine, reused = self._engines.open(rebuild=rebuild)
        self._in_use = engine
        return engine, reused

    def cache_kept(self, beside: Path) -> bool:
        """Whether the kernel has all that was written to this directory since the last start."""
        return self._engines.cache_kept(beside)

    def load(self, path: Path) -> StoredEngine:
        """A new engine that holds the snapshot's state, beside the one in use.

        Raises:
            NoRoomToLoad: there is no room for another engine.
            SnapshotFailed: the file is damaged.
        """
        try:
            engine = self._engines.create()
        except DiskFull as error:
            raise NoRoomToLoad(f"{path.name} cannot be loaded: {error}") from error
        try:
            reader.load(path, engine, hash_key=self._hash_key, fs=self.fs)
        except (KvnodeError, OSError) as error:
            self.discard(engine)
            if isinstance(error, EngineFull):
                raise NoRoomToLoad(f"{path.name} cannot be loaded: {error}") from error
            if isinstance(error, SnapshotDamaged | OSError):
                raise SnapshotFailed(f"{path.name} cannot be loaded: {error}") from error
            raise
        return engine

    def use(self, engine: StoredEngine) -> None:
        """A loaded engine has taken the place of the others, which are closed: remove them."""
        self._in_use = engine
        self._engines.use(engine)

    def discard(self, engine: StoredEngine) -> None:
        """A new engine is not needed after all."""
        self._engines.discard(engine)

    def distrust(self) -> None:
        """The disk failed, and nobody knows which pages are lost: the next start makes a fresh one.

        Where the disk does not even take that, it must be mended and mounted again, and no engine
        outlives that either.
        """
        if self._in_use is not None:
            with contextlib.suppress(OSError):
                self._engines.distrust(self._in_use)

    # --- files ------------------------------------------------------------------------------------

    def files(self) -> list[tuple[SnapshotFile, Path]]:
        """Whole snapshot files, newest first."""
        found = []
        for stored in catalog.list_snapshots(self._directory, fs=self.fs):
            with contextlib.suppress(FileNotFoundError):  # `prune` is at work in its thread
                file = SnapshotFile(stored.index, stored.term, self._size(stored.path))
                found.append((file, stored.path))
        return found

    def _size(self, path: Path) -> int:
        fd = self.fs.open(path)
        try:
            return self.fs.size(fd)
        finally:
            self.fs.close(fd)

    async def take(self) -> SnapshotFile:
        """Write a snapshot of what the engine has committed.

        Raises:
            SnapshotFailed: no snapshot came of it; the next attempt may do better.
            DiskFailed: the disk fails.
            FatalError: the engine lost rows; the next start rebuilds it.
        """
        assert self._in_use is not None, "there is no engine yet"
        pids: list[int] = []
        request = Request(
            engine=str(self._in_use.path),
            directory=str(self._directory),
            hash_key=self._hash_key.hex(),
            cluster_number=self._cluster_number,
            bytes_per_second=SNAPSHOT_TAKE_RATE_BYTES_PER_SECOND_MAX,
            parent_pid=os.getpid(),
        )

        def on_start(pid: int) -> None:
            pids.append(pid)
            self.workers.add(pid)

        try:
            meta = await self._take(
                request,
                term_runs=self.term_runs,
                timeout_seconds=SNAPSHOT_TAKE_SECONDS_MAX,
                on_start=on_start,
            )
        except SnapshotFailed:
            catalog.remove_leftovers(self._directory, received=False, fs=self.fs)
            self._in_use.release_stale_readers()
            raise
        except RowsMissing as error:
            self._engines.distrust(self._in_use)
            raise FatalError(f"{error}; the next start rebuilds the engine") from error
        finally:
            self.workers.difference_update(pids)
        path = self._directory / catalog.file_name(meta.index, meta.term)
        return SnapshotFile(meta.index, meta.term, self._size(path))

    # --- receiving --------------------------------------------------------------------------------

    def part(self, file: SnapshotFile) -> Path:
        """Where the bytes of an incoming snapshot gather; parts of other ones are removed."""
        name = f"{file.index:016x}-{file.term:016x}-{file.size:016x}{catalog.RECEIVING}"
        for other in self.fs.list_directory(self._directory):
            if other.endswith(catalog.RECEIVING) and other != name:
                self.fs.unlink(self._directory / other)
        return self._directory / name

    def adopt(self, part: Path, file: SnapshotFile) -> Path:
        """Verify a complete part and make it a durable snapshot file.

        Raises:
            SnapshotFailed: it is not what was promised; it was removed.
            DiskFailed: the disk fails.
        """
        try:
            meta, path = catalog.adopt(part, fs=self.fs)
        except SnapshotDamaged as damage:
            with contextlib.suppress(FileNotFoundError):
                self.fs.unlink(part)
            raise SnapshotFailed(f"the snapshot arrived damaged: {damage}") from damage
        except OSError as error:
            raise DiskFailed(f"the received snapshot cannot be kept: {error}") from error
        if (meta.index, meta.term) != (file.index, file.term):
            self.fs.unlink(path)
            raise SnapshotFailed(f"a snapshot at {meta.index} came instead of one at {file.index}")
        return path

    def prune(self, marked: int) -> None:
        """Keep the two newest snapshots up to `marked`, the newest that the log has a mark of."""
        catalog.prune(self._directory, marked=marked, fs=self.fs)
