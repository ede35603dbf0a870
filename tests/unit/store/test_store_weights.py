"""Weights: what an op will cost is known before it is done."""

from __future__ import annotations

import pytest

from kvnode.limits import HEAVY_ROWS_MIN, MIB
from kvnode.store import ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.redis import weights
from kvnode.store.redis.table import READS as MEANINGS
from tests.support.reads import READS, SIZE, call_of, fill, growing_reads
from tests.unit.store.driver import Driver


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """All the data, on disk as a node has it."""
    driver = Driver(LmdbEngine(tmp_path_factory.mktemp("engine"), map_bytes=1 << 28))

    def apply(op: ops.Op) -> None:
        answer = driver.do(*op)
        assert not isinstance(answer, Exception), (op[:3], answer)

    fill(apply)
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
