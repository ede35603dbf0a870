"""From a value to a payload of DUMP that Redis 7.0 restores.

Small collections are written in the plain forms, one string per element, which Redis turns into
listpacks and intsets by itself. A string is an integer where Redis makes it one; it is not
compressed, which RESTORE does not ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import pack
from typing import Final

from kvnode.store.rdb.crc64 import crc64
from kvnode.store.rdb.reader import VERSION
from kvnode.store.rdb.streams import NODE_ENTRIES_MAX, write_entries
from kvnode.store.rdb.values import (
    Group,
    HashValue,
    ListValue,
    SetValue,
    SortedSetValue,
    StreamId,
    StreamValue,
    Value,
)

_STRING, _LIST, _SET, _HASH, _SORTED_SET, _STREAM = 0, 1, 2, 4, 5, 19

_INTEGER_BYTES_MAX: Final = 11
_is_integer = re.compile(rb"-?[1-9][0-9]{0,9}|0").fullmatch


def write_value(value: Value) -> bytes:
    """The payload of a value."""
    body = b"".join(_parts(value)) + pack("<H", VERSION)
    return body + pack("<Q", crc64(body))


def _parts(value: Value) -> Iterator[bytes]:
    """The type of a value and its parts. A collection of n elements begins with n."""
    if isinstance(value, bytes):
        yield bytes([_STRING])
        yield write_string(value)
    elif isinstance(value, ListValue):
        yield bytes([_LIST]) + write_length(len(value.elements))
        yield from map(write_string, value.elements)
    elif isinstance(value, SetValue):
        yield bytes([_SET]) + write_length(len(value.members))
        yield from map(write_string, value.members)
    elif isinstance(value, HashValue):
        yield bytes([_HASH]) + write_length(len(value.pairs))
        yield from (write_string(text) for pair in value.pairs for text in pair)
    elif isinstance(value, SortedSetValue):
        yield bytes([_SORTED_SET]) + write_length(len(value.pairs))
        yield from (write_string(member) + pack("<d", score) for member, score in value.pairs)
    else:
        yield bytes([_STREAM])
        yield from _stream_parts(value)


def write_length(number: int) -> bytes:
    """A number below 2⁶⁴ in one, two, five or nine bytes."""
    if number < 1 << 6:
        return bytes([number])
    if number < 1 << 14:
        return bytes([0x40 | number >> 8, number & 0xFF])
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def write_string(text: bytes) -> bytes:
    """A string, as an integer of up to 32 bits if it is the text of one."""
    if len(text) <= _INTEGER_BYTES_MAX and _is_integer(text):
        number = int(text)
        for code, width in enumerate((1, 2, 4)):
            if -1 << width * 8 - 1 <= number < 1 << width * 8 - 1:
                return bytes([0xC0 | code]) + number.to_bytes(width, "little", signed=True)
    return write_length(len(text)) + text


def _stream_parts(stream: StreamValue) -> Iterator[bytes]:
    entries = stream.entries
    starts = range(0, len(entries), NODE_ENTRIES_MAX)
    yield write_length(len(starts))
    for start in starts:
        base, listpack = write_entries(entries[start : start + NODE_ENTRIES_MAX])
        yield write_string(base) + write_string(listpack)
    first_id = entries[0][0] if entries else (0, 0)
    yield write_length(len(entries))
    for stream_id in (stream.last_id, first_id, stream.max_deleted_id):
        yield _id(stream_id)
    yield write_length(stream.entries_added) + write_length(len(stream.groups))
    for group in stream.groups:
        yield from _group_parts(group)


def _group_parts(group: Group) -> Iterator[bytes]:
    yield write_string(group.name) + _id(group.last_id)
    yield write_length(group.entries_read % 2**64) + write_length(len(group.pending))
    for entry in group.pending:
        yield _raw_id(entry.id) + pack("<q", entry.delivered_ms) + write_length(entry.deliveries)
    yield write_length(len(group.consumers))
    for consumer in group.consumers:
        yield write_string(consumer.name) + pack("<q", consumer.seen_ms)
        yield write_length(len(consumer.pending)) + b"".join(map(_raw_id, consumer.pending))


def _id(stream_id: StreamId) -> bytes:
    return write_length(stream_id[0]) + write_length(stream_id[1])


def _raw_id(stream_id: StreamId) -> bytes:
    return stream_id[0].to_bytes(8, "big") + stream_id[1].to_bytes(8, "big")
