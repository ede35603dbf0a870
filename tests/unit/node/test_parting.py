"""Can the others do without a member? Each thing that is not well is a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from kvnode.limits import SPARE_DISK_FREE_PERCENT_MIN, SPARE_LAG_ENTRIES_MAX
from kvnode.node.change_rules import Standing, View
from kvnode.node.parting import Room, handicaps, is_only_voter, obstacles, own_obstacles
from kvnode.node.roster import founder
from kvnode.service import MemberStatus, NodeStatus
from kvnode.store.members import Role

A, B, C = 1, 2, 3
WELL = Standing(
    is_connected=True, silent_ms=10, lag=0, is_recovering=False, needs_snapshot=False, level=5
)
GONE = replace(WELL, is_connected=False)


def view_of(names: str = "abc", draining: Iterable[int] = (), **ill: Standing) -> View:
    """What `a`, the leader, sees of the voters of these names; learners have capital letters."""
    members = {
        number: replace(
            founder(number, name.lower(), f"{name}:1"),
            role=Role.LEARNER if name.isupper() else Role.VOTER,
        )
        for number, name in enumerate(names, 1)
    }
    standings = {n: ill.get(m.name, WELL) for n, m in members.items() if n != A}
    return View(
        A, None, members, standings, silent_ms_max=2_000, own_level=5, draining=frozenset(draining)
    )


def reasons(view: View, node_id: int, **more: bool) -> list[str]:
    known = {"is_changing": False, "can_hand_over": True} | more
    return obstacles(view, view.members[node_id], **known)


@pytest.mark.parametrize("node_id", [A, B, C])
@pytest.mark.parametrize("names", ["abc", "abcde", "abcD"])
def test_where_all_are_well_any_one_can_be_stopped(names: str, node_id: int) -> None:
    assert reasons(view_of(names), node_id) == []


@pytest.mark.parametrize(
    ("standing", "what"),
    [
        (GONE, "not connected"),
        (replace(WELL, silent_ms=2_001), "not heard for 2001 ms"),
        (replace(WELL, is_recovering=True), "recovering"),
    ],
)
def test_a_voter_that_cannot_be_counted_on_keeps_the_others(standing: Standing, what: str) -> None:
    view = view_of("abcde", b=standing)
    for node_id in (A, C):
        assert reasons(view, node_id) == [f"b is {what}"]
    assert reasons(view, B) == [], "it is the one that is ill itself"


def test_a_voter_that_is_far_behind_keeps_the_others() -> None:
    behind = replace(WELL, lag=SPARE_LAG_ENTRIES_MAX + 1)
    assert reasons(view_of(b=behind), C) == ["b is 1001 entries behind"]
    assert reasons(view_of(b=replace(behind, lag=SPARE_LAG_ENTRIES_MAX)), C) == []
    assert reasons(view_of(b=replace(WELL, lag=None)), C) == ["b is not known to have the log"]
    assert reasons(view_of(b=behind), B) == []


def test_a_quorum_must_be_left_of_those_that_can_be_counted_on() -> None:
    gone, sentence = (
        "c is not connected",
        "without b there is no quorum: 1 of 3 voters would be left, 2 are needed",
    )
    assert reasons(view_of(c=GONE), B) == [gone, sentence]
    assert reasons(view_of("ab"), B) == [
        "without b there is no quorum: 1 of 2 voters would be left, 2 are needed"
    ]
    assert reasons(view_of("abC"), C) == [], "a learner is in no quorum"
    assert reasons(view_of("abC", c=GONE), B) == [
        "without b there is no quorum: 1 of 2 voters would be left, 2 are needed"
    ]


def test_one_at_a_time() -> None:
    assert reasons(view_of(draining=[B]), C) == ["b is draining"]
    assert reasons(view_of(draining=[A]), C) == ["a is draining"]
    assert reasons(view_of(draining=[C]), C) == []
    assert reasons(view_of(), C, is_changing=True) == ["a change of the membership is under way"]


def test_a_leader_needs_somebody_to_hand_over_to() -> None:
    assert reasons(view_of(), A, can_hand_over=False) == [
        "a leads, and nobody who is caught up can take over"
    ]
    assert reasons(view_of(), B, can_hand_over=False) == []


def test_programs_that_are_not_adjacent_are_not_run_side_by_side_any_longer_than_needed() -> None:
    assert reasons(view_of(c=replace(WELL, level=4)), B) == []
    assert reasons(view_of(c=replace(WELL, level=3)), B) == [
        "feature levels are not adjacent: a knows 5, c knows 3"
    ]
    assert reasons(view_of(c=replace(WELL, level=3)), C) == [], "it is the one to be updated"
    assert reasons(view_of(c=replace(WELL, level=None)), B) == []


def test_a_refusal_says_of_each_voter_why_it_cannot_lead() -> None:
    view = view_of("abcdE", b=GONE, c=replace(WELL, lag=512), d=replace(WELL, lag=0))
    unfit = {4: "short of memory"}
    assert handicaps(view, lambda peer: unfit.get(peer, "")) == (
        "b is not connected, c is 512 entries behind, d is short of memory"
    )


# --- the node's own view ------------------------------------------------------------------------

PLENTY = Room(50, 100)


def status_of(*roles: str, leader: str | None = "n1") -> NodeStatus:
    members = tuple(
        MemberStatus(number, f"n{number}", "", "", role) for number, role in enumerate(roles, 1)
    )
    return NodeStatus("n1", 1, "c", roles[0], leader, None, 1, 1, 1, 1, members)


def test_without_a_leader_nobody_should_go() -> None:
    three = ("follower", "follower", "follower")
    assert own_obstacles(status_of(*three), PLENTY) == []
    assert own_obstacles(status_of(*three, leader=None), PLENTY) == ["no leader is known"]


def test_the_only_voter_is_told_so() -> None:
    assert own_obstacles(status_of("leader"), PLENTY) == ["it is the only voter"]
    assert own_obstacles(status_of("leader", "learner"), PLENTY) == ["it is the only voter"]
    assert not is_only_voter(status_of("learner", "leader"))
    assert not is_only_voter(status_of("leader", "follower"))


@pytest.mark.parametrize(
    ("room", "percent"), [(Room(19, 100), 19), (Room(0, 1 << 40), 0), (Room(0, 0), 0)]
)
def test_a_disk_that_is_nearly_full_may_keep_it_from_coming_back(room: Room, percent: int) -> None:
    (sentence,) = own_obstacles(status_of("leader", "follower", "follower"), room)
    assert sentence == f"the data directory's disk has {percent} % free, less than 20 %"
    assert SPARE_DISK_FREE_PERCENT_MIN == 20
    enough = Room(20, 100)
    assert own_obstacles(status_of("leader", "follower", "follower"), enough) == []
