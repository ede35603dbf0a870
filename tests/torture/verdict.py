"""Opening a damaged reference log, and comparing with what the oracle says."""

from __future__ import annotations

from pathlib import Path

from tests.support.disk import MemoryDisk
from tests.torture.history import Broken
from tests.torture.oracle import Expected
from tests.torture.reference import Reference
from tests.unit.wal.wal_harness import open_log
from wal import Corruption, Position, Record

REFUSED, SAME, CUT = "refused", "contents unchanged", "cut"
VERDICTS = (REFUSED, SAME, CUT)


def judge(
    reference: Reference, image: dict[Path, bytes], right: Expected, *, briefly: bool = False
) -> tuple[str, int]:
    """Open a log that was damaged; return REFUSED, SAME or CUT, and how many records there are.

    Args:
        briefly: a log that lost nothing is not written to.

    Raises:
        Broken: something else was expected.
    """
    disk, history = MemoryDisk.from_image(image), reference.history
    try:
        wal, found = open_log(disk, reference.options)
    except Corruption as refusal:
        if right.refused is False:
            raise Broken(f"refused: {refusal}") from refusal
        if disk.image() != image:
            raise Broken(f"refused, but something was changed: {disk.calls}") from refusal
        return REFUSED, 0
    if right.refused:
        raise Broken(f"accepted with {history.count_upto(wal.synced)} records: must be refused")
    count = history.check(wal, found, right.kept)
    if count != right.kept:
        raise Broken(f"{count} records, but only {right.kept} are whole")
    silent = wal.last_repair is None
    if silent and _damage_behind(reference, image, wal.synced):
        raise Broken("cut, and nobody was told")
    if briefly and count == history.acknowledged:
        return SAME, count
    # Whoever writes on finds all of it at the next start.
    wal.append([Record(wal.last_index + 1, b"more")])
    wal.close()
    again, model = open_log(disk, reference.options)
    if model.entries[-1].payload != b"more" or again.last_repair is not None:
        raise Broken("what was appended afterwards is not there")
    return (SAME if count == history.acknowledged else CUT), count


def _damage_behind(reference: Reference, image: dict[Path, bytes], end: Position) -> bool:
    """Tell whether the segment where the log ends holds more, or is short."""
    data = image[reference.segments[end.segment]]
    return any(data[end.offset :]) or len(data) < reference.options.segment_bytes
