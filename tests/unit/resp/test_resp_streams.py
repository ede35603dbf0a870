"""Streams at the front end: the grammar, and replies beside those of a real redis-server."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
from pathlib import Path

import pytest

from kvnode.limits import KEY_BYTES_MAX
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import ClaimFlag
from kvnode.store.redis.stream_ids import INVALID, NEWEST, TOP, UNSEEN, ZERO, make
from tests.support.fake_service import FakeService
from tests.support.real_redis import real_redis, requires_redis
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

# One conversation; what a line does lasts for those after it. Ids that are shown are given.
LINES = """
    FLUSHALL | XADD s MAXLEN 5 MINID 3 * a b | XADD s LIMIT 5 * a b | XADD s LIMIT 0 * a b |
    XADD s MAXLEN 5 LIMIT 5 * a b | XADD s MAXLEN ~ 5 LIMIT -5 * a b | XADD s MAXLEN -5 * a b |
    XADD s MAXLEN x * a b | XADD s MINID x * a b | XADD s 0-0 a b | XADD s 0 a b | XADD s 0-* a b |
    XADD s 5-1 a | XADD s x a b | XADD s NOMKSTREAM x | XADD s 1-1 a b | XADD s 1-1 a b |
    XADD s 1 a b | XADD s 1-* a b | XADD s 007-+3 a b | XADD nos NOMKSTREAM * a b | SET str x |
    XADD str * a b | XADD str 0-0 a b | XRANGE s - + COUNT 0 | XRANGE s - + COUNT -1 |
    XRANGE nos - + COUNT 0 | XRANGE s (1-1 + | XRANGE s (- + | XRANGE s ( + |
    XRANGE s (18446744073709551615-18446744073709551615 + | XRANGE s - (0-0 | XRANGE s - + COUNT |
    XRANGE s - + FOO 1 | XRANGE str x + | XREVRANGE s + - COUNT 1 | XREAD COUNT 1 STREAMS s 0 t |
    XREAD COUNT 1 STREAMS s | XREAD COUNT 1 FOO s 0 | XREAD STREAMS | XREAD COUNT 1 s 0 |
    XREAD BLOCK x STREAMS s 0 | XREAD BLOCK -1 STREAMS s 0 |
    XREAD BLOCK 99999999999999999 STREAMS s 0 | XREAD BLOCK 9223372036854775807 STREAMS s 0 |
    XREAD BLOCK 99999999999999999999 STREAMS s 0 | XREAD COUNT -1 STREAMS s 0 |
    XREAD COUNT x STREAMS s 0 | XREAD GROUP g c STREAMS s 0 | XREAD NOACK STREAMS s 0 |
    XREAD STREAMS s > | XREAD STREAMS s $ | XREAD STREAMS s x | XREAD STREAMS str x |
    XREAD STREAMS nos x | XREAD STREAMS nos 0 | XREAD STREAMS s x str 0 | XREADGROUP STREAMS s 0 |
    XREADGROUP GROUP g c COUNT 1 STREAMS s 0 t | XREADGROUP COUNT 1 NOACK FOO STREAMS s 0 |
    XREADGROUP COUNT 1 BLOCK 0 STREAMS s 0 | XREADGROUP GROUP g c STREAMS s > |
    XREADGROUP GROUP g c STREAMS nos > | XREADGROUP GROUP g c STREAMS str > |
    XGROUP CREATE s g $ FOO | XGROUP CREATE s g $ MKSTREAM ENTRIESREAD 5 MKSTREAM |
    XGROUP CREATE s g $ MKSTREAM ENTRIESREAD | XGROUP CREATE s g $ ENTRIESREAD -2 |
    XGROUP CREATE s g $ ENTRIESREAD x | XGROUP CREATE s g x | XGROUP CREATE nos g x |
    XGROUP CREATE str g x | XGROUP CREATE s g 0 | XGROUP CREATE s g 0 | XGROUP SETID s nog 0 |
    XGROUP SETID s g 0 MKSTREAM | XGROUP SETID s g 0 ENTRIESREAD 1 ENTRIESREAD 1 |
    XGROUP SETID s g x | XGROUP SETID s g + | XGROUP SETID s g - ENTRIESREAD 2 |
    XGROUP SETID s g 0 | XGROUP CREATE s g9 + | XGROUP CREATE s g9 - |
    XGROUP DESTROY s nog | XGROUP CREATECONSUMER s nog c |
    XGROUP CREATECONSUMER s g c | XGROUP CREATECONSUMER s g c | XGROUP DELCONSUMER s nog c |
    XGROUP DELCONSUMER s g c | XGROUP DELCONSUMER nos g c | XGROUP FOO s g c | XGROUP |
    XGROUP CREATE s | XINFO STREAM s | XINFO STREAM s FULL | XINFO STREAM s FULL COUNT |
    XINFO STREAM s FULL COUNT x | XINFO STREAM nos FOO | XINFO STREAM s FOO | XINFO GROUPS s |
    XINFO CONSUMERS s g | XINFO CONSUMERS s nog | XINFO GROUPS nos | XINFO GROUPS str |
    XREADGROUP GROUP g c STREAMS s $ | XREADGROUP GROUP g c STREAMS s x |
    XREADGROUP GROUP g new STREAMS s 0 | XINFO CONSUMERS s g |
    XREADGROUP GROUP g c COUNT 2 STREAMS s > | XINFO GROUPS s | XINFO STREAM s FULL |
    XPENDING s g | XPENDING s g - + | XPENDING s g - + 10 | XPENDING s g - + 10 c |
    XPENDING s g - + 10 c d | XPENDING s g - + 10 c d e | XPENDING s g - + 10 c d e f |
    XPENDING s g IDLE x - | XPENDING s g IDLE 1 - | XPENDING s g IDLE 100000 - + 10 |
    XPENDING s g - + -1 | XPENDING s g - + x | XPENDING s nog | XPENDING nos g - + 10 |
    XPENDING s g - + 10 nobody | XPENDING s g (0-1 (1-1 10 | XCLAIM s nog c x 1 |
    XCLAIM s g c x 1 | XCLAIM s g c 0 1 FOO | XCLAIM s g c 0 FOO | XCLAIM s g c 0 0-1 IDLE x |
    XCLAIM s g c 0 0-1 TIME x | XCLAIM s g c 0 0-1 RETRYCOUNT x | XCLAIM s g c 0 0-1 LASTID x |
    XCLAIM s g d 0 1-2 FORCE | XPENDING s g - + 10 | XCLAIM s g d 0 0-1 1-1 7-3 JUSTID FORCE |
    XPENDING s g - + 10 | XCLAIM s g e 0 9-9 | XAUTOCLAIM s g e 0 - COUNT 0 |
    XAUTOCLAIM s g e 0 - COUNT x | XAUTOCLAIM s g e x y | XAUTOCLAIM s g e 0 y |
    XAUTOCLAIM s g e 0 0 FOO | XAUTOCLAIM nos g e 0 0 | XDEL s 1-1 | XAUTOCLAIM s g e 0 0 COUNT 2 |
    XAUTOCLAIM s g e 0 0 COUNT 1 JUSTID | XREADGROUP GROUP g d STREAMS s 0 | XDEL s 7-3 |
    XREADGROUP GROUP g d STREAMS s 0 | XREADGROUP GROUP g d STREAMS s 99999 | XACK s g 0-1 x |
    XACK s nog x | XACK nos g x | XACK s g 0-1 0-1 9-9 | XDEL nos x | XDEL s x | XDEL s 0-1 0-1 x |
    XDEL s 0-1 0-1 | XSETID s x | XSETID s 0-1 | XSETID s 5000000000000-1 ENTRIESADDED -1 |
    XSETID s 5000000000000-1 ENTRIESADDED 0 | XSETID s 5000000000000-1 ENTRIESADDED x |
    XSETID s 5000000000000-1 MAXDELETEDID 5000000000000-2 |
    XSETID s 5000000000000-1 MAXDELETEDID 5000000000000 | XSETID s 5000000000000-1 FOO |
    XSETID nos 5-1 | XSETID s 1 | XSETID s 1 ENTRIESADDED 5 |
    XADD s 18446744073709551615-18446744073709551615 a b | XADD s * a b |
    XADD s 18446744073709551615-* a b | XTRIM s | XTRIM s LIMIT 5 | XTRIM s MAXLEN |
    XTRIM s MAXLEN ~ | XTRIM s MAXLEN ~ 0 LIMIT 2 | XTRIM s MAXLEN = 0 LIMIT 2 | XTRIM s FOO 2 |
    XTRIM s LIMIT 2 LIMIT 0 | XTRIM s MAXLEN ~ 0 | XTRIM s MAXLEN 0 | XLEN s | XINFO STREAM s |
    XINFO STREAM s FULL | XLEN str | XLEN nos | FLUSHALL | XADD a 1-1 f v | XADD a 5-1 f v |
    XDEL a 5-1 | XSETID a 3-1 | XSETID a 3-1 MAXDELETEDID 2-1 | XSETID a 0-1 | XINFO STREAM a |
    XDEL a 1-1 | XSETID a 1-1 | XSETID a 0-0 | XADD a 2-1 f v | XGROUP CREATE a g $ |
    XGROUP CREATE a h 0 ENTRIESREAD 3 | XADD a 3-1 f v | XADD a 4-1 f v | XADD a 6-1 f v |
    XREADGROUP GROUP h c COUNT 1 STREAMS a > | XINFO GROUPS a |
    XREADGROUP GROUP h c COUNT 1 STREAMS a > | XINFO GROUPS a | XDEL a 4-1 | XINFO GROUPS a |
    XREADGROUP GROUP h c COUNT 1 STREAMS a > | XREADGROUP GROUP g c COUNT 1 STREAMS a > |
    XINFO GROUPS a | XADD a 7-1 f v | XADD a 8-1 f v | XREADGROUP GROUP g c COUNT 1 STREAMS a > |
    XINFO GROUPS a | XREADGROUP GROUP g c COUNT 1 STREAMS a > a > | XINFO GROUPS a |
    XREADGROUP GROUP g c NOACK COUNT 1 STREAMS a > a 0 a > | XINFO GROUPS a | XTRIM a MAXLEN 1 |
    XINFO GROUPS a | XGROUP SETID a g 0 | XINFO GROUPS a |
    XREADGROUP GROUP g d STREAMS a > a 0 a > | XPENDING a g | XPENDING a g - + 10 |
    XINFO STREAM a FULL | XINFO STREAM a FULL COUNT 1 | XINFO STREAM a FULL COUNT 0 |
    XINFO STREAM a FULL COUNT -1 | XGROUP SETID a g 2-1 ENTRIESREAD 2 | XCLAIM a g newone 0 77-1 |
    XCLAIM a g newone2 0 8-1 RETRYCOUNT 9223372036854775807 | XCLAIM a g newone2 0 8-1 |
    XCLAIM a g newone2 0 8-1 JUSTID RETRYCOUNT -5 LASTID 99-1 FORCE | XPENDING a g - + 10 |
    XINFO CONSUMERS a g | XGROUP DELCONSUMER a g newone2 | XGROUP DESTROY a g |
    XGROUP DESTROY a g | XINFO GROUPS a | XREAD STREAMS a a 0 4 |
    XREAD STREAMS a 18446744073709551615-18446744073709551615 |
    XREADGROUP GROUP h c STREAMS a 18446744073709551615-18446744073709551615 |
    XREAD COUNT 1 STREAMS a nos 0 0 | XREAD BLOCK 1 COUNT 1 STREAMS a nos 0 $ |
    COMMAND GETKEYS XREAD COUNT 1 STREAMS a nos 0 $ | COMMAND GETKEYS XREAD COUNT 1 a nos 0 $ |
    COMMAND GETKEYS XREADGROUP GROUP g c COUNT 1 STREAMS a nos 0 $ |
    COMMAND GETKEYS XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a nos 0 |
    COMMAND GETKEYS XGROUP CREATE a b c | COMMAND GETKEYS XADD a b c |
    COMMAND GETKEYS XADD a b c d | COMMAND GETKEYS XINFO STREAM a | MULTI | XADD m 1-1 a b |
    XADD m 1-1 a b | XADD m x a b | XREAD BLOCK 0 STREAMS m 9 | XREAD STREAMS m 0 |
    XREADGROUP GROUP g c BLOCK 0 STREAMS m > | XGROUP CREATE m g 0 |
    XREADGROUP GROUP g c BLOCK 0 STREAMS m > | XREADGROUP GROUP g c BLOCK 0 STREAMS m > |
    XREADGROUP GROUP g c STREAMS m 0 | XPENDING m g | XACK m g 1-1 | XPENDING m g |
    XINFO STREAM m | XDEL m 1-1 | XRANGE m - + | EXEC | TYPE m | XADD m 2-1 a b | COPY m mm |
    XINFO STREAM mm FULL | RENAME mm mmm | XLEN mmm | EXPIRE mmm 100 | XADD mmm 3-1 a b |
    PERSIST mmm | XADD lim 1-1 a b | XADD lim 2-1 a b | XADD lim 3-1 a b |
    XADD lim MAXLEN ~ 0 LIMIT 3 4-1 a b | XADD lim MAXLEN ~ 0 LIMIT 5 5-1 a b | XADD lim 6-1 a b |
    XTRIM lim MINID ~ 6-1 | XTRIM lim MINID 6-1 LIMIT 0 | XTRIM lim MINID ~ 7-1 LIMIT 0 |
    XADD lim 8-1 a b | XADD lim MINID 8-2 8-2 a b | XTRIM lim MINID ~ = 8-2 |
    XTRIM lim MAXLEN = 0 | GET lim | APPEND lim x | SET lim x | XADD lim 1-1 a b |
    XADD k NOMKSTREAM NOMKSTREAM NOMKSTREAM NOMKSTREAM | XADD k NOMKSTREAM LIMIT 1 NOMKSTREAM |
    XADD k MAXLEN | XADD k MAXLEN a b c | XADD k maxlen ~ 3 nomkstream 1-1 a b | XADD k 1-1 a b c |
    XADD k 1-1- a b | XADD k -1-1 a b | XADD k 1--1 a b | XADD k "" a b | XADD k - a b |
    XADD k + a b | XADD k ** a b | XADD k *-1 a b | XADD k 5-** a b | XADD k "  5-  6" "" "" |
    XADD k 18446744073709551616 a b | XADD k 0018446744073709551615-3 a b | XRANGE k 5 5 |
    XRANGE k 5-6 5-6 | XRANGE k (5-6 + | XRANGE k + - | XRANGE k - (5-6 | XRANGE k 6 4 |
    XREVRANGE k 4 6 | XREVRANGE k (5 - | XREVRANGE k + 5-* | XRANGE k - + COUNT 1 COUNT 2 |
    XRANGE k - + COUNT 99999999999999999999 | XGROUP CREATE k g $ | XGROUP CREATE k g2 - |
    XGROUP CREATE k g2 5-* | XGROUP CREATE nn g $ MKSTREAM | XGROUP CREATE nn g $ MKSTREAM |
    XGROUP CREATE nn2 g x MKSTREAM | EXISTS nn2 | XINFO STREAM nn | XAUTOCLAIM nn g c 0 - |
    XAUTOCLAIM nn g c 0 + | XAUTOCLAIM nn g c 0 (18446744073709551615-18446744073709551615 |
    XREADGROUP GROUP g c STREAMS nn > | XREADGROUP GROUP g c NOACK STREAMS nn 0 |
    XREADGROUP GROUP g c STREAMS nn nn > 0 | XPENDING nn g | XACK nn g 1 |
    XSETID k 18446744073709551615-5 |
    FLUSHALL | XADD x1 3-0 f 007 | XADD x1 3-1 g "" f x | XGROUP CREATE x1 g1 3-0 | XDEL x1 3-0 |
    XGROUP SETID x1 g1 0 ENTRIESREAD 3 | XINFO GROUPS x1 | XGROUP SETID x1 g1 3-0 ENTRIESREAD 3 |
    XINFO GROUPS x1 | XGROUP SETID x1 g1 2-0 ENTRIESREAD 1 | XINFO GROUPS x1 |
    XGROUP SETID x1 g1 3-1 ENTRIESREAD 1 | XINFO GROUPS x1 | XREADGROUP GROUP g1 c STREAMS x1 > |
    XINFO GROUPS x1 | XADD x1 4-1 f v | XADD x1 5-1 f v | XGROUP SETID x1 g1 0 ENTRIESREAD 7 |
    XREADGROUP GROUP g1 c COUNT 1 STREAMS x1 > | XINFO GROUPS x1 |
    XREADGROUP GROUP g1 c COUNT 1 STREAMS x1 > | XINFO GROUPS x1 | XDEL x1 5-1 | XINFO GROUPS x1 |
    XGROUP SETID x1 g1 0 ENTRIESREAD 7 | XINFO GROUPS x1 |
    FLUSHALL | XADD x1 3-1 f x | XADD x1 5-0 f x | XGROUP CREATE x1 g2 3-0 | XDEL x1 3-1 |
    XINFO GROUPS x1 | XGROUP SETID x1 g2 4-0 | XINFO GROUPS x1 | XGROUP SETID x1 g2 5-0 |
    XINFO GROUPS x1 | XGROUP SETID x1 g2 6-0 | XINFO GROUPS x1 | XADD x1 6-0 f x |
    XADD x1 7-0 f x | XADD x1 8-0 f x | XDEL x1 7-0 | XGROUP SETID x1 g2 3-0 | XINFO GROUPS x1 |
    XGROUP SETID x1 g2 5-0 | XINFO GROUPS x1 | XGROUP SETID x1 g2 6-0 | XINFO GROUPS x1 |
    XGROUP SETID x1 g2 7-5 | XINFO GROUPS x1 | XGROUP SETID x1 g2 8-0 | XINFO GROUPS x1 |
    XTRIM x1 MAXLEN 1 | XGROUP SETID x1 g2 3-0 | XINFO GROUPS x1 | XGROUP SETID x1 g2 7-0 |
    XINFO GROUPS x1 | XGROUP SETID x1 g2 7-5 | XINFO GROUPS x1 |
    XREADGROUP GROUP g2 c STREAMS x1 > | XINFO GROUPS x1
"""


def conversation() -> list[list[str]]:
    lines = " | ".join(line.strip().removesuffix("|") for line in LINES.strip().splitlines())
    return [shlex.split(line) for line in lines.split("|")]


def without_clocks(arguments: list[str], reply: bytes) -> bytes:
    """A reply without times, idle times, and how Redis' tree is built."""
    reply = re.sub(rb":1[0-9]{12}\r\n", b":(time)\r\n", reply)
    if arguments[0] == "XPENDING":
        reply = re.sub(rb":[0-9]+\r\n(:-?[0-9]+\r\n)", rb":(idle)\r\n\1", reply)
    reply = re.sub(rb"idle\r\n:[0-9]+", b"idle\r\n:(idle)", reply)
    return re.sub(rb"(radix-tree-[a-z]+\r\n):[0-9]+", rb"\1:(tree)", reply)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike_about_streams(redis_socket: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation():
            ours = without_clocks(arguments, await client.call_raw(*arguments))
            theirs = without_clocks(arguments, ask(redis, *arguments))
            assert (arguments, ours) == (arguments, theirs)


A, B = make(1, 1), make(2, 0)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("XADD k * f v", [ops.XADD, 0, b"k", b"", 0, [], b"f", b"v"]),
        ("XADD k 1-1 f v", [ops.XADD, 0, b"k", A, 0, [], b"f", b"v"]),
        ("XADD k 2 f v", [ops.XADD, 0, b"k", B, 0, [], b"f", b"v"]),
        ("XADD k 2-* f v", [ops.XADD, 0, b"k", B[:8], 0, [], b"f", b"v"]),
        ("XADD k nomkstream * f v", [ops.XADD, 0, b"k", b"", 1, [], b"f", b"v"]),
        ("XADD k MAXLEN 5 * f v", [ops.XADD, 0, b"k", b"", 0, [5, 0, 0], b"f", b"v"]),
        ("XADD k MAXLEN = 5 * f v", [ops.XADD, 0, b"k", b"", 0, [5, 0, 0], b"f", b"v"]),
        ("XADD k maxlen ~ 5 * f v", [ops.XADD, 0, b"k", b"", 0, [5, 1, 10_000], b"f", b"v"]),
        ("XADD k MINID ~ 2 LIMIT 0 * f v", [ops.XADD, 0, b"k", b"", 0, [B, 1, 0], b"f", b"v"]),
        ("XTRIM k MAXLEN ~ 5 LIMIT 7", [ops.XTRIM, 0, b"k", [5, 1, 7]]),
        ("XTRIM k minid 1-1", [ops.XTRIM, 0, b"k", [A, 0, 0]]),
        ("XDEL k 1-1 x 2", [ops.XDEL, 0, b"k", A, INVALID, B]),
        ("XSETID k 2", [ops.XSETID, 0, b"k", B, -1, ZERO]),
        ("XSETID k 2 ENTRIESADDED 7 maxdeletedid 1-1", [ops.XSETID, 0, b"k", B, 7, A]),
        ("XLEN k", [ops.XLEN, 0, b"k"]),
        ("XRANGE k - +", [ops.XRANGE, 0, b"k", ZERO, TOP, -1, 0]),
        ("XRANGE k 2 2 COUNT 3", [ops.XRANGE, 0, b"k", B, make(2, 2**64 - 1), 3, 0]),
        ("XRANGE k (1-1 (2-0", [ops.XRANGE, 0, b"k", make(1, 2), make(1, 2**64 - 1), -1, 0]),
        ("XREVRANGE k + 1-1 COUNT -3", [ops.XRANGE, 0, b"k", A, TOP, 0, 1]),
        ("XREAD STREAMS a b 1-1 $", [ops.XREAD, 0, 0, b"a", A, b"b", NEWEST]),
        ("XREAD COUNT 5 STREAMS a >", [ops.XREAD, 0, 5, b"a", UNSEEN]),
        ("XREAD STREAMS a x", [ops.XREAD, 0, 0, b"a", INVALID]),
        (
            "XREADGROUP GROUP g c NOACK COUNT 2 STREAMS a b > 2",
            [ops.XREADGROUP, 0, b"g", b"c", 2, 1, b"a", TOP, b"b", B],
        ),
        ("XACK k g 1-1 x", [ops.XACK, 0, b"k", b"g", A, INVALID]),
        ("XGROUP CREATE k g $", [ops.XGROUP_CREATE, 0, b"k", b"g", NEWEST, -1, 0]),
        (
            "XGROUP CREATE k g 2 ENTRIESREAD 5 MKSTREAM",
            [ops.XGROUP_CREATE, 0, b"k", b"g", B, 5, 1],
        ),
        ("XGROUP SETID k g x", [ops.XGROUP_SETID, 0, b"k", b"g", INVALID, -1]),
        ("XGROUP DESTROY k g", [ops.XGROUP_DESTROY, 0, b"k", b"g"]),
        ("XGROUP CREATECONSUMER k g c", [ops.XGROUP_CREATECONSUMER, 0, b"k", b"g", b"c"]),
        ("XGROUP DELCONSUMER k g c", [ops.XGROUP_DELCONSUMER, 0, b"k", b"g", b"c"]),
        ("XCLAIM k g c 5 2", [ops.XCLAIM, 0, b"k", b"g", b"c", 5, 0, 0, -1, ZERO, None, B]),
        (
            "XCLAIM k g c -5 2 FORCE justid IDLE 3 TIME 9 RETRYCOUNT 4 LASTID 1-1",
            [
                *(ops.XCLAIM, 0, b"k", b"g", b"c", 0),
                *(ClaimFlag.FORCE | ClaimFlag.JUSTID | ClaimFlag.TIME, 9, 4, A, None, B),
            ],
        ),
        (
            "XCLAIM k g c 5 2 FOO",
            [
                *(ops.XCLAIM, 0, b"k", b"g", b"c", 5, 0, 0, -1, ZERO),
                *(b"ERR Unrecognized XCLAIM option 'FOO'", B),
            ],
        ),
        ("XAUTOCLAIM k g c 5 2", [ops.XAUTOCLAIM, 0, b"k", b"g", b"c", 5, B, 100, 0]),
        (
            "XAUTOCLAIM k g c 5 (1-1 COUNT 7 JUSTID",
            [ops.XAUTOCLAIM, 0, b"k", b"g", b"c", 5, make(1, 2), 7, ClaimFlag.JUSTID],
        ),
        ("XPENDING k g", [ops.XPENDING, 0, b"k", b"g"]),
        ("XPENDING k g - + 5", [ops.XPENDING_RANGE, 0, b"k", b"g", 0, ZERO, TOP, 5, None]),
        (
            "XPENDING k g IDLE 9 1-1 + -5 c",
            [ops.XPENDING_RANGE, 0, b"k", b"g", 9, A, TOP, 0, b"c"],
        ),
        ("XINFO STREAM k", [ops.XINFO_STREAM, 0, b"k", None, None]),
        ("XINFO STREAM k full", [ops.XINFO_STREAM, 0, b"k", 10, None]),
        ("XINFO STREAM k full COUNT 0", [ops.XINFO_STREAM, 0, b"k", 0, None]),
        ("XINFO GROUPS k", [ops.XINFO_GROUPS, 0, b"k"]),
        ("XINFO CONSUMERS k g", [ops.XINFO_CONSUMERS, 0, b"k", b"g"]),
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
    [
        "XADD {} * f v",
        "XLEN {}",
        "XREAD STREAMS a {} 0 0",
        "XREADGROUP GROUP g c STREAMS {} 0",
        "XGROUP CREATE {} g 0",
        "XINFO STREAM {}",
        "XCLAIM {} g c 0 1",
        "XPENDING {} g",
    ],
)
async def test_a_stream_with_a_key_over_the_limit_is_refused(
    service: FakeService, client: MemoryClient, line: str
) -> None:
    reply = await client.call(*line.format("k" * (KEY_BYTES_MAX + 1)).split())
    assert str(reply) == f"ERR key is larger than {KEY_BYTES_MAX} bytes"
    assert service.written + service.read == 0


@requires_redis
async def test_a_hundred_thousand_arguments_are_answered_as_redis_does(tmp_path: Path) -> None:
    many = [b"%d" % number for number in range(1, 100_001)]
    read = ["GROUP", "g", "c", "STREAMS"]
    lines: list[list[str | bytes]] = [
        *(["XADD", "long", "1-1", *many], ["XRANGE", "long", "-", "+"]),
        *(["XADD", "k", "1-1", "f", "v"], ["XADD", "k", "2-0", "f", "v"]),
        *(["XGROUP", "CREATE", "k", "g", "0"], ["XREADGROUP", *read, "k", "0"]),
        ["XCLAIM", "k", "g", "c", "0", *many, "FORCE", "JUSTID", "LASTID", "1-1"],
        *(["XACK", "k", "g", *many], ["XDEL", "k", *many], ["XLEN", "k"]),
        ["XREAD", "COUNT", "1", "STREAMS", *["k"] * 50_000, *many[:50_000]],
    ]
    client = MemoryClient(serve(FakeService()))
    with real_redis(tmp_path) as redis:
        for line in lines:
            assert await client.call_raw(*line) == redis.call_raw(*line), line[:2]


async def test_names_and_fields_may_be_any_bytes(client: MemoryClient) -> None:
    odd = b"\r\n\x00\xff$-1"
    for name in (odd, b"", odd * 100):
        await client.call("XADD", name, "1-1", odd, b"", b"", odd)
        await client.call("XGROUP", "CREATE", name, name, "0")
        given = await client.call("XREADGROUP", "GROUP", name, name, "STREAMS", name, ">")
        assert given == [[name, [[b"1-1", [odd, b"", b"", odd]]]]]
        assert (await client.call("XINFO", "GROUPS", name))[0][1] == name
        assert (await client.call("XINFO", "CONSUMERS", name, name))[0][1] == name
        assert (await client.call("XPENDING", name, name))[3] == [[name, b"1"]]
        assert await client.call("XACK", name, name, "1-1") == 1
