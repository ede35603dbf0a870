"""The costliest: sketches that miss nothing large and accuse nobody; reports that people read."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from kvnode.admission.costs import Costs, Sketch, estimate_ns, printable_key
from kvnode.limits import (
    COST_COUNTERS_KEYS_MAX,
    COST_KEY_CHARACTERS_MAX,
    COST_LIFE_SECONDS,
    COST_TOLD_KEYS_MAX,
)


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def costs(clock: Clock) -> Costs:
    return Costs(clock)


@pytest.mark.parametrize("seed", range(5))
def test_a_sketch_brackets_every_item_and_misses_nothing_large(seed: int) -> None:
    random = Random(seed)
    sketch: Sketch[int] = Sketch(20)
    truth: Counter[int] = Counter()
    for _ in range(5_000):
        item, weight = int(random.paretovariate(0.8)), random.randrange(1, 50)
        sketch.add(item, weight)
        truth[item] += weight
    found = dict(sketch.top(20))
    assert len(sketch) == 20
    assert sketch.total == truth.total()
    for item, count in found.items():
        assert count.least <= truth[item] <= count.most, f"seed {seed}"
    large = {item for item, count in truth.items() if count > truth.total() / 20}
    assert large <= set(found), f"seed {seed}"


def test_of_items_that_are_all_alike_none_stands_out() -> None:
    sketch: Sketch[int] = Sketch(10)
    for _ in range(3):
        for item in range(1_000):
            sketch.add(item, 1)
    assert all(count.least <= 1 for _, count in sketch.top(10))


def test_what_faded_is_given_up() -> None:
    sketch: Sketch[str] = Sketch(2)
    sketch.add("old", 100)
    sketch.fade(0.5, 10)
    sketch.add("new", 100)
    assert [item for item, _ in sketch.top(2)] == ["new", "old"]
    sketch.fade(0.1, 10)
    assert [item for item, _ in sketch.top(2)] == ["new"]
    assert sketch.total == pytest.approx(15)


def test_the_report_names_who_what_and_where(costs: Costs) -> None:
    for _ in range(30):
        costs.add("10.0.0.7", "hgetall", 0, b"large", 2e6)
        costs.add("10.0.0.8", "set", 3, b"k", 1e6)
    costs.add("10.0.0.9", "config|get", 0, None, 1e6)
    report = costs.report()
    assert report["peers"][0] == {"peer": "10.0.0.7", "ms_per_second": 1.0, "share": 0.659}
    assert [line["command"] for line in report["commands"]] == ["hgetall", "set", "config|get"]
    assert [line["key"] for line in report["keys"]] == ["0:large", "3:k"]


def test_an_idle_node_names_nobody(costs: Costs, clock: Clock) -> None:
    nobody: dict[str, list[object]] = {"peers": [], "commands": [], "keys": []}
    assert costs.report() == nobody
    costs.add("p", "set", 0, b"k", 1e6)
    for _ in range(30):
        clock.now += COST_LIFE_SECONDS
        costs.fade()
    assert costs.report() == nobody


def test_a_steady_rate_is_told_as_it_is(costs: Costs, clock: Clock) -> None:
    for _ in range(600):
        clock.now += 1
        costs.fade()
        costs.fade()
        costs.add("p", "set", 0, b"k", 250e6)
    assert costs.report()["peers"][0]["ms_per_second"] == pytest.approx(250, rel=0.02)


def test_the_sketches_are_bounded(costs: Costs) -> None:
    for number in range(2_000):
        costs.add(f"peer {number}", f"command {number}", number % 16, b"%d" % number, 1e6)
    costs.add("large", "large", 0, b"large", 1e9)
    assert {len(costs.peers), len(costs.commands), len(costs.keys)} == {COST_COUNTERS_KEYS_MAX}
    report = costs.report()
    assert all(len(lines) <= COST_TOLD_KEYS_MAX for lines in report.values())
    assert [lines[0] for lines in report.values()] == [
        {kind: name, "ms_per_second": 16.667, "share": 0.333}
        for kind, name in (("peer", "large"), ("command", "large"), ("key", "0:large"))
    ]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"user:17", "0:user:17"),
        (b"a b\n\xff\\", r"0:a\x20b\x0a\xff\x5c"),
        (b"", "0:"),
        (b"x" * COST_KEY_CHARACTERS_MAX, "0:" + "x" * COST_KEY_CHARACTERS_MAX),
        (b"x" * 1_000, "0:" + "x" * COST_KEY_CHARACTERS_MAX + "…"),
    ],
)
def test_keys_are_printable_words(costs: Costs, key: bytes, text: str) -> None:
    assert printable_key((0, key)) == text
    costs.add("p", "get", 0, key, 1e6)
    assert costs.report()["keys"][0]["key"] == text


def test_large_commands_are_dearer_than_small_ones() -> None:
    assert estimate_ns(3, 70) < estimate_ns(3, 10_000) < estimate_ns(2_000, 10_000)
