"""The border where errors of the `wal` package become the node's own, with the cause kept."""

from __future__ import annotations

from kvnode.errors import ConfigurationError, DiskFailed, DiskFull, LogCorrupt
from wal import errors as wal_errors


def as_fatal(error: BaseException) -> BaseException:
    """The `FatalError` that stands for an error of the log; anything else is returned as it is."""
    fatal: BaseException
    if isinstance(error, wal_errors.IdentityMismatch | wal_errors.UnsupportedVersion):
        fatal = ConfigurationError(str(error))
    elif isinstance(error, wal_errors.DiskFull):
        fatal = DiskFull(str(error))
    elif isinstance(error, wal_errors.DiskFailed):
        fatal = DiskFailed(str(error))
    elif isinstance(error, wal_errors.Corruption | wal_errors.Unrepairable):
        fatal = LogCorrupt(str(error))
    else:
        return error
    fatal.__cause__ = error
    return fatal
