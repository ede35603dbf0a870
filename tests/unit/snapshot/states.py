"""States to take snapshots of, and a disk in memory to keep them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvnode.snapshot.writer import write_snapshot
from kvnode.store import batch
from kvnode.store.ops import FLUSHDB, SET
from tests.unit.store.driver import HASH_KEY, Driver

if TYPE_CHECKING:
    from kvnode.snapshot.format import SnapshotMeta
    from kvnode.snapshot.throttle import Throttle
    from kvnode.store.engine import Engine
    from wal.fs import FileSystem

CLUSTER = 0xC1
SNAP = Path("/snap")


def fill(driver: Driver, keys: int = 4) -> None:
    """All sixteen databases, deadlines, long keys, sessions, a generation that was flushed."""
    for number in range(16):
        for key in range(keys):
            driver.do(SET, number, b"key:%d" % key, b"value %d of %d" % (key, number))
        driver.do(SET, number, b"passing", b"", 16, 1000 + number)
    driver.do(SET, 3, b"long " * 200, b"1", 16, 5000)
    driver.do(SET, 3, b"long " * 200 + b"too", b"2")
    driver.do(SET, 4, b"\x00\xff" * 40, bytes(range(256)))
    driver.do(FLUSHDB, 5)
    driver.do(SET, 6, b"of a flushed generation", b"1")
    driver.do(FLUSHDB, 6)
    driver.do(SET, 6, b"of the next", b"1", 16, 7000)
    driver.append(batch.encode_register(driver.now_ms, 0, 8, 80, 800))
    driver.machine.commit()


def filled(engine: Engine, keys: int = 4) -> Driver:
    """A driver over such a state."""
    driver = Driver(engine)
    fill(driver, keys)
    return driver


def take(
    engine: Engine,
    directory: Path = SNAP,
    *,
    fs: FileSystem,
    throttle: Throttle | None = None,
    term: int = 7,
) -> SnapshotMeta:
    """Write a snapshot of what is committed."""
    return write_snapshot(
        engine,
        directory,
        hash_key=HASH_KEY,
        cluster_number=CLUSTER,
        term_of=lambda index: term,
        throttle=throttle,
        fs=fs,
    )
