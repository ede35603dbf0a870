"""A full disk is an inconvenience: writes are refused, nothing is lost, no restart is needed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")

VALUE = b"x" * 100_000
RECOVERY_SECONDS = 20.0


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[None]:
    """A tmpfs of a few megabytes at `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def grow(directory: Path, megabytes: int) -> None:
    """What an operator does: make room."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(directory)], check=True)


@contextlib.contextmanager
def node_with_small(part: str, megabytes: int) -> Iterator[LocalNode]:
    """One running node whose `part` of the data directory is a small disk."""
    cluster = NodeCluster(1)
    node = cluster.nodes[0]
    node.data.mkdir(mode=0o700)
    try:
        with small_disk(node.data / part, megabytes):
            try:
                cluster.start()
                yield node
            finally:
                cluster.kill()
    finally:
        cluster.finish(keep=False)


def fill(connection: redis.Redis) -> tuple[int, str]:
    """Write until a write is not done; how many were done, and the answer to the last."""
    for number in range(2_000):
        try:
            connection.set(f"k{number}", VALUE)
        except redis.ResponseError as refusal:
            return number, str(refusal)
    raise AssertionError("the disk never ran full")


def write_again(connection: redis.Redis) -> None:
    """Writes go on, without a restart, once there is room."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            assert connection.set("after", "v")
        except redis.ResponseError:
            assert time.monotonic() < deadline, "writes never went on"
            time.sleep(0.1)
        else:
            return


@needs_root
def test_a_full_log_disk_refuses_writes_keeps_reads_and_goes_on_when_there_is_room() -> None:
    # Two segments of 16 MiB fit, the third does not.
    with (
        node_with_small("wal", 40) as node,
        redis.Redis(*node.address, retry=None, socket_timeout=30) as connection,
    ):
        pid = node.pid
        done, answer = fill(connection)
        assert done > 100
        assert answer.startswith(("UNKNOWN", "the disk of this node's log is full"))
        with pytest.raises(redis.ResponseError, match="log is full"):
            connection.set("another", "v")
        assert connection.get("k0") == VALUE
        assert not node.ready()
        grow(node.data / "wal", 100)
        write_again(connection)
        assert node.pid == pid
        assert all(connection.strlen(f"k{i}") == len(VALUE) for i in range(done))
        node.kill()
        node.start()
        node.wait_ready()
        with redis.Redis(*node.address, retry=None, socket_timeout=30) as again:
            assert again.get("after") == b"v"
            assert all(again.strlen(f"k{i}") == len(VALUE) for i in range(done))


@needs_root
def test_a_full_engine_pauses_apply_and_loses_nothing() -> None:
    with (
        node_with_small("engine", 12) as node,
        redis.Redis(*node.address, retry=None, socket_timeout=30) as connection,
    ):
        pid = node.pid
        done, answer = fill(connection)
        assert done > 20
        assert answer.startswith(("UNKNOWN", "the engine of this node is full"))
        grow(node.data / "engine", 200)
        write_again(connection)
        assert node.pid == pid
        assert all(connection.strlen(f"k{i}") == len(VALUE) for i in range(done))


def test_above_the_data_limit_writes_that_add_are_refused_with_redis_text_and_deletes_are_not() -> (
    None
):
    cluster = NodeCluster(1, environment={"KVNODE_MAX_DATA_BYTES": "1mb"})
    node = cluster.nodes[0]
    try:
        cluster.start()
        with redis.Redis(*node.address, retry=None) as connection:
            done, answer = fill(connection)
            assert done < 100
            assert answer == "command not allowed when used memory > 'maxmemory'."
            assert connection.get("k0") == VALUE
            assert connection.delete(*[f"k{n}" for n in range(done)]) == done
            write_again(connection)
    finally:
        cluster.kill()
        cluster.finish(keep=False)
