"""Frames of the peer protocol: a length, then one msgpack array. Pure functions, no sockets.

Whatever a peer sends is checked before it is believed: `MalformedFrame` is the only error that
leaves this module and those built on it, and its consequence is always the same: the connection is
dropped and counted.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from kvnode.limits import PEER_FRAME_BYTES_MAX

_LENGTH = struct.Struct(">I")
_U64_MAX = 2**64 - 1
_TEXT_BYTES_MAX = 1024


class MalformedFrame(Exception):
    """A peer sent bytes that are not this protocol."""


def encode_frame(body: bytes) -> bytes:
    """Put the length before a packed body."""
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes | bytearray | memoryview) -> list[Any]:
    """Read the array in a frame. Raises `MalformedFrame`."""
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


def take(values: list[Any], kinds: tuple[type, ...], what: str) -> list[Any]:
    """Check the count and the types of `values`; ints must be u64 and bools are no ints.

    A list holds such ints.

    Raises:
        MalformedFrame: they are not as they must be.
    """
    if len(values) != len(kinds):
        raise MalformedFrame(f"{what}: {len(values)} fields instead of {len(kinds)}")
    for value, kind in zip(values, kinds, strict=True):
        if type(value) is not kind or (type(value) is int and not 0 <= value <= _U64_MAX):
            raise MalformedFrame(f"{what}: a field is not a proper {kind.__name__}")
        if isinstance(value, list):
            take(value, (int,) * len(value), what)
    return values


class FrameBuffer:
    """Cuts a byte stream into frame bodies; holds at most one incomplete frame."""

    __slots__ = ("_buffer", "_needed", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = PEER_FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._needed = 0
        self.frame_bytes_max = frame_bytes_max

    @property
    def held_bytes(self) -> int:
        """Of the frame that is not complete."""
        return len(self._buffer)

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
