"""One running cluster for all conformance tests, and each test once per node.

With `--against-redis` a real redis-server takes the cluster's place: an expectation that fails
there is wrong, whatever kvnode does.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import redis.asyncio

from tests.support.cluster import Endpoints, NodeCluster, RedisStandIn

Address = tuple[str, int]


def started_cluster() -> NodeCluster:
    """Three nodes that serve clients; logs stay behind if they do not get that far."""
    cluster = NodeCluster()
    try:
        cluster.start()
        cluster.wait_leader()
    except BaseException:
        cluster.finish(keep=True)
        raise
    return cluster


@pytest.fixture(scope="session")
def endpoints(request: pytest.FixtureRequest) -> Iterator[Endpoints]:
    running: Endpoints
    if request.config.getoption("--against-redis"):
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        running = RedisStandIn()
    else:
        running = started_cluster()
    failed_before = request.session.testsfailed
    yield running
    running.finish(keep=request.session.testsfailed > failed_before)


@pytest.fixture(params=[0, 1, 2], ids=["n1", "n2", "n3"])
def address(endpoints: Endpoints, request: pytest.FixtureRequest) -> Address:
    return endpoints.addresses()[request.param]


@pytest.fixture
def other_addresses(endpoints: Endpoints, address: Address) -> list[Address]:
    """Every node but the one under test (itself, where one server plays all three)."""
    others = [other for other in endpoints.addresses() if other != address]
    return others or [address]


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    """A redis-py client with its default protocol."""
    with redis.Redis(host=address[0], port=address[1]) as made:
        yield made


@pytest.fixture
async def async_client(address: Address) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(host=address[0], port=address[1]) as made:
        yield made


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"key:{uuid.uuid4().hex}"
