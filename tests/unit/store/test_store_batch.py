"""Entry data: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.limits import ARGUMENTS_MAX
from kvnode.store import batch, ops
from kvnode.store.batch import Batch, Expire, MalformedEntry, Noop, Register
from kvnode.store.ops import UnknownOperation

U64 = st.integers(0, 2**64 - 1)


@given(st.tuples(U64, U64, U64, U64, U64, st.binary()))
def test_a_batch_survives_the_log(fields: tuple[int, int, int, int, int, bytes]) -> None:
    data = batch.encode_batch(*fields)
    assert batch.decode(data) == Batch(*fields)
    assert batch.stamp_of(data) == fields[0]


@given(st.tuples(U64, U64, U64, U64, U64))
def test_a_registration_survives_the_log(fields: tuple[int, int, int, int, int]) -> None:
    data = batch.encode_register(*fields)
    assert batch.decode(data) == Register(*fields)
    assert batch.stamp_of(data) == fields[0]


@given(st.tuples(U64, U64, U64))
def test_an_expiry_survives_the_log(fields: tuple[int, int, int]) -> None:
    data = batch.encode_expire(*fields)
    assert batch.decode(data) == Expire(*fields)
    assert batch.stamp_of(data) == fields[0]


def test_the_empty_entry_has_no_stamp() -> None:
    assert batch.decode(b"") == Noop()
    assert batch.stamp_of(b"") == 0


def test_ops_survive_the_log() -> None:
    some = [[1, 0, b"k", b"v"], [10, 0, [[0, b"k", 3]], [[64, 0, b"k"]]], [6, 0, b"k", 0, -5, 0]]
    assert batch.decode_ops(batch.encode_ops(some)) == some


@pytest.mark.parametrize(
    "value",
    [
        7,
        [],
        [1, 2],
        [1, 0, 0, 0, 0, 0, "text"],
        [1, 0, 0, 0, 0, 0, 5],
        [1, -1, 0, 0, 0, 0, b""],
        [1, 0, 0, 0, 0, 0, b"", 1],
        [2, 0, 0, 0, 0],
        [3, 0, 0, None],
        [b"1", 0, 0],
        {1: 2},
    ],
)
def test_other_msgpack_is_malformed(value: object) -> None:
    with pytest.raises(MalformedEntry):
        batch.decode(msgpack.packb(value))


def test_a_kind_from_the_future_is_unknown() -> None:
    with pytest.raises(UnknownOperation):
        batch.decode(msgpack.packb([99, 1, 2]))


@given(st.binary(min_size=1, max_size=40))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    for read in (batch.decode, batch.stamp_of, batch.decode_ops):
        with contextlib.suppress(MalformedEntry, UnknownOperation):
            read(noise)


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_truncated_batch_is_malformed(cut: int) -> None:
    data = batch.encode_batch(10**12, 2**60, 2**60, 5, 6, b"abcdef")
    with pytest.raises(MalformedEntry):
        batch.decode(data[:-cut])


def test_an_array_longer_than_any_command_is_refused() -> None:
    batch.decode_ops(batch.encode_ops([[ops.DEL, 0, *[b""] * ARGUMENTS_MAX]]))
    with pytest.raises(MalformedEntry):
        batch.decode_ops(batch.encode_ops([[ops.DEL, 0, *[b""] * (ARGUMENTS_MAX + 100)]]))


@pytest.mark.parametrize("bomb", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000])
def test_a_length_that_promises_too_much_allocates_nothing(bomb: bytes) -> None:
    with pytest.raises(MalformedEntry):
        batch.decode_ops(bomb)
