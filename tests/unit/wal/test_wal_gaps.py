"""Rules that no other test held: each showed when a broken variant (tests/torture/broken) got away.

Which bytes are the disk's and which a hope of the page cache; what a name promises; what a crash
in the middle of a repair may leave; and what is never thrown away.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    SMALL,
    STATES,
    flip,
    header_of,
    newest_segment,
    open_log,
    overwrite,
    record_of,
    segment_bytes,
)
from wal import Corruption, Decision, DiskFailed, Identity, Record, State
from wal.format import align, parse_segment_name
from wal.state import decode_state, encode_state


class CachedDisk(MemoryDisk):
    """Files in `cached` are read from the page cache until that is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.cached: dict[Path, bytes] = {}

    def path_of(self, fd: int) -> Path:
        """The name of an open file."""
        inode = self.open_files[fd]
        return next(path for path, named in self.names.items() if named is inode)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        cached = self.cached.get(self.path_of(fd))
        return super().pread(fd, size, offset) if cached is None else cached[offset : offset + size]

    def drop_cache(self, fd: int) -> None:
        self.cached.pop(self.path_of(fd), None)


def test_the_last_segment_is_judged_as_the_disk_has_it_and_not_the_page_cache() -> None:
    disk = CachedDisk()
    wal, _ = open_log(disk)
    wal.append([Record(1, b"one")])
    wal.append([Record(2, b"two" * 500)])
    path = newest_segment(disk)
    disk.cached[path] = bytes(disk.names[path].data)
    lost = record_of(disk, 1).offset + 512
    disk.names[path].data[lost : lost + 512] = bytes(512)
    wal, model = open_log(disk)
    assert model.entries == [Record(1, b"one")]
    assert wal.last_repair is not None


def test_term_and_vote_are_those_of_the_disk_and_not_of_the_page_cache() -> None:
    disk = CachedDisk()
    wal, _ = open_log(disk)
    wal.save_state(term=3, vote=1, commit=0)
    copy = disk.names[STATES[0]].data
    identity = Identity(*(int.from_bytes(copy[at : at + 8], "little") for at in (16, 24)))
    never_synced = encode_state(State(term=4, vote=2), identity, 99)
    for path in STATES:
        disk.cached[path] = never_synced
    wal, _ = open_log(disk)
    assert (wal.state.term, wal.state.vote) == (3, 1)


def test_a_segment_has_its_name_only_when_all_of_it_is_on_the_disk() -> None:
    class Watched(MemoryDisk):
        seen = 0

        def _step(self, name: str) -> None:
            super()._step(name)
            for path, inode in self.names.items():
                if parse_segment_name(path.name):
                    assert len(inode.durable) == SMALL.segment_bytes, f"{path} before {name}"
                    self.seen += 1

    disk = Watched()
    wal, _ = open_log(disk)
    for index in range(1, 9):
        wal.append([Record(index, b"x" * 2000)])
    assert wal.segments > 2
    assert disk.seen > 20


def test_a_log_that_is_refused_keeps_its_damaged_state_file() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append([Record(1, b"one")])
    wal.append([Record(2, b"two")])
    flip(disk, record_of(disk, 0).payload_start)
    flip(disk, 20, path=STATES[1])
    before = disk.image()
    with pytest.raises(Corruption):
        open_log(disk)
    assert disk.image() == before


def test_a_last_segment_with_a_zero_header_and_other_bytes_is_not_thrown_away() -> None:
    """Not even if losses are accepted: this is damage, and no crash explains it."""
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append([Record(1, b"one")])
    overwrite(disk, 0, bytes(512))
    before = disk.image()
    with pytest.raises(Corruption, match="segment header is damaged"):
        open_log(disk, on_loss=lambda loss: Decision.RECOVER)
    assert disk.image() == before


def test_a_repair_that_loses_power_leaves_nothing_that_looks_like_rot() -> None:
    """Zeros that reach a part of the damage, and a cut that does not reach the disk at all."""
    outcomes = {"repaired again": 0, "repaired before": 0}
    for call in range(1, 25):
        for seed in range(40):
            disk = MemoryDisk()
            wal, _ = open_log(disk)
            wal.append([Record(1, b"one"), Record(2, b"two" * 800)])
            lost = align(record_of(disk, 1).offset, 512) + 1024
            overwrite(disk, lost, bytes(512))
            disk.fail_at, disk.failing = len(disk.calls) + call, True
            with suppress(DiskFailed):
                open_log(disk)
            disk.crash(Random(seed))
            wal, model = open_log(disk)
            assert model.entries == [Record(1, b"one")], f"{call=} {seed=}"
            again = wal.last_repair is not None
            outcomes["repaired again" if again else "repaired before"] += 1
    assert min(outcomes.values()) > 100


def test_each_segment_has_a_salt_of_its_own() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for index in range(1, 20):
        wal.append([Record(index, b"x" * 2000)])
    paths = [path for path in disk.names if parse_segment_name(path.name)]
    assert len(paths) > 4
    assert len({header_of(segment_bytes(disk, path)).salt for path in paths}) == len(paths)


def test_a_state_file_has_its_name_only_when_all_of_it_is_on_the_disk() -> None:
    class Watched(MemoryDisk):
        def _step(self, name: str) -> None:
            super()._step(name)
            for path in STATES:
                if path in self.names:
                    assert decode_state(bytes(self.names[path].durable)), f"{path} before {name}"

    disk = Watched()
    wal, _ = open_log(disk)
    wal.save_state(term=1, vote=1, commit=0)
    del disk.names[STATES[1]]
    wal, _ = open_log(disk)
    assert wal.state.term == 1


def test_what_was_removed_stays_removed() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for index in range(1, 20):
        wal.append([Record(index, b"x" * 2000)])
    wal.mark_snapshot(19, b"")
    assert wal.release(19) > 0
    left = {path for path in disk.names if parse_segment_name(path.name)}
    assert {path for path in disk.durable_names if parse_segment_name(path.name)} == left


def test_the_commit_index_in_the_state_files_never_goes_back() -> None:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    wal.append([Record(1, b"one"), Record(2, b"two")])
    wal.save_state(term=1, vote=1, commit=2)
    wal.save_state(term=2, vote=1, commit=1)
    assert (wal.state.term, wal.state.commit) == (2, 2)
    assert open_log(disk)[0].state.commit == 2
