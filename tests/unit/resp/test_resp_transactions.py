"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: one op in the log, and every way not to get there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvnode.errors import Refused
from kvnode.limits import COMMAND_BYTES_MAX, KIB, VALUE_BYTES_MAX
from kvnode.resp.listener import RespServer
from kvnode.store import ops
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest

EXECABORT = "EXECABORT Transaction discarded because of previous errors."


async def run(client: MemoryClient, *lines: str) -> list[Any]:
    """Send all lines in one chunk."""
    client.send_bytes(b"".join([encode(*line.split()) for line in lines]))
    return await client.replies()


async def test_a_transaction_is_one_op(service: FakeService, client: MemoryClient) -> None:
    service.hold()
    assert await run(client, "MULTI", "SET k 1", "GET k", "EXEC") == [b"OK", b"QUEUED", b"QUEUED"]
    (pending,) = service.held
    assert pending.op == [
        ops.EXEC,
        0,
        [],
        [[ops.SET, 0, b"k", b"1"], [ops.GET, 0, b"k"]],
    ]
    service.release()
    assert await client.replies() == [[b"OK", b"1"]]


async def test_an_error_at_run_time_leaves_the_other_commands_standing(
    client: MemoryClient,
) -> None:
    results = (await run(client, "MULTI", "SET k x", "INCR k", "GET k", "EXEC"))[-1]
    assert results[0] == b"OK"
    assert str(results[1]) == "ERR value is not an integer or out of range"
    assert results[2] == b"x"


@pytest.mark.parametrize("bad", ["SET k v EX x", "MSET a b c", "INCRBY k x", "GET " + "k" * 70_000])
async def test_an_error_of_grammar_is_one_of_the_results(client: MemoryClient, bad: str) -> None:
    alone = await client.call(*bad.split())
    *_, results = await run(client, "MULTI", "SET k 1", bad, "APPEND k 2", "EXEC")
    assert [results[0], str(results[1]), results[2]] == [b"OK", str(alone), 2]
    assert (await run(client, "MULTI", bad, "EXEC"))[-1][0].args == alone.args


@pytest.mark.parametrize("bad", ["FOO", "GET", "OBJECT FOO", "OBJECT ENCODING"])
async def test_an_error_at_queue_time_dooms_the_exec(
    service: FakeService, client: MemoryClient, bad: str
) -> None:
    *_, aborted = await run(client, "MULTI", "SET k 1", bad, "SET k 2", "EXEC")
    assert str(aborted) == EXECABORT
    assert service.written == 0
    assert await client.call("GET", "k") is None


@pytest.mark.parametrize("behind", ["HELLO 3", "RESET"])
async def test_what_follows_an_exec_does_not_change_the_protocol_of_its_reply(
    client: MemoryClient, behind: str
) -> None:
    """A null is `$-1` in RESP2 and `_` in RESP3, and so is an EXEC that was aborted."""
    first = "HELLO 3" if behind == "RESET" else "HELLO 2"
    await client.call(*first.split())
    lines = ["MULTI", "GET absent", "EXEC", behind]
    client.send_bytes(b"".join([encode(*line.split()) for line in lines]))
    null = b"_" if behind == "RESET" else b"$-1"
    assert b"*1\r\n%b\r\n" % null in await client.raw()


async def test_a_hello_inside_a_transaction_changes_what_comes_behind_it(
    client: MemoryClient,
) -> None:
    lines = ["MULTI", "GET absent", "HELLO 3", "GET absent", "EXEC"]
    client.send_bytes(b"".join([encode(*line.split()) for line in lines]))
    reply = await client.raw()
    assert b"*3\r\n$-1\r\n%" in reply
    assert reply.endswith(b"_\r\n")


async def test_an_exec_with_arguments_discards_the_transaction(
    service: FakeService, client: MemoryClient
) -> None:
    """Found by the differential machine: it used to doom the queue and go on queueing."""
    *_, refused, after = await run(client, "MULTI", "SET k 1", "EXEC x", "EXEC")
    assert str(refused).startswith("EXECABORT Transaction discarded because of: wrong number")
    assert str(after) == "ERR EXEC without MULTI"
    assert service.written == 0


async def test_a_value_over_the_limit_dooms_the_exec(
    service: FakeService, client: MemoryClient
) -> None:
    client.send("MULTI")
    client.send("SET", "k", b"x" * (VALUE_BYTES_MAX + 1))
    client.send("EXEC")
    assert str((await client.replies())[-1]) == EXECABORT
    assert service.written == 0


async def test_a_transaction_over_the_limit_is_refused(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    client.send("MULTI")
    for _ in range(COMMAND_BYTES_MAX // VALUE_BYTES_MAX + 1):
        client.send("SET", "k", b"x" * VALUE_BYTES_MAX)
    client.send("EXEC")
    *_, refused, aborted = await client.replies()
    assert str(refused) == f"ERR MULTI is larger than {COMMAND_BYTES_MAX} bytes"
    assert str(aborted) == EXECABORT
    assert server.ledger.unfinished == 0


async def test_discard_forgets_the_queue_and_the_watches(
    service: FakeService, client: MemoryClient
) -> None:
    await run(client, "WATCH k", "MULTI", "SET k 1", "DISCARD", "SET k 2")
    assert (await run(client, "MULTI", "GET k", "EXEC"))[-1] == [b"2"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["EXEC"], "ERR EXEC without MULTI"),
        (["DISCARD"], "ERR DISCARD without MULTI"),
        (["MULTI", "MULTI"], "ERR MULTI calls can not be nested"),
        (["MULTI", "WATCH k"], "ERR WATCH inside MULTI is not allowed"),
    ],
)
async def test_a_command_out_of_place_is_refused(
    client: MemoryClient, lines: list[str], text: str
) -> None:
    assert str((await run(client, *lines))[-1]) == text


async def test_a_nested_multi_does_not_doom_the_exec(client: MemoryClient) -> None:
    assert (await run(client, "MULTI", "MULTI", "SET k 1", "EXEC"))[-1] == [b"OK"]


async def test_local_commands_answer_in_their_places(client: MemoryClient) -> None:
    *_, results, pong = await run(
        client, "MULTI", "SET k 1", "PING", "INCR k", "ECHO x", "SELECT 99", "EXEC", "PING"
    )
    assert results[:4] == [b"OK", b"PONG", 2, b"x"]
    assert str(results[4]) == "ERR DB index is out of range"
    assert pong == b"PONG"


async def test_a_transaction_of_local_commands_needs_no_log(
    service: FakeService, client: MemoryClient
) -> None:
    replies = await run(client, "MULTI", "PING", "EXEC", "MULTI", "EXEC")
    assert replies == [b"OK", b"QUEUED", [b"PONG"], b"OK", []]
    assert service.written == 0


async def test_select_inside_a_transaction_holds_for_what_follows(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(
        b"".join(
            encode(*line.split())
            for line in ("MULTI", "SET k 0", "SELECT 1", "SET k 1", "EXEC", "SET k 11")
        )
    )
    (pending,) = service.held
    assert [op[1] for op in pending.op[3]] == [0, 1]
    service.answer()
    await rest()
    assert service.held[0].op[1] == 1


async def test_select_inside_a_discarded_transaction_is_forgotten(client: MemoryClient) -> None:
    await run(client, "MULTI", "SELECT 1", "DISCARD", "SET k zero")
    assert await run(client, "SELECT 0", "GET k") == [b"OK", b"zero"]


async def test_hello_inside_a_transaction_changes_what_comes_after_it(
    client: MemoryClient,
) -> None:
    client.send_bytes(
        encode("MULTI")
        + encode("GET", "no")
        + encode("HELLO", 3)
        + encode("GET", "no")
        + encode("EXEC")
        + encode("GET", "no")
    )
    raw = await client.raw()
    assert b"*3\r\n$-1\r\n%7\r\n" in raw
    assert raw.endswith(b"_\r\n_\r\n")


# --- WATCH ----------------------------------------------------------------------------------------


async def test_a_watched_key_that_changed_aborts_the_exec(
    server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    assert await run(client, "WATCH k other", "MULTI", "SET k 1") == [b"OK", b"OK", b"QUEUED"]
    assert await other.call("SET", "k", "theirs") == b"OK"
    assert await client.call_raw("EXEC") == b"*-1\r\n"
    assert await client.call("GET", "k") == b"theirs"


async def test_an_aborted_exec_is_a_plain_null_in_resp3(
    server: RespServer, client: MemoryClient
) -> None:
    await client.call("HELLO", 3)
    await run(client, "WATCH k", "SET k 1", "MULTI", "GET k")
    assert await client.call_raw("EXEC") == b"_\r\n"


async def test_watches_that_hold_let_the_exec_pass(client: MemoryClient) -> None:
    await run(client, "SET k 1")
    assert (await run(client, "WATCH k absent", "GET k", "MULTI", "INCR k", "EXEC"))[-1] == [2]


async def test_unwatch_and_exec_end_the_watch(client: MemoryClient) -> None:
    assert (await run(client, "WATCH k", "SET k 1", "UNWATCH", "MULTI", "GET k", "EXEC"))[-1] == [
        b"1"
    ]
    await run(client, "WATCH k", "EXEC refused", "SET k 1")  # even where there was no MULTI
    assert (await run(client, "MULTI", "GET k", "EXEC"))[-1] == [b"1"]
    await run(client, "WATCH k", "MULTI", "EXEC", "SET k 2")
    assert (await run(client, "MULTI", "GET k", "EXEC"))[-1] == [b"2"]


async def test_a_watch_looks_at_the_database_selected_then(
    server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    await run(client, "WATCH k", "SELECT 1", "MULTI", "GET k")
    await other.call("SET", "k", "in database 0")
    assert (await run(client, "EXEC"))[-1] is None


async def test_an_aborted_exec_with_local_commands_does_not_run_them(
    client: MemoryClient,
) -> None:
    await run(client, "WATCH k", "SET k zero", "MULTI", "SELECT 1", "GET k")
    assert await run(client, "EXEC", "GET k") == [None, b"zero"]


async def test_nothing_overtakes_a_watch(service: FakeService, client: MemoryClient) -> None:
    service.hold()
    client.send_bytes(b"".join(encode(*line.split()) for line in ("WATCH a b", "MULTI", "EXEC")))
    await rest()
    assert [pending.op for pending in service.held] == [
        [ops.VERSION, 0, b"a"],
        [ops.VERSION, 0, b"b"],
    ]
    service.answer(1)
    await rest()
    assert await client.replies() == []
    service.answer()
    assert await client.replies() == [b"OK", b"OK"]
    code, _, watches, queued = service.held[0].op
    assert (code, queued) == (ops.EXEC_WATCHED, [])
    assert [watch[:2] for watch in watches] == [[0, b"b"], [0, b"a"]]


async def test_a_watch_that_failed_can_only_abort(
    service: FakeService, client: MemoryClient
) -> None:
    service.refuse = Refused("BUSY no leader")
    assert str(await client.call("WATCH", "k")) == "BUSY no leader"
    service.refuse = None
    assert (await run(client, "MULTI", "SET k 1", "EXEC"))[-1] is None


async def test_an_exec_the_node_refused_is_an_error_and_ends_the_transaction(
    service: FakeService, client: MemoryClient
) -> None:
    await run(client, "MULTI", "SET k 1", "PING")
    service.refuse = Refused("BUSY no leader")
    assert str(await client.call("EXEC")) == "BUSY no leader"
    service.refuse = None
    assert await client.call("GET", "k") is None


async def test_a_transaction_larger_than_a_command_may_be_is_aborted(
    server: RespServer, client: MemoryClient
) -> None:
    server.keep_within(replace(server.budget, command_bytes_max=KIB))
    await client.call("MULTI")
    assert await client.call("SET", "k", b"x" * 600) == b"QUEUED"
    refused = await client.call("SET", "k", b"x" * 600)
    assert str(refused) == "ERR MULTI is larger than 1024 bytes"
    assert str(await client.call("EXEC")).startswith("EXECABORT")
    assert await client.call("GET", "k") is None
    assert server.ledger.unfinished == 0
