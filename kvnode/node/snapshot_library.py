"""Snapshot files and the engines made from them, as the node uses them.

Joins two directories: `DATA/snap` with the files (`kvnode.snapshot`), and `DATA/engine` with one
directory per engine generation. A new generation stands beside the one in use until it has taken
its place, so that whatever goes wrong before leaves the node as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kvnode.errors import DiskFailed, DiskFull, FatalError, KvnodeError
from kvnode.limits import (
    SNAPSHOT_TAKE_RATE_BYTES_PER_SECOND_MAX,
    SNAPSHOT_TAKE_SECONDS_MAX,
)
from kvnode.node.snapshot_transfer import SnapshotFile
from kvnode.snapshot import catalog, process, reader
from kvnode.snapshot.errors import NoRoomToLoad, SnapshotDamaged, SnapshotFailed
from kvnode.snapshot.worker import Request
from kvnode.store.engine import EngineFull
from kvnode.store.engine_directory import (
    create_engine,
    distrust,
    open_engine,
    remove_engines,
    trust,
)
from kvnode.store.export import RowsMissing
from kvnode.store.lmdb_engine import LmdbEngine

TermRuns = Callable[[], list[tuple[int, int]]]
"""(first index, term) of every run of entries with one term that the log still knows."""


class SnapshotLibrary:
    """See the module's docstring.

    Args:
        data: the node's data directory.
        cluster_number: whose snapshots these are.
        hash_key: the key by which the cluster orders its keys.
    """

    def __init__(self, data: Path, cluster_number: int, hash_key: bytes) -> None:
        self._directory = data / "snap"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        catalog.remove_leftovers(self._directory, received=False)
        self._cluster_number = cluster_number
        self._hash_key = hash_key
        self._engines = data / "engine"
        self._in_use: LmdbEngine | None = None
        self.term_runs: TermRuns = list
        """Set once the log is open."""
        self.workers: set[int] = set()
        """Process ids of workers, so that their memory is counted."""

    # --- engines ----------------------------------------------------------------------------------

    def open(self, *, rebuild: bool = False) -> tuple[LmdbEngine, bool]:
        """The engine of the last run, or a fresh one; and whether it is the former."""
        engine, reused = open_engine(self._engines, rebuild=rebuild)
        self._in_use = engine
        return engine, reused

    def load(self, path: Path) -> LmdbEngine:
        """A new engine that holds the snapshot's state, beside the one in use.

        Raises:
            NoRoomToLoad: there is no room for another engine.
            SnapshotFailed: the file is damaged.
        """
        try:
            engine = create_engine(self._engines)
        except DiskFull as error:
            raise NoRoomToLoad(f"{path.name} cannot be loaded: {error}") from error
        try:
            reader.load(path, engine, hash_key=self._hash_key)
        except (KvnodeError, OSError) as error:
            self.discard(engine)
            if isinstance(error, EngineFull):
                raise NoRoomToLoad(f"{path.name} cannot be loaded: {error}") from error
            if isinstance(error, SnapshotDamaged | OSError):
                raise SnapshotFailed(f"{path.name} cannot be loaded: {error}") from error
            raise
        return engine

    def use(self, engine: LmdbEngine) -> None:
        """A loaded engine has taken the place of the others, which are closed: remove them."""
        self._in_use = engine
        trust(engine.path)
        remove_engines(self._engines, keep=engine.path)

    def discard(self, engine: LmdbEngine) -> None:
        """A new engine is not needed after all."""
        engine.close(clean=False)
        shutil.rmtree(engine.path, ignore_errors=True)

    # --- files ------------------------------------------------------------------------------------

    def files(self) -> list[tuple[SnapshotFile, Path]]:
        """Whole snapshot files, newest first."""
        return [
            (SnapshotFile(stored.index, stored.term, stored.path.stat().st_size), stored.path)
            for stored in catalog.list_snapshots(self._directory)
        ]

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
            terms=self.term_runs(),
            members="",
            bytes_per_second=SNAPSHOT_TAKE_RATE_BYTES_PER_SECOND_MAX,
            parent_pid=os.getpid(),
        )

        def on_start(pid: int) -> None:
            pids.append(pid)
            self.workers.add(pid)

        try:
            meta = await process.take(
                request, timeout_seconds=SNAPSHOT_TAKE_SECONDS_MAX, on_start=on_start
            )
        except SnapshotFailed:
            catalog.remove_leftovers(self._directory, received=False)
            self._in_use.release_stale_readers()
            raise
        except RowsMissing as error:
            distrust(self._in_use.path)
            raise FatalError(f"{error}; the next start rebuilds the engine") from error
        finally:
            self.workers.difference_update(pids)
        path = self._directory / catalog.file_name(meta.index, meta.term)
        return SnapshotFile(meta.index, meta.term, path.stat().st_size)

    # --- receiving --------------------------------------------------------------------------------

    def part(self, file: SnapshotFile) -> Path:
        """Where the bytes of an incoming snapshot gather; parts of other ones are removed."""
        name = f"{file.index:016x}-{file.term:016x}-{file.size:016x}{catalog.RECEIVING}"
        for other in self._directory.glob(f"*{catalog.RECEIVING}"):
            if other.name != name:
                other.unlink()
        return self._directory / name

    def adopt(self, part: Path, file: SnapshotFile) -> Path:
        """Verify a complete part and make it a durable snapshot file.

        Raises:
            SnapshotFailed: it is not what was promised; it was removed.
            DiskFailed: the disk fails.
        """
        try:
            meta, path = catalog.adopt(part)
        except SnapshotDamaged as damage:
            part.unlink(missing_ok=True)
            raise SnapshotFailed(f"the snapshot arrived damaged: {damage}") from damage
        except OSError as error:
            raise DiskFailed(f"the received snapshot cannot be kept: {error}") from error
        if (meta.index, meta.term) != (file.index, file.term):
            path.unlink()
            raise SnapshotFailed(f"a snapshot at {meta.index} came instead of one at {file.index}")
        return path

    def prune(self, keep: int) -> None:
        """Remove all but the newest `keep` snapshots."""
        catalog.prune(self._directory, keep=keep)
