"""One connection: order of replies, runs of one kind, limits, and ends."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest

from kvnode.admission.door import Door
from kvnode.errors import CommandError, OutcomeUnknown
from kvnode.limits import (
    KIB,
    MIB,
    OUTPUT_BYTES_HIGH,
    OUTPUT_BYTES_MAX,
    PASS_COMMANDS_MAX,
    PIPELINE_COMMANDS_MAX,
    REFUSALS_ANSWERED_PER_SECOND_MAX,
    VALUE_BYTES_MAX,
)
from kvnode.resp.commands.lookup import SPELLING_KEYS_MAX, SPELLINGS, look_up
from kvnode.resp.connection import Connection
from kvnode.resp.listener import RespServer
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve

# --- order and batching ---------------------------------------------------------------------------


async def test_replies_keep_the_order_of_requests_when_results_do_not(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    for number in range(4):
        client.send("SET", f"k{number}", number)
    client.send("PING")
    client.send("STRLEN")
    for at in (3, 1, 1):
        service.answer(at)
    assert await client.replies() == []
    service.answer()
    replies = await client.replies()
    assert replies[:5] == [b"OK"] * 4 + [b"PONG"]
    assert str(replies[5]) == "ERR wrong number of arguments for 'strlen' command"


async def test_a_pass_of_the_loop_writes_once_per_connection(
    service: FakeService, server: RespServer
) -> None:
    clients = [MemoryClient(server) for _ in range(3)]
    for client in clients:
        client.send_bytes(encode("SET", "k", "v") * 10 + encode("PING") * 5)
    await rest()
    assert service.written == 30
    for client in clients:
        assert client.transport.writes == [b"+OK\r\n" * 10 + b"+PONG\r\n" * 5]


async def test_all_commands_of_a_chunk_reach_the_node_at_once(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") * 100)
    assert len(service.held) == 100


async def test_a_long_chunk_gives_others_their_turn(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") * (PASS_COMMANDS_MAX + 10))
    assert len(service.held) == PASS_COMMANDS_MAX
    await rest()
    assert len(service.held) == PASS_COMMANDS_MAX + 10


# --- runs of one kind -----------------------------------------------------------------------------


async def test_a_read_waits_for_the_earlier_writes_of_its_connection(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "1") + encode("SET", "k", "2") + encode("GET", "k"))
    await rest()
    assert service.written == 2
    assert service.read == 0
    service.answer()
    await rest()
    assert service.read == 0
    service.answer()
    await rest()
    assert service.read == 1
    service.release()
    assert await client.replies() == [b"OK", b"OK", b"2"]


async def test_a_write_waits_for_the_earlier_reads_of_its_connection(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send("GET", "k")
    client.send("SET", "k", "1")
    client.send("GET", "k")
    await rest()
    assert service.written == 0
    service.answer()
    await rest()
    assert (service.read, service.written) == (1, 1)
    service.release()
    await rest()
    assert await client.replies() == [None, b"OK", b"1"]


async def test_connections_do_not_wait_for_each_other(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    writer, reader = MemoryClient(server), MemoryClient(server)
    writer.send("SET", "k", "1")
    reader.send("GET", "k")
    assert (service.written, service.read) == (1, 1)


async def test_local_commands_take_effect_in_their_turn(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(
        encode("SET", "k", "zero")
        + encode("GET", "k")
        + encode("SELECT", 1)
        + encode("SET", "k", "one")
        + encode("SELECT", 0)
        + encode("GET", "k")
    )
    service.release()
    assert await client.replies() == [b"OK", b"zero", b"OK", b"OK", b"OK", b"zero"]


async def test_hello_does_not_change_replies_asked_for_before_it(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("GET", "none") + encode("HELLO", 3) + encode("GET", "none"))
    service.release()
    raw = await client.raw()
    assert raw.startswith(b"$-1\r\n%7\r\n")
    assert raw.endswith(b"_\r\n")


# --- outcomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["UNKNOWN outcome of the write", "BUSY no leader"])
async def test_the_connection_stays_open_whatever_the_node_answers(
    service: FakeService, client: MemoryClient, text: str
) -> None:
    service.refuse = OutcomeUnknown(text)
    assert str(await client.call("SET", "k", "v")) == text
    service.refuse = None
    assert await client.call("SET", "k", "v") == b"OK"
    assert not client.transport.closed


async def test_results_for_a_client_that_left_are_dropped(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") * 3 + encode("GET", "k") * 3)
    assert server.pending_bytes > 0
    client.transport.close()
    await rest()
    assert server.clients == {}
    service.answer_all()
    await rest()
    assert server.pending_bytes == 0
    assert service.read == 0


async def test_a_client_that_left_is_freed_without_the_garbage_collector(
    server: RespServer,
) -> None:
    def count() -> int:
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        client = MemoryClient(server)
        client.send_bytes(encode("SET", "k", "v") + encode("GET", "k") + encode("PING"))
        assert await client.replies() == [b"OK", b"v", b"PONG"]
        assert count() == before + 1
        client.transport.close()
        await rest()
        del client
        assert count() == before
    finally:
        gc.enable()


async def test_an_error_text_stays_on_its_line(service: FakeService, client: MemoryClient) -> None:
    service.refuse = CommandError("ERR two\r\n+lines")
    assert await client.call_raw("GET", "k") == b"-ERR two  +lines\r\n"


# --- ends -----------------------------------------------------------------------------------------


async def test_quit_answers_everything_before_it_and_nothing_after(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") + encode("QUIT") + encode("SET", "k", "w"))
    await rest()
    assert not client.transport.closed
    service.release()
    assert await client.raw() == b"+OK\r\n+OK\r\n"
    assert client.transport.closed
    assert service.written == 1


async def test_a_half_closed_client_still_gets_its_answers(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") + encode("GET", "k") + encode("PING"))
    assert client.connection.eof_received() is True
    await rest()
    assert not client.transport.closed
    service.release()
    assert await client.raw() == b"+OK\r\n$1\r\nv\r\n+PONG\r\n"
    assert client.transport.closed


async def test_a_violation_is_answered_after_the_commands_before_it(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    client.send_bytes(encode("SET", "k", "v") + encode("GET", "k") + b"*1\r\n:1\r\n")
    assert await client.raw() == (
        b"+OK\r\n$1\r\nv\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    )
    assert client.transport.closed
    assert server.stats.protocol_violations_total == 1


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"Host: evil\r\n"])
async def test_a_browser_is_cut_off_at_once(
    service: FakeService, client: MemoryClient, line: bytes
) -> None:
    client.send_bytes(line + b"SET k v\r\n")
    assert await client.raw() == b""
    assert client.transport.aborted
    assert service.written == 0


# --- limits ---------------------------------------------------------------------------------------


async def test_a_full_pipeline_is_not_read_until_half_of_it_is_answered(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") * PIPELINE_COMMANDS_MAX)
    assert not client.transport.is_reading
    await rest()
    for _ in range(PIPELINE_COMMANDS_MAX // 2 - 1):
        service.answer()
    await rest()
    assert not client.transport.is_reading
    service.answer()
    await rest()
    assert client.transport.is_reading


async def test_a_reader_that_reads_slowly_is_not_read_either(
    service: FakeService, client: MemoryClient
) -> None:
    await client.call("SET", "k", b"x" * OUTPUT_BYTES_HIGH)
    client.transport.takes = False
    client.send("PING")
    await rest()
    assert client.transport.is_reading
    client.send("GET", "k")
    await rest()
    assert not client.transport.is_reading
    client.transport.take_all()
    assert client.transport.is_reading


async def test_a_backlog_waits_while_its_replies_are_not_taken(
    service: FakeService, client: MemoryClient
) -> None:
    await client.call("SET", "k", b"x" * OUTPUT_BYTES_HIGH)
    client.transport.takes = False
    client.send_bytes((encode("GET", "k") + encode("SET", "other", "v")) * 10)
    await rest()
    assert service.read == 1
    client.transport.take_all()
    await rest(100)
    assert service.read == 10


async def test_a_reader_that_never_reads_is_closed(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    await let_many_reads_begin(client)
    service.hold()
    client.transport.takes = False
    client.send_bytes(encode("GET", "k") * 20)
    for pending in service.held:
        pending.complete(b"x" * VALUE_BYTES_MAX)
        await rest(2)
    assert client.transport.aborted
    assert server.stats.connections_closed_total == {"output": 1}
    assert server.pending_bytes == 0


async def test_ten_megabytes_of_pipeline_cost_no_more_than_the_limits_if_nobody_reads(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    await client.call("SET", "k", b"x" * 64 * KIB)
    client.transport.takes = False
    get = encode("GET", "k")
    chunk, left = get * 2000, 10 * MIB
    while left > 0 and client.transport.is_reading:
        client.send_bytes(chunk)
        left -= len(chunk)
        await rest(10)
    await rest(100)
    assert not client.transport.is_reading
    assert left > 9 * MIB
    assert client.connection.outbox.unwritten_bytes + server.pending_bytes < 2 * OUTPUT_BYTES_MAX
    assert not client.transport.aborted


async def test_dripped_bytes_make_the_same_conversation(service: FakeService) -> None:
    server = serve(service, password=b"secret")
    client = MemoryClient(server)
    stream = encode("SET", "k", "v") + b'AUTH "sec\\x72et"\r\n' + encode("SET", "k", "v")
    for byte in stream + encode("GET", "k"):
        client.send_bytes(bytes([byte]))
        assert server.ledger.unfinished < 64 + 3 * ARGUMENT_OVERHEAD_BYTES
    refused, *replies = await client.replies()
    assert str(refused).startswith("NOAUTH")
    assert replies == [b"OK", b"OK", b"v"]


async def test_reads_are_begun_as_their_replies_fit(
    service: FakeService, client: MemoryClient
) -> None:
    await client.call("SET", "large", b"x" * MIB)
    client.send_bytes(encode("GET", "large") * 80)
    await rest(100)
    assert len(await client.raw()) == 80 * len(b"$%d\r\n\r\n" % MIB) + 80 * MIB


async def let_many_reads_begin(client: MemoryClient) -> None:
    """Pipeline small reads until the connection has learned that replies are small."""
    client.send_bytes(encode("GET", "none") * 500)
    assert await client.replies() == [None] * 500


async def test_small_replies_open_the_way_for_many_reads(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("GET", "k") * 500)
    assert len(service.held) == server.reads_min == 4
    service.release()
    await client.replies()
    await let_many_reads_begin(client)
    service.hold()
    client.send_bytes(encode("GET", "k") * 500)
    assert len(service.held) > 100


async def test_replies_that_come_larger_than_ever_are_refused_and_not_held(
    service: FakeService, client: MemoryClient
) -> None:
    await let_many_reads_begin(client)
    service.hold()
    client.send_bytes(encode("GET", "k") * 20)
    value = b"x" * VALUE_BYTES_MAX
    for pending in service.held:
        pending.complete(value)
    replies = await client.replies()
    held = OUTPUT_BYTES_MAX // VALUE_BYTES_MAX - 1
    assert replies[:held] == [value] * held
    assert {str(reply).split()[0] for reply in replies[held:]} == {"BUSY"}
    assert len(replies) == 20


async def test_a_write_whose_reply_is_too_large_is_unknown(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v", "GET") * 9)
    for pending in service.held:
        pending.complete(b"x" * VALUE_BYTES_MAX)
    *_, last = await client.replies()
    assert str(last).startswith("UNKNOWN the command was run")


async def test_of_too_many_slow_readers_the_slowest_is_closed(server: RespServer) -> None:
    server.keep_within(replace(server.budget, replies_bytes_max=3 * MIB, reply_bytes_max=MIB))
    slow, slower, quick = (MemoryClient(server) for _ in range(3))
    for client, replies in ((slow, 2), (quick, 4), (slower, 3)):
        client.transport.takes = client is quick
        for _ in range(replies):
            client.send("ECHO", b"x" * (MIB * 4 // 5))
            await rest()
    assert slower.transport.aborted
    assert not slow.transport.aborted
    assert not quick.transport.aborted


async def test_one_reply_over_the_limit_becomes_an_error(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send("MGET", *["k"] * 9)
    service.held.pop().complete([b"x" * VALUE_BYTES_MAX] * 9)
    assert await client.raw() == b"-ERR reply is larger than %d bytes\r\n" % OUTPUT_BYTES_MAX
    assert not client.transport.closed


async def test_one_client_too_many_is_told_so(service: FakeService) -> None:
    server = serve(service, clients_max=2)
    clients = [MemoryClient(server) for _ in range(3)]
    assert await clients[2].raw() == b"-ERR max number of clients reached\r\n"
    assert clients[2].transport.closed
    assert len(server.clients) == 2
    assert not clients[2].is_served
    assert server.stats.connections_rejected_total == {"clients": 1}
    clients[0].transport.close()
    await rest()
    assert await MemoryClient(server).call("PING") == b"PONG"


async def test_one_connection_too_many_of_an_address_is_told_so(service: FakeService) -> None:
    server = serve(service, connections_per_peer_max=2)
    clients = [MemoryClient(server) for _ in range(3)]
    refusal = b"-ERR max number of connections from this address reached\r\n"
    assert await clients[2].raw() == refusal
    assert clients[2].transport.closed
    assert await MemoryClient(server, ("10.0.0.9", 1)).call("PING") == b"PONG"
    assert await MemoryClient(server, "").call("PING") == b"PONG"
    clients[0].transport.close()
    await rest()
    assert await MemoryClient(server).call("PING") == b"PONG"
    assert server.stats.connections_rejected_total == {"peer": 1}
    assert "rejected_connections:1" in (await clients[1].call("INFO", "stats")).decode()


async def test_an_address_that_is_refused_again_and_again_is_not_answered(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(service, connections_per_peer_max=1)
    server.doorstep.door = Door(lambda: 7.0)
    assert MemoryClient(server).is_served
    with caplog.at_level("WARNING", logger="kvnode.resp"):
        crowd = [MemoryClient(server) for _ in range(100)]
    answered = [each for each in crowd if each.transport.writes]
    assert len(answered) == REFUSALS_ANSWERED_PER_SECOND_MAX
    assert all(each.transport.aborted for each in crowd if each not in answered)
    assert [record.getMessage() for record in caplog.records] == ["connections refused"]
    assert server.stats.connections_rejected_total == {"peer": 100}
    assert len(server.clients) == 1


async def test_connections_per_address_can_be_set(server: RespServer, client: MemoryClient) -> None:
    name = "max-connections-per-peer"
    assert await client.call("CONFIG", "GET", name) == [name.encode(), b"1024"]
    assert await client.call("CONFIG", "SET", name, 1) == b"OK"
    assert not MemoryClient(server).is_served
    assert await client.call("CONFIG", "SET", name, 0) == b"OK"
    assert all(MemoryClient(server).is_served for _ in range(2_000))


def test_spellings_of_command_names_are_remembered_within_a_limit() -> None:
    before = len(SPELLINGS)
    name = "flushall"
    for number in range(2 ** len(name)):
        bits = [number >> at & 1 for at in range(len(name))]
        spelling = "".join(
            letter.upper() if bit else letter for letter, bit in zip(name, bits, strict=True)
        )
        assert look_up([spelling.encode()]).name == name
    assert before < len(SPELLINGS) <= SPELLING_KEYS_MAX


# --- leaving --------------------------------------------------------------------------------------


async def test_a_drain_waits_for_what_was_asked(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") + encode("GET", "k"))
    server.loop.call_soon(service.release)
    await server.drain(60)
    assert await client.raw() == b"+OK\r\n$1\r\nv\r\n"
    assert client.transport.closed


async def test_a_drain_of_idle_clients_ends_at_once(
    server: RespServer, client: MemoryClient
) -> None:
    await server.drain(60)
    assert client.transport.closed


async def test_a_drain_tells_unknown_from_not_done(
    service: FakeService, server: RespServer
) -> None:
    service.hold()
    writer, reader = MemoryClient(server), MemoryClient(server)
    writer.send_bytes(encode("SET", "k", "v") + encode("GET", "k"))
    reader.send("GET", "k")
    await server.drain(0)
    assert [str(reply).split()[0] for reply in await writer.replies()] == ["UNKNOWN", "BUSY"]
    assert [str(reply).split()[0] for reply in await reader.replies()] == ["BUSY"]
    service.answer_all()
    await rest()
    assert server.pending_bytes == 0
    assert writer.transport.closed
