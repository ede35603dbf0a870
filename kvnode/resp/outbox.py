"""What one client is answered: replies in the order of the requests, one write per pass.

A reply counts from its rendering until the kernel has taken it, to the byte: the transport tells at
once when something stays behind, as its high water is 0. A client that leaves much is not read, one
that leaves too much is closed (`kvnode.resp.unread`), and a reply for which there is no room in the
first place is replaced by an error.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from kvnode.limits import OUTPUT_BYTES_HIGH
from kvnode.resp.encoder import error
from kvnode.resp.reading import OUTPUT_FULL
from kvnode.store.ops import is_write

if TYPE_CHECKING:
    import asyncio

    from kvnode.resp.listener import RespServer
    from kvnode.resp.reading import Reading
    from kvnode.resp.request import Request
    from kvnode.service import Op

TOO_MANY_REPLIES: Final = "BUSY the replies of this pipeline are too large to hold at once"
RESULT_LOST: Final = "UNKNOWN the command was run, but its reply is too large to hold"
OUTCOME_UNKNOWN: Final = "UNKNOWN the node is stopping; the command may have been done"
NOT_BEGUN: Final = "BUSY the node is stopping; the command was not done"


class Outbox:
    """The replies of one connection, from the place in the order to the kernel.

    Attributes:
        waiting: requests that are not answered, or whose answer waits for an earlier one.
        replies: encoded answers for the next write.
        output_bytes: size of the replies that are not written.
        buffered_bytes: size of those that the transport keeps, as the kernel did not take them.
        is_slow: it keeps some.
    """

    __slots__ = (
        "_reading",
        "_server",
        "_transport",
        "buffered_bytes",
        "is_slow",
        "output_bytes",
        "replies",
        "waiting",
    )

    def __init__(self, server: RespServer, transport: asyncio.Transport, reading: Reading) -> None:
        self._server = server
        self._reading = reading
        self._transport: asyncio.Transport | None = transport
        self.waiting: deque[Request] = deque()
        self.replies: list[bytes] = []
        self.output_bytes = self.buffered_bytes = 0
        self.is_slow = False

    @property
    def unwritten_bytes(self) -> int:
        """Replies that the kernel has not taken."""
        return self.output_bytes + self.buffered_bytes

    def write(self) -> int:
        """Hand all that is answered to the transport; returns its size."""
        replies = self.replies
        output = replies[0] if len(replies) == 1 else b"".join(replies)
        replies.clear()
        size = len(output)
        server = self._server
        self.output_bytes -= size
        server.ledger.replies -= size
        server.stats.output_bytes_total += size
        assert self._transport is not None
        self._transport.write(output)
        if self.is_slow:
            self.count_unwritten()
        return size

    def count_unwritten(self) -> None:
        """Account for what the transport has to keep, as the kernel did not take it."""
        if self._transport is None:
            return
        buffered = self._transport.get_write_buffer_size() if self.is_slow else 0
        self._server.ledger.replies += buffered - self.buffered_bytes
        self.buffered_bytes = buffered
        if buffered > OUTPUT_BYTES_HIGH:
            self._reading.pause(OUTPUT_FULL)

    def shorten(self, op: Op, reply: bytes) -> bytes:
        """The error that is sent instead of a reply of `op` for which there is no room."""
        server = self._server
        if op and is_write(op):
            short = error(RESULT_LOST)
        elif len(reply) > server.reply_bytes_max:
            short = error(f"ERR reply is larger than {server.reply_bytes_max} bytes")
        else:
            short = error(TOO_MANY_REPLIES)
        server.stats.count_error(short)
        self.output_bytes += len(short) - len(reply)
        server.ledger.replies += len(short) - len(reply)
        return short

    def answer_open(self, not_begun: int) -> None:
        """Answer what is open: unknown if the log may have it, else not done, as all that waits."""
        for request in self.waiting:
            if request.reply is None:
                is_open = bool(request.op) and is_write(request.op)
                request.reply = error(OUTCOME_UNKNOWN if is_open else NOT_BEGUN)
            self.replies.append(request.reply)
        self.replies.extend([error(NOT_BEGUN)] * not_begun)

    def end(self) -> None:
        """Nobody wants the replies any more."""
        self.waiting.clear()
        self.replies.clear()
        self._server.ledger.replies -= self.unwritten_bytes
        self.output_bytes = self.buffered_bytes = 0
        self._transport = None
