"""Sorted sets, and places in them. Members are short and sets small: Redis keeps them in one block
then, and shows -0 as 0 and integers without an exponent, as kvnode does at any size."""

from __future__ import annotations

import ast
from typing import Final

from tests.differential.comparing import (
    Accepted,
    Answer,
    Rule,
    as_is,
    as_pairs,
    drawn_from,
    same_page,
)
from tests.differential.family import LARGE_ELEMENTS, Family, Line, Listing, WalkForm, followed_by
from tests.differential.words import EDGES, JUNK, keyed, mostly, rows

ZSET_KEYS: Final = (b"z1", b"z2", b"z 3")
LEX_KEYS: Final = (b"zl1", b"zl2")
"""Their members have one score: what a range by members means else, Redis leaves open."""
GEO_KEYS: Final = (b"g1", b"g2")

BY_MEMBER: Final = (
    *("zrangebylex", "zrevrangebylex", "zlexcount", "zremrangebylex", "zrange", "zrangestore"),
)
"""Commands with ranges by member: all of some, or if they say BYLEX."""

MEMBERS: Final = (b"a", b"b", b"c", b"d", b"e", b"", b"ab", b"foo", b"\xff\x00\r\n", b"m" * 60)
SCORES: Final = (
    *(b"0", b"1", b"2", b"3", b"-1", b"1.5", b"0.1", b"0.2", b"3.0", b"1e17", b"-0", b"1e-5"),
    *(b"inf", b"-inf", b"0x10", b"+5", b"123456789012345678", b"1e20"),
)
BAD_SCORES: Final = (b"nan", b"abc", b"", b" 1", b"1 ", b"1e400", b"1e-400", b"1_0")
BOUNDS: Final = (b"0", b"1", b"2", b"(1", b"(2", b"-inf", b"+inf", b"(inf", b"1.5", b"(0.1")
LEX_BOUNDS: Final = (b"-", b"+", b"[a", b"(a", b"[c", b"(e", b"[", b"(", b"[zz", b"(foo")
PLACES: Final = (b"Palermo", b"Catania", b"Rome", b"x y", b"date", b"pole")
LONGITUDES: Final = (b"13.361389", b"15.087269", b"0", b"179.99", b"-179.99", b"2.349014", b"-0.5")
LATITUDES: Final = (b"38.115556", b"37.502669", b"0", b"85.05", b"-85.05", b"48.864716", b"51.5")
SIZES: Final = (b"0", b"1", b"100", b"200.5", b"1000", b"5000", b"1e5", b"20000")

_PAIR: Final = "zscore zmember"
_ZKEYS: Final = "{1 zkey|2 zkey zkey|2 zkey zkey|3 zkey zkey zkey|zcount zkey zkey}"
_WEIGHED: Final = (
    "{1 zkey [WEIGHTS zscore]|2 zkey zkey [WEIGHTS zscore zscore]|zcount zkey zkey}"
    " [AGGREGATE {SUM|MIN|MAX|'max|FOO}]"
)
_LIMIT: Final = "[LIMIT zrank zrank]"
_RANGE: Final = (
    "zkey zrank zrank {|REV}|zkey zbound zbound BYSCORE [REV] [LIMIT zrank zrank]|"
    "zlkey zlex zlex BYLEX [REV] [LIMIT zrank zrank]|zkey zrank zrank {FOO|LIMIT 0 1|BYLEX}"
)
_CIRCLE: Final = "BYRADIUS gsize gunit"
_BOX: Final = "BYBOX gsize gsize gunit"
_CENTRE: Final = "{FROMLONLAT glongitude glatitude|FROMMEMBER gplace}"
_SHOWN: Final = (
    "[WITHDIST] [WITHCOORD] [WITHHASH] [{ASC|DESC}] [{COUNT zcount|COUNT 2 ANY|ANY|FOO}]"
)
_PLACED: Final = "glongitude glatitude gplace"

_LISTING: Final = (b"0", b"-1", b"WITHSCORES")
_UNSPECIFIED: Final = "Redis promises nothing of ranges by member over different scores"


def _listed_before(line: Line) -> list[Line]:
    """Before a range by member comes the sorted set, to see whether its scores are equal.

    What a write leaves of it is not compared: the servers go on alike.
    """
    name, is_by_member = line[0].upper(), any(b"LEX" in word.upper() for word in line)
    if len(line) < 3 or not is_by_member:
        return [line]
    source = line[2] if name == b"ZRANGESTORE" else line[1]
    left = [(b"DEL", line[1])] if name in (b"ZRANGESTORE", b"ZREMRANGEBYLEX") else []
    return [(b"ZRANGE", source, *_LISTING), line, *left]


def _same_if_scores_are(redis: list[Answer], _kvnode: list[Answer], at: int) -> bool:
    """Replies may differ where scores do, by the listing before them."""
    arguments, listed = redis[at - 1]
    if not at or arguments[0] != b"ZRANGE" or arguments[2:] != _LISTING:
        return False
    if arguments[1] not in redis[at].arguments[1:3]:
        return False
    flat = [part for element in listed.elements for part in element.elements or (element,)]
    return len(set(flat[1::2])) > 1


_RANKED: Final = [word for n in range(LARGE_ELEMENTS) for word in (b"%d" % n, b"m%d" % n)]


def _minus_zero(name: str, _arguments: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    ours, theirs = (
        text.rpartition(", ")[0] if name == "dump" else text  # a deadline stands at the end
        for text in (kvnode, redis)
    )
    return "-0" in theirs and theirs.replace("'-0'", "'0'").replace(",-0", ",0") == ours


def _same_numbers(name: str, _arguments: tuple[bytes, ...], redis: str, kvnode: str) -> bool:
    if name != "walk":
        return False
    theirs, ours = ast.literal_eval(redis), ast.literal_eval(kvnode)
    return [(member, float(score)) for member, score in theirs] == [
        (member, float(score)) for member, score in ours
    ]


def _of_a_lex_key(_name: str, arguments: tuple[bytes, ...], _redis: str, _kvnode: str) -> bool:
    return any(key in arguments for key in LEX_KEYS)


FAMILY: Final = Family(
    name="sorted sets",
    keys=(*ZSET_KEYS, *LEX_KEYS, *GEO_KEYS),
    commands={
        **rows(3, {
            "zadd": (
                f"ZADD zkey {{{_PAIR}}}+|ZADD zkey {{NX|XX|GT|LT|CH|XX GT|LT CH}} {{{_PAIR}}}+|"
                f"ZADD zkey [{{NX|XX|GT|LT}}] INCR {_PAIR}|ZADD zlkey {{7 zmember}}+"
            ),
            "zrange": f"ZRANGE {{zkey zrank zrank {{|REV}} [WITHSCORES]|{_RANGE}}}",
        }),
        **rows(1, {
            "zcard": "ZCARD zkey",
            "zcount": "ZCOUNT zkey zbound zbound",
            "zdiff": f"ZDIFF {_ZKEYS} {{|WITHSCORES|WITHSCORES|FOO}}",
            "zdiffstore": f"ZDIFFSTORE zkey {_ZKEYS}",
            "zincrby": f"ZINCRBY zkey {_PAIR}",
            "zinter": f"ZINTER {_WEIGHED} [WITHSCORES]",
            "zintercard": f"ZINTERCARD {_ZKEYS} {{||LIMIT zcount|FOO}}",
            "zinterstore": f"ZINTERSTORE zkey {_WEIGHED}",
            "zlexcount": "ZLEXCOUNT zlkey zlex zlex",
            "zmpop": f"ZMPOP {_ZKEYS} {{MIN|MAX|'max|FOO}} [COUNT zcount]",
            "zmscore": "ZMSCORE zkey zmember+",
            "zpopmax": "ZPOPMAX zkey [zcount]",
            "zpopmin": "ZPOPMIN zkey [zcount]",
            "zrandmember": "ZRANDMEMBER zkey [zrank [WITHSCORES]]",
            "zrangebylex": f"ZRANGEBYLEX zlkey zlex zlex {_LIMIT}",
            "zrangebyscore": f"ZRANGEBYSCORE zkey zbound zbound [WITHSCORES] {_LIMIT}",
            "zrangestore": "ZRANGESTORE zkey zkey zrank zrank {|REV}|"
                           "ZRANGESTORE zkey zkey zbound zbound BYSCORE [REV] [LIMIT zrank zrank]",
            "zrank": "ZRANK zkey zmember",
            "zrem": "ZREM zkey zmember+",
            "zremrangebylex": "ZREMRANGEBYLEX zlkey zlex zlex",
            "zremrangebyrank": "ZREMRANGEBYRANK zkey zrank zrank",
            "zremrangebyscore": "ZREMRANGEBYSCORE zkey zbound zbound",
            "zrevrange": "ZREVRANGE zkey zrank zrank [WITHSCORES]",
            "zrevrangebylex": f"ZREVRANGEBYLEX zlkey zlex zlex {_LIMIT}",
            "zrevrangebyscore": f"ZREVRANGEBYSCORE zkey zbound zbound [WITHSCORES] {_LIMIT}",
            "zrevrank": "ZREVRANK zkey zmember",
            "zscan": "ZSCAN zkey 0 COUNT count [MATCH pattern]|ZSCAN zkey number",
            "zscore": "ZSCORE zkey zmember",
            "zunion": f"ZUNION {_WEIGHED} [WITHSCORES]",
            "zunionstore": f"ZUNIONSTORE zkey {_WEIGHED}",
            "geoadd": f"GEOADD gkey [{{NX|XX|CH|XX CH|FOO}}] {{{_PLACED}}}+",
            "geodist": "GEODIST gkey gplace gplace [gunit]",
            "geohash": "GEOHASH gkey gplace+",
            "geopos": "GEOPOS gkey gplace+",
            "georadius": f"GEORADIUS gkey glongitude glatitude gsize gunit {{{_SHOWN}|STORE gkey|"
                         "STOREDIST zkey}",
            "georadius_ro": f"GEORADIUS_RO gkey glongitude glatitude gsize gunit {_SHOWN}",
            "georadiusbymember": f"GEORADIUSBYMEMBER gkey gplace gsize gunit {{{_SHOWN}|"
                                 "STORE gkey|STOREDIST zkey [COUNT zcount]}",
            "georadiusbymember_ro": f"GEORADIUSBYMEMBER_RO gkey gplace gsize gunit {_SHOWN}",
            "geosearch": f"GEOSEARCH gkey {_CENTRE} {{{_CIRCLE}|{_BOX}}} {_SHOWN}",
            "geosearchstore": f"GEOSEARCHSTORE {{gkey gkey {_CENTRE} {{{_CIRCLE}|{_BOX}}}|"
                              f"zkey gkey {_CENTRE} {_CIRCLE} STOREDIST}}",
        }),
    },
    large=((b"ZADD", b"z1", *_RANKED),),
    furniture=(
        f"ZADD 'z1 {_PAIR} {_PAIR} {_PAIR} {_PAIR} {_PAIR}",
        f"ZADD 'z2 {_PAIR} {_PAIR} {_PAIR}",
        "ZADD 'zl1 {7 zmember}+ {7 zmember}+ {7 zmember}+",
        f"GEOADD 'g1 {_PLACED} {_PLACED} {_PLACED}",
        f"GEOADD 'g2 {_PLACED}",
    ),
    atoms={
        "zkey": keyed(ZSET_KEYS),
        "zlkey": mostly(LEX_KEYS),
        "gkey": keyed(GEO_KEYS),
        "zmember": mostly(MEMBERS),
        "zscore": mostly(SCORES, BAD_SCORES, 0.97),
        "zbound": mostly(BOUNDS, (*BAD_SCORES, b"((1", b"(nan", b"("), 0.95),
        "zlex": mostly(LEX_BOUNDS, (b"", b"a", b"-a", b"+x"), 0.96),
        "zrank": mostly((b"0", b"1", b"2", b"-1", b"-2", b"5", b"100", b"-100"), JUNK, 0.95),
        "zcount": mostly((b"1", b"2", b"3", b"5"), (b"0", b"-1", b"abc", *EDGES), 0.9),
        "gplace": mostly(PLACES),
        "glongitude": mostly(LONGITUDES, (b"181", b"abc", b"nan"), 0.97),
        "glatitude": mostly(LATITUDES, (b"86", b"", b"inf"), 0.97),
        "gsize": mostly(SIZES, (b"-1", b"abc", b"inf", b"nan"), 0.96),
        "gunit": mostly((b"m", b"km", b"KM", b"ft", b"mi"), (b"", b"foo"), 0.96),
    },
    rules=(
        Rule(("zrandmember",), "random: as many on both sides, all of them from the sorted set",
             drawn_from(b"ZRANGE", *_LISTING, width=2)),
        Rule(BY_MEMBER, _UNSPECIFIED, _same_if_scores_are),
        Rule(("zscan",), "cursors and pages are each server's own, and so is the order within one: "
             "a page that must hold everything is compared as pairs", same_page(2, as_pairs)),
    ),
    companions={
        b"zrandmember": followed_by(b"ZRANGE", *_LISTING),
        **dict.fromkeys((name.encode() for name in BY_MEMBER), _listed_before),
    },
    deliberate=(
        Accepted(
            "a score of -0 is kept as 0; Redis does that in small sorted sets only",
            _minus_zero,
            after=frozenset((b"zadd",)),
        ),
        Accepted(
            "ZSCAN writes a large integer score in full; Redis does that in small sorted sets only",
            _same_numbers,
            after=frozenset((b"zadd",)),
        ),
        Accepted(
            "what a range by member removes or stores where scores differ, as in a key that was "
            "renamed, Redis leaves open",
            _of_a_lex_key,
            lasting=True,
            after=frozenset((b"zremrangebylex", b"zrangestore")),
        ),
    ),
    walks=(WalkForm(b"ZSCAN", ZSET_KEYS, 2),),
    listings={b"zset": Listing((b"ZRANGE", b"0", b"-1", b"WITHSCORES"), as_is)},
)  # fmt: skip
