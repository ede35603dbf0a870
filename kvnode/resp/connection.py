"""One client: requests in, operations to the node, replies out in the order of the requests.

```
bytes → Parser → begin ─────────────── local command ──────────→ replies ─┐
                   │                                                      ├→ one write per pass
                   ├─ Request → Service → complete → replies in order ────┘
                   └─ backlog (must wait for its own connection's earlier commands)
```

`Connection` is the protocol object. It is the client's session (`session.py`), and owns the run of
commands that the node has (`run.py`), the replies (`outbox.py`) and the reasons not to read the
socket (`reading.py`). `backlog.py` tells when a command is begun, `dispatch.py` how. No part knows
its connection, so all of it is freed as it ends, without the garbage collector.

**Barrier.** Nothing behind a WATCH, or behind an EXEC that runs local commands, is begun before it
is answered.

**Back-pressure.** A socket is not read while a reason holds; one of them is that its client was
just refused a heavy command. A client that does not take its replies is closed when too many of
them wait. Nothing here grows without a limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from random import random
from time import monotonic_ns
from typing import TYPE_CHECKING

from kvnode.limits import (
    CLIENT_CLOSE_SECONDS_MAX,
    COST_SAMPLE_COMMANDS,
    OUTPUT_BYTES_HIGH,
    PASS_LOOK_COMMANDS,
    PIPELINE_COMMANDS_MAX,
    PUT_OFF_BYTES_MIN,
)
from kvnode.resp.backlog import begin_all, go_on, parse_on, postpone
from kvnode.resp.commands.command import READ
from kvnode.resp.encoder import Render, encode2
from kvnode.resp.outbox import Outbox
from kvnode.resp.parser import Parser
from kvnode.resp.parser import Request as ParsedRequest
from kvnode.resp.reading import BEHIND, HEAVY, OUTPUT_FULL, PIPELINE_FULL, WAITING, Reading
from kvnode.resp.request import (
    MINUS,
    REQUEST_OVERHEAD_BYTES,
    MutedRequest,
    Request,
    memory_of,
)
from kvnode.resp.run import Run
from kvnode.resp.session import Session
from kvnode.service import Op

if TYPE_CHECKING:
    from kvnode.resp.commands.blocking import Blocked
    from kvnode.resp.commands.command import Command
    from kvnode.resp.listener import RespServer


class Connection(Session, asyncio.Protocol):
    """What one client asks, and what it is answered. Made for a socket that was let in.

    Attributes:
        run: data commands that the node has and has not answered.
        outbox: its replies.
        reading: whether its socket is read.
        backlog: commands that wait for their turn, unparsed.
        unanswered_bytes: size of all commands that are not answered.
        held_bytes: size of what waits for the rest of a command, or for EXEC.
        peer: who is at the other end (`kvnode.admission.door`).
        is_dirty: it will be told to `flush`.
        is_queued: it will be told to `work_off`.
        is_closing: commands are no longer run (QUIT, a violation).
        is_ending: nothing more is read; closed as soon as all is answered.
        is_lost: results are no longer wanted.
        blocked: what it waits for besides its own operations.
        clock_ns: when the commands that are being begun had their turn (monotonic).
        last_command: the one that was begun last; last_heard_ns: when it was read (monotonic).
    """

    __slots__ = (
        "_closing_timer",
        "_transport",
        "backlog",
        "blocked",
        "clock_ns",
        "held_bytes",
        "is_closing",
        "is_dirty",
        "is_ending",
        "is_lost",
        "is_queued",
        "last_command",
        "last_heard_ns",
        "outbox",
        "peer",
        "reading",
        "run",
        "unanswered_bytes",
    )

    def __init__(
        self, server: RespServer, number: int, peer: str, transport: asyncio.Transport
    ) -> None:
        parser = Parser(command_bytes_max=server.budget.command_bytes_max)
        super().__init__(server, number, parser)
        self.peer = peer
        self._transport: asyncio.Transport | None = transport
        self.last_heard_ns = self.clock_ns = self.opened_ns
        self.last_command: Command | None = None
        self.run = Run(server.reads_min)
        self.reading = Reading(transport)
        self.outbox = Outbox(server, transport, self.reading)
        self.backlog: deque[ParsedRequest] = deque()
        self.blocked: Blocked | None = None
        self.unanswered_bytes = 0
        self.held_bytes = 0
        self.is_dirty = self.is_queued = False
        self.is_closing = self.is_ending = self.is_lost = False
        self._closing_timer: asyncio.TimerHandle | None = None

    # --- what it sends ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        server = self.server
        server.stats.input_bytes_total += len(data)
        if self.is_ending:
            return
        self.last_heard_ns = self.clock_ns = monotonic_ns()
        parser = self.parser
        if (
            len(data) > PUT_OFF_BYTES_MIN > parser.held_bytes
            and not self.is_closing
            and server.passes.has_begun_enough(self.clock_ns)
        ):
            parser.put_off(data)
            self.reading.pause(BEHIND)
            self.touch()
            self._account()
            return
        requests = parser.feed(data)
        if self.backlog:
            postpone(self, requests)
        elif len(requests) > PASS_LOOK_COMMANDS and server.passes.has_begun_enough(self.clock_ns):
            postpone(self, requests)
            self.touch()
        elif requests:
            begin_all(self, requests)
        if parser.is_behind or parser.violation is not None:
            parse_on(self)
        self._account()

    def eof_received(self) -> bool:
        """The client has said all; it still gets its answers, unless they would cost others."""
        self.is_ending = True
        if self.blocked is not None:
            self.blocked.hang_up()
        self.touch()
        return True

    def _account(self) -> None:
        """It was read: do not read it further if it has more than it may."""
        server = self.server
        held_bytes = self.parser.held_bytes
        if held_bytes != self.held_bytes or self.transaction is not None:
            self._hold(held_bytes)
        if (
            len(self.outbox.waiting) + len(self.backlog) >= PIPELINE_COMMANDS_MAX
            or self.unanswered_bytes >= server.budget.client_requests_bytes_max
        ):
            self.reading.pause(PIPELINE_FULL)
        ledger = server.ledger
        if ledger.requests + ledger.unfinished > server.requests_bytes_low:
            server.turns.heard(self)

    def _hold(self, held_bytes: int) -> None:
        """Account for bytes that wait for the rest of a command or for EXEC."""
        if self.is_lost:
            return
        transaction = self.transaction
        if transaction is not None:
            held_bytes += transaction.memory_bytes
        self.server.ledger.unfinished += held_bytes - self.held_bytes
        self.held_bytes = held_bytes

    def hold_off(self, milliseconds: int) -> None:
        """Its client asked for more than there was room for: read nothing for about so long.

        Not for exactly so long, or all that were refused together would come back together.
        """
        if self.reading.reasons & HEAVY or self.is_lost:
            return
        self.reading.pause(HEAVY)
        seconds = milliseconds / 1000 * (0.5 + random())
        self.server.loop.call_later(seconds, self._end_hold_off)

    def _end_hold_off(self) -> None:
        self.reading.resume(HEAVY)
        self.touch()

    def note_pause(self) -> None:
        """CLIENT PAUSE began or ended: what waited for its end may go on."""
        self.note_special()
        if self.backlog:
            self.touch()

    # --- what its commands ask for ----------------------------------------------------------------

    def reply(self, encoded: bytes) -> None:
        """Answer in turn: at once, or when the commands before are answered."""
        if encoded[:1] == MINUS:
            self.server.stats.count_error(encoded)
        if self.skips_next or self.new_request is MutedRequest:
            self.skips_next = False
            self.note_special()
            return
        outbox = self.outbox
        outbox.output_bytes += len(encoded)
        self.server.ledger.replies += len(encoded)
        if outbox.waiting:
            request = self._request([], 0, encode2)
            request.reply = encoded
            outbox.waiting.append(request)
        else:
            outbox.replies.append(encoded)
        self.touch()

    def _request(self, op: Op, size: int, render: Render) -> Request:
        command = self.last_command
        assert command is not None
        tally = self.server.tallies[command.index]
        make = self.new_request if tally.calls % COST_SAMPLE_COMMANDS else self.sampled_request
        return make(op, size, render, self, tally, [])

    def expect(self, kind: int, size: int, render: Render, op: Op | None = None) -> Request:
        """Append a request of the running kind, to be completed by whoever gets it."""
        request = self._request(op or [], size, render)
        self.outbox.waiting.append(request)
        self.run.in_flight += 1
        self.run.kind = kind
        self.unanswered_bytes += size + REQUEST_OVERHEAD_BYTES
        self.server.ledger.requests += size + REQUEST_OVERHEAD_BYTES
        return request

    def submit(self, kind: int, op: Op, size: int, render: Render) -> None:
        """Hand an operation to the node."""
        request = self.expect(kind, size, render, op)
        if kind == READ:
            self.submit_read(request)
        else:
            self.server.submit_write(request)

    # --- once per pass ----------------------------------------------------------------------------

    def touch(self) -> None:
        """Ask for a `flush` in this pass of the loop."""
        if not self.is_dirty and not self.is_lost:
            self.is_dirty = True
            self.server.passes.mark_dirty(self)

    def flush(self) -> None:
        """Write what is answered, then go on with what waited. Called once per pass."""
        self.is_dirty = False
        if self.is_lost:
            return
        outbox = self.outbox
        count = len(outbox.replies)
        if count:
            size = outbox.write()
            if self.backlog or size > OUTPUT_BYTES_HIGH:
                server = self.server
                self.run.pace(size // count, server.reply_bytes_max, server.reads_min)
        if self.reading.reasons or self.backlog or self.is_ending or outbox.is_slow:
            self._after_write()

    def _after_write(self) -> None:
        """The rarer part of a flush: limits, the backlog, the end."""
        if self.outbox.is_slow:
            self.server.clients.check_slow_reader(self)
            if self.is_lost:
                return
        if (self.backlog or self.is_behind) and not self.reading.reasons & WAITING:
            self.server.passes.work_off_later(self)
        else:
            self._settle()

    def work_off(self) -> None:
        """Begin some of what had to wait, for one slice."""
        self.is_queued = False
        if self.is_lost:
            return
        if not self.reading.reasons & WAITING:
            was_behind = self.is_behind
            go_on(self)
            if was_behind:
                self._account()
            else:
                self._hold(self.parser.held_bytes)
        self._settle()

    def _settle(self) -> None:
        """Read again when enough was answered, and leave when all was."""
        if (
            self.reading.reasons & PIPELINE_FULL
            and len(self.outbox.waiting) + len(self.backlog) <= PIPELINE_COMMANDS_MAX // 2
            and self.unanswered_bytes <= self.server.budget.client_requests_bytes_max // 2
        ):
            self.reading.resume(PIPELINE_FULL)
        if self.is_ending and self.is_idle:
            self.close()

    def pause_writing(self) -> None:
        """The kernel did not take all of what was written."""
        self.outbox.is_slow = True
        self.server.slow_readers.add(self, self.server.loop.time())

    def resume_writing(self) -> None:
        """The kernel has taken all."""
        self.outbox.is_slow = False
        self.outbox.count_unwritten()
        self.server.slow_readers.discard(self)
        self.reading.resume(OUTPUT_FULL)
        self.touch()

    # --- leaving ----------------------------------------------------------------------------------

    def close_after_replies(self) -> None:
        """Take no more commands; close when all before are answered."""
        self.is_closing = self.is_ending = True
        self.touch()

    def close(self) -> None:
        """Close when the kernel has taken the replies, or soon if the client takes none."""
        transport = self._transport
        if transport is None or self._closing_timer is not None:
            return
        self.is_closing = self.is_ending = True
        transport.close()
        self._closing_timer = self.server.loop.call_later(CLIENT_CLOSE_SECONDS_MAX, self.abort)

    def abort(self) -> None:
        """Close at once; what waits to be written is lost."""
        self.is_closing = self.is_ending = True
        self._forget()
        if self._transport is not None:
            self._transport.abort()

    def abandon(self) -> None:
        """Answer what is open (unknown if the log may have it, else not done), and close."""
        outbox = self.outbox
        outbox.answer_open(len(self.backlog))
        if self._transport is not None and self._closing_timer is None:
            self._transport.writelines(outbox.replies)
        self._forget()
        self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._forget()
        self.reading.end()
        self._transport = None
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None

    def _forget(self) -> None:
        """Drop all that the client asked for; what the node still has is dropped on arrival."""
        if self.is_lost:
            return
        waiting_bytes = sum([memory_of(*each) for each in self.backlog])
        self.backlog.clear()
        self.transaction = None
        self.watches = []
        self._hold(0)
        self.outbox.end()
        self.is_lost = True
        if self.blocked is not None:
            self.blocked.leave()
        self.server.release(waiting_bytes)
        self.server.clients.remove(self)

    # --- telling about itself ---------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Everything that was asked is answered and handed to the transport."""
        outbox = self.outbox
        return not (outbox.waiting or self.backlog or outbox.replies or self.is_behind)

    @property
    def is_behind(self) -> bool:
        """Bytes that it sent were not looked at yet."""
        return self.parser.is_behind and not self.is_closing

    @property
    def requests_bytes(self) -> int:
        """Commands unanswered or unfinished."""
        return self.unanswered_bytes + self.held_bytes

    @property
    def memory_bytes(self) -> int:
        """What it makes the node hold: commands unanswered or unfinished, and replies."""
        return self.unanswered_bytes + self.held_bytes + self.outbox.unwritten_bytes

    @property
    def address(self) -> str:
        """The client's `host:port`."""
        return self._address("peername")

    @property
    def local_address(self) -> str:
        """The `host:port` that the client connected to."""
        return self._address("sockname")

    def _address(self, which: str) -> str:
        name = None if self._transport is None else self._transport.get_extra_info(which)
        if not isinstance(name, tuple):
            return "?:0"
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
