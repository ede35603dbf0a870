"""Damage and crashes by the hundred: what was acknowledged is there, or the log is refused.

A script of appends, markers and state changes runs on a disk in memory. It is cut at every byte,
flipped in a sample of bits, its calls fail one by one, and the power goes at random moments, during
recovery as well. After each the log must open with all that was acknowledged, or say what is wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    IDENTITY,
    STATES,
    Model,
    contents,
    cut,
    flip,
    newest_segment,
    open_log,
    segment_bytes,
)
from wal import Corruption, DiskFailed, DiskFull, InvalidArgument, Options, Record, Wal

SMALL = Options(segment_bytes=4096)
SEED = 20261120


class Script:
    """Runs operations on a log and remembers which were acknowledged, and which was under way."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.model = Model()
        self.term = 0
        self.under_way: list[Model] = []
        self.release_under_way = 0
        self.term_under_way = 0
        self.last_full: DiskFull | None = None

    def run(self, wal: Wal, steps: int) -> None:
        for _ in range(steps):
            self.step(wal)

    def step(self, wal: Wal) -> None:
        choice = self.random.random()
        if choice < 0.6:
            self._append(wal)
        elif choice < 0.67:
            wal.mark()
        elif choice < 0.74:
            wal.refresh_state(0)
        elif choice < 0.8:
            self.term_under_way = self.term + 1
            wal.save_state(term=self.term_under_way, vote=IDENTITY.node_id, commit=0)
            self.term = self.term_under_way
        elif choice < 0.9:
            self._mark_snapshot(wal)
        else:
            self._release(wal)

    def _append(self, wal: Wal) -> None:
        random = self.random
        assert self.model.last is not None
        first = self.model.last + 1
        if random.random() < 0.15:
            first = max(first - random.randint(1, 3), self.model.snapshot.index + 1)
        sizes = [0, 5, 100, 460, 600, 1500]
        group = []
        for index in range(first, first + random.randint(1, 4)):
            size = random.choice(sizes)
            # Zeros and text and noise: what sectors hold matters.
            fill = random.choice([bytes(size), b"t" * size, random.randbytes(size)])
            group.append(Record(index, fill))
        for record in group:
            # A part of the group may survive.
            then = self._under_way()
            then.append([record])
        wal.append(group)
        self._acknowledged()

    def _mark_snapshot(self, wal: Wal) -> None:
        random = self.random
        last, newest = self.model.last, self.model.snapshot.index
        assert last is not None
        discard = random.random() < 0.2
        index = random.randint(newest, last + 20 if discard else last)
        if index > 0:
            payload = random.randbytes(random.choice([0, 20, 700]))
            self._under_way().visit_snapshot(index, payload, discard)
            wal.mark_snapshot(index, payload, discard=discard)
            self._acknowledged()

    def _release(self, wal: Wal) -> None:
        newest = self.model.snapshot.index
        index = self.random.choice([newest, self.random.randint(0, newest)])
        self.release_under_way = index
        before = wal.first_index
        freed = wal.release(index)
        assert (wal.first_index > before) <= (freed > 0)
        self.settle_release(self.model, wal)

    def settle_release(self, model: Model, wal: Wal) -> None:
        """Take over where the log begins, if that was allowed."""
        if wal.first_index > model.first:
            assert wal.first_index <= self.release_under_way + 1
            model.entries = model.entries[wal.first_index - model.first :]
        self.release_under_way = 0

    def _under_way(self) -> Model:
        self.under_way.append((self.under_way or [self.model])[-1].copy())
        return self.under_way[-1]

    def _acknowledged(self) -> None:
        self.model = self.under_way[-1]
        self.under_way = []

    def check(self, found: Model, wal: Wal, context: str) -> None:
        """What was found is what was acknowledged, and perhaps a part of what was under way."""
        assert contents(wal) == found.entries, context
        for then in (self.model, *self.under_way):
            if (wal.last_index, found.snapshot) == (then.last, then.snapshot):
                self.settle_release(then, wal)
                if found.entries == then.entries:
                    break
        else:
            pytest.fail(context)
        self.model = then
        self.under_way = []
        assert wal.first_index == then.first, context
        assert wal.snapshot_index == then.snapshot.index, context
        assert wal.state.term in (self.term, self.term_under_way), context
        assert wal.state.synced <= wal.synced, context


def fresh_copy(disk: MemoryDisk) -> MemoryDisk:
    return MemoryDisk.from_image(disk.image())


def small_log(options: Options = SMALL) -> tuple[MemoryDisk, list[list[Record]], int]:
    """A log of one segment in four groups; the state files know of the first two."""
    random = Random(SEED)
    disk = MemoryDisk()
    wal, _ = open_log(disk, options)
    groups = [
        [Record(1, random.randbytes(30)), Record(2, random.randbytes(90))],
        [Record(3, random.randbytes(700))],
        [Record(4, random.randbytes(10)), Record(5, b""), Record(6, random.randbytes(600))],
        [Record(7, random.randbytes(5)), Record(8, random.randbytes(400))],
    ]
    for number, group in enumerate(groups):
        wal.append(group)
        if number == 1:
            wal.refresh_state(3)
    wal.close()
    return disk, groups, wal.synced.offset


def test_a_log_cut_at_any_byte_keeps_what_was_witnessed_or_is_refused() -> None:
    disk, groups, _ = small_log()
    entries = [record for group in groups for record in group]
    outcomes = {"refused": 0, "repaired": 0}
    for size in range(SMALL.segment_bytes):
        cut_disk = fresh_copy(disk)
        cut(cut_disk, size)
        before = cut_disk.image()
        try:
            wal, model = open_log(cut_disk, SMALL)
        except Corruption:
            assert cut_disk.image() == before, f"{size=}"
            outcomes["refused"] += 1
            continue
        outcomes["repaired"] += 1
        assert model.entries == entries[: len(model.entries)], f"{size=}"
        assert len(model.entries) >= 3, f"{size=}: acknowledged entries were cut"
        assert wal.last_repair is not None
        assert wal.last_repair.kind == "short file", f"{size=}"
    assert outcomes["refused"] > 500
    assert outcomes["repaired"] > 1500


def test_a_flipped_bit_is_never_accepted() -> None:
    options = Options(segment_bytes=8192)
    disk, groups, used = small_log(options)
    entries = [record for group in groups for record in group]
    random = Random(SEED)
    outcomes = {"refused": 0, "harmless": 0}
    for bit in random.sample(range(used * 8), 2500):
        flipped = fresh_copy(disk)
        flip(flipped, bit // 8, bit % 8)
        with pytest.raises(Corruption):
            open_log(flipped, SMALL)
        outcomes["refused"] += 1
    for bit in random.sample(range(used * 8, options.segment_bytes * 8), 500):
        # Bits of the part that was never written tell nothing about what was.
        flipped = fresh_copy(disk)
        flip(flipped, bit // 8, bit % 8)
        try:
            _, model = open_log(flipped, SMALL)
        except Corruption:
            outcomes["refused"] += 1
        else:
            assert model.entries == entries, f"{bit=}"
            outcomes["harmless"] += 1
    assert min(outcomes.values()) > 100


def test_a_sector_zeroed_below_a_witness_is_never_cut_away() -> None:
    disk, groups, _ = small_log()
    entries = [record for group in groups for record in group]
    size = len(segment_bytes(disk))
    for sector in range(0, size, 512):
        zeroed = fresh_copy(disk)
        data = zeroed.names[newest_segment(zeroed)].data
        data[sector : sector + 512] = bytes(512)
        try:
            _, model = open_log(zeroed, SMALL)
        except Corruption:
            continue
        # Only the last group has no witness.
        assert len(model.entries) >= 6
        assert model.entries == entries[: len(model.entries)]


def crash_once(seed: int) -> tuple[int, int]:
    """Run, lose power, recover, and again: returns how often a tail was repaired, and lost."""
    random = Random(seed)
    script = Script(random)
    disk = MemoryDisk()
    repairs = losses = 0
    for life in range(3):
        context = f"{seed=} {life=}"
        disk.fail_at = len(disk.calls) + random.randint(1, 60)
        disk.failing = True
        try:
            wal, _ = open_log(disk, SMALL, seed=seed * 10 + life)
            script.run(wal, 40)
        except DiskFailed:
            pass
        pending = sum(len(inode.pending) for inode in disk.names.values())
        disk.crash(random)
        losses += pending > 0
        if random.random() < 0.3:
            # The power goes during recovery, too.
            disk.fail_at = len(disk.calls) + random.randint(1, 12)
            with suppress(DiskFailed):
                open_log(disk, SMALL, seed=seed * 10 + life + 5)
            disk.crash(random)
        wal, model = open_log(disk, SMALL, seed=seed * 10 + life + 7)
        script.check(model, wal, context)
        repairs += wal.last_repair is not None
        script.term = script.term_under_way = wal.state.term
        disk.settle()
    return repairs, losses


def test_after_a_power_loss_all_that_was_acknowledged_is_there() -> None:
    repairs = losses = 0
    for seed in range(SEED, SEED + 500):
        repaired, lost = crash_once(seed)
        repairs += repaired
        losses += lost
    # Void unless crashes met un-synced bytes and tails were torn.
    assert losses > 300
    assert repairs > 50


def calls_of_a_script(seed: int) -> int:
    disk = MemoryDisk()
    wal, _ = open_log(disk, SMALL)
    Script(Random(seed)).run(wal, 12)
    return len(disk.calls)


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
def test_each_call_that_fails_ends_the_log_and_loses_nothing(error: int) -> None:
    for number in range(1, calls_of_a_script(SEED) + 1):
        script = Script(Random(SEED))
        disk = MemoryDisk()
        disk.error = error
        disk.fail_at = number
        opened: list[Wal] = []

        def live(
            disk: MemoryDisk = disk, script: Script = script, opened: list[Wal] = opened
        ) -> None:
            opened.append(open_log(disk, SMALL)[0])
            script.run(opened[0], 12)

        with pytest.raises(DiskFailed) as caught:
            live()
        assert caught.value.cause.errno == error
        if opened:
            calls = len(disk.calls)
            refuse_everything(opened[0])
            assert len(disk.calls) == calls, f"{number=}: something was retried"
        disk.crash(Random(number))
        wal, model = open_log(disk, SMALL)
        script.check(model, wal, f"{number=}")


def refuse_everything(wal: Wal) -> None:
    uses: list[Callable[[], object]] = [
        lambda: wal.append([Record(wal.last_index + 1, b"")]),
        lambda: wal.append([]),
        wal.mark,
        lambda: wal.mark_snapshot(1, b""),
        lambda: wal.release(0),
        lambda: wal.save_state(term=99, vote=0, commit=0),
        lambda: wal.refresh_state(0),
        lambda: wal.read(1, 2, 1),
    ]
    for use in uses:
        with pytest.raises(DiskFailed):
            use()
    wal.close()


def test_a_full_disk_is_met_only_while_making_files_and_leaves_the_log_usable() -> None:
    """Writes into a segment that has its full size need no room: those calls do not fail so."""
    full = 0
    for number in range(1, calls_of_a_script(SEED) + 1):
        script = Script(Random(SEED))
        disk = MemoryDisk()
        disk.error = errno.ENOSPC
        disk.fail_at = number
        try:
            wal, _ = open_log(disk, SMALL)
        except (DiskFull, DiskFailed):
            wal, _ = open_log(disk, SMALL)
        for _ in range(12):
            state = script.random.getstate()
            try:
                script.step(wal)
            except DiskFull:
                full += 1
                assert not any(path.suffix == ".tmp" for path in disk.names)
                assert contents(wal) == script.model.entries
                script.random.setstate(state)
                script.step(wal)
            except DiskFailed:
                break
        disk.crash(Random(number))
        wal, model = open_log(disk, SMALL)
        script.check(model, wal, f"{number=}")
    assert full > 5


def test_an_interrupted_write_ends_the_log() -> None:
    class Interrupting(MemoryDisk):
        armed = False

        def fdatasync(self, fd: int) -> None:
            if self.armed:
                raise KeyboardInterrupt
            super().fdatasync(fd)

    disk = Interrupting()
    wal, _ = open_log(disk, SMALL)
    disk.armed = True
    with pytest.raises(KeyboardInterrupt):
        wal.append([Record(1, b"x")])
    disk.armed = False
    with pytest.raises(DiskFailed):
        wal.append([Record(1, b"y")])


def test_refused_arguments_leave_the_log_usable() -> None:
    wal, _ = open_log(MemoryDisk(), SMALL)
    with pytest.raises(InvalidArgument):
        wal.append([Record(7, b"x")])
    wal.append([Record(1, b"x")])


def test_state_files_survive_a_crash_at_every_call() -> None:
    for number in range(1, 5):
        for chance in range(20):
            disk = MemoryDisk()
            wal, _ = open_log(disk, SMALL)
            wal.save_state(term=1, vote=1, commit=0)
            disk.fail_at = len(disk.calls) + number
            with pytest.raises(DiskFailed):
                wal.save_state(term=2, vote=2, commit=0)
            disk.crash(Random(chance))
            again, _ = open_log(disk, SMALL)
            assert (again.state.term, again.state.vote) in ((1, 1), (2, 2))
            assert disk.names[STATES[0]].data == disk.names[STATES[1]].data
