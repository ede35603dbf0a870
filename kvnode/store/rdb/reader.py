"""From a payload of DUMP to a value: every encoding that Redis 7.0 writes, and those it replaced.

A payload is one byte for the type, the object, the version of the format in two bytes and a CRC-64
of all before it in eight, little-endian. Who makes a payload can make a right checksum too, so
everything is checked as if it were hostile: no length is trusted before its bytes are there, what
is compressed is bounded before it is made, and what a collection may not hold twice is looked for.
Bytes behind the object are ignored, as Redis does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from struct import error, unpack_from
from typing import Final, TypeAlias

from kvnode.store.rdb.crc64 import crc64
from kvnode.store.rdb.listpack import (
    Entry,
    read_intset,
    read_listpack,
    read_ziplist,
)
from kvnode.store.rdb.lzf import decompress
from kvnode.store.rdb.streams import read_entries
from kvnode.store.rdb.values import (
    BadPayload,
    Consumer,
    Group,
    HashValue,
    ListValue,
    Pending,
    SetValue,
    SortedSetValue,
    StreamId,
    StreamValue,
    TooLarge,
    Value,
)

VERSION: Final = 10
"""That of Redis 7.0."""

FOOTER_BYTES: Final = 2 + 8

SmallForm: TypeAlias = "Callable[[bytes, int], list[Entry]] | Callable[[bytes, int], list[int]]"
"""Reads a listpack, ziplist or intset of so many entries at most."""

_ENTRIES_PER_ELEMENT_MAX: Final = 8
"""An entry of a stream with two fields takes seven of a listpack, a field of a hash two."""

_PLAIN, _PACKED = 1, 2
_NAN, _INFINITY, _MINUS_INFINITY = 253, 254, 255

_is_number = re.compile(rb"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf)").fullmatch


def check_footer(payload: bytes) -> bool:
    """Whether the version is one that can be read and the checksum is right."""
    if len(payload) < FOOTER_BYTES:
        return False
    version, checksum = unpack_from("<HQ", payload, len(payload) - FOOTER_BYTES)
    return bool(version <= VERSION and checksum == crc64(payload[:-8]))


def read_value(payload: bytes, *, string_bytes: int, total_bytes: int, elements: int) -> Value:
    """The value of a payload whose footer is right.

    Args:
        payload: all of it.
        string_bytes: the longest string that is accepted.
        total_bytes: the most that compressed strings may become together.
        elements: the most elements that are accepted in one value.

    Raises:
        TooLarge: it goes beyond one of these.
        BadPayload: it is no value.
    """
    reader = _Reader(payload[1:-FOOTER_BYTES], string_bytes, total_bytes, elements)
    read = _TYPES.get(payload[0])
    if read is None:
        raise BadPayload(f"type {payload[0]} is not known")
    try:
        return read(reader)
    except error:
        raise BadPayload("the payload is cut short") from None


class _Reader:
    """The bytes of an object, and how much of them was read."""

    __slots__ = ("_at", "_data", "_elements", "_expanded_bytes", "_string_bytes")

    def __init__(self, data: bytes, string_bytes: int, total_bytes: int, elements: int) -> None:
        self._data = data
        self._at = 0
        self._string_bytes = string_bytes
        self._expanded_bytes = total_bytes
        self._elements = elements

    def take(self, size: int) -> bytes:
        """The next bytes."""
        start, end = self._at, self._at + size
        if end > len(self._data):
            raise BadPayload("the payload is cut short")
        self._at = end
        return self._data[start:end]

    def length(self) -> int:
        """A number of Redis' variable size."""
        kind, number = self._length()
        if kind:
            raise BadPayload("an encoded string stands where a length belongs")
        return number

    def count(self) -> int:
        """How many parts follow, of which each takes a byte at least; there must be one."""
        number = self.length()
        if not 0 < number <= len(self._data) - self._at:
            raise BadPayload("a number of parts is 0, or larger than the payload")
        if number > self._elements:
            raise TooLarge("the value has too many elements")
        return number

    def _length(self) -> tuple[bool, int]:
        byte = self.take(1)[0]
        top = byte >> 6
        if top == 0:
            return False, byte
        if top == 1:
            return False, (byte & 0x3F) << 8 | self.take(1)[0]
        if top == 3:
            return True, byte & 0x3F
        size = {0x80: 4, 0x81: 8}.get(byte)
        if size is None:
            raise BadPayload("a length has no known encoding")
        return False, int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """A string, which may be written as an integer or compressed."""
        is_encoded, number = self._length()
        if not is_encoded:
            return self._checked(self.take(number))
        if number <= 2:
            value = int.from_bytes(self.take(1 << number), "little", signed=True)
            return b"%d" % value
        if number != 3:
            raise BadPayload("a string has no known encoding")
        compressed, size = self.length(), self.length()
        self._expanded_bytes -= size
        if size > self._string_bytes or self._expanded_bytes < 0:
            raise TooLarge("compressed strings are too long")
        return decompress(self.take(compressed), size)

    def _checked(self, text: bytes) -> bytes:
        if len(text) > self._string_bytes:
            raise TooLarge("a string is too long")
        return text

    def element(self) -> bytes:
        """A string that counts as an element."""
        self.spend(1)
        return self.string()

    def spend(self, elements: int) -> None:
        """Note that so many elements were read."""
        self._elements -= elements
        if self._elements < 0:
            raise TooLarge("the value has too many elements")

    def entries(self, read: SmallForm) -> list[Entry]:
        """What is in a string that is a listpack or the like; entries are not elements yet."""
        return list(read(self.string(), self._elements * _ENTRIES_PER_ELEMENT_MAX))

    def texts(self, read: SmallForm) -> list[bytes]:
        """The same as strings."""
        return [b"%d" % entry if isinstance(entry, int) else entry for entry in self.entries(read)]

    def elements(self, read: SmallForm) -> list[bytes]:
        """The same as strings that count as elements."""
        texts = self.texts(read)
        self.spend(len(texts))
        return texts

    def number(self, form: str) -> float:
        """A number of eight bytes."""
        value: float = unpack_from(form, self.take(8))[0]
        return value

    def milliseconds(self) -> int:
        """A time."""
        return max(int.from_bytes(self.take(8), "little", signed=True), 0)

    def raw_id(self) -> StreamId:
        """The id of a stream's entry in sixteen bytes."""
        raw = self.take(16)
        return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")

    def id(self) -> StreamId:
        """The id of a stream's entry as two lengths."""
        return self.length(), self.length()


# --- strings, lists, sets, hashes -----------------------------------------------------------------


def _list(reader: _Reader) -> Value:
    return ListValue([reader.element() for _ in range(reader.count())])


def _list_of_ziplists(reader: _Reader) -> Value:
    elements: list[bytes] = []
    for _ in range(reader.count()):
        elements += reader.elements(read_ziplist)
    return ListValue(_not_empty(elements))


def _quicklist(reader: _Reader) -> Value:
    elements: list[bytes] = []
    for _ in range(reader.count()):
        container = reader.length()
        if container == _PLAIN:
            elements.append(reader.element())
        elif container == _PACKED:
            elements += reader.elements(read_listpack)
        else:
            raise BadPayload("a node of a list has no known form")
    return ListValue(_not_empty(elements))


def _ziplist(reader: _Reader) -> Value:
    return ListValue(_not_empty(reader.elements(read_ziplist)))


def _set(reader: _Reader) -> Value:
    return SetValue(_once([reader.element() for _ in range(reader.count())]))


def _intset(reader: _Reader) -> Value:
    return SetValue(_not_empty(reader.elements(read_intset)))


def _hash(reader: _Reader) -> Value:
    pairs = [(reader.element(), reader.string()) for _ in range(reader.count())]
    _once([field for field, _ in pairs])
    return HashValue(pairs)


def _small_hash(read: SmallForm) -> Callable[[_Reader], Value]:
    def read_hash(reader: _Reader) -> Value:
        return HashValue(_pairs(reader, read))

    return read_hash


def _not_empty(elements: list[bytes]) -> list[bytes]:
    if not elements:
        raise BadPayload("a collection is empty")
    return elements


def _once(elements: list[bytes]) -> list[bytes]:
    if len(set(elements)) != len(elements):
        raise BadPayload("a collection holds something twice")
    return elements


def _pairs(reader: _Reader, read: SmallForm) -> list[tuple[bytes, bytes]]:
    texts = reader.texts(read)
    reader.spend(len(texts) // 2)
    if len(_not_empty(texts)) % 2:
        raise BadPayload("the last pair is cut short")
    _once(texts[::2])
    return list(zip(texts[::2], texts[1::2], strict=True))


# --- sorted sets ----------------------------------------------------------------------------------


def _sorted_set(reader: _Reader) -> Value:
    return _scored([(reader.element(), reader.number("<d")) for _ in range(reader.count())])


def _old_sorted_set(reader: _Reader) -> Value:
    return _scored([(reader.element(), _old_score(reader)) for _ in range(reader.count())])


def _small_sorted_set(read: SmallForm) -> Callable[[_Reader], Value]:
    def read_sorted_set(reader: _Reader) -> Value:
        pairs = _pairs(reader, read)
        return _scored([(member, _score(text)) for member, text in pairs])

    return read_sorted_set


def _scored(pairs: list[tuple[bytes, float]]) -> Value:
    _once([member for member, _ in pairs])
    if any(math.isnan(score) for _, score in pairs):
        raise BadPayload("a score is not a number")
    return SortedSetValue(pairs)


def _old_score(reader: _Reader) -> float:
    """A score as text behind its length, of which three values mean something else."""
    size = reader.take(1)[0]
    if size >= _NAN:
        return {_NAN: math.nan, _INFINITY: math.inf, _MINUS_INFINITY: -math.inf}[size]
    return _score(reader.take(size))


def _score(text: bytes) -> float:
    if not _is_number(text):
        raise BadPayload("a score is not a number")
    return float(text)


# --- streams --------------------------------------------------------------------------------------


def _stream(reader: _Reader, *, is_new: bool) -> Value:
    entries: list[tuple[StreamId, list[bytes]]] = []
    for _ in range(reader.length()):
        base = reader.string()
        if len(base) != 16:
            raise BadPayload("a node of a stream has no id")
        first = int.from_bytes(base[:8], "big"), int.from_bytes(base[8:], "big")
        found = read_entries(first, reader.entries(read_listpack))
        reader.spend(len(found))
        entries += found
    count, last_id = reader.length(), reader.id()
    first_id, max_deleted_id, added = (0, 0), (0, 0), count
    if is_new:
        first_id, max_deleted_id, added = reader.id(), reader.id(), reader.length()
    ids = [entry_id for entry_id, _ in entries]
    if count != len(ids) or any(one >= other for one, other in pairwise(ids)):
        raise BadPayload("the entries of a stream are not in order, or not as many as it says")
    if ids and (last_id < ids[-1] or (is_new and first_id != ids[0])):
        raise BadPayload("a stream has other first or last entries than it says")
    groups = [_group(reader, is_new=is_new) for _ in range(reader.length())]
    _once([group.name for group in groups])
    return StreamValue(entries, last_id, max_deleted_id, added, groups)


def _group(reader: _Reader, *, is_new: bool) -> Group:
    reader.spend(1)
    name, last_id = reader.string(), reader.id()
    entries_read = -1
    if is_new:
        entries_read = reader.length()
        entries_read -= 2**64 if entries_read >= 2**63 else 0
    pending = [_pending(reader) for _ in range(reader.length())]
    consumers = [_consumer(reader) for _ in range(reader.length())]
    _once([consumer.name for consumer in consumers])
    owned = sorted(owned_id for consumer in consumers for owned_id in consumer.pending)
    if owned != sorted(entry.id for entry in pending) or len(set(owned)) != len(owned):
        raise BadPayload("not every pending entry belongs to one consumer")
    return Group(name, last_id, entries_read, pending, consumers)


def _pending(reader: _Reader) -> Pending:
    reader.spend(1)
    return Pending(reader.raw_id(), reader.milliseconds(), reader.length())


def _consumer(reader: _Reader) -> Consumer:
    reader.spend(1)
    name, seen_ms = reader.string(), reader.milliseconds()
    return Consumer(name, seen_ms, [reader.raw_id() for _ in range(reader.length())])


_TYPES: Final[dict[int, Callable[[_Reader], Value]]] = {
    0: _Reader.string,
    1: _list,
    2: _set,
    3: _old_sorted_set,
    4: _hash,
    5: _sorted_set,
    10: _ziplist,
    11: _intset,
    12: _small_sorted_set(read_ziplist),
    13: _small_hash(read_ziplist),
    14: _list_of_ziplists,
    15: lambda reader: _stream(reader, is_new=False),
    16: _small_hash(read_listpack),
    17: _small_sorted_set(read_listpack),
    18: _quicklist,
    19: lambda reader: _stream(reader, is_new=True),
}
"""By the first byte of a payload. Missing: modules, and hashes as zipmaps (before Redis 2.6)."""
