"""Nodes that run out of memory together leave one by one, and none waits for the kernel."""

from __future__ import annotations

import pytest

from kvnode.admission.departure import Departure, Turn, Verdict
from kvnode.limits import LEAVE_TURN_MS, LEAVE_WAIT_SECONDS_MAX

THRESHOLD, LIMIT = 850, 1000
TURN_S = LEAVE_TURN_MS / 1000
NEEDED = Turn(place=1, is_needed=True)


@pytest.fixture
def departure() -> Departure:
    return Departure(THRESHOLD, LIMIT)


def test_below_the_threshold_everybody_stays(departure: Departure) -> None:
    assert departure.judge(THRESHOLD - 1, NEEDED, 0.0) is Verdict.STAY


def test_the_first_and_who_has_no_others_leave_at_once(departure: Departure) -> None:
    assert departure.judge(THRESHOLD, Turn(), 0.0) is Verdict.LEAVE


@pytest.mark.parametrize("place", [1, 2])
def test_the_others_leave_each_in_its_turn(departure: Departure, place: int) -> None:
    turn = Turn(place)
    assert departure.judge(THRESHOLD, turn, 7.0) is Verdict.WAIT
    assert departure.judge(THRESHOLD, turn, 7.0 + place * TURN_S - 0.01) is Verdict.WAIT
    assert departure.judge(THRESHOLD, turn, 7.0 + place * TURN_S) is Verdict.LEAVE


def test_who_is_needed_waits_until_it_is_not_and_not_for_ever(departure: Departure) -> None:
    assert departure.judge(THRESHOLD, NEEDED, 0.0) is Verdict.WAIT
    assert departure.judge(THRESHOLD, NEEDED, LEAVE_WAIT_SECONDS_MAX - 0.01) is Verdict.WAIT
    assert departure.judge(THRESHOLD, NEEDED, LEAVE_WAIT_SECONDS_MAX) is Verdict.WAIT, "its turn"
    assert departure.judge(THRESHOLD, NEEDED, LEAVE_WAIT_SECONDS_MAX + TURN_S) is Verdict.LEAVE
    first_but_needed = Departure(THRESHOLD, LIMIT)
    assert first_but_needed.judge(THRESHOLD, Turn(0, is_needed=True), 0.0) is Verdict.WAIT
    assert first_but_needed.judge(THRESHOLD, Turn(0), 0.1) is Verdict.LEAVE


def test_those_who_waited_for_the_same_node_do_not_leave_together(departure: Departure) -> None:
    third = Departure(THRESHOLD, LIMIT)
    for one, place in ((departure, 1), (third, 2)):
        assert one.judge(THRESHOLD, Turn(place, is_needed=True), 0.0) is Verdict.WAIT
        assert one.judge(THRESHOLD, Turn(place), 3.0) is Verdict.WAIT
    assert departure.judge(THRESHOLD, Turn(1), 3.0 + TURN_S) is Verdict.LEAVE
    assert third.judge(THRESHOLD, Turn(2), 3.0 + TURN_S) is Verdict.WAIT
    assert third.judge(THRESHOLD, Turn(2, is_needed=True), 3.0 + 2 * TURN_S) is Verdict.WAIT


def test_nobody_waits_beyond_what_memory_allows(departure: Departure) -> None:
    assert departure.judge(THRESHOLD, NEEDED, 0.0) is Verdict.WAIT
    assert departure.judge(departure.last_bytes, NEEDED, 0.0) is Verdict.LEAVE
    assert THRESHOLD < departure.last_bytes < LIMIT


def test_a_threshold_at_the_limit_leaves_no_room_to_wait() -> None:
    assert Departure(LIMIT, LIMIT).judge(LIMIT, NEEDED, 0.0) is Verdict.LEAVE


def test_who_got_below_the_threshold_while_it_waited_begins_anew(departure: Departure) -> None:
    departure.judge(THRESHOLD, Turn(1), 0.0)
    assert departure.judge(THRESHOLD - 1, Turn(1), 0.1) is Verdict.STAY
    assert departure.judge(THRESHOLD, Turn(1), TURN_S) is Verdict.WAIT
