"""SORT: which op it becomes, when it is a read, and Redis' answers line by line."""

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
from kvnode.store.ops import SortFlag
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
DESC, ALPHA, NOSORT = map(int, SortFlag)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("SORT k", [ops.SORT, 0, b"k", 0, 0, -1, None]),
        ("sort k desc alpha", [ops.SORT, 0, b"k", DESC | ALPHA, 0, -1, None]),
        ("SORT k DESC ASC", [ops.SORT, 0, b"k", 0, 0, -1, None]),
        ("SORT k LIMIT -3 5", [ops.SORT, 0, b"k", 0, -3, 5, None]),
        ("SORT k BY w_* GET # GET h_*->f", [ops.SORT, 0, b"k", 0, 0, -1, b"w_*", b"#", b"h_*->f"]),
        ("SORT k BY nosort", [ops.SORT, 0, b"k", NOSORT, 0, -1, None]),
        ("SORT k BY w_* BY nosort", [ops.SORT, 0, b"k", NOSORT, 0, -1, None]),
        ("SORT k GET STORE", [ops.SORT, 0, b"k", 0, 0, -1, None, b"STORE"]),
        ("SORT k STORE d", [ops.SORTSTORE, 0, b"d", b"k", 0, 0, -1, None]),
        ("SORT k STORE d GET # STORE e", [ops.SORTSTORE, 0, b"e", b"k", 0, 0, -1, None, b"#"]),
        ("SORT_RO k ALPHA", [ops.SORT, 0, b"k", ALPHA, 0, -1, None]),
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
        ("SORT", "ERR wrong number of arguments for 'sort' command"),
        ("SORT k FOO", SYNTAX),
        ("SORT k LIMIT 0", SYNTAX),
        ("SORT k LIMIT a b", NOT_AN_INTEGER),
        ("SORT k LIMIT 0 1.5", NOT_AN_INTEGER),
        ("SORT k BY", SYNTAX),
        ("SORT k GET", SYNTAX),
        ("SORT k STORE", SYNTAX),
        ("SORT_RO k STORE d", SYNTAX),
        ("SORT_RO k STORE d LIMIT a b", SYNTAX),
        ("SORT k LIMIT a b FOO", NOT_AN_INTEGER),
    ],
)
async def test_bad_grammar_is_refused_in_redis_words(
    service: FakeService, client: MemoryClient, line: str, text: str
) -> None:
    assert str(await client.call(*line.split())) == text
    assert (service.written, service.read) == (0, 0)


@pytest.mark.parametrize("line", ["SORT {}", "SORT a STORE {}", "SORT_RO {}"])
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert (service.written, service.read) == (0, 0)


@pytest.mark.parametrize(
    ("line", "is_write"),
    [
        ("SORT k", False),
        ("sOrT k GET STORE", False),
        ("SORT k BY STORE", False),
        ("SORT_RO k", False),
        ("SORT k STORE d", True),
        ("Sort k LIMIT 0 1 store d", True),
    ],
)
async def test_sort_goes_through_the_log_only_if_it_stores(
    service: FakeService, client: MemoryClient, line: str, is_write: bool
) -> None:
    for _ in range(2):  # the second time the spelling may be known
        await client.call(*line.split())
    assert (service.written, service.read) == ((2, 0) if is_write else (0, 2))


LINES = """
    SET str x | SORT none | SORT str | SORT str FOO | SORT none FOO | SORT none LIMIT 0 |
    SORT none LIMIT a b | SORT none LIMIT 0 b | SORT none BY | SORT none GET | SORT none STORE |
    SORT none LIMIT 0 10 ASC DESC ALPHA | SORT none STORE str | EXISTS str | SET str x |
    RPUSH l 3 1 2 10 | SORT l | SORT l DESC | SORT l LIMIT 1 2 | SORT l LIMIT -1 2 |
    SORT l LIMIT 0 -1 | SORT l LIMIT 1 -5 | SORT l LIMIT 0 0 | SORT l LIMIT 10 2 |
    SORT l LIMIT -5 -1 | SORT l LIMIT 2 9223372036854775807 |
    SORT l LIMIT 9223372036854775807 9223372036854775807 | SORT l ALPHA | SORT l ALPHA DESC |
    SORT l GET # GET # GET w_* | MSET w_1 9 w_2 8 w_3 7 w_10 6 | SORT l BY w_* |
    SORT l BY w_* GET # GET w_* | SORT l BY nosort | SORT l BY nosort DESC |
    SORT l BY nosort LIMIT 1 2 | SORT l BY nosort DESC LIMIT 1 2 |
    SORT l BY nosort DESC LIMIT 3 9 |
    SORT l BY nosort LIMIT -2 3 | SORT l BY nosort DESC LIMIT 9 9 |
    HSET h_1 f 5 w x | HSET h_2 f 4 |
    SORT l BY h_*->f | SORT l BY h_*->f GET h_*->w | SORT l BY h_*-> | SORT l BY h_*->nof |
    SORT l BY w_*->f | SORT l GET w_*->f | SORT l GET h_* | SORT l GET const | SORT l BY con->st* |
    SORT l GET a->b* | SET w_1 abc | SORT l BY w_* | SORT l BY w_* STORE d | EXISTS d |
    SORT l BY w_* ALPHA | SORT l BY v_* ALPHA DESC | MSET v_1 b v_2 a v_3 b |
    SORT l BY v_* ALPHA | SORT l BY v_* ALPHA DESC | SORT l BY v_* ALPHA DESC GET v_* |
    RPUSH la a b c | SORT la | SORT la BY nosort | SORT la ALPHA STORE d | LRANGE d 0 -1 |
    SORT la STORE d | LRANGE d 0 -1 | SORT la ALPHA LIMIT 5 5 STORE d | EXISTS d |
    SORT la ALPHA GET nokey_* STORE d | LRANGE d 0 -1 | SORT la ALPHA STORE la | LRANGE la 0 -1 |
    SADD s 3 1 2 10 7 | SORT s | SORT s BY nosort STORE d | LRANGE d 0 -1 |
    SORT s BY nosort LIMIT 0 2 STORE d | LRANGE d 0 -1 | SORT s BY nosort ALPHA STORE d |
    LRANGE d 0 -1 | SORT s BY nosort DESC STORE d | LRANGE d 0 -1 | SADD sw b a c |
    SORT sw BY nosort STORE d | LRANGE d 0 -1 | ZADD z 1 c 2 b 3 a 0 z | SORT z BY nosort |
    SORT z BY nosort DESC | SORT z BY nosort LIMIT 1 2 | SORT z BY nosort DESC LIMIT 1 2 |
    SORT z BY nosort LIMIT -1 2 | SORT z BY nosort LIMIT 0 -1 | SORT z BY nosort LIMIT 9 1 |
    SORT z ALPHA | SORT z | SORT z BY nosort LIMIT 0 0 | SORT z BY nosort STORE d |
    SORT z BY nosort DESC STORE d | LRANGE d 0 -1 | SORT_RO l STORE x | SORT_RO l |
    SORT_RO l BY w_* ALPHA | SORT | SORT l ASC DESC ASC | SORT l BY nosort BY w_* |
    SORT l BY w_* BY nosort | SORT l STORE d STORE e | EXISTS d e | SORT l STORE str | TYPE str |
    EXPIRE str 100 | SORT l STORE str | TTL str | RPUSH f 1.5 -2 1e3 0x10 inf -inf .5 5. | SORT f |
    SORT f DESC | RPUSH f2 1 nan | SORT f2 | RPUSH f3 " 1" 2 "" | SORT f3 | RPUSH f5 "1 " 2 |
    SORT f5 | RPUSH f51 "  " | SORT f51 | RPUSH f52 1_0 | SORT f52 | RPUSH f53 0x | SORT f53 |
    RPUSH f8 2 1.0 1 01 1.00 -0 0 | SORT f8 | SORT f8 DESC | SORT f8 LIMIT 0 2 | SORT f8 ALPHA |
    RPUSH f9 b A a B aa "" | SORT f9 ALPHA | HSET hash a b | SORT hash | SORT l BY w_2 |
    SORT l BY w_2 DESC | SORT l GET w_2 | SORT l BY * GET * | SORT l BY w_*_x |
    SORT l LIMIT 0 10 LIMIT 1 1 | SORT l LIMIT 99999999999999999999 1 | SORT l gEt # by nosort |
    SORT none BY nosort GET x STORE y LIMIT | SORT l BY w_*-> | SET weird->x 5 |
    SORT l BY weird->x* | MSET k->1 9 k->2 8 k->3 1 k->10 2 | SORT l BY k->* | SORT l GET k->* |
    SORT l GET h_*->f->g | SORT l DESC LIMIT 1 2 | SORT sw ALPHA DESC | SORT l BY # |
    SORT l GET ## | SORT l GET "" | SORT l BY "" | MULTI | SORT l | SORT l STORE m | SORT l FOO |
    SORT l GET # GET w_* | SORT str2 | SORT_RO l DESC | LRANGE m 0 -1 | SORT la | EXEC |
    COMMAND GETKEYS SORT a BY w_* GET # STORE d | COMMAND GETKEYS SORT a STORE d STORE e |
    COMMAND GETKEYS SORT a BY x | COMMAND GETKEYS SORT_RO a BY x |
    COMMAND GETKEYS SORT_RO a STORE x | COMMAND GETKEYS SORT a STORE |
    COMMAND GETKEYS SORT a LIMIT 1 STORE STORE x | COMMAND GETKEYS SORT
"""


def conversation() -> list[list[str]]:
    lines = " | ".join(line.strip().removesuffix("|") for line in LINES.strip().splitlines())
    return [shlex.split(line) for line in lines.split("|")]


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
            assert (arguments, ours) == (arguments, theirs)


def decode(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_the_facts_are_those_of_redis(redis_socket: Path) -> None:
    client = MemoryClient(serve(FakeService()))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        for name in ("sort", "sort_ro"):
            (ours,) = await client.call("COMMAND", "INFO", name)
            theirs = decode(ask(redis, "COMMAND", "INFO", name))[0]
            assert ours[:6] == theirs[:6]
            docs = decode(ask(redis, "COMMAND", "DOCS", name))[1]
            (_, mine) = await client.call("COMMAND", "DOCS", name)
            assert [mine[3], mine[5]] == [docs[3], docs[5]]
