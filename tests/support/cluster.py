"""What tests need of a running cluster, and a redis-server that stands in for one.

`NodeCluster` is the shared `LocalCluster` plus a directory that is removed when all went well and
kept, logs and all, when it did not. `RedisStandIn` answers to the same few names with one real
redis-server behind every "node": expectations that are written for kvnode are proven on the real
thing first.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from scripts.local_cluster import HOST, LocalCluster, NodeFailed, PortReservation

REDIS_READY_SECONDS_MAX = 10.0
REDIS_STOP_SECONDS_MAX = 10.0
REPOSITORY = Path(__file__).resolve().parents[2]


class Endpoints(Protocol):
    """A running thing that clients can talk to."""

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every node."""

    def finish(self, *, keep: bool) -> None:
        """Stop everything; keep data and logs if asked to."""


class NodeCluster(LocalCluster):
    """A cluster in a temporary directory."""

    def __init__(
        self,
        size: int = 3,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory = Path(tempfile.mkdtemp(prefix="kvnode-test-"))
        paths = {"PYTHONPATH": str(REPOSITORY)}
        super().__init__(directory, size, command, {**paths, **(environment or {})})

    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every node's client listener."""
        return [node.address for node in self.nodes]

    def finish(self, *, keep: bool) -> None:
        """Stop all nodes, and remove their directory unless it is still needed."""
        self.stop()
        self.close()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)


class RedisStandIn:
    """One redis-server in place of a cluster.

    Raises:
        NodeFailed: it did not answer in time.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvnode-redis-"))
        self._reservation = PortReservation()
        self._process = subprocess.Popen(
            [
                "redis-server",
                *("--bind", HOST),
                *("--port", str(self._reservation.port)),
                *("--save", ""),
                *("--enable-debug-command", "yes"),
                *("--maxmemory-policy", "noeviction"),
                *("--dir", str(self.directory)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait_ready()

    def _wait_ready(self) -> None:
        probe = ["redis-cli", "-p", str(self._reservation.port), "PING"]
        deadline = time.monotonic() + REDIS_READY_SECONDS_MAX
        while subprocess.run(probe, capture_output=True, check=False).stdout.strip() != b"PONG":
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise NodeFailed("redis-server did not start")
            time.sleep(0.02)

    def addresses(self) -> list[tuple[str, int]]:
        """The one address, as if it were three."""
        return [(HOST, self._reservation.port)] * 3

    def finish(self, *, keep: bool) -> None:
        """Stop the server."""
        self._process.terminate()
        try:
            self._process.wait(REDIS_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:  # it is in the middle of a command
            self._process.kill()
            self._process.wait()
        self._reservation.release()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
