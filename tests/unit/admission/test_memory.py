"""How much memory is taken and how much there is: what counts, and which cgroup limits us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvnode.admission.memory import (
    ProcMeter,
    Reading,
    parse_cgroup,
    parse_data,
    parse_limit,
    parse_memory_stat,
    parse_memory_stat_v1,
    parse_statm,
)
from kvnode.errors import ConfigurationError

MIB = 2**20


def test_reserved_private_memory_is_read_from_statm() -> None:
    assert parse_data(b"1000 300 100 5 0 120 0\n", 4096) == 120 * 4096


def test_shared_pages_do_not_count() -> None:
    assert parse_statm(b"1000 300 100 5 0 120 0\n", 4096) == 200 * 4096


def test_what_cannot_be_evicted_of_a_cgroup_counts() -> None:
    stat = b"anon 1000\nfile 500000\nkernel 200\nslab 99\nsock 30\nshmem 4\ninactive_file 7\n"
    assert parse_memory_stat(stat) == 1234


def test_kernels_that_do_not_sum_up_their_own_memory_are_summed_up() -> None:
    stat = b"anon 1000\nkernel_stack 1\npagetables 2\npercpu 3\nslab 4\nsock 30\nshmem 200\n"
    assert parse_memory_stat(stat) == 1240


def test_a_version_1_cgroup_counts_with_all_below_it() -> None:
    stat = b"cache 9\nrss 1\nshmem 1\ntotal_cache 900\ntotal_rss 50\ntotal_shmem 6\n"
    assert parse_memory_stat_v1(stat) == 56


@pytest.mark.parametrize(
    ("content", "limit"), [(b"max\n", None), (b"9223372036854771712\n", None), (b"1024\n", 1024)]
)
def test_a_cgroup_may_have_no_limit(content: bytes, limit: int | None) -> None:
    assert parse_limit(content) == limit


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("0::/user.slice/a:b\n", (2, "/user.slice/a:b")),
        ("5:cpu:/\n4:memory:/docker/x\n0::/\n", (1, "/docker/x")),
        ("5:cpu:/\n", None),
        ("", None),
    ],
)
def test_the_memory_cgroup_is_found(content: str, found: tuple[int, str] | None) -> None:
    assert parse_cgroup(content) == found


def test_the_greater_of_process_and_cgroup_counts() -> None:
    assert Reading(rss_anon_bytes=10, workers_bytes=5, cgroup_bytes=12).total_bytes == 15
    assert Reading(rss_anon_bytes=10, workers_bytes=5, cgroup_bytes=16).total_bytes == 16


class Machine:
    """A /proc and a /sys/fs/cgroup in a temporary directory."""

    def __init__(self, root: Path, cgroup: str = "0::/a/b\n") -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        self.write(self.proc / "meminfo", "MemTotal: 1048576 kB\nMemFree: 1 kB\n")
        self.write(self.proc / "self/statm", "100 30 10 0 0 0 0\n")
        self.write(self.proc / "self/cgroup", cgroup)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cgroup(self, path: str, limit: str, anon: int) -> None:
        self.write(self.cgroups / path / "memory.max", limit)
        self.write(self.cgroups / path / "memory.stat", f"anon {anon}\nkernel 0\nfile 999\n")

    def meter(self) -> ProcMeter:
        return ProcMeter(proc=self.proc, cgroups=self.cgroups)


def test_a_cgroup_without_a_limit_is_not_counted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.cgroup("a/b", "max", anon=10**9)
    meter = machine.meter()
    assert meter.limit_bytes == 2**30
    assert meter.read() == Reading(20 * os.sysconf("SC_PAGE_SIZE"), 0, 0)


def test_the_ancestor_with_the_smallest_limit_is_the_one_that_kills(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.cgroup("a/b", str(800 * MIB), anon=1)
    machine.cgroup("a", str(500 * MIB), anon=400 * MIB)
    meter = machine.meter()
    assert meter.limit_bytes == 500 * MIB
    assert meter.read().cgroup_bytes == 400 * MIB


def test_a_container_that_sees_the_hosts_path_finds_its_own_cgroup_at_the_root(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, cgroup="4:memory:/docker/0123\n")
    root = machine.cgroups / "memory"
    machine.write(root / "memory.limit_in_bytes", str(64 * MIB))
    machine.write(root / "memory.stat", "total_rss 5\ntotal_shmem 6\n")
    machine.write(root / "memory.kmem.usage_in_bytes", "700\n")
    meter = machine.meter()
    assert (meter.limit_bytes, meter.read().cgroup_bytes) == (64 * MIB, 711)


def test_figures_are_read_anew_each_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.cgroup("a/b", str(64 * MIB), anon=1)
    meter = machine.meter()
    meter.read()
    machine.cgroup("a/b", str(64 * MIB), anon=2)
    assert meter.read().cgroup_bytes == 2


def test_the_memory_of_workers_counts_until_they_have_ended(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(machine.proc / "77/statm", "9 5 1 0 0 0 0\n")
    meter = ProcMeter(lambda: (77, 78), machine.proc, machine.cgroups)
    assert meter.read().workers_bytes == 4 * os.sysconf("SC_PAGE_SIZE")


def test_without_proc_measuring_is_an_error_and_not_silently_off(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="memory cannot be measured here"):
        ProcMeter(proc=tmp_path, cgroups=tmp_path)


def test_this_process_is_measured() -> None:
    meter = ProcMeter()
    before = meter.read().rss_anon_bytes
    hoard = bytearray(b"x" * (64 * MIB))
    grown = meter.read().rss_anon_bytes - before
    assert grown > 60 * MIB, len(hoard)
    meter.close()
    meter.close()
