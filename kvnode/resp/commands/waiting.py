"""Commands that wait for a key: BLPOP and its relatives, XREAD and XREADGROUP with BLOCK.

Each is the form that never waits, and a time. Inside MULTI it is that form. Elsewhere it keeps its
place in the order of replies, and nothing behind it on its connection is begun before it has ended.

A client that closes its side of the connection while it waits is gone, as in Redis: what it might
get is for others.
"""

from __future__ import annotations

from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError, Refused
from kvnode.resp.commands import lists, sorted_sets, stream_groups, streams
from kvnode.resp.commands.blocking import TIMEOUT_SECONDS_MAX, Blocked
from kvnode.resp.commands.command import Blocks
from kvnode.resp.commands.grammar import INT64_MAX, check_keys
from kvnode.resp.encoder import NULL_ARRAYS, RESP2, RESP3, Render, Renders, encode2, encode3
from kvnode.service import RENDERED, Op, RenderedPending, Rendering
from kvnode.store import ops
from kvnode.store.redis import long_double
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from kvnode.resp.connection import Connection

NOT_A_TIME: Final = "ERR timeout is not a float or out of range"
RETRY_SECONDS: Final = 0.1
NEGATIVE: Final = "ERR timeout is negative"
SHARED_REPLY_BYTES_MIN: Final = 1024
"""A shorter reply is written out again sooner than it is looked for."""


# --- waiting --------------------------------------------------------------------------------------


def or_null_array(protocol: int, render: Render) -> Render:
    """Whatever the command says when it finds nothing: when its time is over it says this."""
    null = NULL_ARRAYS[protocol - RESP2]
    return lambda result: null if result is None else render(result)


class SharedReply:
    """The last large reply: who is told the same result in the same pass of the loop gets it too.

    A large entry of a stream with a thousand readers is written out once.
    """

    __slots__ = ("_render", "_reply", "_result")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nobody else will ask."""
        self._render: Render | None = None
        self._result: Result = None
        self._reply = b""

    def write(self, loop: AbstractEventLoop, render: Render, result: Result) -> bytes:
        """What `render` makes of `result`."""
        if result is self._result and render is self._render:
            return self._reply
        reply = render(result)
        if len(reply) >= SHARED_REPLY_BYTES_MIN:
            if self._render is None:
                loop.call_soon(self.forget)
            self._render, self._result, self._reply = render, result, reply
        return reply


class _KeyBlocked(Blocked):
    """A client that waits for keys: when its time is over, or it is told to go on, it gets nil."""

    __slots__ = ()

    def __init__(
        self, connection: Connection, timeout_s: float | None, size: int, render: Render
    ) -> None:
        super().__init__(
            connection,
            None,
            timeout_s,
            may_unblock=True,
            size=size,
            render=or_null_array(connection.protocol, render),
        )

    def finish(self, result: Result) -> None:
        if not self._is_over:
            # As in Redis, the time of a command is not that of its client's waiting.
            server = self._connection.server
            clock_ns = server.passes.clock_ns if self._connection.is_dirty else monotonic_ns()
            self._request.began_ns = clock_ns
        super().finish(result)

    def hang_up(self) -> None:
        """As in Redis, who closes its side is gone."""
        self._connection.is_closing = True
        self.leave()


class KeyWait(_KeyBlocked):
    """A write that waits in the log, so that all nodes agree on who is served first."""

    __slots__ = ("_wait",)

    def __init__(
        self, connection: Connection, op: Op, timeout_s: float | None, size: int, render: Render
    ) -> None:
        super().__init__(connection, timeout_s, size, render)
        submit = connection.server.service.submit_blocking
        self._wait = submit(op[1], op, size, self._done)

    def _done(self, result: Result) -> None:
        self.finish(self._at_last if result is None else result)

    def expire(self) -> None:
        """It may have been served already: the node knows."""
        self.may_unblock = False
        self._wait.expire()

    def unblock(self, error: CommandError) -> None:
        self._at_last = error
        self.expire()

    def leave(self) -> None:
        self._wait.leave()
        self.finish(None)


def wait_for_key(op: Op, timeout_s: float | None) -> Blocks:
    """What `parse` raises for a write that waits."""
    return Blocks(
        op, lambda connection, size, render: KeyWait(connection, op, timeout_s, size, render)
    )


class StreamWait(_KeyBlocked):
    """XREAD that waits. It is a read, so it waits on its own node and for nobody else.

    It asks for the ids that `$` stands for, and then for newer entries: reads like any other,
    linearizable unless the client wants it otherwise. From then on the node looks for it, right
    after each write to one of its streams.
    """

    __slots__ = ("_db", "_forget", "_limit", "_protocol", "_wanted")

    def __init__(
        self, connection: Connection, op: Op, timeout_s: float | None, size: int, render: Render
    ) -> None:
        server = connection.server
        shared = partial(server.shared_reply.write, server.loop, render)
        super().__init__(connection, timeout_s, size, shared)
        self._protocol = connection.protocol
        _, self._db, self._limit, *wanted = op
        self._wanted: dict[bytes, Result] = {}
        self._forget: Callable[[], None] | None = None
        keys = wanted[::2]
        self._ask([ops.XREAD_SINCE, self._db, *wanted], partial(self._begin, keys))

    def _ask(self, op: Op, then: Callable[[Result], None]) -> None:
        """Read; what is refused, such as without a leader, is asked again: it waits anyway."""

        def answered(result: Result) -> None:
            if self._is_over:
                return
            if isinstance(result, Refused):
                self._connection.server.loop.call_later(RETRY_SECONDS, self._ask, op, then)
            else:
                then(result)

        if not self._is_over:
            self._connection.submit_read(_Question(self, op, answered))

    @property
    def is_over(self) -> bool:
        """It was answered, or its client is gone."""
        return self._is_over

    @property
    def rendering(self) -> Rendering | None:
        """How a reply is written if a worker finds what it waits for."""
        command = self._connection.last_command
        assert command is not None
        return Rendering(command.name, self._protocol, self._connection.peer)

    def charge(self, seconds: float) -> None:
        """Count time that was spent on it."""
        self._request.charge(seconds)

    def take(self, reply: bytes) -> None:
        """This is what it gets."""
        self._request.take(reply)

    def _begin(self, keys: list[bytes], result: Result) -> None:
        """The ids are known: from now on what comes behind them counts."""
        if not isinstance(result, list):
            self.finish(result)
            return
        for key, since in zip(keys, result, strict=True):
            self._wanted.setdefault(key, since)
        pairs = [part for pair in zip(keys, result, strict=True) for part in pair]
        self._ask([ops.XREAD, self._db, self._limit, *pairs], self._look)

    def _look(self, result: Result) -> None:
        """There was nothing at first: no write is missed between this answer and the watch."""
        if result is not None:
            self.finish(result)
            return
        questions = {
            key: [ops.XREAD, self._db, self._limit, key, since]
            for key, since in self._wanted.items()
        }
        when_found = self._connection.server.service.when_found
        self._forget = when_found(questions, self.finish, partial(self._look_again, questions))

    def _look_again(self, questions: dict[bytes, Op]) -> None:
        """Another store took the place of the one that looked."""
        for op in questions.values():
            self._ask(op, self._find)

    def _find(self, result: Result) -> None:
        """It may be another kind of key, or no key any more: then it waits on."""
        if result is not None and not isinstance(result, CommandError):
            self.finish(result)

    def finish(self, result: Result) -> None:
        if self._forget is not None:
            self._forget()
            self._forget = None
        super().finish(result)


class _Question(RenderedPending):
    """The `Pending` of a read that a waiting client asks."""

    __slots__ = ("_answered", "_wait", "op", "size")

    def __init__(self, wait: StreamWait, op: Op, answered: Callable[[Result], None]) -> None:
        self.op = op
        self.size = 0
        self._wait = wait
        self._answered = answered

    def complete(self, result: Result) -> None:
        self._answered(result)

    @property
    def is_wanted(self) -> bool:
        """Whether the client still waits."""
        return not self._wait.is_over

    @property
    def rendering(self) -> Rendering | None:
        """That of XREAD, unless it asks for something else."""
        return self._wait.rendering if self.op[0] == ops.XREAD else None

    def charge(self, seconds: float) -> None:
        self._wait.charge(seconds)

    def complete_rendered(self, reply: bytes, _missed: int, _found: int) -> None:
        """Something was found."""
        if not self._wait.is_over:
            self._wait.take(reply)
            self.complete(RENDERED)


# --- times ----------------------------------------------------------------------------------------


def seconds(argument: bytes) -> float | None:
    """A time in seconds, as Redis reads it: a long double, up to whole milliseconds; None for 0.

    Raises:
        CommandError: it is no number, or negative, as one that is too large is to Redis.
    """
    number = long_double.parse(argument)
    if number is None:
        raise CommandError(NOT_A_TIME)
    significand, exponent = number
    thousandfold = 1000 * significand
    milliseconds = thousandfold << exponent if exponent >= 0 else -(-thousandfold >> -exponent)
    if not 0 <= milliseconds <= INT64_MAX:
        raise CommandError(NEGATIVE)
    return min(milliseconds / 1000, TIMEOUT_SECONDS_MAX) or None


# --- lists ----------------------------------------------------------------------------------------


def parse_blpop(db: int, arguments: list[bytes]) -> Op:
    return _parse_pop(db, arguments, lists.LEFT)


def parse_brpop(db: int, arguments: list[bytes]) -> Op:
    return _parse_pop(db, arguments, lists.RIGHT)


def _parse_pop(db: int, arguments: list[bytes], side: int) -> Op:
    timeout_s = seconds(arguments[-1])
    op = [ops.LMPOP, db, side, 1, *check_keys(arguments[1:-1])]
    raise wait_for_key(op, timeout_s)


def parse_blmpop(db: int, arguments: list[bytes]) -> Op:
    op = lists.parse_lmpop_at(db, arguments, 2)
    raise wait_for_key(op, seconds(arguments[1]))


def parse_blmove(db: int, arguments: list[bytes]) -> Op:
    op = lists.parse_lmove(db, arguments[:-1])
    raise wait_for_key(op, seconds(arguments[-1]))


def parse_brpoplpush(db: int, arguments: list[bytes]) -> Op:
    timeout_s = seconds(arguments[-1])
    raise wait_for_key(lists.parse_rpoplpush(db, arguments[:-1]), timeout_s)


def _of_one(protocol: int) -> Render:
    """One element, or member and score, with its key, where the op answers the key and a list."""
    encode = encode2 if protocol == RESP2 else encode3
    null = NULL_ARRAYS[protocol - RESP2]

    def render(result: Result) -> bytes:
        if not isinstance(result, list):
            return null if result is None else encode(result)
        key, popped = result
        assert isinstance(popped, list)
        (one,) = popped
        return encode([key, *one] if isinstance(one, list) else [key, one])

    return render


ONE: Final[Renders] = (_of_one(RESP2), _of_one(RESP3))
"""BLPOP and BRPOP are LMPOP of one element, BZPOPMIN and BZPOPMAX are ZMPOP of one member."""


# --- sorted sets ----------------------------------------------------------------------------------


def parse_bzpopmin(db: int, arguments: list[bytes]) -> Op:
    return _parse_zpop(db, arguments, 0)


def parse_bzpopmax(db: int, arguments: list[bytes]) -> Op:
    return _parse_zpop(db, arguments, 1)


def _parse_zpop(db: int, arguments: list[bytes], from_end: int) -> Op:
    timeout_s = seconds(arguments[-1])
    op = [ops.ZMPOP, db, from_end, 1, *check_keys(arguments[1:-1])]
    raise wait_for_key(op, timeout_s)


def parse_bzmpop(db: int, arguments: list[bytes]) -> Op:
    op = sorted_sets.parse_pop_of_many(db, arguments[2:])
    raise wait_for_key(op, seconds(arguments[1]))


# --- streams --------------------------------------------------------------------------------------


def _seconds(block_ms: int) -> float | None:
    return min(block_ms / 1000, TIMEOUT_SECONDS_MAX) or None


def parse_xread(db: int, arguments: list[bytes]) -> Op:
    reading = streams.read_streams(arguments, in_group=False)
    op = streams.xread(db, reading)
    if reading.block_ms is None:
        return op
    timeout_s = _seconds(reading.block_ms)
    raise Blocks(
        op, lambda connection, size, render: StreamWait(connection, op, timeout_s, size, render)
    )


def parse_xreadgroup(db: int, arguments: list[bytes]) -> Op:
    reading = streams.read_streams(arguments, in_group=True)
    op = stream_groups.xreadgroup(db, reading)
    if reading.block_ms is None:
        return op
    raise wait_for_key(op, _seconds(reading.block_ms))
