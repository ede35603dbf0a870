"""Hot-path figures: SET and GET on three nodes, beside a null server of the same stack.

Absolute figures of a shared machine say little, so every cell is measured in the same minutes
against a *null server*: the same event loop, parser and encoder, no node behind it. The ratio says
what consensus, disk and store cost on top. Rounds are interleaved (null, leader, follower, null, …)
so that a slow minute hits all alike; the table shows medians, and the spread beside them.

Client, nodes and null server share the machine's cores, as its CPU columns show. Needs
redis-benchmark (Debian: redis-tools). Writes `bench-results/hot-path-*.json`. Nothing here is a
test: nothing fails because it was slow.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.measure import (
    KEYS,
    REPOSITORY,
    RESULTS,
    VALUE_BYTES,
    BenchFailed,
    busy_warning,
    client_cpu_seconds,
    cpu_seconds,
    machine,
    memory_mib,
    redis_benchmark,
    spread,
)
from scripts.local_cluster import HOST, LocalCluster, LocalNode, NodeFailed, PortReservation

FAILOVERS = 5
SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to ask: so many clients, so many commands in flight on each."""

    clients: int
    pipeline: int
    requests: int


CELLS = (
    Cell(1, 1, 4_000),
    Cell(50, 1, 60_000),
    Cell(256, 1, 60_000),
    Cell(1000, 1, 60_000),
    Cell(50, 16, 200_000),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something to ask, and the processes whose CPU time that costs."""

    name: str
    port: int
    pids: tuple[int, ...]


@dataclass(slots=True)
class Series:
    """The rounds of one cell, target and command."""

    rps: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


Measured = dict[tuple[Cell, str, str], Series]
Busy = dict[tuple[Cell, str], list[tuple[float, float]]]


# --- asking -------------------------------------------------------------------------------------


def measure(targets: Sequence[Target], rounds: int, scale: float) -> tuple[Measured, Busy]:
    """All cells against all targets, interleaved."""
    measured: Measured = {}
    busy: Busy = {}
    for cell in CELLS:
        requests = max(cell.clients * cell.pipeline, int(cell.requests * scale))
        for _ in range(rounds):
            for target in targets:
                begin, server, client = (
                    time.monotonic(),
                    cpu_seconds(target.pids),
                    client_cpu_seconds(),
                )
                rows = redis_benchmark(
                    target.port, "set,get", cell.clients, requests, cell.pipeline
                )
                elapsed = time.monotonic() - begin
                cores = (
                    (cpu_seconds(target.pids) - server) / elapsed,
                    (client_cpu_seconds() - client) / elapsed,
                )
                busy.setdefault((cell, target.name), []).append(cores)
                for row in rows:
                    series = measured.setdefault((cell, target.name, row["test"]), Series())
                    series.rps.append(float(row["rps"]))
                    series.p50_ms.append(float(row["p50_latency_ms"]))
                    series.p99_ms.append(float(row["p99_latency_ms"]))
        print(f"  measured {cell.clients} clients, pipeline {cell.pipeline}", file=sys.stderr)
    return measured, busy


# --- servers ------------------------------------------------------------------------------------


@contextmanager
def null_server() -> Iterator[Target]:
    """The same stack without a node behind it."""
    reservation = PortReservation()
    script = str(REPOSITORY / "scripts" / "null_server.py")
    process = subprocess.Popen(
        [sys.executable, script, str(reservation.port)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, reservation.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise NodeFailed("the null server did not start") from None
                time.sleep(0.05)
        yield Target("null", reservation.port, (process.pid,))
    finally:
        process.kill()
        process.wait()
        reservation.release()


def targets_of(cluster: LocalCluster, null: Target) -> list[Target]:
    """The null server, the leader and one follower."""
    leader = cluster.wait_leader()
    follower = next(node for node in cluster.nodes if node is not leader)
    pids = tuple(node.pid for node in cluster.nodes)
    return [
        null,
        Target("leader", leader.ports.client, pids),
        Target("follower", follower.ports.client, pids),
    ]


def failover(cluster: LocalCluster, times: int) -> dict[str, Any]:
    """Kill -9 the leader; milliseconds until a survivor acknowledges a write begun then."""
    pauses, errors = [], []
    for number in range(times):
        leader = cluster.wait_leader()
        survivor = next(node for node in cluster.nodes if node is not leader)
        with socket.create_connection(survivor.address, 30) as connection:
            connection.sendall(b"PING\r\n")
            connection.recv(64)
            begin = time.monotonic()
            leader.kill()
            connection.sendall(b"SET failover %d\r\n" % number)
            answer = connection.recv(256)
            pauses.append((time.monotonic() - begin) * 1e3)
        if not answer.startswith(b"+OK"):
            errors.append(answer.decode(errors="replace").strip())
        leader.start()
        leader.wait_ready()
        time.sleep(SETTLE_SECONDS)
    return {
        "pauses_ms": [round(pause, 1) for pause in pauses],
        "median_ms": round(statistics.median(pauses), 1),
        "max_ms": round(max(pauses), 1),
        "errors": errors,
    }


# --- telling ------------------------------------------------------------------------------------


def table(measured: Measured, busy: Busy) -> str:
    """The figures as a Markdown table."""
    columns = (
        *("clients × pipeline", "command", "null/s"),
        *("leader/s", "of null", "follower/s", "of null"),
        *("leader p50 / p99 ms", "cores nodes + client"),
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for cell in CELLS:
        for command in ("SET", "GET"):
            null, leader, follower = (
                measured[cell, name, command] for name in ("null", "leader", "follower")
            )
            base, first, other = (statistics.median(s.rps) for s in (null, leader, follower))
            cores = busy[cell, "leader"]
            lines.append(
                f"| {cell.clients} × {cell.pipeline} | {command} "
                f"| {base:,.0f} {spread(null.rps)} "
                f"| {first:,.0f} {spread(leader.rps)} | {first / base:.2f} "
                f"| {other:,.0f} {spread(follower.rps)} | {other / base:.2f} "
                f"| {statistics.median(leader.p50_ms):.2f} / "
                f"{statistics.median(leader.p99_ms):.2f} "
                f"| {statistics.median(c[0] for c in cores):.2f} + "
                f"{statistics.median(c[1] for c in cores):.2f} |"
            )
    return "\n".join(lines)


def document(measured: Measured, busy: Busy, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, for machines."""
    rows = []
    for (cell, target, command), series in measured.items():
        base = statistics.median(measured[cell, "null", command].rps)
        middle = statistics.median(series.rps)
        rows.append(
            {
                "clients": cell.clients,
                "pipeline": cell.pipeline,
                "target": target,
                "command": command,
                "rps_median": round(middle),
                "rps": [round(rps) for rps in series.rps],
                "ratio_to_null": round(middle / base, 3),
                "p50_ms": round(statistics.median(series.p50_ms), 3),
                "p99_ms": round(statistics.median(series.p99_ms), 3),
                "cores_servers": round(statistics.median(c[0] for c in busy[cell, target]), 2),
                "cores_client": round(statistics.median(c[1] for c in busy[cell, target]), 2),
            }
        )
    return {**facts, "value_bytes": VALUE_BYTES, "keys": KEYS, "rows": rows}


def run(rounds: int, scale: float, failovers: int, directory: Path) -> None:
    """Start everything, measure, print the table and write the JSON file."""
    cluster = LocalCluster(directory)
    facts: dict[str, Any] = {"machine": machine(directory)}
    try:
        cluster.start()
        time.sleep(SETTLE_SECONDS)
        facts["memory_idle_mib"] = [memory_mib(node.pid) for node in cluster.nodes]
        with null_server() as null:
            targets = targets_of(cluster, null)
            prefill = max(1, int(KEYS * 10 * scale))
            for target in targets[1:]:
                redis_benchmark(target.port, "set,get", 50, prefill, 16)
            measured, busy = measure(targets, rounds, scale)
        facts["memory_after_mib"] = [memory_mib(node.pid) for node in cluster.nodes]
        facts["leader_changed"] = cluster.wait_leader().ports.client != targets[1].port
        facts["failover"] = failover(cluster, failovers) if failovers else {}
    finally:
        late: list[LocalNode] = cluster.stop()
        cluster.close()
    facts["killed_at_stop"] = [node.name for node in late]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"hot-path-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(document(measured, busy, facts), indent=2) + "\n")
    print(table(measured, busy), "\n")
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    if warning := busy_warning(facts["machine"]):
        print(warning)
    print(f"written: {path.relative_to(REPOSITORY)}")


def main() -> int:
    """Command line; 0 unless something did not run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.hot_path", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of requests")
    parser.add_argument("--failovers", type=int, default=FAILOVERS)
    arguments = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        print("redis-benchmark is not installed (Debian: apt install redis-tools)", file=sys.stderr)
        return 1
    # A thousand clients need more than the usual 1,024 descriptors, here and in the nodes.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="kvnode-bench-"))
    try:
        run(arguments.rounds, arguments.scale, arguments.failovers, directory)
    except (BenchFailed, NodeFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
