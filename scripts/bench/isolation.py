"""Can a few clients in a tight loop starve the others?

    python -m scripts.bench.isolation [--attack xread|keys|hgetall|zunionstore|mixed] [--seconds 60]
        [--attackers 37] [--entries 100000] [--plot FILE.svg] [--json]

Three nodes, 16 clients that SET in a closed loop, spread over the nodes. First they are alone, then
the attackers come, all to the leader: each asks again as soon as it has its answer, for a whole
stream, a whole hash, or all keys; with `zunionstore` and `mixed` some also store the union of two
sorted sets of a million. Then they are gone again.

What is told: the clients' p50, p99 and slowest SET in each part, elections, Raft steps that were
dropped, the leader's loop lag, and what the attackers got (answers, -BUSY, other errors). The
attackers run in a process of their own at the lowest priority: on a machine of their own they would
not take the nodes' processors, so here they get what is left.

Sent to a tree without the isolation, with `--tree DIR`, the same run is the "before".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import hiredis
import redis

from scripts.bench.plot import Line, Span, plot
from scripts.local_cluster import HOST, LocalCluster, LocalNode

SETTERS = 16
VALUE = b"v" * 64
BUCKET_SECONDS = 0.25
FILL_COMMANDS = 200
MEMBERS_PER_COMMAND = 200
SORTED_SET_MEMBERS = 1_000_000
READ_BYTES = 1 << 20

ATTACKS: dict[str, tuple[list[bytes], ...]] = {
    "xread": ([b"XREAD", b"STREAMS", b"attacked:stream", b"0"],),
    "keys": ([b"KEYS", b"*"],),
    "hgetall": ([b"HGETALL", b"attacked:hash"],),
    "zunionstore": ([b"ZUNIONSTORE", b"attacked:union", b"2", b"attacked:z1", b"attacked:z2"],),
}
ATTACKS["mixed"] = tuple(line for lines in list(ATTACKS.values()) for line in lines)


def request(arguments: list[bytes]) -> bytes:
    """One command."""
    parts = b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments])
    return b"*%d\r\n%b" % (len(arguments), parts)


# --- the attackers, in a process of their own ---------------------------------------------------


class Attackers:
    """Clients that ask for everything, again and again, until they are told to stop."""

    def __init__(self, port: int, count: int, lines: tuple[list[bytes], ...]) -> None:
        self._answers: Any = multiprocessing.Queue()
        self._stop = multiprocessing.Event()
        self._process = multiprocessing.Process(
            target=_attack, args=(port, count, lines, self._stop, self._answers), daemon=True
        )

    def start(self) -> None:
        """Let them come."""
        self._process.start()

    def stop(self) -> dict[str, int]:
        """Let them go; how often they got what."""
        self._stop.set()
        answers: dict[str, int] = self._answers.get(timeout=30)
        self._process.join(10)
        return answers


def _attack(port: int, count: int, lines: tuple[list[bytes], ...], stop: Any, answers: Any) -> None:
    os.nice(19)
    counts: Counter[str] = Counter()

    async def all_of_them() -> None:
        tasks = [
            asyncio.ensure_future(_attack_once(port, lines[at % len(lines)], counts))
            for at in range(count)
        ]
        await asyncio.to_thread(stop.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    answers.put(dict(counts))


async def _attack_once(port: int, line: list[bytes], counts: Counter[str]) -> None:
    asked = request(line)
    while True:
        try:
            reader, writer = await asyncio.open_connection(HOST, port, limit=READ_BYTES)
        except OSError:
            counts["refused"] += 1
            await asyncio.sleep(0.1)
            continue
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while True:
                writer.write(asked)
                counts[await _read_reply(reader)] += 1
        counts["closed"] += 1
        writer.close()


async def _read_reply(reader: asyncio.StreamReader) -> str:
    """Read one reply and forget it; its kind."""
    parser = hiredis.Reader()
    while (reply := parser.gets()) is False:
        data = await reader.read(READ_BYTES)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        parser.feed(data)
    if isinstance(reply, hiredis.HiredisError):
        return "busy" if str(reply).startswith("BUSY") else "other errors"
    return "answers"


# --- the clients that must not notice -------------------------------------------------------------


class Setters:
    """Clients that SET in a closed loop; remembers when each SET ended and how long it took."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self.samples: list[tuple[float, float]] = []
        self.failures = 0
        self.is_over = False

    async def run(self, port: int, number: int) -> None:
        """One of them."""
        reader, writer = await asyncio.open_connection(HOST, port)
        turn = 0
        while not self.is_over:
            turn += 1
            asked_at = time.monotonic()
            writer.write(request([b"SET", b"key:%d:%d" % (number, turn % 100), VALUE]))
            reply = await reader.readline()
            now = time.monotonic()
            self.samples.append((now - self.began_at, (now - asked_at) * 1000))
            self.failures += reply != b"+OK\r\n"
        writer.close()

    def between(self, begins_s: float, ends_s: float) -> dict[str, float]:
        """Figures in milliseconds of what ended in a span of time."""
        taken = sorted(ms for at, ms in self.samples if begins_s <= at < ends_s)
        if not taken:
            return {"sets_per_second": 0.0}
        return {
            "sets_per_second": round(len(taken) / (ends_s - begins_s)),
            "p50_ms": round(statistics.median(taken), 2),
            "p99_ms": round(taken[int(len(taken) * 0.99)], 2),
            "slowest_ms": round(taken[-1], 1),
        }

    def lines(self) -> list[Line]:
        """Median and slowest per quarter of a second."""
        buckets: dict[int, list[float]] = {}
        for at, ms in self.samples:
            buckets.setdefault(int(at / BUCKET_SECONDS), []).append(ms)
        times = sorted(buckets)
        middle = [(t * BUCKET_SECONDS, statistics.median(buckets[t])) for t in times]
        worst = [(t * BUCKET_SECONDS, max(buckets[t])) for t in times]
        return [Line("slowest SET", worst), Line("median SET", middle)]


# --- the nodes ------------------------------------------------------------------------------------


def fill(port: int, entries: int, *, with_sorted_sets: bool) -> None:
    """What the attackers ask for."""
    client = redis.Redis(host=HOST, port=port, socket_timeout=120)
    lines: Iterator[tuple[str | bytes | int, ...]] = _entries(entries)
    if with_sorted_sets:
        lines = chain(lines, _members("attacked:z1"), _members("attacked:z2"))
    while commands := list(islice(lines, FILL_COMMANDS)):
        pipe: Any = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        pipe.execute()


def _entries(count: int) -> Iterator[tuple[str | bytes | int, ...]]:
    for number in range(count):
        yield "XADD", "attacked:stream", "*", "field", VALUE
        yield "HSET", "attacked:hash", f"field:{number}", VALUE
        yield "SET", f"attacked:key:{number}", VALUE


def _members(name: str) -> Iterator[tuple[str | bytes | int, ...]]:
    for start in range(0, SORTED_SET_MEMBERS, MEMBERS_PER_COMMAND):
        numbers = range(start, start + MEMBERS_PER_COMMAND)
        yield "ZADD", name, *[part for n in numbers for part in (n, f"{name}:{n}")]


METRICS = (
    "kvnode_leader_changes_seen_total",
    "kvnode_raft_steps_dropped_total",
    "kvnode_heavy_refused_total",
)


def metrics_of(node: LocalNode) -> dict[str, float]:
    """Some counters of a node, each over all its labels."""
    text = node.get("/metrics")[1].decode()
    found: dict[str, float] = {}
    for name in METRICS:
        values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        found[name] = sum(float(value) for value in values)
    return found


async def run(options: argparse.Namespace, cluster: LocalCluster) -> dict[str, Any]:
    """Fill, measure, attack, measure."""
    leader = await asyncio.to_thread(cluster.wait_leader)
    lines = ATTACKS[options.attack]
    needs_unions = any(line[0] == b"ZUNIONSTORE" for line in lines)
    await asyncio.to_thread(
        fill, leader.ports.client, options.entries, with_sorted_sets=needs_unions
    )
    attackers = Attackers(leader.ports.client, options.attackers, lines)
    setters = Setters()
    ports = [node.ports.client for node in cluster.nodes]
    tasks = [
        asyncio.ensure_future(setters.run(ports[number % len(ports)], number))
        for number in range(SETTERS)
    ]
    calm = max(5.0, options.seconds / 4)
    await asyncio.sleep(calm)
    before = [metrics_of(node) for node in cluster.nodes]
    begins = time.monotonic() - setters.began_at
    attackers.start()
    await asyncio.sleep(options.seconds)
    got = await asyncio.to_thread(attackers.stop)
    ends = time.monotonic() - setters.began_at
    after = [metrics_of(node) for node in cluster.nodes]
    await asyncio.sleep(calm / 2)
    setters.is_over = True
    await asyncio.wait(tasks, timeout=10)
    if options.plot:
        span = Span(f"{options.attackers} × {options.attack}", begins, ends)
        plot(options.plot, "SET latency of 16 other clients", "ms", setters.lines(), [span])
    calm_figures, attacked = setters.between(1.0, begins), setters.between(begins + 1, ends)
    changes = {
        name: sum(late[name] - early[name] for early, late in zip(before, after, strict=True))
        for name in METRICS
    }
    return {
        "attack": options.attack,
        "alone": calm_figures,
        "attacked": attacked,
        "p99_ratio": round(attacked.get("p99_ms", 0) / calm_figures["p99_ms"], 2),
        "failed_sets": setters.failures,
        "attackers_got": got,
        **changes,
    }


def main() -> None:
    """Read the flags, start the nodes, run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--attack", choices=sorted(ATTACKS), default="mixed")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--attackers", type=int, default=37)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--tree", type=Path, help="run the nodes from this checkout instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.plot:
        options.plot = options.plot.resolve()
    if options.tree:
        os.chdir(options.tree)  # `python -c` looks for kvnode here first
    with tempfile.TemporaryDirectory(prefix="kvnode-isolation-") as directory:
        cluster = LocalCluster(Path(directory), 3)
        try:
            cluster.start()
            result = asyncio.run(run(options, cluster))
        finally:
            cluster.stop()
            cluster.close()
    if options.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(f"{name:34} {figures}")


if __name__ == "__main__":
    main()
