"""A loss is judged before anything is changed, and what follows is the caller's decision."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    DIRECTORY,
    IDENTITY,
    SMALL,
    STATES,
    contents,
    cut,
    flip,
    newest_segment,
    open_log,
    overwrite,
    record_of,
    segment_bytes,
)
from wal import Corruption, Decision, DiskFailed, DiskFull, Loss, Options, Position, Record, Wal
from wal.format import segment_name

FIRST = [Record(1, b"one" * 30), Record(2, b"two" * 30)]
LARGE = Record(3, b"three" * 400)


class Asked:
    """Answers with one decision, and remembers what it was asked and when."""

    def __init__(self, decision: Decision, disk: MemoryDisk) -> None:
        self.decision = decision
        self.disk = disk
        self.losses: list[Loss] = []
        self.images: list[dict[Path, bytes]] = []

    def __call__(self, loss: Loss) -> Decision:
        self.losses.append(loss)
        self.images.append(self.disk.image())
        return self.decision


def torn(*, floor: bool = False, commit: int = 0) -> tuple[MemoryDisk, Wal]:
    """A log of FIRST and a torn group; with `floor` the state files know of that group."""
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(FIRST)
    wal.append([LARGE])
    if floor or commit:
        wal.refresh_state(commit)
    overwrite(disk, record_of(disk, -1).offset + 1024 & -512, bytes(512))
    return disk, wal


def emptied() -> tuple[MemoryDisk, Wal]:
    """The same with nothing left of the second group."""
    disk, wal = torn(floor=True)
    start = 512 + 512
    overwrite(disk, start, bytes(SMALL.segment_bytes - start))
    return disk, wal


def without_newest() -> tuple[MemoryDisk, Wal]:
    """A log whose newest segment is gone, and what it held."""
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    while wal.segments == 1:
        wal.append([Record(wal.last_index + 1, b"x" * 1000)])
    del disk.names[newest_segment(disk)]
    return disk, wal


LOSSES: list[Callable[[], tuple[MemoryDisk, Wal]]] = [
    lambda: torn(floor=True),
    lambda: torn(commit=3),
    emptied,
    without_newest,
]


# --- asking ---------------------------------------------------------------------------------------


def test_a_clean_log_asks_nobody() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(FIRST)
    wal.refresh_state(2)
    asked = Asked(Decision.REPAIR, disk)
    open_log(disk, on_loss=asked)
    assert asked.losses == []


def test_a_torn_tail_is_told_before_anything_is_changed() -> None:
    disk, _ = torn()
    before = disk.image()
    asked = Asked(Decision.REPAIR, disk)
    again, model = open_log(disk, on_loss=asked)
    (loss,) = asked.losses
    assert asked.images == [before]
    assert (loss.directory, loss.path, loss.segment) == (DIRECTORY, newest_segment(disk), 1)
    assert loss.offset == record_of(disk, 1).end
    assert (loss.last_index, loss.indexes_dropped, loss.below_floor) == (2, (3, 3), False)
    assert loss.bytes_dropped > 1000
    assert "never written" in loss.damage
    assert model.entries == FIRST == contents(again)


@pytest.mark.parametrize("end", [0, 20, 700])
def test_a_short_file_is_told_even_if_no_entry_is_missing(end: int) -> None:
    disk, _ = torn()
    cut(disk, record_of(disk, 1).end + end)
    asked = Asked(Decision.REPAIR, disk)
    open_log(disk, on_loss=asked)
    assert ["unexpected end of file" in loss.damage for loss in asked.losses] == [True]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_log_that_ends_below_a_floor_is_told_with_what_is_gone(
    lose: Callable[[], tuple[MemoryDisk, Wal]],
) -> None:
    disk, wal = lose()
    asked = Asked(Decision.RECOVER, disk)
    open_log(disk, on_loss=asked)
    (loss,) = asked.losses
    assert loss.below_floor
    assert (loss.floor, loss.floor_commit) == (wal.state.synced, wal.state.commit)
    assert (
        f"acknowledged entries are gone (from index {loss.last_index + 1} on)" in (loss.describe())
        or f"acknowledged entries are gone ({loss.last_index + 1} to 3 at least)" in loss.describe()
    )


def test_a_commit_above_the_last_index_is_a_floor_of_its_own() -> None:
    disk, wal = torn()
    wal.save_state(term=0, vote=0, commit=0)
    cut(disk, record_of(disk, 1).end)
    open_log(disk, on_loss=lambda loss: Decision.REPAIR)
    again, _ = open_log(disk)
    again.save_state(term=1, vote=0, commit=9)
    again.close()
    with pytest.raises(Corruption, match=r"gone \(3 to 9 at least\).* ends at index 2"):
        open_log(disk)


def test_an_install_counts_for_the_commit_floor() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(FIRST)
    wal.mark_snapshot(50, b"", discard=True)
    wal.refresh_state(50)
    asked = Asked(Decision.REPAIR, disk)
    open_log(disk, on_loss=asked)
    assert asked.losses == []


@pytest.mark.parametrize("lose", [torn, *LOSSES])
def test_a_decision_to_refuse_changes_nothing(lose: Callable[[], tuple[MemoryDisk, Wal]]) -> None:
    disk, _ = lose()
    flip(disk, 41, 3, STATES[0])  # even what could be mended waits for the decision
    disk.open(DIRECTORY / "any.tmp", create=True)
    before = disk.image()

    def refuse(loss: Loss) -> Decision:
        raise LookupError(loss.path)

    with pytest.raises(LookupError):
        open_log(disk, on_loss=refuse)
    assert disk.image() == before


@pytest.mark.parametrize("lose", LOSSES)
def test_nobody_asked_is_a_refusal_below_a_floor(
    lose: Callable[[], tuple[MemoryDisk, Wal]],
) -> None:
    disk, _ = lose()
    before = disk.image()
    with pytest.raises(Corruption, match="acknowledged entries are gone"):
        open_log(disk)
    assert disk.image() == before


def test_damage_below_a_witness_is_refused_without_a_question() -> None:
    disk, wal = torn()
    wal.mark()
    asked = Asked(Decision.REPAIR, disk)
    with pytest.raises(Corruption, match="acknowledged bytes"):
        open_log(disk, on_loss=asked)
    assert asked.losses == []


def test_the_state_files_are_a_floor_and_no_witness() -> None:
    disk, _ = torn(floor=True)
    again, model = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    assert model.entries == FIRST
    assert again.last_repair is not None
    assert again.last_repair.kind == "torn"


def test_strict_mode_refuses_a_tear_without_a_question() -> None:
    disk, _ = torn()
    asked = Asked(Decision.REPAIR, disk)
    with pytest.raises(Corruption, match="repair is strict"):
        open_log(disk, Options(SMALL.segment_bytes, repair="strict"), on_loss=asked)
    assert asked.losses == []


def test_a_log_without_any_segment_that_began_with_a_snapshot_is_refused() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    while wal.segments < 3:
        wal.append([Record(wal.last_index + 1, b"x" * 1000)])
    wal.mark_snapshot(wal.last_index, b"")
    wal.release(wal.last_index)
    for path in [path for path in disk.names if path.parent == DIRECTORY]:
        del disk.names[path]
    asked = Asked(Decision.RECOVER, disk)
    with pytest.raises(Corruption, match="no segment is left"):
        open_log(disk, on_loss=asked)
    assert asked.losses == []


# --- recovering -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [torn, *LOSSES])
def test_recovering_is_durable_and_the_floors_are_silent_while_it_lasts(
    lose: Callable[[], tuple[MemoryDisk, Wal]],
) -> None:
    disk, wal = lose()
    again, _ = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    state = again.state
    assert state.recovering
    assert (state.synced, state.commit) == (wal.state.synced, wal.state.commit)
    asked = Asked(Decision.RECOVER, disk)
    once_more, _ = open_log(disk, on_loss=asked)
    assert asked.losses == []
    assert once_more.state.recovering


def test_the_flag_is_durable_after_the_evidence_and_before_the_cut() -> None:
    disk, _ = torn()
    disk.calls.clear()
    open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    assert disk.calls == [
        "sync_directory",  # the directory of the log
        *("create", "pwrite", "fdatasync", "rename", "sync_directory"),  # evidence
        *("pwrite", "fdatasync") * 2,  # state files: the flag
        *("truncate", "fdatasync", "pwrite", "fdatasync", "sync_directory"),  # repair
        *("fdatasync", "sync_directory"),  # what is left counts from here on
    ]


def test_a_recovering_log_that_is_torn_again_is_repaired() -> None:
    disk, _ = torn(floor=True)
    wal, _ = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    wal.append([LARGE])
    overwrite(disk, record_of(disk, -1).offset + 1024 & -512, bytes(512))
    asked = Asked(Decision.RECOVER, disk)
    again, model = open_log(disk, on_loss=asked)
    assert [loss.below_floor for loss in asked.losses] == [False]
    assert model.entries == FIRST
    assert again.state.recovering


def test_a_recovering_log_is_judged_as_ever() -> None:
    disk, _ = torn()
    wal, _ = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    wal.append([LARGE])
    wal.mark()
    flip(disk, record_of(disk, 2).payload_start)
    with pytest.raises(Corruption, match="acknowledged bytes"):
        open_log(disk, on_loss=lambda loss: Decision.RECOVER)


def test_recovering_stays_until_it_is_ended_by_name() -> None:
    disk, _ = torn()
    wal, _ = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    wal.save_state(term=5, vote=7, commit=1)
    wal.append([LARGE])
    wal.refresh_state(2)
    assert wal.state.recovering
    wal.save_state(term=5, vote=7, commit=2, recovering=False)
    assert not wal.state.recovering
    assert not open_log(disk)[0].state.recovering


def test_the_end_of_recovering_is_the_only_time_that_floors_go_back() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append(FIRST)
    wal.save_state(term=1, vote=1, commit=90, recovering=True)
    overwrite(disk, record_of(disk, 1).offset & -512, bytes(1024))
    again, _ = open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    old = again.state
    again.save_state(term=2, vote=0, commit=0, recovering=True)
    again.save_state(term=2, vote=0, commit=0)
    assert (again.state.synced, again.state.commit) == (old.synced, 90)
    again.save_state(term=2, vote=0, commit=1, recovering=False)
    assert (again.state.synced, again.state.commit) == (again.synced, 1)
    assert again.synced < old.synced
    again.save_state(term=3, vote=0, commit=0, recovering=False)
    assert again.state.commit == 1


# --- a loss that is accepted ----------------------------------------------------------------------


@pytest.mark.parametrize("lose", LOSSES)
def test_an_accepted_loss_brings_the_floors_down_and_is_not_found_again(
    lose: Callable[[], tuple[MemoryDisk, Wal]],
) -> None:
    disk, wal = lose()
    wal.save_state(term=7, vote=IDENTITY.node_id, commit=wal.state.commit)
    again, model = open_log(disk, on_loss=lambda loss: Decision.REPAIR)
    state = again.state
    assert (state.term, state.vote, state.recovering) == (7, IDENTITY.node_id, False)
    assert state.synced <= again.synced
    assert state.commit <= again.last_index
    once_more, found = open_log(disk)
    assert found.entries == model.entries == contents(once_more)


# --- what a crash leaves --------------------------------------------------------------------------


def crashed_at(call: int, seed: int, decision: Decision) -> MemoryDisk:
    """The disk after the power went at the `call`-th call of a start that repairs."""
    source, wal = torn(floor=True)
    wal.save_state(term=3, vote=9, commit=2)
    disk = MemoryDisk.from_image(source.image())
    disk.fail_at = call
    with suppress(DiskFailed):
        open_log(disk, on_loss=lambda loss: decision)
    disk.crash(Random(seed))
    return disk


@pytest.mark.parametrize("decision", Decision)
def test_a_crash_at_any_call_of_a_repair_leaves_what_the_next_start_handles(
    decision: Decision,
) -> None:
    seen = {"damaged, no flag": 0, "damaged, flag": 0, "repaired": 0}
    for call in range(1, 25):
        for seed in range(20):
            context = f"{call=} {seed=}"
            disk = crashed_at(call, seed, decision)
            asked = Asked(decision, disk)
            wal, model = open_log(disk, on_loss=asked)
            assert model.entries == FIRST == contents(wal), context
            state = wal.state
            assert (state.term, state.vote) == (3, 9), context
            assert state.recovering is (decision is Decision.RECOVER), context
            assert len(segment_bytes(disk)) == SMALL.segment_bytes, context
            if not asked.losses:
                seen["repaired"] += 1
            else:
                # The cut is never there without the flag.
                flagged = not asked.losses[0].below_floor
                seen["damaged, flag" if flagged else "damaged, no flag"] += 1
            quiet = Asked(decision, disk)
            assert open_log(disk, on_loss=quiet)[1].entries == FIRST, context
            assert quiet.losses == [], context
    assert seen["damaged, no flag"] > 50
    assert seen["repaired"] > 50
    assert (seen["damaged, flag"] > 50) is (decision is Decision.RECOVER)


def test_no_room_for_the_evidence_is_told_and_nothing_is_changed() -> None:
    for number in range(1, 4):
        disk, _ = torn(floor=True)
        flip(disk, 41, 3, STATES[0])
        before = disk.image()
        disk.calls.clear()
        disk.error = errno.ENOSPC
        disk.fail_at = 1 + number  # create, write, sync
        with pytest.raises(DiskFull, match=r"damaged segment \(\d+ bytes\) before its repair"):
            open_log(disk, on_loss=lambda loss: Decision.RECOVER)
        assert disk.image() == before, f"{number=}"


def test_an_unfinished_segment_is_removed_when_the_decision_is_made() -> None:
    disk, _ = torn(floor=False)
    overwrite(disk, record_of(disk, 1).end, bytes(SMALL.segment_bytes - record_of(disk, 1).end))
    unfinished = DIRECTORY / segment_name(2, 3)
    disk.open(unfinished, create=True)
    wal, _ = open_log(disk)
    assert unfinished not in disk.names
    assert wal.synced == Position(1, record_of(disk, 1).end)
