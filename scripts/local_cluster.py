"""Real node processes on free loopback ports: what the demo, the benches and the tests start.

Three things are easy to get wrong here, so they are done once:

* **Ports.** Looking for a free port and releasing it again is a race. Each port is bound with
  SO_REUSEADDR and *stays* bound, without listening, as long as the cluster object lives. Linux lets
  the node bind the same address (both sockets set SO_REUSEADDR and only one listens), and hands the
  port to nobody else, not even while the node is down.
* **Signals.** Each node leads its own session. Ctrl-C in a terminal reaches the foreground process
  group only, so it reaches whoever owns the cluster, who then stops the nodes once. A node that got
  the signal twice would take the second one for "exit at once".
* **Waiting.** A node is up when `/readyz` says so, within a deadline; a node that ends meanwhile is
  reported at once, with the end of its log.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
READY_SECONDS_MAX = 30.0
"""A node that is not ready by then will not be: it has nothing to load that takes longer."""
POLL_SECONDS = 0.05
STOP_SECONDS_MAX = 8.0
"""A graceful stop of all nodes; what is left is killed, so that ten seconds always suffice."""
LOG_TAIL_BYTES = 4096


class NodeFailed(Exception):
    """A node ended, or did not become ready, while the caller waited for it."""


class PortReservation:
    """A loopback port that no one else is given while this object lives.

    Attributes:
        port: the TCP port.
    """

    __slots__ = ("_socket", "port")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            # Elsewhere a bound port is taken, whoever asks: the race is the lesser evil.
            self._socket.close()

    def release(self) -> None:
        """Give the port back."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Ports:
    """The three listeners of one node."""

    client: int
    peer: int
    admin: int


def kvnode_command() -> tuple[str, ...]:
    """The command that starts kvnode in the interpreter that runs us, installed or not."""
    return (sys.executable, "-c", "from kvnode.cli import main; main()")


class LocalNode:
    """One node process: started, killed and started again on the same ports and data.

    Attributes:
        host: where it listens.
    """

    host = HOST

    def __init__(
        self,
        name: str,
        ports: Ports,
        directory: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.ports = ports
        self.data = directory / name
        self.log_path = directory / f"{name}.log"
        self.arguments = tuple(arguments)
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self.host, self.ports.client

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            NodeFailed: the node was never started.
        """
        if self.process is None:
            raise NodeFailed(f"{self.name} was never started")
        return self.process.pid

    def alive(self) -> bool:
        """Tell whether the process runs (and reap it if it has ended)."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process in a session of its own; its output goes to the end of `log_path`."""
        if self.alive():
            raise NodeFailed(f"{self.name} runs already, as process {self.pid}")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this node, if it runs."""
        if self.process is not None and self.alive():
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9, and wait until the kernel has closed all of the node's sockets and locks."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait_exit(self, seconds: float) -> int | None:
        """Wait for the process to end; its exit code, or None if it still runs."""
        if self.process is None:
            return None
        try:
            return self.process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return None

    def log_tail(self) -> str:
        """The last few lines that the node wrote."""
        if not self.log_path.exists():
            return "(no log)"
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def get(self, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
        """Ask the admin port.

        Returns:
            The HTTP status and the body.

        Raises:
            OSError, http.client.HTTPException: the admin port did not answer.
        """
        connection = http.client.HTTPConnection(self.host, self.ports.admin, timeout=timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get_json(self, path: str, timeout_s: float = 2.0) -> dict[str, Any] | None:
        """What the admin port answers as JSON, or None while it does not answer 200."""
        try:
            code, body = self.get(path, timeout_s)
        except (OSError, http.client.HTTPException):
            return None
        if code != http.HTTPStatus.OK:
            return None
        document = json.loads(body)
        return document if isinstance(document, dict) else None

    def status(self) -> dict[str, Any] | None:
        """The node's `/status`, or None while it does not answer."""
        return self.get_json("/status")

    def ready(self) -> bool:
        """Tell whether `/readyz` says yes now."""
        try:
            return self.get("/readyz")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(
        self, seconds: float = READY_SECONDS_MAX, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until the node serves clients, or until `give_up` says so.

        Raises:
            NodeFailed: the process ended, or the deadline passed; the text carries its log's end.
        """
        deadline = time.monotonic() + seconds
        while not self.ready() and not give_up():
            if not self.alive():
                code = None if self.process is None else self.process.returncode
                raise NodeFailed(f"{self.name} ended with exit code {code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise NodeFailed(f"{self.name} not ready after {seconds:g} s:\n{self.log_tail()}")
            time.sleep(POLL_SECONDS)


class LocalCluster:
    """Nodes n1, n2, … that know each other, with data and logs under one directory.

    Args:
        directory: where data directories and logs go; created, never removed here.
        size: number of nodes.
        command: what starts a node; the flags of `kvnode serve` are put behind it.
        environment: variables for the nodes, over our own.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._reservations = [PortReservation() for _ in range(3 * size)]
        numbers = iter(reservation.port for reservation in self._reservations)
        ports = [Ports(next(numbers), next(numbers), next(numbers)) for _ in range(size)]
        members = ",".join(f"n{i}={HOST}:{port.peer}" for i, port in enumerate(ports, 1))
        self.nodes = [
            LocalNode(
                f"n{i}",
                port,
                directory,
                (*(command or kvnode_command()), *_serve_flags(f"n{i}", members, port, directory)),
                environment or {},
            )
            for i, port in enumerate(ports, 1)
        ]

    def launch(self) -> None:
        """Start all processes; returns at once."""
        for node in self.nodes:
            node.start()

    def start(self, ready_seconds: float = READY_SECONDS_MAX) -> None:
        """Start all nodes and wait until each one serves clients.

        Raises:
            NodeFailed: a node ended or was not ready in time. The others are killed.
        """
        try:
            self.launch()
            for node in self.nodes:
                node.wait_ready(ready_seconds)
        except BaseException:
            self.kill()
            raise

    def leader(self) -> LocalNode | None:
        """The node that leads in the highest term, or None while nobody says so."""
        claims: list[tuple[int, LocalNode]] = []
        for node in self.nodes:
            status = node.status() if node.alive() else None
            if status is not None and status.get("role") == "leader":
                claims.append((int(status["term"]), node))
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def wait_leader(self, seconds: float = READY_SECONDS_MAX) -> LocalNode:
        """Wait until somebody leads.

        Raises:
            NodeFailed: nobody did before the deadline.
        """
        deadline = time.monotonic() + seconds
        while (leader := self.leader()) is None:
            if time.monotonic() > deadline:
                raise NodeFailed(f"no leader after {seconds:g} s")
            time.sleep(POLL_SECONDS)
        return leader

    def request_stop(self) -> None:
        """Ask every node to stop; returns at once."""
        for node in self.nodes:
            node.send(signal.SIGTERM)

    def wait_stopped(self, seconds: float = STOP_SECONDS_MAX) -> list[LocalNode]:
        """Wait for all nodes to end, and kill what is left after the deadline.

        Returns:
            The nodes that had to be killed.
        """
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            node.wait_exit(deadline - time.monotonic())
        late = [node for node in self.nodes if node.alive()]
        self.kill()
        return late

    def stop(self, seconds: float = STOP_SECONDS_MAX) -> list[LocalNode]:
        """Stop all nodes gracefully; those that had to be killed are returned."""
        self.request_stop()
        return self.wait_stopped(seconds)

    def kill(self) -> None:
        """Kill -9 all nodes."""
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """Kill what runs and give the ports back."""
        self.kill()
        for reservation in self._reservations:
            reservation.release()


def _serve_flags(name: str, members: str, ports: Ports, directory: Path) -> tuple[str, ...]:
    return (
        "serve",
        *("--node", name),
        *("--cluster", members),
        *("--listen", f"{HOST}:{ports.client}"),
        *("--admin", f"{HOST}:{ports.admin}"),
        *("--data", str(directory / name)),
    )
