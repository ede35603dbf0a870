"""The short form of `python -m tests.differential`: the same seed each time, so a change shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.differential.__main__ import Servers, servers
from tests.differential.campaign import NOTHING_FOUND, Campaign
from tests.differential.generator import Generator
from tests.differential.report import finding_lines

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="redis-server is not installed"
    ),
]

SEED = 1
SEQUENCES = 150


@pytest.fixture(scope="module")
def started() -> Iterator[Servers]:
    with servers() as running:
        yield running


def test_random_sequences_do_the_same_as_in_redis(started: Servers) -> None:
    campaign = Campaign(Generator(SEED, started.coverage().compared))
    for number in range(SEQUENCES):
        campaign.play(started.machine(number), number)
    found = "\n".join(line for finding in campaign.findings for line in finding_lines(finding))
    assert not found, f"seed {SEED}:\n{found}"
    assert campaign.verdict() == NOTHING_FOUND, campaign.voids


def test_every_command_of_kvnode_has_a_row_or_a_reason_for_none(started: Servers) -> None:
    assert started.coverage().unlisted == []
