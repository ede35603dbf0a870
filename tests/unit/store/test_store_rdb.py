"""Payloads of DUMP, without a store: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import random
from struct import pack

import pytest

from kvnode.store.rdb.crc64 import crc64
from kvnode.store.rdb.listpack import (
    Entry,
    read_intset,
    read_listpack,
    read_ziplist,
    write_listpack,
)
from kvnode.store.rdb.lzf import decompress
from kvnode.store.rdb.reader import check_footer, read_value
from kvnode.store.rdb.streams import read_entries
from kvnode.store.rdb.values import BadPayload, HashValue, ListValue, SortedSetValue, Value
from kvnode.store.rdb.writer import write_length, write_string, write_value
from tests.support import payloads

STRING_BYTES, TOTAL_BYTES, ELEMENTS = 100_000, 200_000, 10_000


def read(payload: bytes) -> Value:
    return read_value(
        payload, string_bytes=STRING_BYTES, total_bytes=TOTAL_BYTES, elements=ELEMENTS
    )


def test_what_is_written_is_read() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(400):
        value = payloads.value(rng, streams=True)
        payload = write_value(value)
        assert check_footer(payload)
        assert read(payload) == value


def test_the_checksum_is_that_of_redis() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


@pytest.mark.parametrize("version", [0, 9, 10])
def test_a_payload_of_this_version_or_an_older_one_is_taken(version: int) -> None:
    assert check_footer(payloads.sealed(b"\x00\x01a", version))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 9,
        payloads.sealed(b"\x00\x01a", 11),
        payloads.sealed(b"\x00\x01a")[:-1] + b"\x00",
        b"\x01" + payloads.sealed(b"\x00\x01a")[1:],
    ],
)
def test_another_version_or_checksum_is_refused(payload: bytes) -> None:
    assert not check_footer(payload)


def test_forms_that_are_only_read() -> None:
    texts = [b"%d" % entry if isinstance(entry, int) else entry for entry in payloads.ENTRIES]
    forms = {name: read(payloads.sealed(body)) for name, body in payloads.OTHER_FORMS.items()}
    assert forms["list of ziplists"] == ListValue(texts * 2)
    assert forms["ziplist"] == ListValue(texts)
    assert forms["quicklist"] == ListValue([b"p", *texts])
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    assert forms["hash as ziplist"] == forms["hash as listpack"] == HashValue(pairs)
    assert forms["sorted set as ziplist"] == SortedSetValue([(b"a", 1.0), (b"b", 2.5)])
    assert forms["compressed string"] == b"abc" * 8


@pytest.mark.parametrize(
    "body",
    [
        b"\x06\x01a",
        b"\x00",
        b"\x00\x02a",
        b"\x00\xc4a",
        b"\x00\x82aaaa",
        b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\xc3\x04\x81\x00\x00\x00\xff\xff\xff\xff\xff\x02abc",
        b"\x01\x00",
        b"\x01\x80\xff\xff\xff\xff",
        b"\x02\x02\x01a\x01a",
        b"\x04\x02\x01a\x01b\x01a\x01c",
        b"\x04\x01\x01a",
        b"\x05\x01\x01a" + pack("<d", float("nan")),
        b"\x03\x01\x01a\xfd",
        b"\x03\x01\x01a\x03abc",
        b"\x0b" + write_string(pack("<IIhh", 2, 2, 7, 7)),
        b"\x0b" + write_string(pack("<IIhh", 2, 3, 7, 8)),
        b"\x0b" + write_string(pack("<II", 3, 0)),
        b"\x0b" + write_string(pack("<II", 2, 0)),
        b"\x10" + write_string(write_listpack([b"a"])),
        b"\x10" + write_string(write_listpack([])),
        b"\x10" + write_string(write_listpack([b"a", 1, b"a", 2])),
        b"\x11" + write_string(write_listpack([b"a", b"nan"])),
        b"\x12\x01\x03\x01a",
        b"\x13\x01\x01a\x01b",
        b"\x01" + write_length(ELEMENTS + 1) + b"\x01a" * (ELEMENTS + 1),
        b"\x00" + write_string(b"a" * (STRING_BYTES + 1)),
    ],
)
def test_what_is_no_value_is_refused(body: bytes) -> None:
    with pytest.raises(BadPayload):
        read(payloads.sealed(body))


NODE = b"\x00" * 16


@pytest.mark.parametrize(
    "items",
    [
        [],
        [1, 0, 1],
        [1, 0, 1, b"f", 1],
        [2**62, 0, 1, b"f", 0],
        [1, 0, 2**62, b"f", 0],
        [-1, 0, 1, b"f", 0],
        [0, 0, -1, 0],
        [1, 0, 1, b"f", 0, 2, 1, 1, b"v"],
        [1, 0, 1, b"f", 0, 2, 1, 1, b"v", 5],
        [1, 0, 1, b"f", 0, 0, 1, 1, -1, 4],
        [1, 0, 1, b"f", 0, 0, 1, 1, 2**62, b"f", b"v", 6],
        [1, 0, 1, b"f", 0, 3, 1, 1, b"v", 4],
        [0, 1, 1, b"f", 0, 2, 1, 1, b"v", 4],
        [1, 0, 1, b"f", 0, 2, 1, 1, b"v", 4, 0],
        [1, 0, 1, b"f", 0, b"x", 1, 1, b"v", 4],
    ],
)
def test_a_node_of_a_stream_that_contradicts_itself_is_refused(items: list[Entry]) -> None:
    with pytest.raises(BadPayload):
        read_entries((0, 0), items)


def test_a_node_of_a_stream_has_entries_with_and_without_its_fields() -> None:
    items: list[Entry] = [2, 1, 1, b"f", 0, 2, 1, -1, b"v", 4, 3, 2, 0, b"gone", 4]
    items += [0, 3, 5, 2, b"g", 1, 7, b"h", 8]
    assert read_entries((10, 1), items) == [
        ((11, 0), [b"f", b"v"]),
        ((13, 6), [b"g", b"1", b"7", b"h"]),
    ]


def test_compressed_strings_are_bounded_together() -> None:
    part = b"\x00a" + (b"\xe0\xff\x00" * 379)[: 3 * 378]
    size = 1 + 264 * 378
    bomb = b"\xc3" + write_length(len(part)) + write_length(size) + part
    assert decompress(part, size) == b"a" * size
    assert read(payloads.sealed(b"\x01\x02" + bomb * 2)) == ListValue([b"a" * size] * 2)
    with pytest.raises(BadPayload, match="too long"):
        read(payloads.sealed(b"\x01\x03" + bomb * 3))


@pytest.mark.parametrize("data", [b"\x05ab", b"\x00a\x20", b"\x00a\x20\x05", b"\x00a\xe0\x01"])
def test_compressed_bytes_that_point_outside_are_refused(data: bytes) -> None:
    with pytest.raises(BadPayload):
        decompress(data, 100)


def test_every_integer_survives_a_listpack() -> None:
    edges = [1 << shift for shift in range(63)]
    numbers = [sign * edge + step for edge in edges for sign in (1, -1) for step in (-1, 0, 1)]
    entries = [*numbers, b"x" * 63, b"y" * 64, b"z" * 4095, b"w" * 4096]
    assert read_listpack(write_listpack([*entries]), len(entries)) == entries


@pytest.mark.parametrize("read_form", [read_listpack, read_ziplist, read_intset])
def test_no_damage_to_a_small_form_is_more_than_refused(read_form: object) -> None:
    assert callable(read_form)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    forms = (
        write_listpack(payloads.ENTRIES),
        payloads.ziplist(payloads.ENTRIES),
        pack("<IIhh", 2, 2, -7, 300),
    )
    for _ in range(3000):
        damaged = bytearray(rng.choice(forms))
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 255, 254, rng.randrange(256)))
        try:
            cut = rng.choice((len(damaged), rng.randrange(len(damaged) + 1)))
            read_form(bytes(damaged[:cut]), 1000)
        except BadPayload:
            continue
