"""Whose socket is read while many bytes of requests are in flight.

The room for requests (`requests_bytes_max` of the budget) is given in three ways:

* **Who holds little is always read.** A client with a ping or a small command does not wait for
  those who fill the node. So the last quarter of the room is kept for such clients.
* **Who holds much takes turns**, once half of the room is used, or an eighth of it by commands that
  are not complete. It is not read any more and stands in line. At its turn it is read until the
  value that it is in the middle of is complete, for which room is set aside in advance: so whoever
  is let in can finish, and two who each wait for the other's room cannot be. Then it goes to the
  end of the line.
* **When all is used nobody is read**, until an eighth is free again; nor when three quarters are
  used by commands that are not complete, except for those who have a turn.

A client that does not use its turn loses it: it has a second. Two things could fill the room for
ever. Commands that are never finished: the client with most of such bytes is closed when they take
nearly all, or five eighths and none of them was finished for two seconds. And commands that are
never answered, those of blocked clients: when nothing has moved for longer than any other command
waits for its answer, the largest client of all is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from kvnode.limits import (
    LIGHT_CLIENT_BYTES_MAX,
    SOCKET_READ_BYTES,
    TURN_MS_MAX,
    TURNS_STUCK_MS_MAX,
    UNFINISHED_STUCK_MS_MAX,
)
from kvnode.resp.reading import NODE_FULL

if TYPE_CHECKING:
    from kvnode.admission.ledger import Ledger
    from kvnode.resp.connection import Connection

# Shares of the room, in eighths.
LINE_BEGINS: Final = 4
LINE_BEGINS_UNFINISHED: Final = 1
TURNS_END: Final = 6
LONE_TURN_REQUESTS: Final = 1
ALL_RESUME: Final = 7
TURNS_END_UNFINISHED: Final = 4
FULL_UNFINISHED: Final = 6
RESUME_UNFINISHED: Final = 5
UNFINISHED_END: Final = 7


class _Turn:
    """A client of the line is read: until when, and what is set aside for it."""

    __slots__ = ("ends_at_s", "size")

    def __init__(self, size: int, ends_at_s: float) -> None:
        self.size = size
        self.ends_at_s = ends_at_s


class Turns:
    """The line of clients that wait to be read.

    Args:
        ledger: tells what is in flight, and how much may be.
        clients: all clients, by id.
        monotonic: seconds.
        close_unfinished: closes the client with most bytes of unfinished commands.
        close_largest: closes the one with most bytes of commands.
    """

    __slots__ = (
        "_aside",
        "_clients",
        "_close_largest",
        "_close_unfinished",
        "_ledger",
        "_line",
        "_monotonic",
        "_moved_at_s",
        "_turns",
        "is_full",
        "times_full",
    )

    def __init__(
        self,
        ledger: Ledger,
        clients: Mapping[int, Connection],
        monotonic: Callable[[], float],
        close_unfinished: Callable[[], None],
        close_largest: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clients = clients
        self._monotonic = monotonic
        self._close_unfinished = close_unfinished
        self._close_largest = close_largest
        self._line: OrderedDict[int, Connection] = OrderedDict()
        self._turns: dict[int, _Turn] = {}
        self._aside = 0
        self._moved_at_s = 0.0
        self.is_full = False
        """Nobody is read."""
        self.times_full = 0
        """How often that began."""

    @property
    def waiting(self) -> int:
        """Clients that stand in line."""
        return len(self._line)

    @property
    def is_short(self) -> bool:
        """Somebody is not read who would be if there were more room."""
        return self.is_full or bool(self._line)

    @property
    def _pending(self) -> int:
        return self._ledger.requests + self._ledger.unfinished

    def _is_used(self, all_eighths: int, unfinished_eighths: int) -> bool:
        """Whether more is in flight than this, in all or of unfinished commands."""
        return self._pending > self._eighths(all_eighths) or (
            self._ledger.unfinished > self._eighths(unfinished_eighths)
        )

    def _eighths(self, count: int) -> int:
        return self._ledger.budget.requests_bytes_max * count // 8

    # --- clients come, are read, and go -----------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """A client has connected."""
        if self.is_full:
            connection.reading.pause(NODE_FULL)

    def discard(self, connection: Connection) -> None:
        """A client is gone."""
        self._line.pop(connection.id, None)
        self._end_turn(connection)

    def heard(self, connection: Connection) -> None:
        """A client was read while an eighth of the room is in use, or more."""
        turn = self._turns.get(connection.id)
        if turn is not None:
            missing = connection.parser.missing_bytes
            if 0 < missing < turn.size and self._monotonic() < turn.ends_at_s:
                # Still in the middle of the value that it was let in for.
                self._aside -= turn.size - missing
                turn.size = missing
                return
            self._end_turn(connection)
            self._moved_at_s = self._monotonic()
            if self.is_full:
                connection.reading.pause(NODE_FULL)
        if connection.requests_bytes > LIGHT_CLIENT_BYTES_MAX and self._is_line_due:
            self._stand_in_line(connection)
        self._stop_if_full()
        if self._ledger.unfinished > self._eighths(UNFINISHED_END):
            self._close_unfinished()
        if self._line:
            self.go_on()

    def _stop_if_full(self) -> None:
        if self.is_full or not self._is_used(8, FULL_UNFINISHED):
            return
        self._begin_to_wait()
        self.is_full = True
        self.times_full += 1
        for each in self._clients.values():
            if each.id not in self._turns:
                each.reading.pause(NODE_FULL)

    @property
    def _is_line_due(self) -> bool:
        return bool(self._line) or self._is_used(LINE_BEGINS, LINE_BEGINS_UNFINISHED)

    def _stand_in_line(self, connection: Connection) -> None:
        if connection.is_lost:
            return
        self._begin_to_wait()
        connection.reading.pause(NODE_FULL)
        self._line.setdefault(connection.id, connection)

    def _begin_to_wait(self) -> None:
        if not self.is_short:
            self._moved_at_s = self._monotonic()

    def _end_turn(self, connection: Connection) -> None:
        turn = self._turns.pop(connection.id, None)
        if turn is not None:
            self._aside -= turn.size

    # --- room -------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """There may be room: let the next in line be read, and all others if nobody was."""
        if self.is_full and not self._is_used(ALL_RESUME, RESUME_UNFINISHED):
            self.is_full = False
            self._moved_at_s = self._monotonic()
            for each in self._clients.values():
                if each.id not in self._line:
                    each.reading.resume(NODE_FULL)
        now_s = self._monotonic()
        while self._line:
            number, connection = next(iter(self._line.items()))
            size = max(connection.parser.missing_bytes, SOCKET_READ_BYTES)
            if not self._has_room_for(size):
                return
            del self._line[number]
            self._turns[number] = _Turn(size, now_s + TURN_MS_MAX / 1000)
            self._aside += size
            connection.reading.resume(NODE_FULL)

    def _has_room_for(self, size: int) -> bool:
        """Whether the next in line may be read until it has sent so much."""
        used, unfinished = self._pending + self._aside, self._ledger.unfinished + self._aside
        if used + size <= self._eighths(TURNS_END) and (
            unfinished + size <= self._eighths(TURNS_END_UNFINISHED)
        ):
            return True
        # A large value may need more than turns may use: when the others are answered, it alone has
        # one.
        return (
            not self._turns
            and self._ledger.requests <= self._eighths(LONE_TURN_REQUESTS)
            and unfinished + size <= self._eighths(UNFINISHED_END)
        )

    def look(self) -> None:
        """Ten times a second: end the turns that were not used, and see that the line moves."""
        self._stop_if_full()
        now_s = self._monotonic()
        for number in [n for n, turn in self._turns.items() if turn.ends_at_s <= now_s]:
            connection = self._clients[number]
            self._end_turn(connection)
            if connection.requests_bytes > LIGHT_CLIENT_BYTES_MAX and self._line:
                self._stand_in_line(connection)
        if self.is_short:
            self.go_on()
        if self.is_short:
            stuck_ms = (now_s - self._moved_at_s) * 1000
            if self._ledger.unfinished > self._eighths(RESUME_UNFINISHED):
                if stuck_ms > UNFINISHED_STUCK_MS_MAX:
                    self._close_unfinished()
            elif stuck_ms > TURNS_STUCK_MS_MAX:
                self._moved_at_s = now_s
                self._close_largest()
