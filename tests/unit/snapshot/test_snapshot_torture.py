"""What is cut off, flipped or mixed in is found; whatever step fails, the old files stay good."""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from pathlib import Path

import pytest

from kvnode.errors import ConfigurationError, DiskFailed
from kvnode.snapshot import format as snapshot_format
from kvnode.snapshot import writer
from kvnode.snapshot.catalog import adopt, file_name, list_snapshots, remove_leftovers
from kvnode.snapshot.errors import SnapshotDamaged, SnapshotFailed
from kvnode.snapshot.format import (
    FOOT_BLOCK_BYTES,
    HEADER_BYTES,
    PREAMBLE_BYTES,
    Block,
    Foot,
    encode_foot,
    encode_rows,
    preamble,
    preamble_identity,
    read_header,
    seal,
)
from kvnode.snapshot.reader import load, read_meta, verify
from kvnode.store.engine import EngineFull
from kvnode.store.keyspace import FORMAT_WITH_MEMBERS
from kvnode.store.members import Members
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import SET
from kvnode.store.state_machine import StateMachine
from tests.support.disk import MemoryDisk
from tests.unit.snapshot.states import SNAP, filled, take
from tests.unit.store.driver import HASH_KEY, Driver
from wal.crc import extend

PATH = SNAP / file_name(100, 7)


def disk_with(data: bytes) -> MemoryDisk:
    """A disk that holds just this file."""
    return MemoryDisk.from_image({PATH: data})


@pytest.fixture(scope="module")
def small() -> bytes:
    """A snapshot of one block of rows."""
    driver, disk = Driver(MemoryEngine()), MemoryDisk()
    for number in range(3):
        driver.do(SET, number, b"key", b"value", 16, 1000)
    driver.machine.commit()
    take(driver.engine, fs=disk)
    (data,) = disk.image().values()
    return data


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows."""
    monkeypatch.setattr(snapshot_format, "SNAPSHOT_BLOCK_BYTES", 300)
    monkeypatch.setattr(writer, "SNAPSHOT_SYNC_BYTES", 1000)


def snapshot(mark: bytes) -> bytes:
    """A snapshot that differs from others by the value of one key."""
    driver, disk = filled(MemoryEngine()), MemoryDisk()
    driver.do(SET, 0, b"mark", mark)
    driver.machine.commit()
    take(driver.engine, fs=disk)
    (data,) = disk.image().values()
    return data


def blocks(data: bytes) -> list[bytes]:
    """The blocks of a good file, headers included."""
    identity, at, parts = preamble_identity(data[:PREAMBLE_BYTES]), PREAMBLE_BYTES, []
    while at < len(data):
        header = read_header(data[at : at + HEADER_BYTES], identity)
        if not parts:
            identity = header.crc
        end = at + HEADER_BYTES + header.length
        parts.append(data[at:end])
        at = end
    return parts


def is_damaged(data: bytes) -> bool:
    """Whether both ways to read all of a file refuse it."""
    found = 0
    disk = disk_with(data)
    for read in (
        lambda: verify(PATH, fs=disk),
        lambda: load(PATH, MemoryEngine(), hash_key=HASH_KEY, fs=disk),
    ):
        try:
            read()
        except SnapshotDamaged:
            found += 1
    return found == 2


# --- damage -------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_is_damaged(small: bytes) -> None:
    verify(PATH, fs=disk_with(small))
    for size in range(len(small)):
        with pytest.raises(SnapshotDamaged):
            read_meta(PATH, fs=disk_with(small[:size]))


def test_bytes_behind_the_foot_are_damage(small: bytes) -> None:
    for more in (b"\x00", b"\x00" * FOOT_BLOCK_BYTES, small[-FOOT_BLOCK_BYTES:], small):
        assert is_damaged(small + more)


def test_a_flipped_bit_is_found_wherever_it_is(small: bytes) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for at in range(len(small)):
        flipped = bytearray(small)
        flipped[at] ^= 1 << rng.randrange(8)
        assert is_damaged(bytes(flipped)), at


def test_zeroed_pages_are_found() -> None:
    data = snapshot(b"1")
    for at in range(0, len(data), 512):
        page = data[at : at + 512]
        if any(page):
            assert is_damaged(data[:at] + bytes(len(page)) + data[at + 512 :]), at


@pytest.mark.usefixtures("many_blocks")
def test_a_block_of_another_snapshot_is_found_even_in_its_own_place() -> None:
    ours, theirs = snapshot(b"1"), snapshot(b"2")
    mine, others = blocks(ours), blocks(theirs)
    assert len(mine) == len(others) > 10
    for at, other in enumerate(others):
        mixed = [*mine[:at], other, *mine[at + 1 :]]
        assert is_damaged(preamble() + b"".join(mixed)), at


@pytest.mark.usefixtures("many_blocks")
def test_a_block_that_is_missing_twice_there_or_elsewhere_is_found() -> None:
    mine = blocks(snapshot(b"1"))
    for at in range(1, len(mine) - 2):
        missing = mine[:at] + mine[at + 1 :]
        twice = mine[:at] + mine[at : at + 1] + mine[at:]
        swapped = [*mine[:at], mine[at + 1], mine[at], *mine[at + 2 :]]
        for mixed in (missing, twice, swapped):
            data = preamble() + b"".join(mixed)
            assert is_damaged(data), at
            with pytest.raises(SnapshotDamaged, match="was expected") as raised:
                verify(PATH, fs=disk_with(data))
            place = PREAMBLE_BYTES + len(b"".join(mixed[: at + (mixed is twice)]))
            assert raised.value.offset == place


def test_a_block_with_good_checksums_that_the_foot_does_not_count_is_found(small: bytes) -> None:
    head, rows, foot = blocks(small)
    identity = read_header(head[:HEADER_BYTES], preamble_identity(preamble())).crc
    payload = encode_rows([b"\xfe", b"1"])
    extra = seal(Block.ROWS, 2, payload, identity) + payload
    assert is_damaged(preamble() + head + rows + extra + foot)


def test_rows_out_of_order_are_found_though_all_checksums_are_good(small: bytes) -> None:
    head, rows, _ = blocks(small)
    identity = read_header(head[:HEADER_BYTES], preamble_identity(preamble())).crc
    flat = snapshot_format.decode_rows(rows[HEADER_BYTES:])
    flat[0:2], flat[2:4] = flat[2:4], flat[0:2]
    payload = encode_rows(flat)
    header = seal(Block.ROWS, 1, payload, identity)
    chain = extend(extend(0, head[:HEADER_BYTES]), header)
    state_hash = read_meta(PATH, fs=disk_with(small)).state_hash
    ending = encode_foot(Foot(len(flat) // 2, sum(map(len, flat)), chain, state_hash))
    foot = seal(Block.FOOT, 2, ending, identity) + ending
    data = preamble() + head + header + payload + foot
    read_meta(PATH, fs=disk_with(data))
    assert is_damaged(data)


def test_a_head_that_does_not_fit_its_meta_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = writer._facts
    for change in ({"state_hash": "0" * 16}, {"index": 5}, {"members": Members().pack()}):
        monkeypatch.setattr(
            writer, "_facts", lambda *parts, change=change: replace(facts(*parts), **change)
        )
        disk = MemoryDisk()
        meta = take(filled(MemoryEngine()).engine, fs=disk)
        path = SNAP / file_name(meta.index, meta.term)
        with pytest.raises(SnapshotDamaged, match="meta row"):
            load(path, MemoryEngine(), hash_key=HASH_KEY, fs=disk)


def test_a_newer_version_is_refused_and_not_called_damaged(small: bytes) -> None:
    newer = preamble()[:-1] + b"\x02"
    payload = b"a head of another shape"
    data = newer + seal(Block.HEAD, 0, payload, preamble_identity(newer)) + payload
    with pytest.raises(ConfigurationError, match="version 2"):
        read_meta(PATH, fs=disk_with(data))


def test_rows_of_a_newer_store_are_refused_and_not_called_damaged(
    small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, disk = filled(MemoryEngine()), MemoryDisk()
    newer = property(lambda machine: FORMAT_WITH_MEMBERS + 1)
    monkeypatch.setattr(StateMachine, "store_format", newer)
    meta = take(driver.engine, fs=disk)
    with pytest.raises(ConfigurationError, match="format"):
        verify(SNAP / file_name(meta.index, meta.term), fs=disk)


class BadSectors(MemoryDisk):
    """A disk that cannot read what lies behind a byte of a file."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if offset + size > 600:
            raise OSError(errno.EIO, "bad sector")
        return super().pread(fd, size, offset)


def test_a_file_that_cannot_be_read_is_damaged(small: bytes) -> None:
    disk = BadSectors()
    disk.names = disk_with(small + bytes(600)).names
    with pytest.raises(SnapshotDamaged, match="cannot be read"):
        read_meta(PATH, fs=disk)


def test_damage_is_named_with_file_and_offset(small: bytes) -> None:
    flipped = bytearray(small)
    flipped[-FOOT_BLOCK_BYTES - 1] ^= 1
    with pytest.raises(SnapshotDamaged, match=PATH.name) as raised:
        verify(PATH, fs=disk_with(bytes(flipped)))
    assert raised.value.path == PATH
    assert PREAMBLE_BYTES < raised.value.offset < len(small) - FOOT_BLOCK_BYTES


def test_a_failed_load_leaves_an_engine_that_is_recognised(small: bytes) -> None:
    flipped = bytearray(small)
    flipped[-FOOT_BLOCK_BYTES - 1] ^= 1
    engine = MemoryEngine()
    with pytest.raises(SnapshotDamaged):
        load(PATH, engine, hash_key=HASH_KEY, fs=disk_with(bytes(flipped)))
    assert StateMachine(engine, hash_key=HASH_KEY).applied == 0


class Dying(MemoryEngine):
    """An engine whose process dies at a commit: what was committed before stays."""

    def __init__(self, commits: int) -> None:
        super().__init__()
        self.commits = commits

    def commit(self) -> None:
        if not self.commits:
            raise KeyboardInterrupt
        self.commits -= 1
        super().commit()


@pytest.mark.usefixtures("many_blocks")
def test_a_load_that_dies_at_any_commit_leaves_no_applied_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvnode.snapshot.reader.ENGINE_COMMIT_BYTES_MAX", 1000)
    disk = disk_with(snapshot(b"1"))
    for commits in range(1000):
        engine = Dying(commits)
        try:
            machine = load(PATH, engine, hash_key=HASH_KEY, fs=disk)
        except KeyboardInterrupt:
            engine.abort()
            assert StateMachine(engine, hash_key=HASH_KEY).applied == 0
        else:
            assert machine.applied == read_meta(PATH, fs=disk).index
            assert commits > 3
            return
    pytest.fail("the load never ended")


class Full(MemoryEngine):
    """An engine without room for the row of a given number."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows_left = rows

    def put(self, key: bytes, value: bytes, /) -> None:
        if not self.rows_left:
            raise MemoryError
        self.rows_left -= 1
        super().put(key, value)

    def translate(self, error: Exception) -> Exception | None:
        return EngineFull("no room") if isinstance(error, MemoryError) else None


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_an_engine_without_room_says_so_at_whatever_row(small: bytes, rows: int) -> None:
    with pytest.raises(EngineFull):
        load(PATH, Full(rows), hash_key=HASH_KEY, fs=disk_with(small))


# --- steps that fail ----------------------------------------------------------------------------


def two_states() -> tuple[Driver, MemoryDisk]:
    """A disk with a good snapshot, and a newer state."""
    driver, disk = filled(MemoryEngine()), MemoryDisk()
    take(driver.engine, fs=disk)
    disk.calls.clear()
    driver.do(SET, 0, b"newer", b"1")
    driver.machine.commit()
    return driver, disk


def steps() -> int:
    driver, disk = two_states()
    take(driver.engine, fs=disk)
    return len(disk.calls)


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EIO, DiskFailed), (errno.EROFS, DiskFailed), (errno.ENOSPC, SnapshotFailed)],
)
def test_a_step_that_fails_leaves_the_older_snapshot(number: int, error: type[Exception]) -> None:
    for step in range(1, steps() + 1):
        driver, disk = two_states()
        disk.fail_at, disk.error = step, number
        with pytest.raises(error):
            take(driver.engine, fs=disk)
        disk.fail_at = 0
        assert not [path for path in disk.names if path.suffix != ".snap"]
        good = list_snapshots(SNAP, fs=disk)
        assert len(good) == (2 if step == steps() else 1)
        for stored in good:
            verify(stored.path, fs=disk)
        take(driver.engine, fs=disk)


@pytest.mark.usefixtures("many_blocks")
def test_after_a_power_loss_at_any_step_all_names_are_of_whole_files() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    last = steps()
    for step in range(1, last + 2):
        for _ in range(5):
            driver, disk = two_states()
            disk.fail_at, disk.failing = step, True
            try:
                take(driver.engine, fs=disk)
            except DiskFailed:
                assert step <= last
            disk.crash(rng)
            good = list_snapshots(SNAP, fs=disk)
            assert len(good) == 2 or step <= last
            assert good
            for stored in good:
                assert verify(stored.path, fs=disk).index == stored.index
            remove_leftovers(SNAP, fs=disk)
            assert len(disk.names) == len(good)


def test_short_writes_are_finished(small: bytes) -> None:
    driver, disk = filled(MemoryEngine()), MemoryDisk()
    disk.short_writes = 100
    meta = take(driver.engine, fs=disk)
    verify(SNAP / file_name(meta.index, meta.term), fs=disk)


class Owing(MemoryDisk):
    """A disk that notes how many writes it owes before each sync, and their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.owed: list[int] = []
        self.most_bytes = 0

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.owed.append(len(data))
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        # The last write is the one that was too much.
        self.most_bytes = max(self.most_bytes, sum(self.owed[:-1]))
        self.owed.clear()
        super().fdatasync(fd)


@pytest.mark.usefixtures("many_blocks")
def test_a_snapshot_is_synced_as_it_grows() -> None:
    disk = Owing()
    take(filled(MemoryEngine()).engine, fs=disk)
    assert 0 < disk.most_bytes < writer.SNAPSHOT_SYNC_BYTES
    assert disk.calls.count("fdatasync") > 3
    assert disk.calls[-3:] == ["fdatasync", "rename", "sync_directory"]


def test_a_received_file_gets_its_name_only_when_it_is_whole_and_synced(small: bytes) -> None:
    meta = verify(PATH, fs=disk_with(small))
    part = SNAP / "from-a-peer.part"
    broken = MemoryDisk.from_image({part: small[:-1]})
    with pytest.raises(SnapshotDamaged):
        adopt(part, fs=broken)
    assert list(broken.names) == [part]
    disk = MemoryDisk.from_image({part: small})
    assert adopt(part, fs=disk) == (meta, SNAP / file_name(meta.index, meta.term))
    assert disk.calls == ["fdatasync", "rename", "sync_directory"]
    assert [stored.index for stored in list_snapshots(SNAP, fs=disk)] == [meta.index]


def test_there_is_no_damage_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_meta(tmp_path / "none.snap")
