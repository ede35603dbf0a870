"""Arithmetic of C's `long double` on x86-64, which INCRBYFLOAT makes visible.

Redis reads both numbers with `strtold`, adds them, and prints the sum with `%.17Lf` less its
trailing zeros. A client sees the rounding of a 64-bit significand: 0.1 + 0.2 is 0.3 here and not
0.30000000000000004. Replicas must agree to the last digit on any processor, so nothing of this is
left to the machine: a number is an integer times a power of two, and Python's integers are exact.

The format is the 80-bit one of the x87 (Intel, Software Developer's Manual, volume 1, §4.2.2): 64
bits of significand, exponents up to 2^16384, denormal numbers down to 2^-16445; ties are rounded to
even. Numbers of that size have almost five thousand digits, more than Python turns into text by
default, so `Decimal` does the turning.
"""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MAX_PREC, Context, Decimal
from typing import Final, TypeAlias

LongDouble: TypeAlias = tuple[int, int]
"""`(significand, exponent)`: significand times two to the exponent."""

TEXT_BYTES_MAX: Final = 5 * 1024 - 1
"""Redis reads no longer text as a number."""

FRACTION_DIGITS: Final = 17

_SIGNIFICAND_BITS: Final = 64
_EXPONENT_MAX: Final = 16384
_EXPONENT_MIN: Final = -16445
_TEN_EXPONENT_MAX: Final = 20_000
"""Beyond it, whatever fits into `TEXT_BYTES_MAX` is infinite or zero."""

_INFINITY: Final = 1, _EXPONENT_MAX

_DECIMAL = re.compile(rb"([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?")
_HEXADECIMAL = re.compile(
    rb"([+-]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?"
)
_INFINITE = re.compile(rb"([+-]?)inf(?:inity)?", re.IGNORECASE)

_digits = Context(prec=MAX_PREC, Emax=MAX_EMAX)


def parse(text: bytes) -> LongDouble | None:
    """The number nearest to what `text` says.

    None for what Redis does not take: no number, a space, `nan`, and a number so large or so small
    that it would become infinite or zero. `inf` is a number to it, and so is 0x1p-3.
    """
    if len(text) > TEXT_BYTES_MAX:
        return None
    if found := _DECIMAL.fullmatch(text):
        base, power = 10, 10
    elif found := _HEXADECIMAL.fullmatch(text):
        base, power = 16, 2
    elif found := _INFINITE.fullmatch(text):
        return _signed(_INFINITY, found[1])
    else:
        return None
    fraction = found[3] or found[4] or b""
    digits = _integer((found[2] or b"") + fraction, base)
    if not digits:
        return 0, 0
    exponent = _clamped(found[5] or b"0") - len(fraction) * (4 if base == 16 else 1)
    if exponent >= 0:
        number = _rounded(digits * power**exponent, 1)
    else:
        number = _rounded(digits, power**-exponent)
    return None if is_infinite(number) or not number[0] else _signed(number, found[1])


def is_infinite(number: LongDouble) -> bool:
    """Whether the number is too large for the format."""
    significand, exponent = number
    return significand.bit_length() + exponent > _EXPONENT_MAX


def add(one: LongDouble, other: LongDouble) -> LongDouble | None:
    """The sum, None if it is infinite or no number."""
    if is_infinite(one) or is_infinite(other):
        return None
    exponent = min(one[1], other[1])
    exact = (one[0] << one[1] - exponent) + (other[0] << other[1] - exponent)
    number = _rounded(abs(exact) << max(exponent, 0), 1 << max(-exponent, 0))
    if is_infinite(number):
        return None
    return number if exact >= 0 else (-number[0], number[1])


def to_text(number: LongDouble) -> bytes:
    """Up to 17 digits behind the point, none of them a trailing zero; never an exponent."""
    significand, exponent = number
    scaled = abs(significand) * 10**FRACTION_DIGITS
    if exponent >= 0:
        scaled <<= exponent
    else:
        scaled = _half_to_even(scaled, 1 << -exponent)
    digits = str(_digits.create_decimal(scaled)).rjust(FRACTION_DIGITS + 1, "0")
    text = f"{digits[:-FRACTION_DIGITS]}.{digits[-FRACTION_DIGITS:]}".rstrip("0").rstrip(".")
    return (f"-{text}" if significand < 0 and scaled else text).encode()


def _integer(digits: bytes, base: int) -> int:
    if base == 16:
        return int(digits, 16)
    return int(Decimal(digits.decode()))


def _clamped(exponent: bytes) -> int:
    """An exponent of any length, cut to a size that can be computed with."""
    sign, digits = exponent[:1], exponent.lstrip(b"+-").lstrip(b"0")
    value = _TEN_EXPONENT_MAX if len(digits) > 5 else min(int(digits or b"0"), _TEN_EXPONENT_MAX)
    return -value if sign == b"-" else value


def _signed(number: LongDouble, sign: bytes) -> LongDouble:
    return (-number[0], number[1]) if sign == b"-" else number


def _rounded(numerator: int, denominator: int) -> LongDouble:
    """The number of the format that is nearest to a fraction which is not negative."""
    exponent = numerator.bit_length() - denominator.bit_length() - _SIGNIFICAND_BITS
    if _quotient(numerator, denominator, exponent).bit_length() > _SIGNIFICAND_BITS:
        exponent += 1  # the lengths tell that of the quotient but for one bit
    exponent = max(exponent, _EXPONENT_MIN)
    return _quotient(numerator, denominator, exponent), exponent


def _quotient(numerator: int, denominator: int, exponent: int) -> int:
    """The fraction over two to the exponent, as the nearest integer."""
    return _half_to_even(numerator << max(-exponent, 0), denominator << max(exponent, 0))


def _half_to_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest + (quotient & 1) > denominator)
