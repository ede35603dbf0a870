"""What is spoilt on a disk is something that the node had told somebody about."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.faults import damage
from wal.format import Identity, Record
from wal.log import Wal
from wal.options import Options

SEGMENT_BYTES = 8 * 1024


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with a log of three segments, of which the last is half full."""
    log = Wal.open(
        tmp_path / "wal",
        (tmp_path / "state-a", tmp_path / "state-b"),
        Identity(1, 2),
        visit=lambda _index, _payload: None,
        options=Options(segment_bytes=SEGMENT_BYTES),
    )
    index = 0
    while log.segments < 3:
        index += 1
        log.append([Record(index, b"x" * 700)])
    log.refresh_state(index)
    log.append([Record(index + 1, b"not yet told of" * 40)])
    log.close()
    return tmp_path


def read(data: Path) -> dict[str, bytes]:
    """All files."""
    return {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Names of the files that differ."""
    return [name for name in before if before[name] != after[name]]


@pytest.mark.parametrize("seed", range(30))
def test_closed_segments_are_those_before_the_one_that_is_written(data: Path, seed: int) -> None:
    before = read(data)
    damage.spoil_closed_segment(data, random.Random(seed))
    (name,) = changed(before, read(data))
    assert name.startswith(("0000000000000001-", "0000000000000002-"))


@pytest.mark.parametrize("seed", range(30))
def test_nothing_above_the_witness_is_touched(data: Path, seed: int) -> None:
    before, synced = read(data), damage.state_of(data).synced
    damage.spoil_below_witness(data, random.Random(seed))
    (name,) = changed(before, after := read(data))
    assert name.startswith(f"{synced.segment:016x}-")
    assert len(before[name]) == len(after[name])
    differing = [at for at, byte in enumerate(before[name]) if byte != after[name][at]]
    assert differing[0] >= damage.SEGMENT_HEADER_BYTES
    assert differing[0] < synced.offset


def test_a_lost_tail_begins_below_the_witness(data: Path) -> None:
    synced = damage.state_of(data).synced
    damage.cut_below_witness(data, random.Random(3))
    path = dict(damage.segments(data))[synced.segment]
    assert damage.SEGMENT_HEADER_BYTES <= path.stat().st_size < synced.offset


def test_one_state_file_is_spoilt_or_both(data: Path) -> None:
    before = read(data)
    damage.spoil_state_file(data, random.Random(1))
    once = read(data)
    assert len(changed(before, once)) == 1
    damage.spoil_both_state_files(data, random.Random(1))
    with pytest.raises(damage.NothingToDamage):
        damage.state_of(data)


def test_where_there_is_nothing_nothing_is_spoilt(data: Path) -> None:
    with pytest.raises(damage.NothingToDamage, match="two snapshots"):
        damage.spoil_snapshot(data, random.Random(1))
    empty = data / "empty"
    empty.write_bytes(b"\0\xa5" * 600)
    with pytest.raises(damage.NothingToDamage, match="empty"):
        damage.flip(empty, random.Random(1))
