"""Changes of the membership: from whoever asks to the log, and what became of them.

Any member may be asked. It puts the request to the leader, again and again while nobody can decide
(no leader, another change under way), until it is answered or its time is up; so each request may
reach a leader twice, and what is done already is answered as done. The leader judges
(`kvnode.node.change_rules`) and proposes; the answer comes when the change is applied there.

A leader also has duties of its own: to found the registry, to end joint changes, to raise the
feature level, to promote learners that have caught up, and to bury the dead where that is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from kvnode.limits import (
    CHANGE_ANSWER_SECONDS_MAX,
    CHANGE_REQUESTS_MAX,
    CHANGE_SECONDS_MAX,
    MEMBER_SILENT_MS_MIN,
)
from kvnode.node.change_rules import (
    Decision,
    HandOver,
    Standing,
    View,
    decide,
    next_duty,
    outcome,
    refused,
)
from kvnode.node.hello import JoinAnswer, JoinRequest
from kvnode.node.parting import obstacles
from kvnode.node.wire import ChangeDecided, ChangeForward
from kvnode.obs.log import event
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store.changes import Change
from kvnode.store.reply import Result
from raft.progress import SNAPSHOT, ProgressView
from raft.types import NONE

if TYPE_CHECKING:
    from kvnode.node.node import Node

_log = logging.getLogger("kvnode.node")

Answer = Callable[[ChangeAnswer], None]

WIRE_VERSION_OF_CHANGES = 3
NO_LEADER = ChangeAnswer(Verdict.AGAIN, "no leader is known at the moment")
BUSY = ChangeAnswer(Verdict.AGAIN, "another change is under way")


@dataclass(slots=True)
class _Open:
    """A request that was put to this node."""

    request: ChangeRequest
    done: Answer
    deadline: float
    leader_at_first: int
    asked_at: float = float("-inf")
    latest: ChangeAnswer = NO_LEADER


@dataclass(slots=True)
class _Proposed:
    """The change that this leader has in the log."""

    index: int
    answer: Answer | None
    outcome: ChangeAnswer
    """What to answer when it is applied."""


class Changes:
    """See the module's docstring; it is a `kvnode.service.Membership`.

    Args:
        rng: ids of new members.
        silent_ms_max: who was not heard for longer is not healthy.
        remove_silent_ms: members that were not heard for so long are removed; 0: never.
    """

    def __init__(
        self, node: Node, rng: Random, silent_ms_max: int, *, remove_silent_ms: int
    ) -> None:
        self._node = node
        self._rng = rng
        self._silent_ms_max = max(silent_ms_max, MEMBER_SILENT_MS_MIN)
        self._remove_silent_ms = remove_silent_ms
        self._open: dict[int, _Open] = {}
        self._last_id = 0
        self._proposed: _Proposed | None = None
        self._heard: dict[int, float] = {}
        self._took_office_at = 0.0

    # --- whoever asks -----------------------------------------------------------------------------

    def request_change(self, request: ChangeRequest, done: Answer) -> Callable[[], None]:
        """Ask for a change. See `kvnode.service.Membership`."""
        node = self._node
        if len(self._open) >= CHANGE_REQUESTS_MAX:
            node.loop.call_soon(done, ChangeAnswer(Verdict.AGAIN, "too many requests wait"))
            return lambda: None
        self._last_id += 1
        number, now = self._last_id, node.loop.time()
        self._open[number] = _Open(
            self._by_id(request), done, now + CHANGE_SECONDS_MAX, node.raft.leader
        )
        node.loop.call_soon(self._pursue, number)
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)

    def _by_id(self, request: ChangeRequest) -> ChangeRequest:
        """Call an existing member by its id: its name may be another's when this is asked again."""
        if request.action in (Action.ADD, Action.JOIN):
            return request
        registry = self._node.roster.registry
        member = registry.named(request.member) if registry is not None else None
        if member is None:
            return request
        return replace(request, member=f"{member.node_id:016x}")

    def _pursue(self, number: int) -> None:
        """Put a request to the leader, if it is time to."""
        waiting, node = self._open.get(number), self._node
        if waiting is None or node.is_stopped:
            return
        now, leader = node.loop.time(), node.raft.leader
        if self._has_transferred(waiting):
            name = node.roster.name_of(leader)
            self._settle(number, ChangeAnswer(Verdict.DONE, f"{name} leads", leader))
        elif now >= waiting.deadline:
            text = f"nobody could decide in time: {waiting.latest.text}"
            self._settle(number, replace(waiting.latest, verdict=Verdict.AGAIN, text=text))
        elif leader == NONE:
            waiting.latest = NO_LEADER
        elif now - waiting.asked_at >= CHANGE_ANSWER_SECONDS_MAX:
            waiting.asked_at = now
            self._ask(leader, number, waiting.request)

    def _has_transferred(self, waiting: _Open) -> bool:
        request, leader = waiting.request, self._node.raft.leader
        if request.action is not Action.TRANSFER or leader == NONE:
            return False
        if not request.member:
            return leader != waiting.leader_at_first != NONE
        return request.member in (f"{leader:016x}", self._node.roster.name_of(leader))

    def _ask(self, leader: int, number: int, request: ChangeRequest) -> None:
        node = self._node
        if leader == node.identity.node_id:
            self._decide(request, lambda answer: self._answered(number, answer))
        elif 0 < node.transport.wire_version(leader) < WIRE_VERSION_OF_CHANGES:
            text = (
                f"{node.roster.name_of(leader)} leads and is too old to change the membership: "
                f"update it"
            )
            self._answered(number, ChangeAnswer(Verdict.REFUSED, text))
        elif node.transport.is_connected(leader):
            node.transport.send(
                leader,
                ChangeForward(
                    number,
                    request.action,
                    request.member,
                    request.other,
                    request.peer_address,
                    request.client_address,
                    request.storage_id,
                    request.promote,
                    request.level,
                ),
            )
            node.pulse.wake()

    def on_decided(self, message: ChangeDecided) -> None:
        """The leader's answer to a request that was put to this node."""
        try:
            verdict = Verdict(message.verdict)
        except ValueError:
            verdict = Verdict.AGAIN
        answer = ChangeAnswer(verdict, message.text, message.node_id)
        self._answered(message.request_id, answer)

    def _answered(self, number: int, answer: ChangeAnswer) -> None:
        waiting = self._open.get(number)
        if waiting is None:
            return
        if answer.verdict is Verdict.AGAIN:
            waiting.latest = answer
            waiting.asked_at = float("-inf")  # the next sweep asks again
        else:
            self._settle(number, answer)

    def _settle(self, number: int, answer: ChangeAnswer) -> None:
        waiting = self._open.pop(number)
        own = self._node.identity
        waiting.done(replace(answer, cluster_id=own.cluster_id, origin=own.origin))

    def on_join(
        self, request: JoinRequest, answer: Callable[[JoinAnswer], None]
    ) -> Callable[[], None]:
        """A node that is no member yet asks to become one."""
        wish = ChangeRequest(
            Action.JOIN,
            member=request.name,
            other=request.replaces,
            peer_address=request.peer_address,
            client_address=request.client_address,
            storage_id=request.storage_id,
            promote=request.promote,
            level=request.level,
        )
        return self.request_change(
            wish,
            lambda told: answer(
                JoinAnswer(told.verdict, told.text, told.node_id, told.cluster_id, told.origin)
            ),
        )

    # --- the leader -------------------------------------------------------------------------------

    def on_forward(self, sender: int, message: ChangeForward) -> None:
        """Another member puts a request to this node, which it takes for the leader."""

        def answer(decided: ChangeAnswer) -> None:
            self._node.transport.send(
                sender,
                ChangeDecided(message.request_id, decided.verdict, decided.text, decided.node_id),
            )
            self._node.pulse.wake()

        try:
            action = Action(message.action)
        except ValueError:
            text = f"the leader does not know the change {message.action!r}"
            answer(ChangeAnswer(Verdict.REFUSED, text))
            return
        self._decide(ChangeRequest(action, *message[2:]), answer)

    def _decide(self, request: ChangeRequest, answer: Answer) -> None:
        if not self._node.duties.leads:
            answer(NO_LEADER)
        elif request.action is Action.SPARE:
            answer(self._spare(request.member))
        elif self._proposed is not None or self._node.raft.log.changes:
            # One that an earlier leader left behind may become true yet: what is refused by today's
            # membership might happen all the same.
            answer(BUSY)
        else:
            decision = decide(self.view(), request, self._rng.getrandbits(64) or 1)
            self._carry_out(decision, answer)

    def _spare(self, name: str) -> ChangeAnswer:
        """Whether the others can do without a member."""
        node, view = self._node, self.view()
        member = view.named(name)
        if member is None:
            return refused(f"{name} is no member")
        reasons = obstacles(
            view,
            member,
            is_changing=self._proposed is not None or bool(node.raft.log.changes),
            can_hand_over=node.succession.caught_up_follower() is not None,
        )
        if reasons:
            return refused("\n".join(reasons), member.node_id)
        return ChangeAnswer(Verdict.DONE, f"{member.name} can be stopped", member.node_id)

    def _carry_out(self, decision: Decision, answer: Answer | None) -> None:
        if isinstance(decision, ChangeAnswer):
            answered: ChangeAnswer | None = decision
        elif isinstance(decision, HandOver):
            answered = self._hand_over(decision.target)
        else:
            answered = self._propose(decision, answer)
        if answered is not None and answer is not None:
            answer(answered)

    def _hand_over(self, target: int) -> ChangeAnswer:
        node = self._node
        under_way = node.raft.status().transferee
        if under_way != NONE:
            name = node.roster.name_of(under_way)
            return ChangeAnswer(Verdict.AGAIN, f"leadership is on its way to {name}")
        chosen = target or node.succession.best_follower()
        if chosen is None:
            return ChangeAnswer(Verdict.AGAIN, "no other voter can lead at the moment")
        name = node.roster.name_of(chosen)
        if why := node.strains.of(chosen).why_not_lead():
            return refused(f"{name} cannot lead now: it is {why}", chosen)
        if not node.raft.transfer_leader(chosen):
            return ChangeAnswer(Verdict.AGAIN, f"{name} cannot lead at the moment")
        node.pulse.wake()
        return ChangeAnswer(Verdict.AGAIN, f"leadership is on its way to {name}")

    def _propose(self, change: Change, answer: Answer | None) -> ChangeAnswer | None:
        """Put a change into the log; None if it is there."""
        index = self._node.duties.propose_change(change)
        if index is None:
            return BUSY
        self._proposed = _Proposed(index, answer, outcome(self.view(), change))
        event(_log, logging.INFO, "changing the membership", change=str(change), index=index)
        self._node.pulse.wake()
        return None

    def on_applied(self, index: int, result: Result) -> None:
        """A change was applied here, or (a `CommandError`) did not fit."""
        proposed = self._proposed
        if proposed is None or proposed.index != index:
            return
        self._proposed = None
        if proposed.answer is not None:
            refusal = getattr(result, "text", None)
            proposed.answer(proposed.outcome if refusal is None else refused(refusal))

    def took_office(self) -> None:
        """This node leads now: silence is counted from here."""
        self._took_office_at = self._node.loop.time()

    def leadership_lost(self) -> None:
        """What this node had proposed may be applied or not: whoever asked asks the next leader."""
        proposed, self._proposed = self._proposed, None
        if proposed is not None and proposed.answer is not None:
            proposed.answer(NO_LEADER)

    # --- the clock --------------------------------------------------------------------------------

    def heard(self, peer: int) -> None:
        """Something came from a peer."""
        self._heard[peer] = self._node.loop.time()

    def forget(self, peer: int) -> None:
        """A peer is no member any more."""
        self._heard.pop(peer, None)

    def sweep(self) -> None:
        """Ten times a second: ask again, and do a leader's duties."""
        for number in list(self._open):
            self._pursue(number)
        if not self._node.duties.leads or self._proposed is not None:
            return
        duty = next_duty(self.view(), remove_silent_ms=self._remove_silent_ms)
        if duty is not None:
            self._carry_out(duty, None)

    def view(self) -> View:
        """What this node, as the leader, goes by."""
        node = self._node
        own = node.identity.node_id
        members, progress = node.roster.members, node.raft.progress()
        return View(
            own,
            node.roster.registry,
            members,
            {
                node_id: self._standing(node_id, progress.get(node_id))
                for node_id in members
                if node_id != own
            },
            self._silent_ms_max,
            {node_id: held.storage_id for node_id, held in node.machine.sessions().items()},
            node.identity.peer_address,
            node.identity.client_address,
            draining=frozenset(one for one in members if self._is_draining(one)),
        )

    def _is_draining(self, node_id: int) -> bool:
        strains = self._node.strains
        strain = strains.own if node_id == self._node.identity.node_id else strains.of(node_id)
        return strain.is_draining

    def heard_ms(self, peer: int) -> int | None:
        """How long ago a peer was heard; None if it never was."""
        return self._since(self._heard[peer]) if peer in self._heard else None

    def silent_ms(self, peer: int) -> int:
        """For how long a peer was not heard, or for how long this node leads without hearing it."""
        return self._since(self._heard.get(peer, self._took_office_at))

    def silent_nodes(self, node_ids: Iterable[int], milliseconds: int) -> list[int]:
        """Others of them that this node, as the leader, has not heard for so long; else none."""
        if not self._node.duties.leads:
            return []
        own = self._node.identity.node_id
        return [one for one in node_ids if one != own and self.silent_ms(one) >= milliseconds]

    def _since(self, moment: float) -> int:
        return round((self._node.loop.time() - moment) * 1000)

    def _standing(self, peer: int, progress: ProgressView | None) -> Standing:
        node, roster = self._node, self._node.roster
        return Standing(
            is_connected=node.transport.is_connected(peer),
            silent_ms=self.silent_ms(peer),
            lag=None if progress is None else node.raft.last_index - progress.match,
            is_recovering=progress is not None and progress.recovering,
            needs_snapshot=progress is not None and progress.state == SNAPSHOT.value,
            level=roster.levels.get(peer),
            peer_address=roster.told_peer_address(peer),
            client_address=roster.client_address(peer),
        )
