"""Hash commands: which op each becomes, the shapes of replies, and Redis' answers line by line."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from kvnode.limits import DRAWN_MEMBERS_MAX, KEY_BYTES_MAX
from kvnode.service import Op
from kvnode.store import ops
from tests.support.fake_service import FakeService
from tests.support.real_redis import RealRedis, real_redis, requires_redis
from tests.unit.resp.memory_client import MemoryClient, serve

FIELDS, VALUES = 1, 2


@pytest.fixture
def redis(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealRedis]:
    protocol = getattr(request, "param", "2")
    with real_redis(tmp_path, protocol=protocol) as connection:
        yield connection


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("HSET k f v", [ops.HSET, 0, b"k", b"f", b"v"]),
        ("HSET k f v g w", [ops.HSET, 0, b"k", b"f", b"v", b"g", b"w"]),
        ("HMSET k f v", [ops.HSET, 0, b"k", b"f", b"v"]),
        ("HSETNX k f v", [ops.HSETNX, 0, b"k", b"f", b"v"]),
        ("HDEL k f g", [ops.HDEL, 0, b"k", b"f", b"g"]),
        ("HINCRBY k f -7", [ops.HINCRBY, 0, b"k", b"f", -7]),
        ("HINCRBYFLOAT k f 1e3", [ops.HINCRBYFLOAT, 0, b"k", b"f", b"1e3"]),
        ("HGET k f", [ops.HGET, 0, b"k", b"f"]),
        ("HMGET k f g f", [ops.HMGET, 0, b"k", b"f", b"g", b"f"]),
        ("HGETALL k", [ops.HGETALL, 0, b"k", FIELDS | VALUES]),
        ("HKEYS k", [ops.HGETALL, 0, b"k", FIELDS]),
        ("HVALS k", [ops.HGETALL, 0, b"k", VALUES]),
        ("HLEN k", [ops.HLEN, 0, b"k"]),
        ("HSTRLEN k f", [ops.HSTRLEN, 0, b"k", b"f"]),
        ("HEXISTS k f", [ops.HEXISTS, 0, b"k", b"f"]),
        ("HSCAN k 0", [ops.HSCAN, 0, b"k", 0, None, 10]),
        ("HSCAN k 7 count 5 MATCH a*", [ops.HSCAN, 0, b"k", 7, b"a*", 5]),
        ("HSCAN k -1 MATCH *", [ops.HSCAN, 0, b"k", 2**64 - 1, None, 10]),
        ("HSCAN k +5 COUNT x FOO", [ops.HSCAN, 0, b"k", 5, None, None]),
        ("HSCAN k 0 FOO bar COUNT x", [ops.HSCAN, 0, b"k", 0, None, 0]),
        ("HSCAN k 0 COUNT 0", [ops.HSCAN, 0, b"k", 0, None, 0]),
    ],
)
async def test_a_command_becomes_its_op(
    service: FakeService, client: MemoryClient, line: str, op: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [op]


@pytest.mark.parametrize(
    ("text", "cursor"),
    [(b"", 0), (b"\0", 0), (b"7\0x", 7), (b"+7", 7), (b"-7", 2**64 - 7), (b"00018", 18)],
)
async def test_a_cursor_is_read_as_c_reads_it(
    service: FakeService, client: MemoryClient, text: bytes, cursor: int
) -> None:
    service.hold()
    client.send("HSCAN", "k", text)
    client.send("SCAN", text)
    assert [pending.op[at] for pending, at in zip(service.held, (3, 2), strict=True)] == [
        cursor
    ] * 2


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("HRANDFIELD k", [None, 0]),
        ("HRANDFIELD k -3", [-3, 0]),
        ("HRANDFIELD k 3 withvalues", [3, 1]),
    ],
)
async def test_a_random_choice_carries_a_seed(
    service: FakeService, client: MemoryClient, line: str, rest: list[int | None]
) -> None:
    service.hold()
    client.send(*line.split())
    client.send(*line.split())
    first, second = (pending.op for pending in service.held)
    assert first[:3] == [ops.HRANDFIELD, 0, b"k"]
    assert first[4:] == rest
    assert first[3] != second[3]


@pytest.mark.parametrize(
    "line", ["HSET {} f v", "HGET {} f", "HDEL {} f", "HRANDFIELD {}", "HSCAN {} 0", "HKEYS {}"]
)
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert (service.written, service.read) == (0, 0)


async def test_random_fields_with_values_are_pairs_in_resp3(client: MemoryClient) -> None:
    await client.call("HSET", "h", "f", "v")
    for count in (1, -1):
        line = ("HRANDFIELD", "h", count, "WITHVALUES")
        assert await client.call_raw(*line) == b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
        await client.call("HELLO", 3)
        assert await client.call_raw(*line) == b"*1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
        await client.call("HELLO", 2)


async def test_more_repetitions_than_a_reply_should_have_are_refused(client: MemoryClient) -> None:
    await client.call("HSET", "h", "f", "v")
    reply = await client.call("HRANDFIELD", "h", -DRAWN_MEMBERS_MAX - 1)
    assert str(reply) == "ERR value is out of range"
    assert await client.call("HRANDFIELD", "h", -DRAWN_MEMBERS_MAX) == [b"f"] * DRAWN_MEMBERS_MAX


async def test_sixty_thousand_fields_go_in_and_come_out(client: MemoryClient) -> None:
    pairs = {b"%d" % number: b"%d" % -number for number in range(60_000)}
    assert await client.call("HSET", "h", *(part for pair in pairs.items() for part in pair)) == (
        len(pairs)
    )
    await client.call("HELLO", 3)
    assert await client.call("HGETALL", "h") == pairs
    assert await client.call("HDEL", "h", *pairs, "none") == len(pairs)
    assert await client.call("EXISTS", "h") == 0


# --- beside a real server -------------------------------------------------------------------------

LINES = """
HSET | HSET h | HSET h a | HSET h a 1 b | HSET h a 1 | HSET h a 1 b 2 | HMSET h | HMSET h a |
HMSET h a 1 b | HMSET h a 3 | HSETNX h a 9 | HSETNX h c 9 | HSETNX h c | HGET h a | HGET h zz |
HGET none a | HGET h | HMGET h | HMGET h a zz b a | HMGET none a b | HLEN h | HLEN none | HLEN |
HSTRLEN h a | HSTRLEN h zz | HSTRLEN none a | HSTRLEN h | HEXISTS h a | HEXISTS h zz |
HEXISTS none a | HEXISTS h | HDEL h | HDEL h zz | HDEL none zz | HDEL h c c | HGETALL none |
HKEYS none | HVALS none | HGETALL | HKEYS | HVALS | HGETALL h x | HINCRBY h a 5 | HINCRBY h n 5 |
HINCRBY h a x | HINCRBY h a 1.5 | HINCRBY h a 9223372036854775808 | HSET h t text | HINCRBY h t 1 |
HINCRBY h t x | HINCRBY h a 9223372036854775807 | HINCRBY h a -9223372036854775808 | HINCRBY h a |
HSET h sp " 1" | HINCRBY h sp 1 | HINCRBYFLOAT h sp 1 | HSET h z 007 | HINCRBY h z 1 |
HINCRBYFLOAT h z 1 | HINCRBYFLOAT h f 3.0e3 | HINCRBYFLOAT h f 0.1 | HINCRBYFLOAT h f -1.10 |
HINCRBYFLOAT h f inf | HINCRBYFLOAT h f -Infinity | HINCRBYFLOAT h f nan | HINCRBYFLOAT h f abc |
HINCRBYFLOAT h f "" | HINCRBYFLOAT h f 0x10 | HINCRBYFLOAT h f 1e5000 | HINCRBYFLOAT h t 1 |
HINCRBYFLOAT h t x | HSET h i inf | HINCRBYFLOAT h i 1 | HINCRBYFLOAT h i inf | HINCRBYFLOAT h f |
HINCRBYFLOAT none f 5e-1 | HGETALL none | DEL none | HSET "" "" "" | HGETALL "" | HGET "" "" |
HSTRLEN "" "" | HDEL "" "" | EXISTS "" |
HRANDFIELD none | HRANDFIELD none 1 | HRANDFIELD none 0 | HRANDFIELD none 1 WITHVALUES |
HRANDFIELD none x | HRANDFIELD h x | HRANDFIELD h 1.5 | HRANDFIELD h 0 | HRANDFIELD h 0 WITHVALUES |
HRANDFIELD h -9223372036854775808 | HRANDFIELD h 1 FOO | HRANDFIELD h x FOO |
HRANDFIELD h 1 WITHVALUES x | HRANDFIELD h 4611686018427387904 WITHVALUES |
HRANDFIELD h -4611686018427387904 WITHVALUES | HRANDFIELD h 9223372036854775808 | HRANDFIELD |
HSET one f v | HRANDFIELD one | HRANDFIELD one 1 | HRANDFIELD one 5 | HRANDFIELD one -3 |
HRANDFIELD one 5 WITHVALUES | HRANDFIELD one -3 WITHVALUES | HGETALL one | HKEYS one | HVALS one |
HSCAN one 0 | HSCAN one 0 COUNT 1 | HSCAN one 0 MATCH g* | HSCAN one 0 MATCH f count 5 |
HSCAN none 0 | HSCAN none 0 FOO | HSCAN none x | HSCAN one x | HSCAN one 0 FOO | HSCAN one 0 COUNT |
HSCAN one 0 COUNT 0 | HSCAN one 0 COUNT -1 | HSCAN one 0 COUNT x FOO | HSCAN one 0 FOO COUNT x |
HSCAN one 0 TYPE hash | HSCAN one 0 MATCH | HSCAN one 18446744073709551616 | HSCAN one |
HSCAN one "" | HSCAN one " 0" | HSCAN one + | SCAN "" TYPE nosuch | SCAN -0 TYPE nosuch |
SET s v | HSET s f v | HSET s f | HMSET s f v | HSETNX s f v | HGET s f | HMGET s f | HGETALL s |
HKEYS s | HVALS s | HLEN s | HSTRLEN s f | HEXISTS s f | HDEL s f | HINCRBY s f 1 | HINCRBY s f x |
HINCRBYFLOAT s f 1 | HINCRBYFLOAT s f x | HRANDFIELD s | HRANDFIELD s 0 | HRANDFIELD s 1 FOO |
HSCAN s 0 | HSCAN s 0 FOO | HSCAN s x | GET one | INCR one | APPEND one x | STRLEN one |
GETDEL one | SETRANGE one 0 x | GETRANGE one 0 1 | LCS one s | MGET one s | SETNX one x |
SET one x GET |
MULTI | HSET q a 1 | HINCRBY q a 1 | HINCRBY q a x | HGETALL q | HSET q | EXEC | MULTI |
HSET q a 1 | HINCRBY q a 1 | HINCRBY q a x | HGETALL q | HRANDFIELD q -2 WITHVALUES | HMSET q b 1 |
HMGET q a zz | EXEC | WATCH q | HSETNX q a 1 | MULTI | EXEC | WATCH q | HDEL q zz | MULTI | HLEN q |
EXEC | WATCH q | HSET q a 2 | MULTI | HLEN q | EXEC | COMMAND GETKEYS HSET k f v |
COMMAND GETKEYS HSCAN k 0 | HDEL q a b | EXISTS q
"""


def conversation() -> list[list[str]]:
    return [shlex.split(line) for line in " ".join(LINES.split("\n")).split("|")]


@requires_redis
@pytest.mark.parametrize("redis", ["2", "3"], indirect=True)
async def test_redis_and_we_answer_alike(redis: RealRedis, request: pytest.FixtureRequest) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", request.node.callspec.params["redis"])
    for line in conversation():
        assert (line, await client.call_raw(*line)) == (line, redis.call_raw(*line))


@requires_redis
async def test_whatever_a_hash_holds_its_listings_have_the_same_bytes_as_sets(
    redis: RealRedis,
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    for _ in range(100):
        pairs = [rng.randbytes(rng.randrange(70)) for _ in range(2 * rng.randint(1, 9))]
        line = ("HSET", "h", *pairs)
        assert await client.call_raw(*line) == redis.call_raw(*line)
        for name in ("HKEYS", "HVALS"):
            ours, theirs = await client.call(name, "h"), redis.call(name, "h")
            assert isinstance(theirs, list)
            assert sorted(ours) == sorted(theirs)
        field = rng.choice(pairs[::2])
        for line in (("HGET", "h", field), ("HSTRLEN", "h", field), ("HDEL", "h", field)):
            assert await client.call_raw(*line) == redis.call_raw(*line)
        assert await client.call("OBJECT", "ENCODING", "h") in (
            redis.call("OBJECT", "ENCODING", "h"),
            b"listpack",  # Redis remembers a value that is gone
        )


NAMES = [
    *("hset", "hsetnx", "hmset", "hget", "hmget", "hgetall", "hdel", "hexists", "hlen", "hstrlen"),
    *("hkeys", "hvals", "hincrby", "hincrbyfloat", "hrandfield", "hscan"),
]


@requires_redis
async def test_the_facts_are_those_of_redis(client: MemoryClient, redis: RealRedis) -> None:
    for name in NAMES:
        (ours,) = await client.call("COMMAND", "INFO", name)
        reader = hiredis.Reader()
        reader.feed(redis.call_raw("COMMAND", "INFO", name))
        theirs = reader.gets()[0]
        assert [*ours[:6], set(ours[6])] == [*theirs[:6], set(theirs[6])]
        docs = redis.call("COMMAND", "DOCS", name)
        assert isinstance(docs, list)
        (_, mine) = await client.call("COMMAND", "DOCS", name)
        assert [mine[3], mine[5]] == [docs[1][3], docs[1][5]]
