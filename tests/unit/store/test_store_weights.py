"""Weights: what an op will cost is known before it is done."""

from __future__ import annotations

import pytest

from kvnode.limits import HEAVY_ROWS_MIN, HEAVY_WRITE_ROWS_MIN, MIB
from kvnode.store import ops
from kvnode.store.keyspace import Keyspace
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.redis import weights, write_weights
from kvnode.store.redis.table import READS as MEANINGS
from kvnode.store.redis.table import WRITES as WRITE_MEANINGS
from tests.support.reads import (
    IN_EXEC,
    LONG_LIST,
    READS,
    SIZE,
    WRITES,
    Call,
    call_of,
    fill,
    growing_reads,
)
from tests.unit.store.driver import Driver


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """All the data, on disk as a node has it."""
    driver = Driver(LmdbEngine(tmp_path_factory.mktemp("engine"), map_bytes=1 << 28))

    def apply(op: ops.Op) -> None:
        answer = driver.do(*op)
        assert not isinstance(answer, Exception), (op[:3], answer)

    fill(apply)
    for first in range(2, len(LONG_LIST), 5000):
        words = [word.encode() for word in LONG_LIST[first : first + 5000]]
        apply(call_of([b"RPUSH", b"long", *words])[1])
    return driver


def test_every_read_that_grows_has_a_weight_and_an_example_of_each() -> None:
    for command in growing_reads():
        assert command.name in READS, f"no example of {command.name}"
        for call in READS[command.name]:
            found, op = call_of(call.arguments)
            assert found.name == command.name or found.form is not None
            assert op[0] in weights.WEIGHTS, f"{command.name} has no weight"


def test_an_op_that_works_on_single_elements_weighs_nothing_and_is_not_looked_at() -> None:
    for code in (ops.GET, ops.STRLEN, ops.HGET, ops.ZSCORE, ops.LINDEX, ops.VERSION, ops.TTL):
        assert code not in weights.WEIGHTS
    assert set(weights.WEIGHTS) <= set(MEANINGS)


@pytest.mark.parametrize("name", sorted(READS))
def test_what_is_large_is_heavy_and_what_is_small_is_not(filled: Driver, name: str) -> None:
    for call in READS[name]:
        _, op = call_of(call.arguments)
        weight = filled.machine.weight_of(op)
        assert (weight >= HEAVY_ROWS_MIN) is call.heavy, (call.text[:60], weight)


@pytest.mark.parametrize("name", sorted(READS))
def test_weighing_is_for_nothing_where_there_is_nothing_or_something_else(
    driver: Driver, name: str
) -> None:
    """An absent key, then a string in the place of everything."""
    for call in READS[name]:
        _, op = call_of(call.arguments)
        assert driver.machine.weight_of(op) < SIZE * 6
    for key in (b"hash", b"list", b"set", b"other", b"zset", b"geo", b"stream", b"hyperloglog"):
        driver.do(ops.SET, 0, key, b"a string")
    for call in READS[name]:
        _, op = call_of(call.arguments)
        assert driver.machine.weight_of(op) < SIZE * 6


def test_few_large_elements_are_as_heavy_as_many_small_ones(driver: Driver) -> None:
    for at in range(8):
        driver.do(ops.HSET, 0, b"h", b"f%d" % at, bytes(MIB // 4))
    whole = [ops.HGETALL, 0, b"h", int(ops.HashPart.FIELDS | ops.HashPart.VALUES)]
    assert driver.machine.weight_of(whole) >= HEAVY_ROWS_MIN


def test_what_a_reply_has_at_least_is_known_of_whole_collections(filled: Driver) -> None:
    for text in ("HGETALL hash", "SMEMBERS set", "LRANGE list 0 -1", "ZRANGE zset 0 -1"):
        command, op = call_of(text.encode().split())
        least = filled.machine.least_reply_bytes(op)
        reply = command.renders[0](filled.machine.read(op))
        assert 0 < least <= len(reply)
    for text in ("HKEYS hash", "LRANGE list 0 5", "GET key1", "HGETALL none"):
        _, op = call_of(text.encode().split())
        assert filled.machine.least_reply_bytes(op) == 0


# --- writes ---------------------------------------------------------------------------------------


def test_writes_of_single_elements_are_not_looked_at() -> None:
    for code in (ops.SET, ops.HSET, ops.LIST_PUSH, ops.SADD, ops.ZADD, ops.XADD, ops.DEL, ops.XACK):
        assert code not in write_weights.WRITE_WEIGHTS
    assert set(write_weights.WRITE_WEIGHTS) <= set(WRITE_MEANINGS)


@pytest.mark.parametrize("call", WRITES, ids=lambda call: call.text[:40])
def test_a_write_weighs_what_it_does_besides_its_own_size(filled: Driver, call: Call) -> None:
    _, op = call_of(call.arguments)
    weight = filled.machine.weight_of(op)
    assert (weight >= HEAVY_WRITE_ROWS_MIN) is call.heavy, weight


@pytest.mark.parametrize(("text", "heavy"), IN_EXEC)
def test_an_exec_weighs_what_is_in_it(filled: Driver, text: str, heavy: bool) -> None:
    inner = [call_of(part.encode().split())[1] for part in text.split(";")]
    for code in (ops.EXEC, ops.EXEC_WATCHED):
        weight = filled.machine.weight_of([code, 0, [], inner])
        assert (weight >= HEAVY_WRITE_ROWS_MIN) is heavy, weight


def test_an_exec_of_very_many_small_reads_is_heavy_and_the_weighing_ends_early(
    filled: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0

    def weigh(_space: Keyspace, _op: ops.Op) -> int:
        nonlocal looked_at
        looked_at += 1
        return 0

    monkeypatch.setitem(write_weights._INSIDE_EXEC, ops.HGETALL, weigh)
    inner = [[ops.HGETALL, 0, b"none", 3]] * 60_000
    assert filled.machine.weight_of([ops.EXEC, 0, [], inner]) >= HEAVY_WRITE_ROWS_MIN
    assert looked_at <= HEAVY_WRITE_ROWS_MIN


def test_a_restore_weighs_by_its_payload(driver: Driver) -> None:
    for payload, heavy in ((bytes(MIB), False), (b"\x0e" + bytes(MIB), True), (b"\x02ab", False)):
        weight = driver.machine.weight_of([ops.RESTORE, 0, b"k", 0, payload, 0])
        assert (weight >= HEAVY_WRITE_ROWS_MIN) is heavy


def test_weighing_a_write_is_for_nothing_where_there_is_nothing_or_something_else(
    driver: Driver,
) -> None:
    for call in WRITES:
        _, op = call_of(call.arguments)
        assert driver.machine.weight_of(op) < HEAVY_WRITE_ROWS_MIN
    for key in (b"hash", b"list", b"long", b"set", b"zset", b"geo", b"stream", b"large"):
        driver.do(ops.SET, 0, key, b"a string")
    for call in WRITES:
        _, op = call_of(call.arguments)
        assert driver.machine.weight_of(op) < HEAVY_WRITE_ROWS_MIN
