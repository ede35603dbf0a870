"""The broken builds can be planted, and name what brings them to light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.broken_builds import BROKEN, Build
from tests.chaos.faults import FAULTS
from tests.chaos.stage import REPOSITORY
from tests.chaos.workloads.choice import WORKLOADS


def test_there_are_a_dozen_and_more_of_different_names() -> None:
    assert len(BROKEN) >= 12


@pytest.mark.parametrize("build", BROKEN.values(), ids=lambda build: build.name)
def test_a_build_names_faults_and_workloads_that_there_are(build: Build) -> None:
    assert build.sentence.endswith(".")
    assert set(build.faults) <= set(FAULTS)
    assert set(build.workloads) <= set(WORKLOADS)


def test_all_can_be_planted_in_the_product_as_it_is() -> None:
    program = "from tests.chaos.broken_builds import BROKEN\nfor b in BROKEN.values(): b.plant()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
