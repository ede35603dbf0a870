"""Payloads of DUMP for tests: values of every kind, in every form that Redis 7.0 reads."""

from __future__ import annotations

import random
from struct import pack

from kvnode.store.rdb.crc64 import crc64
from kvnode.store.rdb.listpack import Entry, write_listpack
from kvnode.store.rdb.reader import VERSION
from kvnode.store.rdb.values import (
    Consumer,
    Group,
    HashValue,
    ListValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamValue,
    Value,
)
from kvnode.store.rdb.writer import write_string

NUMBERS = (0, 1, -1, 127, 128, -4096, 4095, 4096, 2**15, -(2**15), 2**23 - 1, 2**31, 2**63 - 1)


def sealed(body: bytes, version: int = VERSION) -> bytes:
    """Type and object with a footer."""
    body += pack("<H", version)
    return body + pack("<Q", crc64(body))


def text(rng: random.Random) -> bytes:
    """A string; often the text of an integer, sometimes a long one."""
    dice = rng.random()
    if dice < 0.3:
        return b"%d" % rng.choice(NUMBERS)
    if dice < 0.9:
        return b"member%d" % rng.randrange(1000)
    return rng.choice((b"", b"\x00\xff\r\n", b"x" * 63, b"y" * 64, b"z" * 500, b"w" * 5000))


def value(rng: random.Random, streams: bool = False) -> Value:
    """A value of any kind."""
    texts = list(dict.fromkeys(text(rng) for _ in range(rng.randint(1, 20))))
    scores = [rng.choice((0.0, 1.5, -2e300, float("inf"), 1e-5, 3.0)) for _ in texts]
    made: list[Value] = [
        text(rng),
        ListValue([text(rng) for _ in range(rng.randint(1, 20))]),
        SetValue(texts),
        HashValue([(member, text(rng)) for member in texts]),
        SortedSetValue(list(zip(texts, scores, strict=True))),
    ]
    return rng.choice([*made, stream(rng)] if streams else made)


def stream(rng: random.Random) -> StreamValue:
    """A stream with groups."""
    ids = sorted({(rng.randrange(5), rng.randrange(2**64)) for _ in range(rng.randrange(150))})
    entries = [(one, [b"f", text(rng)] * rng.choice((1, 1, 2))) for one in ids]
    last = max([*ids, (7, 1)])
    groups = []
    for name in (b"g1", b"g2")[: rng.randrange(3)]:
        owned = rng.sample(ids, min(3, len(ids)))
        pending = [Pending(one, rng.randrange(10**12), rng.randrange(5)) for one in sorted(owned)]
        consumers = [Consumer(b"c1", 5, sorted(owned)[:1]), Consumer(b"c2", 9, sorted(owned)[1:])]
        groups.append(Group(name, last, rng.randrange(-1, 9), pending, consumers))
    return StreamValue(entries, last, (0, 0), len(ids) + rng.randrange(3), groups)


def ziplist(entries: list[Entry]) -> bytes:
    """A ziplist of small entries."""
    body, before, last = b"", 0, 10
    for entry in entries:
        last = 10 + len(body)
        encoded = _ziplist_entry(entry)
        head = bytes([before]) if before < 254 else b"\xfe" + pack("<I", before)
        before = len(head) + len(encoded)
        body += head + encoded
    return pack("<IIH", 10 + len(body) + 1, last, len(entries)) + body + b"\xff"


def _ziplist_entry(entry: Entry) -> bytes:
    if isinstance(entry, bytes):
        if len(entry) < 64:
            return bytes([len(entry)]) + entry
        return bytes([0x40 | len(entry) >> 8, len(entry) & 0xFF]) + entry
    if 0 <= entry <= 12:
        return bytes([0xF1 + entry])
    for code, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -1 << width * 8 - 1 <= entry < 1 << width * 8 - 1:
            return bytes([code]) + entry.to_bytes(width, "little", signed=True)
    raise ValueError(entry)


ENTRIES: list[Entry] = [b"a", 5, b"b" * 70, -300, b"c", 70_000, b"d" * 300, 2**40, b"e", 1]
"""An even number of entries, those at even places different strings."""

OTHER_FORMS: dict[str, bytes] = {
    "list of ziplists": b"\x0e\x02" + write_string(ziplist(ENTRIES)) * 2,
    "ziplist": b"\x0a" + write_string(ziplist(ENTRIES)),
    "quicklist": b"\x12\x02\x01" + write_string(b"p") + b"\x02"
    + write_string(write_listpack(ENTRIES)),
    "hash as ziplist": b"\x0d" + write_string(ziplist(ENTRIES)),
    "hash as listpack": b"\x10" + write_string(write_listpack(ENTRIES)),
    "sorted set as ziplist": b"\x0c" + write_string(ziplist([b"a", 1, b"b", b"2.5"])),
    "sorted set as listpack": b"\x11" + write_string(write_listpack([b"b", -7, b"a", b"1e3"])),
    "sorted set with scores as text": b"\x03\x03" + write_string(b"a") + b"\x031.5"
    + write_string(b"b") + b"\xfe" + write_string(b"c") + b"\xff",
    "intset of 16 bits": b"\x0b" + write_string(pack("<IIhh", 2, 2, -7, 300)),
    "intset of 64 bits": b"\x0b" + write_string(pack("<IIqqq", 8, 3, -(2**40), 0, 2**50)),
    "string as integer": b"\x00\xc1\x39\x30",
    "string in 32 bits of length": b"\x00\x80\x00\x00\x00\x02ab",
    "compressed string": b"\x00\xc3\x07\x18\x02abc\xe0\x0c\x02",
}  # fmt: skip
"""Bodies of forms that the writer does not make."""
