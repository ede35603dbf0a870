"""EXEC: one op, judged alike by every replica."""

from __future__ import annotations

import pytest

from kvnode.errors import CommandError
from kvnode.store.ops import (
    DEL,
    EXEC,
    EXPIRE,
    FLUSHDB,
    GET,
    INCRBY,
    SET,
    VERSION,
    Op,
    UnknownOperation,
)
from kvnode.store.reply import OK
from tests.unit.store.driver import Driver


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
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    assert driver.do(EXEC, 0, [watch, [5, b"absent", 0]], [[GET, 0, b"k"]]) == [b"1"]


@pytest.mark.parametrize(
    "change",
    [
        [SET, 0, b"k", b"1"],
        [DEL, 0, b"k"],
        [FLUSHDB, 0],
        [EXPIRE, 0, b"k", 0, 100, 0],
        [EXPIRE, 0, b"k", 0, 0, 0],
    ],
)
def test_a_changed_watch_makes_exec_do_nothing(driver: Driver, change: Op) -> None:
    driver.do(SET, 0, b"k", b"1")
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    driver.do(*change)
    assert driver.do(EXEC, 0, [watch], [[SET, 0, b"done", b"1"]]) is None
    assert driver.read(GET, 0, b"done") is None


def test_a_watched_key_that_expires_makes_exec_do_nothing(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    watch = [0, b"k", driver.read(VERSION, 0, b"k")]
    driver.now_ms += 100
    assert driver.do(EXEC, 0, [watch], [[SET, 0, b"done", b"1"]]) is None


@pytest.mark.parametrize("inner", [[99, 0], [EXEC, 0, [], []]])
def test_an_unknown_or_nested_op_stops_the_node(driver: Driver, inner: Op) -> None:
    with pytest.raises(UnknownOperation):
        driver.do(EXEC, 0, [], [[SET, 0, b"k", b"1"], inner])
    assert driver.read(GET, 0, b"k") is None
