"""The node's side of the snapshot worker: start it, wait for it, leave nothing behind.

It is started by `subprocess`, which has the kernel lend the child our memory until it runs its own
program (vfork(2)). An event loop forks instead, and copies the page tables of a large node: 16 ms
of processor time for 500 MB, in the loop. What can block (its pipes, its end) is done in a thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kvnode.errors import DiskFailed, ExitCode, KvnodeError
from kvnode.snapshot.errors import SnapshotDamaged, SnapshotFailed
from kvnode.snapshot.reader import read_meta
from kvnode.snapshot.worker import OPENED_LINE
from kvnode.store.export import RowsMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.snapshot.format import SnapshotMeta
    from kvnode.snapshot.worker import Request

T = TypeVar("T")

_ERRORS: dict[int | None, type[KvnodeError]] = {
    ExitCode.IO_ERROR: DiskFailed,
    ExitCode.CORRUPT: RowsMissing,
}


async def take(
    request: Request,
    *,
    term_runs: Callable[[], list[tuple[int, int]]],
    timeout_seconds: float,
    on_start: Callable[[int], None] | None = None,
) -> SnapshotMeta:
    """Take a snapshot in a worker process. When this ends, however it does, the process is gone.

    Call it from the main thread: the kernel kills the worker with the *thread* that started it.

    Args:
        request: what to take; `parent_pid` is filled in here.
        term_runs: called when the worker has opened the engine: it sees no state that is newer.
            Returns the log's runs of equal terms, (first index, term), ascending.
        timeout_seconds: a worker that is not done by then is killed.
        on_start: told the worker's process id, so that its memory can be counted.

    Raises:
        SnapshotFailed: no snapshot came of it. Remove the leftovers, free the stale reader slot of
            the engine (`LmdbEngine.release_stale_readers`), try again later.
        RowsMissing: the engine lost rows and must be rebuilt.
        DiskFailed: the disk fails.
    """
    process = _start()
    try:
        if on_start is not None:
            on_start(process.pid)
        line = replace(request, parent_pid=os.getpid()).to_json()
        async with asyncio.timeout(timeout_seconds):
            output, complaint = await _converse(process, line, term_runs)
    except TimeoutError as error:
        raise SnapshotFailed(f"no snapshot within {timeout_seconds:g} seconds") from error
    finally:
        await _end(process)
    path = Path(request.directory) / _file_name(process.returncode, output, complaint)
    try:
        return await asyncio.to_thread(read_meta, path)
    except (SnapshotDamaged, FileNotFoundError) as error:
        raise SnapshotFailed(f"the snapshot just taken is not there: {error}") from error


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            (sys.executable, "-m", "kvnode.snapshot.worker"),
            bufsize=0,  # `communicate` would not see what `readline` had read ahead
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise SnapshotFailed(f"no snapshot worker can be started: {error}") from error


async def _converse(
    process: subprocess.Popen[bytes],
    request: bytes,
    term_runs: Callable[[], list[tuple[int, int]]],
) -> tuple[bytes, bytes]:
    """The request, and the terms when they are asked for; returns the answer and the complaint."""
    first = await _in_thread(process, lambda: _ask(process, request))
    if first != OPENED_LINE:
        output, complaint = await _in_thread(process, process.communicate)
        return first + output, complaint
    terms = json.dumps(term_runs()).encode() + b"\n"
    return await _in_thread(process, lambda: process.communicate(terms))


def _ask(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Send the request and return the first line; nothing of a worker that ended before."""
    assert process.stdin is not None
    assert process.stdout is not None
    left = memoryview(request)
    with suppress(BrokenPipeError):
        while left:
            left = left[process.stdin.write(left) :]
    return process.stdout.readline()


async def _in_thread(process: subprocess.Popen[bytes], work: Callable[[], T]) -> T:
    """Do what waits for the worker. Cancelled, it kills the worker, so that the thread ends too."""
    try:
        working = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError as error:
        raise SnapshotFailed(f"nobody can wait for the snapshot worker: {error}") from error
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        process.kill()
        with suppress(Exception):
            await working
        raise


async def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        await asyncio.to_thread(process.wait)
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def _file_name(code: int | None, output: bytes, complaint: bytes) -> str:
    """The name that the worker answered. Raises what it failed with."""
    try:
        answer = json.loads(output)
    except ValueError:
        last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise SnapshotFailed(f"the snapshot worker left with {code}: {last_line}") from None
    if code == ExitCode.OK:
        return str(answer["file"])
    raise _ERRORS.get(code, SnapshotFailed)(str(answer["error"]))
