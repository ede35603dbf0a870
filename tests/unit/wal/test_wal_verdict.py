"""The decision table: each row, what is done about it, and what is not.

Unless a test says otherwise the last group is un-witnessed: nothing was written after it, and the
state files know of nothing in this segment.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.disk import MemoryDisk
from tests.unit.wal.wal_harness import (
    DIRECTORY,
    SMALL,
    STATES,
    Watcher,
    contents,
    cut,
    encode_record,
    flip,
    header_of,
    newest_segment,
    open_log,
    overwrite,
    record_of,
    scanned,
    segment_bytes,
)
from wal import Corruption, Options, Record, Unrepairable, UnsupportedVersion, Wal
from wal.format import (
    Kind,
    SegmentHeader,
    align,
    encode_segment_header,
    segment_name,
)
from wal.scan import Verdict

STRICT = Options(SMALL.segment_bytes, repair="strict")
FIRST = [Record(1, b"one" * 30), Record(2, b"two" * 30)]
LARGE = Record(3, b"three" * 400)
"""2,000 bytes: several sectors."""


def log_with(*groups: list[Record]) -> tuple[MemoryDisk, Wal]:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    for group in groups:
        wal.append(group)
    return disk, wal


def refused(disk: MemoryDisk, match: str, options: Options = SMALL) -> Corruption:
    """Opening is refused and changes nothing."""
    before = disk.image()
    with pytest.raises(Corruption, match=match) as caught:
        open_log(disk, options)
    assert disk.image() == before
    return caught.value


def repaired(disk: MemoryDisk, kind: str, expected: list[Record]) -> Wal:
    """Opening repairs, keeps `expected`, and the log can be used and opened cleanly again."""
    damaged = segment_bytes(disk)
    path = newest_segment(disk)
    watcher = Watcher()
    wal, model = open_log(disk, observer=watcher)
    assert model.entries == expected == contents(wal)
    report = wal.last_repair
    assert report is not None
    assert watcher.repairs == [report]
    assert (report.kind, report.path, report.directory) == (kind, path, DIRECTORY)
    assert bytes(disk.names[report.evidence].data) == damaged.rstrip(b"\0")
    assert len(segment_bytes(disk)) == SMALL.segment_bytes
    assert scanned(disk).verdict is Verdict.CLEAN
    wal.append([Record(wal.last_index + 1, b"after")])
    wal.close()
    again, model = open_log(disk)
    assert model.entries == [*expected, Record(len(expected) + 1, b"after")]
    assert again.last_repair is None
    return wal


def zero_sector(disk: MemoryDisk, offset: int) -> None:
    overwrite(disk, offset & -512, bytes(512))


# --- clean ----------------------------------------------------------------------------------------


def test_only_zeros_behind_the_last_record_is_clean() -> None:
    disk, _ = log_with(FIRST)
    wal, model = open_log(disk)
    assert model.entries == FIRST
    assert wal.last_repair is None


def test_opening_syncs_what_it_found_before_it_counts() -> None:
    disk, wal = log_with(FIRST)
    wal.append([LARGE])
    disk.calls.clear()
    open_log(disk)
    assert disk.calls == ["sync_directory", "fdatasync", "sync_directory"]


# --- torn -----------------------------------------------------------------------------------------


def test_a_payload_with_a_sector_that_was_never_written_is_torn() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    start = record_of(disk, -1).offset
    zero_sector(disk, start + 1024)
    wal = repaired(disk, "torn", FIRST)
    assert wal.last_repair is not None
    assert wal.last_repair.offset == record_of(disk, 1).end
    assert wal.last_repair.indexes_dropped == (3, 3)
    assert "never written" in wal.last_repair.error


def test_a_record_whose_last_sector_was_never_written_is_torn() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).end - 1)
    repaired(disk, "torn", FIRST)


def test_a_header_whose_sector_was_never_written_is_torn() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).offset)
    repaired(disk, "torn", FIRST)


def test_a_header_of_which_a_fragment_was_never_written_is_torn() -> None:
    # The first record ends 24 bytes before a sector: the next header lies in two.
    first = Record(1, b"f" * (512 - 24 - 48 - 8))
    disk, _ = log_with([first, Record(2, b"second" * 200)])
    second = record_of(disk, -1).offset
    assert second % 512 == 512 - 24
    zero_sector(disk, second + 24)
    repaired(disk, "torn", [first])


def test_later_records_of_the_same_group_prove_nothing() -> None:
    disk, _ = log_with(FIRST, [LARGE, Record(4, b"four"), Record(5, b"five")])
    zero_sector(disk, record_of(disk, -3).offset + 1024)
    wal = repaired(disk, "torn", FIRST)
    assert wal.last_repair is not None
    assert wal.last_repair.indexes_dropped == (3, 5)


def test_the_whole_front_of_a_group_may_be_missing() -> None:
    disk, _ = log_with(FIRST, [LARGE, Record(4, b"four" * 200)])
    large = record_of(disk, -2)
    overwrite(disk, large.offset, bytes(1024))
    repaired(disk, "torn", FIRST)


def test_good_records_before_the_tear_in_its_group_are_kept() -> None:
    disk, _ = log_with(FIRST, [Record(3, b"three"), Record(4, b"four" * 300)])
    zero_sector(disk, record_of(disk, -1).end - 1)
    repaired(disk, "torn", [*FIRST, Record(3, b"three")])


def test_a_tear_in_a_log_of_larger_sectors_is_found_too() -> None:
    options = Options(64 * 1024, sector_bytes=4096)
    disk = MemoryDisk()
    wal, _ = open_log(disk, options)
    wal.append(FIRST)
    wal.append([Record(3, b"x" * (512 - 56)), Record(4, b"y" * 2000)])
    zero_sector(disk, record_of(disk, -1).offset)
    again, model = open_log(disk, options)
    assert model.entries == [*FIRST, Record(3, b"x" * (512 - 56))] == contents(again)
    assert again.last_repair is not None


# --- zeros that were written ----------------------------------------------------------------------


def test_zeros_that_were_written_are_no_tear() -> None:
    zeros = Record(3, b"a" * 500 + bytes(2000) + b"z" * 500)
    disk, _ = log_with(FIRST, [zeros])
    found = record_of(disk, -1)
    assert found.zero_sectors == 2
    flip(disk, found.payload_start)
    error = refused(disk, "payload CRC")
    assert error.offset == found.offset
    assert error.path == newest_segment(disk)


def test_one_lost_sector_among_written_zeros_is_a_tear() -> None:
    zeros = Record(3, b"a" * 500 + bytes(2000) + b"z" * 800)
    disk, _ = log_with(FIRST, [zeros])
    zero_sector(disk, record_of(disk, -1).end - 512)
    repaired(disk, "torn", FIRST)


# --- short files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 47, 48, 49, 1000, 2000])
def test_a_file_that_ends_inside_its_last_record_is_repaired(keep: int) -> None:
    disk, _ = log_with(FIRST, [LARGE])
    cut(disk, record_of(disk, -1).offset + keep)
    repaired(disk, "short file", FIRST)


def test_a_file_that_ends_behind_its_last_record_gets_its_size_back() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    cut(disk, record_of(disk, -1).end)
    repaired(disk, "short file", [*FIRST, LARGE])


def test_a_short_file_is_repaired_in_strict_mode_too() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    cut(disk, record_of(disk, -1).end - 100)
    wal, model = open_log(disk, STRICT)
    assert model.entries == FIRST
    assert wal.last_repair is not None


def test_strict_mode_repairs_nothing_else() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).offset + 1024)
    refused(disk, "repair is strict", STRICT)


def test_a_file_that_is_too_long_is_refused() -> None:
    disk, _ = log_with(FIRST)
    overwrite(disk, SMALL.segment_bytes, b"more")
    refused(disk, "too long")


# --- below a witness, or below a floor of the state files -----------------------------------------


@pytest.mark.parametrize("damage", ["flip", "zero"])
def test_damage_below_a_later_group_is_corruption(damage: str) -> None:
    disk, _ = log_with(FIRST, [LARGE], [Record(4, b"four")])
    large = record_of(disk, 2)
    if damage == "flip":
        flip(disk, large.payload_start + 700)
    else:
        zero_sector(disk, large.offset + 1024)
    refused(disk, "acknowledged bytes")


def test_a_marker_is_witness_enough() -> None:
    disk, wal = log_with(FIRST, [LARGE])
    wal.mark()
    zero_sector(disk, record_of(disk, -2).offset + 1024)
    refused(disk, "acknowledged bytes")


def test_a_witness_is_found_behind_records_that_cannot_be_read() -> None:
    disk, wal = log_with(FIRST, [LARGE], [Record(4, b"four")])
    wal.mark()
    overwrite(disk, record_of(disk, 2).offset, bytes(2048))
    refused(disk, "acknowledged bytes")


def test_a_tail_that_vanished_below_the_synced_position_is_missed() -> None:
    disk, wal = log_with(FIRST, [LARGE])
    wal.refresh_state(0)
    large = record_of(disk, -1)
    overwrite(disk, large.offset, bytes(large.end - large.offset))
    error = refused(disk, "acknowledged entries are gone")
    assert f"durable up to segment 1 offset {wal.synced.offset}" in error.text


def test_a_small_record_zeroed_within_its_sector_is_missed() -> None:
    disk, wal = log_with([Record(1, b"one"), Record(2, b"two")])
    wal.refresh_state(0)
    two = record_of(disk, -1)
    overwrite(disk, two.offset, bytes(two.end - two.offset))
    refused(disk, "acknowledged entries are gone")


def test_a_file_cut_below_the_synced_position_is_refused() -> None:
    disk, wal = log_with(FIRST, [LARGE])
    wal.refresh_state(0)
    cut(disk, record_of(disk, -1).end - 1)
    refused(disk, "acknowledged entries are gone .*unexpected end of file")


def test_the_newest_segment_gone_is_refused() -> None:
    disk, wal = log_with(FIRST)
    while wal.segments == 1:
        wal.append([Record(wal.last_index + 1, b"x" * 1000)])
    newest = disk.names.pop(newest_segment(disk))
    assert newest
    refused(disk, "acknowledged entries are gone .*segment 2 offset 512")


def test_all_segments_gone_is_refused() -> None:
    disk, _ = log_with(FIRST)
    del disk.names[newest_segment(disk)]
    refused(disk, "no segment is left")


# --- not decidable: refused -----------------------------------------------------------------------


def test_a_flipped_payload_bit_in_the_last_record_is_refused() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    flip(disk, record_of(disk, -1).payload_start + 3)
    refused(disk, "payload CRC")


def test_a_damaged_pad_is_refused() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    flip(disk, record_of(disk, -1).end - 1)
    refused(disk, "payload CRC")


def test_a_damaged_length_is_refused_whatever_it_says() -> None:
    for bit in range(32):
        disk, _ = log_with(FIRST, [LARGE])
        flip(disk, record_of(disk, -1).offset + 12 + bit // 8, bit % 8)
        refused(disk, "header CRC")


def test_a_zeroed_header_in_a_sector_with_other_bytes_is_refused() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    overwrite(disk, record_of(disk, -1).offset, bytes(48))
    refused(disk, "header CRC")


def test_bytes_in_the_padding_of_a_group_are_refused() -> None:
    disk, _ = log_with(FIRST)
    overwrite(disk, record_of(disk, -1).end + 64, b"\x01")
    refused(disk, "header CRC")


# --- stale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "salt_change"), [(0, 1), (512, 0)])
def test_a_record_of_another_salt_or_place_ends_the_log_and_is_zeroed(
    offset: int, salt_change: int
) -> None:
    disk, wal = log_with(FIRST)
    at = align(wal.synced.offset, 512)
    salt = header_of(segment_bytes(disk)).salt ^ salt_change
    stale, _ = encode_record(Kind.ENTRY, Record(3, b"stale"), at + offset, at, 0, salt)
    overwrite(disk, at, stale)
    repaired(disk, "stale", FIRST)


def test_a_foreign_record_inside_our_own_sector_is_not_stale() -> None:
    disk, _ = log_with(FIRST)
    last = record_of(disk, -1)
    foreign, _ = encode_record(Kind.ENTRY, Record(2, b""), last.offset, 512, 0, 1)
    overwrite(disk, last.offset, foreign)
    refused(disk, "header CRC")


def test_a_copy_of_a_header_in_a_payload_is_no_witness() -> None:
    disk, wal = log_with(FIRST)
    at = align(wal.synced.offset, 512)
    salt = header_of(segment_bytes(disk)).salt
    fake, _ = encode_record(Kind.ENTRY, Record(9, b""), 8000, 8000, 0, salt)
    wal.append([Record(3, fake * 20)])
    zero_sector(disk, at + 512)
    repaired(disk, "torn", FIRST)


# --- what no crash explains -----------------------------------------------------------------------


def forge(disk: MemoryDisk, wal: Wal, kind: int, record: Record, synced_upto: int) -> None:
    """Write a well-formed record behind the log's end."""
    at = align(wal.synced.offset, 512)
    header = header_of(segment_bytes(disk))
    data, _ = encode_record(kind, record, at, synced_upto, scanned(disk).chain, header.salt)
    overwrite(disk, at, data)


def test_the_forger_can_write_a_good_record() -> None:
    disk, wal = log_with(FIRST)
    forge(disk, wal, Kind.ENTRY, Record(3, b"three"), wal.synced.offset)
    _, model = open_log(disk)
    assert model.entries == [*FIRST, Record(3, b"three")]


@pytest.mark.parametrize("index", [0, 4, 2**63])
def test_a_gap_in_index_is_refused(index: int) -> None:
    disk, wal = log_with(FIRST)
    forge(disk, wal, Kind.ENTRY, Record(index, b"x"), wal.synced.offset)
    refused(disk, "gap in index")


@pytest.mark.parametrize(
    ("kind", "index", "match"),
    [
        (Kind.ENTRY, 1, "gap in index"),
        (Kind.SNAPSHOT, 0, "not there"),
        (Kind.SNAPSHOT, 3, "not there"),
        (Kind.INSTALL, 0, "goes back"),
    ],
)
@pytest.mark.parametrize("covered", [0, 1])
def test_what_cannot_follow_a_snapshot_is_refused(
    kind: int, index: int, match: str, covered: int
) -> None:
    disk, wal = log_with(FIRST)
    if covered:
        wal.mark_snapshot(covered, b"")
    forge(disk, wal, kind, Record(index, b"x"), wal.synced.offset)
    if kind == Kind.ENTRY and not covered:
        _, model = open_log(disk)
        assert model.entries == [Record(1, b"x")]
    else:
        refused(disk, match)


@pytest.mark.parametrize("kind", [Kind.SNAPSHOT, Kind.INSTALL])
def test_a_snapshot_that_covers_less_than_the_one_before_is_refused(kind: int) -> None:
    for index in (1, 2):
        disk, wal = log_with(FIRST)
        wal.mark_snapshot(2, b"")
        forge(disk, wal, kind, Record(index, b"x"), wal.synced.offset)
        if index == 1:
            refused(disk, "goes back" if kind == Kind.INSTALL else "not there")
        else:
            again, _ = open_log(disk)
            assert again.snapshot_index == 2


def test_an_unknown_record_type_is_refused() -> None:
    disk, wal = log_with(FIRST)
    forge(disk, wal, 5, Record(3, b"x"), wal.synced.offset)
    refused(disk, "unknown record type")


def test_a_record_of_no_group_is_refused() -> None:
    disk, wal = log_with(FIRST)
    forge(disk, wal, Kind.ENTRY, Record(3, b"x"), wal.synced.offset - 8)
    refused(disk, "belongs to no group")


def test_a_record_of_no_group_behind_a_lost_sector_is_refused() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    large = record_of(disk, -1)
    header = header_of(segment_bytes(disk))
    at = align(large.end, 512)
    odd, _ = encode_record(Kind.ENTRY, Record(4, b""), at, large.synced_upto - 8, 0, header.salt)
    overwrite(disk, at, odd)
    zero_sector(disk, large.offset + 1024)
    refused(disk, "belongs to no group")


def test_bytes_at_the_end_of_a_full_segment_are_no_short_file() -> None:
    disk, _ = log_with([Record(1, b"f" * (SMALL.segment_bytes - 512 - 48 - 1 - 24))])
    assert record_of(disk, -1).end == SMALL.segment_bytes - 24
    flip(disk, SMALL.segment_bytes - 5)
    refused(disk, "not zero")


# --- other segments -------------------------------------------------------------------------------


def log_of_segments(count: int) -> MemoryDisk:
    disk = MemoryDisk()
    wal, _ = open_log(disk)
    while wal.segments < count:
        wal.append([Record(wal.last_index + 1, b"x" * 1000)])
    return disk


def segments(disk: MemoryDisk) -> list[Path]:
    return sorted(path for path in disk.names if path.parent == DIRECTORY)


def test_a_tear_in_a_segment_with_a_successor_is_corruption() -> None:
    disk = log_of_segments(3)
    path = segments(disk)[1]
    found = scanned(disk, path).records[-1]
    overwrite(disk, found.offset + 512 & -512, bytes(512), path)
    refused(disk, "has a successor")


def test_a_short_segment_with_a_successor_is_corruption() -> None:
    disk = log_of_segments(3)
    cut(disk, SMALL.segment_bytes - 512, segments(disk)[1])
    refused(disk, "has a successor")


def test_a_lost_tail_of_a_segment_with_a_successor_breaks_the_chain() -> None:
    disk = log_of_segments(2)
    path = segments(disk)[0]
    found = scanned(disk, path).records[-1]
    overwrite(disk, found.offset, bytes(found.end - found.offset), path)
    refused(disk, "chain")


def test_a_missing_segment_is_corruption() -> None:
    disk = log_of_segments(3)
    del disk.names[segments(disk)[1]]
    refused(disk, "segment is missing")


def test_a_segment_under_another_name_is_corruption() -> None:
    disk = log_of_segments(2)
    path = segments(disk)[1]
    disk.names[DIRECTORY / segment_name(2, 1)] = disk.names.pop(path)
    refused(disk, "first index does not fit")


@pytest.mark.parametrize("step", [1, -1])
def test_a_gap_in_index_between_segments_is_corruption(step: int) -> None:
    disk = log_of_segments(2)
    path = segments(disk)[1]
    header = header_of(segment_bytes(disk, path))
    forged = SegmentHeader(
        header.identity,
        header.sequence,
        header.first_index + step,
        header.segment_bytes,
        header.sector_bytes,
        header.salt,
        header.previous_chain,
    )
    overwrite(disk, 0, encode_segment_header(forged), path)
    disk.names[DIRECTORY / segment_name(2, forged.first_index)] = disk.names.pop(path)
    refused(disk, "gap in index")


@pytest.mark.parametrize("offset", [0, 40, 71, 72, 511])
def test_a_damaged_segment_header_is_corruption(offset: int) -> None:
    disk, _ = log_with(FIRST)
    flip(disk, offset)
    refused(disk, "segment header is damaged")


def test_a_segment_of_a_later_version_is_not_called_damaged() -> None:
    disk, _ = log_with(FIRST)
    header = header_of(segment_bytes(disk))
    later = SegmentHeader(
        header.identity, 1, 1, header.segment_bytes, 512, header.salt, 0, version=2
    )
    overwrite(disk, 0, encode_segment_header(later))
    with pytest.raises(UnsupportedVersion):
        open_log(disk)


# --- a segment in the making ----------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"WALSEG", bytes(512), bytes(SMALL.segment_bytes)])
def test_an_unfinished_segment_is_removed(content: bytes) -> None:
    disk, wal = log_with(FIRST)
    unfinished = DIRECTORY / segment_name(2, 3)
    fd = disk.open(unfinished, create=True)
    disk.pwrite(fd, content, 0)
    again, model = open_log(disk)
    assert unfinished not in disk.names
    assert model.entries == FIRST
    assert again.segments == 1
    assert wal.synced == again.synced


def test_the_predecessor_of_an_unfinished_segment_was_complete() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).offset + 1024)
    disk.open(DIRECTORY / segment_name(2, 4), create=True)
    disk.open(DIRECTORY / "any.tmp", create=True)
    refused(disk, "has a successor")


def test_an_empty_segment_that_held_records_is_refused() -> None:
    disk, _ = log_with(FIRST)
    cut(disk, 0)
    refused(disk, "acknowledged entries are gone .*no segment is left")


def test_files_in_the_making_are_removed_and_evidence_is_not() -> None:
    disk, _ = log_with(FIRST)
    leftover = DIRECTORY / (segment_name(2, 3).removesuffix(".wal") + ".tmp")
    evidence = DIRECTORY / (segment_name(1, 1) + ".broken-1")
    for path in (leftover, evidence):
        disk.open(path, create=True)
    open_log(disk)
    assert leftover not in disk.names
    assert evidence in disk.names


# --- repair ---------------------------------------------------------------------------------------


def test_evidence_of_an_earlier_repair_is_kept() -> None:
    disk, wal = log_with(FIRST, [LARGE])
    for number in (1, 2):
        zero_sector(disk, record_of(disk, -1).offset + 1024)
        wal, _ = open_log(disk)
        assert wal.last_repair is not None
        assert wal.last_repair.evidence.name.endswith(f".wal.broken-{number}")
        wal.append([Record(3, b"again" * 400)])
    assert sum(".broken-" in path.name for path in disk.names) == 2


def test_a_repair_that_was_cut_short_while_copying_is_done_again() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).offset + 1024)
    disk.open(newest_segment(disk).with_suffix(".tmp"), create=True)
    repaired(disk, "torn", FIRST)


def test_evidence_is_durable_before_the_cut() -> None:
    disk, _ = log_with(FIRST, [LARGE])
    zero_sector(disk, record_of(disk, -1).offset + 1024)
    disk.calls.clear()
    open_log(disk)
    assert disk.calls == [
        "sync_directory",  # the directory of the log
        *("create", "pwrite", "fdatasync", "rename", "sync_directory"),  # evidence
        *("truncate", "fdatasync", "pwrite", "fdatasync", "sync_directory"),  # repair
        *("fdatasync", "sync_directory"),  # what is left counts from here on
    ]


def test_a_repair_that_does_not_help_is_not_tried_again() -> None:
    class Stubborn(MemoryDisk):
        def truncate(self, fd: int, size: int) -> None:
            self._step("truncate")

        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            self._step("pwrite")
            return len(data)

    good, _ = log_with(FIRST, [LARGE])
    zero_sector(good, record_of(good, -1).offset + 1024)
    disk = Stubborn.from_image(good.image())
    with pytest.raises(Unrepairable, match="WAL unrepairable"):
        open_log(disk)
    assert disk.calls.count("truncate") == 1


# --- state files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["flip", "zero", "empty", "missing"])
def test_one_damaged_state_file_is_written_again(which: int, damage: str) -> None:
    disk, wal = log_with(FIRST)
    wal.save_state(term=4, vote=5, commit=2)
    path = STATES[which]
    if damage == "flip":
        flip(disk, 41, 3, path)
    elif damage == "zero":
        overwrite(disk, 0, bytes(512), path)
    elif damage == "empty":
        cut(disk, 0, path)
    else:
        del disk.names[path]
    watcher = Watcher()
    again, _ = open_log(disk, observer=watcher)
    assert again.state == wal.state
    assert watcher.states == [(path, "missing" if damage == "missing" else "damaged")]
    assert disk.names[STATES[0]].durable == disk.names[STATES[1]].durable


def test_two_damaged_state_files_are_refused_and_left_alone() -> None:
    disk, _ = log_with(FIRST)
    for path in STATES:
        flip(disk, 41, 3, path)
    refused(disk, "term and vote are lost")


def test_two_missing_state_files_are_refused_if_there_is_a_log() -> None:
    disk, _ = log_with(FIRST)
    for path in STATES:
        del disk.names[path]
    refused(disk, "term and vote are lost")


def test_the_newer_state_file_holds() -> None:
    disk, wal = log_with(FIRST)
    for behind in STATES:
        old = bytes(disk.names[behind].data)
        wal.save_state(term=wal.state.term + 1, vote=0, commit=0)
        overwrite(disk, 0, old, behind)
        watcher = Watcher()
        again, _ = open_log(disk, observer=watcher)
        assert again.state == wal.state
        assert watcher.states == []
        assert disk.names[STATES[0]].data == disk.names[STATES[1]].data
        wal = again
