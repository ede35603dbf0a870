"""Which membership may follow which."""

from __future__ import annotations

import itertools

import pytest

from raft import ConfState
from raft.configuration import check, check_follows, members, voting_members
from raft.quorum import majority

JOINT = ConfState((3, 4, 5), (6,), (1, 2, 3))


def test_members_are_those_of_all_lists_once() -> None:
    assert members(JOINT) == (1, 2, 3, 4, 5, 6)
    assert voting_members(JOINT) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        ConfState((), (1,)),
        ConfState((), (), (1,)),
        ConfState((0, 1)),
        ConfState((1, 1)),
        ConfState((1,), (2, 2)),
        ConfState((1,), (), (2, 2)),
        ConfState((1, 2), (2,)),
        ConfState((1, 2), (3,), (3, 4)),
    ],
)
def test_a_membership_that_cannot_be_is_refused(wrong: ConfState) -> None:
    with pytest.raises(ValueError, match="is out of range"):
        check(wrong)
    with pytest.raises(ValueError, match="is out of range"):
        check_follows(ConfState((1, 2, 3)), wrong)


LEGAL = [
    ("nothing changes", ConfState((1, 2), (3,)), ConfState((1, 2), (3,))),
    ("the order means nothing", ConfState((1, 2, 3)), ConfState((3, 1, 2))),
    ("learners come", ConfState((1,)), ConfState((1,), (2, 3))),
    ("learners go", ConfState((1,), (2, 3)), ConfState((1,))),
    ("a learner becomes a voter", ConfState((1,), (2,)), ConfState((1, 2))),
    ("a voter becomes a learner", ConfState((1, 2)), ConfState((1,), (2,))),
    ("a voter goes", ConfState((1, 2, 3)), ConfState((2, 3))),
    ("all voters are replaced", ConfState((1, 2), (3,)), ConfState((3,), (), (1, 2))),
    ("a learner comes meanwhile", JOINT, ConfState((3, 4, 5), (6, 7), (1, 2, 3))),
    ("the old half leaves", JOINT, ConfState((3, 4, 5), (6,))),
    ("a joiner hears who takes part", ConfState(()), JOINT),
    ("a joiner has heard nothing", ConfState(()), ConfState(())),
]


@pytest.mark.parametrize(("old", "new"), [pytest.param(o, n, id=name) for name, o, n in LEGAL])
def test_a_step_is_legal_when(old: ConfState, new: ConfState) -> None:
    check_follows(old, new)


ILLEGAL = [
    ("two voters come", ConfState((1,)), ConfState((1, 2, 3))),
    ("two voters go", ConfState((1, 2, 3)), ConfState((1,))),
    ("one is exchanged for another", ConfState((1, 2, 3)), ConfState((1, 2, 4))),
    ("the last voter goes", ConfState((1,)), ConfState(())),
    ("the old half is not the old voters", ConfState((1, 2, 3)), ConfState((4,), (), (1, 2))),
    ("one joint change follows another", JOINT, ConfState((7,), (), (3, 4, 5))),
    ("the old half changes", JOINT, ConfState((3, 4, 5), (6,), (1, 2))),
    ("the new half changes", JOINT, ConfState((3, 4), (6,), (1, 2, 3))),
    ("leaving for another new half", JOINT, ConfState((3, 4), (6,))),
    ("back to the old half", JOINT, ConfState((1, 2, 3), (6,))),
]


@pytest.mark.parametrize(("old", "new"), [pytest.param(o, n, id=name) for name, o, n in ILLEGAL])
def test_a_step_is_illegal_when(old: ConfState, new: ConfState) -> None:
    with pytest.raises(ValueError, match="is no legal step"):
        check_follows(old, new)


def quorums(conf_state: ConfState) -> list[set[int]]:
    """All sets of voters that decide."""
    voting = voting_members(conf_state)
    sets = [set(c) for n in range(len(voting) + 1) for c in itertools.combinations(voting, n)]
    halves = [half for half in (conf_state.voters, conf_state.outgoing) if half]
    return [s for s in sets if all(len(s & set(h)) >= majority(len(h)) for h in halves)]


def test_after_any_legal_step_every_old_and_every_new_quorum_share_a_voter() -> None:
    subsets = [c for n in range(5) for c in itertools.combinations((1, 2, 3, 4), n)]
    configurations = [ConfState(v, (), o) for v in subsets if v for o in subsets]
    steps = 0
    for old, new in itertools.product(configurations, repeat=2):
        try:
            check_follows(old, new)
        except ValueError:
            continue
        steps += 1
        assert all(a & b for a in quorums(old) for b in quorums(new)), (old, new)
    assert steps > 500
