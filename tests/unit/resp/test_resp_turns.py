"""Whose socket is read while much is in flight: those who hold little, and the others in turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvnode.admission.budget import Budget
from kvnode.limits import KIB, LIGHT_CLIENT_BYTES_MAX, MIB, SOCKET_READ_BYTES
from kvnode.resp.info import memory_figures
from kvnode.resp.listener import RespServer
from kvnode.resp.request import memory_of
from kvnode.store.reply import OK
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve

ROOM = 16 * MIB


@pytest.fixture
async def server(service: FakeService) -> RespServer:
    server = serve(service, service)
    server.keep_within(replace(server.budget, requests_bytes_max=ROOM))
    return server


class Uploader:
    """A client that sends values without end, as fast as its socket is read.

    Attributes:
        read_bytes: what the server has read of it.
    """

    def __init__(self, server: RespServer, value_bytes: int, chunk_bytes: int) -> None:
        self.client = MemoryClient(server)
        self._request = encode("SET", "k", b"x" * value_bytes)
        self._chunk_bytes = chunk_bytes
        self._at = 0
        self.read_bytes = 0

    @property
    def is_read(self) -> bool:
        return self.client.transport.is_reading and not self.client.transport.closed

    def send(self) -> None:
        """One read of its socket, if it is read."""
        if not self.is_read:
            return
        end = self._at + self._chunk_bytes
        chunk = self._request[self._at : end]
        if end > len(self._request):
            # The next value begins in the same chunk.
            chunk += self._request[: end - len(self._request)]
        self._at = end % len(self._request)
        self.read_bytes += len(chunk)
        self.client.send_bytes(chunk)


def open_transaction(server: RespServer, size: int) -> MemoryClient:
    """A client that queues so many bytes and then nothing."""
    client = MemoryClient(server)
    client.send_bytes(encode("MULTI") + encode("SET", "k", b"x" * size))
    return client


def used(server: RespServer) -> int:
    return server.ledger.requests + server.ledger.unfinished


async def upload(server: RespServer, uploaders: list[Uploader], passes: int) -> int:
    """Let all send at once, pass by pass; return the most that was in flight."""
    most = 0
    for number in range(passes):
        for uploader in uploaders:
            uploader.send()
            most = max(most, used(server))
        await rest(3)
        if number % 10 == 0:
            server.turns.look()
    return most


async def test_two_hundred_clients_that_pipeline_large_values_stay_within_the_room(
    server: RespServer,
) -> None:
    """As on a node with 512 MiB."""
    server.keep_within(Budget.of(512 * MIB))
    room = server.budget.requests_bytes_max
    uploaders = [Uploader(server, MIB, 64 * KIB) for _ in range(200)]
    most = await upload(server, uploaders, 1000)
    assert room // 2 < most <= room
    assert server.stats.connections_closed_total == {}
    read = sorted(uploader.read_bytes for uploader in uploaders)
    assert read[0] > 2 * MIB, "the last in line must have had its turns, too"
    assert read[-1] - read[0] <= 2 * MIB, "turns are given in order"


async def test_who_holds_little_is_read_while_others_stand_in_line(
    server: RespServer, client: MemoryClient
) -> None:
    uploaders = [Uploader(server, MIB, 64 * KIB) for _ in range(50)]
    for _ in range(50):
        await upload(server, uploaders, 4)
        assert client.transport.is_reading
        assert await client.call("PING") == b"PONG"
    assert not all(uploader.is_read for uploader in uploaders)


async def test_large_and_small_values_share_the_turns(server: RespServer) -> None:
    """The largest value needs more room than turns may use, and still gets it."""
    large = [Uploader(server, 8 * MIB - KIB, SOCKET_READ_BYTES) for _ in range(4)]
    small = [Uploader(server, 200 * KIB, 64 * KIB) for _ in range(40)]
    most = await upload(server, [*large, *small], 1500)
    assert most <= ROOM + SOCKET_READ_BYTES
    assert server.stats.connections_closed_total == {}
    assert min(uploader.read_bytes for uploader in large) >= 16 * MIB
    assert min(uploader.read_bytes for uploader in small) > 2 * 200 * KIB


async def test_turns_leave_room_for_those_who_hold_little_while_answers_are_slow(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    uploaders = [Uploader(server, MIB, 64 * KIB) for _ in range(50)]
    service.hold()
    for number in range(600):
        assert await upload(server, uploaders, 1) < ROOM * 7 // 8
        assert client.transport.is_reading
        if number % 4 == 0 and service.held:
            service.held.pop(0).complete(OK)
    assert server.turns.times_full == 0
    assert server.ledger.requests > ROOM // 4


def two_of_whom_one_is_read(server: RespServer) -> tuple[Uploader, Uploader]:
    """There is not room for the values of both."""
    uploaders = [Uploader(server, 6 * MIB, MIB) for _ in range(2)]
    for _ in range(3):
        for uploader in uploaders:
            uploader.send()
    (first,) = (uploader for uploader in uploaders if uploader.is_read)
    (second,) = (uploader for uploader in uploaders if not uploader.is_read)
    return first, second


async def test_a_client_that_does_not_use_its_turn_loses_it(
    server: RespServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, eager = two_of_whom_one_is_read(server)
    now_s = server.turns._monotonic()
    monkeypatch.setattr(server.turns, "_monotonic", lambda: now_s + 2)
    server.turns.look()
    assert not lazy.is_read
    assert eager.is_read
    assert not lazy.client.transport.aborted


async def test_nobody_is_read_when_all_room_is_used(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    idle = MemoryClient(server)
    light = LIGHT_CLIENT_BYTES_MAX - 2 * KIB
    busy = [MemoryClient(server) for _ in range(ROOM // memory_of([b""] * 3, light + 4) + 1)]
    for each in busy[:-1]:
        each.send("SET", "k", b"x" * light)
    assert all(each.transport.is_reading for each in (*busy, idle))
    busy[-1].send("SET", "k", b"x" * light)
    late = MemoryClient(server)
    await rest()
    assert not any(each.transport.is_reading for each in (*busy, idle, late))
    service.answer()
    await rest()
    assert not idle.transport.is_reading
    service.answer_all()
    await rest()
    assert used(server) == 0
    assert all(each.transport.is_reading for each in (*busy, idle, late))


async def test_reading_goes_on_when_the_clients_in_flight_have_left(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    idle = MemoryClient(server)
    heavy = [MemoryClient(server) for _ in range(3)]
    for each in heavy:
        each.send("SET", "k", b"x" * (ROOM // 3))
    for each in heavy:
        each.transport.close()
    await rest()
    assert not idle.transport.is_reading
    service.answer_all()
    assert idle.transport.is_reading


async def test_of_too_many_unfinished_commands_the_largest_is_closed(server: RespServer) -> None:
    half = b"*2\r\n$3\r\nGET\r\n$8000000\r\n"
    clients = [MemoryClient(server) for _ in range(4)]
    for number, each in enumerate(clients):
        each.send_bytes(half + b"x" * (2 * MIB + number * KIB))
    for each in clients:  # as if nobody had told them to wait
        if used(server) + MIB <= ROOM * 3 // 4:
            each.send_bytes(b"x" * MIB)
    assert not any(each.transport.aborted for each in clients)
    for each in clients:
        each.send_bytes(b"x" * (MIB + MIB // 2))
        if each.transport.aborted:
            break
    await rest()
    assert sum(each.transport.aborted for each in clients) == 1
    assert server.ledger.unfinished <= ROOM * 3 // 4
    assert server.stats.connections_closed_total == {"unfinished": 1}


async def test_an_open_transaction_counts_as_unfinished(server: RespServer) -> None:
    client = MemoryClient(server)
    assert await client.call("MULTI") == b"OK"
    await client.call("SET", "k", b"x" * (ROOM // 4))
    assert server.ledger.unfinished > ROOM // 4
    await client.call("EXEC")
    assert server.ledger.unfinished == 0
    client.send_bytes(encode("MULTI") + encode("SET", "k", b"x" * (7 * MIB)))
    client.send_bytes(encode("SET", "k", b"x" * (7 * MIB + 512 * KIB)))
    assert client.transport.aborted
    assert server.ledger.unfinished == 0


async def test_transactions_that_stay_open_do_not_keep_others_from_being_read(
    server: RespServer,
) -> None:
    for _ in range(2):
        open_transaction(server, 2 * MIB)
    await rest()
    uploaders = [Uploader(server, MIB, 64 * KIB) for _ in range(10)]
    await upload(server, uploaders, 200)
    assert min(uploader.read_bytes for uploader in uploaders) > MIB
    assert server.stats.connections_closed_total == {}


async def test_transactions_that_fill_most_of_the_room_and_stay_open_are_closed(
    server: RespServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger, smaller = (
        open_transaction(server, 6 * MIB + 512 * KIB),
        open_transaction(server, 6 * MIB),
    )
    await rest()
    assert not client.transport.is_reading
    now_s = server.turns._monotonic()
    server.turns.look()
    assert server.stats.connections_closed_total == {}
    monkeypatch.setattr(server.turns, "_monotonic", lambda: now_s + 3)
    for _ in range(3):
        server.turns.look()
    assert larger.transport.aborted
    assert not smaller.transport.aborted
    assert client.transport.is_reading


async def test_blocked_commands_do_not_fill_the_room_for_ever(
    server: RespServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        MemoryClient(server).send("BLPOP", *[b"k" * 60 * KIB + b"%d" % n for n in range(70)], 0)
    await rest()
    polite = MemoryClient(server)
    await rest()
    assert not polite.transport.is_reading
    now_s = server.turns._monotonic()
    server.turns.look()
    assert server.stats.connections_closed_total == {}
    monkeypatch.setattr(server.turns, "_monotonic", lambda: now_s + 60)
    server.turns.look()
    await rest()
    assert server.stats.connections_closed_total == {"stuck": 1}
    server.turns.look()
    assert polite.transport.is_reading


async def test_a_client_that_leaves_gives_its_turn_back(server: RespServer) -> None:
    first, second = two_of_whom_one_is_read(server)
    first.client.transport.close()
    await rest()
    server.turns.look()
    assert second.is_read


async def test_many_short_arguments_count_as_what_they_take(
    service: FakeService, server: RespServer
) -> None:
    """Half a megabyte of them takes ten times as much memory as it has bytes."""
    service.hold()
    client = MemoryClient(server)
    keys = [b"%05d" % number for number in range(100_000)]
    before = memory_figures().used_bytes
    half = encode("MSET", *keys)
    client.send_bytes(half[:-10])
    unfinished = used(server)
    client.send_bytes(half[-10:])
    grown = memory_figures().used_bytes - before
    assert unfinished > 40 * len(keys)
    assert used(server) > 40 * len(keys)
    assert used(server) > grown / 2
    service.answer_all()
    await rest()
    assert used(server) == 0
