"""Reading single records of a segment while it is being written behind them."""

from __future__ import annotations

from collections.abc import Iterable
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
    record_bytes,
)
from wal.fs import FileSystem, read_all
from wal.index import Span
from wal.segment import Segment

_WINDOW_BYTES = 4 * CHECKPOINT_BYTES


class _Window:
    """A piece of a file that moves forward: the bytes from `start` on, up to `end`."""

    __slots__ = ("_fd", "_fs", "data", "end", "start")

    def __init__(self, fs: FileSystem, fd: int) -> None:
        self._fs = fs
        self._fd = fd
        self.start = self.end = 0
        self.data = b""

    def move(self, offset: int, size: int) -> None:
        """Begin at `offset` with `size` bytes at least, unless the file ends before."""
        self.data = read_all(self._fs, self._fd, max(size, _WINDOW_BYTES), offset)
        self.start = offset
        self.end = offset + len(self.data)


def read_spans(
    fs: FileSystem,
    segment: Segment,
    spans: Iterable[Span],
    low: int,
    bytes_max: int,
    records: list[Record],
) -> int:
    """Add the records of a segment's spans from `low` on; the first of all whatever its size.

    Returns:
        What is left of `bytes_max`; negative if the next record did not fit.
    """
    with disk("reading log", segment.path):
        fd = fs.open(segment.path)
        try:
            window = _Window(fs, fd)
            for span in spans:
                bytes_max = _read(window, segment, span, low, bytes_max, records)
                if bytes_max < 0:
                    break
        finally:
            fs.close(fd)
    return bytes_max


def _read(
    window: _Window, segment: Segment, span: Span, low: int, left: int, records: list[Record]
) -> int:
    """As `read_spans`. This loop is the cost of a read, hence its plain style."""
    expected, until, _, offset, chain = span
    salt, sector = segment.header.salt, segment.header.sector_bytes
    while expected < until:
        if offset + RECORD_HEADER_BYTES > window.end:
            window.move(offset, RECORD_HEADER_BYTES)
        header = decode_record_header(window.data, offset - window.start, offset, salt)
        if header is None:
            following = align(offset, sector)
            if following == offset:
                _refuse(segment, offset, "record header CRC does not match")
            offset = following
            continue
        kind, length, index, _, chain_found, _, _ = header
        following = offset + record_bytes(length)
        if following > window.end:
            window.move(offset, following - offset)
        at = offset - window.start + RECORD_HEADER_BYTES
        payload = window.data[at : at + length]
        chain = extend(chain, payload)
        if chain != chain_found:
            _refuse(segment, offset, "payload CRC does not match")
        if kind == Kind.ENTRY:
            if index != expected:
                _refuse(segment, offset, f"entry {index} where {expected} belongs")
            if expected >= low:
                left -= length
                if left < 0 and records:
                    return left
                records.append(Record(expected, payload))
            expected += 1
        offset = following
    return left


def _refuse(segment: Segment, offset: int, text: str) -> NoReturn:
    raise Corruption(text, segment.path, offset)
