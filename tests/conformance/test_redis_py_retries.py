"""Loops that applications write around redis-py: optimistic transactions and locks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

from tests.support.cluster import Endpoints

pytestmark = pytest.mark.cluster

Address = tuple[str, int]

WORKERS = 6
TURNS = 15
LONG_MS = 100_000


def test_transactions_with_retry_through_all_nodes_lose_no_increment(
    endpoints: Endpoints, key: str
) -> None:
    addresses = endpoints.addresses()

    def work(number: int) -> None:
        host, port = addresses[number % len(addresses)]
        with redis.Redis(host=host, port=port) as client:
            for _ in range(TURNS):
                client.transaction(increment, key)

    def increment(pipeline: redis.client.Pipeline) -> None:
        value = int(pipeline.get(key) or 0)
        pipeline.multi()
        pipeline.set(key, value + 1)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    with redis.Redis(*addresses[0]) as client:
        assert client.get(key) == str(WORKERS * TURNS).encode()


def test_a_transaction_hands_back_what_its_function_returned(client: redis.Redis, key: str) -> None:
    def read(pipeline: redis.client.Pipeline) -> str:
        pipeline.multi()
        pipeline.set(key, "x")
        return "mine"

    assert client.transaction(read, key) == [True]
    assert client.transaction(read, key, value_from_callable=True) == "mine"


async def test_an_asyncio_transaction_is_tried_again_until_it_holds(
    async_client: redis.asyncio.Redis, key: str
) -> None:
    tries = 0

    async def body(pipeline: redis.asyncio.client.Pipeline) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await async_client.set(key, f"meanwhile {tries}")
        pipeline.multi()
        pipeline.append(key, "!")

    assert await async_client.transaction(body, key) == [len("meanwhile 2!")]
    assert tries == 3


def test_set_nx_px_gives_the_lock_to_one_of_many(endpoints: Endpoints, key: str) -> None:
    addresses = endpoints.addresses()
    together = threading.Barrier(WORKERS)

    def grab(number: int) -> bool:
        host, port = addresses[number % len(addresses)]
        with redis.Redis(host=host, port=port) as client:
            client.ping()
            together.wait()
            return bool(client.set(key, f"token {number}", nx=True, px=LONG_MS))

    with ThreadPoolExecutor(WORKERS) as pool:
        assert sum(pool.map(grab, range(WORKERS))) == 1


def test_a_lock_is_held_by_its_owner_only(
    client: redis.Redis, other_addresses: list[Address], key: str
) -> None:
    # Its release is a script; taking it is SET NX PX and is what can be shown without scripts.
    host, port = other_addresses[0]
    with redis.Redis(host=host, port=port) as other:
        mine, theirs = (each.lock(key, timeout=LONG_MS / 1000) for each in (client, other))
        assert mine.acquire(blocking=False) is True
        assert theirs.acquire(blocking=False) is False
        assert (mine.owned(), theirs.owned(), theirs.locked()) == (True, False, True)
        client.delete(key)
        assert theirs.acquire(blocking=False) is True


def test_a_lock_whose_time_is_up_goes_to_who_waits(client: redis.Redis, key: str) -> None:
    assert client.lock(key, timeout=0.05).acquire(blocking=False) is True
    waiting = client.lock(key, timeout=LONG_MS / 1000, sleep=0.01)
    assert waiting.acquire(blocking=True, blocking_timeout=30) is True
    assert waiting.owned()
