"""Grammar of the commands on keys and databases."""

from __future__ import annotations

import pytest

from kvnode.limits import KEY_BYTES_MAX, SCAN_ROWS_MAX
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import ExpireFlag, ObjectQuery
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
        ("UNLINK a b", [ops.DEL, 0, b"a", b"b"]),
        ("TOUCH a a", [ops.EXISTS, 0, b"a", b"a"]),
        ("EXPIRETIME k", [ops.EXPIRETIME, 0, b"k", 0]),
        ("PEXPIRETIME k", [ops.EXPIRETIME, 0, b"k", 1]),
        ("RENAME a b", [ops.RENAME, 0, b"a", b"b", 0]),
        ("RENAMENX a b", [ops.RENAME, 0, b"a", b"b", 1]),
        ("COPY a b", [ops.COPY, 0, b"a", 0, b"b", 0]),
        ("COPY a a replace DB 15", [ops.COPY, 0, b"a", 15, b"a", 1]),
        ("MOVE a 3", [ops.MOVE, 0, b"a", 3]),
        ("SWAPDB 3 0", [ops.SWAPDB, 0, 3, 0]),
        ("OBJECT ENCODING k", [ops.OBJECT, 0, b"k", ObjectQuery.ENCODING]),
        ("object freq k", [ops.OBJECT, 0, b"k", ObjectQuery.FREQ]),
        ("OBJECT IDLETIME k", [ops.OBJECT, 0, b"k", ObjectQuery.IDLETIME]),
        ("OBJECT REFCOUNT k", [ops.OBJECT, 0, b"k", ObjectQuery.REFCOUNT]),
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
        ("COPY a a", "ERR source and destination objects are the same"),
        ("COPY a b DB", SYNTAX),
        ("COPY a b DB 16", "ERR DB index is out of range"),
        ("MOVE a 0", "ERR source and destination objects are the same"),
        ("MOVE a x", NOT_AN_INTEGER),
        (
            "MOVE a 2147483648",
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ),
        ("SWAPDB x 1", "ERR invalid first DB index"),
        ("SWAPDB 1 2147483648", "ERR invalid second DB index"),
        ("SWAPDB 1 16", "ERR DB index is out of range"),
        ("OBJECT ENCODING", "ERR wrong number of arguments for 'object|encoding' command"),
        ("OBJECT FOO k", "ERR unknown subcommand 'FOO'. Try OBJECT HELP."),
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


async def test_randomkey_brings_a_random_number_of_its_own(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    for _ in range(3):
        client.send("RANDOMKEY")
    starts = {pending.op[2] for pending in service.held}
    assert len(starts) == 3
    assert all(0 <= start < 1 << 64 for start in starts)


async def test_object_help_tells_every_subcommand(client: MemoryClient) -> None:
    lines = await client.call("OBJECT", "HELP")
    for name in (b"ENCODING", b"FREQ", b"IDLETIME", b"REFCOUNT", b"HELP"):
        assert any(line.startswith(name) for line in lines)
