"""The short form of the chaos of the membership."""

from __future__ import annotations

import time

import pytest

from tests.chaos import membership
from tests.chaos.telling import tell

CHANGES = 12
CLIENTS_PER_NODE = 1
VOTERS_MAX = 5


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_every_promise_holds_while_members_come_and_go_under_kill_9() -> None:
    seed = time.time_ns() % 1_000_000
    outcome = membership.run(membership.Plan(CHANGES, seed, CLIENTS_PER_NODE, VOTERS_MAX))
    tell(outcome.figures, outcome.judgement, outcome.kept)
    assert outcome.judgement.violations == [], f"seed {seed}"
    assert outcome.judgement.undecided == [], f"seed {seed}"
