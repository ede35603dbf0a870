"""The garbage collector runs where nobody waits, and does not look at what lives for ever."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from kvnode.obs.collector import (
    FULL_PAUSES_APART,
    FULL_SECONDS_MIN,
    IDLE_OBJECTS_MIN,
    YOUNG_OBJECTS,
    Collector,
)


class Cycle:
    """Garbage that reference counting does not free."""

    def __init__(self) -> None:
        self.me = self


class Clock:
    """A clock that moves by `pause_s` whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pause_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.pause_s
        return self.now_s


@pytest.fixture(autouse=True)
def collector_of_the_tests() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.collect()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settled(clock: Clock) -> Collector:
    collector = Collector(clock)
    collector.settle()
    return collector


def dead_cycle() -> weakref.ref[Cycle]:
    return weakref.ref(Cycle())


def grow_old() -> None:
    """Make whatever lives a matter of a full collection."""
    gc.collect(1)
    gc.collect(1)


def test_what_lives_at_the_start_is_frozen_and_garbage_is_not(settled: Collector) -> None:
    assert gc.get_freeze_count() > 1000
    garbage = dead_cycle()
    assert garbage() is not None
    settled.settle()
    assert garbage() is None


def test_what_was_frozen_and_died_since_is_freed_when_frozen_anew(clock: Clock) -> None:
    collector, cycle = Collector(clock), Cycle()
    collector.settle()
    garbage = weakref.ref(cycle)
    del cycle
    gc.collect()
    assert garbage() is not None, "what is frozen is not looked at"
    collector.settle()
    assert garbage() is None


def test_an_idle_loop_collects_the_young_if_they_are_worth_it(settled: Collector) -> None:
    gc.collect(0)
    few = dead_cycle()
    settled.idle()
    assert few() is not None
    kept = [[number] for number in range(IDLE_OBJECTS_MIN)]
    settled.idle()
    assert few() is None
    assert len(kept) < YOUNG_OBJECTS


def test_an_idle_loop_collects_everything_now_and_then(settled: Collector, clock: Clock) -> None:
    cycle = Cycle()
    grow_old()
    garbage = weakref.ref(cycle)
    del cycle
    settled.idle()
    assert garbage() is not None
    clock.now_s += FULL_SECONDS_MIN
    gc.collect(0)
    settled.idle()
    assert garbage() is None


def test_the_longer_a_full_collection_takes_the_rarer_it_is(clock: Clock) -> None:
    collector = Collector(clock)
    clock.pause_s = 0.1
    collector.settle()
    clock.pause_s = 0.0
    cycle = Cycle()
    grow_old()
    garbage = weakref.ref(cycle)
    del cycle
    clock.now_s += FULL_PAUSES_APART * 0.1 - 2
    gc.collect(0)
    collector.idle()
    assert garbage() is not None
    clock.now_s += 4
    gc.collect(0)
    collector.idle()
    assert garbage() is None
