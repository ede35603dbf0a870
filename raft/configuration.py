"""Who takes part, and which step leads from one membership to the next (thesis, chapter 4).

Two majorities of one set of voters share a member. Majorities of two sets do so too if the sets
differ by one voter, and that is why a *single step* is safe: no commit and no election under the
new set passes unnoticed by the old. Any other change goes through a *joint* configuration, in which
a majority of the new half (`voters`) and one of the old half (`outgoing`) are needed for everything
(thesis, section 4.3). Learners count nowhere and come and go freely.

A change takes effect when it is applied. So two nodes may go by different configurations, but
never by two that are more than one step apart (`raft.membership` says what ensures that).
"""

from __future__ import annotations

from raft.types import NONE, ConfState, NodeId, require


def voting_members(conf_state: ConfState) -> tuple[NodeId, ...]:
    """Return those whose votes count, of both halves, sorted."""
    return tuple(sorted({*conf_state.voters, *conf_state.outgoing}))


def members(conf_state: ConfState) -> tuple[NodeId, ...]:
    """Return all that take part, sorted."""
    return tuple(sorted({*conf_state.voters, *conf_state.outgoing, *conf_state.learners}))


def check(conf_state: ConfState) -> None:
    """Refuse a membership that cannot be.

    Nobody at all is one that can: so a node begins that has not heard yet who takes part.

    Raises:
        ValueError: there are members but no voters, somebody is named twice (but in both halves of
            a joint configuration), or `NONE` is named.
    """
    voters, learners, outgoing = conf_state
    everybody = members(conf_state)
    require(bool(voters) or not everybody, "voters", voters)
    require(NONE not in everybody, "members", everybody)
    require(len(set(voters)) == len(voters), "voters", voters)
    require(len(set(outgoing)) == len(outgoing), "outgoing", outgoing)
    named = len(learners) + len({*voters, *outgoing})
    require(named == len(everybody), "learners", learners)


def check_follows(old: ConfState, new: ConfState) -> None:
    """Refuse a membership `new` that is no legal step from `old`.

    Legal is: the same voters; one voter more or less; from voters to both halves of a joint
    configuration, with the old voters outgoing; from there to the new half alone; and, for who has
    not heard of any membership yet, everything.

    Raises:
        ValueError: it is none of these, or `new` cannot be at all.
    """
    check(new)
    if not old.voters:
        return
    voters, outgoing = set(new.voters), set(new.outgoing)
    had_voters, had_outgoing = set(old.voters), set(old.outgoing)
    if outgoing == had_outgoing:
        # Within a joint configuration nothing but learners may change.
        legal = len(voters ^ had_voters) <= (0 if outgoing else 1)
    elif had_outgoing:
        legal = not outgoing and voters == had_voters
    else:
        legal = outgoing == had_voters
    if not (legal and voters):
        raise ValueError(f"{new} is no legal step from {old}")
