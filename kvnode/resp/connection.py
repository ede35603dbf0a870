"""One client: requests in, operations to the node, replies out in the order of the requests.

```
bytes → Parser → execute ──────────── local command ──────────→ replies ─┐
                    │                                                    ├→ one write per pass
                    ├─ Request → Service → complete → replies in order ──┘
                    └─ backlog (must wait for its own connection's earlier commands)
```

**Runs of one kind.** The node answers reads and writes on different paths, so a read could
overtake the write that its client sent before it. Therefore the unanswered data commands of a
connection are always of one kind. A command of the other kind, and all behind it, wait in the
backlog until the run is answered. They are begun only then: SELECT, HELLO, AUTH and MULTI take
effect exactly in order.

**Barrier.** Nothing behind a WATCH, or behind an EXEC that runs local commands, is begun before it
is answered.

**Back-pressure.** A socket is not read while any of the reasons below holds; one of them is that
its client was just refused a heavy command. A client that does not take its replies is closed when
too many of them wait. Nothing here grows without a limit.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from random import random
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from kvnode.errors import CommandError
from kvnode.limits import (
    CLIENT_CLOSE_SECONDS_MAX,
    CLIENT_KEEPALIVE_SECONDS,
    COST_SAMPLE_COMMANDS,
    COSTLY_READ_MS,
    OUTPUT_BYTES_HIGH,
    PASS_COMMANDS_MAX,
    PASS_LOOK_COMMANDS,
    PASS_SLICE_MS,
    PIPELINE_COMMANDS_MAX,
    PUT_OFF_BYTES_MIN,
    VALUE_BYTES_MAX,
)
from kvnode.resp.commands.command import LOCAL, READ, Blocks, Command, MustWait
from kvnode.resp.commands.lookup import SPELLINGS, look_up
from kvnode.resp.commands.transactions import Watch
from kvnode.resp.encoder import QUEUED, RESP2, Render, error
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES, Arguments, Parser
from kvnode.resp.parser import Request as ParsedRequest
from kvnode.resp.request import (
    MINUS,
    REQUEST_OVERHEAD_BYTES,
    MutedRequest,
    Request,
    memory_of,
)
from kvnode.resp.session import Session
from kvnode.service import Op
from kvnode.store.ops import is_write
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from kvnode.resp.commands.blocking import Blocked
    from kvnode.resp.listener import RespServer

# Reasons not to read a client's socket; any number of them may hold at once.
PIPELINE_FULL: Final = 1
OUTPUT_FULL: Final = 2
NODE_FULL: Final = 4
STOPPING: Final = 8
HEAVY: Final = 16
BEHIND: Final = 32

WAITING: Final = OUTPUT_FULL | HEAVY
"""With these its backlog waits, too."""

PASS_SLICE_NS: Final = PASS_SLICE_MS * 1_000_000
COSTLY_NS: Final = int(COSTLY_READ_MS * 1_000_000)

NO_LOGIN: Final = "NOAUTH Authentication required."
VALUES_PER_BURST: Final = 2 * VALUE_BYTES_MAX
"""Replies come in bursts, as the node runs all reads of a pass. Of one connection so many are begun
at once that their replies take half of its room: at first as if all were of the largest size, then
twice as many with each pass, as long as the replies seen allow it."""

TOO_MANY_REPLIES: Final = "BUSY the replies of this pipeline are too large to hold at once"
RESULT_LOST: Final = "UNKNOWN the command was run, but its reply is too large to hold"
OUTCOME_UNKNOWN: Final = "UNKNOWN the node is stopping; the command may have been done"
NOT_BEGUN: Final = "BUSY the node is stopping; the command was not done"


class Connection(Session, asyncio.Protocol):
    """What one client asks, and what it is answered. Built by `RespServer`.

    Attributes:
        waiting: requests that are not answered, or whose answer waits for an earlier one.
        replies: encoded answers for the next write.
        in_flight: data commands that the node has and has not answered.
        unanswered_bytes: size of all commands that are not answered.
        held_bytes: size of what waits for the rest of a command, or for EXEC.
        output_bytes: size of the replies that are not written.
        buffered_bytes: size of those that the transport keeps, as the kernel did not take them.
        is_slow: it keeps some.
        peer: who is at the other end (`kvnode.admission.door`).
        is_queued: it will be told to `work_off`.
        is_closing: commands are no longer run (QUIT, a violation).
        is_ending: nothing more is read; closed as soon as all is answered.
        is_lost: results are no longer wanted.
        blocked: what it waits for besides its own operations.
        clock_ns: when the commands that are being begun had their turn (monotonic).
    """

    __slots__ = (
        "_backlog",
        "_closing_timer",
        "_paused",
        "_reads_max",
        "_run_kind",
        "_transport",
        "blocked",
        "buffered_bytes",
        "clock_ns",
        "held_bytes",
        "in_flight",
        "is_closing",
        "is_dirty",
        "is_ending",
        "is_lost",
        "is_queued",
        "is_slow",
        "last_command",
        "last_heard_ns",
        "output_bytes",
        "peer",
        "replies",
        "unanswered_bytes",
        "waiting",
    )

    def __init__(self, server: RespServer, number: int, peer: str) -> None:
        parser = Parser(command_bytes_max=server.budget.command_bytes_max)
        super().__init__(server, number, parser)
        self.peer = peer
        self._transport: asyncio.Transport | None = None
        self.last_heard_ns = self.clock_ns = self.opened_ns
        self.last_command: Command | None = None
        self.waiting: deque[Request] = deque()
        self.replies: list[bytes] = []
        self._backlog: deque[ParsedRequest] = deque()
        self.in_flight = 0
        self._run_kind = LOCAL
        self._reads_max = server.reads_min
        self.blocked: Blocked | None = None
        self.unanswered_bytes = 0
        self.held_bytes = 0
        self.output_bytes = self.buffered_bytes = 0
        self._paused = 0
        self.is_dirty = self.is_queued = self.is_slow = False
        self.is_closing = self.is_ending = self.is_lost = False
        self._closing_timer: asyncio.TimerHandle | None = None

    # --- the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but name.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        # So one is told at once when the kernel does not take all.
        transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_KEEPALIVE_SECONDS)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._forget()
        self._transport = None
        if self._closing_timer is not None:
            self._closing_timer.cancel()
            self._closing_timer = None

    def _forget(self) -> None:
        """Drop all that the client asked for; what the node still has is dropped on arrival."""
        if self.is_lost:
            return
        waiting_bytes = sum([memory_of(*each) for each in self._backlog])
        self._backlog.clear()
        self.waiting.clear()
        self.replies.clear()
        self.transaction = None
        self.watches = []
        self._hold(0)
        self.server.ledger.replies -= self.unwritten_bytes
        self.output_bytes = self.buffered_bytes = 0
        self.is_lost = True
        if self.blocked is not None:
            self.blocked.leave()
        self.server.release(waiting_bytes)
        self.server.remove(self)

    def eof_received(self) -> bool:
        """The client has said all; it still gets its answers, unless they would cost others."""
        self.is_ending = True
        if self.blocked is not None:
            self.blocked.hang_up()
        self.touch()
        return True

    def pause_writing(self) -> None:
        """The kernel did not take all of what was written."""
        self.is_slow = True
        self.server.slow_readers.add(self, self.server.loop.time())

    def resume_writing(self) -> None:
        """The kernel has taken all."""
        self.is_slow = False
        self.count_unwritten()
        self.server.slow_readers.discard(self)
        self.resume(OUTPUT_FULL)
        self.touch()

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
            and server.has_begun_enough(self.clock_ns)
        ):
            parser.put_off(data)
            self.pause(BEHIND)
            self.touch()
            self._account()
            return
        requests = parser.feed(data)
        if self._backlog:
            self._postpone(requests)
        elif len(requests) > PASS_LOOK_COMMANDS and server.has_begun_enough(self.clock_ns):
            self._postpone(requests)
            self.touch()
        elif requests:
            self._execute_all(requests)
        if parser.is_behind or parser.violation is not None:
            self._continue_parsing()
        self._account()

    def _account(self) -> None:
        """It was read: do not read it further if it has more than it may."""
        server = self.server
        held_bytes = self.parser.held_bytes
        if held_bytes != self.held_bytes or self.transaction is not None:
            self._hold(held_bytes)
        if (
            len(self.waiting) + len(self._backlog) >= PIPELINE_COMMANDS_MAX
            or self.unanswered_bytes >= server.budget.client_requests_bytes_max
        ):
            self.pause(PIPELINE_FULL)
        ledger = server.ledger
        if ledger.requests + ledger.unfinished > server.requests_bytes_low:
            server.turns.heard(self)

    def _continue_parsing(self) -> None:
        """Look at what was left of a chunk, while there is time, and at a stream that broke."""
        parser = self.parser
        ends_ns = self.clock_ns + PASS_SLICE_NS
        while parser.is_behind and not self._backlog and not self.is_closing:
            self._execute_all(parser.feed(b""))
            if monotonic_ns() > ends_ns:
                break
        if self._is_behind:
            self.pause(BEHIND)
            self.touch()
        else:
            self.resume(BEHIND)
        if parser.violation is not None and not self._backlog and not self.is_closing:
            self.server.stats.protocol_violations_total += 1
            self.reply(error(f"ERR {parser.violation}"))
            self.close_after_replies()

    def _hold(self, held_bytes: int) -> None:
        """Account for bytes that wait for the rest of a command or for EXEC."""
        if self.is_lost:
            return
        transaction = self.transaction
        if transaction is not None:
            held_bytes += transaction.memory_bytes
        self.server.ledger.unfinished += held_bytes - self.held_bytes
        self.held_bytes = held_bytes

    # --- beginning commands -----------------------------------------------------------------------

    def _execute_all(self, requests: list[ParsedRequest]) -> None:
        execute = self._execute
        for at, (arguments, size) in enumerate(requests):
            if (not at % PASS_LOOK_COMMANDS and self._is_over(at)) or not execute(arguments, size):
                self._backlog.extendleft(reversed(requests[at:]))
                self._charge(requests[at:])
                break
        if self._backlog:
            self.touch()

    def _is_over(self, begun: int) -> bool:
        """Whether it has begun what it may in one pass of the loop; one always."""
        return begun > 0 and (
            begun >= PASS_COMMANDS_MAX or monotonic_ns() > self.clock_ns + PASS_SLICE_NS
        )

    def _postpone(self, requests: list[ParsedRequest]) -> None:
        self._backlog.extend(requests)
        self._charge(requests)

    def _charge(self, requests: list[ParsedRequest]) -> None:
        size = sum([memory_of(*each) for each in requests])
        self.unanswered_bytes += size
        self.server.ledger.requests += size

    def _execute_backlog(self) -> None:
        """Go on with what had to wait, as far as it goes."""
        backlog = self._backlog
        self.clock_ns = monotonic_ns()
        if self.rests:
            self.end_rest()
        for at in range(len(backlog)):
            if not at % PASS_LOOK_COMMANDS and self._is_over(at):
                break
            arguments, size = backlog[0]
            if not self._execute(arguments, size):
                return
            if self.is_lost or not backlog:
                return
            backlog.popleft()
            size = memory_of(arguments, size)
            self.unanswered_bytes -= size
            self.server.ledger.requests -= size
        if backlog:
            self.touch()
        else:
            self._continue_parsing()

    def _execute(self, arguments: Arguments, size: int) -> bool:
        """Begin one command; False if it must wait for those before it."""
        if self.is_closing:
            return True
        if not isinstance(arguments, list):
            self._reject(None, arguments.text)
            return True
        command = SPELLINGS.get(arguments[0]) or self._look_up(arguments)
        if command is None:
            return True
        arity = command.arity
        count = len(arguments)
        if count != arity and (arity > 0 or count < -arity):
            self._reject(command, f"ERR wrong number of arguments for '{command.name}' command")
            return True
        if self.is_special:
            begun = self._execute_specially(command, arguments, size)
            if begun is not None:
                return begun
        kind = command.kind
        if kind == LOCAL:
            return self._execute_local(command, arguments)
        if self.in_flight and (
            kind != self._run_kind or (kind == READ and self.in_flight >= self._reads_max)
        ):
            return False
        try:
            op = command.parse(self.db, arguments)
        except CommandError as bad:
            self._reject(command, bad.text)
            return True
        except Blocks as wish:
            self._block(command, wish, size + ARGUMENT_OVERHEAD_BYTES * count)
            return True
        server = self.server
        tally = server.tallies[command.index]
        tally.calls = calls = tally.calls + 1
        self.last_command = command
        render = command.renders[self.protocol - RESP2]
        make = self.new_request if calls % COST_SAMPLE_COMMANDS else self.sampled_request
        request = make(op, size, render, self, tally, arguments)
        self.waiting.append(request)
        self.in_flight += 1
        self._run_kind = LOCAL if command.stands_alone else kind
        size += REQUEST_OVERHEAD_BYTES + ARGUMENT_OVERHEAD_BYTES * count
        self.unanswered_bytes += size
        server.ledger.requests += size
        if kind == READ:
            self.submit_read(request)
        else:
            server.submit_write(request)
        return True

    def _block(self, command: Command, wish: Blocks, size: int) -> None:
        """Begin a command that may wait for others."""
        self.last_command = command
        self.server.tallies[command.index].calls += 1
        render = command.renders[self.protocol - RESP2]
        if self.is_ending:
            # Nobody would notice that its client is gone: it takes what is there, or nothing.
            self.submit(command.kind, wish.op, size, render)
        else:
            wish.begin(self, size, render)

    def _execute_local(self, command: Command, arguments: list[bytes]) -> bool:
        self.last_command = command
        server = self.server
        tally = server.tallies[command.index]
        began_ns = monotonic_ns()
        try:
            reply = command.run(self, arguments)
        except MustWait:
            return False
        except CommandError as failed:
            reply = error(failed.text)
            tally.failed += 1
        tally.calls += 1
        if reply is not None:
            elapsed_ns = monotonic_ns() - began_ns
            tally.nanoseconds += elapsed_ns
            tally.buckets[elapsed_ns.bit_length()] += 1
            if elapsed_ns > server.notable_ns:
                server.note_slow(self, command, arguments, elapsed_ns)
            self.reply(reply)
            if elapsed_ns > COSTLY_NS:
                server.costs.add(self.peer, command.name, self.db, None, elapsed_ns)
                if elapsed_ns > PASS_SLICE_NS:
                    self.rest()
        return True

    def _execute_specially(
        self, command: Command, arguments: list[bytes], size: int
    ) -> bool | None:
        """What is not as usual: True if it is done, False if it must wait, None if it goes on."""
        if self.barrier or self.rests:
            return False
        pause = self.server.pause
        if pause is not None and pause.holds(command, self.transaction):
            return False
        if self.skips_next:
            return self._execute_muted(arguments, size)
        if not self.is_authenticated and not command.without_login:
            self._reject(command, NO_LOGIN)
            return True
        transaction = self.transaction
        if transaction is None or command.immediate:
            return None
        try:
            transaction.queue(command, arguments, size)
        except CommandError as bad:
            self._reject(command, bad.text)
        else:
            self.reply(QUEUED)
        return True

    def _execute_muted(self, arguments: list[bytes], size: int) -> bool:
        """Run the one command behind CLIENT REPLY SKIP."""
        usual = self.new_request
        self.skips_next = False
        self.new_request = MutedRequest
        self.note_special()
        begun = self._execute(arguments, size)
        if self.new_request is MutedRequest:
            self.new_request = usual
        if not begun:
            self.skips_next = self.is_special = True
        return begun

    def _reject(self, command: Command | None, text: str) -> None:
        """Answer with an error instead of running; inside MULTI this dooms the EXEC."""
        if command is not None and command.name == "exec":
            # An EXEC that is refused discards what was queued and watched, as Redis does, even
            # without a MULTI; and says so always.
            self.end_transaction()
            text = f"EXECABORT Transaction discarded because of: {text.removeprefix('ERR ')}"
        elif self.transaction is not None:
            self.transaction.failed = True
        if command is not None:
            self.server.tallies[command.index].rejected += 1
        self.reply(error(text))

    def _look_up(self, arguments: list[bytes]) -> Command | None:
        """Find what is not found at first sight; None when the client was told that it is not."""
        if arguments[0].upper() in (b"POST", b"HOST:"):
            # A browser was tricked into speaking to us; what follows may be an attack in a body.
            self.server.stats.count_closed("http")
            self.abort()
            return None
        try:
            return look_up(arguments)
        except CommandError as unknown:
            self._reject(None, unknown.text)
            return None

    # --- what commands ask for --------------------------------------------------------------------

    def reply(self, encoded: bytes) -> None:
        """Answer in turn: at once, or when the commands before are answered."""
        if encoded[:1] == MINUS:
            self.server.stats.count_error(encoded)
        if self.skips_next or self.new_request is MutedRequest:
            self.skips_next = False
            self.note_special()
            return
        self.output_bytes += len(encoded)
        self.server.ledger.replies += len(encoded)
        if self.waiting:
            request = self._request([], 0, Watch.render)
            request.reply = encoded
            self.waiting.append(request)
        else:
            self.replies.append(encoded)
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
        self.waiting.append(request)
        self.in_flight += 1
        self._run_kind = kind
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

    def wait_for_run(self, kind: int) -> None:
        """Raise `MustWait` while unanswered commands are of another kind."""
        if self.in_flight and self._run_kind != kind:
            raise MustWait

    def wait_for_answers(self) -> None:
        """Raise `MustWait` while any command before this one is unanswered."""
        if self.in_flight and not self.runs_transaction:
            raise MustWait

    def run_local(self, command: Command, arguments: list[bytes]) -> bytes:
        """Run a local command that was queued in a transaction."""
        self.server.tallies[command.index].calls += 1
        self.runs_transaction = True
        try:
            reply = command.run(self, arguments)
        except CommandError as failed:
            return error(failed.text)
        finally:
            self.runs_transaction = False
        assert reply is not None
        return reply

    def render_watch(self, result: Result) -> bytes:
        """Write the reply of WATCH, and let the commands behind it go on."""
        self.end_barrier()
        return Watch.render(result)

    def note_pause(self) -> None:
        """CLIENT PAUSE began or ended: what waited for its end may go on."""
        self.note_special()
        if self._backlog:
            self.touch()

    def close_after_replies(self) -> None:
        """Take no more commands; close when all before are answered."""
        self.is_closing = self.is_ending = True
        self.touch()

    # --- writing ----------------------------------------------------------------------------------

    def touch(self) -> None:
        """Ask for a `flush` in this pass of the loop."""
        if not self.is_dirty and not self.is_lost:
            self.is_dirty = True
            self.server.mark_dirty(self)

    def flush(self) -> None:
        """Write what is answered, then go on with what waited. Called once per pass."""
        self.is_dirty = False
        transport = self._transport
        if self.is_lost or transport is None:
            return
        replies = self.replies
        if replies:
            output = replies[0] if len(replies) == 1 else b"".join(replies)
            size = len(output)
            if self._backlog or size > OUTPUT_BYTES_HIGH:
                self._pace_reads(size // len(replies))
            replies.clear()
            self.output_bytes -= size
            self.server.ledger.replies -= size
            self.server.stats.output_bytes_total += size
            transport.write(output)
            if self.is_slow:
                self.count_unwritten()
        if self._paused or self._backlog or self.is_ending or self.is_slow:
            self._after_write()

    def _pace_reads(self, reply_bytes: int) -> None:
        """Let twice as many reads begin at once, or so few that replies of this length fit."""
        growth = 2 if self._run_kind == READ else 1
        fitting = self.server.budget.reply_bytes_max // 2 // (reply_bytes + 1)
        self._reads_max = max(self.server.reads_min, min(fitting, self._reads_max * growth))

    def _after_write(self) -> None:
        """The rarer part of a flush: limits, the backlog, the end."""
        if self.is_slow:
            self.server.check_slow_reader(self)
            if self.is_lost:
                return
        if (self._backlog or self._is_behind) and not self._paused & WAITING:
            self.server.work_off_later(self)
        else:
            self._settle()

    def work_off(self) -> None:
        """Begin some of what had to wait, for one slice."""
        self.is_queued = False
        if self.is_lost:
            return
        if not self._paused & WAITING:
            was_behind = self._is_behind
            self._execute_backlog()
            if was_behind:
                self._account()
            else:
                self._hold(self.parser.held_bytes)
        self._settle()

    def _settle(self) -> None:
        """Read again when enough was answered, and leave when all was."""
        if (
            self._paused & PIPELINE_FULL
            and len(self.waiting) + len(self._backlog) <= PIPELINE_COMMANDS_MAX // 2
            and self.unanswered_bytes <= self.server.budget.client_requests_bytes_max // 2
        ):
            self.resume(PIPELINE_FULL)
        if self.is_ending and self.is_idle:
            self.close()

    @property
    def paused(self) -> int:
        """Why its socket is not read: reasons, added up."""
        return self._paused

    def pause(self, reason: int) -> None:
        """Do not read the socket, for one reason more."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._paused |= reason

    def resume(self, reason: int) -> None:
        """One reason less."""
        if self._paused & reason:
            self._paused &= ~reason
            if (
                not self._paused
                and self._transport is not None
                and not self._transport.is_closing()
            ):
                self._transport.resume_reading()

    def hold_off(self, milliseconds: int) -> None:
        """Its client asked for more than there was room for: read nothing for about so long.

        Not for exactly so long, or all that were refused together would come back together.
        """
        if self._paused & HEAVY or self.is_lost:
            return
        self.pause(HEAVY)
        seconds = milliseconds / 1000 * (0.5 + random())
        self.server.loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self.resume(HEAVY)
        self.touch()

    def replace_reply(self, request: Request, reply: bytes) -> bytes:
        """The error that is sent instead of a reply for which there is no room."""
        if request.op and is_write(request.op):
            short = error(RESULT_LOST)
        elif len(reply) > self.server.budget.reply_bytes_max:
            short = error(f"ERR reply is larger than {self.server.budget.reply_bytes_max} bytes")
        else:
            short = error(TOO_MANY_REPLIES)
        self.server.stats.count_error(short)
        self.output_bytes += len(short) - len(reply)
        self.server.ledger.replies += len(short) - len(reply)
        return short

    # --- leaving ----------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Everything that was asked is answered and handed to the transport."""
        return not (self.waiting or self._backlog or self.replies or self._is_behind)

    @property
    def _is_behind(self) -> bool:
        """Bytes that it sent were not looked at yet."""
        return self.parser.is_behind and not self.is_closing

    @property
    def unwritten_bytes(self) -> int:
        """Replies that the kernel has not taken."""
        return self.output_bytes + self.buffered_bytes

    def count_unwritten(self) -> None:
        """Account for what the transport has to keep, as the kernel did not take it."""
        if self.is_lost or self._transport is None:
            return
        buffered = self._transport.get_write_buffer_size() if self.is_slow else 0
        self.server.ledger.replies += buffered - self.buffered_bytes
        self.buffered_bytes = buffered
        if buffered > OUTPUT_BYTES_HIGH:
            self.pause(OUTPUT_FULL)

    @property
    def requests_bytes(self) -> int:
        """Commands unanswered or unfinished."""
        return self.unanswered_bytes + self.held_bytes

    @property
    def memory_bytes(self) -> int:
        """What it makes the node hold: commands unanswered or unfinished, and replies."""
        return self.unanswered_bytes + self.held_bytes + self.unwritten_bytes

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
        for request in self.waiting:
            if request.reply is None:
                is_open = bool(request.op) and is_write(request.op)
                request.reply = error(OUTCOME_UNKNOWN if is_open else NOT_BEGUN)
            self.replies.append(request.reply)
        self.replies.extend([error(NOT_BEGUN)] * len(self._backlog))
        if self._transport is not None and self._closing_timer is None:
            self._transport.writelines(self.replies)
        self._forget()
        self.close()

    # --- telling about itself ---------------------------------------------------------------------

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
