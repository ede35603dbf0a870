"""The fence: between two measurements the kernel itself refuses what would be too much.

A watchdog that polls sees what was; within its interval, or while C code holds the GIL, a process
can allocate more than it has left: values are joined at gigabytes per second. Then the kernel is
first, with SIGKILL. So each measurement also sets the process's soft `RLIMIT_DATA` (its private
writable memory, setrlimit(2)) to what it may reach until the next one. An allocation beyond it
fails with `MemoryError`: the command that asked for it gets an error, or the process ends in order.

Private memory is counted when it is reserved, resident memory when it is touched, and a process
always has reserved more than it has touched: stacks of threads, what `malloc` gave back. This *gap*
is allowed on top. It is the smallest of the last second or two, as what was reserved a moment ago
is about to be touched.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final

__all__ = ["FENCE_SHARE_PERCENT", "Fence"]

FENCE_SHARE_PERCENT: Final = 96
"""Of the limit. The rest is for what the kernel takes on our behalf meanwhile, page tables most."""

GAP_SECONDS: Final = 1.0
"""The gap is the smallest of this period and the one before it."""

STEP_BYTES: Final = 1 << 20
"""The kernel is not told of smaller changes."""

SetLimit = Callable[[int], None]


def set_soft_data_limit(size_bytes: int) -> None:
    """Set the soft limit of private memory; never above what this process may set."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and not 0 <= size_bytes <= hard:
        size_bytes = hard
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, hard))


class Fence:
    """Moves the limit of private memory along with the measurements. Belongs to one thread.

    Args:
        limit_bytes: what the process and all that is counted with it may occupy.
        set_limit: takes the soft limit in bytes; `resource.RLIM_INFINITY` is none.
    """

    __slots__ = ("_before", "_gap", "_since", "_told", "_top", "set_limit")

    def __init__(self, limit_bytes: int, set_limit: SetLimit = set_soft_data_limit) -> None:
        self._top = limit_bytes * FENCE_SHARE_PERCENT // 100
        self._gap: int | None = None
        self._before: int | None = None
        self._since = 0.0
        self._told = resource.RLIM_INFINITY
        self.set_limit = set_limit

    def move(self, total_bytes: int, rss_anon_bytes: int, data_bytes: int, now_s: float) -> None:
        """Set the limit from a measurement, made at `now_s` on a clock that never goes back.

        `total_bytes` is what counts towards the limit, `rss_anon_bytes` and `data_bytes` are this
        process's own resident and reserved private memory.
        """
        gap = self._smallest_gap(max(0, data_bytes - rss_anon_bytes), now_s)
        others = total_bytes - rss_anon_bytes
        allowed = max(0, self._top - others) + gap
        if self._told == resource.RLIM_INFINITY or abs(allowed - self._told) >= STEP_BYTES:
            self._told = allowed
            self.set_limit(allowed)

    def lift(self) -> None:
        """Allow everything again: who leaves must not fail for want of a stack."""
        if self._told != resource.RLIM_INFINITY:
            self._told = resource.RLIM_INFINITY
            self.set_limit(resource.RLIM_INFINITY)

    def _smallest_gap(self, gap: int, now_s: float) -> int:
        if self._gap is None or now_s - self._since >= GAP_SECONDS:
            self._before, self._gap, self._since = self._gap, gap, now_s
        self._gap = min(self._gap, gap)
        return self._gap if self._before is None else min(self._gap, self._before)
