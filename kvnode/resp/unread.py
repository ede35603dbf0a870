"""Replies that clients do not take: what they cost, and when their readers are closed.

The transport tells when the kernel did not take all of a reply, and when it has at last. In between
a connection is a *slow reader*. It is closed when one of these holds:

* it leaves more than the hard limit of its class unread, or more than the soft limit for longer
  than the soft limit's seconds (Redis' `client-output-buffer-limit`);
* all slow readers together come near the room for replies, and it took nothing for half a second;
* there has been no room at all for two seconds, whatever its client takes, and it holds the most.

The second and the third are what makes progress certain: a read is begun only while there is room
for its reply (`Ledger.has_room_for_replies`), so a room full of replies that nobody takes would
keep everybody's reads waiting for ever. Who reads at all, however slowly, is safe from the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvnode.limits import REPLIES_FULL_MS_MAX, REPLY_STALLED_MS_MAX

if TYPE_CHECKING:
    from kvnode.admission.ledger import Ledger
    from kvnode.resp.connection import Connection
    from kvnode.resp.settings import OutputLimit


@dataclass(slots=True)
class _Reader:
    """A slow reader.

    Attributes:
        connection: whose it is.
        left_bytes: what the kernel had not taken when we looked last.
        took_at_s: when it took something last, as far as we saw.
        above_soft_since_s: since when it is above the soft limit without a break.
    """

    connection: Connection
    left_bytes: int
    took_at_s: float
    above_soft_since_s: float | None = None


class SlowReaders:
    """The clients that have not taken all of their replies.

    Args:
        ledger: tells how much is unread, and how much may be.
    """

    __slots__ = ("_full_since_s", "_ledger", "_readers")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._readers: dict[int, _Reader] = {}
        self._full_since_s: float | None = None

    def __len__(self) -> int:
        return len(self._readers)

    def add(self, connection: Connection, now_s: float) -> None:
        """The kernel did not take all of a reply."""
        self._readers[connection.id] = _Reader(connection, 0, now_s)

    def discard(self, connection: Connection) -> None:
        """It took all, or is gone."""
        self._readers.pop(connection.id, None)

    @property
    def largest_bytes(self) -> int:
        """The most that one client has not taken."""
        return max([r.connection.outbox.unwritten_bytes for r in self._readers.values()], default=0)

    def slowest(self) -> Connection | None:
        """Who holds most."""
        readers = [reader.connection for reader in self._readers.values()]
        return max(readers, key=lambda each: each.outbox.unwritten_bytes, default=None)

    # --- from time to time ------------------------------------------------------------------------

    def look(self, now_s: float, limit: OutputLimit) -> Iterator[Connection]:
        """Look at all of them, ten times a second; yield those that must be closed.

        Whoever is yielded is expected to be closed, and counted no more, before the next is asked
        for: so no more are closed than need be.
        """
        for reader in list(self._readers.values()):
            connection = reader.connection
            connection.outbox.count_unwritten()
            left_bytes = connection.outbox.unwritten_bytes
            if left_bytes < reader.left_bytes:
                reader.took_at_s = now_s
            reader.left_bytes = left_bytes
            if self._is_above_soft(reader, now_s, limit) or limit.is_passed(left_bytes):
                yield connection
        yield from self._make_room(now_s)

    def _is_above_soft(self, reader: _Reader, now_s: float, limit: OutputLimit) -> bool:
        if not limit.soft_bytes or reader.left_bytes < limit.soft_bytes:
            reader.above_soft_since_s = None
            return False
        if reader.above_soft_since_s is None:
            reader.above_soft_since_s = now_s
        return now_s - reader.above_soft_since_s > limit.soft_seconds

    def _make_room(self, now_s: float) -> Iterator[Connection]:
        ledger = self._ledger
        enough = ledger.budget.replies_bytes_max * 3 // 4
        if ledger.replies > enough:
            stalled_before_s = now_s - REPLY_STALLED_MS_MAX / 1000
            stalled = [r for r in self._readers.values() if r.took_at_s <= stalled_before_s]
            for reader in sorted(stalled, key=lambda each: -each.left_bytes):
                yield reader.connection
                if ledger.replies <= enough:
                    break
        if ledger.has_room_for_replies:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = now_s
        elif now_s - self._full_since_s > REPLIES_FULL_MS_MAX / 1000:
            slowest = self.slowest()
            if slowest is not None:
                yield slowest
