"""A disk that fails under a real node: it leaves with 74 at once, retries and promises nothing.

On ext4 the second fdatasync after a failed one returns success, and the bytes are gone. So `strace`
makes exactly one call fail: a node that tried again would never notice, and stay.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from kvnode.errors import ExitCode
from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from tests.support.real_disk import LoopDisk, loop_disk

pytestmark = pytest.mark.cluster

EXIT_SECONDS = 20.0
VALUE = b"x" * 1_000


@pytest.fixture
def stopped() -> Iterator[LocalNode]:
    """A single node that has not been started."""
    cluster = NodeCluster(1)
    try:
        yield cluster.nodes[0]
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def with_failing(node: LocalNode, call: str, error: str, when: int, trace: Path) -> LocalNode:
    """The same node under strace, in which one system call of each thread fails."""
    if shutil.which("strace") is None:
        pytest.skip("this machine has no strace")
    probe = subprocess.run(["strace", "-o", str(trace), "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip(f"this machine does not let us trace: {probe.stderr.decode().strip()}")
    traced = "fdatasync,fsync,pwrite64,write,sendto,sendmsg,writev"
    other = LocalNode(
        node.name,
        node.ports,
        node.data.parent,
        (
            # -D: the node stays our own child, so that signals and exit code are its own.
            *("strace", "-D", "-f", "-o", str(trace), "-s", "16", "-e", f"trace={traced}"),
            *("-e", f"inject={call}:error={error}:when={when}"),
            *node.arguments,
        ),
        node.environment,
    )
    other.data = node.data
    return other


def held(node: LocalNode) -> LocalNode:
    """The same node, told to stay when a restart cannot help."""
    environment = {**node.environment, "KVNODE_HOLD_ON_FATAL": "1"}
    other = LocalNode(node.name, node.ports, node.data.parent, node.arguments, environment)
    other.data = node.data
    return other


def write_until_it_fails(node: LocalNode) -> list[str]:
    """One SET after another on one connection; the keys of those that were acknowledged."""
    acknowledged: list[str] = []
    with redis.Redis(*node.address, retry=None) as connection:
        for number in range(500):
            try:
                connection.set(f"k{number}", VALUE)
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
                return acknowledged
            acknowledged.append(f"k{number}")
    raise AssertionError("the disk never failed")


def has_all(node: LocalNode, keys: list[str]) -> bool:
    """Whether a node that is started now has what was acknowledged."""
    node.start()
    node.wait_ready()
    with redis.Redis(*node.address, retry=None) as connection:
        return all(connection.get(key) == VALUE for key in keys)


def wait_until_held(node: LocalNode) -> dict[str, object]:
    """What a node that stays only for its admin port says about it."""
    deadline = time.monotonic() + EXIT_SECONDS
    while True:
        status = node.status() or {}
        if "fatal" in status:
            fatal: dict[str, object] = status["fatal"]
            return fatal
        assert time.monotonic() < deadline, node.log_tail()
        time.sleep(0.05)


# --- one call fails, the next would succeed -------------------------------------------------------


def test_a_sync_that_fails_while_the_log_is_made_ends_the_start_with_74(
    stopped: LocalNode, tmp_path: Path
) -> None:
    node = with_failing(stopped, "fdatasync", "EIO", 2, tmp_path / "trace")
    node.start()
    try:
        assert node.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
    finally:
        node.kill()
    assert has_all(stopped, [])


@pytest.mark.parametrize(("call", "when"), [("fdatasync", 40), ("pwrite64", 60)])
def test_a_call_that_fails_under_load_ends_the_node_with_74_and_no_reply_claims_success(
    stopped: LocalNode, tmp_path: Path, call: str, when: int
) -> None:
    trace = tmp_path / "trace"
    node = with_failing(stopped, call, "EIO", when, trace)
    try:
        node.start()
        node.wait_ready()
        acknowledged = write_until_it_fails(node)
        assert node.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
    finally:
        node.kill()
    assert acknowledged
    before, _, after = trace.read_text().partition("(INJECTED)")
    assert after, "no call failed: the test is void"
    assert '"+OK\\r\\n"' in before
    assert '"+OK\\r\\n"' not in after
    assert "fdatasync(" not in after
    assert has_all(stopped, acknowledged)


# --- the file system turns read-only --------------------------------------------------------------


@contextlib.contextmanager
def node_on_disk(node: LocalNode, part: str) -> Iterator[LoopDisk]:
    """The node runs, and a part of its data directory (`""`: all) is a disk of its own."""
    node.data.mkdir(mode=0o700)
    with loop_disk(node.data / part) as disk:
        try:
            node.start()
            node.wait_ready()
            yield disk
        finally:
            node.kill()


def test_an_engine_whose_disk_turns_read_only_ends_the_node_with_74_and_nothing_is_lost(
    stopped: LocalNode,
) -> None:
    with node_on_disk(stopped, "engine") as disk:
        with redis.Redis(*stopped.address, retry=None) as connection:
            connection.set("first", VALUE)
        disk.become_read_only()
        acknowledged = write_until_it_fails(stopped)
        assert stopped.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
        disk.power_cycle()
        assert has_all(stopped, ["first", *acknowledged])


def test_a_snapshot_that_meets_a_read_only_disk_ends_the_node_with_74(stopped: LocalNode) -> None:
    with node_on_disk(stopped, "snap") as disk:
        with redis.Redis(*stopped.address, retry=None) as connection:
            connection.set("k0", VALUE)
            disk.become_read_only()
            with contextlib.suppress(redis.ConnectionError, redis.ResponseError):
                connection.save()
        assert stopped.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
        disk.power_cycle()
        assert has_all(stopped, ["k0"])


def test_a_start_on_a_read_only_file_system_ends_with_74(stopped: LocalNode) -> None:
    with node_on_disk(stopped, "") as disk:
        stopped.kill()
        disk.become_read_only()
        stopped.start()
        assert stopped.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR


def test_a_held_node_stays_on_its_admin_port_when_its_disk_fails_and_leaves_with_74(
    stopped: LocalNode,
) -> None:
    node = held(stopped)
    with node_on_disk(node, "") as disk:
        disk.become_read_only()
        acknowledged = write_until_it_fails(node)
        fatal = wait_until_held(node)
        assert fatal["exit_code"] == ExitCode.IO_ERROR
        assert "Read-only file system" in str(fatal["reason"])
        assert not node.ready()
        with pytest.raises((OSError, http.client.HTTPException, redis.ConnectionError)):
            redis.Redis(*node.address, retry=None).ping()
        node.send(signal.SIGTERM)
        assert node.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
        disk.power_cycle()
        assert has_all(node, acknowledged)
