"""How many workers a node may have: by its processors, and by its memory.

Half of the processors are left to the node, the kernel and everybody else; what counts is what a
container may use, not what the machine has. All workers together may take a quarter of the memory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from kvnode.admission.budget import Budget
from kvnode.limits import WORKERS_MAX

MEMORY_SHARE: Final = 4
"""Workers may take one part of so many of the memory."""


def worker_count(cores: float, budget: Budget) -> int:
    """Workers of a node that may use so many processors and so much memory; at least one."""
    by_memory = budget.limit_bytes // MEMORY_SHARE // budget.worker_bytes_max
    return max(1, min(int(cores / 2), by_memory, WORKERS_MAX))


def usable_cores(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors that this process may use: of the machine, by affinity, and by cgroup quotas."""
    cores = float(len(os.sched_getaffinity(0)))
    path = ""
    with contextlib.suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            number, _, own = line.partition(":")
            if number == "0":  # the unified hierarchy of version 2 (cgroups(7))
                path = own.lstrip(":").lstrip("/")
    directory = cgroups / path
    for each in (directory, *directory.parents):
        with contextlib.suppress(OSError, ValueError):
            cores = min(cores, parse_quota((each / "cpu.max").read_text()))
        if each == cgroups:
            break
    return cores


def parse_quota(content: str) -> float:
    """Processors that a cgroup may use (cgroup-v2.rst, cpu.max). Raises `ValueError` for "max"."""
    quota_us, period_us = content.split()
    return int(quota_us) / int(period_us)
