"""A snapshot on its way from a leader to a follower: decisions only, no files and no sockets.

The leader offers (index, term, size); the follower answers how many bytes of exactly that snapshot
it already holds, and from then on each acknowledgement asks for the next chunk. So a transfer goes
on where it stopped, whatever broke in between: a connection, the follower, or the patience of the
leader. One chunk is in flight, and a rate bounds the rest, so that heartbeats on the same
connection wait for a quarter of a megabyte at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kvnode.limits import (
    SNAPSHOT_CHUNK_BYTES_MAX,
    SNAPSHOT_RATE_BYTES_PER_SECOND_MAX,
    SNAPSHOT_RETRY_SECONDS,
    SNAPSHOT_SILENCE_SECONDS_MAX,
)
from kvnode.node.wire import SnapshotAck, SnapshotOffer, Verdict


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot as both sides know it: log index, that entry's term, and bytes."""

    index: int
    term: int
    size: int


class Slice(NamedTuple):
    """Bytes of the snapshot that the peer should get next."""

    offset: int
    length: int


class Outbound:
    """The leader's side. `next` says what to send, `acknowledged` takes what came back.

    Invariant: at most one offer or chunk is unanswered, and it is repeated only after
    `SNAPSHOT_RETRY_SECONDS` of silence.

    Attributes:
        file: what is sent.
        term: in which this node leads; the peer takes nothing from the leader of another.
        finished: None while it goes on; then whether the peer has installed it.
    """

    __slots__ = ("_heard_at", "_next_at", "_offset", "_waiting_since", "file", "finished", "term")

    def __init__(self, file: SnapshotFile, term: int, now: float) -> None:
        self.file = file
        self.finished: bool | None = None
        self.term = term
        self._offset: int | None = None
        self._waiting_since: float | None = None
        self._next_at = now
        self._heard_at = now

    def next(self, now: float) -> SnapshotOffer | Slice | None:
        """What to send now, if anything. `now` is monotonic, in seconds."""
        if now - self._heard_at > SNAPSHOT_SILENCE_SECONDS_MAX:
            self.finished = False
        waited = None if self._waiting_since is None else now - self._waiting_since
        if self.finished is not None or now < self._next_at:
            return None
        if waited is not None and waited < SNAPSHOT_RETRY_SECONDS:
            return None
        self._waiting_since = now
        if self._offset is None or waited is not None or self._offset >= self.file.size:
            # Begin, or ask again where the peer is: it may have restarted, or be installing.
            return SnapshotOffer(self.term, self.file.index, self.file.term, self.file.size)
        length = min(SNAPSHOT_CHUNK_BYTES_MAX, self.file.size - self._offset)
        self._next_at = now + length / SNAPSHOT_RATE_BYTES_PER_SECOND_MAX
        return Slice(self._offset, length)

    def due_in(self, now: float) -> float | None:
        """Seconds until the rate allows the next chunk; None when that is not what it waits for."""
        if self.finished is not None or self._waiting_since is not None or now >= self._next_at:
            return None
        return self._next_at - now

    def acknowledged(self, ack: SnapshotAck, now: float) -> None:
        """The peer told where it is. Answers about another snapshot are late and ignored."""
        if ack.index != self.file.index or self.finished is not None:
            return
        self._heard_at = now
        if ack.verdict == Verdict.GO_ON and ack.offset <= self.file.size:
            self._offset = ack.offset
            # A peer that holds everything is installing; it is asked again after a pause.
            self._waiting_since = now if ack.offset == self.file.size else None
        else:
            self.finished = ack.verdict == Verdict.INSTALLED


class Inbound:
    """The follower's side: which bytes are there already, and which come next."""

    __slots__ = ("file", "have", "leader_term", "sender")

    def __init__(self, sender: int, leader_term: int, file: SnapshotFile, have: int) -> None:
        self.sender = sender
        self.leader_term = leader_term
        self.file = file
        self.have = have

    def takes(self, index: int, offset: int, length: int) -> bool:
        """Whether a chunk is the next one; repeated and foreign ones are not."""
        fits = length > 0 and offset + length <= self.file.size
        return index == self.file.index and offset == self.have and fits

    @property
    def is_complete(self) -> bool:
        """All bytes are there."""
        return self.have == self.file.size
