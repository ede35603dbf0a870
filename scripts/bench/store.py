"""What one operation costs in the store alone: no log, no network, no event loop.

    python scripts/bench/store.py [--keys 10000 100000] [--batch 30] [--commit 1000] [--engine lmdb]

Prints one JSON object: microseconds of processor time per op (the store waits for nothing), the
median over rounds, so that one noisy round does not count. `set` is the whole of
`StateMachine.apply` (decode, hash, counters, rows) and its commits.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kvnode.store import batch, ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.engine import Engine

OPS_PER_ROUND = 6_000
ROUNDS = 7


class Bench:
    """One machine with `keys` string keys, and a session to write through."""

    def __init__(self, engine: Engine, keys: int, batch_size: int, commit_ops: int) -> None:
        self.machine = StateMachine(engine, hash_key=b"bench-bench-bench")
        self.machine.apply(1, batch.encode_register(1, 0, 1, 1, 1))
        self.batch_size = batch_size
        self.commit_ops = commit_ops
        self.sequence = 0
        self.keys = [b"key:%010d" % number for number in range(keys)]
        self.random = random.Random(1)
        self.run([[ops.SET, 0, key, b"x" * 64] for key in self.keys])

    def entries(self, todo: list[ops.Op]) -> list[bytes]:
        blobs = []
        for start in range(0, len(todo), self.batch_size):
            self.sequence += 1
            blob = batch.encode_ops(todo[start : start + self.batch_size])
            stamp_ms = 1_700_000_000_000 + self.sequence
            blobs.append(batch.encode_batch(stamp_ms, 7, 1, 1, self.sequence, blob))
        return blobs

    def run(self, todo: list[ops.Op]) -> float:
        """Apply all as batches; returns microseconds per op."""
        entries = self.entries(todo)
        machine, commit_ops = self.machine, self.commit_ops
        start = time.process_time()
        for data in entries:
            machine.apply(machine.applied + 1, data)
            if machine.uncommitted_ops >= commit_ops:
                machine.commit()
        machine.commit()
        return (time.process_time() - start) / len(todo) * 1e6

    def read(self, todo: list[ops.Op]) -> float:
        """Read all one by one; returns microseconds per op."""
        read = self.machine.read
        start = time.process_time()
        for op in todo:
            read(op)
        return (time.process_time() - start) / len(todo) * 1e6

    def random_keys(self) -> list[bytes]:
        return self.random.choices(self.keys, k=OPS_PER_ROUND)

    def rounds(
        self, measure: Callable[[list[ops.Op]], float], op: Callable[[bytes], ops.Op]
    ) -> float:
        times = [measure([op(key) for key in self.random_keys()]) for _ in range(ROUNDS)]
        return round(statistics.median(times), 2)


def measure(engine: Engine, keys: int, batch_size: int, commit_ops: int) -> dict[str, float]:
    """Microseconds per op for the commonest ops."""
    bench = Bench(engine, keys, batch_size, commit_ops)
    value = b"y" * 64
    results = {
        "set": bench.rounds(bench.run, lambda key: [ops.SET, 0, key, value]),
        "set_new": bench.rounds(bench.run, lambda key: [ops.SET, 0, key + b"+", value]),
        "get": bench.rounds(bench.read, lambda key: [ops.GET, 0, key]),
        "get_absent": bench.rounds(bench.read, lambda key: [ops.GET, 1, key]),
        "set_px": bench.rounds(bench.run, lambda key: [ops.SET, 0, key, value, 16, 10_000_000]),
        "set_over_px": bench.rounds(bench.run, lambda key: [ops.SET, 0, key, value]),
        "incrby": bench.rounds(bench.run, lambda key: [ops.INCRBY, 2, key, 1]),
        "del": bench.rounds(bench.run, lambda key: [ops.DEL, 0, key]),
    }
    bench.machine.close(clean=False)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--commit", type=int, default=1_000)
    parser.add_argument("--engine", choices=["lmdb", "memory"], default="lmdb")
    arguments = parser.parse_args()
    report: dict[str, object] = {"unit": "us/op", **vars(arguments)}
    for keys in arguments.keys:
        with tempfile.TemporaryDirectory() as directory:
            engine: Engine = MemoryEngine()
            if arguments.engine == "lmdb":
                engine = LmdbEngine(Path(directory))
            report[str(keys)] = measure(engine, keys, arguments.batch, arguments.commit)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
