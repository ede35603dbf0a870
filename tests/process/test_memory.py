"""`kvnode serve` in a memory cgroup that the kernel enforces: the ladder, and the way out.

A neighbour in the same cgroup holds memory at the test's command, so that each rung is entered when
the test wants it. Where no cgroup can be made the tests that need one are skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from kvnode.limits import STOP_MEMORY_SECONDS_MAX
from scripts.local_cluster import LocalNode
from tests.support.cgroup import CgroupUnavailable, MemoryCgroup
from tests.support.cluster import NodeCluster
from tests.support.hog import Hog

pytestmark = pytest.mark.cluster

MIB = 1 << 20
LIMIT_MIB = 512
AUTO_MIB = LIMIT_MIB * 85 // 100
EXIT_SECONDS = 20.0
LEAVE_SECONDS = STOP_MEMORY_SECONDS_MAX + 2.0
"""The short stop, and what a busy machine adds."""
CHANGE_SECONDS = 10.0
AUTO = {"KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "auto"}


class Stage:
    """A cluster whose first node lives in a cgroup, and a neighbour of that node."""

    def __init__(self, size: int, limit_mib: int = LIMIT_MIB) -> None:
        self.cluster = NodeCluster(size, environment=AUTO)
        self.node = self.cluster.nodes[0]
        try:
            name = f"kvnode-memory-{self.node.ports.client}"
            self.cgroup = MemoryCgroup.make(name, limit_mib * MIB)
        except CgroupUnavailable as reason:
            self.cluster.finish(keep=False)
            pytest.skip(str(reason))
        self.node.arguments = self.cgroup.command(self.node.arguments)
        self.hog = Hog(self.cgroup)

    def close(self) -> None:
        self.hog.close()
        for node in self.cluster.nodes:
            node.send(signal.SIGCONT)
        self.cluster.kill()
        self.cluster.finish(keep=False)
        self.cgroup.remove()

    def push_to(self, share_percent: float) -> None:
        """Let the neighbour grow until so much of the limit cannot be evicted."""
        memory = status_of(self.node)["memory"]
        own_mib = max(memory["rss_anon_bytes"] + memory["workers_bytes"], 0) // MIB
        self.hog.hold(max(1, int(LIMIT_MIB * share_percent / 100) - own_mib))


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One node in a cgroup; it runs."""
    yield from on_stage(1)


@pytest.fixture
def three() -> Iterator[Stage]:
    """Three nodes; they run, and the first of them lives in a cgroup."""
    yield from on_stage(3)


def on_stage(size: int) -> Iterator[Stage]:
    made = Stage(size)
    try:
        made.cluster.start()
        yield made
    finally:
        made.close()


def client(node: LocalNode) -> redis.Redis:
    return redis.Redis(*node.address, retry=None, socket_timeout=5)


def status_of(node: LocalNode) -> dict:  # type: ignore[type-arg]
    status = node.status()
    assert status is not None
    return status


def until(condition: Callable[[], bool], what: str, seconds: float = CHANGE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def on_rung(node: LocalNode, rung: str) -> Callable[[], bool]:
    return lambda: status_of(node)["memory"]["rung"] == rung


def test_auto_is_a_share_of_the_cgroups_limit(stage: Stage) -> None:
    memory = status_of(stage.node)["memory"]
    assert memory["limit_bytes"] == LIMIT_MIB * MIB
    assert memory["threshold_bytes"] == LIMIT_MIB * MIB * 85 // 100
    assert memory["rung"] == "calm"
    assert memory["rss_anon_bytes"] > 0
    assert 0 < memory["cgroup_bytes"] < memory["threshold_bytes"]


def test_a_node_climbs_the_ladder_comes_down_again_and_leaves_at_its_end(stage: Stage) -> None:
    node = stage.node
    with client(node) as old:
        old.set("k", "v")
        old.set("gone", "v")

        stage.push_to(64)
        until(on_rung(node, "shed"), "shed is entered at 60 %")
        assert node.ready()
        assert old.set("k", "w"), "writes are still taken"

        stage.push_to(74)
        until(on_rung(node, "refuse"), "refuse is entered at 70 %")
        assert not node.ready()
        assert b"[-]memory" in node.get("/readyz?verbose")[1]
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            old.set("k", "x")
        assert old.get("k") == b"w"
        assert old.delete("gone") == 1
        with socket.create_connection(node.address, 5) as new:
            new.sendall(b"PING\r\n")
            new.settimeout(0.3)
            with pytest.raises(TimeoutError):
                new.recv(100)
            stage.hog.hold(1)
            until(on_rung(node, "calm"), "the ladder is left when memory is there again")
            new.settimeout(5)
            assert new.recv(100) == b"+PONG\r\n", "who had to wait is let in"
        assert node.ready()
        assert old.set("k", "y")
        assert old.info("memory")["memory_rung"] == "calm"

    stage.push_to(92)
    assert node.wait_exit(LEAVE_SECONDS) == 2
    told = node.log_path.read_text()
    assert told.count("memory pressure shutdown") == 1
    assert "memory rung entered" in told
    assert "memory rung left" in told
    assert stage.cgroup.oom_kills() == 0

    stage.hog.hold(1)
    node.start()
    node.wait_ready()
    status = status_of(node)
    assert status["last_exit"]["code"] == "2"
    assert "memory has reached" in status["last_exit"]["reason"]
    assert status["wal"]["last_repair"] is None
    assert 'kvnode_exits_total{code="2"} 1.0' in node.get("/metrics")[1].decode()
    with client(node) as back:
        assert back.get("k") == b"y"


def test_stuck_peers_and_a_client_that_never_reads_do_not_delay_the_exit(three: Stage) -> None:
    node = three.node
    three.cluster.wait_leader()
    with client(node) as connection:
        connection.set("k", bytes(MIB))
    with socket.create_connection(node.address) as silent:
        silent.sendall(b"GET k\r\n" * 20)
        for other in three.cluster.nodes[1:]:
            other.send(signal.SIGSTOP)
        with socket.create_connection(node.address) as hanging:
            hanging.sendall(b"SET k w\r\n")  # nobody is there to commit it
            three.push_to(92)
            assert node.wait_exit(LEAVE_SECONDS) == 2
    assert three.cgroup.oom_kills() == 0


BLOCKED_DISK = """
import sys, time
from pathlib import Path
from kvnode import cli, server
from wal.fs import PosixFileSystem

gate = Path(sys.argv.pop(1))

class Blocked(PosixFileSystem):
    def fdatasync(self, fd):
        while gate.exists():
            time.sleep(0.01)
        super().fdatasync(fd)

run = server.run
server.run = lambda config: run(config, Blocked())
cli.main()
"""


def test_a_blocked_disk_does_not_delay_the_exit_nor_hide_its_reason(
    stage: Stage, tmp_path: Path
) -> None:
    node, gate = stage.node, tmp_path / "gate"
    node.send(signal.SIGTERM)
    assert node.wait_exit(EXIT_SECONDS) == 0
    plain = node.arguments
    at = plain.index(sys.executable)
    node.arguments = (*plain[: at + 1], "-c", BLOCKED_DISK, str(gate), *plain[at + 3 :])
    node.start()
    node.wait_ready()
    gate.touch()
    with socket.create_connection(node.address) as connection:
        connection.sendall(b"SET k v\r\n")
        until(lambda: bool(status_of(node)["wal"]["sync_wait_ms"]), "the log waits for its disk")
        stage.push_to(92)
        assert node.wait_exit(LEAVE_SECONDS) == 2
    gate.unlink()
    stage.hog.hold(1)
    node.arguments = plain
    node.start()
    node.wait_ready()
    assert status_of(node)["last_exit"]["code"] == "2"


def test_nobody_who_reads_its_log_and_the_exit_code_is_still_2(
    stage: Stage, tmp_path: Path
) -> None:
    node, pipe = stage.node, tmp_path / "pipe"
    node.send(signal.SIGTERM)
    assert node.wait_exit(EXIT_SECONDS) == 0
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(reader, b"x" * 512)
    node.arguments = ("/bin/sh", "-c", f'exec "$0" "$@" 2>"{pipe}"', *node.arguments)
    node.start()
    node.wait_ready()
    stage.push_to(92)
    assert node.wait_exit(LEAVE_SECONDS) == 2
    os.close(reader)


RACE = """
import asyncio, sys
from kvnode.admission.fence import Fence
from kvnode.admission.memory import ProcMeter
from kvnode.watchdog import MemoryWatchdog

async def main():
    meter = ProcMeter()
    threshold = meter.limit_bytes * 85 // 100
    dog = MemoryWatchdog(threshold, 20, meter, fence=Fence(meter.limit_bytes))
    hoard = []
    async with asyncio.TaskGroup() as group:
        group.create_task(dog.run())
        await asyncio.sleep(0.05)
        for _ in range(int(sys.argv[2])):  # the loop is blocked
            try:
                hoard.append(b"x" * int(sys.argv[1]))
            except MemoryError:
                print("refused", flush=True)
        sys.exit(0)

asyncio.run(main())
"""


def race(block_bytes: int, blocks: int) -> tuple[int, int, bytes]:
    """Allocate in a cgroup of 192 MiB; the exit code, the kernel's kills, and what was said."""
    try:
        cgroup = MemoryCgroup.make(f"kvnode-race-{os.getpid()}", 192 * MIB)
    except CgroupUnavailable as reason:
        pytest.skip(str(reason))
    try:
        command = cgroup.command((sys.executable, "-c", RACE, str(block_bytes), str(blocks)))
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)
        return done.returncode, cgroup.oom_kills(), done.stdout
    finally:
        cgroup.remove()


@pytest.mark.parametrize("block_bytes", [1 << 10, 1 << 20, 1 << 25])
def test_nobody_allocates_faster_than_the_watchdog_leaves(block_bytes: int) -> None:
    code, kills, _ = race(block_bytes, blocks=10**9)
    assert (code, kills) == (2, 0)


def test_what_alone_is_more_than_there_is_fails_and_nobody_has_to_leave() -> None:
    assert race(1 << 28, blocks=1) == (0, 0, b"refused\n")


# --- without a cgroup -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THRESHOLD_MB", "-5"),
        ("THRESHOLD_MB", "999999999"),
        ("POLL_INTERVAL", "20"),
    ],
)
def test_nonsense_is_refused_with_78_and_not_silently_off(
    variable: str, value: str, tmp_path: Path
) -> None:
    cluster = NodeCluster(1, environment={**AUTO, f"KVNODE_MEMORY_SHUTDOWN_{variable}": value})
    try:
        (node,) = cluster.nodes
        node.start()
        assert node.wait_exit(EXIT_SECONDS) == 78
        assert "memory" in node.log_tail().lower()
    finally:
        cluster.kill()
        cluster.finish(keep=False)


FAILING_START = """
import asyncio
from kvnode import cli, server
from kvnode.errors import DiskFailed

async def fails(self):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise {error}

server.Server._recover = fails
cli.main()
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [('DiskFailed("the disk went, too")', "the disk went, too"), ('ValueError("a bug")', "a bug")],
)
def test_a_start_that_fails_while_it_is_cancelled_does_not_hide_the_reason(
    error: str, told: str
) -> None:
    cluster = NodeCluster(1, environment={"KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "5"})
    try:
        (node,) = cluster.nodes
        at = node.arguments.index("-c")
        program = FAILING_START.format(error=error)
        node.arguments = (*node.arguments[: at + 1], program, *node.arguments[at + 2 :])
        node.start()
        assert node.wait_exit(EXIT_SECONDS) == 2
        log = node.log_path.read_text()
        assert told in log, "the second error is told"
        assert log.count("failed while leaving") == 1, "and cancellations are not"
    finally:
        cluster.kill()
        cluster.finish(keep=False)


@pytest.mark.parametrize(("environment", "code"), [(AUTO, 2), ({}, 1)])
def test_an_allocation_that_the_fence_refused_is_pressure_and_without_a_watchdog_a_bug(
    environment: dict[str, str], code: int
) -> None:
    cluster = NodeCluster(1, environment=environment)
    try:
        (node,) = cluster.nodes
        at = node.arguments.index("-c")
        program = FAILING_START.format(error="MemoryError").replace("asyncio.Event().wait()", "a")
        program = program.replace("await a", "raise asyncio.CancelledError")
        node.arguments = (*node.arguments[: at + 1], program, *node.arguments[at + 2 :])
        node.start()
        assert node.wait_exit(EXIT_SECONDS) == code
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def test_starts_that_take_too_much_memory_wait_longer_each_time_and_say_why() -> None:
    cluster = NodeCluster(1, environment={"KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "10"})
    try:
        (node,) = cluster.nodes
        node.start()
        assert node.wait_exit(EXIT_SECONDS) == 2
        node.start()
        until(lambda: node.status() is not None, "the admin port answers during the pause")
        status = status_of(node)
        assert "1 times in a row: waiting 1 s" in status["start_delayed"]
        assert not status["ready"]
        assert b"takes more" in node.get("/readyz?verbose")[1]
        assert node.wait_exit(EXIT_SECONDS) == 2

        node.start()
        until(lambda: node.status() is not None, "the admin port answers during the pause")
        assert "2 times in a row: waiting 2 s" in status_of(node)["start_delayed"]
        node.send(signal.SIGTERM)
        assert node.wait_exit(EXIT_SECONDS) == 0, "a request to stop ends the pause"

        node.environment.update(AUTO)
        node.start()
        node.wait_ready()
        assert "start_delayed" not in status_of(node)
        assert node.log_path.read_text().count("waiting before the next try") == 2
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def test_an_interval_below_the_floor_is_raised_and_told_by_the_running_node() -> None:
    cluster = NodeCluster(1, environment={**AUTO, "KVNODE_MEMORY_SHUTDOWN_POLL_INTERVAL": "1ms"})
    try:
        cluster.start()
        (node,) = cluster.nodes
        assert status_of(node)["memory"]["interval_ms"] == 10
        assert "1ms is below the floor, using 10ms" in node.log_path.read_text()
    finally:
        cluster.kill()
        cluster.finish(keep=False)
