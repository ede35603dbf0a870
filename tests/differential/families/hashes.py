"""Hashes."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import (
    Rule,
    as_pairs,
    drawn_from,
    pairwise,
    same_page,
    same_pairs,
    same_set,
)
from tests.differential.family import LARGE_ELEMENTS, Family, Listing, WalkForm, followed_by
from tests.differential.words import EDGES, FLOATS, NUMBERS, TEXTS, keyed, mostly, rows

KEYS: Final = (b"h1", b"h2", b"h3")
NUMBER_FIELDS: Final = (b"f1", b"f2")
FIELDS: Final = (b"a", b"b", b"c")
ODD_FIELDS: Final = (b"", b"\x00\r\n\xff", b"x" * 65, b"y" * 450, b"d")


FAMILY: Final = Family(
    name="hashes",
    keys=KEYS,
    atoms={
        "hkey": keyed(KEYS),
        "field": mostly(FIELDS + NUMBER_FIELDS, ODD_FIELDS, 0.85),
        "nfield": mostly(NUMBER_FIELDS, FIELDS + ODD_FIELDS, 0.85),
        "hvalue": mostly(NUMBERS + TEXTS, EDGES + FLOATS),
        "asked": mostly((b"1", b"2", b"5", b"0", b"-1", b"-5"), (
            b"-9223372036854775808", b"9223372036854775807", b"x",
        )),
    },
    furniture=(
        "HSET 'h1 {field hvalue}+ 'f1 digits",
        "HSET 'h2 'f1 digits 'f2 digits 'a text 'b text",
        "HMSET 'h3 {field hvalue}+",
    ),
    large=((b"HSET", b"h1", *(b"%d" % part for part in range(2 * LARGE_ELEMENTS))),),
    commands={
        **rows(2, {
            "hset": "HSET hkey {field hvalue}+",
            "hget": "HGET hkey field",
            "hgetall": "HGETALL hkey",
        }),
        **rows(1, {
            "hdel": "HDEL hkey field+",
            "hexists": "HEXISTS hkey field",
            "hincrby": "HINCRBY hkey nfield number",
            "hincrbyfloat": "HINCRBYFLOAT hkey nfield float",
            "hkeys": "HKEYS hkey",
            "hlen": "HLEN hkey",
            "hmget": "HMGET hkey field+",
            "hmset": "HMSET hkey {field hvalue}+",
            "hrandfield": "HRANDFIELD hkey {|asked|asked WITHVALUES|asked {WITHVALUES|FOO} [FOO]}",
            "hscan": "HSCAN hkey {0|0|0|cursor} [COUNT count] [MATCH pattern] [{FOO|TYPE} type]"
            "|HSCAN hkey 0 COUNT 1000",
            "hsetnx": "HSETNX hkey field hvalue",
            "hstrlen": "HSTRLEN hkey field",
            "hvals": "HVALS hkey",
        }),
    },
    rules=(
        Rule(("hgetall",), "no order of fields is promised: compared as sets of pairs",
             pairwise(same_pairs)),
        Rule(("hkeys", "hvals"), "as HGETALL: compared as multisets", pairwise(same_set)),
        Rule(("hrandfield",), "random: as many on both sides, each of them a field of the HGETALL "
             "behind it", drawn_from(b"HGETALL", width=2)),
        Rule(("hscan",), "as SCAN; pages that hold everything are compared as sets of pairs",
             same_page(2, as_pairs)),
    ),
    companions={b"hrandfield": followed_by(b"HGETALL")},
    walks=(WalkForm(b"HSCAN", KEYS, 2),),
    listings={b"hash": Listing((b"HGETALL",), as_pairs)},
)  # fmt: skip
