"""A full disk is an inconvenience: writes are refused, nothing is lost, no restart is needed."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from kvnode.errors import ExitCode
from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from tests.support.small_disk import KINDS, make_room, small_disk, take_all_room, take_room

pytestmark = pytest.mark.cluster
on_every_kind_of_disk = pytest.mark.parametrize("kind", KINDS)

VALUE = b"x" * 100_000
RECOVERY_SECONDS = 20.0
STOP_SECONDS = 25.0
LOG_ROOM_MIB = 47
"""Two segments of 16 MiB fit, beside a journal too; the third does not."""
ENGINE_ROOM_MIB = 24
FILLER_MIB = 100


@contextlib.contextmanager
def node_with_small(part: str, kind: str, room_mib: int) -> Iterator[LocalNode]:
    """One running node whose `part` of the data directory is a small disk."""
    cluster = NodeCluster(1)
    node = cluster.nodes[0]
    node.data.mkdir(mode=0o700)
    try:
        with small_disk(kind, node.data / part, room_mib + FILLER_MIB):
            try:
                cluster.start()
                take_room(node.data / part, FILLER_MIB)
                yield node
            finally:
                cluster.kill()
    finally:
        cluster.finish(keep=False)


def connect(node: LocalNode, patience_s: float = 30) -> redis.Redis:
    """A client that never sends a command twice."""
    return redis.Redis(*node.address, retry=None, socket_timeout=patience_s)


def fill(connection: redis.Redis) -> tuple[int, str]:
    """Write until a write is not done; how many were done, and the answer to the last."""
    for number in range(2_000):
        try:
            connection.set(f"k{number}", VALUE)
        except (redis.ResponseError, redis.TimeoutError) as refusal:
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


def all_there(connection: redis.Redis, count: int) -> bool:
    """Whether what `fill` was told is done can be read."""
    return all(connection.get(f"k{number}") == VALUE for number in range(count))


def goes_on_without_a_restart(node: LocalNode, part: str, count: int) -> None:
    """With room again the same process takes writes, has all of the old ones, and keeps them."""
    pid = node.pid
    with connect(node) as connection:
        make_room(node.data / part)
        write_again(connection)
        assert node.pid == pid
        assert node.alive()
        assert all_there(connection, count)
    node.kill()
    node.start()
    node.wait_ready()
    with connect(node) as connection:
        assert connection.get("after") == b"v"
        assert all_there(connection, count)


def checks(node: LocalNode) -> str:
    """What `/readyz` says of each check; nothing while it does not answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return node.get("/readyz")[1].decode()
    return ""


@on_every_kind_of_disk
def test_a_full_log_disk_refuses_writes_keeps_reads_and_goes_on_when_there_is_room(
    kind: str,
) -> None:
    with node_with_small("wal", kind, LOG_ROOM_MIB) as node:
        with connect(node) as connection:
            done, answer = fill(connection)
            assert done > 100
            assert answer.startswith(("UNKNOWN", "the disk of this node's log is full"))
            with pytest.raises(redis.ResponseError, match="log is full"):
                connection.set("another", "v")
            assert all_there(connection, done)
            assert not node.ready()
        goes_on_without_a_restart(node, "wal", done)


@on_every_kind_of_disk
def test_a_full_engine_pauses_apply_and_loses_nothing(kind: str) -> None:
    with node_with_small("engine", kind, ENGINE_ROOM_MIB) as node:
        with connect(node) as connection:
            done, answer = fill(connection)
            assert done > 20
            assert answer.startswith(("UNKNOWN", "the engine of this node is full"))
            with pytest.raises(redis.ResponseError, match="engine of this node is full"):
                connection.set("another", "v")
            assert not node.ready()
        goes_on_without_a_restart(node, "engine", done)


@on_every_kind_of_disk
@pytest.mark.parametrize(("part", "room_mib"), [("wal", LOG_ROOM_MIB), ("engine", ENGINE_ROOM_MIB)])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_that_ends_at_a_full_disk_starts_and_goes_on_when_there_is_room(
    kind: str, part: str, room_mib: int, end: signal.Signals
) -> None:
    with node_with_small(part, kind, room_mib) as node:
        with connect(node, patience_s=1) as connection:
            done, _ = fill(connection)
        node.send(end)
        assert node.wait_exit(STOP_SECONDS) == (0 if end is signal.SIGTERM else -end)
        node.start()
        node.wait_ready(give_up=lambda: "serving ok" in checks(node))
        goes_on_without_a_restart(node, part, done)


@on_every_kind_of_disk
def test_a_start_that_finds_no_room_for_an_engine_says_so_with_its_exit_code(kind: str) -> None:
    """LMDB writes its lock file through a memory map: with no room for it that was a SIGBUS."""
    with node_with_small("engine", kind, ENGINE_ROOM_MIB) as node:
        node.kill()
        directory = node.data / "engine"
        for engine in directory.glob("[0-9]*"):
            shutil.rmtree(engine)
        take_all_room(directory)
        node.start()
        assert node.wait_exit(STOP_SECONDS) == ExitCode.DISK_FULL
        make_room(directory)
        node.start()
        node.wait_ready()


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
