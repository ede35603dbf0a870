"""The worker: sees one state, makes way, is gone when its node is, and harms nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from kvnode.errors import DiskFailed, ExitCode
from kvnode.snapshot import process
from kvnode.snapshot.catalog import file_name, list_snapshots, remove_leftovers
from kvnode.snapshot.errors import SnapshotFailed
from kvnode.snapshot.process import take
from kvnode.snapshot.reader import load, verify
from kvnode.snapshot.worker import Request
from kvnode.store.engine_directory import open_engine
from kvnode.store.export import RowsMissing
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import SET
from tests.support.disk import MemoryDisk
from tests.unit.snapshot import states
from tests.unit.snapshot.states import CLUSTER, fill
from tests.unit.store.driver import HASH_KEY, Driver

REPOSITORY = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 60

HALTING = """
import sys
from pathlib import Path
from kvnode.snapshot.worker import Request
from kvnode.snapshot.writer import terms_of, write_snapshot
from kvnode.store.lmdb_engine import LmdbEngine
from wal.fs import PosixFileSystem


class Halting(PosixFileSystem):
    writes = 0

    def pwrite(self, fd, data, offset):
        self.writes += 1
        if self.writes == 3:
            print("halfway", flush=True)
            sys.stdin.readline()
        return super().pwrite(fd, data, offset)


request = Request.from_json(sys.stdin.readline())
write_snapshot(
    LmdbEngine(Path(request.engine), read_only=True),
    Path(request.directory),
    hash_key=bytes.fromhex(request.hash_key),
    cluster_number=request.cluster_number,
    term_of=terms_of([(1, 7)]),
    fs=Halting(),
)
"""
"""A worker that stops in the middle, and goes on when told."""

ORPHANING = """
import asyncio, os, sys
from kvnode.snapshot.process import take
from kvnode.snapshot.worker import Request

request = Request.from_json(sys.stdin.readline())

def tell(pid):
    print(pid, flush=True)

asyncio.run(take(request, term_runs=lambda: [(1, 7)], timeout_seconds=60, on_start=tell))
"""


def term_runs() -> list[tuple[int, int]]:
    return [(1, 7)]


class Node:
    """A store on LMDB with two kinds of requests: a quick one, and one that never ends."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "snap"
        self.directory.mkdir()
        self.engine, _ = open_engine(path / "engine", map_bytes=1 << 28)
        self.driver = Driver(self.engine)
        fill(self.driver)
        self.request = Request(
            engine=str(self.engine.path),
            directory=str(self.directory),
            hash_key=HASH_KEY.hex(),
            cluster_number=CLUSTER,
            bytes_per_second=0,
        )
        self.endless = Request.from_json(
            self.request.to_json().replace(b'"bytes_per_second": 0', b'"bytes_per_second": 1')
        )

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.engine.close(clean=False)


def overwrite(node: Node, byte: bytes) -> None:
    """Write two megabytes, in many transactions."""
    for number in range(2000):
        node.driver.do(SET, number % 16, b"%d" % number, byte * 1000)
        if number % 50 == 0:
            node.driver.machine.commit()
    node.driver.machine.commit()


def died(pid_descriptor: int) -> bool:
    """Wait for the end of a process that is not a child of ours."""
    poll = select.poll()
    poll.register(pid_descriptor, select.POLLIN)
    return bool(poll.poll(TIMEOUT_SECONDS * 1000))


async def test_a_worker_takes_the_same_snapshot_as_a_call(node: Node) -> None:
    pids: list[int] = []
    meta = await take(
        node.request, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS, on_start=pids.append
    )
    disk = MemoryDisk()
    assert states.take(node.engine, fs=disk) == meta
    (stored,) = list_snapshots(node.directory)
    assert stored.path.read_bytes() == disk.image()[states.SNAP / stored.path.name]
    assert len(pids) == 1
    assert pids[0] != os.getpid()
    assert not node.engine.release_stale_readers()


async def test_the_terms_reach_to_the_state_that_the_worker_sees(node: Node) -> None:
    runs = term_runs()

    def elect_and_write(_: int) -> None:  # long before the worker has opened the engine
        runs.append((node.driver.machine.applied + 1, 8))
        node.driver.do(SET, 0, b"key", b"of a new term")
        node.driver.machine.commit()

    meta = await take(
        node.request,
        term_runs=lambda: runs,
        timeout_seconds=TIMEOUT_SECONDS,
        on_start=elect_and_write,
    )
    assert (meta.index, meta.term) == (node.driver.machine.applied, 8)


def test_what_is_written_meanwhile_is_not_in_the_snapshot(node: Node) -> None:
    """Enough of it to use every page again that the worker does not hold."""
    overwrite(node, b"v")
    disk = MemoryDisk()
    expected = states.take(node.engine, fs=disk)
    with subprocess.Popen(
        [sys.executable, "-c", HALTING],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(node.request.to_json())
        worker.stdin.flush()
        assert worker.stdout.readline() == b"halfway\n"
        for byte in b"wxyz":
            overwrite(node, bytes([byte]))
        worker.stdin.write(b"\n")
    assert worker.returncode == 0
    (stored,) = list_snapshots(node.directory)
    assert stored.index == expected.index
    assert stored.path.read_bytes() == disk.image()[states.SNAP / stored.path.name]


def test_a_worker_killed_in_the_middle_leaves_a_temporary_file_only(node: Node) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HALTING],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(node.request.to_json())
        worker.stdin.flush()
        assert worker.stdout.readline() == b"halfway\n"
        worker.kill()
    (name,) = node.names()
    assert name.endswith(".snap.tmp")
    assert list_snapshots(node.directory) == []
    assert node.engine.release_stale_readers() == 1
    remove_leftovers(node.directory)
    assert node.names() == []


async def test_a_cancelled_take_kills_its_worker(node: Node) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    taking = asyncio.create_task(
        take(
            node.endless,
            term_runs=term_runs,
            timeout_seconds=TIMEOUT_SECONDS,
            on_start=started.set_result,
        )
    )
    worker = os.pidfd_open(await started)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert died(worker)
    os.close(worker)
    assert list_snapshots(node.directory) == []


async def test_a_worker_that_takes_too_long_is_killed(node: Node) -> None:
    pids: list[int] = []
    with pytest.raises(SnapshotFailed, match="within"):
        await take(node.endless, term_runs=term_runs, timeout_seconds=0.01, on_start=pids.append)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


async def test_without_room_for_a_process_there_is_no_snapshot_and_nothing_worse(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(process.subprocess, "Popen", no_room)
    with pytest.raises(SnapshotFailed, match="no memory"):
        await take(node.request, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS)


def test_workers_run_under_the_loop_of_the_node(node: Node) -> None:
    async def both() -> None:
        with pytest.raises(SnapshotFailed):
            await take(node.endless, term_runs=term_runs, timeout_seconds=0.01)
        await take(node.request, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(both())
    assert len(list_snapshots(node.directory)) == 1


def test_a_worker_does_not_outlive_its_node(node: Node) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANING],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(node.endless.to_json())
        parent.stdin.flush()
        worker = os.pidfd_open(int(parent.stdout.readline()))
        while not node.names():
            os.sched_yield()  # until it writes: before that it would end for want of a request
        parent.send_signal(signal.SIGKILL)
    assert died(worker)
    os.close(worker)


def test_a_worker_whose_parent_is_not_the_one_that_asked_does_nothing(node: Node) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "kvnode.snapshot.worker"],
        cwd=REPOSITORY,
        input=node.request.to_json(),
        stdout=subprocess.PIPE,
        check=False,
    )
    assert answer.returncode == ExitCode.BUG
    assert b"gone" in answer.stdout
    assert node.names() == []


async def test_a_node_without_an_engine_there_gets_a_clear_error(node: Node) -> None:
    nowhere = replace(node.request, engine=node.request.engine + "0")
    with pytest.raises(SnapshotFailed, match="No such file"):
        await take(nowhere, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS)


async def test_a_worker_that_finds_rows_missing_says_so(node: Node) -> None:
    node.engine.delete(next(node.driver.machine.live_rows())[0])
    node.engine.commit()
    with pytest.raises(RowsMissing):
        await take(node.request, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS)
    assert node.names() == []


@pytest.mark.parametrize(
    ("code", "output", "error"),
    [
        (ExitCode.IO_ERROR, b'{"error": "the disk"}\n', DiskFailed),
        (ExitCode.CORRUPT, b'{"error": "rows"}\n', RowsMissing),
        (ExitCode.BUG, b'{"error": "no room"}\n', SnapshotFailed),
        (-9, b"", SnapshotFailed),
        (ExitCode.BUG, b'{"fi', SnapshotFailed),
    ],
)
def test_the_exit_code_of_a_worker_tells_the_blame(
    code: int, output: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        process._file_name(code, output, b"Traceback\nValueError: why\n")


async def test_a_workers_snapshot_can_be_loaded(node: Node) -> None:
    meta = await take(node.request, term_runs=term_runs, timeout_seconds=TIMEOUT_SECONDS)
    path = node.directory / file_name(meta.index, meta.term)
    assert verify(path) == meta
    machine = load(path, MemoryEngine(), hash_key=HASH_KEY)
    assert machine.state_hash() == node.driver.machine.state_hash() == machine.recomputed_hash()


def test_a_worker_imports_nothing_heavy() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", "import kvnode.snapshot.worker, sys; print(*sys.modules)"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=True,
    )
    modules = {name.partition(".")[0] for name in listing.stdout.decode().split()}
    assert not modules & {"asyncio", "uvloop", "hiredis", "prometheus_client", "sortedcontainers"}
