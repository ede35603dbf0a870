"""When a client's commands are begun: at once, or in its backlog's turn.

What must wait for its own connection's earlier commands stands in `Connection.backlog`, unparsed,
and all behind it too. So does what one pass of the loop has no time for: a connection begins
`PASS_COMMANDS_MAX` commands of a pass or a slice's worth, whatever comes first, and bytes that
would take longer stay with the parser. Both are gone on with when the replies of the pass are
written (`kvnode.resp.passes`).
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from kvnode.limits import PASS_COMMANDS_MAX, PASS_LOOK_COMMANDS
from kvnode.resp.dispatch import PASS_SLICE_NS, begin
from kvnode.resp.encoder import error
from kvnode.resp.reading import BEHIND
from kvnode.resp.request import memory_of

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.parser import Request


def begin_all(connection: Connection, requests: list[Request]) -> None:
    """Begin commands of a client without a backlog, as far as it goes; the rest becomes one."""
    for at, (arguments, size) in enumerate(requests):
        if (not at % PASS_LOOK_COMMANDS and at and _is_over(connection, at)) or not begin(
            connection, arguments, size
        ):
            connection.backlog.extendleft(reversed(requests[at:]))
            _charge(connection, requests[at:])
            break
    if connection.backlog:
        connection.touch()


def postpone(connection: Connection, requests: list[Request]) -> None:
    """Let commands wait behind all that waits."""
    connection.backlog.extend(requests)
    _charge(connection, requests)


def _charge(connection: Connection, requests: list[Request]) -> None:
    size = sum([memory_of(*each) for each in requests])
    connection.unanswered_bytes += size
    connection.server.ledger.requests += size


def _is_over(connection: Connection, begun: int) -> bool:
    """Whether a client that began some commands has begun what it may in one pass of the loop."""
    return begun >= PASS_COMMANDS_MAX or monotonic_ns() > connection.clock_ns + PASS_SLICE_NS


def go_on(connection: Connection) -> None:
    """Go on with what had to wait, as far as it goes."""
    backlog = connection.backlog
    connection.clock_ns = monotonic_ns()
    if connection.rests:
        connection.end_rest()
    for at in range(len(backlog)):
        if not at % PASS_LOOK_COMMANDS and at and _is_over(connection, at):
            break
        arguments, size = backlog[0]
        if not begin(connection, arguments, size):
            return
        if connection.is_lost or not backlog:
            return
        backlog.popleft()
        size = memory_of(arguments, size)
        connection.unanswered_bytes -= size
        connection.server.ledger.requests -= size
    if backlog:
        connection.touch()
    else:
        parse_on(connection)


def parse_on(connection: Connection) -> None:
    """Look at what was left of a chunk, while there is time, and at a stream that broke."""
    parser = connection.parser
    ends_ns = connection.clock_ns + PASS_SLICE_NS
    while parser.is_behind and not connection.backlog and not connection.is_closing:
        begin_all(connection, parser.feed(b""))
        if monotonic_ns() > ends_ns:
            break
    if connection.is_behind:
        connection.reading.pause(BEHIND)
        connection.touch()
    else:
        connection.reading.resume(BEHIND)
    if parser.violation is not None and not connection.backlog and not connection.is_closing:
        connection.server.stats.protocol_violations_total += 1
        connection.reply(error(f"ERR {parser.violation}"))
        connection.close_after_replies()
