"""How many ticks of Raft's time are due.

Raft counts time in ticks, and after a pause (SIGSTOP, a busy machine, a machine that slept) many
are due at once. As a rule only some of them count: messages that arrived meanwhile wait in the
sockets and deserve to be read before a campaign. Where leases are used all of them count, by a
clock that goes on while the machine sleeps: a leader must not take a lease that is over for one
that holds.
"""

from __future__ import annotations

from collections.abc import Callable

from kvnode.limits import TICK_MS

TICK_SECONDS = TICK_MS / 1000


class Ticks:
    """Counts the ticks that are due.

    Args:
        clock: seconds, never back.
        missed_max: of those that were missed so many are made up for; None for all.
    """

    __slots__ = ("_clock", "_due", "_missed_max")

    def __init__(self, clock: Callable[[], float], missed_max: int | None) -> None:
        self._clock = clock
        self._missed_max = missed_max
        self._due = clock() + TICK_SECONDS

    def take(self) -> int:
        """How many ticks to let pass now; 0 if the next one is not due yet."""
        late = self._clock() - self._due
        if late < 0:
            return 0
        missed = int(late / TICK_SECONDS)
        self._due += (1 + missed) * TICK_SECONDS
        return 1 + (missed if self._missed_max is None else min(missed, self._missed_max))
