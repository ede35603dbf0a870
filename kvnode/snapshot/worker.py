"""The writer as a process of its own: `python -m kvnode.snapshot.worker`.

An LMDB reader in another process sees one committed state while the node writes on, and its work
takes none of the node's interpreter. It runs when nothing else wants the processor or the disk, at
a bounded rate, and never outlives the node: the kernel kills it when its parent dies.

It reads one JSON line (`Request`), opens the engine and writes `{"opened": true}`. Only now does it
know which state it sees, and only now are the terms of the log asked for: it reads them from a
second line, so that they reach to that state for certain. It ends with one more line of its own:
`{"file": name}` or `{"error": sentence}`. The exit code is 0, or tells the blame as those of the
node do: 74 the disk failed, 65 the engine lost rows, 1 anything else.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb

from kvnode.errors import DiskFailed, ExitCode, KvnodeError
from kvnode.limits import SNAPSHOT_REQUEST_BYTES_MAX
from kvnode.snapshot.catalog import file_name
from kvnode.snapshot.errors import SnapshotFailed
from kvnode.snapshot.throttle import Throttle
from kvnode.snapshot.writer import terms_of, write_snapshot
from kvnode.store.export import RowsMissing
from kvnode.store.lmdb_engine import LmdbEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.snapshot.format import SnapshotMeta

_PR_SET_PDEATHSIG: Final = 1
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
"""System call numbers; libc has no function for it (ioprio_set(2))."""
_IOPRIO_IDLE_CLASS: Final = 3 << 13
_NICEST: Final = 19

OPENED_LINE: Final = b'{"opened": true}\n'


@dataclass(frozen=True, slots=True)
class Request:
    """What to take a snapshot of, and how.

    Attributes:
        engine: directory of the node's LMDB environment.
        directory: of the snapshots; it exists.
        hash_key: as the state machine's, in hex.
        cluster_number: unsigned 64 bits.
        bytes_per_second: the rate; 0 for none.
        parent_pid: the process that the worker must not outlive.
    """

    engine: str
    directory: str
    hash_key: str
    cluster_number: int
    bytes_per_second: int
    parent_pid: int = 0

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Request:
        """What `to_json` wrote. Raises `ValueError` or `TypeError`."""
        return cls(**json.loads(line))


def run(request: Request, ask_terms: Callable[[], list[tuple[int, int]]]) -> SnapshotMeta:
    """Do what is asked. Raises as `write_snapshot` does, and LMDB's errors.

    `ask_terms` is called once the engine is open, and returns runs of entries of the log, (first
    index, term), ascending; one must cover the engine's index.
    """
    engine = LmdbEngine(Path(request.engine), read_only=True)
    try:
        return write_snapshot(
            engine,
            Path(request.directory),
            hash_key=bytes.fromhex(request.hash_key),
            cluster_number=request.cluster_number,
            term_of=terms_of(ask_terms()),
            throttle=Throttle(request.bytes_per_second) if request.bytes_per_second else None,
        )
    finally:
        engine.close(clean=False)


def main() -> int:
    """Run one request from stdin; returns the exit code."""
    gc.disable()  # it makes no cycles, and a walk over millions of rows would look for them
    request = Request.from_json(sys.stdin.buffer.readline(SNAPSHOT_REQUEST_BYTES_MAX))
    try:
        _step_back(request.parent_pid)
        meta = run(request, _ask_terms)
    except (KvnodeError, OSError, lmdb.Error) as error:
        _answer({"error": str(error)})
        if isinstance(error, DiskFailed):
            return ExitCode.IO_ERROR
        return ExitCode.CORRUPT if isinstance(error, RowsMissing) else ExitCode.BUG
    _answer({"file": file_name(meta.index, meta.term)})
    return ExitCode.OK


def _ask_terms() -> list[tuple[int, int]]:
    sys.stdout.buffer.write(OPENED_LINE)
    sys.stdout.buffer.flush()
    line = sys.stdin.buffer.readline(SNAPSHOT_REQUEST_BYTES_MAX)
    if not line:
        raise SnapshotFailed("nobody told the terms of the log")
    return [(first, term) for first, term in json.loads(line)]


def _answer(result: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def _step_back(parent_pid: int) -> None:
    """Make way for everybody else, and die with the parent. Linux only; elsewhere just nice."""
    os.nice(_NICEST)
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ProcessLookupError(f"the parent process {parent_pid} is gone")
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, 1, 0, _IOPRIO_IDLE_CLASS)


if __name__ == "__main__":
    sys.exit(main())
