"""A memory cgroup for a process that a test starts: version 1 or 2, made by root, else not at all.

A limit that the kernel enforces cannot be imitated. Where none can be made (no root, a read-only
cgroup file system, macOS) `MemoryCgroup.make` says why, and the test that needs it is skipped.

It is made below the cgroup of whoever asks: what limits and accounts for the tests goes on doing
so. In version 2 a cgroup that holds processes cannot have children with controllers; there it is
made below the nearest ancestor that hands the memory controller on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from kvnode.admission.memory import parse_cgroup

V1_ROOT = Path("/sys/fs/cgroup/memory")
V2_ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS_MAX = 5.0


class CgroupUnavailable(Exception):
    """No memory cgroup can be made here."""


class MemoryCgroup:
    """A cgroup with a memory limit and without swap.

    Attributes:
        directory: in the cgroup file system.
        is_v2: whether it is one of the unified hierarchy.
    """

    def __init__(self, directory: Path, *, is_v2: bool) -> None:
        self.directory = directory
        self.is_v2 = is_v2

    @classmethod
    def _place(cls, name: str) -> MemoryCgroup:
        own = parse_cgroup(Path("/proc/self/cgroup").read_text())
        if own is None:
            raise CgroupUnavailable("no memory cgroup here: /proc/self/cgroup names none")
        version, path = own
        root = V2_ROOT if version == 2 else V1_ROOT
        parent = root / path.lstrip("/")
        if not parent.is_dir():  # a container that sees the host's path, with its own as the root
            parent = root
        while version == 2 and "memory" not in (parent / "cgroup.subtree_control").read_text():
            if parent == root:
                raise CgroupUnavailable("no ancestor hands the memory controller on")
            parent = parent.parent
        return cls(parent / name, is_v2=version == 2)

    @classmethod
    def make(cls, name: str, limit_bytes: int) -> MemoryCgroup:
        """Make one.

        Raises:
            CgroupUnavailable: that is not possible here.
        """
        cgroup: MemoryCgroup | None = None
        try:
            cgroup = cls._place(name)
            cgroup.directory.mkdir()
            cgroup.set_limit(limit_bytes)
        except OSError as error:
            if cgroup is not None:
                cgroup.remove()
            raise CgroupUnavailable(f"no memory cgroup can be made here: {error}") from error
        return cgroup

    def set_limit(self, limit_bytes: int) -> None:
        """Lower or raise the limit, also while a process lives in it."""
        if self.is_v2:
            self._write("memory.max", limit_bytes)
            with contextlib.suppress(OSError):
                self._write("memory.swap.max", 0)
        else:
            self._write("memory.limit_in_bytes", limit_bytes)
            with contextlib.suppress(OSError):
                self._write("memory.swappiness", 0)

    def _write(self, file: str, value: int) -> None:
        (self.directory / file).write_text(str(value))

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `arguments` in it, from the first instruction on."""
        join = 'echo $$ > "$0" && exec "$@"'
        return ("/bin/sh", "-c", join, str(self.directory / "cgroup.procs"), *arguments)

    def oom_kills(self) -> int:
        """How often the kernel killed here for want of memory."""
        file = "memory.events" if self.is_v2 else "memory.oom_control"
        words = (self.directory / file).read_text().split()
        return int(dict(zip(words[::2], words[1::2], strict=True))["oom_kill"])

    def peak_bytes(self) -> int:
        """The highest usage so far, page cache included; 0 where the kernel does not tell."""
        file = "memory.peak" if self.is_v2 else "memory.max_usage_in_bytes"
        try:
            return int((self.directory / file).read_text())
        except FileNotFoundError:  # before Linux 5.19
            return 0

    def remove(self) -> None:
        """Remove it once the processes in it have ended."""
        deadline = time.monotonic() + REMOVE_SECONDS_MAX
        while self.directory.is_dir():
            try:
                os.rmdir(self.directory)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
