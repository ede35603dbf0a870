"""Set commands: which op each becomes, the shapes of replies, and Redis' answers line by line."""

from __future__ import annotations

import shlex
import shutil
import socket
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvnode.limits import KEY_BYTES_MAX
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import SetOperation
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

SYNTAX = "ERR syntax error"
NOT_POSITIVE = "ERR value is out of range, must be positive"
NOT_BETWEEN = f"ERR value is out of range, value must between {1 - 2**63} and {2**63 - 1}"
NO_KEYS = "ERR numkeys should be greater than 0"
UNION, INTERSECTION, DIFFERENCE = map(int, SetOperation)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("SADD k a b", [ops.SADD, 0, b"k", b"a", b"b"]),
        ("SREM k a", [ops.SREM, 0, b"k", b"a"]),
        ("SPOP k", [ops.SPOP, 0, b"k", None]),
        ("SPOP k 0", [ops.SPOP, 0, b"k", 0]),
        ("SPOP k 3", [ops.SPOP, 0, b"k", 3]),
        ("SMOVE k l a", [ops.SMOVE, 0, b"k", b"l", b"a"]),
        ("SUNIONSTORE d a b", [ops.SCOMBINESTORE, 0, UNION, b"d", b"a", b"b"]),
        ("SINTERSTORE d a", [ops.SCOMBINESTORE, 0, INTERSECTION, b"d", b"a"]),
        ("SDIFFSTORE d a b", [ops.SCOMBINESTORE, 0, DIFFERENCE, b"d", b"a", b"b"]),
        ("SMEMBERS k", [ops.SMEMBERS, 0, b"k"]),
        ("SISMEMBER k a", [ops.SISMEMBER, 0, b"k", b"a"]),
        ("SMISMEMBER k a b", [ops.SMISMEMBER, 0, b"k", b"a", b"b"]),
        ("SCARD k", [ops.SCARD, 0, b"k"]),
        ("SUNION a b", [ops.SCOMBINE, 0, UNION, b"a", b"b"]),
        ("SINTER a", [ops.SCOMBINE, 0, INTERSECTION, b"a"]),
        ("SDIFF a b", [ops.SCOMBINE, 0, DIFFERENCE, b"a", b"b"]),
        ("SINTERCARD 2 a b", [ops.SINTERCARD, 0, 0, b"a", b"b"]),
        ("SINTERCARD 1 a limit 3 LIMIT 5", [ops.SINTERCARD, 0, 5, b"a"]),
        ("SSCAN k 0", [ops.SSCAN, 0, b"k", 0, None, 10]),
        ("SSCAN k 7 match a* COUNT 5", [ops.SSCAN, 0, b"k", 7, b"a*", 5]),
    ],
)
async def test_a_command_becomes_its_op(
    service: FakeService, client: MemoryClient, line: str, op: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [op]


async def test_every_srandmember_carries_a_seed_of_its_own(
    service: FakeService, client: MemoryClient
) -> None:
    """It is drawn where the command arrives, so that an EXEC answers alike on every replica."""
    service.hold()
    for line in ("SRANDMEMBER k", "SRANDMEMBER k", "SRANDMEMBER k -3"):
        client.send(*line.split())
    found = [pending.op for pending in service.held]
    assert [[*op[:3], op[4]] for op in found] == [
        [ops.SRANDMEMBER, 0, b"k", None],
        [ops.SRANDMEMBER, 0, b"k", None],
        [ops.SRANDMEMBER, 0, b"k", -3],
    ]
    assert len({op[3] for op in found}) == 3


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("SADD k", "ERR wrong number of arguments for 'sadd' command"),
        ("SMOVE a b", "ERR wrong number of arguments for 'smove' command"),
        ("SPOP k 1 2", SYNTAX),
        ("SPOP k -1", NOT_POSITIVE),
        ("SPOP k x", NOT_POSITIVE),
        ("SPOP k 9223372036854775808", NOT_POSITIVE),
        ("SRANDMEMBER k 1 2", SYNTAX),
        ("SRANDMEMBER k x", "ERR value is not an integer or out of range"),
        ("SRANDMEMBER k -9223372036854775808", NOT_BETWEEN),
        ("SINTERCARD 0 a", NO_KEYS),
        ("SINTERCARD x a", NO_KEYS),
        ("SINTERCARD 3 a b", "ERR Number of keys can't be greater than number of args"),
        ("SINTERCARD 1 a b", SYNTAX),
        ("SINTERCARD 1 a LIMIT", SYNTAX),
        ("SINTERCARD 1 a LIMIT -1", "ERR LIMIT can't be negative"),
        ("SINTERCARD 1 a LIMIT x FOO", "ERR LIMIT can't be negative"),
        ("SSCAN k x", "ERR invalid cursor"),
    ],
)
async def test_bad_grammar_is_refused_in_redis_words(
    service: FakeService, client: MemoryClient, line: str, text: str
) -> None:
    assert str(await client.call(*line.split())) == text
    assert (service.written, service.read) == (0, 0)


@pytest.mark.parametrize(
    "line",
    ["SADD {} a", "SMOVE a {} b", "SUNIONSTORE a b {}", "SINTERCARD 2 a {}", "SSCAN {} 0"],
)
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert (service.written, service.read) == (0, 0)


async def test_resp3_has_sets_where_members_differ_and_arrays_where_they_may_not(
    client: MemoryClient,
) -> None:
    lines = {
        "SMEMBERS k": b"~",
        "SUNION k": b"~",
        "SINTER k": b"~",
        "SDIFF k": b"~",
        "SRANDMEMBER k 2": b"*",
        "SRANDMEMBER k -2": b"*",
        "SMISMEMBER k a": b"*",
        "SSCAN k 0": b"*",
        "SPOP k": b"$",
        "SPOP k 2": b"~",
    }
    for protocol, unordered in ((2, b"*"), (3, b"~")):
        await client.call("HELLO", protocol)
        await client.call("SADD", "k", *"abcdefgh")
        for line, kind in lines.items():
            reply = await client.call_raw(*line.split())
            assert (line, reply[:1]) == (line, unordered if kind == b"~" else kind)


async def test_a_hundred_thousand_members_go_in_and_come_out(client: MemoryClient) -> None:
    members = [b"%d" % number for number in range(100_000)]
    assert await client.call("SADD", "k", *members) == 100_000
    assert await client.call("SMISMEMBER", "k", *members[:1000], "x") == [1] * 1000 + [0]
    popped = set(await client.call("SPOP", "k", 90_000))
    assert len(popped) == 90_000
    assert await client.call("SREM", "k", *set(members) - popped) == 10_000
    assert await client.call("EXISTS", "k") == 0


# One conversation; what a line does lasts for those after it. The slow part comes first.
LINES = """
    SET str x | SADD str a | SADD a | SADD s a b c a | SADD s "" | SREM s zz | SREM none a b |
    SREM s a b | SREM s c c "" | EXISTS s | SADD s 1 2 3 | SMEMBERS none | SMEMBERS str |
    SISMEMBER s 1 | SISMEMBER none 1 | SISMEMBER str 1 | SMISMEMBER s 1 9 1 | SMISMEMBER none 1 9 |
    SMISMEMBER str 1 | SCARD none | SCARD s | SCARD str | SPOP none | SPOP none 2 | SPOP none abc |
    SPOP none -1 | SPOP s -1 | SPOP s abc | SPOP str | SPOP str 0 | SPOP str -1 | SPOP s 0 |
    SPOP none 0 | SPOP s 1 2 | SPOP s 99999999999999999999 | SADD one x | SPOP one 5 | EXISTS one |
    SADD one x | SPOP one | SRANDMEMBER none | SRANDMEMBER none 2 | SRANDMEMBER none -2 |
    SRANDMEMBER none abc | SRANDMEMBER s 0 | SRANDMEMBER str | SRANDMEMBER str 1 |
    SRANDMEMBER s abc | SRANDMEMBER s 1 2 | SRANDMEMBER s -9223372036854775808 |
    SRANDMEMBER none -9223372036854775808 | SRANDMEMBER s 9223372036854775807 | SADD one x |
    SRANDMEMBER one | SRANDMEMBER one 3 | SRANDMEMBER one -3 | SMOVE none s x | SMOVE none str x |
    SMOVE str s x | SMOVE s str x | SMOVE s str nonmember | SMOVE s s 1 | SMOVE s s zzz |
    SMOVE s t 1 | SMOVE s t 1 | SMEMBERS t | SMOVE s t | SMOVE t t2 1 | EXISTS t | SADD x 1 2 3 |
    SADD y 2 3 4 | SINTER x y | SINTER x none | SINTER none x | SINTER x none str |
    SINTER none str | SINTER str none | SINTER x str | SINTER | SDIFF x y | SDIFF none x |
    SDIFF none str | SDIFF x x | SDIFF x none | SUNION x none | SUNION none | SUNION x str |
    SUNION none str | SDIFF x none str | SINTERSTORE d x y | SMEMBERS d | SINTERSTORE d x none |
    EXISTS d | SINTERSTORE str x none | EXISTS str | SET str x | SINTERSTORE d none str |
    SINTERSTORE d | SDIFFSTORE str x x | EXISTS str | SET str x | SUNIONSTORE x x y | SMEMBERS x |
    SUNIONSTORE str none | EXISTS str | SET str x | SUNIONSTORE str str x | SUNIONSTORE str x |
    TYPE str | SET str x | SINTERCARD 0 x | SINTERCARD abc x | SINTERCARD -1 x | SINTERCARD 2 x |
    SINTERCARD 1 x y | SINTERCARD 1 x LIMIT | SINTERCARD 1 x LIMIT 2 | SINTERCARD 1 x LIMIT -1 |
    SINTERCARD 1 x LIMIT abc | SINTERCARD 1 x LIMIT 0 | SINTERCARD 1 x LIMIT 1 LIMIT 3 |
    SINTERCARD 1 x FOO 1 | SINTERCARD 1 str | SINTERCARD 2 x none | SINTERCARD 2 none str |
    SINTERCARD 1 | SINTERCARD 99999999999999999999 x | SINTERCARD 9223372036854775807 x |
    SINTERCARD 1 x LIMIT 99999999999999999999 | SINTERCARD 1 x LIMIT 9223372036854775807 |
    SINTERCARD 1 x LIMIT abc FOO | SINTERCARD 2 x x | SSCAN none 0 | SSCAN none abc | SSCAN str 0 |
    SSCAN str abc | SSCAN str 0 FOO | SSCAN none 0 FOO | SSCAN x 0 FOO | SSCAN x 0 MATCH |
    SSCAN x 0 COUNT 0 | SSCAN x 0 COUNT abc | SSCAN x 0 COUNT 20 | SSCAN x 0 TYPE string |
    SSCAN x 0 MATCH 3 | SSCAN none 0 COUNT 0 | SSCAN x | SSCAN x 0 MATCH [12] COUNT 99 |
    COMMAND GETKEYS SINTERCARD 2 a b | COMMAND GETKEYS SINTERCARD 2 a |
    COMMAND GETKEYS SINTERCARD abc a | COMMAND GETKEYS SINTERCARD 0 a |
    COMMAND GETKEYS SINTERCARD 2 a b LIMIT 3 | COMMAND GETKEYS SMOVE a b c |
    COMMAND GETKEYS SUNIONSTORE a b c | COMMAND GETKEYS SPOP a 1 | TYPE x | RENAME x xx | SCARD xx |
    COPY xx x | SREM x 1 | SCARD xx | MOVE xx 3 | SELECT 3 | SMEMBERS xx | SELECT 0 | EXPIRE x 100 |
    SADD x new | TTL x | SUNIONSTORE x x | TTL x | SET x v | SADD x y | GET x | DEL x | SADD x y |
    GET x | INCR x | APPEND x y | STRLEN x | SETRANGE x 0 y | GETSET x v | MULTI | SADD m a b |
    SCARD m | SPOP m 9 | SCARD m | SPOP m abc | SPOP m | SADD m | EXEC | MULTI | SADD m a b c |
    SPOP m 9 | SPOP m 9 | SPOP m x | SRANDMEMBER m x | SADD m z | SRANDMEMBER m 5 |
    SSCAN m 0 COUNT 0 | SMEMBERS m | SINTERCARD 0 m | EXEC | WATCH m | SADD m z | MULTI |
    SCARD m | EXEC | WATCH m | SADD m zz | MULTI | SCARD m | EXEC | SADD "" "" | SMEMBERS "" |
    SISMEMBER "" "" | SMOVE "" "" "" | SPOP ""
"""
UNORDERED = {"SMEMBERS", "SUNION", "SINTER", "SDIFF", "SPOP", "SRANDMEMBER", "SSCAN"}
"""Replies whose order no server promises; each has a single order of its own all the same."""


def conversation() -> list[list[str]]:
    lines = " | ".join(line.strip().removesuffix("|") for line in LINES.strip().splitlines())
    return [shlex.split(line) for line in lines.split("|")]


def decode(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


def seen(arguments: list[str], reply: bytes) -> object:
    """What of a reply must be equal: the bytes, or in place of them the lines in any order."""
    if arguments[0] in UNORDERED or arguments == ["EXEC"]:
        return reply[:2], sorted(reply.split(b"\r\n"))
    return reply


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation():
            ours, theirs = await client.call_raw(*arguments), ask(redis, *arguments)
            assert (arguments, seen(arguments, ours)) == (arguments, seen(arguments, theirs))


NAMES = [
    *("sadd", "srem", "spop", "smove", "sunionstore", "sinterstore", "sdiffstore", "smembers"),
    *("sismember", "smismember", "scard", "srandmember", "sunion", "sinter", "sdiff"),
    *("sintercard", "sscan"),
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
