"""The forgetful file system forgets exactly what was not synced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import forgetful
from tests.chaos.forgetful import ForgetfulFileSystem, NeverSyncingFileSystem


@pytest.fixture(autouse=True)
def no_early_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetful, "EARLY_WRITES", 0.0)


def test_unsynced_bytes_are_read_back_but_are_not_in_the_file(tmp_path: Path) -> None:
    fs = ForgetfulFileSystem("seed")
    fd = fs.open(tmp_path / "log", create=True)
    fs.pwrite(fd, b"hello", 3)
    assert fs.pread(fd, 100, 0) == b"\0\0\0hello"
    assert fs.size(fd) == 8
    assert (tmp_path / "log").read_bytes() == b""
    fs.close(fd)


def test_synced_bytes_are_in_the_file(tmp_path: Path) -> None:
    fs = ForgetfulFileSystem("seed")
    fd = fs.open(tmp_path / "log", create=True)
    fs.pwrite(fd, b"hello", 0)
    fs.fdatasync(fd)
    fs.pwrite(fd, b"J", 0)
    assert fs.pread(fd, 5, 0) == b"Jello"
    assert (tmp_path / "log").read_bytes() == b"hello"
    fs.close(fd)


def test_two_descriptors_of_one_file_see_the_same(tmp_path: Path) -> None:
    fs = ForgetfulFileSystem("seed")
    one = fs.open(tmp_path / "log", create=True)
    two = fs.open(tmp_path / "log")
    fs.pwrite(one, b"hello", 0)
    assert fs.pread(two, 4, 1) == b"ello"
    fs.fdatasync(two)
    assert (tmp_path / "log").read_bytes() == b"hello"
    fs.close(one)
    fs.close(two)


def test_truncation_cuts_unsynced_bytes_too(tmp_path: Path) -> None:
    fs = ForgetfulFileSystem("seed")
    fd = fs.open(tmp_path / "log", create=True)
    fs.pwrite(fd, b"hello", 0)
    fs.truncate(fd, 2)
    assert fs.pread(fd, 100, 0) == b"he"
    fs.fdatasync(fd)
    assert (tmp_path / "log").read_bytes() == b"he"
    fs.close(fd)


def test_early_writes_persist_whole_sectors_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetful, "EARLY_WRITES", 1.0)
    fs = ForgetfulFileSystem("seed")
    fd = fs.open(tmp_path / "log", create=True)
    fs.pwrite(fd, b"x" * 512 * 64, 0)
    data = (tmp_path / "log").read_bytes()
    sectors = {data[i : i + 512] for i in range(0, len(data), 512)}
    assert sectors == {b"x" * 512, bytes(512)}
    fs.close(fd)


def test_without_fdatasync_young_bytes_are_lost(tmp_path: Path) -> None:
    fs = NeverSyncingFileSystem("seed")
    fd = fs.open(tmp_path / "log", create=True)
    fs.pwrite(fd, b"hello", 0)
    fs.fdatasync(fd)
    assert (tmp_path / "log").read_bytes() == b""
    assert fs.pread(fd, 5, 0) == b"hello"
    fs.close(fd)
