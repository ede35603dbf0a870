"""Cutting a tail that was never synced.

A crash at any step leaves the damage as it was, a short file, or a clean one: all of them are
read back the same way.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wal.errors import DiskFull, creating, disk
from wal.format import evidence_name
from wal.fs import FileSystem, write_all, write_zeros
from wal.segment import Segment


def keep_evidence(fs: FileSystem, segment: Segment, data: bytes, number: int) -> Path:
    """Copy a damaged segment's bytes, without the zeros at their end; return the copy's path.

    Args:
        number: of the copy; one that no copy of this segment has.

    Raises:
        DiskFull: no room for the copy; nothing was changed.
        DiskFailed: anything else.
    """
    path, header = segment.path, segment.header
    temporary = path.with_suffix(".tmp")
    evidence = path.with_name(evidence_name(header.sequence, header.first_index, number))
    content = data.rstrip(b"\0")
    step = f"copying the damaged segment ({len(content)} bytes) before its repair"
    try:
        with creating(step, path):
            fd = fs.open(temporary, create=True)
            try:
                write_all(fs, fd, content, 0)
                fs.fdatasync(fd)
            finally:
                fs.close(fd)
            fs.rename(temporary, evidence)
            fs.sync_directory(path.parent)
    except DiskFull:
        # Whether it goes or not, a temporary file is no part of the log.
        with suppress(OSError):
            fs.unlink(temporary)
        raise
    return evidence


def cut(fs: FileSystem, segment: Segment, end: int) -> None:
    """Cut a segment at `end`, the end of its last good record, and fill it with zeros.

    Raises:
        DiskFailed: the disk failed on the way.
    """
    with disk("repairing segment", segment.path):
        fd = fs.open(segment.path)
        try:
            fs.truncate(fd, end)
            # Before the zeros: a crash that let them through in part, and the cut not at all, would
            # leave damage that no crash of an append explains.
            fs.fdatasync(fd)
            write_zeros(fs, fd, end, segment.header.segment_bytes)
            fs.fdatasync(fd)
        finally:
            fs.close(fd)
        fs.sync_directory(segment.path.parent)
