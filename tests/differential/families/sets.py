"""Sets."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import (
    Answer,
    Rule,
    as_set,
    drawn_from,
    pairwise,
    same_page,
    same_set,
    shape,
)
from tests.differential.family import LARGE_ELEMENTS, Family, Line, Listing, WalkForm, followed_by
from tests.differential.words import keyed, mostly, rows

KEYS: Final = (b"t1", b"t2", b"t3", b"t4")
MEMBERS: Final = (b"a", b"b", b"c", b"1", b"2", b"3", b"-7")
ODD_MEMBERS: Final = (b"", b"\x00\r\n\xff", b"x" * 65, b"y" * 450, b"1.0", b"007")

POPPED: Final = b"popped"
"""The copy of a set that SPOP takes members of; it is deleted behind it."""


def _popped_of_a_copy(line: Line) -> list[Line]:
    """SPOP takes members that no two servers choose alike, so it takes them from a copy."""
    if len(line) < 2:
        return [line]
    copy = (b"COPY", line[1], POPPED, b"REPLACE")
    popped = (line[0], POPPED, *line[2:])
    return [copy, popped, (b"SMEMBERS", line[1]), (b"SCARD", POPPED), (b"DEL", POPPED)]


def _same_pop(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """As many members of the same type, all of them of the set that was copied."""
    if shape(redis[at].reply, 2) != shape(kvnode[at].reply, 2):
        return False
    for answers in (redis, kvnode):
        following = answers[at + 1 : at + 2]
        if following and following[0].arguments[:1] == (b"SMEMBERS",):
            drawn, whole = answers[at].reply, set(following[0].reply.elements)
            if not whole.issuperset(drawn.elements or ({drawn} if drawn.kind == b"$" else ())):
                return drawn.value is None
    return True


FAMILY: Final = Family(
    name="sets",
    keys=KEYS,
    atoms={
        "tset": keyed(KEYS),
        "member": mostly(MEMBERS, ODD_MEMBERS, 0.9),
        "drawn": mostly((b"1", b"2", b"5", b"0", b"-1", b"-5"), (
            b"-9223372036854775808", b"9223372036854775807", b"9223372036854775808", b"x",
        )),
        "popped": mostly((b"1", b"2", b"5", b"0"), (b"-1", b"9223372036854775807", b"x", b"1.5")),
        "limit": mostly((b"0", b"1", b"2", b"100"), (b"-1", b"x", b"9223372036854775807")),
    },
    furniture=(
        "SADD 't1 member+",
        "SADD 't2 'a 'b 'c '1 member+",
        "SADD 't3 '1 '2 '3 '-7",
        "SADD 't4 member+ member+",
    ),
    large=((b"SADD", b"t1", *(b"%d" % part for part in range(LARGE_ELEMENTS))),),
    commands={
        **rows(2, {
            "sadd": "SADD tset member+",
            "smembers": "SMEMBERS tset",
        }),
        **rows(1, {
            "srem": "SREM tset member+",
            "sismember": "SISMEMBER tset member",
            "smismember": "SMISMEMBER tset member+",
            "scard": "SCARD tset",
            "spop": "SPOP tset [popped] [FOO]|SPOP tset [popped]|SPOP tset popped",
            "srandmember": "SRANDMEMBER tset [drawn] [FOO]|SRANDMEMBER tset {|drawn}",
            "smove": "SMOVE tset tset member",
            "sinter": "SINTER tset+",
            "sunion": "SUNION tset+",
            "sdiff": "SDIFF tset+",
            "sinterstore": "SINTERSTORE tset tset+",
            "sunionstore": "SUNIONSTORE tset tset+",
            "sdiffstore": "SDIFFSTORE tset tset+",
            "sintercard": "SINTERCARD {1 tset|2 tset tset|3 tset tset tset} [LIMIT limit]"
            "|SINTERCARD {0|3|'x|-1} tset tset [LIMIT] [limit]",
            "sscan": "SSCAN tset {0|0|0|cursor} [COUNT count] [MATCH pattern] [{FOO|TYPE} type]"
            "|SSCAN tset 0 COUNT 1000",
        }),
    },
    rules=(
        Rule(("smembers", "sinter", "sunion", "sdiff"),
             "no order of members is promised: compared as multisets", pairwise(same_set)),
        Rule(("spop",), "random: as many on both sides, each of them a member by the SMEMBERS "
             "behind it, and taken out of a copy, so that the servers go on alike", _same_pop),
        Rule(("srandmember",), "random: as many on both sides, each of them a member by the "
             "SMEMBERS behind it", drawn_from(b"SMEMBERS")),
        Rule(("sscan",), "as SCAN; pages that hold everything are compared as sets",
             same_page(2)),
    ),
    companions={
        b"srandmember": followed_by(b"SMEMBERS"),
        b"spop": _popped_of_a_copy,
    },
    walks=(WalkForm(b"SSCAN", KEYS),),
    listings={b"set": Listing((b"SMEMBERS",), as_set)},
)  # fmt: skip
