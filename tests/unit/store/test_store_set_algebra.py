"""Walks over several collections at once: what they find, in which order, and in pieces."""

from __future__ import annotations

import random
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import pytest

from kvnode.store import set_algebra
from kvnode.store.collection import Collection, create, find
from kvnode.store.keyspace import HASH, HASH_BYTES, Keyspace
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.set_algebra import HASHES, Operation
from tests.unit.store.driver import HASH_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIVERSE = [b"%d" % number for number in range(60)] + [b"x" * 500 + b"%d" % n for n in range(5)]


@pytest.fixture
def space() -> Keyspace:
    return Keyspace(MemoryEngine(), HASH_KEY)


def made(space: Keyspace, key: bytes, members: dict[bytes, bytes]) -> Collection | None:
    """A collection of members with values, None if there are none."""
    built = create(space, 0, key, HASH)
    for member, value in members.items():
        built.put_member(member, value, None)
    built.count = len(members)
    space.advance()
    built.save()
    found = find(space, 0, key, HASH)
    assert found is None or isinstance(found, Collection)
    return found


def random_sources(
    space: Keyspace, rng: random.Random
) -> tuple[list[Collection | None], list[dict[bytes, bytes]]]:
    """Up to four collections, some empty, some the same, some far larger than others."""
    dicts: list[dict[bytes, bytes]] = []
    sources: list[Collection | None] = []
    for number in range(rng.randint(1, 4)):
        if dicts and rng.random() < 0.15:
            dicts.append(dicts[-1])
            sources.append(sources[-1])
            continue
        size = rng.choice([0, 1, 5, 30, len(UNIVERSE)])
        dicts.append(dict.fromkeys(rng.sample(UNIVERSE, size), b"%d" % number))
        sources.append(made(space, b"key %d" % number, dicts[-1]))
    return sources, dicts


def expected_of(
    operation: Operation, dicts: list[dict[bytes, bytes]]
) -> dict[bytes, list[tuple[int, bytes]]]:
    held = {
        member: [(at, each[member]) for at, each in enumerate(dicts) if member in each]
        for member in UNIVERSE
    }
    if operation is set_algebra.UNION:
        return {member: values for member, values in held.items() if values}
    if operation is set_algebra.INTERSECTION:
        return {member: values for member, values in held.items() if len(values) == len(dicts)}
    return {member: values for member, values in held.items() if [at for at, _ in values] == [0]}


OPERATIONS = [set_algebra.UNION, set_algebra.INTERSECTION, set_algebra.DIFFERENCE]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_member_is_found_once_with_its_values_in_the_order_of_hashes(
    space: Keyspace, operation: Operation
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(60):
        sources, dicts = random_sources(space, rng)
        found = list(operation.walk(sources, 0, HASHES))
        assert {member: values for _, member, values in found} == expected_of(operation, dicts)
        assert len({member for _, member, _ in found}) == len(found)
        assert all(one[0] <= other[0] for one, other in pairwise(found))
        for hashed, member, _ in found:
            assert hashed == int.from_bytes(space.locate(member)[:HASH_BYTES], "big")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_ranges_of_hashes_add_up_to_the_whole(space: Keyspace, operation: Operation) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(20):
        sources, _ = random_sources(space, rng)
        whole = list(operation.walk(sources, 0, HASHES))
        cuts = [rng.randrange(HASHES) for _ in range(5)] + [found[0] for found in whole[:3]]
        ends = [0, *sorted(cuts), HASHES]
        pieces = [
            found for one, end in pairwise(ends) for found in operation.walk(sources, one, end)
        ]
        assert pieces == whole


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_rows_that_an_operation_tells_are_those_that_it_walks_over(
    space: Keyspace, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = 0
    original = Collection.members

    def members(self: Collection, from_hash: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        nonlocal walked
        for found in original(self, from_hash):
            walked += 1
            yield found

    monkeypatch.setattr(Collection, "members", members)
    rng = random.Random(7)
    for _ in range(50):
        sources, _ = random_sources(space, rng)
        walked = 0
        list(operation.walk(sources, 0, HASHES))
        assert walked <= operation.rows(sources)


def test_many_sources_are_read_one_after_the_other(space: Keyspace) -> None:
    """A union has no more cursors open than a few, and finds the same."""
    count = set_algebra.WALKS_MAX + 10
    dicts = [{b"%d" % (at % 30): b"%d" % at, b"%d" % at: b"v"} for at in range(count)]
    sources = [made(space, b"key %d" % at, each) for at, each in enumerate(dicts)]
    found = list(set_algebra.union(sources))
    assert [hashed for hashed, _, _ in found] == sorted(hashed for hashed, _, _ in found)
    assert {member: values for _, member, values in found} == {
        member: [(at, each[member]) for at, each in enumerate(dicts) if member in each]
        for member in (b"%d" % number for number in range(count))
    }


def test_members_of_one_hash_stay_apart(space: Keyspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keyspace, "locate", lambda _self, key: b"\x00" * 7 + key[:1] + key)
    one = made(space, b"a", dict.fromkeys([b"k1", b"k2", b"k3", b"m"], b"1"))
    other = made(space, b"b", dict.fromkeys([b"k2", b"k4"], b"2"))
    union = {member: values for _, member, values in set_algebra.union([one, other])}
    assert union == {
        **{member: [(0, b"1")] for member in (b"k1", b"k3", b"m")},
        b"k2": [(0, b"1"), (1, b"2")],
        b"k4": [(1, b"2")],
    }
    difference = set_algebra.difference([one, other])
    assert {member for _, member, _ in difference} == {b"k1", b"k3", b"m"}


def test_an_intersection_stops_at_the_smallest_source(space: Keyspace) -> None:
    """The others are asked for its members and never walked."""
    small = made(space, b"a", dict.fromkeys(UNIVERSE[:3], b"1"))
    large = made(space, b"b", dict.fromkeys(UNIVERSE, b"2"))
    assert small is not None
    assert large is not None
    walked: list[Collection] = []
    original = Collection.members

    def members(self: Collection, from_hash: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        walked.append(self)
        return original(self, from_hash)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collection, "members", members)
        assert len(list(islice(set_algebra.intersection([large, small]), 9))) == 3
        assert walked == [small]
        walked.clear()
        assert list(set_algebra.difference([small, large])) == []
        assert walked == [small]
        walked.clear()
        list(set_algebra.difference([large, small]))
        assert walked == [large, small]
