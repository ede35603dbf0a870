"""A write-ahead log that tells torn from corrupt.

`Wal` keeps opaque records, numbered from 1, in segments of a directory, and a small state beside
them. A record that was acknowledged is never lost silently: after a crash the log is cut only
where its bytes were provably never synced, and refused where that cannot be told. DESIGN.md has
the format and the decision table; `scan` is that table as a pure function.
"""

from wal.crc import BACKEND
from wal.errors import (
    Corruption,
    DiskFailed,
    DiskFull,
    IdentityMismatch,
    InvalidArgument,
    Unrepairable,
    UnsupportedVersion,
    WalError,
)
from wal.format import Identity, Position, Record
from wal.fs import FileSystem, PosixFileSystem, ReadOnlyFileSystem
from wal.log import Wal
from wal.loss import Decision, Loss, OnLoss
from wal.observer import Observer, RepairReport, Silent
from wal.options import Options
from wal.state import State

__all__ = [
    "BACKEND",
    "Corruption",
    "Decision",
    "DiskFailed",
    "DiskFull",
    "FileSystem",
    "Identity",
    "IdentityMismatch",
    "InvalidArgument",
    "Loss",
    "Observer",
    "OnLoss",
    "Options",
    "Position",
    "PosixFileSystem",
    "ReadOnlyFileSystem",
    "Record",
    "RepairReport",
    "Silent",
    "State",
    "Unrepairable",
    "UnsupportedVersion",
    "Wal",
    "WalError",
]
