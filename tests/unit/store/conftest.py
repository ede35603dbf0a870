"""Every store test runs over both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.memory_engine import MemoryEngine
from tests.unit.store.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kvnode.store.engine import Engine


@pytest.fixture(params=["memory", "lmdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty engine."""
    made: Engine
    if request.param == "memory":
        made = MemoryEngine()
    else:
        made = LmdbEngine(tmp_path / "engine", map_bytes=1 << 28)
    yield made
    made.close(clean=False)


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """A machine with one registered session."""
    return Driver(engine)
