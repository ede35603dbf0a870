"""Bitmaps, bit fields and HyperLogLog: every line as a real redis-server answers it."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest

from kvnode.errors import CommandError
from kvnode.limits import PFADD_BYTES_MAX, VALUE_BYTES_MAX
from kvnode.resp.commands.table import COMMANDS
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.redis import hll
from kvnode.store.redis.bit_fields import Step, pack_step
from tests.support.fake_service import FakeService
from tests.support.real_redis import real_redis, requires_redis
from tests.unit.resp.memory_client import MemoryClient, serve

LINES = """
    SET s abc | SET empty ""
    BITCOUNT | BITCOUNT nope x y | BITCOUNT nope 1 | BITCOUNT s 1 | BITCOUNT s 0 x BIT
    BITCOUNT s 0 1 FOO | BITCOUNT s x 1 FOO | BITCOUNT s 0 1 BIT x | BITCOUNT nope 0 1 BIT x
    BITCOUNT s | BITCOUNT s 0 0 | BITCOUNT s -2 -1 | BITCOUNT s -1 -2 | BITCOUNT s 5 30 bit
    BITCOUNT s -5 -1 BIT | BITCOUNT s 99 100 | BITCOUNT s -100 1 byte | BITCOUNT empty 0 -1
    BITCOUNT s 9223372036854775807 -9223372036854775808
    BITPOS s | BITPOS s 2 | BITPOS s x | BITPOS nope 2 | BITPOS nope 1 x | BITPOS nope 0 x
    BITPOS s 1 x y z | BITPOS s 1 0 y FOO | BITPOS s 1 0 y BIT | BITPOS s 1 0 1 FOO
    BITPOS s 1 0 1 BIT FOO | BITPOS s 1 | BITPOS s 0 | BITPOS s 1 2 | BITPOS s 1 2 2 BIT
    BITPOS s 1 3 9 BIT | BITPOS s 0 9 9 BIT | BITPOS s 1 -1 | BITPOS s 1 5 | BITPOS empty 0
    BITPOS empty 1 | BITPOS empty 0 0 | BITPOS s 1 2 1
    SETBIT | SETBIT s 1 | SETBIT s -1 5 | SETBIT s 1 5 | SETBIT s 1 x | SETBIT s 1 -1
    SETBIT s x 1 | SETBIT s 67108864 1 | SETBIT s 1 1 | SETBIT s 1 0 | SETBIT s 30 1 | GET s
    GETBIT s 67108864 | GETBIT nope -1 | GETBIT nope 3 | GETBIT s 30 | GETBIT s x | GETBIT s
    BITFIELD | BITFIELD s GET u8 | BITFIELD s GET u64 0 | BITFIELD s GET i64 0 GET u63 #1
    BITFIELD s GET i65 0 | BITFIELD s GET x8 0 | BITFIELD s GET u08 0 | BITFIELD s GET u8 -1
    BITFIELD s GET "" 0 | BITFIELD s GET U8 0 | BITFIELD s GET u0 0 | BITFIELD s GET u8 #-1
    BITFIELD s GET u8 #8388607 | BITFIELD s GET u8 #8388608 | BITFIELD s GET u8 #x
    BITFIELD s GET u8 # | BITFIELD s SET u8 0 x | BITFIELD s OVERFLOW foo | BITFIELD s OVERFLOW
    BITFIELD s SET u8 67108864 1 | BITFIELD s SET u8 #8388608 1
    BITFIELD s | BITFIELD_RO s | BITFIELD_RO s SET u8 0 1 | BITFIELD_RO s OVERFLOW WRAP GET u8 0
    BITFIELD_RO s GET u8 0 GET i8 0 | BITFIELD nf OVERFLOW FAIL SET u8 0 256 | EXISTS nf | GET nf
    BITFIELD nf GET u8 100 | BITFIELD n2 GET u8 100 | BITFIELD n3 OVERFLOW SAT | EXISTS n2 n3
    BITFIELD a OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0
    BITFIELD a OVERFLOW SAT SET i8 0 -9223372036854775681 GET i8 0
    BITFIELD a OVERFLOW SAT SET i8 0 -9223372036854775680 GET i8 0
    BITFIELD a OVERFLOW SAT SET i63 0 -4611686018427387905 GET i63 0
    BITFIELD a OVERFLOW SAT SET i64 0 -9223372036854775808 GET i64 0
    BITFIELD a OVERFLOW SAT SET u8 0 -1 GET u8 0 OVERFLOW WRAP SET u8 0 -1 SET u8 3 300 GET u8 3
    BITFIELD a SET i64 0 -9223372036854775808
    BITFIELD a INCRBY i64 0 -1 OVERFLOW SAT INCRBY i64 0 -1 INCRBY i64 0 9223372036854775807
    BITFIELD a OVERFLOW SAT INCRBY u63 0 9223372036854775807 INCRBY u63 0 -9223372036854775808
    BITFIELD a overflow fail incrby i64 0 -9223372036854775808 incrby i64 0 -1 get i64 0
    BITFIELD a GET u8 #2305843009213693952 | BITFIELD a GET i64 #144115188075855872 | GET a
    BITOP NOT d a b | BITOP NOT d | BITOP FOO d a | BITOP AND d | BITOP AND d nope
    BITOP AND d a s | GET d | BITOP or d a s nope | GET d | BITOP XOR d a s a | GET d
    BITOP XOR d a a | GET d | BITOP XOR d s s s | GET d | BITOP NOT d s | GET d | BITOP NOT d d
    GET d | BITOP AND d nope nope | EXISTS d | BITOP not d nope | EXISTS d | BITOP AND s s a
    GET s | EXPIRE s 1000 | SETBIT s 0 1 | TTL s | BITFIELD s SET u8 0 3 | TTL s
    BITOP OR s s | TTL s
    PFADD | PFADD hl | GET hl | PFADD hl | PFADD hl a | PFADD hl a | GET hl | PFADD s x
    PFCOUNT | PFCOUNT nope | PFCOUNT s | PFCOUNT nope s | PFCOUNT hl nope hl | PFADD h2 b c d ""
    PFCOUNT h2 hl | PFMERGE s | PFMERGE | PFMERGE h3 | GET h3 | PFMERGE h4 s | EXISTS h4
    PFMERGE h4 hl h2 | GET h4 | PFMERGE hl h2 nope | GET hl | EXPIRE hl 100 | PFADD hl zzz
    TTL hl | PFMERGE hl h4 | TTL hl
    SET bad "HYLL" | PFCOUNT bad | SETRANGE bad 4 "\\x01" | SETRANGE bad 15 "\\x80" | PFCOUNT bad
    PFCOUNT bad nope | PFADD bad x | PFMERGE h5 bad | PFMERGE bad h4
    SETRANGE bad 4 "\\x02" | PFADD bad x | SETRANGE bad 4 "\\x00" | PFCOUNT bad
    LPUSH l a | SETBIT l 1 5 | SETBIT l 1 1 | GETBIT l 0 | BITCOUNT l x y | BITPOS l 1 x
    BITPOS l 2 | BITFIELD l GET u8 0 | BITFIELD l SET u8 0 1 | BITFIELD_RO l GET u8 0
    BITFIELD_RO l SET u8 0 1 | BITOP AND d l | BITOP FOO l l | BITOP OR l a | TYPE l
    LPUSH l2 1 | PFCOUNT l2 | PFCOUNT l2 hl | PFADD l2 | PFMERGE l2 | PFMERGE hl l2
    MULTI | SETBIT m 1 1 | BITFIELD m GET u8 x | BITCOUNT m x y | PFADD m x | GETBIT m 1 | EXEC
    COMMAND GETKEYS BITOP AND d a b | COMMAND GETKEYS PFMERGE a b c | COMMAND GETKEYS SETBIT a 1 1
"""


def conversation() -> list[list[bytes]]:
    words = [shlex.split(line) for row in LINES.strip().splitlines() for line in row.split("|")]
    return [
        [word.encode().decode("unicode_escape").encode("latin-1") for word in line]
        for line in words
    ]


@requires_redis
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(tmp_path: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    limit = ("--proto-max-bulk-len", str(VALUE_BYTES_MAX))
    differs = (b"GETBIT s 67108864", b"BITFIELD s GET u8 #8388608")
    with real_redis(tmp_path, *limit, protocol=protocol) as redis:
        for line in conversation():
            ours, theirs = await client.call_raw(*line), redis.call_raw(*line)
            if b" ".join(line) in differs:
                continue  # reads here go on to the end of Redis' usual strings
            assert (line, ours) == (line, theirs)
            if line[0] in (b"PFADD", b"PFMERGE") and len(line) > 1:
                assert await client.call_raw("GET", line[1]) == redis.call_raw("GET", line[1])


@requires_redis
async def test_random_bit_commands_leave_the_bytes_of_redis(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for _ in range(1500):
            line = _bit_command(rng)
            assert (line, await client.call_raw(*line)) == (line, redis.call_raw(*line))
        for key in ("a", "b", "c"):
            assert await client.call_raw("GET", key) == redis.call_raw("GET", key)


def _bit_command(rng: random.Random) -> list[str]:
    key = rng.choice("abc")
    number = rng.choice([0, 1, -1, 7, 100, 2**31, -(2**63), 2**63 - 1, rng.randrange(-500, 500)])
    first, last = str(rng.randrange(-40, 40)), str(rng.randrange(-300, 300))
    unit = rng.choice(["BYTE", "BIT"])
    width = rng.choice(["u", "i"]) + str(rng.choice([1, 2, 8, 13, 33, 63, rng.randint(1, 63)]))
    step = rng.choice([["GET"], ["SET"], ["INCRBY"]])
    offset = rng.choice(["", "#"]) + str(rng.randrange(40))
    field = [*step, width if rng.random() < 0.9 else "i64", offset]
    field += [] if step == ["GET"] else [str(number)]
    sources = [rng.choice("abcd") for _ in range(rng.randint(1, 4))]
    return rng.choice(
        [
            ["SETBIT", key, str(rng.randrange(400)), rng.choice("01")],
            ["GETBIT", key, str(rng.randrange(500))],
            ["BITCOUNT", key, first, last, unit],
            ["BITPOS", key, rng.choice("01"), first, last, unit],
            ["BITPOS", key, rng.choice("01"), first],
            ["BITFIELD", key, "OVERFLOW", rng.choice(["WRAP", "SAT", "FAIL"]), *field, *field],
            ["BITOP", rng.choice(["AND", "OR", "XOR"]), key, *sources],
            ["BITOP", "NOT", key, sources[0]],
        ]
    )


@requires_redis
async def test_random_hyperloglogs_have_the_bytes_of_redis(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for round_ in range(60):
            key = rng.choice("abcdef")
            many = rng.choice([1, 3, 30, 300, 900])
            elements = [rng.randbytes(rng.randrange(12)) for _ in range(many)]
            line: list[str | bytes] = ["PFADD", key, *elements]
            if round_ % 5 == 0:
                line = ["PFMERGE", key, *rng.choices("abcdef", k=2)]
            for command in (line, ["GET", key], ["PFCOUNT", *"abcdef"], ["PFCOUNT", key, "zz"]):
                ours, theirs = await client.call_raw(*command), redis.call_raw(*command)
                assert (command[:2], ours) == (command[:2], theirs)
        for key in "abcdef":  # a count that Redis writes down
            assert await client.call("PFCOUNT", key) == redis.call("PFCOUNT", key)


@requires_redis
async def test_crowded_registers_are_joined_as_redis_joins_them(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    numbers = (b"%d" % number for number in range(60_000))
    near = [element for element in numbers if hll.place(element) < b"\x00\x30"]
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for key in "abcdefgh":
            for element in rng.sample(near, 100):
                assert await client.call_raw("PFADD", key, element) == redis.call_raw(
                    "PFADD", key, element
                )
                assert await client.call_raw("GET", key) == redis.call_raw("GET", key)


@requires_redis
async def test_a_value_becomes_dense_when_that_of_redis_does(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    value = b""
    with real_redis(tmp_path) as redis:
        first = [rng.randbytes(8) for _ in range(1400)]
        await client.call("PFADD", "k", *first)
        redis.call("PFADD", "k", *first)
        while len(value) != hll.DENSE_BYTES:
            element = rng.randbytes(8)
            await client.call("PFADD", "k", element)
            redis.call("PFADD", "k", element)
            answer = await client.call("GET", "k")
            assert isinstance(answer, bytes)
            value = answer
            assert value == redis.call("GET", "k")


@requires_redis
async def test_a_hundred_thousand_arguments_are_answered_as_redis_does(tmp_path: Path) -> None:
    many = [b"%d" % number for number in range(100_000)]
    gets = [part for at in many[:33_000] for part in (b"GET", b"i64", at)]
    sets = [part for at in many[:25_000] for part in (b"SET", b"u8", at, b"7")]
    lines: list[list[str | bytes]] = [
        *(["PFADD", "p", *many], ["GET", "p"], ["PFCOUNT", *many], ["PFMERGE", "q", *many]),
        *(["BITOP", "OR", "d", *many], ["BITFIELD", "b", *sets], ["BITFIELD", "b", *gets]),
        *(["BITFIELD_RO", "b", *gets], ["GET", "b"]),
    ]
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for line in lines:
            assert await client.call_raw(*line) == redis.call_raw(*line)


@requires_redis
async def test_registers_that_no_element_can_raise_are_counted_as_redis_does(
    tmp_path: Path,
) -> None:
    client = MemoryClient(serve(FakeService()))
    head = hll.forget_cardinality(bytearray(b"HYLL" + bytes(12)))
    group = {value: (value * 0x41041).to_bytes(3, "little") for value in (0, 1, 49, 50, 51, 63)}
    with real_redis(tmp_path) as redis:
        for most, last in ((63, 63), (51, 51), (63, 0), (63, 50), (51, 49), (50, 50), (1, 63)):
            value = head + group[most] * 4095 + group[last]
            for line in (["SET", "k", value], ["PFCOUNT", "k"], ["PFCOUNT", "k", "none"]):
                assert await client.call_raw(*line) == redis.call_raw(*line)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("SETBIT k 7 1", [ops.SETBIT, 0, b"k", 7, 1]),
        ("GETBIT k 4294967295", [ops.GETBIT, 0, b"k", 2**32 - 1]),
        ("BITCOUNT k", [ops.BITCOUNT, 0, b"k", 0, -1, 0, 0]),
        ("BITCOUNT k 1 2 bit", [ops.BITCOUNT, 0, b"k", 1, 2, 1, 0]),
        ("BITCOUNT k 1", [ops.BITCOUNT, 0, b"k", 0, -1, 0, 2]),
        ("BITPOS k 1", [ops.BITPOS, 0, b"k", 1, 0, None, 0, 0]),
        ("BITPOS k 0 -3", [ops.BITPOS, 0, b"k", 0, -3, None, 0, 0]),
        ("BITPOS k 0 x 1", [ops.BITPOS, 0, b"k", 0, 0, None, 0, 1]),
        ("BITOP xor d a b", [ops.BITOP, 0, 2, b"d", b"a", b"b"]),
        (
            "BITFIELD k GET i5 #2 OVERFLOW SAT SET u8 1 -7",
            [
                ops.BITFIELD,
                0,
                b"k",
                pack_step(Step(0, -5, 10, 0, 0)) + pack_step(Step(1, 8, 1, -7, 1)),
            ],
        ),
        (
            "BITFIELD_RO k GET u8 4294967295",
            [ops.BITFIELD_RO, 0, b"k", pack_step(Step(0, 8, 2**32 - 1, 0, 0))],
        ),
        ("PFADD k a", [ops.PFADD, 0, b"k", hll.place(b"a")]),
        ("PFCOUNT k l", [ops.PFCOUNT, 0, b"k", b"l"]),
        ("PFMERGE k l", [ops.PFMERGE, 0, b"k", b"l"]),
    ],
)
def test_a_line_becomes_an_op(line: str, op: Op) -> None:
    arguments = [word.encode() for word in line.split()]
    assert COMMANDS[line.split(maxsplit=1)[0].lower()].parse(0, arguments) == op


def test_the_elements_of_one_command_are_bounded() -> None:
    parse = COMMANDS["pfadd"].parse
    half = b"x" * (PFADD_BYTES_MAX // 2)
    assert parse(0, [b"PFADD", b"k", half, half])
    with pytest.raises(CommandError, match="the elements of PFADD are larger than"):
        parse(0, [b"PFADD", b"k", half, half, b"x"])


def test_writes_end_where_values_do_and_reads_where_those_of_redis_do() -> None:
    parse = COMMANDS["setbit"].parse
    assert parse(0, [b"SETBIT", b"k", b"%d" % (VALUE_BYTES_MAX * 8 - 1), b"1"])
    with pytest.raises(CommandError, match="bit offset is not an integer or out of range"):
        parse(0, [b"SETBIT", b"k", b"%d" % (VALUE_BYTES_MAX * 8), b"1"])
    with pytest.raises(CommandError, match="bit offset is not an integer or out of range"):
        COMMANDS["getbit"].parse(0, [b"GETBIT", b"k", b"4294967296"])
