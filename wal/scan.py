"""Reading one segment back: which records are good, and what the bytes behind them mean.

Pure decisions over bytes; nothing is read, written or raised here. The walk goes from record to
record while all is well; where it stops, `_judge` applies the decision table of DESIGN.md §3:
torn means that a sector which should hold data was never written, so that its group was never
synced and nobody was told about it. Everything else that is damaged is corrupt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from wal.crc import extend
from wal.format import (
    ALIGNMENT,
    INDEX_MAX,
    PADS,
    RECORD,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SECTOR_BYTES,
    Kind,
    RecordHeader,
    Records,
    SegmentHeader,
    align,
    count_zero_sectors,
    decode_any_header,
    decode_record_header,
    first_nonzero,
    is_zero,
    last_nonzero,
    salt_pattern,
)


class Verdict(Enum):
    """What the end of a segment is."""

    CLEAN = "clean"
    TORN = "torn"
    """A group that was never synced, with sectors that were never written."""
    SHORT = "short file"
    """The file ends before its full size."""
    STALE = "stale"
    """A well-formed record that was written elsewhere or for another segment."""
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Damage:
    """Where the walk stopped and why.

    Attributes:
        offset: in bytes from the start of the segment.
        text: one sentence.
        expected: what should have been there.
        found: what is there.
    """

    offset: int
    text: str
    expected: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """A segment as it was read.

    Attributes:
        records: headers of all good records, in order, markers included.
        end: G, the end of the last good record (or of the segment header).
        resume: where the next group belongs.
        chain: chain value behind the last good record.
        last_index: index of the newest entry after this segment.
        snapshot_index: index of the newest snapshot marker after this segment, 0 if there is none.
        witness: W, the largest position that a record says was durable.
        verdict: what the bytes behind `end` are.
        damage: set unless the verdict is CLEAN.
        dropped_bytes: from `end` to the last byte that is not zero.
        dropped_indexes: smallest and largest index of readable headers behind `end`.
    """

    records: Records
    end: int
    resume: int
    chain: int
    last_index: int
    snapshot_index: int
    witness: int
    verdict: Verdict
    damage: Damage | None = None
    dropped_bytes: int = 0
    dropped_indexes: tuple[int, int] | None = None


@dataclass(slots=True)
class _Walk:
    """How far the records are good, and the record that is not."""

    chain: int
    last_index: int
    snapshot_index: int
    end: int
    records: Records
    group: int = -1
    """`synced_upto` of the last good record; it names the group."""
    stop: int = 0
    suspect: RecordHeader | None = None
    """A record with a good header whose payload, or whose place, is wrong."""
    complaint: Damage | None = None
    """Set if the suspect cannot have been written by a crash."""


def scan(
    data: bytes,
    header: SegmentHeader,
    *,
    chain: int,
    last_index: int,
    snapshot_index: int = 0,
) -> Scan:
    """Read a segment whose header was accepted.

    Args:
        data: all bytes of the file.
        header: its decoded header.
        chain: chain value before the first record.
        last_index: index of the newest entry before this segment.
        snapshot_index: of the newest snapshot marker before this segment, 0 if there is none.
    """
    walk = _Walk(chain, last_index, snapshot_index, end=header.sector_bytes, records=Records(data))
    _run(walk, data, header)
    behind = list(headers_behind(data, header.salt, walk.stop))
    witness = max([0, walk.group, *(found.synced_upto for found in behind)])
    verdict, damage = _judge(data, header, walk, behind, witness)
    lost = behind if walk.suspect is None else [walk.suspect, *behind]
    indexes = [found.index for found in lost if found.kind == Kind.ENTRY]
    return Scan(
        records=walk.records,
        end=walk.end,
        resume=align(walk.end, header.sector_bytes),
        chain=walk.chain,
        last_index=walk.last_index,
        snapshot_index=walk.snapshot_index,
        witness=witness,
        verdict=verdict,
        damage=damage,
        dropped_bytes=last_nonzero(data, walk.end) - walk.end,
        dropped_indexes=(min(indexes), max(indexes)) if indexes else None,
    )


def headers_behind(data: bytes, salt: int, start: int) -> Iterator[RecordHeader]:
    """Find all valid record headers after `start`, by the segment's salt."""
    pattern = salt_pattern(salt)
    into = RECORD_HEADER_BYTES - len(pattern)
    at = data.find(pattern, start + into + 1)
    while at >= 0:
        found = decode_record_header(data, at - into, at - into, salt)
        if found is not None:
            yield found
        at = data.find(pattern, at + 1)


def _run(walk: _Walk, data: bytes, header: SegmentHeader) -> None:
    """Walk from record to record while all is well.

    This loop is the cost of a start, hence its plain style: `decode_record_header` in its own words
    and no object per record.
    """
    salt, fits = header.salt, header.segment_bytes - RECORD_HEADER_BYTES - ALIGNMENT
    unpack, crc_of, pads, keep = RECORD.unpack_from, extend, PADS, walk.records.offsets.append
    readable = len(data) - RECORD_HEADER_BYTES
    chain, last, group, end = walk.chain, walk.last_index, walk.group, walk.end
    offset = end
    while offset <= readable:
        crc, magic, kind, length, index, zeros, expected, own, synced_upto, salted = unpack(
            data, offset
        )
        start = offset + RECORD_HEADER_BYTES
        if (
            own != offset
            or salted != salt
            or magic != RECORD_MAGIC
            or crc != crc_of(0, data[offset + 4 : start])
        ):
            following = _after_padding(data, header, offset, end)
            if following == offset:
                break
            offset = following
            continue
        # The common case in one line; `_misplaced` knows all cases.
        if (
            synced_upto != group
            or offset != end
            or kind != Kind.ENTRY
            or index != last + 1
            or offset + length > fits
        ):
            walk.chain, walk.last_index, walk.group, walk.end = chain, last, group, end
            found = RecordHeader(kind, length, index, zeros, expected, own, synced_upto)
            walk.complaint = _misplaced(found, header, walk)
        payload_end = start + length
        then = crc_of(chain, data[start:payload_end])
        pad = pads[length & 7]
        if walk.complaint or then != expected or not data.startswith(pad, payload_end):
            walk.suspect = RecordHeader(kind, length, index, zeros, expected, own, synced_upto)
            break
        keep(offset)
        chain = then
        group = synced_upto
        end = offset = payload_end + len(pad)
        if kind == Kind.ENTRY:
            last = index
        elif kind != Kind.MARKER:
            walk.snapshot_index = index
            if kind == Kind.INSTALL:
                last = index
    else:
        offset = _after_padding(data, header, offset, end)
    walk.chain, walk.last_index, walk.group, walk.end = chain, last, group, end
    walk.stop = offset


def _misplaced(found: RecordHeader, header: SegmentHeader, walk: _Walk) -> Damage | None:
    """Say why a good header cannot stand here, if so."""
    offset = found.offset
    continues = found.synced_upto == walk.group and offset == walk.end
    starts = found.synced_upto == walk.end and offset == align(walk.end, header.sector_bytes)
    if not continues and not starts:
        return _no_group(found, walk)
    if found.end > header.segment_bytes:
        return Damage(
            offset,
            "record passes the end of its segment",
            f"{header.segment_bytes}",
            f"{found.end}",
        )
    return _illegal(found, walk)


def _illegal(found: RecordHeader, walk: _Walk) -> Damage | None:
    """Say why a record of this type and index cannot follow those before it, if so.

    What a snapshot covers is committed: no entry supersedes it and no later snapshot covers less.
    """
    last, snapshot = walk.last_index, walk.snapshot_index
    match found.kind:
        case Kind.ENTRY:
            text, low, high = "gap in index", snapshot + 1, last + 1
        case Kind.SNAPSHOT:
            text, low, high = "snapshot of entries that are not there", max(snapshot, 1), last
        case Kind.INSTALL:
            text, low, high = "snapshot goes back", max(snapshot, 1), INDEX_MAX
        case Kind.MARKER:
            return None
        case _:
            kinds = " or ".join(str(kind.value) for kind in Kind)
            return Damage(found.offset, "unknown record type", kinds, f"{found.kind}")
    if low <= found.index <= high:
        return None
    return Damage(found.offset, text, f"{low} to {high}", f"{found.index}")


def _no_group(found: RecordHeader, walk: _Walk) -> Damage:
    expected = f"synced_upto {walk.group} or {walk.end}"
    return Damage(found.offset, "record belongs to no group", expected, f"{found.synced_upto}")


def _after_padding(data: bytes, header: SegmentHeader, offset: int, end: int) -> int:
    """Return where a group may start behind the padding at `offset`; `offset` if it is none.

    The rest of a 512-byte sector that holds the end of a good record was written together with it:
    if there is a rest, and it is zero, the group ended here and the next one starts at the group
    boundary. A record that ends with its 512-byte sector may have had another one behind it; whole
    sectors of zeros up to the boundary are padding only if a group does start there, else they may
    be the lost middle of a group.
    """
    edge = align(offset, SECTOR_BYTES)
    if not is_zero(data, offset, min(edge, len(data))):
        return offset
    boundary = align(edge, header.sector_bytes)
    dirty = first_nonzero(data, edge, min(boundary, len(data)))
    if dirty < min(boundary, len(data)):
        # Padding that is not zero; or, right behind a record, what may be left of the next one.
        start = dirty & -SECTOR_BYTES if offset < edge else edge
    elif offset < edge:
        start = boundary
    else:
        found = decode_record_header(data, boundary, boundary, header.salt)
        start = boundary if found is not None and found.synced_upto == end else edge
    return min(start, max(offset, len(data)))


def _judge(
    data: bytes, header: SegmentHeader, walk: _Walk, behind: list[RecordHeader], witness: int
) -> tuple[Verdict, Damage | None]:
    """Apply the decision table to the bytes from `walk.stop` on."""
    stop = walk.stop
    short = len(data) < header.segment_bytes
    nothing_left = first_nonzero(data, stop, len(data)) == len(data)
    if witness > walk.end:
        text = "acknowledged entries are gone" if nothing_left else "damage in acknowledged bytes"
        return Verdict.CORRUPT, Damage(stop, text, f"good records up to {witness}", f"{walk.end}")
    if len(data) > header.segment_bytes:
        size = f"{header.segment_bytes} bytes"
        return Verdict.CORRUPT, Damage(stop, "segment is too long", size, f"{len(data)}")
    if nothing_left:
        return (Verdict.SHORT, _short(stop, header, data)) if short else (Verdict.CLEAN, None)
    if walk.complaint is not None:
        return Verdict.CORRUPT, walk.complaint
    for found in behind:
        if found.synced_upto not in (walk.group, walk.end):
            return Verdict.CORRUPT, _no_group(found, walk)
    return _judge_record(data, header, walk)


def _judge_record(data: bytes, header: SegmentHeader, walk: _Walk) -> tuple[Verdict, Damage | None]:
    """Judge the damaged record at `walk.stop`, about which no witness has spoken."""
    stop = walk.stop
    suspect = walk.suspect
    end = stop + RECORD_HEADER_BYTES if suspect is None else suspect.end
    if end > len(data):
        if len(data) < header.segment_bytes:
            return Verdict.SHORT, _short(stop, header, data)
        return Verdict.CORRUPT, Damage(stop, "bytes behind the last record are not zero")
    lost = _lost_sectors(data, stop, end)
    if suspect is not None:
        if lost > suspect.zero_sectors:
            text = "payload has sectors that were never written"
            return Verdict.TORN, Damage(
                stop, text, f"{suspect.zero_sectors} zero sectors", f"{lost}"
            )
        return Verdict.CORRUPT, Damage(
            stop, "payload CRC does not match", f"{suspect.chain:#010x}", _found_chain(data, walk)
        )
    if lost:
        return Verdict.TORN, Damage(stop, "record header was never written in full")
    # Our own sectors hold nothing foreign, so stale bytes can only begin with a sector.
    if stop % SECTOR_BYTES == 0 and decode_any_header(data, stop) is not None:
        return Verdict.STALE, Damage(stop, "record of another segment or place")
    return Verdict.CORRUPT, Damage(stop, "record header CRC does not match")


def _lost_sectors(data: bytes, start: int, end: int) -> int:
    """Count the sectors that begin at or after `start`, hold bytes before `end`, and are zero."""
    return count_zero_sectors(data, align(start, SECTOR_BYTES), align(end, SECTOR_BYTES))


def _found_chain(data: bytes, walk: _Walk) -> str:
    assert walk.suspect is not None
    payload = data[walk.suspect.payload_start : walk.suspect.payload_end]
    return f"{extend(walk.chain, payload):#010x}"


def _short(stop: int, header: SegmentHeader, data: bytes) -> Damage:
    return Damage(stop, "unexpected end of file", f"{header.segment_bytes} bytes", f"{len(data)}")
