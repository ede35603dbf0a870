"""Ids of stream entries: milliseconds and a sequence number, written `1700000000000-0`.

Inside an id is sixteen bytes, both numbers big-endian, so that comparing bytes compares ids, and an
id is the end of its entry's row key. What a client writes in the place of an id may also be one of
the marks below, which stand for themselves in an op: what they mean, or that they mean nothing, is
told only after the key was looked at, as Redis does.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final, TypeAlias

StreamId: TypeAlias = bytes
"""Sixteen bytes."""

ID_BYTES: Final = 16
ZERO: Final[StreamId] = bytes(ID_BYTES)
TOP: Final[StreamId] = b"\xff" * ID_BYTES

NEWEST: Final = b"$"
"""Mark: the id of the newest entry that there ever was."""
UNSEEN: Final = b">"
"""Mark: what no consumer of the group was given."""
INVALID: Final = b"?"
"""Mark: the client wrote something that is no id."""

U64_MAX: Final = 2**64 - 1
_TEXT_BYTES_MAX: Final = 127
_NUMBERS = Struct(">QQ")

_is_number = re.compile(rb"[ \t-\r]*\+?[0-9]+").fullmatch
"""Redis reads it with `strtoull`: spaces, a plus and zeros in front are let through."""


def make(ms: int, sequence: int) -> StreamId:
    """The id of two unsigned 64-bit numbers."""
    return _NUMBERS.pack(ms, sequence)


def numbers_of(identity: StreamId) -> tuple[int, int]:
    """Milliseconds and sequence number."""
    ms, sequence = _NUMBERS.unpack(identity)
    return ms, sequence


def text_of(identity: StreamId) -> bytes:
    """How clients see it."""
    return b"%d-%d" % _NUMBERS.unpack(identity)


def after(identity: StreamId) -> StreamId | None:
    """The next id; None behind the last."""
    if identity == TOP:
        return None
    return (int.from_bytes(identity, "big") + 1).to_bytes(ID_BYTES, "big")


def before(identity: StreamId) -> StreamId | None:
    """The id before; None before the first."""
    if identity == ZERO:
        return None
    return (int.from_bytes(identity, "big") - 1).to_bytes(ID_BYTES, "big")


def number(text: bytes) -> int | None:
    """One half of an id; None for anything else."""
    if len(text) > _TEXT_BYTES_MAX or not _is_number(text):
        return None
    value = int(text)
    return value if value <= U64_MAX else None


def parse(text: bytes, sequence: int = 0) -> StreamId | None:
    """`ms-seq`, or `ms` alone, which takes the given sequence number; None for anything else."""
    if len(text) > _TEXT_BYTES_MAX:
        return None
    first, dash, second = text.partition(b"-")
    ms = number(first)
    seq = number(second) if dash else sequence
    return None if ms is None or seq is None else _NUMBERS.pack(ms, seq)
