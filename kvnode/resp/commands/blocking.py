"""Commands that wait for something else than their own operation: WAIT, SAVE, DEBUG SLEEP.

A waiting command takes its place in the order of replies and stands as a barrier: nothing behind
it on its connection is begun before it has ended. Other connections do not notice. Inside MULTI
nothing waits: the answer is what is known at that moment, as in Redis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands.command import LOCAL, MustWait
from kvnode.resp.commands.grammar import INT64_MAX, integer, wrong_subcommand
from kvnode.resp.encoder import OK_BYTES, RESP2, Render, encode2, encode3, status
from kvnode.resp.encoder import integer as encode_integer
from kvnode.store.reply import OK, Result

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from kvnode.resp.connection import Connection
    from kvnode.service import Control

NO_CONTROL: Final = "ERR this node cannot do that yet"
NOT_IN_TIME: Final = "BUSY the node is stopping; nobody waits for the snapshot any more"
UNBLOCKED: Final = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
TIMEOUT_SECONDS_MAX: Final = INT64_MAX // 1_000_000_000


def control_of(connection: Connection) -> Control:
    """What the node offers to operators; raises `CommandError` if it offers nothing."""
    control = connection.server.control
    if control is None:
        raise CommandError(NO_CONTROL)
    return control


class Blocked:
    """A connection that waits. Ends exactly once: by `finish`, from whichever side.

    Args:
        at_last: the result when the time is over, or the node stops.
        timeout_s: seconds, None: no limit.
        may_unblock: whether CLIENT UNBLOCK ends it.
        size: bytes of the command.
        render: writes the result; as it is, if None.
    """

    __slots__ = ("_at_last", "_connection", "_is_over", "_request", "_timer", "may_unblock")

    def __init__(
        self,
        connection: Connection,
        at_last: Result,
        timeout_s: float | None = None,
        *,
        may_unblock: bool = False,
        size: int = 0,
        render: Render | None = None,
    ) -> None:
        self._connection = connection
        self._at_last = at_last
        self.may_unblock = may_unblock
        self._is_over = False
        self._timer: TimerHandle | None = None
        connection.begin_barrier()
        plain = encode2 if connection.protocol == RESP2 else encode3
        self._request = connection.expect(LOCAL, size, render or plain)
        connection.blocked = self
        if timeout_s is not None:
            self._timer = connection.server.loop.call_later(timeout_s, self.expire)

    def finish(self, result: Result) -> None:
        """Answer, and let the commands behind it go on."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._connection.blocked = None
        self._connection.end_barrier()
        self._request.complete(result)

    def expire(self) -> None:
        """End as if its time were over."""
        self.finish(self._at_last)

    def unblock(self, error: CommandError) -> None:
        """End with an error, for CLIENT UNBLOCK."""
        self.finish(error)

    def leave(self) -> None:
        """The client is gone."""
        self.finish(None)

    def hang_up(self) -> None:
        """The client has said all. It still gets its answer, if it costs nobody anything."""


class ReplicaWait(Blocked):
    """WAIT: until `count` voters have the log up to `index`."""

    __slots__ = ("_control", "_forget", "_index")

    def __init__(
        self, connection: Connection, count: int, index: int, timeout_s: float | None
    ) -> None:
        super().__init__(connection, None, timeout_s, may_unblock=True)
        self._control = control_of(connection)
        self._index = index
        self._forget = self._control.when_covered(index, count, self.finish)

    def finish(self, result: Result) -> None:
        self._forget()
        super().finish(result)

    def expire(self) -> None:
        self.finish(self._control.replicas_covering(self._index))


def wait_for_answers(connection: Connection) -> None:
    """Raise `MustWait` while any command before this one is unanswered."""
    if connection.run.in_flight and not connection.runs_transaction:
        raise MustWait


def wait(connection: Connection, arguments: list[bytes]) -> bytes | None:
    """WAIT: voters besides this node that have all that this connection wrote on their disks."""
    count = integer(arguments[1])
    timeout_ms = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    control = control_of(connection)
    wait_for_answers(connection)
    # An answered write is applied here, so what is applied covers it.
    index = connection.server.service.status().applied
    covering = control.replicas_covering(index)
    if covering >= count or connection.runs_transaction:
        return encode_integer(covering)
    timeout_s = min(timeout_ms / 1000, TIMEOUT_SECONDS_MAX)
    ReplicaWait(connection, count, index, timeout_s or None)
    return None


# --- snapshots ------------------------------------------------------------------------------------


def save(connection: Connection, _arguments: list[bytes]) -> bytes | None:
    """SAVE: answered when a snapshot is durable; other connections are served meanwhile."""
    control = control_of(connection)
    wait_for_answers(connection)

    def done(failure: str | None) -> None:
        blocked.finish(OK if failure is None else CommandError(f"ERR {failure}"))

    if not control.take_snapshot(done):
        raise CommandError("ERR Background save already in progress")
    blocked = Blocked(connection, CommandError(NOT_IN_TIME))
    return None


def bgsave(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() != b"SCHEDULE"):
        raise CommandError("ERR syntax error")
    if not control_of(connection).take_snapshot(_forget):
        raise CommandError("ERR Background save already in progress")
    return status("Background saving started")


def _forget(_failure: str | None) -> None:
    """INFO tells how the last snapshot ended."""


def lastsave(connection: Connection, _arguments: list[bytes]) -> bytes:
    saved_at_s = control_of(connection).snapshot_status().saved_at_s
    return encode_integer(saved_at_s or connection.server.started_at_s)


# --- DEBUG ----------------------------------------------------------------------------------------


def debug_sleep(connection: Connection, arguments: list[bytes]) -> bytes | None:
    """DEBUG SLEEP: holds up this connection only. A node that slept would lose its leadership."""
    try:
        seconds = float(arguments[2])
    except ValueError:
        seconds = 0.0  # as Redis' strtod has it
    if connection.runs_transaction or not seconds > 0:
        return OK_BYTES
    Blocked(connection, OK, min(seconds, TIMEOUT_SECONDS_MAX) if math.isfinite(seconds) else None)
    return None


# --- CLIENT UNBLOCK -------------------------------------------------------------------------------


def client_unblock(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 4:
        raise wrong_subcommand(arguments)
    reason = arguments[3].upper() if len(arguments) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    target = connection.server.clients.get(integer(arguments[2]))
    blocked = None if target is None else target.blocked
    if blocked is None or not blocked.may_unblock:
        return encode_integer(0)
    if reason == b"ERROR":
        blocked.unblock(CommandError(UNBLOCKED))
    else:
        blocked.expire()
    return encode_integer(1)
