"""WAIT counts the voters that have a write on their disks, through whichever node it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster

SOON_MS = 300
"""Long enough to ask the leader, short enough to wait for in vain."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    made = NodeCluster(3)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        made.finish(keep=False)


def set_and_wait(node: LocalNode, voters: int, timeout_ms: int) -> int:
    with redis.Redis(*node.address, retry=None, socket_timeout=30) as connection:
        assert connection.set("k", "v")
        count: int = connection.wait(voters, timeout_ms)
        return count


def test_every_node_counts_both_of_the_others_and_one_when_one_is_away(
    cluster: NodeCluster,
) -> None:
    assert [set_and_wait(node, 2, 0) for node in cluster.nodes] == [2, 2, 2]
    leader = cluster.wait_leader()
    follower, away = [node for node in cluster.nodes if node is not leader]
    away.kill()
    assert set_and_wait(follower, 2, SOON_MS) == 1
    assert set_and_wait(leader, 2, SOON_MS) == 1
    away.start()
    assert set_and_wait(follower, 2, 0) == 2
