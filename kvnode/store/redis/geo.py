"""Places: sorted sets whose scores are geohashes (`geohash`), and what lies near a place.

GEOADD is a ZADD whose scores the front end computed. GEOSEARCH and GEORADIUS look at their
arguments and at the key in turns; so an op carries what is to be checked once the key is known
(`GeoCheck`), in the order in which Redis finds fault.

GEORADIUS without STORE is a write in Redis' command table and travels like one, but changes
nothing.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.limits import BULK_ROWS_MAX
from kvnode.store import bulk, ops
from kvnode.store.collection import Collection, find
from kvnode.store.keyspace import ZSET
from kvnode.store.ops import GeoCheck, GeoFlag
from kvnode.store.redis import geohash, trigonometry
from kvnode.store.redis.geohash import Box, Circle, Point
from kvnode.store.redis.sorted_sets import ROWS_PER_MEMBER, refused, store, stored
from kvnode.store.scores import sortable, unpack_score
from kvnode.store.sorted_set import Pair, SortedSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.geohash import Trigonometry
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

NO_PLACE: Final = "ERR could not decode requested zset member"

_EDGE: Final = 1e-6
"""The part of a shape's size within which its edge is looked at more closely: more than the error
of any processor's sine."""


class Match(NamedTuple):
    """A place that was searched for, and how far it is from the centre."""

    member: bytes
    score: float
    point: Point
    far_m: float


def _place(members: SortedSet, member: bytes) -> Point | None:
    score = members.score(member)
    return None if score is None else geohash.decode(geohash.bits_of(score))


def _places(space: Keyspace, op: Op) -> list[Point | None] | CommandError:
    _, number, key, *named = op
    found = find(space, number, key, ZSET)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return [None] * len(named)
    members = SortedSet(found)
    return [_place(members, member) for member in named]


def geopos(space: Keyspace, op: Op) -> Result:
    """GEOPOS: [longitude, latitude], or nil, of each member."""
    places = _places(space, op)
    if isinstance(places, CommandError):
        return places
    return [None if place is None else [*place] for place in places]


def geohash_(space: Keyspace, op: Op) -> Result:
    """GEOHASH: the text form of a place, or nil, of each member."""
    places = _places(space, op)
    if isinstance(places, CommandError):
        return places
    return [None if place is None else geohash.text(place) for place in places]


def geodist(space: Keyspace, op: Op) -> Result:
    """GEODIST: how far two members are apart, nil if one is missing."""
    _, number, key, one, other, unit = op
    places = _places(space, [ops.GEODIST, number, key, one, other])
    if isinstance(places, CommandError):
        return places
    first, second = places
    if first is None or second is None:
        return None
    return _distance_text(geohash.distance_m(first, second), unpack_score(unit))


def geosearch(space: Keyspace, op: Op) -> Result:
    """GEOSEARCH, GEORADIUS_RO, GEORADIUSBYMEMBER_RO: members, or lists of what is to be shown."""
    _, number, key, checks, centre, shape, flags, count = op
    found, point = _judge(space, number, key, checks)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return []
    wanted = _shape(point or _point(centre), shape)
    matches = _search(SortedSet(found), wanted, flags, count, math)
    return [_shown(match, flags, unpack_score(shape[0])) for match in matches]


def rows_met(
    space: Keyspace, number: int, key: bytes, checks: list[tuple[int, bytes]], centre: bytes,
    shape: list[bytes], most: int,
) -> int:  # fmt: skip
    """How many members a search would look at, at most `most`."""
    found, point = _judge(space, number, key, checks)
    if not isinstance(found, Collection):
        return 0
    members, met = SortedSet(found), 0
    for low, high in geohash.score_ranges(_shape(point or _point(centre), shape), math):
        pairs = members.between(sortable(float(low)), sortable(float(high)), reverse=False)
        met += sum(1 for _ in islice(pairs, most - met))
    return met


def geosearchstore(space: Keyspace, op: Op) -> Result:
    """GEOSEARCHSTORE, GEORADIUS, GEORADIUSBYMEMBER: the number of matches that were stored.

    Without a target it only answers, as GEOSEARCH does. All that lies within a large shape is
    stored in steps; the nearest ones of it are only known when all have been looked at.
    """
    _, number, target, key, checks, centre, shape, flags, count = op
    if target is None:
        return geosearch(space, [ops.GEOSEARCH, number, key, checks, centre, shape, flags, count])
    found, point = _judge(space, number, key, checks)
    if isinstance(found, CommandError):
        return found
    pairs: dict[bytes, float] = {}
    if found is not None:
        members, wanted = SortedSet(found), _shape(point or _point(centre), shape)
        if not count:
            looked_at = _matches(members, wanted, trigonometry, is_measured=False)
            if sum(1 for _ in islice(looked_at, BULK_ROWS_MAX + 1)) > BULK_ROWS_MAX:
                return bulk.store(space, op, MATCHED_ROWS)
        pairs = _kept(_search(members, wanted, flags, count, trigonometry), op)
    return store(space, number, target, list(pairs.items()), _event(op))


def _kept(matches: Iterable[Match], op: Op) -> dict[bytes, float]:
    """What is stored of matches: a geohash, or with STOREDIST how far they are."""
    if op[7] & GeoFlag.STOREDIST:
        unit_m = unpack_score(op[6][0])
        return {match.member: match.far_m / unit_m for match in matches}
    return {match.member: match.score for match in matches}


def _event(op: Op) -> bytes:
    return b"georadiusstore" if op[7] & GeoFlag.RADIUS else b"geosearchstore"


def _check_matched(space: Keyspace, op: Op) -> Result | bulk.Check:
    found, _ = _judge(space, op[1], op[3], op[4])
    return found if isinstance(found, CommandError) else bulk.GO_ON


def _matched_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bytes | None:
    """The cursor is the number of a range of the search, and the place in it to go on from."""
    _, number, _, key, checks, centre, shape, flags, _ = op
    found, point = _judge(space, number, key, checks)
    if found is None:
        return None
    assert isinstance(found, Collection), "a job begins anew when its source is another one"
    wanted = _shape(point or _point(centre), shape)
    source, target = SortedSet(found), SortedSet(made)
    ranges = [*geohash.score_ranges(wanted, trigonometry)]
    at, first = (cursor[0], cursor[1:]) if cursor else (0, b"")
    if at == len(ranges):
        return None
    first, end = first or sortable(float(ranges[at][0])), sortable(float(ranges[at][1]))
    share = max(rows_max // ROWS_PER_MEMBER, 1)
    looked_at = list(islice(source.between(first, end, reverse=False), share))
    is_measured = bool(flags & GeoFlag.STOREDIST)
    matches = _within(looked_at, wanted, trigonometry, is_measured=is_measured)
    # Where cells are larger than half of the world, one may come twice.
    kept = _kept(matches, op).items()
    target.fill([(member, score) for member, score in kept if target.score(member) is None])
    if len(looked_at) < share:
        return bytes((at + 1,))
    member, score = looked_at[-1]
    return bytes((at,)) + source.bound(member, score, after=True)


def _finish_matched(space: Keyspace, op: Op, made: Collection) -> Result:
    return stored(space, made, _event(op))


MATCHED_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], op[3])],
    target=lambda op: (op[1], op[2]),
    kind=lambda _space, _op: ZSET,
    check=_check_matched,
    part=_matched_part,
    finish=_finish_matched,
)


def _judge(
    space: Keyspace, number: int, key: bytes, checks: list[tuple[int, bytes]]
) -> tuple[Collection | CommandError | None, Point | None]:
    """The key's sorted set, or why there is no answer; and the place of the member asked for."""
    found = find(space, number, key, ZSET)
    point: Point | None = None
    if isinstance(found, CommandError):
        return found, None
    for check, text in checks:
        if check == GeoCheck.REFUSE or (check == GeoCheck.REFUSE_IF_THERE and found is not None):
            return refused(text), None
        if check == GeoCheck.MEMBER and found is not None:
            point = _place(SortedSet(found), text)
            if point is None:
                return CommandError(NO_PLACE), None
    return found, point


def _point(centre: bytes) -> Point:
    return Point(unpack_score(centre[:8]), unpack_score(centre[8:]))


def _shape(centre: Point, packed: list[bytes]) -> Circle | Box:
    """From its unit in metres and a radius, or a width and a height, in that unit."""
    unit_m, *sizes = map(unpack_score, packed)
    if len(sizes) == 1:
        return Circle(centre, sizes[0] * unit_m)
    return Box(centre, sizes[0] * unit_m, sizes[1] * unit_m)


def _search(
    members: SortedSet, shape: Circle | Box, flags: int, count: int, functions: Trigonometry
) -> list[Match]:
    """What lies within the shape: all, or `count` of them; the nearest ones, unless ANY will do."""
    is_any = bool(flags & GeoFlag.ANY)
    is_measured = bool(count or flags & (GeoFlag.ASC | GeoFlag.DESC | GeoFlag.STOREDIST))
    found = _matches(members, shape, functions, is_measured=is_measured)
    matches = list(islice(found, count if is_any and count else None))
    if flags & GeoFlag.DESC:
        matches.sort(key=_far, reverse=True)
    elif flags & GeoFlag.ASC or (count and not is_any):
        matches.sort(key=_far)
    return matches[:count] if count else matches


def _far(match: Match) -> float:
    return match.far_m


def _matches(
    members: SortedSet, shape: Circle | Box, functions: Trigonometry, *, is_measured: bool
) -> Iterator[Match]:
    """Places within a shape, in the order of the search."""
    for low, high in geohash.score_ranges(shape, functions):
        first, end = sortable(float(low)), sortable(float(high))
        pairs = members.between(first, end, reverse=False)
        yield from _within(pairs, shape, functions, is_measured=is_measured)


def _within(
    pairs: Iterable[Pair], shape: Circle | Box, functions: Trigonometry, *, is_measured: bool
) -> Iterator[Match]:
    """Those of the members whose places lie within a shape.

    Replicas must agree on what becomes state, so they ask slow functions; but not about places
    that are far from the edge, unless their distance is wanted too.
    """
    is_state = functions is not math
    inner, outer = _scaled(shape, 1 - _EDGE), _scaled(shape, 1 + _EDGE)
    for member, score in pairs:
        point = geohash.decode(geohash.bits_of(score))
        far_m = geohash.within(outer if is_state else shape, point)
        if far_m is None:
            continue
        if is_state and (is_measured or geohash.within(inner, point) is None):
            far_m = geohash.within(shape, point, functions)
        if far_m is not None:
            yield Match(member, score, point, far_m)


def _scaled(shape: Circle | Box, factor: float) -> Circle | Box:
    if isinstance(shape, Circle):
        return Circle(shape.centre, shape.radius_m * factor)
    return Box(shape.centre, shape.width_m * factor, shape.height_m * factor)


def _shown(match: Match, flags: int, unit_m: float) -> Result:
    if not flags & (GeoFlag.WITHDIST | GeoFlag.WITHHASH | GeoFlag.WITHCOORD):
        return match.member
    shown: list[Result] = [match.member]
    if flags & GeoFlag.WITHDIST:
        shown.append(_distance_text(match.far_m, unit_m))
    if flags & GeoFlag.WITHHASH:
        shown.append(int(match.score))
    if flags & GeoFlag.WITHCOORD:
        shown.append([*match.point])
    return shown


def _distance_text(far_m: float, unit_m: float) -> bytes:
    return b"%.4f" % (far_m / unit_m)


READS: Final[dict[int, Meaning]] = {
    ops.GEOPOS: geopos,
    ops.GEOHASH: geohash_,
    ops.GEODIST: geodist,
    ops.GEOSEARCH: geosearch,
}

WRITES: Final[dict[int, Meaning]] = {ops.GEOSEARCHSTORE: geosearchstore}

RECIPES: Final[dict[int, bulk.Recipe]] = {ops.GEOSEARCHSTORE: MATCHED_ROWS}
