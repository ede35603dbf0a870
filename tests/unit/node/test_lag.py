"""A loop is late when it was late again and again, not once; and the log is not flooded with it."""

from __future__ import annotations

from kvnode.limits import (
    LATE_TICKS_MIN,
    LATE_TICKS_SECONDS,
    LATE_TOLD_SECONDS,
    LOOP_HAND_OVER_MS_MIN,
    LOOP_LAG_ALARM_MS,
    LOOP_LAG_ALARM_SECONDS,
)
from kvnode.node.lag import LoopLag

HALF_OF_THE_TIMEOUT_S = 0.25


def lag() -> LoopLag:
    return LoopLag(election_ms=500, ran=float)


def late_ticks(loop: LoopLag, *times: float) -> list[bool]:
    """Judge a late tick at each of them, and one on time right behind."""
    return [loop.judge(now, HALF_OF_THE_TIMEOUT_S) or loop.judge(now + 0.01, 0.0) for now in times]


def test_some_late_ticks_within_seconds_make_a_late_loop_and_it_is_told_once() -> None:
    loop = lag()
    assert late_ticks(loop, 1.0, 2.0, 3.0, 3.3) == [False, False, True, False]
    assert loop.is_late


def test_one_late_tick_is_no_late_loop_however_late_it_was() -> None:
    """A full garbage collection; a process that somebody stopped for an hour."""
    loop = lag()
    assert not loop.judge(3600.0, 3600.0)
    assert not any(loop.judge(3600 + tick / 100, 0.0) for tick in range(1000))
    assert not loop.is_late


def test_late_ticks_far_from_each_other_are_no_late_loop() -> None:
    apart = LATE_TICKS_SECONDS / (LATE_TICKS_MIN - 1)
    assert not any(late_ticks(lag(), *(number * apart for number in range(20))))
    assert any(late_ticks(lag(), *(number * apart * 0.9 for number in range(20))))


def test_below_half_of_the_election_timeout_no_tick_is_late() -> None:
    loop = lag()
    assert not any(loop.judge(tick / 4, HALF_OF_THE_TIMEOUT_S - 0.001) for tick in range(100))


def test_a_short_election_timeout_does_not_make_a_busy_machine_a_late_loop() -> None:
    assert LoopLag(election_ms=10, ran=float).late_after_s == LOOP_HAND_OVER_MS_MIN / 1000


def test_a_loop_keeps_up_again_when_no_tick_was_late_for_seconds() -> None:
    loop = lag()
    late_ticks(loop, 1.0, 1.5, 2.0)
    assert not loop.judge(2.0 + LATE_TICKS_SECONDS - 0.01, 0.0)
    assert loop.is_late
    assert loop.judge(2.0 + LATE_TICKS_SECONDS, 0.0)
    assert not loop.is_late
    assert not loop.judge(2.1 + LATE_TICKS_SECONDS, HALF_OF_THE_TIMEOUT_S), "it begins anew"


def test_leadership_is_left_only_after_the_others_had_time_to_say_that_they_are_late_too() -> None:
    loop = lag()
    late_ticks(loop, 1.0, 1.5, 2.0)
    assert not loop.should_hand_over(2.0 + LATE_TOLD_SECONDS - 0.01)
    assert loop.should_hand_over(2.0 + LATE_TOLD_SECONDS)
    loop.judge(2.0 + LATE_TICKS_SECONDS, 0.0)
    assert not loop.should_hand_over(2.0 + LATE_TICKS_SECONDS)


def test_the_log_gets_one_line_in_a_while_that_counts_those_it_did_not_get() -> None:
    ran = iter((0.0, 0.01, 0.035, 0.5, 1.0, 1.0))
    loop, little = LoopLag(500, ran.__next__), LOOP_LAG_ALARM_MS / 1000
    assert loop.alarm(0.0, little) is None
    first = loop.alarm(1.0, 0.03)
    assert first is not None
    assert first.fields() == {"lag_ms": 30, "ran_ms": 25, "times": 1, "longest_ms": 30}
    assert loop.alarm(2.0, 0.5) is None
    assert loop.alarm(3.0, little) is None
    later = loop.alarm(1.0 + LOOP_LAG_ALARM_SECONDS, 0.04)
    assert later is not None
    assert later.fields() == {"lag_ms": 40, "ran_ms": 0, "times": 2, "longest_ms": 500}


def test_all_lags_are_counted() -> None:
    loop = lag()
    for lag_s in (0.0, 0.001, 0.3):
        loop.judge(1.0, lag_s)
    assert (loop.lags.count, loop.lags.longest, loop.latest_s) == (3, 0.3, 0.3)
