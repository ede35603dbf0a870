"""What a million keys cost: to snapshot, to restart with, to catch up with.

One run on three nodes, in this order: load a million small keys; SET's p99 without and during a
snapshot; a follower stopped and started, killed and started; a follower that was away while the
others wrote a million more and cut their logs, caught up under load. Prints JSON and writes it to
`bench-results/`. Nothing here is a test: nothing fails because it was slow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.bench.measure import HOST, RESULTS, machine, redis_benchmark
from scripts.local_cluster import LocalCluster, LocalNode

PAIRS_PER_COMMAND = 250
VALUE = b"v" * 16
CATCH_UP_SECONDS_MAX = 180.0
LOAD_CLIENTS = 256
QUIET_REQUESTS = 60_000
SNAPSHOT_LOG_BYTES = "16mb"


def load_keys(port: int, first: int, count: int) -> float:
    """Write `count` keys with MSETs, a few in flight; seconds."""
    began = time.monotonic()
    with socket.create_connection((HOST, port)) as connection:
        replies = connection.makefile("rb")
        in_flight = 0
        for start in range(first, first + count, PAIRS_PER_COMMAND):
            parts = [b"MSET"]
            for number in range(start, start + PAIRS_PER_COMMAND):
                parts += [b"key:%010d" % number, VALUE]
            line = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n%s" % (len(parts), line))
            in_flight += 1
            if in_flight == 8:
                in_flight -= 1
                assert replies.readline() == b"+OK\r\n"
        for _ in range(in_flight):
            assert replies.readline() == b"+OK\r\n"
    return time.monotonic() - began


def command(port: int, *words: str) -> bytes:
    """One inline command; the first line of its answer."""
    with socket.create_connection((HOST, port), timeout=120) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.makefile("rb").readline()


def set_figures(port: int) -> dict[str, float]:
    """SET with fifty clients: rate and p99 in milliseconds."""
    (row,) = redis_benchmark(port, "set", 50, QUIET_REQUESTS)
    return {"rps": float(row["rps"]), "p99_ms": float(row["p99_latency_ms"])}


def during_snapshot(leader: LocalNode) -> dict[str, float]:
    """SET's figures while the leader takes a snapshot."""
    status = leader.status() or {}
    before = status["snapshot"]["index"]
    assert command(leader.ports.client, "BGSAVE").startswith(b"+")
    figures = set_figures(leader.ports.client)
    status = leader.status() or {}
    figures["finished_within_the_run"] = float(status["snapshot"]["index"] > before)
    return figures


def timed_start(node: LocalNode, ready: Callable[[], bool]) -> float:
    """Start a node; seconds until `ready`."""
    began = time.monotonic()
    node.start()
    while not ready():
        if time.monotonic() - began > CATCH_UP_SECONDS_MAX:
            return float("inf")
        time.sleep(0.02)
    return round(time.monotonic() - began, 2)


def restarts(node: LocalNode) -> dict[str, float]:
    """Seconds from start to serving, after a stop and after a kill."""
    node.send(signal.SIGTERM)
    node.wait_exit(30)
    after_stop = timed_start(node, node.ready)
    node.kill()
    return {"after_stop_s": after_stop, "after_kill_s": timed_start(node, node.ready)}


@contextlib.contextmanager
def load(port: int) -> Iterator[Callable[[], float]]:
    """256 clients that SET all the time; yields a function that tells commands per second."""
    process = subprocess.Popen(
        [
            *("redis-benchmark", "-p", str(port), "-c", str(LOAD_CLIENTS), "-d", "64"),
            *("-r", "10000", "-t", "set", "-n", "100000000", "-q"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    marks: list[tuple[float, int]] = []

    def count() -> int:
        with socket.create_connection((HOST, port), timeout=30) as connection:
            connection.sendall(b"INFO stats\r\n")
            replies = connection.makefile("rb")
            body = replies.read(int(replies.readline()[1:]))
        line = next(x for x in body.splitlines() if x.startswith(b"total_commands_processed"))
        return int(line.split(b":")[1])

    def rate() -> float:
        marks.append((time.monotonic(), count()))
        (t0, n0), (t1, n1) = marks[-2] if len(marks) > 1 else marks[0], marks[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    try:
        yield rate
    finally:
        process.kill()
        process.wait()


def catch_up(leader: LocalNode, node: LocalNode, keys: int) -> dict[str, Any]:
    """A follower away while `keys` more are written comes back under load."""
    node.kill()
    load_keys(leader.ports.client, keys, keys)
    away = (leader.status() or {})["applied"]

    def caught_up() -> bool:
        status = node.status()
        return status is not None and status.get("applied", 0) >= away

    with load(leader.ports.client) as rate:
        time.sleep(1)
        rate()
        time.sleep(4)
        without = rate()
        seconds = timed_start(node, caught_up)
        during = rate()
    status = leader.status() or {}
    return {
        "seconds": seconds,
        "leader_sets_per_s_without": round(without),
        "leader_sets_per_s_during": round(during),
        "share": round(during / without, 2),
        "leader_snapshot_index": status["snapshot"]["index"],
        "installed": "snapshot installed" in node.log_path.read_text(),
    }


def run(keys: int, directory: Path) -> dict[str, Any]:
    """All of it; returns the figures."""
    cluster = LocalCluster(directory, environment={"KVNODE_SNAPSHOT_LOG_BYTES": SNAPSHOT_LOG_BYTES})
    try:
        cluster.start()
        leader = cluster.wait_leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        figures: dict[str, Any] = {"keys": keys, "machine": machine(directory)}
        figures["load_s"] = round(load_keys(leader.ports.client, 0, keys), 1)
        time.sleep(10)  # let the snapshots that the load set off come to their end
        figures["set_quiet"] = set_figures(leader.ports.client)
        figures["set_during_snapshot"] = during_snapshot(leader)
        figures["restart"] = restarts(follower)
        figures["catch_up"] = catch_up(leader, follower, keys)
        return figures
    finally:
        cluster.stop()
        cluster.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvnode-bench-") as directory:
        figures = run(arguments.keys, Path(directory))
    text = json.dumps(figures, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"recovery-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
