"""Results become the bytes of RESP2 or RESP3 (Redis protocol specification, "RESP versions").

The two versions differ in what a type looks like, so each renderer exists as a pair: index it by
`protocol - 2`. A renderer is chosen when a command is read and not when it is answered, because a
HELLO between the two must not change the replies that were asked for before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from kvnode.errors import CommandError
from kvnode.store.reply import OK, Result, Status

Render: TypeAlias = Callable[[Result], bytes]
Renders: TypeAlias = tuple[Render, Render]
"""How to write a result in RESP2 and in RESP3."""

RESP2: Final = 2
RESP3: Final = 3

OK_BYTES: Final = b"+OK\r\n"
QUEUED: Final = b"+QUEUED\r\n"
NULLS: Final = (b"$-1\r\n", b"_\r\n")
NULL_ARRAYS: Final = (b"*-1\r\n", b"_\r\n")


def status(text: str) -> bytes:
    """A simple string."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error line; what would break the line becomes a space, as in Redis."""
    line = text.encode("utf-8", "surrogateescape")
    return b"-%b\r\n" % line.replace(b"\r", b" ").replace(b"\n", b" ")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: Iterable[bytes]) -> bytes:
    """An array of items that are encoded already."""
    parts = [b"", *items]
    parts[0] = b"*%d\r\n" % (len(parts) - 1)
    return b"".join(parts)


def mapping(pairs: Iterable[tuple[bytes, bytes]], protocol: int) -> bytes:
    """A map of encoded keys and values; in RESP2 an array of twice the length."""
    parts = [b""]
    for pair in pairs:
        parts.extend(pair)
    size = len(parts) - 1
    parts[0] = b"*%d\r\n" % size if protocol == RESP2 else b"%%%d\r\n" % (size // 2)
    return b"".join(parts)


def collection(items: Iterable[bytes], protocol: int) -> bytes:
    """A set of encoded items; in RESP2 an array."""
    encoded = array(items)
    return encoded if protocol == RESP2 else b"~" + encoded[1:]


def verbatim(text: bytes, protocol: int) -> bytes:
    """Text for people (INFO, CLIENT LIST); in RESP2 a bulk string."""
    if protocol == RESP2:
        return bulk(text)
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)


def double_text(value: float) -> bytes:
    """A double as Redis 7.0 writes it: 17 digits at most, `inf`, `-inf`, `nan`."""
    return b"%.17g" % value


def double(value: float, protocol: int) -> bytes:
    """A double; in RESP2 a bulk string."""
    text = double_text(value)
    return bulk(text) if protocol == RESP2 else b",%b\r\n" % text


def _encode(result: Result, protocol: int) -> bytes:
    if isinstance(result, bytes):
        return b"$%d\r\n%b\r\n" % (len(result), result)
    if result is None:
        return NULLS[protocol - RESP2]
    if isinstance(result, int):
        return b":%d\r\n" % result
    if isinstance(result, list):
        return array([_encode(item, protocol) for item in result])
    if isinstance(result, float):
        return double(result, protocol)
    if isinstance(result, CommandError):
        return error(result.text)
    assert isinstance(result, Status), result
    return status(result)


def encode2(result: Result) -> bytes:
    """Any result, in RESP2."""
    if result is OK:
        return OK_BYTES
    if isinstance(result, bytes):
        return b"$%d\r\n%b\r\n" % (len(result), result)
    return _encode(result, RESP2)


def encode3(result: Result) -> bytes:
    """Any result, in RESP3."""
    if result is OK:
        return OK_BYTES
    if isinstance(result, bytes):
        return b"$%d\r\n%b\r\n" % (len(result), result)
    return _encode(result, RESP3)


ANY: Final[Renders] = (encode2, encode3)


def as_map(result: Result) -> bytes:
    """A flat list of keys and values as a RESP3 map; anything else as it is."""
    if not isinstance(result, list):
        return encode3(result)
    items = [encode3(item) for item in result]
    return b"%%%d\r\n%b" % (len(items) // 2, b"".join(items))


def as_set(result: Result) -> bytes:
    """A list as a RESP3 set; anything else as it is."""
    if not isinstance(result, list):
        return encode3(result)
    return b"~" + encode3(result)[1:]


def with_null_array(result: Result) -> bytes:
    """As RESP2 writes the lack of a list: not as the lack of a string."""
    return NULL_ARRAYS[0] if result is None else encode2(result)


MAP: Final[Renders] = (encode2, as_map)
SET: Final[Renders] = (encode2, as_set)
LIST_OR_NULL: Final[Renders] = (with_null_array, encode3)
