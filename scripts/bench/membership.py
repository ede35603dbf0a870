"""What a change of the membership costs those who write: transfers of leadership, and a newcomer.

Three nodes under the load of redis-benchmark. First leadership goes from node to node so many
times in a row, while one client on each node writes in lock step: the *pause* of a transfer is the
longest time that one of them waited for an answer. Then a million small keys are loaded, the logs
are cut, and a fourth node joins: how long until it votes, and what share of their throughput the
writers keep meanwhile, compared with before and after in the same run. Prints JSON and writes it to
`bench-results/`. Nothing here is a test: nothing fails because it was slow.

    python -m scripts.bench.membership [--transfers 200] [--keys 1000000]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.bench.measure import HOST, RESULTS, BenchFailed, machine
from scripts.bench.recovery import clients, command, load, load_keys
from scripts.local_cluster import LocalCluster, LocalNode, PortReservation, Ports, kvnode_command

LOAD_CLIENTS = 50
SNAPSHOT_LOG_BYTES = "16mb"
REQUEST_SECONDS_MAX = 40.0
VOTER_SECONDS_MAX = 300.0
REST_SECONDS = 0.25
"""Between two transfers: long enough to see writes flow again."""
SETTLE_SECONDS = 10.0
WINDOW_SECONDS = 5.0
VOTERS = ("leader", "follower")


class LockStep:
    """One client that writes, waits for the answer and writes again, and notes how long it took."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.waits: list[tuple[float, float]] = []
        """When each write ended, and how long it took, in seconds."""
        self.errors: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the write under way."""
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        with socket.create_connection(
            self._node.address, timeout=REQUEST_SECONDS_MAX
        ) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            replies = connection.makefile("rb")
            while not self._ends.is_set():
                began = time.monotonic()
                connection.sendall(b"INCR bench:%s\r\n" % self._node.name.encode())
                reply = replies.readline()
                now = time.monotonic()
                self.waits.append((now, now - began))
                if not reply.startswith(b":"):
                    self.errors.append(reply.decode(errors="replace"))
                    return


def transfer(node: LocalNode, target: LocalNode) -> None:
    """Give leadership to `target`.

    Raises:
        BenchFailed: it did not get it.
    """
    connection = http.client.HTTPConnection(HOST, node.ports.admin, timeout=REQUEST_SECONDS_MAX)
    with contextlib.closing(connection):
        body, headers = json.dumps({"member": target.name}), {"Content-Type": "application/json"}
        connection.request("POST", "/members/transfer", body, headers)
        response = connection.getresponse()
        text = response.read().decode()
    if response.status != http.HTTPStatus.OK:
        raise BenchFailed(f"no transfer to {target.name}: {text}")


def _percentiles_ms(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50_ms": round(cuts[49] * 1e3, 1),
        "p99_ms": round(cuts[98] * 1e3, 1),
        "max_ms": round(max(seconds) * 1e3, 1),
    }


def transfers(cluster: LocalCluster, count: int) -> dict[str, Any]:
    """Leadership from node to node; the pauses of writes, and of as many moments without."""
    writers = [LockStep(node) for node in cluster.nodes]
    leader = cluster.wait_leader()
    starts: list[float] = []
    with clients(cluster.nodes[0].ports.client, LOAD_CLIENTS) as busy:
        for writer in writers:
            writer.start()
        quiet_from = time.monotonic()
        time.sleep(min(count, 40) * REST_SECONDS)
        for number in range(count):
            target = cluster.nodes[(cluster.nodes.index(leader) + 1) % len(cluster.nodes)]
            starts.append(time.monotonic())
            transfer(cluster.nodes[number % len(cluster.nodes)], target)
            leader = target
            time.sleep(REST_SECONDS)
        ended = time.monotonic()
        for writer in writers:
            writer.stop()
        benchmark_lives = busy.poll() is None
    waits = [wait for writer in writers for wait in writer.waits]
    quiet_starts = [quiet_from + n * REST_SECONDS for n in range(min(count, 40))]
    return {
        "transfers": count,
        "pause": _percentiles_ms(_pauses(waits, [*starts, ended])),
        "without": _percentiles_ms(_pauses(waits, [*quiet_starts, starts[0]])),
        "writes_in_lock_step": len(waits),
        "errors": [error for writer in writers for error in writer.errors],
        "redis_benchmark_saw_an_error": not benchmark_lives,
    }


def _pauses(waits: list[tuple[float, float]], edges: list[float]) -> list[float]:
    """The longest wait that ended in each span between two edges."""
    longest = [0.0] * (len(edges) - 1)
    for at, took in waits:
        span = next((n for n in range(len(longest)) if edges[n] <= at < edges[n + 1]), None)
        if span is not None:
            longest[span] = max(longest[span], took)
    return longest


@contextlib.contextmanager
def newcomer(cluster: LocalCluster, log_bytes: str) -> Iterator[LocalNode]:
    """A fourth node, not started yet."""
    reserved = [PortReservation() for _ in range(3)]
    client, peer, admin = (reservation.port for reservation in reserved)
    arguments = (
        *(*kvnode_command(), "serve", "--node", "n4"),
        *("--join", f"{HOST}:{cluster.nodes[0].ports.peer}"),
        *("--listen", f"{HOST}:{client}", "--peer-listen", f"{HOST}:{peer}"),
        *("--admin", f"{HOST}:{admin}", "--data", str(cluster.directory / "n4")),
    )
    environment = {"KVNODE_SNAPSHOT_LOG_BYTES": log_bytes}
    node = LocalNode("n4", Ports(client, peer, admin), cluster.directory, arguments, environment)
    try:
        yield node
    finally:
        node.kill()
        for reservation in reserved:
            reservation.release()


def wait_voter(leader: LocalNode, name: str) -> float:
    """Seconds until a member votes.

    Raises:
        BenchFailed: it took too long.
    """
    began = time.monotonic()
    while True:
        members = (leader.status() or {}).get("members", ())
        if any(m["name"] == name and m["role"] in VOTERS for m in members):
            return time.monotonic() - began
        if time.monotonic() - began > VOTER_SECONDS_MAX:
            raise BenchFailed(f"{name} does not vote after {VOTER_SECONDS_MAX:g} s")
        time.sleep(0.05)


def cut_log(leader: LocalNode) -> None:
    """Take two snapshots: the log is cut behind the older one, so that a newcomer needs it.

    Raises:
        BenchFailed: that took too long.
    """
    for number in range(2):
        command(leader.ports.client, "SET", "bench:cut", str(number))
        before = (leader.status() or {})["snapshot"]["index"]
        deadline = time.monotonic() + VOTER_SECONDS_MAX
        while (leader.status() or {"snapshot": {"index": 0}})["snapshot"]["index"] <= before:
            command(leader.ports.client, "BGSAVE")
            if time.monotonic() > deadline:
                raise BenchFailed(f"{leader.name} takes no snapshot: {leader.log_tail()}")
            time.sleep(0.1)


def growth(cluster: LocalCluster, keys: int, log_bytes: str) -> dict[str, Any]:
    """A node joins a cluster that holds many keys and is written to all the time."""
    leader = cluster.wait_leader()
    load_s = load_keys(leader.ports.client, 0, keys)
    cut_log(leader)
    time.sleep(SETTLE_SECONDS)  # the others' snapshots come to their end
    with newcomer(cluster, log_bytes) as node, load(leader.ports.client) as rate:
        time.sleep(1)
        rate()
        time.sleep(WINDOW_SECONDS)
        before = rate()
        node.start()
        seconds = wait_voter(leader, node.name)
        during = rate()
        time.sleep(WINDOW_SECONDS)
        after = rate()
        installed = "snapshot installed" in node.log_path.read_text()
    return {
        "keys": keys,
        "load_s": round(load_s, 1),
        "voter_after_s": round(seconds, 1),
        "sets_per_s": {"before": round(before), "during": round(during), "after": round(after)},
        "share": round(during / ((before + after) / 2), 2),
        "share_of_before": round(during / before, 2),
        "snapshot_installed": installed,
    }


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Both; returns the figures."""
    figures: dict[str, Any] = {"machine": machine(directory)}
    figures["snapshot_log_bytes"] = SNAPSHOT_LOG_BYTES
    cluster = LocalCluster(directory, environment={"KVNODE_SNAPSHOT_LOG_BYTES": SNAPSHOT_LOG_BYTES})
    try:
        cluster.start()
        if options.transfers:
            figures["transfers"] = transfers(cluster, options.transfers)
        if options.keys:
            figures["growth"] = growth(cluster, options.keys, SNAPSHOT_LOG_BYTES)
        return figures
    finally:
        cluster.stop()
        cluster.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--transfers", type=int, default=200)
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvnode-bench-") as directory:
        figures = run(arguments, Path(directory))
    text = json.dumps(figures, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"membership-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
