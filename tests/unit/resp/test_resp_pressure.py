"""Memory is scarce: nobody new is let in, and who holds most is let go."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

from kvnode.admission.ladder import Rung
from kvnode.limits import CLOSED_CLIENT_BYTES_MIN, MIB
from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest
from tests.unit.resp.test_resp_listener import LOCALHOST, on_every_loop

CALM, SHED, REFUSE, CLOSE = Rung


# --- the door -----------------------------------------------------------------------------------


async def is_answered(reader: asyncio.StreamReader) -> bool:
    """Whether an answer is there once the server has had many turns."""
    await rest(200)
    return bool(reader._buffer)  # type: ignore[attr-defined]


@on_every_loop
async def test_who_comes_while_writes_are_refused_waits_until_there_is_room(
    server: RespServer, service: FakeService
) -> None:
    async with redis.asyncio.Redis(port=server.port) as before:
        assert await before.ping() is True
        server.pressure.change(REFUSE)
        reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
        writer.write(b"PING\r\n")
        assert await before.ping() is True, "who is in stays"
        assert not await is_answered(reader)
        assert server.stats.connections_total == 1
        server.pressure.change(SHED)
        assert await reader.readline() == b"+PONG\r\n"
        writer.close()
        await writer.wait_closed()


@on_every_loop
async def test_the_door_closes_and_opens_as_often_as_needed(
    server: RespServer, service: FakeService
) -> None:
    for _ in range(3):
        for rung in (SHED, REFUSE, CALM, CLOSE, REFUSE, SHED, CLOSE):
            server.pressure.change(rung)
        await rest()
        server.pressure.change(CALM)
        async with redis.asyncio.Redis(port=server.port) as client:
            assert await client.ping() is True


@on_every_loop
async def test_a_door_that_opens_while_it_is_closed_again_stays_closed(
    server: RespServer, service: FakeService
) -> None:
    for rung in (REFUSE, CALM, REFUSE):
        server.pressure.change(rung)
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    writer.write(b"PING\r\n")
    assert not await is_answered(reader)
    server.pressure.change(CALM)
    assert await reader.readline() == b"+PONG\r\n"
    writer.close()
    await writer.wait_closed()


@on_every_loop
async def test_a_listener_that_was_closed_is_not_opened_by_calm(
    server: RespServer, service: FakeService
) -> None:
    for first in (REFUSE, CALM):
        server.pressure.change(first)
    server.stop_accepting()
    server.pressure.change(REFUSE)
    server.pressure.change(CALM)
    await rest()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(LOCALHOST, server.port)


@on_every_loop
async def test_a_node_that_starts_on_a_rung_lets_nobody_in_before_it_is_calm(
    server: RespServer, service: FakeService
) -> None:
    server.stop_accepting()
    server.pressure.change(REFUSE)
    await server.start(LOCALHOST)
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    writer.write(b"PING\r\n")
    assert not await is_answered(reader)
    server.pressure.change(CALM)
    assert await reader.readline() == b"+PONG\r\n"
    writer.close()
    await writer.wait_closed()


# --- the largest client -------------------------------------------------------------------------


async def test_the_client_that_holds_the_most_is_closed_requests_and_replies_together(
    server: RespServer, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    small, asks, reads_not, half = (MemoryClient(server) for _ in range(4))
    small.send("SET", "k", b"x" * MIB)
    assert await small.replies() == [b"OK"]
    reads_not.transport.takes = False
    reads_not.send("GET", "k")
    reads_not.send("GET", "k")
    half.send_bytes(encode("SET", "k", b"x" * (3 * MIB))[: -MIB // 2])
    await rest()
    service.hold()
    asks.send("SET", "k2", b"x" * (4 * MIB))
    for each in (asks, half, reads_not):
        server.clients.close_largest()
        assert each.transport.aborted
    server.clients.close_largest()
    assert not small.transport.aborted
    assert server.stats.connections_closed_total == {"memory": 3}
    told = [record.__dict__["fields"] for record in caplog.records if record.name == "kvnode.resp"]
    assert [fields["requests_bytes"] // MIB for fields in told] == [4, 2, 0]
    assert [fields["replies_bytes"] // MIB for fields in told] == [0, 0, 2]


async def test_who_holds_next_to_nothing_is_not_closed(
    server: RespServer, service: FakeService
) -> None:
    service.hold()
    clients = [MemoryClient(server) for _ in range(3)]
    for client in clients:
        client.send("SET", "k", b"x" * (CLOSED_CLIENT_BYTES_MIN // 2))
    server.clients.close_largest()
    assert not any(client.transport.aborted for client in clients)


async def test_nobody_is_there_to_be_closed(server: RespServer) -> None:
    server.clients.close_largest()
    assert server.stats.connections_closed_total == {}


@pytest.mark.parametrize(("rung", "closed"), [(REFUSE, {}), (CLOSE, {"memory": 1})])
async def test_one_client_is_closed_each_tenth_of_a_second_on_the_highest_rung_alone(
    server: RespServer, service: FakeService, rung: Rung, closed: dict[str, int]
) -> None:
    service.hold()
    for _ in range(2):
        MemoryClient(server).send("SET", "k", b"x" * MIB)
    server.pressure.change(rung)
    server._tick()
    assert server._ticker is not None
    server._ticker.cancel()
    assert server.stats.connections_closed_total == closed


async def test_info_tells_the_rung(server: RespServer, client: MemoryClient) -> None:
    assert b"memory_rung:calm" in await client.call("INFO", "memory")
    server.pressure.change(SHED)
    assert b"memory_rung:shed" in await client.call("INFO", "memory")
