"""How fast is the log? Prints one JSON object.

    python -m scripts.bench.wal [directory]

(As a module: run as a file, its own name would hide the package that it measures.)

The directory decides which disk is measured; a temporary one inside it is used and removed. Times
are medians; `fdatasync_us` is a bare write of one sector and its sync, the floor of every group.
`frame_us` is framing and CRC of one record in a group of 64, without I/O; `release_ms` removes one
segment of 16 MiB, and appends wait for it.
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
from time import perf_counter

from wal import BACKEND, Identity, Options, Record, Wal
from wal.crc import _crcmod
from wal.format import Kind, frame

ROUNDS = 300
REPLAY_BYTES = 16 * 1024 * 1024
PAYLOAD_BYTES = 128


def microseconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median time of one call."""
    times = []
    for _ in range(rounds):
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return round(median(times) * 1e6, 2)


def records(first: int, count: int, size: int = PAYLOAD_BYTES) -> list[Record]:
    """Records that do not compress to zeros."""
    return [Record(index, os.urandom(size)) for index in range(first, first + count)]


def frame_us(size: int) -> float:
    """Framing and CRC of one record."""
    group = records(1, 64, size)
    return round(microseconds(lambda: frame(Kind.ENTRY, group, 512, 512, 0, 2**63 + 1, 1)) / 64, 3)


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

    def append(count: int) -> None:
        first = wal.last_index + 1
        wal.append([Record(first + n, payloads[n]) for n in range(count)])

    runs: dict[str, Callable[[], object]] = {
        "fdatasync_us": bare,
        "group_of_1_us": lambda: append(1),
        "group_of_64_us": lambda: append(64),
        "marker_us": wal.mark,
        "snapshot_us": lambda: wal.mark_snapshot(wal.last_index, payloads[0]),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = perf_counter()
            run()
            times[name].append(perf_counter() - began)
    state = microseconds(lambda: wal.save_state(term=1, vote=1, commit=0), 50)
    wal.close()
    os.close(fd)
    medians = {name: round(median(found) * 1e6, 1) for name, found in times.items()}
    return {**medians, "state_us": state}


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
        for part in ("small", "large", "release"):
            (root / part).mkdir()
        result = {
            "crc_backend": BACKEND,
            "crcmod": _crcmod()[0],
            "frame_us": {size: frame_us(size) for size in (16, 128, 4096)},
            **writes_us(root),
            "replay_128": replay(root / "small", 128),
            "replay_4096": replay(root / "large", 4096),
            "release_ms": release_ms(root / "release"),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
