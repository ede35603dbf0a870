"""A slow disk is noticed while it hangs, told of once, and left only for a better one."""

from __future__ import annotations

import pytest

from kvnode.limits import DISK_CALM_SECONDS, DISK_HAND_OVER_HOLD_OFF_SECONDS
from kvnode.node.disk_health import DiskHealth, better_leader

SLOW_S = 0.2
HAND_OVER_S = 0.25


def health() -> DiskHealth:
    return DiskHealth(election_ms=500)


def test_a_job_that_hangs_is_noticed_before_it_returns() -> None:
    disk = health()
    disk.began(0.0)
    assert not disk.judge(SLOW_S - 0.01)
    assert disk.judge(SLOW_S)
    assert (disk.is_slow, disk.slow_syncs) == (True, 1)
    assert disk.wait_s(0.5) == 0.5


def test_a_disk_that_rests_waits_for_nothing_however_late_it_is() -> None:
    disk = health()
    disk.began(1.0)
    disk.ended()
    assert disk.wait_s(100.0) == 0
    assert not disk.judge(100.0)
    assert not disk.should_hand_over(100.0)


def test_an_episode_is_told_of_once_however_many_syncs_are_slow_in_it() -> None:
    disk = health()
    changes = 0
    for start in range(5):
        disk.began(start)
        changes += sum(disk.judge(start + tick / 100) for tick in range(60))
        disk.ended()
        changes += disk.judge(start + 0.6)
    assert (changes, disk.slow_syncs) == (1, 5)
    assert disk.longest_s == pytest.approx(0.59)


def test_an_episode_ends_when_no_sync_was_slow_for_a_while() -> None:
    disk = health()
    disk.began(0.0)
    disk.judge(SLOW_S)
    disk.ended()
    assert not disk.judge(SLOW_S + DISK_CALM_SECONDS - 0.01)
    assert disk.judge(SLOW_S + DISK_CALM_SECONDS)
    assert not disk.is_slow
    assert not disk.judge(SLOW_S + DISK_CALM_SECONDS + 1)


def test_half_of_the_election_timeout_is_when_a_leader_looks_for_a_better_one() -> None:
    disk = health()
    disk.began(0.0)
    assert not disk.should_hand_over(HAND_OVER_S - 0.01)
    assert disk.should_hand_over(HAND_OVER_S)


def test_a_short_election_timeout_does_not_make_a_busy_machine_a_slow_disk() -> None:
    assert DiskHealth(election_ms=100).hand_over_after_s == 0.1


def test_whoever_hands_over_is_within_an_episode_so_that_the_log_tells_why() -> None:
    for election_ms in (100, 300, 500, 5_000):
        disk = DiskHealth(election_ms)
        assert disk.slow_after_s <= disk.hand_over_after_s


def test_after_taking_office_or_an_attempt_leadership_is_left_alone_for_a_while() -> None:
    disk = health()
    disk.hold_off(0.0)
    disk.began(0.0)
    assert not disk.should_hand_over(DISK_HAND_OVER_HOLD_OFF_SECONDS - 0.01)
    assert disk.should_hand_over(DISK_HAND_OVER_HOLD_OFF_SECONDS)


def test_a_follower_is_better_only_with_something_on_its_disk_that_is_not_on_ours() -> None:
    assert better_leader(7, {2: 9, 3: 8}, voters=3) == 2
    assert better_leader(9, {2: 9, 3: 8}, voters=3) is None


def test_the_best_of_the_followers_is_taken() -> None:
    assert better_leader(7, {2: 8, 3: 8, 4: 10, 5: 9}, voters=5) == 4


def test_nobody_is_better_if_the_others_cannot_elect_without_the_slow_disk() -> None:
    assert better_leader(0, {}, voters=1) is None
    assert better_leader(7, {2: 9}, voters=2) is None
    assert better_leader(7, {2: 9}, voters=3) is None
    assert better_leader(7, {2: 9, 3: 9}, voters=4) is None
