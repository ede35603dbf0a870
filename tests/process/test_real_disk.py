"""Power losses on a real ext4: what was acknowledged is there, and nothing else needs to be.

A round writes until power is lost, mounts again and reads. The first test proves that the fault
takes hold: on this disk un-synced bytes do vanish.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.doomed_writer import HALF_WRITTEN, Found, found
from tests.support.real_disk import LoopDisk, loop_disk

ORDERED = ""
WRITEBACK = "data=writeback,nodelalloc"
"""Metadata may reach the disk before the data that it tells of: files grow by zeros."""

UNLUCKY_ROUNDS = 8
"""A fault that did not take hold is tried so many times as often: a busy machine writes early."""

LINES_MAX = 80


@pytest.fixture(params=[ORDERED, WRITEBACK], ids=["ordered", "writeback"])
def real_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoopDisk]:
    """An ext4 of our own in both modes that matter here."""
    with loop_disk(tmp_path / "disk", options=request.param) as disk:
        yield disk


def start_writer(disk: LoopDisk, seed: str, half: int = 0) -> subprocess.Popen[str]:
    """A process that writes a log on the disk and promises what is durable."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.doomed_writer", str(disk.directory), seed, str(half)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Promises:
    """What a log must hold, by the words of all its writers so far."""

    def __init__(self) -> None:
        self.newest = {"index": 0, "term": 0, "begun": 0}

    def note(self, lines: list[str]) -> None:
        """A writer was ended; this is what it had said."""
        for line in lines:
            kind, _, number = line.rpartition(" ")
            if kind:
                self.newest[kind] = int(number)

    def check(self, disk: LoopDisk) -> Found:
        """All of it is there. What is there beyond it is promised from now on."""
        there = found(disk.directory)
        assert there.last_index >= self.newest["index"]
        assert there.term >= self.newest["term"]
        if there.repair is not None:
            there.repair.evidence.unlink()
        return there


def end(disk: LoopDisk, writer: subprocess.Popen[str], *, kill_first: bool) -> list[str]:
    """Power is lost; what was said until then."""
    if kill_first:
        writer.kill()
    disk.lose_power()
    writer.kill()
    lines, _ = writer.communicate()
    disk.power_cycle()
    # A line that was cut short promises nothing.
    return lines.splitlines() if lines.endswith("\n") else lines.splitlines()[:-1]


def test_on_this_disk_a_power_loss_takes_what_was_not_synced_and_nothing_else(
    real_disk: LoopDisk,
) -> None:
    path = real_disk.directory / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, b"synced", 0)
        os.fsync(descriptor)
        os.pwrite(descriptor, b"UNSYNC", 0)
        (real_disk.directory / "another").write_bytes(b"x")
        real_disk.lose_power()
    finally:
        os.close(descriptor)
    real_disk.power_cycle()
    assert path.read_bytes() == b"synced"
    assert not (real_disk.directory / "another").exists()


def test_what_was_acknowledged_outlives_power_losses_under_load(
    real_disk: LoopDisk, seed: int, rounds: int
) -> None:
    chance, promises = Random(seed), Promises()
    for number in range(rounds):
        writer = start_writer(real_disk, f"{seed}:{number}")
        assert writer.stdout is not None
        lines = [writer.stdout.readline().strip() for _ in range(chance.randint(1, LINES_MAX))]
        lines += end(real_disk, writer, kill_first=chance.random() < 0.5)
        promises.note(lines)
        promises.newest["index"] = promises.check(real_disk).last_index
    assert promises.newest["index"] > rounds


def test_a_group_that_is_half_on_the_disk_is_cut_and_nothing_before_it(
    real_disk: LoopDisk, seed: int, rounds: int
) -> None:
    chance, promises, ends = Random(seed), Promises(), Counter[str]()
    for number in range(UNLUCKY_ROUNDS * rounds):
        if number >= rounds and ends["whole"] < number:
            break  # else the kernel was quicker to write than the power was to go, every time
        writer = start_writer(real_disk, f"{seed}:{number}", chance.randint(2, LINES_MAX // 2))
        assert writer.stdout is not None
        lines = []
        while (line := writer.stdout.readline().strip()) != HALF_WRITTEN:
            assert line, "the writer ended"
            lines.append(line)
        promises.note(lines + end(real_disk, writer, kill_first=True))
        there = promises.check(real_disk)
        if there.last_index == promises.newest["begun"]:
            ends["whole"] += 1
        else:
            ends[f"repaired: {there.repair.kind}" if there.repair else "clean"] += 1
        promises.newest["index"] = there.last_index
    print(f"ends of {ends.total()} half written groups: {dict(ends)}")
    assert ends["whole"] < ends.total(), "the fault never took hold"
