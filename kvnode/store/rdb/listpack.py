"""Listpacks, ziplists and intsets: the strings in which Redis keeps small collections.

A listpack is `bytes:u32 count:u16 entries … ff` in little-endian numbers; an entry is an integer or
a string in one of ten encodings, followed by its own length, which is there to be read backwards.
A ziplist is its predecessor: each entry begins with the length of the one before it. Reading checks
every length against the bytes that are there, whoever made them.
"""

from __future__ import annotations

from itertools import pairwise
from struct import Struct, error, unpack_from
from typing import Final, TypeAlias

from kvnode.store.rdb.values import BadPayload, TooLarge

Entry: TypeAlias = "bytes | int"

HEADER_BYTES: Final = 4 + 2
_END: Final = 0xFF
_UNKNOWN_COUNT: Final = 0xFFFF

_HEADER = Struct("<IH")
_ZIPLIST_HEADER = Struct("<IIH")
_INTSET_HEADER = Struct("<II")

_BACK_LENGTHS: Final = ((127, 1), (16382, 2), (2097150, 3), (268435454, 4))
"""Up to which length of an entry, how many bytes tell it from behind."""

_INTEGER_BYTES: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_INTEGER_CODES: Final = ((13, 2), (16, 0xF1), (24, 0xF2), (32, 0xF3), (64, 0xF4))


def read_listpack(data: bytes, entries_max: int) -> list[Entry]:
    """All entries of a listpack.

    Raises:
        BadPayload: a length does not agree with the bytes that are there.
        TooLarge: there are more than `entries_max` entries.
    """
    try:
        size, count = _HEADER.unpack_from(data)
        entries, at = _read_entries(data, entries_max)
    except (IndexError, error):
        raise BadPayload("a listpack is cut short") from None
    if at != len(data) - 1 or size != len(data):
        raise BadPayload("a listpack does not end where it says")
    if count not in (_UNKNOWN_COUNT, len(entries)):
        raise BadPayload("a listpack has another number of entries")
    return entries


def _read_entries(data: bytes, entries_max: int) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    at = HEADER_BYTES
    while data[at] != _END:
        if len(entries) == entries_max:
            raise TooLarge("a listpack has too many entries")
        entry, end = _read_entry(data, at)
        back = _back_length(end - at)
        if data[end : end + len(back)] != back:
            raise BadPayload("an entry of a listpack has another length from behind")
        entries.append(entry)
        at = end + len(back)
    return entries, at


def _read_entry(data: bytes, at: int) -> tuple[Entry, int]:
    """An entry and where its encoding ends."""
    code = data[at]
    if code < 0x80:
        return code, at + 1
    if code < 0xC0:
        return _string(data, at + 1, code & 0x3F)
    if code < 0xE0:
        number = (code & 0x1F) << 8 | data[at + 1]
        return number - 0x2000 if number & 0x1000 else number, at + 2
    if code < 0xF0:
        return _string(data, at + 2, (code & 0x0F) << 8 | data[at + 1])
    if code == 0xF0:
        return _string(data, at + 5, unpack_from("<I", data, at + 1)[0])
    size = _INTEGER_BYTES.get(code)
    if size is None:
        raise BadPayload("an entry of a listpack has no known encoding")
    return _integer(data, at + 1, size)


def _string(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size >= len(data):
        raise BadPayload("a string is cut short")
    return data[at : at + size], at + size


def _integer(data: bytes, at: int, size: int) -> tuple[int, int]:
    if at + size >= len(data):
        raise BadPayload("an integer is cut short")
    return int.from_bytes(data[at : at + size], "little", signed=True), at + size


def _back_length(size: int) -> bytes:
    """The length of an entry in sevens of bits, as it is written behind it."""
    width = next((width for limit, width in _BACK_LENGTHS if size <= limit), 5)
    groups = [size >> 7 * place & 0x7F for place in reversed(range(width))]
    return bytes([groups[0], *(group | 0x80 for group in groups[1:])])


def write_listpack(entries: list[Entry]) -> bytes:
    """A listpack of these entries; integers must fit 64 bits."""
    parts = []
    for entry in entries:
        encoded = _encode_integer(entry) if isinstance(entry, int) else _encode_string(entry)
        parts += [encoded, _back_length(len(encoded))]
    body = b"".join(parts)
    count = min(len(entries), _UNKNOWN_COUNT)
    return _HEADER.pack(HEADER_BYTES + len(body) + 1, count) + body + bytes([_END])


def _encode_integer(number: int) -> bytes:
    if 0 <= number < 128:
        return bytes([number])
    fitting = (
        (width, code)
        for width, code in _INTEGER_CODES
        if -1 << width - 1 <= number < 1 << width - 1
    )
    width, code = next(fitting)
    if width == 13:
        number &= 0x1FFF
        return bytes([0xC0 | number >> 8, number & 0xFF])
    return bytes([code]) + number.to_bytes(width // 8, "little", signed=True)


def _encode_string(text: bytes) -> bytes:
    size = len(text)
    if size < 64:
        return bytes([0x80 | size]) + text
    if size < 4096:
        return bytes([0xE0 | size >> 8, size & 0xFF]) + text
    return b"\xf0" + size.to_bytes(4, "little") + text


# --- what Redis 7.0 reads, but writes no more -----------------------------------------------------


def read_ziplist(data: bytes, entries_max: int) -> list[Entry]:
    """All entries of a ziplist. Raises `BadPayload` and `TooLarge`."""
    try:
        size, tail, count = _ZIPLIST_HEADER.unpack_from(data)
        entries: list[Entry] = []
        at, before, last = _ZIPLIST_HEADER.size, 0, _ZIPLIST_HEADER.size
        while data[at] != _END:
            if len(entries) == entries_max:
                raise TooLarge("a ziplist has too many entries")
            last, start = at, at
            before_size, at = _previous_size(data, at)
            if before_size != before:
                raise BadPayload("an entry of a ziplist has another length from behind")
            entry, at = _read_ziplist_entry(data, at)
            entries.append(entry)
            before = at - start
    except (IndexError, error):
        raise BadPayload("a ziplist is cut short") from None
    if at != len(data) - 1 or size != len(data) or tail != last:
        raise BadPayload("a ziplist does not end where it says")
    if count not in (_UNKNOWN_COUNT, len(entries)):
        raise BadPayload("a ziplist has another number of entries")
    return entries


def _previous_size(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 0xFE:
        return data[at], at + 1
    return unpack_from("<I", data, at + 1)[0], at + 5


def _read_ziplist_entry(data: bytes, at: int) -> tuple[Entry, int]:
    code = data[at]
    if code < 0x40:
        return _string(data, at + 1, code)
    if code < 0x80:
        return _string(data, at + 2, (code & 0x3F) << 8 | data[at + 1])
    if code == 0x80:
        return _string(data, at + 5, unpack_from(">I", data, at + 1)[0])
    if 0xF1 <= code <= 0xFD:
        return (code & 0x0F) - 1, at + 1
    size = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(code)
    if size is None:
        raise BadPayload("an entry of a ziplist has no known encoding")
    return _integer(data, at + 1, size)


def read_intset(data: bytes, entries_max: int) -> list[int]:
    """The integers of an intset, ascending. Raises `BadPayload` and `TooLarge`."""
    try:
        width, count = _INTSET_HEADER.unpack_from(data)
    except error:
        raise BadPayload("an intset is cut short") from None
    code = {2: "h", 4: "i", 8: "q"}.get(width)
    if code is None or len(data) != _INTSET_HEADER.size + width * count:
        raise BadPayload("an intset does not end where it says")
    if count > entries_max:
        raise TooLarge("an intset has too many integers")
    numbers = list(unpack_from(f"<{count}{code}", data, _INTSET_HEADER.size))
    if any(one >= other for one, other in pairwise(numbers)):
        raise BadPayload("an intset is not in order")
    return numbers
