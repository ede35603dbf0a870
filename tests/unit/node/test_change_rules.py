"""What a leader decides about the membership: each refusal a sentence, each duty one change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from kvnode.limits import PROMOTION_LAG_ENTRIES_MAX
from kvnode.node.change_rules import Decision, HandOver, Standing, View, decide, next_duty
from kvnode.node.roster import founder
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store.changes import (
    Add,
    Change,
    Found,
    Founder,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
)
from kvnode.store.members import Members

A, B, C, D, E, NEW = 1, 2, 3, 4, 5, 99
WELL = Standing(
    is_connected=True,
    silent_ms=10,
    lag=0,
    is_recovering=False,
    needs_snapshot=False,
    level=3,
)
GONE = replace(WELL, is_connected=False, silent_ms=12_000)


def name_of(node_id: int) -> str:
    return chr(ord("a") + node_id - 1)


def registry_of(voters: Iterable[int], *changes: Change, level: int = 3) -> Members:
    members = Members()
    founders = tuple(
        Founder(n, name_of(n), f"{name_of(n)}:7379", f"{name_of(n)}:6379", 100 + n) for n in voters
    )
    for index, change in enumerate((Found(level, founders), *changes), 1):
        assert members.apply(index, change) is None
    return members


def learner(node_id: int, *, promote: bool = True, replaces: int = 0, storage_id: int = 0) -> Add:
    name = name_of(node_id)
    storage_id = storage_id or 100 + node_id
    return Add(node_id, name, f"{name}:7379", f"{name}:6379", storage_id, promote, replaces)


def view_of(registry: Members, **ill: Standing) -> View:
    """What `a`, the leader, sees; the others are well, but for those that are named."""
    standings = {
        n: ill.get(
            m.name,
            replace(WELL, peer_address=m.peer_address, client_address=m.client_address),
        )
        for n, m in registry.by_id.items()
        if n != A
    }
    return View(A, registry, registry.by_id, standings, silent_ms_max=2_000)


def ask(view: View, action: Action, member: str = "", other: str = "", **more: object) -> Decision:
    request = ChangeRequest(action, member, other, **more)  # type: ignore[arg-type]
    return decide(view, request, NEW)


def refusal(decision: Decision) -> str:
    assert isinstance(decision, ChangeAnswer), decision
    assert decision.verdict is Verdict.REFUSED, decision
    return decision.text


def is_done(decision: Decision) -> bool:
    return isinstance(decision, ChangeAnswer) and decision.verdict is Verdict.DONE


def asks_again(decision: Decision) -> bool:
    return isinstance(decision, ChangeAnswer) and decision.verdict is Verdict.AGAIN


# --- coming ---------------------------------------------------------------------------------------


def join(view: View, name: str, **more: object) -> Decision:
    given = {"peer_address": "x:7379", "client_address": "x:6379", "storage_id": 777, "level": 3}
    return ask(view, Action.JOIN, name, **{**given, **more})


def test_a_node_that_joins_becomes_a_learner_with_a_new_id() -> None:
    view = view_of(registry_of([A]))
    assert join(view, "x") == Add(NEW, "x", "x:7379", "x:6379", 777, promote=True, replaces=0)


def test_who_asks_to_join_twice_is_told_the_id_that_it_has() -> None:
    view = view_of(registry_of([A], learner(D, storage_id=777)))
    answer = join(view, "d")
    assert is_done(answer)
    assert isinstance(answer, ChangeAnswer)
    assert answer.node_id == D


def test_a_name_that_exists_is_refused_unless_its_place_is_taken() -> None:
    view = view_of(registry_of([A, B, C]))
    assert "exists" in refusal(join(view, "c"))
    taken = join(view, "c", other="c")
    assert isinstance(taken, Add)
    assert taken.replaces == C


def test_who_is_to_replace_a_member_that_went_already_just_joins() -> None:
    view = view_of(registry_of([A, B, C], Remove(C)))
    assert join(view, "c", other=f"{C:016x}") == Add(
        NEW, "c", "x:7379", "x:6379", 777, promote=True, replaces=0
    )


def test_a_reserved_name_is_bound_to_who_comes_under_it() -> None:
    view = view_of(registry_of([A], Add(D, "d", "", "", 0)))
    assert join(view, "d") == Update(D, "x:7379", "x:6379", 777)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"level": 2}, "feature level"),
        ({"peer_address": ""}, "address"),
        ({"peer_address": "b:7379"}, "b has the peer address"),
        ({"other": "z"}, "no member 'z'"),
    ],
)
def test_a_node_that_cannot_join_is_told_why(more: dict[str, object], why: str) -> None:
    assert why in refusal(join(view_of(registry_of([A, B])), "x", **more))


def test_before_the_registry_is_founded_it_is_said_who_is_waited_for() -> None:
    members = {n: founder(n, name_of(n), f"{name_of(n)}:1") for n in (A, B, C)}
    standings = {B: replace(WELL, level=None), C: replace(WELL, level=2)}
    view = View(A, None, members, standings, silent_ms_max=2_000)
    answer = join(view, "x")
    assert isinstance(answer, ChangeAnswer)
    assert answer.verdict is Verdict.AGAIN
    assert "not heard yet: b" in answer.text
    heard = replace(view, standings={B: WELL, C: replace(WELL, level=2)})
    assert "to be updated: c" in refusal(join(heard, "x"))


def test_a_name_can_be_reserved_twice_and_a_member_cannot() -> None:
    view = view_of(registry_of([A], Add(D, "d", "", "", 0)))
    assert is_done(ask(view, Action.ADD, "d"))
    assert "exists" in refusal(ask(view, Action.ADD, "a"))
    assert ask(view, Action.ADD, "e") == Add(NEW, "e", "", "", 0, promote=True, replaces=0)


# --- promoting ------------------------------------------------------------------------------------


def test_a_learner_that_is_well_and_caught_up_is_promoted() -> None:
    view = view_of(registry_of([A], learner(D)))
    assert ask(view, Action.PROMOTE, "d") == Promote(D)
    assert is_done(ask(view, Action.PROMOTE, "a"))


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (GONE, "not connected"),
        (replace(WELL, silent_ms=5_000), "not heard for 5000 ms"),
        (replace(WELL, is_recovering=True), "recovering"),
        (replace(WELL, needs_snapshot=True), "snapshot"),
        (replace(WELL, lag=PROMOTION_LAG_ENTRIES_MAX + 1), "257 entries behind, at most 256"),
        (replace(WELL, lag=None), "not caught up"),
        (replace(WELL, level=2), "too old"),
    ],
)
def test_a_learner_that_is_not_well_is_no_voter(standing: Standing, why: str) -> None:
    view = view_of(registry_of([A], learner(D)), d=standing)
    assert why in refusal(ask(view, Action.PROMOTE, "d"))
    assert next_duty(view, remove_silent_ms=0) is None


# --- going ----------------------------------------------------------------------------------------


def test_a_member_is_removed_by_its_name_or_its_id() -> None:
    view = view_of(registry_of([A, B, C]))
    assert ask(view, Action.REMOVE, "c") == Remove(C)
    assert ask(view, Action.REMOVE, f"{C:016x}") == Remove(C)
    assert "no member" in refusal(ask(view, Action.REMOVE, "z"))


def test_a_removal_that_would_lose_the_quorum_is_refused_with_the_figures() -> None:
    view = view_of(registry_of([A, B, C]), b=GONE)
    text = refusal(ask(view, Action.REMOVE, "c"))
    assert "of 2 voters 1 would be healthy and 2 are needed (b: not connected)" in text
    assert ask(view, Action.REMOVE, "b") == Remove(B)


def test_the_last_voter_stays() -> None:
    view = view_of(registry_of([A], learner(D)))
    assert "last voter" in refusal(ask(view, Action.REMOVE, "a"))


def test_a_leader_hands_over_before_it_goes() -> None:
    assert ask(view_of(registry_of([A, B, C])), Action.REMOVE, "a") == HandOver(0)


def test_a_removal_asked_for_twice_is_done() -> None:
    view = view_of(registry_of([A, B, C], Remove(C)))
    assert is_done(ask(view, Action.REMOVE, f"{C:016x}"))


def test_a_learner_goes_whatever_the_others_are_like() -> None:
    view = view_of(registry_of([A, B, C], learner(D)), b=GONE, d=GONE)
    assert ask(view, Action.REMOVE, "d") == Remove(D)


# --- replacing ------------------------------------------------------------------------------------


def test_a_dead_voter_is_exchanged_for_a_learner_in_one_joint_change() -> None:
    view = view_of(registry_of([A, B, C], learner(D)), c=GONE)
    assert ask(view, Action.REPLACE, "c", "d") == Replace(C, D)


def test_a_replacement_needs_a_majority_of_both_halves() -> None:
    view = view_of(registry_of([A, B, C], learner(D)), b=GONE, c=GONE)
    assert "of 3 voters 1 would be healthy" in refusal(ask(view, Action.REPLACE, "c", "d"))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [("c", "z", "no member"), ("c", "c", "its own place"), ("c", "b", "voter already")],
)
def test_a_replacement_that_makes_no_sense_is_refused(old: str, new: str, why: str) -> None:
    view = view_of(registry_of([A, B, C]))
    assert why in refusal(ask(view, Action.REPLACE, old, new))


def test_a_leader_that_is_replaced_hands_over_first() -> None:
    view = view_of(registry_of([A, B, C], learner(D)))
    assert ask(view, Action.REPLACE, "a", "d") == HandOver(0)


def test_one_change_at_a_time() -> None:
    view = view_of(registry_of([A, B, C], learner(D), learner(E), Replace(C, D)))
    assert asks_again(ask(view, Action.REPLACE, "b", "e"))
    assert asks_again(ask(view, Action.REMOVE, "b"))


# --- leading --------------------------------------------------------------------------------------


def test_leadership_goes_to_a_voter_that_can_lead() -> None:
    registry = registry_of([A, B, C], learner(D))
    assert ask(view_of(registry), Action.TRANSFER, "b") == HandOver(B)
    assert ask(view_of(registry), Action.TRANSFER) == HandOver(0)
    assert is_done(ask(view_of(registry), Action.TRANSFER, "a"))
    assert "no voter" in refusal(ask(view_of(registry), Action.TRANSFER, "d"))
    assert "not connected" in refusal(ask(view_of(registry, b=GONE), Action.TRANSFER, "b"))
    lagging = view_of(registry, b=replace(WELL, needs_snapshot=True))
    assert "snapshot" in refusal(ask(lagging, Action.TRANSFER, "b"))


# --- by itself ------------------------------------------------------------------------------------


def test_the_registry_is_founded_when_all_have_said_that_they_know_it() -> None:
    members = {n: founder(n, name_of(n), f"{name_of(n)}:1") for n in (A, B)}
    view = View(A, None, members, {B: replace(WELL, level=None)}, silent_ms_max=2_000)
    assert next_duty(view, remove_silent_ms=0) is None
    known = replace(
        view,
        standings={B: replace(WELL, client_address="b:6379")},
        storage_ids={A: 101},
        own_client_address="a:6379",
    )
    assert next_duty(known, remove_silent_ms=0) == Found(
        3, (Founder(A, "a", "a:1", "a:6379", 101), Founder(B, "b", "b:1", "b:6379", 0))
    )


def test_a_joint_change_is_ended_before_anything_else() -> None:
    registry = registry_of([A, B, C], learner(D), learner(E), Replace(C, D))
    assert next_duty(view_of(registry), remove_silent_ms=0) == LeaveJoint()


def test_the_only_voter_hands_over_while_both_halves_count_and_its_successor_ends_that() -> None:
    registry = registry_of([A], learner(D, replaces=A))
    assert next_duty(view_of(registry), remove_silent_ms=0) == Replace(A, D)
    assert registry.apply(10, Replace(A, D)) is None
    view = view_of(registry)
    assert next_duty(view, remove_silent_ms=0) == HandOver(0)
    by_successor = replace(view, own=D, standings={A: WELL})
    assert next_duty(by_successor, remove_silent_ms=0) == LeaveJoint()


def test_the_level_is_raised_when_the_last_member_knows_it() -> None:
    view = replace(view_of(registry_of([A, B])), own_level=4)
    assert next_duty(view, remove_silent_ms=0) is None
    updated = replace(view, standings={B: replace(WELL, level=5)})
    assert next_duty(updated, remove_silent_ms=0) == Raise(4)


def test_a_member_that_has_moved_is_written_down() -> None:
    moved = replace(WELL, peer_address="elsewhere:7379", client_address="b:6379")
    view = view_of(registry_of([A, B]), b=moved)
    assert next_duty(view, remove_silent_ms=0) == Update(B, "elsewhere:7379", "b:6379", 102)


def test_a_leader_that_has_moved_writes_that_down_as_well() -> None:
    """It was started at another port, and elected before anybody else could write it down."""
    view = replace(view_of(registry_of([A, B])), own_peer_address="elsewhere:7379")
    assert next_duty(view, remove_silent_ms=0) == Update(A, "elsewhere:7379", "a:6379", 101)
    told = replace(view, own_peer_address="a:7379", own_client_address="a:6379")
    assert next_duty(told, remove_silent_ms=0) is None


def test_a_learner_that_is_to_stay_one_is_not_promoted() -> None:
    assert next_duty(view_of(registry_of([A], learner(D))), remove_silent_ms=0) == Promote(D)
    stays = view_of(registry_of([A], learner(D, promote=False)))
    assert next_duty(stays, remove_silent_ms=0) is None


def test_who_replaces_a_member_takes_its_place_when_caught_up() -> None:
    registry = registry_of([A, B, C], learner(D, replaces=C))
    assert next_duty(view_of(registry, c=GONE), remove_silent_ms=0) == Replace(C, D)
    behind = replace(WELL, lag=10_000)
    assert next_duty(view_of(registry, c=GONE, d=behind), remove_silent_ms=0) is None


def test_the_dead_are_removed_only_when_asked_and_only_when_a_quorum_is_left() -> None:
    registry = registry_of([A, B, C])
    assert next_duty(view_of(registry, c=GONE), remove_silent_ms=0) is None
    assert next_duty(view_of(registry, c=GONE), remove_silent_ms=10_000) == Remove(C)
    assert next_duty(view_of(registry, c=GONE), remove_silent_ms=60_000) is None
    assert next_duty(view_of(registry, b=GONE, c=GONE), remove_silent_ms=10_000) is None
