"""Bytes in flight: what the node holds for others, counted where it comes and goes.

Polling the kernel for memory is too slow to be a bound: in the twenty milliseconds between two
samples a node can take in more than it has. What bounds memory is that every byte held for a client
or a peer stands in this book, and that whoever would add to it asks first whether there is room.

The fields are plain integers that their owners add to and subtract from, in the loop's thread only.
Whoever reads from another thread (the watchdog) gets a figure that is a moment old.

| Field | What it counts | Who |
|---|---|---|
| `requests` | commands read and not answered | front end |
| `unfinished` | parts of commands, and open transactions | front end |
| `replies` | replies rendered and not taken by the kernel | front end |
| `proposals` | packed batches of this node on their way | proposer |
| `peers` | frames that wait for a peer, and parts of frames | transport |
| `log` | entries in memory: not durable, not applied, or kept for peers | raft |
| `engine` | rows written since the engine's last commit | store |
| `workers` | jobs and replies on their way to and from worker processes | workers |

A request and what becomes of it are counted in each place where a copy of its bytes exists, so the
sum is what memory sees.
"""

from __future__ import annotations

from typing import Final

from kvnode.admission.budget import AMPLE, Budget

KINDS: Final = (
    "requests",
    "unfinished",
    "replies",
    "proposals",
    "peers",
    "log",
    "engine",
    "workers",
)


class Ledger:
    """Bytes in flight of one process, by kind; see the module's docstring."""

    __slots__ = (*KINDS, "_largest", "budget")

    requests: int
    unfinished: int
    replies: int
    proposals: int
    peers: int
    log: int
    engine: int
    workers: int

    def __init__(self, budget: Budget = AMPLE) -> None:
        self.budget = budget
        for kind in KINDS:
            setattr(self, kind, 0)
        self._largest = dict.fromkeys(KINDS, 0)

    @property
    def total(self) -> int:
        """All that is in flight."""
        return sum(self.by_kind().values())

    @property
    def clients(self) -> int:
        """What is held for clients: their commands and their replies."""
        return self.requests + self.unfinished + self.replies

    @property
    def has_room_for_requests(self) -> bool:
        """Clients' sockets may be read."""
        return self.requests + self.unfinished < self.budget.requests_bytes_max

    @property
    def has_room_for_replies(self) -> bool:
        """A command whose reply may be large may be begun."""
        return self.replies < self.budget.replies_bytes_max

    @property
    def has_room_for_small_replies(self) -> bool:
        """A command whose reply is small for certain may be begun: a quarter is kept for those."""
        return self.replies < self.budget.replies_bytes_max * 5 // 4

    def by_kind(self) -> dict[str, int]:
        """Bytes now."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def observe(self) -> None:
        """Remember the largest figures; call from time to time."""
        largest = self._largest
        for kind, size in self.by_kind().items():
            largest[kind] = max(largest[kind], size)

    def largest(self) -> dict[str, int]:
        """The largest figures that were observed, by kind."""
        self.observe()
        return dict(self._largest)
