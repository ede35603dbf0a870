"""How long commands are held before their clients get an answer.

Ten seconds cover an election. But a long pipeline may take longer than that with nothing wrong: its
last command waits for all before it, and whoever gave it up would tell its client that there is no
leader while a leader does its work. So the time counts from where the commands before it last came
on, and has an end of its own.
"""

from __future__ import annotations

from kvnode.limits import HOLD_BUSY_MS_MAX, HOLD_MS


class Patience:
    """The deadline of commands that wait in one line; monotonic seconds throughout."""

    __slots__ = ("_came_on_at",)

    def __init__(self) -> None:
        self._came_on_at = float("-inf")

    def came_on(self, now: float) -> None:
        """A command of the line was done."""
        self._came_on_at = now

    def ends_for(self, now: float) -> float:
        """Who came at that time or before has waited too long."""
        overdue = now - HOLD_MS / 1000
        return overdue if self._came_on_at <= overdue else now - HOLD_BUSY_MS_MAX / 1000
