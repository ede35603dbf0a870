"""Clients that write down all they do: registers, counters, and a ledger.

* **Registers**: a few contended keys with unique values; GET, SET, and a swap by WATCH, MULTI, SET,
  EXEC. Their histories are checked for linearizability.
* **Counters**: a few contended keys; INCR and GET. An INCR applied twice shows in the answers.
  Some registers and counters are fields of hashes, and some counters are scores (`shape_of`).
* **Ledger**: keys written exactly once, each by one client, with APPEND, so that a write applied
  twice shows too. Cheap to check in any number: every acknowledged one must be there at the end,
  once, and every refused one must not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import hiredis

from scripts.local_cluster import LocalNode
from tests.chaos.client import Command, Connection, ConnectionLost, Reply
from tests.support.history import Kind, Operation, Outcome, Value

REGISTERS = 16
COUNTERS = 8
PIPELINE_MAX = 6
OPERATIONS_MAX = 2_000_000
"""A bound on what one run may remember."""
RECONNECT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """How a register or counter is spoken to. A value to `write` comes behind it."""

    read: Command
    write: Command
    increment: Command


def plain(key: str) -> Shape:
    """A string."""
    return Shape(("GET", key), ("SET", key), ("INCR", key))


def shape_of(key: str) -> Shape:
    """A string, a field of a hash, or (counters only) a score, by the number in the key."""
    family, number = key.split(":")
    if int(number) % 3 == 1:
        return Shape(("HGET", key, "field"), ("HSET", key, "field"), ("HINCRBY", key, "field", 1))
    if int(number) % 3 == 2 and family == "counter":
        return Shape(("ZSCORE", key, "member"), (), ("ZINCRBY", key, 1, "member"))
    return plain(key)


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a client would call an error.

    Attributes:
        since_ns, until_ns: when the request was sent, and when the error was seen.
    """

    client: int
    node: str
    since_ns: int
    until_ns: int
    text: str


@dataclass(slots=True)
class Ledger:
    """Keys written once: what was acknowledged, refused, or left open."""

    done: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """All that the clients of one run have seen."""

    history: list[Operation] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    incidents: list[Incident] = field(default_factory=list)
    acknowledged: int = 0
    """Commands that were answered with success."""
    writes: list[tuple[int, int]] = field(default_factory=list)
    """When each acknowledged write was invoked and returned (monotonic ns)."""

    @property
    def operations(self) -> int:
        """How much was tried, whatever came of it."""
        return len(self.history) + sum(
            len(part) for part in (self.ledger.done, self.ledger.refused, self.ledger.unknown)
        )


class Unfinished(Exception):
    """A call had no clean end; `outcome` and `text` say what is known about it."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text


class Client:
    """One client: one node, one connection, one operation at a time."""

    shape_of = staticmethod(shape_of)

    def __init__(self, number: int, node: LocalNode, seed: int, record: Record) -> None:
        self.number = number
        self.node = node
        self.random = random.Random(seed * 1_000_003 + number)
        self.record = record
        self.connection: Connection | None = None
        self.sequence = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; the operation under way is finished first."""
        while not stop.is_set() and self.record.operations < OPERATIONS_MAX:
            if self.connection is None or self.connection.lost:
                try:
                    self.connection = await Connection.open(self.node.address)
                except OSError:
                    await asyncio.sleep(RECONNECT_SECONDS)
                    continue
            await self._step()
        if self.connection is not None:
            self.connection.close()

    async def _step(self) -> None:
        dice = self.random.random()
        if dice < 0.35:
            await self.write_ledger()
        elif dice < 0.50:
            await self.read(self._register(), Kind.WRITE)
        elif dice < 0.65:
            await self.write(self._register())
        elif dice < 0.72:
            await self.swap(self._register())
        elif dice < 0.93:
            await self.increment(self._counter())
        else:
            await self.read(self._counter(), Kind.INCREMENT)

    def _register(self) -> str:
        return f"register:{self.random.randrange(REGISTERS)}"

    def _counter(self) -> str:
        return f"counter:{self.random.randrange(COUNTERS)}"

    def _unique(self) -> str:
        self.sequence += 1
        return f"{self.number}.{self.sequence}"

    async def write_ledger(self) -> None:
        """Append to keys that nobody wrote before and nobody will write again, in one pipeline."""
        values = [self._unique() for _ in range(self.random.randint(1, PIPELINE_MAX))]
        keys = [f"ledger:{value}" for value in values]
        since = time.monotonic_ns()
        ledger = self.record.ledger
        parts = {
            Outcome.DONE: ledger.done,
            Outcome.REFUSED: ledger.refused,
            Outcome.UNKNOWN: ledger.unknown,
        }
        try:
            replies = await self._exchange(
                [("APPEND", key, value) for key, value in zip(keys, values, strict=True)]
            )
        except Unfinished as error:
            parts[error.outcome].update(zip(keys, values, strict=True))
            return
        for key, value, reply in zip(keys, values, replies, strict=True):
            outcome = Outcome.DONE
            if isinstance(reply, hiredis.ReplyError):
                outcome = self._error_reply(str(reply), since).outcome
            parts[outcome][key] = value
            if outcome is Outcome.DONE:
                self.record.writes.append((since, time.monotonic_ns()))

    async def read(self, key: str, family: Kind) -> Value:
        """Read a key; a counter that does not exist counts as 0."""
        operation = self._begin(key, Kind.READ)
        try:
            (reply,) = await self._call(self.shape_of(key).read)
        except Unfinished as error:
            self._fail(operation, error)
            return None
        operation.result = decode(reply, family)
        self._finish(operation)
        return operation.result

    async def write(self, key: str) -> None:
        """Write a value that is used once only."""
        operation = self._begin(key, Kind.WRITE)
        operation.argument = self._unique()
        try:
            await self._call((*self.shape_of(key).write, operation.argument))
        except Unfinished as error:
            self._fail(operation, error)
            return
        self._finish(operation)
        self.record.writes.append((operation.invoked_ns, time.monotonic_ns()))

    async def increment(self, key: str) -> None:
        """INCR and the like."""
        operation = self._begin(key, Kind.INCREMENT)
        try:
            (reply,) = await self._call(self.shape_of(key).increment)
        except Unfinished as error:
            self._fail(operation, error)
            return
        assert isinstance(reply, int | bytes), reply
        operation.result = int(reply)
        self._finish(operation)
        self.record.writes.append((operation.invoked_ns, time.monotonic_ns()))

    async def swap(self, key: str) -> None:
        """Replace the value that was just read, unless somebody else changes it meanwhile."""
        reading = self._begin(key, Kind.READ)
        try:
            _, reply = await self._call(("WATCH", key), self.shape_of(key).read)
        except Unfinished as error:
            self._fail(reading, error)
            return
        reading.result = decode(reply, Kind.WRITE)
        self._finish(reading)
        operation = self._begin(key, Kind.SWAP)
        operation.expected = reading.result
        operation.argument = self._unique()
        try:
            change = (*self.shape_of(key).write, operation.argument)
            replies = await self._call(("MULTI",), change, ("EXEC",))
        except Unfinished as error:
            self._fail(operation, error)
            return
        if replies[-1] is None:
            # Somebody else was quicker: definitely not done, and no error either.
            operation.outcome = Outcome.REFUSED
            operation.returned_ns = time.monotonic_ns()
            self.record.history.append(operation)
            return
        self._finish(operation)

    def _begin(self, key: str, kind: Kind) -> Operation:
        return Operation(self.number, self.node.name, key, kind, time.monotonic_ns())

    def _finish(self, operation: Operation) -> None:
        operation.returned_ns = time.monotonic_ns()
        operation.outcome = Outcome.DONE
        self.record.history.append(operation)

    def _fail(self, operation: Operation, error: Unfinished) -> None:
        operation.outcome = error.outcome
        operation.note = error.text
        self.record.history.append(operation)

    async def _call(self, *commands: Command) -> list[Reply]:
        """Call, and sort what is not success into refused and unknown.

        Raises:
            Unfinished: a reply was an error, or none came. An incident has been noted.
        """
        since = time.monotonic_ns()
        replies = await self._exchange(commands)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                # A transaction may be left half queued: a new connection has no such past.
                if len(commands) > 1 and self.connection is not None:
                    self.connection.close()
                raise self._error_reply(str(reply), since)
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands together; the replies may be errors.

        Raises:
            Unfinished: the outcome of all is unknown. An incident has been noted.
        """
        assert self.connection is not None
        since = time.monotonic_ns()
        try:
            replies = await self.connection.call(*commands)
        except ConnectionLost:
            raise self._incident(Unfinished(Outcome.UNKNOWN, "connection lost"), since) from None
        except TimeoutError:
            raise self._incident(Unfinished(Outcome.UNKNOWN, "timeout"), since) from None
        self.record.acknowledged += len(commands)
        return replies

    def _error_reply(self, text: str, since_ns: int) -> Unfinished:
        self.record.acknowledged -= 1
        return self._incident(classify(text), since_ns)

    def _incident(self, error: Unfinished, since_ns: int) -> Unfinished:
        moment = time.monotonic_ns()
        self.record.incidents.append(
            Incident(self.number, self.node.name, since_ns, moment, error.text)
        )
        return error


def classify(text: str) -> Unfinished:
    """What an error reply says about the command: refused, unless it says that nobody knows."""
    unknown = text.startswith("UNKNOWN")
    return Unfinished(Outcome.UNKNOWN if unknown else Outcome.REFUSED, text)


def decode(reply: Reply, family: Kind) -> Value:
    """The value in a GET's reply: text of a register, number of a counter."""
    assert reply is None or isinstance(reply, bytes), reply
    if family is Kind.INCREMENT:
        return 0 if reply is None else int(reply)
    return None if reply is None else reply.decode()


def make_clients(nodes: Sequence[LocalNode], count: int, seed: int, record: Record) -> list[Client]:
    """Spread clients over all nodes."""
    return [Client(n, nodes[n % len(nodes)], seed, record) for n in range(count)]
