"""The short forms of `python -m tests.torture`: the same seed each time, so a change shows."""

from __future__ import annotations

import pytest

from tests.torture.campaigns import CAMPAIGNS, Campaign, play

SEED = 20261120
CASES = {"crash": 400}


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_no_promise_of_the_log_is_broken(campaign: Campaign) -> None:
    outcome = play(campaign, CASES[campaign.name], SEED)
    lines = "\n".join(outcome.lines())
    assert not outcome.tally.findings, lines
    assert not outcome.void, lines
