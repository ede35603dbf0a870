"""Streams: each op on its own, then random histories beside a model of plain dicts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from kvnode.errors import CommandError
from kvnode.store import batch, ops
from kvnode.store.keyspace import TAG_COLLECTION, prefix_end
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.ops import ClaimFlag
from kvnode.store.redis import streams
from kvnode.store.redis.stream_ids import INVALID, NEWEST, TOP, ZERO, make, numbers_of, parse
from tests.unit.store.driver import NODE, START_MS, Driver
from tests.unit.store.stream_model import Group, Id, Stream

if TYPE_CHECKING:
    from pathlib import Path

    from kvnode.store.reply import Result

K = b"k"
G, C = b"group", b"consumer"
LONG = b"n" * 500


def add(driver: Driver, *ids: int, key: bytes = K) -> None:
    """Entries of these milliseconds, each with its number as its value."""
    for ms in ids:
        driver.do(ops.XADD, 0, key, make(ms, 0), 0, [], b"f", b"%d" % ms)


def entries(*ids: int) -> list[Any]:
    return [[b"%d-0" % ms, [b"f", b"%d" % ms]] for ms in ids]


def everything(driver: Driver, key: bytes = K) -> Result:
    return driver.read(ops.XRANGE, 0, key, ZERO, TOP, -1, 0)


def rows(driver: Driver) -> int:
    return sum(1 for _ in driver.engine.keys(TAG_COLLECTION, prefix_end(TAG_COLLECTION)))


def generation(driver: Driver) -> int:
    found = streams.find(driver.machine._space, 0, K)
    assert isinstance(found, streams.Stream)
    return found.rows.generation


def error(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (b"5", (5, 0)),
        (b"5-7", (5, 7)),
        (b"0-0", (0, 0)),
        (b"007-+3", (7, 3)),
        (b"  5-  6", (5, 6)),
        (b"18446744073709551615-18446744073709551615", (2**64 - 1, 2**64 - 1)),
        *((bad, None) for bad in (b"", b"-", b"+", b"*", b"5-*", b"-5", b"5-", b"1-2-3", b"x")),
        *((bad, None) for bad in (b"18446744073709551616", b"5 ", b"1" * 128, b"\xff", b"0x1")),
    ],
)
def test_an_id_is_read_as_redis_reads_it(text: bytes, identity: Id | None) -> None:
    parsed = parse(text)
    assert (None if parsed is None else numbers_of(parsed)) == identity


def test_a_star_is_the_stamp_or_follows_the_last_id(driver: Driver) -> None:
    for _ in range(2):
        driver.do(ops.XADD, 0, K, b"", 0, [], b"f", b"v")
    driver.now_ms += 5
    assert driver.do(ops.XADD, 0, K, b"", 0, [], b"f", b"v") == b"%d-0" % (START_MS + 5)
    assert everything(driver) == [
        [b"%d-%d" % pair, [b"f", b"v"]]
        for pair in ((START_MS, 0), (START_MS, 1), (START_MS + 5, 0))
    ]
    driver.do(ops.XADD, 0, K, make(START_MS + 900, 2**64 - 1), 0, [], b"f", b"v")
    full = driver.do(ops.XADD, 0, K, make(START_MS + 900, 0)[:8], 0, [], b"f", b"v")
    assert "equal or smaller" in error(full)
    assert driver.do(ops.XADD, 0, K, b"", 0, [], b"f", b"v") == b"%d-0" % (START_MS + 901)


def test_an_id_that_is_not_above_the_last_one_adds_nothing(driver: Driver) -> None:
    add(driver, 5)
    before = driver.machine.state_hash(), driver.machine.applied
    for wanted in (make(5, 0), make(4, 9), make(4, 0)[:8]):
        assert "equal or smaller" in error(driver.do(ops.XADD, 0, K, wanted, 0, [], b"f", b"v"))
    assert everything(driver) == entries(5)
    assert driver.do(ops.XADD, 0, K, make(5, 0)[:8], 0, [], b"f", b"v") == b"5-1"
    assert before[1] < driver.machine.applied


def test_the_last_id_of_all_ends_a_stream(driver: Driver) -> None:
    driver.do(ops.XADD, 0, K, TOP, 0, [], b"f", b"v")
    for wanted in (b"", TOP, make(2**64 - 1, 0)[:8]):
        assert "exhausted" in error(driver.do(ops.XADD, 0, K, wanted, 0, [], b"f", b"v"))
    assert driver.read(ops.XREAD, 0, 0, K, TOP) is None
    assert driver.read(ops.XREAD, 0, 0, K, ZERO) is not None


# --- entries --------------------------------------------------------------------------------------


def test_nomkstream_makes_no_stream(driver: Driver) -> None:
    assert driver.do(ops.XADD, 0, K, b"", 1, [], b"f", b"v") is None
    assert driver.read(ops.TYPE, 0, K) == "none"
    add(driver, 1)
    assert driver.do(ops.XADD, 0, K, make(2, 0), 1, [], b"f", b"v") == b"2-0"


def test_a_stream_without_entries_stays_and_remembers(driver: Driver) -> None:
    add(driver, 1, 2)
    assert driver.do(ops.XDEL, 0, K, make(1, 0), make(2, 0), make(2, 0), make(9, 0)) == 2
    assert driver.read(ops.TYPE, 0, K) == "stream"
    assert driver.read(ops.XLEN, 0, K) == 0
    assert "equal or smaller" in error(driver.do(ops.XADD, 0, K, make(2, 0), 0, [], b"f", b"v"))
    driver.check()


def test_ranges_include_both_ends_in_either_direction(driver: Driver) -> None:
    add(driver, 1, 2, 3, 4)
    first, last = make(2, 0), make(3, 0)
    assert driver.read(ops.XRANGE, 0, K, first, last, -1, 0) == entries(2, 3)
    assert driver.read(ops.XRANGE, 0, K, first, last, -1, 1) == entries(3, 2)
    assert driver.read(ops.XRANGE, 0, K, ZERO, TOP, 1, 0) == entries(1)
    assert driver.read(ops.XRANGE, 0, K, ZERO, TOP, 1, 1) == entries(4)
    assert driver.read(ops.XRANGE, 0, K, last, first, -1, 0) == []
    assert driver.read(ops.XRANGE, 0, K, ZERO, TOP, 0, 0) is None
    assert driver.read(ops.XRANGE, 0, b"absent", ZERO, TOP, 0, 0) == []


def test_xread_answers_only_for_streams_with_something_newer(driver: Driver) -> None:
    add(driver, 1, 2)
    add(driver, 7, key=b"other")
    asked = (K, make(1, 0), b"other", make(7, 0), b"absent", ZERO)
    assert driver.read(ops.XREAD, 0, 0, *asked) == [K, entries(2)]
    assert driver.read(ops.XREAD, 0, 1, K, ZERO, b"other", ZERO) == [
        *(K, entries(1)),
        *(b"other", entries(7)),
    ]
    assert driver.read(ops.XREAD, 0, 0, K, NEWEST) is None


def test_who_waits_can_ask_where_the_streams_end(driver: Driver) -> None:
    add(driver, 5)
    asked = (K, NEWEST, b"absent", NEWEST, K, ZERO)
    assert driver.read(ops.XREAD_SINCE, 0, *asked) == [make(5, 0), ZERO, ZERO]
    driver.do(ops.SET, 0, b"s", b"v")
    assert "WRONGTYPE" in error(driver.read(ops.XREAD_SINCE, 0, b"s", NEWEST))
    assert "Invalid" in error(driver.read(ops.XREAD_SINCE, 0, b"absent", INVALID))


@pytest.mark.parametrize(
    ("trim", "removed"),
    [
        ([100, 0, 0], 150),
        ([100, 1, 0], 100),
        ([0, 1, 0], 250),
        ([0, 1, 249], 200),
        ([0, 1, 99], 0),
        ([300, 1, 0], 0),
        ([make(151, 0), 0, 0], 150),
        ([make(151, 0), 1, 0], 100),
        ([make(101, 0), 1, 0], 100),
        ([make(100, 0), 1, 0], 0),
        ([make(999, 0), 1, 0], 250),
        ([make(999, 0), 1, 120], 100),
    ],
)
def test_a_trim_removes_what_it_says_and_in_nodes_never_more(
    driver: Driver, trim: list[Any], removed: int
) -> None:
    driver.batch(*([ops.XADD, 0, K, make(ms, 0), 0, [], b"f", b"%d" % ms] for ms in range(1, 251)))
    assert driver.do(ops.XTRIM, 0, K, trim) == removed
    assert everything(driver) == entries(*range(removed + 1, 251))
    driver.check()


def test_nothing_is_written_when_nothing_changes(driver: Driver) -> None:
    add(driver, 1)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XGROUP_CREATECONSUMER, 0, K, G, C)
    space = driver.machine._space
    before = space.revision, space.written_bytes
    for op in (
        (ops.XDEL, 0, K, make(9, 0)),
        (ops.XDEL, 0, K, INVALID),
        (ops.XTRIM, 0, K, [5, 0, 0]),
        (ops.XACK, 0, K, G, make(1, 0)),
        (ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0),
        (ops.XGROUP_CREATECONSUMER, 0, K, G, C),
        (ops.XGROUP_DESTROY, 0, K, b"none"),
        (ops.XSETID, 0, K, make(1, 0), -1, ZERO),
        (ops.XREADGROUP, 0, G, C, 0, 0, K, NEWEST),
        (ops.XREADGROUP, 0, G, C, 0, 0, K, ZERO),
        (ops.XCLAIM, 0, K, G, C, 0, 0, 0, -1, ZERO, b"ERR fault", make(1, 0)),
        (ops.XCLAIM, 0, K, G, b"new", 0, 0, 0, -1, ZERO, None, make(1, 0)),
    ):
        driver.do(*op)
    assert (space.revision, space.written_bytes) == before


@pytest.mark.parametrize("key", [K, b"absent"])
def test_a_key_of_another_kind_is_refused_by_every_op(driver: Driver, key: bytes) -> None:
    driver.do(ops.SET, 0, K, b"v")
    writes: list[tuple[Any, ...]] = [
        (ops.XADD, 0, key, b"", 1, [], b"f", b"v"),
        (ops.XDEL, 0, key, INVALID),
        (ops.XTRIM, 0, key, [0, 0, 0]),
        (ops.XSETID, 0, key, ZERO, -1, ZERO),
        (ops.XGROUP_CREATE, 0, key, G, INVALID, -1, 1),
        (ops.XGROUP_SETID, 0, key, G, INVALID, -1),
        (ops.XGROUP_DESTROY, 0, key, G),
        (ops.XGROUP_CREATECONSUMER, 0, key, G, C),
        (ops.XGROUP_DELCONSUMER, 0, key, G, C),
        (ops.XREADGROUP, 0, G, C, 0, 0, key, INVALID),
        (ops.XACK, 0, key, G, INVALID),
        (ops.XCLAIM, 0, key, G, C, 0, 0, 0, -1, ZERO, b"ERR fault"),
        (ops.XAUTOCLAIM, 0, key, G, C, 0, ZERO, 10, 0),
    ]
    reads: list[tuple[Any, ...]] = [
        (ops.XLEN, 0, key),
        (ops.XRANGE, 0, key, ZERO, TOP, 0, 0),
        (ops.XREAD, 0, 0, key, INVALID),
        (ops.XPENDING, 0, key, G),
        (ops.XPENDING_RANGE, 0, key, G, 0, ZERO, TOP, 0, None),
        (ops.XINFO_STREAM, 0, key, None, b"ERR fault"),
        (ops.XINFO_GROUPS, 0, key),
        (ops.XINFO_CONSUMERS, 0, key, G),
    ]
    for op in [*writes, *reads]:
        answer = driver.do(*op) if op in writes else driver.read(*op)
        is_refused = isinstance(answer, CommandError) and answer.text.startswith("WRONGTYPE")
        assert is_refused == (key == K), op
    assert driver.read(ops.GET, 0, K) == b"v"
    assert driver.read(ops.TYPE, 0, b"absent") == "none"


# --- groups ---------------------------------------------------------------------------------------


def test_an_entry_is_given_to_one_consumer_until_it_is_acknowledged(driver: Driver) -> None:
    add(driver, 1, 2, 3)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    assert driver.do(ops.XREADGROUP, 0, G, b"a", 2, 0, K, TOP) == [K, entries(1, 2)]
    assert driver.do(ops.XREADGROUP, 0, G, b"b", 0, 0, K, TOP) == [K, entries(3)]
    assert driver.do(ops.XREADGROUP, 0, G, b"b", 0, 0, K, TOP) is None
    assert driver.do(ops.XREADGROUP, 0, G, b"a", 0, 0, K, ZERO) == [K, entries(1, 2)]
    assert driver.do(ops.XACK, 0, K, G, make(1, 0), make(3, 0), make(3, 0)) == 2
    assert driver.do(ops.XREADGROUP, 0, G, b"b", 0, 0, K, ZERO) == [K, []]
    assert driver.read(ops.XPENDING, 0, K, G) == [1, b"2-0", b"2-0", [[b"a", b"1"]]]
    driver.check()


def test_a_consumer_comes_with_what_it_gets_first(driver: Driver) -> None:
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 1)
    assert driver.do(ops.XREADGROUP, 0, G, C, 0, 0, K, TOP) is None
    assert driver.read(ops.XINFO_CONSUMERS, 0, K, G) == []
    add(driver, 1)
    driver.do(ops.XREADGROUP, 0, G, C, 0, 0, K, TOP)
    driver.now_ms += 30
    driver.tick()
    assert driver.read(ops.XINFO_CONSUMERS, 0, K, G) == [
        [b"name", C, b"pending", 1, b"idle", 30],
    ]


def test_a_group_that_is_destroyed_leaves_no_row(driver: Driver) -> None:
    add(driver, *range(1, 6))
    before = rows(driver)
    for name in (G, LONG):
        driver.do(ops.XGROUP_CREATE, 0, K, name, ZERO, -1, 0)
        driver.do(ops.XREADGROUP, 0, name, LONG, 3, 0, K, TOP)
        driver.do(ops.XREADGROUP, 0, name, C, 0, 0, K, TOP)
    counted = rows(driver)
    assert driver.do(ops.XGROUP_DELCONSUMER, 0, K, G, LONG) == 3
    assert rows(driver) == counted - 2 * 3 - 2  # each entry by id and by consumer, row and name
    assert driver.do(ops.XGROUP_DELCONSUMER, 0, K, G, LONG) == 0
    driver.check()
    assert driver.do(ops.XGROUP_DESTROY, 0, K, G) == 1
    assert driver.do(ops.XGROUP_DESTROY, 0, K, LONG) == 1
    assert rows(driver) == before
    driver.check()


def test_what_happens_to_a_group_is_no_write_of_the_key_to_who_watches_it(driver: Driver) -> None:
    add(driver, 1, 2)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    seen = driver.read(ops.VERSION, 0, K)
    driver.do(ops.SET, 0, b"other", b"v")
    driver.do(ops.XREADGROUP, 0, G, C, 1, 0, K, TOP)
    driver.do(ops.XACK, 0, K, G, make(1, 0))
    driver.do(ops.XSETID, 0, K, make(9, 0), -1, ZERO)
    watched = [[0, K, seen]]
    assert driver.do(ops.EXEC_WATCHED, 0, watched, [[ops.XLEN, 0, K]]) == [2]
    add(driver, 10)
    assert driver.do(ops.EXEC_WATCHED, 0, watched, [[ops.XLEN, 0, K]]) is None


def test_a_stream_moves_with_its_groups(driver: Driver) -> None:
    add(driver, 1, 2)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XREADGROUP, 0, G, C, 1, 0, K, TOP)
    told = driver.read(ops.XINFO_STREAM, 0, K, 0, None)
    driver.do(ops.COPY, 0, K, 1, b"copy", 0)
    driver.do(ops.RENAME, 0, K, b"renamed", 0)
    assert driver.read(ops.XINFO_STREAM, 0, b"renamed", 0, None) == told
    assert driver.do(ops.XACK, 0, b"renamed", G, make(1, 0)) == 1
    assert driver.read(ops.XINFO_STREAM, 1, b"copy", 0, None) == told
    driver.check()


def test_what_is_wrong_with_an_id_is_told_where_key_and_group_are_there(driver: Driver) -> None:
    add(driver, 1)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XREADGROUP, 0, G, C, 0, 0, K, TOP)
    claim = (ops.XCLAIM, 0, K, G, C, 0, 0, 0, -1, ZERO, b"ERR \xff", make(1, 0))
    assert error(driver.do(*claim)) == "ERR \udcff"
    for op in (
        (ops.XACK, 0, K, G, make(1, 0), INVALID),
        (ops.XDEL, 0, K, make(1, 0), INVALID),
        (ops.XGROUP_SETID, 0, K, G, INVALID, -1),
        (ops.XGROUP_CREATE, 0, K, b"new", INVALID, -1, 1),
        (ops.XREADGROUP, 0, G, C, 0, 0, K, TOP, K, INVALID),
    ):
        assert "Invalid stream ID" in error(driver.do(*op))
    assert driver.read(ops.XPENDING, 0, K, G) == [1, b"1-0", b"1-0", [[C, b"1"]]]
    assert driver.read(ops.XLEN, 0, K) == 1


def test_what_is_forced_was_never_idle(driver: Driver) -> None:
    add(driver, 1)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    force = (ops.XCLAIM, 0, K, G, C, 2**62, int(ClaimFlag.FORCE), 0, -1, ZERO, None, make(1, 0))
    assert driver.do(*force) == entries(1)
    assert driver.do(*force) == []


def test_xautoclaim_looks_at_ten_times_as_many_as_it_may_return(driver: Driver) -> None:
    add(driver, *range(1, 31))
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XREADGROUP, 0, G, C, 0, 0, K, TOP)
    claim = (ops.XAUTOCLAIM, 0, K, G, b"other", 5)
    assert driver.do(*claim, ZERO, 2, 0) == [b"21-0", [], []]
    driver.now_ms += 5
    assert driver.do(*claim, make(21, 0), 2, 0) == [b"23-0", entries(21, 22), []]
    driver.do(ops.XDEL, 0, K, make(23, 0), make(24, 0), make(25, 0))
    assert driver.do(*claim, make(22, 0), 2, 0) == [b"25-0", [], [b"23-0", b"24-0"]]
    assert driver.do(*claim, make(25, 0), 9, int(ClaimFlag.JUSTID)) == [
        *(b"0-0", [b"%d-0" % ms for ms in range(26, 31)], [b"25-0"]),
    ]


def test_a_queue_can_be_drained_where_data_may_not_grow() -> None:
    draining = {ops.XREADGROUP, ops.XACK, ops.XCLAIM, ops.XAUTOCLAIM, ops.XDEL, ops.XTRIM}
    assert not draining & ops.GROWING
    assert {ops.XADD, ops.XGROUP_CREATE} <= ops.GROWING


def test_deliveries_wrap_as_in_redis(driver: Driver) -> None:
    add(driver, 1)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    for deliveries, shown in ((2**63 - 1, 2**63 - 1), (-1, -(2**63))):
        claim = (ops.XCLAIM, 0, K, G, C, 0, int(ClaimFlag.FORCE), 0, deliveries, ZERO, None)
        driver.do(*claim, make(1, 0))
        pending = driver.read(ops.XPENDING_RANGE, 0, K, G, 0, ZERO, TOP, 9, None)
        assert pending == [[b"1-0", C, 0, shown]]


def test_counters_wrap_as_in_redis(driver: Driver) -> None:
    largest = 2**63 - 1
    add(driver, 1)
    driver.do(ops.XGROUP_CREATE, 0, K, b"g1", ZERO, largest, 0)
    driver.do(ops.XGROUP_CREATE, 0, K, b"g2", ZERO, -1, 0)
    driver.do(ops.XSETID, 0, K, make(1, 0), largest, ZERO)
    add(driver, 2)
    for name in (b"g1", b"g2"):
        driver.do(ops.XREADGROUP, 0, name, C, 0, 0, K, TOP)
    told = driver.read(ops.XINFO_GROUPS, 0, K)
    assert isinstance(told, list)
    assert [group[8:] for group in told if isinstance(group, list)] == [
        [b"entries-read", -largest, b"lag", -1],
        [b"entries-read", -largest - 1, b"lag", 0],
    ]
    driver.check()


def test_an_old_delivery_is_given_another_time_after_setid(driver: Driver) -> None:
    add(driver, 1, 2)
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XREADGROUP, 0, G, b"a", 0, 0, K, TOP)
    driver.do(ops.XGROUP_SETID, 0, K, G, make(1, 0), -1)
    assert driver.do(ops.XREADGROUP, 0, G, b"b", 0, 0, K, TOP, K, ZERO, K, TOP) == [
        *(K, entries(2)),
        *(K, entries(2)),
    ]
    assert driver.read(ops.XPENDING, 0, K, G) == [
        *(2, b"1-0", b"2-0"),
        [[b"a", b"1"], [b"b", b"1"]],
    ]
    driver.check()


def test_notifications_tell_what_happened_as_redis_does(driver: Driver) -> None:
    driver.machine.listen(to_events=True)
    blob = batch.encode_ops(
        [
            [ops.XADD, 0, K, make(2, 0), 0, [], b"f", b"v"],
            [ops.XADD, 0, K, make(3, 0), 0, [1, 0, 0], b"f", b"v"],
            [ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0],
            [ops.XREADGROUP, 0, G, C, 1, 0, K, TOP],
            [ops.XCLAIM, 0, K, G, b"d", 0, 0, 0, -1, ZERO, None, make(3, 0)],
            [ops.XDEL, 0, K, make(3, 0)],
            [ops.XADD, 0, K, make(4, 0), 0, [], b"f", b"v"],
            [ops.XTRIM, 0, K, [0, 0, 0]],
            [ops.XSETID, 0, K, make(9, 0), -1, ZERO],
            [ops.XGROUP_SETID, 0, K, G, ZERO, -1],
            [ops.XGROUP_CREATECONSUMER, 0, K, G, b"e"],
            [ops.XGROUP_DELCONSUMER, 0, K, G, b"e"],
            [ops.XGROUP_DESTROY, 0, K, G],
        ]
    )
    applied = driver.append(batch.encode_batch(driver.now_ms, 0, NODE, 1, 1, blob))
    assert [event.name.decode() for event in applied.events if event.name != b"new"] == [
        *("xadd", "xadd", "xtrim", "xgroup-create", "xgroup-createconsumer"),
        *("xgroup-createconsumer", "xdel", "xadd", "xtrim", "xsetid", "xgroup-setid"),
        *("xgroup-createconsumer", "xgroup-delconsumer", "xgroup-destroy"),
    ]


# --- random histories -----------------------------------------------------------------------------


class Pair:
    """A store and a model that do the same."""

    def __init__(self, driver: Driver, rng: random.Random) -> None:
        self.driver = driver
        self.rng = rng
        self.model = Stream()
        self.groups = [b"g", LONG]
        self.consumers = [b"a", b"b", LONG]
        driver.do(ops.XGROUP_CREATE, 0, K, b"g", ZERO, -1, 1)
        self.model.groups[b"g"] = Group((0, 0), None)

    def step(self) -> None:
        """Do something random, and compare the answers."""
        self.driver.now_ms += self.rng.choice((0, 0, 1, 10))
        self.model.now_ms = self.driver.now_ms
        actions = [self.add, self.add, self.delete, self.trim, self.groups_change]
        if self.model.groups:
            actions += [self.read, self.read, self.ack, self.claim, self.claim_all, self.forget]
        self.rng.choice(actions)()

    def told(self) -> Result:
        """XINFO STREAM FULL without the tree."""
        told = self.driver.read(ops.XINFO_STREAM, 0, K, 0, None)
        assert isinstance(told, list)
        return told[:2] + told[6:]

    def some_id(self) -> Id:
        known = [*self.model.entries, *(i for g in self.model.groups.values() for i in g.pending)]
        return self.rng.choice(known) if known and self.rng.random() < 0.9 else (5, 5)

    def some_ids(self) -> list[Id]:
        return [self.some_id() for _ in range(self.rng.randint(1, 4))]

    def add(self) -> None:
        last_ms = self.model.last[0]
        wanted = self.rng.choice((None, last_ms, (last_ms, 3), (last_ms + 1, 0)))
        op = (
            b""
            if wanted is None
            else make(wanted, 0)[:8]
            if isinstance(wanted, int)
            else make(*wanted)
        )
        fields = [b"f", b"%d" % self.rng.randrange(10**6)]
        answer = self.driver.do(ops.XADD, 0, K, op, 0, [], *fields)
        expected = self.model.add(wanted, fields)
        assert answer == expected or (expected is None and isinstance(answer, CommandError))

    def delete(self) -> None:
        ids = self.some_ids()[:2]
        assert self.driver.do(ops.XDEL, 0, K, *packed(ids)) == self.model.delete(ids)

    def trim(self) -> None:
        length = len(self.model.entries)
        bound: Id | int = max(length - self.rng.randrange(3), 0)
        if self.rng.random() < 0.5 and length:
            bound = self.model.ids()[min(length - 1, self.rng.randrange(3))]
        in_nodes = self.rng.random() < 0.3
        limit = self.rng.randrange(3) * in_nodes
        op = [bound if isinstance(bound, int) else make(*bound), int(in_nodes), limit]
        expected = self.model.trim(bound, in_nodes=in_nodes, limit=limit)
        assert self.driver.do(ops.XTRIM, 0, K, op) == expected

    def groups_change(self) -> None:
        name = self.rng.choice(self.groups)
        dice = self.rng.random()
        since, read = self.some_id(), self.rng.choice((None, 0, 3))
        mark, known = make(*since), -1 if read is None else read
        group = self.model.groups.get(name)
        if group is None:
            self.driver.do(ops.XGROUP_CREATE, 0, K, name, mark, known, 0)
            self.model.groups[name] = Group(since, read)
        elif dice < 0.2:
            self.driver.do(ops.XGROUP_DESTROY, 0, K, name)
            del self.model.groups[name]
        elif dice < 0.5:
            self.driver.do(ops.XGROUP_SETID, 0, K, name, mark, known)
            group.last, group.entries_read = since, read

    def one(self) -> tuple[bytes, bytes]:
        return self.rng.choice(list(self.model.groups)), self.rng.choice(self.consumers)

    def read(self) -> None:
        name, consumer = self.one()
        since = self.rng.choice(((2**64 - 1, 2**64 - 1), (2**64 - 1, 2**64 - 1), (0, 0)))
        count, without_ack = self.rng.randrange(4), self.rng.random() < 0.2
        op = (ops.XREADGROUP, 0, name, consumer, count, int(without_ack), K, make(*since))
        answer = self.driver.do(*op)
        expected = self.model.read_group(name, consumer, since, count, without_ack=without_ack)
        assert answer == (None if expected is None else [K, expected])

    def ack(self) -> None:
        name, _ = self.one()
        ids = self.some_ids()
        assert self.driver.do(ops.XACK, 0, K, name, *packed(ids)) == self.model.acknowledge(
            name, ids
        )

    def claim(self) -> None:
        (name, consumer), ids = self.one(), self.some_ids()
        idle_ms = self.rng.choice((0, 1, 5, 50))
        force, just_id = self.rng.random() < 0.3, self.rng.random() < 0.3
        flags = force * ClaimFlag.FORCE | just_id * ClaimFlag.JUSTID
        op = (ops.XCLAIM, 0, K, name, consumer, idle_ms, int(flags), 0, -1, ZERO, None)
        expected = self.model.claim(name, consumer, ids, idle_ms, force=force, just_id=just_id)
        assert self.driver.do(*op, *packed(ids)) == expected

    def claim_all(self) -> None:
        name, consumer = self.one()
        start, count, idle_ms = self.some_id(), self.rng.randint(1, 3), self.rng.choice((0, 5, 50))
        op = (ops.XAUTOCLAIM, 0, K, name, consumer, idle_ms, make(*start), count, 0)
        expected = self.model.claim_all(name, consumer, start, count, idle_ms)
        assert self.driver.do(*op) == expected

    def forget(self) -> None:
        name, consumer = self.one()
        expected = self.model.delete_consumer(name, consumer)
        assert self.driver.do(ops.XGROUP_DELCONSUMER, 0, K, name, consumer) == expected


def packed(ids: list[Id]) -> list[bytes]:
    return [make(*identity) for identity in ids]


@pytest.mark.parametrize("trim", [[2, 0, 0], [0, 0, 0], [2, 1, 0], [make(249, 0), 0, 0]])
def test_what_stays_of_a_large_trim_is_moved(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, trim: list[Any]
) -> None:
    monkeypatch.setattr(streams, "LEFT_ROWS_MIN", 150)
    monkeypatch.setattr(streams, "MOVED_ROWS_MAX", 60)
    driver.batch(*([ops.XADD, 0, K, make(ms, 0), 0, [], b"f", b"%d" % ms] for ms in range(1, 251)))
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    driver.do(ops.XREADGROUP, 0, G, C, 3, 0, K, TOP)
    driver.do(ops.EXPIRE, 0, K, 0, 1000, 0)
    removed = driver.do(ops.XTRIM, 0, K, trim)
    assert isinstance(removed, int)
    assert driver.machine.has_garbage
    assert everything(driver) == entries(*range(removed + 1, 251))
    assert removed == {0: 250, 1: 200}.get(trim[1] or trim[0], 248)
    driver.check()
    driver.machine.collect_garbage(10_000)
    assert driver.do(ops.XACK, 0, K, G, make(2, 0)) == 1
    assert driver.do(ops.XREADGROUP, 0, G, C, 0, 0, K, TOP) == (
        [K, entries(*range(removed + 1, 251))] if removed < 250 else None
    )
    add(driver, 251)
    assert driver.read(ops.TTL, 0, K, 1) == 1000
    driver.check()


@pytest.mark.parametrize("trim", [[make(26, 0), 0, 0], [15, 0, 0], [make(11, 0), 0, 0]])
@pytest.mark.parametrize("pending", [0, 9])
def test_a_trim_that_leaves_much_moves_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, trim: list[Any], pending: int
) -> None:
    monkeypatch.setattr(streams, "LEFT_ROWS_MIN", 20)
    monkeypatch.setattr(streams, "MOVED_ROWS_MAX", 10 + pending)
    add(driver, *range(1, 41))
    driver.do(ops.XGROUP_CREATE, 0, K, G, ZERO, -1, 0)
    if pending:
        driver.do(ops.XREADGROUP, 0, G, C, pending, 0, K, TOP)
    kept = 41 - 26 if trim[0] != make(11, 0) else 30
    before = generation(driver)
    assert driver.do(ops.XTRIM, 0, K, trim) == 40 - kept
    assert generation(driver) == before
    assert everything(driver) == entries(*range(41 - kept, 41))
    driver.check()


@pytest.mark.parametrize("left_rows_min", [streams.LEFT_ROWS_MIN, 1])
@pytest.mark.parametrize("seed", [1, 2, random.SystemRandom().randrange(10**9)])
def test_a_random_history_is_that_of_the_model(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, seed: int, left_rows_min: int
) -> None:
    print(f"seed {seed}")
    monkeypatch.setattr(streams, "LEFT_ROWS_MIN", left_rows_min)
    pair = Pair(driver, random.Random(seed))
    for number in range(400):
        pair.step()
        if number % 5 == 0:
            assert pair.told() == pair.model.info()
        if number % 100 == 99:
            driver.check()


def test_the_history_of_a_stream_is_the_same_after_crashes(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "engine", map_bytes=1 << 28)
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    driver = Driver(engine)
    pair = Pair(driver, random.Random(seed))
    for number in range(300):
        pair.step()
        if number % 40 == 0:
            driver.machine.commit()
        if number % 40 == 25:
            expected = driver.machine.state_hash()
            driver.crash()
            assert driver.machine.state_hash() == expected
            assert pair.told() == pair.model.info()
    driver.check()
    engine.close(clean=False)
