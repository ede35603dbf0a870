"""What can go wrong with a log, told apart by what the caller must do about it.

Only `DiskFull` and `InvalidArgument` leave the log usable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path


class WalError(Exception):
    """The root of all errors that this package raises on purpose."""


class InvalidArgument(WalError, ValueError):
    """The caller asked for something that has no meaning; nothing was changed."""


class IdentityMismatch(WalError):
    """The file belongs to another cluster or node."""


class UnsupportedVersion(WalError):
    """The file is intact, but of a format that this code does not know."""


class Corruption(WalError):
    """Bytes that were acknowledged, or may have been, are damaged or gone. Nothing was changed.

    Attributes:
        path: the file.
        offset: where in it, in bytes.
        expected: what should have been there.
        found: what is there.
    """

    def __init__(
        self, text: str, path: Path, offset: int = 0, expected: str = "", found: str = ""
    ) -> None:
        detail = f" (expected {expected}, found {found})" if expected else ""
        super().__init__(f"{path}: offset {offset}: {text}{detail}")
        self.text = text
        self.path = path
        self.offset = offset
        self.expected = expected
        self.found = found


class Unrepairable(Corruption):
    """The segment was repaired once and still does not read clean."""


class DiskFailed(WalError):
    """A system call failed. What the disk holds is no longer known; the log is unusable.

    Attributes:
        operation: the step that failed, in words.
        path: the file or directory.
        cause: the operating system's error.
    """

    def __init__(self, operation: str, path: Path, cause: OSError) -> None:
        super().__init__(f"{operation} failed: {path}: {cause.strerror or cause}")
        self.operation = operation
        self.path = path
        self.cause = cause


class DiskFull(WalError):
    """No room for a new file. Nothing was changed and the log stays usable."""

    def __init__(self, operation: str, path: Path, cause: OSError) -> None:
        super().__init__(f"{operation}: no room: {path}: {os.strerror(cause.errno or ENOSPC)}")
        self.operation = operation
        self.path = path
        self.cause = cause


@contextmanager
def disk(operation: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` into `DiskFailed`: the border between the system's errors and ours."""
    try:
        yield
    except OSError as error:
        raise DiskFailed(operation, path, error) from error


@contextmanager
def creating(operation: str, path: Path) -> Iterator[None]:
    """As `disk`, for a file that nobody knows yet: no room is `DiskFull`, and nothing is lost."""
    try:
        yield
    except OSError as error:
        full = error.errno in (ENOSPC, EDQUOT)
        raise (DiskFull if full else DiskFailed)(operation, path, error) from error
