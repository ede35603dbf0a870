"""Ticks: which of those that are due count after a pause."""

from __future__ import annotations

from kvnode.node.ticks import TICK_SECONDS, Ticks


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.ticks = 100.25

    def __call__(self) -> float:
        return self.ticks * TICK_SECONDS


def test_a_tick_is_due_once_and_not_before_its_time() -> None:
    clock = Clock()
    ticks = Ticks(clock, missed_max=10)
    taken = []
    for quarters in range(1, 9):
        clock.ticks = 100.25 + quarters / 4 + 0.01
        taken.append(ticks.take())
    assert taken == [0, 0, 0, 1, 0, 0, 0, 1]


def test_after_a_pause_only_some_of_the_missed_ticks_count() -> None:
    clock = Clock()
    ticks = Ticks(clock, missed_max=10)
    clock.ticks += 1000.5
    assert ticks.take() == 11
    assert ticks.take() == 0
    clock.ticks += 1
    assert ticks.take() == 1


def test_with_leases_all_missed_ticks_count() -> None:
    clock = Clock()
    ticks = Ticks(clock, missed_max=None)
    clock.ticks += 1000.5
    assert ticks.take() == 1000
