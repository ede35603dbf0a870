"""Geohashes, and searches for what lies near a place."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.limits import BULK_ROWS_MAX
from kvnode.store.ops import (
    EXEC,
    GEODIST,
    GEOHASH,
    GEOPOS,
    GEOSEARCH,
    GEOSEARCHSTORE,
    STEP,
    ZADD,
    ZRANGE,
    GeoCheck,
    GeoFlag,
)
from kvnode.store.redis import geohash, trigonometry
from kvnode.store.redis.geo import NO_PLACE
from kvnode.store.redis.geohash import Box, Circle, Point
from kvnode.store.reply import Unfinished
from kvnode.store.scores import pack_score
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from tests.unit.store.driver import Driver

PALERMO, CATANIA = Point(13.361389, 38.115556), Point(15.087269, 37.502669)
METRE, KILOMETRE = pack_score(1.0), pack_score(1000.0)


def add(driver: Driver, key: bytes, places: dict[bytes, Point]) -> None:
    given = [
        part
        for member, point in places.items()
        for part in (pack_score(float(geohash.encode(point))), member)
    ]
    driver.do(ZADD, 0, key, 0, *given)


def packed(point: Point) -> bytes:
    return b"".join(map(pack_score, point))


def random_point(rng: random.Random) -> Point:
    return Point(rng.uniform(-180, 180), rng.uniform(-85, 85))


# Figures that Redis' documentation shows for GEOADD, GEOHASH, GEODIST and GEOPOS.
def test_the_places_of_redis_documentation(driver: Driver) -> None:
    assert geohash.encode(PALERMO) == 3479099956230698
    assert geohash.encode(CATANIA) == 3479447370796909
    add(driver, b"k", {b"Palermo": PALERMO, b"Catania": CATANIA})
    named = [b"Palermo", b"Catania", b"none"]
    assert driver.read(GEOHASH, 0, b"k", *named) == [b"sqc8b49rny0", b"sqdtr74hyu0", None]
    assert driver.read(GEODIST, 0, b"k", *named[:2], METRE) == b"166274.1516"
    assert driver.read(GEODIST, 0, b"k", *named[:2], KILOMETRE) == b"166.2742"
    assert driver.read(GEODIST, 0, b"k", *named[1:], METRE) is None
    assert driver.read(GEOPOS, 0, b"k", b"Palermo", b"none") == [
        [13.361389338970184, 38.1155563954963],
        None,
    ]


def test_a_place_is_decoded_to_within_a_metre() -> None:
    rng = random.Random(1)
    for _ in range(500):
        point = random_point(rng)
        bits = geohash.encode(point)
        assert 0 <= bits < 1 << 52
        assert geohash.distance_m(point, geohash.decode(bits)) < 1
        assert geohash.encode(geohash.decode(bits)) == bits


def test_interleaving_is_undone() -> None:
    rng = random.Random(2)
    for _ in range(500):
        even, odd = rng.getrandbits(32), rng.getrandbits(32)
        assert geohash.deinterleave(geohash.interleave(even, odd)) == (even, odd)
    assert geohash.interleave(0b11, 0b00) == 0b0101
    assert geohash.interleave(0b00, 0b11) == 0b1010


@pytest.mark.parametrize(
    ("score", "bits"),
    [
        (1.9, 1),
        (-1.0, 2**64 - 1),
        (1e30, 0),
        (math.inf, 0),
        (-math.inf, 2**63),
        (-1e30, 2**63),
        (2.0**63, 2**63),
    ],
)
def test_any_score_stands_for_some_bits(score: float, bits: int) -> None:
    assert geohash.bits_of(score) == bits
    point = geohash.decode(bits)
    assert abs(point.longitude) <= 180
    assert abs(point.latitude) <= 85.05112878


def test_the_cells_of_a_search_hold_all_that_is_near() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(300):
        centre = Point(rng.uniform(-170, 170), rng.uniform(-60, 60))
        radius_m = 10 ** rng.uniform(0, 5.5)
        across = math.degrees(radius_m / geohash.EARTH_RADIUS_M)
        near = Point(
            centre.longitude + rng.uniform(-across, across),
            centre.latitude + rng.uniform(-across, across),
        )
        for shape in (Circle(centre, radius_m), Box(centre, 2 * radius_m, 2 * radius_m)):
            if geohash.within(shape, geohash.decode(geohash.encode(near))) is not None:
                bits = geohash.encode(near)
                assert any(low <= bits < high for low, high in geohash.score_ranges(shape))


@pytest.mark.parametrize("radius", [0.0, 1e-300, 1e9, 1e300, math.inf])
def test_a_circle_of_any_size_is_searched(driver: Driver, radius: float) -> None:
    add(driver, b"k", {b"a": PALERMO, b"b": Point(180.0, 85.0), b"c": Point(-180.0, -85.0)})
    for centre in (PALERMO, Point(180.0, 85.05112878), Point(-180.0, -85.05112878)):
        for shape in ([METRE, pack_score(radius)], [METRE, *[pack_score(radius)] * 2]):
            search = [[], packed(centre), shape, 0, 0]
            found = driver.read(GEOSEARCH, 0, b"k", *search)
            assert isinstance(found, list)
            assert driver.do(GEOSEARCHSTORE, 0, b"t", b"k", *search) == len(found)


def test_the_nearest_come_first_and_any_will_do_where_that_is_asked(driver: Driver) -> None:
    places = {b"%d" % east: Point(float(east), 0.0) for east in range(9)}
    add(driver, b"k", places)
    search = [b"k", [], packed(Point(0.0, 0.0)), [KILOMETRE, pack_score(600.0)]]
    assert driver.read(GEOSEARCH, 0, *search, int(GeoFlag.ASC), 0) == [b"%d" % e for e in range(6)]
    assert driver.read(GEOSEARCH, 0, *search, 0, 2) == [b"0", b"1"]
    assert driver.read(GEOSEARCH, 0, *search, int(GeoFlag.DESC), 2) == [b"5", b"4"]
    some = driver.read(GEOSEARCH, 0, *search, int(GeoFlag.ANY), 2)
    assert isinstance(some, list)
    assert len(some) == 2
    flags = GeoFlag.WITHDIST | GeoFlag.WITHHASH | GeoFlag.WITHCOORD
    bits = geohash.encode(places[b"0"])
    assert driver.read(GEOSEARCH, 0, *search, int(flags), 1) == [
        [b"0", b"0.0003", bits, [*geohash.decode(bits)]]
    ]


def test_checks_are_made_in_their_order_and_some_only_of_a_key_that_is_there(
    driver: Driver,
) -> None:
    add(driver, b"k", {b"a": PALERMO})
    member, if_there, always = (int(check) for check in GeoCheck)
    rest = [b"", [METRE, pack_score(1.0)], 0, 0]
    for checks, there, absent in [
        ([[member, b"a"]], [b"a"], []),
        ([[member, b"x"], [always, b"ERR no"]], NO_PLACE, "ERR no"),
        ([[always, b"ERR no"], [member, b"x"]], "ERR no", "ERR no"),
        ([[member, b"a"], [if_there, b"ERR no"]], "ERR no", []),
    ]:
        for key, expected in ((b"k", there), (b"none", absent)):
            answer = driver.read(GEOSEARCH, 0, key, checks, *rest)
            assert (answer.text if isinstance(answer, CommandError) else answer) == expected


def test_distances_are_stored_in_the_unit_that_was_asked_for(driver: Driver) -> None:
    add(driver, b"k", {b"Palermo": PALERMO, b"Catania": CATANIA})
    search = [b"t", b"k", [], packed(Point(15.0, 37.0)), [KILOMETRE, pack_score(100.0)]]
    assert driver.do(GEOSEARCHSTORE, 0, *search, int(GeoFlag.STOREDIST), 0) == 1
    everything = [0, b"t", 0, 0, -1, 2, 0, -1]
    # The figure is that of redis-server 7.0.15.
    assert driver.read(ZRANGE, *everything) == [[b"Catania", 56.441257870158204]]
    assert driver.do(GEOSEARCHSTORE, 0, *search, 0, 0) == 1
    assert driver.read(ZRANGE, *everything) == [[b"Catania", 3479447370796909.0]]
    driver.check()


@pytest.mark.parametrize("flags", [0, int(GeoFlag.STOREDIST)])
def test_a_large_search_is_stored_in_steps_and_is_that_of_one(engine: Engine, flags: int) -> None:
    driver = founded(engine)
    rng = random.Random(4)
    size = BULK_ROWS_MAX + 300
    add(driver, b"k", {b"%d" % at: random_point(rng) for at in range(size)})
    for shape in ([KILOMETRE, pack_score(17_500.0)], [KILOMETRE, *[pack_score(36_000.0)] * 2]):
        search = [b"k", [], packed(PALERMO), shape, flags, 0]
        (once,) = driver.do(EXEC, 0, [], [[GEOSEARCHSTORE, 0, b"once", *search]])  # type: ignore[misc]
        assert isinstance(once, int)
        assert once > BULK_ROWS_MAX
        answer = driver.do(GEOSEARCHSTORE, 0, b"t", *search)
        assert isinstance(answer, Unfinished)
        while isinstance(answer, Unfinished):
            answer = driver.do(STEP, 0, answer.job)
        assert answer == once
        everything = [0, 0, -1, 2, 0, -1]
        stored = driver.read(ZRANGE, 0, b"t", *everything)
        assert stored == driver.read(ZRANGE, 0, b"once", *everything)
        found = driver.read(GEOSEARCH, 0, *search)
        assert isinstance(found, list)
        assert {name for name, _ in stored} == set(found)  # type: ignore[misc,union-attr]
        driver.check()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("sin", -4, 4), ("cos", -4, 4), ("asin", -1, 1), ("asin", -1e-3, 1e-3), ("sin", -1e-9, 1e-9)],
)
def test_trigonometry_is_that_of_the_machine_but_for_the_last_bit(
    name: str, low: float, high: float
) -> None:
    rng = random.Random(3)
    ours, machine = getattr(trigonometry, name), getattr(math, name)
    numbers = [low, 0.0, high, *(rng.uniform(low, high) for _ in range(300))]
    for number in numbers:
        assert abs(ours(number) - machine(number)) <= math.ulp(machine(number))
    assert sum(ours(number) != machine(number) for number in numbers) < 10
