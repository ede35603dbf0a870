"""DUMP and RESTORE beside a real redis-server: errors line by line, values there and back."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest

from kvnode.resp.commands.table import COMMANDS
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.rdb.writer import write_value
from tests.support import payloads
from tests.support.fake_service import FakeService
from tests.support.real_redis import RealRedis, real_redis, requires_redis
from tests.unit.resp.memory_client import MemoryClient, serve

LINES = """
    SET s abc | RESTORE | RESTORE k x | RESTORE s x abc | RESTORE s x abc FOO | RESTORE k x abc
    RESTORE k -1 abc | RESTORE k 0 abc | RESTORE k 0 "" | RESTORE k 0 abc IDLETIME
    RESTORE k 0 abc IDLETIME -1 | RESTORE k 0 abc IDLETIME x | RESTORE k 0 abc FREQ 256
    RESTORE k 0 abc FREQ -1 | RESTORE k 0 abc FREQ | RESTORE k 0 abc FREQ 1 IDLETIME 1
    RESTORE k 0 abc IDLETIME 1 FREQ 1 | RESTORE k 0 abc IDLETIME 1 IDLETIME 2
    RESTORE k 0 abc REPLACE REPLACE ABSTTL | RESTORE s 0 abc REPLACE | GET s
    DUMP | DUMP nope | DUMP s s | DUMP s | SET n 123 | DUMP n | SET n -129 | DUMP n
    SET n 2147483647 | DUMP n | SET n 2147483648 | DUMP n | SET n 007 | DUMP n | SET n -0 | DUMP n
    SET n "" | DUMP n | COMMAND GETKEYS RESTORE a 0 b | COMMAND GETKEYS DUMP a
"""

PAYLOADS = [
    ("good", payloads.sealed(b"\x00\x03abc")),
    ("empty list", payloads.sealed(b"\x01\x00")),
    ("cut short", payloads.sealed(b"\x00\x20ab")),
    ("no type", payloads.sealed(b"\x33\x03abc")),
    ("twice", payloads.sealed(b"\x02\x02\x01a\x01a")),
    ("newer", payloads.sealed(b"\x00\x03abc", 11)),
    ("older", payloads.sealed(b"\x00\x03abc", 3)),
    ("bytes behind", payloads.sealed(b"\x00\x03abcdef")),
]


@requires_redis
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(tmp_path: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    lines: list[list[str | bytes]] = [
        list(shlex.split(line)) for row in LINES.strip().splitlines() for line in row.split("|")
    ]
    for _, payload in PAYLOADS:
        for options in (["0"], ["0", "REPLACE"], ["100000000", "REPLACE"], ["1", "ABSTTL"]):
            lines += [["RESTORE", "k", options[0], payload, *options[1:]], ["GET", "k"]]
        lines += [["RESTORE", "k", "1", payload, "ABSTTL", "REPLACE"], ["EXISTS", "k"]]
    with real_redis(tmp_path, protocol=protocol) as redis:
        for line in lines:
            assert (line, await client.call_raw(*line)) == (line, redis.call_raw(*line))


@requires_redis
async def test_values_go_from_redis_to_us_and_back(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for _ in range(120):
            redis.call("DEL", "k", "back")
            _fill(rng, redis)
            theirs = redis.call("DUMP", "k")
            assert isinstance(theirs, bytes)
            assert await client.call("RESTORE", "k", "0", theirs, "REPLACE") == b"OK"
            ours = await client.call("DUMP", "k")
            assert isinstance(ours, bytes)
            assert redis.call("RESTORE", "back", "0", ours) == b"OK"
            assert _content(redis, "back") == _content(redis, "k")


@requires_redis
@pytest.mark.parametrize("name", payloads.OTHER_FORMS)
async def test_redis_reads_the_other_forms_as_we_do(tmp_path: Path, name: str) -> None:
    client = MemoryClient(serve(FakeService()))
    payload = payloads.sealed(payloads.OTHER_FORMS[name])
    with real_redis(tmp_path) as redis:
        assert redis.call("RESTORE", "k", "0", payload) == b"OK"
        assert await client.call("RESTORE", "k", "0", payload) == b"OK"
        ours = await client.call("DUMP", "k")
        assert isinstance(ours, bytes)
        assert redis.call("RESTORE", "back", "0", ours) == b"OK"
        assert _content(redis, "back") == _content(redis, "k")


def _fill(rng: random.Random, redis: RealRedis) -> None:
    """Make a value of some kind and size in the real server."""
    count = rng.choice((1, 3, 20, 129, 600))
    texts = [payloads.text(rng) for _ in range(count)]
    scores = [rng.choice(("inf", "-inf", "0", "0.1", "-3e300", "17")) for _ in texts]
    ints = [b"%d" % rng.randrange(-(2 ** rng.choice((7, 20, 60))), 2**40) for _ in texts]
    pairs = [part for pair in zip(scores, texts, strict=True) for part in pair]
    kind = rng.choice(("string", "list", "set", "ints", "hash", "zset", "stream"))
    if kind == "string":
        redis.call("SET", "k", b"".join(texts[: rng.choice((1, 600))]))
    elif kind == "list":
        redis.call("RPUSH", "k", *texts)
    elif kind in ("set", "ints"):
        redis.call("SADD", "k", *(texts if kind == "set" else ints))
    elif kind == "hash":
        redis.call("HSET", "k", *(part for text in texts for part in (text, b"v" + text)))
    elif kind == "zset":
        redis.call("ZADD", "k", *pairs)
    else:
        _fill_stream(rng, redis, texts)


def _fill_stream(rng: random.Random, redis: RealRedis, texts: list[bytes]) -> None:
    for number, text in enumerate(texts):
        other = [b"other", text] if rng.random() < 0.2 else []
        redis.call("XADD", "k", f"{number // 3 + 5}-{number}", "a", text, "b", "1", *other)
    redis.call("XDEL", "k", *(f"{number // 3 + 5}-{number}" for number in range(1, 9, 2)))
    redis.call("XTRIM", "k", "MAXLEN", str(rng.choice((1000, len(texts) // 2))))
    for group in range(rng.randrange(3)):
        redis.call("XGROUP", "CREATE", "k", f"g{group}", rng.choice(("0", "$", "6-1")))
        for consumer in range(rng.randrange(3)):
            reader = ("GROUP", f"g{group}", f"c{consumer}", "COUNT", str(rng.randint(1, 9)))
            redis.call("XREADGROUP", *reader, "STREAMS", "k", ">")


def _content(redis: RealRedis, key: str) -> object:
    """All that a key of the real server holds, in an order of its own."""
    kind = redis.call("TYPE", key)
    if kind == b"stream":
        told = redis.call("XINFO", "STREAM", key, "FULL", "COUNT", "0")
        assert isinstance(told, list)
        return told[:2] + told[6:]  # all but the nodes of Redis' tree
    question = {
        b"string": ("GET", key),
        b"list": ("LRANGE", key, "0", "-1"),
        b"set": ("SMEMBERS", key),
        b"hash": ("HGETALL", key),
        b"zset": ("ZRANGE", key, "0", "-1", "WITHSCORES"),
    }[kind if isinstance(kind, bytes) else b""]
    answer = redis.call(*question)
    if kind == b"hash":
        assert isinstance(answer, list)
        return sorted(zip(answer[::2], answer[1::2], strict=True))
    return sorted(answer) if kind == b"set" and isinstance(answer, list) else answer


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("DUMP k", [ops.DUMP, 0, b"k"]),
        ("RESTORE k 0 p", [ops.RESTORE, 0, b"k", 0, b"p", 0]),
        ("RESTORE k x p replace", [ops.RESTORE, 0, b"k", None, b"p", 1]),
        ("RESTORE k 5 p ABSTTL IDLETIME 3", [ops.RESTORE, 0, b"k", 5, b"p", 2]),
        ("RESTORE k 5 p FREQ 3 REPLACE ABSTTL", [ops.RESTORE, 0, b"k", 5, b"p", 3]),
    ],
)
def test_a_line_becomes_an_op(line: str, op: Op) -> None:
    arguments = [word.encode() for word in line.split()]
    assert COMMANDS[line.split(maxsplit=1)[0].lower()].parse(0, arguments) == op


def test_a_payload_of_ours_is_short() -> None:
    assert write_value(b"123") == payloads.sealed(b"\x00\xc0\x7b")
