"""Streams and consumer groups, with ids that are given: `*` would be each server's own clock."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import Accepted, Canon, Rule, pairwise, same_as
from tests.differential.family import Family, Listing
from tests.differential.resp import Reply
from tests.differential.words import EDGES, JUNK, TEXTS, keyed, mostly, rows

STREAM_KEYS: Final = (b"x1", b"x2", b"x 3")
GROUPS: Final = (b"g1", b"g2", b"", b"g" * 450)
CONSUMERS: Final = (b"c1", b"c2", b"c" * 450)
MILLIS: Final = (b"3", b"5", b"9")
IDS: Final = tuple(b"%b-%d" % (ms, number) for ms in MILLIS for number in range(4))
BAD_IDS: Final = (
    *(
        b"5-*",
        b"5",
        b"-",
        b"+",
        b"(5-0",
        b"(",
        b"$",
        b">",
        b"0-0",
        b"5-",
        b"1-2-3",
        b" 5",
        b"+5-01",
    ),
    *(b"18446744073709551615-18446744073709551615", b"(0-0", b"18446744073709551616", *JUNK),
)
"""What is no id everywhere."""

UNTIMED: Final = frozenset((b"idle", b"seen-time", b"radix-tree-keys", b"radix-tree-nodes"))
CLOCK_MS_MIN: Final = 10**12
MASKED: Final = Reply(b":", b"(masked)")


def _without_clocks(reply: Reply) -> Reply:
    """Times differ by a little, and Redis tells of a tree that is not here."""
    if reply.kind == b":" and int(reply.text) >= CLOCK_MS_MIN:
        return MASKED
    if not reply.elements:
        return reply
    elements = [_without_clocks(element) for element in reply.elements]
    for at, element in enumerate(reply.elements[:-1]):
        if element.text in UNTIMED:
            elements[at + 1] = MASKED
    return Reply(reply.kind, tuple(elements))


def _without_idle(reply: Reply) -> Reply:
    """Entries of XPENDING: id, consumer, idle milliseconds, deliveries."""
    return Reply(
        reply.kind,
        tuple(
            Reply(entry.kind, (*entry.elements[:2], MASKED, entry.elements[3]))
            if len(entry.elements) == 4
            else entry
            for entry in reply.elements
        )
        if reply.elements
        else reply.value,
    )


_timeless: Final[Canon] = _without_clocks
_idleless: Final[Canon] = _without_idle

_TRIM: Final = (
    "{MAXLEN|MAXLEN =|MAXLEN ~|'maxlen} xlength|{MINID|MINID ~} xid|"
    "{MAXLEN|MINID} ~ xlength LIMIT xlimit|MAXLEN xlength LIMIT xlimit"
)
_SINCE: Final = "{xid|0|$|'>}"


def _about_a_trim(name: str, arguments: tuple[bytes, ...], _redis: str, _kvnode: str) -> bool:
    return name == "xtrim" and b"~" in arguments


def _about_memory(_name: str, _arguments: tuple[bytes, ...], redis: str, _kvnode: str) -> bool:
    return "ERR Insufficient memory, failed allocating transient memory" in redis


FAMILY: Final = Family(
    name="streams",
    keys=STREAM_KEYS,
    commands={
        **rows(4, {
            "xadd": (
                f"XADD xkey xnew {{xfield xvalue}}+|XADD xkey [NOMKSTREAM] [{{{_TRIM}}}] xnew "
                "{xfield xvalue}+"
            ),
            "xreadgroup": (
                "XREADGROUP GROUP xgroup xconsumer [COUNT xcount] [NOACK] STREAMS xgkey '>|"
                "XREADGROUP GROUP xgroup xconsumer [COUNT xcount] STREAMS 'x1 'x2 '> {'>|0}|"
                "XREADGROUP GROUP xgroup xconsumer [COUNT xcount] STREAMS xgkey {0|xid}"
            ),
        }),
        **rows(2, {
            "xack": "XACK xgkey xgroup xid+",
            "xclaim": (
                "XCLAIM xgkey xgroup xconsumer xidle xid+ [{IDLE xidle|TIME 5|RETRYCOUNT xcount}] "
                "[FORCE] [JUSTID] [LASTID xid]|XCLAIM xgkey xgroup xconsumer 0 xid+"
            ),
            "xautoclaim": (
                "XAUTOCLAIM xgkey xgroup xconsumer xidle {0|'-|xid} [COUNT {1|2|xcount}] [JUSTID]"
            ),
            "xdel": "XDEL xkey xid+",
            "xgroup|create": (
                "XGROUP CREATE xkey xgroup {0|$|xid} {|MKSTREAM|ENTRIESREAD xcount|"
                "MKSTREAM ENTRIESREAD xcount}"
            ),
            "xinfo|groups": "XINFO GROUPS xgkey",
        }),
        **rows(1, {
            "xgroup|createconsumer": "XGROUP CREATECONSUMER xgkey xgroup xconsumer",
            "xgroup|delconsumer": "XGROUP DELCONSUMER xgkey xgroup xconsumer",
            "xgroup|destroy": "XGROUP DESTROY xgkey xgroup",
            "xgroup|setid": "XGROUP SETID xgkey xgroup {0|$|xid} [ENTRIESREAD xcount]",
            "xinfo|consumers": "XINFO CONSUMERS xgkey xgroup",
            "xinfo|stream": "XINFO STREAM xgkey [{FULL|FULL COUNT xcount|FOO}]",
            "xlen": "XLEN xkey",
            "xpending": (
                "XPENDING xgkey xgroup|XPENDING xgkey xgroup [IDLE xidle] {'-|xid} xend xcount "
                "[xconsumer]"
            ),
            "xrange": "XRANGE xkey {'-|xid} xend [COUNT xcount]",
            "xread": (
                f"XREAD [COUNT xcount] STREAMS xkey {_SINCE}|"
                f"XREAD [COUNT xcount] STREAMS xkey xkey {_SINCE} {_SINCE}"
            ),
            "xrevrange": "XREVRANGE xkey xend {'-|xid} [COUNT xcount]",
            "xsetid": "XSETID xgkey {xid|9-9} [ENTRIESADDED {xcount|100}] [MAXDELETEDID xid]",
            "xtrim": f"XTRIM xkey {{{_TRIM}}}",
        }),
    },
    furniture=(
        "XADD 'x1 3-0 xfield xvalue",
        "XADD 'x1 3-1 xfield xvalue xfield xvalue",
        "XADD 'x1 5-0 xfield xvalue",
        "XADD 'x2 3-0 xfield xvalue",
        "XGROUP CREATE 'x1 'g1 {0|0|3-0}",
        "XGROUP CREATE 'x1 'g2 {0|0|3-0}",
        "XGROUP CREATE 'x2 'g1 0 MKSTREAM",
        "XREADGROUP GROUP 'g1 'c1 COUNT 2 STREAMS 'x1 '>",
    ),
    atoms={
        "xkey": keyed((b"x1", b"x1", *STREAM_KEYS)),
        "xgkey": mostly((b"x1",), (*STREAM_KEYS, b"s1"), 0.93),
        "xgroup": mostly((b"g1", b"g1", b"g2"), (*GROUPS, b"nosuch"), 0.93),
        "xconsumer": mostly((b"c1", b"c2"), CONSUMERS, 0.9),
        "xid": mostly(IDS, BAD_IDS, 0.93),
        "xend": mostly((b"+", b"+", *IDS), BAD_IDS, 0.93),
        "xnew": mostly((b"3-*", b"5-*", b"9-*", b"9-*"), (*IDS, *BAD_IDS), 0.9),
        "xfield": mostly((b"f", b"g", b"")),
        "xvalue": mostly(TEXTS),
        "xcount": mostly((b"1", b"2", b"3", b"0", b"10"), (b"-1", *EDGES, *JUNK), 0.95),
        "xlength": mostly((b"0", b"1", b"2", b"3", b"5"), (*IDS, *JUNK), 0.9),
        "xlimit": mostly((b"0", b"1", b"2", b"100"), JUNK, 0.9),
        "xidle": mostly((b"0", b"0", b"100000000"), (b"-1", *EDGES, *JUNK), 0.95),
    },
    deliberate=(
        Accepted(
            "what `~` spares counts in hundreds of entries, not in the nodes of Redis, which hold "
            "deleted ones too",
            _about_a_trim,
            lasting=True,
            after=frozenset((b"xdel",)),
        ),
        Accepted(
            "Redis allocates for the COUNT of XAUTOCLAIM, and refuses one that is too large",
            _about_memory,
            after=frozenset((b"xautoclaim",)),
        ),
    ),
    rules=(
        Rule(("xinfo|stream", "xinfo|groups", "xinfo|consumers"),
             "when a consumer was seen and given something is each server's own clock; Redis' tree "
             "is not here", pairwise(same_as(_timeless))),
        Rule(("xpending",), "idle milliseconds are each server's own clock",
             pairwise(same_as(_idleless))),
    ),
    listings={b"stream": Listing((b"XINFO", b"STREAM", b"FULL", b"COUNT", b"0"), _timeless, 2)},
)  # fmt: skip
