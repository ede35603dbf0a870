"""Random members of a hash, set or sorted set: nearly fair, at the cost of what is asked.

Members lie in the order of a keyed hash, so to look behind a random hash is to meet a member with
the probability of the gap before it. A choice among a *window* of the members that follow evens the
gaps out; Redis does the same with the chains of its table (`dictGetFairRandomKey`). A collection
that is small, or of which much is asked, is walked as a whole and drawn from exactly.

Rows are looked at without their values, which are read of the members that were drawn.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeAlias

from kvnode.errors import CommandError
from kvnode.limits import DRAWN_MEMBERS_MAX
from kvnode.store.collection import PART_MEMBERS, PREFIX_BYTES, member_in
from kvnode.store.keyspace import HASH_BYTES
from kvnode.store.redis.messages import OUT_OF_RANGE, reply_too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.collection import Collection
    from kvnode.store.draws import Draws

Drawn: TypeAlias = list[tuple[bytes, bytes]]
"""Members and their values."""

_SUFFIX_AT: Final = len(PART_MEMBERS) + HASH_BYTES

WINDOW_ROWS: Final = 32
"""Chances of two members differ by a sixth or so; a row costs a microsecond."""

WALK_ROWS_MAX: Final = 512
"""Collections of this size are always walked as a whole."""

_ASKED_SHARE: Final = 3
"""If one member in so many is asked for, a walk costs less than drawing again and again."""


def draw(collection: Collection, draws: Draws, count: int) -> Drawn | CommandError:
    """Random members as SRANDMEMBER counts them.

    Args:
        collection: one with members.
        draws: where randomness comes from.
        count: how many different members, all if there are fewer; negative: that many, each drawn
            from all.

    Returns:
        members in no particular order, or an error if they are too many for a reply.
    """
    if -count > DRAWN_MEMBERS_MAX:
        return CommandError(OUT_OF_RANGE)
    parts = (
        _repeated(collection, draws, -count) if count < 0 else distinct(collection, draws, count)
    )
    drawn: Drawn = []
    size, most = 0, collection.space.reply_bytes_max
    for part in parts:
        found = read(collection, part)
        size += len(found[0]) + len(found[1])
        if size > most:
            return CommandError(reply_too_large(most))
        drawn.append(found)
    return drawn


def draw_one(collection: Collection, draws: Draws) -> bytes:
    """One member."""
    return read(collection, _one(collection, draws))[0]


def distinct(collection: Collection, draws: Draws, count: int) -> list[bytes]:
    """Rows of `count` different members (of all, if there are fewer), by their parts."""
    size = collection.count
    if count >= size:
        return list(_parts(collection))
    if size <= WALK_ROWS_MAX or count * _ASKED_SHARE > size:
        return _sampled(collection, draws, count)
    chosen: dict[bytes, None] = {}
    while len(chosen) < count:
        chosen[_one(collection, draws)] = None
    return list(chosen)


def read(collection: Collection, part: bytes) -> tuple[bytes, bytes]:
    """The member in a row, and its value."""
    value = collection.get(part)
    assert value is not None
    return member_in(part[_SUFFIX_AT:], value)


def _sampled(collection: Collection, draws: Draws, count: int) -> list[bytes]:
    """Selection sampling (Knuth, The Art of Computer Programming, volume 2, §3.4.2, algorithm S)"""
    chosen: list[bytes] = []
    left = collection.count
    for part in _parts(collection):
        if draws.below(left) < count - len(chosen):
            chosen.append(part)
            if len(chosen) == count:
                break
        left -= 1
    return chosen


def _repeated(collection: Collection, draws: Draws, count: int) -> Iterator[bytes]:
    size = collection.count
    if size > WALK_ROWS_MAX and count * _ASKED_SHARE < size:
        return (_one(collection, draws) for _ in range(count))
    parts = list(_parts(collection))
    return (parts[draws.below(size)] for _ in range(count))


def _one(collection: Collection, draws: Draws) -> bytes:
    if collection.count <= WINDOW_ROWS:
        return next(islice(_parts(collection), draws.below(collection.count), None))
    around = chain(_parts(collection, draws.u64()), _parts(collection))
    window = list(islice(around, WINDOW_ROWS))
    return window[draws.below(WINDOW_ROWS)]


def _parts(collection: Collection, from_hash: int = 0) -> Iterator[bytes]:
    """Rows of members in the order of hashes, without what they hold."""
    prefix = collection.prefix
    first = prefix + PART_MEMBERS + from_hash.to_bytes(8, "big")
    for row in collection.engine.keys(first, prefix + b"\x01"):
        yield row[PREFIX_BYTES:]
