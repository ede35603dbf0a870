"""SORT in the state machine: against Python's sort, on both engines."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from kvnode.errors import CommandError
from kvnode.limits import (
    BULK_ROWS_AT_ONCE_MAX,
    BULK_ROWS_MAX,
    BULK_ROWS_PER_STEP_MAX,
    ENGINE_ROW_BYTES,
    OUTPUT_BYTES_MAX,
)
from kvnode.store import collection as collections
from kvnode.store import ops
from kvnode.store.collection import PARTS_END, Collection
from kvnode.store.keyspace import LIST, TAG_COLLECTION, prefix_end
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import SortFlag
from kvnode.store.redis import messages
from kvnode.store.redis.list_rows import RIGHT
from kvnode.store.reply import Result, Unfinished
from kvnode.store.scores import pack_score
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, Driver
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine

DESC, ALPHA, NOSORT = map(int, SortFlag)
KEYS = (b"list", b"set", b"zset")


def text_of(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


def push(driver: Driver, key: bytes, *elements: bytes) -> None:
    driver.do(ops.LIST_PUSH, 0, key, RIGHT, 0, *elements)


def listed(driver: Driver, key: bytes) -> Result:
    return driver.read(ops.LRANGE, 0, key, 0, -1)


def filled(driver: Driver, rng: random.Random, size: int) -> dict[bytes, list[bytes]]:
    """A list, a set and a sorted set, and what lies in them in its order."""
    numbers = [b"%d" % rng.randint(-50, 50) for _ in range(size)]
    push(driver, b"list", *numbers)
    driver.do(ops.SADD, 0, b"set", *numbers)
    scores = [part for number in numbers for part in (pack_score(float(number)), number)]
    driver.do(ops.ZADD, 0, b"zset", 0, *scores)
    members = driver.read(ops.SMEMBERS, 0, b"set")
    assert isinstance(members, list)
    return {
        b"list": numbers,
        b"set": members,  # type: ignore[dict-item]
        b"zset": sorted(set(numbers), key=int),
    }


def expected_of(
    elements: list[bytes], weights: dict[bytes, bytes] | None, flags: int, start: int, count: int
) -> list[bytes]:
    def key_of(element: bytes) -> Any:
        weight = element if weights is None else weights.get(element)
        if flags & ALPHA:
            return element if weights is None else (weight is not None, weight)
        return float(weight or 0), element

    elements = sorted(elements, key=key_of, reverse=bool(flags & DESC))[max(start, 0) :]
    return elements if count < 0 else elements[:count]


def test_any_order_is_that_of_python(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for size in (1, 5, 300):
        driver.do(ops.FLUSHALL, 0)
        held = filled(driver, rng, size)
        weights = {b"%d" % number: b"%d" % rng.randint(0, 9) for number in range(-50, 50, 2)}
        for element, weight in weights.items():
            driver.do(ops.SET, 0, b"w_" + element, weight)
        for _ in range(30):
            key = rng.choice(KEYS)
            flags = rng.choice([0, DESC, ALPHA, DESC | ALPHA])
            start, count = rng.randint(-1, size), rng.randint(-1, size)
            by = rng.choice([None, b"w_*"])
            used = None if by is None else weights
            expected = expected_of(held[key], used, flags, start, count)
            question = [key, flags, start, count, by]
            assert driver.read(ops.SORT, 0, *question) == expected
            assert driver.do(ops.SORTSTORE, 0, b"d", *question) == len(expected)
            assert listed(driver, b"d") == expected
            twice = [part for element in expected for part in (element, weights.get(element))]
            assert driver.read(ops.SORT, 0, *question, b"#", b"w_*") == twice
        driver.check()


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_not_sorted_is_taken_as_it_lies(driver: Driver, reverse: bool) -> None:
    held = filled(driver, random.Random(1), 300)
    flags = NOSORT | (DESC if reverse else 0)
    for key in (b"list", b"zset"):
        elements = held[key][::-1] if reverse else held[key]
        for start, count in ((0, -1), (3, 5), (290, 50), (0, 0), (99, 1), (1000, 1)):
            expected = elements[start:] if count < 0 else elements[start : start + count]
            assert driver.read(ops.SORT, 0, key, flags, start, count, None) == expected
    assert driver.read(ops.SORT, 0, b"set", flags, 0, -1, None) == held[b"set"]


def test_a_stored_order_is_none_of_chance(driver: Driver) -> None:
    """The members of a set are sorted by their bytes if nothing else was asked for."""
    driver.do(ops.SADD, 0, b"set", b"10", b"9", b"1")
    assert driver.do(ops.SORTSTORE, 0, b"d", b"set", NOSORT, 0, -1, None) == 3
    assert listed(driver, b"d") == [b"1", b"10", b"9"]


def test_equal_weights_leave_elements_in_the_order_in_which_they_lie(driver: Driver) -> None:
    push(driver, b"list", b"c", b"a", b"b")
    for flags in (ALPHA, ALPHA | DESC):
        assert driver.read(ops.SORT, 0, b"list", flags, 0, -1, b"w_*") == [b"c", b"a", b"b"]
    driver.do(ops.SET, 0, b"w_c", b"")  # an empty weight is more than none
    assert driver.read(ops.SORT, 0, b"list", ALPHA, 0, -1, b"w_*") == [b"a", b"b", b"c"]


NUMBERS = (b"", b" 1", b"\t-1", b"+1", b".5", b"5.", b"1e3", b"0x1F", b"inf", b"1\x00x", b"\x00x")
WORDS = (b"x", b"1 ", b" ", b"nan", b"1e400", b"1e-400", b"0x", b"1_000", b"--1", b" \x001")


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_what_it_is_in_c(text: bytes) -> None:
    driver = Driver(MemoryEngine())
    push(driver, b"list", text)
    assert driver.read(ops.SORT, 0, b"list", 0, 0, -1, None) == [text]


@pytest.mark.parametrize("text", WORDS)
def test_nothing_else_is_a_number(text: bytes) -> None:
    driver = Driver(MemoryEngine())
    push(driver, b"list", text)
    result = driver.read(ops.SORT, 0, b"list", 0, 0, -1, None)
    assert text_of(result) == messages.SORT_NOT_A_FLOAT


def test_patterns_find_strings_and_fields_and_nothing_else(driver: Driver) -> None:
    push(driver, b"list", b"1")
    driver.do(ops.SET, 0, b"w_1", b"string")
    driver.do(ops.SET, 0, b"w_*", b"no")
    driver.do(ops.SET, 0, b"a1b", b"between")
    driver.do(ops.SET, 0, b"h_1->", b"no field")
    driver.do(ops.SET, 0, b"x->1", b"arrow before the gap")
    driver.do(ops.HSET, 0, b"h_1", b"f", b"field", b"f->g", b"arrow in the field")
    driver.do(ops.SET, 0, b"old_1", b"expired")
    driver.do(ops.EXPIRE, 0, b"old_1", 0, 5, 0)
    driver.now_ms += 10
    driver.tick()
    found = {
        b"#": b"1",
        b"w_*": b"string",
        b"a*b": b"between",
        b"h_*->f": b"field",
        b"h_*->f->g": b"arrow in the field",
        b"h_*->": b"no field",
        b"x->*": b"arrow before the gap",
        b"w_*->f": None,
        b"h_*": None,
        b"w_1": None,
        b"": None,
        b"*": None,
        b"##": None,
        b"old_*": None,
    }
    for pattern, value in found.items():
        assert driver.read(ops.SORT, 0, b"list", 0, 0, -1, None, pattern) == [value]


def test_bad_input_stores_nothing_and_raises_no_revision(driver: Driver) -> None:
    push(driver, b"list", b"1", b"x")
    driver.do(ops.HSET, 0, b"hash", b"a", b"b")
    driver.do(ops.SET, 0, b"d", b"old")
    before = driver.machine.revision
    question = [0, 0, -1, None]
    for key, text in ((b"list", messages.SORT_NOT_A_FLOAT), (b"hash", messages.WRONG_TYPE)):
        assert text_of(driver.do(ops.SORTSTORE, 0, b"d", key, *question)) == text
        assert text_of(driver.read(ops.SORT, 0, key, *question)) == text
    assert driver.do(ops.SORTSTORE, 0, b"none", b"absent", *question) == 0
    assert driver.machine.revision == before
    assert driver.read(ops.GET, 0, b"d") == b"old"
    driver.check()


def test_what_sort_finds_is_bounded(driver: Driver) -> None:
    """One large string, found for each of many elements, must not fill the memory."""
    push(driver, b"list", *[b"1"] * 100)
    driver.do(ops.SET, 0, b"w_1", b"x" * (OUTPUT_BYTES_MAX // 64))
    for question in ([b"list", 0, 0, -1, None, b"w_*"], [b"list", ALPHA, 0, -1, b"w_*"]):
        answer = driver.read(ops.SORT, 0, *question)
        assert text_of(answer) == messages.SORT_FINDS_TOO_MUCH
        assert text_of(driver.do(ops.SORTSTORE, 0, b"d", *question)) == messages.SORT_FINDS_TOO_MUCH
    assert len(driver.read(ops.SORT, 0, b"list", 0, 0, 64, None, b"w_*")) == 64  # type: ignore[arg-type]


# --- in steps -------------------------------------------------------------------------------------


def finish(driver: Driver, answer: Result) -> tuple[Result, int]:
    """The final answer, and after how many steps it came."""
    steps = 0
    while isinstance(answer, Unfinished):
        driver.machine.commit()
        written = driver.machine._space.written_bytes
        answer = driver.do(ops.STEP, 0, answer.job)
        rows = (driver.machine._space.written_bytes - written) // ENGINE_ROW_BYTES
        assert rows < 4 * BULK_ROWS_PER_STEP_MAX
        steps += 1
    return answer, steps


def elements_of_all_sorts(rng: random.Random, size: int) -> list[bytes]:
    """Short and long ones, and long ones that begin alike."""
    texts = [b"%d" % rng.randint(0, 10**6) for _ in range(size // 2)]
    texts += [bytes(rng.choices(b"\x00\x01a\xff", k=rng.randint(0, 4))) for _ in range(size // 4)]
    texts += [b"\x00" * 300 + b"%d" % rng.randint(0, 9) for _ in range(size // 8)]
    return texts + [b"x" * 700 + b"%d" % number for number in range(size - len(texts))]


@pytest.mark.parametrize("flags", [0, DESC, ALPHA, ALPHA | DESC, NOSORT, NOSORT | DESC])
def test_a_large_sort_in_steps_is_one_at_once(engine: Engine, flags: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    driver = founded(engine)
    size = BULK_ROWS_MAX + 300
    elements = elements_of_all_sorts(rng, size)
    if not flags & (ALPHA | NOSORT):
        elements = [b"%d" % rng.randint(-300, 300) for _ in range(size)]
    push(driver, b"list", *elements)
    members = [b"%d" % rng.randint(0, 10**9) for _ in range(size)]
    driver.do(ops.SADD, 0, b"set", *members)
    scores = [part for number in members for part in (pack_score(float(number)), number)]
    driver.do(ops.ZADD, 0, b"zset", 0, *scores)
    for key in KEYS:
        for start, count in ((0, -1), (400, 500), (size - 5, 9), (0, 0)):
            question = [key, flags, start, count, None]
            at_once = [ops.EXEC, 0, [], [[ops.SORTSTORE, 0, b"expected", *question]]]
            (results,) = driver.batch(at_once)
            answer, steps = finish(driver, driver.do(ops.SORTSTORE, 0, b"d", *question))
            assert [answer] == results
            assert listed(driver, b"d") == listed(driver, b"expected")
            moved = answer if flags & NOSORT and key != b"set" else 2 * size
            assert isinstance(moved, int)
            assert steps >= moved // BULK_ROWS_PER_STEP_MAX
    driver.check()
    found = collections.find(driver.machine._space, 0, b"d", LIST)
    assert found is None or (
        isinstance(found, Collection) and not list(found.rows(b"\x10", PARTS_END))
    )


def test_a_large_sort_goes_on_after_a_crash_and_from_a_snapshot(engine: Engine) -> None:
    """Its rows are those of the job, and part of the state like any others."""
    driver = founded(engine)
    elements = [b"%d" % (number * 7919 % 10_007) for number in range(BULK_ROWS_MAX + 300)]
    push(driver, b"list", *elements)
    answer = driver.do(ops.SORTSTORE, 0, b"d", b"list", 0, 0, -1, None)
    while isinstance(answer, Unfinished):
        driver.check()
        driver.machine.commit()
        copy = MemoryEngine()
        copy.append([*engine.rows(b"\x00", b"\x01"), *driver.machine.live_rows()])
        other = StateMachine(copy, hash_key=HASH_KEY)
        assert other.recomputed_hash() == driver.machine.state_hash()
        answer = driver.do(ops.STEP, 0, answer.job)
        driver.crash()
    assert listed(driver, b"d") == sorted(elements, key=int)
    driver.check()


def test_a_large_sort_that_fails_in_the_middle_leaves_nothing(engine: Engine) -> None:
    driver = founded(engine)
    push(driver, b"list", *[b"1"] * (BULK_ROWS_MAX + 100), b"no number")
    driver.do(ops.SET, 0, b"d", b"old")
    before = driver.machine.revision
    answer, steps = finish(driver, driver.do(ops.SORTSTORE, 0, b"d", b"list", 0, 0, -1, None))
    assert text_of(answer) == messages.SORT_NOT_A_FLOAT
    assert steps > BULK_ROWS_MAX // BULK_ROWS_PER_STEP_MAX
    assert driver.read(ops.GET, 0, b"d") == b"old"
    assert driver.machine.revision == before
    driver.check()
    while driver.machine.collect_garbage(1000):
        pass
    rows = driver.engine.keys(TAG_COLLECTION, prefix_end(TAG_COLLECTION))
    assert len({row[1:9] for row in rows}) == 1


def test_what_reads_other_keys_is_done_at_once_or_not_at_all(engine: Engine) -> None:
    driver = founded(engine)
    push(driver, b"list", *[b"%d" % number for number in range(BULK_ROWS_MAX + 100)])
    for pattern in ([b"w_*"], [None, b"#"]):
        answer = driver.do(ops.SORTSTORE, 0, b"d", b"list", 0, 0, -1, *pattern)
        assert answer == BULK_ROWS_MAX + 100
    push(driver, b"list", *[b"1"] * BULK_ROWS_AT_ONCE_MAX)
    answer = driver.do(ops.SORTSTORE, 0, b"d", b"list", 0, 0, -1, b"w_*")
    assert text_of(answer) == messages.SORT_TOO_LARGE


def test_the_result_replaces_what_was_there_and_its_deadline(driver: Driver) -> None:
    push(driver, b"list", b"2", b"1")
    for key in (b"text", b"list"):
        driver.do(ops.SET, 0, b"text", b"x")
        driver.do(ops.EXPIRE, 0, key, 0, 10_000, 0)
        assert driver.do(ops.SORTSTORE, 0, key, b"list", 0, 0, -1, None, b"#", b"no_*") == 4
        assert listed(driver, key) == [b"1", b"", b"2", b""]
        assert driver.read(ops.TTL, 0, key, 1) == -1
        driver.do(ops.DEL, 0, b"list")
        push(driver, b"list", b"2", b"1")
    assert driver.do(ops.SORTSTORE, 0, b"text", b"list", 0, 9, -1, None) == 0
    assert driver.read(ops.EXISTS, 0, b"text") == 0
    driver.check()
