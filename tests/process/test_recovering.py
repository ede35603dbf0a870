"""A node whose disk lost what it had acknowledged, as a process among others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from wal.format import parse_segment_name

pytestmark = pytest.mark.cluster

HEAL_SECONDS = 30.0
KILLS = 3


@pytest.fixture
def three() -> Iterator[NodeCluster]:
    """A cluster of three that runs."""
    cluster = NodeCluster(3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def lose_acknowledged_bytes(node: LocalNode) -> None:
    """Cut the second half of the log off: the state files know that it was durable."""
    segments = (node.data / "wal").iterdir()
    path = max(path for path in segments if parse_segment_name(path.name))
    os.truncate(path, len(path.read_bytes().rstrip(b"\0")) // 2 & ~511)


def wait_for_first_status(node: LocalNode) -> None:
    """Until the log is read, and repaired: the node tells of consensus, ready or not."""
    deadline = time.monotonic() + HEAL_SECONDS
    while (status := node.status()) is None or "term" not in status:
        assert time.monotonic() < deadline, "the node does not tell of itself"
        time.sleep(0.01)


def wait_healed(node: LocalNode) -> None:
    """Until the node says that it counts again."""
    deadline = time.monotonic() + HEAL_SECONDS
    while (status := node.status()) is None or status.get("recovering", True):
        assert time.monotonic() < deadline, f"still recovering: {status}"
        time.sleep(0.05)


def test_a_node_that_lost_acknowledged_entries_heals_though_killed_while_it_does(
    three: NodeCluster,
) -> None:
    leader = three.wait_leader()
    victim, other = (node for node in three.nodes if node is not leader)
    with redis.Redis(*leader.address, retry=None) as connection:
        for i in range(200):
            connection.set(f"k{i}", i)
        victim.kill()
        lose_acknowledged_bytes(victim)
        for _ in range(KILLS):
            victim.start()
            connection.incr("n")
            wait_for_first_status(victim)
            victim.kill()
        victim.start()
        victim.wait_ready()
        wait_healed(victim)
        assert "acknowledged entries are gone" in victim.log_path.read_text()
        # It counts again: the majority is this node and the leader now.
        other.kill()
        assert connection.incr("n") == KILLS + 1
    with redis.Redis(*victim.address, retry=None) as connection:
        assert [connection.get(f"k{i}") for i in range(200)] == [b"%d" % i for i in range(200)]
