"""Segments that were written well, and the ways to spoil them.

The base segments are framed by the log's own writer; a mutation changes the bytes of one in place.
Those that keep a header's checksum right matter most: they get past the first check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from struct import Struct

from wal.crc import extend
from wal.format import (
    RECORD_HEADER_BYTES,
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    Identity,
    Kind,
    Position,
    Record,
    SegmentHeader,
    align,
    encode_segment_header,
    frame,
    record_bytes,
)
from wal.state import State, encode_state

_U32, _U64 = Struct("<I"), Struct("<Q")

RECORD_FIELDS = {
    "magic": (4, _U32),
    "kind": (8, _U32),
    "length": (12, _U32),
    "index": (16, _U64),
    "zero_sectors": (24, _U32),
    "chain": (28, _U32),
    "offset": (32, _U32),
    "synced_upto": (36, _U32),
    "salt": (40, _U64),
}
"""Offset in the record header, and width."""

SEGMENT_FIELDS = {
    "version": (8, _U32),
    "sector_bytes": (12, _U32),
    "sequence": (32, _U64),
    "first_index": (40, _U64),
    "segment_bytes": (48, _U64),
    "salt": (56, _U64),
    "previous_chain": (64, _U32),
}

STATE_CRC_AT = 88


@dataclass(frozen=True, slots=True)
class Base:
    """A good segment: its bytes, its header, where its records and groups are, where it ends."""

    data: bytes
    header: SegmentHeader
    records: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]
    end: int


def make_base(random: Random) -> Base:
    """Frame a few groups of entries and markers into a small segment."""
    sector = random.choice((512, 512, 512, 1024))
    header = SegmentHeader(
        identity=Identity(random.getrandbits(64), random.getrandbits(64)),
        sequence=random.randint(1, 9),
        first_index=random.randint(1, 99),
        segment_bytes=sector * random.choice((4, 6, 8, 8, 12)),
        sector_bytes=sector,
        salt=random.getrandbits(64) | 0x8000_0000_0000_0001,
        previous_chain=random.getrandbits(32),
    )
    data = bytearray(encode_segment_header(header).ljust(header.segment_bytes, b"\0"))
    end, chain, last, covered = sector, header.previous_chain, header.first_index - 1, 0
    records: list[int] = []
    groups: list[tuple[int, int]] = []
    for _ in range(random.randint(1, 5)):
        kind, group = _group(random, last, covered)
        start = align(end, sector)
        size = sum(record_bytes(len(record.payload)) for record in group)
        if start + size > header.segment_bytes:
            break
        framed = frame(kind, group, start, end, chain, header.salt, last + 1)
        data[start : start + size] = framed.data
        at = start
        for record in group:
            records.append(at)
            at += record_bytes(len(record.payload))
        groups.append((start, at))
        end, chain = at, framed.chain
        if kind in (Kind.ENTRY, Kind.INSTALL):
            last = group[-1].index
        if kind in (Kind.SNAPSHOT, Kind.INSTALL):
            covered = group[-1].index
    return Base(bytes(data), header, tuple(records), tuple(groups), end)


def _group(random: Random, last: int, covered: int) -> tuple[Kind, list[Record]]:
    """Entries (some supersede), or one marker of any type."""
    chance = random.random()
    if chance < 0.1:
        return Kind.MARKER, [Record(last, b"")]
    if chance < 0.15 and last > 0:
        return Kind.SNAPSHOT, [Record(random.randint(max(covered, 1), last), random.randbytes(9))]
    if chance < 0.2:
        return Kind.INSTALL, [Record(max(covered, last, 1) + random.randint(0, 3), b"from afar")]
    first = last + 1
    if chance < 0.3:
        first = max(first - 2, covered + 1)
    return Kind.ENTRY, [
        Record(index, _payload(random)) for index in range(first, first + random.randint(1, 4))
    ]


def _payload(random: Random) -> bytes:
    size = random.choice((0, 1, 7, 40, 130, 460, 700, 1400))
    zeros = random.randrange(size + 1)
    return random.choice((random.randbytes(size), bytes(size), bytes(zeros).rjust(size, b"z")))


Mutation = Callable[[Random, Base, Sequence[Base], bytearray], None]


def flip(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A few bits."""
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if data:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def splice(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A piece of another segment."""
    other = random.choice(pool).data
    start = random.randrange(0, len(other), SECTOR_BYTES)
    piece = other[start : start + random.choice((48, SECTOR_BYTES, 2 * SECTOR_BYTES))]
    _put(data, random.choice((start, _place(random, data))), piece)


def cut(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """The end of the file is gone, or was never meant to be there."""
    if random.random() < 0.9:
        del data[random.randrange(len(data) + 1) :]
    else:
        size = random.choice((1, 48, SECTOR_BYTES))
        data += random.choice((bytes(size), random.randbytes(size)))


def zero(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A run of zeros; mostly whole sectors."""
    if random.random() < 0.7:
        start, size = _sector(random, data), SECTOR_BYTES * random.randint(1, 3)
    else:
        start, size = _place(random, data), random.randint(1, 300)
    _put(data, start, bytes(size))


def duplicate(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A group of this segment in another place, as it is or with its offsets put right."""
    if not base.groups:
        return
    start, end = random.choice(base.groups)
    piece = bytearray(base.data[start:end])
    target = random.choice((_sector(random, data), align(base.end, base.header.sector_bytes)))
    if random.random() < 0.5:
        for at in base.records:
            if start <= at < end:
                _U32.pack_into(piece, at - start + 32, (at - start + target) & 0xFFFF_FFFF)
                _sign_record(piece, at - start)
    _put(data, target, piece)


def noise(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """Random bytes."""
    _put(data, _place(random, data), random.randbytes(random.choice((1, 8, 48, 512, 900))))


def record_field(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A field of a record header has a hostile value; the header's checksum mostly agrees."""
    if not base.records:
        return
    at = random.choice(base.records)
    if at + RECORD_HEADER_BYTES > len(data):
        return
    offset, width = random.choice(list(RECORD_FIELDS.values()))
    _spoil(random, data, at + offset, width, (at, base.end, base.header.segment_bytes))
    if random.random() < 0.9:
        _sign_record(data, at)


def length(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A length at an extreme, with a checksum that agrees."""
    if not base.records:
        return
    at = random.choice(base.records)
    if at + RECORD_HEADER_BYTES > len(data):
        return
    rest = base.header.segment_bytes - at - RECORD_HEADER_BYTES
    value = random.choice((0, 1, rest, rest - 8, rest + 1, 2**31, 2**32 - 1, 2**32 - 48))
    _U32.pack_into(data, at + 12, value & 0xFFFF_FFFF)
    _sign_record(data, at)


def segment_field(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """A field of the segment header has a hostile value; its checksum agrees."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return
    offset, width = random.choice(list(SEGMENT_FIELDS.values()))
    _spoil(random, data, offset, width, (len(data), base.end, SECTOR_BYTES))
    _U32.pack_into(data, 68, extend(0, bytes(data[:68])))


def salts(random: Random, base: Base, pool: Sequence[Base], data: bytearray) -> None:
    """The salt all over the place: each could be the end of a header."""
    salt = base.header.salt.to_bytes(8, "little")
    _put(data, _place(random, data), salt * random.choice((1, 6, 60)))


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        *(flip, splice, cut, zero, duplicate, noise),
        *(record_field, length, segment_field, salts),
    )
}


def mutate(random: Random, base: Base, pool: Sequence[Base]) -> tuple[bytes, str]:
    """Return spoilt bytes and the name of the first mutation; up to three are done."""
    data = bytearray(base.data)
    names = random.choices(NAMES, k=random.choice((1, 1, 1, 2, 3)))
    for name in names:
        MUTATIONS[name](random, base, pool, data)
    return bytes(data), names[0]


NAMES = tuple(MUTATIONS)


def mutate_state(random: Random) -> bytes:
    """Return a state sector, spoilt or hostile, sometimes with a checksum that agrees."""
    numbers = [random.choice((0, 1, 2**63, 2**64 - 1, random.getrandbits(64))) for _ in range(8)]
    term, vote, commit, segment, offset, oldest, cluster, generation = numbers
    state = State(term, vote, commit, bool(term & 1), Position(segment, offset), oldest)
    data = bytearray(encode_state(state, Identity(cluster, vote), generation))
    chance = random.random()
    if chance < 0.3:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif chance < 0.6:
        at = random.choice((0, 8, 12, 80))
        _put(data, at, random.randbytes(4))
        _U32.pack_into(data, STATE_CRC_AT, extend(0, bytes(data[:STATE_CRC_AT])))
    elif chance < 0.7:
        del data[random.randrange(len(data)) :]
    elif chance < 0.8:
        _put(data, random.randrange(len(data)), random.randbytes(60))
    return bytes(data)


def _spoil(
    random: Random, data: bytearray, at: int, width: Struct, telling: tuple[int, ...]
) -> None:
    """Put another number: next to what was there, an extreme, a telling one, or any."""
    top = (1 << 8 * width.size) - 1
    (old,) = width.unpack_from(data, at)
    bit, anything = 1 << random.randrange(8 * width.size), random.getrandbits(8 * width.size)
    extremes = (0, 1, 2, 3, 4, top, top - 1, top >> 1)
    value = random.choice((old + 1, old - 1, old ^ bit, anything, *extremes, *telling))
    width.pack_into(data, at, value & top)


def _sign_record(data: bytearray, at: int) -> None:
    """Make the checksum of the record header at `at` agree."""
    _U32.pack_into(data, at, extend(0, bytes(data[at + 4 : at + RECORD_HEADER_BYTES])))


def _put(data: bytearray, at: int, piece: bytes | bytearray) -> None:
    """Overwrite; what passes the end of the file is dropped."""
    piece = piece[: max(len(data) - at, 0)]
    data[at : at + len(piece)] = piece


def _place(random: Random, data: bytearray) -> int:
    return random.randrange(len(data) + 1)


def _sector(random: Random, data: bytearray) -> int:
    return random.randrange(0, len(data) + 1, SECTOR_BYTES)
