"""The operations of the log: permanent codes, and since which feature level each exists.

An op is a list `[code, db, *arguments]` of ints and bytes; the arguments of each are in DESIGN.md,
§4. A code is never reused or given another meaning, because old log entries are applied again by
new programs. Writes go through the log, reads do not, though they may stand inside EXEC; `is_write`
tells them apart by their ranges:

| Codes | Since level | What |
|---|---|---|
| 1–63, 64–127 | 1 | writes and reads of strings, keys, databases, transactions |
| 128–255, 256–383 | 4 | writes and reads of collections, a family in each block of 16 |
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Final, TypeAlias

from kvnode.errors import ConfigurationError

Op: TypeAlias = "list[Any]"
"""`[code, db, *arguments]`: bytes, ints, and for EXEC nested lists."""

SET: Final = 1
MSET: Final = 2
DEL: Final = 3
INCRBY: Final = 4
APPEND: Final = 5
EXPIRE: Final = 6
PERSIST: Final = 7
FLUSHDB: Final = 8
FLUSHALL: Final = 9
EXEC: Final = 10
GETDEL: Final = 11
GETEX: Final = 12
MSETNX: Final = 13
INCRBYFLOAT: Final = 14
SETRANGE: Final = 15
RENAME: Final = 16
COPY: Final = 17
MOVE: Final = 18
SWAPDB: Final = 19
EXEC_WATCHED: Final = 20

_FIRST_READ: Final = 64
GET: Final = 64
MGET: Final = 65
EXISTS: Final = 66
TYPE: Final = 67
STRLEN: Final = 68
TTL: Final = 69
KEYS: Final = 70
SCAN: Final = 71
DBSIZE: Final = 72
VERSION: Final = 73
GETRANGE: Final = 74
LCS: Final = 75
RANDOMKEY: Final = 76
EXPIRETIME: Final = 77
OBJECT: Final = 78
SIZE: Final = 79

# --- collections: writes from 128, reads from 256 on ----------------------------------------------

_FIRST_COLLECTION_WRITE: Final = 128
_FIRST_COLLECTION_READ: Final = 256

# Hashes: 128–143, 256–271.
HSET: Final = 128
HSETNX: Final = 129
HDEL: Final = 130
HINCRBY: Final = 131
HINCRBYFLOAT: Final = 132

HGET: Final = 256
HMGET: Final = 257
HGETALL: Final = 258
HLEN: Final = 259
HSTRLEN: Final = 260
HEXISTS: Final = 261
HRANDFIELD: Final = 262
HSCAN: Final = 263

# Lists: 144–159, 272–287.
LIST_PUSH: Final = 144
LIST_POP: Final = 145
LSET: Final = 146
LINSERT: Final = 147
LREM: Final = 148
LTRIM: Final = 149
LMOVE: Final = 150
LMPOP: Final = 151
LLEN: Final = 272
LINDEX: Final = 273
LRANGE: Final = 274
LPOS: Final = 275

# Sets: 160–175, 288–303.
SADD: Final = 160
SREM: Final = 161
SPOP: Final = 162
SMOVE: Final = 163
SCOMBINESTORE: Final = 164

SMEMBERS: Final = 288
SISMEMBER: Final = 289
SMISMEMBER: Final = 290
SCARD: Final = 291
SRANDMEMBER: Final = 292
SCOMBINE: Final = 293
SINTERCARD: Final = 294
SSCAN: Final = 295

# Sorted sets: 176–191, 304–319.
ZADD: Final = 176
ZREM: Final = 177
ZREMRANGE: Final = 178
ZPOP: Final = 179
ZMPOP: Final = 180
ZRANGESTORE: Final = 181
ZALGEBRASTORE: Final = 182
ZSCORE: Final = 304
ZMSCORE: Final = 305
ZCARD: Final = 306
ZCOUNT: Final = 307
ZRANK: Final = 308
ZRANGE: Final = 309
ZALGEBRA: Final = 310
ZINTERCARD: Final = 311
ZRANDMEMBER: Final = 312
ZSCAN: Final = 313

# Streams: 192–223, 320–351.
XADD: Final = 192
XDEL: Final = 193
XTRIM: Final = 194
XSETID: Final = 195
XGROUP_CREATE: Final = 196
XGROUP_SETID: Final = 197
XGROUP_DESTROY: Final = 198
XGROUP_CREATECONSUMER: Final = 199
XGROUP_DELCONSUMER: Final = 200
XREADGROUP: Final = 201
XACK: Final = 202
XCLAIM: Final = 203
XAUTOCLAIM: Final = 204
XLEN: Final = 320
XRANGE: Final = 321
XREAD: Final = 322
XREAD_SINCE: Final = 323
XPENDING: Final = 324
XPENDING_RANGE: Final = 325
XINFO_STREAM: Final = 326
XINFO_GROUPS: Final = 327
XINFO_CONSUMERS: Final = 328

# Bits and HyperLogLog: 224–231, 352–359.
SETBIT: Final = 224
BITOP: Final = 225
BITFIELD: Final = 226
PFADD: Final = 227
PFMERGE: Final = 228
GETBIT: Final = 352
BITCOUNT: Final = 353
BITPOS: Final = 354
BITFIELD_RO: Final = 355
PFCOUNT: Final = 356

# Geo: 232–235, 360–363.
GEOSEARCHSTORE: Final = 232
GEOPOS: Final = 360
GEOHASH: Final = 361
GEODIST: Final = 362
GEOSEARCH: Final = 363

# Sorting, serialisation, bulk: 236–243, 364–371.
STEP: Final = 236
RESTORE: Final = 237
SORTSTORE: Final = 238

SORT: Final = 364
DUMP: Final = 365

# Waiting: 244–251.
BLOCK: Final = 244
RESOLVE: Final = 245
ABANDON: Final = 246
RETURN: Final = 247

LEVEL: Final = 5
"""The newest feature level that this program knows."""

BASE_LEVEL: Final = 2
"""What a cluster counts as that has no registry of members, and so no level of its own."""

MEMBERS_LEVEL: Final = 3
"""Membership in the log (`kvnode.store.members`): entries of kind 4 and what they leave."""

COLLECTIONS_LEVEL: Final = 4
"""Collections (`kvnode.store.collection`): all codes from 128 on."""

GROUPS_LEVEL: Final = 5
"""Batches of several nodes in one entry: entries of kind 5."""

_HASHES: Final[tuple[int, ...]] = (
    *(HSET, HSETNX, HDEL, HINCRBY, HINCRBYFLOAT),
    *(HGET, HMGET, HGETALL, HLEN, HSTRLEN, HEXISTS, HRANDFIELD, HSCAN),
)
_LISTS: Final[tuple[int, ...]] = (
    *(LIST_PUSH, LIST_POP, LSET, LINSERT, LREM, LTRIM, LMOVE, LMPOP),
    *(LLEN, LINDEX, LRANGE, LPOS),
)
_SETS: Final[tuple[int, ...]] = (
    *(SADD, SREM, SPOP, SMOVE, SCOMBINESTORE),
    *(SMEMBERS, SISMEMBER, SMISMEMBER, SCARD, SRANDMEMBER, SCOMBINE, SINTERCARD, SSCAN),
)
_SORTED_SETS: Final = (
    *(ZADD, ZREM, ZREMRANGE, ZPOP, ZMPOP, ZRANGESTORE, ZALGEBRASTORE),
    *(ZSCORE, ZMSCORE, ZCARD, ZCOUNT, ZRANK, ZRANGE, ZALGEBRA, ZINTERCARD, ZRANDMEMBER, ZSCAN),
)
_BITS: Final[tuple[int, ...]] = (
    *(SETBIT, BITOP, BITFIELD, PFADD, PFMERGE),
    *(GETBIT, BITCOUNT, BITPOS, BITFIELD_RO, PFCOUNT),
)
_STREAMS: Final[tuple[int, ...]] = (*range(XADD, XAUTOCLAIM + 1), *range(XLEN, XINFO_CONSUMERS + 1))
_GEO: Final = (GEOSEARCHSTORE, GEOPOS, GEOHASH, GEODIST, GEOSEARCH)
_GENERIC: Final[tuple[int, ...]] = (STEP, RESTORE, SORTSTORE, SORT, DUMP)
_WAITING: Final[tuple[int, ...]] = (BLOCK, RESOLVE, ABANDON, RETURN)
_COLLECTIONS: Final = (
    *_HASHES,
    *_LISTS,
    *_SETS,
    *_SORTED_SETS,
    *_STREAMS,
    *_BITS,
    *_GEO,
    *_GENERIC,
    *_WAITING,
)

SINCE: Final[dict[int, int]] = {
    **dict.fromkeys([SET, MSET, DEL, INCRBY, APPEND, EXPIRE, PERSIST, FLUSHDB, FLUSHALL, EXEC], 1),
    **dict.fromkeys([GETDEL, GETEX, MSETNX, INCRBYFLOAT, SETRANGE, RENAME, COPY, MOVE, SWAPDB], 1),
    **dict.fromkeys([GET, MGET, EXISTS, TYPE, STRLEN, TTL, KEYS, SCAN, DBSIZE, VERSION], 1),
    **dict.fromkeys([GETRANGE, LCS, RANDOMKEY, EXPIRETIME, OBJECT, SIZE], 1),
    EXEC_WATCHED: 2,
    **dict.fromkeys(_COLLECTIONS, COLLECTIONS_LEVEL),
}
"""Feature level of each code. An op is proposed only when every member has reached its level."""


_GROWING_COLLECTIONS: Final[dict[str, tuple[int, ...]]] = {
    "hashes": (HSET, HSETNX, HINCRBY, HINCRBYFLOAT),
    "lists": (LIST_PUSH, LSET, LINSERT, LMOVE),
    "sets": (SADD, SCOMBINESTORE),
    "sorted sets": (ZADD, ZRANGESTORE, ZALGEBRASTORE),
    "bits": (SETBIT, BITOP, BITFIELD, PFADD, PFMERGE),
    "streams": (XADD, XGROUP_CREATE, XGROUP_CREATECONSUMER),
    "geo": (GEOSEARCHSTORE,),
    "generic": (RESTORE, SORTSTORE),
}
GROWING: Final = frozenset(
    {SET, MSET, INCRBY, APPEND, MSETNX, INCRBYFLOAT, SETRANGE, COPY}.union(
        *_GROWING_COLLECTIONS.values()
    )
)
"""Ops that can make the data larger: refused where there is a limit and it is reached."""


def can_grow(op: Op) -> bool:
    """Whether an op, or one inside a transaction, can make the data larger."""
    if op[0] in (EXEC, EXEC_WATCHED):
        return any(inner[0] in GROWING for inner in op[3])
    if op[0] == BLOCK:
        return op[3][0] in GROWING
    return op[0] in GROWING


class SetFlag(IntFlag):
    """Flags of SET. PX and PXAT tell how `expire_ms` is meant; with neither it is 0."""

    NX = 1
    XX = 2
    GET = 4
    KEEPTTL = 8
    PX = 16
    PXAT = 32


class ExpireFlag(IntFlag):
    """Conditions of EXPIRE, compared with the deadline the key has now."""

    NX = 1
    XX = 2
    GT = 4
    LT = 8


class ClaimFlag(IntFlag):
    """Flags of XCLAIM and XAUTOCLAIM. IDLE and TIME tell how the time is meant."""

    FORCE = 1
    JUSTID = 2
    IDLE = 4
    TIME = 8


class UnknownOperation(ConfigurationError):
    """The log asks for something that this program does not know; going on would diverge."""


def level_of(op: Op) -> int:
    """The feature level that an op needs, and with it each op of a transaction."""
    needed = SINCE[op[0]]
    if op[0] in (EXEC, EXEC_WATCHED):
        needed = max([needed, *(SINCE[inner[0]] for inner in op[3])])
    return needed


_PLAIN_PARTS: Final = 5
"""Code, database, key, value and a flag: an op of a single row has about so many."""


def rows_of(op: Op) -> int:
    """How many rows a write may write, as far as the number of its arguments tells."""
    if op[0] in (EXEC, EXEC_WATCHED):
        return sum([max(len(inner) - _PLAIN_PARTS, 1) for inner in op[3]])
    return max(len(op) - _PLAIN_PARTS, 1)


def check_level(level: int) -> None:
    """Refuse what a cluster of this feature level wrote, if this program is too old for it.

    Raises:
        ConfigurationError: a newer program is needed; the text says so.
    """
    if level > LEVEL:
        raise ConfigurationError(
            f"the cluster is at feature level {level}, and this program knows levels up to "
            f"{LEVEL}: use the newer program"
        )


class GetexFlag(IntFlag):
    """How GETEX means its `expire_ms`, as in SET; with no flag it leaves the deadline alone."""

    PX = 16
    PXAT = 32
    PERSIST = 64


class LcsFlag(IntFlag):
    """What LCS answers; with neither LEN nor IDX it is the subsequence itself."""

    LEN = 1
    IDX = 2
    WITHMATCHLEN = 4


class HashPart(IntFlag):
    """What HGETALL answers of each field."""

    FIELDS = 1
    VALUES = 2


class Resolution(IntEnum):
    """What RESOLVE does with a waiter."""

    CLAIM = 0
    """It was served: its client gets the result."""
    OVER = 1
    """Its time is over: the client gets the result, or nil."""
    LEAVE = 2
    """The client is gone: what was done for it is undone."""


class GeoFlag(IntFlag):
    """What GEOSEARCH shows of a match, and in which order; what GEOSEARCHSTORE keeps as score."""

    WITHDIST = 1
    WITHHASH = 2
    WITHCOORD = 4
    ASC = 8
    DESC = 16
    ANY = 32
    STOREDIST = 64
    RADIUS = 128
    """It came as GEORADIUS or GEORADIUSBYMEMBER, whose notification has another name."""


class GeoCheck(IntEnum):
    """What GEOSEARCH looks at before it searches, in the order of the command's arguments."""

    MEMBER = 0
    """If the key is there, this must be a member, and is the centre."""
    REFUSE_IF_THERE = 1
    """If the key is there, this is the answer."""
    REFUSE = 2
    """This is the answer."""


class ZAddFlag(IntFlag):
    """Options of ZADD. With INCR the score is added to what there is."""

    NX = 1
    XX = 2
    GT = 4
    LT = 8
    CH = 16
    INCR = 32


class ZBy(IntEnum):
    """How the bounds of a range of a sorted set are meant (`kvnode.store.redis.sorted_sets`)."""

    RANK = 0
    SCORE = 1
    LEX = 2


class ZRangeFlag(IntFlag):
    """The direction of ZRANGE, and whether it shows scores."""

    REV = 1
    WITHSCORES = 2


class ZOperation(IntEnum):
    """What ZALGEBRA makes of its operands."""

    UNION = 0
    INTER = 1
    DIFF = 2


class ZAggregate(IntEnum):
    """What becomes of the scores of a member that several operands have."""

    SUM = 0
    MIN = 1
    MAX = 2


class SetOperation(IntEnum):
    """What SCOMBINE and SCOMBINESTORE make of several sets."""

    UNION = 0
    INTERSECTION = 1
    DIFFERENCE = 2


class SortFlag(IntFlag):
    """How SORT sorts; with NOSORT it takes the elements as they lie."""

    DESC = 1
    ALPHA = 2
    NOSORT = 4


class ObjectQuery(IntEnum):
    """What OBJECT asks of a key."""

    ENCODING = 0
    FREQ = 1
    IDLETIME = 2
    REFCOUNT = 3


class RestoreFlag(IntFlag):
    """Flags of RESTORE."""

    REPLACE = 1
    ABSTTL = 2


class BitUnit(IntEnum):
    """What the range of BITCOUNT and BITPOS counts."""

    BYTE = 0
    BIT = 1


class BitFault(IntEnum):
    """What is wrong with the range of BITCOUNT and BITPOS: an error only where there is a key."""

    NOT_AN_INTEGER = 1
    SYNTAX = 2


class BitOperation(IntEnum):
    """How BITOP combines strings."""

    AND = 0
    OR = 1
    XOR = 2
    NOT = 3


class BitStep(IntEnum):
    """What a step of BITFIELD does."""

    GET = 0
    SET = 1
    INCRBY = 2


class Overflow(IntEnum):
    """What a step of BITFIELD does with a number that its field cannot hold."""

    WRAP = 0
    SATURATE = 1
    FAIL = 2


def is_write(op: Op) -> bool:
    """Whether an op must go through the log."""
    code: int = op[0]
    return code < _FIRST_READ or _FIRST_COLLECTION_WRITE <= code < _FIRST_COLLECTION_READ
