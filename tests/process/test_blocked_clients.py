"""Clients that wait, and nodes that are killed: each element comes to exactly one of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster

ELEMENTS = 400
PATIENCE_SECONDS = 40.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    made = NodeCluster(3)
    try:
        made.start()
        asyncio.run(_until_lists_are_known(made.nodes))
        yield made
    finally:
        made.kill()
        made.finish(keep=False)


def connect(node: LocalNode) -> redis.asyncio.Redis:
    host, port = node.address
    return redis.asyncio.Redis(
        host=host, port=port, retry=None, socket_timeout=PATIENCE_SECONDS, decode_responses=True
    )


async def _until_lists_are_known(nodes: list[LocalNode]) -> None:
    """The feature level rises by itself soon after the start."""
    for node in nodes:
        async with connect(node) as client:
            while True:
                try:
                    await client.blpop(["none"], timeout=0.01)
                    break
                except ResponseError:
                    await asyncio.sleep(0.05)


class Queue:
    """What was pushed and what came to whom."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pushed: set[str] = set()
        self.doubtful: set[str] = set()
        self.taken: Counter[str] = Counter()

    async def push(self, node: LocalNode, count: int) -> None:
        """Push elements one at a time; what was not acknowledged may be there all the same."""
        async with connect(node) as client:
            for number in range(count):
                element = f"{node.name}-{number}"
                self.doubtful.add(element)
                await client.rpush(self.name, element)
                self.doubtful.discard(element)
                self.pushed.add(element)

    async def take(self, node: LocalNode) -> None:
        """Wait for elements, one after the other, for ever."""
        async with connect(node) as client:
            while True:
                found = await client.blpop([self.name], timeout=0)
                self.taken[found[1]] += 1

    async def until_all_came(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.pushed - set(self.taken):
            missing = sorted(self.pushed - set(self.taken))
            assert time.monotonic() < deadline, f"never came: {missing}"
            await asyncio.sleep(0.05)
        assert max(self.taken.values()) == 1
        assert set(self.taken) <= self.pushed | self.doubtful


async def test_a_killed_leader_loses_and_doubles_no_element(cluster: NodeCluster) -> None:
    leader = cluster.wait_leader()
    pushing, waiting = [node for node in cluster.nodes if node is not leader]
    queue = Queue("through-an-election")
    takers = [asyncio.create_task(queue.take(waiting)) for _ in range(5)]
    takers += [asyncio.create_task(queue.take(pushing)) for _ in range(5)]
    pushes = asyncio.create_task(queue.push(pushing, ELEMENTS))
    while len(queue.taken) < ELEMENTS // 4:
        await asyncio.sleep(0.01)
    leader.kill()
    await pushes
    await queue.until_all_came()
    assert not any(taker.done() for taker in takers), "a client that waits notices nothing"
    for taker in takers:
        taker.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    leader.start()
    leader.wait_ready()


async def test_the_clients_of_a_killed_node_keep_nothing_from_the_others(
    cluster: NodeCluster,
) -> None:
    leader = cluster.wait_leader()
    killed, other = [node for node in cluster.nodes if node is not leader]
    queue = Queue("without-a-node")
    lost = [asyncio.create_task(queue.take(killed)) for _ in range(10)]
    async with connect(killed) as client:
        while (await client.info("clients"))["blocked_clients"] < len(lost):
            await asyncio.sleep(0.01)
    taker = asyncio.create_task(queue.take(other))
    killed.kill()
    results = await asyncio.gather(*lost, return_exceptions=True)
    assert all(isinstance(result, Disconnected) for result in results)
    await queue.push(leader, 20)
    await queue.until_all_came()
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)
