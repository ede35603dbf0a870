"""A rate in bytes per second: what makes a copy take its time, so that the node need not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """Sleeps so that no more than a number of bytes pass per second, without saving up for bursts.

    Args:
        bytes_per_second: above 0.
        clock: monotonic, in seconds.
        sleep: takes seconds.
    """

    __slots__ = ("_bytes_per_second", "_clock", "_free_at", "_sleep")

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if bytes_per_second <= 0:
            raise ValueError("a rate must be above 0 bytes per second")
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    def spend(self, count: int) -> None:
        """Account for `count` bytes that passed, and sleep until the next may."""
        now = self._clock()
        self._free_at = max(self._free_at, now) + count / self._bytes_per_second
        self._sleep(self._free_at - now)
