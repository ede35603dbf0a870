"""May a member be stopped now? Decisions only.

Who stops a node takes one voter away, for a while at least. That is safe while every other one is
well: then nothing waits, and one more failure would still find a majority if there are five. So
the question is answered with all that is not well, a sentence each, and with nothing if all is.

Two answer it. The leader alone knows how the others are (`obstacles`); what concerns only the node
that is to be stopped that one knows itself (`own_obstacles`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kvnode.limits import SPARE_DISK_FREE_PERCENT_MIN, SPARE_LAG_ENTRIES_MAX
from kvnode.node.change_rules import View
from kvnode.service import NodeStatus
from kvnode.store.members import Member, Role
from raft.quorum import majority


class Room(NamedTuple):
    """Of a file system, in bytes."""

    free_bytes: int
    size_bytes: int


# --- the leader's view --------------------------------------------------------------------------


def obstacles(view: View, member: Member, *, is_changing: bool, can_hand_over: bool) -> list[str]:
    """Return why the others cannot do without `member` now, a sentence each; none if they can.

    Args:
        view: the leader's.
        is_changing: a change of the membership is under way.
        can_hand_over: another voter is caught up and fit to lead.
    """
    others = [one for one in _voters(view) if one.node_id != member.node_id]
    reasons = [f"{one.name} is {ailment}" for one in others if (ailment := _ailment(view, one))]
    reasons += _quorum(view, member, others)
    if is_changing:
        reasons.append("a change of the membership is under way")
    for one in view.members.values():
        if one.node_id in view.draining and one.node_id != member.node_id:
            reasons.append(f"{one.name} is draining")
    if member.node_id == view.own and others and not can_hand_over:
        reasons.append(f"{member.name} leads, and nobody who is caught up can take over")
    reasons += _levels(view, member)
    return reasons


def _voters(view: View) -> list[Member]:
    return [member for member in view.members.values() if member.role is not Role.LEARNER]


def _ailment(view: View, member: Member) -> str | None:
    """What is wrong with a voter besides the one that is to be stopped."""
    ailment = view.ailment(member.node_id)
    if ailment is not None or member.node_id == view.own:
        return ailment
    lag = view.standings[member.node_id].lag
    if lag is None or lag > SPARE_LAG_ENTRIES_MAX:
        return "not known to have the log" if lag is None else f"{lag} entries behind"
    return None


def _quorum(view: View, member: Member, others: list[Member]) -> Iterator[str]:
    if member.role is Role.LEARNER:
        return
    left = sum(view.ailment(one.node_id) is None for one in others)
    voters = len(others) + 1
    if left < majority(voters):
        yield (
            f"without {member.name} there is no quorum: {left} of {voters} voters would be left, "
            f"{majority(voters)} are needed"
        )


def _levels(view: View, member: Member) -> Iterator[str]:
    """Programs that are not adjacent were never meant to run side by side without the member."""
    known = {node_id: standing.level for node_id, standing in view.standings.items()}
    known[view.own] = view.own_level
    levels = {
        one.name: level
        for one in view.members.values()
        if one.node_id != member.node_id and (level := known.get(one.node_id)) is not None
    }
    if levels and max(levels.values()) - min(levels.values()) > 1:
        told = ", ".join(f"{name} knows {level}" for name, level in sorted(levels.items()))
        yield f"feature levels are not adjacent: {told}"


def handicaps(view: View, why_not_lead: Callable[[int], str]) -> str:
    """Say of each voter but the leader why leadership cannot go there; for a refusal."""
    told = []
    for one in _voters(view):
        if one.node_id == view.own:
            continue
        lag = view.standings[one.node_id].lag
        behind = "not known to have the log" if lag is None else f"{lag} entries behind"
        why = view.ailment(one.node_id) or why_not_lead(one.node_id) or behind
        told.append(f"{one.name} is {why}")
    return ", ".join(told)


# --- the node's own view ------------------------------------------------------------------------


def own_obstacles(status: NodeStatus, room: Room) -> list[str]:
    """Return what the node itself has to say against being stopped, a sentence each."""
    reasons = []
    if is_only_voter(status):
        reasons.append("it is the only voter")
    elif status.leader is None:
        reasons.append("no leader is known")
    percent = 100 * room.free_bytes // max(room.size_bytes, 1)
    if percent < SPARE_DISK_FREE_PERCENT_MIN:
        reasons.append(
            f"the data directory's disk has {percent} % free, less than "
            f"{SPARE_DISK_FREE_PERCENT_MIN} %"
        )
    return reasons


def is_only_voter(status: NodeStatus) -> bool:
    """Nobody else could lead, or elect anyone."""
    voters = [member for member in status.members if member.role not in ("learner", "leaving")]
    return [member.node_id for member in voters] == [status.node_id]
