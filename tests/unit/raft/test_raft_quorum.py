"""Majorities."""

from __future__ import annotations

import itertools

import pytest

from raft.quorum import VoteResult, agreed, majority, vote_result


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
    assert vote_result((1, 2, 3), votes) is result


def test_an_even_group_that_is_split_has_lost() -> None:
    assert vote_result((1, 2), {1: True, 2: False}) is VoteResult.LOST
