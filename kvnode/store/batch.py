"""The data of a log entry: a stamp, and what to do at that stamp.

Time and randomness enter the state machine here and nowhere else: the leader stamps each entry with
milliseconds and a seed, and every replica runs the same ops against the same two numbers. The ops
travel packed (`ops_blob`): the node where the commands arrived packs them once, and the leader
wraps them without looking inside. DESIGN.md, §3 has the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgpack

from kvnode.limits import (
    ARGUMENTS_MAX,
    COMMAND_BYTES_MAX,
    PEER_FRAME_BYTES_MAX,
    TRANSACTION_COMMANDS_MAX,
)
from kvnode.store import changes
from kvnode.store.draws import Draws
from kvnode.store.ops import Op, UnknownOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvnode.store.changes import Change


class Kind(IntEnum):
    """What an entry is. Permanent numbers, as op codes are."""

    NOOP = 0
    BATCH = 1
    REGISTER = 2
    EXPIRE = 3
    CONFIGURE = 4
    GROUP = 5


class MalformedEntry(ValueError):
    """Bytes that are not an entry. A log never holds them, unless it was damaged or misread."""


@dataclass(slots=True)
class Noop:
    """A leader's empty entry: it carries no stamp and changes nothing."""


@dataclass(slots=True)
class Batch:
    """Ops of one node, exactly once by (node_id, incarnation, sequence)."""

    stamp_ms: int
    seed: int
    node_id: int
    incarnation: int
    sequence: int
    ops_blob: bytes


@dataclass(slots=True)
class Register:
    """A node opens a proposer session; its incarnation will be the index of this entry."""

    stamp_ms: int
    seed: int
    node_id: int
    storage_id: int
    nonce: int


@dataclass(slots=True)
class Expire:
    """Delete up to `limit` keys whose deadline has passed at `stamp_ms`."""

    stamp_ms: int
    seed: int
    limit: int


@dataclass(slots=True)
class Configure:
    """Change the membership. Raft carries such an entry as a configuration change of its own."""

    stamp_ms: int
    seed: int
    change: Change


class Part(NamedTuple):
    """A batch as a group carries it: without a stamp and a seed of its own."""

    node_id: int
    incarnation: int
    sequence: int
    ops_blob: bytes


@dataclass(slots=True)
class Group:
    """Batches of several nodes, applied in this order, each judged by its own session.

    `parts` have the stamp of the group, and each has a seed that was drawn from the group's.
    """

    stamp_ms: int
    seed: int
    parts: list[Batch]


Entry: TypeAlias = Noop | Batch | Register | Expire | Configure | Group

NOOP: Final = Noop()

_KINDS: Final = frozenset(Kind) - {Kind.NOOP}
"""What an entry that is not empty can be."""

_ARRAY_MAX: Final = max(ARGUMENTS_MAX, TRANSACTION_COMMANDS_MAX) + 8
_STAMP_BYTES: Final = 1 + 1 + 9
"""Array header, kind and the longest msgpack integer: where the stamp ends."""

_pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True).pack
"""One packer for all: a new one per entry would allocate its buffer each time."""


def encode_ops(ops: list[Op]) -> bytes:
    """Pack the ops of one batch."""
    return _pack(ops)


def fits(op: Op) -> bool:
    """Whether an entry may hold the op: no array in it has more parts than decoding allows."""
    return len(op) <= _ARRAY_MAX and all(fits(part) for part in op if type(part) is list)


def decode_ops(blob: bytes) -> list[Op]:
    """Unpack the ops of one batch. Raises `MalformedEntry`."""
    ops = _unpack(blob, COMMAND_BYTES_MAX)
    if type(ops) is not list:
        raise MalformedEntry("ops are not an array")
    return ops


def encode_batch(
    stamp_ms: int, seed: int, node_id: int, incarnation: int, sequence: int, ops_blob: bytes
) -> bytes:
    """Entry data of a batch; `ops_blob` comes from `encode_ops`."""
    return _pack((1, stamp_ms, seed, node_id, incarnation, sequence, ops_blob))


def encode_register(stamp_ms: int, seed: int, node_id: int, storage_id: int, nonce: int) -> bytes:
    """Entry data that registers a proposer session; the nonce tells a resend from a new session."""
    return _pack((2, stamp_ms, seed, node_id, storage_id, nonce))


def encode_expire(stamp_ms: int, seed: int, limit: int) -> bytes:
    """Entry data that deletes up to `limit` expired keys."""
    return _pack((3, stamp_ms, seed, limit))


def encode_configure(stamp_ms: int, seed: int, change: Change) -> bytes:
    """Entry data that changes the membership. Raises `ValueError`: no log may hold this change."""
    return _pack((4, stamp_ms, seed, *changes.to_row(change)))


def encode_group(stamp_ms: int, seed: int, parts: Sequence[Part]) -> bytes:
    """Entry data of several batches, in the order in which they are to be applied."""
    return _pack((5, stamp_ms, seed, *parts))


def decode(data: bytes) -> Entry:
    """Read entry data.

    Raises:
        MalformedEntry: the bytes are no entry.
        UnknownOperation: an entry of a kind, or a change, that this program does not know.
    """
    if not data:
        return NOOP
    fields = _unpack(data, PEER_FRAME_BYTES_MAX)
    if type(fields) is not list or not fields:
        raise MalformedEntry("entry data is not an array")
    kind, arguments = fields[0], fields[1:]
    if kind == Kind.BATCH and _are_integers(arguments[:-1], 5) and type(arguments[-1]) is bytes:
        return Batch(*arguments)
    if kind == Kind.REGISTER and _are_integers(arguments, 5):
        return Register(*arguments)
    if kind == Kind.EXPIRE and _are_integers(arguments, 3):
        return Expire(*arguments)
    if kind == Kind.CONFIGURE and _are_integers(arguments[:2], 2):
        return _configure(*arguments)
    if kind == Kind.GROUP and len(arguments) > 2 and _are_integers(arguments[:2], 2):
        return _group(*arguments)
    if type(kind) is int and kind not in _KINDS:
        raise UnknownOperation(f"the log holds an entry of unknown kind {kind}")
    raise MalformedEntry(f"entry of kind {kind!r} with wrong fields")


def _configure(stamp_ms: int, seed: int, *row: Any) -> Configure:
    try:
        return Configure(stamp_ms, seed, changes.from_row(list(row)))
    except ValueError as error:
        raise MalformedEntry(f"an entry changes the membership wrongly: {error}") from error


def _group(stamp_ms: int, seed: int, *rows: Any) -> Group:
    draws = Draws(seed)
    parts = []
    for row in rows:
        if not _is_part(row):
            raise MalformedEntry("a part of a group is no batch")
        parts.append(Batch(stamp_ms, draws.u64(), *row))
    return Group(stamp_ms, seed, parts)


def _is_part(row: Any) -> bool:
    return (
        type(row) is list
        and len(row) == 4
        and _are_integers(row[:-1], 3)
        and type(row[-1]) is bytes
    )


def stamp_of(data: bytes) -> int:
    """The stamp of entry data in milliseconds, 0 for an empty entry, without reading its ops."""
    if not data:
        return 0
    head = msgpack.Unpacker(max_buffer_size=_STAMP_BYTES)
    head.feed(data[:_STAMP_BYTES])
    try:
        head.read_array_header()
        head.skip()
        stamp = head.unpack()
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedEntry("entry data without a stamp") from error
    if type(stamp) is not int:
        raise MalformedEntry("the stamp is not an integer")
    return stamp


def _are_integers(values: list[Any], count: int) -> bool:
    return len(values) == count and all(type(value) is int and value >= 0 for value in values)


def _unpack(data: bytes, bin_bytes_max: int) -> Any:
    try:
        return msgpack.unpackb(
            data,
            max_bin_len=bin_bytes_max,
            max_array_len=_ARRAY_MAX,
            max_str_len=0,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedEntry(f"entry data does not unpack: {error}") from error
