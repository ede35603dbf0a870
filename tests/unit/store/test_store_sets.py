"""Sets in the state machine: against Python's sets, on both engines, and what they cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kvnode.errors import CommandError
from kvnode.limits import (
    BULK_JOB_BYTES_MAX,
    BULK_ROWS_AT_ONCE_MAX,
    BULK_ROWS_MAX,
    BULK_ROWS_PER_STEP_MAX,
    DRAWN_MEMBERS_MAX,
    ENGINE_ROW_BYTES,
    SCAN_ROWS_MAX,
)
from kvnode.store import bulk, ops
from kvnode.store.keyspace import TAG_COLLECTION, TAG_GARBAGE, prefix_end
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import Op, SetOperation
from kvnode.store.redis import messages
from kvnode.store.reply import OK, Result, Unfinished
from tests.unit.store.driver import Driver
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine

UNION, INTERSECTION, DIFFERENCE = map(int, SetOperation)
KEYS = (b"s", b"", b"long" * 120)
MEMBERS = (b"", b"a", b"b", b"\x00\xff", b"7", b"m" * 400, b"m" * 401, b"m" * 401 + b"n")


def members_of(driver: Driver, key: bytes = b"s") -> set[bytes]:
    """What a set holds; each member once."""
    return as_set(driver.read(ops.SMEMBERS, 0, key))


def as_set(result: Result) -> set[bytes]:
    assert isinstance(result, list)
    found = set(result)
    assert len(found) == len(result)
    return found  # type: ignore[return-value]


def filled(driver: Driver, count: int, key: bytes = b"s") -> set[bytes]:
    """A set of so many members."""
    members = [b"member:%d" % at for at in range(count)]
    for at in range(0, count, 10_000):
        driver.do(ops.SADD, 0, key, *members[at : at + 10_000])
    return set(members)


def text_of(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


def plain(result: Result) -> object:
    return ("error", result.text) if isinstance(result, CommandError) else result


# --- against Python's sets ------------------------------------------------------------------------


class Model:
    """Sets as sets; a key that is there may also hold a string."""

    def __init__(self) -> None:
        self.sets: dict[bytes, set[bytes]] = {}
        self.strings: set[bytes] = set()

    def apply(self, op: Op) -> Result:
        code, _, *rest = op
        result = self.MEANINGS[code](self, rest)
        self.sets = {key: members for key, members in self.sets.items() if members}
        return result

    def of(self, key: bytes) -> set[bytes]:
        return self.sets.setdefault(key, set())

    def wrong(self, *keys: bytes) -> CommandError | None:
        return CommandError(messages.WRONG_TYPE) if self.strings & set(keys) else None

    def sadd(self, rest: list[Any]) -> Result:
        key, *members = rest
        if wrong := self.wrong(key):
            return wrong
        before = len(self.of(key))
        self.of(key).update(members)
        return len(self.of(key)) - before

    def srem(self, rest: list[Any]) -> Result:
        key, *members = rest
        if wrong := self.wrong(key):
            return wrong
        before = len(self.of(key))
        self.of(key).difference_update(members)
        return before - len(self.of(key))

    def smove(self, rest: list[Any]) -> Result:
        key, destination, member = rest
        if key in self.strings:
            return self.wrong(key)
        if key not in self.sets:
            return 0
        if destination in self.strings:
            return self.wrong(destination)
        if member not in self.of(key):
            return 0
        self.of(key).discard(member)
        self.of(destination).add(member)
        return 1

    def smismember(self, rest: list[Any]) -> Result:
        key, *members = rest
        return self.wrong(key) or [int(member in self.of(key)) for member in members]

    def sismember(self, rest: list[Any]) -> Result:
        return self.wrong(rest[0]) or int(rest[1] in self.of(rest[0]))

    def scard(self, rest: list[Any]) -> Result:
        return self.wrong(rest[0]) or len(self.of(rest[0]))

    def combined(self, operation: int, keys: list[bytes]) -> set[bytes]:
        first, *others = [self.of(key) for key in keys]
        if operation == UNION:
            return first.union(*others)
        if operation == INTERSECTION:
            return first.intersection(*others)
        return first.difference(*others)

    def store(self, rest: list[Any]) -> Result:
        operation, destination, *keys = rest
        if wrong := self.wrong(*keys):
            return wrong
        self.sets[destination] = self.combined(operation, keys)
        self.strings.discard(destination)
        return len(self.sets[destination])

    def sintercard(self, rest: list[Any]) -> Result:
        limit, *keys = rest
        if wrong := self.wrong(*keys):
            return wrong
        size = len(self.combined(INTERSECTION, keys))
        return min(size, limit) if limit else size

    def delete(self, rest: list[Any]) -> Result:
        was_there = rest[0] in self.sets or rest[0] in self.strings
        self.sets.pop(rest[0], None)
        self.strings.discard(rest[0])
        return int(was_there)

    def set_string(self, rest: list[Any]) -> Result:
        self.sets.pop(rest[0], None)
        self.strings.add(rest[0])
        return OK

    MEANINGS: ClassVar[dict[int, Callable[[Model, list[Any]], Result]]] = {
        ops.SADD: sadd,
        ops.SREM: srem,
        ops.SMOVE: smove,
        ops.SCOMBINESTORE: store,
        ops.SMISMEMBER: smismember,
        ops.SISMEMBER: sismember,
        ops.SCARD: scard,
        ops.SINTERCARD: sintercard,
        ops.DEL: delete,
        ops.SET: set_string,
    }


def random_op(rng: random.Random) -> Op:
    code = rng.choice([ops.SADD] * 5 + [ops.SCOMBINESTORE] * 2 + list(Model.MEANINGS))
    key, keys = rng.choice(KEYS), [rng.choice(KEYS) for _ in range(rng.randint(1, 3))]
    members = [rng.choice(MEMBERS) for _ in range(rng.randint(1, 4))]
    arguments: dict[int, list[Any]] = {
        ops.SMOVE: [key, rng.choice(KEYS), members[0]],
        ops.SCOMBINESTORE: [rng.randrange(3), key, *keys],
        ops.SISMEMBER: [key, members[0]],
        ops.SCARD: [key],
        ops.SINTERCARD: [rng.randrange(3), *keys],
        ops.DEL: [key],
        ops.SET: [key, b"text"],
    }
    return [code, 0, *arguments.get(code, [key, *members])]


def test_any_history_does_what_sets_do(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    model = Model()
    for step in range(600):
        op = random_op(rng)
        before = driver.machine.revision
        was = ({key: set(members) for key, members in model.sets.items()}, set(model.strings))
        expected = plain(model.apply(op))
        result = plain(driver.do(*op) if ops.is_write(op) else driver.read(*op))
        assert (step, op, result) == (step, op, expected)
        changed = was != (model.sets, model.strings) or op[0] in (ops.SET, ops.SCOMBINESTORE)
        assert changed or driver.machine.revision == before
        for key in KEYS:
            if key not in model.strings:
                assert members_of(driver, key) == model.sets.get(key, set())
        if step % 100 == 0:
            driver.check()
            driver.machine.commit()
    driver.check()


def test_replicas_that_start_anew_hold_the_same_sets(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    filled(driver, 900)
    for _ in range(200):
        op = random_op(rng)
        driver.do(*(op if ops.is_write(op) else [ops.SPOP, 0, b"s", rng.randrange(3)]))
        driver.do(ops.SADD, 0, b"s", b"%d" % rng.randrange(1000))
    other = Driver(MemoryEngine())
    for index, data in enumerate(driver.log[1:], start=2):
        other.machine.apply(index, data)
    assert other.machine.state_hash() == driver.machine.state_hash()
    driver.crash()
    assert other.machine.state_hash() == driver.machine.state_hash()
    driver.check()


# --- what is changed, and what is not -------------------------------------------------------------


WRITES: list[Op] = [
    [ops.SADD, 0, b"t", b"a"],
    [ops.SREM, 0, b"t", b"a"],
    [ops.SPOP, 0, b"t", None],
    [ops.SPOP, 0, b"t", 0],
    [ops.SMOVE, 0, b"t", b"s", b"a"],
    [ops.SMOVE, 0, b"s", b"t", b"absent"],
    [ops.SCOMBINESTORE, 0, UNION, b"d", b"s", b"t"],
    [ops.SCOMBINESTORE, 0, INTERSECTION, b"d", b"absent", b"t"],
]
READS: list[Op] = [
    [ops.SMEMBERS, 0, b"t"],
    [ops.SISMEMBER, 0, b"t", b"a"],
    [ops.SMISMEMBER, 0, b"t", b"a"],
    [ops.SCARD, 0, b"t"],
    [ops.SRANDMEMBER, 0, b"t", 1, None],
    [ops.SRANDMEMBER, 0, b"t", 1, 0],
    [ops.SCOMBINE, 0, DIFFERENCE, b"absent", b"t"],
    [ops.SINTERCARD, 0, 0, b"absent", b"t"],
    [ops.SSCAN, 0, b"t", 0, None, 0],
]


@pytest.mark.parametrize("op", WRITES + READS)
def test_a_key_of_another_kind_is_an_error_and_changes_nothing(driver: Driver, op: Op) -> None:
    driver.do(ops.SET, 0, b"t", b"text")
    driver.do(ops.SADD, 0, b"s", b"a")
    before = driver.machine.revision
    result = driver.do(*op) if ops.is_write(op) else driver.read(*op)
    assert text_of(result) == messages.WRONG_TYPE
    assert driver.machine.revision == before
    driver.check()


def test_what_changes_nothing_raises_no_revision(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"s", b"a")
    before = driver.machine.revision
    assert driver.do(ops.SADD, 0, b"s", b"a", b"a") == 0
    assert driver.do(ops.SREM, 0, b"s", b"b") == 0
    assert driver.do(ops.SREM, 0, b"none", b"b") == 0
    assert driver.do(ops.SPOP, 0, b"none", None) is None
    assert driver.do(ops.SPOP, 0, b"s", 0) == []
    assert driver.do(ops.SMOVE, 0, b"s", b"s", b"a") == 1
    assert driver.do(ops.SMOVE, 0, b"s", b"t", b"b") == 0
    assert driver.do(ops.SCOMBINESTORE, 0, UNION, b"d", b"none") == 0
    assert driver.machine.revision == before


def test_a_set_without_members_is_gone(driver: Driver) -> None:
    filled(driver, 3)
    assert driver.do(ops.SREM, 0, b"s", *members_of(driver)) == 3
    assert driver.read(ops.EXISTS, 0, b"s") == 0
    filled(driver, 3)
    assert driver.do(ops.SMOVE, 0, b"s", b"t", b"member:1") == 1
    assert len(as_set(driver.do(ops.SPOP, 0, b"s", 9))) == 2
    assert driver.do(ops.SPOP, 0, b"t", None) == b"member:1"
    assert driver.machine.keyspace() == {}
    driver.check()


def test_a_set_that_has_expired_counts_as_absent(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"s", b"old")
    driver.do(ops.EXPIRE, 0, b"s", 0, 5, 0)
    driver.now_ms += 10
    assert driver.do(ops.SPOP, 0, b"s", None) is None
    assert driver.do(ops.SMOVE, 0, b"s", b"t", b"old") == 0
    assert driver.do(ops.SCOMBINESTORE, 0, UNION, b"d", b"s") == 0
    assert driver.do(ops.SADD, 0, b"s", b"new") == 1
    assert members_of(driver) == {b"new"}
    assert driver.read(ops.TTL, 0, b"s", 1) == -1
    driver.check()


def test_a_store_form_replaces_whatever_is_there_and_its_deadline(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"a", b"1", b"2")
    driver.do(ops.SADD, 0, b"b", b"2", b"3")
    for key in (b"text", b"a"):
        driver.do(ops.SET, 0, b"text", b"x")
        driver.do(ops.EXPIRE, 0, key, 0, 10_000, 0)
        assert driver.do(ops.SCOMBINESTORE, 0, UNION, key, b"a", b"b") == 3
        assert members_of(driver, key) == {b"1", b"2", b"3"}
        assert driver.read(ops.TTL, 0, key, 1) == -1
    assert driver.do(ops.SCOMBINESTORE, 0, DIFFERENCE, b"a", b"b", b"a") == 0
    assert driver.read(ops.EXISTS, 0, b"a") == 0
    driver.check()


@pytest.mark.parametrize("operation", [UNION, INTERSECTION, DIFFERENCE])
def test_a_large_store_form_is_done_in_steps_of_bounded_size(
    engine: Engine, operation: int
) -> None:
    driver = founded(engine)
    whole = filled(driver, BULK_ROWS_MAX + 500, b"a")
    half = set(sorted(whole)[::2]) | {b"other:%d" % at for at in range(50)}
    driver.do(ops.SADD, 0, b"b", *half)
    before = driver.machine.revision
    expected = [whole | half, whole & half, whole - half][operation]
    answer = driver.do(ops.SCOMBINESTORE, 0, operation, b"a", b"a", b"b")
    assert isinstance(answer, Unfinished)
    steps = 0
    while isinstance(answer, Unfinished):
        assert driver.machine.revision == before
        assert members_of(driver, b"a") == whole
        written = driver.machine._space.written_bytes
        answer = driver.do(ops.STEP, 0, answer.job)
        rows = (driver.machine._space.written_bytes - written) // ENGINE_ROW_BYTES
        assert rows < 2 * BULK_ROWS_PER_STEP_MAX
        steps += 1
    assert answer == len(expected)
    assert members_of(driver, b"a") == expected
    assert driver.read(ops.SCARD, 0, b"a") == len(expected)
    assert steps >= len(half) // BULK_ROWS_PER_STEP_MAX
    driver.check()


def test_a_store_form_of_many_keys_takes_few_steps() -> None:
    """Each step looks at all sources, so it does as much as there are."""
    driver = founded(MemoryEngine())
    keys = [b"key:%d" % number for number in range(BULK_ROWS_MAX + 200)]
    driver.batch(*[[ops.SADD, 0, key, key, b"common"] for key in keys])
    answer, steps = driver.do(ops.SCOMBINESTORE, 0, UNION, b"d", *keys), 0
    while isinstance(answer, Unfinished):
        answer, steps = driver.do(ops.STEP, 0, answer.job), steps + 1
    assert (answer, steps) == (len(keys) + 1, 2)


def test_a_store_form_of_a_great_many_keys_is_done_at_once_or_not_at_all() -> None:
    """Its keys would be in every meta row until it is done."""
    driver = founded(MemoryEngine())
    keys = [b"key:%d" % number for number in range(BULK_JOB_BYTES_MAX // 8)]
    driver.batch(*[[ops.SADD, 0, key, key, b"common"] for key in keys])
    assert driver.do(ops.SCOMBINESTORE, 0, UNION, b"d", *keys) == len(keys) + 1
    filled(driver, BULK_ROWS_AT_ONCE_MAX, b"large")
    before = driver.machine.revision
    answer = driver.do(ops.SCOMBINESTORE, 0, UNION, b"d", *keys, b"large")
    assert text_of(answer) == bulk.TOO_LARGE
    assert driver.machine.revision == before


def test_a_key_that_is_named_again_changes_no_result(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"a", b"1", b"2")
    driver.do(ops.SADD, 0, b"b", b"2")
    expected = {
        (UNION, b"a", b"a"): {b"1", b"2"},
        (INTERSECTION, b"a", b"b", b"b", b"a"): {b"2"},
        (DIFFERENCE, b"a", b"b", b"b"): {b"1"},
        (DIFFERENCE, b"a", b"b", b"a"): set(),
    }
    for line, members in expected.items():
        assert as_set(driver.read(ops.SCOMBINE, 0, *line)) == members


def test_an_intersection_with_a_small_set_is_one_step_however_large_the_others_are() -> None:
    driver = founded(MemoryEngine())
    filled(driver, 10 * BULK_ROWS_MAX, b"a")
    driver.do(ops.SADD, 0, b"b", b"member:7", b"other")
    answer = driver.do(ops.SCOMBINESTORE, 0, INTERSECTION, b"d", b"a", b"b")
    assert isinstance(answer, Unfinished)
    assert driver.do(ops.STEP, 0, answer.job) == 1


def test_rows_of_a_set_that_is_popped_or_replaced_as_a_whole_become_garbage(driver: Driver) -> None:
    filled(driver, 200)
    assert len(as_set(driver.do(ops.SPOP, 0, b"s", 200))) == 200
    filled(driver, 200)
    driver.do(ops.SCOMBINESTORE, 0, UNION, b"s", b"s", b"none")
    driver.do(ops.DEL, 0, b"s")
    assert len(list(driver.engine.keys(TAG_GARBAGE, prefix_end(TAG_GARBAGE)))) == 3
    while driver.machine.has_garbage:
        driver.machine.collect_garbage(1000)
    assert list(driver.engine.keys(TAG_COLLECTION, prefix_end(TAG_COLLECTION))) == []


def test_an_error_leaves_nothing_half_written(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"s", b"a")
    driver.do(ops.SET, 0, b"t", b"x")
    before = driver.machine.revision
    results = driver.batch(
        [ops.EXEC, 0, [], [[ops.SMOVE, 0, b"s", b"t", b"a"], [ops.SADD, 0, b"t", b"x"]]]
    )
    assert isinstance(results[0], list)
    assert [text_of(each) for each in results[0]] == [messages.WRONG_TYPE] * 2
    assert driver.machine.revision == before
    assert members_of(driver) == {b"a"}


# --- random members -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 31, 33, 700, 3000])
@pytest.mark.parametrize("count", [1, 5, 100, 3000, 2**62])
def test_members_that_are_popped_are_different_and_gone(size: int, count: int) -> None:
    driver = Driver(MemoryEngine())
    whole = filled(driver, size)
    popped = as_set(driver.do(ops.SPOP, 0, b"s", count))
    assert len(popped) == min(size, count)
    assert members_of(driver) == whole - popped
    driver.check()


def test_pops_of_one_batch_are_drawn_apart(driver: Driver) -> None:
    """Each draws on from the seed of the batch: equal draws would take neighbours."""
    whole = sorted(filled(driver, 1000), key=driver.machine._space.locate)
    popped = as_set(driver.batch(*[[ops.SPOP, 0, b"s", None]] * 20))
    ranks = [whole.index(member) for member in popped]
    assert max(ranks) - min(ranks) > 500


@pytest.mark.parametrize("size", [1, 33, 700])
@pytest.mark.parametrize("count", [1, 5, 100, 2000])
def test_random_members_are_of_the_set_and_as_many_as_asked(size: int, count: int) -> None:
    driver = Driver(MemoryEngine())
    whole = filled(driver, size)
    for seed in range(5):
        one = driver.read(ops.SRANDMEMBER, 0, b"s", seed, None)
        assert one in whole
        different = as_set(driver.read(ops.SRANDMEMBER, 0, b"s", seed, count))
        assert len(different) == min(size, count)
        assert different <= whole
        drawn = driver.read(ops.SRANDMEMBER, 0, b"s", seed, -count)
        assert isinstance(drawn, list)
        assert len(drawn) == count
        assert whole.issuperset(drawn)  # type: ignore[arg-type]
    many = driver.read(ops.SRANDMEMBER, 0, b"s", 1, -DRAWN_MEMBERS_MAX - 1)
    assert text_of(many) == messages.OUT_OF_RANGE


def test_one_seed_draws_alike_on_every_engine(driver: Driver) -> None:
    other = Driver(MemoryEngine())
    for each in (driver, other):
        filled(each, 700)
    for count in (None, 3, -3):
        op = [ops.SRANDMEMBER, 0, b"s", 77, count]
        assert driver.read(*op) == other.read(*op)


@pytest.mark.parametrize(
    ("size", "draws_each", "bound"), [(10, 200, 3.0), (1000, 20, 2.0), (5000, 4, 1.3)]
)
def test_every_member_is_drawn_about_as_often(size: int, draws_each: int, bound: float) -> None:
    """A window of 32 gaps adds 1/32 per expected draw to the χ² of a fair choice, which is 1."""
    driver = Driver(MemoryEngine())
    whole = filled(driver, size)
    at_once = max(size // 10, 1)
    drawn = Counter[bytes]()
    for seed in range(draws_each * size // at_once):
        answer = driver.read(ops.SRANDMEMBER, 0, b"s", seed, -at_once)
        assert isinstance(answer, list)
        drawn.update(answer)  # type: ignore[arg-type]
    squares = sum((drawn[member] - draws_each) ** 2 for member in whole)
    spread = squares / draws_each / (size - 1)
    print(f"{size} members, {draws_each} draws each: χ² per degree of freedom {spread:.3f}")
    assert spread < bound


# --- pages ----------------------------------------------------------------------------------------


def test_a_walk_meets_every_member_that_stays_while_others_come_and_go(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    staying = filled(driver, 300)
    cursor, met, pages = b"0", Counter[bytes](), 0
    while True:
        driver.do(ops.SADD, 0, b"s", *(b"%d" % rng.randrange(200) for _ in range(20)))
        driver.do(ops.SREM, 0, b"s", *(b"%d" % rng.randrange(200) for _ in range(20)))
        answer = driver.read(ops.SSCAN, 0, b"s", int(cursor), None, 10)
        assert isinstance(answer, list)
        cursor, page = answer  # type: ignore[assignment]
        met.update(page)
        pages += 1
        if cursor == b"0":
            break
    assert pages >= 30
    assert {member for member in met if member in staying} == staying
    assert all(met[member] == 1 for member in staying)


def test_a_page_is_bounded_and_holds_only_what_matches() -> None:
    driver = Driver(MemoryEngine())
    filled(driver, SCAN_ROWS_MAX + 100)
    answer = driver.read(ops.SSCAN, 0, b"s", 0, b"*:*7", 2**40)
    assert isinstance(answer, list)
    cursor, page = answer
    assert cursor != b"0"
    assert 0 < len(as_set(page)) < SCAN_ROWS_MAX
    assert all(member.endswith(b"7") for member in as_set(page))


def test_options_of_sscan_are_judged_only_for_a_key_that_is_there(driver: Driver) -> None:
    driver.do(ops.SADD, 0, b"s", b"a")
    assert driver.read(ops.SSCAN, 0, b"none", 0, None, 0) == [b"0", []]
    assert text_of(driver.read(ops.SSCAN, 0, b"s", 0, None, 0)) == messages.SYNTAX
    assert text_of(driver.read(ops.SSCAN, 0, b"s", 0, None, None)) == messages.NOT_AN_INTEGER


# --- cost -----------------------------------------------------------------------------------------


class CountingEngine(MemoryEngine):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: bytes, /) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def rows(self, start: bytes, stop: bytes) -> Any:
        for row in super().rows(start, stop):
            self.reads += 1
            yield row

    def keys(self, start: bytes, stop: bytes) -> Any:
        for row in super().keys(start, stop):
            self.reads += 1
            yield row


def reads_of(size: int, op: Op) -> int:
    engine = CountingEngine()
    driver = Driver(engine)
    filled(driver, size)
    driver.do(ops.SADD, 0, b"small", b"member:5", b"other")
    engine.reads = 0
    if ops.is_write(op):
        driver.do(*op)
    else:
        driver.read(*op)
    return engine.reads


@pytest.mark.parametrize(
    "op",
    [
        [ops.SADD, 0, b"s", b"new"],
        [ops.SREM, 0, b"s", b"member:5"],
        [ops.SISMEMBER, 0, b"s", b"member:5"],
        [ops.SCARD, 0, b"s"],
        [ops.SPOP, 0, b"s", None],
        [ops.SRANDMEMBER, 0, b"s", 3, None],
        [ops.SRANDMEMBER, 0, b"s", 3, -4],
        [ops.SMOVE, 0, b"s", b"t", b"member:5"],
        [ops.SSCAN, 0, b"s", 0, None, 10],
        [ops.SCOMBINE, 0, INTERSECTION, b"s", b"small"],
        [ops.SCOMBINE, 0, DIFFERENCE, b"small", b"s"],
        [ops.SINTERCARD, 0, 1, b"s", b"s"],
    ],
)
def test_an_op_costs_what_it_asks_and_not_what_is_stored(op: Op) -> None:
    assert reads_of(20_000, op) <= 2 * reads_of(1_000, op)
