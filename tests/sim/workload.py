"""Clients: who asks what of which node, and what they were told.

Each client does one thing at a time, at any node, through the same `Service` methods as the Redis
front end: get, set and compare-and-set on registers, INCR on counters, APPEND on lists, all of them
in the words of several families (`dialects`). Every such operation goes into the history with the
virtual time of its beginning and its end, and one of three outcomes: done, refused, unknown. A
client whose node dies, or that waits too long, does not know.

Some push to queues and wait for what comes (`queues`).

Some commands are of no such use: any command of any family, on keys of another database. Nobody
judges their answers (`tests.differential` does that); but all nodes must do the same with them, and
after every entry their state hashes are compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from kvnode.errors import CommandError, OutcomeUnknown, Refused
from kvnode.resp.commands.command import LOCAL, Blocks
from kvnode.resp.commands.lookup import look_up
from kvnode.resp.commands.table import COMMANDS
from kvnode.service import Op
from kvnode.store import ops
from tests.differential.commands import Cast
from tests.differential.families import FAMILIES
from tests.sim.dialects import DIALECTS, TOKEN_CHARACTERS, dialect_of
from tests.sim.queues import Queues
from tests.support.history import Kind, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvnode.node.node import Node
    from tests.sim.loop import ProcessLoop, World
    from tests.sim.machine import Machine, Tally

PATIENCE_SECONDS = 3.0
LOST = OutcomeUnknown("the connection broke")
TOO_LATE = OutcomeUnknown("the client did not wait any longer")
LARGE_CHANCE = 0.7
LARGE_CHARACTERS_MAX = 3_000
"""Some values take several sectors, so that a write can be torn."""

MIXED_DATABASE = 1
"""Where the commands go that nobody judges."""

POOL = b"pool"
POOL_MEMBERS = [b"%d" % number for number in range(12)]
DRAW_CHANCE = 0.3
"""What is drawn at random tells something only of a set that has several members."""

_MIXED_NAMES = frozenset(
    name
    for family in FAMILIES.values()
    for name in family.commands
    if name in COMMANDS and COMMANDS[name].kind != LOCAL
)
_ELSEWHERE = frozenset((ops.FLUSHALL, ops.SWAPDB, ops.MOVE, ops.COPY))
"""Ops that reach other databases."""


class Call:
    """One operation on its way (`kvnode.service.Pending`)."""

    __slots__ = ("is_write", "op", "reply", "size")

    def __init__(self, op: Op, *, is_write: bool, reply: asyncio.Future[Any]) -> None:
        self.op = op
        self.size = 64
        self.is_write = is_write
        self.reply = reply

    def complete(self, result: Any) -> None:
        """Take the result; what comes too late is not heard."""
        if not self.reply.done():
            self.reply.set_result(result)

    def submit(self, node: Node) -> None:
        """Arrive at the node."""
        if self.is_write:
            node.submit_write(self)
        else:
            node.submit_read(self)


class Workload:
    """All clients of a run.

    Args:
        world: whose time it is.
        loop: in which the clients run.
        machines: whom they ask.
        rng: decides what they do.
        operations: how many they do in all.
        tally: counts unknown outcomes.
        unexpected: told of an answer that no client should get.
    """

    def __init__(
        self,
        world: World,
        loop: ProcessLoop,
        machines: Sequence[Machine],
        rng: Random,
        *,
        operations: int,
        tally: Tally,
        unexpected: Callable[[str], None],
    ) -> None:
        self.history: list[Operation] = []
        self.lists: list[Operation] = []
        """What was done to lists: APPEND as `Kind.WRITE`, its answer in `result`."""
        self.left = operations
        self.think_seconds = 0.1
        self.clients_done = 0
        self.sticky = 0.9
        self.is_deserted: Callable[[Machine], bool] = lambda _machine: False
        """Whether no client asks this machine any more, although a node runs there."""
        self._world = world
        self._loop = loop
        self._machines = machines
        self._rng = rng
        self._tally = tally
        self._unexpected = unexpected
        self._calls: dict[int, dict[Call, None]] = {m.number: {} for m in machines}
        self._number = 0
        self._keys = 6
        self.queues = Queues(world, loop, rng, self._call)
        self._cast = Cast(tuple(FAMILIES.values()), _MIXED_NAMES)

    def start(self, clients: int) -> None:
        """Let them come."""
        for number in range(clients):
            self._loop.create_task(self._live(number))

    def connection_lost(self, machine: Machine) -> None:
        """Whoever waits for an answer of this machine will not get it."""
        calls, self._calls[machine.number] = self._calls[machine.number], {}
        for call in calls:
            call.complete(LOST)
        self.queues.connection_lost(machine)

    # --- a client ---------------------------------------------------------------------------------

    async def _live(self, number: int) -> None:
        rng = self._rng
        machine = rng.choice(self._machines)
        while self.left > 0:
            await asyncio.sleep(rng.expovariate(1 / self.think_seconds))
            if not self._serves(machine) or rng.random() > self.sticky:
                up = [candidate for candidate in self._machines if self._serves(candidate)]
                if not up:
                    continue
                machine = rng.choice(up)
            self.left -= 1
            await self._act(number, machine)
        self.clients_done += 1

    def _serves(self, machine: Machine) -> bool:
        return machine.is_up and not self.is_deserted(machine)

    async def _act(self, client: int, machine: Machine) -> None:
        rng = self._rng
        kind, key = rng.randrange(11), rng.randrange(self._keys)
        if kind < 2:
            await self.increment(client, machine, f"counter{key}")
        elif kind < 4:
            await self.append(client, machine, f"list{key}")
        elif kind < 5:
            await self.write(client, machine, f"register{key}")
        elif kind < 6:
            await self.swap(client, machine, f"register{key}")
        elif kind < 8:
            family = rng.choice(tuple(DIALECTS))
            await self.read(client, machine, f"{family}{key}")
        elif kind < 10:
            await self.queues.act(machine)
        elif rng.random() < DRAW_CHANCE:
            await self.draw(machine)
        else:
            await self.do_anything(machine)

    async def read(self, client: int, machine: Machine, key: str) -> Any:
        """GET and the like."""
        spoken = dialect_of(key)
        operation = self._begin(client, machine, key, Kind.READ)
        result = await self._ask(machine, spoken.ask(key.encode()), operation, is_write=False)
        if operation.outcome is Outcome.DONE:
            operation.result = spoken.understand(result)
        return result

    async def write(self, client: int, machine: Machine, key: str) -> None:
        """SET and the like."""
        operation = self._begin(client, machine, key, Kind.WRITE)
        value = self._unique()
        if self._rng.random() < LARGE_CHANCE:
            value += "." * self._rng.randrange(LARGE_CHARACTERS_MAX)
        operation.argument = value
        await self._ask(machine, dialect_of(key).change(key.encode(), value), operation)

    async def increment(self, client: int, machine: Machine, key: str) -> None:
        """INCR and the like."""
        operation = self._begin(client, machine, key, Kind.INCREMENT)
        await self._change(machine, key, operation, "1")

    async def append(self, client: int, machine: Machine, key: str) -> None:
        """APPEND and the like."""
        operation = self._begin(client, machine, key, Kind.WRITE)
        operation.argument = self._unique()
        await self._change(machine, key, operation, operation.argument)

    async def _change(
        self, machine: Machine, key: str, operation: Operation, argument: str
    ) -> None:
        spoken = dialect_of(key)
        result = await self._ask(machine, spoken.change(key.encode(), argument), operation)
        if operation.outcome is Outcome.DONE:
            operation.result = spoken.confirm(result)

    async def do_anything(self, machine: Machine) -> None:
        """A command of any family, which some errors answer; nobody judges it."""
        arguments = self._cast.render(self._cast.choose(self._rng), self._rng)
        try:
            command = look_up(arguments)
            if not command.accepts(len(arguments)):
                return
            op = command.parse(MIXED_DATABASE, arguments)
        except (CommandError, AssertionError):
            return
        except Blocks as wish:
            op = wish.op
        if op[0] not in _ELSEWHERE:
            await self._call(machine, op, is_write=ops.is_write(op))

    async def draw(self, machine: Machine) -> None:
        """Fill the pool, or take some out of it by the chance that all nodes must have alike."""
        count = self._rng.randint(1, 4)
        op: Op = [ops.SPOP, MIXED_DATABASE, POOL, count]
        if self._rng.random() < 0.5:
            op = [ops.SADD, MIXED_DATABASE, POOL, *self._rng.sample(POOL_MEMBERS, count)]
        await self._call(machine, op, is_write=True)

    async def swap(self, client: int, machine: Machine, key: str) -> None:
        """WATCH, GET, MULTI, SET, EXEC."""
        node, name = machine.node, key.encode()
        seen = await self._call(machine, [ops.VERSION, 0, name], is_write=False)
        if isinstance(seen, CommandError) or machine.node is not node:
            return
        found = await self.read(client, machine, key)
        if isinstance(found, CommandError) or machine.node is not node:
            return
        operation = self._begin(client, machine, key, Kind.SWAP)
        spoken = dialect_of(key)
        operation.expected = spoken.understand(found)
        value = operation.argument = self._unique()
        change = [spoken.change(name, value)]
        op = [ops.EXEC_WATCHED, 0, [[0, name, seen]], change]
        result = await self._ask(machine, op, operation)
        if operation.outcome is Outcome.DONE and result is None:
            operation.outcome = Outcome.REFUSED  # the key was touched: nothing was done

    # --- one operation ----------------------------------------------------------------------------

    def _unique(self) -> str:
        self._number += 1
        return f"{self._number:0{TOKEN_CHARACTERS}d}"

    def _begin(self, client: int, machine: Machine, key: str, kind: Kind) -> Operation:
        operation = Operation(client, machine.name, key, kind, self._now_ns())
        (self.lists if key.startswith("list") else self.history).append(operation)
        return operation

    async def _ask(
        self, machine: Machine, op: Op, operation: Operation, *, is_write: bool = True
    ) -> Any:
        result = await self._call(machine, op, is_write=is_write)
        if isinstance(result, OutcomeUnknown):
            self._tally.unknown += is_write
            operation.outcome = Outcome.UNKNOWN
        elif isinstance(result, Refused):
            operation.outcome = Outcome.REFUSED
        elif isinstance(result, CommandError):
            self._unexpected(f"{operation} was answered {result.text!r}")
        else:
            operation.outcome = Outcome.DONE
            operation.returned_ns = self._now_ns()
        if isinstance(result, CommandError):
            operation.note = result.text
        return result

    async def _call(self, machine: Machine, op: Op, *, is_write: bool) -> Any:
        node, loop = machine.node, machine.loop
        if node is None or loop is None:
            return Refused("nobody listens")
        call = Call(op, is_write=is_write, reply=self._loop.create_future())
        calls = self._calls[machine.number]
        calls[call] = None
        loop.input_at(self._world.now + self._rng.random() * 0.001, call.submit, node)
        patience = self._loop.call_later(PATIENCE_SECONDS, call.complete, TOO_LATE)
        try:
            return await call.reply
        finally:
            patience.cancel()
            self._calls[machine.number].pop(call, None)

    def _now_ns(self) -> int:
        return round(self._world.now * 1e9)

    # --- the end ----------------------------------------------------------------------------------

    async def read_all(self, machine: Machine) -> None:
        """Read every key once, when all is quiet."""
        for family in DIALECTS:
            for key in range(self._keys):
                result = await self.read(-1, machine, f"{family}{key}")
                if isinstance(result, CommandError):
                    self._unexpected(f"{machine.name} answers {result.text!r} when all is quiet")
        for text in await self.queues.judge(machine):
            self._unexpected(text)
