"""The codec: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import crcmod.predefined
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wal.wal_harness import encode_record
from wal import BACKEND, Identity, InvalidArgument, Options, Position, Record, State
from wal.crc import _crcmod, extend
from wal.format import (
    PADS,
    SECTOR_BYTES,
    Kind,
    RecordHeader,
    Records,
    SegmentHeader,
    align,
    decode_record_header,
    decode_segment_header,
    encode_segment_header,
    first_nonzero,
    frame,
    is_zero,
    last_nonzero,
    parse_segment_name,
    record_bytes,
    segment_name,
)
from wal.state import decode_state, encode_state

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
segment_headers = st.builds(
    SegmentHeader,
    identity=st.builds(Identity, u64, u64),
    sequence=u64,
    first_index=u64,
    segment_bytes=u64,
    sector_bytes=st.sampled_from([512, 4096]),
    salt=u64,
    previous_chain=u32,
)


def test_crc_is_castagnoli_by_its_check_value() -> None:
    assert extend(0, b"123456789") == 0xE3069283


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc_of_two_parts_is_that_of_the_whole_with_every_backend(one: bytes, two: bytes) -> None:
    name, other = _crcmod()
    assert name in ("crcmod-c", "crcmod-python")
    assert BACKEND in ("google-crc32c", name)
    assert extend(extend(0, one), two) == extend(0, one + two)
    assert other(other(0, one), two) == extend(0, one + two)
    assert crcmod.predefined.mkPredefinedCrcFun("crc-32c")(one + two) == extend(0, one + two)


@given(segment_headers)
def test_segment_header_round_trip(header: SegmentHeader) -> None:
    data = encode_segment_header(header)
    assert len(data) == header.sector_bytes
    assert decode_segment_header(data) == header


@given(segment_headers, st.integers(0, 72 * 8 - 1))
def test_a_segment_header_with_a_flipped_bit_is_none(header: SegmentHeader, bit: int) -> None:
    data = bytearray(encode_segment_header(header))
    data[bit // 8] ^= 1 << bit % 8
    assert decode_segment_header(bytes(data)) is None


@given(
    kind=st.sampled_from(Kind),
    index=u64,
    payload=st.binary(max_size=2000),
    offset=st.integers(0, 2**31).map(lambda offset: offset & -8),
    synced=u32,
    chain=u32,
    salt=u64,
)
def test_record_round_trip(
    kind: Kind, index: int, payload: bytes, offset: int, synced: int, chain: int, salt: int
) -> None:
    data, behind = encode_record(kind, Record(index, payload), offset, synced, chain, salt)
    header = decode_record_header(data, 0, offset, salt)
    assert header is not None
    assert header[:3] == (kind, len(payload), index)
    assert header[4:] == (behind, offset, synced)
    assert behind == extend(chain, payload)
    assert len(data) == record_bytes(len(payload)) == header.end - offset
    assert len(data) % 8 == 0
    start = header.payload_start - offset
    assert data[start : start + len(payload)] == payload
    assert data[start + len(payload) :] == PADS[len(payload) % 8]


@given(st.integers(0, 48 * 8 - 1), st.binary(max_size=20))
def test_a_record_header_with_a_flipped_bit_is_none(bit: int, payload: bytes) -> None:
    data = bytearray(encode_record(Kind.ENTRY, Record(7, payload), 512, 512, 1, 99)[0])
    data[bit // 8] ^= 1 << bit % 8
    assert decode_record_header(bytes(data), 0, 512, 99) is None


def test_a_record_header_counts_only_where_and_for_which_segment_it_was_written() -> None:
    data = encode_record(Kind.ENTRY, Record(7, b"x"), 512, 512, 1, 99)[0]
    assert decode_record_header(data, 0, 512, 99) is not None
    assert decode_record_header(data, 0, 520, 99) is None
    assert decode_record_header(data, 0, 512, 98) is None


@given(
    offset=st.integers(64, 400).map(lambda n: n * 8),
    pieces=st.lists(st.sampled_from([bytes(100), bytes(512), bytes(700), b"x", b"y" * 300])),
)
def test_zero_sectors_are_those_that_the_file_has_inside_the_record(
    offset: int, pieces: list[bytes]
) -> None:
    data, _ = encode_record(Kind.ENTRY, Record(1, b"".join(pieces)), offset, 512, 0, 2**63 + 1)
    # Around the record anything but zeros: a sector counts only if the record fills all of it.
    file = b"\xff" * offset + data + b"\xff" * SECTOR_BYTES
    zero = sum(
        file[at : at + SECTOR_BYTES] == bytes(SECTOR_BYTES)
        for at in range(0, len(file), SECTOR_BYTES)
    )
    header = decode_record_header(data, 0, offset, 2**63 + 1)
    assert isinstance(header, RecordHeader)
    assert header.zero_sectors == zero


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_a_group_is_its_records_one_behind_the_other(payloads: list[bytes]) -> None:
    records = [Record(index, payload) for index, payload in enumerate(payloads, 5)]
    group = frame(Kind.ENTRY, records, 1024, 1000, 77, 88, 5)
    at, chain = 1024, 77
    for record in records:
        data, chain = encode_record(Kind.ENTRY, record, at, 1000, chain, 88)
        assert group.data[at - 1024 : at - 1024 + len(data)] == data
        at += len(data)
    assert (len(group.data), group.chain) == (at - 1024, chain)


@given(st.builds(State, u64, u64, u64, st.booleans(), st.builds(Position, u64, u64)), u64)
def test_state_round_trip(state: State, generation: int) -> None:
    data = encode_state(state, Identity(3, 4), generation)
    copy = decode_state(data)
    assert copy is not None
    assert (copy.state, copy.identity, copy.generation) == (state, Identity(3, 4), generation)
    assert len(data) == SECTOR_BYTES


@given(st.integers(0, SECTOR_BYTES * 8 - 1))
def test_a_state_with_a_flipped_bit_is_none(bit: int) -> None:
    data = bytearray(encode_state(State(1, 2, 3), Identity(3, 4), 5))
    data[bit // 8] ^= 1 << bit % 8
    assert decode_state(bytes(data)) is None


@given(u64, u64)
def test_segment_names_sort_as_their_sequence(sequence: int, first: int) -> None:
    name = segment_name(sequence, first)
    assert parse_segment_name(name) == (sequence, first)
    if sequence:
        assert segment_name(sequence - 1, 2**64 - 1) < name


@pytest.mark.parametrize("name", ["", "1-1.wal", "x" * 37, segment_name(1, 1) + ".broken-1"])
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_segment_name(name) is None


@given(st.integers(0, 200_000), st.integers(0, 200_000), st.integers(0, 200_000))
def test_zeros_are_found_across_pieces(size: int, one: int, start: int) -> None:
    data = bytearray(size)
    if one < size:
        data[one] = 1
    start = min(start, size)
    there = start <= one < size
    assert first_nonzero(bytes(data), start, size) == (one if there else size)
    assert is_zero(bytes(data), start, size) is not there
    assert last_nonzero(bytes(data), start) == (one + 1 if there else start)


def test_align() -> None:
    assert [align(offset, 512) for offset in (0, 1, 512, 513)] == [0, 512, 512, 1024]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sector_bytes": 256},
        {"sector_bytes": 768},
        {"segment_bytes": 1000},
        {"segment_bytes": 512},
        {"segment_bytes": 2**32},
        {"record_bytes_max": 0},
        {"group_bytes_max": 2**32},
        {"repair": "always"},
    ],
)
def test_options_without_meaning_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        Options(**wrong)  # type: ignore[arg-type]


def test_records_are_headers_that_are_decoded_when_asked_for() -> None:
    group = [Record(1, b"one"), Record(2, b"two" * 300)]
    data = bytes(512) + frame(Kind.ENTRY, group, 512, 512, 0, 2**63 + 1, 1).data
    second = 512 + record_bytes(3)
    found = Records(data, [512, second])
    decoded = [decode_record_header(data, at, at, 2**63 + 1) for at in (512, second)]
    assert list(found) == decoded
    assert found[-1] == decoded[1]
    assert found[:1] == Records(data, [512]) != found
    assert found != decoded
    with pytest.raises(IndexError):
        found[2]
