"""Commands that wait: when they do, what ends it, and that nothing is lost for who is gone."""

from __future__ import annotations

import asyncio
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvnode.errors import CommandError
from kvnode.node import reads
from kvnode.node.proposals import NO_LEADER
from kvnode.resp.commands import waiting
from kvnode.resp.commands.waiting import seconds
from kvnode.resp.listener import RespServer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.ops import Resolution
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve
from tests.unit.resp.test_resp_against_redis import ask, conversation, redis_socket
from tests.unit.resp.test_resp_lists import decode

__all__ = ["redis_socket"]

NIL = b"*-1\r\n"


@pytest.mark.parametrize(
    ("line", "inner"),
    [
        ("BLPOP a b 0", [ops.LMPOP, 0, 0, 1, b"a", b"b"]),
        ("BRPOP a 1.5", [ops.LMPOP, 0, 1, 1, b"a"]),
        ("BLMOVE a b LEFT RIGHT 0", [ops.LMOVE, 0, b"a", b"b", 0, 1]),
        ("BRPOPLPUSH a b 0", [ops.LMOVE, 0, b"a", b"b", 1, 0]),
        ("BLMPOP 0 2 a b RIGHT COUNT 3", [ops.LMPOP, 0, 1, 3, b"a", b"b"]),
        ("BZPOPMIN a b 0", [ops.ZMPOP, 0, 0, 1, b"a", b"b"]),
        ("BZPOPMAX a 1", [ops.ZMPOP, 0, 1, 1, b"a"]),
        ("BZMPOP 1 1 a MAX COUNT 2", [ops.ZMPOP, 0, 1, 2, b"a"]),
    ],
)
async def test_a_command_waits_with_the_form_that_never_does(
    service: FakeService, client: MemoryClient, line: str, inner: Op
) -> None:
    service.hold()
    client.send(*line.split())
    assert [pending.op for pending in service.held] == [[ops.BLOCK, 0, 1, inner]]
    other = MemoryClient(client.connection.server)
    for arguments in ("MULTI", line, "EXEC"):
        other.send(*arguments.split())
    assert service.held[1].op == [ops.EXEC, 0, [], [inner]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", None),
        ("-0", None),
        ("0.0001", 0.001),
        ("1.5", 1.5),
        ("0x10", 16),
        ("1e-3", 0.001),
        ("9223372036854775", 9223372036),
    ],
)
def test_a_time_is_read_up_to_whole_milliseconds(text: str, expected: float | None) -> None:
    assert seconds(text.encode()) == expected


@pytest.mark.parametrize("text", ["", "x", "1 ", "nan", "-1", "inf", "1e400", "1e30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="ERR timeout is"):
        seconds(text.encode())


# --- what ends it ---------------------------------------------------------------------------------


async def test_who_waits_is_served_and_what_is_behind_it_waits_too(
    server: RespServer, client: MemoryClient
) -> None:
    client.send("BLPOP", "q", 0)
    client.send("GET", "q")
    assert await client.replies() == []
    other = MemoryClient(server)
    assert await other.call("RPUSH", "q", "a") == 1
    assert await client.replies() == [[b"q", b"a"], None]
    assert await other.call("LLEN", "q") == 0


async def test_when_the_time_is_over_the_answer_is_nil(
    service: FakeService, client: MemoryClient
) -> None:
    client.send("BLMOVE", "q", "r", "LEFT", "LEFT", "0.001")
    while not client.transport.writes:
        await asyncio.sleep(0.001)
    assert await client.raw() == NIL
    assert service.blocked == 0


async def test_an_element_that_came_in_time_is_given_although_the_time_is_over(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    """The timer fires before the node has heard of its luck."""
    client.send("BLPOP", "q", 0)
    await rest()
    service.hold()
    MemoryClient(server).send("RPUSH", "q", "a")
    service.answer()
    blocked = client.connection.blocked
    assert blocked is not None
    blocked.expire()
    service.release()
    assert await client.replies() == [[b"q", b"a"]]


async def test_a_client_that_is_gone_consumes_nothing(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    second, other = MemoryClient(server), MemoryClient(server)
    for each in (client, second):
        each.send("BLPOP", "q", 0)
    await rest()
    client.transport.close()
    await rest()
    assert service.blocked == 1
    await other.call("RPUSH", "q", "a")
    assert await second.replies() == [[b"q", b"a"]]


async def test_a_client_that_closes_its_side_is_gone(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    client.send("BLPOP", "q", 0)
    client.send("SET", "k", "v")
    await rest()
    client.connection.eof_received()
    await rest()
    assert (service.blocked, client.transport.closed) == (0, True)
    other = MemoryClient(server)
    assert await other.call("RPUSH", "q", "a") == 1
    assert await other.call("LRANGE", "q", 0, -1) == [b"a"]
    assert await other.call("GET", "k") is None


async def test_a_client_that_has_said_all_before_it_waits_takes_what_is_there(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("GET", "k") + encode("BLPOP", "q", 0))
    client.connection.eof_received()
    service.release()
    assert await client.raw() == b"$-1\r\n" + NIL
    assert service.blocked == 0


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_what_is_in_hand_for_a_client_that_leaves_goes_to_the_next(
    service: FakeService, server: RespServer, client: MemoryClient, *, is_claimed: bool
) -> None:
    second, other = MemoryClient(server), MemoryClient(server)
    for each in (client, second):
        each.send("BLPOP", "q", 0)
    await rest()
    service.hold()
    other.send("RPUSH", "q", "a")
    service.answer()
    if is_claimed:
        await rest()
        assert service.held[0].op == [ops.RESOLVE, 0, 1, Resolution.CLAIM]
    client.connection.connection_lost(None)
    service.release()
    await rest()
    assert await second.replies() == [[b"q", b"a"]]


@pytest.mark.parametrize(
    ("line", "fill", "look"),
    [
        ("BRPOP q 0", "RPUSH q a b", "LRANGE q 0 -1"),
        ("BLMPOP 0 1 q LEFT COUNT 2", "RPUSH q a b c", "LRANGE q 0 -1"),
        ("BLMOVE q r LEFT RIGHT 0", "RPUSH q a b", "LRANGE q 0 -1"),
        ("BZMPOP 0 1 z MAX COUNT 2", "ZADD z 1.25 a -inf b 3e100 c", "ZRANGE z 0 -1 WITHSCORES"),
    ],
)
async def test_each_command_is_undone_for_a_client_that_left_meanwhile(
    service: FakeService, server: RespServer, client: MemoryClient, line: str, fill: str, look: str
) -> None:
    other = MemoryClient(server)
    await other.call(*fill.split())
    before = await other.call(*look.split())
    service.hold()
    client.send(*line.split())
    client.connection.connection_lost(None)
    service.release()
    await rest()
    assert await other.call(*look.split()) == before != []


async def test_what_was_there_for_a_client_that_left_meanwhile_is_put_back(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    await other.call("RPUSH", "q", "a", "b")
    service.hold()
    client.send("BLPOP", "q", 0)
    client.connection.connection_lost(None)
    service.release()
    await rest()
    assert await other.call("LRANGE", "q", 0, -1) == [b"a", b"b"]


@pytest.mark.parametrize(("reason", "answer"), [("TIMEOUT", NIL), ("ERROR", b"-UNBLOCKED")])
async def test_client_unblock_ends_it(
    server: RespServer, client: MemoryClient, reason: str, answer: bytes
) -> None:
    client.send("BLPOP", "q", 0)
    await rest()
    other = MemoryClient(server)
    assert await other.call("CLIENT", "UNBLOCK", client.connection.id, reason) == 1
    assert (await client.raw()).startswith(answer)
    assert await other.call("CLIENT", "UNBLOCK", client.connection.id, reason) == 0
    await other.call("RPUSH", "q", "a")
    assert await other.call("LLEN", "q") == 1


async def test_a_drain_answers_who_waits(server: RespServer, client: MemoryClient) -> None:
    client.send("BLPOP", "q", 0)
    await rest()
    await server.drain(1)
    assert await client.raw() == NIL


async def test_who_waits_is_told_by_info(server: RespServer, client: MemoryClient) -> None:
    client.send("BLPOP", "q", 0)
    await rest()
    other = MemoryClient(server)
    assert b"blocked_clients:1" in await other.call("INFO", "clients")
    assert b"flags=b" in await other.call("CLIENT", "LIST", "ID", client.connection.id)


async def test_the_time_of_waiting_is_not_the_time_of_the_command(
    server: RespServer, client: MemoryClient
) -> None:
    server.change_settings(replace(server.settings, latency_ms=1))
    client.send("BLPOP", "q", "0.05")
    while not client.transport.writes:
        await asyncio.sleep(0.005)
    other = MemoryClient(server)
    assert await other.call("LATENCY", "LATEST") == []
    stats = await other.call("INFO", "commandstats")
    (line,) = [line for line in stats.decode().splitlines() if line.startswith("cmdstat_blpop")]
    assert int(line.partition("usec=")[2].partition(",")[0]) < 50_000


async def test_without_a_leader_a_client_that_waits_anyway_waits_on(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send("BLPOP", "q", 0)
    service.held.pop().complete(NO_LEADER)
    assert await client.replies() == []
    service.waits.sweep()
    assert [pending.op[0] for pending in service.held] == [ops.BLOCK]
    service.release()
    await rest()
    assert service.blocked == 1
    blocked = client.connection.blocked
    assert blocked is not None
    service.hold()
    blocked.expire()
    service.held.pop().complete(NO_LEADER)
    assert await client.raw() == NIL
    service.waits.sweep()
    assert service.held[0].op == [ops.RESOLVE, 0, 2, Resolution.LEAVE]


async def test_a_reader_that_waits_anyway_asks_again_when_it_was_refused(
    service: FakeService, server: RespServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "RETRY_SECONDS", 0.001)
    service.refuse = reads.NO_LEADER
    client.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    assert await client.replies() == []
    service.refuse = None
    asked = service.read
    while service.read < asked + 2:  # for what `$` stands for, and for newer entries
        await asyncio.sleep(0.002)
    assert await MemoryClient(server).call("XADD", "s", "1-1", "f", "v") == b"1-1"
    assert len(await client.replies()) == 1


async def test_who_was_abandoned_waits_again(service: FakeService, client: MemoryClient) -> None:
    client.send("BLPOP", "q", 0)
    await rest()
    service.run([ops.ABANDON, 0, 1, 10])
    await rest()
    assert service.blocked == 1
    await MemoryClient(client.connection.server).call("RPUSH", "q", "a")
    assert await client.replies() == [[b"q", b"a"]]


# --- as Redis does --------------------------------------------------------------------------------

LINES = """
    BLPOP a | BLPOP a x | BLPOP a -1 | BLPOP a 1e400 | BLPOP a inf | BLPOP a nan | BLPOP a "" |
    BLPOP a " 1" | BLPOP a 99999999999999999999 | BRPOP a -0.5 | BRPOPLPUSH a b x |
    BRPOPLPUSH a b -1 | BLMOVE a b x left -1 | BLMOVE a b left x -1 | BLMOVE a b left right x |
    BLMPOP x 0 a left | BLMPOP 1 0 a left | BLMPOP 1 x a left | BLMPOP -1 1 a left |
    BLMPOP 1 1 a up | BLMPOP 1 1 a left count 0 | BLMPOP 1 1 a left count x |
    BLMPOP 1 1 a left cnt | BLMPOP 1 2 a left | BLMPOP 1 1 a left count 1 count 2 |
    BLMPOP -1 1 a up | RPUSH a 1 2 3 4 5 6 7 8 | BLPOP a 0 | BRPOP none a 0.5 | BLPOP a a 0 |
    BLMOVE a b LEFT LEFT 0 | BRPOPLPUSH a b 0 | BLMPOP 0 2 none a LEFT COUNT 2 | LRANGE b 0 -1 |
    BLMOVE a a LEFT RIGHT 0 | BRPOPLPUSH a a 0 | LRANGE a 0 -1 | BLPOP a 0 |
    MULTI | BLPOP none 0 | BRPOP none 0 | BLMOVE none b LEFT LEFT 0 | BRPOPLPUSH none b 0 |
    BLMPOP 0 1 none LEFT | BLPOP b 0 | BLPOP none x | BLPOP none -1 | EXEC |
    SET s v | BLPOP s 0 | BLPOP none s 0 | BLMOVE s b LEFT LEFT 0 | BLMOVE b s LEFT LEFT 0 |
    BLMPOP 0 2 none s LEFT | BLMOVE s b LEFT LEFT x | CLIENT UNBLOCK 999 | CLIENT UNBLOCK x |
    BZPOPMIN a -0.5 | BZPOPMIN a | BZPOPMAX a x | BZMPOP 1 1 a up | BZMPOP 1 1 a min count -1 |
    BZMPOP 1 0 a min | BZMPOP x 1 a min | BZMPOP x 0 a min | BZMPOP 1 1 a min count 1 count 1 |
    ZADD z 1.5 a 2 b 3 c inf d 5e300 e 17 f | BZPOPMIN z 0 | BZPOPMAX none z 0 | BZPOPMAX z 0 |
    BZMPOP 0 2 none z MIN COUNT 2 | BZPOPMIN s 0 | BZMPOP 0 1 s MIN | MULTI | BZPOPMIN z 0 |
    BZPOPMIN none 0 | BZPOPMAX none 0 | BZMPOP 0 1 none MIN | EXEC |
    COMMAND GETKEYS BZPOPMIN a b 0 |
    COMMAND GETKEYS BZMPOP 0 2 a b MIN | CLIENT UNBLOCK 999 FOO |
    XREAD BLOCK x STREAMS a 0 | XREAD BLOCK -1 STREAMS a 0 |
    XREAD BLOCK 1.5 STREAMS a 0 | XREAD BLOCK 99999999999999999999 STREAMS a 0 |
    XREAD BLOCK 0 STREAMS s 0 | XREAD BLOCK 0 STREAMS x > | XREAD BLOCK 0 STREAMS x y |
    XREADGROUP GROUP g c BLOCK 10 STREAMS x > | XREADGROUP GROUP g c BLOCK x STREAMS x > |
    XADD x 1-1 a b | XREAD BLOCK 0 STREAMS x y 0 $ | XGROUP CREATE x g $ |
    XREADGROUP GROUP g c BLOCK 0 STREAMS x 0 | MULTI | XREAD BLOCK 0 STREAMS x $ |
    XREADGROUP GROUP g c BLOCK 0 STREAMS x > | XREAD BLOCK 0 STREAMS x 0 | EXEC |
    COMMAND GETKEYS BLPOP a b 0 | COMMAND GETKEYS BLMPOP 0 2 a b LEFT |
    COMMAND GETKEYS BLMOVE a b LEFT LEFT 0 | COMMAND GETKEYS BLMPOP 0 3 a b LEFT
"""

SCENARIOS = """
    1 BLPOP q 0 | 2 RPUSH q a b | 2 LRANGE q 0 -1
    1 BLPOP q 0 | 3 BLPOP q 0 | 2 RPUSH q a | 2 LLEN q
    2 XGROUP CREATE s g 9-9 MKSTREAM | 2 XGROUP CREATE s h 0 |
        1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 3 XREADGROUP GROUP h c BLOCK 0 STREAMS s > |
        2 XADD s 1-1 f v
    1 BRPOP p q 0 | 3 BRPOP q 0 | 2 RPUSH q a b c | 2 LRANGE q 0 -1
    1 BLMPOP 0 2 p q RIGHT COUNT 2 | 2 RPUSH q a b c
    1 BLMOVE q r LEFT RIGHT 0 | 3 BLMOVE r p LEFT LEFT 0 | 2 RPUSH q a | 2 LRANGE p 0 -1
    1 BLMOVE q r LEFT RIGHT 0 | 3 BLMOVE r q LEFT RIGHT 0 | 2 RPUSH q a | 2 LRANGE q 0 -1
    1 BRPOPLPUSH q q 0 | 2 RPUSH q a | 2 LRANGE q 0 -1
    1 BLPOP q r 0 | 2 MULTI | 2 RPUSH r b | 2 RPUSH q a | 2 EXEC | 2 LRANGE q 0 -1
    1 BLPOP q 0 | 2 MULTI | 2 RPUSH q b | 2 DEL q | 2 EXEC | 2 RPUSH q c
    1 BLPOP q 0 | 2 SET s x | 2 RENAME s q | 2 DEL q | 2 RPUSH r a | 2 RENAME r q
    1 BLMOVE q s LEFT LEFT 0 | 2 SET s x | 2 RPUSH q a | 2 LRANGE q 0 -1
    1 BLPOP q 0 | 2 SELECT 1 | 2 RPUSH q a | 2 SWAPDB 0 1 | 2 LLEN q
    1 BLPOP q 0 | 2 RPUSH r b | 2 COPY r q | 2 LLEN q
    1 BZPOPMIN p z 0 | 2 ZADD z 2 b 1 a | 2 ZRANGE z 0 -1
    1 BZPOPMAX z 0 | 3 BZPOPMIN z 0 | 2 ZADD z 2 b 1 a 1.5 c | 2 ZRANGE z 0 -1
    1 BZMPOP 0 2 p z MAX COUNT 2 | 2 ZINCRBY z 2.5 a
    1 BZPOPMIN z 0 | 3 BLPOP z 0 | 2 RPUSH z a | 2 ZADD z 1 a
    1 BLPOP z 0 | 3 BZPOPMIN z 0 | 2 ZADD y 1 a | 2 ZUNIONSTORE z 1 y | 2 RPUSH z b
    1 BZPOPMIN z 0.01
    1 BZMPOP 0.01 1 z MIN
    1 XREAD BLOCK 0 STREAMS s $ | 2 XADD s 1-1 f v
    1 XREAD COUNT 1 BLOCK 0 STREAMS s t 0 5-5 | 2 XADD t 5-5 a b | 2 XADD t 6-0 c d
    2 XADD s 1-1 f v | 1 XREAD BLOCK 0 STREAMS s t $ $ | 2 XADD t 1-1 g w
    1 XREAD BLOCK 0 STREAMS s t 0 0 | 2 MULTI | 2 XADD t 1-1 a b | 2 XADD s 1-1 a b | 2 EXEC
    1 XREAD BLOCK 0 STREAMS s $ | 2 SET s x | 2 DEL s | 2 XADD s 1-1 a b
    1 XREAD BLOCK 0 STREAMS s $ | 2 SELECT 1 | 2 XADD s 1-1 a b | 2 SWAPDB 0 1
    2 XADD s 5-0 f v | 1 XREAD BLOCK 0 STREAMS s $ | 2 DEL s | 2 XADD s 1-1 a b | 2 XADD s 6-0 a b
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > |
        2 XADD s 1-1 f v | 2 XPENDING s g
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > |
        3 XREADGROUP GROUP g d BLOCK 0 NOACK STREAMS s > | 2 XADD s 1-1 f v | 2 XADD s 1-2 f v |
        2 XPENDING s g
    2 XGROUP CREATE s g $ MKSTREAM | 2 XGROUP CREATE s h $ |
        1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 3 XREADGROUP GROUP h c BLOCK 0 STREAMS s > |
        2 XADD s 1-1 f v
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 2 DEL s
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > |
        2 XGROUP DESTROY s g
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 2 SET s x
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 2 FLUSHALL
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 2 RENAME s t
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 0 STREAMS s > | 2 MULTI |
        2 DEL s | 2 XADD s 1-1 f v | 2 EXEC
    2 XGROUP CREATE s g $ MKSTREAM | 1 XREADGROUP GROUP g c BLOCK 10 STREAMS s >
    1 XREAD BLOCK 10 STREAMS s $
    1 BLPOP q 0.01
    1 BLMOVE q r LEFT LEFT 0.01
    1 BLMPOP 0.01 1 q LEFT
    1 BRPOPLPUSH q r 0.01
"""
"""One to a line, and further lines behind a `|`: which of three clients says what."""


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_answer_alike(redis_socket: Path, protocol: str) -> None:
    client = MemoryClient(serve(FakeService()))
    await client.call("HELLO", protocol)
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        ask(redis, "HELLO", protocol)
        for arguments in conversation(LINES):
            ours = await client.call_raw(*arguments)
            assert (arguments, ours) == (arguments, ask(redis, *arguments))


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_redis_and_we_serve_alike(redis_socket: Path, protocol: str) -> None:
    for scenario in SCENARIOS.replace("|\n", "|").strip().splitlines():
        ours = await _play(scenario, protocol)
        theirs = await asyncio.to_thread(_play_on_redis, scenario, protocol, redis_socket, ours)
        assert (scenario, ours) == (scenario, theirs)


def _times_out(scenario: str) -> bool:
    return "0.01" in scenario or "BLOCK 10 " in scenario


async def _play(scenario: str, protocol: str) -> dict[str, bytes]:
    """What each client reads, and how many wait, when all has been said and done."""
    server = serve(FakeService())
    clients = {name: MemoryClient(server) for name in "123"}
    replies = dict.fromkeys("123", b"")
    for client in clients.values():
        await client.call("HELLO", protocol)
    for step in scenario.split("|"):
        name, *arguments = step.split()
        clients[name].send(*arguments)
        for each, client in clients.items():
            replies[each] += await client.raw()
    while _times_out(scenario) and not replies["1"]:
        await asyncio.sleep(0.005)
        replies["1"] += await clients["1"].raw()
    left = sum(client.connection.blocked is not None for client in clients.values())
    return {**replies, "still waiting": b"%d" % left}


def _play_on_redis(
    scenario: str, protocol: str, path: Path, expected: dict[str, bytes]
) -> dict[str, bytes]:
    clients = {name: socket.socket(socket.AF_UNIX) for name in "123i"}
    replies = dict.fromkeys("123", b"")
    held = 0
    try:
        for client in clients.values():
            client.connect(str(path))
            ask(client, "HELLO", protocol)
        ask(clients["i"], "FLUSHALL")
        for step in scenario.split("|"):
            name, *arguments = step.split()
            clients[name].sendall(encode(*arguments))
            held += name != "2"
            is_waiting = name != "2" and not _times_out(scenario)
            while is_waiting and _blocked(clients["i"]) < held:
                pass
        for name in replies:
            clients[name].settimeout(2)
            while len(replies[name]) < len(expected[name]):
                replies[name] += clients[name].recv(65536)
        return {**replies, "still waiting": b"%d" % _blocked(clients["i"])}
    finally:
        for client in clients.values():
            client.close()


def _blocked(client: socket.socket) -> int:
    info = ask(client, "INFO", "clients").decode()
    return int(info.partition("blocked_clients:")[2].partition("\r")[0])


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_the_facts_are_those_of_redis(redis_socket: Path) -> None:
    client = MemoryClient(serve(FakeService()))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        lists, sets = "blpop brpop blmove brpoplpush blmpop", "bzpopmin bzpopmax bzmpop"
        for name in f"{lists} {sets} xread xreadgroup".split():
            (ours,) = await client.call("COMMAND", "INFO", name)
            theirs = decode(ask(redis, "COMMAND", "INFO", name))[0]
            assert [*ours[:6], set(ours[6])] == [*theirs[:6], set(theirs[6])]


async def test_a_large_entry_is_written_out_once_for_all_its_readers(
    service: FakeService, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    del service
    written: list[bytes] = []
    usual = waiting.SharedReply.write

    def note(*arguments: Any) -> bytes:
        written.append(usual(*arguments))
        return written[-1]

    monkeypatch.setattr(waiting.SharedReply, "write", note)
    readers = [MemoryClient(client.connection.server) for _ in range(5)]
    for reader in readers:
        reader.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
        await rest()
    await client.call("XADD", "s", "1-1", "f", "v" * 5000)
    replies = [await reader.replies() for reader in readers]
    assert replies == [[[[b"s", [[b"1-1", [b"f", b"v" * 5000]]]]]]] * 5
    assert len(written) == 5
    assert all(reply is written[0] for reply in written)
    assert await client.call("XADD", "s", "1-2", "f", "v" * 5000)
