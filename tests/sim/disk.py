"""The disk of one simulated machine: the log's files, the engines, and the thread that writes.

`tests.support.disk` has the file system and what a loss of power does to it. Here is what a whole
machine adds: a power cut in the middle of a job, a disk that is full, a tail that vanishes below
what was synced, engines that a killed process leaves behind, and how long things take.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from kvnode.node.snapshot_library import TermRuns
from kvnode.snapshot.format import SnapshotMeta
from kvnode.snapshot.worker import Request
from kvnode.snapshot.writer import terms_of, write_snapshot
from kvnode.store.engine import EngineFull, StoredEngine
from kvnode.store.memory_engine import MemoryEngine
from tests.support.disk import SECTOR_BYTES, MemoryDisk
from wal.format import Identity, parse_segment_name
from wal.state import StateFiles

if TYPE_CHECKING:
    from tests.sim.loop import ProcessLoop

DATA = Path("/data")
STATES = (DATA / "state-a", DATA / "state-b")


class PowerLoss(BaseException):
    """The machine lost its power inside a call. No code of the process may catch it."""


class SimDisk(MemoryDisk):
    """Adds a cut in the middle of a job, a full disk and a lost tail.

    Attributes:
        is_full: files cannot grow and none can be made.
        calls_left: so many calls succeed before the power goes; None: all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.calls_left: int | None = None

    def _step(self, name: str) -> None:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise PowerLoss
            self.calls_left -= 1
        if self.is_full and name == "create":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super()._step(name)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.is_full and offset + len(data) > len(self.open_files[fd].data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(fd, data, offset)

    def fail_from_now_on(self) -> None:
        """Every further call fails with EIO."""
        self.fail_at, self.failing = len(self.calls) + 1, True

    def mend(self) -> None:
        """The disk was exchanged for a good one with the same content."""
        self.fail_at, self.failing, self.is_full = 0, False, False

    def process_died(self) -> None:
        """The kernel keeps what was written, and closes the files."""
        self.open_files.clear()
        self.calls_left = None

    def unsynced(self) -> bool:
        """Whether a loss of power could lose anything now."""
        return bool(self.name_changes) or any(inode.pending for inode in self.names.values())

    def lose_tail(self, rng: Random, cluster_number: int, node_id: int) -> bool:
        """Zero the end of the log, from below the floor that the state files remember.

        No disk that keeps its word does this. False: there was nothing to lose.
        """
        states = StateFiles.read(self, STATES, Identity(cluster_number, node_id))
        if states is None:
            return False
        floor = states.state.synced
        found = False
        for name in self.list_directory(DATA / "wal"):
            parsed = parse_segment_name(name)
            if parsed is None or parsed[0] < floor.segment:
                continue
            path = DATA / "wal" / name
            if parsed[0] > floor.segment:
                del self.names[path], self.durable_names[path]
            elif floor.offset > 3 * SECTOR_BYTES:
                sectors = floor.offset // SECTOR_BYTES
                start = max(2, sectors - rng.randint(1, 16)) * SECTOR_BYTES
                for data in (self.names[path].data, self.names[path].durable):
                    data[start:] = bytes(len(data) - start)
                found = True
        return found


class NoRoom(Exception):
    """The engine's disk is full."""


class SimEngine(MemoryEngine):
    """An engine in memory that outlives its process."""

    __slots__ = ("home", "is_trusted", "path")

    def __init__(self, home: SimEngines, path: Path) -> None:
        super().__init__()
        self.home = home
        self.path = path
        self.is_trusted = False

    def put(self, key: bytes, value: bytes, /) -> None:
        if self.home.is_full:
            raise NoRoom
        super().put(key, value)

    def translate(self, error: Exception) -> Exception | None:
        return EngineFull("no room") if isinstance(error, NoRoom) else None

    def release_stale_readers(self) -> int:
        """There are no readers."""
        return 0

    def copy(self) -> MemoryEngine:
        """What is committed, as a reader in another process sees it."""
        copy = MemoryEngine()
        copy._rows.update(self._rows)
        copy._undo.update(self._undo)
        copy.abort()
        return copy


class SimEngines:
    """The engine generations of one machine (`kvnode.node.snapshot_library.Engines`)."""

    def __init__(self) -> None:
        self._engines: dict[Path, SimEngine] = {}
        self._number = 0
        self.is_full = False

    def open(self, *, rebuild: bool = False) -> tuple[StoredEngine, bool]:
        trusted = [engine for engine in self._engines.values() if engine.is_trusted]
        if trusted and not rebuild:
            self._engines = {trusted[-1].path: trusted[-1]}
            return trusted[-1], True
        self._engines.clear()
        engine = self.create()
        engine.is_trusted = True
        return engine, False

    def create(self) -> SimEngine:
        self._number += 1
        engine = SimEngine(self, DATA / "engine" / str(self._number))
        self._engines[engine.path] = engine
        return engine

    def use(self, engine: StoredEngine) -> None:
        kept = self._engines[engine.path]
        kept.is_trusted = True
        self._engines = {kept.path: kept}

    def discard(self, engine: StoredEngine) -> None:
        self._engines.pop(engine.path, None)

    def distrust(self, engine: StoredEngine) -> None:
        self._engines[engine.path].is_trusted = False

    def cache_kept(self, beside: Path) -> bool:
        del beside  # one disk holds all
        return any(engine.is_trusted for engine in self._engines.values())

    def at(self, path: Path) -> SimEngine:
        """The engine that lies there."""
        return self._engines[path]

    def process_died(self) -> None:
        """What was not committed is gone."""
        for engine in self._engines.values():
            engine.abort()

    def power_lost(self) -> None:
        """An engine without sync is nothing after that: it is a cache."""
        self._engines.clear()


class SimWorker:
    """The log's thread (`kvnode.node.log_writer.Worker`), and the process that takes snapshots.

    A job takes its time and then happens all at once. A loss of power while it runs lets any
    number of its calls through, and no more.

    Args:
        loop: of the process.
        disk: what the jobs write to.
        seconds: how long the next job takes.
    """

    def __init__(self, loop: ProcessLoop, disk: SimDisk, seconds: Callable[[], float]) -> None:
        self._loop = loop
        self._disk = disk
        self._seconds = seconds
        self._free_at = 0.0
        self.under_way: dict[int, Callable[[], object]] = {}
        self._number = 0

    def submit(self, job: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        number = self._begin(job)
        start = max(self._loop.time(), self._free_at)
        self._free_at = start + self._seconds()
        self._loop.call_at(self._free_at, self._run, number, job, done)

    def stop(self) -> None:
        """It ends when its jobs are done."""

    def _begin(self, job: Callable[[], object]) -> int:
        self._number += 1
        self.under_way[self._number] = job
        return self._number

    def _run(
        self, number: int, job: Callable[[], None], done: Callable[[BaseException | None], None]
    ) -> None:
        del self.under_way[number]
        error: BaseException | None = None
        try:
            job()
        except Exception as caught:  # noqa: BLE001 - the node judges it
            error = caught
        done(error)

    def cut(self, rng: Random) -> None:
        """The machine dies: what is under way happens in part."""
        for job in list(self.under_way.values())[:2]:
            self._disk.calls_left = rng.choice((0, 1, 1, 1, 2, 5))
            try:
                job()
            except (PowerLoss, Exception):  # noqa: BLE001 - the process is gone
                break
        self.under_way.clear()

    async def take_snapshot(
        self, engines: SimEngines, request: Request, term_runs: TermRuns, seconds: float
    ) -> SnapshotMeta:
        """What `kvnode.snapshot.worker` does in a process of its own; it takes time to begin."""
        await asyncio.sleep(seconds / 2)
        engine = engines.at(Path(request.engine)).copy()
        terms = term_runs()

        def write() -> SnapshotMeta:
            return write_snapshot(
                engine,
                Path(request.directory),
                hash_key=bytes.fromhex(request.hash_key),
                cluster_number=request.cluster_number,
                term_of=terms_of(terms),
                fs=self._disk,
            )

        number = self._begin(write)
        await asyncio.sleep(seconds / 2)
        del self.under_way[number]
        return write()
