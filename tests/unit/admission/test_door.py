"""The door: caps per peer and in all, cheap refusals, nothing left behind."""

from __future__ import annotations

import pytest

from kvnode.admission.door import ALL, PEER, TEXTS, Door, Refusal, peer_of
from kvnode.limits import (
    HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX,
    PEERS_REMEMBERED_MAX,
    REFUSAL_LINES_PER_SECOND_MAX,
    REFUSALS_ANSWERED_PER_SECOND_MAX,
)

HOST = "10.0.0.1"
OTHER = "10.0.0.2"


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
def door(clock: Clock) -> Door:
    return Door(clock)


def refused(door: Door, peer: str = HOST, in_all: int = 10, per_peer: int = 2) -> Refusal:
    refusal = door.admit(peer, in_all, per_peer)
    assert refusal is not None
    return refusal


@pytest.mark.parametrize(
    ("peername", "peer"),
    [
        (("10.0.0.1", 4711), "10.0.0.1"),
        (("::ffff:10.0.0.1", 4711, 0, 0), "10.0.0.1"),
        (("2001:db8::1", 4711, 0, 0), "2001:db8::1"),
        (("::ffff:1", 4711, 0, 0), "::ffff:1"),
        ("", "unix"),
        (b"@abstract", "unix"),
        (None, "?"),
    ],
)
def test_a_peer_is_an_address_without_its_port(peername: object, peer: str) -> None:
    assert peer_of(peername) == peer


def test_one_peer_may_have_so_many_and_others_theirs(door: Door) -> None:
    assert door.admit(HOST, 10, 2) is None
    assert door.admit(HOST, 10, 2) is None
    assert refused(door) == Refusal(PEER, TEXTS[PEER], untold=1)
    assert door.admit(OTHER, 10, 2) is None
    door.leave(HOST)
    assert door.admit(HOST, 10, 2) is None
    assert (door.connections, door.peers) == (3, 2)
    assert (door.connections_of(HOST), door.connections_of("nobody")) == (2, 0)


def test_all_peers_together_may_have_so_many(door: Door) -> None:
    assert door.admit(HOST, 2, 9) is None
    assert door.admit(OTHER, 2, 9) is None
    assert refused(door, "10.0.0.3", in_all=2).reason == ALL
    door.leave(OTHER)
    assert door.admit("10.0.0.3", 2, 9) is None


def test_no_limit_is_no_limit(door: Door) -> None:
    for _ in range(5_000):
        assert door.admit(HOST, 10_000, 0) is None


def test_a_lower_limit_holds_for_the_next(door: Door) -> None:
    for _ in range(5):
        assert door.admit(HOST, 10, 5) is None
    door.leave(HOST)
    assert refused(door, per_peer=3).reason == PEER
    assert door.connections_of(HOST) == 4


def test_who_comes_back_too_often_is_told_no_more_until_the_next_second(
    door: Door, clock: Clock
) -> None:
    texts = [refused(door, per_peer=0, in_all=0).text for _ in range(30)]
    told = REFUSALS_ANSWERED_PER_SECOND_MAX
    assert texts == [TEXTS[ALL]] * told + [""] * (30 - told)
    assert refused(door, OTHER, in_all=0).text
    clock.now += 1
    assert refused(door, in_all=0).text


def test_the_log_hears_of_a_peer_once_a_second_and_of_all_refusals(
    door: Door, clock: Clock
) -> None:
    assert [refused(door, in_all=0).untold for _ in range(5)] == [1, 0, 0, 0, 0]
    clock.now += 1
    assert [refused(door, in_all=0).untold for _ in range(2)] == [5, 0]


def test_many_peers_do_not_flood_the_log(door: Door, clock: Clock) -> None:
    lines = [refused(door, f"10.0.1.{number}", in_all=0).untold for number in range(50)]
    assert sum(map(bool, lines)) == REFUSAL_LINES_PER_SECOND_MAX
    clock.now += 1
    assert refused(door, "10.0.1.49", in_all=0).untold == 2


def test_a_million_that_come_and_go_leave_nothing(door: Door) -> None:
    for number in range(20_000):
        peer = f"10.0.{number // 200}.{number % 200}"
        assert door.admit(peer, 10, 2) is None
        door.leave(peer)
    assert (door.connections, door.peers, door.remembered) == (0, 0, 0)


def test_the_refused_are_remembered_within_a_limit(door: Door) -> None:
    for number in range(PEERS_REMEMBERED_MAX + 500):
        refused(door, f"peer {number}", in_all=0)
    assert door.remembered == PEERS_REMEMBERED_MAX


def test_the_refused_who_are_let_in_and_leave_are_still_known(door: Door) -> None:
    for _ in range(REFUSALS_ANSWERED_PER_SECOND_MAX):
        refused(door, in_all=0)
    assert door.admit(HOST, 10, 2) is None
    assert (door.peers, door.remembered) == (1, 0)
    door.leave(HOST)
    assert refused(door, in_all=0).text == ""


def test_heavy_commands_are_admitted_at_a_steady_rate(door: Door, clock: Clock) -> None:
    rate = HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX
    assert all(door.admits_heavy(HOST) for _ in range(rate))
    assert not door.admits_heavy(HOST)
    assert door.admits_heavy(OTHER)
    clock.now += 10.5 / rate
    assert [door.admits_heavy(HOST) for _ in range(11)] == [True] * 10 + [False]
    clock.now += 3600
    assert all(door.admits_heavy(HOST) for _ in range(rate))
    assert not door.admits_heavy(HOST)


def test_who_connects_anew_does_not_get_a_full_measure(door: Door) -> None:
    assert door.admit(HOST, 10, 2) is None
    while door.admits_heavy(HOST):
        pass
    door.leave(HOST)
    assert door.admit(HOST, 10, 2) is None
    assert not door.admits_heavy(HOST)
