"""Majorities."""

from __future__ import annotations

import itertools

import pytest

from raft import ConfState
from raft.quorum import VoteResult, agreed, majority, missing, vote_result


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    assert majority(voters) == needed


@pytest.mark.parametrize("voters", range(1, 6))
def test_agreed_is_the_largest_number_that_a_majority_has_reached(voters: int) -> None:
    for values in itertools.product(range(4), repeat=voters):
        reached = [n for n in range(4) if sum(v >= n for v in values) >= majority(voters)]
        assert agreed(values) == max(reached), values


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({}, VoteResult.PENDING),
        ({1: True}, VoteResult.PENDING),
        ({1: True, 2: True}, VoteResult.WON),
        ({1: True, 2: False}, VoteResult.PENDING),
        ({1: False, 2: False}, VoteResult.LOST),
        ({1: True, 9: True}, VoteResult.PENDING),
    ],
)
def test_votes_of_voters_decide_and_no_others(votes: dict[int, bool], result: VoteResult) -> None:
    assert vote_result(ConfState((1, 2, 3)), votes) is result


def test_an_even_group_that_is_split_has_lost() -> None:
    assert vote_result(ConfState((1, 2)), {1: True, 2: False}) is VoteResult.LOST


@pytest.mark.parametrize(
    ("granted", "refused", "result"),
    [
        ("12", "", VoteResult.PENDING),
        ("45", "", VoteResult.PENDING),
        ("1245", "", VoteResult.WON),
        ("134", "25", VoteResult.WON),
        ("12", "45", VoteResult.LOST),
        ("345", "12", VoteResult.LOST),
    ],
)
def test_a_joint_vote_is_the_worse_of_both_halves(
    granted: str, refused: str, result: VoteResult
) -> None:
    votes = {int(n): True for n in granted} | {int(n): False for n in refused}
    assert vote_result(ConfState((3, 4, 5), outgoing=(1, 2, 3)), votes) is result


@pytest.mark.parametrize(
    ("present", "needed"), [("", 2), ("3", 1), ("13", 1), ("134", 0), ("124", 1), ("45", 2)]
)
def test_what_is_missing_for_a_quorum_is_missing_in_one_half_at_least(
    present: str, needed: int
) -> None:
    here = {int(n) for n in present}
    assert missing(ConfState((3, 4, 5), outgoing=(1, 2, 3)), here) == needed


def test_nothing_is_missing_where_no_voter_is_known() -> None:
    assert missing(ConfState(()), ()) == 0
