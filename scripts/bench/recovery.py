"""What a million keys cost: to snapshot, to restart with, to catch up with.

One run on three nodes, in this order: load a million small keys; SET's p99 without and during a
snapshot; a follower stopped and started, killed and started; a follower that was away while the
others wrote a million more and cut their logs, caught up under load. Prints JSON and writes it to
`bench-results/`. Nothing here is a test: nothing fails because it was slow.

    python -m scripts.bench.recovery --keys 100000 --entries 1000000 --catch-up-only
        [--snapshot-log-bytes 8gb]

A log entry holds as many commands as waited for it: a million commands are some thousand entries.
With `--entries` the follower is away for so many *entries* instead: two clients in lock step on
each of the others, so that hardly two commands ever wait together. A few syncs per entry make that
some 1,400 entries per second, twelve minutes for a million. Above `--snapshot-log-bytes` the others
cut their logs, and the follower gets a snapshot and the rest; with more than they write it gets
every entry.
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

from scripts.bench.measure import HOST, RESULTS, BenchFailed, machine, redis_benchmark
from scripts.local_cluster import LocalCluster, LocalNode

PAIRS_PER_COMMAND = 250
VALUE = b"v" * 16
CATCH_UP_SECONDS_MAX = 180.0
LOAD_CLIENTS = 256
QUIET_REQUESTS = 60_000
SNAPSHOT_LOG_BYTES = "16mb"
LOCK_STEP_CLIENTS = 2
"""On each node. As many as a node has batches in flight: one command each."""
STATUS_ATTEMPTS = 10
WITHOUT_END = 1_000_000_000
"""Requests of a load that is killed when it has done its work."""


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


def commands_done(port: int) -> int:
    """Commands that a node has taken since its start."""
    with socket.create_connection((HOST, port), timeout=30) as connection:
        connection.sendall(b"INFO stats\r\n")
        replies = connection.makefile("rb")
        body = replies.read(int(replies.readline()[1:]))
    line = next(x for x in body.splitlines() if x.startswith(b"total_commands_processed"))
    return int(line.split(b":")[1])


@contextlib.contextmanager
def clients(port: int, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Clients that SET all the time, each when its last one was answered."""
    process = subprocess.Popen(
        [
            *("redis-benchmark", "-p", str(port), "-c", str(count), "-d", "64"),
            *("-r", "10000", "-t", "set", "-n", str(WITHOUT_END), "-q"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def load(port: int) -> Iterator[Callable[[], float]]:
    """256 clients that SET all the time; yields a function that tells commands per second."""
    marks: list[tuple[float, int]] = []

    def rate() -> float:
        marks.append((time.monotonic(), commands_done(port)))
        (t0, n0), (t1, n1) = marks[-2] if len(marks) > 1 else marks[0], marks[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    with clients(port, LOAD_CLIENTS):
        yield rate


def applied(node: LocalNode) -> int:
    """The log index up to which a node has applied.

    Raises:
        BenchFailed: it does not tell.
    """
    for _ in range(STATUS_ATTEMPTS):
        if (status := node.status()) is not None:
            return int(status["applied"])
    raise BenchFailed(f"{node.name} does not answer: {node.log_tail()}")


def write_entries(nodes: list[LocalNode], count: int) -> dict[str, float]:
    """Write `count` log entries with hardly more than a command in each; what it took.

    Raises:
        BenchFailed: the clients ended before.
    """
    began, first = time.monotonic(), applied(nodes[0])
    before = sum(commands_done(node.ports.client) for node in nodes)
    with contextlib.ExitStack() as running:
        loads = [
            running.enter_context(clients(node.ports.client, LOCK_STEP_CLIENTS)) for node in nodes
        ]
        while applied(nodes[0]) - first < count:
            if any(process.poll() is not None for process in loads):
                raise BenchFailed("redis-benchmark ended: it was answered with an error")
            time.sleep(0.1)
    entries = applied(nodes[0]) - first
    commands = sum(commands_done(node.ports.client) for node in nodes) - before
    return {
        "entries": entries,
        "commands_per_entry": round(commands / entries, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def fall_behind(
    nodes: list[LocalNode], leader: LocalNode, keys: int, entries: int
) -> dict[str, float]:
    """Write what the follower that is away will lack: so many entries, or else so many keys."""
    if entries:
        return write_entries(nodes, entries)
    before = applied(leader)
    seconds = load_keys(leader.ports.client, keys, keys)
    return {"entries": applied(leader) - before, "seconds": round(seconds, 1)}


def catch_up(
    nodes: list[LocalNode], leader: LocalNode, node: LocalNode, keys: int, entries: int
) -> dict[str, Any]:
    """A follower that was away while the others wrote comes back under load."""
    node.kill()
    behind = fall_behind([each for each in nodes if each is not node], leader, keys, entries)
    away = applied(leader)

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
        "behind": behind,
        "seconds": seconds,
        "leader_sets_per_s_without": round(without),
        "leader_sets_per_s_during": round(during),
        "share": round(during / without, 2),
        "leader_snapshot_index": status["snapshot"]["index"],
        "installed": "snapshot installed" in node.log_path.read_text(),
    }


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All of it; returns the figures."""
    keys, log_bytes = options.keys, options.snapshot_log_bytes
    cluster = LocalCluster(directory, environment={"KVNODE_SNAPSHOT_LOG_BYTES": log_bytes})
    try:
        cluster.start()
        leader = cluster.wait_leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        figures: dict[str, Any] = {"keys": keys, "machine": machine(directory)}
        figures["snapshot_log_bytes"] = log_bytes
        figures["load_s"] = round(load_keys(leader.ports.client, 0, keys), 1)
        time.sleep(10)  # let the snapshots that the load set off come to their end
        if not options.catch_up_only:
            figures["set_quiet"] = set_figures(leader.ports.client)
            figures["set_during_snapshot"] = during_snapshot(leader)
            figures["restart"] = restarts(follower)
        figures["catch_up"] = catch_up(cluster.nodes, leader, follower, keys, options.entries)
        return figures
    finally:
        cluster.stop()
        cluster.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=0, help="log entries to be behind by")
    parser.add_argument("--snapshot-log-bytes", default=SNAPSHOT_LOG_BYTES, metavar="SIZE")
    parser.add_argument("--catch-up-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvnode-bench-") as directory:
        figures = run(arguments, Path(directory))
    text = json.dumps(figures, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"recovery-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
