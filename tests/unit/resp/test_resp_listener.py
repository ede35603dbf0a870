"""The front end over real sockets, on uvloop and asyncio, with real clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import redis
import redis.asyncio
import uvloop

from kvnode.admission.budget import Budget
from kvnode.admission.ledger import Ledger
from kvnode.limits import IN_FLIGHT_BYTES_MAX, MIB, OUTPUT_BYTES_MAX
from kvnode.resp.listener import RespConfig, RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import encode

LOCALHOST = "127.0.0.1"


Scenario = Callable[[RespServer, FakeService], Awaitable[None]]


def on_every_loop(scenario: Scenario) -> Callable[..., None]:
    """Make a test that runs `scenario` against a listening server, on each kind of event loop."""

    async def serve_and_run() -> None:
        service = FakeService()
        server = RespServer(service, RespConfig())
        await server.start(LOCALHOST)
        try:
            async with asyncio.timeout(60):
                await scenario(server, service)
        finally:
            server.close()

    @pytest.mark.parametrize(
        "loop_factory",
        [uvloop.new_event_loop, asyncio.SelectorEventLoop],
        ids=["uvloop", "asyncio"],
    )
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve_and_run())

    return run


@on_every_loop
async def test_redis_py_with_its_default_protocol(server: RespServer, service: FakeService) -> None:
    def converse() -> None:
        with redis.Redis(port=server.port) as client:
            assert client.set("k", "v", ex=100) is True
            assert client.get("k") == b"v"
            assert client.ttl("k") > 0
            assert client.mget("k", "none") == [b"v", None]
            with client.pipeline() as pipeline:
                assert pipeline.set("n", 1).incr("n").get("n").execute() == [True, 2, b"2"]
            with client.pipeline(transaction=False) as pipeline:
                for number in range(300):
                    pipeline.set(f"k{number}", number).get(f"k{number}")
                assert pipeline.execute()[1::2] == [b"%d" % number for number in range(300)]
            with client.pipeline() as pipeline:
                pipeline.watch("k")
                client.set("k", "theirs")
                pipeline.multi()
                pipeline.set("k", "mine")
                with pytest.raises(redis.WatchError):
                    pipeline.execute()
            assert len(list(client.scan_iter(count=7))) == 302
            assert client.info()["redis_mode"] == "standalone"
            assert client.config_get("save", "appendonly") == {"save": "", "appendonly": "yes"}
            assert any(row["lib-name"].startswith("redis-py") for row in client.client_list())
            assert client.command_count() == len(client.command())
            with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
                client.execute_command("NOSUCH")

    await asyncio.to_thread(converse)


@on_every_loop
async def test_redis_py_asyncio_in_both_protocols(server: RespServer, service: FakeService) -> None:
    for protocol in (2, 3):
        async with redis.asyncio.Redis(port=server.port, db=3, protocol=protocol) as client:
            values = [f"v{number}" for number in range(100)]
            await asyncio.gather(*[client.set(value, value) for value in values])
            found = await asyncio.gather(*[client.get(value) for value in values])
            assert found == [value.encode() for value in values]
            assert await client.dbsize() == 100


@on_every_loop
async def test_redis_py_logs_in(server: RespServer, service: FakeService) -> None:
    server.close()
    server = RespServer(service, RespConfig(password=b"secret"))
    await server.start(LOCALHOST)
    async with redis.asyncio.Redis(port=server.port, password="secret") as client:
        assert await client.ping() is True
    async with redis.asyncio.Redis(port=server.port, password="wrong", retry=None) as client:
        with pytest.raises(redis.AuthenticationError):
            await client.ping()
    server.close()


@on_every_loop
async def test_a_value_of_eight_megabytes_makes_the_round(
    server: RespServer, service: FakeService
) -> None:
    value = bytes(range(256)) * (8 * MIB // 256)
    async with redis.asyncio.Redis(port=server.port) as client:
        await client.set("k", value)
        assert await client.get("k") == value
        with pytest.raises(redis.ResponseError, match="value is larger than"):
            await client.set("k", value + b"x")
        assert await client.strlen("k") == len(value)


@on_every_loop
async def test_a_client_that_says_all_and_half_closes_is_answered(
    server: RespServer, service: FakeService
) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    writer.write(b"SET k v\r\n" + encode("GET", "k") + b"PING\r\n")
    writer.write_eof()
    assert await reader.read() == b"+OK\r\n$1\r\nv\r\n+PONG\r\n"
    writer.close()
    await writer.wait_closed()


@on_every_loop
async def test_the_violator_is_told_and_closed_and_others_are_served(
    server: RespServer, service: FakeService
) -> None:
    async with redis.asyncio.Redis(port=server.port) as other:
        for attack in (b"*100000000\r\n", b"*1\r\n$600000000\r\n", b"x" * 70_000):
            reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
            writer.write(attack)
            assert (await reader.read()).startswith(b"-ERR Protocol error: ")
            writer.close()
            await writer.wait_closed()
            assert await other.ping() is True
    assert server.stats.protocol_violations_total == 3


@on_every_loop
async def test_a_reader_that_never_reads_is_not_read_any_more(
    server: RespServer, service: FakeService
) -> None:
    async with redis.asyncio.Redis(port=server.port) as other:
        await other.set("k", b"x" * MIB)
        with socket.create_connection((LOCALHOST, server.port)) as greedy:
            greedy.setblocking(False)
            try:
                while True:
                    greedy.send(encode("GET", "k") * 1000)
                    assert await other.ping() is True
            except BlockingIOError:
                pass  # the kernel's buffers are full: nobody reads at the other end
            assert await other.ping() is True
            assert server.pending_bytes < 2 * OUTPUT_BYTES_MAX
            assert service.read < OUTPUT_BYTES_MAX // MIB


@on_every_loop
async def test_nobody_connects_after_stop_accepting(
    server: RespServer, service: FakeService
) -> None:
    port = server.port
    async with redis.asyncio.Redis(port=port) as client:
        await client.ping()
        server.stop_accepting()
        assert await client.ping() is True
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(LOCALHOST, port)


@on_every_loop
async def test_a_client_gets_its_last_answers_from_a_drain(
    server: RespServer, service: FakeService
) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    service.hold()
    writer.write(encode("SET", "k", "v") * 3)
    while len(service.held) < 3:
        await asyncio.sleep(0)
    service.answer()
    server.stop_accepting()
    await server.drain(0)
    server.close()
    ok, *unknown = (await reader.read()).splitlines()
    assert ok == b"+OK"
    assert [line.split()[0] for line in unknown] == [b"-UNKNOWN"] * 2
    writer.close()
    await writer.wait_closed()


@on_every_loop
async def test_who_connects_while_too_much_is_in_flight_is_not_read(
    server: RespServer, service: FakeService
) -> None:
    service.hold()
    server.ledger.requests += IN_FLIGHT_BYTES_MAX + 1
    server.turns.look()
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    writer.write(encode("PING"))
    while not server.clients:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert server.stats.input_bytes_total == 0
    server.release(IN_FLIGHT_BYTES_MAX + 1)
    assert await reader.readexactly(7) == b"+PONG\r\n"
    writer.close()


@on_every_loop
async def test_who_is_refused_reads_why_and_who_comes_and_goes_leaves_nothing(
    server: RespServer, service: FakeService
) -> None:
    server.settings.connections_per_peer_max = 2
    kept = [await asyncio.open_connection(LOCALHOST, server.port) for _ in range(2)]
    while len(server.clients) < 2:
        await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
    refusal = b"-ERR max number of connections from this address reached\r\n"
    assert await reader.read() == refusal
    writer.close()
    for _, writer in kept:
        writer.close()
    while server.clients:
        await asyncio.sleep(0)
    for _ in range(200):
        reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
        writer.close()
        while server.clients:
            await asyncio.sleep(0)
    while server.clients:
        await asyncio.sleep(0)
    assert (server.doorstep.door.connections, server.doorstep.door.peers) == (0, 0)


async def test_the_kernels_buffers_of_a_client_are_bounded_where_memory_is_small(
    service: FakeService,
) -> None:
    server = RespServer(service, RespConfig(), ledger=Ledger(Budget.of(512 * MIB)))
    await server.start(LOCALHOST)
    try:
        _, writer = await asyncio.open_connection(LOCALHOST, server.port)
        while not server.clients:
            await asyncio.sleep(0)
        (connection,) = server.clients.values()
        assert connection._transport is not None
        peer = connection._transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert peer.getsockopt(socket.SOL_SOCKET, option) == 2 * server.budget.socket_bytes_max
        writer.close()
    finally:
        server.close()
