"""EXEC: one op, judged alike by every replica."""

from __future__ import annotations

import pytest

from kvnode.errors import CommandError
from kvnode.limits import KIB, MIB
from kvnode.store import ops
from kvnode.store.ops import (
    COPY,
    DEL,
    EXEC,
    EXEC_WATCHED,
    EXPIRE,
    FLUSHALL,
    FLUSHDB,
    GET,
    GETDEL,
    INCRBY,
    MOVE,
    RENAME,
    SET,
    SWAPDB,
    VERSION,
    Op,
    UnknownOperation,
)
from kvnode.store.redis.transactions import bytes_in
from kvnode.store.reply import OK
from tests.unit.store.driver import NODE, Driver


def test_exec_answers_each_op_in_order(driver: Driver) -> None:
    ops = [[SET, 0, b"k", b"1"], [INCRBY, 0, b"k", 1], [GET, 0, b"k"]]
    assert driver.do(EXEC, 0, [], ops) == [OK, 2, b"2"]


def test_an_error_is_an_element_and_the_others_stand(driver: Driver) -> None:
    ops = [[SET, 0, b"k", b"x"], [INCRBY, 0, b"k", 1], [SET, 0, b"l", b"1"]]
    results = driver.do(EXEC, 0, [], ops)
    assert isinstance(results, list)
    assert isinstance(results[1], CommandError)
    assert driver.read(GET, 0, b"l") == b"1"


def test_exec_spans_databases(driver: Driver) -> None:
    assert driver.do(EXEC, 0, [], [[SET, 3, b"k", b"1"], [GET, 0, b"k"]]) == [OK, None]


def test_an_unchanged_watch_lets_exec_pass(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    watches = [[db, key, driver.read(VERSION, db, key)] for db, key in ((0, b"k"), (5, b"absent"))]
    assert driver.do(EXEC, 0, watches, [[GET, 0, b"k"]]) == [b"1"]


SET_K: Op = [SET, 0, b"k", b"1"]
SET_OTHER: Op = [SET, 0, b"other", b"1"]
SET_K_BRIEFLY: Op = [SET, 0, b"k", b"1", 16, 10]
DEL_K: Op = [DEL, 0, b"k"]
WAIT: Op = []
"""In place of an op: let twenty milliseconds pass."""


def is_aborted(
    driver: Driver, before: list[Op], between: list[Op], code: int = EXEC_WATCHED
) -> bool:
    """Whether what happens between WATCH and EXEC aborts it."""
    play(driver, before)
    driver.do(code, 0, [], [])
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    play(driver, between)
    passed = driver.do(code, 0, [watch], [[SET, 9, b"done", b"1"]])
    assert driver.read(GET, 9, b"done") == (b"1" if passed else None)
    driver.check()
    return passed is None


def play(driver: Driver, steps: list[Op]) -> None:
    for step in steps:
        if step:
            driver.do(*step)
        else:
            driver.now_ms += 20
            driver.tick()


BOTH = pytest.mark.parametrize("code", [EXEC, EXEC_WATCHED])


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        [SET_K],
        [DEL_K],
        [DEL_K, SET_K],
        [[FLUSHDB, 0]],
        [[FLUSHALL, 0], SET_K],
        [[EXPIRE, 0, b"k", 0, 100, 0]],
        [[EXPIRE, 0, b"k", 0, 0, 0]],
        [[SWAPDB, 0, 0, 1]],
        [[SWAPDB, 0, 0, 1], [SWAPDB, 0, 1, 0]],
        [[RENAME, 0, b"other", b"k", 0]],
        [[RENAME, 0, b"k", b"l", 0], [RENAME, 0, b"l", b"k", 0]],
        [[MOVE, 0, b"k", 1], [MOVE, 1, b"k", 0]],
        [[COPY, 0, b"other", 0, b"k", 1]],
        [[EXPIRE, 0, b"k", 0, 10, 0], WAIT],
    ],
)
def test_a_key_that_was_there_is_touched_by_every_write_to_it(
    driver: Driver, change: list[Op], code: int
) -> None:
    assert is_aborted(driver, [SET_K, SET_OTHER], change, code)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        [SET_K],
        [SET_K, DEL_K],
        [SET_K, DEL_K, SET_K, DEL_K],
        [SET_K, [FLUSHDB, 0]],
        [SET_K, [FLUSHALL, 0]],
        [SET_K_BRIEFLY, WAIT],
        [SET_K, [RENAME, 0, b"k", b"l", 0]],
        [SET_K, [MOVE, 0, b"k", 1]],
        [SET_K, [GETDEL, 0, b"k"]],
        [SET_K, [SWAPDB, 0, 0, 1]],
        [[SWAPDB, 0, 0, 2]],
        [[SWAPDB, 0, 0, 2], DEL_K],
        [[SWAPDB, 0, 0, 2], [SWAPDB, 0, 0, 2]],
        [[SWAPDB, 0, 0, 2], [FLUSHDB, 0]],
        [[SWAPDB, 0, 0, 2], [SWAPDB, 0, 0, 3]],
        [[SWAPDB, 0, 0, 2], [FLUSHDB, 0], [SWAPDB, 0, 0, 3]],
        [[SWAPDB, 0, 0, 2], DEL_K, [FLUSHDB, 0]],
        [[SWAPDB, 0, 0, 3], [SWAPDB, 0, 0, 2], [FLUSHDB, 0]],
        [[SWAPDB, 0, 0, 3], SET_K, [SWAPDB, 0, 0, 3]],
        [SET_K_BRIEFLY, WAIT, [FLUSHDB, 0]],
        [SET_K_BRIEFLY, WAIT, SET_K, [FLUSHDB, 0]],
        [SET_K, [SWAPDB, 0, 0, 3], [FLUSHDB, 0], [FLUSHDB, 3]],
    ],
)
def test_an_absent_key_is_touched_by_coming_even_if_it_has_gone_again(
    driver: Driver, change: list[Op], code: int
) -> None:
    assert is_aborted(driver, [SET_OTHER, [SET, 2, b"k", b"1"]], change, code)


@pytest.mark.parametrize("gap", [b"2", b""])
def test_a_key_that_had_expired_and_comes_again_is_touched_though_it_is_swept(
    driver: Driver, gap: bytes
) -> None:
    """Its row was there all the time: the record is not new, but the key is."""
    play(driver, [SET_K_BRIEFLY, WAIT])
    assert is_aborted(driver, [], [[SET, 0, b"k", gap], [FLUSHDB, 0]])


@pytest.mark.parametrize("physically", [False, True])
def test_an_absent_key_is_touched_by_coming_even_if_it_has_expired(
    driver: Driver, physically: bool
) -> None:
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    play(driver, [SET_K_BRIEFLY, WAIT])
    if physically:
        assert driver.expire() == 1
    assert driver.do(EXEC, 0, [watch], []) is None


@pytest.mark.parametrize(
    "change",
    [
        [SET_OTHER],
        [DEL_K],
        [[DEL, 0, b"other"]],
        [[FLUSHDB, 0]],
        [[FLUSHALL, 0]],
        [[SWAPDB, 0, 0, 1]],
        [[SWAPDB, 0, 1, 2]],
        [[SET, 1, b"k", b"1"], [DEL, 1, b"k"]],
        [[RENAME, 0, b"other", b"another", 0]],
        [[MOVE, 0, b"other", 2]],
        [[INCRBY, 0, b"other", 1], [DEL, 0, b"other"]],
    ],
)
@BOTH
def test_an_absent_key_is_not_touched_by_what_happens_to_others(
    driver: Driver, change: list[Op], code: int
) -> None:
    assert not is_aborted(driver, [SET_OTHER], change, code)


SWEEPS_OF_OTHERS: list[list[Op]] = [
    [SET_OTHER, [FLUSHDB, 0]],
    [SET_OTHER, [FLUSHALL, 0]],
    [SET_OTHER, [SWAPDB, 0, 0, 1]],
    [[SET, 1, b"other", b"1"], [SWAPDB, 0, 0, 1]],
    [SET_OTHER, [SWAPDB, 0, 0, 1], SET_OTHER],
    [SET_OTHER, [SWAPDB, 0, 0, 4], [SWAPDB, 0, 0, 4]],
    [[SWAPDB, 0, 0, 4], SET_OTHER, [FLUSHDB, 0]],
    [[SET, 0, b"new", b"1"], [FLUSHDB, 0], SET_OTHER, [FLUSHDB, 0]],
    [[INCRBY, 0, b"n", 1], [DEL, 0, b"n"], [FLUSHDB, 0]],
]


@pytest.mark.parametrize("change", SWEEPS_OF_OTHERS)
def test_an_absent_key_is_not_touched_by_a_sweep_of_others(
    driver: Driver, change: list[Op]
) -> None:
    assert not is_aborted(driver, [SET_OTHER], change)


def test_exec_of_old_logs_is_judged_as_ever_and_leaves_no_notes(driver: Driver) -> None:
    """Else an old log would give another state than the one that was snapshotted from it."""
    for sweep in ([FLUSHDB, 0], [FLUSHALL, 0], [SWAPDB, 0, 0, 1]):
        assert is_aborted(driver, [SET_OTHER], [SET_OTHER, sweep], EXEC)
    assert driver.machine._space.arrivals is None


def test_a_watch_older_than_the_notes_is_aborted_by_any_sweep(driver: Driver) -> None:
    driver.do(*SET_OTHER)
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    play(driver, [SET_OTHER, [FLUSHDB, 0]])
    assert driver.do(EXEC_WATCHED, 0, [watch], []) is None
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    play(driver, [SET_OTHER, [FLUSHDB, 0]])
    assert driver.do(EXEC_WATCHED, 0, [watch], []) == []


def test_what_was_brought_with_keys_and_swept_away_again_may_have_held_the_key(
    driver: Driver,
) -> None:
    """Needless, but it cannot be told: the one case besides keys of the same bucket."""
    driver.do(SET, 2, b"other", b"1")
    assert is_aborted(driver, [SET_OTHER], [[SWAPDB, 0, 0, 2], [FLUSHDB, 0]])


def test_a_key_that_had_expired_before_the_watch_is_not_touched_by_its_deletion(
    driver: Driver,
) -> None:
    play(driver, [SET_K_BRIEFLY, WAIT])
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    assert driver.expire() == 1
    assert driver.do(EXEC, 0, [watch], []) == []


@pytest.mark.parametrize("went", [DEL_K, [FLUSHDB, 0], [SWAPDB, 0, 0, 1]])
def test_what_went_is_remembered_after_a_restart(driver: Driver, went: Op) -> None:
    driver.do(EXEC_WATCHED, 0, [], [])
    seen = driver.read(VERSION, 0, b"k")
    play(driver, [SET_K, went])
    hashed = driver.machine.state_hash()
    driver.machine.commit()
    driver.crash()
    assert driver.machine.state_hash() == hashed
    assert driver.do(EXEC_WATCHED, 0, [[0, b"k", seen]], []) is None
    assert driver.do(EXEC_WATCHED, 0, [[0, b"other", seen]], []) == []


def test_a_failed_watch_never_passes(driver: Driver) -> None:
    assert driver.do(EXEC, 0, [[0, b"k", -1]], []) is None
    driver.do(*SET_K)
    assert driver.do(EXEC, 0, [[0, b"k", -1]], []) is None


@BOTH
@pytest.mark.parametrize("inner", [[99, 0], [EXEC, 0, [], []], [EXEC_WATCHED, 0, [], []]])
def test_an_unknown_or_nested_op_stops_the_node(driver: Driver, inner: Op, code: int) -> None:
    with pytest.raises(UnknownOperation):
        driver.do(code, 0, [], [[SET, 0, b"k", b"1"], inner])
    assert driver.read(GET, 0, b"k") is None


# --- answers of reads, which are no state -----------------------------------------------------


def test_reads_of_a_transaction_are_done_only_where_somebody_waits_for_them(
    driver: Driver,
) -> None:
    driver.do(ops.SET, 0, b"k", b"v")
    batch = [ops.EXEC, 0, [], [[ops.GET, 0, b"k"], [ops.APPEND, 0, b"k", b"!"], [ops.GET, 0, b"k"]]]
    driver.machine.answer_for(NODE, MIB)
    assert driver.do(*batch) == [b"v", 2, b"v!"]
    driver.machine.answer_for(NODE + 1, MIB)
    assert driver.do(*batch) == [None, 3, None]
    assert driver.read(ops.GET, 0, b"k") == b"v!!"
    assert driver.machine.state_hash() == driver.machine.recomputed_hash()


def test_reads_of_a_transaction_end_where_their_answers_have_no_room_and_its_writes_are_done(
    driver: Driver,
) -> None:
    driver.do(ops.SET, 0, b"k", bytes(600))
    driver.do(ops.SADD, 0, b"s", *[b"%0100d" % number for number in range(50)])
    driver.machine.answer_for(NODE, 1000)
    get = [ops.GET, 0, b"k"]
    results = driver.do(
        ops.EXEC, 0, [], [get, [ops.SMEMBERS, 0, b"s"], get, get, [ops.DEL, 0, b"k"]]
    )
    assert isinstance(results, list)
    refused = "ERR reply is larger than 1000 bytes"
    assert [getattr(each, "text", None) for each in results] == [None, refused, None, refused, None]
    assert results[4] == 1


def test_a_key_named_many_times_in_one_read_does_not_fill_memory(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", bytes(600))
    driver.do(ops.HSET, 0, b"h", b"f", bytes(600))
    driver.machine.answer_for(NODE, 1000)
    for few, many in (
        ([ops.MGET, 0, b"k"], [ops.MGET, 0, b"k", b"none", b"k"]),
        ([ops.HMGET, 0, b"h", b"f"], [ops.HMGET, 0, b"h", b"f", b"f"]),
    ):
        assert driver.read(*few) == [bytes(600)]
        answer = driver.read(*many)
        assert isinstance(answer, CommandError)
        assert answer.text == "ERR reply is larger than 1000 bytes"


def test_the_transactions_of_one_batch_share_the_room_for_answers(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"large", bytes(100 * KIB))
    driver.do(ops.SET, 0, b"small", b"v")
    driver.machine.answer_for(NODE, 250 * KIB)
    large, small = [ops.GET, 0, b"large"], [ops.GET, 0, b"small"]
    greedy = [ops.EXEC, 0, [], [large, large]]
    answers = driver.batch(greedy, greedy, greedy, [ops.EXEC, 0, [], [small, small]])
    kept = [bytes_in(answer) for answer in answers]
    assert sum(kept) < 250 * KIB + 3 * 100 * KIB
    assert answers[3] == [b"v", b"v"]
    assert driver.do(*greedy) == [bytes(100 * KIB)] * 2, "each batch has room of its own"
