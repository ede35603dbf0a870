"""What operators do: WAIT, snapshots, stops, pauses, kills, slow logs, stale reads, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvnode.limits import SLOW_LOG_RECORDS_PER_SECOND_MAX
from kvnode.resp.commands.refused import REFUSED
from kvnode.resp.commands.table import COMMANDS
from kvnode.resp.listener import RespServer
from kvnode.resp.slow import SlowLog
from kvnode.service import LogDiskStatus
from kvnode.store.reply import OK
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, rest, serve


def info_fields(text: bytes) -> dict[str, str]:
    lines = [line for line in text.decode().split("\r\n") if ":" in line]
    return dict(line.split(":", 1) for line in lines)


# --- WAIT -----------------------------------------------------------------------------------------


async def test_wait_counts_the_voters_that_have_everything_at_once(
    service: FakeService, client: MemoryClient
) -> None:
    service.matches = [7, 7, 6]
    assert await client.call("WAIT", 2, 0) == 2
    assert await client.call("WAIT", 0, 0) == 2


async def test_wait_ends_when_enough_voters_have_followed(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.matches = [6, 6]
    client.send("WAIT", 2, 0)
    client.send("PING")
    assert await client.replies() == []
    assert info_fields(await MemoryClient(server).call("INFO", "clients"))["blocked_clients"] == "1"
    service.matches = [7, 9]
    while not client.transport.writes:
        await asyncio.sleep(0.001)
    assert await client.replies() == [2, b"PONG"]


async def test_wait_tells_what_it_has_when_the_time_is_over(
    service: FakeService, client: MemoryClient
) -> None:
    service.matches = [7, 6]
    client.send("WAIT", 2, 1)
    while not client.transport.writes:
        await asyncio.sleep(0.001)
    assert await client.replies() == [1]


async def test_wait_counts_only_after_the_writes_before_it(
    service: FakeService, client: MemoryClient
) -> None:
    service.matches = [0]
    service.hold()
    client.send_bytes(encode("SET", "k", "v") + encode("WAIT", 0, 0))
    service.matches = [9]
    service.release()
    assert await client.replies() == [b"OK", 1]


async def test_wait_never_waits_inside_a_transaction(
    service: FakeService, client: MemoryClient
) -> None:
    for line in ("MULTI", "SET k v", "WAIT 9 0", "DEBUG SLEEP 100"):
        await client.call(*line.split())
    assert await client.call("EXEC") == [b"OK", 0, b"OK"]


@pytest.mark.parametrize(("reason", "answer"), [("TIMEOUT", "0"), ("ERROR", "UNBLOCKED")])
async def test_a_waiting_client_can_be_unblocked(
    server: RespServer, client: MemoryClient, reason: str, answer: str
) -> None:
    client.send("WAIT", 2, 0)
    other = MemoryClient(server)
    assert await other.call("CLIENT", "UNBLOCK", 1, reason) == 1
    (reply,) = await client.replies()
    assert str(reply).split()[0] == answer
    assert await other.call("CLIENT", "UNBLOCK", 1) == 0


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    client.send("WAIT", 2, 0)
    assert server.pending_bytes > 0
    blocked = client.connection.blocked
    client.transport.close()
    await rest()
    assert server.pending_bytes == 0
    assert client.connection.blocked is None
    assert not service.coverage_waits
    assert blocked is not None
    blocked.finish(7)  # late news changes nothing
    assert server.pending_bytes == 0


async def test_a_drain_does_not_wait_for_those_who_wait(
    server: RespServer, client: MemoryClient
) -> None:
    client.send("WAIT", 2, 0)
    await server.drain(60)
    assert await client.raw() == b":0\r\n"


async def test_debug_sleep_holds_up_nobody_else(server: RespServer, client: MemoryClient) -> None:
    client.send("DEBUG", "SLEEP", 1000)
    client.send("PING")
    assert await MemoryClient(server).call("PING") == b"PONG"
    assert await client.replies() == []
    assert client.connection.blocked is not None
    client.connection.blocked.expire()
    assert await client.replies() == [b"OK", b"PONG"]


# --- snapshots and stops --------------------------------------------------------------------------


async def test_save_is_answered_when_the_snapshot_is_durable(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    client.send("SAVE")
    assert await client.replies() == []
    other = MemoryClient(server)
    assert str(await other.call("SAVE")) == "ERR Background save already in progress"
    assert str(await other.call("BGSAVE")) == "ERR Background save already in progress"
    service.snapshots.pop()(None)
    assert await client.replies() == [b"OK"]


async def test_a_save_that_failed_says_why(service: FakeService, client: MemoryClient) -> None:
    client.send("SAVE")
    service.snapshots.pop()("no space left on the device")
    assert str((await client.replies())[0]) == "ERR no space left on the device"


async def test_bgsave_and_lastsave(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    assert await client.call("LASTSAVE") == server.started_at_s
    assert await client.call("BGSAVE", "SCHEDULE") == b"Background saving started"
    fields = info_fields(await client.call("INFO", "persistence"))
    assert fields["rdb_bgsave_in_progress"] == "1"
    service.saved_at_s = 1_700_000_000
    assert await client.call("LASTSAVE") == 1_700_000_000


async def test_info_tells_of_a_slow_and_of_a_full_log_disk(
    service: FakeService, client: MemoryClient
) -> None:
    fields = info_fields(await client.call("INFO", "persistence"))
    assert (fields["aof_delayed_fsync"], fields["aof_last_write_status"]) == ("0", "ok")
    service.log_disk = LogDiskStatus(is_full=True, is_slow=True, slow_syncs=3, wait_ms=700)
    fields = info_fields(await client.call("INFO", "persistence"))
    assert (fields["aof_delayed_fsync"], fields["aof_last_write_status"]) == ("3", "err")
    assert (fields["wal_slow"], fields["wal_sync_wait_ms"]) == ("1", "700")


async def test_shutdown_asks_for_a_stop_and_answers_nothing(service: FakeService) -> None:
    asked: list[bool] = []
    client = MemoryClient(serve(service, service, lambda: asked.append(True)))
    assert str(await client.call("SHUTDOWN", "ABORT")) == "ERR No shutdown in progress."
    assert str(await client.call("SHUTDOWN", "SAVE", "NOSAVE")) == "ERR syntax error"
    assert not asked
    client.send_bytes(encode("SHUTDOWN", "NOSAVE") + encode("SET", "k", "v"))
    assert await client.raw() == b""
    assert asked == [True]
    assert service.written == 0


@pytest.mark.parametrize("line", ["WAIT 0 0", "SAVE", "BGSAVE", "LASTSAVE", "READONLY", "SHUTDOWN"])
async def test_a_node_without_controls_refuses_clearly(service: FakeService, line: str) -> None:
    client = MemoryClient(serve(service))
    assert str(await client.call(*line.split())) == "ERR this node cannot do that yet"
    assert "role" in info_fields(await client.call("INFO", "everything"))


@pytest.mark.parametrize("line", ["SAVE", "SHUTDOWN"])
async def test_what_cannot_be_in_a_transaction_dooms_it(client: MemoryClient, line: str) -> None:
    await client.call("MULTI")
    assert str(await client.call(line)) == "ERR Command not allowed inside a transaction"
    assert str(await client.call("EXEC")).startswith("EXECABORT")


async def test_role_tells_who_leads(service: FakeService, client: MemoryClient) -> None:
    assert await client.call("ROLE") == [b"master", 7, [[b"127.0.0.1", b"6380", b"6"]]]
    service.role = "follower"
    assert await client.call("ROLE") == [b"slave", b"127.0.0.1", 6380, b"connected", 7]


# --- stale reads ----------------------------------------------------------------------------------


async def test_reads_are_stale_only_where_readonly_was_said(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    assert await client.call("READONLY") == b"OK"
    await client.call("GET", "k")
    await other.call("GET", "k")
    assert (service.read, service.read_stale) == (2, 1)
    await client.call("READWRITE")
    await client.call("GET", "k")
    assert service.read_stale == 1
    await client.call("READONLY")
    await client.call("RESET")
    await client.call("GET", "k")
    assert service.read_stale == 1


async def test_a_stale_read_sees_the_writes_of_its_own_connection(
    service: FakeService, client: MemoryClient
) -> None:
    await client.call("READONLY")
    service.hold()
    client.send_bytes(encode("SET", "k", "v") + encode("GET", "k"))
    assert service.read_stale == 0
    service.release()
    assert await client.replies() == [b"OK", b"v"]


async def test_watch_is_never_stale(service: FakeService, client: MemoryClient) -> None:
    await client.call("READONLY")
    await client.call("WATCH", "k")
    assert service.read_stale == 0


# --- CLIENT PAUSE ---------------------------------------------------------------------------------


async def test_a_pause_of_writes_holds_writes_and_lets_reads_go_on(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    assert await client.call("CLIENT", "PAUSE", 60_000, "WRITE") == b"OK"
    assert await other.call("GET", "k") is None
    other.send("SET", "k", "v")
    late = MemoryClient(server)
    for line in ("MULTI", "GET k"):
        await late.call(*line.split())
    assert await late.call("EXEC") == [None]
    late.send("DEL", "k")
    assert await other.replies() == []
    assert service.written == 1  # the EXEC that only reads
    assert await client.call("CLIENT", "UNPAUSE") == b"OK"
    assert await other.replies() == [b"OK"]
    assert (await late.replies())[0] in (0, 1)


async def test_a_transaction_that_writes_waits_for_the_end_of_the_pause(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    await client.call("MULTI")
    await client.call("SET", "k", "v")
    other = MemoryClient(server)
    await other.call("CLIENT", "PAUSE", 60_000, "WRITE")
    client.send("EXEC")
    assert await client.replies() == []
    server.unpause()
    assert await client.replies() == [[b"OK"]]


async def test_a_pause_of_all_holds_everything_but_its_own_end(
    server: RespServer, client: MemoryClient
) -> None:
    await client.call("CLIENT", "PAUSE", 60_000)
    await client.call("CLIENT", "UNPAUSE")
    await client.call("CLIENT", "PAUSE", 60_000)
    client.send("PING")
    assert await client.replies() == []
    assert await MemoryClient(server).call("CLIENT", "UNPAUSE") == b"OK"
    assert await client.replies() == [b"PONG"]


async def test_a_pause_ends_by_itself_and_a_second_one_only_extends_it(
    server: RespServer, client: MemoryClient
) -> None:
    await client.call("CLIENT", "PAUSE", 60_000, "WRITE")
    server.pause_commands(0.001, only_writes=False)
    assert server.pause is not None
    assert server.pause.seconds_left > 50
    assert not server.pause.only_writes
    server.unpause()
    await client.call("CLIENT", "PAUSE", 1)
    client.send("PING")
    while not client.transport.writes[2:]:
        await asyncio.sleep(0.001)
    assert (await client.replies())[-1] == b"PONG"
    assert server.pause is None


# --- CLIENT REPLY ---------------------------------------------------------------------------------


async def test_reply_off_answers_nothing_until_reply_on(
    service: FakeService, client: MemoryClient
) -> None:
    for line in ("CLIENT REPLY OFF", "SET k v", "PING", "GET k", "NOSUCH", "INCR k", "SET"):
        client.send(*line.split())
        await rest()
    assert await client.raw() == b""
    assert service.written == 2
    assert await client.call("CLIENT", "REPLY", "ON") == b"OK"
    assert await client.call("GET", "k") == b"v"


async def test_a_pipeline_with_reply_off_keeps_its_order(client: MemoryClient) -> None:
    lines = ("GET a", "CLIENT REPLY OFF", "SET a 1", "GET a", "CLIENT REPLY ON", "GET a")
    client.send_bytes(b"".join(encode(*line.split()) for line in lines))
    assert await client.replies() == [None, b"OK", b"1"]


@pytest.mark.parametrize(
    "line", ["SET k v", "PING", "NOSUCH", "SET", "EXEC", "WATCH k", "WAIT 0 0"]
)
async def test_reply_skip_leaves_out_exactly_one_reply(client: MemoryClient, line: str) -> None:
    client.send_bytes(encode("CLIENT", "REPLY", "SKIP") + encode(*line.split()) + encode("PING"))
    assert await client.replies() == [b"PONG"]


async def test_reply_skip_waits_with_its_command(
    service: FakeService, client: MemoryClient
) -> None:
    service.hold()
    lines = ("SET k v", "CLIENT REPLY SKIP", "GET k", "GET k")
    client.send_bytes(b"".join(encode(*line.split()) for line in lines))
    service.release()
    assert await client.replies() == [b"OK", b"v"]


async def test_muted_errors_are_counted(server: RespServer, client: MemoryClient) -> None:
    await client.call("SET", "k", "v")
    client.send_bytes(encode("CLIENT", "REPLY", "OFF") + encode("INCR", "k") + encode("NOSUCH"))
    await rest()
    assert server.stats.errors == {"ERR": 2}
    assert server.stats.tally("incr").failed == 1


async def test_many_muted_commands_hold_no_output(server: RespServer, client: MemoryClient) -> None:
    client.transport.takes = False
    client.send("CLIENT", "REPLY", "OFF")
    client.send_bytes(encode("GET", "k") * 2000)
    await rest(200)
    assert client.connection.outbox.unwritten_bytes == 0
    assert server.pending_bytes == 0


async def test_reset_answers_again(client: MemoryClient) -> None:
    client.send("CLIENT", "REPLY", "OFF")
    assert await client.call("RESET") == b"RESET"


# --- CLIENT KILL and idle clients -----------------------------------------------------------------


async def test_kill_by_filters_spares_the_one_that_asks(
    server: RespServer, client: MemoryClient
) -> None:
    others = [MemoryClient(server) for _ in range(3)]
    assert await client.call("CLIENT", "KILL", "ID", 2, "TYPE", "pubsub") == 0
    assert await client.call("CLIENT", "KILL", "ID", 2) == 1
    assert [each.transport.aborted for each in others] == [True, False, False]
    assert await client.call("CLIENT", "KILL", "ADDR", "10.0.0.1:4711", "USER", "default") == 2
    assert not client.transport.closed
    assert await client.call("CLIENT", "KILL", "ID", 1, "SKIPME", "no") == 1
    assert client.transport.closed


async def test_kill_by_address_alone(server: RespServer, client: MemoryClient) -> None:
    assert str(await client.call("CLIENT", "KILL", "1.2.3.4:5")) == "ERR No such client"
    assert await client.call("CLIENT", "KILL", "10.0.0.1:4711") == b"OK"
    assert client.transport.closed


async def test_idle_clients_are_closed_only_if_a_timeout_is_set(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    busy, waiting = MemoryClient(server), MemoryClient(server)
    waiting.send("WAIT", 9, 0)
    server.clients.close_idle(server.settings.idle_seconds_max)
    await client.call("CONFIG", "SET", "timeout", 30)
    server.clients.close_idle(server.settings.idle_seconds_max)
    assert not client.transport.closed
    for each in (client, waiting):
        each.connection.last_heard_ns -= 31 * 10**9
    server.clients.close_idle(server.settings.idle_seconds_max)
    assert client.transport.closed
    assert not busy.transport.closed
    assert not waiting.transport.closed
    assert server.stats.connections_closed_total == {"idle": 1}


# --- time -----------------------------------------------------------------------------------------


async def test_the_slow_log_keeps_the_newest_and_shows_the_newest_first(
    client: MemoryClient,
) -> None:
    await client.call("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 3)
    await client.call("SLOWLOG", "RESET")
    for number in range(5):
        await client.call("GET", f"k{number}")
    entries = await client.call("SLOWLOG", "GET", -1)
    assert [entry[3] for entry in entries] == [[b"GET", b"k%d" % n] for n in (4, 3, 2)]
    assert entries[0][0] == entries[1][0] + 1
    assert entries[0][4] == b"10.0.0.1:4711"
    assert len(await client.call("SLOWLOG", "GET", 1)) == 1
    assert await client.call("SLOWLOG", "LEN") == 3


async def test_the_slow_log_leaves_out_writes_secrets_and_long_arguments(
    client: MemoryClient,
) -> None:
    await client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
    await client.call("SLOWLOG", "RESET")
    await client.call("SET", "k", "v")
    await client.call("AUTH", "default", "secret")
    await client.call("HELLO", 2, "AUTH", "default", "secret", "SETNAME", "me")
    await client.call("MGET", *["x" * 200] * 40)
    mget, hello, auth, _ = (entry[3] for entry in await client.call("SLOWLOG", "GET"))
    assert auth == [b"AUTH", b"(redacted)", b"(redacted)"]
    assert hello == [b"HELLO", b"2", b"AUTH", b"(redacted)", b"(redacted)", b"SETNAME", b"me"]
    assert len(mget) == 32
    assert mget[1] == b"x" * 128 + b"... (72 more bytes)"
    assert mget[31] == b"... (10 more arguments)"


def test_an_overloaded_node_notes_only_so_many_slow_commands_a_second() -> None:
    log = SlowLog()
    assert all(log.admits(7) for _ in range(SLOW_LOG_RECORDS_PER_SECOND_MAX))
    assert not log.admits(7)
    assert log.admits(8)


async def test_nothing_is_slow_when_the_slow_log_is_off(client: MemoryClient) -> None:
    await client.call("CONFIG", "SET", "slowlog-log-slower-than", -1)
    await client.call("GET", "k")
    assert await client.call("SLOWLOG", "LEN") == 0


async def test_latency_events_are_seen_from_the_threshold_on(
    server: RespServer, client: MemoryClient
) -> None:
    assert b"off" in await client.call("LATENCY", "DOCTOR")
    await client.call("CONFIG", "SET", "latency-monitor-threshold", 100)
    command, arguments = COMMANDS["get"], [b"GET", b"k"]
    server.note_slow(client.connection, command, arguments, 99_000_000)
    assert await client.call("LATENCY", "LATEST") == []
    server.note_slow(client.connection, COMMANDS["scan"], arguments, 150_000_000)
    server.note_slow(client.connection, command, arguments, 200_000_000)
    server.note_slow(client.connection, command, arguments, 120_000_000)
    latest = {name: worst for name, _, _, worst in await client.call("LATENCY", "LATEST")}
    assert latest == {b"command": 150, b"fast-command": 200}
    assert b"200 ms" in await client.call("LATENCY", "DOCTOR")
    assert await client.call("LATENCY", "RESET", "command", "nosuch") == 1
    assert await client.call("LATENCY", "RESET") == 1


async def test_every_answered_command_is_in_its_histogram(
    server: RespServer, client: MemoryClient
) -> None:
    for _ in range(3):
        await client.call("GET", "k")
    await client.call("CLIENT", "ID")
    flat = await client.call("LATENCY", "HISTOGRAM", "get", "client", "nosuch")
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    assert set(found) == {b"client|id", b"get"}
    assert found[b"get"][1] == 3
    assert found[b"get"][3][-1] == 3
    assert sum(server.stats.tally("get").buckets) == 3


async def test_calls_are_counted_inside_transactions_too(
    server: RespServer, client: MemoryClient
) -> None:
    for line in ("MULTI", "INCR n", "INCR n", "PING", "EXEC", "WATCH n", "INCR n", "MULTI",
                 "INCR n", "EXEC"):  # fmt: skip
        await client.call(*line.split())
    calls = server.stats.calls_by_name()
    assert (calls["incr"], calls["ping"], calls["exec"]) == (3, 1, 2)


async def test_hits_and_misses_are_those_of_keys(client: MemoryClient) -> None:
    await client.call("SET", "k", "v", "PX", 100_000)
    lines = ("GET k", "GET x", "MGET k x y", "EXISTS k k x", "TTL k", "PTTL x", "SET x y NX GET")
    for line in lines:
        await client.call(*line.split())
    fields = info_fields(await client.call("INFO", "stats"))
    assert (fields["keyspace_hits"], fields["keyspace_misses"]) == ("5", "5")


async def test_rates_follow_the_totals(server: RespServer, client: MemoryClient) -> None:
    server.rate.sample(0, 10.0)
    server.rate.sample(50, 10.5)
    assert info_fields(await client.call("INFO", "stats"))["instantaneous_ops_per_sec"] == "100"
    server.rate.sample(0, 11.0)  # CONFIG RESETSTAT
    assert server.rate.per_second == 50


# --- the rest -------------------------------------------------------------------------------------


async def test_memory_usage_is_null_for_no_key(client: MemoryClient) -> None:
    await client.call("SET", "k", "x" * 1000)
    assert 1000 < await client.call("MEMORY", "USAGE", "k", "SAMPLES", 0) < 1200
    assert await client.call("MEMORY", "USAGE", "none") is None
    for line in ("MULTI", "MEMORY USAGE none"):
        await client.call(*line.split())
    assert await client.call("EXEC") == [None]


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_what_will_never_be_there_says_why(client: MemoryClient, name: str) -> None:
    reply = str(await client.call(*name.upper().split("|"), "a", "b", "c"))
    assert reply.startswith("ERR ")
    assert len(reply.split()) > 8
    parent, _, child = name.partition("|")
    command = COMMANDS.get(parent)
    assert command is None or child.encode() not in command.subcommands


@pytest.mark.parametrize("name", [name for name, row in COMMANDS.items() if row.subcommands])
async def test_every_container_has_help(client: MemoryClient, name: str) -> None:
    lines: list[Any] = await client.call(name, "HELP")
    assert lines[0].startswith(name.upper().encode())
    assert b"HELP" in lines


async def test_command_list_filters(client: MemoryClient) -> None:
    found = await client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "client|u*")
    assert set(found) == {b"client|unblock", b"client|unpause"}
    writes = await client.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "write")
    assert b"set" in writes
    assert b"get" not in writes
    assert await client.call("COMMAND", "LIST", "FILTERBY", "MODULE", "json") == []


@pytest.mark.parametrize(
    "line", ["SLOWLOG GET 1 x", "CLIENT UNBLOCK 1 TIMEOUT x", "CLIENT PAUSE 1 ALL x"]
)
async def test_arguments_too_many_are_told_with_the_subcommand_as_it_was_spelled(
    client: MemoryClient, line: str
) -> None:
    name, subcommand, *rest = line.split()
    for spelled in (subcommand, subcommand.lower()):
        assert str(await client.call(name, spelled, *rest)) == (
            f"ERR unknown subcommand or wrong number of arguments for '{spelled}'. Try {name} HELP."
        )


async def test_options_of_client_tracking_are_judged_even_if_it_is_off(
    client: MemoryClient,
) -> None:
    own = str(await client.call("CLIENT", "ID"))

    async def tracking(*options: str) -> str:
        return plain(await client.call("CLIENT", "TRACKING", *options))

    def plain(reply: object) -> str:
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    assert await tracking("OFF", "BCAST", "prefix", "a", "PREFIX", "b", "NOLOOP") == "OK"
    assert await tracking("OFF", "REDIRECT", own) == "OK"
    for options in (["OFF", "x"], ["OFF", "PREFIX"], ["ON", "x"], ["foo"]):
        assert await tracking(*options) == "ERR syntax error"
    assert "single other client" in await tracking("OFF", "REDIRECT", own, "REDIRECT", own)
    assert "does not exist" in await tracking("OFF", "REDIRECT", "99")
    assert "not an integer" in await tracking("OFF", "REDIRECT", "x")
    assert "client-side caching is not available" in await tracking("ON")


async def test_command_getkeys_knows_subcommands(client: MemoryClient) -> None:
    assert await client.call("COMMAND", "GETKEYS", "MEMORY", "USAGE", "k") == [b"k"]


async def test_an_unwanted_result_is_dropped_when_the_muted_client_is_gone(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("CLIENT", "REPLY", "OFF") + encode("SET", "k", "v"))
    client.transport.close()
    await rest()
    service.held.pop().complete(OK)
    assert server.pending_bytes == 0
