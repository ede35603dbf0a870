"""redis-py's asyncio client with its default protocol, against every node."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

pytestmark = pytest.mark.cluster


async def test_what_was_set_is_read_back(async_client: redis.asyncio.Redis, key: str) -> None:
    assert await async_client.set(key, "value") is True
    assert await async_client.get(key) == b"value"


async def test_concurrent_increments_all_count(async_client: redis.asyncio.Redis, key: str) -> None:
    answers = await asyncio.gather(*(async_client.incr(key) for _ in range(100)))
    assert sorted(answers) == list(range(1, 101))


async def test_a_pipeline_answers_in_order(async_client: redis.asyncio.Redis, key: str) -> None:
    async with async_client.pipeline(transaction=False) as pipeline:
        for number in range(200):
            pipeline.set(f"{key}:{number}", number)
            pipeline.get(f"{key}:{number}")
        answers = await pipeline.execute()
    assert answers[1::2] == [str(n).encode() for n in range(200)]


async def test_a_transaction_runs_as_one(async_client: redis.asyncio.Redis, key: str) -> None:
    async with async_client.pipeline() as transaction:
        transaction.set(key, "1")
        transaction.incr(key)
        assert await transaction.execute() == [True, 2]


async def test_of_two_transactions_on_one_watched_key_one_wins(
    async_client: redis.asyncio.Redis, key: str
) -> None:
    async with async_client.pipeline() as first, async_client.pipeline() as second:
        for transaction in (first, second):
            await transaction.watch(key)
        for transaction in (first, second):
            transaction.multi()
            transaction.incr(key)
        assert await first.execute() == [1]
        with pytest.raises(redis.WatchError):
            await second.execute()
    assert await async_client.get(key) == b"1"


async def test_an_error_reaches_its_own_caller_only(
    async_client: redis.asyncio.Redis, key: str
) -> None:
    await async_client.set(key, "text")
    answers = await asyncio.gather(
        async_client.incr(key), async_client.get(key), return_exceptions=True
    )
    assert isinstance(answers[0], redis.ResponseError)
    assert answers[1] == b"text"
