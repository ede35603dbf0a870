"""Snapshots are taken of, and loaded into, both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvnode.store.engine import Engine
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.memory_engine import MemoryEngine

Engines = Callable[[], Engine]


@pytest.fixture(params=["memory", "lmdb"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engines]:
    """Makes empty engines of one kind."""
    made: list[Engine] = []

    def make() -> Engine:
        engine: Engine = MemoryEngine()
        if request.param == "lmdb":
            engine = LmdbEngine(tmp_path / f"engine-{len(made)}", map_bytes=1 << 28)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close(clean=False)
