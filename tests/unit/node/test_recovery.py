"""A start on a log that is torn, lost its end, or cannot be repaired: what the node makes of it."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
from pathlib import Path
from random import Random

import pytest

from kvnode.errors import DiskFull, ExitCode, FatalError, LogCorrupt
from kvnode.node.log_writer import encode_entry
from kvnode.node.recovery import Recovered, RecoveryPlan, collector_resting, recover
from kvnode.node.roster import founder
from kvnode.node.snapshots import encode_marker
from kvnode.snapshot.writer import write_snapshot
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from raft.types import Entry, EntryKind
from wal.fs import PosixFileSystem
from wal.observer import Observer, RepairReport
from wal.options import Options


class Watcher(Observer):
    """Remembers repairs."""

    def __init__(self) -> None:
        self.repairs: list[RepairReport] = []

    def on_repair(self, report: RepairReport) -> None:
        self.repairs.append(report)

    def on_state_repaired(self, path: Path, reason: str) -> None:
        pass

    def on_sync(self, seconds: float, size: int) -> None:
        pass


class Node:
    """A node's directory and what its starts are told."""

    def __init__(self, data: Path, voters: tuple[int, ...]) -> None:
        data.mkdir()
        self.data = data
        self.voters = voters
        self.watcher = Watcher()
        self.warnings: list[str] = []

    def start(self, fs: PosixFileSystem | None = None) -> Recovered:
        """Recover, as `kvnode serve` does."""
        fs = fs or PosixFileSystem()
        return recover(self.plan, fs, self.watcher, Random(1), self.warnings.append)

    @property
    def plan(self) -> RecoveryPlan:
        """What a start is told."""
        return RecoveryPlan(
            data=self.data,
            cluster_number=99,
            node_id=1,
            founders={n: founder(n, f"n{n}", f"n{n}:1") for n in self.voters},
            is_alone=len(self.voters) == 1,
            boot_id=1,
            heartbeat_ms=50,
            election_ms=(150, 300),
            wal_options=Options(segment_bytes=1 << 20),
        )

    def write_log(self) -> None:
        """Ten entries of 2,000 bytes, a group each; the last is un-witnessed."""
        found = self.start()
        found.wal.save_state(term=1, vote=1, commit=0)
        for index in range(1, 11):
            data = Random(index).randbytes(2000)
            found.wal.append([encode_entry(Entry(1, index, EntryKind.NORMAL, data))])
        self.stop(found)

    def stop(self, found: Recovered) -> None:
        found.wal.close()
        found.machine.close(clean=True)

    @property
    def segment(self) -> Path:
        return max((self.data / "wal").glob("*.wal"))

    def tear(self) -> None:
        """Zero a sector of the last group."""
        content = bytearray(self.segment.read_bytes())
        at = len(content.rstrip(b"\0")) - 1000 & -512
        content[at : at + 512] = bytes(512)
        self.segment.write_bytes(content)

    def restart_machine(self) -> None:
        """Let the last start have been on another boot: what it wrote may not be on the disk."""
        (note,) = (self.data / "engine").glob("*/opened")
        note.write_text(json.dumps(json.loads(note.read_text()) | {"boot_id": "another"}))

    def remember(self) -> None:
        """Make the end of the log a floor."""
        found = self.start()
        found.wal.refresh_state(0)
        self.stop(found)

    def image(self) -> dict[str, bytes]:
        """Log and state files."""
        paths = [*(self.data / "wal").iterdir(), self.data / "state-a", self.data / "state-b"]
        return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def alone(tmp_path: Path) -> Node:
    node = Node(tmp_path / "data", (1,))
    node.write_log()
    return node


@pytest.fixture
def member(tmp_path: Path) -> Node:
    node = Node(tmp_path / "data", (1, 2, 3))
    node.write_log()
    return node


def refused(node: Node, fs: PosixFileSystem | None = None) -> FatalError:
    """A start that fails and changes nothing."""
    before = node.image()
    with pytest.raises(FatalError) as caught:
        node.start(fs)
    assert node.image() == before
    return caught.value


def test_a_node_that_is_alone_repairs_a_torn_tail_and_goes_on(alone: Node) -> None:
    alone.tear()
    found = alone.start()
    (report,) = alone.watcher.repairs
    assert (report.indexes_dropped, report.directory) == ((10, 10), alone.data / "wal")
    assert found.raft.last_index == 9
    assert not found.raft.recovering
    alone.stop(found)


def test_a_member_that_was_killed_while_it_wrote_cuts_its_tail_and_counts(member: Node) -> None:
    member.tear()
    found = member.start()
    assert len(member.watcher.repairs) == 1
    assert not found.raft.recovering
    member.stop(found)


def test_a_member_whose_machine_stopped_repairs_a_torn_tail_and_starts_to_recover(
    member: Node,
) -> None:
    member.tear()
    member.restart_machine()
    found = member.start()
    assert len(member.watcher.repairs) == 1
    assert found.raft.recovering
    assert found.wal.state.recovering
    assert (found.raft.term, found.raft.vote) == (1, 1)
    member.stop(found)
    again = member.start()
    assert len(member.watcher.repairs) == 1
    assert again.raft.recovering
    member.stop(again)


def test_a_node_that_is_alone_and_lost_acknowledged_entries_is_refused_with_the_range(
    alone: Node,
) -> None:
    alone.remember()
    alone.tear()
    error = refused(alone)
    assert isinstance(error, LogCorrupt)
    assert "acknowledged entries are gone (10 to 10 at least)" in str(error)
    assert f"kvnode wal repair --accept-loss {alone.data}" in str(error)


def test_a_member_that_lost_acknowledged_entries_starts_to_recover(member: Node) -> None:
    member.remember()
    member.tear()
    found = member.start()
    assert found.raft.recovering
    assert found.raft.last_index == 9
    member.stop(found)
    (warning,) = member.warnings
    assert "acknowledged entries are gone (10 to 10 at least)" in warning
    member.stop(member.start())
    assert len(member.warnings) == 1


def test_a_recovering_directory_is_no_directory_of_a_node_that_is_alone(member: Node) -> None:
    member.tear()
    member.restart_machine()
    member.stop(member.start())
    member.voters = (1,)
    error = refused(member)
    assert isinstance(error, LogCorrupt)
    assert "nobody to heal from" in str(error)


def test_no_room_for_a_copy_of_the_damage_is_told_as_a_full_disk(alone: Node) -> None:
    class Full(PosixFileSystem):
        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    alone.tear()
    error = refused(alone, Full())
    assert isinstance(error, DiskFull)
    assert error.exit_code == ExitCode.DISK_FULL
    assert "before its repair: no room" in str(error)


def test_a_repair_that_does_not_help_is_tried_once_and_told(alone: Node) -> None:
    class Stubborn(PosixFileSystem):
        def __init__(self) -> None:
            self.cuts = 0

        def truncate(self, fd: int, size: int) -> None:
            self.cuts += 1

        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            # The evidence is kept; what should cut the segment does nothing.
            return super().pwrite(fd, data, offset) if not self.cuts else len(data)

    alone.tear()
    disk = Stubborn()
    with pytest.raises(LogCorrupt, match="WAL unrepairable"):
        alone.start(disk)
    assert disk.cuts == 1
    assert alone.watcher.repairs == []


def test_a_damaged_snapshot_is_no_reason_to_touch_the_log(alone: Node) -> None:
    before = alone.image()
    for name in ("0000000000000005-0000000000000001.snap", "anything"):
        (alone.data / "snap" / name).write_bytes(b"damaged")
    for path in (alone.data / "engine").glob("*/opened"):
        path.unlink()
    found = alone.start()
    assert found.raft.last_index == 10
    assert found.wal.last_repair is None
    assert alone.watcher.repairs == []
    alone.stop(found)
    assert alone.image() == before


def write_snapshot_of(node: Node, index: int, term: int) -> None:
    """A file that holds nothing but its place in the log."""
    engine, key = MemoryEngine(), node.plan.hash_key
    machine = StateMachine(engine, hash_key=key)
    for applied in range(1, index + 1):
        machine.apply(applied, b"")
    machine.commit()
    snap = node.data / "snap"
    write_snapshot(engine, snap, hash_key=key, cluster_number=99, term_of=lambda _index: term)


def test_a_snapshot_that_was_received_for_another_end_of_the_log_is_passed_over(
    member: Node,
) -> None:
    """The node died before it was installed; its log still ends with what was never committed."""
    found = member.start()
    found.wal.mark_snapshot(20, encode_marker(1), discard=True)
    found.wal.append([encode_entry(Entry(1, i, EntryKind.NORMAL, b"")) for i in range(21, 26)])
    member.stop(found)
    write_snapshot_of(member, 20, 1)
    write_snapshot_of(member, 23, 2)
    found = member.start()
    assert (found.raft.last_index, found.machine.applied) == (25, 20)
    member.stop(found)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_collector_is_left_as_it_was_found(is_enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if is_enabled else gc.disable)()
    try:
        with contextlib.suppress(KeyError), collector_resting():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if before else gc.disable)()
