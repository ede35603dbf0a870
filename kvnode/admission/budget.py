"""Every cap on memory that follows from the memory that the node may use.

A node in a container of 512 MiB must not hold what a node on a large machine may. All such caps are
shares of one figure, worked out once at start (`DESIGN.md` beside this file shows the sum) and
handed down as one object. The constants of `kvnode.limits` are the ceilings: from 4 GiB on nothing
depends on the machine any more. Below 256 MiB the floors win: a value of the largest size must
still pass, so such a node is safe from ordinary clients only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvnode.limits import (
    COMMAND_BYTES_MAX,
    IN_FLIGHT_BYTES_MAX,
    KIB,
    MIB,
    OUTPUT_BYTES_MAX,
    PEER_QUEUE_BYTES_MAX,
    PIPELINE_BYTES_MAX,
    POPPED_BYTES_MAX,
    RAFT_CACHE_BYTES_MAX,
    RAFT_UNCOMMITTED_BYTES_MAX,
    SOCKET_BYTES_MIN,
    VALUE_BYTES_MAX,
    WORKER_BASE_BYTES,
)

AMPLE_BYTES: Final = 4096 * MIB
"""With this much memory, or more, every cap is at its ceiling."""

WORKER_REPLIES: Final = 4
"""A worker may hold the largest reply so many times: its rows are Python objects first."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps in bytes.

    Attributes:
        limit_bytes: the smallest of the machine's memory and the limits of our cgroups.
        requests_bytes_max: commands of all clients that are unanswered or unfinished; over it no
            client's socket is read.
        replies_bytes_max: replies of all clients that are not taken; over it no read is begun.
        client_requests_bytes_max: unanswered commands of one client before its socket is not read.
        reply_bytes_max: one reply, and all that one client has not taken before it is closed.
        command_bytes_max: all arguments of one command, or of one MULTI.
        peer_queue_bytes_max: what waits for one peer before messages to it are dropped.
        log_cache_bytes_max: newest log entries kept in memory; twice that while apply stands still.
        uncommitted_bytes_max: entries of a leader that no quorum has yet.
        worker_bytes_max: private memory of one worker process (RLIMIT_DATA).
        socket_bytes_max: what the kernel may buffer for one client in each direction; 0: as much
            as it finds good.
    """

    limit_bytes: int
    requests_bytes_max: int
    replies_bytes_max: int
    client_requests_bytes_max: int
    reply_bytes_max: int
    command_bytes_max: int
    peer_queue_bytes_max: int
    log_cache_bytes_max: int
    uncommitted_bytes_max: int
    worker_bytes_max: int
    socket_bytes_max: int

    @classmethod
    def of(cls, limit_bytes: int) -> Budget:
        """Work out the caps for a node that may use `limit_bytes` of memory."""
        if limit_bytes <= 0:
            raise ValueError(f"a node cannot live on {limit_bytes} bytes")
        share = limit_bytes // 64
        command = _between(VALUE_BYTES_MAX + MIB, 2 * share, COMMAND_BYTES_MAX)
        reply = _between(POPPED_BYTES_MAX, 4 * share, OUTPUT_BYTES_MAX)
        worker = WORKER_BASE_BYTES + WORKER_REPLIES * reply
        return cls(
            limit_bytes=limit_bytes,
            requests_bytes_max=_between(2 * command, 6 * share, IN_FLIGHT_BYTES_MAX),
            replies_bytes_max=_between(reply, 6 * share, IN_FLIGHT_BYTES_MAX),
            client_requests_bytes_max=_between(MIB, share, PIPELINE_BYTES_MAX),
            reply_bytes_max=reply,
            command_bytes_max=command,
            peer_queue_bytes_max=_between(4 * MIB, 2 * share, PEER_QUEUE_BYTES_MAX),
            log_cache_bytes_max=_between(2 * MIB, share, RAFT_CACHE_BYTES_MAX),
            uncommitted_bytes_max=_between(command, 2 * share, RAFT_UNCOMMITTED_BYTES_MAX),
            worker_bytes_max=min(worker, max(16 * share, WORKER_BASE_BYTES + POPPED_BYTES_MAX)),
            socket_bytes_max=0
            if limit_bytes >= AMPLE_BYTES
            else max(SOCKET_BYTES_MIN, share // 128 // KIB * KIB),
        )


def _between(floor: int, wanted: int, ceiling: int) -> int:
    return min(max(floor, wanted), ceiling)


AMPLE: Final = Budget.of(AMPLE_BYTES)
"""For tests and tools that are not about memory."""
