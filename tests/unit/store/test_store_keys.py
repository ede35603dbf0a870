"""Keys of any kind: deadlines, versions, KEYS, SCAN, FLUSH."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.errors import CommandError
from kvnode.limits import PATTERN_BYTES_MAX
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import (
    APPEND,
    COPY,
    DBSIZE,
    DEL,
    EXISTS,
    EXPIRE,
    EXPIRETIME,
    FLUSHALL,
    FLUSHDB,
    GET,
    INCRBY,
    KEYS,
    MOVE,
    OBJECT,
    PERSIST,
    RANDOMKEY,
    RENAME,
    SCAN,
    SET,
    SWAPDB,
    TTL,
    TYPE,
    VERSION,
    ExpireFlag,
    ObjectQuery,
    Op,
)
from kvnode.store.redis import messages
from kvnode.store.reply import OK, Status
from tests.unit.store.driver import Driver

NX, XX, GT, LT = (int(flag) for flag in ExpireFlag)


def scan_all(driver: Driver, count: int = 10) -> list[bytes]:
    """Walk the whole of database 0."""
    found: list[bytes] = []
    cursor = 0
    while True:
        page = driver.read(SCAN, 0, cursor, None, count, None)
        assert isinstance(page, list)
        found += page[1]  # type: ignore[arg-type]
        cursor = int(page[0])  # type: ignore[arg-type]
        if not cursor:
            return found


# --- deleting and asking ------------------------------------------------------------------------


def test_del_counts_what_was_there(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1")
    driver.do(SET, 0, b"b", b"1")
    assert driver.do(DEL, 0, b"a", b"a", b"x", b"b") == 2
    assert driver.machine.keyspace() == {}
    driver.check()


def test_exists_counts_repeats(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1")
    assert driver.read(EXISTS, 0, b"a", b"a", b"x") == 2


def test_type_is_a_status(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1")
    assert driver.read(TYPE, 0, b"a") == "string"
    assert isinstance(driver.read(TYPE, 0, b"x"), Status)
    assert driver.read(TYPE, 0, b"x") == "none"


# --- deadlines ----------------------------------------------------------------------------------


def expired(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    driver.now_ms += 100
    driver.tick()


@pytest.mark.parametrize(
    ("op", "at_once", "in_the_end"),
    [
        ([SET, 0, b"k", b"2"], 1, 1),
        ([SET, 0, b"k", b"2", 16, 100], 1, 1),
        ([DEL, 0, b"k"], 1, 1),
        ([RENAME, 0, b"other", b"k", 0], 1, 1),
        ([SET, 0, b"other", b"2"], 0, 1),
        ([EXPIRE, 0, b"other", 0, -1, 0], 0, 1),
        ([FLUSHDB, 0], 0, 0),
    ],
)
def test_an_expired_key_counts_when_its_record_goes_and_no_other_does(
    driver: Driver, op: Op, at_once: int, in_the_end: int
) -> None:
    driver.do(SET, 0, b"other", b"1", 16, 1000)
    expired(driver)
    driver.do(*op)
    assert driver.machine.expired_keys == at_once
    driver.expire()
    assert driver.machine.expired_keys == in_the_end


@pytest.mark.parametrize(
    ("op", "answer"),
    [
        ([GET, 0, b"k"], None),
        ([EXISTS, 0, b"k"], 0),
        ([TYPE, 0, b"k"], "none"),
        ([TTL, 0, b"k", 1], -2),
        ([KEYS, 0, b"*"], []),
        ([SCAN, 0, 0, None, 10, None], [b"0", []]),
    ],
)
def test_no_read_sees_an_expired_key(driver: Driver, op: Op, answer: object) -> None:
    expired(driver)
    assert driver.machine.keyspace() == {0: (1, 1)}  # its row is still there
    assert driver.read(*op) == answer


@pytest.mark.parametrize(
    ("op", "answer"),
    [
        ([SET, 0, b"k", b"2", 2, 0], None),
        ([SET, 0, b"k", b"2", 1, 0], "OK"),
        ([SET, 0, b"k", b"2", 4, 0], None),
        ([DEL, 0, b"k"], 0),
        ([INCRBY, 0, b"k", 5], 5),
        ([APPEND, 0, b"k", b"xy"], 2),
        ([EXPIRE, 0, b"k", 0, 100, 0], 0),
        ([PERSIST, 0, b"k"], 0),
    ],
)
def test_no_write_sees_an_expired_key(driver: Driver, op: Op, answer: object) -> None:
    expired(driver)
    assert driver.do(*op) == answer
    driver.check()


def test_a_key_lives_until_the_millisecond_of_its_deadline(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    driver.now_ms += 99
    driver.tick()
    assert driver.read(TTL, 0, b"k", 1) == 1
    driver.now_ms += 1
    driver.tick()
    assert driver.read(GET, 0, b"k") is None


def test_ttl_in_seconds_is_rounded_as_redis_does(driver: Driver) -> None:
    for ms, seconds in ((1, 0), (499, 0), (500, 1), (1499, 1), (1500, 2)):
        driver.do(SET, 0, b"k", b"1", 16, ms)
        assert driver.read(TTL, 0, b"k", 0) == seconds


def test_expire_in_the_past_deletes_and_says_one(driver: Driver) -> None:
    for absolute, ms in ((0, 0), (0, -5), (1, driver.now_ms), (1, -1)):
        driver.do(SET, 0, b"k", b"1")
        assert driver.do(EXPIRE, 0, b"k", absolute, ms, 0) == 1
        assert driver.machine.keyspace() == {}


def test_expire_beyond_time_is_an_error(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    result = driver.do(EXPIRE, 0, b"k", 0, 2**63 - 1, 0)
    assert isinstance(result, CommandError)
    assert result.text == messages.INVALID_EXPIRE_IN_EXPIRE


@pytest.mark.parametrize(
    ("flags", "without", "with_lower", "with_equal", "with_higher"),
    [
        (0, 1, 1, 1, 1),
        (NX, 1, 0, 0, 0),
        (XX, 0, 1, 1, 1),
        (GT, 0, 1, 0, 0),
        (LT, 1, 0, 0, 1),
        (XX | GT, 0, 1, 0, 0),
        (XX | LT, 0, 0, 0, 1),
    ],
)
def test_conditions_of_expire(
    driver: Driver, flags: int, without: int, with_lower: int, with_equal: int, with_higher: int
) -> None:
    driver.do(SET, 0, b"k", b"1")
    assert driver.do(EXPIRE, 0, b"k", 0, 1000, flags) == without
    for now, expected in ((500, with_lower), (1000, with_equal), (1500, with_higher)):
        driver.do(SET, 0, b"k", b"1", 16, now)
        assert driver.do(EXPIRE, 0, b"k", 0, 1000, flags) == expected


def test_persist_removes_a_deadline_once(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    assert driver.do(PERSIST, 0, b"k") == 1
    assert driver.do(PERSIST, 0, b"k") == 0
    assert driver.read(TTL, 0, b"k", 0) == -1
    assert driver.machine.next_deadline_ms() is None
    driver.check()


def test_an_expiry_entry_deletes_the_earliest_of_all_databases_up_to_its_limit(
    driver: Driver,
) -> None:
    for database, ms in ((3, 30), (0, 20), (3, 10), (0, 40), (1, 1000)):
        driver.do(SET, database, b"k%d" % ms, b"1", 16, ms)
    driver.now_ms += 100
    assert driver.expire(limit=3) == 3
    driver.check()
    assert [driver.machine.keyspace().get(number) for number in (0, 1, 3)] == [(1, 1), (1, 1), None]
    assert driver.expire(limit=3) == 1
    assert driver.expire(limit=3) == 0
    assert driver.machine.keyspace() == {1: (1, 1)}


def test_an_expiry_entry_deletes_at_the_deadline_and_not_before(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    driver.now_ms += 99
    assert driver.expire() == 0
    driver.now_ms += 1
    assert driver.expire() == 1


def test_the_next_deadline_follows_every_change(driver: Driver) -> None:
    start, machine = driver.now_ms, driver.machine
    assert machine.next_deadline_ms() is None
    driver.do(SET, 0, b"a", b"1", 16, 300)
    driver.do(SET, 1, b"b", b"1", 16, 100)
    assert machine.next_deadline_ms() == start + 100
    driver.do(EXPIRE, 1, b"b", 0, 500, 0)
    assert machine.next_deadline_ms() == start + 300
    driver.do(FLUSHDB, 0)
    assert machine.next_deadline_ms() == start + 500
    driver.do(DEL, 1, b"b")
    assert machine.next_deadline_ms() is None


# --- versions -----------------------------------------------------------------------------------


def test_every_visible_change_gives_a_new_version(driver: Driver) -> None:
    seen: list[int] = []
    for op in (
        [SET, 0, b"k", b"1"],
        [SET, 0, b"k", b"1"],
        [INCRBY, 0, b"k", 1],
        [EXPIRE, 0, b"k", 0, 100, 0],
        [PERSIST, 0, b"k"],
    ):
        driver.do(*op)
        version = driver.read(VERSION, 0, b"k")
        assert isinstance(version, int)
        seen.append(version)
    assert seen[0] > 0
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("op", [[DEL, 0, b"k"], [FLUSHDB, 0], [FLUSHALL, 0]])
def test_a_key_that_went_and_came_has_another_version(driver: Driver, op: Op) -> None:
    driver.do(SET, 0, b"k", b"1")
    before = driver.read(VERSION, 0, b"k")
    driver.do(*op)
    absent = driver.read(VERSION, 0, b"k")
    assert isinstance(absent, int)
    assert absent < 0
    driver.do(SET, 0, b"k", b"1")
    assert driver.read(VERSION, 0, b"k") not in (absent, before)


def test_ops_that_change_nothing_leave_the_revision(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"x")
    before = driver.machine._space.revision
    for op in (
        [DEL, 0, b"absent"],
        [SET, 0, b"k", b"1", 1, 0],
        [INCRBY, 0, b"k", 1],
        [EXPIRE, 0, b"absent", 0, 1, 0],
        [PERSIST, 0, b"k"],
        [FLUSHDB, 5],
    ):
        driver.do(*op)
    assert driver.machine._space.revision == before


# --- KEYS and SCAN ------------------------------------------------------------------------------


def test_keys_matches_a_pattern(driver: Driver) -> None:
    for key in (b"one", b"two", b"three", b"t" * 1000):
        driver.do(SET, 0, key, b"1")
    found = driver.read(KEYS, 0, b"t*")
    assert isinstance(found, list)
    assert sorted(found) == [b"three", b"t" * 1000, b"two"]  # type: ignore[type-var]


@pytest.mark.parametrize("op", [[KEYS, 0], [SCAN, 0, 0]])
def test_a_pattern_that_is_too_long_is_an_error(driver: Driver, op: Op) -> None:
    pattern = b"?" * (PATTERN_BYTES_MAX + 1)
    result = driver.read(*op, pattern, 10, None) if op[0] == SCAN else driver.read(*op, pattern)
    assert isinstance(result, CommandError)


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_a_scan_meets_every_key_once(driver: Driver, count: int) -> None:
    keys = [b"key:%d" % number for number in range(200)]
    driver.batch(*([SET, 0, key, b"1"] for key in keys))
    assert sorted(scan_all(driver, count)) == sorted(keys)


def test_a_page_of_a_scan_visits_no_more_rows_than_asked(driver: Driver) -> None:
    driver.batch(*([SET, 0, b"key:%d" % number, b"1"] for number in range(50)))
    page = driver.read(SCAN, 0, 0, b"key:7", 10, None)
    assert isinstance(page, list)
    assert page[0] != b"0"
    assert page[1] in ([], [b"key:7"])


def test_a_page_of_large_values_ends_early(driver: Driver) -> None:
    driver.batch(*([SET, 0, b"key:%d" % number, bytes(3 << 20)] for number in range(4)))
    page = driver.read(SCAN, 0, 0, None, 1000, None)
    assert isinstance(page, list)
    assert isinstance(page[1], list)
    assert len(page[1]) == 2
    assert len(scan_all(driver)) == 4


def test_a_scan_filters_by_kind(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    assert driver.read(SCAN, 0, 0, None, 10, b"STRING") == [b"0", [b"k"]]
    assert driver.read(SCAN, 0, 0, None, 10, b"hash") == [b"0", []]


@pytest.mark.parametrize("cursor", [-1, 2**64])
def test_a_cursor_beyond_64_bits_is_an_error(driver: Driver, cursor: int) -> None:
    result = driver.read(SCAN, 0, cursor, None, 10, None)
    assert isinstance(result, CommandError)
    assert result.text == messages.INVALID_CURSOR


def test_keys_of_one_hash_stay_on_one_page(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    space_class = type(driver.machine._space)
    monkeypatch.setattr(space_class, "locate", lambda _, key: bytes(7) + key[:1] + key)
    keys = [b"a1", b"a2", b"a3", b"b1", b"b2"]
    driver.batch(*([SET, 0, key, b"1"] for key in keys))
    assert driver.read(SCAN, 0, 0, None, 1, None) == [b"%d" % ord("b"), keys[:3]]
    assert scan_all(driver, count=1) == keys


@given(st.integers(0, 2**32))
def test_a_scan_meets_every_key_that_stayed_while_others_came_and_went(seed: int) -> None:
    chance = random.Random(seed)
    one, other = Driver(MemoryEngine()), Driver(MemoryEngine())
    stable = {b"stable:%d" % number for number in range(30)}
    met: list[object] = []

    def change(*op: object) -> None:
        one.do(*op)
        other.do(*op)

    for key in sorted(stable):
        change(SET, 0, key, b"1")
    cursor, finished = 0, False
    while not finished:
        node = chance.choice((one, other))  # a cursor means the same on every node
        page = node.read(SCAN, 0, cursor, None, chance.randrange(1, 8), None)
        assert isinstance(page, list)
        assert isinstance(page[1], list)
        cursor = int(page[0])  # type: ignore[arg-type]
        met += page[1]
        finished = cursor == 0
        for _ in range(5):
            key = b"passing:%d" % chance.randrange(50)
            change(*chance.choice(([SET, 0, key, b"1"], [DEL, 0, key])))
    assert sorted(key for key in met if key in stable) == sorted(stable), f"seed {seed}"


# --- whole databases ----------------------------------------------------------------------------


def test_flushdb_empties_one_database_and_flushall_all(driver: Driver) -> None:
    for number in (0, 1, 2):
        driver.do(SET, number, b"k", b"1", 16, 100)
    driver.do(FLUSHDB, 1)
    assert driver.machine.keyspace() == {0: (1, 1), 2: (1, 1)}
    assert driver.read(DBSIZE, 0) == 1
    assert driver.read(GET, 1, b"k") is None
    driver.check()
    driver.do(FLUSHALL, 0)
    assert driver.machine.keyspace() == {}
    assert driver.machine.next_deadline_ms() is None
    driver.check()


def test_garbage_is_collected_within_its_budget_and_nobody_sees_it(driver: Driver) -> None:
    driver.batch(*([SET, 0, b"k%d" % number, b"1", 16, 100] for number in range(10)))
    driver.do(SET, 1, b"stays", b"1")
    driver.do(FLUSHDB, 0)
    driver.do(SET, 0, b"new", b"1")
    before = driver.machine.state_hash()
    rows_before = len(list(driver.engine.keys(b"\x01", b"\xff")))
    assert driver.machine.collect_garbage(7) == 7
    assert driver.machine.uncommitted_ops >= 7
    collected = 7
    while (deleted := driver.machine.collect_garbage(7)) != 0:
        assert deleted <= 7
        collected += deleted
    assert collected == 20 + 1, "the row that tells of the garbage counts too"
    assert len(list(driver.engine.keys(b"\x01", b"\xff"))) == rows_before - 21
    assert driver.machine.state_hash() == before
    driver.machine.commit()
    driver.crash()
    assert driver.machine.state_hash() == before
    assert driver.read(GET, 0, b"new") == b"1"


def test_flushing_an_empty_database_leaves_no_garbage(driver: Driver) -> None:
    driver.do(FLUSHALL, 0)
    assert driver.machine.collect_garbage(10) == 0
    assert list(driver.engine.keys(b"\x01", b"\x02")) == []


# --- moving -------------------------------------------------------------------------------------

LONG = b"k" * 500


@pytest.mark.parametrize("new", [b"new", LONG])
@pytest.mark.parametrize("old", [b"old", LONG + b"o"])
@pytest.mark.parametrize("occupied", [False, True])
def test_rename_takes_value_and_deadline_along(
    driver: Driver, old: bytes, new: bytes, occupied: bool
) -> None:
    driver.do(SET, 0, old, b"1", 16, 100)
    if occupied:
        driver.do(SET, 0, new, b"2", 16, 900)
    assert driver.do(RENAME, 0, old, new, 0) is OK
    assert driver.read(KEYS, 0, b"*") == [new]
    assert (driver.read(GET, 0, new), driver.read(TTL, 0, new, 1)) == (b"1", 100)
    driver.check()


def test_renamenx_needs_a_free_name(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1")
    driver.do(SET, 0, b"b", b"2", 16, 100)
    assert driver.do(RENAME, 0, b"a", b"b", 1) == 0
    driver.now_ms += 100
    assert driver.do(RENAME, 0, b"a", b"b", 1) == 1
    assert driver.read(KEYS, 0, b"*") == [b"b"]
    driver.check()


def test_a_key_may_be_renamed_to_itself(driver: Driver) -> None:
    for only_if_absent in (0, 1):
        result = driver.do(RENAME, 0, b"a", b"a", only_if_absent)
        assert isinstance(result, CommandError)
        assert result.text == messages.NO_SUCH_KEY
    driver.do(SET, 0, b"a", b"1")
    assert driver.do(RENAME, 0, b"a", b"a", 0) is OK
    assert driver.do(RENAME, 0, b"a", b"a", 1) == 0
    assert driver.read(GET, 0, b"a") == b"1"


def test_copy_leaves_the_source_and_replaces_only_if_told(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1", 16, 100)
    driver.do(SET, 3, b"a", b"2")
    assert driver.do(COPY, 0, b"a", 0, b"b", 0) == 1
    assert driver.do(COPY, 0, b"a", 3, b"a", 0) == 0
    assert driver.read(GET, 3, b"a") == b"2"
    assert driver.do(COPY, 0, b"a", 3, b"a", 1) == 1
    assert driver.do(COPY, 0, b"none", 3, b"a", 1) == 0
    for db, key in ((0, b"a"), (0, b"b"), (3, b"a")):
        assert (driver.read(GET, db, key), driver.read(TTL, db, key, 1)) == (b"1", 100)
    driver.check()


def test_move_needs_a_free_place(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1", 16, 100)
    driver.do(SET, 1, b"a", b"2", 16, 50)
    assert driver.do(MOVE, 0, b"a", 1) == 0
    driver.now_ms += 50
    assert driver.do(MOVE, 0, b"a", 1) == 1
    assert driver.do(MOVE, 0, b"a", 1) == 0
    assert driver.machine.keyspace() == {1: (1, 1)}
    assert driver.read(TTL, 1, b"a", 1) == 50
    driver.check()


def test_swapdb_exchanges_all_keys_and_deadlines(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"1", 16, 100)
    driver.do(SET, 1, b"b", b"2")
    driver.do(SET, 1, b"c", b"3")
    assert driver.do(SWAPDB, 0, 0, 1) is OK
    assert driver.do(SWAPDB, 0, 1, 1) is OK
    assert driver.machine.keyspace() == {0: (2, 0), 1: (1, 1)}
    assert driver.read(GET, 1, b"a") == b"1"
    driver.check()
    driver.now_ms += 100
    assert driver.expire() == 1
    driver.do(FLUSHDB, 0)
    driver.do(SWAPDB, 0, 0, 15)
    assert driver.machine.keyspace() == {}
    driver.check()


# --- describing ---------------------------------------------------------------------------------


def test_expiretime_is_the_deadline_itself(driver: Driver) -> None:
    assert driver.read(EXPIRETIME, 0, b"k", 0) == -2
    driver.do(SET, 0, b"k", b"1")
    assert driver.read(EXPIRETIME, 0, b"k", 0) == -1
    driver.do(SET, 0, b"k", b"1", 32, 1_900_000_000_500)
    assert driver.read(EXPIRETIME, 0, b"k", 0) == 1_900_000_001
    assert driver.read(EXPIRETIME, 0, b"k", 1) == 1_900_000_000_500


def test_randomkey_finds_every_live_key_and_no_other(driver: Driver) -> None:
    assert driver.read(RANDOMKEY, 0, 2**64 - 1) is None
    names = {b"k%d" % number for number in range(8)}
    for name in names:
        driver.do(SET, 0, name, b"1")
        driver.do(SET, 0, b"gone-" + name, b"1", 16, 10)
    driver.now_ms += 10
    driver.tick()
    starts = [position * 2**56 for position in range(256)]
    assert {driver.read(RANDOMKEY, 0, start) for start in starts} == names


@pytest.mark.parametrize(
    ("value", "encoding", "references"),
    [
        (b"0", b"int", 2**31 - 1),
        (b"9999", b"int", 2**31 - 1),
        (b"10000", b"int", 1),
        (b"-1", b"int", 1),
        (b"%d" % -(2**63), b"int", 1),
        (b"%d" % 2**63, b"embstr", 1),
        (b"007", b"embstr", 1),
        (b"x" * 44, b"embstr", 1),
        (b"x" * 45, b"raw", 1),
    ],
)
def test_object_tells_what_redis_would(
    driver: Driver, value: bytes, encoding: bytes, references: int
) -> None:
    driver.do(SET, 0, b"k", value)
    assert driver.read(OBJECT, 0, b"k", ObjectQuery.ENCODING) == encoding
    assert driver.read(OBJECT, 0, b"k", ObjectQuery.REFCOUNT) == references
    assert driver.read(OBJECT, 0, b"k", ObjectQuery.IDLETIME) == 0
    frequency = driver.read(OBJECT, 0, b"k", ObjectQuery.FREQ)
    assert isinstance(frequency, CommandError)
    assert driver.read(OBJECT, 0, b"none", ObjectQuery.FREQ) is None
