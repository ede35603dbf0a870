"""The ladder below the watchdog: up at once, down late, and never behind the exit."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from kvnode.admission.ladder import Ladder, Rung

LIMIT = 1000
CALM, SHED, REFUSE, CLOSE = Rung


@pytest.fixture
def ladder() -> Ladder:
    """Rungs at 600, 700 and 800; each is left below its own less 50."""
    return Ladder(LIMIT, 850)


@pytest.mark.parametrize(
    ("total", "rung"),
    [(599, None), (600, SHED), (699, SHED), (700, REFUSE), (800, CLOSE), (5000, CLOSE)],
)
def test_a_rung_begins_at_its_share_of_the_limit(
    ladder: Ladder, total: int, rung: Rung | None
) -> None:
    assert ladder.observe(total, 0.0) is rung
    assert ladder.rung is (rung or CALM)


def test_a_lower_threshold_takes_the_rungs_down_with_it() -> None:
    assert Ladder(1000, 85).begins == {SHED: 60, REFUSE: 70, CLOSE: 80}


def test_a_higher_threshold_leaves_the_rungs_where_they_are() -> None:
    assert Ladder(1000, 990).begins == {SHED: 600, REFUSE: 700, CLOSE: 800}


@pytest.mark.parametrize("threshold", [4, 5, 17, 850, 10**12])
def test_all_rungs_lie_in_order_below_the_threshold(threshold: int) -> None:
    begins = [*Ladder(10**12, threshold).begins.values(), threshold]
    assert begins == sorted(begins)
    assert begins[-2] < threshold


def test_a_rung_is_told_once(ladder: Ladder) -> None:
    assert [ladder.observe(650, second) for second in (0, 1, 2)] == [SHED, None, None]


def test_going_up_waits_for_nothing(ladder: Ladder) -> None:
    assert [ladder.observe(total, 0.0) for total in (600, 700, 800)] == [SHED, REFUSE, CLOSE]


def test_a_rung_is_left_after_a_second_below_its_margin(ladder: Ladder) -> None:
    ladder.observe(600, 0.0)
    assert ladder.observe(550, 5.0) is None
    assert ladder.observe(550, 5.9) is None
    assert ladder.observe(550, 6.0) is CALM
    assert ladder.rung is CALM


def test_within_the_margin_no_rung_is_left(ladder: Ladder) -> None:
    ladder.observe(600, 0.0)
    assert [ladder.observe(551, second) for second in range(1, 100)] == [None] * 99


def test_one_measurement_within_the_margin_begins_the_second_anew(ladder: Ladder) -> None:
    ladder.observe(600, 0.0)
    ladder.observe(100, 1.0)
    ladder.observe(551, 1.5)
    assert ladder.observe(100, 2.0) is None
    assert ladder.observe(100, 2.9) is None
    assert ladder.observe(100, 3.0) is CALM


@pytest.mark.parametrize(
    ("peak", "rung"), [(750, REFUSE), (651, REFUSE), (650, SHED), (551, SHED), (550, CALM)]
)
def test_it_goes_down_as_far_as_the_worst_of_that_second_allows(
    ladder: Ladder, peak: int, rung: Rung
) -> None:
    ladder.observe(900, 0.0)
    ladder.observe(100, 1.0)
    ladder.observe(peak, 1.5)
    assert ladder.observe(100, 2.0) is rung


def test_whatever_is_measured_it_never_refuses_and_allows_within_a_second() -> None:
    seed = 20
    rng, ladder, now = Random(seed), Ladder(LIMIT, 850), 0.0
    changes: list[tuple[float, Rung, Rung]] = []
    for _ in range(20_000):
        before = ladder.rung
        if (rung := ladder.observe(rng.randint(400, 900), now)) is not None:
            changes.append((now, before, rung))
        now += rng.choice((0.02, 0.2, 1.1))
    assert len(changes) > 100, seed
    for (entered, _, rung), (left, _, next_rung) in pairwise(changes):
        assert next_rung > rung or left - entered >= 1.0, seed
