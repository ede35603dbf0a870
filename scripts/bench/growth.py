"""Does a command cost more because more is stored?

    python -m scripts.bench.growth [--sizes 1000 10000 100000 1000000] [--only list set] [--json]
    python -m scripts.bench.growth --nodes 3 …

For each size it fills one collection of each kind, then measures commands on it, the median over
rounds. With `--nodes` it asks a cluster of real processes, through a pipeline: microseconds per
command as a client sees them. Without, it is the store alone, no log, no network, no loop:
microseconds of processor time, commits included. Commands come in pairs where
one undoes the other, so that the size stays. The last column is the largest size against the
smallest, and must stay below two; the plot shows all sizes, one line each, from zero.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from kvnode.resp.commands.lookup import look_up
from kvnode.store import batch
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.ops import Op, is_write
from kvnode.store.state_machine import StateMachine
from scripts.local_cluster import HOST, LocalCluster

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS = 9
COMMANDS_PER_ROUND = 600
BATCH_COMMANDS = 50
COMMIT_OPS = 6_000
FILL_ARGUMENTS = 100
STAMP_MS = 1_700_000_000_000
PLOT_COLUMNS = 40
TARGET = 2.0

Command = list[bytes]
Make = Callable[[random.Random, int], Command]
"""The next command on a collection of so many elements."""


class Case(NamedTuple):
    """What is measured: commands by turns."""

    name: str
    makes: tuple[Make, ...]


class Family(NamedTuple):
    """One kind of collection.

    Attributes:
        fill: (command, what its arguments are for element number so and so).
    """

    name: str
    fill: tuple[Command, Callable[[int], list[bytes]]]
    cases: tuple[Case, ...]


def case(*lines: str) -> Case:
    """From commands in which `@` is a random element's number, `+` one that is not there.

    Both have nine digits; `#` is the number itself, `?` that of another element.
    """

    def make(line: str) -> Make:
        words = line.split()

        def command(rng: random.Random, size: int) -> Command:
            number, absent = rng.randrange(size), rng.randrange(size, 2 * size)
            marks = {"@": f"{number:09d}", "+": f"{absent:09d}", "#": str(number)}
            marks["?"] = str(rng.randrange(size))
            return [_filled(word, marks).encode() for word in words]

        return command

    return Case(lines[0].split()[0], tuple(make(line) for line in lines))


def _filled(word: str, marks: dict[str, str]) -> str:
    for mark, text in marks.items():
        word = word.replace(mark, text)
    return word


VALUE = b"v" * 64
FAMILIES = (
    Family(
        "hash",
        ([b"HSET", b"k"], lambda n: [b"f%09d" % n, VALUE]),
        (case("HGET k f@"), case("HSET k f@ " + "w" * 64), case("HSET k f+ 1", "HDEL k f+")),
    ),
    Family(
        "list",
        ([b"RPUSH", b"k"], lambda n: [b"%09d" % n + VALUE[9:]]),
        (
            case("LPUSH k " + "w" * 64, "LPOP k"),
            case("RPUSH k " + "w" * 64, "LPOP k"),
            case("LRANGE k 0 9"),
            case("LINDEX k #"),
        ),
    ),
    Family(
        "set",
        ([b"SADD", b"k"], lambda n: [b"m%09d" % n]),
        (
            case("SISMEMBER k m@"),
            case("SADD k m+", "SPOP k"),
            case("SRANDMEMBER k"),
        ),
    ),
    Family(
        "sorted set",
        ([b"ZADD", b"k"], lambda n: [b"%d" % n, b"m%09d" % n]),
        (
            case("ZSCORE k m@"),
            case("ZADD k ? m@"),
            case("ZADD k -1 m+", "ZPOPMIN k"),
            case("ZRANGE k # inf BYSCORE LIMIT 0 10"),
            case("ZRANK k m@"),
            case("ZRANGE k -10 -1"),
        ),
    ),
    Family(
        "stream",
        ([b"XADD", b"k", b"*"], lambda _: [b"f", VALUE]),
        (
            case("XADD k * f " + "w" * 64),
            case("XREVRANGE k 9999999999999 - COUNT 10"),
            case("XREAD COUNT 10 STREAMS k 1700000000000-#"),
        ),
    ),
)


class Bench:
    """One machine on a disk, and a session to write through."""

    def __init__(self, directory: Path) -> None:
        self.machine = StateMachine(LmdbEngine(directory), hash_key=b"bench-bench-bench")
        self.machine.apply(1, batch.encode_register(1, 0, 1, 1, 1))
        self.sequence = 0

    def run_commands(self, commands: list[Command]) -> float:
        """Microseconds of processor time per command, without its grammar."""
        return self.run([_op(command) for command in commands])

    def run(self, ops: list[Op]) -> float:
        """Microseconds of processor time per op; reads one by one, writes in batches."""
        if not is_write(ops[0]):
            start = time.process_time()
            for op in ops:
                self.machine.read(op)
            return (time.process_time() - start) / len(ops) * 1e6
        entries = [self._entry(ops[at : at + BATCH_COMMANDS]) for at in self._starts(ops)]
        start = time.process_time()
        for data in entries:
            self.machine.apply(self.machine.applied + 1, data)
            if self.machine.uncommitted_ops >= COMMIT_OPS:
                self.machine.commit()
        self.machine.commit()
        return (time.process_time() - start) / len(ops) * 1e6

    @staticmethod
    def _starts(ops: list[Op]) -> range:
        return range(0, len(ops), BATCH_COMMANDS)

    def _entry(self, ops: list[Op]) -> bytes:
        self.sequence += 1
        blob = batch.encode_ops(ops)
        return batch.encode_batch(STAMP_MS, self.sequence, 1, 1, self.sequence, blob)

    def fill(self, family: Family, size: int) -> None:
        command, arguments = family.fill
        per_command = 1 if family.name == "stream" else FILL_ARGUMENTS
        for start in range(0, size, per_command * BATCH_COMMANDS):
            stop = min(start + per_command * BATCH_COMMANDS, size)
            self.run([_op(line) for line in _fills(command, arguments, start, stop, per_command)])


class ClusterBench:
    """A cluster of processes, asked through one connection."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.cluster = LocalCluster(directory, nodes)
        self.cluster.start()
        leader = self.cluster.wait_leader()
        self.client = redis.Redis(host=HOST, port=leader.ports.client, socket_timeout=60)

    def run(self, commands: list[Command]) -> float:
        """Microseconds per command."""
        start = time.perf_counter()
        for at in range(0, len(commands), BATCH_COMMANDS):
            pipeline: Any = self.client.pipeline(transaction=False)
            for command in commands[at : at + BATCH_COMMANDS]:
                pipeline.execute_command(*command)
            pipeline.execute()
        return (time.perf_counter() - start) / len(commands) * 1e6

    def fill(self, family: Family, size: int) -> None:
        command, arguments = family.fill
        per_command = 1 if family.name == "stream" else FILL_ARGUMENTS
        for start in range(0, size, per_command * BATCH_COMMANDS):
            stop = min(start + per_command * BATCH_COMMANDS, size)
            self.run(list(_fills(command, arguments, start, stop, per_command)))

    def close(self) -> None:
        self.cluster.close()


def _fills(
    command: Command, arguments: Callable[[int], list[bytes]], start: int, stop: int, per: int
) -> Iterator[Command]:
    for first in range(start, stop, per):
        numbers = range(first, min(first + per, stop))
        yield [*command, *[word for number in numbers for word in arguments(number)]]


def _op(command: Command) -> Op:
    return look_up(command).parse(0, command)


def measure(family: Family, size: int, nodes: int) -> dict[str, float]:
    """Microseconds per command of each case."""
    rng = random.Random(size)
    with tempfile.TemporaryDirectory() as directory:
        if nodes:
            asked = ClusterBench(Path(directory), nodes)
            try:
                asked.fill(family, size)
                return {one.name: _measure(asked.run, one, rng, size) for one in _unique(family)}
            finally:
                asked.close()
        bench = Bench(Path(directory))
        bench.fill(family, size)
        return {one.name: _measure(bench.run_commands, one, rng, size) for one in _unique(family)}


def _unique(family: Family) -> list[Case]:
    """Its cases; those of one command get a number."""
    seen: dict[str, int] = {}
    named = []
    for one in family.cases:
        seen[one.name] = seen.get(one.name, 0) + 1
        suffix = f" {seen[one.name]}" if seen[one.name] > 1 else ""
        named.append(one._replace(name=one.name + suffix))
    return named


def _measure(
    run: Callable[[list[Command]], float], one: Case, rng: random.Random, size: int
) -> float:
    times = []
    for _ in range(ROUNDS):
        made = [make(rng, size) for _ in range(COMMANDS_PER_ROUND) for make in one.makes]
        times.append(run(made))
    return round(statistics.median(times), 2)


def show(report: dict[str, dict[str, dict[int, float]]]) -> str:
    """Table and plot in one: a bar per size."""
    lines = []
    for family, cases in report.items():
        for name, by_size in cases.items():
            sizes = sorted(by_size)
            growth = by_size[sizes[-1]] / by_size[sizes[0]]
            verdict = "" if growth <= TARGET else "  above the target"
            lines.append(f"{family}: {name}, {growth:.2f} times from {sizes[0]:,}{verdict}")
            top = max(by_size.values())
            for size in sizes:
                bar = "#" * round(by_size[size] / top * PLOT_COLUMNS)
                lines.append(f"  {size:>9,} {by_size[size]:8.2f} us {bar}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--only", nargs="+", choices=[family.name for family in FAMILIES])
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report: dict[str, dict[str, dict[int, float]]] = {}
    for family in FAMILIES:
        if arguments.only and family.name not in arguments.only:
            continue
        cases = report.setdefault(family.name, {})
        for size in arguments.sizes:
            for name, microseconds in measure(family, size, arguments.nodes).items():
                cases.setdefault(name, {})[size] = microseconds
    print(json.dumps(report, indent=2) if arguments.json else show(report))


if __name__ == "__main__":
    main()
