"""A survey writes nothing and is of one mind with an opening, whatever the disk holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    DIRECTORY,
    IDENTITY,
    STATES,
    contents,
    open_log,
    overwrite,
    segment_bytes,
)
from wal import Corruption, Decision, Loss, Options, Record
from wal.format import parse_segment_name
from wal.index import SparseIndex
from wal.recovery import Replay, loss_of
from wal.scan import Verdict
from wal.state import StateFiles
from wal.survey import Judged, Survey, list_log

SMALL = Options(segment_bytes=4096)
SEED = 20261120
CASES = 600


class ReadOnlyDisk(MemoryDisk):
    """A disk on which any call that changes or syncs something is a failure of the test."""

    def _step(self, name: str) -> None:
        pytest.fail(f"the survey called {name}")


def reference(random: Random) -> MemoryDisk:
    """A log of a few segments, with snapshots, released segments and entries that supersede."""
    disk = MemoryDisk()
    wal, _ = open_log(disk, SMALL, seed=random.getrandbits(32))
    for step in range(random.randint(6, 25)):
        first = wal.last_index + 1
        if step and random.random() < 0.2:
            first = max(first - 2, wal.snapshot_index + 1)
        sizes = random.choices((0, 30, 600, 1400), k=random.randint(1, 3))
        wal.append([Record(first + n, random.randbytes(size)) for n, size in enumerate(sizes)])
        if random.random() < 0.2:
            wal.mark_snapshot(wal.last_index, b"snapshot")
            wal.release(wal.snapshot_index)
        if random.random() < 0.4:
            wal.refresh_state(random.randint(0, wal.last_index))
    wal.close()
    disk.settle()
    return disk


def damage(disk: MemoryDisk, random: Random) -> str:
    """Do one thing to one file; say what."""
    segments = sorted(path for path in disk.names if parse_segment_name(path.name))
    last = segments[-1]
    path = random.choice([last, last, last, *segments, *STATES])
    size = len(segment_bytes(disk, path))
    kind = random.choice(["nothing", "flip", "zero", "zero", "tail", "cut", "remove", "empty"])
    at = random.randrange(size)
    if kind == "flip":
        overwrite(disk, at, bytes([segment_bytes(disk, path)[at] ^ 1 << random.randrange(8)]), path)
    elif kind == "zero":
        overwrite(disk, at & -512, bytes(512), path)
    elif kind == "tail":
        overwrite(disk, at & -512, bytes(size - (at & -512)), path)
    elif kind in ("cut", "empty"):
        inode = disk.names[path]
        del inode.data[0 if kind == "empty" else at :]
        inode.durable = bytearray(inode.data)
    elif kind == "remove":
        del disk.names[path]
    return f"{kind} {path.name} at {at}"


def surveyed(disk: MemoryDisk) -> tuple[str, Loss | None, list[Record]]:
    """What a tool makes of the files: corruption if so, loss if so, and all good entries."""
    entries: dict[int, bytes] = {}

    def visit(index: int, payload: bytes) -> None:
        for later in [found for found in entries if found >= index]:
            del entries[later]
        entries[index] = payload

    fs = ReadOnlyDisk.from_image(disk.image())
    try:
        states = StateFiles.read(fs, STATES, IDENTITY)
        assert states is not None
        survey = Survey(fs, DIRECTORY, IDENTITY, states.state, list_log(fs, DIRECTORY))
        replay = Replay(SparseIndex(), visit, lambda index, payload, discard: None)
        last: Judged | None = None
        for last in survey.segments():
            if last.corruption is not None:
                raise last.corruption
            replay.hand_out(last)
        loss = loss_of(DIRECTORY, states.state, last, replay.log)
        replay.finish(DIRECTORY, recovering=loss is not None)
    except Corruption as corruption:
        return str(corruption), None, []
    if loss is None and last is not None:
        assert last.scan.verdict in (Verdict.CLEAN, Verdict.STALE)
    return "", loss, [Record(*entry) for entry in sorted(entries.items())]


def test_a_survey_writes_nothing_and_agrees_with_an_opening() -> None:
    random = Random(SEED)
    print(f"seed={SEED}")
    outcomes: Counter[str] = Counter()
    for case in range(CASES):
        disk = reference(random)
        context = f"{case=} {damage(disk, random)}"
        text, loss, entries = surveyed(disk)
        told: list[Loss] = []

        def on_loss(found: Loss, told: list[Loss] = told) -> Decision:
            told.append(found)
            return Decision.RECOVER

        if text:
            with pytest.raises(Corruption) as refused:
                open_log(disk, SMALL, on_loss=on_loss)
            assert str(refused.value) == text, context
            outcomes["corrupt"] += 1
            continue
        wal, _ = open_log(disk, SMALL, on_loss=on_loss)
        assert told == ([] if loss is None else [loss]), context
        assert contents(wal) == [entry for entry in entries if entry.index >= wal.first_index]
        below = loss is not None and loss.below_floor
        outcomes["below floor" if below else "clean" if loss is None else "torn"] += 1
    print(dict(outcomes))
    assert min(outcomes[kind] for kind in ("corrupt", "clean", "torn", "below floor")) > 20


def test_the_names_in_a_directory_are_told_apart() -> None:
    disk = MemoryDisk()
    open_log(disk, SMALL)
    for name in ("x.tmp", "lost+found", "0000000000000001-0000000000000001.wal.broken-2", "a.wal"):
        disk.open(DIRECTORY / name, create=True)
    listing = list_log(disk, DIRECTORY)
    assert [(name.sequence, name.first_index) for name in listing.segments] == [(1, 1)]
    assert [(copy.sequence, copy.number) for copy in listing.evidence] == [(1, 2)]
    assert listing.temporaries == [Path(DIRECTORY / "x.tmp")]
