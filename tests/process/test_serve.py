"""`kvnode serve` as a process: what it refuses, how it leaves, and what it finds on its disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from kvnode.identity import cluster_number
from kvnode.limits import STOP_MEMORY_SECONDS_MAX
from kvnode.obs.metrics import DECLARATIONS
from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from wal.format import Identity, Record
from wal.fs import PosixFileSystem
from wal.log import Wal

pytestmark = pytest.mark.cluster

EXIT_SECONDS = 20.0


@pytest.fixture
def single() -> Iterator[LocalNode]:
    """A cluster of one that runs; its process may be stopped and started at will."""
    yield from running(1, lambda cluster: cluster.nodes[0])


@pytest.fixture
def three() -> Iterator[NodeCluster]:
    """A cluster of three that runs."""
    yield from running(3, lambda cluster: cluster)


def running(size, pick):  # type: ignore[no-untyped-def]
    """Start a cluster, hand out what `pick` picks, and take everything down."""
    cluster = NodeCluster(size)
    try:
        cluster.start()
        yield pick(cluster)
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def client(node: LocalNode) -> redis.Redis:
    """A redis-py client that does not retry."""
    return redis.Redis(*node.address, retry=None)


def flags(node: LocalNode, *extra: str, **environment: str) -> LocalNode:
    """Another process on the same ports and data, with more flags."""
    other = LocalNode(
        node.name,
        node.ports,
        node.data.parent,
        (*node.arguments, *extra),
        {**node.environment, **environment},
    )
    other.data = node.data
    return other


def exit_code(node: LocalNode) -> int | None:
    """Start a node that is expected to leave by itself."""
    node.start()
    try:
        return node.wait_exit(EXIT_SECONDS)
    finally:
        node.kill()


# --- leaving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_asked_to_stop_leaves_with_0_and_says_so_at_the_next_start(
    single: LocalNode, number: signal.Signals
) -> None:
    client(single).set("k", "v")
    single.send(number)
    assert single.wait_exit(EXIT_SECONDS) == 0
    single.start()
    single.wait_ready()
    status = single.status()
    assert status is not None
    assert status["last_exit"]["code"] == "0"
    assert client(single).get("k") == b"v"


def test_a_second_signal_ends_a_stop_at_once(three: NodeCluster) -> None:
    # Frozen peers keep the leader busy handing over, so that the first signal alone takes longer.
    leader = three.wait_leader()
    others = [node for node in three.nodes if node is not leader]
    for node in others:
        node.send(signal.SIGSTOP)
    leader.send(signal.SIGTERM)
    deadline = time.monotonic() + EXIT_SECONDS
    while "stopping" not in leader.log_tail() and time.monotonic() < deadline:
        time.sleep(0.01)
    asked = time.monotonic()
    leader.send(signal.SIGTERM)
    assert leader.wait_exit(EXIT_SECONDS) == 0
    assert time.monotonic() - asked < 2
    for node in others:
        node.send(signal.SIGCONT)


def test_a_leader_that_stops_hands_over_and_the_others_see_no_error(three: NodeCluster) -> None:
    leader = three.wait_leader()
    other = next(node for node in three.nodes if node is not leader)
    with client(other) as connection:
        connection.set("n", 0)
        leader.send(signal.SIGTERM)
        for expected in range(1, 51):
            assert connection.incr("n") == expected
    assert leader.wait_exit(EXIT_SECONDS) == 0
    assert "leadership handed over" in leader.log_path.read_text()


def test_all_three_stopped_at_once_are_gone_within_ten_seconds(three: NodeCluster) -> None:
    started = time.monotonic()
    assert three.stop(10) == []
    assert time.monotonic() - started < 10
    assert [node.wait_exit(0) for node in three.nodes] == [0, 0, 0]


def burst(node: LocalNode, clients: int) -> None:
    """Send as much at once, from many clients, as each may: more than a ladder can hold off."""
    command = b"*61\r\n$4\r\nMSET\r\n" + b"".join(
        b"$3\r\nb%02d\r\n$1000000\r\n%b\r\n" % (number, bytes(10**6)) for number in range(30)
    )

    def send() -> None:
        with contextlib.suppress(OSError), socket.create_connection(node.address) as connection:
            connection.sendall(command)
            connection.recv(1)

    senders = [threading.Thread(target=send) for _ in range(clients)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()


def test_the_watchdog_leaves_with_2_while_serving_and_the_log_is_clean(single: LocalNode) -> None:
    single.send(signal.SIGTERM)
    single.wait_exit(EXIT_SECONDS)
    # An idle node has 40; its ladder begins at 92.
    node = flags(single, KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB="130")
    node.start()
    try:
        node.wait_ready()
        with client(node) as connection:
            for i in range(20):
                connection.set(f"k{i}", os.urandom(100_000))
        burst(node, clients=8)
        assert node.wait_exit(EXIT_SECONDS) == 2
        assert "memory pressure shutdown" in node.log_path.read_text()
    finally:
        node.kill()
    single.start()
    single.wait_ready()
    status = single.status()
    assert status is not None
    assert status["last_exit"]["code"] == "2"
    assert status["wal"]["last_repair"] is None
    with client(single) as connection:
        assert all(connection.strlen(f"k{i}") == 100_000 for i in range(20))


def test_the_watchdog_leaves_with_2_from_a_start_that_fails_while_cancelled(
    single: LocalNode,
) -> None:
    single.kill()
    node = flags(single, KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB="10")
    assert exit_code(node) == 2


def test_every_declared_metric_is_told_by_a_running_node(three: NodeCluster) -> None:
    leader = three.wait_leader()
    told = leader.get("/metrics")[1].decode()
    missing = [d.name for d in DECLARATIONS if f"# HELP {d.name} " not in told]
    assert missing == []


# --- identity ---------------------------------------------------------------------------------


def test_a_directory_in_use_is_refused_with_75(single: LocalNode) -> None:
    assert exit_code(flags(single)) == 75


def test_an_address_in_use_is_refused_with_75(single: LocalNode, tmp_path: Path) -> None:
    assert exit_code(flags(single, "--data", str(tmp_path / "other"))) == 75


def test_a_directory_of_another_node_or_cluster_is_refused_with_78(single: LocalNode) -> None:
    single.kill()
    assert exit_code(flags(single, "--cluster-id", "another")) == 78
    peer = f"127.0.0.1:{single.ports.peer}"
    assert exit_code(flags(single, "--node", "other", "--cluster", f"other={peer}")) == 78


def test_a_wiped_directory_under_a_known_name_is_refused_with_78(three: NodeCluster) -> None:
    three.wait_leader()
    node = three.nodes[0]
    node.kill()
    shutil.rmtree(node.data)
    node.start()
    assert node.wait_exit(EXIT_SECONDS) == 78
    assert "member replace" in node.log_tail()


def test_an_old_copy_of_a_directory_is_refused_with_78(three: NodeCluster, tmp_path: Path) -> None:
    three.wait_leader()
    node = three.nodes[0]
    node.kill()
    shutil.copytree(node.data, tmp_path / "old")
    for _ in range(2):
        node.start()
        node.wait_ready()
        node.kill()
    shutil.rmtree(node.data)
    shutil.copytree(tmp_path / "old", node.data)
    node.start()
    assert node.wait_exit(EXIT_SECONDS) == 78


def test_a_peer_of_another_cluster_is_dropped_and_counted_and_disturbs_nobody(
    three: NodeCluster,
) -> None:
    leader = three.wait_leader()
    before = leader.status()
    assert before is not None
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02hi", b"\xff" * 64):
        with socket.create_connection(("127.0.0.1", leader.ports.peer)) as stranger:
            stranger.sendall(nonsense)
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100) == b""
    after = leader.status()
    assert after is not None
    assert after["term"] == before["term"]
    metrics = leader.get("/metrics")[1].decode()
    (line,) = [
        row for row in metrics.splitlines() if row.startswith("kvnode_peer_frames_malformed_total ")
    ]
    assert float(line.split()[1]) == 3


# --- the log ----------------------------------------------------------------------------------


def newest_segment(node: LocalNode) -> Path:
    return max((node.data / "wal").iterdir())


def log_end(path: Path) -> int:
    """Where the zeros begin."""
    return len(path.read_bytes().rstrip(b"\0"))


class TearingFileSystem(PosixFileSystem):
    """Writes the first sector of what it is told to write, and dies."""

    armed = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if not self.armed:
            return super().pwrite(fd, data, offset)
        super().pwrite(fd, bytes(data)[:512], offset)
        raise OSError("power is gone")


def tear(node: LocalNode) -> None:
    """Leave what a power loss in the middle of a write leaves: the front of one record."""
    document = json.loads((node.data / "identity").read_text())
    identity = Identity(cluster_number(document["cluster_id"]), int(document["node_id"], 16))
    states = (node.data / "state-a", node.data / "state-b")
    fs = TearingFileSystem()
    log = Wal.open(node.data / "wal", states, identity, visit=lambda i, p: None, fs=fs)
    fs.armed = True
    with pytest.raises(Exception, match="power is gone"):
        log.append([Record(log.last_index + 1, b"x" * 4000)])


def test_the_status_tells_who_costs_most_and_the_door_who_was_refused(single: LocalNode) -> None:
    with client(single) as connection:
        connection.config_set("max-connections-per-peer", 1)
        # What it has sent meanwhile may make the kernel reset the connection before it is read.
        with pytest.raises((redis.ResponseError, redis.ConnectionError)):
            client(single).ping()
        with connection.pipeline(transaction=False) as pipeline:
            for _ in range(300):
                pipeline.set("busy key", "x" * 1000)
            pipeline.execute()
        assert connection.info("stats")["rejected_connections"] == 1
    status = single.status()
    assert status is not None
    costliest = status["costliest"]
    assert costliest["peers"][0]["peer"] == "127.0.0.1"
    assert costliest["peers"][0]["share"] == 1
    assert "set" in [line["command"] for line in costliest["commands"]]
    assert costliest["keys"][0]["key"] == "0:busy\\x20key"
    assert b'kvnode_client_rejects_total{reason="peer"} 1.0' in single.get("/metrics")[1]
    assert "connections refused" in single.log_path.read_text()


def test_a_torn_tail_is_cut_off_with_a_warning_and_nothing_acknowledged_is_missing(
    single: LocalNode,
) -> None:
    with client(single) as connection:
        for i in range(100):
            connection.set(f"k{i}", i)
    single.kill()
    tear(single)
    single.start()
    single.wait_ready()
    assert "WAL tail truncated, repairing" in single.log_path.read_text()
    status = single.status()
    assert status is not None
    assert status["wal"]["last_repair"]["bytes_dropped"] > 0
    assert b"kvnode_wal_repairs_total 1.0" in single.get("/metrics")[1]
    with client(single) as connection:
        assert [connection.get(f"k{i}") for i in range(100)] == [b"%d" % i for i in range(100)]


def test_a_flipped_bit_in_an_acknowledged_record_is_refused_with_65_and_nothing_is_deleted(
    single: LocalNode,
) -> None:
    with client(single) as connection:
        for i in range(100):
            connection.set(f"k{i}", "value")
    single.kill()
    segment = newest_segment(single)
    content = bytearray(segment.read_bytes())
    content[log_end(segment) // 2] ^= 1
    segment.write_bytes(content)
    assert exit_code(single) == 65
    assert segment.read_bytes() == bytes(content)


def test_a_log_that_lost_acknowledged_bytes_at_its_end_is_refused_with_65(
    single: LocalNode,
) -> None:
    with client(single) as connection:
        for i in range(100):
            connection.set(f"k{i}", "value")
    single.send(signal.SIGTERM)
    assert single.wait_exit(EXIT_SECONDS) == 0
    segment = newest_segment(single)
    os.truncate(segment, log_end(segment) // 2)
    assert exit_code(single) == 65


def test_a_held_node_stays_on_its_admin_port_and_tells_the_reason(single: LocalNode) -> None:
    single.kill()
    segment = newest_segment(single)
    content = bytearray(segment.read_bytes())
    content[600] ^= 1
    segment.write_bytes(content)
    node = flags(single, KVNODE_HOLD_ON_FATAL="1")
    node.start()
    try:
        deadline = time.monotonic() + EXIT_SECONDS
        while "fatal" not in (status := node.status() or {}):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert status["fatal"]["exit_code"] == 65
        assert not node.ready()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(node.address, timeout=1)
        # It outlives the deadline that bounds an unplanned stop.
        assert node.wait_exit(STOP_MEMORY_SECONDS_MAX + 1) is None
        node.send(signal.SIGTERM)
        assert node.wait_exit(EXIT_SECONDS) == 65
    finally:
        node.kill()


def test_a_killed_node_comes_back_with_everything_it_acknowledged(single: LocalNode) -> None:
    with client(single) as connection:
        for i in range(200):
            connection.set(f"k{i}", i)
    single.kill()
    single.start()
    single.wait_ready()
    with client(single) as connection:
        assert connection.dbsize() == 200
    status = single.status()
    assert status is not None
    assert status["last_exit"]["code"] == "killed"


def test_an_engine_that_was_not_closed_on_this_boot_is_rebuilt_from_the_log(
    single: LocalNode,
) -> None:
    with client(single) as connection:
        connection.mset({f"k{i}": i for i in range(50)})
    single.kill()
    for note in (single.data / "engine").glob("*/opened"):
        note.write_text(note.read_text().replace("-", "0"))  # another boot id
    single.start()
    single.wait_ready()
    assert 'engine="rebuilt from the log"' in single.log_tail()
    with client(single) as connection:
        assert connection.dbsize() == 50


def test_a_password_is_asked_for_and_accepted(single: LocalNode, tmp_path: Path) -> None:
    single.send(signal.SIGTERM)
    single.wait_exit(EXIT_SECONDS)
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    node = flags(single, "--requirepass-file", str(secret))
    node.start()
    try:
        node.wait_ready()
        with pytest.raises(redis.AuthenticationError):
            client(node).ping()
        with redis.Redis(*node.address, password="secret", retry=None) as connection:
            assert connection.ping()
    finally:
        node.kill()


def test_a_start_that_fails_says_why_in_its_last_line(single: LocalNode) -> None:
    node = flags(single)
    node.log_path = node.log_path.with_suffix(".second")
    assert exit_code(node) == 75
    last = node.log_path.read_text().splitlines()[-1]
    assert "is in use by process" in last
