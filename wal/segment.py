"""Making and reading whole segments."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wal.errors import DiskFull, creating, disk
from wal.format import OFFSET_MAX, SegmentHeader, encode_segment_header, segment_name
from wal.fs import FileSystem, read_all, write_all, write_zeros


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file of this log."""

    path: Path
    header: SegmentHeader


def create_segment(fs: FileSystem, directory: Path, header: SegmentHeader) -> Segment:
    """Make a segment: header and zeros to its full size, on the disk before it has its name.

    Raises:
        DiskFull: there is no room; what was written of it is removed again.
        DiskFailed: anything else.
    """
    path = directory / segment_name(header.sequence, header.first_index)
    temporary = path.with_suffix(".tmp")
    try:
        with creating("creating segment", temporary):
            fd = fs.open(temporary, create=True)
            try:
                write_all(fs, fd, encode_segment_header(header), 0)
                write_zeros(fs, fd, header.sector_bytes, header.segment_bytes)
                fs.fdatasync(fd)
            finally:
                fs.close(fd)
            fs.rename(temporary, path)
    except DiskFull:
        # Whether it goes or not, a temporary file is no part of the log.
        with suppress(OSError):
            fs.unlink(temporary)
        raise
    # The file has its name now. If that did not reach the disk, going on would lead to another
    # file of this sequence, and a log with both is refused: no room here is no DiskFull.
    with disk("creating segment", path):
        fs.sync_directory(directory)
    return Segment(path, header)


def remove(fs: FileSystem, directory: Path, paths: list[Path]) -> None:
    """Remove files of the directory, in order; on return they are gone from the disk."""
    for path in paths:
        with disk("removing", path):
            fs.unlink(path)
    if paths:
        with disk("syncing directory", directory):
            fs.sync_directory(directory)


def read_segment(
    fs: FileSystem, path: Path, *, from_disk: bool = False, bytes_max: int = OFFSET_MAX + 1
) -> bytes:
    """Read a segment, or its first `bytes_max`; with `from_disk` not from the page cache."""
    with disk("reading segment", path):
        fd = fs.open(path)
        try:
            if from_disk:
                fs.drop_cache(fd)
            return read_all(fs, fd, min(fs.size(fd), bytes_max))
        finally:
            fs.close(fd)
