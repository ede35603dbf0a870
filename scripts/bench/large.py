"""A million elements in one key: room on disk and in memory, beside Redis; and what its DEL costs.

    python -m scripts.bench.large [--elements 1000000] [--nodes 3] [--only hash list …]

For each kind it fills one key with elements of 64 bytes, on a cluster and on a redis-server, and
prints the blocks of the leader's engine file against what redis-server's `used_memory` grew by, and
the leader's anonymous memory. Then it deletes the key (DEL, UNLINK, FLUSHALL in turn) while another
client reads and writes a small key without a pause, and prints the slowest answers around it,
beside the slowest of as long a time before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from scripts.bench.measure import machine, memory_mib
from scripts.local_cluster import HOST, LocalCluster, LocalNode, PortReservation

VALUE = "v" * 64
PIPELINE = 200
PER_COMMAND = 50
WATCH_SECONDS = 3.0
MIB = 1 << 20
SETTLE_SECONDS_MAX = 60.0

Line = list[str | int]


DROPS: dict[str, Line] = {
    "DEL": ["DEL", "large"],
    "UNLINK": ["UNLINK", "large"],
    "FLUSHALL": ["FLUSHALL"],
}


def fills(kind: str, elements: int) -> Iterator[Line]:
    """Commands that make a key of so many elements."""
    if kind == "stream":
        for _ in range(elements):
            yield ["XADD", "large", "*", "f", VALUE]
        return
    name = {"hash": "HSET", "list": "RPUSH", "set": "SADD", "zset": "ZADD"}[kind]
    for first in range(0, elements, PER_COMMAND):
        line: Line = [name, "large"]
        for number in range(first, min(first + PER_COMMAND, elements)):
            text = f"{number:09d}"
            if kind == "hash":
                line += [text, VALUE]
            elif kind == "zset":
                line += [number, text + VALUE[9:]]
            else:
                line.append(text + VALUE[9:])
        yield line


def fill(client: redis.Redis, kind: str, elements: int) -> None:
    """Send them all, some at a time."""
    pipeline: Any = client.pipeline(transaction=False)
    for line in fills(kind, elements):
        pipeline.execute_command(*line)
        if len(pipeline) >= PIPELINE:
            pipeline.execute()
    pipeline.execute()


class Watcher:
    """A client that writes and reads a small key without a pause, and times every answer."""

    def __init__(self, port: int) -> None:
        self._client: Any = redis.Redis(host=HOST, port=port)
        self._is_over = False
        self.milliseconds: list[float] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over:
            for line in (("SET", "small", "1"), ("GET", "small")):
                start = time.perf_counter()
                self._client.execute_command(*line)
                self.milliseconds.append((time.perf_counter() - start) * 1e3)

    def end(self) -> dict[str, float]:
        self._is_over = True
        self._thread.join()
        ordered = sorted(self.milliseconds)
        return {
            "answers": len(ordered),
            "p50_ms": round(statistics.median(ordered), 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
            "max_ms": round(ordered[-1], 2),
        }


def loop_lag_max_ms(node: LocalNode) -> float:
    """The longest that the node's event loop was late since its start."""
    lines = node.get("/metrics")[1].decode().splitlines()
    (found,) = [line for line in lines if line.startswith("kvnode_loop_lag_max_seconds ")]
    return round(float(found.split()[-1]) * 1e3, 1)


def engine_bytes(node: LocalNode, directory: Path) -> int:
    """Blocks of the node's engine file."""
    files = (directory / node.name).rglob("data.mdb")
    return max(file.stat().st_blocks * 512 for file in files)


def drop(leader: LocalNode, client: Any, line: Line) -> dict[str, Any]:
    """Run one command that drops the key, and see how others fare."""
    calm = Watcher(leader.ports.client)
    time.sleep(WATCH_SECONDS)
    before = calm.end()
    lag_before = loop_lag_max_ms(leader)
    busy = Watcher(leader.ports.client)
    time.sleep(0.2)
    start = time.perf_counter()
    client.execute_command(*line)
    took = (time.perf_counter() - start) * 1e3
    time.sleep(WATCH_SECONDS)
    return {
        "command": line[0],
        "took_ms": round(took, 1),
        "before": before,
        "around": busy.end(),
        "loop_lag_max_ms_before_and_after": [lag_before, loop_lag_max_ms(leader)],
    }


def measure(
    kind: str, elements: int, nodes: int, drops: list[Line], directory: Path
) -> dict[str, Any]:
    """All figures of one kind."""
    cluster = LocalCluster(directory / kind, nodes)
    reservation = PortReservation()
    server = subprocess.Popen(
        ["redis-server", "--port", str(reservation.port), "--save", "", "--bind", HOST],
        stdout=subprocess.DEVNULL,
        cwd=directory,
    )
    try:
        cluster.start()
        leader = cluster.wait_leader()
        client = redis.Redis(host=HOST, port=leader.ports.client, socket_timeout=60)
        theirs = redis.Redis(host=HOST, port=reservation.port, socket_timeout=60)
        theirs.ping()
        redis_before = theirs.info("memory")["used_memory"]
        fill(theirs, kind, elements)
        redis_bytes = theirs.info("memory")["used_memory"] - redis_before
        start = time.perf_counter()
        fill(client, kind, elements)
        filled_in = time.perf_counter() - start
        engine = engine_bytes(leader, cluster.directory)
        memory = memory_mib(leader.pid)
        dropped = []
        for line in drops:
            if not client.exists("large"):
                fill(client, kind, elements)
            dropped.append(drop(leader, client, list(line)))
        return {
            "kind": kind,
            "elements": elements,
            "fill_seconds": round(filled_in, 1),
            "engine_mib": round(engine / MIB, 1),
            "redis_mib": round(redis_bytes / MIB, 1),
            "ratio": round(engine / redis_bytes, 2),
            "leader_memory_mib": memory,
            "drops": dropped,
        }
    finally:
        server.kill()
        server.wait()
        cluster.close()
        reservation.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    kinds = ["hash", "list", "set", "zset", "stream"]
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--drops", nargs="+", choices=list(DROPS), default=list(DROPS))
    arguments = parser.parse_args()
    drops = [DROPS[name] for name in arguments.drops]
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps({"machine": machine(Path(name))}))
        for kind in arguments.only:
            report = measure(kind, arguments.elements, arguments.nodes, drops, Path(name))
            print(json.dumps(report, indent=2), flush=True)


if __name__ == "__main__":
    main()
