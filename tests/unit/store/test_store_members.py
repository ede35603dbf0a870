"""The registry of members: what each change does, and which sentence refuses it."""

from __future__ import annotations

import pytest

from kvnode.errors import ConfigurationError
from kvnode.limits import CLUSTER_MEMBERS_MAX, REMOVED_IDS_MAX
from kvnode.store.changes import (
    Add,
    Change,
    Force,
    Found,
    Founder,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
)
from kvnode.store.members import Member, Members, Role
from kvnode.store.ops import BASE_LEVEL, LEVEL, MEMBERS_LEVEL

FOUND = Found(3, (Founder(3, "c", "c:1", "c:2", 30), Founder(1, "a"), Founder(2, "b")))


def after(*changes: Change) -> Members:
    """A registry of a, b and c (1 to 3), after some changes that all fit."""
    members = Members()
    for index, change in enumerate((FOUND, *changes), start=10):
        assert members.apply(index, change) is None
    return members


JOINT = (Add(4, "d"), Replace(old=2, new=4))
"""b is leaving, d comes in its place."""


# --- what each change does ----------------------------------------------------------------------


def test_a_cluster_without_a_registry_has_the_base_level_and_no_members() -> None:
    members = Members()
    assert not members.is_founded
    assert (members.index, members.level, dict(members.by_id)) == (0, BASE_LEVEL, {})


def test_founding_makes_the_bootstrapped_members_voters() -> None:
    members = after()
    assert members.is_founded
    assert (members.index, members.level, members.cluster_id) == (10, 3, "")
    assert members.voters == (1, 2, 3)
    assert (members.learners, members.outgoing, members.removed) == ((), (), ())
    assert members.by_id[3] == Member(3, "c", "c:1", "c:2", 30, Role.VOTER)


def test_members_are_in_the_order_of_their_ids() -> None:
    assert list(after(Add(9, "i"), Add(4, "d")).by_id) == [1, 2, 3, 4, 9]


def test_an_added_member_is_a_learner() -> None:
    members = after(Add(4, "d", "d:1", "d:2", 40, promote=False))
    assert (members.voters, members.learners) == ((1, 2, 3), (4,))
    assert members.by_id[4] == Member(4, "d", "d:1", "d:2", 40, Role.LEARNER, promote=False)
    assert members.index == 11


def test_promotion_makes_a_learner_a_voter() -> None:
    members = after(Add(4, "d"), Promote(4))
    assert (members.voters, members.learners) == ((1, 2, 3, 4), ())


@pytest.mark.parametrize("change", [Remove(2), Remove(4)])
def test_a_removed_member_is_gone_and_its_id_a_tombstone(change: Remove) -> None:
    members = after(Add(4, "d"), change)
    assert change.node_id not in members.by_id
    assert members.removed == (change.node_id,)
    assert not members.is_joint


def test_replacing_a_voter_is_joint_until_it_is_left() -> None:
    members = after(*JOINT)
    assert members.is_joint
    assert (members.voters, members.outgoing) == ((1, 3, 4), (1, 2, 3))
    assert members.by_id[2].role is Role.LEAVING
    assert members.removed == ()
    assert members.apply(99, LeaveJoint()) is None
    assert not members.is_joint
    assert (members.voters, members.outgoing, members.removed) == ((1, 3, 4), (), (2,))
    assert 2 not in members.by_id


def test_replacing_a_learner_needs_no_joint_change() -> None:
    members = after(Add(4, "d"), Add(5, "d", replaces=4), Replace(old=4, new=5))
    assert not members.is_joint
    assert (members.voters, members.learners, members.removed) == ((1, 2, 3, 5), (), (4,))
    assert members.by_id[5].replaces == 0


def test_the_only_voter_can_be_replaced() -> None:
    members = Members()
    members.apply(1, Found(3, (Founder(1, "a"),)))
    members.apply(2, Add(2, "b"))
    assert members.apply(3, Replace(1, 2)) is None
    assert (members.voters, members.outgoing) == ((2,), (1,))


def test_an_update_moves_addresses_and_binds_a_directory_once() -> None:
    members = after(Update(1, "new:1", "new:2", 77))
    assert members.by_id[1] == Member(1, "a", "new:1", "new:2", 77)
    assert members.apply(20, Update(1, "newer:1", "newer:2")) is None
    assert members.by_id[1] == Member(1, "a", "newer:1", "newer:2", 77)


@pytest.mark.parametrize("kept", [1, 2, 4, 5])
def test_force_leaves_one_voter_under_a_new_cluster_id_whatever_it_was(kept: int) -> None:
    members = after(*JOINT, Update(1, "", ""))
    members = after(Add(5, "e"), *JOINT, Force(kept, "c2"))
    assert (members.voters, members.learners, members.outgoing) == ((kept,), (), ())
    assert list(members.by_id) == [kept]
    assert sorted((*members.removed, kept)) == [1, 2, 3, 4, 5]
    assert members.cluster_id == "c2"


def test_the_level_rises_by_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert after(Raise(7)).level == 7


@pytest.mark.parametrize("change", [Update(1, "x", "y"), Raise(4)])
def test_what_leaves_the_voters_alone_fits_into_a_joint_change(change: Change) -> None:
    members = after(*JOINT, change)
    assert (members.voters, members.outgoing) == ((1, 3, 4), (1, 2, 3))


# --- names --------------------------------------------------------------------------------------


def test_a_replacement_may_have_the_name_of_the_member_it_replaces() -> None:
    members = after(Add(4, "b", replaces=2))
    assert members.named("b") == members.by_id[4]
    assert members.named("a") == members.by_id[1]
    assert members.named("z") is None
    members.apply(20, Replace(2, 4))
    assert members.named("b") == members.by_id[4]
    members.apply(21, LeaveJoint())
    assert members.named("b") == members.by_id[4]
    assert members.by_id[4].replaces == 0


def test_a_replacement_that_goes_again_leaves_the_name_where_it_was() -> None:
    members = after(Add(4, "b", replaces=2), Remove(4))
    assert members.named("b") == members.by_id[2]


# --- refusals -----------------------------------------------------------------------------------

REFUSED: list[tuple[tuple[Change, ...], Change, str]] = [
    ((), FOUND, "the cluster has its registry of members already"),
    ((), Add(4, "b"), "the name b belongs to b (0000000000000002)"),
    ((), Add(4, "b", replaces=1), "the name b belongs to b (0000000000000002)"),
    ((), Add(2, "d"), "b (0000000000000002) is a member already"),
    ((Remove(2),), Add(2, "b"), "b (0000000000000002) was removed, and ids are never reused"),
    ((), Add(4, "d", replaces=9), "no member has the id 0000000000000009"),
    (
        (Add(4, "b", replaces=2),),
        Add(5, "e", replaces=2),
        "b (0000000000000002) is being replaced by b (0000000000000004)",
    ),
    ((), Promote(9), "no member has the id 0000000000000009"),
    ((), Promote(1), "a (0000000000000001) is not a learner"),
    ((), Remove(9), "no member has the id 0000000000000009"),
    ((Remove(1), Remove(2), Add(4, "d")), Remove(3), "c (0000000000000003) is the last voter"),
    ((), Replace(1, 2), "b (0000000000000002) is not a learner"),
    ((), Replace(1, 9), "no member has the id 0000000000000009"),
    ((Add(4, "d"),), Replace(9, 4), "no member has the id 0000000000000009"),
    ((Add(4, "d"),), Replace(4, 4), "d (0000000000000004) cannot replace itself"),
    (
        (Add(4, "d", replaces=1),),
        Replace(2, 4),
        "d (0000000000000004) was added to replace a (0000000000000001), not b (0000000000000002)",
    ),
    ((), LeaveJoint(), "no joint change is under way"),
    ((), Update(9, "", ""), "no member has the id 0000000000000009"),
    ((), Update(3, "", "", 31), "c (0000000000000003) is bound to another data directory"),
    ((), Force(9, "c2"), "no member has the id 0000000000000009"),
    ((Force(1, "c2"),), Force(1, "c2"), "the cluster has the id c2 already"),
    ((), Raise(3), "the cluster is at feature level 3 already"),
    ((), Raise(2), "the cluster is at feature level 3 already"),
    *(
        (JOINT, change, "a joint change is under way: b (0000000000000002) is leaving")
        for change in (Add(5, "e"), Promote(4), Remove(1), Remove(2), Remove(4), Replace(1, 3))
    ),
]


@pytest.mark.parametrize(("before", "change", "sentence"), REFUSED)
def test_a_change_that_does_not_fit_is_refused_with_a_sentence_and_changes_nothing(
    before: tuple[Change, ...], change: Change, sentence: str
) -> None:
    members = after(*before)
    packed = members.pack()
    assert members.apply(99, change) == sentence
    assert members.pack() == Members.unpack(packed).pack() == packed
    assert members.index < 99


@pytest.mark.parametrize(
    "change",
    [
        *(Add(4, "d"), Promote(1), Remove(1), Replace(1, 2), LeaveJoint(), Update(1, "", "")),
        *(Force(1, "c2"), Raise(4)),
    ],
)
def test_nothing_changes_before_the_registry_is_founded(change: Change) -> None:
    members = Members()
    assert members.apply(5, change) == "the cluster has no registry of members yet"
    assert not members.is_founded


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Found(3, (Founder(1, "a"), Founder(2, "a"))), "two members are called a"),
        (
            Found(3, (Founder(1, "a"), Founder(1, "b"))),
            "two members have the id 0000000000000001",
        ),
        (Found(MEMBERS_LEVEL - 1, (Founder(1, "a"),)), "a registry of members needs feature level"),
        (
            Found(3, tuple(Founder(n, str(n)) for n in range(1, CLUSTER_MEMBERS_MAX + 2))),
            f"a cluster has at most {CLUSTER_MEMBERS_MAX} members",
        ),
    ],
)
def test_a_cluster_is_not_founded_on_contradictions(change: Found, sentence: str) -> None:
    members = Members()
    refusal = members.apply(1, change)
    assert refusal is not None
    assert refusal.startswith(sentence)
    assert not members.is_founded
    assert members.level == BASE_LEVEL


def test_members_are_bounded() -> None:
    members = Members()
    founders = tuple(Founder(n, str(n)) for n in range(1, CLUSTER_MEMBERS_MAX + 1))
    assert members.apply(1, Found(3, founders)) is None
    assert members.apply(2, Add(99, "z")) == f"a cluster has at most {CLUSTER_MEMBERS_MAX} members"


def test_tombstones_are_bounded_and_the_oldest_goes_first() -> None:
    members = after()
    members.removed = tuple(range(1000, 1000 + REMOVED_IDS_MAX))
    members.apply(20, Remove(2))
    assert len(members.removed) == REMOVED_IDS_MAX
    assert (members.removed[0], members.removed[-1]) == (1001, 2)


# --- as bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        (),
        JOINT,
        (*JOINT, LeaveJoint()),
        (Add(4, "b", "p", "c", 5, promote=False, replaces=2),),
        (Force(2, "c2"),),
    ],
)
def test_a_registry_survives_the_meta_row(changes: tuple[Change, ...]) -> None:
    members = after(*changes)
    again = Members.unpack(members.pack())
    for name in ("index", "level", "cluster_id", "by_id", "outgoing", "removed"):
        assert getattr(again, name) == getattr(members, name), name
    assert again.pack() == members.pack()
    assert again.apply(50, Add(8, "h")) == members.apply(50, Add(8, "h"))
    assert again.pack() == members.pack()


def test_every_effect_shows_in_the_bytes() -> None:
    members = after()
    seen = {members.pack()}
    changes = (Update(1, "x", ""), Add(4, "d"), Promote(4), Remove(4), Raise(4), Force(1, "c2"))
    for index, change in enumerate(changes, start=20):
        assert members.apply(index, change) is None
        seen.add(members.pack())
    members.bind(1, 11)
    seen.add(members.pack())
    assert len(seen) == len(changes) + 2


def test_a_registry_of_a_higher_level_is_refused_whatever_else_is_in_it() -> None:
    members = after(Raise(LEVEL + 1))
    with pytest.raises(ConfigurationError, match=rf"level {LEVEL + 1}.*up to {LEVEL}: use the new"):
        Members.unpack(members.pack())


def test_a_mapping_that_was_handed_out_never_changes() -> None:
    members = after()
    before = members.by_id
    members.apply(20, Remove(2))
    assert list(before) == [1, 2, 3]
    assert list(members.by_id) == [1, 3]
