"""Changes of the membership: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.errors import ExitCode
from kvnode.limits import MEMBER_TEXT_BYTES_MAX
from kvnode.store import batch
from kvnode.store.batch import Configure, Kind, MalformedEntry
from kvnode.store.changes import (
    Add,
    Change,
    Force,
    Found,
    Founder,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
    from_row,
    to_row,
)
from kvnode.store.ops import UnknownOperation

U64 = st.integers(0, 2**64 - 1)
ID = st.integers(1, 2**64 - 1)
ADDRESS = st.text(max_size=80).filter(str.isprintable)
NAME = ADDRESS.filter(bool)

CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        Found,
        ID,
        st.lists(st.builds(Founder, ID, NAME, ADDRESS, ADDRESS, U64), min_size=1).map(tuple),
    ),
    st.builds(Add, ID, NAME, ADDRESS, ADDRESS, U64, st.booleans(), U64),
    st.builds(Promote, ID),
    st.builds(Remove, ID),
    st.builds(Replace, ID, ID),
    st.builds(LeaveJoint),
    st.builds(Update, ID, ADDRESS, ADDRESS, U64),
    st.builds(Force, ID, NAME),
    st.builds(Raise, ID),
)


@given(CHANGES, U64, U64)
def test_every_change_survives_the_log(change: Change, stamp_ms: int, seed: int) -> None:
    data = batch.encode_configure(stamp_ms, seed, change)
    assert batch.decode(data) == Configure(stamp_ms, seed, change)
    assert batch.stamp_of(data) == stamp_ms


def test_codes_are_permanent() -> None:
    """As the log of every cluster has them: never make this pass by changing it."""
    kinds = [Found, Add, Promote, Remove, Replace, LeaveJoint, Update, Force, Raise]
    assert [kind.CODE for kind in kinds] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert Kind.CONFIGURE == 4
    data = batch.encode_configure(5, 6, Add(7, "n4", "h:1", "h:2", 8, promote=False, replaces=9))
    assert msgpack.unpackb(data) == [4, 5, 6, 2, 7, b"n4", b"h:1", b"h:2", 8, 0, 9]
    data = batch.encode_configure(5, 6, Found(3, (Founder(1, "n1", "h:1", "", 2),)))
    assert msgpack.unpackb(data) == [4, 5, 6, 1, 3, [[1, b"n1", b"h:1", b"", 2]]]
    assert to_row(Replace(old=1, new=2)) == [5, 1, 2]
    assert to_row(Update(1, "p", "c", 2)) == [7, 1, b"p", b"c", 2]
    assert to_row(Force(1, "new")) == [8, 1, b"new"]


def test_a_change_from_the_future_stops_the_node_with_78() -> None:
    with pytest.raises(UnknownOperation, match="newer program") as raised:
        batch.decode(msgpack.packb([4, 0, 0, 10, 1]))
    assert raised.value.exit_code == ExitCode.WRONG_CONFIGURATION


@pytest.mark.parametrize(
    "row",
    [
        [],
        [b"3", 1],
        [True, 1],
        [3],
        [3, 1, 1],
        [3, 0],
        [3, -1],
        [3, True],
        [3, b"1"],
        [3, None],
        [6, 0],
        [2, 1, b"", b"", b"", 0, 1, 0],
        [2, 1, b"n\n", b"", b"", 0, 1, 0],
        [2, 1, b"\xff", b"", b"", 0, 1, 0],
        [2, 1, 7, b"", b"", 0, 1, 0],
        [2, 1, b"n", b"", b"", 0, 2, 0],
        [2, 1, b"n", b"", b"", 0, True, 0],
        [2, 1, b"n" * (MEMBER_TEXT_BYTES_MAX + 1), b"", b"", 0, 1, 0],
        [8, 1, b""],
        [9, 0],
        [1, 3, []],
        [1, 3, 5],
        [1, 3, [5]],
        [1, 3, [[1, b"n", b"", b""]]],
        [1, 0, [[1, b"n", b"", b"", 0]]],
        [1, 3, [[0, b"n", b"", b"", 0]]],
    ],
)
def test_nonsense_is_malformed(row: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_row(row)
    with pytest.raises(MalformedEntry):
        batch.decode(msgpack.packb([4, 0, 0, *row]))


LEAF = st.one_of(st.integers(-1, 2**64 - 1), st.binary(max_size=4), st.none(), st.booleans())
FIELD = st.one_of(LEAF, st.floats(), st.lists(st.one_of(LEAF, st.lists(LEAF, max_size=6))))


@given(st.integers(0, 10), st.lists(FIELD, max_size=8))
def test_whatever_stands_in_a_change_it_is_read_or_refused(code: int, fields: list[Any]) -> None:
    try:
        entry = batch.decode(msgpack.packb([4, 0, 0, code, *fields]))
    except (MalformedEntry, UnknownOperation):
        return
    assert isinstance(entry, Configure)
    assert to_row(entry.change) == [code, *fields]


@pytest.mark.parametrize(
    "change",
    [
        Promote(0),
        Promote(2**64),
        Add(1, ""),
        Add(1, "a\tb"),
        Add(1, "n", "x" * (MEMBER_TEXT_BYTES_MAX + 1)),
        Found(3, ()),
        Force(1, ""),
    ],
)
def test_what_no_node_could_read_is_never_written(change: Change) -> None:
    with pytest.raises(ValueError, match=r"."):
        batch.encode_configure(0, 0, change)


@pytest.mark.parametrize("head", [[4], [4, 0], [4, -1, 0, 6], [4, 0, b"", 6]])
def test_a_change_needs_its_stamp_and_seed(head: list[Any]) -> None:
    with pytest.raises(MalformedEntry):
        batch.decode(msgpack.packb(head))
