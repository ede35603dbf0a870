"""Small disks that run full: a tmpfs, and an ext4 on a loop device.

They fail in different ways. A tmpfs has nothing behind its pages: a write that does not fit fails,
at once. On ext4 blocks are given out when dirty pages are written back, the directory and the
journal take some as well, and reading a hole may need one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ("tmpfs", "ext4")
FILLER = "filler"
MIB = 1 << 20
BLOCK_BYTES = 4096


@contextlib.contextmanager
def small_disk(kind: str, directory: Path, size_mib: int) -> Iterator[None]:
    """A file system of one of `KINDS` at `directory`, whose parent must exist.

    The calling test is skipped, with a reason, where the machine does not allow it.
    """
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    directory.mkdir(exist_ok=True)
    image = directory.with_name(f"{directory.name}.image")
    _mount(kind, directory, image, size_mib)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
        image.unlink(missing_ok=True)


def take_room(directory: Path, mib: int) -> None:
    """Put something else on the disk."""
    with (directory / FILLER).open("wb") as file:
        file.write(bytes(mib * MIB))
        os.fsync(file.fileno())


def take_all_room(directory: Path) -> None:
    """Let it grow until not a block is left."""
    with (directory / FILLER).open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(BLOCK_BYTES))
            os.fsync(file.fileno())


def make_room(directory: Path) -> None:
    """What an operator does: delete what does not belong there."""
    (directory / FILLER).unlink()


def _mount(kind: str, directory: Path, image: Path, size_mib: int) -> None:
    if kind == "tmpfs":
        run_or_skip("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(directory))
        return
    with image.open("wb") as file:
        file.truncate(size_mib * MIB)
    # No blocks are set aside for root, who would not notice that the disk is full for all others.
    run_or_skip("mkfs.ext4", "-q", "-m", "0", str(image))
    run_or_skip("mount", "-o", "loop", str(image), str(directory))


def run_or_skip(program: str, *arguments: str) -> None:
    """Run a program; where it is missing, or not allowed to do this, the test is skipped."""
    if shutil.which(program) is None:
        pytest.skip(f"this machine has no {program}")
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine does not let us: {program}: {done.stderr.strip()}")
