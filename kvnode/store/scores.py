"""Scores of sorted sets as bytes: as they travel and rest, and in an order that bytes have too.

A score is an IEEE 754 double. An op carries its eight bytes, since the log knows no floats. In row
keys the sign bit is turned, and for negative numbers all others too: then the bytes of two scores
compare as the scores do. Minus zero equals zero there, as it does in Redis.
"""

from __future__ import annotations

from math import isnan
from struct import Struct
from typing import Final

SCORE_BYTES: Final = 8

_DOUBLE = Struct(">d")
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1


def pack_score(score: float) -> bytes:
    """Eight bytes that `unpack_score` reads; minus zero and infinities stay what they are."""
    return _DOUBLE.pack(score)


def unpack_score(packed: bytes) -> float:
    """The score of eight bytes."""
    score: float = _DOUBLE.unpack(packed)[0]
    return score


def sortable(score: float) -> bytes:
    """Eight bytes in the order of scores. NaN has no place among them: raises `ValueError`."""
    if isnan(score):
        raise ValueError("NaN is no score")
    bits = int.from_bytes(_DOUBLE.pack(score + 0.0), "big")
    return (bits ^ (_ALL if bits & _SIGN else _SIGN)).to_bytes(SCORE_BYTES, "big")


def from_sortable(ordered: bytes) -> float:
    """The score of `sortable`'s bytes."""
    bits = int.from_bytes(ordered, "big")
    return unpack_score((bits ^ (_SIGN if bits & _SIGN else _ALL)).to_bytes(SCORE_BYTES, "big"))
