"""Hashes in the state machine: against a dict, on both engines, and what they cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from kvnode.errors import CommandError
from kvnode.limits import DRAWN_MEMBERS_MAX, OUTPUT_BYTES_MAX, SCAN_ROWS_MAX
from kvnode.store import ops
from kvnode.store.keyspace import Keyspace
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import HashPart, Op
from kvnode.store.redis import messages
from kvnode.store.reply import OK, Result
from tests.unit.store.driver import Driver

KEYS = (b"h", b"", b"long" * 120)
FIELDS = (b"", b"a", b"b", b"\x00\xff", b"f" * 400, b"f" * 401, b"f" * 401 + b"g")
BOTH = int(HashPart.FIELDS | HashPart.VALUES)


def pairs_of(flat: Result) -> dict[bytes, bytes]:
    assert isinstance(flat, list)
    return dict(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[arg-type]


def all_of(driver: Driver, key: bytes) -> dict[bytes, bytes]:
    return pairs_of(driver.read(ops.HGETALL, 0, key, BOTH))


def filled(driver: Driver, count: int, key: bytes = b"h") -> dict[bytes, bytes]:
    """A hash of so many fields."""
    pairs = {b"field:%d" % at: b"%d" % at for at in range(count)}
    flat = [part for pair in pairs.items() for part in pair]
    for at in range(0, len(flat), 20_000):
        driver.do(ops.HSET, 0, key, *flat[at : at + 20_000])
    return pairs


def text_of(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


# --- against a dict -------------------------------------------------------------------------------


class Model:
    """Hashes as dicts."""

    def __init__(self) -> None:
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}

    def apply(self, op: Op) -> Result:
        code, _, key, *rest = op
        fields = self.hashes.setdefault(key, {})
        result = self.MEANINGS[code](self, fields, rest)
        if not fields:
            del self.hashes[key]
        return result

    def hset(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        before = len(fields)
        fields.update(zip(rest[::2], rest[1::2], strict=True))
        return len(fields) - before

    def hsetnx(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        is_new = rest[0] not in fields
        fields.setdefault(rest[0], rest[1])
        return int(is_new)

    def hdel(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        return sum(fields.pop(field, None) is not None for field in rest)

    def hincrby(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        field, delta = rest
        try:
            value = int(fields.get(field, b"0")) + delta
        except ValueError:
            return CommandError(messages.HASH_NOT_AN_INTEGER)
        if abs(value) > 2**63 - 1:
            return CommandError(messages.OVERFLOW)
        fields[field] = b"%d" % value
        return value

    def hget(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        return fields.get(rest[0])

    def hmget(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        return [fields.get(field) for field in rest]

    def hlen(self, fields: dict[bytes, bytes], _rest: list[Any]) -> Result:
        return len(fields)

    def hstrlen(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        return len(fields.get(rest[0], b""))

    def hexists(self, fields: dict[bytes, bytes], rest: list[Any]) -> Result:
        return int(rest[0] in fields)

    def delete(self, fields: dict[bytes, bytes], _rest: list[Any]) -> Result:
        was_there = bool(fields)
        fields.clear()
        return int(was_there)

    MEANINGS: ClassVar[dict[int, Callable[[Model, dict[bytes, bytes], list[Any]], Result]]] = {
        ops.HSET: hset,
        ops.HSETNX: hsetnx,
        ops.HDEL: hdel,
        ops.HINCRBY: hincrby,
        ops.HGET: hget,
        ops.HMGET: hmget,
        ops.HLEN: hlen,
        ops.HSTRLEN: hstrlen,
        ops.HEXISTS: hexists,
        ops.DEL: delete,
    }


def random_op(rng: random.Random) -> Op:
    code = rng.choice([ops.HSET] * 3 + list(Model.MEANINGS))
    key, fields = rng.choice(KEYS), [rng.choice(FIELDS) for _ in range(rng.randint(1, 3))]
    values = (b"", b"1", b"-7", b"%d" % (2**63 - 1), b"x", b"long" * 100)
    arguments: dict[int, list[Any]] = {
        ops.HSET: [part for field in fields for part in (field, rng.choice(values))],
        ops.HSETNX: [fields[0], rng.choice(values)],
        ops.HINCRBY: [fields[0], rng.randint(-2, 2)],
        ops.HDEL: fields,
        ops.HMGET: fields,
        ops.HLEN: [],
        ops.DEL: [],
    }
    return [code, 0, key, *arguments.get(code, fields[:1])]


def plain(result: Result) -> object:
    return ("error", result.text) if isinstance(result, CommandError) else result


def test_any_history_does_what_a_dict_does(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    model = Model()
    for step in range(600):
        op = random_op(rng)
        expected = model.apply(op)
        do = driver.do if ops.is_write(op) else driver.read
        assert (op, plain(do(*op))) == (op, plain(expected))
        if step % 20 == 0:
            driver.check()
    for key in KEYS:
        assert all_of(driver, key) == model.hashes.get(key, {})
    driver.check()


def test_the_order_of_writes_leaves_no_trace_in_the_content() -> None:
    rng = random.Random(1)
    pairs = [(b"f%d" % at, b"v%d" % at) for at in range(50)]
    sums = []
    for _ in range(2):
        rng.shuffle(pairs)
        driver = Driver(MemoryEngine())
        driver.do(ops.HSET, 0, b"h", *(part for pair in pairs for part in pair))
        sums.append(driver.machine._space.databases[0].record_bytes)
    assert sums[0] == sums[1]


# --- rules ----------------------------------------------------------------------------------------


def test_a_field_named_twice_is_new_once_and_keeps_its_last_value(driver: Driver) -> None:
    assert driver.do(ops.HSET, 0, b"h", b"f", b"1", b"f", b"2") == 1
    assert driver.do(ops.HDEL, 0, b"h", b"f", b"f") == 1
    assert driver.read(ops.EXISTS, 0, b"h") == 0


def test_what_changes_nothing_raises_no_version(driver: Driver) -> None:
    filled(driver, 3)
    seen = driver.read(ops.VERSION, 0, b"h")
    for op in (
        [ops.HSETNX, 0, b"h", b"field:1", b"x"],
        [ops.HDEL, 0, b"h", b"none"],
        [ops.HDEL, 0, b"none", b"none"],
        [ops.HINCRBY, 0, b"h", b"field:1", 2**63 - 1],
    ):
        driver.do(*op)
        assert driver.read(ops.VERSION, 0, b"h") == seen
    driver.do(ops.HSET, 0, b"h", b"field:1", b"1")  # Redis counts the same value as a change too
    assert driver.read(ops.VERSION, 0, b"h") != seen


def test_another_kind_is_refused_and_stays(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"s", b"v")
    for op in (
        [ops.HSET, 0, b"s", b"f", b"v"],
        [ops.HSETNX, 0, b"s", b"f", b"v"],
        [ops.HDEL, 0, b"s", b"f"],
        [ops.HINCRBY, 0, b"s", b"f", 1],
        [ops.HINCRBYFLOAT, 0, b"s", b"f", b"1"],
        [ops.HGET, 0, b"s", b"f"],
        [ops.HMGET, 0, b"s", b"f"],
        [ops.HGETALL, 0, b"s", BOTH],
        [ops.HLEN, 0, b"s"],
        [ops.HSTRLEN, 0, b"s", b"f"],
        [ops.HEXISTS, 0, b"s", b"f"],
        [ops.HRANDFIELD, 0, b"s", 1, None, 0],
        [ops.HSCAN, 0, b"s", 0, None, 10],
    ):
        do = driver.do if ops.is_write(op) else driver.read
        assert text_of(do(*op)) == messages.WRONG_TYPE
    assert driver.read(ops.GET, 0, b"s") == b"v"


def test_a_deadline_stays_whatever_happens_to_fields(driver: Driver) -> None:
    filled(driver, 2)
    driver.do(ops.EXPIRE, 0, b"h", 0, 1000, 0)
    driver.do(ops.HSET, 0, b"h", b"x", b"y")
    driver.do(ops.HDEL, 0, b"h", b"field:1")
    assert driver.read(ops.TTL, 0, b"h", 1) == 1000
    driver.now_ms += 1000
    driver.tick()
    assert driver.read(ops.HGETALL, 0, b"h", BOTH) == []
    assert driver.do(ops.HSET, 0, b"h", b"new", b"1") == 1
    assert all_of(driver, b"h") == {b"new": b"1"}
    assert driver.read(ops.TTL, 0, b"h", 1) == -1
    driver.check()


def test_floats_are_those_of_incrbyfloat(driver: Driver) -> None:
    assert driver.do(ops.HINCRBYFLOAT, 0, b"h", b"f", b"3.0e3") == b"3000"
    assert driver.do(ops.HINCRBYFLOAT, 0, b"h", b"f", b"0.1") == b"3000.10000000000000009"
    driver.do(ops.HSET, 0, b"h", b"t", b"abc", b"i", b"inf")
    result = driver.do(ops.HINCRBYFLOAT, 0, b"h", b"t", b"1")
    assert text_of(result) == messages.HASH_NOT_A_FLOAT
    assert text_of(driver.do(ops.HINCRBYFLOAT, 0, b"h", b"i", b"1")) == messages.NAN_OR_INFINITY
    assert driver.read(ops.HGET, 0, b"h", b"i") == b"inf"


# --- walking and drawing --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_walk_meets_every_field_that_stays(driver: Driver, count: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    stays = filled(driver, 300)
    cursor, found = 0, {}
    while True:
        page = driver.read(ops.HSCAN, 0, b"h", cursor, None, count)
        assert isinstance(page, list)
        assert isinstance(page[0], bytes)
        found.update(pairs_of(page[1]))
        cursor = int(page[0])
        if not cursor:
            break
        driver.do(ops.HSET, 0, b"h", b"comes%d" % rng.randrange(1000), b"")
        driver.do(ops.HDEL, 0, b"h", b"comes%d" % rng.randrange(1000))
    assert stays.items() <= found.items()


def test_a_page_is_bounded(driver: Driver) -> None:
    filled(driver, SCAN_ROWS_MAX + 500)
    page = driver.read(ops.HSCAN, 0, b"h", 0, None, 2**62)
    assert isinstance(page, list)
    assert page[0] != b"0"
    assert len(pairs_of(page[1])) == SCAN_ROWS_MAX


def test_fields_of_one_hash_stay_on_one_page(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(_: Keyspace, key: bytes) -> bytes:
        return (len(key) % 3).to_bytes(8, "big") + key

    monkeypatch.setattr(Keyspace, "locate", locate)
    fields = [b"f" * size for size in range(1, 31)]
    driver.do(ops.HSET, 0, b"h", *(part for field in fields for part in (field, b"")))
    pages, cursor = [], b"0"
    while not pages or cursor != b"0":
        page = driver.read(ops.HSCAN, 0, b"h", int(cursor), None, 1)
        assert isinstance(page, list)
        assert isinstance(page[0], bytes)
        cursor = page[0]
        pages.append(sorted(pairs_of(page[1])))
    assert pages == [
        sorted(field for field in fields if len(field) % 3 == rest) for rest in range(3)
    ]


def test_what_is_drawn_fits_into_a_reply(driver: Driver) -> None:
    driver.do(ops.HSET, 0, b"h", b"f", bytes(OUTPUT_BYTES_MAX // 8))
    assert isinstance(driver.read(ops.HRANDFIELD, 0, b"h", 1, -7, 1), list)
    refused = driver.read(ops.HRANDFIELD, 0, b"h", 1, -9, 1)
    assert text_of(refused) == f"ERR reply is larger than {OUTPUT_BYTES_MAX} bytes"


@pytest.mark.parametrize("size", [1, 20, 600, 5000])
def test_drawn_fields_are_different_or_as_many_as_asked(driver: Driver, size: int) -> None:
    pairs = filled(driver, size)
    for count in (1, 3, size // 2, size, size + 7):
        drawn = driver.read(ops.HRANDFIELD, 0, b"h", random.getrandbits(64), count, 1)
        assert isinstance(drawn, list)
        found = dict(map(tuple, drawn))  # type: ignore[arg-type]
        assert len(found) == len(drawn) == min(count, size)
        assert found.items() <= pairs.items()
        repeated = driver.read(ops.HRANDFIELD, 0, b"h", random.getrandbits(64), -count, 0)
        assert isinstance(repeated, list)
        assert len(repeated) == count
        assert set(repeated) <= pairs.keys()
    assert driver.read(ops.HRANDFIELD, 0, b"h", 1, 0, 0) == []
    assert driver.read(ops.HRANDFIELD, 0, b"h", 1, None, 0) in pairs
    result = driver.read(ops.HRANDFIELD, 0, b"h", 1, -DRAWN_MEMBERS_MAX - 1, 0)
    assert text_of(result) == messages.OUT_OF_RANGE


@pytest.mark.parametrize(("size", "spread_max"), [(10, 0.25), (2000, 0.6)])
def test_no_field_is_drawn_much_more_often_than_others(size: int, spread_max: float) -> None:
    driver = Driver(MemoryEngine())
    pairs = filled(driver, size)
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    times = 100 * size if size < 100 else 10 * size
    met = Counter(
        driver.read(ops.HRANDFIELD, 0, b"h", rng.getrandbits(64), None, 0) for _ in range(times)
    )
    mean = times / size
    spread = (sum((met[field] - mean) ** 2 for field in pairs) / size) ** 0.5 / mean
    print(f"relative spread {spread:.2f}, {1 / mean**0.5:.2f} by chance alone")
    assert spread < spread_max


def test_a_seed_tells_what_is_drawn(driver: Driver) -> None:
    filled(driver, 1000)
    for count in (None, 5, -5, 900, -900):
        ask = (ops.HRANDFIELD, 0, b"h", 42, count, 0)
        assert driver.read(*ask) == driver.read(*ask)


# --- transactions ---------------------------------------------------------------------------------


def test_a_hash_inside_exec_is_one_change(driver: Driver) -> None:
    inner: list[Op] = [
        [ops.HSET, 0, b"h", b"f", b"1"],
        [ops.HINCRBY, 0, b"h", b"f", 1],
        [ops.HGET, 0, b"h", b"f"],
        [ops.HRANDFIELD, 0, b"h", 7, None, 0],
    ]
    assert driver.do(ops.EXEC, 0, [], inner) == [1, 2, b"2", b"f"]
    assert driver.do(ops.RENAME, 0, b"h", b"i", 0) is OK
    assert all_of(driver, b"i") == {b"f": b"2"}
    driver.check()
