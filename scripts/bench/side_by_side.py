"""Side by side: kvnode, redis-server, etcd and PySyncObj on one machine, in one run.

Absolute figures of a shared machine say little, so all systems take turns within seconds of each
other: round by round, number of clients by number of clients, everybody in the same order. A ratio
is taken within a round, between loads that ran next to each other, and the median of the rounds is
told; the spread of the rounds stands beside every figure.

Every load is a closed loop: each client has one command in flight. 64-byte values, 10,000 keys,
writes and linearizable reads. A load lasts about the same time for everybody: how many requests
that takes is known from the round before. Servers and load generator share the cores, as everywhere
on one machine, so the CPU time of both is told per 1,000 operations: a load generator that costs
more takes it from its server. What each system promises for its figures, and what it does not, is
part of the table; `peers.py` says how each one is set up.

Bounded in time: rounds stop before the limit. Everything listens on loopback and is killed at the
end. Writes `bench-results/side-by-side-*.json` and `*.md`. Nothing here is a test: nothing fails
because it was slow.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.measure import (
    KEYS,
    REPOSITORY,
    RESULTS,
    VALUE_BYTES,
    BenchFailed,
    client_cpu_seconds,
    cpu_seconds,
    machine,
    machine_time,
    memory_mib,
    own_cpu_seconds,
    spread,
)
from scripts.bench.peers import PEERS, Answer, Peer, Unavailable
from scripts.local_cluster import NodeFailed

CLIENTS = (1, 50, 256, 1000)
COMMANDS = ("SET", "GET")
RUN_SECONDS_MAX = 300.0
"""After that no round begins; with the one under way a run stays below six minutes."""
IDLE_SECONDS = 2.0
REQUESTS_PER_CLIENT_MIN = 8
REQUESTS_MIN = 200
REQUESTS_MAX = 2_000_000
BYSTANDERS_CORES_MAX = 0.3
"""Above that the figures are not worth quoting. (The kernel's own threads for the disk count.)"""
TARGETS = (("SET", 256, "etcd", 2.2), ("GET", 256, "etcd", 5.0))
"""Command, clients, peer, and how many times as fast kvnode means to be."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One question to one system."""

    clients: int
    command: str
    system: str


@dataclass(slots=True)
class Series:
    """What the rounds of one cell gave. CPU seconds are per 1,000 operations."""

    ops_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    server_cpu_s: list[float] = field(default_factory=list)
    client_cpu_s: list[float] = field(default_factory=list)

    def add(self, answer: Answer, server_cpu_s: float, client_cpu_s: float) -> None:
        """Add one round."""
        self.ops_per_s.append(answer.ops_per_s)
        self.p50_ms.append(answer.p50_ms)
        self.p99_ms.append(answer.p99_ms)
        self.server_cpu_s.append(server_cpu_s)
        self.client_cpu_s.append(client_cpu_s)


class Run:
    """One run over several systems.

    Attributes:
        peers: those that still take part; the first one is who the others are compared with.
        measured: what came of it.
        left_out: a sentence about each system that does not take part, or no more.
        memory: of each system's nodes, first and last seen.
        rounds: complete ones.
    """

    def __init__(self, peers: Sequence[Peer], clients: Sequence[int], seconds: float) -> None:
        self.peers = list(peers)
        self.clients = tuple(clients)
        self.seconds = seconds
        self.measured: dict[Cell, Series] = {}
        self.left_out: list[str] = []
        self.memory: dict[str, dict[str, list[dict[str, float]]]] = {}
        self.rounds = 0
        self._rates: dict[Cell, float] = {}

    def start(self) -> None:
        """Start everybody; who cannot is left out."""
        for peer in tuple(self.peers):
            try:
                peer.start()
            except (Unavailable, NodeFailed, BenchFailed) as failure:
                self._leave_out(peer, failure)

    def take_rounds(self, rounds: int, begin: float) -> None:
        """Warm up, then measure until the rounds are done or the time is over.

        Args:
            rounds: at most so many.
            begin: when the run began, by the monotonic clock.
        """
        self._round(keep=False)
        while self.rounds < rounds:
            started = time.monotonic()
            self._round(keep=True)
            self.rounds += 1
            print(f"  round {self.rounds} of {rounds}", file=sys.stderr)
            now = time.monotonic()
            if now - begin + (now - started) > RUN_SECONDS_MAX:
                break

    def _round(self, keep: bool) -> None:
        for clients in self.clients:
            for peer in tuple(self.peers):
                try:
                    with peer.turn(clients):
                        self._turn(peer, clients, keep)
                except (NodeFailed, BenchFailed, OSError) as failure:
                    self._leave_out(peer, failure)

    def _turn(self, peer: Peer, clients: int, keep: bool) -> None:
        seen = self.memory.setdefault(peer.name, {})
        seen.setdefault("before", [memory_mib(pid) for pid in peer.pids])
        for command in COMMANDS:
            cell = Cell(clients, command, peer.name)
            requests = requests_for(clients, self._rates.get(cell, 0.0) * self.seconds)
            server, client = cpu_seconds(peer.pids), client_cpu_seconds()
            answer = peer.ask(command, clients, requests)
            self._rates[cell] = answer.ops_per_s
            if keep:
                self.measured.setdefault(cell, Series()).add(
                    answer,
                    (cpu_seconds(peer.pids) - server) / requests * 1e3,
                    (client_cpu_seconds() - client) / requests * 1e3,
                )
        seen["after"] = [memory_mib(pid) for pid in peer.pids]

    def _leave_out(self, peer: Peer, failure: Exception) -> None:
        """Go on without a peer. Its figures so far are dropped: they would not be comparable.

        Raises:
            Exception: the failure itself, if there would be nobody to compare the others with.
        """
        peer.stop()
        if peer is self.peers[0]:
            raise failure
        self.peers.remove(peer)
        self.measured = {cell: s for cell, s in self.measured.items() if cell.system != peer.name}
        self.left_out.append(f"{peer.name} is left out: {failure}")
        print(self.left_out[-1], file=sys.stderr)


def requests_for(clients: int, wanted: float) -> int:
    """How many requests to send: enough to be a closed loop, and within bounds."""
    floor = max(REQUESTS_MIN, clients * REQUESTS_PER_CLIENT_MIN)
    return min(max(floor, int(wanted)), REQUESTS_MAX)


class Bystanders:
    """What others took of the machine since this object was made, the kernel's threads included."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._machine = machine_time()
        self._children = client_cpu_seconds()
        self._own = own_cpu_seconds()

    def cores(self, peers: Sequence[Peer]) -> dict[str, float]:
        """Average cores that others used, and that the host of a virtual machine took.

        Args:
            peers: those that still run, started since this object was made.
        """
        now, elapsed = machine_time(), time.monotonic() - self._begin
        ours = client_cpu_seconds() - self._children + own_cpu_seconds() - self._own
        ours += sum(cpu_seconds(peer.pids) for peer in peers)
        return {
            "others": round(max(0.0, now.used - self._machine.used - ours) / elapsed, 2),
            "stolen": round((now.stolen - self._machine.stolen) / elapsed, 2),
        }


def idle_cores(peers: Sequence[Peer]) -> dict[str, float]:
    """How much of a core each system takes while nobody asks it: the others pay that."""
    before = {peer.name: cpu_seconds(peer.pids) for peer in peers}
    time.sleep(IDLE_SECONDS)
    return {
        peer.name: round((cpu_seconds(peer.pids) - before[peer.name]) / IDLE_SECONDS, 3)
        for peer in peers
        if peer.pids
    }


# --- telling ------------------------------------------------------------------------------------


def ratio(run: Run, cell: Cell) -> float:
    """How many times as fast the first system is: the median of the rounds' own ratios."""
    ours = run.measured[Cell(cell.clients, cell.command, run.peers[0].name)].ops_per_s
    theirs = run.measured[cell].ops_per_s
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def rows(run: Run) -> Iterator[tuple[Cell, Series, Peer]]:
    """The cells in the order of the table."""
    for clients in run.clients:
        for command in COMMANDS:
            for peer in run.peers:
                cell = Cell(clients, command, peer.name)
                yield cell, run.measured[cell], peer


def table(run: Run) -> str:
    """The figures as a Markdown table."""
    ours = run.peers[0].name
    columns = (
        *("clients", "command", "system", "ops/s", f"{ours} is", "p50 / p99 ms"),
        "CPU s per 1,000 ops: servers + client",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for cell, series, peer in rows(run):
        times = "" if peer.name == ours else f"{ratio(run, cell):.2f} ×"
        middle = statistics.median
        client = "inside" if peer.clients_inside else f"{middle(series.client_cpu_s):.3f}"
        lines.append(
            f"| {cell.clients} | {cell.command} | {peer.name} "
            f"| {middle(series.ops_per_s):,.0f} {spread(series.ops_per_s)} | {times} "
            f"| {middle(series.p50_ms):.2f} / {middle(series.p99_ms):.2f} "
            f"| {middle(series.server_cpu_s):.3f} + {client} |"
        )
    return "\n".join(lines)


def verdicts(run: Run) -> list[str]:
    """What was meant to be reached, and whether it was."""
    said = []
    for command, clients, system, wanted in TARGETS:
        cell = Cell(clients, command, system)
        if cell in run.measured:
            found = ratio(run, cell)
            word = "reached" if found >= wanted else "missed"
            said.append(
                f"{command} at {clients} clients: {found:.2f} × {system} "
                f"(meant to be ≥ {wanted:g}): {word}"
            )
    return said


def conditions(run: Run, facts: dict[str, Any]) -> str:
    """On what, and how, in one paragraph."""
    box = facts["machine"]
    sync, others = box["fdatasync"], facts["bystanders"]
    return (
        f"{box['cpu']}, {box['cores']} cores, Linux {box['kernel']}, {box['file_system']}, Python "
        f"{box['python']}; fdatasync {sync['median_us']:.0f} µs median, {sync['p99_us']:.0f} µs "
        f"p99. Meanwhile others used {others['others']} cores, the host took {others['stolen']}. "
        f"{VALUE_BYTES}-byte values, {KEYS:,} keys, everything on loopback. Medians of "
        f"{run.rounds} interleaved rounds, and their spread."
    )


def text(run: Run, facts: dict[str, Any]) -> str:
    """All of it as Markdown."""
    systems = (
        f"- **{peer.name}** ({peer.version}): {peer.promise}."
        f"{memory_text(run.memory[peer.name])}{complaint(peer)}"
        for peer in run.peers
    )
    parts = (
        conditions(run, facts),
        table(run),
        "\n".join(systems),
        *run.left_out,
        *verdicts(run),
        facts["leader_changes"],
        disturbed(facts["bystanders"]),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def memory_text(memory: dict[str, list[dict[str, float]]]) -> str:
    """Resident memory of the nodes."""
    told = [
        f"{when} {' / '.join(str(round(node['rss'])) for node in nodes)}"
        for when, nodes in memory.items()
    ]
    return f" Resident MiB per node: {', '.join(told)}."


def disturbed(bystanders: dict[str, float]) -> str:
    """A sentence when somebody else used the machine; empty otherwise."""
    taken = sum(bystanders.values())
    if taken <= BYSTANDERS_CORES_MAX:
        return ""
    return f"Warning: {taken:.2f} cores were taken by others during the run; do not quote it."


def complaint(peer: Peer) -> str:
    """A sentence about the errors that a system logged itself."""
    count = peer.complaints()
    return f" It logged {count} errors during the loads." if count else ""


def document(run: Run, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, for machines."""
    found = []
    for cell, series, peer in rows(run):
        middle = statistics.median
        found.append(
            {
                "clients": cell.clients,
                "command": cell.command,
                "system": cell.system,
                "ops_per_s_median": round(middle(series.ops_per_s)),
                "ops_per_s": [round(ops) for ops in series.ops_per_s],
                "ratio_of_first": round(ratio(run, cell), 3),
                "p50_ms": round(middle(series.p50_ms), 3),
                "p99_ms": round(middle(series.p99_ms), 3),
                "servers_cpu_s_per_1000_ops": round(middle(series.server_cpu_s), 4),
                "client_cpu_s_per_1000_ops": (
                    None if peer.clients_inside else round(middle(series.client_cpu_s), 4)
                ),
            }
        )
    systems = {
        peer.name: {
            "version": peer.version,
            "promise": peer.promise,
            "memory_mib": run.memory[peer.name],
            "errors_logged": peer.complaints(),
        }
        for peer in run.peers
    }
    return {
        **facts,
        "value_bytes": VALUE_BYTES,
        "keys": KEYS,
        "rounds": run.rounds,
        "systems": systems,
        "left_out": run.left_out,
        "targets": verdicts(run),
        "rows": found,
    }


def measure(run: Run, rounds: int, directory: Path) -> dict[str, Any]:
    """Start everything, measure, stop everything; the facts beside the figures."""
    facts: dict[str, Any] = {"machine": machine(directory)}
    begin, bystanders = time.monotonic(), Bystanders()
    everybody = tuple(run.peers)
    try:
        run.start()
        facts["idle_cores"] = idle_cores(run.peers)
        leaders = {peer.name: peer.leader_name() for peer in run.peers}
        run.take_rounds(rounds, begin)
        moved = [peer.name for peer in run.peers if peer.leader_name() != leaders[peer.name]]
        facts["leader_changes"] = f"The leader changed: {', '.join(moved)}." if moved else ""
        facts["bystanders"] = bystanders.cores(run.peers)
    finally:
        for peer in everybody:
            peer.stop()
    facts["run_seconds"] = round(time.monotonic() - begin)
    return facts


def publish(run: Run, facts: dict[str, Any]) -> None:
    """Print the figures and write them into `bench-results`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"side-by-side-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(document(run, facts), indent=2, ensure_ascii=False) + "\n")
    markdown = path.with_suffix(".md")
    markdown.write_text(text(run, facts))
    print(text(run, facts))
    print(f"idle cores: {facts['idle_cores']}; the run took {facts['run_seconds']} s")
    print(f"written: {path.relative_to(REPOSITORY)} and {markdown.name}")


def main() -> int:
    """Command line; 0 unless kvnode itself did not run."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.side_by_side", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one load")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--directory", type=Path, help="on the disk to measure (default: /tmp)")
    arguments = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        print("redis-benchmark is not installed (Debian: apt install redis-tools)", file=sys.stderr)
        return 1
    # A thousand clients need more than the usual 1,024 descriptors, here and in the nodes.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # through every `finally`
    directory = Path(tempfile.mkdtemp(prefix="kvnode-bench-", dir=arguments.directory))
    run = Run([peer(directory / peer.name) for peer in PEERS], arguments.clients, arguments.seconds)
    try:
        publish(run, measure(run, arguments.rounds, directory))
    except (BenchFailed, NodeFailed, Unavailable, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
