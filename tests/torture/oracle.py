"""What must come of a damaged log, worked out without the log's own reader.

It knows from the history which bytes belong to which record, and compares bytes before and after
the damage; the rules are those of the decision table in wal's DESIGN.md.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct
from typing import NamedTuple

from tests.support.disk import SECTOR_BYTES
from tests.torture.history import (
    HEADER_BYTES,
    NOWHERE,
    SEGMENT_HEADER_BYTES,
    History,
    Placed,
    round_up,
    sequence_of,
)
from tests.unit.wal.wal_harness import STATES
from wal import Position
from wal.crc import extend

_STATE = Struct("<8sIIQQQQQQQQQI")


def floor_of(image: dict[Path, bytes]) -> Position:
    """The highest position that a readable state file says was durable."""
    found = [NOWHERE]
    for path in STATES:
        data = image.get(path, b"")
        if len(data) >= _STATE.size:
            fields = _STATE.unpack_from(data)
            if fields[-1] == extend(0, data[: _STATE.size - 4]):
                found.append(Position(*fields[9:11]))
    return max(found)


def witnessed(history: History, before: dict[Path, bytes], after: dict[Path, bytes]) -> Position:
    """Up to where something in the log that survived says that it was durable.

    Args:
        before: all files as they were written.
        after: as the damage left them.
    """
    old = {sequence_of(path): data for path, data in before.items()}
    new = {sequence_of(path): data for path, data in after.items()}

    def survived(segment: int, start: int, size: int) -> bool:
        piece = new.get(segment, b"")[start : start + size]
        whole = len(piece) == size and any(piece)
        return whole and piece == old.get(segment, b"")[start : start + size]

    # A segment is made when all before it is durable.
    segments = [
        Position(segment, 0)
        for segment in new.keys() - {0}
        if survived(segment, 0, SEGMENT_HEADER_BYTES)
    ]
    records = [
        Position(record.segment, record.witness)
        for record in history.records
        if survived(record.segment, record.start, HEADER_BYTES)
    ]
    return max([NOWHERE, *segments, *records])


class Expected(NamedTuple):
    """What opening a damaged log must lead to.

    Attributes:
        refused: True or False; None where both are right.
        kept: how many records of the history there are if it opens.
    """

    refused: bool | None
    kept: int


def expected(
    history: History, segment: int, before: bytes, after: bytes | None, floor: Position
) -> Expected:
    """Judge damage to one segment.

    Args:
        segment: its number.
        before: its bytes as they were written.
        after: as they are now, None if the file is gone.
        floor: synced position in the state files.
    """
    last = history.records[history.acknowledged - 1].segment
    if after == before:
        return Expected(False, history.acknowledged)
    if segment != last:
        return Expected(True, 0)
    earlier = history.count_upto(Position(last, 0))
    if after is None or not any(after[:SEGMENT_HEADER_BYTES]) or len(after) < SEGMENT_HEADER_BYTES:
        # A crash while it was made looks like that, unless somebody knows that it was durable.
        nothing_else = after is None or not any(after[SEGMENT_HEADER_BYTES:])
        return Expected(not nothing_else or floor.segment >= last, earlier)
    sector = history.options.sector_bytes
    if after[:sector] != before[: min(sector, len(after))]:
        return Expected(True, 0)
    records = history.records[earlier : history.acknowledged]
    good = 0
    while good < len(records) and _same(before, after, records[good].start, records[good].end):
        good += 1
    end = records[good - 1].end if good else sector
    if floor > Position(last, end) or _witness(records, before, after) > end:
        return Expected(True, 0)
    if good < len(records):
        return Expected(not _never_written(records[good], before, after), earlier + good)
    return Expected(_judge_padding(records, before, after), history.acknowledged)


def _same(before: bytes, after: bytes, start: int, end: int) -> bool:
    return before[start:end] == after[start:end]


def _witness(records: list[Placed], before: bytes, after: bytes) -> int:
    """W: the headers that survived say that all below was durable."""
    return max(
        (
            record.witness
            for record in records
            if _same(before, after, record.start, record.start + HEADER_BYTES)
        ),
        default=0,
    )


def _never_written(record: Placed, before: bytes, after: bytes) -> bool:
    """Tell whether the first damaged record has a proof that it was not written in full."""
    if record.end > len(after) or not any(after[record.start :]):
        return True
    header_end = record.start + HEADER_BYTES
    whole_header = _same(before, after, record.start, header_end)
    return any(
        not any(after[at : at + SECTOR_BYTES]) and any(before[at : at + SECTOR_BYTES])
        for at in range(
            round_up(record.start, SECTOR_BYTES),
            round_up(record.end if whole_header else header_end, SECTOR_BYTES),
            SECTOR_BYTES,
        )
    )


def _judge_padding(records: list[Placed], before: bytes, after: bytes) -> bool | None:
    """All records are good; between groups only zeros may be. What lies behind is nobody's."""
    at = 0
    for record in records:
        if not _same(before, after, at, record.start):
            return True
        at = record.end
    return None if any(after[at:]) else False
