"""A walk over many keys: from node to node, while others come and go and the leader is killed.

`KVNODE_SCAN_KEYS=1000000` makes it as many keys as that; the usual run has a few thousand.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster

KEYS = int(os.environ.get("KVNODE_SCAN_KEYS", "4000"))
PER_COMMAND = 100
PAGE = max(50, KEYS // 200)
PAGES_BEFORE_THE_KILL = 20

Page = Callable[[redis.Redis, int], tuple[int, list[bytes]]]


def connect(node: LocalNode) -> redis.Redis:
    host, port = node.address
    return redis.Redis(host=host, port=port, retry=Retry(ConstantBackoff(0.2), 50))


class Churn:
    """Somebody who makes and deletes other keys and members all the time."""

    def __init__(self, node: LocalNode) -> None:
        self._client = connect(node)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            gone = number - 50
            self._client.set(f"passing:{number}", "x")
            self._client.delete(f"passing:{gone}")
            self._client.hset("hash", f"passing:{number}", "x")
            self._client.hdel("hash", f"passing:{gone}")
            self._client.zadd("zset", {f"passing:{number}": number, "staying:7": number})
            self._client.zrem("zset", f"passing:{gone}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    made = NodeCluster(3)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        made.finish(keep=False)


def fill(node: LocalNode) -> None:
    client = connect(node)
    pipeline = client.pipeline(transaction=False)
    for first in range(0, KEYS, PER_COMMAND):
        names = [f"staying:{number}" for number in range(first, first + PER_COMMAND)]
        pipeline.mset(dict.fromkeys(names, "x"))
        pipeline.hset("hash", mapping=dict.fromkeys(names, "x"))
        pipeline.zadd("zset", dict.fromkeys(names, 1))
        if len(pipeline) >= 60:
            pipeline.execute()
    pipeline.execute()


def walk(cluster: NodeCluster, page: Page, rng: random.Random, *, kills: bool) -> set[bytes]:
    """All that a walk returns whose pages come from any node; the leader is killed on the way."""
    clients = [connect(node) for node in cluster.nodes]
    found: set[bytes] = set()
    cursor, pages = 0, 0
    while True:
        cursor, names = page(rng.choice(clients), cursor)
        found.update(names)
        pages += 1
        if not cursor:
            return found
        if kills and pages == PAGES_BEFORE_THE_KILL:
            leader = cluster.wait_leader()
            clients = [connect(node) for node in cluster.nodes if node is not leader]
            leader.kill()


def scan(client: redis.Redis, cursor: int) -> tuple[int, list[bytes]]:
    after, names = client.scan(cursor, count=PAGE)
    return after, names


def hscan(client: redis.Redis, cursor: int) -> tuple[int, list[bytes]]:
    after, fields = client.hscan("hash", cursor, count=PAGE)
    return after, list(fields)


def zscan(client: redis.Redis, cursor: int) -> tuple[int, list[bytes]]:
    after, members = client.zscan("zset", cursor, count=PAGE)
    return after, [member for member, _ in members]


def test_a_walk_meets_everything_that_stays_whoever_leads(cluster: NodeCluster) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    fill(cluster.nodes[0])
    staying = {b"staying:%d" % number for number in range(KEYS)}
    for page in (hscan, zscan, scan):
        leader = cluster.wait_leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        with Churn(follower):
            found = walk(cluster, page, rng, kills=page is not zscan)
        assert not staying - found
        for node in cluster.nodes:
            if not node.alive():
                node.start()
                node.wait_ready()
