"""What every bench needs: the load of redis-benchmark, CPU time, memory, and the machine itself.

A leaf: it knows /proc and redis-benchmark, and nothing of who is measured. Linux only, as the
benches are.
"""

from __future__ import annotations

import csv
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "bench-results"
HOST = "127.0.0.1"
VALUE_BYTES = 64
KEYS = 10_000
LOAD_SECONDS_MAX = 60.0
SYNC_PROBES = 200
SYNC_PROBE_BYTES = 4096
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchFailed(Exception):
    """A load did not run to its end, or was answered with errors: there is no figure."""


def redis_benchmark(
    port: int, commands: str, clients: int, requests: int, pipeline: int = 1
) -> list[dict[str, str]]:
    """Run redis-benchmark once: a closed loop of clients, one connection each.

    Args:
        port: where to ask, on loopback.
        commands: comma separated; one row of the result each.
        clients: connections, each with `pipeline` commands in flight.
        requests: commands in all, for each of `commands`.
        pipeline: commands that are sent together.

    Returns:
        The rows of its CSV output: "test", "rps", "p50_latency_ms", "p99_latency_ms", ….

    Raises:
        BenchFailed: it took too long or ended with an error, as it does on the first error reply.
    """
    command = [
        *("redis-benchmark", "-h", HOST, "-p", str(port), "-q", "--csv", "-t", commands),
        *("-c", str(clients), "-P", str(pipeline), "-n", str(requests)),
        *("-d", str(VALUE_BYTES), "-r", str(KEYS)),
    ]
    lines = [line for line in run_load(command).splitlines() if line.startswith('"')]
    return list(csv.DictReader(lines))


def run_load(command: Sequence[str]) -> str:
    """Run a load generator to its end; what it printed.

    Raises:
        BenchFailed: it ended with an error or took too long.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, text=True, timeout=LOAD_SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"{command[0]} did not end in {LOAD_SECONDS_MAX:g} s") from None
    except subprocess.CalledProcessError as failure:
        said = (failure.stderr or failure.stdout).strip()
        raise BenchFailed(f"{command[0]} ended with {failure.returncode}: {said}") from None
    return done.stdout


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that the processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def client_cpu_seconds() -> float:
    """User and system time of all ended child processes: that is the load generator."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def own_cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class MachineTime:
    """CPU seconds of the whole machine since it started.

    Attributes:
        used: by processes, whoever they belong to; interrupts are not counted, as they are not in
            the time of a process either.
        stolen: taken by the host of a virtual machine.
    """

    used: float
    stolen: float


def machine_time() -> MachineTime:
    """Read /proc/stat; its columns are described in proc(5)."""
    columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, _irq, _softirq, stolen = map(int, columns[:8])
    return MachineTime((user + nice + system) / TICKS_PER_SECOND, stolen / TICKS_PER_SECOND)


def memory_mib(pid: int) -> dict[str, float]:
    """Resident memory of a process: all of it, and the anonymous part."""
    wanted = {"VmRSS:": "rss", "RssAnon:": "anonymous"}
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, *rest = line.split()
        if name in wanted:
            found[wanted[name]] = round(int(rest[0]) / 1024, 1)
    return found


def probe_sync(directory: Path) -> dict[str, float]:
    """What one fdatasync of a small overwrite costs here, in microseconds."""
    path = directory / "sync-probe"
    block = os.urandom(SYNC_PROBE_BYTES)
    samples = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, bytes(SYNC_PROBE_BYTES * SYNC_PROBES), 0)
        os.fsync(fd)
        for number in range(SYNC_PROBES):
            begin = time.perf_counter_ns()
            os.pwrite(fd, block, number * SYNC_PROBE_BYTES)
            os.fdatasync(fd)
            samples.append((time.perf_counter_ns() - begin) / 1e3)
    finally:
        os.close(fd)
        path.unlink()
    ordered = sorted(samples)
    return {
        "median_us": round(statistics.median(ordered), 1),
        "p99_us": round(ordered[len(ordered) * 99 // 100], 1),
    }


def machine(directory: Path) -> dict[str, Any]:
    """What the figures were measured on; `directory` says which disk."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
        "file_system": file_system(directory),
        "fdatasync": probe_sync(directory),
    }


def file_system(directory: Path) -> str:
    """The type of the file system: on tmpfs a sync costs nothing, and that must be seen."""
    found = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, *_ = line.split()
        if directory.resolve().is_relative_to(mounted) and len(mounted) >= len(found[0]):
            found = (mounted, kind)
    return found[1]


def busy_warning(facts: dict[str, Any]) -> str:
    """A sentence when somebody else used the machine; empty otherwise."""
    if facts["load_1m"] <= (facts["cores"] or 1) / 2:
        return ""
    return "warning: the machine was busy; trust the ratios more than the figures"


def spread(values: Sequence[float]) -> str:
    """Half the distance between the extremes, in percent of the median."""
    middle = statistics.median(values)
    return f"±{(max(values) - min(values)) / 2 / middle * 100:.0f} %" if middle else "-"
