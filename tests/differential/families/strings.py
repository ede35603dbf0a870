"""Strings, and the numbers in them."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import Accepted, as_is
from tests.differential.family import Family, Listing
from tests.differential.words import EXPIRY, NUMBER_KEYS, TEXT_KEYS, rows


def _encoding_by_history(name: str, _line: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    shorter = ["$b'raw'", "$b'embstr'", "$b'int'"]
    return (
        name == "object|encoding"
        and {redis, kvnode} <= set(shorter)
        and shorter.index(redis) < shorter.index(kvnode)
    )


FAMILY: Final = Family(
    name="strings",
    keys=NUMBER_KEYS + TEXT_KEYS,
    commands={
        **rows(4, {
            "set": f"SET skey value|SET skey value {{NX|XX|GET|}} {{{EXPIRY}|KEEPTTL|}} [GET]"
        }),
        **rows(2, {
            "get": "GET skey",
            "mset": "MSET {skey value}+",
            "incr": "INCR nkey",
        }),
        **rows(1, {
            "append": "APPEND tkey text",
            "decr": "DECR nkey",
            "decrby": "DECRBY nkey number",
            "getdel": "GETDEL skey",
            "getex": f"GETEX skey [{{{EXPIRY}|PERSIST}}]",
            "getrange": "GETRANGE tkey position position",
            "getset": "GETSET skey value",
            "incrby": "INCRBY nkey number",
            "incrbyfloat": "INCRBYFLOAT nkey float",
            "lcs": "LCS tkey tkey {LEN||IDX|IDX MINMATCHLEN length|IDX WITHMATCHLEN|LEN IDX}",
            "mget": "MGET key+",
            "msetnx": "MSETNX {newkey value}+",
            "psetex": "PSETEX skey millis value",
            "setex": "SETEX skey seconds value",
            "setnx": "SETNX newkey value",
            "setrange": "SETRANGE tkey offset text",
            "strlen": "STRLEN skey",
            "substr": "SUBSTR tkey position position",
        }),
    },
    furniture=("SET 'n1 digits", "SET 'n2 digits", "SET 's1 text", "SET 's2 text"),
    deliberate=(
        Accepted(
            "OBJECT ENCODING follows from the value; in Redis what APPEND or SETRANGE changed "
            "stays raw, and what INCRBYFLOAT made is no int",
            _encoding_by_history,
        ),
    ),
    listings={b"string": Listing((b"GET",), as_is)},
)  # fmt: skip
