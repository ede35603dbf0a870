"""An ext4 of our own, in a file behind a loop device, that can lose power, fail and be mended.

Killing a process costs no byte: the kernel has them all and writes them when it likes. What a power
loss does is done here by the file system's own shutdown call, without a flush of its journal: what
was not synced is gone, as it would be from a machine whose plug was pulled, and what was synced is
there after the next mount. Linux and root only: elsewhere the calling test is skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.small_disk import MIB, run_or_skip

EXT4_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32) of the kernel's headers, the same for ext4, XFS and F2FS."""
SHUTDOWN_WITHOUT_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written."""
UMOUNT_FAILED = 32
"""What umount(8) ends with when the mount is busy, among others."""
WORKERS_GONE_SECONDS_MAX = 5.0
KEEP_FOR_US = "commit=300"
"""The kernel's own flush of the journal every five seconds would hide what a program forgot."""


class LoopDisk:
    """A file system that stays mounted at `directory` but for the moments in which it is mended.

    Args:
        image: the file that stands for the disk; sparse, removed at the end.
        directory: where it is mounted; made if need be.
        options: of the mount, such as "data=writeback,nodelalloc".
    """

    def __init__(self, image: Path, directory: Path, options: str = "") -> None:
        self.image = image
        self.directory = directory
        self._options = ",".join(filter(None, ("loop", KEEP_FOR_US, options)))

    def make(self, size_mib: int) -> None:
        """Make the file system and mount it."""
        if os.geteuid() != 0:
            pytest.skip("mounting a file system needs root")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(size_mib * MIB)
        # Blocks are as large as the kernel's pages, and zeroed by no thread in the background.
        features = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
        run_or_skip("mkfs.ext4", "-q", "-m", "0", "-b", "4096", *features, str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount it; the kernel replays the journal."""
        run_or_skip("mount", "-o", self._options, str(self.image), str(self.directory))

    def unmount(self) -> None:
        """Unmount it; nobody may use it any more.

        The workers of a node that was killed die with it, but a moment later.
        """
        deadline = time.monotonic() + WORKERS_GONE_SECONDS_MAX
        while True:
            done = subprocess.run(["umount", str(self.directory)], check=False)
            if not done.returncode:
                return
            if done.returncode != UMOUNT_FAILED or time.monotonic() > deadline:
                done.check_returncode()
            time.sleep(0.05)

    def lose_power(self) -> None:
        """From now on nothing reaches the disk, and every call that should reach it fails."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            order = struct.pack("I", SHUTDOWN_WITHOUT_FLUSH)
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, order)
        finally:
            os.close(descriptor)

    def power_cycle(self) -> None:
        """Lose power if it still has it, and come back; nobody may use it any more."""
        with contextlib.suppress(OSError):  # it has none
            self.lose_power()
        self.unmount()
        self.mount()

    def become_read_only(self) -> None:
        """What ext4 does to itself when it finds its disk failing, with files open or not."""
        run_or_skip("mount", "-o", "remount,abort", str(self.directory))

    def remove(self) -> None:
        """Leave no mount, no loop device and no image behind, whoever still has files open."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", "-l", str(self.directory)], check=True)
        self.image.unlink(missing_ok=True)


@contextlib.contextmanager
def loop_disk(
    directory: Path, *, size_mib: int = 128, options: str = "", image: Path | None = None
) -> Iterator[LoopDisk]:
    """A fresh ext4 at `directory`, gone at the end whatever happened.

    Args:
        image: the file behind it; beside `directory` by default.
    """
    disk = LoopDisk(image or directory.with_name(f"{directory.name}.image"), directory, options)
    try:
        disk.make(size_mib)
        yield disk
    finally:
        disk.remove()
