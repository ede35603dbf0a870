"""Who kvnode is measured beside: redis-server, etcd and PySyncObj, each at its fastest.

A comparison is worth what its losers would say about it, so every choice here favours the peer as
far as its promise allows:

* **redis-server** (one process, no replication) syncs its append-only file before it answers, and
  never rewrites that file during a run.
* **etcd** (three nodes) is asked at its leader, by a native load generator over one connection per
  core (`etcdload/main.go`; more of them only cost both sides system calls), and logs errors only.
* **PySyncObj** (three processes, journal on) has its clients inside the leader
  (`pysyncobj_node.py`), and runs with the settings that were fastest for the number of clients. Its
  short ticks would cost everybody else a tenth of a core or more, so it is started for its turn
  and stopped after it.

What is not installed is left out, with a sentence (`Unavailable`). Debian's packages: redis-server,
etcd-server, golang-go and golang-etcd-server-dev. PySyncObj comes from PyPI, by hash (`peers.txt`),
into build/ and not into the project's environment. All processes listen on loopback, and the kernel
kills them when the bench dies, however it dies (PR_SET_PDEATHSIG, by way of setpriv).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.measure import (
    HOST,
    KEYS,
    LOAD_SECONDS_MAX,
    REPOSITORY,
    VALUE_BYTES,
    BenchFailed,
    redis_benchmark,
    run_load,
)
from scripts.local_cluster import (
    LocalCluster,
    LocalNode,
    NodeFailed,
    PortReservation,
    Ports,
    kvnode_command,
)

BUILD = REPOSITORY / "build" / "peers"
SOURCES = REPOSITORY / "scripts" / "bench"
PREPARE_SECONDS_MAX = 300.0
"""Building the Go program or fetching from PyPI, before the clock of the bench starts."""
START_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
CONTROL_LINE_BYTES_MAX = 4096
CLUSTER_NODES = 3
GO_PACKAGES = Path("/usr/share/gocode")
"""Where Debian keeps the sources that golang-*-dev packages install."""
PREFILL = 4 * KEYS
PREFILL_CLIENTS = 256


class Unavailable(Exception):
    """A peer cannot be measured here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one load came to. Latencies in milliseconds."""

    ops_per_s: float
    p50_ms: float
    p99_ms: float


class Peer(ABC):
    """A system to ask.

    Attributes:
        name: in the table.
        promise: what an acknowledged write and a read mean, in one line.
        clients_inside: the load runs in a node, so that its CPU time cannot be told apart.
        version: as the system tells it.
        nodes: the processes that run now.
    """

    name = ""
    promise = ""
    clients_inside = False

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.version = ""
        self.nodes: Sequence[LocalNode] = ()

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU time and memory count."""
        return [node.pid for node in self.nodes]

    @abstractmethod
    def start(self) -> None:
        """Prepare, start and fill with keys.

        Raises:
            Unavailable: something is not installed.
            NodeFailed, BenchFailed: it did not come up.
        """

    @abstractmethod
    def ask(self, command: str, clients: int, requests: int) -> Answer:
        """Put one load on it: "SET" or "GET".

        Raises:
            BenchFailed: the load did not end, or was answered with errors.
        """

    @contextmanager
    def turn(self, clients: int) -> Iterator[None]:  # noqa: ARG002  # for those whom it concerns
        """What surrounds the loads with this number of clients."""
        yield

    def leader_name(self) -> str:
        """Who leads; empty where nobody does. A change during the run spoils the figures."""
        return ""

    def complaints(self) -> int:
        """Errors that the system itself logged."""
        return 0

    def stop(self) -> None:
        """Kill all processes. Nothing of the data is needed again."""
        for node in self.nodes:
            node.kill()

    def _reserve(self, count: int) -> list[Ports]:
        """Ports for so many nodes, ours until this process ends. (No third listener.)"""
        self._reservations = [PortReservation() for _ in range(2 * count)]
        numbers = [reservation.port for reservation in self._reservations]
        return [Ports(numbers[i], numbers[count + i], numbers[i]) for i in range(count)]

    def _add(
        self,
        name: str,
        ports: Ports,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start one process."""
        node = LocalNode(name, ports, self.directory, leashed(command), environment or {})
        self.nodes = [*self.nodes, node]
        node.start()

    def _await(self, condition: Callable[[], bool]) -> None:
        """Wait until the processes are ready.

        Raises:
            NodeFailed: one of them ended, or the deadline passed.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        while not condition():
            for node in self.nodes:
                if not node.alive():
                    raise NodeFailed(f"{self.name} {node.name} ended:\n{node.log_tail()}")
            if time.monotonic() > deadline:
                raise NodeFailed(f"{self.name} was not ready in {START_SECONDS_MAX:g} s")
            time.sleep(POLL_SECONDS)


class Kvnode(Peer):
    """Three nodes of this checkout, asked at the leader by redis-benchmark."""

    name = "kvnode"
    promise = "fdatasync on a majority of three before the reply; linearizable reads"

    def start(self) -> None:
        """Start the cluster."""
        self._cluster = LocalCluster(self.directory, CLUSTER_NODES, leashed(kvnode_command()))
        self.nodes = self._cluster.nodes
        self._cluster.start()
        self.version = str((self.nodes[0].status() or {}).get("version", ""))
        self._port = self._cluster.wait_leader().ports.client
        self.ask("SET", PREFILL_CLIENTS, PREFILL)

    def ask(self, command: str, clients: int, requests: int) -> Answer:
        """Ask whoever led at the start."""
        return ask_redis(self._port, command, clients, requests)

    def leader_name(self) -> str:
        """Who leads now."""
        leader = self._cluster.leader()
        return "" if leader is None else leader.name


class Redis(Peer):
    """One redis-server that syncs before it answers."""

    name = "redis-server"
    promise = "one process, not replicated; its append-only file is synced before the reply"

    def start(self) -> None:
        """Start the process."""
        self.version = tell("redis-server", "redis-server").partition(" sha")[0]
        (ports,) = self._reserve(1)
        self._add(
            "redis",
            ports,
            (
                *("redis-server", "--bind", HOST, "--port", str(ports.client)),
                *("--dir", str(self.directory), "--save", "", "--appendonly", "yes"),
                *("--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"),
            ),
        )
        self._await(lambda: all(accepts(node.ports.client) for node in self.nodes))
        self.ask("SET", PREFILL_CLIENTS, PREFILL)

    def ask(self, command: str, clients: int, requests: int) -> Answer:
        """Ask the only process there is."""
        return ask_redis(self.nodes[0].ports.client, command, clients, requests)


class Etcd(Peer):
    """Three nodes of etcd, asked at the leader by our Go program."""

    name = "etcd"
    promise = "fdatasync on a majority of three before the reply; linearizable reads"

    def start(self) -> None:
        """Build the load generator and start the cluster."""
        self.version = tell("etcd", "etcd-server")
        self._load = build_etcdload()
        ports = self._reserve(CLUSTER_NODES)
        peers = [f"http://{HOST}:{port.peer}" for port in ports]
        members = ",".join(f"n{i}={url}" for i, url in enumerate(peers, 1))
        for i, port in enumerate(ports, 1):
            client = f"http://{HOST}:{port.client}"
            command = (
                *("etcd", "--name", f"n{i}", "--data-dir", str(self.directory / f"n{i}")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peers[i - 1]),
                *("--initial-advertise-peer-urls", peers[i - 1]),
                *("--initial-cluster", members, "--initial-cluster-state", "new"),
                *("--enable-v2=false", "--logger", "zap", "--log-level", "error"),
            )
            self._add(f"n{i}", port, command)
        self._await(lambda: all(node.get_json("/health") for node in self.nodes))
        self._await(lambda: self.leader_name() != "")
        self._leader = next(node for node in self.nodes if node.name == self.leader_name())
        self.ask("SET", PREFILL_CLIENTS, PREFILL)

    def leader_name(self) -> str:
        """Who says of itself that it leads."""
        for node in self.nodes:
            try:
                _, metrics = node.get("/metrics")
            except (OSError, http.client.HTTPException):
                continue
            if b"\netcd_server_is_leader 1\n" in metrics:
                return node.name
        return ""

    def ask(self, command: str, clients: int, requests: int) -> Answer:
        """Ask whoever led at the start."""
        asked = (
            *(str(self._load), "-endpoints", f"{HOST}:{self._leader.ports.client}"),
            *("-operation", {"SET": "put", "GET": "range"}[command]),
            *("-clients", str(clients), "-requests", str(requests)),
            *("-connections", str(min(clients, os.cpu_count() or 1))),
            *("-keys", str(KEYS), "-value-bytes", str(VALUE_BYTES)),
            *("-deadline", f"{LOAD_SECONDS_MAX:g}s"),
        )
        return answer_of(json.loads(run_load(asked)))


class PySyncObj(Peer):
    """Three processes of PySyncObj, for one turn at a time."""

    name = "PySyncObj"
    promise = (
        "**no fsync at all**: a majority of three has it in memory and in a memory-mapped file; "
        "reads through the log (its own are local and may be stale); no client protocol"
    )
    clients_inside = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._complaints = 0

    def start(self) -> None:
        """Fetch the library. The processes start with each turn."""
        self._library = fetch_pysyncobj()
        self.version = next(self._library.glob("pysyncobj-*.dist-info")).stem
        self._ports = self._reserve(CLUSTER_NODES)

    @contextmanager
    def turn(self, clients: int) -> Iterator[None]:
        """Run three processes on empty journals."""
        try:
            self._launch(clients)
            self._await(lambda: self._find_leader() is not None)
            yield
            self._complaints += sum(
                self._order(node, do="status")["complaints"] for node in self.nodes
            )
        finally:
            self.stop()
            self.nodes = []

    def complaints(self) -> int:
        """Errors that it logged, over all turns so far."""
        return self._complaints

    def ask(self, command: str, clients: int, requests: int) -> Answer:
        """Have the leader ask itself."""
        leader = self._find_leader()
        if leader is None:
            raise BenchFailed("PySyncObj has no leader")
        figures = self._order(
            leader,
            do=command.lower(),
            clients=clients,
            requests=requests,
            keys=KEYS,
            value_bytes=VALUE_BYTES,
        )
        if "error" in figures:
            raise BenchFailed(f"PySyncObj: {figures['error']}")
        return answer_of(figures)

    def _launch(self, clients: int) -> None:
        # One client is answered fastest when nothing gathers, many when a millisecond's worth does.
        many = ("--batch", "--append-period", "0.001", "--tick", "0.001")
        settings = many if clients > 1 else ("--no-batch",)
        members = [f"{HOST}:{port.peer}" for port in self._ports]
        for i, port in enumerate(self._ports):
            journal = self.directory / f"journal-{i}"
            for old in self.directory.glob(f"{journal.name}*"):
                old.unlink()
            others = [flag for peer in members if peer != members[i] for flag in ("--other", peer)]
            command = (
                *(sys.executable, str(SOURCES / "pysyncobj_node.py"), *settings),
                *("--own", members[i], *others),
                *("--control", str(port.client), "--journal", str(journal)),
            )
            self._add(f"n{i + 1}", port, command, {"PYTHONPATH": str(self._library)})

    def _find_leader(self) -> LocalNode | None:
        """The node that all three call leader."""
        try:
            found = [self._order(node, do="status") for node in self.nodes]
        except OSError:
            return None
        names = {str(status["leader"]) for status in found if status["ready"]}
        for node in self.nodes:
            if len(found) == CLUSTER_NODES and names == {f"{HOST}:{node.ports.peer}"}:
                return node
        return None

    def _order(self, node: LocalNode, **request: Any) -> dict[str, Any]:
        """Send one line to a node's control port, and read one."""
        with socket.create_connection((HOST, node.ports.client), LOAD_SECONDS_MAX) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as reader:
                line = reader.readline(CONTROL_LINE_BYTES_MAX)
        answer: dict[str, Any] = json.loads(line or b'{"error": "no answer"}')
        return answer


# --- loads --------------------------------------------------------------------------------------


def ask_redis(port: int, command: str, clients: int, requests: int) -> Answer:
    """Ask a server that speaks Redis' protocol."""
    (row,) = redis_benchmark(port, command.lower(), clients, requests)
    return Answer(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def answer_of(figures: dict[str, Any]) -> Answer:
    """What our own load generators tell."""
    return Answer(figures["ops_per_s"], figures["p50_ms"], figures["p99_ms"])


# --- what must be there -------------------------------------------------------------------------


def leashed(command: Sequence[str]) -> tuple[str, ...]:
    """The command, to be killed by the kernel when this process dies."""
    if shutil.which("setpriv") is None:
        return tuple(command)
    return ("setpriv", "--pdeathsig", "KILL", "--", *command)


def accepts(port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def tell(program: str, package: str) -> str:
    """The version of a program, in its own words.

    Raises:
        Unavailable: it is not installed; `package` is what Debian calls it.
    """
    why = f"it is not installed (Debian: {package})"
    return prepare((program, "--version"), why).partition("\n")[0]


def prepare(command: Sequence[str], why: str, environment: Mapping[str, str] | None = None) -> str:
    """Run something that must succeed before a peer can start; what it printed.

    Raises:
        Unavailable: it did not succeed; the text is `why` and the last line that it said.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            text=True,
            timeout=PREPARE_SECONDS_MAX,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise Unavailable(f"{why}: no program {command[0]}") from None
    except subprocess.CalledProcessError as failure:
        said = failure.stderr.strip().splitlines() or [f"status {failure.returncode}"]
        raise Unavailable(f"{why}: {said[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise Unavailable(f"{why}: {failure}") from None
    return done.stdout


def build_etcdload() -> Path:
    """Build the load generator for etcd, offline and without modules, as Debian packages Go.

    Raises:
        Unavailable: the compiler or Debian's sources are not installed.
    """
    if not (GO_PACKAGES / "src" / "go.etcd.io" / "etcd").is_dir():
        raise Unavailable("its client is not installed (Debian: golang-etcd-server-dev)")
    target = BUILD / "etcdload"
    prepare(
        ("go", "build", "-o", str(target), str(SOURCES / "etcdload" / "main.go")),
        "its load generator could not be built (Debian: golang-go golang-etcd-server-dev)",
        {"GO111MODULE": "off", "GOPATH": str(GO_PACKAGES), "GOFLAGS": ""},
    )
    return target


def fetch_pysyncobj() -> Path:
    """Install PySyncObj into a directory of its own, if it is not there yet.

    Raises:
        Unavailable: it could not be fetched.
    """
    target = BUILD / "pysyncobj"
    if not list(target.glob("pysyncobj-*.dist-info")):
        command = (
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--target", str(target)),
            *("-r", str(SOURCES / "peers.txt")),
        )
        prepare(command, "it could not be fetched from PyPI")
    return target


PEERS: tuple[type[Peer], ...] = (Kvnode, Redis, Etcd, PySyncObj)
"""In the order of the table; the first is who the others are compared with."""
