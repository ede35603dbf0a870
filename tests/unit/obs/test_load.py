"""Rates that are computed when somebody looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvnode.obs.load import HALF_LIFE_SECONDS, DecayingRate


def test_the_first_look_is_the_mean_since_the_start() -> None:
    assert DecayingRate(100.0).look(50, 110.0) == 5.0


def test_after_a_half_life_the_past_counts_half() -> None:
    rate = DecayingRate(0.0)
    assert rate.look(100, 1.0) == 100.0
    assert rate.look(100, 1.0 + HALF_LIFE_SECONDS) == 50.0


def test_who_asks_seldom_sees_the_mean_of_the_time_between() -> None:
    rate = DecayingRate(0.0)
    rate.look(1_000_000, 1.0)
    assert round(rate.look(1_000_000 + 600, 601.0), 6) == 1.0


def test_two_looks_in_one_moment_see_the_same() -> None:
    rate = DecayingRate(0.0)
    assert rate.look(0, 0.0) == 0.0
    assert rate.look(10, 1.0) == 10.0
    assert rate.look(99, 1.01) == 10.0


def test_a_total_that_was_reset_counts_from_zero() -> None:
    rate = DecayingRate(0.0)
    rate.look(1000, 1.0)
    assert 0 < rate.look(10, 2.0) < 1000


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e5)), max_size=20))
def test_a_rate_is_never_negative_nor_beyond_the_fastest_growth(
    steps: list[tuple[int, float]],
) -> None:
    rate, total, now = DecayingRate(0.0), 0, 0.0
    for grown, passed in steps:
        total, now = total + grown, now + passed
        assert 0 <= rate.look(total, now) <= total / 0.1 + 1e-6
