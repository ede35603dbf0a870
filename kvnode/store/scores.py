"""Scores of sorted sets as bytes: as they travel and rest, and in an order that bytes have too.

A score is an IEEE 754 double. An op carries its eight bytes, since the log knows no floats. In row
keys the sign bit is turned, and for negative numbers all others too: then the bytes of two scores
compare as the scores do. Minus zero equals zero there, as it does in Redis.
"""

from __future__ import annotations

import re
from math import isinf, isnan
from struct import Struct
from typing import Final

SCORE_BYTES: Final = 8

_DOUBLE = Struct(">d")
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1

_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(
    rb"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
)
_INFINITE = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_NON_ZERO_DIGIT = re.compile(rb"[1-9a-fA-F]")
_SPACES: Final = b" \t\n\v\f\r"
_TEXT_INTEGER_MAX: Final = (2**63 - 1) // 2


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


# --- text -----------------------------------------------------------------------------------------


def parse_score(text: bytes) -> float | None:
    """The number that a text is in C (`strtod`), as Redis takes scores and coordinates.

    None for no number, spaces, NaN, and for what is too large or too small for a double.
    """
    number = _parse(text)
    if number is None:
        return None
    if isinf(number):
        return number if _INFINITE.fullmatch(text) else None
    if number == 0.0 and _is_not_zero(text):
        return None
    return number


def parse_bound(text: bytes) -> float | None:
    """As `parse_score`, for the bounds of ranges, where Redis is laxer.

    It does not look behind a NUL, takes spaces in front, nothing at all for 0, and too large a
    number for infinity.
    """
    text = text.split(b"\x00", 1)[0]
    return _parse(text.lstrip(_SPACES)) if text else 0.0


def _parse(text: bytes) -> float | None:
    if _DECIMAL.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    if not _HEXADECIMAL.fullmatch(text):
        return None
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return float("-inf" if text[:1] == b"-" else "inf")


def _is_not_zero(text: bytes) -> bool:
    """Whether the digits of a number, its exponent left out, are not all zeros."""
    if _HEXADECIMAL.fullmatch(text):
        digits = re.split(rb"[pP]", text)[0]
    else:
        digits = re.split(rb"[eE]", text)[0]
    return _NON_ZERO_DIGIT.search(digits) is not None


def score_text(score: float) -> bytes:
    """A score as ZSCAN shows it, in either protocol: integers without an exponent."""
    if abs(score) <= _TEXT_INTEGER_MAX and score == int(score):
        return b"%d" % int(score)
    return b"%.17g" % score
