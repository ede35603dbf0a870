"""List commands: which op each becomes, the shapes of replies, and Redis' answers line by line."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvnode.limits import KEY_BYTES_MAX
from kvnode.service import Op
from kvnode.store import ops
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, conversation, redis_socket

__all__ = ["redis_socket"]

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
LEFT, RIGHT = 0, 1


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("LPUSH k a b", [ops.LIST_PUSH, 0, b"k", LEFT, 0, b"a", b"b"]),
        ("RPUSH k a", [ops.LIST_PUSH, 0, b"k", RIGHT, 0, b"a"]),
        ("LPUSHX k a", [ops.LIST_PUSH, 0, b"k", LEFT, 1, b"a"]),
        ("RPUSHX k a b", [ops.LIST_PUSH, 0, b"k", RIGHT, 1, b"a", b"b"]),
        ("LPOP k", [ops.LIST_POP, 0, b"k", LEFT, None]),
        ("RPOP k 3", [ops.LIST_POP, 0, b"k", RIGHT, 3]),
        ("LPOP k 0", [ops.LIST_POP, 0, b"k", LEFT, 0]),
        ("LLEN k", [ops.LLEN, 0, b"k"]),
        ("LINDEX k -1", [ops.LINDEX, 0, b"k", -1]),
        ("LINDEX k x", [ops.LINDEX, 0, b"k", None]),
        ("LRANGE k 0 -1", [ops.LRANGE, 0, b"k", 0, -1]),
        ("LSET k 1 a", [ops.LSET, 0, b"k", 1, b"a"]),
        ("LSET k 1.5 a", [ops.LSET, 0, b"k", None, b"a"]),
        ("LINSERT k before a b", [ops.LINSERT, 0, b"k", 0, b"a", b"b"]),
        ("LINSERT k AFTER a b", [ops.LINSERT, 0, b"k", 1, b"a", b"b"]),
        ("LREM k -2 a", [ops.LREM, 0, b"k", -2, b"a"]),
        ("LTRIM k 1 -2", [ops.LTRIM, 0, b"k", 1, -2]),
        ("LPOS k a", [ops.LPOS, 0, b"k", b"a", 1, None, 0]),
        ("LPOS k a MAXLEN 5 count 2 RANK -3", [ops.LPOS, 0, b"k", b"a", -3, 2, 5]),
        ("LPOS k a RANK 2 RANK 1 COUNT 0", [ops.LPOS, 0, b"k", b"a", 1, 0, 0]),
        ("LMOVE a b LEFT right", [ops.LMOVE, 0, b"a", b"b", LEFT, RIGHT]),
        ("RPOPLPUSH a b", [ops.LMOVE, 0, b"a", b"b", RIGHT, LEFT]),
        ("LMPOP 1 a LEFT", [ops.LMPOP, 0, LEFT, 1, b"a"]),
        ("LMPOP 2 a b right COUNT 5", [ops.LMPOP, 0, RIGHT, 5, b"a", b"b"]),
    ],
)
async def test_a_command_becomes_its_op(
    service: FakeService, client: MemoryClient, line: str, op: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [op]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("LPUSH k", "ERR wrong number of arguments for 'lpush' command"),
        ("LPOP k 1 2", "ERR wrong number of arguments for 'lpop' command"),
        ("RPOP k 1 2", "ERR wrong number of arguments for 'rpop' command"),
        ("LPOP k -1", "ERR value is out of range, must be positive"),
        ("LPOP k x", "ERR value is out of range, must be positive"),
        ("LRANGE k x 1", NOT_AN_INTEGER),
        ("LTRIM k 1 9223372036854775808", NOT_AN_INTEGER),
        ("LREM k x a", NOT_AN_INTEGER),
        ("LINSERT k around a b", SYNTAX),
        ("LPOS k a FOO 1", SYNTAX),
        ("LPOS k a COUNT", SYNTAX),
        ("LPOS k a COUNT -1", "ERR COUNT can't be negative"),
        ("LPOS k a COUNT x", "ERR COUNT can't be negative"),
        ("LPOS k a MAXLEN -1", "ERR MAXLEN can't be negative"),
        ("LMOVE a b LEFT FOO", SYNTAX),
        ("LMPOP 0 a LEFT", "ERR numkeys should be greater than 0"),
        ("LMPOP x a LEFT", "ERR numkeys should be greater than 0"),
        ("LMPOP 3 a b LEFT", SYNTAX),
        ("LMPOP 1 a FOO", SYNTAX),
        ("LMPOP 1 a LEFT COUNT", SYNTAX),
        ("LMPOP 1 a LEFT COUNT 0 FOO", "ERR count should be greater than 0"),
        ("LMPOP 1 a LEFT COUNT 1 COUNT 1", SYNTAX),
    ],
)
async def test_bad_grammar_is_refused_in_redis_words(
    service: FakeService, client: MemoryClient, line: str, text: str
) -> None:
    assert str(await client.call(*line.split())) == text
    assert (service.written, service.read) == (0, 0)


@pytest.mark.parametrize(
    "line",
    ["LPUSH {} a", "LPOP {}", "LLEN {}", "LMOVE a {} LEFT LEFT", "LMPOP 2 a {} LEFT", "LPOS {} a"],
)
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert (service.written, service.read) == (0, 0)


async def test_what_is_absent_is_nil_where_one_is_asked_and_a_nil_array_where_many(
    client: MemoryClient,
) -> None:
    assert await client.call_raw("LPOP", "k") == b"$-1\r\n"
    assert await client.call_raw("LPOP", "k", 3) == b"*-1\r\n"
    assert await client.call_raw("LMPOP", 1, "k", "LEFT") == b"*-1\r\n"
    await client.call("HELLO", 3)
    for line in ("LPOP k", "LPOP k 3", "LMPOP 1 k LEFT"):
        assert await client.call_raw(*line.split()) == b"_\r\n"


async def test_a_hundred_thousand_elements_go_in_and_come_out(client: MemoryClient) -> None:
    elements = [b"%d" % number for number in range(100_000)]
    assert await client.call("RPUSH", "k", *elements) == 100_000
    assert await client.call("LRANGE", "k", 0, -1) == elements
    assert await client.call("LINDEX", "k", 77_777) == b"77777"
    assert await client.call("RPOP", "k", 99_999) == elements[:0:-1]


LINES = """
    LPUSH | LPUSH k | LPUSH k a | RPUSH k b c | LPUSHX k x y | RPUSHX k z | LPUSHX none x |
    LRANGE k 0 -1 | LLEN k | LLEN none | LLEN | LRANGE k -3 100 | LRANGE k 5 1 | LRANGE none 0 1 |
    LRANGE k a 1 | LRANGE k 1 9223372036854775808 | LINDEX k 0 | LINDEX k -1 | LINDEX k 99 |
    LINDEX k abc | LINDEX none abc | LSET k 0 new | LSET k -1 last | LSET k 99 v | LSET k x v |
    LSET none x v | LSET none 0 v | LSET k | LINSERT k BEFORE a b | LINSERT k after c d |
    LINSERT k AFTER none d | LINSERT none AFTER a b | LINSERT k FOO a b | LINSERT k BEFORE a |
    LRANGE k 0 -1 | RPUSH k a b a b a | LREM k 1 a | LREM k -1 b | LREM k 0 none | LREM k x a |
    LREM k -9223372036854775808 a | LREM none 0 a | LRANGE k 0 -1 | LTRIM k 1 -2 | LTRIM k a 1 |
    LTRIM none 0 1 | LRANGE k 0 -1 | LTRIM k 5 1 | EXISTS k | RPUSH k 1 2 3 1 2 3 1 2 3 |
    LPOS k 1 | LPOS k 9 | LPOS none 1 | LPOS none 1 COUNT 0 | LPOS k 1 RANK 2 | LPOS k 1 RANK -1 |
    LPOS k 1 RANK 0 | LPOS k 1 RANK x | LPOS k 2 COUNT 0 | LPOS k 2 COUNT 2 | LPOS k 2 COUNT -1 |
    LPOS k 2 COUNT x | LPOS k 2 RANK -2 COUNT 0 | LPOS k 3 MAXLEN 2 | LPOS k 3 MAXLEN 3 |
    LPOS k 3 MAXLEN -1 | LPOS k 3 COUNT 0 MAXLEN 6 RANK -1 | LPOS k 3 FOO 1 | LPOS k 3 COUNT |
    LPOS k 3 RANK -9223372036854775808 COUNT 0 | LPOS k 3 RANK 9223372036854775807 | LPOS k |
    LPOS k 3 COUNT 9223372036854775808 | LPOS k 3 COUNT -1 FOO | LPOP k | RPOP k | LPOP none |
    LPOP k 0 | LPOP none 0 | LPOP none 2 | LPOP k 2 | RPOP k 2 | LPOP k -1 | LPOP k x |
    LPOP k 1 2 | RPOP k 1 2 | RPOP k 9223372036854775808 | LRANGE k 0 -1 | LMOVE k l LEFT RIGHT |
    LMOVE k l right left | LMOVE k k LEFT RIGHT | LMOVE none l LEFT LEFT | LMOVE k l FOO LEFT |
    LMOVE k l LEFT FOO | LMOVE k l LEFT | RPOPLPUSH k l | RPOPLPUSH none l | RPOPLPUSH l l |
    RPOPLPUSH k | LRANGE k 0 -1 | LRANGE l 0 -1 | LMPOP 1 none LEFT | LMPOP 2 none l LEFT |
    LMPOP 2 k l RIGHT COUNT 2 | LMPOP 1 l LEFT COUNT 100 | EXISTS l | LMPOP 0 k LEFT |
    LMPOP abc k LEFT | LMPOP -1 k LEFT | LMPOP 1 k FOO | LMPOP 2 k LEFT | LMPOP 1 k LEFT COUNT 0 |
    LMPOP 1 k LEFT COUNT x | LMPOP 1 k LEFT COUNT 1 COUNT 2 | LMPOP 1 k LEFT FOO |
    LMPOP 1 k LEFT COUNT | LMPOP 1 k LEFT COUNT 0 FOO | LMPOP 1 k LEFT FOO 1 COUNT 2 |
    LMPOP 9223372036854775807 k LEFT | LMPOP 1 k | DEL k | SET s v | LPUSH s a | LPUSHX s a |
    LPOP s | LPOP s 0 | LPOP s x | LLEN s | LINDEX s x | LRANGE s 0 1 | LRANGE s x 1 | LSET s x y |
    LSET s 0 y | LINSERT s BEFORE a b | LREM s 0 a | LTRIM s 0 1 | LPOS s a | LPOS s a RANK 0 |
    LMOVE s l LEFT LEFT | RPUSH l a b | LMOVE l s LEFT LEFT | LMOVE none s LEFT LEFT |
    LRANGE l 0 -1 | LMPOP 2 s l LEFT | LMPOP 2 l s LEFT | RPOPLPUSH l s | GET l | INCR l |
    APPEND l x | STRLEN l | TYPE l | RENAME l ll | LRANGE ll 0 -1 | COPY ll l | LPUSH l c |
    LRANGE ll 0 -1 | LRANGE l 0 -1 | MOVE ll 3 | SELECT 3 | LRANGE ll 0 -1 | SELECT 0 |
    EXPIRE l 100 | LPUSH l x | TTL l | SET l v | TTL l | TYPE l | DEL l | LPUSH l a | GETSET l b |
    MULTI | RPUSH q a b c | LPOP q | LPOP q 5 | LPOP q 5 | LPOP q | LMPOP 1 q LEFT | LSET q x y |
    LPOP q x | EXEC | RPUSH "" "" | LPOS "" "" | LREM "" 0 "" | LINDEX "" 0 |
    WATCH w | RPUSH w a | MULTI | LLEN w | EXEC | COMMAND GETKEYS LPUSH k a b |
    COMMAND GETKEYS LMOVE a b LEFT LEFT | COMMAND GETKEYS LMPOP 2 a b LEFT |
    COMMAND GETKEYS LMPOP 3 a b LEFT | COMMAND GETKEYS LMPOP 0 a b LEFT |
    COMMAND GETKEYS LMPOP x a b LEFT | COMMAND GETKEYS LMPOP 4 a b LEFT
"""


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation(LINES):
            assert (arguments, await client.call_raw(*arguments)) == (
                arguments,
                ask(redis, *arguments),
            )


def decode(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


NAMES = [
    *("lpush", "rpush", "lpushx", "rpushx", "lpop", "rpop", "lset", "linsert", "lrem", "ltrim"),
    *("lmove", "rpoplpush", "lmpop", "llen", "lindex", "lrange", "lpos"),
]


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_the_facts_are_those_of_redis(redis_socket: Path) -> None:
    client = MemoryClient(serve(FakeService()))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        for name in NAMES:
            (ours,) = await client.call("COMMAND", "INFO", name)
            theirs = decode(ask(redis, "COMMAND", "INFO", name))[0]
            assert [*ours[:6], set(ours[6])] == [*theirs[:6], set(theirs[6])]
            docs = decode(ask(redis, "COMMAND", "DOCS", name))[1]
            (_, mine) = await client.call("COMMAND", "DOCS", name)
            assert [mine[3], mine[5]] == [docs[3], docs[5]]
