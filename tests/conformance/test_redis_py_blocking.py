"""redis-py waits for keys, against every node, while others push through the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
import redis.asyncio

pytestmark = pytest.mark.cluster

Address = tuple[str, int]


@pytest.fixture
async def pusher(other_addresses: list[Address]) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of another node."""
    host, port = other_addresses[0]
    async with redis.asyncio.Redis(host=host, port=port) as made:
        yield made


async def waiting(client: redis.asyncio.Redis, command: Any) -> asyncio.Task[Any]:
    """A command that waits by now."""
    before = (await client.info("clients"))["blocked_clients"]
    task = asyncio.create_task(command)
    while (await client.info("clients"))["blocked_clients"] <= before:
        await asyncio.sleep(0.005)
    return task


async def test_each_kind_of_key_is_waited_for(
    async_client: redis.asyncio.Redis, pusher: redis.asyncio.Redis, key: str
) -> None:
    name = key.encode()
    popped = await waiting(async_client, async_client.blpop([f"{key}:no", key], timeout=0))
    await pusher.rpush(key, "a", "b")
    assert tuple(await popped) == (name, b"a")
    assert tuple(await async_client.brpop([key], timeout=1)) == (name, b"b")
    moved = await waiting(async_client, async_client.blmove(key, f"{key}:2", 0, "LEFT", "RIGHT"))
    await pusher.rpush(key, "c")
    assert await moved == b"c"
    assert await pusher.lrange(f"{key}:2", 0, -1) == [b"c"]
    lowest = await waiting(async_client, async_client.bzpopmin([key], timeout=0))
    await pusher.zadd(key, {"m": 1.5, "n": 2})
    assert tuple(await lowest) == (name, b"m", 1.5)
    await pusher.delete(key)
    read = await waiting(async_client, async_client.xread({key: "$"}, block=0))
    identity = await pusher.xadd(key, {"f": "v"})
    ((_, entries),) = await read
    assert entries == [(identity, {b"f": b"v"})]


async def test_whose_time_is_over_gets_nothing(async_client: redis.asyncio.Redis, key: str) -> None:
    assert await async_client.blpop([key], timeout=0.05) is None
    assert await async_client.bzpopmax([key], timeout=0.05) is None
    assert await async_client.brpoplpush(key, key, timeout=1) is None


async def test_a_client_that_gives_up_takes_nothing_along(
    async_client: redis.asyncio.Redis, pusher: redis.asyncio.Redis, key: str
) -> None:
    """A cancelled task closes its connection while it waits."""
    popped = await waiting(async_client, async_client.blpop([key], timeout=0))
    popped.cancel()
    await asyncio.gather(popped, return_exceptions=True)
    await async_client.connection_pool.disconnect()
    await pusher.rpush(key, "a")
    assert tuple(await pusher.blpop([key], timeout=5)) == (key.encode(), b"a")


async def test_clients_are_served_in_the_order_of_their_arrival(
    async_client: redis.asyncio.Redis, pusher: redis.asyncio.Redis, key: str
) -> None:
    first, second, third = [
        await waiting(client, client.blpop([key], timeout=0))
        for client in (async_client, pusher, async_client)
    ]
    await pusher.rpush(key, "1", "2", "3")
    assert [(await task)[1] for task in (first, second, third)] == [b"1", b"2", b"3"]
