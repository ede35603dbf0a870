"""Longest common subsequence, with a row of the table in one big integer.

The textbook table L[i][j] is the length for the first i bytes of `a` and the first j of `b`.
Neighbours in a row differ by 0 or 1, so a row is a set of bits: bit j − 1 of row i tells whether
L[i][j] is above L[i][j−1]. Hyyrö's recurrence (Bit-parallel LCS-length computation revisited, 2004)
makes a row from the one before with an addition and three logical operations on integers as wide as
`b`, so that a table of 8,192 × 8,192 cells takes eight megabytes and some milliseconds.

Where there are several longest subsequences, the choice is Redis': from the end of both strings, a
common byte is taken; else a step is made in `a` if only that keeps the length, else in `b`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ROW_OVERHEAD_BYTES: Final = 64
"""What a row costs beside its bits: an object, and the time of the fixed part of its making."""


class Match(NamedTuple):
    """A stretch that both strings share: first and last position in each, from 0."""

    a_first: int
    a_last: int
    b_first: int
    b_last: int

    @property
    def length(self) -> int:
        """Bytes of the stretch."""
        return self.a_last - self.a_first + 1


def table_bytes(a: bytes, b: bytes) -> int:
    """Memory of the table, which also measures the time that it takes."""
    return (len(a) + 1) * (len(b) // 8 + ROW_OVERHEAD_BYTES)


def length(a: bytes, b: bytes) -> int:
    """Length of the longest common subsequence."""
    return _rows(a, b, _places(a, b))[-1].bit_count()


def matches(a: bytes, b: bytes) -> list[Match]:
    """The stretches that make up the longest common subsequence, the last one first."""
    places = _places(a, b)
    rows = _rows(a, b, places)
    found: list[Match] = []
    i = a_end = len(a)
    j = b_end = len(b)  # between i and a_end, j and b_end lies the stretch that is being read
    while i:
        byte = a[i - 1]
        # Steps in b lead to the next place where the bytes are equal or the length would suffer.
        stop = ((rows[i] | places[byte]) & ((1 << j) - 1)).bit_length()
        is_match = stop > 0 and b[stop - 1] == byte
        if stop < j or not is_match:
            if i < a_end:
                found.append(Match(i, a_end - 1, j, b_end - 1))
            a_end, b_end = i - (not is_match), stop
        i, j = i - 1, stop - is_match
        if not stop:
            return found
    if i < a_end:
        found.append(Match(i, a_end - 1, j, b_end - 1))
    return found


def _rows(a: bytes, b: bytes, places: dict[int, int]) -> list[int]:
    """Row 0 to row len(a) of the table."""
    full = (1 << len(b)) - 1
    unset = full  # Hyyrö's vector has a 0 where the row has a 1
    rows = [0]
    for byte in a:
        common = unset & places[byte]
        unset = (unset + common | unset - common) & full
        rows.append(unset ^ full)
    return rows


def _places(a: bytes, b: bytes) -> dict[int, int]:
    """For each byte of `a` where it stands in `b`, as bits."""
    backwards = b[::-1]  # digits are written from the highest to the lowest
    places: dict[int, int] = {}
    for byte in dict.fromkeys(a):
        is_it = bytearray(b"0" * 256)
        is_it[byte] = ord("1")
        places[byte] = int(backwards.translate(is_it) or b"0", 2)
    return places
