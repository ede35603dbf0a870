"""What was written comes back, all of it and nothing else, from and into either engine."""

from __future__ import annotations

import random

import pytest

from kvnode.errors import ConfigurationError
from kvnode.limits import SNAPSHOT_BLOCK_BYTES
from kvnode.snapshot import reader
from kvnode.snapshot.catalog import file_name, list_snapshots
from kvnode.snapshot.errors import SnapshotFailed
from kvnode.snapshot.reader import load, read_meta, verify
from kvnode.snapshot.throttle import Throttle
from kvnode.snapshot.writer import terms_of, write_snapshot
from kvnode.store.export import RowsMissing
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import DEL, GET, SCAN, SET, TTL
from tests.support.disk import MemoryDisk
from tests.unit.snapshot.conftest import Engines
from tests.unit.snapshot.states import CLUSTER, SNAP, filled, take
from tests.unit.store.driver import HASH_KEY, NODE, STORAGE, Driver


def test_a_loaded_state_is_the_same_state(engines: Engines) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    engine = engines()
    machine = load(SNAP / file_name(meta.index, meta.term), engine, hash_key=HASH_KEY, fs=disk)
    before = driver.machine
    assert machine.applied == before.applied == meta.index
    assert machine.state_hash() == before.state_hash() == meta.state_hash
    assert machine.state_hash() == machine.recomputed_hash()
    assert machine.keyspace() == before.keyspace()
    assert machine.sessions() == before.sessions()
    assert machine.next_deadline_ms() == before.next_deadline_ms()
    assert list(machine.live_rows()) == list(before.live_rows())
    assert not machine.has_garbage


def test_a_loaded_state_goes_on_as_the_original_does(engines: Engines) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    copy = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    seen = len(driver.log)
    for number in range(16):
        driver.now_ms += 400
        driver.do(SET, number, b"key:1", b"changed", 16, 900)
        driver.do(DEL, number, b"key:2")
        driver.expire()
    for index in range(seen, len(driver.log)):
        copy.apply(index + 1, driver.log[index])
        copy.commit()
    assert copy.state_hash() == driver.machine.state_hash() == copy.recomputed_hash()


def test_cursors_of_scan_stay_good(engines: Engines) -> None:
    driver, disk = filled(engines(), keys=300), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    copy = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    cursor, seen = 0, 0
    while True:
        op = [SCAN, 2, cursor, None, 10, None]
        page = driver.machine.read(op)
        assert page == copy.read(op)
        assert isinstance(page, list)
        assert isinstance(page[1], list)
        cursor = int(page[0])
        seen += len(page[1])
        if not cursor:
            break
    assert seen == 301


def test_the_facts_are_those_of_the_state(engines: Engines) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    path = SNAP / file_name(meta.index, meta.term)
    rows = list(driver.machine.live_rows())
    assert read_meta(path, fs=disk) == verify(path, fs=disk) == meta
    assert (meta.cluster_number, meta.term) == (CLUSTER, 7)
    assert (meta.stamp_ms, meta.revision) == (driver.machine.stamp_ms, driver.machine.revision)
    assert meta.rows == len(rows)
    assert meta.row_bytes == sum(len(key) + len(value) for key, value in rows)
    assert meta.file_bytes == len(disk.names[path].data)
    counted = {number: tuple(rest) for number, *rest in meta.databases}
    assert counted == driver.machine.keyspace()
    assert [session[0] for session in meta.sessions] == [NODE, 8]
    assert meta.sessions[0][4] == STORAGE
    facts = meta.describe()
    assert facts["index"] == meta.index


def test_equal_states_give_equal_bytes(engines: Engines) -> None:
    one, two = MemoryDisk(), MemoryDisk()
    take(filled(engines(), keys=50).engine, fs=one)
    driver = filled(MemoryEngine(), keys=50)
    while driver.machine.collect_garbage(1):
        pass
    driver.machine.commit()
    take(driver.engine, fs=two)
    assert one.image() == two.image()
    (stored,) = list_snapshots(SNAP, fs=one)
    engine, again = engines(), MemoryDisk()
    load(stored.path, engine, hash_key=HASH_KEY, fs=one)
    take(engine, fs=again)
    assert again.image() == one.image()


def test_a_database_without_keys_and_a_store_without_any_have_snapshots(engines: Engines) -> None:
    driver, disk = Driver(engines()), MemoryDisk()
    driver.machine.commit()
    meta = take(driver.engine, fs=disk)
    machine = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    assert meta.rows == 0
    assert machine.state_hash() == driver.machine.state_hash()


def test_rows_of_any_size_fit(engines: Engines) -> None:
    driver, disk = Driver(engines()), MemoryDisk()
    sizes = [1, SNAPSHOT_BLOCK_BYTES - 1, SNAPSHOT_BLOCK_BYTES, 8 * 1024 * 1024]
    for size in sizes:
        driver.do(SET, 0, b"%d" % size, b"x" * size)
        driver.do(SET, 0, b"k" * 60_000 + b"%d" % size, b"x", 16, 100)
    driver.machine.commit()
    meta = take(driver.engine, fs=disk)
    machine = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    assert [len(machine.read([GET, 0, b"%d" % size])) for size in sizes] == sizes  # type: ignore[arg-type]
    assert all(machine.read([TTL, 0, b"k" * 60_000 + b"%d" % size, 1]) == 100 for size in sizes)


def test_many_blocks_come_back_in_many_transactions(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ENGINE_COMMIT_BYTES_MAX", 1000)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    driver, disk = Driver(engines()), MemoryDisk()
    for number in range(60):
        key = rng.randbytes(rng.randrange(1, 600))
        driver.do(
            SET, number % 16, key, rng.randbytes(rng.randrange(40_000)), 16, rng.randint(1, 9)
        )
    driver.machine.commit()
    meta = take(driver.engine, fs=disk)
    machine = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    assert list(machine.live_rows()) == list(driver.machine.live_rows())


# --- what is refused ----------------------------------------------------------------------------


def test_a_store_that_applied_nothing_has_no_snapshot(engines: Engines) -> None:
    disk = MemoryDisk()
    with pytest.raises(SnapshotFailed, match="nothing was applied"):
        write_snapshot(
            engines(),
            SNAP,
            hash_key=HASH_KEY,
            cluster_number=1,
            term_of=lambda index: 1,
            fs=disk,
        )
    assert disk.image() == {}


def test_an_engine_that_lost_a_row_has_no_snapshot(engines: Engines) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    driver.engine.delete(next(driver.machine.live_rows())[0])
    with pytest.raises(RowsMissing):
        take(driver.engine, fs=disk)
    assert disk.image() == {}


def test_only_an_empty_engine_is_loaded(engines: Engines) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    with pytest.raises(ValueError, match="empty"):
        load(SNAP / file_name(meta.index, meta.term), driver.engine, hash_key=HASH_KEY, fs=disk)


def test_a_snapshot_of_another_cluster_is_refused_before_its_rows_are_loaded(
    engines: Engines,
) -> None:
    driver, disk = filled(engines()), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    engine = engines()
    with pytest.raises(ConfigurationError):
        load(
            SNAP / file_name(meta.index, meta.term),
            engine,
            hash_key=b"another cluster!",
            fs=disk,
        )
    assert list(engine.keys(b"", b"\xff")) == []


# --- terms and rates ----------------------------------------------------------------------------


def test_terms_come_from_runs() -> None:
    term_of = terms_of([(5, 1), (8, 3), (9, 4)])
    assert [term_of(index) for index in (5, 7, 8, 9, 1000)] == [1, 1, 3, 4, 4]
    with pytest.raises(SnapshotFailed):
        term_of(4)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_snapshot_takes_as_long_as_its_rate_says(engines: Engines) -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    meta = take(filled(engines()).engine, fs=MemoryDisk(), throttle=throttle)
    assert clock.now == pytest.approx(meta.file_bytes / 1000)


def test_time_that_passed_unused_is_not_saved_up() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    clock.now = 100.0
    throttle.spend(500)
    assert clock.now == pytest.approx(100.5)


def test_a_rate_is_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Throttle(0)
