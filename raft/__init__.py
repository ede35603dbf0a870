"""Raft without input or output.

The package turns ticks, messages, proposals and acknowledgements of the disk into `Ready`: messages
to send, state to make durable, reads that may proceed. It knows no clock, no randomness, no disk
and no network; DESIGN.md states the contract with the driver that has them.

Reading order: `types` (the vocabulary), `messages`, the leaf modules with one idea each (`quorum`,
`configuration`, `progress`, `log`, `read_index`, `recovery`, `outbox`), then `leader`, and the
layers of a node: `node_state`, `elections`, `membership`, `following`, `raft`.
"""

from raft.log import RaftLog
from raft.messages import MESSAGES, MalformedMessage, Message, decode
from raft.node_state import Status
from raft.progress import ProgressView
from raft.raft import Raft
from raft.types import (
    ENTRY_OVERHEAD_BYTES,
    NONE,
    Config,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    NodeId,
    NoLeader,
    NotLeader,
    Persist,
    ProposalDropped,
    RaftError,
    ReadDropped,
    ReadState,
    Ready,
    Role,
    SoftState,
    Storage,
)

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "MESSAGES",
    "NONE",
    "ConfState",
    "Config",
    "Entry",
    "EntryKind",
    "HardState",
    "MalformedMessage",
    "Message",
    "NoLeader",
    "NodeId",
    "NotLeader",
    "Persist",
    "ProgressView",
    "ProposalDropped",
    "Raft",
    "RaftError",
    "RaftLog",
    "ReadDropped",
    "ReadState",
    "Ready",
    "Role",
    "SoftState",
    "Status",
    "Storage",
    "decode",
]
