"""The door of the store: order, stamps, commits, failures, and the state hash."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import lmdb
import msgpack
import pytest

from kvnode.errors import ConfigurationError, ExitCode
from kvnode.limits import ENGINE_COMMIT_BYTES_MAX, ENGINE_COMMIT_OPS_MAX
from kvnode.store import batch, ops
from kvnode.store.engine import EngineFull
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import GET, INCRBY, SET, UnknownOperation
from kvnode.store.redis import table
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, Driver

if TYPE_CHECKING:
    from pathlib import Path

    from kvnode.store.engine import Engine

# --- the log ------------------------------------------------------------------------------------


def test_entries_apply_in_order_only(driver: Driver) -> None:
    for index in (1, 3):
        with pytest.raises(ValueError, match="cannot follow"):
            driver.machine.apply(index, b"")
    driver.machine.apply(2, b"")
    assert driver.machine.applied == 2


def test_the_stamp_never_goes_back(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", 16, 100)
    driver.now_ms += 100
    driver.tick()
    newest = driver.now_ms
    driver.now_ms -= 100
    driver.do(SET, 0, b"other", b"1")
    assert driver.machine.stamp_ms == newest
    driver.tick()
    assert driver.machine.stamp_ms == newest
    driver.append(batch.encode_register(driver.now_ms, 0, 8, 8, 8))
    driver.append(b"")
    assert driver.machine.stamp_ms == newest
    assert driver.read(GET, 0, b"k") is None


def test_every_op_code_has_a_meaning_and_a_level() -> None:
    assert sorted([*table.WRITES, *table.READS]) == sorted(ops.SINCE)
    assert all(ops.is_write([code]) for code in table.WRITES)
    assert not any(ops.is_write([code]) for code in table.READS)
    assert max(ops.SINCE.values()) <= ops.LEVEL


def test_an_unknown_op_stops_the_node_with_78(driver: Driver) -> None:
    with pytest.raises(UnknownOperation) as raised:
        driver.do(63, 0)
    assert raised.value.exit_code == ExitCode.WRONG_CONFIGURATION


def test_an_unknown_entry_stops_the_node(driver: Driver) -> None:
    with pytest.raises(UnknownOperation):
        driver.append(msgpack.packb([77, 0, 0]))


@pytest.mark.parametrize("op", [[SET, 0, b"k", b"v"], [63, 0]])
def test_only_reads_are_read(driver: Driver, op: ops.Op) -> None:
    with pytest.raises(UnknownOperation):
        driver.machine.read(op)


# --- commits and failures -----------------------------------------------------------------------


def test_what_was_not_committed_is_applied_again_after_a_crash(driver: Driver) -> None:
    driver.do(INCRBY, 0, b"n", 1)
    driver.machine.commit()
    driver.do(INCRBY, 0, b"n", 1)
    driver.do(ops.FLUSHDB, 1)
    before = driver.machine.state_hash()
    driver.engine.abort()
    assert StateMachine(driver.engine, hash_key=HASH_KEY).applied == 2
    driver.crash()
    assert driver.machine.state_hash() == before
    assert driver.read(GET, 0, b"n") == b"2"


def test_an_exception_leaves_the_machine_at_its_last_commit(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"committed", 16, 100)
    driver.machine.commit()
    committed = driver.machine.state_hash()
    driver.do(SET, 0, b"k", b"lost")
    with pytest.raises(UnknownOperation):
        driver.batch([SET, 0, b"k", b"half"], [63, 0])
    assert driver.machine.applied == 2
    assert driver.machine.uncommitted_ops == 0
    assert driver.machine.state_hash() == committed
    driver.check()


def test_a_clean_close_of_a_full_engine_keeps_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(LmdbEngine(tmp_path))
    driver.do(SET, 0, b"k", b"committed")
    driver.machine.commit()
    driver.do(SET, 0, b"k", b"in the log only")

    def no_room(_engine: LmdbEngine) -> None:
        raise lmdb.DiskError("no room")

    with monkeypatch.context() as full:
        full.setattr(LmdbEngine, "commit", no_room)
        driver.machine.close(clean=True)
    driver.crash(LmdbEngine(tmp_path))
    assert driver.machine.applied == len(driver.log)
    driver.check()
    driver.machine.close(clean=False)


def test_a_full_engine_forgets_the_transaction_and_can_go_on_with_more_room(
    tmp_path: Path,
) -> None:
    driver = Driver(LmdbEngine(tmp_path, map_bytes=1 << 18))
    for number in range(10):
        driver.do(SET, 0, b"k%d" % number, bytes(1000))
    driver.machine.commit()
    with pytest.raises(EngineFull):
        driver.batch(*([SET, 0, b"l%d" % number, bytes(4000)] for number in range(100)))
    assert driver.machine.applied == 11
    assert driver.machine.keyspace() == {0: (10, 0)}
    driver.check()
    driver.machine.close(clean=False)
    driver.crash(LmdbEngine(tmp_path, map_bytes=1 << 24))
    assert driver.machine.applied == len(driver.log)
    driver.check()
    driver.machine.close(clean=False)


def test_a_clean_close_commits_and_another_does_not(tmp_path: Path) -> None:
    for clean, applied in ((False, 0), (True, 2)):
        driver = Driver(LmdbEngine(tmp_path / str(clean), map_bytes=1 << 24))
        driver.do(SET, 0, b"k", b"1")
        driver.machine.close(clean=clean)
        engine = LmdbEngine(tmp_path / str(clean), map_bytes=1 << 24)
        assert StateMachine(engine, hash_key=HASH_KEY).applied == applied
        engine.close(clean=False)


def test_a_commit_is_due_by_ops(driver: Driver) -> None:
    for _ in range(ENGINE_COMMIT_OPS_MAX):
        assert not driver.machine.commit_due
        driver.do(INCRBY, 0, b"n", 1)
    assert driver.machine.commit_due
    driver.machine.commit()
    assert not driver.machine.commit_due


def test_a_commit_is_due_by_bytes_written_even_by_small_ops(driver: Driver) -> None:
    size = ENGINE_COMMIT_BYTES_MAX // 4
    driver.do(SET, 0, b"k", bytes(size))
    driver.machine.commit()
    for _ in range(4):
        assert not driver.machine.commit_due
        driver.do(ops.APPEND, 0, b"k", b"x")
    assert driver.machine.commit_due


def test_empty_entries_are_committed_too(driver: Driver) -> None:
    driver.append(b"")
    driver.machine.commit()
    driver.crash()
    assert driver.machine.applied == 2


def test_an_engine_of_another_hash_key_is_refused(driver: Driver, engine: Engine) -> None:
    driver.machine.commit()
    with pytest.raises(ConfigurationError):
        StateMachine(engine, hash_key=b"another cluster!")


@pytest.mark.parametrize("hash_key", [b"short", b"x" * 65])
def test_a_hash_key_has_16_to_64_bytes(engine: Engine, hash_key: bytes) -> None:
    with pytest.raises(ConfigurationError):
        StateMachine(engine, hash_key=hash_key)


# --- the state hash -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([SET, 0, b"k", b"1"], [SET, 0, b"k", b"2"]),
        ([SET, 0, b"k", b"1"], [SET, 0, b"l", b"1"]),
        ([SET, 0, b"k", b"1"], [SET, 1, b"k", b"1"]),
        ([SET, 0, b"k", b"1", 16, 5], [SET, 0, b"k", b"1", 16, 6]),
        ([SET, 0, b"k", b"1", 16, 5], [SET, 0, b"k", b"1"]),
    ],
)
def test_states_that_differ_have_different_hashes(one: ops.Op, other: ops.Op) -> None:
    first, second = Driver(MemoryEngine()), Driver(MemoryEngine())
    assert first.machine.state_hash() == second.machine.state_hash()
    first.do(*one)
    second.do(*other)
    assert first.machine.state_hash() != second.machine.state_hash()


@pytest.mark.parametrize("data", [b"", batch.encode_expire(2**50, 0, 0)])
def test_applied_index_and_stamp_are_part_of_the_hash(driver: Driver, data: bytes) -> None:
    before = driver.machine.state_hash()
    driver.append(data)
    assert driver.machine.state_hash() != before


def test_a_lost_row_shows_in_the_recomputed_hash(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    space = driver.machine._space
    driver.engine.delete(space.databases[0].record_prefix + space.locate(b"k"))
    assert driver.machine.recomputed_hash() != driver.machine.state_hash()


def test_what_watch_needs_is_part_of_the_hash(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    hashes = {driver.machine.state_hash()}
    space = driver.machine._space
    space.removals.note(0, 7, 1)
    hashes.add(driver.machine.state_hash())
    for name in ("newest", "swapped", "floor"):
        setattr(space.databases[0], name, 9)
        hashes.add(driver.machine.state_hash())
    space.databases[1].floor = 9
    hashes.add(driver.machine.state_hash())
    arrivals = space.note_arrivals()
    hashes.add(driver.machine.state_hash())
    arrivals.created.note(0, 7, 1)
    hashes.add(driver.machine.state_hash())
    arrivals.bring(3, 1)
    hashes.add(driver.machine.state_hash())
    arrivals.sweep(3)
    hashes.add(driver.machine.state_hash())
    assert len(hashes) == 10


def test_generations_are_no_part_of_the_hash(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    before = driver.machine.state_hash()
    space = driver.machine._space
    space.flush(0)
    space.databases[0].floor = 0  # what FLUSH leaves for WATCH is part of it
    key, tail = b"k", space.locate(b"k")
    space.store(0, tail, None, space.record(1, key, b"1"))
    assert driver.machine.state_hash() == before


def test_equal_logs_give_equal_hashes_whatever_the_commits_and_the_order_of_the_engine(
    engine: Engine,
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    steady, restless = Driver(MemoryEngine()), Driver(engine)
    for _ in range(200):
        key = b"k%d" % chance.randrange(20)
        expiring = [SET, 0, key, b"v", 16, chance.randrange(1, 50)]
        op = chance.choice([expiring, [INCRBY, 0, key, 1], [ops.DEL, 0, key]])
        for driver in (steady, restless):
            driver.now_ms += 3
            driver.do(*op)
        if chance.random() < 0.2:
            chance.choice((restless.machine.commit, restless.crash))()
        assert steady.machine.state_hash() == restless.machine.state_hash()
