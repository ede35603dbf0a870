"""The string ops, as Redis 7.0 means them."""

from __future__ import annotations

import pytest

from kvnode.errors import CommandError
from kvnode.limits import VALUE_BYTES_MAX
from kvnode.store.ops import (
    APPEND,
    DEL,
    EXPIRETIME,
    GET,
    GETDEL,
    GETEX,
    GETRANGE,
    INCRBY,
    INCRBYFLOAT,
    MGET,
    MSET,
    MSETNX,
    SET,
    SETRANGE,
    SIZE,
    STRLEN,
    TTL,
    GetexFlag,
    SetFlag,
)
from kvnode.store.redis import messages
from kvnode.store.reply import OK
from tests.unit.store.driver import Driver

NX, XX, OLD, KEEPTTL, PX, PXAT = (int(flag) for flag in SetFlag)
INT64_MAX = 2**63 - 1


def text(result: object) -> str:
    assert isinstance(result, CommandError)
    return result.text


def test_set_overwrites_and_drops_the_deadline(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", PX, 100)
    assert driver.do(SET, 0, b"k", b"2") is OK
    assert driver.read(GET, 0, b"k") == b"2"
    assert driver.read(TTL, 0, b"k", 1) == -1
    driver.check()


def test_databases_are_apart(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"0")
    driver.do(SET, 15, b"k", b"15")
    assert driver.read(GET, 0, b"k") == b"0"
    assert driver.read(GET, 1, b"k") is None
    assert driver.machine.keyspace() == {0: (1, 0), 15: (1, 0)}


def test_nx_sets_only_what_is_absent_and_xx_only_what_is_there(driver: Driver) -> None:
    assert driver.do(SET, 0, b"k", b"1", XX, 0) is None
    assert driver.do(SET, 0, b"k", b"1", NX, 0) is OK
    assert driver.do(SET, 0, b"k", b"2", NX, 0) is None
    assert driver.do(SET, 0, b"k", b"3", XX, 0) is OK
    assert driver.read(GET, 0, b"k") == b"3"


def test_get_answers_the_old_value_whether_or_not_it_sets(driver: Driver) -> None:
    assert driver.do(SET, 0, b"k", b"1", OLD, 0) is None
    assert driver.do(SET, 0, b"k", b"2", OLD, 0) == b"1"
    assert driver.do(SET, 0, b"k", b"3", OLD | NX, 0) == b"2"
    assert driver.read(GET, 0, b"k") == b"2"


def test_keepttl_keeps_the_deadline(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", PX, 100)
    driver.do(SET, 0, b"k", b"2", KEEPTTL, 0)
    assert driver.read(TTL, 0, b"k", 1) == 100
    driver.check()


def test_keepttl_does_not_keep_the_deadline_of_an_expired_key(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", PX, 100)
    driver.now_ms += 100
    driver.do(SET, 0, b"k", b"2", KEEPTTL, 0)
    assert driver.read(TTL, 0, b"k", 1) == -1
    driver.check()


def test_a_relative_deadline_counts_from_the_stamp(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", PX, 1500)
    driver.now_ms += 400
    driver.tick()
    assert driver.read(TTL, 0, b"k", 1) == 1100
    assert driver.read(TTL, 0, b"k", 0) == 1


def test_an_absolute_deadline_that_has_passed_deletes_the_key(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    assert driver.do(SET, 0, b"k", b"2", PXAT, driver.now_ms) is OK
    assert driver.read(GET, 0, b"k") is None
    assert driver.machine.keyspace() == {}
    driver.check()


@pytest.mark.parametrize(("flag", "ms"), [(PX, INT64_MAX), (PX, 0), (PX, -1), (PXAT, 0)])
def test_a_deadline_out_of_range_is_an_error_and_sets_nothing(
    driver: Driver, flag: int, ms: int
) -> None:
    result = driver.do(SET, 0, b"k", b"1", flag, ms)
    assert text(result) == "ERR invalid expire time in 'set' command"
    assert driver.read(GET, 0, b"k") is None


def test_mset_and_mget_keep_the_order_and_the_last_value_wins(driver: Driver) -> None:
    assert driver.do(MSET, 0, b"a", b"1", b"b", b"2", b"a", b"3") is OK
    assert driver.read(MGET, 0, b"b", b"x", b"a") == [b"2", None, b"3"]
    driver.check()


def test_incrby_counts_from_zero_and_keeps_the_deadline(driver: Driver) -> None:
    assert driver.do(INCRBY, 0, b"n", 5) == 5
    driver.do(SET, 0, b"n", b"-3", PX, 100)
    assert driver.do(INCRBY, 0, b"n", -4) == -7
    assert driver.read(GET, 0, b"n") == b"-7"
    assert driver.read(TTL, 0, b"n", 1) == 100


@pytest.mark.parametrize(
    "value", [b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"-", b"1.0", b"0x1", b"1\n"]
)
def test_incrby_takes_only_redis_integers(driver: Driver, value: bytes) -> None:
    driver.do(SET, 0, b"n", value)
    assert text(driver.do(INCRBY, 0, b"n", 1)) == messages.NOT_AN_INTEGER
    assert driver.read(GET, 0, b"n") == value


@pytest.mark.parametrize("value", [b"9223372036854775808", b"-9223372036854775809", b"9" * 400])
def test_incrby_refuses_what_64_bits_cannot_hold(driver: Driver, value: bytes) -> None:
    driver.do(SET, 0, b"n", value)
    assert text(driver.do(INCRBY, 0, b"n", 1)) == messages.NOT_AN_INTEGER


def test_incrby_does_not_overflow(driver: Driver) -> None:
    driver.do(SET, 0, b"n", b"%d" % INT64_MAX)
    assert text(driver.do(INCRBY, 0, b"n", 1)) == messages.OVERFLOW
    driver.do(SET, 0, b"n", b"%d" % -(2**63))
    assert text(driver.do(INCRBY, 0, b"n", -1)) == messages.OVERFLOW
    assert driver.read(GET, 0, b"n") == b"%d" % -(2**63)


def test_append_answers_the_length_and_keeps_the_deadline(driver: Driver) -> None:
    assert driver.do(APPEND, 0, b"k", b"ab") == 2
    driver.do(SET, 0, b"k", b"ab", PX, 100)
    assert driver.do(APPEND, 0, b"k", b"c") == 3
    assert driver.read(GET, 0, b"k") == b"abc"
    assert driver.read(TTL, 0, b"k", 1) == 100
    assert driver.read(STRLEN, 0, b"k") == 3


def test_append_stops_at_the_largest_value(driver: Driver) -> None:
    driver.do(SET, 0, b"k", bytes(VALUE_BYTES_MAX - 1))
    assert driver.do(APPEND, 0, b"k", b"x") == VALUE_BYTES_MAX
    assert text(driver.do(APPEND, 0, b"k", b"x")) == messages.STRING_TOO_LONG
    assert driver.read(STRLEN, 0, b"k") == VALUE_BYTES_MAX


def test_strlen_of_an_absent_key_is_zero(driver: Driver) -> None:
    assert driver.read(STRLEN, 0, b"k") == 0


@pytest.mark.parametrize("length", [0, 1, 399, 400, 401, 432, 1000, 65536])
def test_keys_of_any_length_work_alike(driver: Driver, length: int) -> None:
    key, sibling = b"x" * length, b"x" * length + b"y"
    driver.do(SET, 0, key, b"1", PX, 100)
    driver.do(SET, 0, sibling, b"2")
    driver.do(APPEND, 0, key, b"1")
    assert driver.read(MGET, 0, key, sibling) == [b"11", b"2"]
    assert driver.read(TTL, 0, key, 1) == 100
    driver.check()
    assert driver.do(DEL, 0, key) == 1
    assert driver.read(MGET, 0, key, sibling) == [None, b"2"]
    driver.check()


def test_a_long_keys_suffix_is_longer_than_that_of_any_short_key(driver: Driver) -> None:
    # So the two cannot share a row, even where their 64-bit hashes collide.
    locate = driver.machine._space.locate
    assert len(locate(b"x" * 400)) < len(locate(b"x" * 401)) == len(locate(b"x" * 65536))


# --- get and change -----------------------------------------------------------------------------


def test_getdel_answers_and_deletes(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1", PX, 100)
    assert driver.do(GETDEL, 0, b"k") == b"1"
    assert driver.do(GETDEL, 0, b"k") is None
    assert driver.machine.keyspace() == {}
    driver.check()


def test_getex_sets_keeps_or_drops_the_deadline(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    at = driver.now_ms + 500
    for flags, ms, deadline in (
        (0, 0, -1),
        (GetexFlag.PX, 100, driver.now_ms + 100),
        (0, 0, driver.now_ms + 100),
        (GetexFlag.PXAT, at, at),
        (GetexFlag.PERSIST, 0, -1),
        (GetexFlag.PERSIST, 0, -1),
    ):
        assert driver.do(GETEX, 0, b"k", int(flags), ms) == b"1"
        assert driver.read(EXPIRETIME, 0, b"k", 1) == deadline
    driver.check()


def test_getex_with_a_time_that_has_passed_deletes(driver: Driver) -> None:
    driver.do(SET, 0, b"k", b"1")
    assert driver.do(GETEX, 0, b"k", int(GetexFlag.PXAT), driver.now_ms) == b"1"
    assert driver.machine.keyspace() == {}


@pytest.mark.parametrize(
    ("ms", "error"),
    [
        (None, messages.NOT_AN_INTEGER),
        (0, messages.INVALID_EXPIRE_IN_GETEX),
        (-5, messages.INVALID_EXPIRE_IN_GETEX),
        (INT64_MAX, messages.INVALID_EXPIRE_IN_GETEX),
    ],
)
def test_a_bad_time_of_getex_is_seen_only_on_a_key_that_is_there(
    driver: Driver, ms: int | None, error: str
) -> None:
    assert driver.do(GETEX, 0, b"k", int(GetexFlag.PX), ms) is None
    driver.do(SET, 0, b"k", b"1")
    assert text(driver.do(GETEX, 0, b"k", int(GetexFlag.PX), ms)) == error


def test_msetnx_sets_all_or_nothing(driver: Driver) -> None:
    assert driver.do(MSETNX, 0, b"a", b"1", b"b", b"2", b"a", b"3") == 1
    assert driver.do(MSETNX, 0, b"c", b"4", b"b", b"5") == 0
    assert driver.read(MGET, 0, b"a", b"b", b"c") == [b"3", b"2", None]


def test_incrbyfloat_stores_what_it_answers_and_keeps_the_deadline(driver: Driver) -> None:
    assert driver.do(INCRBYFLOAT, 0, b"k", b"1.10") == b"1.1"
    driver.do(SET, 0, b"k", b"5.0e3", PX, 100)
    assert driver.do(INCRBYFLOAT, 0, b"k", b"-0.5") == b"4999.5"
    assert driver.read(GET, 0, b"k") == b"4999.5"
    assert driver.read(TTL, 0, b"k", 1) == 100


@pytest.mark.parametrize(
    ("value", "increment", "error"),
    [
        (b"abc", b"1", messages.NOT_A_FLOAT),
        (b"1", b"", messages.NOT_A_FLOAT),
        (b"1", b"nan", messages.NOT_A_FLOAT),
        (b"1", b"-inf", messages.NAN_OR_INFINITY),
        (b"1e4932", b"1e4932", messages.NAN_OR_INFINITY),
    ],
)
def test_incrbyfloat_refuses_what_is_no_number(
    driver: Driver, value: bytes, increment: bytes, error: str
) -> None:
    driver.do(SET, 0, b"k", value)
    assert text(driver.do(INCRBYFLOAT, 0, b"k", increment)) == error
    assert driver.read(GET, 0, b"k") == value


# --- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "offset", "part", "result"),
    [
        (b"Hello World", 6, b"Redis", b"Hello Redis"),
        (b"Hello", 1, b"", b"Hello"),
        (b"Hello", 99, b"", b"Hello"),
        (b"Hello", 4, b"!!", b"Hell!!"),
        (b"Hello", 7, b"!", b"Hello\0\0!"),
        (None, 2, b"x", b"\0\0x"),
        (None, 2, b"", None),
    ],
)
def test_setrange_overwrites_and_fills_with_zeros(
    driver: Driver, value: bytes | None, offset: int, part: bytes, result: bytes | None
) -> None:
    if value is not None:
        driver.do(SET, 0, b"k", value, PX, 100)
    assert driver.do(SETRANGE, 0, b"k", offset, part) == len(result or b"")
    assert driver.read(GET, 0, b"k") == result
    assert driver.read(TTL, 0, b"k", 1) == (100 if value else -1 if result else -2)


def test_setrange_grows_a_value_to_the_limit_and_no_further(driver: Driver) -> None:
    assert driver.do(SETRANGE, 0, b"k", VALUE_BYTES_MAX - 1, b"x") == VALUE_BYTES_MAX
    for offset in (VALUE_BYTES_MAX, INT64_MAX):
        assert text(driver.do(SETRANGE, 0, b"k", offset, b"x")) == messages.STRING_TOO_LONG


@pytest.mark.parametrize(
    ("first", "last", "part"),
    [
        (0, 3, b"This"),
        (-3, -1, b"ing"),
        (0, -1, b"This is a string"),
        (10, 100, b"string"),
        (5, 3, b""),
        (-1, -5, b""),
        (-100, -50, b"T"),
        (-50, -100, b""),
        (-100, 0, b"T"),
        (16, 16, b""),
    ],
)
def test_getrange_takes_both_ends_and_negative_ones(
    driver: Driver, first: int, last: int, part: bytes
) -> None:
    driver.do(SET, 0, b"k", b"This is a string")
    assert driver.read(GETRANGE, 0, b"k", first, last) == part
    assert driver.read(GETRANGE, 0, b"none", first, last) == b""


@pytest.mark.parametrize("key", [b"k", b"k" * 5_000])
@pytest.mark.parametrize("expire_ms", [0, 100])
def test_size_is_that_of_the_value_whatever_else_its_record_holds(
    driver: Driver, key: bytes, expire_ms: int
) -> None:
    assert driver.read(SIZE, 0, key) is None
    driver.do(SET, 0, key, bytes(1234), PX if expire_ms else 0, expire_ms)
    assert driver.read(SIZE, 0, key) == 1234
    assert driver.read(SIZE, 1, key) is None
    driver.now_ms += 100
    driver.tick()
    assert driver.read(SIZE, 0, key) == (None if expire_ms else 1234)
