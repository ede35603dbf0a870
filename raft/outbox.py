"""Persist before send, in one place.

Everything that leaves a node goes through an `Outbox`. `messages` may leave at once; `after_sync`
waits for the disk. Raft decides which is which by one rule: a message waits if it rests on a term,
a vote or entries that are not durable yet.
"""

from __future__ import annotations

from raft.messages import Message, RequestVoteResponse
from raft.types import NodeId, ReadState


class Outbox:
    """What the next `Ready` carries away."""

    __slots__ = ("after_sync", "messages", "read_states", "snapshots")

    def __init__(self) -> None:
        self.messages: list[tuple[NodeId, Message]] = []
        self.after_sync: list[tuple[NodeId, Message]] = []
        self.read_states: list[ReadState] = []
        self.snapshots: list[NodeId] = []

    def withdraw_votes(self) -> None:
        """Forget votes that wait for the disk: their giver turns out to have lost something."""
        self.after_sync = [
            (to, message)
            for to, message in self.after_sync
            if not (isinstance(message, RequestVoteResponse) and message.granted)
        ]
