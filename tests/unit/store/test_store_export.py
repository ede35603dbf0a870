"""What leaves the store as its state: every live row, in order, and nothing if one is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvnode.store.export import RowsMissing
from kvnode.store.keyspace import TAG_EXPIRY, TAG_RECORD, prefix_end
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.ops import FLUSHDB, SET
from tests.unit.store.driver import Driver

REPOSITORY = Path(__file__).resolve().parents[3]

READER = """
import sys
from pathlib import Path
import lmdb
from kvnode.store.lmdb_engine import LmdbEngine

view = LmdbEngine(Path(sys.argv[1]), read_only=True)
for line in sys.stdin:
    print(view.get(b"k"), flush=True)
try:
    view.put(b"k", b"3")
except lmdb.ReadonlyError:
    print("refused")
"""


def fill(driver: Driver) -> None:
    """Three databases with rows, one of them in its second generation."""
    for number in (0, 1, 9):
        driver.do(SET, number, b"lasting", b"1")
        driver.do(SET, number, b"passing", b"1", 16, 1000)
        if number == 0:
            driver.do(FLUSHDB, 0)
            driver.do(SET, 0, b"again", b"2", 16, 1000)
    driver.machine.commit()


def test_live_rows_ascend_and_leave_flushed_generations_out(driver: Driver) -> None:
    fill(driver)
    rows = list(driver.machine.live_rows())
    keys = [key for key, _ in rows]
    assert keys == sorted(set(keys))
    assert len(keys) == (1 + 2 + 2) + 3
    assert {int.from_bytes(key[1:9], "big") for key in keys} == {1, 9, 16}
    assert all(driver.engine.get(key) == value for key, value in rows)


@pytest.mark.parametrize("tag", [TAG_RECORD, TAG_EXPIRY])
def test_a_lost_row_is_noticed(driver: Driver, tag: bytes) -> None:
    fill(driver)
    prefix = tag + bytes(7) + b"\x09"
    driver.engine.delete(next(driver.engine.keys(prefix, prefix_end(prefix))))
    with pytest.raises(RowsMissing):
        list(driver.machine.live_rows())


def test_an_altered_record_is_noticed(driver: Driver) -> None:
    fill(driver)
    key, record = next(driver.machine.live_rows())
    driver.engine.put(key, record[:-1] + b"?")
    with pytest.raises(RowsMissing):
        list(driver.machine.live_rows())


def test_a_reading_process_sees_what_was_committed_when_it_came(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "engine", map_bytes=1 << 28)
    engine.put(b"k", b"1")
    engine.commit()
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "engine")],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n")
        assert reader.stdout.readline() == "b'1'\n"
        engine.put(b"k", b"2")
        engine.commit()
        reader.stdin.write("\n")
        assert reader.stdout.readline() == "b'1'\n"
        reader.stdin.close()
        assert reader.stdout.readline() == "refused\n"
    assert engine.get(b"k") == b"2"
    engine.close(clean=False)
