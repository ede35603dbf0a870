"""Cutting a tail that was never synced.

A crash at any step leaves the damage as it was, a short file, or a clean one: all of them are
read back the same way.
"""

from __future__ import annotations

from pathlib import Path

from wal.errors import creating, disk
from wal.format import evidence_name
from wal.fs import FileSystem, write_all, write_zeros
from wal.scan import Scan
from wal.segment import Segment


def repair(fs: FileSystem, segment: Segment, data: bytes, found: Scan, number: int) -> Path:
    """Keep a copy of the segment's bytes, cut it behind its last good record, fill it with zeros.

    Args:
        number: of the copy; one that no copy of this segment has.

    Returns:
        The copy.

    Raises:
        DiskFull: no room for the copy; nothing was changed.
        DiskFailed: anything else.
    """
    evidence = _keep_evidence(fs, segment, data, number)
    with disk("repairing segment", segment.path):
        fd = fs.open(segment.path)
        try:
            fs.truncate(fd, found.end)
            # Before the zeros: a crash that let them through in part, and the cut not at all, would
            # leave damage that no crash of an append explains.
            fs.fdatasync(fd)
            write_zeros(fs, fd, found.end, segment.header.segment_bytes)
            fs.fdatasync(fd)
        finally:
            fs.close(fd)
        fs.sync_directory(segment.path.parent)
    return evidence


def _keep_evidence(fs: FileSystem, segment: Segment, data: bytes, number: int) -> Path:
    """Copy the bytes without their trailing zeros."""
    path, header = segment.path, segment.header
    temporary = path.with_suffix(".tmp")
    evidence = path.with_name(evidence_name(header.sequence, header.first_index, number))
    with creating("copying the damaged segment", path):
        fd = fs.open(temporary, create=True)
        try:
            write_all(fs, fd, data.rstrip(b"\0"), 0)
            fs.fdatasync(fd)
        finally:
            fs.close(fd)
        fs.rename(temporary, evidence)
        fs.sync_directory(path.parent)
    return evidence
