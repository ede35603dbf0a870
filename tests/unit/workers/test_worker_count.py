"""How many workers: half of the processors that the container may use, a quarter of the memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvnode.admission.budget import Budget
from kvnode.limits import MIB
from kvnode.workers.size import parse_quota, usable_cores, worker_count


@pytest.mark.parametrize(
    ("cores", "memory_mib", "count"),
    [
        (2, 65_536, 1),
        (8, 65_536, 4),
        (64, 65_536, 32),
        (200, 65_536, 32),
        (0.5, 65_536, 1),
        (3.5, 65_536, 1),
        (64, 512, 1),
        (64, 4_096, 3),
    ],
)
def test_half_of_the_processors_and_a_quarter_of_the_memory(
    cores: float, memory_mib: int, count: int
) -> None:
    assert worker_count(cores, Budget.of(memory_mib * MIB)) == count


@pytest.mark.parametrize("memory_mib", [256, 512, 1024, 2048, 4096, 65_536])
def test_all_workers_together_take_a_quarter_of_the_memory_or_are_one(memory_mib: int) -> None:
    budget = Budget.of(memory_mib * MIB)
    count = worker_count(1000, budget)
    assert count == 1 or count * budget.worker_bytes_max <= budget.limit_bytes // 4


def test_a_quota_of_the_cgroup_or_of_one_above_it_counts(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    own = cgroups / "a/b"
    own.mkdir(parents=True)
    (proc / "self/cgroup").write_text("1:memory:/x\n0::/a/b\n")
    all_of_them = float(len(os.sched_getaffinity(0)))
    assert usable_cores(proc, cgroups) == all_of_them
    (own / "cpu.max").write_text("max 100000\n")
    assert usable_cores(proc, cgroups) == all_of_them
    (cgroups / "a/cpu.max").write_text("25000 100000\n")
    assert usable_cores(proc, cgroups) == 0.25
    (proc / "self/cgroup").unlink()
    assert usable_cores(proc, cgroups) == all_of_them


def test_no_quota_is_no_number() -> None:
    assert parse_quota("150000 100000\n") == 1.5
    with pytest.raises(ValueError, match="max"):
        parse_quota("max 100000\n")
