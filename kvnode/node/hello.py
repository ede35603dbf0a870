"""How a connection between nodes opens: who dials, who accepts, and why not. Pure functions.

The first frame in each direction::

    first    := [HELLO, magic, wire_version, cluster_id, sender, receiver, storage_id, incarnation,
                 version, client_address, recovering, lease_reads,
                 level, configured_at, peer_address]                    dialler -> acceptor
    answer   := [WELCOME, storage_id, incarnation, version, client_address, recovering, level]
              | [REFUSED, reason, text]                                 acceptor -> dialler

The fields from `level` on came with wire version 3; versions 4 and 5 changed nothing here, but have
further messages (`kvnode.node.wire`). A node of an older version is spoken to in that one, which is
how a cluster is updated node by node: who is refused for the version dials again with the one
before (`PeerLink`), and who accepts answers in the version that it was spoken to in.

A node that wants to become a member has no place in that yet. It sends one frame, gets one, and
the connection is closed::

    first    := [JOIN, magic, wire_version, name, replaces, peer_address, client_address,
                 storage_id, promote, level]
    answer   := [JOINED, verdict, text, node_id, cluster_id, origin]
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from kvnode.node.frames import MalformedFrame, encode_frame, take, unpack

MAGIC = "kvnode-peer"
WIRE_VERSION = 5
WIRE_VERSION_MIN = 2

_LEVELS = 3
"""The wire version that brought levels, and requests to join."""

_HELLO_TYPES: tuple[type, ...] = (
    *(str, int, int, int, int, str, str, bool, bool),
    *(int, int, str),
)
_WELCOME_TYPES: tuple[type, ...] = (int, int, str, str, bool, int)
_NEW_IN_3 = {"hello": 3, "welcome": 1}
"""How many of the last fields a speaker of version 2 does not know."""


class FrameCode(IntEnum):
    """First element of the frames that open a connection."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    JOIN = 4
    JOINED = 5


class RefusalReason(IntEnum):
    """Why a hello was refused. Some mean the end of who said it, with exit code 78."""

    WRONG_CLUSTER = 1
    WRONG_RECEIVER = 2
    UNKNOWN_SENDER = 3
    WRONG_WIRE_VERSION = 4
    STORAGE_CHANGED = 5
    OLD_DIRECTORY = 6
    OTHER_LEASES = 7
    REMOVED = 8
    TOO_OLD = 9

    @property
    def is_final(self) -> bool:
        """A restart with the same directory and the same program cannot help."""
        return self in _FINAL


_FINAL = frozenset(
    (
        RefusalReason.STORAGE_CHANGED,
        RefusalReason.OLD_DIRECTORY,
        RefusalReason.REMOVED,
        RefusalReason.TOO_OLD,
    )
)


_NEW_REASONS = frozenset((RefusalReason.REMOVED, RefusalReason.TOO_OLD))
"""What a speaker of version 2 does not know."""


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
    level: int = 2
    """The newest feature level that it knows."""
    configured_at: int = 0
    """Index of the newest membership that it has applied; 0 before the first."""
    peer_address: str = ""
    """Where its peers reach it."""
    wire_version: int = WIRE_VERSION
    """In which all this was, or is to be, said."""


class Welcome(NamedTuple):
    """Who accepted."""

    storage_id: int
    incarnation: int
    version: str
    client_address: str
    recovering: bool
    level: int = 2
    """The newest feature level that it knows."""


class Refusal(NamedTuple):
    """Why the acceptor will not talk."""

    reason: RefusalReason
    text: str


class JoinRequest(NamedTuple):
    """Who wants to become a member; `kvnode.service.ChangeRequest` has the meanings."""

    name: str
    replaces: str
    peer_address: str
    client_address: str
    storage_id: int
    promote: bool
    level: int


class JoinAnswer(NamedTuple):
    """What came of it: a `kvnode.service.Verdict`, a sentence, and who the new member is."""

    verdict: str
    text: str
    node_id: int
    cluster_id: str
    origin: str


def encode_hello(hello: Hello) -> bytes:
    """The dialler's first frame, in the wire version that `hello` names."""
    fields = hello[: len(_HELLO_TYPES)]
    if hello.wire_version < _LEVELS:
        fields = fields[: -_NEW_IN_3["hello"]]
    return _frame(FrameCode.HELLO, MAGIC, hello.wire_version, *fields)


def encode_welcome(welcome: Welcome, wire_version: int = WIRE_VERSION) -> bytes:
    """The acceptor's answer to a good hello, in the wire version of that."""
    fields: tuple[Any, ...] = welcome
    if wire_version < _LEVELS:
        fields = fields[: -_NEW_IN_3["welcome"]]
    return _frame(FrameCode.WELCOME, *fields)


def encode_refusal(refusal: Refusal, wire_version: int = WIRE_VERSION) -> bytes:
    """The acceptor's answer to a hello that it will not serve, in the wire version of that."""
    reason, text = refusal
    if wire_version < _LEVELS and reason in _NEW_REASONS:
        # To a reason that it does not know it would pay no heed; this one ends it, too.
        reason = RefusalReason.OLD_DIRECTORY
    return _frame(FrameCode.REFUSED, reason, text)


def encode_join(request: JoinRequest) -> bytes:
    """The only frame of a node that wants to become a member."""
    return _frame(FrameCode.JOIN, MAGIC, _LEVELS, *request)  # as it was since then


def encode_joined(answer: JoinAnswer) -> bytes:
    """The only answer to it."""
    return _frame(FrameCode.JOINED, *answer)


def _frame(*fields: Any) -> bytes:
    return encode_frame(msgpack.packb(fields))


def decode_first(body: bytes | bytearray | memoryview) -> Hello | JoinRequest | Refusal:
    """Read the dialler's first frame.

    Returns:
        the hello or the request to join, or the refusal that a speaker of another wire version
        should get.

    Raises:
        MalformedFrame: this opens no connection.
    """
    values = unpack(body)
    if len(values) < 3 or values[0] not in (FrameCode.HELLO, FrameCode.JOIN) or values[1] != MAGIC:
        raise MalformedFrame("not a hello")
    code, _, version, *fields = values
    if type(version) is not int or not WIRE_VERSION_MIN <= version <= WIRE_VERSION:
        text = f"this node speaks peer protocol {WIRE_VERSION}, not {version!r}"
        return Refusal(RefusalReason.WRONG_WIRE_VERSION, text)
    if code == FrameCode.JOIN:
        return JoinRequest(*take(fields, (str, str, str, str, int, bool, int), "join"))
    types = _HELLO_TYPES if version >= _LEVELS else _HELLO_TYPES[: -_NEW_IN_3["hello"]]
    return Hello(*take(fields, types, "hello"))._replace(wire_version=version)


def decode_answer(body: bytes | bytearray | memoryview) -> Welcome | Refusal:
    """Read the acceptor's answer to our hello.

    Raises:
        MalformedFrame: it is neither a welcome nor a refusal.
    """
    values = unpack(body)
    if values[0] == FrameCode.WELCOME:
        before = len(values) - 1 == len(_WELCOME_TYPES) - _NEW_IN_3["welcome"]
        types = _WELCOME_TYPES[: -_NEW_IN_3["welcome"]] if before else _WELCOME_TYPES
        return Welcome(*take(values[1:], types, "welcome"))
    if values[0] == FrameCode.REFUSED:
        reason, text = take(values[1:], (int, str), "refusal")
        try:
            return Refusal(RefusalReason(reason), text)
        except ValueError as error:
            raise MalformedFrame(f"unknown refusal {reason}") from error
    raise MalformedFrame("neither welcome nor refusal")


def decode_joined(body: bytes | bytearray | memoryview) -> JoinAnswer | Refusal:
    """Read the answer to our request to join.

    Raises:
        MalformedFrame: it is no such answer.
    """
    values = unpack(body)
    if values[0] == FrameCode.JOINED:
        return JoinAnswer(*take(values[1:], (str, str, int, str, str), "joined"))
    answer = decode_answer(body)
    if isinstance(answer, Refusal):
        return answer
    raise MalformedFrame("a welcome instead of an answer to a request to join")
