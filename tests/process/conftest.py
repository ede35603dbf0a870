"""How long the tests on real file systems go on, and where their chance comes from."""

from __future__ import annotations

from random import SystemRandom

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Printed by pytest when the test fails; given again by --disk-seed."""
    chosen = request.config.getoption("--disk-seed") or SystemRandom().getrandbits(32)
    print(f"--disk-seed {chosen}")
    return int(chosen)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many power losses."""
    return int(request.config.getoption("--disk-rounds"))
