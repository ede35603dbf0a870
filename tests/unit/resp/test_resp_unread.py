"""Replies that are not taken: counted to the byte, and their readers closed by the right rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvnode.limits import KIB, REPLIES_FULL_MS_MAX, REPLY_STALLED_MS_MAX
from kvnode.resp.listener import RespServer
from kvnode.resp.settings import OutputLimit
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest

LIMIT = "client-output-buffer-limit"
STALLED_S = REPLY_STALLED_MS_MAX / 1000
FULL_S = REPLIES_FULL_MS_MAX / 1000


async def leave_unread(server: RespServer, size: int) -> MemoryClient:
    """A client that asked for about `size` bytes and takes none of them."""
    client = MemoryClient(server)
    client.transport.takes = False
    client.send("ECHO", b"x" * size)
    await rest()
    return client


def look(server: RespServer, seconds: float) -> None:
    """What the server does ten times a second, `seconds` from now."""
    now_s = server.loop.time() + seconds
    for connection in server.slow_readers.look(now_s, server.settings.normal_output):
        server.clients.close_slow(connection)


def room(server: RespServer, size: int) -> None:
    server.keep_within(replace(server.budget, replies_bytes_max=size))


# --- counting -------------------------------------------------------------------------------------


async def test_replies_rendered_in_one_burst_count_before_they_are_written(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("GET", "k") * 3)
    for pending in list(service.held):
        pending.complete(b"x" * KIB)
    assert server.ledger.replies == 3 * (KIB + len(b"$1024\r\n\r\n"))
    await rest()
    assert server.ledger.replies == 0


async def test_a_result_that_waits_for_an_earlier_one_counts(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("GET", "k") * 2)
    service.held[1].complete(b"x" * KIB)
    await rest()
    assert server.ledger.replies > KIB
    service.held[0].complete(None)
    await rest()
    assert server.ledger.replies == 0


async def test_what_the_kernel_does_not_take_counts_however_little_it_is(
    server: RespServer,
) -> None:
    client = await leave_unread(server, 10)
    assert server.ledger.replies == len(b"$10\r\n\r\n") + 10
    client.send("PING")
    await rest()
    assert server.ledger.replies == len(b"$10\r\n\r\n+PONG\r\n") + 10
    client.transport.take_all()
    assert server.ledger.replies == 0
    assert len(server.slow_readers) == 0


async def test_what_was_taken_meanwhile_is_noticed(server: RespServer) -> None:
    client = await leave_unread(server, KIB)
    client.transport.take(1000)
    look(server, 0)
    assert server.ledger.replies == client.connection.outbox.unwritten_bytes < 100


@pytest.mark.parametrize("how", ["abort", "abandon", "hang up"])
async def test_replies_of_a_client_that_is_gone_do_not_count(server: RespServer, how: str) -> None:
    client = await leave_unread(server, KIB)
    connection = client.connection
    if how == "hang up":
        client.transport.close()
    else:
        getattr(connection, how)()
    await rest()
    assert server.ledger.replies == 0
    assert len(server.slow_readers) == 0
    client.transport.take_all()
    assert server.ledger.total == 0


async def test_a_reply_replaced_by_an_error_counts_as_the_error(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    server.keep_within(replace(server.budget, reply_bytes_max=KIB))
    service.hold()
    client.send("GET", "k")
    service.held[0].complete(b"x" * 2 * KIB)
    assert 0 < server.ledger.replies < 100
    assert await client.raw() == b"-ERR reply is larger than 1024 bytes\r\n"
    assert server.ledger.replies == 0


# --- limits of one client -------------------------------------------------------------------------


async def test_the_hard_limit_is_the_budgets_until_somebody_sets_another(
    server: RespServer, client: MemoryClient
) -> None:
    assert server.settings.normal_output == OutputLimit(server.budget.reply_bytes_max)
    assert await client.call("CONFIG", "SET", LIMIT, "normal 2kb 0 0") == b"OK"
    small, large = await leave_unread(server, KIB), await leave_unread(server, 3 * KIB)
    assert not small.transport.aborted
    assert large.transport.aborted
    assert server.stats.connections_closed_total == {"output": 1}


async def test_a_hard_limit_of_zero_is_none(server: RespServer, client: MemoryClient) -> None:
    await client.call("CONFIG", "SET", LIMIT, "normal 0 0 0")
    large = await leave_unread(server, 100 * KIB)
    look(server, 3600)
    assert not large.transport.aborted


async def test_the_soft_limit_closes_who_is_above_it_for_too_long(
    server: RespServer, client: MemoryClient
) -> None:
    await client.call("CONFIG", "SET", LIMIT, "normal 0 1kb 10")
    slow, small = await leave_unread(server, 2 * KIB), await leave_unread(server, 500)
    for seconds in (0.0, 5.0, 9.5):
        look(server, seconds)
        assert not slow.transport.aborted
    look(server, 10.5)
    assert slow.transport.aborted
    assert not small.transport.aborted


async def test_the_soft_limits_time_begins_anew_below_it(
    server: RespServer, client: MemoryClient
) -> None:
    await client.call("CONFIG", "SET", LIMIT, "normal 0 1kb 10")
    slow = await leave_unread(server, 2 * KIB)
    look(server, 0)
    slow.transport.take(KIB + 100)
    look(server, 9)
    slow.send("ECHO", b"x" * KIB)
    await rest()
    look(server, 11)
    look(server, 20)
    assert not slow.transport.aborted
    look(server, 22)
    assert slow.transport.aborted


# --- room for all ---------------------------------------------------------------------------------


async def test_who_takes_nothing_is_closed_only_when_room_is_short(server: RespServer) -> None:
    client = await leave_unread(server, 2 * KIB)
    look(server, 3600)
    assert not client.transport.aborted
    room(server, 2 * KIB)
    look(server, 3600 + STALLED_S)
    assert client.transport.aborted


async def test_no_more_are_closed_than_room_is_short_of(server: RespServer) -> None:
    room(server, 8 * KIB)
    small, large = await leave_unread(server, KIB), await leave_unread(server, 6 * KIB)
    look(server, 0.1)
    look(server, 0.2 + STALLED_S)
    assert large.transport.aborted
    assert not small.transport.aborted


async def test_who_takes_something_stays_while_others_take_nothing(server: RespServer) -> None:
    room(server, 8 * KIB)
    reads, idle = await leave_unread(server, 4 * KIB), await leave_unread(server, 3 * KIB)
    for tenths in range(10):
        reads.transport.take(10)
        look(server, tenths * STALLED_S / 5)
    assert idle.transport.aborted
    assert not reads.transport.aborted


async def test_when_there_is_no_room_for_long_the_largest_goes_whatever_it_takes(
    server: RespServer,
) -> None:
    room(server, 4 * KIB)
    small, large = await leave_unread(server, KIB), await leave_unread(server, 5 * KIB)
    steps = 25
    for step in range(steps):
        assert not large.transport.aborted
        for each in (small, large):
            each.transport.take(1)
        look(server, step * FULL_S / steps)
    for each in (small, large):
        each.transport.take(1)
    look(server, FULL_S + 0.1)
    assert large.transport.aborted
    assert not small.transport.aborted
    assert server.ledger.has_room_for_replies
