"""Redis' glob patterns, compiled once to a matcher that cannot run away.

`*` any bytes, `?` one byte, `[a-c]` and `[^a-c]` one byte of a class, `\\` quotes the next byte. A
star is followed by a piece of fixed length, and if any match exists then one exists with that piece
at its first place. So each star becomes an atomic group that is never tried again, and the work is
at most pattern length times key length.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ALL_BYTES = frozenset(range(256))
_SPECIAL = re.compile(rb"[*?\[\\]")
_STAR = None


@lru_cache(maxsize=64)  # the pages of one SCAN bring the same pattern again and again
def compile_pattern(pattern: bytes) -> Callable[[bytes], object]:
    """A function that returns something true for each key that the pattern matches."""
    if not pattern.strip(b"*"):
        return _anything if pattern else _nothing_but_empty
    body = pattern[:-1] if pattern.endswith(b"*") else pattern
    if not _SPECIAL.search(body):
        return _beginning_with(body) if body is not pattern else body.__eq__
    return re.compile(_translate(pattern), re.DOTALL).fullmatch


def _anything(_key: bytes) -> bool:
    return True


def _nothing_but_empty(key: bytes) -> bool:
    return not key


def _beginning_with(prefix: bytes) -> Callable[[bytes], bool]:
    def begins(key: bytes) -> bool:
        return key.startswith(prefix)

    return begins


def _translate(pattern: bytes) -> bytes:
    """A regular expression for the whole key."""
    pieces: list[list[bytes]] = [[]]
    position = 0
    while position < len(pattern):
        item, position = _next_item(pattern, position)
        if item is not _STAR:
            pieces[-1].append(item)
        elif pieces[-1] or len(pieces) == 1:  # a run of stars is one star
            pieces.append([])
    first, *others = (b"".join(piece) for piece in pieces)
    if not others:
        return first
    *middle, last = others
    # The last piece must reach the end; it has a fixed length, so there is one place to try.
    return first + b"".join(b"(?>.*?" + piece + b")" for piece in middle) + b".*" + last


def _next_item(pattern: bytes, position: int) -> tuple[bytes | None, int]:
    """The expression for what stands at `position` (`_STAR` for a star), and where the next is."""
    byte = pattern[position : position + 1]
    if byte == b"*":
        return _STAR, position + 1
    if byte == b"?":
        return b".", position + 1
    if byte == b"[":
        return _class(pattern, position + 1)
    if byte == b"\\" and position + 1 < len(pattern):
        position += 1
        byte = pattern[position : position + 1]
    return re.escape(byte), position + 1


def _class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """A class from behind its bracket. One that is never closed ends with the pattern."""
    negated = pattern[position : position + 1] == b"^"
    position += negated
    members: set[int] = set()
    while position < len(pattern) and pattern[position] != ord("]"):
        if pattern[position] == ord("\\") and position + 1 < len(pattern):
            members.add(pattern[position + 1])
            position += 2
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            low, high = sorted((pattern[position], pattern[position + 2]))
            members.update(range(low, high + 1))
            position += 3
        else:
            members.add(pattern[position])
            position += 1
    return _one_of(_ALL_BYTES - members if negated else members), position + 1


def _one_of(members: set[int] | frozenset[int]) -> bytes:
    if not members:
        return b"(?!)"  # matches nothing, as an empty class does
    if len(members) == len(_ALL_BYTES):
        return b"."
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]"
