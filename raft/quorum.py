"""Majorities: what a set of voters has agreed on (paper, sections 5.2 and 5.3).

Everything that needs a quorum goes through this module, whether it is an index that is stored, a
round that is confirmed, or a vote. Joint consensus, when it comes, asks each function once per half
and takes the smaller index or the worse verdict; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from raft.types import NodeId


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


def vote_result(voters: Sequence[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Count `votes` (True: granted) among `voters`; votes of others do not count."""
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
