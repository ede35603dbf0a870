"""A node's disk and clock are as bad as its panel says, and good again when it says nothing."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tests.chaos import forgetful, panel
from tests.chaos.panel import Disk, Panel, Slot
from tests.chaos.troubled import TroubledForgetful, install_clock


@pytest.fixture
def switches(tmp_path: Path) -> Panel:
    return Panel.at(tmp_path / "panel")


@pytest.fixture
def disk(switches: Panel, monkeypatch: pytest.MonkeyPatch) -> TroubledForgetful:
    monkeypatch.setattr(forgetful, "EARLY_WRITES", 0.0)
    disk = TroubledForgetful("seed")
    disk.panel = switches
    return disk


def test_both_sides_of_a_panel_see_the_same(
    switches: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(panel.VARIABLE, str(tmp_path / "panel"))
    other = Panel.of_environment()
    switches[Slot.CLOCK_OFFSET_MS] = -5
    other.count(Slot.CLOCK_READS)
    assert other[Slot.CLOCK_OFFSET_MS] == -5
    assert switches[Slot.CLOCK_READS] == 1


def test_unsynced_bytes_are_counted_until_they_are_synced(
    disk: TroubledForgetful, switches: Panel, tmp_path: Path
) -> None:
    fd = disk.open(tmp_path / "log", create=True)
    disk.pwrite(fd, b"hello", 0)
    disk.pwrite(fd, b"world", 5)
    assert switches[Slot.UNSYNCED_BYTES] == 10
    disk.truncate(fd, 7)
    assert switches[Slot.UNSYNCED_BYTES] == 7
    disk.fdatasync(fd)
    assert switches[Slot.UNSYNCED_BYTES] == 0
    disk.close(fd)


def test_a_full_disk_takes_what_fits_and_no_more(
    disk: TroubledForgetful, switches: Panel, tmp_path: Path
) -> None:
    fd = disk.open(tmp_path / "log", create=True)
    disk.pwrite(fd, bytes(8), 0)
    switches[Slot.DISK] = Disk.FULL
    disk.pwrite(fd, b"12345678", 0)
    with pytest.raises(OSError, match="No space left") as failure:
        disk.pwrite(fd, b"9", 8)
    assert failure.value.errno == errno.ENOSPC
    assert switches[Slot.DISK_FAILURES] == 1
    disk.close(fd)


@pytest.mark.parametrize(
    ("trouble", "number"), [(Disk.FAILS, errno.EIO), (Disk.READ_ONLY, errno.EROFS)]
)
def test_a_failing_or_read_only_disk_takes_nothing_until_it_is_well(
    disk: TroubledForgetful, switches: Panel, tmp_path: Path, trouble: Disk, number: int
) -> None:
    fd = disk.open(tmp_path / "log", create=True)
    switches[Slot.DISK] = trouble
    with pytest.raises(OSError) as failure:  # noqa: PT011 - the errno is looked at
        disk.pwrite(fd, b"x", 0)
    assert failure.value.errno == number
    assert disk.pread(fd, 1, 0) == b""
    switches[Slot.DISK] = Disk.WELL
    disk.pwrite(fd, b"x", 0)
    disk.close(fd)


def test_a_slow_sync_is_counted(
    disk: TroubledForgetful, switches: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    fd = disk.open(tmp_path / "log", create=True)
    switches[Slot.SYNC_DELAY_MS] = 2_000
    disk.fdatasync(fd)
    assert slept == [2.0]
    assert switches[Slot.SLOW_SYNCS] == 1
    disk.close(fd)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch, switches: Panel) -> list[float]:
    """Seconds of the true clocks; the wall clock is 1,000 s ahead of the monotonic one."""
    moment = [100.0]
    monkeypatch.setattr(time, "time", lambda: 1000.0 + moment[0])
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    install_clock(switches)
    return moment


def test_a_clock_jumps_and_jumps_back(now: list[float], switches: Panel) -> None:
    assert time.time() == 1100.0
    switches[Slot.CLOCK_OFFSET_MS] = -3_600_000
    assert time.time() == 1100.0 - 3600.0
    assert switches[Slot.CLOCK_READS] == 1
    switches[Slot.CLOCK_OFFSET_MS] = 0
    assert time.time() == 1100.0


def test_a_clock_runs_too_fast_from_a_moment_on(now: list[float], switches: Panel) -> None:
    switches[Slot.CLOCK_SINCE_MS] = 100_000
    switches[Slot.CLOCK_RATE_PERCENT] = 900
    now[0] = 102.0
    assert time.time() == 1100.0 + 20.0


def test_a_strobing_clock_goes_to_and_fro(now: list[float], switches: Panel) -> None:
    switches[Slot.CLOCK_OFFSET_MS] = 60_000
    switches[Slot.CLOCK_STROBE_MS] = 100
    told = []
    for step in range(4):
        now[0] = 100.0 + step * 0.1 + 0.05
        told.append(round(time.time() - 1000.0 - now[0]))
    assert told == [60, 0, 60, 0]
