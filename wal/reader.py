"""Reading single records of a segment while it is being written behind them."""

from __future__ import annotations

from typing import NoReturn

from wal.crc import extend
from wal.errors import Corruption, disk
from wal.format import (
    CHECKPOINT_BYTES,
    RECORD_HEADER_BYTES,
    Kind,
    Record,
    align,
    decode_record_header,
)
from wal.fs import FileSystem, read_all
from wal.index import Span
from wal.segment import Segment

_WINDOW_BYTES = 4 * CHECKPOINT_BYTES


class _Window:
    """A piece of a file that moves forward."""

    __slots__ = ("_data", "_fd", "_fs", "_start")

    def __init__(self, fs: FileSystem, fd: int) -> None:
        self._fs = fs
        self._fd = fd
        self._start = 0
        self._data = b""

    def at(self, offset: int, size: int) -> tuple[bytes, int]:
        """Return bytes and where in them `offset` is; `size` bytes follow unless the file ends."""
        if not self._start <= offset or offset + size > self._start + len(self._data):
            self._data = read_all(self._fs, self._fd, max(size, _WINDOW_BYTES), offset)
            self._start = offset
        return self._data, offset - self._start


def read_span(
    fs: FileSystem, segment: Segment, span: Span, low: int, bytes_max: int, records: list[Record]
) -> int:
    """Add the span's records from `low` on; the first of all is added whatever its size.

    Returns:
        What is left of `bytes_max`; negative if the next record did not fit.
    """
    with disk("reading log", segment.path):
        fd = fs.open(segment.path)
        try:
            return _read(_Window(fs, fd), segment, span, low, bytes_max, records)
        finally:
            fs.close(fd)


def _read(
    window: _Window, segment: Segment, span: Span, low: int, left: int, records: list[Record]
) -> int:
    offset, chain = span.offset, span.chain
    salt, sector = segment.header.salt, segment.header.sector_bytes
    expected = span.first
    while expected < span.until:
        data, at = window.at(offset, RECORD_HEADER_BYTES)
        header = decode_record_header(data, at, offset, salt)
        if header is None:
            following = align(offset, sector)
            if following == offset:
                _refuse(segment, offset, "record header CRC does not match")
            offset = following
            continue
        data, at = window.at(offset, header.end - offset)
        at += RECORD_HEADER_BYTES
        payload = data[at : at + header.length]
        chain = extend(chain, payload)
        if chain != header.chain:
            _refuse(segment, offset, "payload CRC does not match")
        offset = header.end
        if header.kind != Kind.ENTRY:
            continue
        if header.index != expected:
            _refuse(segment, header.offset, f"entry {header.index} where {expected} belongs")
        if expected >= low:
            left -= header.length
            if left < 0 and records:
                return left
            records.append(Record(expected, payload))
        expected += 1
    return left


def _refuse(segment: Segment, offset: int, text: str) -> NoReturn:
    raise Corruption(text, segment.path, offset)
