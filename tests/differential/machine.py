"""Plays one sequence to redis-server and to kvnode side by side and keeps what they answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, TypeAlias

from tests.differential.compare import Dump, Record, Transcript
from tests.differential.families import FAMILIES
from tests.differential.family import Listing
from tests.differential.resp import Connection, Reply
from tests.differential.sequence import FIRST, Held, Release, Send, Sequence, Settle, Walk
from tests.differential.words import DATABASES

Address = tuple[str, int]

SETTLE_SECONDS_MAX: Final = 10.0
SETTLE_POLL_SECONDS: Final = 0.005
WALK_ROUNDS_MAX: Final = 10_000

Chunk: TypeAlias = "list[Send] | Settle | Walk | Held | Release"
"""The commands of one write, or one step of another kind."""

LISTINGS: Final[dict[bytes, Listing]] = {
    kind: listing for family in FAMILIES.values() for kind, listing in family.listings.items()
}
"""How a key of each type is read at the end."""


class Void(Exception):
    """The sequence tells nothing: a server refused for reasons of its own, or is gone."""


class Side:
    """One of the two servers, with the two connections of a sequence and one of our own.

    Args:
        first: where the first connection goes.
        second: where the second one goes: another node of the cluster, if there is one.
    """

    def __init__(self, first: Address, second: Address) -> None:
        self.connections = (Connection(first), Connection(second))
        self._control = Connection(first)

    def close(self) -> None:
        """End all connections."""
        for connection in (*self.connections, self._control):
            connection.close()

    def begin(self, protocols: tuple[int, int]) -> None:
        """Remove all keys, and make both connections as new."""
        self._control.call([b"FLUSHALL"])
        for connection, protocol in zip(self.connections, protocols, strict=True):
            connection.call([b"RESET"], [b"CLIENT", b"SETNAME", b""], [b"HELLO", b"%d" % protocol])

    def send(self, chunk: list[Send]) -> None:
        """Send commands of one connection in one write."""
        self.connections[chunk[0].connection].send(step.arguments for step in chunk)

    def receive(self, chunk: list[Send]) -> Iterator[tuple[Send, Reply]]:
        """Wait for the answers to what was sent; after a QUIT the connection is opened again."""
        answered = [step for step in chunk if not step.silent]
        connection = self.connections[chunk[0].connection]
        replies = connection.receive(len(answered))
        if answered and answered[-1].name == b"quit" and not replies[-1].is_error:
            connection.reopen()
        return zip(answered, replies, strict=True)

    def settle(self, key: bytes) -> None:
        """Wait until a key of database 0 has expired and is not counted any more.

        Raises:
            Void: it is still there after `SETTLE_SECONDS_MAX`.
        """
        questions = [b"SELECT", b"0"], [b"EXISTS", key], [b"KEYS", b"*"], [b"DBSIZE"]
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while True:
            _, exists, keys, size = self._control.call(*questions)
            if exists.text == b"0" and size.text == b"%d" % len(keys.elements):
                return
            if time.monotonic() > deadline:
                raise Void(f"{key!r} has not expired: {exists}, {size}")
            time.sleep(SETTLE_POLL_SECONDS)

    def do(self, chunk: Chunk, transcript: Transcript) -> None:
        """Do what is done in one go (what was to be sent has been sent), and note what came.

        Raises:
            Void: it cannot be done.
        """
        if isinstance(chunk, list):
            transcript.exchanges += self.receive(chunk)
        elif isinstance(chunk, Settle):
            self.settle(chunk.key)
        elif isinstance(chunk, Walk):
            transcript.walks.append(self.walk(chunk))
        elif isinstance(chunk, Held):
            self.hold(chunk)
        else:
            transcript.exchanges += self.release(chunk)

    def hold(self, step: Held) -> None:
        """Send a command on the first connection, and see it answered or waiting.

        The write behind it shows that a node of a cluster has told the others of it.

        Raises:
            Void: neither comes to pass within `SETTLE_SECONDS_MAX`.
        """
        self.connections[FIRST].send([step.arguments])
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while not self.connections[FIRST].has_reply():
            (clients,) = self._control.call([b"INFO", b"clients"])
            if b"blocked_clients:1" in clients.text:
                self._control.call([b"SELECT", b"0"], [b"PERSIST", b"no such key"])
                return
            if time.monotonic() > deadline:
                raise Void(f"{step.arguments} neither waits nor is answered")
            time.sleep(SETTLE_POLL_SECONDS)

    def release(self, step: Release) -> Iterator[tuple[Send, Reply]]:
        """The answer to what was held."""
        (reply,) = self.connections[FIRST].receive(1)
        yield Send(step.held.arguments), reply

    def walk(self, step: Walk) -> set[tuple[bytes, ...]]:
        """What a whole SCAN finds; the text of its error, if the first page is one."""
        cursor, found = b"0", set[tuple[bytes, ...]]()
        self._control.call([b"SELECT", b"%d" % step.database])
        for _ in range(WALK_ROUNDS_MAX):
            (reply,) = self._control.call([*step.command, cursor, *step.options])
            if reply.is_error and cursor == b"0":
                return {(reply.text,)}
            if len(reply.elements) != 2:
                raise Void(f"{step.command[0]!r} answered {reply}")
            cursor = reply.elements[0].text
            texts = [element.text for element in reply.elements[1].elements]
            found.update(zip(*(iter(texts),) * step.width, strict=True))
            if cursor == b"0":
                return found
        raise Void(f"{step.command[0]!r} did not end in {WALK_ROUNDS_MAX} pages")

    def dump(self) -> Dump:
        """Everything in the databases that sequences write to."""
        return {
            (database, key): record
            for database in DATABASES
            for key, record in self._records(database)
        }

    def _records(self, database: int) -> Iterator[tuple[bytes, Record]]:
        _, listed = self._control.call([b"SELECT", b"%d" % database], [b"KEYS", b"*"])
        keys = [key.text for key in listed.elements]
        if not keys:
            return
        kinds = self._control.call(*([b"TYPE", key] for key in keys))
        forms = [LISTINGS.get(kind.text, LISTINGS[b"string"]) for kind in kinds]
        questions = (
            line
            for key, form in zip(keys, forms, strict=True)
            for line in (form.line(key), [b"PTTL", key])
        )
        replies = self._control.call(*questions)
        for at, (key, kind, form) in enumerate(zip(keys, kinds, forms, strict=True)):
            value, lifetime = replies[2 * at : 2 * at + 2]
            yield key, (kind, form.canon(value), lifetime)


class Machine:
    """Two servers side by side.

    Args:
        redis: the address of redis-server.
        kvnode: the address of the node under test.
        other: another node of its cluster, for the second connection.

    Raises:
        OSError: one of them does not listen.
    """

    def __init__(self, redis: Address, kvnode: Address, other: Address | None = None) -> None:
        self.redis = Side(redis, redis)
        self.kvnode = Side(kvnode, other or kvnode)

    def close(self) -> None:
        """End all connections."""
        self.redis.close()
        self.kvnode.close()

    def play(self, sequence: Sequence) -> tuple[Transcript, Transcript]:
        """Play a sequence to both.

        Returns:
            What redis-server did, and what kvnode did.

        Raises:
            Void: the sequence tells nothing.
            OSError: a server is gone.
            NotResp: a server sent bytes that are no reply.
        """
        sides = self.redis, self.kvnode
        transcripts = Transcript(), Transcript()
        for side in sides:
            side.begin(sequence.protocols)
        for chunk in chunks(sequence):
            if isinstance(chunk, list):
                for side in sides:
                    side.send(chunk)
            for side, transcript in zip(sides, transcripts, strict=True):
                side.do(chunk, transcript)
        for side, transcript in zip(sides, transcripts, strict=True):
            transcript.dump = side.dump()
        _check_outcomes(transcripts[1])
        return transcripts


def chunks(sequence: Sequence) -> Iterator[Chunk]:
    """What is done in one go: the commands of one write, or one wait."""
    chunk: list[Send] = []
    for step in sequence.steps:
        joins = (
            isinstance(step, Send)
            and chunk
            and step.joined
            and step.connection == chunk[-1].connection
            and chunk[-1].name != b"quit"
        )
        if chunk and not joins:
            yield chunk
            chunk = []
        if isinstance(step, Send):
            chunk.append(step)
        else:
            yield step
    if chunk:
        yield chunk


def _check_outcomes(transcript: Transcript) -> None:
    """A node that refuses for lack of a leader, or does not know, has not been compared.

    Raises:
        Void: that is so.
    """
    for _, reply in transcript.exchanges:
        if reply.text.startswith((b"BUSY ", b"UNKNOWN ")) and reply.is_error:
            raise Void(f"kvnode answered {reply}")
