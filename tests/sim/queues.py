"""Queues: clients that push, clients that wait, and an account of every element.

Each element is pushed once and is somebody's own name. Clients wait for them in the log
(`kvnode.node.waiters`): until they are served, until their time is over, or until they leave,
whenever that is; their nodes die as they like. At the end every element that was acknowledged is
with one client or in a queue. Only who does not know what it got can have taken one along: a client
whose node died while something was on its way to it, or whose result was lost with a snapshot that
took the place of the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from kvnode.errors import CommandError, OutcomeUnknown, Refused
from kvnode.node.waiters import _Phase
from kvnode.store import ops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kvnode.node.node import Node
    from kvnode.node.waiters import Wait
    from kvnode.service import Op
    from kvnode.store.reply import Result
    from tests.sim.loop import ProcessLoop, World
    from tests.sim.machine import Machine

NAMES = [b"queue0", b"queue1", b"queue2"]
LEFT, RIGHT = 0, 1
WAIT_SECONDS_MAX = 3.0
PATIENCE_SECONDS = 8.0
SETTLED_SECONDS = 20.0
"""A client that left so long before its node died has left nothing open there."""

LEAVES = OutcomeUnknown("the client has left")
BROKEN = OutcomeUnknown("the connection broke")
NOTHING = Refused("the connection broke while nothing was under way")
PUSH_CHANCE = 0.35
MOVE_CHANCE = 0.2
LEAVE_CHANCE = 0.4


@dataclass(slots=True)
class Taker:
    """A client that waits.

    Attributes:
        machine: where.
        node: the process there.
        reply: what it was told.
        moves: it takes nothing away.
        is_sure: it knows what it got.
        left_at: when it went without an answer, in virtual seconds.
        wait: what the node knows of it.
    """

    machine: Machine
    node: Node
    reply: asyncio.Future[Any]
    moves: bool
    is_sure: bool = True
    left_at: float = 0.0
    wait: Wait | None = None

    @property
    def may_have_one(self) -> bool:
        """Whether it may have taken an element along without anybody's knowing."""
        return not self.moves and (
            not self.is_sure or (self.wait is not None and self.wait.is_lost)
        )

    @property
    def only_waits(self) -> bool:
        """Nothing is on its way to it: what it is served with is in hand, and comes back."""
        return self.wait is None or self.wait._phase in (_Phase.KEPT, _Phase.REFUSED)

    def begin(self, op: Op) -> None:
        """Arrive at the node."""
        self.wait = self.node.waits.wait(0, op, 64, self.complete)

    def expire(self) -> None:
        """Its time is over."""
        if self.wait is not None:
            self.wait.expire()

    def complete(self, result: Result) -> None:
        """The node's answer, or what ended the waiting for it."""
        if not self.reply.done():
            self.reply.set_result(result)
        elif self.left_at and isinstance(result, list | bytes):
            self.is_sure = False  # it was on the wire when the client left

    def leave(self) -> None:
        """The node learns that the client is gone."""
        if self.wait is not None:
            self.wait.leave()


class Queues:
    """All of them.

    Args:
        world: whose time it is.
        loop: in which the clients run.
        rng: decides what they do.
        call: does an op at a machine.
    """

    lost: set[bytes]
    """Elements that were acknowledged and are nowhere, when all is quiet."""

    def __init__(
        self,
        world: World,
        loop: ProcessLoop,
        rng: Random,
        call: Callable[..., Awaitable[Any]],
    ) -> None:
        self._world = world
        self._loop = loop
        self._rng = rng
        self._call = call
        self._number = 0
        self.pushed: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.taken: Counter[bytes] = Counter()
        self.takers: list[Taker] = []

    async def act(self, machine: Machine) -> None:
        """Push some elements, or wait for one."""
        if self._rng.random() < PUSH_CHANCE:
            await self._push(machine)
        else:
            await self._take(machine)

    async def _push(self, machine: Machine) -> None:
        rng = self._rng
        elements = [b"%d" % (self._number + at) for at in range(rng.randint(1, 2))]
        self._number += len(elements)
        op = [ops.LIST_PUSH, 0, rng.choice(NAMES), rng.choice((LEFT, RIGHT)), 0, *elements]
        result = await self._call(machine, op, is_write=True)
        if isinstance(result, int):
            self.pushed.update(elements)
        elif isinstance(result, Refused):
            self.refused.update(elements)

    async def _take(self, machine: Machine) -> None:
        node, loop, rng = machine.node, machine.loop, self._rng
        if node is None or loop is None:
            return
        names = rng.sample(NAMES, rng.randint(1, 2))
        taker = Taker(machine, node, self._loop.create_future(), moves=rng.random() < MOVE_CHANCE)
        op = [ops.LMPOP, 0, rng.choice((LEFT, RIGHT)), 1, *names]
        if taker.moves:
            sides = rng.choice((LEFT, RIGHT)), rng.choice((LEFT, RIGHT))
            op = [ops.LMOVE, 0, names[0], rng.choice(NAMES), *sides]
        self.takers.append(taker)
        begun_at = self._world.now + rng.random() * 0.001
        seconds = rng.random() * WAIT_SECONDS_MAX
        loop.input_at(begun_at, taker.begin, op)
        loop.input_at(begun_at + seconds, taker.expire)
        patience = seconds + PATIENCE_SECONDS
        if rng.random() < LEAVE_CHANCE:
            patience = rng.random() * seconds
        timer = self._loop.call_later(patience, taker.complete, LEAVES)
        result = await taker.reply
        timer.cancel()
        if result is LEAVES:
            taker.left_at = self._world.now
            loop.input_at(taker.left_at, taker.leave)
        elif isinstance(result, OutcomeUnknown):
            taker.is_sure = False
        elif isinstance(result, list):
            self.taken.update(result[1])

    def connection_lost(self, machine: Machine) -> None:
        """A node died: whoever waits there does not know, nor who left it just before."""
        for taker in self.takers:
            if taker.machine is not machine:
                continue
            if not taker.reply.done():
                taker.complete(NOTHING if taker.only_waits else BROKEN)
            elif taker.left_at and self._world.now - taker.left_at < SETTLED_SECONDS:
                taker.is_sure = False

    async def judge(self, machine: Machine) -> list[str]:
        """What is wrong with the account, when all is quiet."""
        found: Counter[bytes] = Counter(self.taken)
        for name in NAMES:
            result = await self._call(machine, [ops.LRANGE, 0, name, 0, -1], is_write=False)
            if isinstance(result, CommandError):
                return [f"{machine.name} answers {result.text!r} when all is quiet"]
            found.update(result)
        wrong = [f"{element!r} is {times} times" for element, times in found.items() if times > 1]
        wrong += [f"{element!r} was refused and came" for element in self.refused & set(found)]
        self.lost = self.pushed - set(found)
        unsure = sum(taker.may_have_one for taker in self.takers)
        if len(self.lost) > unsure:
            wrong.append(f"lost: {sorted(self.lost)}; {unsure} clients do not know what they got")
        return wrong
