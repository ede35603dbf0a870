"""Ranks: what the spans tell is what counting tells, and depends on the contents alone."""

from __future__ import annotations

import random
from bisect import insort
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from xxhash import xxh3_64_intdigest

from kvnode.store import collection as collections
from kvnode.store.collection import Collection
from kvnode.store.keyspace import ZSET, Keyspace
from kvnode.store.spans import PART_ORDER, PART_SPANS, Spans, height_of

if TYPE_CHECKING:
    from kvnode.store.engine import Engine


def tower(position: bytes) -> int:
    """Lower steps than the real ones, so that a small test has many levels."""
    hashed = xxh3_64_intdigest(position)
    height = 0
    while not hashed & 3:
        height, hashed = height + 1, hashed >> 2
    return min(height, 9)


class Ranked:
    """A weighted order kept twice: in rows with spans, and in lists."""

    def __init__(self, engine: Engine, generation: int = 100) -> None:
        space = Keyspace(engine, bytes(16))
        space.next_generation = generation
        opened = collections.open_(space, 0, b"z", ZSET)
        assert isinstance(opened, Collection)
        self.collection = opened
        self.spans = Spans(opened, lambda value: value[0])
        self.positions: list[bytes] = []
        self.weights: dict[bytes, int] = {}

    def insert(self, position: bytes, weight: int, *, row_first: bool = True) -> None:
        if row_first:
            self.collection.put_derived(PART_ORDER + position, bytes((weight,)))
        self.spans.insert(position, tower(position), weight)
        self.collection.put_derived(PART_ORDER + position, bytes((weight,)))
        insort(self.positions, position)
        self.weights[position] = weight

    def remove(self, position: bytes, *, row_first: bool = True) -> None:
        if row_first:
            self.collection.delete_derived(PART_ORDER + position)
        self.spans.remove(position, tower(position), self.weights.pop(position))
        self.collection.delete_derived(PART_ORDER + position)
        self.positions.remove(position)

    def reweigh(self, position: bytes, weight: int) -> None:
        self.collection.put_derived(PART_ORDER + position, bytes((weight,)))
        self.spans.add(position, weight - self.weights[position])
        self.weights[position] = weight

    def rows(self) -> list[tuple[bytes, bytes]]:
        return list(self.collection.rows(PART_SPANS, b"\x03"))

    def check(self) -> None:
        total = sum(self.weights.values())
        levels = {part[1] for part, _ in self.rows()}
        for level in levels:
            prefix = PART_SPANS + bytes((level,))
            spans = list(self.collection.rows(prefix, prefix + b"\xff"))
            assert sum(int.from_bytes(value, "big") for _, value in spans) == total
            there = [position for position in self.positions if tower(position) >= level]
            assert [part[2:] for part, _ in spans] == [b"", *there]
            assert there
        before = [0, *accumulate(self.weights[one] for one in self.positions)]
        for at, position in enumerate(self.positions):
            assert self.spans.rank(position) == before[at]
            assert self.spans.find(before[at]) == (position, 0)
            inside = self.weights[position] - 1
            assert self.spans.find(before[at] + inside) == (position, inside)
        assert self.spans.find(total) is None
        assert self.spans.find(-1) is None


def test_ranks_are_those_of_counting_after_any_history(engine: Engine) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    ranked = Ranked(engine)
    for step in range(400):
        position = b"%03d" % rng.randrange(150)
        row_first = rng.random() < 0.5
        if position not in ranked.weights:
            ranked.insert(position, rng.randrange(1, 9), row_first=row_first)
        elif rng.random() < 0.3:
            ranked.reweigh(position, rng.randrange(1, 9))
        else:
            ranked.remove(position, row_first=row_first)
        absent = b"%03d+" % rng.randrange(150)
        expected = sum(ranked.weights[one] for one in ranked.positions if one < absent)
        assert ranked.spans.rank(absent) == expected
        if step % 40 == 0:
            ranked.check()
    ranked.check()
    for position in list(ranked.positions):
        ranked.remove(position)
    assert ranked.rows() == []


def test_spans_depend_on_the_contents_and_not_on_the_history(engine: Engine) -> None:
    straight = Ranked(engine, 100)
    winding = Ranked(engine, 200)
    positions = [b"%03d" % number for number in range(120)]
    for position in positions:
        straight.insert(position, 3)
    for position in reversed(positions):
        winding.insert(position, 5)
        winding.insert(position + b"x", 1)
    for position in positions:
        winding.remove(position + b"x")
        winding.reweigh(position, 3)
    assert straight.rows() == winding.rows()


@pytest.mark.parametrize("bits", [0, 4, 5, 9, 10, 63])
def test_a_sixteenth_of_a_level_stands_on_the_next(bits: int) -> None:
    assert height_of(1 << bits) == min(bits // 4, 12)
    assert height_of(0) == 12


def test_spans_made_anew_are_those_that_were_kept(engine: Engine) -> None:
    ranked = Ranked(engine)
    for number in range(150):
        ranked.insert(b"%03d" % number, 1 + number % 5)
    kept = ranked.rows()
    assert {part[1] for part, _ in kept} >= {1, 2}
    ranked.spans.rebuild(lambda position, _value: tower(position))
    assert ranked.rows() == kept
    ranked.insert(b"1000", 2)
    ranked.check()


def test_spans_made_anew_of_nothing_are_none(engine: Engine) -> None:
    ranked = Ranked(engine)
    ranked.insert(b"a", 1)
    ranked.remove(b"a")
    ranked.spans.rebuild(lambda position, _value: tower(position))
    assert ranked.rows() == []


def test_a_rank_beyond_all_numbers_holds_nothing(engine: Engine) -> None:
    ranked = Ranked(engine)
    ranked.insert(b"a", 1)
    unweighed = Spans(ranked.collection)
    for rank in (2**63 - 1, 2**63, 2**70):
        assert ranked.spans.find(rank) is unweighed.find(rank) is None
