"""INCRBYFLOAT's numbers: the last digit of an 80-bit float, on any machine."""

from __future__ import annotations

import ctypes
import platform
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.store.redis.long_double import TEXT_BYTES_MAX, add, parse, to_text


def total(one: bytes, other: bytes) -> bytes | None:
    """The sum as INCRBYFLOAT would store it."""
    numbers = parse(one), parse(other)
    assert numbers[0] is not None
    assert numbers[1] is not None
    result = add(numbers[0], numbers[1])
    return None if result is None else to_text(result)


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (b"10.50", b"0.1", b"10.6"),
        (b"5.0e3", b"2.0e2", b"5200"),
        (b"0.1", b"0.2", b"0.3"),
        (b"3", b"-3", b"0"),
        (b"-0", b"-0.0", b"0"),
        (b"1", b"-1.0000000000000000001", b"0"),
        (b"1e-18", b"0", b"0"),
        (b"-1e-18", b"0", b"0"),
        (b"1e-17", b"0", b"0.00000000000000001"),
        (b".5", b"5.", b"5.5"),
        (b"+7", b"0", b"7"),
        (b"0x10", b"0x.8p1", b"17"),
        (b"0", b"-0X1P-2", b"-0.25"),
        (b"18446744073709551615", b"0", b"18446744073709551615"),
        (b"18446744073709551617", b"0", b"18446744073709551616"),
        (b"1e19", b"1", b"10000000000000000001"),
        (b"3.3", b"-1.1", b"2.2"),
    ],
)
def test_a_sum_has_the_digits_of_redis(one: bytes, other: bytes, text: bytes) -> None:
    assert total(one, other) == text


def test_the_largest_numbers_are_printed_to_the_last_digit() -> None:
    text = total(b"1e4932", b"0")
    assert text is not None
    assert len(text) == 4933
    assert abs(Decimal(text.decode()) / Decimal("1e4932") - 1) < Decimal("1e-18")


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"1e4932", b"1e4932"), (b"inf", b"1"), (b"-1", b"-Infinity"), (b"inf", b"-inf")],
)
def test_a_sum_that_is_no_finite_number_is_none(one: bytes, other: bytes) -> None:
    assert total(one, other) is None


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" 1", b"1 ", b"abc", b"1e", b"1e+", b".", b"-", b"+-1", b"0x", b"1,5", b"1_0"),
        *(b"nan", b"-NaN", b"infinite", b"1\0", b"1e4933", b"-1e99999999999999999999", b"1e-5000"),
        *(b"0x1p99999", b"1" * (TEXT_BYTES_MAX + 1), "١".encode()),
    ],
)
def test_what_redis_does_not_read_as_a_number_is_none(text: bytes) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", [b"0e99999999999", b"-0e-5000", b"0" * TEXT_BYTES_MAX])
def test_zero_is_zero_whatever_its_exponent(text: bytes) -> None:
    assert total(text, b"0") == b"0"


def test_the_smallest_number_is_not_zero() -> None:
    smallest = parse(b"3.7e-4951")
    assert smallest == (1, -16445)
    assert parse(b"1.8e-4951") is None


NUMBERS = st.one_of(
    st.decimals(-(10**6), 10**6, allow_nan=False, places=3),
    st.integers(-(2**70), 2**70).map(Decimal),
    st.tuples(st.integers(-(10**25), 10**25), st.integers(-60, 60)).map(
        lambda pair: Decimal(pair[0]).scaleb(pair[1])
    ),
).map(lambda number: b"%a" % str(number))
TEXTS = NUMBERS.map(lambda text: text.strip(b"'"))


@given(text=TEXTS)
def test_parsing_is_exact_to_half_a_unit_in_the_last_place(text: bytes) -> None:
    number = parse(text)
    assert number is not None
    significand, exponent = number
    assert significand.bit_length() <= 64 or abs(significand) == 2**64
    error = abs(Fraction(text.decode()) - significand * Fraction(2) ** exponent)
    assert error <= Fraction(2) ** exponent / 2
    assert not significand or exponent == -16445 or significand.bit_length() >= 64


IS_X87 = platform.machine() == "x86_64" and ctypes.sizeof(ctypes.c_longdouble) == 16


class Raw(ctypes.c_longdouble):
    """A subclass is not turned into a Python float on its way back, which would round it."""


def c_sum(one: bytes, other: bytes) -> bytes:
    """What C says: `strtold` both, add, `%.17Lf`, no zeros at the end."""
    c, buffer = ctypes.CDLL("libm.so.6"), ctypes.create_string_buffer(8000)
    c.strtold.restype = c.fmal.restype = Raw
    c.strtold.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    c.fmal.argtypes = [Raw, Raw, Raw]
    numbers = [c.strtold(text, None) for text in (one, b"1", other)]
    c.snprintf(buffer, len(buffer), b"%.17Lf", c.fmal(*numbers))
    text = buffer.value.rstrip(b"0").rstrip(b".")
    return b"0" if text == b"-0" else text


@pytest.mark.skipif(not IS_X87, reason="this machine's long double is another format")
@given(one=TEXTS, other=TEXTS)
@settings(max_examples=500)
def test_a_sum_is_what_c_prints(one: bytes, other: bytes) -> None:
    assert total(one, other) == c_sum(one, other)
