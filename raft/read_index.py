"""ReadIndex: linearizable reads without writing to the log (thesis, section 6.4).

A read asks the leader for an index. The leader notes its commit index, then makes sure, by one
round of heartbeats, that it was still the leader *after* the question arrived. Whoever asked may
read as soon as it has applied that index.

One round serves every read that arrived before it started. Reads that arrive while a round is on
its way wait for the next one, because an answer that is already travelling proves nothing about
them. Two rounds may be on their way, so that a slow link does not halve the throughput.

Round ids are never used again: not after a retry, not in a later term, not after a restart. etcd
reused an id on retry and served stale reads after a pause (issue 20418); with unique ids an old
answer can only confirm an old round. An id is the low 24 bits of `boot_id`, which make it unknown
to the next 16 million starts, and a counter of 40 bits, which at ten thousand rounds a second lasts
for three years.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from raft.types import NodeId

COUNTER_BITS = 40
BOOT_MASK = (1 << (64 - COUNTER_BITS)) - 1
ROUNDS_IN_FLIGHT_MAX = 2


class ReadRequest(NamedTuple):
    """A read of `origin`, which may be this node or a follower."""

    origin: NodeId
    request_id: int


class Round(NamedTuple):
    """One round of heartbeats; `commit` is the leader's commit index at its start."""

    round_id: int
    commit: int
    requests: list[ReadRequest]


class ReadIndex:
    """Read requests and rounds of one node, over all terms of one run of its process.

    Attributes:
        newest: id of the newest round that was started, 0 before the first.
    """

    __slots__ = ("_boot", "_counter", "_rounds", "_waiting", "_waiting_max", "newest")

    def __init__(self, boot_id: int, waiting_max: int) -> None:
        self._boot = (boot_id & BOOT_MASK) << COUNTER_BITS
        self._counter = 0
        self._waiting_max = waiting_max
        self._waiting: list[ReadRequest] = []
        self._rounds: deque[Round] = deque()
        self.newest = 0

    def add(self, origin: NodeId, request_id: int) -> bool:
        """Queue a read for the next round; False if too many wait already."""
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(ReadRequest(origin, request_id))
        return True

    def can_start(self) -> bool:
        """Tell whether reads wait and a further round may be on its way."""
        return bool(self._waiting) and len(self._rounds) < ROUNDS_IN_FLIGHT_MAX

    def start(self, commit: int) -> int:
        """Start a round for all waiting reads at the index `commit`; return its id."""
        round_id = self.new_id()
        self._rounds.append(Round(round_id, commit, self._waiting))
        self._waiting = []
        return round_id

    def new_id(self) -> int:
        """Return the id of a new round. Confirmed, it confirms all before it."""
        self._counter += 1
        assert self._counter >> COUNTER_BITS == 0, f"round {self._counter} left its bits"
        self.newest = self._boot | self._counter
        return self.newest

    def in_flight(self) -> int:
        """Return the id of the newest round that is not confirmed, 0 if there is none."""
        return self._rounds[-1].round_id if self._rounds else 0

    def issued(self, round_id: int) -> bool:
        """Tell whether this run of the process has started `round_id`."""
        return self._boot < round_id <= self.newest

    def confirm(self, round_id: int) -> list[Round]:
        """A quorum confirmed `round_id`: return that round and all before it."""
        confirmed = []
        rounds = self._rounds
        while rounds and rounds[0].round_id <= round_id:
            confirmed.append(rounds.popleft())
        return confirmed

    def clear(self) -> None:
        """Forget all reads, when leadership ends. Ids go on from where they are."""
        self._waiting = []
        self._rounds.clear()
