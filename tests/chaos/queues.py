"""Queues under kill -9: clients that push, clients that wait, and an account of every element.

Each element is pushed once. On the **waited** queues clients wait with BLPOP, BRPOP, BLMPOP and
BLMOVE, from both ends, and some leave while they wait. What is popped for a client that is gone by
then is put back, so only the account is judged there:

* an acknowledged element is with one client or in a queue, and never with two;
* a refused one is nowhere, and nothing is there that nobody pushed;
* what is missing was taken along by pops whose outcome nobody knows: no more than there were, and
  none by a pop that had ended long before the element was pushed.

The **straight** queue is RPUSHed and LPOPped only, by nobody who waits, so there the order counts
too: of two elements of which one was pushed before the push of the other began, that one goes
first.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import hiredis

from scripts.local_cluster import LocalNode
from tests.chaos.checks.queues import Account, Push
from tests.chaos.client import Command, Connection, Reply
from tests.chaos.workload import Client, Record, Unfinished
from tests.support.history import Outcome

STRAIGHT = "queue:straight"
MOVED = "queue:moved"
SOURCES = ("queue:0", "queue:1")
WAITED = (*SOURCES, MOVED)
CLIENTS = 12
FIRST_NUMBER = 1000
"""Of a queue client; the others count from 0."""

PUSH_MAX = 3
PUSH_PAUSE_SECONDS = 0.03
"""The mean: clients shall wait more often than elements."""

WAIT_SECONDS_MAX = 2.0
LEAVE_SECONDS_MAX = 0.1


@dataclass(slots=True)
class Accounts:
    """Of all queues.

    Attributes:
        served: pops that had something.
        unblocked: clients that were told that nobody knows what they got.
    """

    waited: Account = field(default_factory=Account)
    straight: Account = field(default_factory=Account)
    served: int = 0
    unblocked: int = 0

    def of(self, key: str) -> Account:
        """The account that a queue belongs to."""
        return self.straight if key == STRAIGHT else self.waited

    async def judge(self, connection: Connection) -> list[str]:
        """Read the queues, and tell what is wrong with them."""
        lists = await connection.call(*(("LRANGE", key, 0, -1) for key in (STRAIGHT, *WAITED)))
        straight, *waited = [_texts(found) for found in lists]
        return [
            *self.straight.judge(straight),
            *self.straight.judge_order(STRAIGHT, straight),
            *self.waited.judge([element for found in waited for element in found]),
        ]


class QueueClient(Client):
    """A client that pushes, or one that pops and waits."""

    def __init__(
        self, number: int, node: LocalNode, seed: int, record: Record, accounts: Accounts
    ) -> None:
        super().__init__(FIRST_NUMBER + number, node, seed, record)
        self.accounts = accounts
        self.pushes = number // 3 % 2 == 0

    async def _step(self) -> None:
        if self.pushes:
            await self.push()
            await asyncio.sleep(self.random.random() * 2 * PUSH_PAUSE_SECONDS)
            return
        dice = self.random.random()
        if dice < 0.25:
            await self.pop(STRAIGHT, ("LPOP", STRAIGHT))
        elif dice < 0.30:
            await self.leave()
        else:
            await self.pop(WAITED[0], self._wait())

    async def push(self) -> None:
        """Push elements that are used once only."""
        key = self.random.choice((STRAIGHT, *SOURCES))
        name = "RPUSH" if key == STRAIGHT else self.random.choice(("LPUSH", "RPUSH"))
        elements = [self._unique() for _ in range(self.random.randint(1, PUSH_MAX))]
        begin = time.monotonic_ns()
        outcome, end = Outcome.DONE, math.inf
        try:
            await self._call((name, key, *elements))
            end = time.monotonic_ns()
        except Unfinished as error:
            outcome = error.outcome
        pushes = self.accounts.of(key).pushes
        pushes.update((element, Push(begin, end, outcome)) for element in elements)

    def _wait(self) -> Command:
        keys = self.random.sample(WAITED, self.random.randint(1, 2))
        sides = self.random.choices(("LEFT", "RIGHT"), k=2)
        seconds = f"{self.random.uniform(0.01, WAIT_SECONDS_MAX):.3f}"
        dice = self.random.random()
        if dice < 0.2:
            return ("BLMOVE", self.random.choice(SOURCES), MOVED, *sides, seconds)
        if dice < 0.4:
            return ("BLMPOP", seconds, len(keys), *keys, sides[0], "COUNT", 2)
        return ("BLPOP" if sides[0] == "LEFT" else "BRPOP", *keys, seconds)

    async def pop(self, key: str, command: Command) -> None:
        """Pop, and wait for something if the command does."""
        account = self.accounts.of(key)
        takes_away = command[0] != "BLMOVE"
        begin = time.monotonic_ns()
        try:
            (reply,) = await self._exchange([command])
            if isinstance(reply, hiredis.ReplyError):
                if str(reply).startswith("UNBLOCKED"):
                    self.accounts.unblocked += 1
                    raise Unfinished(Outcome.UNKNOWN, str(reply))
                raise self._error_reply(str(reply), begin)
        except Unfinished as error:
            if takes_away and error.outcome is Outcome.UNKNOWN:
                account.doubts.append(time.monotonic_ns())
            return
        if reply is not None:
            self.accounts.served += 1
        end = time.monotonic_ns()
        for element in _popped(command, reply) if takes_away else ():
            account.pops.setdefault(element, []).append((begin, end))

    async def leave(self) -> None:
        """Wait, and be gone before there is an answer, as a rule."""
        command = self._wait()
        try:
            async with asyncio.timeout(self.random.random() * LEAVE_SECONDS_MAX):
                await self.pop(WAITED[0], command)
        except TimeoutError:
            assert self.connection is not None
            self.connection.close()
            if command[0] != "BLMOVE":
                self.accounts.waited.doubts.append(time.monotonic_ns())


def _popped(command: Command, reply: Reply) -> list[str]:
    """The elements in a reply: LPOP's is one, BLPOP's has the key before it."""
    if reply is None or isinstance(reply, bytes):
        return [] if reply is None else [reply.decode()]
    assert isinstance(reply, list), reply
    return _texts(reply[1] if command[0] == "BLMPOP" else reply[1:])


def _texts(reply: Reply) -> list[str]:
    assert isinstance(reply, list), reply
    return [element.decode() for element in reply if isinstance(element, bytes)]


def make_queue_clients(
    nodes: Sequence[LocalNode], seed: int, record: Record, accounts: Accounts
) -> list[QueueClient]:
    """As many that push as that wait, on every node of three."""
    return [QueueClient(n, nodes[n % len(nodes)], seed, record, accounts) for n in range(CLIENTS)]


async def lists_are_known(node: LocalNode) -> bool:
    """Whether the cluster's feature level has risen so far at this node."""
    connection = await Connection.open(node.address)
    (reply,) = await connection.call(("LPOP", STRAIGHT))
    connection.close()
    return reply is None
