"""The control panel of a node under test: one page of memory that harness and node share.

The harness turns switches (a disk that fails, a clock that is wrong, a point at which to die), and
the node counts what came of them. It is a file that both have mapped: a look costs the node a tenth
of a microsecond, and what it counted is still there when it was killed.

The node finds it by the environment variable `CHAOS_PANEL`; without that it has one of its own,
with all switches off.
"""

from __future__ import annotations

import mmap
import os
import struct
from enum import IntEnum, unique
from pathlib import Path

VARIABLE = "CHAOS_PANEL"
_SLOT = struct.Struct("<q")
_PAGE_BYTES = mmap.PAGESIZE


@unique
class Slot(IntEnum):
    """Signed numbers on the panel. 0 means: nothing is done, nothing has happened."""

    # --- switches
    DISK = 0
    """One of `Disk`."""
    SYNC_DELAY_MS = 1
    """Every sync takes so much longer."""
    CLOCK_OFFSET_MS = 2
    """The wall clock is so far ahead."""
    CLOCK_RATE_PERCENT = 3
    """It gains so much on real time since CLOCK_SINCE_MS of the monotonic clock."""
    CLOCK_SINCE_MS = 4
    CLOCK_STROBE_MS = 5
    """The offset comes and goes with this period."""
    POINT = 6
    """Number of the armed point (`tests.chaos.points`), from 1."""
    PASSES = 7
    """The process dies when it has come by so many times."""
    # --- counters
    UNSYNCED_BYTES = 16
    """Written, not synced; what a kill now takes along."""
    DISK_FAILURES = 17
    """Calls that failed because of DISK."""
    SLOW_SYNCS = 18
    CLOCK_READS = 19
    """Readings of a clock that was wrong."""
    POINT_REACHED = 20
    """Number of the point at which the process died."""


class Disk(IntEnum):
    """What is wrong with the disk."""

    WELL = 0
    FULL = 1
    """ENOSPC for what would make a file longer."""
    FAILS = 2
    """EIO for every write and sync."""
    READ_ONLY = 3
    """EROFS for everything that changes something."""


class Panel:
    """The page. `panel[Slot.X]` reads, `panel[Slot.X] = 1` writes; one of both sides each."""

    __slots__ = ("_memory",)

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def at(cls, path: Path) -> Panel:
        """The page in a file, which is made if it does not exist."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _PAGE_BYTES)
            return cls(mmap.mmap(descriptor, _PAGE_BYTES))
        finally:
            os.close(descriptor)

    @classmethod
    def of_environment(cls) -> Panel:
        """The page that the harness has told of, or one that nobody else sees."""
        path = os.environ.get(VARIABLE)
        return cls.at(Path(path)) if path else cls(mmap.mmap(-1, _PAGE_BYTES))

    def __getitem__(self, slot: Slot) -> int:
        number: int = _SLOT.unpack_from(self._memory, _SLOT.size * slot)[0]
        return number

    def __setitem__(self, slot: Slot, number: int) -> None:
        _SLOT.pack_into(self._memory, _SLOT.size * slot, number)

    def count(self, slot: Slot) -> None:
        """One more."""
        self[slot] += 1
