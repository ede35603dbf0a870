"""Commands on keys of any kind, on every kind of collection: beside redis-server, line by line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_service import FakeService
from tests.support.real_redis import RealRedis, real_redis, requires_redis
from tests.unit.resp.memory_client import MemoryClient, serve

MAKE = {
    "string": "SET {} v",
    "hash": "HSET {} f 1 g 2",
    "list": "RPUSH {} a b c",
    "set": "SADD {} 1 2 3",
    "zset": "ZADD {} 1 a 2 b",
    "stream": "XADD {} 5-1 f v",
}
"""How a key of each kind comes to be."""

SHOW = {
    "string": "GET {}",
    "hash": "HMGET {} f g",
    "list": "LRANGE {} 0 -1",
    "set": "SMISMEMBER {} 1 2 3 4",
    "zset": "ZRANGE {} 0 -1 WITHSCORES",
    "stream": "XRANGE {} - +",
}
CHANGE = {
    "string": "APPEND {} w",
    "hash": "HSET {} f 9",
    "list": "RPUSH {} z",
    "set": "SREM {} 1",
    "zset": "ZADD {} 9 z",
    "stream": "XADD {} 9-9 f w",
}
EMPTY = {
    "hash": "HDEL {} f g",
    "list": "LTRIM {} 1 0",
    "set": "SREM {} 1 2 3",
    "zset": "ZREM {} a b",
}
"""What takes the last element; a stream stays without entries."""

ON_ANY_KIND = """
TYPE k | EXISTS k k | OBJECT ENCODING k | OBJECT REFCOUNT k | OBJECT IDLETIME k | OBJECT FREQ k |
TTL k | PERSIST k | EXPIREAT k 33177117420 | EXPIRETIME k | {change} | EXPIRETIME k | {show} |
PERSIST k | PERSIST k | PEXPIRETIME k | TOUCH k none | SCAN 0 TYPE {kind} | SCAN 0 TYPE nosuch |
RENAME k l | TYPE k | {show:l} | RENAMENX l k | EXISTS l | COPY k l | COPY k l | {change:l} |
{show} | {show:l} | COPY l k REPLACE | {show} | COPY k k DB 3 | SELECT 3 | {show} | MOVE k 4 |
EXISTS k | SELECT 4 | {show} | MOVE k 0 | SELECT 0 | DEL l | DBSIZE | EXPIREAT k 33177117420 |
RENAME k m | EXPIRETIME m | COPY m n | EXPIRETIME n | MOVE n 5 | SELECT 5 | EXPIRETIME n |
{show:n} | SELECT 0 | RENAME m k | SET other v | RENAME other k | GET k | TYPE k | {make} |
DEL k | {make} | EXPIRETIME k | {show} | COPY k other | RENAME k other | {show:other} |
SWAPDB 0 6 | EXISTS other | SELECT 6 | {show:other} | RENAME other k | MOVE k 0 | SELECT 0 |
{show} | UNLINK k | TYPE k | {show} | {make} | EXPIREAT k 1 | EXISTS k | {make} | EXPIRE k -1 |
{make} | SET k v GET | SETNX k v | GET k | MULTI | {make} | OBJECT ENCODING k | {change} |
{show} | RENAME k l | TYPE l | DEL k l | EXEC | DEL k |
WATCH k | {make} | MULTI | {show} | EXEC | WATCH k | {show} | MULTI | TYPE k | EXEC |
WATCH k | {change} | MULTI | TYPE k | EXEC | WATCH k | EXPIRE k 100 | MULTI | EXEC |
WATCH k | RENAME k l | MULTI | EXEC | WATCH l | FLUSHDB | MULTI | EXEC | {make} |
FLUSHALL | {show} | DBSIZE | {make} | {show} | SET k v | GET k | DBSIZE | SELECT 5 | FLUSHDB |
SELECT 0 | MEMORY USAGE none | OBJECT ENCODING none
"""


class _Key(str):
    """`{show}` is about k, `{show:l}` about l."""

    __slots__ = ()

    def __format__(self, key: str) -> str:
        return self.replace("{}", key or "k")


def lines_about(kind: str) -> list[list[str]]:
    words = {"make": MAKE, "show": SHOW, "change": CHANGE}
    text = ON_ANY_KIND.format(
        kind=kind, **{name: _Key(lines[kind]) for name, lines in words.items()}
    )
    return [shlex.split(line) for line in f"{MAKE[kind].format('k')}|{text}".split("|")]


def timeless(line: list[str], reply: bytes) -> bytes:
    """The reply; a key's idle time, which here is always 0 and there passes, as any number."""
    if line[:2] == ["OBJECT", "IDLETIME"]:
        return re.sub(rb"\A:\d+", b":N", reply)
    return reply


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RealRedis]:
    with real_redis(tmp_path) as connection:
        yield connection


@requires_redis
@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("kind", MAKE)
async def test_commands_on_keys_do_with_any_kind_what_redis_does(
    tmp_path: Path, kind: str, protocol: str
) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with real_redis(tmp_path, protocol=protocol) as redis:
        for line in lines_about(kind):
            ours, theirs = await client.call_raw(*line), redis.call_raw(*line)
            assert (line, timeless(line, ours)) == (line, timeless(line, theirs))


@pytest.mark.parametrize("kind", EMPTY)
async def test_a_collection_without_elements_is_gone(client: MemoryClient, kind: str) -> None:
    await client.call(*MAKE[kind].format("k").split())
    await client.call("EXPIRE", "k", 1000)
    await client.call(*EMPTY[kind].format("k").split())
    assert await client.call("EXISTS", "k") == 0
    assert await client.call("SCAN", 0) == [b"0", []]
    await client.call(*MAKE[kind].format("k").split())
    assert await client.call("TTL", "k") == -1


@requires_redis
async def test_encodings_change_where_those_of_redis_do(
    client: MemoryClient, redis: RealRedis
) -> None:
    lines = [
        *(f"HSET h512 {' '.join(f'f{at} v' for at in range(512))}" for _ in range(1)),
        *(f"HSET h513 {' '.join(f'f{at} v' for at in range(513))}" for _ in range(1)),
        *(f"HSET {key} {'f' * size} v" for key, size in (("hf64", 64), ("hf65", 65))),
        *(f"HSET {key} f {'v' * size}" for key, size in (("hv64", 64), ("hv65", 65))),
        *(f"SADD s{size} {' '.join(map(str, range(size)))}" for size in (512, 513)),
        *("SADD text a", "SADD mixed 1 2 a", "SADD odd 01", "SADD large 9223372036854775807"),
        "SADD larger 9223372036854775808",
        *(f"ZADD z{n} {' '.join(f'{at} m{at}' for at in range(n))}" for n in (128, 129)),
        *(f"ZADD {key} 1 {'m' * size}" for key, size in (("zm64", 64), ("zm65", 65))),
        *("RPUSH l a", "XADD x 1-1 f v"),
    ]
    for line in lines:
        words = line.split()
        assert await client.call_raw(*words) == redis.call_raw(*words)
        question = ("OBJECT", "ENCODING", words[1])
        assert (words[1], await client.call(*question)) == (words[1], redis.call(*question))


async def test_memory_usage_grows_with_elements_and_shrinks_with_them(
    client: MemoryClient,
) -> None:
    for kind in EMPTY:
        make = {
            "hash": ["HSET", "big", *(f"{at}" for at in range(2000))],
            "list": ["RPUSH", "big", *(f"{at}" for at in range(2000))],
            "set": ["SADD", "big", *(f"{at}" for at in range(2000))],
            "zset": ["ZADD", "big", *(f"{at}" for at in range(2000))],
        }[kind]
        await client.call(*MAKE[kind].format("small").split())
        await client.call(*make)
        small = await client.call("MEMORY", "USAGE", "small")
        big = await client.call("MEMORY", "USAGE", "big")
        assert big > small + 1000 * 4, kind
        await client.call("DEL", "big", "small")


async def test_a_scan_by_type_finds_each_kind(client: MemoryClient) -> None:
    for kind, line in MAKE.items():
        await client.call(*line.format(kind).split())
    for kind in MAKE:
        assert await client.call("SCAN", 0, "COUNT", 100, "TYPE", kind) == [b"0", [kind.encode()]]
