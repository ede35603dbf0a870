"""How much memory is taken, and how much there is: figures from /proc and the cgroup file system.

The limit L that all budgets are shares of is the smallest of the machine's memory and the limits of
our cgroups. The cgroup is the one whose limit would kill us: of our own and its ancestors, the one
with the smallest limit. A cgroup without any limit kills nobody, and on a desktop it holds the
browser too: it is not counted.

**Only what cannot be evicted counts**: anonymous pages of the process and its workers, and the
anon + kernel + sock + shmem of the cgroup. The raw usage of a cgroup contains the page cache, and
with a memory-mapped engine it is always near the limit.

A measurement costs one `pread` of statm (about 1.5 µs) and one of memory.stat (about 25 µs).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kvnode import limits
from kvnode.admission.budget import AMPLE_BYTES
from kvnode.errors import ConfigurationError

MEMORY_STAT_BYTES_MAX = 16 * limits.KIB
"""More than the kernel writes; read in one call, so that the figures belong together."""


# --- parsing: pure ------------------------------------------------------------------------------


def parse_statm(content: bytes, page_bytes: int) -> int:
    """Return the anonymous resident bytes: resident minus shared pages (proc(5), statm)."""
    fields = content.split(None, 3)
    return (int(fields[1]) - int(fields[2])) * page_bytes


def parse_data(content: bytes, page_bytes: int) -> int:
    """Return the reserved private bytes, the stack's with them (proc(5), statm)."""
    return int(content.split(None, 6)[5]) * page_bytes


_UNEVICTABLE_V2 = (b"anon", b"sock", b"shmem")
_KERNEL_PARTS = (b"slab", b"kernel_stack", b"pagetables", b"percpu")
_UNEVICTABLE_V1 = (b"total_rss", b"total_shmem")


def parse_memory_stat(content: bytes) -> int:
    """Return what cannot be evicted of a cgroup v2, in bytes (memory.stat of cgroup-v2.rst)."""
    figures = _figures(content)
    # Before Linux 5.18 only the parts of "kernel" are there.
    kernel = (b"kernel",) if b"kernel" in figures else _KERNEL_PARTS
    return sum(int(figures.get(name, 0)) for name in (*_UNEVICTABLE_V2, *kernel))


def parse_memory_stat_v1(content: bytes) -> int:
    """Return the anonymous and shared memory of a cgroup v1 and all below it, in bytes."""
    figures = _figures(content)
    return sum(int(figures.get(name, 0)) for name in _UNEVICTABLE_V1)


def _figures(content: bytes) -> dict[bytes, bytes]:
    words = content.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def parse_limit(content: bytes) -> int | None:
    """Return a cgroup's limit in bytes; None when it has none (v2 "max", v1 a huge number)."""
    text = content.strip()
    if text == b"max" or int(text) >= 1 << 60:
        return None
    return int(text)


def parse_cgroup(content: str) -> tuple[Literal[1, 2], str] | None:
    """Return (version, path) of the memory cgroup named by /proc/self/cgroup (cgroups(7))."""
    unified: tuple[Literal[1, 2], str] | None = None
    for line in content.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return 1, path
        if not controllers:
            unified = 2, path
    return unified


def parse_meminfo(content: str) -> int:
    """Return the memory of the machine in bytes (proc(5), MemTotal)."""
    for line in content.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * limits.KIB
    raise ValueError("no MemTotal in /proc/meminfo")


# --- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement, in bytes. `cgroup_bytes` is 0 where no cgroup limits us.

    `data_bytes` is what this process has reserved of private memory, touched or not.
    """

    rss_anon_bytes: int
    workers_bytes: int
    cgroup_bytes: int
    data_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What is compared with the threshold."""
        return max(self.rss_anon_bytes + self.workers_bytes, self.cgroup_bytes)


class Meter(Protocol):
    """Measures memory; called from the sampler's thread."""

    limit_bytes: int

    def read(self) -> Reading:
        """Measure now."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The cgroup that limits us, and the files whose sum cannot be evicted."""

    directory: Path
    limit_bytes: int
    figures: tuple[tuple[str, Callable[[bytes], int]], ...]


_FIGURES_V2 = (("memory.stat", parse_memory_stat),)
_FIGURES_V1 = (
    ("memory.stat", parse_memory_stat_v1),
    ("memory.kmem.usage_in_bytes", int),
    ("memory.kmem.tcp.usage_in_bytes", int),
)


def find_cgroup(proc: Path, cgroups: Path) -> Cgroup | None:
    """Return the one of our cgroup and its ancestors with the smallest limit; None: unlimited."""
    try:
        own = parse_cgroup((proc / "self/cgroup").read_text())
    except OSError:
        return None
    if own is None:
        return None
    version, path = own
    root = cgroups if version == 2 else cgroups / "memory"
    limit_file = "memory.max" if version == 2 else "memory.limit_in_bytes"
    # A container may see the host's path here while only its own cgroup is mounted, as the root:
    # directories that do not exist are passed over on the way up.
    directory = root / path.lstrip("/")
    found: list[tuple[int, Path]] = []
    for candidate in (directory, *directory.parents):
        with contextlib.suppress(OSError, ValueError):
            limit = parse_limit((candidate / limit_file).read_bytes())
            if limit is not None:
                found.append((limit, candidate))
        if candidate == root:
            break
    if not found:
        return None
    limit, directory = min(found)
    return Cgroup(directory, limit, _FIGURES_V2 if version == 2 else _FIGURES_V1)


class ProcMeter:
    """Measures by /proc and the cgroup file system, through files that stay open.

    `limit_bytes` is the smallest of the machine's memory and the limits of our cgroups.
    """

    __slots__ = ("_figures", "_page_bytes", "_proc", "_statm_fd", "_workers", "limit_bytes")

    def __init__(
        self,
        workers: Callable[[], Iterable[int]] = tuple,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        """Open the files; `workers` returns the pids of worker processes.

        Raises:
            ConfigurationError: there is no /proc to measure by.
        """
        try:
            self.limit_bytes = parse_meminfo((proc / "meminfo").read_text())
            self._statm_fd = os.open(proc / "self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"memory cannot be measured here: {error}") from error
        self._proc = proc
        self._workers = workers
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._figures: list[tuple[int, Callable[[bytes], int]]] = []
        cgroup = find_cgroup(proc, cgroups)
        if cgroup is not None and cgroup.limit_bytes < self.limit_bytes:
            self.limit_bytes = cgroup.limit_bytes
            for name, parse in cgroup.figures:
                with contextlib.suppress(OSError):  # v1 kernels may lack the kmem files
                    fd = os.open(cgroup.directory / name, os.O_RDONLY | os.O_CLOEXEC)
                    self._figures.append((fd, parse))

    def close(self) -> None:
        """Close the files. Idempotent."""
        for fd in (self._statm_fd, *(fd for fd, _ in self._figures)):
            if fd >= 0:
                os.close(fd)
        self._statm_fd = -1
        self._figures.clear()

    def read(self) -> Reading:
        """Measure now; about 2 µs without a cgroup limit."""
        statm = os.pread(self._statm_fd, MEMORY_STAT_BYTES_MAX, 0)
        return Reading(
            rss_anon_bytes=parse_statm(statm, self._page_bytes),
            workers_bytes=sum(map(self._worker_bytes, self._workers())),
            cgroup_bytes=self._cgroup_bytes(),
            data_bytes=parse_data(statm, self._page_bytes),
        )

    def _worker_bytes(self, pid: int) -> int:
        try:
            content = (self._proc / str(pid) / "statm").read_bytes()
        except OSError:  # it has just ended
            return 0
        return parse_statm(content, self._page_bytes)

    def _cgroup_bytes(self) -> int:
        try:
            return sum(parse(os.pread(fd, MEMORY_STAT_BYTES_MAX, 0)) for fd, parse in self._figures)
        except OSError:  # the cgroup was removed after the process was moved out of it
            return 0


def memory_limit_bytes() -> int:
    """Return the smallest of the machine's memory and our cgroups' limits; ample if none is told.

    Whether or not there is to be a watchdog, all budgets follow from it.
    """
    try:
        meter = ProcMeter()
    except ConfigurationError:
        return AMPLE_BYTES
    meter.close()
    return meter.limit_bytes
