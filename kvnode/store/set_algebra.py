"""Union, intersection and difference of sets and sorted sets, as walks that hold none in memory.

Members of all collections lie in the order of one keyed hash, so equal members come at the same
time when several are walked side by side. Each operation yields

    (hash, member, [(source, value), …])

in the order of hashes: which of the sources have the member, and what they hold for it (nothing in
a set, the score in a sorted set). A source that is None is an absent key. A walk may be confined to
a range of hashes: these spread evenly, so a long one is done in equal pieces, range by range.

An intersection asks for each member of the smallest source whether the others have it, so it costs
what the smallest one has. A difference does the same with the first source, unless the others
together are so small that walking along with them is less work.
"""

from __future__ import annotations

from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvnode.store.collection import Collection

Found: TypeAlias = tuple[int, bytes, list[tuple[int, bytes]]]
"""The hash of a member, the member, and (number of the source, its value there)."""

_Row: TypeAlias = tuple[int, int, bytes, bytes]
"""The hash of a member, the number of the source, the member, its value there."""

Sources: TypeAlias = "Sequence[Collection | None]"

HASHES: Final = 2**64
"""Hashes of members are below."""

WALKS_MAX: Final = 64
"""Walks side by side: each has a cursor open, and a step. More sources, which are mostly small, are
read one after the other, and their members sorted."""

_ROWS_PER_LOOKUP: Final = 0.5
"""Walking over a row beside others costs as much as asking twice whether a set has a member."""


class Operation(NamedTuple):
    """One of the three.

    Attributes:
        walk: yields the result, of hashes from the first number to below the second.
        rows: how many rows all of it walks over; what it asks for besides is in proportion.
    """

    walk: Callable[[Sources, int, int], Iterator[Found]]
    rows: Callable[[Sources], int]


def union(sources: Sources, from_hash: int = 0, end_hash: int = HASHES) -> Iterator[Found]:
    """Members of any source."""
    walks = [
        _walk(each, at, from_hash, end_hash) for at, each in enumerate(sources) if each is not None
    ]
    rows: Iterator[_Row]
    if len(walks) <= WALKS_MAX:
        rows = merge(*walks)  # by hash and number of the source
    else:
        rows = iter(sorted(chain.from_iterable(walks)))
    group = list(islice(rows, 1))
    for row in rows:
        if row[0] != group[0][0]:
            yield from _told_apart(group)
            group = [row]
        else:
            group.append(row)
    if group:
        yield from _told_apart(group)


def _told_apart(group: list[_Row]) -> Iterable[Found]:
    """The members of one hash: nearly always one, in some of the sources."""
    hashed, number, member, value = group[0]
    if len(group) == 1:
        return ((hashed, member, [(number, value)]),)
    found: dict[bytes, list[tuple[int, bytes]]] = {}
    for _, number, member, value in group:
        found.setdefault(member, []).append((number, value))
    return [(hashed, member, values) for member, values in found.items()]


def intersection(sources: Sources, from_hash: int = 0, end_hash: int = HASHES) -> Iterator[Found]:
    """Members of all sources. Without any source there are none."""
    present = [(each.count, at, each) for at, each in enumerate(sources) if each is not None]
    if not present or len(present) < len(sources):
        return
    (_, smallest_at, smallest), *others = sorted(present, key=lambda each: each[:2])
    for hashed, _, member, value in _walk(smallest, smallest_at, from_hash, end_hash):
        values = [(smallest_at, value)]
        for _, at, other in others:
            held = value if other.generation == smallest.generation else other.member(member)
            if held is None:
                break
            values.append((at, held))
        else:
            values.sort()
            yield hashed, member, values


def difference(sources: Sources, from_hash: int = 0, end_hash: int = HASHES) -> Iterator[Found]:
    """Members of the first source that none of the others has."""
    first, others = sources[0], [each for each in sources[1:] if each is not None]
    if first is None or any(each.generation == first.generation for each in others):
        return
    if _are_small(others, first):
        # Members of the others come along and take away what they meet.
        for found in union([first, *others], from_hash, end_hash):
            if found[2][-1][0] == 0:
                yield found
        return
    for hashed, _, member, value in _walk(first, 0, from_hash, end_hash):
        if all(each.member(member) is None for each in others):
            yield hashed, member, [(0, value)]


def _are_small(others: list[Collection], first: Collection) -> bool:
    return sum(each.count for each in others) < first.count * len(others) * _ROWS_PER_LOOKUP


def _rows_of_all(sources: Sources) -> int:
    return sum(each.count for each in sources if each is not None)


def _rows_of_smallest(sources: Sources) -> int:
    return min((0 if each is None else each.count for each in sources), default=0)


def _rows_of_difference(sources: Sources) -> int:
    first, others = sources[0], [each for each in sources[1:] if each is not None]
    if first is None:
        return 0
    return _rows_of_all(sources) if _are_small(others, first) else first.count


UNION: Final = Operation(union, _rows_of_all)
INTERSECTION: Final = Operation(intersection, _rows_of_smallest)
DIFFERENCE: Final = Operation(difference, _rows_of_difference)


def _walk(source: Collection, number: int, from_hash: int, end_hash: int) -> Iterator[_Row]:
    for hashed, member, value in source.members(from_hash):
        if hashed >= end_hash:
            return
        yield hashed, number, member, value
