"""An engine directory is reused only if nothing can have happened to the kernel's cache."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import DiskFull
from kvnode.limits import ENGINE_LOCK_BYTES
from kvnode.store import engine_directory
from kvnode.store.engine_directory import (
    Whereabouts,
    create_engine,
    distrust,
    may_reuse,
    open_engine,
    remove_engines,
    trust,
)
from kvnode.store.keyspace import FORMAT
from kvnode.store.lmdb_engine import LmdbEngine
from tests.support.small_disk import small_disk

if TYPE_CHECKING:
    from pathlib import Path

HERE = Whereabouts(format=FORMAT, boot_id="b", device=5, mount_id="30")


@pytest.mark.parametrize(
    ("noted", "clean", "reused"),
    [
        (HERE, False, True),
        (HERE, True, True),
        (None, False, False),
        (None, True, False),
        (replace(HERE, boot_id="c"), False, False),
        (replace(HERE, device=6), False, False),
        (replace(HERE, mount_id="31"), False, False),
        (replace(HERE, boot_id="c", device=6, mount_id="31"), True, True),
        (replace(HERE, format=FORMAT + 1), True, False),
    ],
)
def test_reuse_needs_a_clean_mark_or_the_same_boot_device_and_mount(
    noted: Whereabouts | None, clean: bool, reused: bool
) -> None:
    assert may_reuse(noted, HERE, clean=clean) is reused


def test_a_system_that_does_not_tell_its_boot_needs_the_clean_mark() -> None:
    nowhere = replace(HERE, boot_id="", mount_id="")
    assert not may_reuse(nowhere, nowhere, clean=False)
    assert may_reuse(nowhere, nowhere, clean=True)


def open_with_row(root: Path, *, clean: bool) -> None:
    engine, _ = open_engine(root)
    engine.put(b"a", b"1")
    engine.commit()
    engine.close(clean=clean)


def boot_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_directory, "_whereabouts", lambda _: replace(HERE, boot_id="next"))


def test_a_killed_process_finds_its_engine_again(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=False)
    engine, reused = open_engine(tmp_path)
    assert reused
    assert engine.get(b"a") == b"1"
    engine.close(clean=False)


def test_a_crashed_machine_starts_with_a_fresh_engine_and_deletes_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_with_row(tmp_path, clean=False)
    boot_again(monkeypatch)
    engine, reused = open_engine(tmp_path)
    assert not reused
    assert engine.get(b"a") is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["2"]
    engine.close(clean=False)


def test_a_clean_close_outlives_a_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_with_row(tmp_path, clean=True)
    boot_again(monkeypatch)
    engine, reused = open_engine(tmp_path)
    assert reused
    assert engine.get(b"a") == b"1"
    engine.close(clean=False)


def test_the_mark_stays_while_nothing_is_written(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    engine, _ = open_engine(tmp_path)
    assert (tmp_path / "1" / "clean").exists()
    engine.close(clean=False)
    assert (tmp_path / "1" / "clean").exists()


def test_the_mark_is_gone_before_the_first_write(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    engine, _ = open_engine(tmp_path)
    engine.put(b"b", b"1")
    assert not (tmp_path / "1" / "clean").exists()
    engine.close(clean=False)


def test_a_crash_after_a_reuse_on_another_boot_is_judged_by_the_new_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_with_row(tmp_path, clean=True)
    with monkeypatch.context() as patch:
        boot_again(patch)
        open_with_row(tmp_path, clean=False)
    engine, reused = open_engine(tmp_path)  # booted once more: neither the first boot nor the next
    assert not reused
    engine.close(clean=False)


def test_a_half_made_directory_is_not_trusted(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    (tmp_path / "2").mkdir()
    engine, reused = open_engine(tmp_path)
    assert not reused
    assert [entry.name for entry in tmp_path.iterdir()] == ["3"]
    engine.close(clean=False)


def test_older_directories_are_deleted_when_the_newest_is_reused(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    (tmp_path / "1").rename(tmp_path / "2")
    (tmp_path / "1").mkdir()
    engine, reused = open_engine(tmp_path)
    assert reused
    assert [entry.name for entry in tmp_path.iterdir()] == ["2"]
    engine.close(clean=False)


def test_a_file_that_is_no_lmdb_is_replaced(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    (tmp_path / "1" / "data.mdb").write_bytes(b"\x5a" * 16384)
    engine, reused = open_engine(tmp_path)
    assert not reused
    engine.close(clean=False)


def test_a_rebuild_can_be_ordered(tmp_path: Path) -> None:
    open_with_row(tmp_path, clean=True)
    engine, reused = open_engine(tmp_path, rebuild=True)
    assert not reused
    assert engine.get(b"a") is None
    engine.close(clean=False)


def test_a_distrusted_engine_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    engine, _ = open_engine(tmp_path)
    engine.put(b"k", b"v")
    engine.close(clean=True)
    distrust(engine.path)
    engine, reused = open_engine(tmp_path)
    assert not reused
    assert engine.get(b"k") is None
    engine.close(clean=False)


def test_a_new_engine_stands_beside_the_one_in_use_until_the_others_are_removed(
    tmp_path: Path,
) -> None:
    old, _ = open_engine(tmp_path)
    new = create_engine(tmp_path)
    old.put(b"k", b"v")
    old.commit()
    old.close(clean=False)
    remove_engines(tmp_path, keep=new.path)
    assert [entry.name for entry in tmp_path.iterdir()] == [new.path.name]
    new.close(clean=False)


# --- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new file can be written; what is there can be read and removed."""

    def refuse(path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, "no room", str(path))

    monkeypatch.setattr(engine_directory, "_write_synced", refuse)


def test_an_engine_that_a_kill_left_on_a_full_disk_is_reused(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    open_with_row(tmp_path, clean=False)
    request.getfixturevalue("no_room")
    engine, reused = open_engine(tmp_path)
    assert reused
    engine.close(clean=True)  # which is no error without room for the mark
    assert open_engine(tmp_path)[1]


def test_a_note_that_cannot_be_renewed_for_want_of_room_is_trusted_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the place that it names, mounted once more, would vouch for rows of the one between."""
    open_with_row(tmp_path, clean=True)
    with monkeypatch.context() as elsewhere:
        boot_again(elsewhere)
        elsewhere.setattr(engine_directory, "_write_if_room", lambda path, content: False)
        engine, reused = open_engine(tmp_path)
        assert reused
        engine.put(b"b", b"2")
        engine.commit()
        engine.close(clean=False)
    assert not open_engine(tmp_path)[1]


def test_a_fresh_engine_is_refused_where_its_lock_file_might_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_directory, "ENGINE_ROOM_BYTES_MIN", 1 << 60)
    with pytest.raises(DiskFull):
        open_engine(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_trusted_makes_room_before_the_fresh_engine_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_with_row(tmp_path, clean=False)
    monkeypatch.setattr(engine_directory, "ENGINE_ROOM_BYTES_MIN", 1 << 60)
    with pytest.raises(DiskFull):
        open_engine(tmp_path, rebuild=True)
    assert list(tmp_path.iterdir()) == []


def test_every_page_of_the_lock_file_has_its_place_on_the_disk(tmp_path: Path) -> None:
    """LMDB writes it through a map: a page without one kills the process when the disk is full."""
    engine, _ = open_engine(tmp_path)
    lock = (engine.path / "lock.mdb").stat()
    assert lock.st_blocks * 512 >= lock.st_size
    engine.close(clean=True)


def test_the_lock_file_is_made_as_large_as_lmdb_wants_it(tmp_path: Path) -> None:
    """LMDB would lengthen a shorter one, and those pages would have no place."""
    engine, _ = open_engine(tmp_path)
    assert (engine.path / "lock.mdb").stat().st_size == ENGINE_LOCK_BYTES
    engine.close(clean=True)
    LmdbEngine(tmp_path / "other").close(clean=False)
    assert (tmp_path / "other" / "lock.mdb").stat().st_size == ENGINE_LOCK_BYTES


ASK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        sys.exit("locked")
"""


def is_locked(directory: Path) -> bool:
    """Whether another process sees that somebody has this engine open."""
    command = [sys.executable, "-c", ASK, str(directory / "lock.mdb")]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    assert told.stderr in ("", "locked\n")
    return told.returncode != 0


def test_other_processes_see_that_an_engine_is_open(tmp_path: Path) -> None:
    """One that does not makes readers and mutexes anew under those who use them."""
    first, _ = open_engine(tmp_path)
    assert is_locked(first.path)
    second = create_engine(tmp_path)
    first.close(clean=False)
    trust(second.path)
    remove_engines(tmp_path, keep=second.path)
    assert is_locked(second.path)
    second.close(clean=True)
    again, reused = open_engine(tmp_path)
    assert reused
    assert is_locked(again.path)
    again.close(clean=True)
    assert not is_locked(again.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_disk_that_is_mounted_again_is_another_mount(tmp_path: Path) -> None:
    """The kernel gives the number of a mount that is gone to the next one."""
    noted = set()
    for _ in range(2):
        with small_disk("tmpfs", tmp_path / "disk", 1):
            noted.add(engine_directory._whereabouts(tmp_path / "disk").mount_id)
    if not any(each.startswith("unique") for each in noted):
        pytest.skip("this kernel is older than 6.8 and tells no number that is given only once")
    assert len(noted) == 2
