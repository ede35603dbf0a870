"""What CONFIG SET can change while the node runs; all else is fixed at start.

A restart forgets it: the file, the environment and the flags are the truth about a node, and a
setting that matters belongs there.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvnode.limits import CONNECTIONS_PER_PEER_MAX, MIB, OUTPUT_BYTES_MAX, SLOW_LOG_RECORDS

NEVER_NS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """What clients of one class may leave unread: a class of Redis' `client-output-buffer-limit`.

    Attributes:
        hard_bytes: who leaves as much is closed at once; 0: no limit.
        soft_bytes: who leaves as much for longer than `soft_seconds` is closed; 0: no limit.
    """

    hard_bytes: int = 0
    soft_bytes: int = 0
    soft_seconds: int = 0

    def is_passed(self, unread_bytes: int) -> bool:
        """Whether this is too much for any time."""
        return 0 < self.hard_bytes <= unread_bytes


REPLICA_OUTPUT = OutputLimit(256 * MIB, 64 * MIB, 60)
PUBSUB_OUTPUT = OutputLimit(32 * MIB, 8 * MIB, 60)
"""Redis' defaults. There are no clients of these classes here; tools look at them."""


@dataclass(slots=True)
class Settings:
    """Settings of the Redis front end that may change.

    Attributes:
        clients_max: connections served at once.
        connections_per_peer_max: and of one address; 0: no limit. Who is connected stays.
        idle_seconds_max: a client that sends nothing for longer is closed; 0: never.
        slow_log_us: commands that take longer enter the slow log; 0: all, negative: none.
        slow_log_records: entries that the slow log keeps.
        latency_ms: commands that take as long are an event of LATENCY; 0: none.
        normal_output: what a client may leave unread; replica_output, pubsub_output: what clients
            might that are of these classes.
    """

    clients_max: int
    connections_per_peer_max: int = CONNECTIONS_PER_PEER_MAX
    idle_seconds_max: int = 0
    slow_log_us: int = 10_000
    slow_log_records: int = SLOW_LOG_RECORDS
    latency_ms: int = 0
    normal_output: OutputLimit = OutputLimit(OUTPUT_BYTES_MAX)
    replica_output: OutputLimit = REPLICA_OUTPUT
    pubsub_output: OutputLimit = PUBSUB_OUTPUT

    @property
    def notable_ns(self) -> int:
        """Commands that take longer need a second look."""
        slow_ns = NEVER_NS if self.slow_log_us < 0 else self.slow_log_us * 1000 - 1
        latency_ns = self.latency_ms * 1_000_000 - 1 if self.latency_ms else NEVER_NS
        return min(slow_ns, latency_ns)
