"""Draining: a node that will be stopped soon is taken out of service first, while it still serves.

It is not ready, so that load balancers send nobody new; who is connected is served as before. It
does not want to lead: it hands leadership to the best follower and hands it on if it gets it back
(`Succession.step_aside`), and its peers, which are told so (`kvnode.node.strain`), choose another
one. Nothing of this is remembered: a restart ends it, which is what draining is for.

Where nobody else could lead, draining is refused: it would promise what it cannot keep. A single
voter has nobody to hand to and is drained at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kvnode.limits import SPARE_ANSWER_SECONDS_MAX
from kvnode.node.change_rules import done, refused
from kvnode.node.parting import Room, handicaps, is_only_voter, own_obstacles
from kvnode.obs.log import event
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict

if TYPE_CHECKING:
    from kvnode.node.node import Node

_log = logging.getLogger("kvnode.node")

Answer = Callable[[ChangeAnswer], None]


class Draining:
    """Answers what is asked of this node before it is stopped, and hands all else to the leader.

    It is a `kvnode.service.Membership`.

    Args:
        room: of the data directory's file system.
    """

    def __init__(self, node: Node, room: Callable[[], Room]) -> None:
        self._node = node
        self._room = room

    def request_change(self, request: ChangeRequest, done: Answer) -> Callable[[], None]:
        """See `kvnode.service.Membership`."""
        match request.action:
            case Action.DRAIN:
                answer = self._begin()
            case Action.UNDRAIN:
                answer = self._end()
            case Action.SPARE:
                return _Question(self._node, self._room(), done).ask()
            case _:
                return self._node.changes.request_change(request, done)
        return self._node.loop.call_soon(done, answer).cancel

    def _begin(self) -> ChangeAnswer:
        node, own = self._node, self._node.identity
        status = node.status()
        alone = is_only_voter(status)
        if node.duties.leads and not alone and node.succession.caught_up_follower() is None:
            strains = node.strains
            why = handicaps(node.changes.view(), lambda peer: strains.of(peer).why_not_lead())
            text = f"{own.name} leads, and nobody who is caught up can take over: {why}"
            return refused(text, own.node_id)
        if not node.strains.own.is_draining:
            self._change(is_draining=True)
            event(_log, logging.WARNING, "draining: not ready until undone or restarted")
        if node.duties.leads and not alone:
            node.succession.step_aside(node.loop.time())
        text = f"{own.name} is draining" + ("; it is the only voter and leads on" if alone else "")
        return done(text, own.node_id)

    def _end(self) -> ChangeAnswer:
        own = self._node.identity
        if self._node.strains.own.is_draining:
            self._change(is_draining=False)
            event(_log, logging.WARNING, "draining is undone")
        return done(f"{own.name} is not draining", own.node_id)

    def _change(self, *, is_draining: bool) -> None:
        strains = self._node.strains
        strains.change(strains.own._replace(is_draining=is_draining))


class _Question:
    """Can the others do without this node? Put to the leader, together with what is known here."""

    def __init__(self, node: Node, room: Room, done: Answer) -> None:
        self._node = node
        self._done = done
        self._status = node.status()
        self._own_reasons = own_obstacles(self._status, room)
        self._withdraw: Callable[[], None] = _nothing
        self._silence: asyncio.TimerHandle | None = None

    def ask(self) -> Callable[[], None]:
        """Ask; returns what ends the waiting."""
        node = self._node
        if self._status.leader is None or is_only_voter(self._status):
            return node.loop.call_soon(self._tell, []).cancel
        wish = ChangeRequest(Action.SPARE, f"{node.identity.node_id:016x}")
        self._withdraw = node.changes.request_change(wish, self._on_answer)
        self._silence = node.loop.call_later(SPARE_ANSWER_SECONDS_MAX, self._on_silence)
        return self._end

    def _end(self) -> None:
        self._withdraw()
        if self._silence is not None:
            self._silence.cancel()

    def _on_answer(self, answer: ChangeAnswer) -> None:
        self._end()
        self._tell([] if answer.verdict is Verdict.DONE else answer.text.splitlines())

    def _on_silence(self) -> None:
        self._end()
        self._tell([f"the leader, {self._status.leader}, did not answer"])

    def _tell(self, reasons: list[str]) -> None:
        own = self._node.identity
        answer = done(f"{own.name} can be stopped", own.node_id)
        if reasons := self._own_reasons + reasons:
            answer = replace(answer, verdict=Verdict.REFUSED, text="\n".join(reasons))
        self._done(answer)


def _nothing() -> None:
    """Withdraws a question that was not put yet."""
