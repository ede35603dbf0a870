"""Snapshot markers and release: the log is cut behind snapshots, and loses nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import chain, combinations
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
    Snapshot,
    contents,
    flip,
    header_of,
    newest_segment,
    open_log,
    overwrite,
    record_of,
    scanned,
    segment_bytes,
)
from wal import Corruption, DiskFailed, InvalidArgument, PosixFileSystem, Record, Wal
from wal.format import Kind, encode_segment_header, segment_name
from wal.loss import Decision
from wal.state import StateFiles


def entries(first: int, count: int, size: int = 900) -> list[Record]:
    return [Record(i, f"{i}:".encode().ljust(size, b".")) for i in range(first, first + count)]


def grown(until: int = 40) -> tuple[MemoryDisk, Wal]:
    """A log of records 1 to `until`, seven to a segment."""
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for index in range(1, until + 1):
        wal.append(entries(index, 1))
    return disk, wal


def segments(disk: MemoryDisk) -> list[Path]:
    return sorted(path for path in disk.names if path.suffix == ".wal")


def reopened(disk: MemoryDisk, wal: Wal) -> Model:
    """Opening again finds the same log."""
    again, model = open_log(disk)
    assert contents(again) == contents(wal) == model.entries
    for one, other in ((again, wal), (wal, again)):
        assert one.first_index == other.first_index
        assert one.last_index == other.last_index
        assert one.snapshot_index == other.snapshot_index
        assert (one.segments, one.bytes) == (other.segments, other.bytes)
    return model


# --- markers --------------------------------------------------------------------------------------


def test_a_marker_of_our_own_leaves_the_log_as_it_was() -> None:
    disk, wal = grown(5)
    disk.calls.clear()
    wal.mark_snapshot(3, b"three")
    assert disk.calls == ["pwrite", "fdatasync"]
    assert (wal.first_index, wal.last_index, wal.snapshot_index) == (1, 5, 3)
    wal.append(entries(6, 1))
    assert contents(wal) == entries(1, 6)
    assert reopened(disk, wal).snapshots == [Snapshot(3, b"three", False)]


def test_a_snapshot_from_elsewhere_replaces_the_whole_log() -> None:
    for index in (1, 3, 5, 1000):
        disk, wal = grown(5)
        disk.calls.clear()
        wal.mark_snapshot(index, b"theirs", discard=True)
        assert disk.calls == ["pwrite", "fdatasync"]
        assert (wal.first_index, wal.last_index, wal.snapshot_index) == (index + 1, index, index)
        assert reopened(disk, wal).snapshots == [Snapshot(index, b"theirs", True)]
        with pytest.raises(InvalidArgument):
            wal.read(index, index + 1, 100)
        wal.append(entries(index + 1, 3))
        assert contents(wal) == entries(index + 1, 3)
        reopened(disk, wal)


def test_a_new_log_may_begin_with_a_snapshot() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.mark_snapshot(7, b"", discard=True)
    wal.append(entries(8, 20))
    assert contents(wal) == entries(8, 20)
    reopened(disk, wal)


def test_markers_are_visited_in_order_with_the_entries() -> None:
    disk, wal = grown(2)
    wal.mark_snapshot(1, b"one")
    wal.append(entries(3, 1))
    wal.mark_snapshot(9, b"nine", discard=True)
    wal.append(entries(10, 1))
    wal.mark_snapshot(10, b"ten")
    seen: list[object] = []
    Wal.open(
        DIRECTORY,
        STATES,
        IDENTITY,
        visit=lambda index, _payload: seen.append(index),
        visit_snapshot=lambda *marker: seen.append(marker),
        fs=disk,
    )
    assert seen == [1, 2, (1, b"one", False), 3, (9, b"nine", True), 10, (10, b"ten", False)]


def test_a_log_with_markers_opens_without_anybody_to_hear_of_them() -> None:
    disk, wal = grown(2)
    wal.mark_snapshot(2, b"")
    again = Wal.open(DIRECTORY, STATES, IDENTITY, visit=lambda *_: None, fs=disk)
    assert again.snapshot_index == 2


def refused(wal: Wal, disk: MemoryDisk, use: Callable[[], object]) -> None:
    """It is an invalid argument, nothing is written, and the log stays usable."""
    calls = list(disk.calls)
    with pytest.raises(InvalidArgument):
        use()
    assert disk.calls == calls
    wal.append(entries(wal.last_index + 1, 1))


@pytest.mark.parametrize(
    ("index", "discard"), [(-1, False), (0, False), (6, False), (0, True), (2**64 - 1, True)]
)
def test_a_snapshot_of_what_is_not_there_is_refused(index: int, discard: bool) -> None:
    disk, wal = grown(5)
    refused(wal, disk, lambda: wal.mark_snapshot(index, b"", discard=discard))


@pytest.mark.parametrize("discard", [False, True])
def test_snapshots_never_go_back(discard: bool) -> None:
    disk, wal = grown(5)
    wal.mark_snapshot(4, b"")
    wal.mark_snapshot(4, b"again")
    refused(wal, disk, lambda: wal.mark_snapshot(3, b"", discard=discard))


def test_what_a_snapshot_covers_is_not_superseded() -> None:
    disk, wal = grown(5)
    wal.mark_snapshot(3, b"")
    refused(wal, disk, lambda: wal.append(entries(3, 1)))
    wal.append([Record(4, b"new four")])
    assert contents(wal) == [*entries(1, 3), Record(4, b"new four")]
    wal.mark_snapshot(9, b"", discard=True)
    refused(wal, disk, lambda: wal.append(entries(9, 1)))


def test_a_payload_has_a_bound() -> None:
    disk, wal = grown(1)
    refused(wal, disk, lambda: wal.mark_snapshot(1, bytes(4097)))
    wal.mark_snapshot(1, b"m" * 4096)
    assert reopened(disk, wal).snapshot.payload == b"m" * 4096


def test_a_marker_that_does_not_fit_opens_the_next_segment() -> None:
    for discard in (False, True):
        disk, wal = grown(7)
        assert wal.segments == 1
        wal.mark_snapshot(5, b"m" * 1000, discard=discard)
        assert wal.segments == 2
        assert header_of(segment_bytes(disk)).first_index == 8
        reopened(disk, wal)


def test_a_flipped_bit_in_a_marker_is_refused() -> None:
    random = Random(20261120)
    for discard in (False, True):
        disk, wal = grown(3)
        wal.mark_snapshot(2, random.randbytes(200), discard=discard)
        marker = record_of(disk, -1)
        assert marker.kind == (Kind.INSTALL if discard else Kind.SNAPSHOT)
        for offset in range(marker.offset, marker.end):
            bit = random.randrange(8)
            flip(disk, offset, bit)
            before = disk.image()
            with pytest.raises(Corruption):
                open_log(disk)
            assert disk.image() == before
            flip(disk, offset, bit)
        reopened(disk, wal)


def test_a_torn_marker_leaves_the_log_whole() -> None:
    for discard in (False, True):
        disk, wal = grown(3)
        wal.mark_snapshot(3, b"m" * 1500, discard=discard)
        overwrite(disk, record_of(disk, -1).offset + 512, bytes(512))
        again, model = open_log(disk)
        assert again.last_repair is not None
        assert (again.first_index, again.last_index, again.snapshot_index) == (1, 3, 0)
        assert model.entries == contents(again) == entries(1, 3)
        assert model.snapshots == []


# --- release --------------------------------------------------------------------------------------


def test_release_removes_whole_segments_up_to_an_index() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(40, b"all")
    before = segments(disk)
    firsts = [header_of(segment_bytes(disk, path)).first_index for path in before]
    assert firsts == [1, 8, 15, 22, 29, 36]
    for index, left, first in ((6, 6, 1), (7, 5, 8), (27, 3, 22), (34, 2, 29), (40, 1, 36)):
        size = wal.bytes
        freed = wal.release(index)
        assert segments(disk) == before[-left:]
        assert (wal.segments, wal.first_index) == (left, first)
        assert wal.bytes == size - freed == left * SMALL.segment_bytes
        assert contents(wal) == entries(first, 41 - first)
        reopened(disk, wal)
    assert wal.release(40) == 0
    wal.append(entries(41, 10))
    reopened(disk, wal)


def test_release_never_reaches_the_newest_marker() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(20, b"")
    held = wal.segments
    wal.append(entries(41, 5))
    wal.append(entries(46, 5))
    assert wal.release(20) > 0
    wal.mark_snapshot(50, b"")
    wal.append(entries(51, 7))
    wal.append(entries(58, 7))
    assert wal.release(50) > 0
    assert wal.segments < held
    assert reopened(disk, wal).snapshots[-1] == Snapshot(50, b"", False)


def test_release_goes_on_after_opening_as_before() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(20, b"")
    wal.append(entries(41, 14))
    again, _ = open_log(disk)
    again.append(entries(55, 1))
    held = again.segments
    assert again.release(20) == 2 * SMALL.segment_bytes
    assert again.segments == held - 2
    again.mark_snapshot(55, b"")
    again, _ = open_log(disk)
    again.append(entries(56, 14))
    again, _ = open_log(disk)
    assert again.release(55) > 0
    assert again.first_index > 40
    assert reopened(disk, again).snapshot.index == 55


def test_release_can_go_in_small_steps() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(40, b"")
    freed = [wal.release(40, segments_max=2) for _ in range(4)]
    assert freed == [2 * SMALL.segment_bytes, 2 * SMALL.segment_bytes, SMALL.segment_bytes, 0]
    reopened(disk, wal)


def test_release_beyond_the_newest_marker_is_refused() -> None:
    disk, wal = grown(40)
    refused(wal, disk, lambda: wal.release(1))
    wal.mark_snapshot(20, b"")
    refused(wal, disk, lambda: wal.release(21))
    assert wal.first_index == 1


def test_release_with_nothing_to_remove_writes_nothing() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(40, b"")
    disk.calls.clear()
    assert wal.release(0) == wal.release(6) == 0
    assert disk.calls == []


def test_release_notes_where_the_log_begins_before_anything_is_removed() -> None:
    disk, wal = grown(20)
    wal.mark_snapshot(20, b"")
    disk.calls.clear()
    wal.release(20)
    assert disk.calls == [
        *("pwrite", "fdatasync") * 2,  # both state files
        *("unlink", "unlink"),
        "sync_directory",
    ]
    assert (wal.state.oldest, wal.state.synced) == (3, wal.synced)
    wal.save_state(term=1, vote=1, commit=1)
    wal.append(entries(21, 20))
    assert wal.state.oldest == 3


def test_segments_of_a_discarded_log_can_be_released() -> None:
    for index in (5, 20, 100):
        disk, wal = grown(20)
        wal.mark_snapshot(index, b"", discard=True)
        wal.append(entries(index + 1, 1))
        assert wal.release(index) > 0
        assert wal.segments == 1
        assert contents(wal) == entries(index + 1, 1)
        reopened(disk, wal)


def test_the_oldest_segment_may_supersede_what_was_released() -> None:
    disk, wal = grown(14)
    wal.append(entries(15, 2))
    wal.append(entries(10, 1, 100))
    assert wal.segments == 3
    wal.append(entries(11, 9))
    wal.mark_snapshot(12, b"")
    wal.append(entries(20, 7))
    first, second, third = segments(disk)[:3]
    assert header_of(segment_bytes(disk, third)).first_index == 15
    assert wal.release(9) == 2 * SMALL.segment_bytes
    assert {first, second}.isdisjoint(disk.names)
    assert wal.first_index == 10
    model = reopened(disk, wal)
    assert model.entries[0] == entries(10, 1, 100)[0]


def test_a_segment_whose_first_group_was_lost_can_become_the_oldest() -> None:
    """It was made for entry 3 anew, but what follows in it is entry 8."""
    disk, wal = grown(7)
    assert wal.segments == 1
    disk.fail_at = len(disk.calls) + 11  # the write of the group, in the new segment
    disk.failing = True
    with pytest.raises(DiskFailed):
        wal.append(entries(3, 4))
    disk.fail_at = 0
    assert (disk.calls[-1], len(segments(disk))) == ("pwrite", 2)
    wal, _ = open_log(disk)
    wal.append(entries(8, 2))
    wal.mark_snapshot(8, b"")
    assert wal.release(7) > 0
    assert contents(wal) == entries(8, 2)
    reopened(disk, wal)


def test_read_below_the_first_index_is_refused() -> None:
    _, wal = grown(40)
    wal.mark_snapshot(40, b"")
    wal.release(20)
    assert wal.first_index == 15
    with pytest.raises(InvalidArgument, match="15 to 40"):
        wal.read(14, 20, 1 << 20)
    assert wal.read(15, 20, 1 << 20) == entries(15, 5)


def test_a_read_that_a_release_overtakes_is_refused_or_short() -> None:
    class Overtaken(MemoryDisk):
        def __init__(self) -> None:
            super().__init__()
            self.before_open: dict[Path, Callable[[], object]] = {}

        def open(self, path: Path, *, create: bool = False) -> int:
            self.before_open.pop(path, lambda: None)()
            return super().open(path, create=create)

    disk = Overtaken()
    wal, _ = open_log(disk)
    for index in range(1, 41):
        wal.append(entries(index, 1))
    wal.mark_snapshot(40, b"")
    second, third = segments(disk)[1:3]
    disk.before_open = {third: lambda: wal.release(30)}
    assert wal.read(8, 20, 1 << 20) == entries(8, 7)
    fifth = segments(disk)[0]
    disk.before_open = {fifth: lambda: wal.release(40)}
    with pytest.raises(InvalidArgument, match="released"):
        wal.read(30, 40, 1 << 20)
    assert second not in disk.names


def test_another_thread_reads_while_segments_are_released(tmp_path: Path) -> None:
    seed = 20261120
    print(f"{seed=}")
    wal, _ = open_log(PosixFileSystem(), root=tmp_path)
    wal.append(entries(1, 1))
    stopped = threading.Event()
    wrong: list[object] = []
    read_records = 0

    def read() -> None:
        nonlocal read_records
        random = Random(seed)
        while not stopped.is_set():
            last = wal.last_index
            low = random.randint(min(wal.first_index, last), last)
            try:
                found = wal.read(low, last + 1, 20_000)
            except InvalidArgument:
                if low >= wal.first_index:
                    wrong.append(low)
            else:
                read_records += len(found)
                if found != entries(low, len(found)):
                    wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(2, 1002, 5):
        wal.append(entries(first, 5))
        if first % 3 == 0:
            wal.mark_snapshot(first, b"")
            wal.release(first)
    stopped.set()
    reader.join()
    wal.close()
    assert wrong == []
    assert read_records > 0
    assert wal.segments < 10


# --- an unfinished release ------------------------------------------------------------------------


def test_what_an_unfinished_release_left_is_removed_at_open() -> None:
    """Whatever subset of the names reached the disk."""
    disk, wal = grown(40)
    wal.mark_snapshot(30, b"")
    full = disk.image()
    wal.release(25)
    done = disk.image()
    victims = sorted(full.keys() - done.keys())
    assert len(victims) == 3
    subsets = chain.from_iterable(combinations(victims, n) for n in range(4))
    for survivors in subsets:
        crashed = MemoryDisk.from_image({**done, **{path: full[path] for path in survivors}})
        _, model = open_log(crashed)
        assert model.entries == entries(22, 19)
        assert crashed.image() == done


def test_a_refused_log_keeps_what_was_released() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(30, b"")
    full = disk.image()
    wal.release(25)
    crashed = MemoryDisk.from_image(full | disk.image())
    flip(crashed, 600)
    before = crashed.image()
    with pytest.raises(Corruption):
        open_log(crashed)
    assert crashed.image() == before


@pytest.mark.parametrize("missing", [0, 1])
def test_a_segment_missing_from_the_noted_oldest_on_is_corruption(missing: int) -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(30, b"")
    wal.release(20)
    del disk.names[segments(disk)[missing]]
    before = disk.image()
    with pytest.raises(Corruption, match="segment is missing"):
        open_log(disk)
    assert disk.image() == before


def test_the_first_segment_gone_is_corruption() -> None:
    disk, _ = grown(40)
    del disk.names[segments(disk)[0]]
    with pytest.raises(Corruption, match="segment is missing"):
        open_log(disk)


def lost_with_its_marks() -> MemoryDisk:
    """A log that begins behind released entries, and whose marks went with its end."""
    disk, wal = grown(40)
    wal.mark_snapshot(20, b"")
    wal.append(entries(41, 1))
    wal.release(20)
    path = next(path for path in segments(disk) if b"22:" in disk.names[path].data)
    for later in segments(disk)[segments(disk).index(path) + 1 :]:
        del disk.names[later]
    return disk


def test_a_recovering_log_may_have_lost_the_marks_of_its_snapshots() -> None:
    disk = lost_with_its_marks()
    wal, model = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    assert wal.state.recovering
    assert wal.snapshot_index == 0
    assert 1 < wal.first_index <= 21
    assert contents(wal) == model.entries
    again, _ = open_log(disk)  # and stays so until it is healed
    again.mark_snapshot(21, b"")
    again.save_state(term=0, vote=0, commit=again.last_index, recovering=False)
    assert open_log(disk)[0].snapshot_index == 21


def test_a_log_that_is_merely_cut_may_not() -> None:
    disk = lost_with_its_marks()
    before = disk.image()
    with pytest.raises(Corruption, match="no snapshot covers"):
        open_log(disk, on_loss=lambda loss: Decision.REPAIR)
    assert disk.image() == before


def test_entries_released_without_a_snapshot_are_missed() -> None:
    disk, wal = grown(40)
    del disk.names[segments(disk)[0]]
    states = StateFiles(disk, STATES, IDENTITY, wal.state, 1000)
    states.save(type(wal.state)(synced=wal.state.synced, oldest=2))
    disk.open(DIRECTORY / "any.tmp", create=True)
    before = disk.image()
    with pytest.raises(Corruption, match="no snapshot covers"):
        open_log(disk)
    assert disk.image() == before


def test_the_chain_across_a_released_segment_is_taken_from_the_oldest() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(40, b"")
    wal.release(20)
    oldest = segments(disk)[0]
    header = header_of(segment_bytes(disk, oldest))
    assert header.previous_chain != 0
    reopened(disk, wal)
    # Trusted as it is, but what follows must fit it.
    forged = type(header)(
        header.identity,
        header.sequence,
        header.first_index,
        header.segment_bytes,
        header.sector_bytes,
        header.salt,
        header.previous_chain ^ 1,
    )
    overwrite(disk, 0, encode_segment_header(forged), oldest)
    with pytest.raises(Corruption):
        open_log(disk)


def test_a_release_survives_the_loss_of_either_state_file() -> None:
    for path in STATES:
        disk, wal = grown(40)
        wal.mark_snapshot(40, b"")
        wal.release(20)
        overwrite(disk, 0, bytes(512), path)
        reopened(disk, wal)


# --- crashes --------------------------------------------------------------------------------------


def life(wal: Wal, done: list[str]) -> None:
    """Marks, releases and discards, each noted when it was acknowledged."""
    steps: list[tuple[str, Callable[[], object]]] = [
        ("append", lambda: wal.append(entries(1, 20, 700))),
        ("append", lambda: wal.append(entries(21, 20, 700))),
        ("own", lambda: wal.mark_snapshot(30, b"own" * 300)),
        ("release", lambda: wal.release(25)),
        ("append", lambda: wal.append(entries(41, 5, 700))),
        ("install", lambda: wal.mark_snapshot(43, b"theirs" * 200, discard=True)),
        ("append", lambda: wal.append(entries(44, 9, 700))),
        ("release", lambda: wal.release(43)),
        ("install", lambda: wal.mark_snapshot(100, b"again" * 200, discard=True)),
        ("release", lambda: wal.release(100)),
    ]
    for name, step in steps:
        step()
        done.append(name)


def outcomes() -> list[tuple[list[Record], int, int]]:
    """What is there after each step of a life: entries, last index, snapshot index."""
    after = [([], 0, 0)]
    after.append((entries(1, 20, 700), 20, 0))
    after.append((entries(1, 40, 700), 40, 0))
    after.append((entries(1, 40, 700), 40, 30))
    after.append((entries(21, 20, 700), 40, 30))
    after.append((entries(21, 25, 700), 45, 30))
    after.append(([], 43, 43))
    after += [(entries(44, 9, 700), 52, 43)] * 2
    after += [([], 100, 100)] * 2
    return after


@pytest.mark.parametrize("power", [False, True])
def test_after_a_crash_at_any_call_each_step_was_done_or_not(power: bool) -> None:
    calls = MemoryDisk()
    wal, _ = open_log(calls)
    opening = len(calls.calls)
    expected = outcomes()
    done: list[str] = []
    life(wal, done)
    assert len(done) + 1 == len(expected)
    reached = set()
    for number in range(opening + 1, len(calls.calls) + 1):
        for chance in range(24 if power else 1):
            disk = MemoryDisk()
            wal, _ = open_log(disk)
            disk.fail_at, disk.failing = number, True
            done = []
            with pytest.raises(DiskFailed):
                life(wal, done)
            if power:
                disk.crash(Random(number * 100 + chance))
            disk.fail_at = 0
            context = f"{number=} {chance=} after {done}"
            again, model = open_log(disk)
            found = (model.entries, again.last_index, again.snapshot_index)
            before, after = expected[len(done)], expected[len(done) + 1]
            reached.add((len(done), found == after))
            appending = len(done) in (0, 1, 4, 6)
            if appending:
                # A part of a group may survive.
                assert found[0] == after[0][: len(found[0])], context
                assert len(found[0]) >= len(before[0]), context
            else:
                assert found in (before, after), context
            assert contents(again) == found[0], context
            again.append(entries(again.last_index + 1, 3))
            reopened(disk, again)
    # Both outcomes of the steps that are new were met.
    for step in (2, 3, 5, 8):
        assert {(step, False), (step, True)} <= reached, step


def test_a_crash_while_opening_after_an_unfinished_release_changes_nothing() -> None:
    disk, wal = grown(40)
    wal.mark_snapshot(30, b"")
    full = disk.image()
    wal.release(25)
    image = full | disk.image()
    for number in range(1, 12):
        for chance in range(8):
            crashed = MemoryDisk.from_image(image)
            crashed.fail_at, crashed.failing = number, True
            try:
                open_log(crashed)
            except DiskFailed:
                crashed.crash(Random(chance))
            crashed.fail_at = 0
            _, model = open_log(crashed)
            assert model.entries == entries(22, 19), f"{number=} {chance=}"
            assert segments(crashed) == segments(disk)


# --- evidence -------------------------------------------------------------------------------------


def test_the_newest_three_copies_of_damaged_segments_are_kept() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for number in range(1, 13):
        wal.append(entries(wal.last_index + 1, 1, 2000))
        torn = newest_segment(disk)
        overwrite(disk, scanned(disk, torn).records[-1].offset + 1024 & -512, bytes(512))
        wal, _ = open_log(disk)
        assert wal.last_repair is not None, number
        # The log goes on, into other segments.
        wal.append(entries(wal.last_index + 1, 1, 900))
        kept = sorted(path for path in disk.names if ".broken-" in path.name)
        assert wal.last_repair.evidence in kept
        assert len(kept) <= 3
    assert len(kept) == 3
    assert {path.name[:16] for path in kept} <= {f"{n:016x}" for n in range(2, 5)}


def test_copies_that_earlier_versions_left_are_pruned_too() -> None:
    disk, _ = grown(1)
    paths = [
        DIRECTORY / f"{segment_name(sequence, 1)}.broken-{number}"
        for sequence, number in ((1, 9), (1, 10), (2, 1), (2, 2))
    ]
    for path in paths:
        disk.open(path, create=True)
    open_log(disk)
    assert [path in disk.names for path in paths] == [False, True, True, True]
