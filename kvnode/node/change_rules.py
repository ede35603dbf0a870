"""Which changes of the membership a leader makes: for whom it is asked, and by itself.

Pure decisions about a `View`, which is all that the leader knows of its members. A change is
refused where it would leave the cluster without a quorum of healthy voters, or make a voter of a
node that is not well or far behind; the sentence names who and by how much. What does not fit the
registry (a name that exists, the last voter) is refused here as well as at apply, where it counts:
two requests may race, and the log decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from kvnode.limits import CLUSTER_MEMBERS_MAX, PROMOTION_LAG_ENTRIES_MAX
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
from kvnode.store.members import Member, Members, Role
from kvnode.store.ops import LEVEL, MEMBERS_LEVEL
from raft.quorum import majority


@dataclass(frozen=True, slots=True)
class Standing:
    """How a member stands with the leader.

    Attributes:
        silent_ms: since it was heard last, or since the leader took office.
        lag: entries that its log is behind; None while that is unknown.
        level: the newest feature level that it knows; None before its first hello.
        peer_address: what it said of itself last; "" for nothing.
        client_address: the same.
    """

    is_connected: bool
    silent_ms: int
    lag: int | None
    is_recovering: bool
    needs_snapshot: bool
    level: int | None
    peer_address: str = ""
    client_address: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What a leader goes by.

    Attributes:
        own: the leader's node id.
        registry: None before the first change of the cluster.
        members: by node id.
        standings: by node id, of all members but the leader.
        silent_ms_max: who was not heard for longer is not healthy.
        storage_ids: the data directories by which the members registered, by node id.
        own_peer_address: where its peers reach the leader; "" if it was not told.
        own_client_address: the same for clients.
        own_level: the newest feature level that it knows.
        draining: node ids of those that are about to be stopped, the leader perhaps among them.
    """

    own: int
    registry: Members | None
    members: Mapping[int, Member]
    standings: Mapping[int, Standing]
    silent_ms_max: int
    storage_ids: Mapping[int, int] = field(default_factory=dict)
    own_peer_address: str = ""
    own_client_address: str = ""
    own_level: int = LEVEL
    draining: frozenset[int] = frozenset()

    def named(self, name: str) -> Member | None:
        """The member of that name or id (16 hex digits); None if there is none."""
        if self.registry is not None and (member := self.registry.named(name)) is not None:
            return member
        for member in self.members.values():
            if name in (member.name, f"{member.node_id:016x}"):
                return member
        return None

    def ailment(self, node_id: int) -> str | None:
        """Why a member cannot be counted on; None if it can."""
        if node_id == self.own:
            return None
        standing = self.standings.get(node_id)
        if standing is None or not standing.is_connected:
            return "not connected"
        if standing.silent_ms > self.silent_ms_max:
            return f"not heard for {standing.silent_ms} ms"
        return "recovering" if standing.is_recovering else None


@dataclass(frozen=True, slots=True)
class HandOver:
    """Leadership has to go to this node (0: to the best one) before, or instead of, a change."""

    target: int


Decision = ChangeAnswer | Change | HandOver


def refused(text: str, node_id: int = 0) -> ChangeAnswer:
    """Nothing is changed."""
    return ChangeAnswer(Verdict.REFUSED, text, node_id)


def done(text: str, node_id: int = 0) -> ChangeAnswer:
    """It is as it was asked for."""
    return ChangeAnswer(Verdict.DONE, text, node_id)


def decide(view: View, request: ChangeRequest, new_id: int) -> Decision:
    """What a leader does about a change; `new_id` is the id of a member to be made."""
    if request.action in (Action.DRAIN, Action.UNDRAIN):
        return refused(f"{request.action} is asked of the node itself")
    if request.action is Action.TRANSFER:
        return _transfer(view, request)
    if view.registry is None:
        return _not_founded(view)
    if request.action is Action.JOIN:
        return _join(view, view.registry, request, new_id)
    if request.action is Action.ADD:
        return _add(view, request, new_id)
    member = view.named(request.member)
    if member is None:
        return _gone(view.registry, request)
    if request.action is Action.PROMOTE:
        return _promote(view, member)
    if request.action is Action.REMOVE:
        return _remove(view, view.registry, member)
    return _replace(view, view.registry, member, request.other)


def outcome(view: View, change: Change) -> ChangeAnswer:
    """What an operator is told when a change, asked for now, has been made."""

    def name(node_id: int) -> str:
        member = view.members.get(node_id)
        return member.name if member is not None else f"{node_id:016x}"

    match change:
        case Add():
            return done(f"{change.name} is a learner now", change.node_id)
        case Promote():
            return done(f"{name(change.node_id)} is a voter now", change.node_id)
        case Remove():
            return done(f"{name(change.node_id)} was removed", change.node_id)
        case Replace():
            return done(f"{name(change.new)} takes the place of {name(change.old)}", change.new)
        case Update():
            return done(f"{name(change.node_id)} has joined", change.node_id)
        case _:
            return done("done")


def _not_founded(view: View) -> ChangeAnswer:
    """The membership cannot be changed yet: for a moment, or until an operator does something."""
    unheard = [m.name for m in _others(view) if _level(view, m.node_id) is None]
    if unheard:
        names = ", ".join(unheard)
        text = f"not before all initial members were heard once; not heard yet: {names}"
        return ChangeAnswer(Verdict.AGAIN, text)
    older = [m.name for m in _others(view) if (_level(view, m.node_id) or 0) < MEMBERS_LEVEL]
    if older:
        return refused(
            f"the membership can be changed from feature level {MEMBERS_LEVEL} on; "
            f"to be updated: {', '.join(older)}"
        )
    return ChangeAnswer(Verdict.AGAIN, "the membership is being founded")


def _others(view: View) -> Iterable[Member]:
    return [member for member in view.members.values() if member.node_id != view.own]


def _level(view: View, node_id: int) -> int | None:
    if node_id == view.own:
        return view.own_level
    standing = view.standings.get(node_id)
    return standing.level if standing is not None else None


# --- requests -------------------------------------------------------------------------------------


def _transfer(view: View, request: ChangeRequest) -> Decision:
    if not request.member:
        return HandOver(0)
    member = view.named(request.member)
    if member is None:
        return refused(f"there is no member {request.member!r}")
    if member.node_id == view.own:
        return done(f"{member.name} leads", member.node_id)
    if member.role is not Role.VOTER:
        return refused(f"{member.name} is no voter and cannot lead", member.node_id)
    ailment = view.ailment(member.node_id)
    if ailment is not None:
        return refused(f"{member.name} cannot lead now: {ailment}", member.node_id)
    if view.standings[member.node_id].needs_snapshot:
        return refused(f"{member.name} cannot lead now: it needs a snapshot first", member.node_id)
    return HandOver(member.node_id)


def _join(view: View, registry: Members, request: ChangeRequest, new_id: int) -> Decision:
    if request.level < registry.level:
        return refused(
            f"the cluster is at feature level {registry.level}, and this program knows "
            f"{request.level}: use a newer one"
        )
    if not request.peer_address:
        return refused("a member needs an address at which its peers reach it")
    known = next((m for m in view.members.values() if m.storage_id == request.storage_id), None)
    if known is not None:
        return done(f"{known.name} is a member already", known.node_id)
    old = view.named(request.other) if request.other else None
    if request.other and old is None and not _was_removed(registry, request.other):
        return refused(f"there is no member {request.other!r} to be replaced")
    taken = next((m for m in view.members.values() if m.peer_address == request.peer_address), None)
    if taken is not None and taken is not old and taken.name != request.member:
        return refused(f"{taken.name} has the peer address {request.peer_address} already")
    same = view.named(request.member)
    if same is not None and same.storage_id == 0 and same.role is Role.LEARNER:
        return Update(
            same.node_id, request.peer_address, request.client_address, request.storage_id
        )
    if same is not None and same is not old:
        return refused(
            f"a member called {request.member!r} exists; call this one otherwise (--node), or say "
            f"--replaces {request.member} if it takes that one's place"
        )
    return _admit(view, request, new_id, replaces=old.node_id if old else 0)


def _was_removed(registry: Members, text: str) -> bool:
    """Whether this is the id of a member that went: then its place is free."""
    return _is_id(text) and int(text, 16) in registry.removed


def _is_id(text: str) -> bool:
    return len(text) == 16 and all(digit in "0123456789abcdef" for digit in text)


def _add(view: View, request: ChangeRequest, new_id: int) -> Decision:
    same = view.named(request.member)
    if same is not None:
        reserved = same.storage_id == 0 and same.role is Role.LEARNER
        if reserved and same.peer_address == request.peer_address:
            return done(f"the name {same.name!r} is reserved", same.node_id)
        return refused(f"a member called {same.name!r} exists", same.node_id)
    address = request.peer_address
    taken = next((m for m in view.members.values() if address and m.peer_address == address), None)
    if taken is not None:
        return refused(f"{taken.name} has the peer address {address} already", taken.node_id)
    return _admit(view, request, new_id, replaces=0)


def _admit(view: View, request: ChangeRequest, new_id: int, *, replaces: int) -> Decision:
    if len(view.members) >= CLUSTER_MEMBERS_MAX:
        return refused(f"there are {len(view.members)} members, and no more are served")
    return Add(
        new_id,
        request.member,
        request.peer_address,
        request.client_address,
        request.storage_id,
        request.promote,
        replaces,
    )


def _gone(registry: Members, request: ChangeRequest) -> Decision:
    """A member that does not exist; if it was removed, whoever asked for that may ask again."""
    text = request.member
    if _was_removed(registry, text):
        if request.action is Action.REMOVE:
            return done(f"{text} was removed", int(text, 16))
        new = registry.named(request.other)
        if request.action is Action.REPLACE and new is not None and new.role is Role.VOTER:
            return done(f"{new.name} has taken its place", new.node_id)
    return refused(f"there is no member {text!r}")


def _promote(view: View, member: Member) -> Decision:
    if member.role is not Role.LEARNER:
        return done(f"{member.name} is a voter", member.node_id)
    reason = why_not_promoted(view, member)
    if reason is None:
        reason = _why_no_quorum(view, {*_voters(view), member.node_id})
    return refused(reason, member.node_id) if reason else Promote(member.node_id)


def why_not_promoted(view: View, member: Member) -> str | None:
    """Why a learner must not become a voter now; None if it may."""
    ailment = view.ailment(member.node_id)
    if ailment is not None:
        return f"{member.name} is not healthy: {ailment}"
    standing = view.standings[member.node_id]
    if standing.needs_snapshot:
        return f"{member.name} is not caught up: it needs a snapshot first"
    if standing.lag is None or standing.lag > PROMOTION_LAG_ENTRIES_MAX:
        return (
            f"{member.name} is not caught up: {standing.lag} entries behind, at most "
            f"{PROMOTION_LAG_ENTRIES_MAX} are allowed"
        )
    if (standing.level or 0) < _registry_level(view):
        return f"{member.name} is too old: it knows feature level {standing.level}"
    return None


def _registry_level(view: View) -> int:
    return view.registry.level if view.registry is not None else 0


def _voters(view: View) -> set[int]:
    return {m.node_id for m in view.members.values() if m.role is Role.VOTER}


def _why_no_quorum(view: View, voters: set[int]) -> str | None:
    """Why these voters could not go on by themselves; None if they can."""
    ill = {node_id: why for node_id in sorted(voters) if (why := view.ailment(node_id)) is not None}
    healthy, needed = len(voters) - len(ill), majority(len(voters))
    if healthy >= needed:
        return None
    who = ", ".join(f"{view.members[node_id].name}: {why}" for node_id, why in ill.items())
    return (
        f"the cluster would lose its quorum: of {len(voters)} voters {healthy} would be healthy "
        f"and {needed} are needed ({who})"
    )


def _remove(view: View, registry: Members, member: Member) -> Decision:
    if registry.is_joint:
        return ChangeAnswer(Verdict.AGAIN, "another change is under way")
    if member.role is Role.VOTER:
        voters = _voters(view) - {member.node_id}
        if not voters:
            return refused(f"{member.name} is the last voter", member.node_id)
        reason = _why_no_quorum(view, voters)
        if reason is not None:
            return refused(reason, member.node_id)
        if member.node_id == view.own:
            return HandOver(0)
    return Remove(member.node_id)


def _replace(view: View, registry: Members, old: Member, other: str) -> Decision:
    new = view.named(other)
    if new is None:
        return refused(f"there is no member {other!r}")
    if new is old:
        return refused(f"{old.name} cannot take its own place")
    if registry.is_joint:
        return ChangeAnswer(Verdict.AGAIN, "another change is under way")
    if new.role is not Role.LEARNER:
        return refused(f"{new.name} is a voter already; remove {old.name}", new.node_id)
    reason = why_not_promoted(view, new) or why_not_replaced(view, old, new)
    if reason is not None:
        return refused(reason, new.node_id)
    return _exchange(view, old, new)


def _exchange(view: View, old: Member, new: Member) -> Change | HandOver:
    """A leader hands over before it is replaced; the only voter, when both halves count."""
    if old.node_id == view.own and len(_voters(view)) > 1:
        return HandOver(0)
    return Replace(old.node_id, new.node_id)


def why_not_replaced(view: View, old: Member, new: Member) -> str | None:
    """Why the voters cannot be exchanged now: while it happens both halves must agree."""
    voters = _voters(view)
    before = _why_no_quorum(view, voters)
    return before or _why_no_quorum(view, (voters - {old.node_id}) | {new.node_id})


# --- by itself ------------------------------------------------------------------------------------


def next_duty(view: View, *, remove_silent_ms: int) -> Decision | None:
    """What a leader does about the membership unasked; None when all is as it should be.

    `remove_silent_ms`: members that were not heard for so long are removed; 0: never.
    """
    if view.registry is None:
        return _found(view)
    if view.registry.is_joint:
        leads_no_more = view.members[view.own].role is Role.LEAVING
        return HandOver(0) if leads_no_more else LeaveJoint()
    return (
        _raise(view, view.registry)
        or _moved(view)
        or _grown_up(view)
        or _buried(view, remove_silent_ms)
    )


def _lowest_level(view: View) -> int:
    """The feature level that every member knows; 0 while one has not told."""
    return min(_level(view, node_id) or 0 for node_id in view.members)


def _found(view: View) -> Change | None:
    level = _lowest_level(view)
    if level < MEMBERS_LEVEL:
        return None
    return Found(level, tuple(map(partial(_founder, view), sorted(view.members))))


def _founder(view: View, node_id: int) -> Founder:
    member, standing = view.members[node_id], view.standings.get(node_id)
    client = standing.client_address if standing is not None else view.own_client_address
    storage_id = view.storage_ids.get(node_id, 0)
    return Founder(node_id, member.name, member.peer_address, client, storage_id)


def _raise(view: View, registry: Members) -> Change | None:
    level = _lowest_level(view)
    return Raise(level) if level > registry.level else None


def _moved(view: View) -> Change | None:
    """A member, perhaps the leader itself, that is to be found elsewhere than the registry says."""
    for member in view.members.values():
        told = _told_addresses(view, member.node_id)
        addresses = told[0] or member.peer_address, told[1] or member.client_address
        if addresses != (member.peer_address, member.client_address):
            return Update(member.node_id, *addresses, member.storage_id)
    return None


def _told_addresses(view: View, node_id: int) -> tuple[str, str]:
    """Where peers and clients reach a member by its own word; "" where it has not told."""
    if node_id == view.own:
        return view.own_peer_address, view.own_client_address
    standing = view.standings.get(node_id)
    if standing is None or not standing.is_connected:
        return "", ""
    return standing.peer_address, standing.client_address


def _grown_up(view: View) -> Change | HandOver | None:
    """A learner that has caught up and was to become a voter then."""
    for member in view.members.values():
        if member.role is not Role.LEARNER or not member.promote:
            continue
        if why_not_promoted(view, member) is not None:
            continue
        old = view.members.get(member.replaces)
        if old is None:
            if _why_no_quorum(view, {*_voters(view), member.node_id}) is None:
                return Promote(member.node_id)
        elif why_not_replaced(view, old, member) is None:
            return _exchange(view, old, member)
    return None


def _buried(view: View, remove_silent_ms: int) -> Change | None:
    if not remove_silent_ms:
        return None
    for member in view.members.values():
        standing = view.standings.get(member.node_id)
        if standing is None or standing.silent_ms < remove_silent_ms:
            continue
        others = _voters(view) - {member.node_id}
        if member.role is not Role.VOTER or _why_no_quorum(view, others) is None:
            return Remove(member.node_id)
    return None
