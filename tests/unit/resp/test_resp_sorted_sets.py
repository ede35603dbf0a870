"""Sorted set commands: which op each becomes, the shapes of replies, and Redis' answers."""

from __future__ import annotations

import random
import shutil
import socket
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvnode.limits import DRAWN_MEMBERS_MAX, KEY_BYTES_MAX
from kvnode.resp.commands.facts import geo, sorted_sets
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.scores import pack_score
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, conversation, redis_socket

__all__ = ["redis_socket"]

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)
ONE, TWO = pack_score(1.0), pack_score(2.0)
RANK, SCORE, LEX = 0, 1, 2


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("ZADD k 1 a 2 b", [ops.ZADD, 0, b"k", 0, ONE, b"a", TWO, b"b"]),
        ("ZADD k nx CH 1 a", [ops.ZADD, 0, b"k", 1 | 16, ONE, b"a"]),
        ("ZADD k GT XX INCR 1 a", [ops.ZADD, 0, b"k", 4 | 2 | 32, ONE, b"a"]),
        ("ZINCRBY k 1 a", [ops.ZADD, 0, b"k", 32, ONE, b"a"]),
        ("ZREVRANK k a", [ops.ZRANK, 0, b"k", b"a", 1]),
        ("ZCOUNT k (1 2", [ops.ZCOUNT, 0, b"k", SCORE, b"(" + ONE, b"[" + TWO]),
        ("ZLEXCOUNT k - [b", [ops.ZCOUNT, 0, b"k", LEX, b"-", b"[b"]),
        ("ZRANGE k 0 -1", [ops.ZRANGE, 0, b"k", RANK, 0, -1, 0, 0, -1]),
        (
            "ZRANGE k 2 (1 BYSCORE REV LIMIT 3 4 WITHSCORES",
            [ops.ZRANGE, 0, b"k", SCORE, b"(" + ONE, b"[" + TWO, 3, 3, 4],
        ),
        ("ZREVRANGEBYLEX k + (a", [ops.ZRANGE, 0, b"k", LEX, b"(a", b"+", 1, 0, -1]),
        ("ZRANGESTORE t k 0 1 REV", [ops.ZRANGESTORE, 0, b"t", b"k", RANK, 0, 1, 1, 0, -1]),
        ("ZREMRANGEBYRANK k 1 2", [ops.ZREMRANGE, 0, b"k", RANK, 1, 2]),
        ("ZPOPMIN k", [ops.ZPOP, 0, b"k", 0, None]),
        ("ZPOPMAX k 3", [ops.ZPOP, 0, b"k", 1, 3]),
        ("ZMPOP 2 a b MAX COUNT 3", [ops.ZMPOP, 0, 1, 3, b"a", b"b"]),
        (
            "ZUNION 2 a b WEIGHTS 1 2 AGGREGATE max WITHSCORES",
            [ops.ZALGEBRA, 0, 0, [b"a", b"b"], [ONE, TWO], 2, 1, None],
        ),
        ("ZDIFFSTORE t 1 a", [ops.ZALGEBRASTORE, 0, 2, b"t", [b"a"], [], 0, None]),
        ("ZINTERCARD 1 a LIMIT 2", [ops.ZINTERCARD, 0, [b"a"], 2, None]),
        ("ZINTERCARD 1 a FOO", [ops.ZINTERCARD, 0, [b"a"], 0, b"ERR syntax error"]),
        ("ZSCAN k 5 MATCH x* COUNT 7", [ops.ZSCAN, 0, b"k", 5, b"x*", 7]),
    ],
)
async def test_a_command_becomes_its_op(
    service: FakeService, client: MemoryClient, line: str, op: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [op]


@pytest.mark.parametrize(
    "line",
    ["ZADD {} 1 a", "ZUNION 2 a {}", "ZRANGESTORE a {} 0 1", "ZMPOP 1 {} MIN", "GEOADD {} 1 1 a"],
)
async def test_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert (service.written, service.read) == (0, 0)


async def test_more_random_members_than_the_limit_are_refused(client: MemoryClient) -> None:
    await client.call("ZADD", "k", 1, "a")
    reply = await client.call("ZRANDMEMBER", "k", -DRAWN_MEMBERS_MAX - 1)
    assert str(reply) == "ERR value is out of range"
    assert await client.call("ZRANDMEMBER", "k", DRAWN_MEMBERS_MAX + 1) == [b"a"]


async def test_pages_of_zscan_meet_every_member_once(client: MemoryClient) -> None:
    expected = {b"%d" % number: b"%d" % (number % 7) for number in range(200)}
    await client.call("ZADD", "k", *(part for pair in expected.items() for part in pair[::-1]))
    met: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, page = await client.call("ZSCAN", "k", cursor, "COUNT", 17)
        assert len(page) <= 2 * 17
        met += page
        if cursor == b"0":
            break
    assert dict(zip(met[::2], met[1::2], strict=True)) == expected
    assert len(met) == 2 * len(expected)


async def test_twenty_thousand_members_in_one_command(client: MemoryClient) -> None:
    count = 20_000
    pairs = [part for number in range(count) for part in (b"%d" % number, b"m%d" % number)]
    assert await client.call("ZADD", "k", *pairs) == count
    assert await client.call("ZRANK", "k", "m14000") == 14_000
    assert await client.call("ZRANGE", "k", -2, -1) == [b"m19998", b"m19999"]
    assert await client.call("ZREM", "k", *pairs[1:-2:2]) == count - 1
    assert await client.call("ZRANK", "k", "m19999") == 0


LINES = """
    ZADD | ZADD k | ZADD k 1 | ZADD k 1 a 2 | ZADD k a 1 | ZADD k nan a | ZADD k "" a | ZADD k " 1" a |
    ZADD k 1 a | ZADD k 1 a 2 b 3 c | ZADD k NX XX 1 a | ZADD k NX GT 1 a | ZADD k GT LT 1 a |
    ZADD k NX LT CH INCR 1 a 2 b | ZADD k INCR 1 a 2 b | ZADD k INCR 1 a | ZADD k FOO 1 a |
    ZADD k NX INCR 1 a | ZADD k XX INCR 1 zz | ZADD none XX INCR 1 a | ZADD none XX 1 a |
    EXISTS none | ZADD k GT CH 1 a 9 b | ZADD k LT CH 1 a 9 b | ZADD k CH 5 c 6 d 6 d |
    ZADD k XX CH 5 c 7 d 8 e | ZADD k GT INCR -5 a | ZADD k LT INCR -5 a | ZRANGE k 0 -1 WITHSCORES |
    ZADD k inf i -inf j +inf l | ZADD k INCR -inf i | ZADD k INCR inf j | ZINCRBY k inf j |
    ZADD k 1e400 a | ZADD k 1e-400 a | ZADD k 0x10 h .5 f 5. g +5 p | ZADD k 1_0 a | ZADD k infinit a |
    ZADD k -0 zero | ZADD k INCR -0 nought | ZSCORE k nought | ZADD k 1e17 big 1e20 bigger |
    ZADD k 0.1 tenth 123456789012345678 odd 3.0 three 1.7976931348623157e308 most |
    ZRANGE k 0 -1 WITHSCORES | ZINCRBY k 1e308 most | ZINCRBY k | ZINCRBY k x a | ZINCRBY k 1.5 new |
    ZSCORE k a | ZSCORE k none | ZSCORE none a | ZSCORE k | ZMSCORE k a none b | ZMSCORE none a b |
    ZMSCORE k | ZCARD k | ZCARD none | ZRANK k a | ZRANK k none | ZRANK none a | ZREVRANK k a |
    ZCOUNT k -inf +inf | ZCOUNT k (5 (9 | ZCOUNT k 5 9 | ZCOUNT k a 1 | ZCOUNT k nan 1 | ZCOUNT none 1 2 |
    ZCOUNT k ((1 2 | ZCOUNT k "" 5 | ZCOUNT k " 1" 5 | ZCOUNT k "1 " 5 | ZCOUNT k 1e400 1e500 |
    ZCOUNT k "(" 5 | ZCOUNT k 9 1 | ZRANGE k | ZRANGE k 0 | ZRANGE k a 1 | ZRANGE k 0 a | ZRANGE k 0 2 |
    ZRANGE k 2 0 | ZRANGE k -3 -1 | ZRANGE k -100 100 | ZRANGE k 100 200 | ZRANGE k 0 9223372036854775807 |
    ZRANGE k -9223372036854775808 -1 | ZRANGE k 0 9223372036854775808 | ZRANGE k 0 2 REV | ZRANGE k 0 2 REV REV |
    ZRANGE k 0 2 REV WITHSCORES | ZRANGE k 0 2 FOO | ZRANGE k 0 2 LIMIT 0 1 | ZRANGE k 0 2 LIMIT 5 -1 |
    ZRANGE k 0 2 LIMIT 0 | ZRANGE k 1 5 BYSCORE LIMIT a 1 | ZRANGE k 1 5 BYSCORE LIMIT 1 2 |
    ZRANGE k 1 5 BYSCORE LIMIT -1 2 | ZRANGE k 1 5 BYSCORE LIMIT 1 -2 | ZRANGE k 5 1 BYSCORE REV |
    ZRANGE k 5 1 REV BYSCORE WITHSCORES LIMIT 0 2 | ZRANGE k 1 5 BYSCORE BYLEX | ZRANGE k 1 5 BYSCORE BYSCORE |
    ZRANGE k - + BYLEX WITHSCORES | ZRANGE k 0 1 BYLEX | ZRANGE k a b BYSCORE | ZREVRANGE k 0 1 WITHSCORES |
    ZREVRANGE k 0 1 REV | ZREVRANGE k 0 1 LIMIT 1 2 | ZRANGEBYSCORE k (1 +inf WITHSCORES LIMIT 1 3 |
    ZREVRANGEBYSCORE k +inf 5 WITHSCORES | ZREVRANGEBYSCORE k 5 +inf | ZRANGEBYSCORE k 1 5 FOO |
    ZRANGE none 0 -1 | ZRANGE none 0 -1 FOO | ZADD x 0 a 0 aa 0 ab 0 b 0 "" 0 foo | ZLEXCOUNT x - + |
    ZLEXCOUNT x [a (b | ZLEXCOUNT x + - | ZLEXCOUNT x - - | ZLEXCOUNT x + + | ZLEXCOUNT x a b | ZLEXCOUNT x [a "" |
    ZLEXCOUNT x (a [b | ZLEXCOUNT x [b [a | ZRANGEBYLEX x - (b | ZRANGEBYLEX x -x + | ZRANGEBYLEX x [ (b LIMIT 1 2 |
    ZREVRANGEBYLEX x + [a | ZREVRANGEBYLEX x + - LIMIT 1 1 | ZREVRANGEBYLEX x [b (a | ZRANGEBYLEX x - + WITHSCORES |
    ZRANGE x [a [b BYLEX | ZRANGE x [b [a BYLEX REV LIMIT 0 2 | ZRANGEBYLEX none - + |
    ZRANGESTORE t k 0 2 | ZRANGE t 0 -1 WITHSCORES | ZRANGESTORE t k 0 2 WITHSCORES | ZRANGESTORE t none 0 1 |
    EXISTS t | ZRANGESTORE t k 5 1 BYSCORE REV LIMIT 0 2 | ZRANGE t 0 -1 | ZRANGESTORE x x - (b BYLEX | ZRANGE x 0 -1 |
    ZRANGESTORE t k | ZREM k | ZREM k a none a | ZREM none a | ZREMRANGEBYRANK k 0 1 | ZREMRANGEBYRANK k 5 1 |
    ZREMRANGEBYRANK k a 1 | ZREMRANGEBYRANK none 0 1 | ZREMRANGEBYSCORE k 5 (6 | ZREMRANGEBYSCORE k x 1 |
    ZREMRANGEBYLEX x [a [a | ZREMRANGEBYLEX x a b | ZRANGE k 0 -1 WITHSCORES | ZRANGE x 0 -1 |
    ZPOPMIN k | ZPOPMAX k | ZPOPMIN k 2 | ZPOPMAX k 2 | ZPOPMIN k 0 | ZPOPMIN k -1 | ZPOPMIN k a | ZPOPMIN k 1 2 |
    ZPOPMIN none | ZPOPMIN none 2 | ZPOPMAX k 100 | EXISTS k | ZADD k 1 a 2 b 3 c | ZMPOP 1 none MIN |
    ZMPOP 2 none k MIN | ZMPOP 1 k max COUNT 5 | ZMPOP 1 k MIN | ZMPOP 0 k MIN | ZMPOP a k MIN | ZMPOP 1 k |
    ZMPOP 1 k FOO | ZMPOP 2 k MIN | ZMPOP 1 k MIN COUNT | ZMPOP 1 k MIN COUNT 0 | ZMPOP 1 k MIN COUNT 0 FOO |
    ZMPOP 1 k MIN COUNT 1 COUNT 1 | ZMPOP 1 k MIN FOO 1 | ZADD a 1 x 2 y 3 z | ZADD b 10 y 20 z 30 w |
    ZUNION 2 a b | ZUNION 2 a b WITHSCORES | ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES | ZUNION 2 a b AGGREGATE MIN WITHSCORES |
    ZUNION 2 a b aggregate max withscores | ZUNION 0 a | ZUNION x a | ZUNION 3 a b | ZUNION 2 a b WEIGHTS 1 |
    ZUNION 2 a b WEIGHTS 1 x | ZUNION 2 a b WEIGHTS 1 nan | ZUNION 2 a b AGGREGATE | ZUNION 2 a b AGGREGATE FOO |
    ZUNION 2 a b WEIGHTS inf -inf WITHSCORES | ZUNION 1 a WEIGHTS 0 WITHSCORES | ZUNION 1 a WEIGHTS -0 WITHSCORES |
    ZINTER 2 a b WITHSCORES | ZINTER 2 a a WITHSCORES | ZINTER 2 a none | ZINTER 2 a b LIMIT 1 | ZDIFF 2 a b WITHSCORES |
    ZDIFF 2 a a | ZDIFF 2 none a | ZDIFF 1 a WEIGHTS 1 | ZDIFF 1 a AGGREGATE MIN | ZDIFF 2 a none WITHSCORES |
    ZUNIONSTORE u 2 a b | ZRANGE u 0 -1 WITHSCORES | ZUNIONSTORE u 2 a b WITHSCORES | ZUNIONSTORE u 0 a |
    ZINTERSTORE a 2 a b WEIGHTS 2 3 AGGREGATE MIN | ZRANGE a 0 -1 WITHSCORES | ZDIFFSTORE u 2 b a | ZRANGE u 0 -1 |
    ZDIFFSTORE u 2 b b | EXISTS u | ZINTERSTORE s2 2 a none | ZINTERCARD 2 a b | ZINTERCARD 2 a b LIMIT 1 |
    ZINTERCARD 2 a b LIMIT 0 | ZINTERCARD 2 a b LIMIT -1 | ZINTERCARD 2 a b LIMIT x | ZINTERCARD 2 a b LIMIT |
    ZINTERCARD 2 a b WITHSCORES | ZINTERCARD 0 a | ZRANDMEMBER none | ZRANDMEMBER none 2 | ZRANDMEMBER a 0 |
    DEL o | ZADD o 1 only | ZRANDMEMBER o | ZRANDMEMBER o 1 | ZRANDMEMBER o -3 | ZRANDMEMBER o 5 WITHSCORES |
    ZRANDMEMBER o -2 WITHSCORES | ZRANDMEMBER o a | ZRANDMEMBER o 1 FOO | ZRANDMEMBER o 1 WITHSCORES FOO |
    ZRANDMEMBER o -9223372036854775808 | ZRANDMEMBER o 9223372036854775807 | ZRANDMEMBER o -9223372036854775807 WITHSCORES |
    ZRANDMEMBER o 9223372036854775807 WITHSCORES | ZRANDMEMBER o 9223372036854775808 |
    ZSCAN o 0 | ZSCAN o | ZSCAN o abc | ZSCAN o "" | ZSCAN o 0 MATCH x* | ZSCAN o 0 MATCH o* COUNT 1 | ZSCAN o 0 COUNT 0 |
    ZSCAN o 0 COUNT x | ZSCAN o 0 COUNT | ZSCAN o 0 FOO 1 | ZSCAN none 0 FOO | ZSCAN none abc | ZADD o 1e17 only | ZSCAN o 0 |
    ZADD o 1.5 only | ZSCAN o 0 | ZADD o inf only | ZSCAN o 0 | SET s v | ZADD s 1 a | ZADD s x a | ZADD s NX XX 1 a |
    ZINCRBY s 1 a | ZREM s a | ZSCORE s a | ZMSCORE s a | ZCARD s | ZRANK s a | ZCOUNT s 1 2 | ZCOUNT s x 2 | ZLEXCOUNT s - + |
    ZRANGE s 0 1 | ZRANGE s x 1 | ZRANGESTORE t s 0 1 | ZRANGESTORE s a 0 -1 | TYPE s | SET s v | ZREMRANGEBYRANK s 0 1 |
    ZPOPMIN s | ZPOPMIN s 0 | ZPOPMIN s -1 | ZMPOP 1 s MIN | ZMPOP 2 a s MIN | ZMPOP 2 none s MIN | ZUNION 1 s FOO |
    ZUNION 2 a s WEIGHTS x 1 | ZUNIONSTORE t 1 s | ZINTERCARD 1 s LIMIT -1 | ZRANDMEMBER s | ZRANDMEMBER s 1 FOO |
    ZSCAN s 0 FOO | ZSCAN s abc | ZUNIONSTORE s 1 b | TYPE s | GET b | INCR b | EXPIRE b 100 | ZADD b 1 q | TTL b |
    ZUNIONSTORE b 1 b | TTL b | RENAME b bb | ZRANGE bb 0 -1 WITHSCORES | COPY bb b | ZADD bb 9 q | ZRANGE b 0 -1 WITHSCORES |
    MOVE bb 3 | SELECT 3 | ZREVRANGE bb 0 -1 WITHSCORES | SELECT 0 | MULTI | ZADD m 1 a 2 b | ZPOPMIN m | ZPOPMAX m 1 |
    ZADD m x a | ZADD m INCR 1.5 a | ZRANGE m 0 -1 WITHSCORES | ZUNION 1 m FOO | ZMPOP 1 m MIN | ZCARD m | EXEC | EXISTS m |
    WATCH w | ZADD w 1 a | MULTI | ZCARD w | EXEC | ZADD eq 5 a | ZADD eq GT INCR 0 a | ZADD eq LT INCR 0 a |
    ZADD eq GT CH 5 a | ZADD oa 0.1 m 1 n 1 o | ZADD ob 0.2 m | ZADD oc 0.3 m 1 n | ZUNION 3 oa ob oc WITHSCORES |
    ZINTER 3 oa ob oc WITHSCORES | ZADD p 5 m | ZADD q inf m 1 n | ZINTER 2 p q WEIGHTS 1 0 AGGREGATE MIN WITHSCORES |
    ZINTER 2 p q WEIGHTS 1 0 WITHSCORES | ZUNION 2 p q WEIGHTS 1 0 AGGREGATE MIN WITHSCORES | COMMAND GETKEYS ZADD k 1 a | COMMAND GETKEYS ZUNION 2 a b |
    COMMAND GETKEYS ZUNION 5 a b | COMMAND GETKEYS ZUNION 0 a | COMMAND GETKEYS ZUNIONSTORE d 2 a b WEIGHTS 1 2 |
    COMMAND GETKEYS ZUNIONSTORE d 5 a | COMMAND GETKEYS ZMPOP 2 a b MIN | COMMAND GETKEYS ZRANGESTORE d a 0 1 |
    COMMAND GETKEYS GEORADIUS k 1 1 1 km STORE a store b STOREDIST c | COMMAND GETKEYS GEORADIUS k 1 1 1 km STORE |
    COMMAND GETKEYS GEORADIUSBYMEMBER k m 1 km STOREDIST d | COMMAND GETKEYS GEOSEARCHSTORE d k FROMMEMBER a BYRADIUS 1 m
"""  # noqa: E501 - a conversation

GEO_LINES = """
    GEOADD g | GEOADD g 1 1 | GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | GEOADD g 1 1 a 2 |
    GEOADD g 181 1 a | GEOADD g 1 86 a | GEOADD g -180 -85.05112878 corner | GEOADD g x 1 a | GEOADD g 1 nan a |
    GEOADD g 1 1 ok 200 1 bad | ZSCORE g ok | GEOADD g NX XX 1 1 a | GEOADD g NX 1 1 Palermo | GEOADD g XX CH 13.4 38.1 Palermo |
    GEOADD g CH 13.361389 38.115556 Palermo 0 0 origin | GEOADD g GT 1 1 a | GEOADD g CH NX | ZRANGE g 0 -1 WITHSCORES |
    GEOPOS g | GEOPOS g Palermo none Catania origin corner | GEOPOS none a | GEOHASH g | GEOHASH g Palermo none corner |
    GEOHASH none a | GEODIST g Palermo Catania | GEODIST g Palermo Catania km | GEODIST g Palermo Catania MI |
    GEODIST g Palermo Catania ft | GEODIST g Palermo none | GEODIST none a b | GEODIST g Palermo Catania foo |
    GEODIST g Palermo Catania m m | GEODIST g Palermo Palermo | GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC |
    GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST WITHCOORD WITHHASH DESC | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1e4 km |
    GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST | GEOSEARCH g FROMMEMBER none BYRADIUS 1 km |
    GEOSEARCH g FROMMEMBER none BYRADIUS x km | GEOSEARCH g BYRADIUS x km FROMMEMBER none | GEOSEARCH g FROMMEMBER Palermo BYRADIUS -1 km |
    GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 foo | GEOSEARCH g FROMMEMBER Palermo BYBOX 1 x km | GEOSEARCH g FROMMEMBER Palermo BYBOX -1 1 km |
    GEOSEARCH g FROMMEMBER Palermo BYBOX x -1 km | GEOSEARCH g FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 1 km |
    GEOSEARCH g BYRADIUS 1 km BYBOX 1 1 km FROMMEMBER Palermo | GEOSEARCH g BYRADIUS 1 km ASC DESC | GEOSEARCH g FROMLONLAT 1 1 ASC ASC |
    geosearch g FROMLONLAT 1 1 ASC ASC | GEOSEARCH g FROMLONLAT 200 1 BYRADIUS 1 km | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km COUNT 0 |
    GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km COUNT x | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km ANY |
    GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1e4 km COUNT 2 | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1e4 km COUNT 2 ANY |
    GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1e4 km COUNT 1 DESC WITHDIST | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km STOREDIST |
    GEOSEARCH g FROMMEMBER Palermo BYRADIUS inf km COUNT 9 | GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km FOO |
    GEOSEARCH none FROMMEMBER x BYRADIUS 1 km | GEOSEARCH none FROMMEMBER x BYRADIUS y km | GEOSEARCH none FROMMEMBER x ASC DESC ASC |
    GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 1e4 km | ZRANGE d 0 -1 WITHSCORES | GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 500 km STOREDIST |
    ZRANGE d 0 -1 WITHSCORES | GEOSEARCHSTORE d g FROMMEMBER Palermo BYRADIUS 1 km WITHDIST | GEOSEARCHSTORE d none FROMMEMBER a BYRADIUS 1 km |
    EXISTS d | GEOSEARCHSTORE d g FROMLONLAT 100 50 BYRADIUS 1 km | GEORADIUS g 15 37 200 km WITHDIST ASC | GEORADIUS g 15 37 200 km STORE d |
    GEORADIUS g 15 37 200 km STOREDIST d WITHCOORD | GEORADIUS g 15 37 200 mi STOREDIST d COUNT 1 | ZRANGE d 0 -1 WITHSCORES |
    GEORADIUS g x 37 200 km | GEORADIUS g 15 37 x km | GEORADIUS g 15 37 200 foo | GEORADIUS g 15 37 200 km STORE | GEORADIUS none x 37 200 km |
    GEORADIUS none 15 37 200 km STORE d | EXISTS d | GEORADIUS_RO g 15 37 200 km STORE d | GEORADIUS_RO g 15 37 200 km COUNT 1 |
    GEORADIUSBYMEMBER g Palermo 200 km | GEORADIUSBYMEMBER g none 200 km | GEORADIUSBYMEMBER g none x km | GEORADIUSBYMEMBER g Palermo x km FOO |
    GEORADIUSBYMEMBER none a x km | GEORADIUSBYMEMBER none a x km FOO | GEORADIUSBYMEMBER_RO g Catania 300 km WITHDIST |
    GEORADIUSBYMEMBER_RO g Catania 300 km STORE d | GEORADIUSBYMEMBER g Catania 300 km STORE g | ZRANGE g 0 -1 | SET s v | GEOADD s 1 1 a |
    GEOPOS s a | GEODIST s a b | GEODIST s a b foo | GEOSEARCH s FOO FROMMEMBER x BYRADIUS 1 km | GEORADIUS s x y z foo | GEOHASH s a |
    MULTI | GEOADD g 1 1 a | GEORADIUS g 1 1 1 km | GEORADIUS g 1 1 1 km FOO | GEOSEARCH g FROMMEMBER a BYRADIUS 1 m WITHCOORD | EXEC |
    ZADD odd 1.5 a -5 b 1e20 c inf d -1e30 e | GEOPOS odd a b c d e | GEOHASH odd a b c d e | GEODIST odd a c
"""  # noqa: E501 - a conversation


@needs_redis
@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("lines", [LINES, GEO_LINES], ids=["zset", "geo"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str, lines: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation(lines):
            assert (arguments, await client.call_raw(*arguments)) == (
                arguments,
                ask(redis, *arguments),
            )


def place(rng: random.Random) -> tuple[float, float]:
    """Anywhere, often near an edge of the map."""
    longitude = rng.choice([rng.uniform(-180, 180), rng.choice([-1, 1]) * rng.uniform(179, 180)])
    latitude = rng.choice([rng.uniform(-85, 85), rng.choice([-1, 1]) * rng.uniform(60, 85.05)])
    return rng.choice([longitude, -180.0, 180.0, 0.0]), rng.choice([latitude, latitude, 0.0])


@needs_redis
async def test_searches_find_the_same_places_in_the_same_order(redis_socket: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    client = MemoryClient(serve(FakeService()))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        lines: list[list[str]] = []
        for number in range(150):
            longitude, latitude = place(rng)
            lines.append(["GEOADD", "g", repr(longitude), repr(latitude), f"m{number}"])
        for _ in range(120):
            sizes = [repr(10 ** rng.uniform(5, 7.6)) for _ in range(2)]
            shape = rng.choice([["BYRADIUS", sizes[0]], ["BYBOX", *sizes]])
            longitude, latitude = place(rng)
            where = ["FROMLONLAT", repr(longitude), repr(latitude), *shape, "m"]
            lines.append(["GEOSEARCH", "g", *where, "WITHDIST", "WITHCOORD"])
        for arguments in lines:
            ours, theirs = await client.call_raw(*arguments), ask(redis, *arguments)
            assert (arguments, ours) == (arguments, theirs)


def decode(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


@needs_redis
async def test_the_facts_are_those_of_redis(redis_socket: Path) -> None:
    client = MemoryClient(serve(FakeService()))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        for row in (*sorted_sets.READS, *sorted_sets.WRITES, *geo.READS, *geo.WRITES):
            (ours,) = await client.call("COMMAND", "INFO", row.name)
            theirs = decode(ask(redis, "COMMAND", "INFO", row.name))[0]
            assert [*ours[:6], set(ours[6])] == [*theirs[:6], set(theirs[6])]
            docs = decode(ask(redis, "COMMAND", "DOCS", row.name))[1]
            (_, mine) = await client.call("COMMAND", "DOCS", row.name)
            assert [mine[3], mine[5]] == [docs[3], docs[5]]
