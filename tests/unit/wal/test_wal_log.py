"""The log when nothing goes wrong: what is appended is read, now and after opening it again."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from random import Random

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    DIRECTORY,
    IDENTITY,
    SMALL,
    STATES,
    Model,
    Watcher,
    contents,
    flip,
    header_of,
    newest_segment,
    open_log,
    record_of,
    scanned,
    segment_bytes,
)
from wal import (
    Corruption,
    Identity,
    IdentityMismatch,
    InvalidArgument,
    Options,
    Position,
    PosixFileSystem,
    Record,
    State,
    Wal,
)
from wal.format import Kind


def entries(first: int, count: int, size: int = 50) -> list[Record]:
    return [Record(i, f"{i}:".encode().ljust(size, b".")) for i in range(first, first + count)]


def test_a_new_log_is_empty() -> None:
    wal, model = open_log(MemoryDisk())
    assert (wal.first_index, wal.last_index, wal.segments) == (1, 0, 1)
    assert wal.bytes == SMALL.segment_bytes
    assert wal.state == State(0, 0, 0, False, Position(1, 512))
    assert wal.last_repair is None
    assert model.entries == []


def test_what_was_appended_is_visited_in_order_after_reopening() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 3))
    wal.append(entries(4, 2))
    wal.close()
    again, model = open_log(disk)
    assert model.entries == entries(1, 5) == contents(again)
    assert (again.last_index, again.synced) == (5, wal.synced)


def test_an_append_costs_one_write_and_one_sync() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    disk.calls.clear()
    wal.append(entries(1, 20))
    assert disk.calls == ["pwrite", "fdatasync"]


def test_a_group_starts_on_a_sector_and_names_the_end_before_it() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 2))
    end = wal.synced.offset
    wal.append(entries(3, 2))
    third, fourth = record_of(disk, 2), record_of(disk, 3)
    assert third.offset % 512 == 0
    assert third.synced_upto == fourth.synced_upto == end < third.offset
    assert fourth.offset == third.end


def test_short_writes_are_completed() -> None:
    disk = MemoryDisk()
    disk.short_writes = 100
    wal, _ = open_log(disk)
    wal.append(entries(1, 20))
    _, model = open_log(disk)
    assert model.entries == entries(1, 20)


def test_a_full_segment_is_followed_by_another() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for first in range(1, 200, 4):
        wal.append(entries(first, 4, 200))
    wal.close()
    assert wal.segments > 5
    assert wal.bytes == wal.segments * SMALL.segment_bytes
    again, model = open_log(disk)
    assert model.entries == entries(1, 200, 200) == contents(again)
    assert (again.segments, again.bytes, again.synced) == (wal.segments, wal.bytes, wal.synced)


def test_segment_files_have_their_full_size_and_carry_their_first_index() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 30, 200))
    wal.append(entries(31, 1))
    names = [path.name for path in sorted(disk.names) if path.parent == DIRECTORY]
    assert names == [
        "0000000000000001-0000000000000001.wal",
        "0000000000000002-000000000000001f.wal",
    ]
    assert len(segment_bytes(disk)) == SMALL.segment_bytes


def test_a_new_segment_refreshes_the_state_files() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 20, 200))
    wal.append(entries(21, 20, 200))
    assert wal.state.synced == Position(2, 512)


def test_a_group_larger_than_a_segment_gets_one_of_its_own_size() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    large = Record(1, b"large" * 10_000)
    wal.append([large])
    wal.append(entries(2, 1))
    assert len(segment_bytes(disk)) == SMALL.segment_bytes
    wal.close()
    again, model = open_log(disk)
    assert model.entries == [large, *entries(2, 1)] == contents(again)


def test_a_segment_can_be_filled_to_its_last_byte() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append([Record(1, b"f" * (SMALL.segment_bytes - 512 - 48 - 1))])
    assert wal.synced == Position(1, SMALL.segment_bytes)
    _, model = open_log(disk)
    assert len(model.entries) == 1
    wal.mark()
    assert wal.synced.segment == 2


def test_a_smaller_index_supersedes_it_and_all_above() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 10))
    new = [Record(4, b"new four"), Record(5, b"new five")]
    wal.append(new)
    assert wal.last_index == 5
    assert contents(wal) == entries(1, 3) + new
    again, model = open_log(disk)
    assert model.entries == entries(1, 3) + new == contents(again)


def test_a_group_may_supersede_its_own_records() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append([*entries(1, 4), Record(3, b"new three"), Record(4, b"new four")])
    assert contents(wal) == [*entries(1, 2), Record(3, b"new three"), Record(4, b"new four")]
    again, model = open_log(disk)
    assert model.entries == contents(wal) == contents(again)


def test_superseding_reaches_into_earlier_segments() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for first in range(1, 100, 10):
        wal.append(entries(first, 10, 100))
    assert wal.segments > 1
    wal.append([Record(2, b"new two")])
    assert contents(wal) == [*entries(1, 1, 100), Record(2, b"new two")]
    again, _ = open_log(disk)
    assert contents(again) == contents(wal)


def test_random_histories_read_as_the_model_says() -> None:
    for seed in range(30):
        random = Random(seed)
        disk = MemoryDisk()
        wal, model = open_log(disk, seed=seed)
        for _ in range(60):
            first = random.randint(max(1, wal.last_index - 8), wal.last_index + 1)
            if random.random() < 0.8:
                first = wal.last_index + 1
            count = random.randint(1, 10)
            group = [
                Record(first + n, random.randbytes(random.choice([0, 7, 100, 900])))
                for n in range(count)
            ]
            wal.append(group)
            model.append(group)
            if random.random() < 0.2:
                wal.mark()
            low = random.randint(1, wal.last_index)
            high = random.randint(low + 1, wal.last_index + 1)
            assert wal.read(low, high, 1 << 20) == model.entries[low - 1 : high - 1], f"{seed=}"
        wal.close()
        again, replayed = open_log(disk, seed=seed + 1)
        assert replayed.entries == model.entries == contents(again), f"{seed=}"


def test_larger_sectors_keep_their_groups_apart() -> None:
    disk = MemoryDisk()
    options = Options(segment_bytes=64 * 1024, sector_bytes=4096)
    wal, _ = open_log(disk, options)
    for first in range(1, 40, 3):
        wal.append(entries(first, 3, 300))
    assert all(found.offset % 4096 == 0 for found in scanned(disk).records if found.index % 3 == 1)
    again, model = open_log(disk, SMALL)
    assert model.entries == entries(1, 39, 300) == contents(again)


def test_read_stops_at_bytes_max_but_returns_one_record_at_least() -> None:
    wal, _ = open_log(MemoryDisk())
    wal.append(entries(1, 10, 100))
    assert wal.read(3, 11, 0) == entries(3, 1, 100)
    assert wal.read(3, 11, 250) == entries(3, 2, 100)
    assert wal.read(3, 5, 1000) == entries(3, 2, 100)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (1, 1), (2, 1), (5, 12), (11, 12)])
def test_read_outside_the_log_is_refused(low: int, high: int) -> None:
    wal, _ = open_log(MemoryDisk())
    wal.append(entries(1, 10))
    with pytest.raises(InvalidArgument):
        wal.read(low, high, 1000)


def test_read_refuses_what_was_not_written() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 5))
    third = record_of(disk, 2)
    flip(disk, third.payload_start + 1)
    with pytest.raises(Corruption, match="payload CRC") as caught:
        wal.read(4, 6, 1000)
    assert caught.value.offset == third.offset
    flip(disk, third.payload_start + 1)
    flip(disk, third.offset + 1)
    with pytest.raises(Corruption, match="header CRC"):
        wal.read(1, 6, 1000)


def test_a_salt_is_never_zero() -> None:
    disk = MemoryDisk()
    Wal.open(
        DIRECTORY, STATES, IDENTITY, visit=Model().visit, fs=disk, options=SMALL, salts=lambda: 0
    )
    assert header_of(segment_bytes(disk)).salt.bit_count() > 1


def test_indexes_begin_at_one_and_leave_no_gap() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 2))
    for wrong in ([Record(0, b"")], [Record(4, b"")], [Record(3, b""), Record(5, b"")]):
        before = list(disk.calls)
        with pytest.raises(InvalidArgument):
            wal.append(wrong)
        assert disk.calls == before
    wal.append(entries(3, 1))
    assert contents(wal) == entries(1, 3)


def test_records_and_groups_above_their_bounds_are_refused() -> None:
    wal, _ = open_log(MemoryDisk(), Options(8192, record_bytes_max=100, group_bytes_max=150))
    with pytest.raises(InvalidArgument):
        wal.append([Record(1, bytes(101))])
    with pytest.raises(InvalidArgument):
        wal.append([Record(1, bytes(100)), Record(2, bytes(51))])
    wal.append([Record(1, bytes(100)), Record(2, bytes(50))])


def test_an_empty_group_writes_nothing() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    disk.calls.clear()
    wal.append([])
    assert disk.calls == []


def test_a_marker_is_no_entry_but_a_witness() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 2))
    end = wal.synced.offset
    wal.mark()
    marker = record_of(disk, -1)
    assert (marker.kind, marker.index, marker.synced_upto) == (Kind.MARKER, 2, end)
    wal.append(entries(3, 1))
    again, model = open_log(disk)
    assert model.entries == entries(1, 3) == contents(again)


def test_state_is_in_both_files_and_survives() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(entries(1, 2))
    wal.save_state(term=3, vote=IDENTITY.node_id, commit=1, recovering=True)
    one, two = (bytes(disk.names[path].data) for path in STATES)
    assert one == two
    again, _ = open_log(disk)
    assert again.state == State(3, IDENTITY.node_id, 1, True, wal.synced) == wal.state


def test_state_copies_are_synced_one_after_the_other() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    disk.calls.clear()
    wal.save_state(term=1, vote=2, commit=0)
    assert disk.calls == ["pwrite", "fdatasync"] * 2


def test_term_and_vote_never_go_back() -> None:
    wal, _ = open_log(MemoryDisk())
    wal.save_state(term=3, vote=0, commit=5)
    wal.save_state(term=3, vote=7, commit=5)
    for term, vote in ((2, 7), (3, 8), (3, 0)):
        with pytest.raises(InvalidArgument):
            wal.save_state(term=term, vote=vote, commit=5)
    wal.save_state(term=4, vote=0, commit=4)
    assert wal.state.commit == 5


def test_refresh_writes_only_what_is_new() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.save_state(term=2, vote=9, commit=0, recovering=True)
    disk.calls.clear()
    wal.refresh_state(0)
    assert disk.calls == []
    wal.append(entries(1, 1))
    wal.refresh_state(1)
    assert wal.state == State(2, 9, 1, True, wal.synced)


def test_a_foreign_log_is_refused() -> None:
    for foreign in (Identity(1, IDENTITY.node_id), Identity(IDENTITY.cluster_id, 1)):
        disk = MemoryDisk()
        open_log(disk)
        before = disk.image()
        with pytest.raises(IdentityMismatch, match="state-a"):
            open_log(disk, identity=foreign)
        assert disk.image() == before


def test_a_foreign_segment_is_refused() -> None:
    ours, theirs = MemoryDisk(), MemoryDisk()
    open_log(ours)
    open_log(theirs, identity=Identity(7, 7))
    path = newest_segment(ours)
    ours.names[path] = theirs.names[path]
    with pytest.raises(IdentityMismatch, match=path.name):
        open_log(ours)


def test_the_observer_hears_of_each_sync() -> None:
    watcher = Watcher()
    wal, _ = open_log(MemoryDisk(), observer=watcher)
    wal.append([Record(1, b"x" * 80), Record(2, b"y" * 80)])
    assert watcher.synced_bytes == [2 * (48 + 80 + 8)]


def test_on_a_real_disk_files_are_private(tmp_path: Path) -> None:
    wal, _ = open_log(PosixFileSystem(), root=tmp_path)
    wal.append(entries(1, 5))
    wal.close()
    wal.close()
    again, model = open_log(PosixFileSystem(), root=tmp_path)
    assert model.entries == entries(1, 5) == contents(again)
    again.close()
    assert stat.S_IMODE((tmp_path / "wal").stat().st_mode) == 0o700
    files = [*(tmp_path / "wal").iterdir(), tmp_path / "state-a", tmp_path / "state-b"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 3


def test_another_thread_reads_while_the_log_is_written(tmp_path: Path) -> None:
    seed = 20261120
    print(f"{seed=}")
    wal, _ = open_log(PosixFileSystem(), root=tmp_path)
    wal.append(entries(1, 1))
    stopped = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        random = Random(seed)
        while not stopped.is_set():
            last = wal.last_index
            low = random.randint(1, last)
            found = wal.read(low, last + 1, 2000)
            if found != entries(low, len(found)):
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(2, 1002, 5):
        wal.append(entries(first, 5))
    stopped.set()
    reader.join()
    wal.close()
    assert wrong == []
    assert wal.segments > 1


def test_the_model_supersedes() -> None:
    model = Model()
    model.append([*entries(1, 3), Record(2, b"new")])
    assert model.entries == [*entries(1, 1), Record(2, b"new")]
