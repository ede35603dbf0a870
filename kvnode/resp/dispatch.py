"""How one command is begun: found, checked, and run here or handed to the node.

`begin` is the one way in. It runs once per command, so the common path is written out flat: one
look into the table of spellings, one at the arity, one flag for all that is unusual, one rule for
the order. `False` means that the command must wait for those before it, and nothing has happened.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import COST_SAMPLE_COMMANDS, COSTLY_READ_MS, PASS_SLICE_MS
from kvnode.resp.commands.command import LOCAL, READ, Blocks, Command, MustWait
from kvnode.resp.commands.lookup import SPELLINGS, look_up
from kvnode.resp.encoder import QUEUED, RESP2, error
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES
from kvnode.resp.request import REQUEST_OVERHEAD_BYTES, MutedRequest

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.parser import Arguments

PASS_SLICE_NS: Final = PASS_SLICE_MS * 1_000_000
COSTLY_NS: Final = int(COSTLY_READ_MS * 1_000_000)

NO_LOGIN: Final = "NOAUTH Authentication required."


def begin(connection: Connection, arguments: Arguments, size: int) -> bool:
    """Begin one command whose arguments have `size` bytes; False if it must wait."""
    if connection.is_closing:
        return True
    if not isinstance(arguments, list):
        _reject(connection, None, arguments.text)
        return True
    command = SPELLINGS.get(arguments[0]) or _look_up(connection, arguments)
    if command is None:
        return True
    arity = command.arity
    count = len(arguments)
    if count != arity and (arity > 0 or count < -arity):
        text = f"ERR wrong number of arguments for '{command.name}' command"
        _reject(connection, command, text)
        return True
    if connection.is_special:
        begun = _begin_specially(connection, command, arguments, size)
        if begun is not None:
            return begun
    kind = command.kind
    if kind == LOCAL:
        return _run_here(connection, command, arguments)
    run = connection.run
    if run.in_flight and (kind != run.kind or (kind == READ and run.in_flight >= run.reads_max)):
        return False
    try:
        op = command.parse(connection.db, arguments)
    except CommandError as bad:
        _reject(connection, command, bad.text)
        return True
    except Blocks as wish:
        _block(connection, command, wish, size + ARGUMENT_OVERHEAD_BYTES * count)
        return True
    server = connection.server
    tally = server.tallies[command.index]
    tally.calls = calls = tally.calls + 1
    connection.last_command = command
    render = command.renders[connection.protocol - RESP2]
    make = connection.new_request if calls % COST_SAMPLE_COMMANDS else connection.sampled_request
    request = make(op, size, render, connection, tally, arguments)
    connection.outbox.waiting.append(request)
    run.in_flight += 1
    run.kind = LOCAL if command.stands_alone else kind
    size += REQUEST_OVERHEAD_BYTES + ARGUMENT_OVERHEAD_BYTES * count
    connection.unanswered_bytes += size
    server.ledger.requests += size
    if kind == READ:
        connection.submit_read(request)
    else:
        server.submit_write(request)
    return True


def _block(connection: Connection, command: Command, wish: Blocks, size: int) -> None:
    """Begin a command that may wait for others."""
    connection.last_command = command
    connection.server.tallies[command.index].calls += 1
    render = command.renders[connection.protocol - RESP2]
    if connection.is_ending:
        # Nobody would notice that its client is gone: it takes what is there, or nothing.
        connection.submit(command.kind, wish.op, size, render)
    else:
        wish.begin(connection, size, render)


def _run_here(connection: Connection, command: Command, arguments: list[bytes]) -> bool:
    """Run a local command."""
    connection.last_command = command
    server = connection.server
    tally = server.tallies[command.index]
    began_ns = monotonic_ns()
    try:
        reply = command.run(connection, arguments)
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
            server.note_slow(connection, command, arguments, elapsed_ns)
        connection.reply(reply)
        if elapsed_ns > COSTLY_NS:
            server.costs.add(connection.peer, command.name, connection.db, None, elapsed_ns)
            if elapsed_ns > PASS_SLICE_NS:
                connection.rest()
    return True


# --- what is not as usual -------------------------------------------------------------------------


def _begin_specially(
    connection: Connection, command: Command, arguments: list[bytes], size: int
) -> bool | None:
    """True if it is done, False if it must wait, None if it goes on as usual."""
    if connection.barrier or connection.rests:
        return False
    pause = connection.server.pause
    if pause is not None and pause.holds(command, connection.transaction):
        return False
    if connection.skips_next:
        return _begin_muted(connection, arguments, size)
    if not connection.is_authenticated and not command.without_login:
        _reject(connection, command, NO_LOGIN)
        return True
    transaction = connection.transaction
    if transaction is None or command.immediate:
        return None
    try:
        transaction.queue(command, arguments, size)
    except CommandError as bad:
        _reject(connection, command, bad.text)
    else:
        connection.reply(QUEUED)
    return True


def _begin_muted(connection: Connection, arguments: list[bytes], size: int) -> bool:
    """Run the one command behind CLIENT REPLY SKIP."""
    usual = connection.new_request
    connection.skips_next = False
    connection.new_request = MutedRequest
    connection.note_special()
    begun = begin(connection, arguments, size)
    if connection.new_request is MutedRequest:
        connection.new_request = usual
    if not begun:
        connection.skips_next = connection.is_special = True
    return begun


def _reject(connection: Connection, command: Command | None, text: str) -> None:
    """Answer with an error instead of running; inside MULTI this dooms the EXEC."""
    if command is not None and command.name == "exec":
        # An EXEC that is refused discards what was queued and watched, as Redis does, even
        # without a MULTI; and says so always.
        connection.end_transaction()
        text = f"EXECABORT Transaction discarded because of: {text.removeprefix('ERR ')}"
    elif connection.transaction is not None:
        connection.transaction.failed = True
    if command is not None:
        connection.server.tallies[command.index].rejected += 1
    connection.reply(error(text))


def _look_up(connection: Connection, arguments: list[bytes]) -> Command | None:
    """Find what is not found at first sight; None when the client was told that it is not."""
    if arguments[0].upper() in (b"POST", b"HOST:"):
        # A browser was tricked into speaking to us; what follows may be an attack in a body.
        connection.server.stats.count_closed("http")
        connection.abort()
        return None
    try:
        return look_up(arguments)
    except CommandError as unknown:
        _reject(connection, None, unknown.text)
        return None
