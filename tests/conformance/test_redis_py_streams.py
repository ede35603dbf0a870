"""Streams as redis-py reads them, in both protocols, and a group of consumers at several nodes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

pytestmark = pytest.mark.cluster

Address = tuple[str, int]
ENTRIES = 60


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(address: Address, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(host=address[0], port=address[1], protocol=request.param) as made:
        yield made


def test_entries_are_read_in_either_direction(client: redis.Redis, key: str) -> None:
    ids = [client.xadd(key, {"field": number}) for number in range(3)]
    assert ids == sorted(ids)
    entries = [(identity, {b"field": b"%d" % number}) for number, identity in enumerate(ids)]
    assert client.xlen(key) == 3
    assert client.xrange(key) == entries
    assert client.xrevrange(key, count=1) == entries[2:]
    assert client.xtrim(key, maxlen=2, approximate=False) == 1
    assert client.xdel(key, ids[1]) == 1
    assert client.xinfo_stream(key)["max-deleted-entry-id"] == ids[1]
    assert client.xread({key: ids[2]}) in ([], {})
    assert client.xread({key: "$"}, block=20) in ([], {})


def test_a_group_tells_who_has_what(client: redis.Redis, key: str) -> None:
    assert client.xgroup_create(key, "group", id="0", mkstream=True) is True
    for number in (1, 2, 3):
        client.xadd(key, {"f": "v"}, id=f"{number}-0")
    client.xreadgroup("group", "a", {key: ">"}, count=2)
    assert client.xpending(key, "group") == {
        "pending": 2,
        "min": b"1-0",
        "max": b"2-0",
        "consumers": [{"name": b"a", "pending": 2}],
    }
    assert client.xclaim(key, "group", "b", 0, ["1-0"], justid=True) == [b"1-0"]
    (first, second) = client.xpending_range(key, "group", "-", "+", 10)
    assert (first["consumer"], second["consumer"]) == (b"b", b"a")
    assert (first["times_delivered"], second["times_delivered"]) == (1, 1)
    client.xdel(key, "2-0")
    assert client.xautoclaim(key, "group", "b", 0) == [b"0-0", [(b"1-0", {b"f": b"v"})], [b"2-0"]]
    assert client.xack(key, "group", "1-0") == 1
    (told,) = client.xinfo_groups(key)
    assert (told["pending"], told["last-delivered-id"], told["consumers"]) == (0, b"2-0", 2)
    assert [each["name"] for each in client.xinfo_consumers(key, "group")] == [b"a", b"b"]
    assert client.xinfo_stream(key, full=True)["length"] == 2


def test_consumers_at_several_nodes_share_the_entries(
    client: redis.Redis, other_addresses: list[Address], key: str
) -> None:
    client.xgroup_create(key, "group", id="0", mkstream=True)

    def consume(number: int) -> list[bytes]:
        host, port = other_addresses[number % len(other_addresses)]
        mine: list[bytes] = []
        with redis.Redis(host=host, port=port, protocol=2) as consumer:
            while given := consumer.xreadgroup("group", number, {key: ">"}, count=3, block=2000):
                ids = [identity for identity, fields in given[0][1] if fields != {b"last": b""}]
                mine += ids
                consumer.xack(key, "group", *(identity for identity, _ in given[0][1]))
                if len(ids) < len(given[0][1]):
                    break
        return mine

    with ThreadPoolExecutor(2) as pool:
        consumers = [pool.submit(consume, number) for number in range(2)]
        written = [client.xadd(key, {"f": number}) for number in range(ENTRIES)]
        while client.xinfo_groups(key)[0]["lag"]:
            pass
        for _ in consumers:  # one last entry for each, so that both go home
            client.xadd(key, {"last": ""})
            while client.xinfo_groups(key)[0]["lag"]:
                pass
        read = [identity for consumer in consumers for identity in consumer.result()]
    assert sorted(read) == sorted(written)
    assert len(read) == ENTRIES
    assert client.xpending(key, "group")["pending"] == 0
