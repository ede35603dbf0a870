"""The short form of `python -m tests.differential`: the same seed each time, so a change shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.differential.__main__ import FOLLOWER_EVERY, servers, what_to_compare
from tests.differential.campaign import NOTHING_FOUND, Campaign
from tests.differential.generator import Generator
from tests.differential.machine import Machine
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
def machines() -> Iterator[tuple[Machine, Machine]]:
    with servers() as started:
        yield started


def test_random_sequences_do_the_same_as_in_redis(machines: tuple[Machine, Machine]) -> None:
    alone, through_follower = machines
    campaign = Campaign(Generator(SEED, what_to_compare(alone).compared))
    for number in range(SEQUENCES):
        campaign.play(alone if number % FOLLOWER_EVERY else through_follower, number)
    found = "\n".join(line for finding in campaign.findings for line in finding_lines(finding))
    assert not found, f"seed {SEED}:\n{found}"
    assert campaign.verdict() == NOTHING_FOUND, campaign.voids


def test_every_command_of_kvnode_has_a_row_or_a_reason_for_none(
    machines: tuple[Machine, Machine],
) -> None:
    assert what_to_compare(machines[0]).unlisted == []
