"""The plan of a run: repeatable, fair, and never two faults that do not go together."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from tests.chaos.plan import Offer, Whom, choose, rounds

OFFERS = [
    Offer("kill", (Whom.LEADER, Whom.ALL), (0.1, 6.0)),
    Offer("cut", (Whom.FOLLOWER,), (1.0, 12.0), "lines"),
    Offer("slow", (Whom.ALL,), (2.0, 8.0), "lines"),
    Offer("restart", (Whom.ALL,), (0.0, 0.0)),
]
NAMES = ["n1", "n2", "n3", "n4", "n5"]


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    plans = [list(islice(rounds(seed, OFFERS), 50)) for seed in (7, 7, 8)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_every_fault_comes_once_before_any_comes_again() -> None:
    firsts = [one.strikes[0].fault for one in islice(rounds(3, OFFERS, pair_odds=0.0), 40)]
    for start in range(0, 40, len(OFFERS)):
        assert len(set(firsts[start : start + len(OFFERS)])) == len(OFFERS)


def test_two_at_a_time_come_with_even_odds_and_overlap() -> None:
    pairs = [one for one in islice(rounds(5, OFFERS), 400) if len(one.strikes) == 2]
    assert 150 < len(pairs) < 250
    for one in pairs:
        first, second = one.strikes
        assert 0.0 <= second.after_s <= first.seconds


def test_faults_of_one_group_are_never_paired() -> None:
    for one in islice(rounds(11, OFFERS, pair_odds=1.0), 400):
        names = [strike.fault for strike in one.strikes]
        assert len(set(names)) == len(names)
        assert set(names) != {"cut", "slow"}


def test_a_rate_says_how_often_a_fault_comes() -> None:
    offers = [
        Offer("often", (Whom.ALL,), (1.0, 2.0), rate=3.0),
        Offer("seldom", (Whom.ALL,), (1.0, 2.0), rate=0.5),
    ]
    count = Counter(one.strikes[0].fault for one in islice(rounds(1, offers, 0.0), 700))
    assert 550 < count["often"] < 650


def test_faults_last_as_long_as_they_may() -> None:
    for one in islice(rounds(13, OFFERS), 200):
        for strike in one.strikes:
            least, most = next(o.seconds for o in OFFERS if o.name == strike.fault)
            assert least <= strike.seconds <= most or least == most == strike.seconds


def test_a_plan_without_faults_is_refused() -> None:
    with pytest.raises(ValueError, match="without a fault"):
        next(rounds(1, []))


@pytest.mark.parametrize("seed", range(20))
def test_targets_play_the_part_that_was_asked_for(seed: int) -> None:
    rng = random.Random(seed)
    assert choose(NAMES, "n2", Whom.LEADER, rng) == ["n2"]
    assert choose(NAMES, "n2", Whom.FOLLOWER, rng) != ["n2"]
    assert len(set(choose(NAMES, "n2", Whom.MINORITY, rng))) == 2
    assert sorted(choose(NAMES, "n2", Whom.ALL, rng)) == NAMES
    assert choose(["n2"], "n2", Whom.FOLLOWER, rng) == ["n2"]
