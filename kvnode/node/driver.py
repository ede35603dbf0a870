"""The Ready loop: carries what Raft decides to the disk, to the peers and to apply.

`raft` decides and does nothing; this module does and decides nothing. The contract, in order
(see `raft/DESIGN.md`):

1. messages that may go at once are handed to the transport;
2. what must be durable goes to the log writer, which returns numbers and the messages that
   waited for them;
3. changes of role and leader are told to the node before anything that follows from them;
4. read states go to the waiting reads;
5. peers that need a snapshot are named to whoever sends them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvnode.node.log_writer import LogWriter, Outgoing
from raft.messages import Message
from raft.raft import Raft
from raft.types import ReadState, SoftState


class Sender(Protocol):
    """The transport, as far as the driver knows it."""

    def send(self, peer: int, message: Message) -> None:
        """Queue one message."""

    def flush(self) -> None:
        """Let what is queued leave."""


class Driver:
    """Pumps `Ready`s out of Raft until it has nothing more to say.

    Args:
        on_soft_state: role or leader changed.
        on_read_state: a read index was confirmed.
        on_snapshot_needed: a peer lacks entries that the log no longer holds.
        wake: asks the node for another pass of its loop.
    """

    def __init__(
        self,
        raft: Raft,
        sender: Sender,
        *,
        on_soft_state: Callable[[SoftState], None],
        on_read_state: Callable[[ReadState], None],
        on_snapshot_needed: Callable[[int], None],
        wake: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._sender = sender
        self._on_soft_state = on_soft_state
        self._on_read_state = on_read_state
        self._on_snapshot_needed = on_snapshot_needed
        self._wake = wake
        self.writer: LogWriter | None = None
        """Set once, before the first pump: the writer reports back to this driver."""

    def pump(self) -> None:
        """Carry out everything that Raft has ready, then let the messages leave."""
        raft, sender = self._raft, self._sender
        assert self.writer is not None
        while (ready := raft.ready()) is not None:
            for peer, message in ready.messages:
                sender.send(peer, message)
            if ready.persist is not None:
                self.writer.submit(ready.persist)
            if ready.soft_state is not None:
                self._on_soft_state(ready.soft_state)
            for read_state in ready.read_states:
                self._on_read_state(read_state)
            for peer in ready.snapshots:
                self._on_snapshot_needed(peer)
        sender.flush()

    def synced(self, number: int, messages: Outgoing) -> None:
        """The log writer made everything up to `number` durable."""
        self._raft.synced(number)
        for peer, message in messages:
            self._sender.send(peer, message)
        self._sender.flush()
        self._wake()
