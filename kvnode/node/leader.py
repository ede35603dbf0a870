"""What only a leader does: stamp entries, propose them, and let keys expire on time.

Batches of all nodes gather here until the end of the node's pass, and under load while an entry
with batches of others is under way; then those that fit go into one (`kvnode.node.gathering`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from random import Random

from kvnode.limits import EXPIRED_KEYS_PER_ENTRY_MAX
from kvnode.node.clock import StampClock
from kvnode.node.gathering import Gathering, Taken
from kvnode.store.batch import (
    Part,
    encode_batch,
    encode_configure,
    encode_expire,
    encode_group,
    encode_register,
    stamp_of,
)
from kvnode.store.changes import Change
from kvnode.store.ops import GROUPS_LEVEL
from kvnode.store.state_machine import StateMachine
from raft.log import RaftLog
from raft.raft import Raft
from raft.types import NotLeader, ProposalDropped, Role

EXPIRY_RETRY_SECONDS = 0.05
"""An expiry entry that was refused or not applied yet is looked at again after this long."""


def newest_stamp(log: RaftLog, applied: int) -> int:
    """The stamp of the newest entry above `applied` that carries one, in milliseconds; 0 if none.

    Stamps never go back along the log.
    """
    for index in range(log.last_index, applied, -1):
        (entry,), _ = log.entries(index, index + 1, 1)
        if entry.data:
            return stamp_of(entry.data)
    return 0


class LeaderDuties:
    """Turns batches of any node into stamped log entries while this node leads.

    All methods are harmless on a follower: they return False and change nothing.

    Invariants:
        * what gathers belongs to the term in office; with it it is gone, as a lost frame is;
        * entries are in the log in the order in which they were asked for, whatever their kind.

    Args:
        on_dropped: told of a batch, by node and sequence, that gathered and then could not be
            proposed: its node must send it again.
    """

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        clock: StampClock,
        loop: AbstractEventLoop,
        rng: Random,
        wake: Callable[[], None],
        on_dropped: Callable[[int, int], None],
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._clock = clock
        self._loop = loop
        self._rng = rng
        self._wake = wake
        self._on_dropped = on_dropped
        self._gathering = Gathering()
        self.batches_grouped = 0
        """Batches that went into an entry with others."""
        self._term_in_office = 0
        self._expiry_index = 0
        self._expiry_due = 0.0
        self._expiry_timer: TimerHandle | None = None

    @property
    def leads(self) -> bool:
        """This node is the leader of the current term."""
        return self._raft.role is Role.LEADER

    def take_office(self) -> None:
        """Start from the largest stamp in the whole log, applied or not; once in a term.

        The vote that makes a leader and a batch for it may arrive in one frame, so whoever needs
        the clock calls this first, and does not wait until the node was told that it leads.
        """
        if self._term_in_office == self._raft.term:
            return
        self._term_in_office = self._raft.term
        self._clock.observe(self._machine.stamp_ms)
        self._clock.observe(newest_stamp(self._raft.log, self._machine.applied))
        self._clock.lead()
        self._expiry_index = 0
        self._gathering.clear()

    def told_ms(self) -> int:
        """What the peers are told of the cluster's clock: 0 by a node that does not lead.

        A peer may take this node for the leader still, while it has just started again and knows
        nothing but its own wall clock.
        """
        if not self.leads:
            return 0
        self.take_office()
        return self._clock.now_ms()

    def _stamp_ms(self) -> int:
        self.take_office()
        return self._clock.stamp_ms()

    def _begin_entry(self) -> tuple[int, int]:
        """Stamp and seed of an entry that is no batch: what gathered before it goes first."""
        self.take_office()
        while self._gathering:
            self._propose_gathered()
        return self._stamp_ms(), self._rng.getrandbits(63)

    def propose_registration(self, node_id: int, storage_id: int, nonce: int) -> bool:
        """Propose the registration of a node's session; False when this node cannot."""
        stamp, seed = self._begin_entry()
        return self._propose(encode_register(stamp, seed, node_id, storage_id, nonce))

    def propose_change(self, change: Change) -> int | None:
        """Propose a change of the membership; its index, or None when it cannot be done now."""
        stamp, seed = self._begin_entry()
        try:
            return self._raft.propose_conf_change(encode_configure(stamp, seed, change))
        except (NotLeader, ProposalDropped):
            return None

    def _propose(self, data: bytes) -> bool:
        try:
            self._raft.propose([data])
        except (NotLeader, ProposalDropped):
            return False
        return True

    # --- batches ----------------------------------------------------------------------------------

    def propose_batch(self, node_id: int, incarnation: int, sequence: int, ops: bytes) -> bool:
        """Propose a batch of any node's session, soon; False when this node cannot.

        Raises:
            MalformedEntry: `ops` is no list of operations.
        """
        if not self.leads:
            return False
        self.take_office()
        self._gathering.add(Part(node_id, incarnation, sequence, ops))
        if self._machine.level < GROUPS_LEVEL:
            return self._propose_batches(self._gathering.take())
        return True

    @property
    def can_flush(self) -> bool:
        """`flush` would propose something now."""
        return self._gathering.is_due(self._raft.log.commit)

    def flush(self) -> None:
        """Propose what gathered, as far as it is due. Once in each pass."""
        if not self._gathering:
            return
        if not self.leads or self._term_in_office != self._raft.term:
            self._gathering.clear()
        while self.can_flush:
            self._propose_gathered()

    def _propose_gathered(self) -> None:
        """Propose one entry of what gathered; if that cannot be, their nodes are told."""
        taken = self._gathering.take()
        if not self._propose_batches(taken):
            for part in taken.parts:
                self._on_dropped(part.node_id, part.sequence)

    def _propose_batches(self, taken: Taken) -> bool:
        parts = taken.parts
        stamp, seed = self._clock.stamp_ms(), self._rng.getrandbits(63)
        if len(parts) == 1:
            data = encode_batch(stamp, seed, *parts[0])
        else:
            data = encode_group(stamp, seed, parts)
        if not self._propose(data):
            return False
        self._gathering.proposed(taken, self._raft.last_index, self._raft.log.commit)
        if len(parts) > 1:
            self.batches_grouped += len(parts)
        return True

    # --- expiry -----------------------------------------------------------------------------------

    def watch_deadlines(self) -> None:
        """Arm the timer for the earliest deadline. Call after every slice of apply."""
        if not self.leads:
            return
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is None:
            return
        due = self._loop.time() + (deadline_ms - self._clock.now_ms()) / 1000
        if self._expiry_index > self._machine.applied:
            due = self._loop.time() + EXPIRY_RETRY_SECONDS
        if self._expiry_timer is not None:
            if self._expiry_due <= due:
                return
            self._expiry_timer.cancel()
        self._expire_at(due)

    def _expire_at(self, due: float) -> None:
        # Kept here: for a moment that is over uvloop returns a handle that does not know its own.
        self._expiry_due = due
        self._expiry_timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._expiry_timer = None
        deadline_ms = self._machine.next_deadline_ms()
        if not self.leads or deadline_ms is None:
            return
        in_flight = self._expiry_index > self._machine.applied
        if deadline_ms <= self._stamp_ms() and not in_flight:
            stamp, seed = self._begin_entry()
            if self._propose(encode_expire(stamp, seed, EXPIRED_KEYS_PER_ENTRY_MAX)):
                self._expiry_index = self._raft.last_index
            self._wake()
        self._expire_at(self._loop.time() + EXPIRY_RETRY_SECONDS)
