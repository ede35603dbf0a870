"""A node's disk and clock, as bad as its control panel says.

Only what goes through `wal.fs` meets that disk: the log, the state files, received snapshots. The
engine's files, and what worker processes write, do not.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from tests.chaos.forgetful import ForgetfulFileSystem, NeverSyncingFileSystem
from tests.chaos.panel import Disk, Panel, Slot
from wal.fs import PosixFileSystem

_ERRNO = {Disk.FULL: errno.ENOSPC, Disk.FAILS: errno.EIO, Disk.READ_ONLY: errno.EROFS}
_READ_ONLY = (Disk.READ_ONLY,)
_WRITES = (Disk.FAILS, Disk.READ_ONLY)
_SYNCS = (Disk.FAILS,)


class Troubled(PosixFileSystem):
    """Looks at the panel before each call that changes something."""

    panel: Panel

    def _fail(self, when: tuple[Disk, ...], name: str) -> None:
        disk = self.panel[Slot.DISK]
        if disk and disk in when:
            self.panel.count(Slot.DISK_FAILURES)
            number = _ERRNO[Disk(disk)]
            raise OSError(number, os.strerror(number), name)

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open."""
        if create:
            self._fail(_READ_ONLY, str(path))
        return super().open(path, create=create)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write."""
        self._fail(_WRITES, "pwrite")
        if self.panel[Slot.DISK] == Disk.FULL and offset + len(data) > self.size(fd):
            self._fail((Disk.FULL,), "pwrite")
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        """Sync, in the end."""
        delay_ms = self.panel[Slot.SYNC_DELAY_MS]
        if delay_ms:
            self.panel.count(Slot.SLOW_SYNCS)
            time.sleep(delay_ms / 1000)
        self._fail(_SYNCS, "fdatasync")
        super().fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Set the size."""
        self._fail(_READ_ONLY, "truncate")
        super().truncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        self._fail(_READ_ONLY, str(target))
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove."""
        self._fail(_READ_ONLY, str(path))
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        """Sync names."""
        self._fail(_SYNCS, str(path))
        super().sync_directory(path)


class TroubledForgetful(Troubled, ForgetfulFileSystem):
    """Fails when told to, loses at the kill what was not synced, and counts how much that is."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write into memory."""
        written = super().pwrite(fd, data, offset)
        self.panel[Slot.UNSYNCED_BYTES] = self.unsynced_bytes
        return written

    def truncate(self, fd: int, size: int) -> None:
        """Set the size."""
        super().truncate(fd, size)
        self.panel[Slot.UNSYNCED_BYTES] = self.unsynced_bytes

    def fdatasync(self, fd: int) -> None:
        """Let the disk have it."""
        super().fdatasync(fd)
        self.panel[Slot.UNSYNCED_BYTES] = self.unsynced_bytes


class TroubledNeverSyncing(TroubledForgetful, NeverSyncingFileSystem):
    """The same, of a log without fdatasync."""


def install_clock(panel: Panel) -> None:
    """Let `time.time` tell what the panel says; all other clocks stay right."""
    true_time, monotonic = time.time, time.monotonic

    def wrong_time() -> float:
        offset_ms, rate = panel[Slot.CLOCK_OFFSET_MS], panel[Slot.CLOCK_RATE_PERCENT]
        if not offset_ms and not rate:
            return true_time()
        panel.count(Slot.CLOCK_READS)
        now_ms = monotonic() * 1000
        strobe_ms = panel[Slot.CLOCK_STROBE_MS]
        if strobe_ms and int(now_ms / strobe_ms) % 2:
            offset_ms = 0
        gained_ms = (now_ms - panel[Slot.CLOCK_SINCE_MS]) * rate / 100
        return true_time() + (offset_ms + gained_ms) / 1000

    time.time = wrong_time
