"""What a workload is, and what its clients have in common.

A workload has keys of its own, some clients on every node, and a check. Everything goes through the
record: clients note what they ask and what they are told; in calm weather every node is asked what
is there (`read_back`); the check reads the record and nothing else.

A client has one node and one connection, and one operation under way at a time. Nothing is tried
again: an operation that did not end well is refused or unknown, and the next one is another one.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Protocol

import hiredis

from tests.chaos.checks.judgement import Judgement
from tests.chaos.client import Command, Connection, ConnectionLost, Reply
from tests.chaos.library import LibraryConnection
from tests.chaos.record import Entry, Incident, Json, Record
from tests.support.history import Outcome

RECONNECT_SECONDS = 0.02
KEYS_PER_READ = 500
LIBRARY_EVERY = 5
"""One client of so many speaks through redis-py."""
UNBLOCKED = "UNBLOCKED"
CUT_OFF = "connection lost"


class Endpoint(Protocol):
    """A node as clients see it."""

    @property
    def name(self) -> str:
        """What it is called, in the record too."""

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect: the node itself, or a proxy before it."""


class Unfinished(Exception):
    """A call had no clean end; `outcome` and `text` say what is known about it."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text


def classify(text: str) -> Unfinished:
    """What an error reply says about the command: refused, unless it says that nobody knows."""
    is_unknown = text.startswith(("UNKNOWN", UNBLOCKED))
    return Unfinished(Outcome.UNKNOWN if is_unknown else Outcome.REFUSED, text)


class Client(ABC):
    """One client of a workload; `step` is what it does again and again.

    Args:
        number: different from that of every other client of the run.
    """

    def __init__(
        self, workload: str, number: int, node: Endpoint, rng: random.Random, record: Record
    ) -> None:
        self.workload = workload
        self.number = number
        self.node = node
        self.random = rng
        self.record = record
        self.connection: Connection | LibraryConnection | None = None
        self._sequence = 0

    @abstractmethod
    async def step(self) -> None:
        """Do one thing, and note it."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; the operation under way is finished first."""
        try:
            while not stop.is_set() and not self.record.is_full:
                if await self._connect():
                    await self.step()
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection: whatever it had begun is not carried over to the next one."""
        if self.connection is not None:
            self.connection.close()

    def unique(self) -> str:
        """A value that nobody else uses."""
        self._sequence += 1
        return f"{self.number}.{self._sequence}"

    def begin(self, what: str, key: str, argument: Json = None) -> Entry:
        """Note an operation that is about to be sent."""
        return self.record.begin(self.workload, self.number, self.node.name, what, key, argument)

    async def ask(self, entry: Entry, *commands: Command) -> list[Reply] | None:
        """Send the commands of an operation together.

        Returns:
            The replies, when all are good; then the caller notes the end. Else None: refused or
            unknown has been noted, and an incident.
        """
        try:
            replies = await self.exchange(commands)
            errors = [str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)]
            inside = [str(one) for one in _elements(replies) if isinstance(one, hiredis.ReplyError)]
            if inside:
                raise self.noted(Unfinished(Outcome.UNKNOWN, inside[0]), entry.invoked_ns)
            if errors:
                # A transaction may be left half queued: a new connection has no such past.
                if len(commands) > 1:
                    self.hang_up()
                error = classify(errors[-1])
                if commands[0] == ("MULTI",) and isinstance(replies[0], hiredis.ReplyError):
                    # What follows was no transaction then: some of it may have been done.
                    error = Unfinished(Outcome.UNKNOWN, errors[0])
                raise self.noted(error, entry.invoked_ns)
        except Unfinished as error:
            entry.finish(error.outcome, note=error.text)
            return None
        return replies

    async def ask_each(
        self,
        entries: Sequence[Entry],
        commands: Sequence[Command],
        understand: Callable[[Reply], Json] = lambda _: None,
    ) -> None:
        """Send operations of one command each in one pipeline, and note the end of each."""
        try:
            replies = await self.exchange(commands)
        except Unfinished as error:
            for entry in entries:
                entry.finish(error.outcome, note=error.text)
            return
        for entry, reply in zip(entries, replies, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                wrong = self.noted(classify(str(reply)), entry.invoked_ns)
                entry.finish(wrong.outcome, note=wrong.text)
            else:
                entry.finish(Outcome.DONE, understand(reply))

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands together; the replies may be errors, which the caller looks at.

        Raises:
            Unfinished: the outcome of all is unknown. An incident has been noted.
        """
        assert self.connection is not None
        since = time.monotonic_ns()
        try:
            return await self.connection.call(*commands)
        except ConnectionLost:
            error = Unfinished(Outcome.UNKNOWN, CUT_OFF)
        except TimeoutError:
            error = Unfinished(Outcome.UNKNOWN, "timeout")
        raise self.noted(error, since)

    def noted(self, error: Unfinished, since_ns: int) -> Unfinished:
        """Note what a client would call an error; one that waited may be told to go."""
        if error.text.startswith(UNBLOCKED):
            return error
        self.record.incidents.append(
            Incident(self.number, self.node.name, since_ns, time.monotonic_ns(), error.text)
        )
        return error

    async def _connect(self) -> bool:
        if self.connection is not None and not self.connection.lost:
            return True
        kind = Connection if self.number % LIBRARY_EVERY else LibraryConnection
        try:
            self.connection = await kind.open(self.node.address)
            await log_in(self.node, self.connection)
        except (OSError, ConnectionLost):
            await asyncio.sleep(RECONNECT_SECONDS)
            return False
        return True


class Workload(ABC):
    """Something that clients do with keys of their own, and how to tell whether it went well.

    Attributes:
        name: as it is chosen on the command line.
        clients_per_node: how many clients make it worth the while.
        needs_finals: nothing can be judged without what is there in the end.

    Args:
        epoch: part of the name of every key, so that no epoch meets the keys of another.
    """

    name: ClassVar[str]
    clients_per_node: ClassVar[int] = 2
    needs_finals: ClassVar[bool] = True

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    def key(self, number: int | str) -> str:
        """The name of one of its keys."""
        return f"{self.name}:{self.epoch}:{number}"

    @abstractmethod
    def client(self, number: int, node: Endpoint, rng: random.Random, record: Record) -> Client:
        """One client at one node."""

    def clients(
        self, nodes: Sequence[Endpoint], first: int, rng: random.Random, record: Record
    ) -> list[Client]:
        """Its clients on all nodes, numbered from `first` on."""
        homes = [node for node in nodes for _ in range(self.clients_per_node)]
        return [
            self.client(first + at, node, random.Random(rng.random()), record)
            for at, node in enumerate(homes)
        ]

    async def prepare(self, connection: Connection) -> None:  # noqa: B027  # most need nothing
        """Make what has to be there before the clients come; once, in calm weather."""

    async def read_back(self, node: str, connection: Connection, record: Record) -> None:
        """Ask a node, in calm weather when all clients have ended, what is there.

        Every node is asked; what it says goes to the finals of the record, and where the check
        wants that to its entries.

        Raises:
            ConnectionLost, TimeoutError, hiredis.ReplyError: it does not answer, or not well.
        """
        await self.look(node, connection, record)
        record.answered.setdefault(self.name, []).append(node)

    @abstractmethod
    async def look(self, node: str, connection: Connection, record: Record) -> None:
        """Ask a node for everything."""

    def finals(self, record: Record) -> dict[str, dict[str, Json]]:
        """What is there of its keys in the end, by each node that could tell."""
        begin = self.key("")
        return {
            node: {key: value for key, value in found.items() if key.startswith(begin)}
            for node, found in record.finals.items()
            if node in record.answered.get(self.name, ())
        }

    def judge(self, record: Record) -> Judgement:
        """Judge what its clients saw, and what was there in the end."""
        if self.finals(record) or not self.needs_finals:
            return self.check(record)
        return Judgement(undecided=[f"{self.name}: nobody could tell what is there in the end"])

    @abstractmethod
    def check(self, record: Record) -> Judgement:
        """Judge what its clients saw, and what was there in the end; some node has told,
        unless that is not needed.
        """


def _elements(replies: Sequence[Reply]) -> Iterator[Reply]:
    """What the arrays among the replies hold: EXEC answers with one."""
    for reply in replies:
        if isinstance(reply, list):
            yield from reply


async def dial(node: Endpoint) -> Connection:
    """Connect to a node, and log in if it has a password.

    Raises:
        OSError, ConnectionLost: it does not answer.
        hiredis.ReplyError: it is another password.
    """
    connection = await Connection.open(node.address)
    await log_in(node, connection)
    return connection


async def log_in(node: Endpoint, connection: Connection | LibraryConnection) -> None:
    """AUTH, at a node that was given a password to know it by."""
    if password := getattr(node, "password", ""):
        (reply,) = await connection.call(("AUTH", password))
        if isinstance(reply, hiredis.ReplyError):
            raise reply


async def fetch(connection: Connection, *commands: Command) -> list[Reply]:
    """Replies in calm weather.

    Raises:
        ConnectionLost, TimeoutError: there are none.
        hiredis.ReplyError: one is an error.
    """
    replies = await connection.call(*commands)
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise reply
    return replies


async def read_keys(
    node: str,
    connection: Connection,
    record: Record,
    keys: Sequence[str],
    command: Command = ("MGET",),
) -> None:
    """Note the value of each key (or field, with HMGET) as a final, a few hundred at a time.

    Raises:
        ConnectionLost, TimeoutError, hiredis.ReplyError: as `fetch`.
    """
    for start in range(0, len(keys), KEYS_PER_READ):
        part = keys[start : start + KEYS_PER_READ]
        (found,) = await fetch(connection, (*command, *part))
        assert isinstance(found, list), found
        for key, value in zip(part, found, strict=True):
            record.final(node, key, text(value))


def text(reply: Reply) -> str | None:
    """A string in a reply."""
    assert reply is None or isinstance(reply, bytes), reply
    return None if reply is None else reply.decode()


def texts(reply: Reply) -> list[str]:
    """The strings of an array."""
    assert isinstance(reply, list), reply
    return [element.decode() for element in reply if isinstance(element, bytes)]
