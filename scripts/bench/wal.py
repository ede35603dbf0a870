"""How fast is the log? Prints one JSON object.

    python -m scripts.bench.wal [directory]

(As a module: run as a file, its own name would hide the package that it measures.)

The directory decides which disk is measured; a temporary one inside it is used and removed. Times
are medians where the disk is in them, and the best of many where only the processor is: others on
the machine can but add. `fdatasync_us` is a bare write of one sector and its sync, the floor of
every group.
`frame_us` is framing and CRC of one record in a group of 64, without I/O, with each CRC library
that is installed; `release_ms` removes one segment of 16 MiB, and appends wait for it.
`replay_node` is how a node reads 100 MB of log back: each entry is decoded and handed to Raft's
log; `cpu_s` beside the wall clock tells a busy machine from a slow log. `targets` holds what was
measured against what was promised: [measured, at most, measured / at most].
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from unittest.mock import patch

import wal.format as wal_format
from kvnode.limits import RAFT_CACHE_BYTES_MAX
from kvnode.node.log_writer import WalStorage, decode_entry, encode_entry
from kvnode.node.recovery import collector_resting
from raft.log import RaftLog
from raft.types import Entry
from wal import BACKEND, Identity, Options, Record, Wal
from wal.crc import Extend, _crcmod, _google
from wal.format import Kind, frame

ROUNDS = 300
REPLAY_BYTES = 16 * 1024 * 1024
PAYLOAD_BYTES = 128
NODE_LOG_BYTES = 100_000_000
NODE_ROUNDS = 3

FRAME_US_MAX = 1.5
REPLAY_S_MAX = 2.0
GROUP_RATIO_MAX = 1.3
"""What was promised of records of 128 bytes: framing, replay of 100 MB, 64 in a group against 1."""


LIBRARIES = (_google(), _crcmod())
"""(name, function) of the CRC libraries, None for one that is not installed."""


def microseconds(
    run: Callable[[], object],
    rounds: int = ROUNDS,
    average: Callable[[list[float]], float] = median,
) -> float:
    """Median time of one call."""
    times = []
    for _ in range(rounds):
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return round(average(times) * 1e6, 2)


def records(first: int, count: int, size: int = PAYLOAD_BYTES) -> list[Record]:
    """Records that do not compress to zeros."""
    return [Record(index, os.urandom(size)) for index in range(first, first + count)]


def frame_us(extend: Extend) -> dict[int, float]:
    """Framing and CRC of one record of some sizes, with the CRC of one library."""
    with patch.object(wal_format, "extend", extend):
        return {size: _frame_us(size) for size in (16, PAYLOAD_BYTES, 4096)}


def _frame_us(size: int) -> float:
    group = records(1, 64, size)

    def run() -> None:
        frame(Kind.ENTRY, group, 512, 512, 0, 2**63 + 1, 1)

    return round(microseconds(run, average=min) / 64, 3)


def open_wal(root: Path, visit: Callable[[int, bytes], None]) -> Wal:
    """The log under `root`."""
    states = (root / "state-a", root / "state-b")
    options = Options(segment_bytes=REPLAY_BYTES)
    return Wal.open(root / "wal", states, Identity(1, 1), visit=visit, options=options)


def writes_us(root: Path) -> dict[str, float]:
    """Synced writes, in turns: a noisy disk is noisy for all of them."""
    (root / "groups").mkdir()
    wal = open_wal(root / "groups", lambda _index, _payload: None)
    fd = os.open(root / "bare", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, bytes(512 * ROUNDS), 0)
    os.fsync(fd)
    offsets = iter(range(0, 512 * ROUNDS, 512))
    payloads = [os.urandom(PAYLOAD_BYTES) for _ in range(64)]

    def bare() -> None:
        os.pwrite(fd, b"x" * 512, next(offsets))
        os.fdatasync(fd)

    def group(count: int) -> Callable[[], object]:
        """Make the records before the clock runs: they are the caller's."""
        first = wal.last_index + 1
        made = [Record(first + n, payloads[n]) for n in range(count)]
        return lambda: wal.append(made)

    prepare: dict[str, Callable[[], Callable[[], object]]] = {
        "fdatasync_us": lambda: bare,
        "group_of_1_us": lambda: group(1),
        "group_of_64_us": lambda: group(64),
        "marker_us": lambda: wal.mark,
        "snapshot_us": lambda: lambda: wal.mark_snapshot(wal.last_index, payloads[0]),
    }
    times: dict[str, list[float]] = {name: [] for name in prepare}
    for _ in range(ROUNDS):
        for name, prepared in prepare.items():
            run = prepared()
            began = perf_counter()
            run()
            times[name].append(perf_counter() - began)
    state = microseconds(lambda: wal.save_state(term=1, vote=1, commit=0), 50)
    wal.close()
    os.close(fd)
    medians = {name: round(median(found) * 1e6, 1) for name, found in times.items()}
    best = round(min(times["group_of_64_us"]) / min(times["group_of_1_us"]), 3)
    return {**medians, "state_us": state, "groups_best": best}


def replay(root: Path, size: int) -> dict[str, float]:
    """Fill a log, open it again, and read all of it."""
    wal = open_wal(root, lambda _index, _payload: None)
    group = [os.urandom(size) for _ in range(64)]
    while wal.bytes <= REPLAY_BYTES:
        wal.append([Record(wal.last_index + 1 + n, payload) for n, payload in enumerate(group)])
    wal.close()
    count = 0

    def visit(_index: int, _payload: bytes) -> None:
        nonlocal count
        count += 1

    began = perf_counter()
    wal = open_wal(root, visit)
    taken = perf_counter() - began
    # The price of a read depends on how far before it the nearest checkpoint is.
    lows = itertools.cycle(range(1, wal.last_index - 64, 77))

    def read_64() -> None:
        low = next(lows)
        wal.read(low, low + 64, 1 << 30)

    read = microseconds(read_64)
    wal.close()
    return {
        "records": count,
        "open_s": round(taken, 3),
        "us_per_record": round(taken / count * 1e6, 2),
        "mb_per_s": round(count * size / taken / 1e6, 1),
        "read_64_us": read,
    }


def replay_node(root: Path) -> dict[str, float]:
    """Fill a log with Raft's entries and open it as a node does; the best of some openings."""
    size, count = fill_node_log(root)
    walls, cpus = [], []
    for _ in range(NODE_ROUNDS):
        began, busy = perf_counter(), process_time()
        wal, log = open_as_node(root)
        walls.append(perf_counter() - began)
        cpus.append(process_time() - busy)
        assert log.last_index == count
        wal.close()
    return {
        "log_bytes": size,
        "records": count,
        "open_s": round(min(walls), 3),
        "cpu_s": round(min(cpus), 3),
        "us_per_record": round(min(walls) / count * 1e6, 2),
        "mb_per_s": round(size / min(walls) / 1e6, 1),
    }


def open_as_node(root: Path) -> tuple[Wal, RaftLog]:
    """Open a log of Raft's entries; see `kvnode.node.recovery`."""
    log = RaftLog(WalStorage(), cache_bytes_max=RAFT_CACHE_BYTES_MAX)
    with collector_resting():
        wal = open_wal(root, lambda index, payload: log.restore_entry(decode_entry(index, payload)))
    return wal, log


def fill_node_log(root: Path) -> tuple[int, int]:
    """Write Raft's entries, 64 to a group; return bytes and entries."""
    wal = open_wal(root, lambda _index, _payload: None)
    head = len(encode_entry(Entry(1, 1, 0, b"")).payload)
    data = [os.urandom(PAYLOAD_BYTES - head) for _ in range(64)]
    size = 0
    while size < NODE_LOG_BYTES:
        first = wal.last_index + 1
        wal.append([encode_entry(Entry(1, first + n, 0, body)) for n, body in enumerate(data)])
        # All but the newest segment are full.
        size = (wal.segments - 1) * REPLAY_BYTES + wal.synced.offset
    wal.close()
    return size, wal.last_index


def against(measured: float, at_most: float) -> list[float]:
    """A target: [measured, at most, their ratio]."""
    return [round(measured, 3), at_most, round(measured / at_most, 2)]


def release_ms(root: Path) -> float:
    """Removing one segment."""
    wal = open_wal(root, lambda _index, _payload: None)
    large = os.urandom(REPLAY_BYTES // 2)
    times = []
    for _ in range(8):
        while wal.segments < 3:
            wal.append([Record(wal.last_index + 1, large)])
        wal.mark_snapshot(wal.last_index, b"")
        began = perf_counter()
        wal.release(wal.first_index)
        times.append(perf_counter() - began)
    wal.close()
    return round(median(times) * 1e3, 2)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        root = Path(name)
        for part in ("small", "large", "node", "release"):
            (root / part).mkdir()
        frames = {library: frame_us(extend) for library, extend in filter(None, LIBRARIES)}
        writes = writes_us(root)
        node = replay_node(root / "node")
        result = {
            "crc_backend": BACKEND,
            "frame_us": frames,
            **writes,
            "replay_128": replay(root / "small", 128),
            "replay_4096": replay(root / "large", 4096),
            "replay_node": node,
            "release_ms": release_ms(root / "release"),
            "targets": {
                f"frame_{PAYLOAD_BYTES}_us {_crcmod()[0]}": against(
                    frames[_crcmod()[0]][PAYLOAD_BYTES], FRAME_US_MAX
                ),
                "replay_node open_s": against(node["open_s"], REPLAY_S_MAX),
                "replay_node cpu_s": against(node["cpu_s"], REPLAY_S_MAX),
                "group_of_64 / group_of_1": against(
                    writes["group_of_64_us"] / writes["group_of_1_us"], GROUP_RATIO_MAX
                ),
                "the same, best of each": against(writes["groups_best"], GROUP_RATIO_MAX),
            },
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
