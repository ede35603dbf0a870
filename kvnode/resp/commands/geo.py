"""Grammar and replies of the GEO commands; their meaning is in `store.redis.geo`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kvnode.errors import CommandError
from kvnode.resp.commands.command import READ, Command
from kvnode.resp.commands.grammar import SYNTAX_ERROR, check_key, integer, text_of
from kvnode.resp.commands.sorted_sets import score_of
from kvnode.resp.encoder import NULL_ARRAYS, RESP2, RESP3, Renders, array, bulk, encode2, encode3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import GeoCheck, GeoFlag, ZAddFlag
from kvnode.store.redis import geohash
from kvnode.store.redis.geohash import LATITUDE_MAX, LONGITUDE_MAX, Point
from kvnode.store.reply import Result
from kvnode.store.scores import pack_score

UNITS_M: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}

_ADD_OPTIONS: Final = {
    b"NX": int(ZAddFlag.NX),
    b"XX": int(ZAddFlag.XX),
    b"CH": int(ZAddFlag.CH),
}
_FLAGS: Final = {
    b"WITHDIST": int(GeoFlag.WITHDIST),
    b"WITHHASH": int(GeoFlag.WITHHASH),
    b"WITHCOORD": int(GeoFlag.WITHCOORD),
    b"ANY": int(GeoFlag.ANY),
}
_ORDERS: Final = {b"ASC": int(GeoFlag.ASC), b"DESC": int(GeoFlag.DESC)}
_WITH: Final = int(GeoFlag.WITHDIST | GeoFlag.WITHHASH | GeoFlag.WITHCOORD)
_ANY: Final = int(GeoFlag.ANY)
_STOREDIST: Final = int(GeoFlag.STOREDIST)

_UNKNOWN_UNIT: Final = "ERR unsupported unit provided. please use M, KM, FT, MI"
_NOTHING_M: Final = [pack_score(1.0), pack_score(0.0)]
"""The shape of a search that is refused anyway."""


# --- replies --------------------------------------------------------------------------------------


def _coordinate(value: float, protocol: int) -> bytes:
    """With seventeen digits behind the point, less the zeros at the end."""
    text = (b"%.17f" % value).rstrip(b"0").rstrip(b".")
    if text == b"-0":
        text = b"0"
    return bulk(text) if protocol == RESP2 else b",%b\r\n" % text


def _encode(result: Result, protocol: int) -> bytes:
    """As usual, but for the doubles, which are coordinates here."""
    if isinstance(result, float):
        return _coordinate(result, protocol)
    if isinstance(result, list):
        return array([_encode(item, protocol) for item in result])
    return encode2(result) if protocol == RESP2 else encode3(result)


def _encode2(result: Result) -> bytes:
    return _encode(result, RESP2)


def _encode3(result: Result) -> bytes:
    return _encode(result, RESP3)


def _positions2(result: Result) -> bytes:
    """GEOPOS in RESP2: a place that is missing is the lack of a list."""
    if not isinstance(result, list):
        return encode2(result)
    return array([NULL_ARRAYS[0] if place is None else _encode2(place) for place in result])


PLACES: Final[Renders] = (_encode2, _encode3)
POSITIONS: Final[Renders] = (_positions2, _encode3)


# --- places ---------------------------------------------------------------------------------------


def _point_of(longitude: bytes, latitude: bytes) -> Point:
    point = Point(score_of(longitude), score_of(latitude))
    if abs(point.longitude) > LONGITUDE_MAX or abs(point.latitude) > LATITUDE_MAX:
        raise CommandError(
            f"ERR invalid longitude,latitude pair {point.longitude:f},{point.latitude:f}"
        )
    return point


def _unit_of(argument: bytes) -> float:
    unit_m = UNITS_M.get(argument.upper())
    if unit_m is None:
        raise CommandError(_UNKNOWN_UNIT)
    return unit_m


def parse_geoadd(db: int, arguments: list[bytes]) -> Op:
    flags, at = 0, 2
    while at < len(arguments):
        flag = _ADD_OPTIONS.get(arguments[at].upper())
        if flag is None:
            break
        flags |= flag
        at += 1
    given = arguments[at:]
    if not given or len(given) % 3 or (flags & ZAddFlag.NX and flags & ZAddFlag.XX):
        raise CommandError(SYNTAX_ERROR)
    pairs: list[bytes] = []
    for longitude, latitude, member in zip(given[::3], given[1::3], given[2::3], strict=True):
        bits = geohash.encode(_point_of(longitude, latitude))
        pairs += [pack_score(float(bits)), member]
    return [ops.ZADD, db, check_key(arguments[1]), flags, *pairs]


def parse_geopos(db: int, arguments: list[bytes]) -> Op:
    return [ops.GEOPOS, db, check_key(arguments[1]), *arguments[2:]]


def parse_geohash(db: int, arguments: list[bytes]) -> Op:
    return [ops.GEOHASH, db, check_key(arguments[1]), *arguments[2:]]


def parse_geodist(db: int, arguments: list[bytes]) -> Op:
    _, key, one, other, *units = arguments
    if len(units) > 1:
        raise CommandError(SYNTAX_ERROR)
    unit_m = _unit_of(units[0]) if units else 1.0
    return [ops.GEODIST, db, check_key(key), one, other, pack_score(unit_m)]


# --- searches -------------------------------------------------------------------------------------


class _Search:
    """What a search says, read from its arguments.

    Its grammar is judged by the node that has the key (`GeoCheck`), so nothing is raised here.

    Args:
        name: of the command, as it was sent.
        stores: it may name a key to store under (GEORADIUS) or has one (GEOSEARCHSTORE).
        is_radius: its centre and radius stand in front (GEORADIUS).
    """

    def __init__(self, name: bytes, *, stores: bool, is_radius: bool) -> None:
        self._name = name
        self._stores = stores
        self._is_radius = is_radius
        self.checks: list[list[int | bytes]] = []
        self.target: bytes | None = None
        self.centre = b""
        self.shape = _NOTHING_M
        self.flags = int(GeoFlag.RADIUS) if is_radius else 0
        self.count = 0
        self._has_member = self._has_place = False
        self._form = b""

    def op(self, db: int, code: int, key: bytes) -> Op:
        """The op that all of this makes."""
        how = [self.checks, self.centre, self.shape, self.flags, self.count]
        if code == ops.GEOSEARCH:
            return [code, db, check_key(key), *how]
        if self.target is not None:
            check_key(self.target)
        return [code, db, self.target, check_key(key), *how]

    def refuse(self, bad: CommandError, check: GeoCheck = GeoCheck.REFUSE) -> None:
        """Let this be the answer, if nothing before it is."""
        self.checks.append([int(check), bad.text.encode("utf-8", "surrogateescape")])

    def from_member(self, member: bytes) -> None:
        self.checks.append([int(GeoCheck.MEMBER), member])

    def from_place(self, longitude: bytes, latitude: bytes) -> None:
        self.centre = b"".join(map(pack_score, _point_of(longitude, latitude)))

    def by_radius(self, radius: bytes, unit: bytes) -> None:
        size = score_of(radius, "ERR need numeric radius")
        if size < 0:
            raise CommandError("ERR radius cannot be negative")
        self.shape = [pack_score(_unit_of(unit)), pack_score(size)]

    def by_box(self, width: bytes, height: bytes, unit: bytes) -> None:
        across = score_of(width, "ERR need numeric width")
        up = score_of(height, "ERR need numeric height")
        if across < 0 or up < 0:
            raise CommandError("ERR height or width cannot be negative")
        self.shape = [pack_score(_unit_of(unit)), pack_score(across), pack_score(up)]

    def read(self, options: list[bytes]) -> None:
        """Read what follows the key, or for GEORADIUS the radius."""
        try:
            at = 0
            while at < len(options):
                at += self._read(options[at].upper(), options[at + 1 :])
            self._judge()
        except CommandError as bad:
            self.refuse(bad)

    def _read(self, option: bytes, rest: list[bytes]) -> int:
        """Take one option; how many arguments it has, itself included."""
        if option in _FLAGS:
            self.flags |= _FLAGS[option]
            return 1
        if option in _ORDERS:
            self.flags = self.flags & ~(GeoFlag.ASC | GeoFlag.DESC) | _ORDERS[option]
            return 1
        if option == b"COUNT" and rest:
            self.count = integer(rest[0])
            if self.count <= 0:
                raise CommandError("ERR COUNT must be > 0")
            return 2
        taken = (
            self._read_target(option, rest) if self._is_radius else self._read_form(option, rest)
        )
        if not taken:
            raise CommandError(SYNTAX_ERROR)
        return taken

    def _read_target(self, option: bytes, rest: list[bytes]) -> int:
        if option not in (b"STORE", b"STOREDIST") or not self._stores or not rest:
            return 0
        self.target = rest[0]
        self.flags &= ~_STOREDIST
        if option == b"STOREDIST":
            self.flags |= _STOREDIST
        return 2

    def _read_form(self, option: bytes, rest: list[bytes]) -> int:
        if option == b"FROMMEMBER" and rest and not self._has_place:
            self.from_member(rest[0])
            self._has_member = True
            return 2
        if option == b"FROMLONLAT" and len(rest) >= 2 and not self._has_member:
            self.from_place(*rest[:2])
            self._has_place = True
            return 3
        if option == b"BYRADIUS" and len(rest) >= 2 and self._form != b"BYBOX":
            self.by_radius(*rest[:2])
            self._form = option
            return 3
        if option == b"BYBOX" and len(rest) >= 3 and self._form != b"BYRADIUS":
            self.by_box(*rest[:3])
            self._form = option
            return 4
        if option == b"STOREDIST" and self._stores:
            self.flags |= _STOREDIST
            return 1
        return 0

    def _judge(self) -> None:
        """What does not fit together."""
        if (self.target is not None) and self.flags & _WITH:
            who = "STORE option in GEORADIUS" if self._is_radius else "GEOSEARCHSTORE"
            raise CommandError(
                f"ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )
        name = text_of(self._name)
        if not self._is_radius and not (self._has_member or self._has_place):
            raise CommandError(
                f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )
        if not self._is_radius and not self._form:
            raise CommandError(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")
        if self.flags & _ANY and not self.count:
            raise CommandError("ERR the ANY argument requires COUNT argument")


def parse_geosearch(db: int, arguments: list[bytes]) -> Op:
    search = _Search(arguments[0], stores=False, is_radius=False)
    search.read(arguments[2:])
    return search.op(db, ops.GEOSEARCH, arguments[1])


def parse_geosearchstore(db: int, arguments: list[bytes]) -> Op:
    search = _Search(arguments[0], stores=True, is_radius=False)
    search.target = arguments[1]
    search.read(arguments[3:])
    return search.op(db, ops.GEOSEARCHSTORE, arguments[2])


def parse_georadius(db: int, arguments: list[bytes]) -> Op:
    return _parse_georadius(db, arguments, ops.GEOSEARCHSTORE)


def parse_georadius_ro(db: int, arguments: list[bytes]) -> Op:
    return _parse_georadius(db, arguments, ops.GEOSEARCH)


def _parse_georadius(db: int, arguments: list[bytes], code: int) -> Op:
    search = _Search(arguments[0], stores=code == ops.GEOSEARCHSTORE, is_radius=True)
    _, key, longitude, latitude, radius, unit, *options = arguments
    try:
        search.from_place(longitude, latitude)
        search.by_radius(radius, unit)
    except CommandError as bad:
        search.refuse(bad)
    search.read(options)
    return search.op(db, code, key)


def parse_georadiusbymember(db: int, arguments: list[bytes]) -> Op:
    return _parse_georadiusbymember(db, arguments, ops.GEOSEARCHSTORE)


def parse_georadiusbymember_ro(db: int, arguments: list[bytes]) -> Op:
    return _parse_georadiusbymember(db, arguments, ops.GEOSEARCH)


def _parse_georadiusbymember(db: int, arguments: list[bytes], code: int) -> Op:
    search = _Search(arguments[0], stores=code == ops.GEOSEARCHSTORE, is_radius=True)
    _, key, member, radius, unit, *options = arguments
    search.from_member(member)
    try:
        search.by_radius(radius, unit)
    except CommandError as bad:  # of a key that is not there Redis does not look at the radius
        search.refuse(bad, GeoCheck.REFUSE_IF_THERE)
    search.read(options)
    return search.op(db, code, key)


# --- GEORADIUS that stores nothing ----------------------------------------------------------------


def with_reading_form(radius: Command, first_option: int) -> Command:
    """GEORADIUS or GEORADIUSBYMEMBER as the table has it, with its form for requests without STORE
    and STOREDIST: a read, which need not go through the log and be done by every node."""
    parse = radius.parse

    def parse_reading(db: int, arguments: list[bytes]) -> Op:
        _, _, target, *question = parse(db, arguments)
        assert target is None
        return [ops.GEOSEARCH, db, *question]

    reading = replace(radius, kind=READ, stands_alone=False, parse=parse_reading)

    def form(arguments: list[bytes]) -> Command | None:
        options = {option.upper() for option in arguments[first_option:]}
        return reading if options.isdisjoint((b"STORE", b"STOREDIST")) else None

    return replace(radius, form=form)
