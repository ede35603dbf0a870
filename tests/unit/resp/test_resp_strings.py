"""Grammar of the string commands: which op each becomes, and Redis' words for what is wrong."""

from __future__ import annotations

import pytest

from kvnode.errors import CommandError
from kvnode.limits import KEY_BYTES_MAX
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import GetexFlag, LcsFlag, SetFlag
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode

SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("GET k", [ops.GET, 0, b"k"]),
        ("get k", [ops.GET, 0, b"k"]),
        ("gEt k", [ops.GET, 0, b"k"]),
        ("SET k v", [ops.SET, 0, b"k", b"v"]),
        ("SET k v NX", [ops.SET, 0, b"k", b"v", SetFlag.NX, 0]),
        ("SET k v xx get", [ops.SET, 0, b"k", b"v", SetFlag.XX | SetFlag.GET, 0]),
        ("SET k v NX GET", [ops.SET, 0, b"k", b"v", SetFlag.NX | SetFlag.GET, 0]),
        ("SET k v KEEPTTL", [ops.SET, 0, b"k", b"v", SetFlag.KEEPTTL, 0]),
        ("SET k v EX 10", [ops.SET, 0, b"k", b"v", SetFlag.PX, 10_000]),
        ("SET k v px 10 NX", [ops.SET, 0, b"k", b"v", SetFlag.PX | SetFlag.NX, 10]),
        ("SET k v EXAT 10", [ops.SET, 0, b"k", b"v", SetFlag.PXAT, 10_000]),
        ("SET k v PXAT 10", [ops.SET, 0, b"k", b"v", SetFlag.PXAT, 10]),
        ("MGET a b a", [ops.MGET, 0, b"a", b"b", b"a"]),
        ("MSET a 1 b 2", [ops.MSET, 0, b"a", b"1", b"b", b"2"]),
        ("INCR k", [ops.INCRBY, 0, b"k", 1]),
        ("DECR k", [ops.INCRBY, 0, b"k", -1]),
        ("INCRBY k -7", [ops.INCRBY, 0, b"k", -7]),
        ("DECRBY k 7", [ops.INCRBY, 0, b"k", -7]),
        ("INCRBY k 9223372036854775807", [ops.INCRBY, 0, b"k", 2**63 - 1]),
        ("APPEND k v", [ops.APPEND, 0, b"k", b"v"]),
        ("STRLEN k", [ops.STRLEN, 0, b"k"]),
        ("SETNX k v", [ops.SET, 0, b"k", b"v", SetFlag.NX, 0]),
        ("SETEX k 10 v", [ops.SET, 0, b"k", b"v", SetFlag.PX, 10_000]),
        ("PSETEX k 10 v", [ops.SET, 0, b"k", b"v", SetFlag.PX, 10]),
        ("GETSET k v", [ops.SET, 0, b"k", b"v", SetFlag.GET, 0]),
        ("GETDEL k", [ops.GETDEL, 0, b"k"]),
        ("GETEX k", [ops.GETEX, 0, b"k", 0, 0]),
        ("GETEX k persist", [ops.GETEX, 0, b"k", GetexFlag.PERSIST, 0]),
        ("GETEX k EX 10", [ops.GETEX, 0, b"k", GetexFlag.PX, 10_000]),
        ("GETEX k pxat 10", [ops.GETEX, 0, b"k", GetexFlag.PXAT, 10]),
        ("GETEX k EX soon", [ops.GETEX, 0, b"k", GetexFlag.PX, None]),
        ("GETEX k EX -1", [ops.GETEX, 0, b"k", GetexFlag.PX, 0]),
        ("GETEX k EX 9223372036854775807", [ops.GETEX, 0, b"k", GetexFlag.PX, 0]),
        ("MSETNX a 1 b 2", [ops.MSETNX, 0, b"a", b"1", b"b", b"2"]),
        ("INCRBYFLOAT k 1e3", [ops.INCRBYFLOAT, 0, b"k", b"1e3"]),
        ("SETRANGE k 5 v", [ops.SETRANGE, 0, b"k", 5, b"v"]),
        ("GETRANGE k -5 9", [ops.GETRANGE, 0, b"k", -5, 9]),
        ("SUBSTR k 0 -1", [ops.GETRANGE, 0, b"k", 0, -1]),
        ("LCS a b", [ops.LCS, 0, b"a", b"b", 0, 0]),
        ("LCS a b len", [ops.LCS, 0, b"a", b"b", LcsFlag.LEN, 0]),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            [ops.LCS, 0, b"a", b"b", LcsFlag.IDX | LcsFlag.WITHMATCHLEN, 4],
        ),
        ("LCS a b MINMATCHLEN -4", [ops.LCS, 0, b"a", b"b", 0, 0]),
    ],
)
async def test_a_command_becomes_its_op(
    service: FakeService, client: MemoryClient, line: str, op: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [op]


async def test_an_op_works_on_the_selected_database(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SELECT", 3) + encode("GET", "k"))
    assert service.held[0].op == [ops.GET, 3, b"k"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("get a b", "ERR wrong number of arguments for 'get' command"),
        ("SET k", "ERR wrong number of arguments for 'set' command"),
        ("SET k v FOO", SYNTAX),
        ("SET k v NX XX", SYNTAX),
        ("SET k v XX NX", SYNTAX),
        ("SET k v EX", SYNTAX),
        ("SET k v EX 1 PX 1", SYNTAX),
        ("SET k v KEEPTTL EX 1", SYNTAX),
        ("SET k v EX 1 KEEPTTL", SYNTAX),
        ("SET k v EX x", NOT_AN_INTEGER),
        ("SET k v EX 1.5", NOT_AN_INTEGER),
        ("SET k v EX 0", "ERR invalid expire time in 'set' command"),
        ("SETEX k 0 v", "ERR invalid expire time in 'setex' command"),
        ("PSETEX k -1 v", "ERR invalid expire time in 'psetex' command"),
        ("SETEX k 1.5 v", NOT_AN_INTEGER),
        ("GETEX k EX 1 PERSIST", SYNTAX),
        ("GETEX k PERSIST EX 1", SYNTAX),
        ("GETEX k EX 1 PX 1", SYNTAX),
        ("GETEX k EX", SYNTAX),
        ("GETEX k KEEPTTL", SYNTAX),
        ("MSETNX a 1 b", "ERR wrong number of arguments for 'msetnx' command"),
        (f"INCRBYFLOAT k {'1' * 5120}", "ERR value is not a valid float"),
        ("SETRANGE k -1 v", "ERR offset is out of range"),
        ("SETRANGE k x v", NOT_AN_INTEGER),
        ("GETRANGE k x 1", NOT_AN_INTEGER),
        ("SUBSTR k 1 x", NOT_AN_INTEGER),
        ("LCS a b LEN IDX", "ERR If you want both the length and indexes, please just use IDX."),
        ("LCS a b MINMATCHLEN", SYNTAX),
        ("LCS a b FOO", SYNTAX),
        ("SET k v PX -1", "ERR invalid expire time in 'set' command"),
        ("SET k v PXAT 0", "ERR invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("SET k v PX 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("INCRBY k x", NOT_AN_INTEGER),
        ("INCRBY k +1", NOT_AN_INTEGER),
        ("INCRBY k 01", NOT_AN_INTEGER),
        ("INCRBY k 9223372036854775808", NOT_AN_INTEGER),
        ("INCRBY k 99999999999999999999999999", NOT_AN_INTEGER),
        ("DECRBY k -9223372036854775808", "ERR decrement would overflow"),
    ],
)
async def test_bad_grammar_is_refused_in_redis_words(
    service: FakeService, client: MemoryClient, line: str, text: str
) -> None:
    assert str(await client.call(*line.split())) == text
    assert (service.written, service.read) == (0, 0)


@pytest.mark.parametrize(
    "line", ["GET {}", "SET {} v", "SET {} v NX", "MGET a {}", "MSET a 1 {} 2", "INCR {}"]
)
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    assert await client.call(*line.format("k" * KEY_BYTES_MAX).split()) is not None or "GET" in line
    done = service.written + service.read
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert service.written + service.read == done


async def test_values_survive_any_bytes(client: MemoryClient) -> None:
    value = bytes(range(256)) + b"\r\n*1000\r\n\n>5\r\n"
    await client.call("SET", "k", value)
    assert await client.call("GET", "k") == value


async def test_conditions_and_old_values_are_answered_as_redis_does(client: MemoryClient) -> None:
    assert await client.call("SET", "k", "1", "XX") is None
    assert await client.call("SET", "k", "1", "GET") is None
    assert await client.call("SET", "k", "2", "GET") == b"1"
    assert await client.call("SET", "k", "3", "NX") is None
    assert await client.call("MGET", "k", "none") == [b"2", None]
    assert await client.call("INCRBY", "k", 40) == 42


async def test_setnx_answers_one_and_zero(client: MemoryClient) -> None:
    assert await client.call_raw("SETNX", "k", "v") == b":1\r\n"
    assert await client.call_raw("SETNX", "k", "w") == b":0\r\n"
    assert await client.call("GET", "k") == b"v"


async def test_a_refused_setnx_is_an_error(service: FakeService, client: MemoryClient) -> None:
    service.refuse = CommandError("BUSY no")
    assert await client.call_raw("SETNX", "k", "v") == b"-BUSY no\r\n"


async def test_the_indexes_of_lcs_are_a_map_in_resp3(client: MemoryClient) -> None:
    await client.call("MSET", "a", "xab", "b", "ab")
    matches = b"*1\r\n*2\r\n*2\r\n:1\r\n:2\r\n*2\r\n:0\r\n:1\r\n"
    pairs = b"$7\r\nmatches\r\n" + matches + b"$3\r\nlen\r\n:2\r\n"
    assert await client.call_raw("LCS", "a", "b", "IDX") == b"*4\r\n" + pairs
    await client.call("HELLO", 3)
    assert await client.call_raw("LCS", "a", "b", "IDX") == b"%2\r\n" + pairs
    assert await client.call_raw("LCS", "a", "b") == b"$2\r\nab\r\n"
