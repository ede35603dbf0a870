"""Places on the globe as numbers of 52 bits, so that a sorted set can keep and search them.

The plane of longitude and latitude is halved again and again, in turns: each halving of either is
one bit, the bits of the two are interleaved, and so places with equal first bits lie in one *cell*
(G. Niemeyer, geohash.org, 2008). A cell of `step` halvings each way is a range of numbers of 52
bits, whence a circle is searched as the cell of its centre and the eight around it, with a step so
small that these cover it. Redis does the same; clients see its choice of cells in the order of
their replies, its arithmetic in the last digit of distances, so both are followed to the letter
here (Redis 7.0, `geohash.c`, `geohash_helper.c`, `geo.c`), wrap-around at the date line included.

Pure arithmetic: no rows, no clock. Longitudes and latitudes are in degrees, lengths in metres.
Who asks says whose sine to use: the machine's, which is quick, but may differ in the last bit
between processors and so must not decide about state, or that of
`kvnode.store.redis.trigonometry`, which is the same everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

EARTH_RADIUS_M: Final = 6372797.560856
"""The radius that Redis computes with."""

LONGITUDE_MAX: Final = 180.0
LATITUDE_MAX: Final = 85.05112878
"""Where the square map of the world ends (EPSG:900913)."""

STEP_MAX: Final = 26
"""Halvings of each axis in a score: 52 bits fit into the integers of a double."""

HALF_EQUATOR_M: Final = 20037726.37
"""What Redis takes for half of the way around the world when it chooses the size of cells."""

TEXT_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
TEXT_CHARACTERS: Final = 11
BITS_PER_CHARACTER: Final = 5

_RADIAN: Final = math.pi / 180.0
_TEXT_LATITUDE_MAX: Final = 90.0
"""The text form, which others read too, has the whole globe."""


class Trigonometry(Protocol):
    """Whose functions to compute with."""

    def sin(self, x: float, /) -> float: ...
    def cos(self, x: float, /) -> float: ...
    def asin(self, x: float, /) -> float: ...


class Point(NamedTuple):
    """A place."""

    longitude: float
    latitude: float


class Cell(NamedTuple):
    """A rectangle of the grid: its column and row in a grid of 2^step by 2^step."""

    step: int
    column: int
    row: int


class Circle(NamedTuple):
    """What lies within a distance of a place."""

    centre: Point
    radius_m: float


class Box(NamedTuple):
    """What lies within half a width and half a height of a place, on the globe."""

    centre: Point
    width_m: float
    height_m: float


# --- places and numbers -----------------------------------------------------------------------


def encode(point: Point) -> int:
    """The 52 bits of a place."""
    cell = _cell_at(point, STEP_MAX, LATITUDE_MAX)
    return interleave(cell.row, cell.column)


def decode(bits: int) -> Point:
    """The middle of the cell that 52 bits tell, the place as which it is shown."""
    row, column = deinterleave(bits)
    west, east, south, north = _edges(Cell(STEP_MAX, column, row))
    longitude = max(min((west + east) / 2, LONGITUDE_MAX), -LONGITUDE_MAX)
    latitude = max(min((south + north) / 2, LATITUDE_MAX), -LATITUDE_MAX)
    return Point(longitude, latitude)


def bits_of(score: float) -> int:
    """The bits that a score stands for, as a C program on x86-64 turns a double into 64 bits.

    Scores that GEOADD made are the bits; any other number may be in a sorted set too.
    """
    if not -(2.0**63) <= score < 2.0**64:  # infinite ones too
        return 0 if score > 0 else 2**63
    return int(score) % 2**64


def text(point: Point) -> bytes:
    """The eleven characters that other programs know a place by; the last is always 0, as in Redis.

    52 bits are ten characters and two bits.
    """
    cell = _cell_at(point, STEP_MAX, _TEXT_LATITUDE_MAX)
    bits = interleave(cell.row, cell.column)
    known = [2 * STEP_MAX - BITS_PER_CHARACTER * (at + 1) for at in range(TEXT_CHARACTERS - 1)]
    letters = bytes(TEXT_ALPHABET[bits >> shift & 0x1F] for shift in known)
    return letters + TEXT_ALPHABET[:1]


def interleave(even: int, odd: int) -> int:
    """Two numbers of 32 bits as one of 64: `even` has the bits 0, 2, 4 …, `odd` the others."""
    return _spread(even) | _spread(odd) << 1


def deinterleave(bits: int) -> tuple[int, int]:
    """The two numbers that `interleave` put together."""
    return _gather(bits), _gather(bits >> 1)


_SPREADING: Final = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
"""Masks by the distance that bits move in one of the five steps (Morton order)."""


def _spread(number: int) -> int:
    for shift, mask in _SPREADING:
        number = (number | number << shift) & mask
    return number


def _gather(number: int) -> int:
    number &= _SPREADING[-1][1]
    for (shift, _), (_, mask) in zip(_SPREADING[::-1], _SPREADING[-2::-1], strict=False):
        number = (number | number >> shift) & mask
    return (number | number >> 16) & 0xFFFFFFFF


# --- cells ------------------------------------------------------------------------------------


def _cell_at(point: Point, step: int, latitude_max: float) -> Cell:
    """The cell that a place lies in; 2^32 counts as 0, as where Redis cuts numbers to 32 bits."""
    across = (point.longitude + LONGITUDE_MAX) / (2 * LONGITUDE_MAX)
    up = (point.latitude + latitude_max) / (2 * latitude_max)
    cells = 1 << step
    return Cell(step, int(across * cells) & 0xFFFFFFFF, int(up * cells) & 0xFFFFFFFF)


def _edges(cell: Cell) -> tuple[float, float, float, float]:
    """West, east, south and north of a cell."""
    cells = 1 << cell.step
    west = -LONGITUDE_MAX + cell.column / cells * (2 * LONGITUDE_MAX)
    east = -LONGITUDE_MAX + (cell.column + 1) / cells * (2 * LONGITUDE_MAX)
    south = -LATITUDE_MAX + cell.row / cells * (2 * LATITUDE_MAX)
    north = -LATITUDE_MAX + (cell.row + 1) / cells * (2 * LATITUDE_MAX)
    return west, east, south, north


def _beside(cell: Cell, east: int, north: int) -> Cell:
    """A neighbour; the world goes on at its other side.

    At 180 degrees a place is in a column beyond the last. Redis brings that back only on the way
    to the east or west.
    """
    mask = (1 << cell.step) - 1
    column = cell.column + east & mask if east else cell.column
    row = cell.row + north & mask if north else cell.row
    return Cell(cell.step, column, row)


_AROUND: Final = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Neighbours in the order of Redis' search, as steps to the east and to the north."""


def score_ranges(shape: Circle | Box, functions: Trigonometry = math) -> Iterator[tuple[int, int]]:
    """The ranges of numbers, without their ends, in which places of the shape may be.

    In Redis' order. Where cells are so large that a neighbour to the left is one to the right, a
    range may come twice, unless directly after itself: Redis does not see more either.
    """
    previous: Cell | None = None
    for cell in _cells(shape, functions):
        if cell is None or cell == previous:
            continue
        previous = cell
        shift = 2 * (STEP_MAX - cell.step)
        bits = interleave(cell.row, cell.column)
        yield bits << shift, bits + 1 << shift


def _cells(shape: Circle | Box, functions: Trigonometry) -> list[Cell | None]:
    """The cell of the centre and its neighbours; None for one that the shape does not reach."""
    west, east, south, north = _bounds(shape, functions)
    step = _step(_reach_m(shape), shape.centre.latitude)
    middle = _cell_at(shape.centre, step, LATITUDE_MAX)
    if step > 1 and not _suffices(middle, (west, east, south, north)):
        step -= 1
        middle = _cell_at(shape.centre, step, LATITUDE_MAX)
    around = [_beside(middle, *towards) for towards in _AROUND]
    if step < 2:
        return [middle, *around]
    cell_west, cell_east, cell_south, cell_north = _edges(middle)
    needless = (
        1 if cell_east > east else None,
        -1 if cell_west < west else None,
        1 if cell_north > north else None,
        -1 if cell_south < south else None,
    )
    return [middle, *(
        None if (x in needless[:2] or y in needless[2:]) else cell
        for (x, y), cell in zip(_AROUND, around, strict=True)
    )]  # fmt: skip


def _suffices(middle: Cell, bounds: tuple[float, float, float, float]) -> bool:
    """Whether the four neighbours reach as far as the shape does."""
    west, east, south, north = bounds
    return not (
        _edges(_beside(middle, 0, 1))[3] < north
        or _edges(_beside(middle, 0, -1))[2] > south
        or _edges(_beside(middle, 1, 0))[1] < east
        or _edges(_beside(middle, -1, 0))[0] > west
    )


def _step(reach_m: float, latitude: float) -> int:
    """How often to halve so that cells are about as large as the shape."""
    if reach_m == 0:
        return STEP_MAX
    step = 1
    while reach_m < HALF_EQUATOR_M:
        reach_m *= 2
        step += 1
    step -= 2
    step -= (abs(latitude) > 66) + (abs(latitude) > 80)  # meridians come together
    return min(max(step, 1), STEP_MAX)


def _reach_m(shape: Circle | Box) -> float:
    if isinstance(shape, Circle):
        return shape.radius_m
    across_m, up_m = shape.width_m / 2, shape.height_m / 2
    return math.sqrt(across_m * across_m + up_m * up_m)


def _bounds(shape: Circle | Box, functions: Trigonometry) -> tuple[float, float, float, float]:
    """West, east, south and north of a shape, measured where it is widest."""
    if isinstance(shape, Circle):
        across_m = up_m = shape.radius_m
    else:
        across_m, up_m = shape.width_m / 2, shape.height_m / 2
    longitude, latitude = shape.centre
    up = up_m / EARTH_RADIUS_M / _RADIAN
    farther = latitude - up if latitude < 0 else latitude + up
    if math.isinf(farther):  # as a cosine that is no number: nothing is found to be too small
        return math.nan, math.nan, latitude - up, latitude + up
    across = across_m / EARTH_RADIUS_M / functions.cos(farther * _RADIAN) / _RADIAN
    return longitude - across, longitude + across, latitude - up, latitude + up


# --- distances --------------------------------------------------------------------------------


def distance_m(one: Point, other: Point, functions: Trigonometry = math) -> float:
    """Along the great circle between two places, on a sphere (the haversine formula)."""
    latitude, other_latitude = one.latitude * _RADIAN, other.latitude * _RADIAN
    v = functions.sin((other.longitude * _RADIAN - one.longitude * _RADIAN) / 2)
    u = functions.sin((other_latitude - latitude) / 2)
    a = u * u + functions.cos(latitude) * functions.cos(other_latitude) * v * v
    return 2.0 * EARTH_RADIUS_M * functions.asin(min(math.sqrt(a), 1.0))


def within(shape: Circle | Box, point: Point, functions: Trigonometry = math) -> float | None:
    """How far from the centre a place of the shape is; None if it lies outside."""
    if isinstance(shape, Circle):
        far_m = distance_m(shape.centre, point, functions)
        return far_m if far_m <= shape.radius_m else None
    across = Point(shape.centre.longitude, point.latitude)
    if distance_m(point, across, functions) > shape.width_m / 2:
        return None
    if (
        distance_m(point, Point(point.longitude, shape.centre.latitude), functions)
        > shape.height_m / 2
    ):
        return None
    return distance_m(shape.centre, point, functions)
