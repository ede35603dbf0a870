"""A slow parser of whole request streams, written straight from the protocol's description.

It sees all bytes at once, so it has no state to get wrong: what the fast parser returns for the
same bytes, however they are cut, must be the same.
"""

from __future__ import annotations

from kvnode.resp.parser import ProtocolViolation, split_inline


def parse(stream: bytes) -> tuple[list[list[bytes]], str | None, int]:
    """Return the requests, the violation that ended the stream if any, and the bytes left over."""
    requests: list[list[bytes]] = []
    at = 0
    try:
        while at < len(stream):
            request, end = _parse_one(stream, at)
            if end is None:
                break
            at = end
            if request:
                requests.append(request)
    except ProtocolViolation as violation:
        return requests, str(violation), 0
    return requests, None, len(stream) - at


def _parse_one(stream: bytes, at: int) -> tuple[list[bytes], int | None]:
    """One request from `at` and its end; the end is None if the stream ends before it."""
    if stream[at : at + 1] != b"*":
        end = stream.find(b"\n", at)
        if end < 0:
            return [], None
        return split_inline(stream[at:end].removesuffix(b"\r")), end + 1
    count, end = _number(stream, at, "multibulk")
    if end is None:
        return [], None
    arguments: list[bytes] = []
    while len(arguments) < count:
        if end == len(stream):
            return [], None
        if stream[end : end + 1] != b"$":
            got = stream[end : end + 1].decode("latin-1")
            raise ProtocolViolation(f"Protocol error: expected '$', got '{got}'")
        size, start = _number(stream, end, "bulk")
        if start is None:
            return [], None
        if size < 0:
            raise ProtocolViolation("Protocol error: invalid bulk length")
        end = start + size + 2
        if end > len(stream):
            return [], None
        arguments.append(stream[start : end - 2])
    return arguments, end


def _number(stream: bytes, at: int, what: str) -> tuple[int, int | None]:
    end = stream.find(b"\r\n", at)
    if end < 0:
        return 0, None
    text = stream[at + 1 : end].decode("latin-1")
    # Only the shortest decimal form counts.
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or str(number) != text:
        raise ProtocolViolation(f"Protocol error: invalid {what} length")
    return number, end + 2
