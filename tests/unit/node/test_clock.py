"""The cluster's clock: stamps never go back, and no wall clock makes them jump."""

from __future__ import annotations

from kvnode.node.clock import StampClock


class Clocks:
    """A monotonic and a wall clock that a test moves by hand. Seconds."""

    def __init__(self, wall: float = 1_000.0) -> None:
        self.mono = 50.0
        self.wall_at = wall

    def pass_time(self, seconds: float) -> None:
        self.mono += seconds
        self.wall_at += seconds

    def stamp_clock(self) -> StampClock:
        return StampClock(lambda: self.mono, lambda: self.wall_at)


def test_the_first_leader_takes_the_wall_clock() -> None:
    clocks = Clocks()
    clock = clocks.stamp_clock()
    clock.lead()
    assert clock.stamp_ms() == 1_000_000


def test_a_leader_whose_wall_clock_is_behind_the_log_goes_on_from_the_log() -> None:
    clocks = Clocks()
    clock = clocks.stamp_clock()
    clock.observe(5_000_000)
    clock.lead()
    assert clock.stamp_ms() == 5_000_000
    clocks.pass_time(0.1)
    assert 5_000_100 <= clock.stamp_ms() <= 5_000_105


def test_a_jump_of_the_wall_clock_is_alarmed_once_and_not_followed() -> None:
    clocks = Clocks()
    clock = clocks.stamp_clock()
    clock.lead()
    clocks.wall_at += 3600
    for _ in range(10):
        clocks.pass_time(0.01)
        stamp = clock.stamp_ms()
    assert stamp == 1_000_100
    assert clock.jumps_alarmed == 1


def test_a_small_error_is_slewed_away_and_never_stepped() -> None:
    clocks = Clocks()
    clock = clocks.stamp_clock()
    clock.lead()
    clocks.wall_at += 0.5
    previous = clock.stamp_ms()
    for _ in range(2_000):
        clocks.pass_time(0.01)
        stamp = clock.stamp_ms()
        assert 0 <= stamp - previous <= 11
        previous = stamp
    assert abs(stamp - clocks.wall_at * 1000) <= 1


def test_stamps_never_go_back_when_the_wall_clock_does() -> None:
    clocks = Clocks()
    clock = clocks.stamp_clock()
    clock.lead()
    first = clock.stamp_ms()
    clocks.wall_at -= 0.9
    for _ in range(100):
        clocks.pass_time(0.001)
        assert clock.stamp_ms() >= first


def test_a_follower_goes_on_from_its_leaders_clock_when_it_becomes_leader() -> None:
    clocks = Clocks(wall=9_999.0)
    clock = clocks.stamp_clock()
    clock.follow(2_000_000)
    clocks.pass_time(1)
    clock.lead()
    assert clock.stamp_ms() == 2_001_000
    assert clock.jumps_alarmed == 1


def test_a_wrong_wall_clock_asked_before_any_leader_was_heard_leaves_no_trace() -> None:
    clocks = Clocks(wall=9_999_999.0)
    clock = clocks.stamp_clock()
    assert clock.now_ms() == 9_999_999_000
    clock.follow(2_000_000)
    assert clock.now_ms() == 2_000_000
