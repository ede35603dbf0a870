"""Glob patterns, against a slow matcher that reads the pattern one byte at a time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.limits import PATTERN_BYTES_MAX
from kvnode.store.redis.glob import compile_pattern


def class_end(pattern: bytes, key: int) -> tuple[bool, int]:
    """Whether `key` is in the class that begins at pattern[0], and how long the class is."""
    at = 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    found = False
    while True:
        if at >= len(pattern):
            return found != negated, at
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            found |= pattern[at + 1] == key
            at += 2
        elif pattern[at] == ord("]"):
            return found != negated, at + 1
        elif at + 2 < len(pattern) and pattern[at + 1] == ord("-"):
            low, high = min(pattern[at], pattern[at + 2]), max(pattern[at], pattern[at + 2])
            found |= low <= key <= high
            at += 3
        else:
            found |= pattern[at] == key
            at += 1


def slow_match(pattern: bytes, key: bytes) -> bool:
    if not pattern:
        return not key
    if pattern[0] == ord("*"):
        return any(slow_match(pattern[1:], key[cut:]) for cut in range(len(key) + 1))
    if not key:
        return False
    if pattern[0] == ord("["):
        within, length = class_end(pattern, key[0])
        return within and slow_match(pattern[length:], key[1:])
    if pattern[0] == ord("?"):
        return slow_match(pattern[1:], key[1:])
    if pattern[0] == ord("\\") and len(pattern) > 1:
        pattern = pattern[1:]
    return pattern[0] == key[0] and slow_match(pattern[1:], key[1:])


SMALL = st.lists(st.sampled_from(b"ab*?[]^-\\z.\n\x00\xff"), max_size=9).map(bytes)
KEY = st.lists(st.sampled_from(b"abc-]^\\z.\n\x00\xff"), max_size=8).map(bytes)


@settings(max_examples=1000)
@given(SMALL, KEY)
def test_a_compiled_pattern_matches_what_the_slow_matcher_does(pattern: bytes, key: bytes) -> None:
    assert bool(compile_pattern(pattern)(key)) == slow_match(pattern, key)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        (b"h?llo", b"hello", True),
        (b"h*llo", b"heeeello", True),
        (b"h[ae]llo", b"hillo", False),
        (b"h[^e]llo", b"hello", False),
        (b"h[b-a]llo", b"hallo", True),
        (b"h\\*llo", b"h*llo", True),
        (b"h\\*llo", b"hello", False),
        (b"a*b*c", b"a-b-b-c", True),
        (b"a*bc", b"abcbc", True),
        (b"*\n*", b"a\nb", True),
        (b"[", b"[", False),
        (b"[a", b"a", True),
        (b"[]", b"]", False),
        (b"[^]", b"x", True),
        (b"a\\", b"a\\", True),
        (b"", b"", True),
        (b"", b"a", False),
        (b"***", b"", True),
        (b"pre*", b"prefix", True),
        (b"pre*", b"pr", False),
        (b"a\\*", b"a*", True),
        (b"a\\*", b"ab", False),
    ],
)
def test_examples(pattern: bytes, key: bytes, matches: bool) -> None:
    assert bool(compile_pattern(pattern)(key)) is matches


def test_many_stars_do_not_run_away() -> None:
    # A backtracking matcher would try more ways than there are atoms; the time limit would tell.
    assert not compile_pattern(b"*a" * 100 + b"b")(b"a" * 10_000)


def test_the_longest_pattern_compiles() -> None:
    pattern = b"[a-z]*" * (PATTERN_BYTES_MAX // 6)
    assert compile_pattern(pattern)(b"q" * PATTERN_BYTES_MAX)
