"""The short form of the chaos run, and the proof that it is not blind."""

from __future__ import annotations

import time

import pytest

from tests.chaos import broken, campaign, smoke

SHORT_SECONDS = 15.0


@pytest.mark.cluster
@pytest.mark.timeout(240)
def test_every_promise_holds_under_kill_9() -> None:
    seed = time.time_ns() % 1_000_000
    judgement = campaign.run(smoke.order(SHORT_SECONDS, seed)).judgement
    assert judgement.violations == [], f"seed {seed}"
    assert judgement.undecided == [], f"seed {seed}"
    if judgement.void:
        pytest.skip(f"void, this machine was too busy: {judgement.void}")


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_log_without_fdatasync_is_found_out() -> None:
    assert broken.caught("no-fdatasync", time.time_ns() % 1_000_000) is not None
