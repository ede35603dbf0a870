"""What a leader knows about one follower, and how much it sends unasked.

A follower is in one of three states (the design is that of etcd-io/raft):

* PROBE: the leader does not know where the logs meet. One append at a time; the answer, or the
  answer to a heartbeat, lets the next one go.
* REPLICATE: they met. Appends are pipelined: `next_index` moves on when a message is sent, not when
  it is acknowledged. `Inflights` bounds what is on its way.
* SNAPSHOT: what the follower needs is no longer in the log. No append is sent until the driver's
  own stream to it has ended, or an acknowledgement shows that the log suffices after all.

Invariants: `match` never goes back during one leadership (a delayed or repeated answer changes
nothing), but to 0 in `forget`, when the follower turns out to have lost its log's end; `match <
next_index`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import NamedTuple

from raft.types import NodeId


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


# Looking a member up on the class costs more than a global; these are on the hot path.
PROBE = ProgressState.PROBE
REPLICATE = ProgressState.REPLICATE
SNAPSHOT = ProgressState.SNAPSHOT


class ProgressView(NamedTuple):
    """A copy of a follower's progress for status pages."""

    match: int
    next_index: int
    state: str
    recent_active: bool
    inflight_messages: int
    inflight_bytes: int
    recovering: bool = False


class Inflights:
    """Messages on their way to one follower: a window bounded by count and by bytes.

    The message that crosses the byte bound is still admitted; otherwise an entry larger than the
    bound could never be sent.
    """

    __slots__ = ("_bytes_max", "_messages_max", "_window", "size")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._window: deque[tuple[int, int]] = deque()
        self.size = 0
        """Bytes on their way."""

    def __len__(self) -> int:
        return len(self._window)

    def full(self) -> bool:
        """Tell whether no further message may be sent."""
        return len(self._window) >= self._messages_max or self.size >= self._bytes_max

    def add(self, last_index: int, size: int) -> None:
        """Note a message whose last entry is `last_index`; `size` in bytes."""
        self._window.append((last_index, size))
        self.size += size

    def free_to(self, index: int) -> None:
        """Forget the messages that an acknowledgement of `index` covers."""
        window = self._window
        while window and window[0][0] <= index:
            self.size -= window.popleft()[1]

    def reset(self) -> None:
        """Forget all messages."""
        self._window.clear()
        self.size = 0


class Progress:
    """The leader's view of one follower (or, with only `match` in use, of itself).

    Attributes:
        match: largest index known to be durable on the follower.
        next_index: index of the next entry to send.
        state: see the module's docstring.
        paused: PROBE only: an append is out, and no answer came yet.
        match_at_heartbeat: `match` when the last regular heartbeat was sent, -1 once an answer
            was judged by it: no progress since then may mean that something was lost.
        verify: the next append is due even if it is empty: its answer tells whether entries were
            lost on the way.
        recent_active: the follower was heard since the last CheckQuorum.
        acked_round: newest read round that the follower confirmed.
        sent_commit: commit index that was sent last.
        recovering: the follower lost acknowledged entries: it is replicated to, and does not count.
        suspect: the follower seems to lack what it acknowledged; it is asked with the heartbeats.
        inflights: messages on their way.
    """

    __slots__ = (
        "acked_round",
        "inflights",
        "match",
        "match_at_heartbeat",
        "next_index",
        "node_id",
        "paused",
        "recent_active",
        "recovering",
        "sent_commit",
        "state",
        "suspect",
        "verify",
    )

    def __init__(self, node_id: NodeId, next_index: int, inflights: Inflights) -> None:
        self.node_id = node_id
        self.match = 0
        self.match_at_heartbeat = -1
        self.next_index = next_index
        self.state = PROBE
        self.paused = False
        self.verify = False
        self.recent_active = False
        self.acked_round = 0
        self.sent_commit = 0
        self.recovering = False
        self.suspect = False
        self.inflights = inflights

    def become_probe(self) -> None:
        """Start again after the last index that is certain."""
        self.state = PROBE
        self.next_index = self.match + 1
        self.paused = False
        self.verify = False
        self.sent_commit = 0
        self.inflights.reset()

    def become_replicate(self) -> None:
        """The logs meet at `match`: pipeline from there."""
        self.state = REPLICATE
        self.next_index = self.match + 1
        self.paused = False
        self.inflights.reset()

    def become_snapshot(self) -> None:
        """The log no longer holds what the follower needs."""
        self.state = SNAPSHOT
        self.inflights.reset()

    def forget(self) -> None:
        """The follower lost something: nothing that it said before is certain any more.

        Where to probe stays as it is: most of its log is still there, and its first answer tells.
        """
        self.match = 0
        self.acked_round = 0
        self.match_at_heartbeat = -1
        self.suspect = False
        next_index = self.next_index
        self.become_probe()
        self.next_index = next_index

    def snapshot_finished(self, index: int, *, ok: bool) -> None:
        """The stream of a snapshot ended; if `ok`, the follower's log now reaches `index`."""
        self.become_probe()
        if ok:
            self.next_index = max(self.next_index, index + 1)
        else:
            # Not again before a heartbeat was answered: streams are dear.
            self.paused = True

    def sent(self, last_index: int, size: int) -> None:
        """An append of `size` bytes, whose last entry is `last_index`, was sent."""
        if self.state is PROBE:
            self.paused = True
        else:
            self.next_index = last_index + 1
            self.inflights.add(last_index, size)
        self.verify = False

    def maybe_update(self, match: int) -> bool:
        """Take an acknowledgement; tell whether it said something new."""
        if match <= self.match:
            return False
        self.match = match
        if self.next_index <= match:
            self.next_index = match + 1
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """Take a rejection of the append after `rejected`; tell whether it is not out of date.

        `hint` is the largest index at which the logs may still meet.
        """
        if self.state is REPLICATE:
            # Whatever was acknowledged cannot be missing: such a rejection was overtaken.
            if rejected <= self.match:
                return False
            self.become_probe()
            return True
        if self.state is SNAPSHOT or self.next_index - 1 != rejected:
            return False
        self.next_index = max(min(rejected, hint + 1), self.match + 1)
        assert self.match < self.next_index, f"{self.view()} after {rejected}, {hint}"
        self.paused = False
        return True

    def view(self) -> ProgressView:
        """Return a copy for status pages."""
        return ProgressView(
            match=self.match,
            next_index=self.next_index,
            state=self.state.value,
            recent_active=self.recent_active,
            inflight_messages=len(self.inflights),
            inflight_bytes=self.inflights.size,
            recovering=self.recovering,
        )
