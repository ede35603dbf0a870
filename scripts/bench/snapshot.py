"""What taking and loading a snapshot costs: rows per second, and the worker's memory.

    python -m scripts.bench.snapshot [--keys 1000000] [--value 64] [--rate MIB_PER_SECOND]

Fills an LMDB engine in a temporary directory, has a worker process take a snapshot of it, verifies
that, and loads it into a fresh engine. Prints one JSON object. Seconds are wall time on whatever
else the machine does; `worker_*` are the worker's own peaks (resident bytes contain the engine's
pages that it has mapped, anonymous bytes do not).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from kvnode.limits import MIB
from kvnode.snapshot.catalog import file_name
from kvnode.snapshot.process import take
from kvnode.snapshot.reader import load, read_meta, verify
from kvnode.snapshot.worker import Request
from kvnode.store import batch, ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.state_machine import StateMachine

HASH_KEY = b"bench-bench-bench"
BATCH = 250
SAMPLE_SECONDS = 0.02


def fill(machine: StateMachine, keys: int, value: bytes) -> None:
    """String keys in database 0, committed."""
    machine.apply(1, batch.encode_register(1, 0, 1, 1, 1))
    for sequence, start in enumerate(range(0, keys, BATCH), 1):
        todo = [
            [ops.SET, 0, b"key:%010d" % number, value]
            for number in range(start, min(start + BATCH, keys))
        ]
        blob = batch.encode_ops(todo)
        machine.apply(sequence + 1, batch.encode_batch(1, 7, 1, 1, sequence, blob))
        if machine.commit_due:
            machine.commit()
    machine.commit()


class Memory:
    """The largest of a process's memory figures, sampled from /proc while it lives."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        """In KiB, by the names of /proc."""

    async def watch(self, pid: int) -> None:
        """Sample until the process is gone."""
        while self._sample(Path(f"/proc/{pid}/status")):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(SAMPLE_SECONDS)

    def _sample(self, status: Path) -> bool:
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            return False
        for name in ("RssAnon", "VmRSS"):
            if name in fields:
                self.peaks[name] = max(self.peaks.get(name, 0), int(fields[name].split()[0]))
        return True


async def take_watched(request: Request) -> tuple[float, Memory]:
    """Take a snapshot in a worker; returns its seconds and its memory."""
    memory = Memory()
    watchers: list[asyncio.Task[None]] = []
    start = time.perf_counter()
    await take(
        request,
        term_runs=lambda: [(1, 1)],
        timeout_seconds=3600,
        on_start=lambda pid: watchers.append(asyncio.create_task(memory.watch(pid))),
    )
    seconds = time.perf_counter() - start
    await asyncio.gather(*watchers)
    return seconds, memory


def measure(root: Path, keys: int, value: bytes, rate_mib: int) -> dict[str, float]:
    """One snapshot there and back."""
    (root / "snap").mkdir()
    engine = LmdbEngine(root / "engine")
    fill(machine := StateMachine(engine, hash_key=HASH_KEY), keys, value)
    request = Request(
        engine=str(root / "engine"),
        directory=str(root / "snap"),
        hash_key=HASH_KEY.hex(),
        cluster_number=1,
        bytes_per_second=rate_mib * MIB,
    )
    take_seconds, memory = asyncio.run(take_watched(request))
    path = root / "snap" / file_name(machine.applied, 1)
    meta = read_meta(path)
    engine.close(clean=False)
    start = time.perf_counter()
    verify(path)
    verify_seconds = time.perf_counter() - start
    fresh = LmdbEngine(root / "fresh")
    start = time.perf_counter()
    loaded = load(path, fresh, hash_key=HASH_KEY)
    load_seconds = time.perf_counter() - start
    loaded.close(clean=False)
    return {
        "rows": meta.rows,
        "file_mib": round(meta.file_bytes / MIB, 1),
        "take_seconds": round(take_seconds, 2),
        "take_rows_per_second": round(meta.rows / take_seconds),
        "verify_seconds": round(verify_seconds, 2),
        "load_seconds": round(load_seconds, 2),
        "load_rows_per_second": round(meta.rows / load_seconds),
        "worker_rss_mib": round(memory.peaks.get("VmRSS", 0) / 1024, 1),
        "worker_anonymous_mib": round(memory.peaks.get("RssAnon", 0) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value", type=int, default=64, help="bytes of each value")
    parser.add_argument("--rate", type=int, default=0, help="MiB per second, 0 for all there is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(Path(directory), arguments.keys, b"x" * arguments.value, arguments.rate)
    print(json.dumps({**vars(arguments), **figures}, indent=2))


if __name__ == "__main__":
    main()
