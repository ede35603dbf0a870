"""HyperLogLog: how many different elements were seen, from 16,384 small registers.

An element is hashed to 64 bits. Fourteen of them choose a register, which keeps the longest run of
zeros, plus one, that was ever seen in the other fifty: a run of n zeros is met once in 2ⁿ elements,
so many registers together tell how many there were, with a standard error of 0.81 %. (Flajolet et
al., "HyperLogLog", 2007; the estimate is that of Ertl, arXiv:1702.01284, as in Redis 7.0.)

The value is a string, and its bytes are those of Redis:

    "HYLL" encoding:u8 0 0 0 cardinality:u64 (little-endian; its highest bit: not known) registers

*Dense* registers take six bits each, the first of them the lowest bits of the first byte. *Sparse*
ones are runs: `00nnnnnn` n + 1 zeros, `01nnnnnn nnnnnnnn` n + 1 zeros, `1vvvvvnn` n + 1 times the
value v + 1. A new value is sparse; it becomes dense when a register exceeds 32, or when a run would
make it longer than `SPARSE_BYTES_MAX`. Runs of equal values are joined only around a change, within
five runs, as Redis does it: two servers that were told the same keep the same bytes.
"""

from __future__ import annotations

import math
import re
from binascii import a2b_base64, b2a_base64
from bisect import bisect_right
from itertools import accumulate
from struct import Struct, unpack_from
from typing import Final

REGISTERS: Final = 1 << 14
RUN_MAX: Final = 51
"""The largest value of a register: fifty zeros and the one that is put behind them."""

HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + REGISTERS * 6 // 8
SPARSE_BYTES_MAX: Final = 3000
"""Redis' default for hll-sparse-max-bytes; the header counts."""

DENSE, SPARSE = 0, 1
_MAGIC: Final = b"HYLL"
_ENCODING: Final = 4
_CARDINALITY: Final = slice(8, 16)
_UNKNOWN: Final = 1 << 63
"""The bit of the cardinality that says it must be computed."""

EMPTY: Final = _MAGIC + bytes([SPARSE, 0, 0, 0]) + bytes(8) + b"\x7f\xff"
"""A new value: one run of zeros."""

_SPARSE_VALUE_MAX: Final = 32
_SHORT_ZEROS_MAX: Final = 64
_VALUES_MAX: Final = 4
_SCANNED_RUNS: Final = 5

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FROM_BASE64: Final = bytes(max(_ALPHABET.find(byte), 0) for byte in range(256))
_TO_BASE64: Final = (_ALPHABET * 4)[:256]

_SEED: Final = 0xADC83B19
_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_MASK: Final = 2**64 - 1
_ALPHA: Final = 0.721347520444481703680  # 0.5 / ln 2

_SPANS: Final = bytes((byte & 3 if byte & 0x80 else byte & 0x3F) + 1 for byte in range(256))
_equal_registers = re.compile(rb"(?s:(.)\1*)").finditer
_GUARDS: Final = int.from_bytes(b"\x80" * REGISTERS, "little")
_RUN_GROWTH_MAX: Final = 4
"""A change makes the runs at most this much longer, before neighbours are joined."""

_RUNS: Final = tuple(
    bytes([(byte >> 2 & 31) + 1 if byte & 0x80 else 0]) * _SPANS[byte] for byte in range(256)
)
"""The registers of each run of one byte."""

_find_long = re.compile(rb"[\x40-\x7f]").search

_PLACE = Struct(">HB")
PLACE_BYTES: Final = _PLACE.size


BEYOND_INT64: Final = -(2**63)
"""Redis' estimate where it is no 64-bit integer: only somebody who made the bytes up sees it."""


class Corrupted(ValueError):
    """Runs that do not cover the registers exactly."""


# --- elements -------------------------------------------------------------------------------------


def murmur(element: bytes) -> int:
    """MurmurHash64A of little-endian words, with Redis' seed (A. Appleby)."""
    size = len(element)
    state = _SEED ^ size * _MULTIPLIER & _MASK
    for word in unpack_from(f"<{size >> 3}Q", element):
        mixed = word * _MULTIPLIER & _MASK
        mixed ^= mixed >> 47
        state = (state ^ mixed * _MULTIPLIER) * _MULTIPLIER & _MASK
    if size & 7:
        state = (state ^ int.from_bytes(element[size & ~7 :], "little")) * _MULTIPLIER & _MASK
    state ^= state >> 47
    state = state * _MULTIPLIER & _MASK
    return state ^ state >> 47


def place(element: bytes) -> bytes:
    """Which register an element raises to what at least: `register:u16 value:u8`."""
    hashed = murmur(element)
    rest = hashed >> 14 | 1 << 50
    return _PLACE.pack(hashed & (REGISTERS - 1), (rest & -rest).bit_length())


# --- values ---------------------------------------------------------------------------------------


def is_valid(value: bytes) -> bool:
    """Whether a string poses as a HyperLogLog; the runs of a sparse one may still be wrong."""
    if len(value) < HEADER_BYTES or not value.startswith(_MAGIC):
        return False
    return value[_ENCODING] == SPARSE or (value[_ENCODING] == DENSE and len(value) == DENSE_BYTES)


def is_dense(value: bytes | bytearray) -> bool:
    return value[_ENCODING] == DENSE


def raise_registers(value: bytes, places: bytes) -> bytes | None:
    """The value with registers raised to `places` (`place`); None if all are as high already.

    Raises:
        Corrupted: its runs are wrong.
    """
    changed = bytearray(value)
    is_changed = False
    for register, count in _PLACE.iter_unpack(places):
        is_changed |= _raise_one(changed, register, count)
    return forget_cardinality(changed) if is_changed else None


def _raise_one(value: bytearray, register: int, count: int) -> bool:
    if value[_ENCODING] == SPARSE:
        return _raise_sparse(value, register, count)
    return _raise_dense(value, register, count)


def forget_cardinality(value: bytearray) -> bytes:
    """Mark the cardinality as one that must be computed."""
    value[_CARDINALITY.stop - 1] |= _UNKNOWN >> 56
    return bytes(value)


def registers_of(value: bytes | bytearray) -> bytes:
    """All registers, a byte each.

    Raises:
        Corrupted: the runs of a sparse value are wrong.
    """
    if value[_ENCODING] == DENSE:
        # Base64 cuts bytes into sixes from their high end, so all is turned round before and after.
        text = b2a_base64(value[: HEADER_BYTES - 1 : -1], newline=False)
        return text.translate(_FROM_BASE64)[::-1]
    return _expand(value)


def _expand(value: bytes | bytearray) -> bytes:
    """The registers of a sparse value."""
    found: list[bytes] = []
    at = HEADER_BYTES
    left = REGISTERS
    while True:
        long = _find_long(value, at)
        end = long.start() if long else len(value)
        runs = value[at:end]
        left -= sum(runs.translate(_SPANS))
        if left < 0:
            raise Corrupted
        found += [_RUNS[byte] for byte in runs]
        if long is None:
            break
        if end + 1 == len(value) or (span := _long_span(value, end)) > left:
            raise Corrupted
        found.append(bytes(span))
        left -= span
        at = end + 2
    if left:
        raise Corrupted
    return b"".join(found)


def to_dense(value: bytes | bytearray) -> bytearray:
    """The same registers and cardinality in the dense form. Raises `Corrupted`."""
    return _dense(value, registers_of(value))


def _dense(value: bytes | bytearray, registers: bytes) -> bytearray:
    """A dense value of these registers, with the header of another one."""
    packed = a2b_base64(registers[::-1].translate(_TO_BASE64))[::-1]
    dense = bytearray(value[:HEADER_BYTES]) + packed
    dense[_ENCODING] = DENSE
    return dense


def _runs_of(registers: bytes) -> bytes:
    """The runs that come of raising an empty value's registers one by one, from the first on.

    Values above 32 have no run: what is returned is too long then.
    """
    if max(registers) > _SPARSE_VALUE_MAX:
        return bytes(SPARSE_BYTES_MAX)
    runs: list[bytes] = []
    for run in _equal_registers(registers):
        value, length = run[0][0], len(run[0])
        step = _VALUES_MAX if value else length
        runs += [_run(value, min(step, length - at)) for at in range(0, length, step)]
    return b"".join(runs)


def merge(values: list[bytes]) -> bytes:
    """The largest value of each register over all of them. Raises `Corrupted`."""
    merged = 0
    for value in values:
        other = int.from_bytes(registers_of(value), "little")
        # All registers at once: the guard bit of a byte stays where the difference is not negative.
        guards = ((merged | _GUARDS) - other) & _GUARDS
        larger = guards - (guards >> 7)
        merged = merged & larger | other & ~larger
    return merged.to_bytes(REGISTERS, "little")


def raise_to(value: bytes, registers: bytes, *, dense: bool) -> bytes:
    """The value with its registers raised to these, and its cardinality forgotten.

    Args:
        value: a valid one.
        registers: a byte each, none below that of the value.
        dense: the result is dense in any case. Raises `Corrupted`.
    """
    if dense:
        return forget_cardinality(_dense(value, registers))
    if value == EMPTY:
        changed = bytearray(EMPTY[:HEADER_BYTES]) + _runs_of(registers)
        if len(changed) < SPARSE_BYTES_MAX - _RUN_GROWTH_MAX:
            return forget_cardinality(changed)
    changed = bytearray(value)
    for register, (old, new) in enumerate(zip(registers_of(value), registers, strict=True)):
        if new > old:
            _raise_one(changed, register, new)
    return forget_cardinality(changed)


def cardinality(value: bytes) -> int:
    """How many elements, about: as noted in the value, else computed. Raises `Corrupted`."""
    noted = int.from_bytes(value[_CARDINALITY], "little")
    return estimate(registers_of(value)) if noted & _UNKNOWN else noted


# --- dense and sparse registers -------------------------------------------------------------------


def _raise_dense(value: bytearray, register: int, count: int) -> bool:
    at, shift = HEADER_BYTES + register * 6 // 8, register * 6 % 8
    window = int.from_bytes(value[at : at + 2], "little")
    if window >> shift & 63 >= count:
        return False
    window = window & ~(63 << shift) | count << shift
    value[at : at + 2] = window.to_bytes(len(value[at : at + 2]), "little")
    return True


def _raise_sparse(value: bytearray, register: int, count: int) -> bool:
    if count > _SPARSE_VALUE_MAX:
        return _promote(value, register, count)
    previous, at, first, span = _find_run(value, register)
    byte = value[at]
    size = 2 if _is_long(byte) else 1
    old = (byte >> 2 & 31) + 1 if byte & 0x80 else 0
    if old >= count:
        return False
    runs = _run(old, register - first) + _run(count, 1) + _run(old, first + span - 1 - register)
    if len(runs) > size and len(value) + len(runs) - size > SPARSE_BYTES_MAX:
        return _promote(value, register, count)
    value[at : at + size] = runs
    _join_runs(value, at if previous is None else previous)
    return True


def _promote(value: bytearray, register: int, count: int) -> bool:
    value[:] = to_dense(value)
    return _raise_dense(value, register, count)


def _is_long(byte: int) -> bool:
    return byte & 0xC0 == 0x40


def _run(register_value: int, length: int) -> bytes:
    """A run; none if it is empty."""
    if not length:
        return b""
    if register_value:
        return bytes([0x80 | register_value - 1 << 2 | length - 1])
    if length <= _SHORT_ZEROS_MAX:
        return bytes([length - 1])
    return bytes([0x40 | length - 1 >> 8, length - 1 & 0xFF])


def _find_run(value: bytearray, register: int) -> tuple[int | None, int, int, int]:
    """Where the run before begins, where the run of a register does, its first register, length.

    Runs of one byte are passed over many at a time: only those of two bytes must be met singly.
    """
    previous: int | None = None
    at, first = HEADER_BYTES, 0
    while True:
        long = _find_long(value, at)
        end = long.start() if long else len(value)
        spans = value[at:end].translate(_SPANS)
        covered = first + sum(spans)
        if register < covered:
            firsts = list(accumulate(spans, initial=first))
            index = bisect_right(firsts, register) - 1
            return at + index - 1 if index else previous, at + index, firsts[index], spans[index]
        if end + 1 >= len(value):
            raise Corrupted
        if end > at:
            previous = end - 1
        span = _long_span(value, end)
        if register < covered + span:
            return previous, end, covered, span
        previous, at, first = end, end + 2, covered + span


def _long_span(value: bytes | bytearray, at: int) -> int:
    return ((value[at] & 0x3F) << 8 | value[at + 1]) + 1


def _join_runs(value: bytearray, at: int) -> None:
    """Join equal neighbours among the few runs from `at` on."""
    for _ in range(_SCANNED_RUNS):
        if at >= len(value):
            break
        byte = value[at]
        if _is_long(byte):
            at += 2
            continue
        if byte & 0x80 and at + 1 < len(value):
            other = value[at + 1]
            length = (byte & 3) + (other & 3) + 2
            if byte & 0xFC == other & 0xFC and length <= _VALUES_MAX:
                value[at : at + 2] = bytes([byte & 0xFC | length - 1])
                continue
        at += 1


# --- the estimate ---------------------------------------------------------------------------------


def estimate(registers: bytes) -> int:
    """How many different elements raised these registers, a byte each."""
    counts = [registers.count(value) for value in range(RUN_MAX + 1)]
    total = REGISTERS * _tau((REGISTERS - counts[RUN_MAX]) / REGISTERS)
    for count in reversed(counts[1:RUN_MAX]):
        total = (total + count) * 0.5
    total += REGISTERS * _sigma(counts[0] / REGISTERS)
    # Halves go up, as llround has it; Python's round would take the even neighbour.
    found = _ALPHA * REGISTERS * REGISTERS / total + 0.5 if total else math.inf
    return math.floor(found) if found < 2**63 else BEYOND_INT64


def _sigma(share: float) -> float:
    """What the registers that are still 0 add."""
    if share == 1.0:
        return math.inf
    factor, total, before = 1.0, share, -1.0
    while total != before:
        share *= share
        before = total
        total += share * factor
        factor += factor
    return total


def _tau(share: float) -> float:
    """What the registers that can rise no further add."""
    if share in (0.0, 1.0):
        return 0.0
    factor, total, before = 1.0, 1.0 - share, -1.0
    while total != before:
        share = math.sqrt(share)
        before = total
        factor *= 0.5
        total -= (1.0 - share) ** 2 * factor
    return total / 3.0
