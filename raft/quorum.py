"""Majorities: what a set of voters has agreed on (paper, sections 5.2 and 5.3).

Everything that needs a quorum goes through this module, whether it is an index that is stored, a
round that is confirmed, or a vote. While a change of membership is joint, two sets of voters are
asked, each by itself: of two indexes the smaller is agreed, of two verdicts the worse one holds
(thesis, section 4.3). Who is in both halves counts in both.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from enum import Enum

from raft.types import ConfState, NodeId


class VoteResult(Enum):
    """What the ballots so far mean."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(voters: int) -> int:
    """Return how many of `voters` are a quorum: any two of that size share a member."""
    return voters // 2 + 1


def agreed(values: Sequence[int]) -> int:
    """Return the largest number that a quorum has reached, given one number per voter.

    With match indexes this is the index that is stored on a quorum; with acknowledged rounds it is
    the newest round that a quorum has confirmed. `values` must not be empty.
    """
    # Sorted upwards, the element at (n - 1) // 2 has a majority at or above itself.
    return sorted(values)[(len(values) - 1) // 2]


def vote_result(conf_state: ConfState, votes: Mapping[NodeId, bool]) -> VoteResult:
    """Count `votes` (True: granted); those of others than voters do not count."""
    result = half_result(conf_state.voters, votes)
    if not conf_state.outgoing:
        return result
    both = {result, half_result(conf_state.outgoing, votes)}
    if VoteResult.LOST in both:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in both else VoteResult.WON


def half_result(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Count `votes` among the voters of one half, or of a membership that is not joint."""
    granted = 0
    missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = majority(len(voters))
    if granted >= needed:
        return VoteResult.WON
    if granted + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def missing(conf_state: ConfState, present: Container[NodeId]) -> int:
    """Return how many more voters, besides those `present`, at least one half needs."""
    halves = [half for half in (conf_state.voters, conf_state.outgoing) if half]
    needs = [majority(len(half)) - len([v for v in half if v in present]) for half in halves]
    return max([0, *needs])
