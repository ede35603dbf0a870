"""Commands that wait for a key: alone with little time, and with another client that ends it."""

from __future__ import annotations

from typing import Final

from tests.differential.comparing import Answer, Rule
from tests.differential.family import Family, Waiting
from tests.differential.resp import Reply
from tests.differential.words import keyed, mostly, rows

KEYS: Final = (b"bl1", b"bl2", b"bz1", b"bz2", b"bx")

_PUSHES: Final = (
    "RPUSH 'bl1 bvalue+",
    "LPUSH 'bl1 bvalue+",
    "RPUSH 'bl2 bvalue+",
    "RPUSH blkey bvalue",
    "DEL 'bl1",
    "SET 'bl1 'text",
    "LMOVE 'bl2 'bl1 LEFT RIGHT",
    "RPUSH 'tmp bvalue+",
    "RENAME 'tmp 'bl1",
    "COPY 'tmp 'bl1 REPLACE",
    "LPOP 'bl1",
    "LRANGE 'bl1 0 -1",
    "LLEN 'bl2",
    "MULTI",
    "EXEC",
    "DISCARD",
    "SORT 'tmp ALPHA STORE 'bl1",
)
_ADDS: Final = (
    "ZADD 'bz1 {waitscore zwaited}+",
    "ZADD 'bz2 {waitscore zwaited}+",
    "ZINCRBY 'bz1 1 zwaited",
    "DEL 'bz1",
    "SET 'bz1 'text",
    "ZADD 'tmp {waitscore zwaited}+",
    "ZUNIONSTORE 'bz1 2 'tmp 'bz2",
    "RENAME 'tmp 'bz1",
    "ZPOPMIN 'bz1",
    "ZRANGE 'bz1 0 -1 WITHSCORES",
    "MULTI",
    "EXEC",
    "GEOADD 'bz1 1 1 zwaited",
)
_LISTS_END: Final = ("EXEC", "RESET", "DEL 'bl1", "RPUSH 'bl1 bvalue bvalue", "LRANGE 'bl1 0 -1")
_ZSETS_END: Final = ("EXEC", "RESET", "DEL 'bz1", "ZADD 'bz1 1 'a 2 'b", "ZRANGE 'bz1 0 -1")

_ENTRIES: Final = (
    "XADD 'bx waitid 'f bvalue",
    "XADD 'bx waitid 'f bvalue 'g bvalue",
    "XADD 'tmp waitid 'f bvalue",
    "RENAME 'tmp 'bx",
    "DEL 'bx",
    "SET 'bx 'text",
    "XDEL 'bx waitid",
    "XGROUP DESTROY 'bx 'g",
    "XGROUP CREATE 'bx 'g 0 MKSTREAM",
    "XREADGROUP GROUP 'g 'other COUNT 1 STREAMS 'bx >",
    "XLEN 'bx",
    "MULTI",
    "EXEC",
)
_STREAMS_END: Final = (
    *("EXEC", "RESET", "DEL 'bx", "XADD 'bx 99-1 'f 'v", "XRANGE 'bx - +"),
    *("XGROUP CREATE 'bx 'g 0", "XINFO GROUPS 'bx"),
)

_NEW_ENTRIES: Final = (*_ENTRIES[:3], "XLEN 'bx", "XRANGE 'bx - +", "MULTI", "EXEC")
_ENTRY_LAST: Final = (*("EXEC", "RESET", "XADD 'bx 99-* 'f 'v", "XADD 'bx 99-* 'f 'v"), "DEL 's1")
"""XREAD has nothing to do with the log: it asks again when there is news, so what was added and
taken away meanwhile is not seen, and what was added soon after may be."""


def _streams(reply: Reply) -> dict[Reply, tuple[Reply, ...]]:
    """Entries by stream, from a map or from an array of pairs."""
    flat = reply.elements
    if reply.kind != b"%":
        flat = tuple(part for pair in reply.elements for part in pair.elements)
    return {name: entries.elements for name, entries in zip(flat[::2], flat[1::2], strict=True)}


def _news_while_waiting(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """With BLOCK the entries that Redis gives come first."""
    line, reply = redis[at]
    if reply.kind != kvnode[at].reply.kind or b"BLOCK" not in map(bytes.upper, line):
        return False
    theirs, ours = _streams(reply), _streams(kvnode[at].reply)
    return theirs.keys() == ours.keys() and all(
        ours[name][: len(entries)] == entries for name, entries in theirs.items()
    )


FAMILY: Final = Family(
    name="blocking",
    keys=KEYS,
    commands=rows(1, {
        "blpop": "BLPOP blkey+ patience|BLPOP bzkey patience|BLPOP blkey",
        "brpop": "BRPOP blkey+ patience|BRPOP blkey",
        "blmove": "BLMOVE blkey blkey bside bside patience|BLMOVE blkey blkey bside bside",
        "brpoplpush": "BRPOPLPUSH blkey blkey patience",
        "blmpop": "BLMPOP patience waitcount blkey {blkey|bside} bside [COUNT waitcount]"
        "|BLMPOP patience 1 blkey bside [COUNT waitcount]",
        "bzpopmin": "BZPOPMIN bzkey+ patience|BZPOPMIN blkey patience",
        "bzpopmax": "BZPOPMAX bzkey+ patience|BZPOPMAX bzkey",
        "bzmpop": "BZMPOP patience 1 bzkey {MIN|MAX|'max|FOO} [COUNT waitcount]"
        "|BZMPOP patience 2 bzkey bzkey {MIN|MAX} [COUNT waitcount]",
    }),
    furniture=(
        "RPUSH 'bl1 bvalue bvalue bvalue bvalue",
        "RPUSH 'bl2 bvalue bvalue bvalue",
        "ZADD 'bz1 1 'a 2 'b 3 'c 4 'd",
        "ZADD 'bz2 {waitscore zwaited}+ {waitscore zwaited}+",
        "XADD 'bx 1-1 'f 'v",
        "XGROUP CREATE 'bx 'g 0",
    ),
    atoms={
        "blkey": keyed(KEYS[:2]),
        "bzkey": keyed(KEYS[2:4]),
        "bvalue": mostly((b"a", b"b", b"c", b"d"), (b"", b"x" * 1000)),
        "bside": mostly((b"LEFT", b"RIGHT", b"left"), (b"FOO",), 0.95),
        "waitcount": mostly((b"1", b"2", b"10"), (b"0", b"-1", b"x"), 0.9),
        "waitscore": mostly((b"1", b"2", b"-1.5", b"inf")),
        "zwaited": mostly((b"a", b"b", b"c", b"d", b"e")),
        "waitid": mostly((b"2-1", b"3-1", b"4-4", b"5-*", b"7-7", b"1-1")),
        "patience": mostly((b"0.001", b"0.002", b"1e-3"), (
            b"-1", b"abc", b"", b"1e400", b"-0.1", b"nan", b"9223372036854775808",
        ), 0.9),
    },
    rules=(
        Rule(("xread",), "with BLOCK: kvnode may give entries that came soon after, too",
             _news_while_waiting),
    ),
    waits=(
        Waiting("BLPOP {'bl1|'bl2 'bl1|'bl1 'bl2|'bz1 'bl1} 0", _PUSHES, _LISTS_END),
        Waiting("BRPOP {'bl1|'bl1 'bl1} {0|600}", _PUSHES, _LISTS_END),
        Waiting("BLMOVE 'bl1 {'bl1|'bl2|'s1} bside bside 0", _PUSHES, _LISTS_END),
        Waiting("BRPOPLPUSH 'bl1 'bl2 0", _PUSHES, _LISTS_END),
        Waiting("BLMPOP 0 {1 'bl1|2 'bl2 'bl1} {LEFT|RIGHT} [COUNT 2]", _PUSHES, _LISTS_END),
        Waiting("BZPOPMIN {'bz1|'bz2 'bz1} 0", _ADDS, _ZSETS_END),
        Waiting("BZPOPMAX {'bz1|'bl1 'bz1} 600.5", _ADDS, _ZSETS_END),
        Waiting("BZMPOP 0 {1 'bz1|2 'bz2 'bz1} {MIN|MAX} [COUNT 2]", _ADDS, _ZSETS_END),
        Waiting("XREAD [COUNT 1] BLOCK 5000 STREAMS 'bx {$|$|0-0|4-0}", _NEW_ENTRIES, _ENTRY_LAST),
        Waiting("XREAD BLOCK 5000 STREAMS 'absent 'bx $ $", _NEW_ENTRIES, _ENTRY_LAST),
        Waiting(
            "XREADGROUP GROUP 'g 'c {|COUNT 1|NOACK} BLOCK 0 STREAMS 'bx {>|>|>|0}",
            _ENTRIES,
            _STREAMS_END,
        ),
    ),
)  # fmt: skip
