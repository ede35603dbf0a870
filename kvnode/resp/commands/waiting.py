"""Commands that wait for a key: BLPOP and its relatives, XREAD and XREADGROUP with BLOCK.

Each is the form that never waits, and a time. Inside MULTI it is that form. Elsewhere it keeps its
place in the order of replies, and nothing behind it on its connection is begun before it has ended.

A client that closes its side of the connection while it waits is gone, as in Redis: what it might
get is for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands import lists
from kvnode.resp.commands.blocking import TIMEOUT_SECONDS_MAX, Blocked
from kvnode.resp.commands.command import Blocks
from kvnode.resp.commands.grammar import INT64_MAX, check_keys, integer
from kvnode.resp.encoder import NULL_ARRAYS, RESP2, RESP3, Render, Renders, encode2, encode3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.redis import long_double
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

NOT_A_TIME: Final = "ERR timeout is not a float or out of range"
NOT_MILLISECONDS: Final = "ERR timeout is not an integer or out of range"
NEGATIVE: Final = "ERR timeout is negative"


# --- waiting --------------------------------------------------------------------------------------


def or_null_array(protocol: int, render: Render) -> Render:
    """Whatever the command says when it finds nothing: when its time is over it says this."""
    null = NULL_ARRAYS[protocol - RESP2]
    return lambda result: null if result is None else render(result)


class KeyWait(Blocked):
    """A write that waits in the log, so that all nodes agree on who is served first."""

    __slots__ = ("_wait",)

    def __init__(
        self, connection: Connection, op: Op, timeout_s: float | None, size: int, render: Render
    ) -> None:
        super().__init__(
            connection,
            None,
            timeout_s,
            may_unblock=True,
            size=size,
            render=or_null_array(connection.protocol, render),
        )
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

    def hang_up(self) -> None:
        self._connection.is_closing = True
        self.leave()


def wait_for_key(op: Op, timeout_s: float | None) -> Blocks:
    """What `parse` raises for a write that waits."""
    return Blocks(
        op, lambda connection, size, render: KeyWait(connection, op, timeout_s, size, render)
    )


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


def milliseconds(argument: bytes) -> float | None:
    """A time in milliseconds as seconds, None for 0; raises `CommandError`."""
    value = integer(argument, NOT_MILLISECONDS)
    if value < 0:
        raise CommandError(NEGATIVE)
    return min(value / 1000, TIMEOUT_SECONDS_MAX) or None


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
    """The first element with its key, where the op answers the key and a list of elements."""
    encode = encode2 if protocol == RESP2 else encode3
    null = NULL_ARRAYS[protocol - RESP2]

    def render(result: Result) -> bytes:
        if not isinstance(result, list):
            return null if result is None else encode(result)
        key, elements = result
        assert isinstance(elements, list)
        return encode([key, elements[0]])

    return render


ELEMENT: Final[Renders] = (_of_one(RESP2), _of_one(RESP3))
"""BLPOP and BRPOP are LMPOP of one element."""
