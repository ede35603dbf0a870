"""The longest common subsequence against the textbook's table."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from kvnode.limits import LCS_TABLE_BYTES_MAX
from kvnode.store.ops import LCS, SET, LcsFlag
from kvnode.store.redis import lcs
from kvnode.store.redis.messages import LCS_TOO_LARGE
from tests.unit.store.driver import Driver

LEN, IDX, WITHMATCHLEN = (int(flag) for flag in LcsFlag)

TEXT = st.one_of(st.text("ab", max_size=20), st.text("abcdef", max_size=70)).map(str.encode)


def textbook(a: bytes, b: bytes) -> tuple[int, list[tuple[int, int]]]:
    """The length, and the pairs of equal bytes from the end, as Redis walks through its table."""
    table = [[0] * (len(b) + 1)]
    for i in range(len(a)):
        row = [0]
        for j in range(len(b)):
            best = max(table[i][j + 1], row[j])
            row.append(table[i][j] + 1 if a[i] == b[j] else best)
        table.append(row)
    i, j = len(a), len(b)
    pairs = []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return table[-1][-1], pairs


@given(a=TEXT, b=TEXT)
@example(a=b"ohmytext", b=b"mynewtext")
def test_the_choice_among_equals_is_that_of_the_table(a: bytes, b: bytes) -> None:
    length, pairs = textbook(a, b)
    assert lcs.length(a, b) == length
    found = []
    for match in lcs.matches(a, b):
        assert match.length == match.b_last - match.b_first + 1
        found += [(match.a_last - at, match.b_last - at) for at in range(match.length)]
    assert found == pairs


@given(a=TEXT, b=TEXT)
def test_stretches_are_as_long_as_can_be(a: bytes, b: bytes) -> None:
    matches = lcs.matches(a, b)
    for later, earlier in pairwise(matches):
        assert (earlier.a_last + 1, earlier.b_last + 1) != (later.a_first, later.b_first)


def test_answers_have_the_shapes_of_redis(driver: Driver) -> None:
    driver.do(SET, 0, b"a", b"ohmytext")
    driver.do(SET, 0, b"b", b"mynewtext")

    def ask(flags: int, match_bytes_min: int = 0) -> object:
        return driver.read(LCS, 0, b"a", b"b", flags, match_bytes_min)

    assert ask(0) == b"mytext"
    assert ask(LEN) == 6
    assert ask(IDX) == [b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6]
    assert ask(IDX, 4) == [b"matches", [[[4, 7], [5, 8]]], b"len", 6]
    assert ask(IDX | WITHMATCHLEN, 4) == [b"matches", [[[4, 7], [5, 8], 4]], b"len", 6]
    assert driver.read(LCS, 0, b"a", b"none", 0, 0) == b""
    assert driver.read(LCS, 0, b"none", b"a", IDX, 0) == [b"matches", [], b"len", 0]


def test_a_table_that_is_too_large_is_refused(driver: Driver) -> None:
    side = b"x" * LCS_TABLE_BYTES_MAX
    assert lcs.table_bytes(b"x" * 5_000, b"y" * 5_000) <= LCS_TABLE_BYTES_MAX
    for a, b in ((side, b"y"), (b"y" * 7, side * 2), (b"x" * 9_000, b"y" * 9_000)):
        driver.do(SET, 0, b"a", a)
        driver.do(SET, 0, b"b", b)
        error = driver.read(LCS, 0, b"a", b"b", LEN, 0)
        assert getattr(error, "text", None) == LCS_TOO_LARGE
