"""A worker: `python -m kvnode.workers.process SOCKET PARENT DATA_BYTES`.

It reads jobs from the socket whose descriptor it inherits, one at a time, runs each on what the
node has committed to the engine by then, writes the reply as the client's protocol has it, and
sends the bytes. Between two jobs it holds no state of the engine, so that no old pages are kept.

It runs when nothing else wants the processor, with a limit on its memory, and never outlives the
node: the kernel kills it when its parent dies, and it ends when the socket does. A read that
raises, or finds no memory, costs only its own command.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final

import lmdb

from kvnode.limits import MIB
from kvnode.resp.commands.command import Command
from kvnode.resp.commands.table import ROWS
from kvnode.resp.encoder import RESP2
from kvnode.resp.stats import Tally
from kvnode.service import Op
from kvnode.store.keyspace import Keyspace
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.redis.table import READS
from kvnode.store.reply import Result
from kvnode.store.state_machine import load_view
from kvnode.workers.frames import (
    COMPLAINT_BYTES_MAX,
    JOB_BYTES_MAX,
    LENGTH,
    Answer,
    Job,
    Status,
)

_PR_SET_PDEATHSIG: Final = 1
_NICEST: Final = 19
_OOM_SCORE: Final = "700"
"""Should the kernel have to end somebody, then rather a worker than the node."""

TRIMMED_BYTES_MIN: Final = 4 * MIB
"""After a larger reply free memory goes back to the kernel."""

_COMMANDS: Final[dict[str, Command]] = {row.name: row for row in ROWS}


class Worker:
    """Runs jobs. Holds one engine open, the last that it was told of.

    Args:
        hash_key: of the cluster.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._hash_key = hash_key
        self._engine: LmdbEngine | None = None

    def run(self, job: Job) -> tuple[Answer, bytes]:
        """Do a job; what went wrong is an answer, too."""
        try:
            space = self._look(job.engine)
        except (lmdb.Error, OSError):
            self.let_go()
            return Answer(Status.GONE, 0, 0, 0), b""
        try:
            return _answer(space, job)
        except (MemoryError, lmdb.MemoryError):
            return Answer(Status.TOO_LARGE, 0, 0, 0), b""
        except Exception:  # noqa: BLE001 - the node logs it in full
            complaint = traceback.format_exc().encode()[-COMPLAINT_BYTES_MAX:]
            return Answer(Status.FAILED, 0, 0, len(complaint)), complaint
        finally:
            if self._engine is not None:
                self._engine.rest()

    def let_go(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close(clean=False)
            self._engine = None

    def _look(self, path: str) -> Keyspace:
        engine = self._engine
        if engine is None or str(engine.path) != path:
            self.let_go()
            if not Path(path).is_dir():
                raise FileNotFoundError(path)
            engine = self._engine = LmdbEngine(Path(path), read_only=True)
            engine.rest()
        engine.look_again()
        return load_view(engine, self._hash_key)


def _answer(space: Keyspace, job: Job) -> tuple[Answer, bytes]:
    space.reply_bytes_max = job.reply_bytes_max
    result = READS[job.op[0]](space, job.op)
    if result is None:
        return Answer(Status.NIL, 0, 0, 0), b""
    command = _COMMANDS[job.command]
    missed, found = _judged(command, job.op, result)
    reply = command.renders[job.protocol - RESP2](result)
    if len(reply) > job.reply_bytes_max:
        return Answer(Status.TOO_LARGE, 0, 0, 0), b""
    return Answer(Status.REPLY, missed, found, len(reply)), reply


def _judged(command: Command, op: Op, result: Result) -> tuple[int, int]:
    """Keys that the command looked for in vain, and keys that it found."""
    tally = Tally(command)
    if tally.judge is not None:
        tally.judge(tally, op, result)
    return tally.missed, tally.found


def serve(link: socket.socket, worker: Worker) -> None:
    """Do jobs until the node closes its end. Raises what the socket does."""
    link.sendall(Answer(Status.READY, 0, 0, 0).pack())
    with link.makefile("rb") as jobs:
        while len(head := jobs.read(LENGTH.size)) == LENGTH.size:
            (length,) = LENGTH.unpack(head)
            if length > JOB_BYTES_MAX:
                raise ValueError(f"a job of {length} bytes")
            job = Job.unpack(jobs.read(length))
            if not job.command:
                worker.let_go()
                continue
            answer, body = worker.run(job)
            link.sendall(answer.pack())
            link.sendall(body)
            if len(body) > TRIMMED_BYTES_MIN:
                del body
                _trim()


def step_back(parent_pid: int, data_bytes_max: int) -> None:
    """Make way for everybody else, in memory too, and die with the parent.

    Raises:
        ProcessLookupError: the parent is gone already.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the node's children, too
    os.nice(_NICEST)
    if data_bytes_max:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes_max, data_bytes_max))
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ProcessLookupError(f"the parent process {parent_pid} is gone")


def _trim() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)


def main() -> int:
    """See the module's docstring; returns the exit code."""
    descriptor, parent_pid, data_bytes_max = map(int, sys.argv[1:4])
    hash_key = bytes.fromhex(sys.argv[4])
    step_back(parent_pid, data_bytes_max)
    gc.disable()  # reads make no cycles, and a collection would walk over millions of rows
    with socket.socket(fileno=descriptor) as link:
        worker = Worker(hash_key)
        with suppress(ConnectionError):  # the node is gone, or wants this worker no more
            serve(link, worker)
        worker.let_go()
    return 0


if __name__ == "__main__":
    sys.exit(main())
