"""Bitmaps, bit fields and HyperLogLog over both engines: what changes, what does not, limits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.limits import VALUE_BYTES_MAX
from kvnode.store import collection, ops
from kvnode.store.keyspace import SET as SET_KIND
from kvnode.store.ops import BitOperation, BitStep, Overflow
from kvnode.store.redis import bit_fields, hll, messages

if TYPE_CHECKING:
    from tests.unit.store.driver import Driver

BYTE, BIT = 0, 1


def text(result: object) -> str:
    assert isinstance(result, CommandError)
    return result.text


def step(*numbers: int) -> bytes:
    return bit_fields.pack_step(bit_fields.Step(*numbers))


def ones(value: bytes) -> list[int]:
    """The bits of a string, one by one."""
    return [byte >> (7 - at) & 1 for byte in value for at in range(8)]


def fill(driver: Driver, key: bytes, elements: int) -> None:
    places = b"".join(hll.place(b"%d" % number) for number in range(elements))
    driver.do(ops.PFADD, 0, key, places)


def test_what_changes_nothing_is_no_write(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"0123")
    driver.do(ops.PFADD, 0, b"seen", hll.place(b"a"))
    revision = driver.machine._space.revision
    get, set_, fail = int(BitStep.GET), int(BitStep.SET), int(Overflow.FAIL)
    assert driver.do(ops.SETBIT, 0, b"k", 3, 1) == 1
    assert driver.do(ops.BITFIELD, 0, b"k", step(get, 8, 0, 0, 0)) == [0x30]
    assert driver.do(ops.BITFIELD, 0, b"k", step(set_, 8, 0, 0x30, 0)) == [0x30]
    assert driver.do(ops.BITFIELD, 0, b"k", step(set_, 8, 0, 256, fail)) == [None]
    assert driver.do(ops.BITOP, 0, int(BitOperation.OR), b"absent", b"nothing") == 0
    assert driver.do(ops.PFADD, 0, b"seen", hll.place(b"a")) == 0
    assert driver.machine._space.revision == revision
    driver.check()


def test_a_key_of_another_kind_is_refused_and_stays(driver: Driver) -> None:
    space = driver.machine._space
    made = collection.create(space, 0, b"k", SET_KIND)
    made.put_member(b"member", b"", None)
    made.count = 1
    space.advance()
    made.save()
    place = hll.place(b"a")
    refused = [
        driver.do(ops.SETBIT, 0, b"k", 3, 0),
        driver.do(ops.BITOP, 0, int(BitOperation.AND), b"other", b"k"),
        driver.do(ops.BITFIELD, 0, b"k", step(0, 8, 0, 0, 0)),
        driver.do(ops.PFADD, 0, b"k", place),
        driver.do(ops.PFMERGE, 0, b"k"),
        driver.do(ops.PFMERGE, 0, b"other", b"k"),
        driver.read(ops.GETBIT, 0, b"k", 0),
        driver.read(ops.BITCOUNT, 0, b"k", 0, 0, 0, 2),
        driver.read(ops.BITPOS, 0, b"k", 0, 0, None, 0, 2),
        driver.read(ops.BITFIELD_RO, 0, b"k", step(0, 8, 0, 0, 0)),
        driver.read(ops.PFCOUNT, 0, b"k"),
        driver.read(ops.PFCOUNT, 0, b"other", b"k"),
    ]
    assert {text(answer) for answer in refused} == {messages.WRONG_TYPE}
    assert driver.read(ops.EXISTS, 0, b"k", b"other") == 1
    assert driver.do(ops.BITOP, 0, int(BitOperation.OR), b"k", b"nothing") == 0
    assert driver.read(ops.EXISTS, 0, b"k") == 0
    driver.check()


def test_an_expired_key_counts_as_absent(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"\xff" * 9, 16, 100)
    driver.now_ms += 100
    assert driver.do(ops.SETBIT, 0, b"k", 7, 1) == 0
    assert driver.read(ops.GET, 0, b"k") == b"\x01"
    assert driver.read(ops.TTL, 0, b"k", 1) == -1
    driver.check()


def test_no_write_makes_a_string_longer_than_a_value_may_be(driver: Driver) -> None:
    last = VALUE_BYTES_MAX * 8 - 1
    assert driver.do(ops.SETBIT, 0, b"k", last, 1) == 0
    assert text(driver.do(ops.SETBIT, 0, b"k", last + 1, 1)) == messages.BIT_OFFSET
    result = driver.do(ops.BITFIELD, 0, b"k", step(int(BitStep.SET), 2, last, 1, 0))
    assert text(result) == messages.BIT_OFFSET
    assert driver.read(ops.SIZE, 0, b"k") == VALUE_BYTES_MAX
    assert driver.read(ops.GETBIT, 0, b"k", 2**32 - 1) == 0
    assert driver.read(ops.BITCOUNT, 0, b"k", 0, -1, BYTE, 0) == 1
    assert driver.read(ops.BITPOS, 0, b"k", 1, 0, None, BYTE, 0) == last
    driver.check()


def test_ranges_of_bits_count_and_find_as_a_list_of_bits_does() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2000):
        value = bytes(rng.choices([0, 255, 8, 254], k=rng.randint(1, 6)))
        if rng.random() < 0.02:
            value += bytes([value[-1]]) * rng.choice((4095, 4096, 4097, 9000)) + value
        bits = ones(value)
        first = rng.randrange(len(bits))
        last = rng.randrange(first, len(bits))
        part = bits[first : last + 1]
        assert bit_fields.count_ones(value, first, last) == sum(part)
        for bit in (0, 1):
            expected = first + part.index(bit) if bit in part else -1
            assert bit_fields.find_bit(value, bit, first, last) == expected


@pytest.mark.parametrize("key", [b"k", b"long" * 200])
@pytest.mark.parametrize("flag", [0, 16])
def test_bits_are_read_where_they_lie(driver: Driver, key: bytes, flag: int) -> None:
    value = bytes(range(256)) * 40
    driver.do(ops.SET, 0, key, value, flag, 1000 if flag else 0)
    for byte in (0, 1, 4000, 4090, 4100, 9000, 10_239, 10_240):
        bits = [driver.read(ops.GETBIT, 0, key, byte * 8 + at) for at in range(8)]
        assert bits == ones(value[byte : byte + 1] or b"\0")
        expected = int.from_bytes(value[byte : byte + 3].ljust(3, b"\0"), "big")
        assert driver.read(ops.BITFIELD_RO, 0, key, step(0, 24, byte * 8, 0, 0)) == [expected]
        both = step(0, 24, byte * 8, 0, 0) + step(0, 8, 8, 0, 0)
        assert driver.read(ops.BITFIELD_RO, 0, key, both) == [expected, 1]
    driver.now_ms += 1000
    driver.tick()
    assert driver.read(ops.GETBIT, 0, key, 15) == (0 if flag else 1)
    assert driver.read(ops.BITFIELD_RO, 0, key, step(0, 8, 8, 0, 0)) == [0 if flag else 1]
    assert driver.read(ops.BITFIELD_RO, 0, key, b"") == []


def test_ranges_over_several_pieces_are_as_those_within_one(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for filler in (0, 255):
        value = bytearray([filler]) * 150_000
        for _ in range(3):
            value[rng.choice((0, 65_535, 65_536, 131_072, rng.randrange(150_000)))] ^= 0x10
        driver.do(ops.SET, 0, b"k", bytes(value))
        for _ in range(60):
            edges = (0, 524_287, 524_288, 1_048_576, rng.randrange(1_200_000), 1_199_999)
            first, last = sorted(rng.choices(edges, k=2))
            counted = bit_fields.count_ones(bytes(value), first, last)
            assert driver.read(ops.BITCOUNT, 0, b"k", first, last, BIT, 0) == counted
            for bit in (0, 1):
                found = bit_fields.find_bit(bytes(value), bit, first, last)
                assert driver.read(ops.BITPOS, 0, b"k", bit, first, last, BIT, 0) == found


def test_fields_are_the_numbers_that_were_put_there() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2000):
        value = bytearray(rng.randbytes(20))
        width, at = rng.randint(1, 64), rng.randrange(90)
        signed = width == 64 or rng.random() < 0.5
        before = ones(bytes(value))
        number = rng.getrandbits(width) - (1 << width - 1 if signed else 0)
        bit_fields.set_field(value, at, width, number)
        assert bit_fields.get_field(value, at, width, signed=signed) == number
        after = ones(bytes(value))
        assert after[:at] == before[:at]
        assert after[at + width :] == before[at + width :]


@pytest.mark.parametrize("elements", [0, 1, 100, 5_000, 20_000, 100_000])
def test_a_hyperloglog_errs_by_less_than_four_standard_errors(
    driver: Driver, elements: int
) -> None:
    fill(driver, b"k", elements)
    found = driver.read(ops.PFCOUNT, 0, b"k")
    assert isinstance(found, int)
    assert abs(found - elements) <= 4 * 0.0081 * elements
    driver.check()


def test_sparse_and_dense_registers_are_the_same_registers() -> None:
    value = hll.EMPTY
    for number in range(1200):
        value = hll.raise_registers(value, hll.place(b"%d" % number)) or value
    assert not hll.is_dense(value)
    assert hll.registers_of(hll.to_dense(value)) == hll.registers_of(value)


@pytest.mark.parametrize(("value", "dense"), [(32, False), (33, True), (51, True)])
def test_a_register_above_32_makes_a_value_dense(value: int, dense: bool) -> None:
    changed = hll.raise_registers(hll.EMPTY, b"\x00\x07" + bytes([value]))
    assert changed is not None
    assert hll.is_dense(changed) == dense
    assert hll.registers_of(changed)[7] == value


def test_a_merge_has_seen_what_its_sources_have(driver: Driver) -> None:
    for key, elements in ((b"few", 500), (b"many", 4000)):
        fill(driver, key, elements)
    for key, sources in ((b"d", [b"few"]), (b"e", [b"few", b"many"]), (b"few", [b"few"])):
        driver.do(ops.PFMERGE, 0, key, *sources)
        assert driver.read(ops.PFCOUNT, 0, key) == driver.read(ops.PFCOUNT, 0, key, *sources)
    driver.check()


def test_no_damage_to_a_hyperloglog_is_more_than_an_error(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    fill(driver, b"seen", 700)
    sparse = driver.read(ops.GET, 0, b"seen")
    assert isinstance(sparse, bytes)
    dense = bytes(hll.to_dense(sparse))
    made_up = dense[: hll.HEADER_BYTES] + b"\xff" * (hll.DENSE_BYTES - hll.HEADER_BYTES)
    for number in range(150):
        damaged = bytearray(rng.choice((sparse, hll.EMPTY, dense, made_up)))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(rng.choice((hll.HEADER_BYTES, len(damaged))))
            damaged[at] = rng.choice((0, 0x40, 0x7F, 0xFF, rng.randrange(256)))
        cut = rng.choice((len(damaged), rng.randrange(len(damaged) + 1)))
        driver.do(ops.SET, 0, b"k", bytes(damaged[:cut]))
        for result in (
            driver.read(ops.PFCOUNT, 0, b"k"),
            driver.read(ops.PFCOUNT, 0, b"k", b"seen"),
            driver.do(ops.PFADD, 0, b"k", hll.place(b"%d" % number)),
            driver.do(ops.PFMERGE, 0, b"k", b"seen"),
        ):
            assert isinstance(result, int | str | CommandError)
    driver.check()


@pytest.mark.parametrize("runs", [b"", b"\x7f", b"\x7f\xfe", b"\x80" * 3000])
@pytest.mark.parametrize("surplus", [b"", b"\x7f\xff\x00"])
def test_runs_that_do_not_fit_are_corrupt_and_stay(
    driver: Driver, runs: bytes, surplus: bytes
) -> None:
    runs = surplus or runs
    value = hll.forget_cardinality(bytearray(hll.EMPTY[: hll.HEADER_BYTES])) + runs
    driver.do(ops.SET, 0, b"k", value)
    last = (hll.REGISTERS - 1).to_bytes(2, "big") + b"\x05"
    for result in (
        driver.read(ops.PFCOUNT, 0, b"k"),
        driver.read(ops.PFCOUNT, 0, b"k", b"none"),
        driver.do(ops.PFMERGE, 0, b"other", b"k"),
        driver.do(ops.PFMERGE, 0, b"k"),
    ):
        assert text(result) == messages.CORRUPTED_HYPERLOGLOG
    if not surplus:
        assert text(driver.do(ops.PFADD, 0, b"k", last)) == messages.CORRUPTED_HYPERLOGLOG
        assert driver.read(ops.GET, 0, b"k") == value
    assert driver.read(ops.EXISTS, 0, b"other") == 0
    driver.check()
