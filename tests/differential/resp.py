"""A Redis client that hides nothing: every reply keeps the type it had on the wire.

Client libraries turn `+OK`, `$2 OK` and RESP3's `_`, `$-1`, `*-1` into the same few values of their
language. A differential test must tell them apart, so this client keeps the type byte beside the
value. `Reader` is sans-IO; `Connection` is one blocking socket without retries.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvnode.limits import KIB

REPLY_SECONDS_MAX = 15.0
"""Longer than a node holds a command through an election: silence past it is a finding."""
CHUNK_BYTES = 64 * KIB


class Reply(NamedTuple):
    """One reply.

    Attributes:
        kind: the type byte of the wire, e.g. `b"+"`; `b""` for what is no reply at all: a closed
            connection, or silence.
        value: the bytes of a scalar (numbers as they were written), the elements of an aggregate
            (a map: keys and values in turn), None for any of the three nulls.
    """

    kind: bytes
    value: bytes | tuple[Reply, ...] | None

    @property
    def is_error(self) -> bool:
        """Whether the command was refused."""
        return self.kind in (b"-", b"!")

    @property
    def elements(self) -> tuple[Reply, ...]:
        """The elements of an aggregate; nothing for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> bytes:
        """The bytes of a scalar; nothing for anything else."""
        return self.value if isinstance(self.value, bytes) else b""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.kind.decode()}(null)"
        if isinstance(self.value, tuple):
            return f"{self.kind.decode()}[{', '.join(map(str, self.value))}]"
        return f"{self.kind.decode()}{self.value!r}"


CLOSED = Reply(b"", b"connection closed")
SILENCE = Reply(b"", b"no reply in time")
QUEUED = Reply(b"+", b"QUEUED")

_LINES = frozenset(b"+-:,#(")
_BULKS = frozenset(b"$!=")
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}


class NotResp(Exception):
    """The server sent bytes that are no reply."""


class _Incomplete(Exception):
    """The reply goes on in bytes that have not arrived yet."""


class Reader:
    """Cuts a stream of bytes into replies."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self._buffer += chunk

    def replies(self) -> list[Reply]:
        """All replies that are complete.

        Raises:
            NotResp: the stream is broken for good.
        """
        found, at = [], 0
        while at < len(self._buffer):
            try:
                reply, at = self._parse(at)
            except _Incomplete:
                break
            found.append(reply)
        self._buffer = self._buffer[at:]
        return found

    def _line(self, at: int) -> tuple[bytes, int]:
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            raise _Incomplete
        return self._buffer[at:end], end + 2

    def _parse(self, at: int) -> tuple[Reply, int]:
        mark = self._buffer[at]
        kind = self._buffer[at : at + 1]
        line, at = self._line(at + 1)
        if mark in _LINES:
            return Reply(kind, line), at
        if mark == ord("_"):
            return Reply(kind, None), at
        if mark not in _BULKS and mark not in _AGGREGATES:
            raise NotResp(f"a reply begins with {kind!r}")
        try:
            length = int(line)
        except ValueError:
            raise NotResp(f"the length of a {kind!r} is {line!r}") from None
        if length < 0:
            return Reply(kind, None), at
        if mark in _BULKS:
            return self._bulk(kind, at, length)
        elements = []
        for _ in range(length * _AGGREGATES[mark]):
            if at >= len(self._buffer):
                raise _Incomplete
            element, at = self._parse(at)
            elements.append(element)
        return Reply(kind, tuple(elements)), at

    def _bulk(self, kind: bytes, at: int, length: int) -> tuple[Reply, int]:
        end = at + length
        if end + 2 > len(self._buffer):
            raise _Incomplete
        if self._buffer[end : end + 2] != b"\r\n":
            raise NotResp(f"a {kind!r} of {length} bytes has no end")
        return Reply(kind, self._buffer[at:end]), end + 2


def pack(arguments: Sequence[bytes]) -> bytes:
    """One request: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


class Connection:
    """One connection; it reconnects only when told to."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._reader = Reader()
        self._pending: list[Reply] = []
        self._socket = self._open()

    def _open(self) -> socket.socket:
        opened = socket.create_connection(self._address, REPLY_SECONDS_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def reopen(self) -> None:
        """Begin anew; what was under way is lost.

        Raises:
            OSError: nobody listens any more.
        """
        self.close()
        self._reader = Reader()
        self._pending = []
        self._socket = self._open()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, commands: Iterable[Sequence[bytes]]) -> None:
        """Send commands in one write; a connection that is gone is noticed by `receive`."""
        with contextlib.suppress(OSError):
            self._socket.sendall(b"".join(map(pack, commands)))

    def receive(self, count: int) -> list[Reply]:
        """Wait for `count` replies.

        A connection that ends first gives `CLOSED` for each missing reply, one that is silent
        for `REPLY_SECONDS_MAX` gives `SILENCE`; after either it is open again.

        Raises:
            OSError: nobody listens any more.
            NotResp: the server sent bytes that are no reply.
        """
        while len(self._pending) < count:
            try:
                chunk = self._socket.recv(CHUNK_BYTES)
            except TimeoutError:
                return self._give_up(count, SILENCE)
            except ConnectionError:
                chunk = b""
            if not chunk:
                return self._give_up(count, CLOSED)
            self._reader.feed(chunk)
            self._pending += self._reader.replies()
        replies, self._pending = self._pending[:count], self._pending[count:]
        return replies

    def _give_up(self, count: int, reason: Reply) -> list[Reply]:
        got = self._pending
        self.reopen()
        return got + [reason] * (count - len(got))

    def has_reply(self) -> bool:
        """Whether a reply, or the end, has arrived that nobody has asked for yet."""
        return bool(self._pending) or bool(select.select([self._socket], [], [], 0)[0])

    def call(self, *commands: Sequence[bytes]) -> list[Reply]:
        """Send commands in one write and wait for all of their replies."""
        self.send(commands)
        return self.receive(len(commands))
