"""The messages between nodes as bytes. Pure functions, no sockets.

A connection carries messages one way, from the node that dialled to the node that accepted. It
opens with a hello (`kvnode.node.hello`); then come frames (`kvnode.node.frames`) of messages::

    further  := [stamp_ms, [message, ...]]                              dialler -> acceptor
    message  := [code, field, ...]

`stamp_ms` is the cluster's clock as the leader tells it, 0 from any other node. Codes below
100 are Raft's (`raft.messages`), those from 100 on are the node's own. All ints are u64.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import msgpack

from kvnode.node.frames import MalformedFrame, encode_frame, take, unpack
from raft.messages import MESSAGES, MalformedMessage, Message, decode

_U64_MAX = 2**64 - 1
_pack = msgpack.Packer().pack
"""One packer for all frames: a new one per frame would allocate its buffer each time."""
_MESSAGES_PER_FRAME_MAX = 4096

# Subclasses of functional NamedTuples: a class-level CODE beside the fields would become a field.


class Forward(
    NamedTuple("Forward", [("incarnation", int), ("sequence", int), ("operations", bytes)])
):
    """A batch of the sender's session, for the leader to stamp and propose."""

    __slots__ = ()
    CODE: ClassVar[int] = 100


class ForwardRejected(NamedTuple("ForwardRejected", [("sequence", int)])):
    """The receiver of a `Forward` or `Register` did not propose it (not leader, or full)."""

    __slots__ = ()
    CODE: ClassVar[int] = 101


class Register(NamedTuple("Register", [("storage_id", int), ("nonce", int)])):
    """The sender asks the leader to register its proposer session through the log."""

    __slots__ = ()
    CODE: ClassVar[int] = 102


class SnapshotOffer(
    NamedTuple(
        "SnapshotOffer", [("term", int), ("index", int), ("snapshot_term", int), ("size", int)]
    )
):
    """The leader of `term` has a snapshot of `size` bytes for the receiver, who lacks entries."""

    __slots__ = ()
    CODE: ClassVar[int] = 103


class SnapshotChunk(
    NamedTuple("SnapshotChunk", [("term", int), ("index", int), ("offset", int), ("data", bytes)])
):
    """Bytes of the snapshot at `index`, from `offset` on."""

    __slots__ = ()
    CODE: ClassVar[int] = 104


class SnapshotAck(NamedTuple("SnapshotAck", [("index", int), ("offset", int), ("verdict", int)])):
    """How many bytes of the snapshot at `index` the sender holds, and a `Verdict`."""

    __slots__ = ()
    CODE: ClassVar[int] = 105


class CoverageQuery(NamedTuple("CoverageQuery", [])):
    """The sender asks the leader how far each voter has the log."""

    __slots__ = ()
    CODE: ClassVar[int] = 106


class CoverageAnswer(
    NamedTuple("CoverageAnswer", [("term", int), ("voters", list[int]), ("matches", list[int])])
):
    """The leader of `term` knows that each of `voters` has the log up to its match on disk."""

    __slots__ = ()
    CODE: ClassVar[int] = 107


class ChangeForward(
    NamedTuple(
        "ChangeForward",
        [
            ("request_id", int),
            ("action", str),
            ("member", str),
            ("other", str),
            ("peer_address", str),
            ("client_address", str),
            ("storage_id", int),
            ("promote", bool),
            ("level", int),
        ],
    )
):
    """A `kvnode.service.ChangeRequest` that was put to the sender, for the leader to decide."""

    __slots__ = ()
    CODE: ClassVar[int] = 108


class ChangeDecided(
    NamedTuple(
        "ChangeDecided", [("request_id", int), ("verdict", str), ("text", str), ("node_id", int)]
    )
):
    """The answer to a `ChangeForward`."""

    __slots__ = ()
    CODE: ClassVar[int] = 109


class Strained(NamedTuple("Strained", [("rung", int), ("is_late", bool)])):
    """How hard the sender has it: `kvnode.node.strain`. Spoken in wire version 4 only."""

    __slots__ = ()
    CODE: ClassVar[int] = 110


class Fitness(
    NamedTuple("Fitness", [("rung", int), ("is_late", bool), ("is_draining", bool)]),
):
    """How fit the sender is to lead: `kvnode.node.strain`. From wire version 5 on."""

    __slots__ = ()
    CODE: ClassVar[int] = 111


class Verdict(IntEnum):
    """What the receiver of a snapshot says with its offset."""

    GO_ON = 0
    INSTALLED = 1
    """Installed, or not needed any more."""
    REFUSED = 2
    """Not from this leader, or it cannot be stored here: start again later."""


NodeMessage = (
    Forward
    | ForwardRejected
    | Register
    | SnapshotOffer
    | SnapshotChunk
    | SnapshotAck
    | CoverageQuery
    | CoverageAnswer
    | ChangeForward
    | ChangeDecided
    | Strained
    | Fitness
)
AnyMessage = Message | NodeMessage


def encode_messages(stamp_ms: int, messages: list[AnyMessage]) -> bytes:
    """All messages of one loop pass for one peer as one frame."""
    return encode_frame(_pack([stamp_ms, [(m.CODE, *m) for m in messages]]))


_NODE_FIELDS: dict[int, tuple[type[Any], tuple[type, ...]]] = {
    Forward.CODE: (Forward, (int, int, bytes)),
    ForwardRejected.CODE: (ForwardRejected, (int,)),
    Register.CODE: (Register, (int, int)),
    SnapshotOffer.CODE: (SnapshotOffer, (int, int, int, int)),
    SnapshotChunk.CODE: (SnapshotChunk, (int, int, int, bytes)),
    SnapshotAck.CODE: (SnapshotAck, (int, int, int)),
    CoverageQuery.CODE: (CoverageQuery, ()),
    CoverageAnswer.CODE: (CoverageAnswer, (int, list, list)),
    ChangeForward.CODE: (ChangeForward, (int, str, str, str, str, str, int, bool, int)),
    ChangeDecided.CODE: (ChangeDecided, (int, str, str, int)),
    Strained.CODE: (Strained, (int, bool)),
    Fitness.CODE: (Fitness, (int, bool, bool)),
}


def _decode_message(fields: Any) -> AnyMessage:
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise MalformedFrame("a message must be an array that begins with its code")
    code = fields[0]
    if code in MESSAGES:
        try:
            return decode(code, fields[1:])
        except MalformedMessage as error:
            raise MalformedFrame(str(error)) from error
    if code in _NODE_FIELDS:
        kind, types = _NODE_FIELDS[code]
        message: NodeMessage = kind(*take(fields[1:], types, kind.__name__))
        return message
    raise MalformedFrame(f"unknown message code {code}")


def decode_messages(body: bytes | bytearray | memoryview) -> tuple[int, list[AnyMessage]]:
    """Read one frame of messages.

    Returns:
        the sender's stamp in milliseconds, and the messages in order.

    Raises:
        MalformedFrame: anything in it is not as this module's docstring says.
    """
    values = unpack(body)
    if len(values) != 2 or type(values[0]) is not int or type(values[1]) is not list:
        raise MalformedFrame("not a frame of messages")
    if not 0 <= values[0] <= _U64_MAX or len(values[1]) > _MESSAGES_PER_FRAME_MAX:
        raise MalformedFrame("a frame's stamp or number of messages is out of range")
    return values[0], [_decode_message(fields) for fields in values[1]]
