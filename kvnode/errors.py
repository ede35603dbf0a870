"""Errors, typed by blame and consequence.

Two families, and nothing in between:

* a `CommandError` is a *reply*. The command of one client failed; the node is well. Its text is
  what the client reads, so it carries Redis' own words where Redis has any.
* a `FatalError` ends the process with its own exit code. The node cannot go on and stay honest.

Errors of `raft`, `wal`, LMDB or the operating system become one of these at one border (where the
package is called), with the cause kept. Any other exception is a bug of ours and exits with 1.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its supervisor when it leaves."""

    OK = 0
    BUG = 1
    MEMORY = 2
    DISK_FULL = 10
    USAGE = 64
    CORRUPT = 65
    UNREACHABLE = 69
    IO_ERROR = 74
    BUSY_RESOURCE = 75
    WRONG_CONFIGURATION = 78


class KvnodeError(Exception):
    """The root of all errors that kvnode raises on purpose."""


class CommandError(KvnodeError):
    """A command failed for its own reasons; `text` is the RESP error line without the '-'."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Refused(CommandError):
    """The command was definitely not done, and will not be."""


class Overloaded(Refused):
    """There is no place for a heavy command now; one is likely to be free in `retry_ms`."""

    def __init__(self, retry_ms: int) -> None:
        super().__init__(f"BUSY overloaded retry_ms={retry_ms}")
        self.retry_ms = retry_ms


class OutcomeUnknown(CommandError):
    """The command may or may not have been done, now or later."""


class FatalError(KvnodeError):
    """The node cannot go on; the process ends with `exit_code`."""

    exit_code = ExitCode.BUG


class MemoryPressure(FatalError):
    """The watchdog asked the process to leave before the kernel does it."""

    exit_code = ExitCode.MEMORY


class DiskFull(FatalError):
    """There is no room to start."""

    exit_code = ExitCode.DISK_FULL


class LogCorrupt(FatalError):
    """The log, or what proves its length, holds bytes that were acknowledged and are damaged."""

    exit_code = ExitCode.CORRUPT


class DiskFailed(FatalError):
    """A write or a sync failed: what the disk holds is no longer known."""

    exit_code = ExitCode.IO_ERROR


class ResourceBusy(FatalError):
    """An address or the data directory is in use by another process."""

    exit_code = ExitCode.BUSY_RESOURCE


class ConfigurationError(FatalError):
    """Wrong identity, configuration or feature level: a restart cannot help."""

    exit_code = ExitCode.WRONG_CONFIGURATION


class UsageError(ConfigurationError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE
