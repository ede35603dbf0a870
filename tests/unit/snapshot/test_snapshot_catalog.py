"""The directory of snapshots: order, pruning, leftovers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvnode.snapshot.catalog import file_name, list_snapshots, prune, remove_leftovers

NAMES = [(9, 1), (16, 2), (255, 2), (2**63, 3)]


def populate(directory: Path) -> None:
    for index, term in NAMES:
        (directory / file_name(index, term)).touch()
    for name in ("0-0.snap", f"{file_name(1, 1)}.tmp", "x.part", "notes.txt", "FF.snap"):
        (directory / name).touch()


def test_the_newest_comes_first_and_other_files_are_not_listed(tmp_path: Path) -> None:
    populate(tmp_path)
    listed = list_snapshots(tmp_path)
    assert [(stored.index, stored.term) for stored in listed] == NAMES[::-1]
    assert all(stored.path.exists() for stored in listed)


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    populate(tmp_path)
    removed = prune(tmp_path, marked=2**63)
    assert [path.name for path in removed] == [file_name(16, 2), file_name(9, 1)]
    assert [stored.index for stored in list_snapshots(tmp_path)] == [2**63, 255]
    assert prune(tmp_path, marked=2**63) == []
    assert len(prune(tmp_path, marked=2**63, keep=1)) == 1


def test_what_the_log_has_no_mark_of_goes_and_takes_the_place_of_none(tmp_path: Path) -> None:
    populate(tmp_path)
    prune(tmp_path, marked=100)
    assert [stored.index for stored in list_snapshots(tmp_path)] == [16, 9]


def test_pruning_never_removes_all(tmp_path: Path) -> None:
    populate(tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        prune(tmp_path, marked=2**63, keep=0)
    assert len(list_snapshots(tmp_path)) == len(NAMES)


def test_leftovers_go_and_a_transfer_may_be_spared(tmp_path: Path) -> None:
    populate(tmp_path)
    assert [path.suffix for path in remove_leftovers(tmp_path, received=False)] == [".tmp"]
    assert [path.suffix for path in remove_leftovers(tmp_path)] == [".part"]
    assert remove_leftovers(tmp_path) == []
    assert (tmp_path / "notes.txt").exists()
    assert len(list_snapshots(tmp_path)) == len(NAMES)
