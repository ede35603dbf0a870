"""CLIENT PAUSE: for a while commands are not begun, but kept in their connections' backlogs.

An operator's tool: with WRITE a planned change finds no write under way, and no client sees an
error. The backlogs are bounded like all else (a full one is not read), so a long pause costs no
more memory than a slow node.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from kvnode.resp.commands.command import WRITE, Command

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from kvnode.resp.commands.transactions import Transaction

UNPAUSE = "client|unpause"
"""Never held: in Redis it is, so that a pause of everything can only be waited for."""


class Pause:
    """A pause under way. Another one can only make it longer and wider.

    Args:
        end: called when its time is over.
    """

    __slots__ = ("_end", "_ends_at", "_loop", "_timer", "only_writes")

    def __init__(self, loop: AbstractEventLoop, end: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end
        self._ends_at = 0.0
        self._timer: TimerHandle | None = None
        self.only_writes = True

    def extend(self, seconds: float, *, only_writes: bool) -> None:
        """Last at least so long from now on, and hold all commands if asked for."""
        self.only_writes = self.only_writes and only_writes
        ends_at = monotonic() + seconds
        if ends_at > self._ends_at:
            self._ends_at = ends_at
            self.cancel()
            self._timer = self._loop.call_later(seconds, self._end)

    def cancel(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def seconds_left(self) -> float:
        """Until it ends by itself."""
        return max(self._ends_at - monotonic(), 0)

    def holds(self, command: Command, transaction: Transaction | None) -> bool:
        """Whether a command must wait for the end."""
        if not self.only_writes:
            return command.name != UNPAUSE
        if command.kind == WRITE:
            return True
        return command.name == "exec" and transaction is not None and transaction.has_write
