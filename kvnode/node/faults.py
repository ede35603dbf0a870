"""The border where errors of the log and of the disk become the node's own, with the cause kept."""

from __future__ import annotations

import errno

from kvnode.errors import ConfigurationError, DiskFailed, DiskFull, LogCorrupt
from wal import errors as wal_errors

_DISK_FAILED = (errno.EIO, errno.EROFS)


def is_disk_failure(error: BaseException) -> bool:
    """Whether the system says that a disk fails, or that it was made read-only because it did.

    No socket says so. What a disk holds after that is not known: nothing is tried again.
    """
    return isinstance(error, OSError) and error.errno in _DISK_FAILED


def as_fatal(error: BaseException) -> BaseException:
    """The `FatalError` that stands for an error of log or disk; others are returned as they are."""
    fatal: BaseException
    if isinstance(error, wal_errors.IdentityMismatch | wal_errors.UnsupportedVersion):
        fatal = ConfigurationError(str(error))
    elif isinstance(error, wal_errors.DiskFull):
        fatal = DiskFull(str(error))
    elif isinstance(error, wal_errors.DiskFailed) or is_disk_failure(error):
        fatal = DiskFailed(str(error))
    elif isinstance(error, wal_errors.Corruption | wal_errors.Unrepairable):
        fatal = LogCorrupt(str(error))
    else:
        return error
    fatal.__cause__ = error
    return fatal
