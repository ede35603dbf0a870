"""The bytes of a segment: headers, records, padding. Pure functions; DESIGN.md has the grammar.

A record header carries its own CRC, its own offset and its segment's random salt, so that a length
is trusted only where this log wrote it. `synced_upto` is the end of the last record before the
record's group: all below was on the disk before the group was written.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import NamedTuple, overload

from wal.crc import extend

SECTOR_BYTES = 512
"""What a disk writes whole or not at all. Devices with larger sectors write multiples of it."""

ALIGNMENT = 8

OFFSET_MAX = 2**32 - 1
"""Offsets are stored in 32 bits."""

INDEX_MAX = 2**64 - 2
"""Indexes are stored in 64 bits, and one more than the last must fit, too."""

VERSION = 1

CHECKPOINT_BYTES = 16 * 1024
"""One entry of the in-memory index for so many bytes of log."""

_SEGMENT_MAGIC = b"WALSEGMT"
_SEGMENT = Struct("<8sIIQQQQQQI")
_CRC = Struct("<I")
SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size

RECORD_MAGIC = 0x5AC3_96E7
RECORD = Struct("<IIIIQIIIIQ")
"""Of a record header: crc, magic, type, payload bytes, index, zero sectors, chain, own offset,
`synced_upto`, salt."""
_RECORD_BODY = Struct("<IIIQIIIIQ")
RECORD_HEADER_BYTES = RECORD.size

_PAD_BYTE = b"\xa5"
PADS = tuple(_PAD_BYTE * (ALIGNMENT - rest) for rest in range(ALIGNMENT))
"""What follows a payload, by its length modulo 8. Never empty: no record ends in zeros."""

_ZERO_SECTOR = bytes(SECTOR_BYTES)
_ZEROS = bytes(64 * 1024)

assert SEGMENT_HEADER_BYTES == 72
assert RECORD_HEADER_BYTES == 48
assert RECORD_HEADER_BYTES % ALIGNMENT == 0


SNAPSHOT_BYTES_MAX = 4096
"""The largest payload of a snapshot marker: it says which snapshot, it does not hold it."""


class Kind(IntEnum):
    """What a record is."""

    ENTRY = 1
    MARKER = 2
    """Nothing but a witness for what was written before it."""
    SNAPSHOT = 3
    """A snapshot of our own covers all entries up to its index; the log goes on."""
    INSTALL = 4
    """A snapshot from elsewhere replaces the whole log; the next entry is index + 1."""


class Record(NamedTuple):
    """One entry of the log: its index (from 1) and its payload, which means nothing here."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    payload: bytes


class Position(NamedTuple):
    """A place in the log: segment sequence and byte offset in it. Ordered."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is. Both are unsigned 64-bit numbers."""

    cluster_id: int
    node_id: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first sector of a segment. `first_index` is the next index when it was made."""

    identity: Identity
    sequence: int
    first_index: int
    segment_bytes: int
    sector_bytes: int
    salt: int
    previous_chain: int
    version: int = VERSION


class RecordHeader(NamedTuple):
    """The header of a record, in the order of its fields on disk."""

    kind: int
    length: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    zero_sectors: int
    chain: int
    offset: int
    synced_upto: int

    @property
    def payload_start(self) -> int:
        return self.offset + RECORD_HEADER_BYTES

    @property
    def payload_end(self) -> int:
        return self.offset + RECORD_HEADER_BYTES + self.length

    @property
    def end(self) -> int:
        """Where the record ends, with its pad."""
        return self.offset + record_bytes(self.length)


class Records(Sequence[RecordHeader]):
    """The headers of a segment's good records, decoded when they are asked for.

    Four bytes of memory for each instead of a tuple of numbers: a segment has up to 300,000, and a
    collector that walks over them costs as much as reading them.

    Attributes:
        offsets: of the records, in bytes.
    """

    __slots__ = ("_data", "offsets")

    def __init__(self, data: bytes, offsets: Iterable[int] = ()) -> None:
        self._data = data
        self.offsets = array("I", offsets)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> RecordHeader: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...

    def __getitem__(self, at: int | slice) -> RecordHeader | Records:
        if isinstance(at, slice):
            return Records(self._data, self.offsets[at])
        return RecordHeader(*RECORD.unpack_from(self._data, self.offsets[at])[2:9])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records):
            return NotImplemented
        return self.offsets == other.offsets and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def record_bytes(length: int) -> int:
    """Return how many bytes a record with a payload of `length` bytes occupies."""
    return RECORD_HEADER_BYTES + length + ALIGNMENT - (length & (ALIGNMENT - 1))


def align(offset: int, boundary: int) -> int:
    """Return the first multiple of `boundary` (a power of two) at or after `offset`."""
    return (offset + boundary - 1) & -boundary


def segment_name(sequence: int, first_index: int) -> str:
    """Return the file name of a segment."""
    return f"{sequence:016x}-{first_index:016x}.wal"


_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Return (sequence, first index), or None if this is not the name of a segment."""
    match = _NAME.fullmatch(name)
    return (int(match[1], 16), int(match[2], 16)) if match else None


def evidence_name(sequence: int, first_index: int, number: int) -> str:
    """Return the file name of the `number`-th copy of a damaged segment."""
    return f"{segment_name(sequence, first_index)}.broken-{number}"


_EVIDENCE = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}\.wal\.broken-([1-9][0-9]*)")


def parse_evidence_name(name: str) -> tuple[int, int] | None:
    """Return (sequence, number), or None if this is not the name of such a copy."""
    match = _EVIDENCE.fullmatch(name)
    return (int(match[1], 16), int(match[2])) if match else None


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the whole first sector."""
    body = _SEGMENT.pack(
        _SEGMENT_MAGIC,
        header.version,
        header.sector_bytes,
        header.identity.cluster_id,
        header.identity.node_id,
        header.sequence,
        header.first_index,
        header.segment_bytes,
        header.salt,
        header.previous_chain,
    )
    return (body + _CRC.pack(extend(0, body))).ljust(header.sector_bytes, b"\0")


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """Read a segment header; None if it is short, damaged or none. The version is not judged."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    body = data[: _SEGMENT.size]
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    magic, version, sector, cluster, node, sequence, first, size, salt, chain = _SEGMENT.unpack(
        body
    )
    if magic != _SEGMENT_MAGIC or crc != extend(0, body):
        return None
    return SegmentHeader(
        Identity(cluster, node), sequence, first, size, sector, salt, chain, version
    )


def decode_record_header(data: bytes, at: int, offset: int, salt: int) -> RecordHeader | None:
    """Read the record header at `data[at:]`, which is byte `offset` of a segment with `salt`.

    None if those bytes are no header that was written there.
    """
    # `decode_any_header` in its own words: the scan and every read pay this per record.
    if at < 0 or at + RECORD_HEADER_BYTES > len(data):
        return None
    crc, magic, kind, length, index, zeros, chain, own, synced, found = RECORD.unpack_from(data, at)
    if own != offset or found != salt or magic != RECORD_MAGIC:
        return None
    if crc != extend(0, data[at + 4 : at + RECORD_HEADER_BYTES]):
        return None
    return RecordHeader(kind, length, index, zeros, chain, own, synced)


def decode_any_header(data: bytes, at: int) -> tuple[RecordHeader, int] | None:
    """Read a record header and its salt, whatever offset and salt it names; None if it is none."""
    if at < 0 or at + RECORD_HEADER_BYTES > len(data):
        return None
    crc, magic, kind, length, index, zeros, chain, own, synced, salt = RECORD.unpack_from(data, at)
    if magic != RECORD_MAGIC or crc != extend(0, data[at + 4 : at + RECORD_HEADER_BYTES]):
        return None
    return RecordHeader(kind, length, index, zeros, chain, own, synced), salt


class Checkpoint(NamedTuple):
    """Where a record is, for the index. `chain` is the value before it."""

    first: int
    offset: int
    chain: int
    supersedes: bool


@dataclass(slots=True)
class Frame:
    """A group ready to be written.

    Attributes:
        data: all its bytes, without the zeros behind it.
        chain: chain value behind it.
        checkpoints: of its first record, of each that supersedes others, and of one in about
            CHECKPOINT_BYTES.
    """

    data: bytes
    chain: int
    checkpoints: list[Checkpoint]


def frame(
    kind: int,
    records: Sequence[Record],
    offset: int,
    synced_upto: int,
    chain: int,
    salt: int,
    next_index: int,
) -> Frame:
    """Frame one group that starts at `offset`. An index below the next one supersedes.

    This loop is the cost of an append beside the disk, hence its plain style.
    """
    parts: list[bytes] = []
    checkpoints: list[Checkpoint] = []
    pack, pack_crc, crc_of = _RECORD_BODY.pack, _CRC.pack, extend
    at = due = offset
    for index, payload in records:
        if at >= due or index != next_index:
            checkpoints.append(Checkpoint(index, at, chain, index < next_index))
            due = at + CHECKPOINT_BYTES
        next_index = index + 1
        length = len(payload)
        zeros = 0
        if length >= SECTOR_BYTES and _ZERO_SECTOR in payload:
            # The edges of a record are never zero, so only sectors inside the payload can be.
            start = at + RECORD_HEADER_BYTES
            zeros = count_zero_sectors(payload, align(start, SECTOR_BYTES) - start, length)
        chain = crc_of(chain, payload)
        body = pack(RECORD_MAGIC, kind, length, index, zeros, chain, at, synced_upto, salt)
        pad = PADS[length & 7]
        parts += (pack_crc(crc_of(0, body)), body, payload, pad)
        at += RECORD_HEADER_BYTES + length + len(pad)
    return Frame(b"".join(parts), chain, checkpoints)


def salt_pattern(salt: int) -> bytes:
    """Return what to search for when looking for headers of a segment with this salt."""
    return salt.to_bytes(8, "little")


def count_zero_sectors(data: bytes, start: int, end: int) -> int:
    """Count the pieces of SECTOR_BYTES from `start` that are all zero and end by `end`."""
    count = 0
    for at in range(start, end - SECTOR_BYTES + 1, SECTOR_BYTES):
        count += data[at : at + SECTOR_BYTES] == _ZERO_SECTOR
    return count


def is_zero(data: bytes, start: int, end: int) -> bool:
    """Tell whether all of `data[start:end]` is zero."""
    return first_nonzero(data, start, end) == end


def first_nonzero(data: bytes, start: int, end: int) -> int:
    """Return where the first byte in `data[start:end]` is that is not zero, or `end`."""
    step = len(_ZEROS)
    for at in range(start, end, step):
        piece = data[at : min(at + step, end)]
        if piece != _ZEROS[: len(piece)]:
            return at + len(piece) - len(piece.lstrip(b"\0"))
    return end


def last_nonzero(data: bytes, start: int) -> int:
    """Return the end of the last byte in `data[start:]` that is not zero, or `start`."""
    return max(start, len(data.rstrip(b"\0")))
