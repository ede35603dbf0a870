"""Sine, cosine and arc sine to the last bit, the same on every processor.

Replicas must store the same distances, and the C library's functions may differ in the last bit
from one machine to the next. Here the numbers are integers of `_BITS` binary places: the Taylor
series are summed exactly but for their tails, and the arc sine is the root of the sine, found by
Newton's method. Rounded to a double, that is the correctly rounded result but for one case in
billions, and what a good library says nearly always.

A call costs about 10 microseconds, so only what becomes state is computed like this.
"""

from __future__ import annotations

import math
from typing import Final

_BITS: Final = 120
_ONE: Final = 1 << _BITS
_PI: Final = 0x3243F6A8885A308D313198A2E03707344A4093822299F31D0 >> 192 - _BITS
"""Pi, from its first 192 binary places."""

_TINY: Final = 2.0**-27
"""Below it, sine and arc sine of a number round to the number."""

_CLOSE: Final = 1 << _BITS // 2 - 2
"""A step of Newton's method as small as this leaves an error below the last place."""


def sin(x: float) -> float:
    """The sine of an angle in radians."""
    return x if abs(x) < _TINY else _sin(_fixed(x)) / _ONE


def cos(x: float) -> float:
    """The cosine of an angle in radians."""
    return _sin(_fixed(x) + _PI // 2) / _ONE


def asin(x: float) -> float:
    """The angle between -pi/2 and pi/2 whose sine is `x`, which lies between -1 and 1."""
    if abs(x) < _TINY:
        return x
    size = abs(x)
    if size <= 0.5:
        angle = _asin(_fixed(size))
    else:  # the sine of half of the angle that is missing to a right one
        angle = _PI // 2 - 2 * _asin(math.isqrt((_ONE - _fixed(size)) * _ONE // 2))
    return math.copysign(angle / _ONE, x)


def _fixed(x: float) -> int:
    """The number in units of 2^-_BITS. Nothing is lost of a double above 2^-_TINY."""
    numerator, denominator = x.as_integer_ratio()
    return numerator * _ONE // denominator


def _sin(angle: int) -> int:
    """By symmetry from an angle between 0 and pi/2."""
    turns, rest = divmod(angle, _PI)
    return (-1 if turns & 1 else 1) * _series(min(rest, _PI - rest))[0]


def _series(angle: int) -> tuple[int, int]:
    """Sine and cosine of an angle between 0 and pi/2."""
    sine, cosine = angle, _ONE
    term, n = angle, 1
    while term:
        n += 1
        term = term * angle // n >> _BITS
        if n & 1:
            sine += -term if n & 2 else term
        else:
            cosine += -term if n & 2 else term
    return sine, cosine


def _asin(sine: int) -> int:
    """Of a number between 0 and 1/2."""
    angle = sine + (sine * sine // 6 * sine >> 2 * _BITS)
    while True:
        reached, slope = _series(angle)
        step = ((sine - reached) << _BITS) // slope
        angle += step
        if abs(step) < _CLOSE:
            return angle
