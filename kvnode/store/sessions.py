"""Proposer sessions: what makes a batch apply exactly once, however often it is sent.

A node numbers its batches 1, 2, 3, … within an *incarnation*, the log index of its registration.
Only the next number of the newest incarnation applies; the rest are no-ops that every replica
refuses alike. So a node may resend all that it does not know the fate of, to whoever leads, and a
new registration fences whatever an older one left in flight.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvnode.store.batch import Batch, Register


class Outcome(IntEnum):
    """What became of an entry at apply."""

    APPLIED = 0
    DUPLICATE = 1
    """It had applied before."""
    GAP = 2
    """A batch before it is missing; the origin will send both again."""
    FENCED = 3
    """It belongs to a registration that is not the newest, or to a foreign storage."""


@dataclass(slots=True)
class Session:
    """The newest registration of one node.

    Attributes:
        incarnation: log index of the registration.
        last: sequence of the newest batch that applied.
        nonce: what the registering process drew, so that its resends are recognised.
        storage_id: the data directory that this node id is bound to.
    """

    incarnation: int
    last: int
    nonce: int
    storage_id: int


class Sessions(dict[int, Session]):
    """Sessions by node id."""

    __slots__ = ()

    def register(self, index: int, entry: Register) -> Outcome:
        """Open a session at log index `index`, unless it is open already or bound elsewhere."""
        session = self.get(entry.node_id)
        if session is not None:
            if session.storage_id != entry.storage_id:
                return Outcome.FENCED
            if session.nonce == entry.nonce:
                return Outcome.DUPLICATE
        self[entry.node_id] = Session(index, 0, entry.nonce, entry.storage_id)
        return Outcome.APPLIED

    def admit(self, batch: Batch) -> Outcome:
        """Judge a batch, and count it if it applies."""
        session = self.get(batch.node_id)
        if session is None or session.incarnation != batch.incarnation:
            return Outcome.FENCED
        if batch.sequence <= session.last:
            return Outcome.DUPLICATE
        if batch.sequence > session.last + 1:
            return Outcome.GAP
        session.last = batch.sequence
        return Outcome.APPLIED

    def to_rows(self) -> list[list[int]]:
        """Plain lists ordered by node id, for the meta row, snapshots and the state hash."""
        return [
            [node_id, session.incarnation, session.last, session.nonce, session.storage_id]
            for node_id, session in sorted(self.items())
        ]

    @classmethod
    def from_rows(cls, rows: list[list[int]]) -> Sessions:
        """What `to_rows` wrote."""
        return cls((node_id, Session(*fields)) for node_id, *fields in rows)
