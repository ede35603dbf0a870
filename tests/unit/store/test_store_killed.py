"""A process killed inside a transaction finds its last commit, and the log does the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvnode.store.engine_directory import open_engine
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, Driver

if TYPE_CHECKING:
    from kvnode.store.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[3]

VICTIM = """
import os, signal, sys
from pathlib import Path
from kvnode.store.engine_directory import open_engine
from tests.unit.store.test_store_killed import write_history

engine, _ = open_engine(Path(sys.argv[1]), map_bytes=1 << 28)
write_history(engine, commit_every=7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_history(engine: Engine, commit_every: int) -> Driver:
    """The same 300 entries each time."""
    driver = Driver(engine)
    for number in range(300):
        driver.now_ms += 1
        driver.do(1, number % 3, b"k%d" % (number % 40), b"v%d" % number, 16, 50)
        if number % 50 == 49:
            driver.do(8, 1)
        if len(driver.log) % commit_every == 0:
            driver.machine.commit()
    return driver


def test_a_killed_process_loses_only_what_it_had_not_committed(tmp_path: Path) -> None:
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, str(tmp_path)], cwd=REPOSITORY, check=False, timeout=60
    )
    assert victim.returncode == -signal.SIGKILL
    expected = write_history(MemoryEngine(), commit_every=1000)
    engine, reused = open_engine(tmp_path, map_bytes=1 << 28)
    machine = StateMachine(engine, hash_key=HASH_KEY)
    assert reused
    assert machine.applied == len(expected.log) // 7 * 7 < len(expected.log)
    assert machine.state_hash() == machine.recomputed_hash()
    for index in range(machine.applied, len(expected.log)):
        machine.apply(index + 1, expected.log[index])
    assert machine.state_hash() == expected.machine.state_hash()
    machine.close(clean=False)
