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


def test_who_has_no_others_leaves_at_once(departure: Departure) -> None:
    assert departure.judge(THRESHOLD, None, 0.0) is Verdict.LEAVE


def test_the_first_leaves_when_it_could_have_heard_of_others(departure: Departure) -> None:
    """Two nodes, one at once and one a moment before in its turn, left within 41 ms."""
    assert departure.judge(THRESHOLD, Turn(), 7.0) is Verdict.WAIT
    assert departure.judge(THRESHOLD, Turn(), 7.0 + TURN_S - 0.01) is Verdict.WAIT
    assert departure.judge(THRESHOLD, Turn(), 7.0 + TURN_S) is Verdict.LEAVE


@pytest.mark.parametrize("held", [NEEDED, Turn(0, is_needed=True), Turn(1)])
def test_who_is_needed_or_not_the_first_waits_and_not_for_ever(
    departure: Departure, held: Turn
) -> None:
    last = LEAVE_WAIT_SECONDS_MAX + held.place * TURN_S
    for now in (0.0, TURN_S, LEAVE_WAIT_SECONDS_MAX - 0.01, LEAVE_WAIT_SECONDS_MAX, last):
        assert departure.judge(THRESHOLD, held, now) is Verdict.WAIT
    assert departure.judge(THRESHOLD, held, last + TURN_S) is Verdict.LEAVE


def test_those_who_waited_for_the_same_node_do_not_leave_together(departure: Departure) -> None:
    third = Departure(THRESHOLD, LIMIT)
    for one, place in ((departure, 0), (third, 1)):
        assert one.judge(THRESHOLD, Turn(place, is_needed=True), 0.0) is Verdict.WAIT
        assert one.judge(THRESHOLD, Turn(place), 3.0) is Verdict.WAIT
    assert departure.judge(THRESHOLD, Turn(), 3.0 + TURN_S) is Verdict.LEAVE
    assert third.judge(THRESHOLD, Turn(1), 3.0 + 2 * TURN_S) is Verdict.WAIT
    assert third.judge(THRESHOLD, Turn(0, is_needed=True), 3.0 + 9 * TURN_S) is Verdict.WAIT


def test_nobody_waits_beyond_what_memory_allows(departure: Departure) -> None:
    assert departure.judge(THRESHOLD, NEEDED, 0.0) is Verdict.WAIT
    assert departure.judge(departure.last_bytes, NEEDED, 0.0) is Verdict.LEAVE
    assert THRESHOLD < departure.last_bytes < LIMIT


def test_a_threshold_at_the_limit_leaves_no_room_to_wait() -> None:
    assert Departure(LIMIT, LIMIT).judge(LIMIT, NEEDED, 0.0) is Verdict.LEAVE


def test_who_got_below_the_threshold_while_it_waited_begins_anew(departure: Departure) -> None:
    departure.judge(THRESHOLD, Turn(), 0.0)
    assert departure.judge(THRESHOLD - 1, Turn(), 0.1) is Verdict.STAY
    assert departure.judge(THRESHOLD, Turn(), TURN_S) is Verdict.WAIT
