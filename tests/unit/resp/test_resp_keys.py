"""Grammar of the commands on keys and databases."""

from __future__ import annotations

import pytest

from kvnode.limits import KEY_BYTES_MAX, SCAN_ROWS_MAX
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import ExpireFlag
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("DEL a b", [ops.DEL, 0, b"a", b"b"]),
        ("EXISTS a a", [ops.EXISTS, 0, b"a", b"a"]),
        ("TYPE k", [ops.TYPE, 0, b"k"]),
        ("EXPIRE k 10", [ops.EXPIRE, 0, b"k", 0, 10_000, 0]),
        ("EXPIRE k -1", [ops.EXPIRE, 0, b"k", 0, -1000, 0]),
        ("PEXPIRE k 10 nx", [ops.EXPIRE, 0, b"k", 0, 10, ExpireFlag.NX]),
        ("EXPIREAT k 10 XX", [ops.EXPIRE, 0, b"k", 1, 10_000, ExpireFlag.XX]),
        ("PEXPIREAT k 10 GT", [ops.EXPIRE, 0, b"k", 1, 10, ExpireFlag.GT]),
        ("PEXPIRE k 10 XX LT", [ops.EXPIRE, 0, b"k", 0, 10, ExpireFlag.XX | ExpireFlag.LT]),
        ("TTL k", [ops.TTL, 0, b"k", 0]),
        ("PTTL k", [ops.TTL, 0, b"k", 1]),
        ("PERSIST k", [ops.PERSIST, 0, b"k"]),
        ("KEYS a*", [ops.KEYS, 0, b"a*"]),
        ("SCAN 0", [ops.SCAN, 0, 0, None, 10, None]),
        ("SCAN 0 MATCH *", [ops.SCAN, 0, 0, None, 10, None]),
        ("SCAN 18446744073709551615", [ops.SCAN, 0, 2**64 - 1, None, 10, None]),
        ("SCAN 7 TYPE String COUNT 5 MATCH a?", [ops.SCAN, 0, 7, b"a?", 5, b"string"]),
        ("SCAN 0 COUNT 1000000000", [ops.SCAN, 0, 0, None, SCAN_ROWS_MAX, None]),
        ("DBSIZE", [ops.DBSIZE, 0]),
        ("FLUSHDB", [ops.FLUSHDB, 0]),
        ("FLUSHALL async", [ops.FLUSHALL, 0]),
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
        ("EXPIRE k", "ERR wrong number of arguments for 'expire' command"),
        ("EXPIRE k x", NOT_AN_INTEGER),
        ("EXPIRE k 1 FOO", "ERR Unsupported option FOO"),
        (
            "EXPIRE k 1 NX GT",
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        ("EXPIRE k 1 GT LT", "ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE k 9223372036854775807", "ERR invalid expire time in 'expire' command"),
        ("PEXPIREAT k 9223372036854775807", "ERR invalid expire time in 'pexpireat' command"),
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 99999999999999999999", "ERR invalid cursor"),
        ("SCAN 0 MATCH", SYNTAX),
        ("SCAN 0 FOO 1", SYNTAX),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT x", NOT_AN_INTEGER),
        ("FLUSHDB FOO", SYNTAX),
        ("FLUSHALL SYNC ASYNC", SYNTAX),
        ("DBSIZE x", "ERR wrong number of arguments for 'dbsize' command"),
        (f"DEL {'k' * (KEY_BYTES_MAX + 1)}", f"ERR key is larger than {KEY_BYTES_MAX} bytes"),
    ],
)
async def test_bad_grammar_is_refused_in_redis_words(
    service: FakeService, client: MemoryClient, line: str, text: str
) -> None:
    assert str(await client.call(*line.split())) == text
    assert (service.written, service.read) == (0, 0)


async def test_a_scan_cursor_travels_as_a_string(client: MemoryClient) -> None:
    await client.call("MSET", "a", 1, "b", 2)
    assert (await client.call_raw("SCAN", 0)).startswith(b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\n")


async def test_a_type_is_a_simple_string(client: MemoryClient) -> None:
    await client.call("SET", "k", "v")
    assert await client.call_raw("TYPE", "k") == b"+string\r\n"
    assert await client.call_raw("TYPE", "none") == b"+none\r\n"
