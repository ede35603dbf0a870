"""Facts of the GEO commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import geo
from kvnode.resp.commands.command import WRITE, Command, Keys
from kvnode.resp.commands.facts.row import ONE_KEY, POINT, RANGE, TWO_KEYS, Row, to_command


def _stored_keys(first_option: int) -> Keys:
    """Finds the key of GEORADIUS and what follows STORE and STOREDIST behind a place."""

    def find(arguments: list[bytes]) -> list[bytes]:
        options = [argument.upper() for argument in arguments[:-1]]
        named = [
            arguments[options.index(word, first_option) + 1]
            for word in (b"STORE", b"STOREDIST")
            if word in options[first_option:]
        ]
        return [arguments[1], *named]

    return find


READS: Final[tuple[Row, ...]] = (
    Row("geopos", -2, "readonly", ONE_KEY, "3.2.0", "geo", RANGE,
        geo.parse_geopos, "Returns longitude and latitude of members.", geo.POSITIONS),
    Row("geohash", -2, "readonly", ONE_KEY, "3.2.0", "geo", RANGE,
        geo.parse_geohash, "Returns the geohashes of members as text."),
    Row("geodist", -4, "readonly", ONE_KEY, "3.2.0", "geo", POINT,
        geo.parse_geodist, "Returns the distance of two members."),
    Row("geosearch", -7, "readonly", ONE_KEY, "6.2.0", "geo", RANGE,
        geo.parse_geosearch, "Returns the members within a circle or a box.", geo.PLACES),
    Row("georadius_ro", -6, "readonly", ONE_KEY, "3.2.10", "geo", RANGE,
        geo.parse_georadius_ro, "Returns the members within a distance of a place.", geo.PLACES),
    Row("georadiusbymember_ro", -5, "readonly", ONE_KEY, "3.2.10", "geo", RANGE,
        geo.parse_georadiusbymember_ro,
        "Returns the members within a distance of one of them.", geo.PLACES),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("geoadd", -5, "write denyoom", ONE_KEY, "3.2.0", "geo", RANGE,
        geo.parse_geoadd, "Adds members at places, or moves them."),
    Row("geosearchstore", -8, "write denyoom", TWO_KEYS, "6.2.0", "geo", RANGE,
        geo.parse_geosearchstore,
        "Stores the members within a circle or a box under another key.", stands_alone=True),
)  # fmt: skip

_RADIUS: Final[tuple[tuple[Row, int], ...]] = (
    (Row("georadius", -6, "write denyoom movablekeys", ONE_KEY, "3.2.0", "geo", RANGE,
         geo.parse_georadius,
         "Returns or stores the members within a distance of a place.",
         geo.PLACES, _stored_keys(6), stands_alone=True), 6),
    (Row("georadiusbymember", -5, "write denyoom movablekeys", ONE_KEY, "3.2.0", "geo", RANGE,
         geo.parse_georadiusbymember,
         "Returns or stores the members within a distance of one of them.",
         geo.PLACES, _stored_keys(5), stands_alone=True), 5),
)  # fmt: skip
"""With the place of their first option."""


def radius_commands() -> list[Command]:
    """GEORADIUS and GEORADIUSBYMEMBER, which are reads unless they store."""
    return [geo.with_reading_form(to_command(row, WRITE), first) for row, first in _RADIUS]
