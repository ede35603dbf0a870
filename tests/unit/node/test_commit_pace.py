"""Commits are as large as they may be while they are short, and no larger than that."""

from __future__ import annotations

import pytest

from kvnode.limits import ENGINE_COMMIT_MS
from kvnode.node.commit_pace import COMMITS_KEPT, SHARE_MIN, CommitPace

ALLOWED_S = ENGINE_COMMIT_MS / 1000


def after(pace: CommitPace, full_s: float, commits: int = COMMITS_KEPT) -> float:
    """Commit as much as is allowed, on an engine that needs so long for the largest commit."""
    for _ in range(commits):
        pace.committed(pace.share_max, full_s * pace.share_max)
    return pace.share_max


def test_an_engine_that_commits_quickly_gets_the_largest_transactions() -> None:
    assert after(CommitPace(), ALLOWED_S) == 1
    assert after(CommitPace(), 0.0) == 1, "where time stands still, as in the simulator"


def test_one_that_takes_long_gets_as_much_as_it_commits_in_time_and_at_once() -> None:
    assert after(CommitPace(), 4 * ALLOWED_S, commits=1) == pytest.approx(1 / 4)


def test_however_long_it_takes_a_transaction_holds_something() -> None:
    assert after(CommitPace(), 10.0) == SHARE_MIN


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_commit_that_was_held_up_or_had_little_to_do_changes_nothing(seconds: float) -> None:
    pace = CommitPace()
    after(pace, 2 * ALLOWED_S)
    pace.committed(pace.share_max, seconds)
    assert pace.share_max == pytest.approx(1 / 2)


def test_a_commit_of_a_few_writes_tells_nothing() -> None:
    pace = CommitPace()
    after(pace, 2 * ALLOWED_S)
    for _ in range(COMMITS_KEPT):
        pace.committed(0.2, 0.0)
    assert pace.share_max == pytest.approx(1 / 2)


def test_an_engine_that_becomes_quicker_or_slower_is_followed() -> None:
    pace = CommitPace()
    after(pace, 8 * ALLOWED_S)
    assert after(pace, ALLOWED_S / 2) == 1
    assert after(pace, 8 * ALLOWED_S) == pytest.approx(1 / 8)
