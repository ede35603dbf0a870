"""What must come of a damaged log, worked out without the log's own reader.

It knows from the history which bytes belong to which record, and compares bytes before and after
the damage; the rules are those of the decision table in wal's DESIGN.md.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct

from tests.torture.history import (
    HEADER_BYTES,
    NOWHERE,
    SEGMENT_HEADER_BYTES,
    History,
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
