"""Slices: nobody's pipeline keeps others waiting, and every backlog goes on in its turn."""

from __future__ import annotations

import asyncio

import pytest

from kvnode.limits import (
    FLUSH_LOOK_CONNECTIONS,
    PASS_COMMANDS_MAX,
    PASS_LOOK_COMMANDS,
    PUT_OFF_BYTES_MIN,
)
from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve

SET = encode("SET", "k", "v")


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is looked at has taken too long."""
    monkeypatch.setattr("kvnode.resp.backlog.PASS_SLICE_NS", -1)
    monkeypatch.setattr("kvnode.resp.dispatch.PASS_SLICE_NS", -1)
    monkeypatch.setattr("kvnode.resp.dispatch.COSTLY_NS", -1)
    monkeypatch.setattr("kvnode.resp.passes.FLUSH_SLICE_MS", -1)


def owners(service: FakeService, clients: dict[str, MemoryClient]) -> list[str]:
    """Whose the held commands are, in the order in which they were begun."""
    names = {client.connection: name for name, client in clients.items()}
    return [names[pending.connection] for pending in service.held]  # type: ignore[attr-defined]


async def one_pass() -> None:
    await asyncio.sleep(0)


@pytest.mark.usefixtures("no_time")
async def test_a_long_pipeline_and_single_commands_alternate(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    clients = {"long": MemoryClient(server), "single": MemoryClient(server)}
    clients["long"].send_bytes(SET * 4096)
    while len(service.held) < 4096 + 4096 // PASS_LOOK_COMMANDS:
        clients["single"].send_bytes(SET)
        await one_pass()
    turn = ["long"] * PASS_LOOK_COMMANDS + ["single"]
    assert owners(service, clients) == turn * (4096 // PASS_LOOK_COMMANDS)
    service.release()
    await rest()
    assert server.pending_bytes == 0


@pytest.mark.usefixtures("no_time")
async def test_pipelines_take_turns(service: FakeService, server: RespServer) -> None:
    service.hold()
    clients = {name: MemoryClient(server) for name in "abc"}
    for client in clients.values():
        client.send_bytes(SET * 64)
    while (begun := len(service.held)) < 3 * 64:
        await one_pass()
        assert len(service.held) == begun + PASS_LOOK_COMMANDS
    assert "".join(owners(service, clients)[::PASS_LOOK_COMMANDS]) == "abc" * 4


@pytest.mark.usefixtures("no_time")
async def test_replies_do_not_wait_for_turns(service: FakeService, server: RespServer) -> None:
    crowd = [MemoryClient(server) for _ in range(50)]
    for client in crowd:
        client.send_bytes(SET * 1000)
    await one_pass()
    single = MemoryClient(server)
    single.send("PING")
    for _ in range(len(crowd) // 4):
        await one_pass()
    assert single.transport.writes == [b"+PONG\r\n"]


@pytest.mark.usefixtures("no_time")
async def test_many_writes_leave_others_their_turn_and_are_all_done(server: RespServer) -> None:
    clients = [MemoryClient(server) for _ in range(100)]
    for client in clients:
        client.send("PING")
    written = []
    while len(written) < 100 // FLUSH_LOOK_CONNECTIONS + 1:
        await one_pass()
        written.append(sum(len(client.transport.writes) for client in clients))
    assert written == [*range(FLUSH_LOOK_CONNECTIONS, 100, FLUSH_LOOK_CONNECTIONS), 100]


@pytest.mark.usefixtures("no_time")
async def test_a_slow_command_of_the_front_end_ends_its_slice(client: MemoryClient) -> None:
    client.send_bytes(encode("PING") * 5 + encode("MULTI") + encode("PING") + encode("EXEC"))
    counts = []
    for _ in range(10):
        await one_pass()
        counts.append(len(client.transport.writes))
    assert counts[:5] == [1, 2, 3, 4, 5]
    assert await client.replies() == [b"PONG"] * 5 + [b"OK", b"QUEUED", [b"PONG"]]
    client.send("PING")
    assert await client.replies() == [b"PONG"]


async def test_a_pass_begins_so_many_of_one_client_however_fast(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(SET * (2 * PASS_COMMANDS_MAX + 1))
    begun = [len(service.held)]
    while begun[-1] < 2 * PASS_COMMANDS_MAX + 1:
        await one_pass()
        begun.append(len(service.held))
    assert begun == [PASS_COMMANDS_MAX, 2 * PASS_COMMANDS_MAX, 2 * PASS_COMMANDS_MAX + 1]


@pytest.mark.usefixtures("no_time")
async def test_a_flood_without_commands_is_read_in_slices(service: FakeService) -> None:
    server = serve(service, password=b"secret")
    stranger = MemoryClient(server)
    stranger.send_bytes(b"\r\n" * 10_000 + encode("AUTH", "secret") + encode("PING") * 1000)
    assert not stranger.transport.is_reading
    assert server.ledger.unfinished > 10_000
    passes = 0
    while not stranger.transport.is_reading:
        await one_pass()
        passes += 1
    assert passes > 10
    replies = await stranger.replies()
    while len(replies) < 1001:
        replies += await stranger.replies()
    assert replies == [b"OK"] + [b"PONG"] * 1000
    assert server.pending_bytes == 0


@pytest.mark.usefixtures("no_time")
async def test_who_hangs_up_behind_a_long_chunk_is_answered_first(client: MemoryClient) -> None:
    client.send_bytes(b"\r\n" * 3000 + b"PING\r\n" * 3000)
    assert client.connection.eof_received()
    while not client.transport.closed:
        await one_pass()
    assert await client.raw() == b"+PONG\r\n" * 3000


@pytest.mark.usefixtures("no_time")
async def test_what_is_behind_a_quit_is_not_read(client: MemoryClient) -> None:
    client.send_bytes(b"QUIT\r\n" + b"PING\r\n" * 3000)
    while not client.transport.closed:
        await one_pass()
    assert await client.raw() == b"+OK\r\n"


@pytest.mark.usefixtures("no_time")
async def test_a_violation_deep_in_a_chunk_is_answered_in_its_place(client: MemoryClient) -> None:
    client.send_bytes(b"PING\r\n" * 3000 + b"*x\r\n")
    while not client.transport.closed:
        await one_pass()
    replies = await client.raw()
    assert replies == b"+PONG\r\n" * 3000 + b"-ERR Protocol error: invalid multibulk length\r\n"


@pytest.mark.usefixtures("no_time")
async def test_a_client_that_is_gone_loses_its_turn(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    gone, other = MemoryClient(server), MemoryClient(server)
    gone.send_bytes(SET * 100)
    other.send_bytes(SET * 100)
    await one_pass()
    gone.transport.abort()
    await rest()
    await rest()
    assert len(service.held) < 200
    service.release()
    assert await other.replies() == [b"OK"] * 100
    assert server.pending_bytes == 0


async def test_long_chunks_that_come_together_are_not_even_parsed_in_one_turn_of_the_loop(
    service: FakeService, server: RespServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.resp.passes.READING_SLICE_NS", 0)
    service.hold()
    clients = {name: MemoryClient(server) for name in "abc"}
    long = SET * (PUT_OFF_BYTES_MIN // len(SET) + 1)
    cut = len(SET) // 2
    clients["b"].send_bytes(SET[:cut])
    clients["a"].send_bytes(long)
    clients["b"].send_bytes(long[cut:] + SET + SET[:cut])
    clients["c"].send_bytes(SET)
    begun = owners(service, clients)
    assert set(begun) == {"a", "c"}
    assert not clients["b"].transport.is_reading
    assert server.ledger.unfinished > len(long)
    await rest()
    assert len(service.held) == 2 * (len(begun) - 1) + 2
    assert clients["b"].transport.is_reading
    clients["b"].send_bytes(SET[cut:])
    service.release()
    answered = await clients["b"].replies()
    assert len(answered) == len(begun) + 1
    assert server.pending_bytes == 0


async def test_behind_a_violation_nothing_is_kept_for_later(
    service: FakeService, server: RespServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.resp.passes.READING_SLICE_NS", -1)
    service.hold()
    broken = MemoryClient(server)
    broken.send_bytes(SET + encode("GET", "k") + b"*x\r\n")
    broken.send_bytes(b"x" * (PUT_OFF_BYTES_MIN + 1))
    assert not broken.connection.parser.is_behind
    service.release()
    replies = await broken.raw()
    assert replies == b"+OK\r\n$1\r\nv\r\n-ERR Protocol error: invalid multibulk length\r\n"
    assert broken.transport.closed
    assert server.pending_bytes == 0


async def test_pipelines_that_come_together_do_not_all_begin_in_one_turn_of_the_loop(
    service: FakeService, server: RespServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may; a few commands always; and in the next turn of the loop another one may."""
    monkeypatch.setattr("kvnode.resp.passes.READING_SLICE_NS", 0)
    service.hold()
    clients = {name: MemoryClient(server) for name in "abc"}
    clients["a"].send_bytes(SET * 64)
    clients["b"].send_bytes(SET * 64)
    clients["c"].send_bytes(SET * PASS_LOOK_COMMANDS)
    assert owners(service, clients) == ["a"] * 64 + ["c"] * PASS_LOOK_COMMANDS
    await rest()
    assert len(service.held) == 128 + PASS_LOOK_COMMANDS, "its turn came"
    clients["d"] = MemoryClient(server)
    clients["d"].send_bytes(SET * 64)
    assert owners(service, clients)[-64:] == ["d"] * 64
    service.release()
    await rest()
    assert server.pending_bytes == 0
