"""What keeps the loop is counted: every pass, and what took its time in the long ones."""

from __future__ import annotations

import pytest

from kvnode.node import slices as module
from kvnode.node.slices import Slices


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock's next readings, the first one first."""
    readings: list[float] = []
    monkeypatch.setattr(module, "perf_counter", lambda: readings.pop(0))
    return readings


def counts(slices: Slices) -> dict[str, int]:
    return {kind: seconds.count for kind, seconds in slices.kinds.items() if seconds.count}


def test_work_between_two_seams_is_of_the_kind_that_the_second_one_names(now: list[float]) -> None:
    slices = Slices()
    now += [1.0, 1.5, 1.75]
    slices.begin()
    slices.end("tick")
    slices.end("garbage")
    assert counts(slices) == {"tick": 1, "garbage": 1}
    assert slices.kinds["tick"].longest == 0.5
    assert slices.kinds["garbage"].longest == 0.25


def test_a_short_pass_is_counted_and_no_more(now: list[float]) -> None:
    slices = Slices()
    now.append(1.0009)
    slices.passed(1.0, 1.0003, 1.0006)
    assert counts(slices) == {"pass": 1}


def test_of_a_long_pass_it_is_told_what_took_its_time(now: list[float]) -> None:
    slices = Slices()
    now.append(8.0)
    slices.passed(1.0, 2.0, 4.0)
    assert counts(slices) == {"pass": 1, "consensus": 1, "apply": 1, "reads": 1}
    longest = {kind: slices.kinds[kind].longest for kind in ("pass", "consensus", "apply", "reads")}
    assert longest == {"pass": 7.0, "consensus": 1.0, "apply": 2.0, "reads": 4.0}
