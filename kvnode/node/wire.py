"""The peer protocol: frames, hellos and messages as bytes. Pure functions, no sockets.

A connection carries messages one way, from the node that dialled to the node that accepted::

    frame    := length:u32-be body            length counts the body
    body     := msgpack array
    first    := [HELLO, magic, wire_version, cluster_id, sender, receiver,
                 storage_id, incarnation, version, client_address, recovering, lease_reads]
                                                                       dialler -> acceptor
    answer   := [WELCOME, storage_id, incarnation, version, client_address, recovering]
              | [REFUSED, reason, text]                                 acceptor -> dialler
    further  := [stamp_ms, [message, ...]]                              dialler -> acceptor
    message  := [code, field, ...]

`stamp_ms` is the cluster's clock as the leader tells it, 0 from any other node. Codes below
100 are Raft's (`raft.messages`), those from 100 on are the node's own. All ints are u64.

Whatever a peer sends is checked here: `MalformedFrame` is the only error that leaves this module,
and its consequence is always the same: the connection is dropped and counted.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import msgpack

from kvnode.limits import PEER_FRAME_BYTES_MAX
from raft.messages import MESSAGES, MalformedMessage, Message, decode

MAGIC = "kvnode-peer"
WIRE_VERSION = 2

_LENGTH = struct.Struct(">I")
_U64_MAX = 2**64 - 1
_pack = msgpack.Packer().pack
"""One packer for all frames: a new one per frame would allocate its buffer each time."""
_MESSAGES_PER_FRAME_MAX = 4096
_TEXT_BYTES_MAX = 1024


class MalformedFrame(Exception):
    """A peer sent bytes that are not this protocol."""


class FrameCode(IntEnum):
    """First element of the frames that open a connection."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3


class RefusalReason(IntEnum):
    """Why a hello was refused. Those about its storage end it with exit code 78."""

    WRONG_CLUSTER = 1
    WRONG_RECEIVER = 2
    UNKNOWN_SENDER = 3
    WRONG_WIRE_VERSION = 4
    STORAGE_CHANGED = 5
    OLD_DIRECTORY = 6
    OTHER_LEASES = 7

    @property
    def is_final(self) -> bool:
        """A restart with the same directory cannot help."""
        return self in (RefusalReason.STORAGE_CHANGED, RefusalReason.OLD_DIRECTORY)


class Hello(NamedTuple):
    """Who dials: checked before a single message is believed."""

    cluster_id: str
    sender: int
    receiver: int
    storage_id: int
    incarnation: int
    version: str
    client_address: str
    recovering: bool
    """Acknowledged entries may be gone from its disk: it counts in no quorum until it is healed."""
    lease_reads: bool = False
    """It gives no vote while a lease may hold, and relies on the others to do the same."""


class Welcome(NamedTuple):
    """Who accepted."""

    storage_id: int
    incarnation: int
    version: str
    client_address: str
    recovering: bool


class Refusal(NamedTuple):
    """Why the acceptor will not talk."""

    reason: RefusalReason
    text: str


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
)
AnyMessage = Message | NodeMessage


def encode_frame(body: bytes) -> bytes:
    """Put the length before a packed body."""
    return _LENGTH.pack(len(body)) + body


def encode_hello(hello: Hello) -> bytes:
    """The dialler's first frame."""
    return encode_frame(msgpack.packb([FrameCode.HELLO, MAGIC, WIRE_VERSION, *hello]))


def encode_welcome(welcome: Welcome) -> bytes:
    """The acceptor's answer to a good hello."""
    return encode_frame(msgpack.packb([FrameCode.WELCOME, *welcome]))


def encode_refusal(refusal: Refusal) -> bytes:
    """The acceptor's answer to a hello that it will not serve."""
    return encode_frame(msgpack.packb([FrameCode.REFUSED, *refusal]))


def encode_messages(stamp_ms: int, messages: list[AnyMessage]) -> bytes:
    """All messages of one loop pass for one peer as one frame."""
    return encode_frame(_pack([stamp_ms, [(m.CODE, *m) for m in messages]]))


def _unpack(body: bytes | bytearray | memoryview) -> list[Any]:
    try:
        value = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_map_len=0,
            max_ext_len=0,
            max_bin_len=PEER_FRAME_BYTES_MAX,
            max_str_len=_TEXT_BYTES_MAX,
            max_array_len=64 * 1024,
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise MalformedFrame(f"not msgpack: {error}") from error
    if not isinstance(value, list) or not value:
        raise MalformedFrame("a frame must be a non-empty array")
    return value


def _take(values: list[Any], kinds: tuple[type, ...], what: str) -> list[Any]:
    """Check the count and the types of `values`; ints must be u64 and bools are no ints.

    A list holds such ints.
    """
    if len(values) != len(kinds):
        raise MalformedFrame(f"{what}: {len(values)} fields instead of {len(kinds)}")
    for value, kind in zip(values, kinds, strict=True):
        if type(value) is not kind or (type(value) is int and not 0 <= value <= _U64_MAX):
            raise MalformedFrame(f"{what}: a field is not a proper {kind.__name__}")
        if isinstance(value, list):
            _take(value, (int,) * len(value), what)
    return values


def decode_hello(body: bytes | bytearray | memoryview) -> Hello | Refusal:
    """Read the dialler's first frame.

    Returns:
        the hello, or the refusal that a speaker of another wire version should get.

    Raises:
        MalformedFrame: this is no hello at all.
    """
    values = _unpack(body)
    if values[:2] != [FrameCode.HELLO, MAGIC] or len(values) < 3:
        raise MalformedFrame("not a hello")
    if values[2] != WIRE_VERSION:
        text = f"this node speaks peer protocol {WIRE_VERSION}, not {values[2]!r}"
        return Refusal(RefusalReason.WRONG_WIRE_VERSION, text)
    return Hello(*_take(values[3:], (str, int, int, int, int, str, str, bool, bool), "hello"))


def decode_answer(body: bytes | bytearray | memoryview) -> Welcome | Refusal:
    """Read the acceptor's answer to our hello.

    Raises:
        MalformedFrame: it is neither a welcome nor a refusal.
    """
    values = _unpack(body)
    if values[0] == FrameCode.WELCOME:
        return Welcome(*_take(values[1:], (int, int, str, str, bool), "welcome"))
    if values[0] == FrameCode.REFUSED:
        reason, text = _take(values[1:], (int, str), "refusal")
        try:
            return Refusal(RefusalReason(reason), text)
        except ValueError as error:
            raise MalformedFrame(f"unknown refusal {reason}") from error
    raise MalformedFrame("neither welcome nor refusal")


_NODE_FIELDS: dict[int, tuple[type[Any], tuple[type, ...]]] = {
    Forward.CODE: (Forward, (int, int, bytes)),
    ForwardRejected.CODE: (ForwardRejected, (int,)),
    Register.CODE: (Register, (int, int)),
    SnapshotOffer.CODE: (SnapshotOffer, (int, int, int, int)),
    SnapshotChunk.CODE: (SnapshotChunk, (int, int, int, bytes)),
    SnapshotAck.CODE: (SnapshotAck, (int, int, int)),
    CoverageQuery.CODE: (CoverageQuery, ()),
    CoverageAnswer.CODE: (CoverageAnswer, (int, list, list)),
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
        message: NodeMessage = kind(*_take(fields[1:], types, kind.__name__))
        return message
    raise MalformedFrame(f"unknown message code {code}")


def decode_messages(body: bytes | bytearray | memoryview) -> tuple[int, list[AnyMessage]]:
    """Read one frame of messages.

    Returns:
        the sender's stamp in milliseconds, and the messages in order.

    Raises:
        MalformedFrame: anything in it is not as this module's docstring says.
    """
    values = _unpack(body)
    if len(values) != 2 or type(values[0]) is not int or type(values[1]) is not list:
        raise MalformedFrame("not a frame of messages")
    if not 0 <= values[0] <= _U64_MAX or len(values[1]) > _MESSAGES_PER_FRAME_MAX:
        raise MalformedFrame("a frame's stamp or number of messages is out of range")
    return values[0], [_decode_message(fields) for fields in values[1]]


class FrameBuffer:
    """Cuts a byte stream into frame bodies; holds at most one incomplete frame."""

    __slots__ = ("_buffer", "_needed", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = PEER_FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._needed = 0
        self.frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> list[memoryview]:
        """Take bytes from the socket and return the bodies that they complete.

        Raises:
            MalformedFrame: a frame is announced that is larger than any real one.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
        # The common case: nothing was left over, and the chunk is cut without being copied.
        stream = memoryview(data)
        bodies: list[memoryview] = []
        start, available, needed = 0, len(stream), _LENGTH.size
        while available - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(stream, start)
            if length > self.frame_bytes_max:
                raise MalformedFrame(f"a frame of {length} bytes is announced")
            needed = _LENGTH.size + length
            if start + needed > available:
                break
            bodies.append(stream[start + _LENGTH.size : start + needed])
            start += needed
            needed = _LENGTH.size
        self._buffer = bytearray(stream[start:])
        self._needed = needed
        return bodies
