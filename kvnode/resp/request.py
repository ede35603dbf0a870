"""A command on its way: what the node completes, and where its reply goes.

`complete` runs once per command, often hundreds of times in one pass of the loop, so it is written
out flat: accounting, rendering, counting, and the reply's place in the order.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from kvnode.admission.costs import estimate_ns
from kvnode.errors import CommandError, Overloaded
from kvnode.limits import COST_SAMPLE_COMMANDS
from kvnode.resp.encoder import RESP2, RESP3, Render
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES
from kvnode.service import RENDERED, Op, RenderedPending, Rendering
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from kvnode.resp.commands.command import Command
    from kvnode.resp.connection import Connection
    from kvnode.resp.parser import Arguments
    from kvnode.resp.stats import Stats, Tally

MINUS: Final = b"-"
"""The first byte of an error reply."""

REQUEST_OVERHEAD_BYTES: Final = 400
"""What Python keeps for a waiting command besides its arguments: measured with the proposer's queue
behind it."""


def memory_of(arguments: Arguments, size: int) -> int:
    """What a command takes whose arguments have `size` bytes."""
    count = len(arguments) if isinstance(arguments, list) else 0
    return size + REQUEST_OVERHEAD_BYTES + ARGUMENT_OVERHEAD_BYTES * count


class Request(RenderedPending):
    """A command that is not answered yet, and the `Pending` that the node completes.

    Attributes:
        op: the operation.
        size: bytes of the arguments.
        render: writes the result in the protocol that held when the command was read.
        reply: the encoded answer, once it is known.
        tally: the counters of its command.
        arguments: as they were sent, for the slow log.
        began_ns: when its turn came (monotonic nanoseconds).
    """

    __slots__ = ("arguments", "began_ns", "connection", "op", "render", "reply", "size", "tally")

    def __init__(
        self,
        op: Op,
        size: int,
        render: Render,
        connection: Connection,
        tally: Tally,
        arguments: list[bytes],
    ) -> None:
        self.op = op
        self.size = size
        self.render = render
        self.reply: bytes | None = None
        self.connection = connection
        self.tally = tally
        self.arguments = arguments
        self.began_ns = connection.clock_ns

    def complete(self, result: Result) -> None:
        """Take the result and let the connection's replies go out in order."""
        connection = self.connection
        server = connection.server
        size = self.size + REQUEST_OVERHEAD_BYTES + ARGUMENT_OVERHEAD_BYTES * len(self.arguments)
        if connection.is_lost:
            server.release(size)
            return
        ledger = server.ledger
        ledger.requests -= size
        connection.unanswered_bytes -= size
        connection.run.in_flight -= 1
        if not connection.is_dirty:
            connection.is_dirty = True
            server.passes.mark_dirty(connection)
        reply = self.render(result)
        tally = self.tally
        # The clock was read when the connection entered the dirty list: once per burst of results.
        elapsed_ns = server.passes.clock_ns - self.began_ns
        tally.nanoseconds += elapsed_ns
        tally.buckets[elapsed_ns.bit_length()] += 1
        if result is None:
            tally.missed += 1
        elif tally.judge is not None:
            tally.judge(tally, self.op, result)
        if elapsed_ns > server.notable_ns:
            server.note_slow(connection, tally.command, self.arguments, elapsed_ns)
        if reply[:1] == MINUS:
            tally.failed += 1
            server.stats.count_error(reply)
            if isinstance(result, Overloaded):
                connection.hold_off(result.retry_ms)
        size = len(reply)
        outbox = connection.outbox
        outbox.output_bytes += size
        ledger.replies += size
        if outbox.output_bytes > server.reply_bytes_max:
            reply = outbox.shorten(self.op, reply)
        waiting = outbox.waiting
        if waiting[0] is self:
            replies = outbox.replies
            replies.append(reply)
            waiting.popleft()
            while waiting and (later := waiting[0].reply) is not None:
                replies.append(later)
                waiting.popleft()
        else:
            self.reply = reply

    def charge(self, seconds: float) -> None:
        """Count time that was spent on it (`kvnode.admission.costs`)."""
        connection, command = self.connection, self.tally.command
        db = self.op[1] if len(self.op) > 1 and isinstance(self.op[1], int) else connection.db
        key = first_key(command, self.arguments)
        connection.server.costs.add(connection.peer, command.name, db, key, seconds * 1e9)

    # --- replies that are written elsewhere (kvnode.service.RenderedPending) ----------------------

    @property
    def is_wanted(self) -> bool:
        """Whether the client is still there."""
        return not self.connection.is_lost

    @property
    def rendering(self) -> Rendering | None:
        """How its command writes a reply; None if it is more than that."""
        return self._rendering(self.render)

    def _rendering(self, render: Render) -> Rendering | None:
        command = self.tally.command
        if render not in command.renders:
            return None
        protocol = RESP2 if render is command.renders[0] else RESP3
        return Rendering(command.name, protocol, self.connection.peer)

    def take(self, reply: bytes) -> None:
        """This is the reply, whatever the result is."""
        self.render = lambda _result: reply

    def complete_rendered(self, reply: bytes, missed: int, found: int) -> None:
        """Take a reply, and what its command counts of the keys that it looked for."""
        self.tally.missed += missed
        self.tally.found += found
        self.take(reply)
        self.complete(RENDERED)


def first_key(command: Command, arguments: list[bytes]) -> bytes | None:
    """The first key that a command names, if it names one."""
    if command.find_keys is not None:
        try:
            return next(iter(command.find_keys(arguments)), None)
        except CommandError:
            return None
    at = command.keys[0]
    return arguments[at] if 0 < at < len(arguments) else None


class SampledRequest(Request):
    """One of `COST_SAMPLE_COMMANDS` of its command: what it costs counts for them all."""

    __slots__ = ()

    def complete(self, result: Result) -> None:
        outbox = self.connection.outbox
        before = outbox.output_bytes
        super().complete(result)
        size = self.size + max(0, outbox.output_bytes - before)
        each_ns = estimate_ns(len(self.arguments or self.op), size)
        self.charge(COST_SAMPLE_COMMANDS * each_ns / 1e9)


class MutedRequest(Request):
    """A command whose reply the client does not want (CLIENT REPLY): it keeps an empty place."""

    __slots__ = ()

    def __init__(
        self,
        op: Op,
        size: int,
        render: Render,
        connection: Connection,
        tally: Tally,
        arguments: list[bytes],
    ) -> None:
        silent = partial(_render_nothing, render, connection.server.stats, tally)
        super().__init__(op, size, silent, connection, tally, arguments)

    @property
    def rendering(self) -> Rendering | None:
        """That of the reply which nobody wants: making it costs as much."""
        assert isinstance(self.render, partial)
        return self._rendering(self.render.args[0])

    def take(self, reply: bytes) -> None:
        """Count it, if it is an error."""
        server = self.connection.server
        self.render = partial(_render_nothing, lambda _result: reply, server.stats, self.tally)


def _render_nothing(render: Render, stats: Stats, tally: Tally, result: Result) -> bytes:
    """Render for the side effects of an EXEC and for the counters."""
    reply = render(result)
    if reply[:1] == MINUS:
        tally.failed += 1
        stats.count_error(reply)
    return b""
