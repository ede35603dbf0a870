"""What CONFIG SET can change while the node runs; all else is fixed at start.

A restart forgets it: the file, the environment and the flags are the truth about a node, and a
setting that matters belongs there.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvnode.limits import SLOW_LOG_RECORDS

NEVER_NS = (1 << 63) - 1


@dataclass(slots=True)
class Settings:
    """Settings of the Redis front end that may change.

    Attributes:
        clients_max: connections served at once.
        idle_seconds_max: a client that sends nothing for longer is closed; 0: never.
        slow_log_us: commands that take longer enter the slow log; 0: all, negative: none.
        slow_log_records: entries that the slow log keeps.
        latency_ms: commands that take as long are an event of LATENCY; 0: none.
    """

    clients_max: int
    idle_seconds_max: int = 0
    slow_log_us: int = 10_000
    slow_log_records: int = SLOW_LOG_RECORDS
    latency_ms: int = 0

    @property
    def notable_ns(self) -> int:
        """Commands that take longer need a second look."""
        slow_ns = NEVER_NS if self.slow_log_us < 0 else self.slow_log_us * 1000 - 1
        latency_ns = self.latency_ms * 1_000_000 - 1 if self.latency_ms else NEVER_NS
        return min(slow_ns, latency_ns)
