"""Every command that reads more than single keys and elements, and data that makes it heavy.

`FILLING` are commands that write the data; `READS` has for each command of cost RANGE or WHOLE some
ways to call it, each of which finds what it looks for. `heavy` tells which of them are promoted to
the workers for their size, with the data as it is here.
"""

from __future__ import annotations

from typing import NamedTuple

from kvnode.resp.commands.command import READ, WRITE, Command, Cost
from kvnode.resp.commands.lookup import look_up
from kvnode.resp.commands.table import ROWS
from kvnode.service import Op

SIZE = 2_400
PAGE = 100
LONG = b"long" * 200


class Call(NamedTuple):
    """One way to call a command."""

    text: str
    heavy: bool

    @property
    def arguments(self) -> list[bytes]:
        """The words of the text."""
        return self.text.replace("LONG", LONG.decode()).encode().split()


def call_of(arguments: list[bytes]) -> tuple[Command, Op]:
    """The command, and the op that it becomes in database 0."""
    command = look_up(arguments)
    return command, command.parse(0, arguments)


def _pages(head: str, element: str, size: int = SIZE) -> list[str]:
    """Commands that put `size` elements in, each written as `element` with its number for %d."""
    return [
        " ".join([head, *(element.replace("%d", str(at)) for at in range(first, first + PAGE))])
        for first in range(0, size, PAGE)
    ]


FILLING: list[list[bytes]] = [
    text.replace("LONG", LONG.decode()).encode().split()
    for text in (
        *_pages("MSET", "key%d value%d"),
        *_pages("HSET hash", "field%d value%d"),
        "HSET hash LONG LONG",
        "HSET small a 1 b 2",
        *_pages("RPUSH list", "element%d"),
        *_pages("SADD set", "member%d"),
        *_pages("SADD other", "member1%d"),
        *_pages("ZADD zset", "%d.5 member%d"),
        *_pages("GEOADD geo", "13.361%d 38.115%d place%d"),
        *(f"XADD stream {at}-1 field value{at} g LONG" for at in range(1, SIZE // 4)),
        *(f"XGROUP CREATE stream group{at} 0" for at in range(3)),
        "XGROUP CREATE stream idle 0",
        *(f"XGROUP CREATECONSUMER stream idle consumer{at}" for at in range(SIZE // 4)),
        "XREADGROUP GROUP group0 one COUNT 500 STREAMS stream >",
        "XREADGROUP GROUP group1 two COUNT 3 STREAMS stream >",
        *_pages("PFADD hyperloglog", "element%d"),
        "SETRANGE bits 1400000 end",
        "SETRANGE text 3000 LONG",
        "SETRANGE prose 2500 LONG",
        "SETRANGE large 4300000 end",
    )
]


def _many(word: str, count: int = 1_200) -> str:
    return " ".join(f"{word}{at}" for at in range(count))


_CALLS: dict[str, list[Call]] = {
    "mget": [Call(f"MGET {_many('key')} none", True), Call("MGET key1 none", False)],
    "exists": [Call(f"EXISTS {_many('key')} none", True), Call("EXISTS key1 none", False)],
    "touch": [Call(f"TOUCH {_many('key')}", True), Call("TOUCH key1", False)],
    "keys": [Call("KEYS *1*", True)],
    "scan": [Call("SCAN 0 COUNT 5000 MATCH *7*", True), Call("SCAN 0", False)],
    "getrange": [Call("GETRANGE large 0 -1", True), Call("GETRANGE large 1 7", False)],
    "substr": [Call("SUBSTR large 0 -1", True), Call("SUBSTR text 0 -1", False)],
    "lcs": [Call("LCS text prose LEN", True), Call("LCS key1 key2", False)],
    "lrange": [Call("LRANGE list 0 -1", True), Call("LRANGE list -10 -1", False)],
    "lpos": [Call("LPOS list element7 COUNT 0", False)],
    "sinter": [Call("SINTER set other", True), Call("SINTER set none", False)],
    "sunion": [Call("SUNION set other", True), Call("SUNION none none", False)],
    "sdiff": [Call("SDIFF set other", True), Call("SDIFF none set", False)],
    "sintercard": [Call("SINTERCARD 2 set other", True)],
    "smembers": [Call("SMEMBERS set", True), Call("SMEMBERS none", False)],
    "smismember": [Call(f"SMISMEMBER set {_many('member')}", True)],
    "srandmember": [Call("SRANDMEMBER set 2000", True), Call("SRANDMEMBER set 3", False)],
    "sscan": [Call("SSCAN set 0 COUNT 2000", True), Call("SSCAN set 0", False)],
    "hmget": [Call(f"HMGET hash {_many('field')} none", True), Call("HMGET small a b", False)],
    "hgetall": [Call("HGETALL hash", True), Call("HGETALL small", False)],
    "hkeys": [Call("HKEYS hash", True), Call("HKEYS small", False)],
    "hvals": [Call("HVALS hash", True), Call("HVALS none", False)],
    "hrandfield": [Call("HRANDFIELD hash -1100 WITHVALUES", True), Call("HRANDFIELD hash", False)],
    "hscan": [Call("HSCAN hash 0 COUNT 2000", True), Call("HSCAN hash 0", False)],
    "zmscore": [Call(f"ZMSCORE zset {_many('member')}", True)],
    "zrange": [
        Call("ZRANGE zset 0 -1 WITHSCORES", True),
        Call("ZRANGE zset 0 100 BYSCORE", False),
        Call("ZRANGE zset 0 9999 BYSCORE LIMIT 7 5", False),
        Call("ZRANGE zset 0 9999 BYSCORE LIMIT 7 -1", True),
        Call("ZRANGE zset 0 9999 BYSCORE LIMIT 2300 -1", False),
        Call("ZRANGE zset 0 100 BYSCORE LIMIT 7 -1", False),
        Call("ZRANGE zset 9999 0 BYSCORE REV LIMIT 1000 1200", True),
    ],
    "zrevrange": [Call("ZREVRANGE zset 0 -1", True)],
    "zrangebyscore": [
        Call("ZRANGEBYSCORE zset -inf +inf", True),
        Call("ZRANGEBYSCORE zset (5 7", False),
    ],
    "zrevrangebyscore": [Call("ZREVRANGEBYSCORE zset +inf -inf WITHSCORES", True)],
    "zrangebylex": [Call("ZRANGEBYLEX zset - +", True)],
    "zrevrangebylex": [Call("ZREVRANGEBYLEX zset + -", True)],
    "zunion": [Call("ZUNION 2 zset set WITHSCORES", True)],
    "zinter": [Call("ZINTER 2 zset set", True)],
    "zdiff": [Call("ZDIFF 2 zset other WITHSCORES", True)],
    "zintercard": [Call("ZINTERCARD 2 zset set", True)],
    "zrandmember": [Call("ZRANDMEMBER zset 2000 WITHSCORES", True)],
    "zscan": [Call("ZSCAN zset 0 COUNT 2000", True)],
    "geopos": [Call(f"GEOPOS geo {_many('place')} none", True)],
    "geohash": [Call(f"GEOHASH geo {_many('place')}", True)],
    "geosearch": [
        Call("GEOSEARCH geo FROMLONLAT 13 38 BYRADIUS 300 km ASC WITHDIST WITHCOORD", True),
        Call("GEOSEARCH geo FROMLONLAT 90 -38 BYRADIUS 300 km", False),
    ],
    "georadius_ro": [Call("GEORADIUS_RO geo 13 38 300 km WITHHASH", True)],
    "georadiusbymember_ro": [Call("GEORADIUSBYMEMBER_RO geo place7 300 km", True)],
    "georadius": [
        Call("GEORADIUS geo 13 38 300 km WITHDIST", True),
        Call("GEORADIUS geo 13 38 300 km COUNT 3", True),
    ],
    "georadiusbymember": [Call("GEORADIUSBYMEMBER geo place7 300 km DESC", True)],
    "xrange": [Call("XRANGE stream - +", True), Call("XRANGE stream 5 9", False)],
    "xrevrange": [Call("XREVRANGE stream + -", True), Call("XREVRANGE stream + - COUNT 5", False)],
    "xread": [
        Call("XREAD STREAMS stream 0", True),
        Call("XREAD COUNT 10 STREAMS stream 0", False),
        Call("XREAD STREAMS stream 590", False),
    ],
    "xpending": [
        Call("XPENDING stream group0 - + 1000", True),
        Call("XPENDING stream group0 - + 5", False),
        Call("XPENDING stream group0", False),
        Call("XPENDING stream idle", True),
    ],
    "xinfo|stream": [
        Call("XINFO STREAM stream FULL COUNT 500", True),
        Call("XINFO STREAM stream", False),
    ],
    "xinfo|groups": [Call("XINFO GROUPS stream", False)],
    "xinfo|consumers": [
        Call("XINFO CONSUMERS stream idle", True),
        Call("XINFO CONSUMERS stream group1", False),
    ],
    "bitcount": [Call("BITCOUNT bits", True), Call("BITCOUNT key1", False)],
    "bitpos": [Call("BITPOS bits 1", True), Call("BITPOS key1 1", False)],
    "pfcount": [Call(f"PFCOUNT hyperloglog {_many('key', 7).replace('key', 'none')}", True)],
    "sort_ro": [Call("SORT_RO set ALPHA", True), Call("SORT_RO list BY nosort LIMIT 0 5", False)],
    "dump": [Call("DUMP zset", True), Call("DUMP key1", False)],
}

READS: dict[str, list[Call]] = _CALLS


def growing_reads() -> list[Command]:
    """Rows of the command table that read and whose work grows with what they ask or find."""
    return [row for row in ROWS if row.kind == READ and row.cost is not Cost.POINT]


def fill(apply: object) -> None:
    """Hand each write of the data to a callable."""
    assert callable(apply)
    for arguments in FILLING:
        command, op = call_of(arguments)
        assert command.kind == WRITE
        apply(op)


WRITES: list[Call] = [
    Call("LREM long 0 nobody", True),
    Call("LINSERT long BEFORE nobody x", True),
    Call("LREM list 0 nobody", False),
    Call("LTRIM list 5 -5", False),
    Call("LPOP list", False),
    Call("LPOP list 5", False),
    Call("LMPOP 2 none list LEFT COUNT 5", False),
    Call("SPOP set", False),
    Call("SPOP set 700", True),
    Call("SPOP set 5", False),
    Call("ZPOPMIN zset 2400", True),
    Call("ZPOPMIN zset", False),
    Call("ZMPOP 1 zset MIN COUNT 2400", True),
    Call("ZREMRANGEBYSCORE zset 0 1100", True),
    Call("ZREMRANGEBYRANK zset 0 5", False),
    Call("XTRIM stream MAXLEN 0", False),
    Call("XGROUP DESTROY stream group0", False),
    Call("XGROUP DELCONSUMER stream group0 one", False),
    Call("XREADGROUP GROUP group2 one STREAMS stream >", False),
    Call("XAUTOCLAIM stream group0 two 0 0 COUNT 5", False),
    Call("BITOP AND new large large large large large", True),
    Call("BITOP AND new key1 key2", False),
    Call("PFMERGE new hyperloglog", False),
    Call("SORT list ALPHA STORE new", False),
    Call("SORT set BY weight* GET other* GET another* STORE new", True),
    Call("SUNIONSTORE new set other", True),
    Call("ZUNIONSTORE new 2 zset set", True),
    Call("GEOSEARCHSTORE new geo FROMLONLAT 13 38 BYRADIUS 300 km COUNT 5", True),
    Call("GEOSEARCHSTORE new geo FROMLONLAT 13 38 BYRADIUS 300 km", True),
    Call("COPY hash new", True),
    Call("COPY small new", False),
    Call("ZRANGESTORE new zset 0 -1", True),
    Call("SET key1 x", False),
]
"""Writes whose work is not told by their size, and some that are told by it."""

IN_EXEC: list[tuple[str, bool]] = [
    ("HGETALL hash; HGETALL hash; HGETALL hash; HGETALL hash; HGETALL hash", True),
    ("HGETALL small; GET key1; SET key1 x", False),
    ("ZUNIONSTORE new 2 zset set", True),
    ("SUNIONSTORE new set other", True),
    ("COPY hash new", True),
    ("LREM long 0 nobody", True),
    ("INCR n; DEL key1", False),
]
"""What makes an EXEC heavy, and what does not."""

LONG_LIST = ["RPUSH", "long", *(f"element{at}" for at in range(170_000))]
"""For commands that compare elements."""
