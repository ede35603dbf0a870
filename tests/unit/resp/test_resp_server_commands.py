"""Login, HELLO, CLIENT, INFO, CONFIG, COMMAND: the shapes and words that tools read."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.resp.commands.command import LOCAL
from kvnode.resp.commands.table import COMMANDS, ROWS
from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode, serve

NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."


def pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def info(client: MemoryClient, *sections: str) -> dict[str, str]:
    text = (await client.call("INFO", *sections)).decode()
    lines = [line for line in text.split("\r\n") if line and not line.startswith("#")]
    return dict(line.split(":", 1) for line in lines)


# --- login ----------------------------------------------------------------------------------------


@pytest.fixture
async def locked(service: FakeService) -> MemoryClient:
    return MemoryClient(serve(service, password=b"secret"))


@pytest.mark.parametrize("line", ["GET k", "PING", "MULTI", "CLIENT ID", "INFO"])
async def test_nothing_is_done_before_a_login(locked: MemoryClient, line: str) -> None:
    assert str(await locked.call(*line.split())) == NOAUTH


async def test_an_exec_before_a_login_is_refused_in_redis_words(locked: MemoryClient) -> None:
    refused = str(await locked.call("EXEC"))
    assert refused == "EXECABORT Transaction discarded because of: NOAUTH Authentication required."


async def test_a_login_opens_the_connection_at_once(locked: MemoryClient) -> None:
    locked.send_bytes(
        encode("SET", "k", "v")
        + encode("AUTH", "secret")
        + encode("SET", "k", "x" * 20_000)
        + encode("STRLEN", "k")
    )
    refused, *rest = await locked.replies()
    assert str(refused) == NOAUTH
    assert rest == [b"OK", b"OK", 20_000]


@pytest.mark.parametrize(
    "line", ["AUTH wrong", "AUTH default wrong", "AUTH other secret", "HELLO 3 AUTH default wrong"]
)
async def test_a_wrong_login_is_refused(locked: MemoryClient, line: str) -> None:
    assert str(await locked.call(*line.split())) == WRONGPASS
    assert str(await locked.call("GET", "k")) == NOAUTH


async def test_hello_logs_in(locked: MemoryClient) -> None:
    assert str(await locked.call("HELLO", 3)).startswith("NOAUTH HELLO must be called")
    reply = await locked.call("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "me")
    assert reply[b"proto"] == 3
    assert await locked.call("CLIENT", "GETNAME") == b"me"


async def test_reset_logs_out(locked: MemoryClient) -> None:
    await locked.call("AUTH", "secret")
    assert await locked.call("RESET") == b"RESET"
    assert str(await locked.call("GET", "k")) == NOAUTH
    assert (await locked.call_raw(*["x"] * 11)).startswith(b"-ERR Protocol error: unauth")


@pytest.mark.parametrize(
    "stream", [encode(*["x"] * 11), encode("AUTH", "x" * 16_385), b"*1000000\r\n"]
)
async def test_a_stranger_is_closed_before_it_makes_us_buffer(
    locked: MemoryClient, stream: bytes
) -> None:
    locked.send_bytes(stream)
    assert (await locked.raw()).startswith(b"-ERR Protocol error: ")
    assert locked.transport.closed


async def test_auth_without_a_password_says_why(client: MemoryClient) -> None:
    assert str(await client.call("AUTH", "x")) == (
        "ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )
    assert await client.call("AUTH", "default", "anything") == b"OK"


# --- connection -----------------------------------------------------------------------------------


async def test_hello_answers_a_map_in_the_protocol_asked_for(
    service: FakeService, client: MemoryClient
) -> None:
    resp2 = pairs(await client.call("HELLO", 2))
    resp3 = await client.call("HELLO", 3)
    assert isinstance(resp3, dict)
    assert resp3 == {**resp2, b"proto": 3}
    assert list(resp3) == [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"]
    assert (resp3[b"server"], resp3[b"mode"], resp3[b"role"]) == (
        b"redis",
        b"standalone",
        b"master",
    )
    service.role = "follower"
    assert (await client.call("HELLO"))[b"role"] == b"replica"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'"),
        ("SELECT 16", "ERR DB index is out of range"),
        ("SELECT x", "ERR value is not an integer or out of range"),
        ("PING a b", "ERR wrong number of arguments for 'ping' command"),
        ("CLIENT", "ERR wrong number of arguments for 'client' command"),
        ("CLIENT FOO", "ERR unknown subcommand 'FOO'. Try CLIENT HELP."),
        ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
        ("CLIENT LIST FOO", "ERR syntax error"),
        ("CLIENT SETINFO FOO x", "ERR Unrecognized option 'FOO'"),
        ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
        ("COMMAND GETKEYS PING x", "ERR The command has no key arguments"),
        ("NOSUCH", "ERR unknown command 'NOSUCH', with args beginning with: "),
        ("NOSUCH a b", "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
    ],
)
async def test_errors_are_in_redis_words(client: MemoryClient, line: str, text: str) -> None:
    assert (await client.call_raw(*line.split())).decode() == f"-{text}\r\n"


async def test_an_unknown_command_is_not_repeated_at_length(client: MemoryClient) -> None:
    reply = await client.call_raw("x" * 1000, "y" * 1000, "z" * 1000)
    expected = b"-ERR unknown command '%b', with args beginning with: '%b' \r\n"
    assert reply == expected % (b"x" * 128, b"y" * 128)


async def test_a_name_with_spaces_is_refused(client: MemoryClient) -> None:
    refused = await client.call("CLIENT", "SETNAME", "a b")
    assert str(refused) == "ERR Client names cannot contain spaces, newlines or special characters."
    assert await client.call("CLIENT", "GETNAME") is None
    refused = await client.call("CLIENT", "SETINFO", "lib-name", "a\nb")
    assert str(refused) == "ERR lib-name cannot contain spaces, newlines or special characters."


async def test_client_list_shows_every_client_on_a_line(
    server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server)
    await other.call("CLIENT", "SETINFO", "LIB-NAME", "lib")
    await other.call("CLIENT", "SETNAME", "other")
    await other.call("MULTI")
    await other.call("GET", "k")
    lines = (await client.call("CLIENT", "LIST")).decode().splitlines()
    first, second = (dict(field.split("=", 1) for field in line.split(" ")) for line in lines)
    assert (first["id"], first["cmd"], first["flags"]) == ("1", "client|list", "N")
    assert (second["name"], second["lib-name"], second["multi"]) == ("other", "lib", "1")
    assert second["addr"] == "10.0.0.1:4711"
    only = (await client.call("CLIENT", "LIST", "ID", 2, 99)).decode().splitlines()
    assert len(only) == 1
    assert await client.call("CLIENT", "LIST", "TYPE", "pubsub") == b""


async def test_client_info_is_verbatim_text_in_resp3(client: MemoryClient) -> None:
    await client.call("HELLO", 3)
    raw = await client.call_raw("CLIENT", "INFO")
    assert raw.startswith(b"=")
    assert b"\r\ntxt:id=1 " in raw


async def test_reset_makes_the_connection_as_new(client: MemoryClient) -> None:
    for line in ("HELLO 3", "SELECT 4", "CLIENT SETNAME me", "WATCH k", "MULTI"):
        await client.call(*line.split())
    assert await client.call_raw("RESET") == b"+RESET\r\n"
    assert client.connection.db == 0
    assert client.connection.watches == []
    assert await client.call_raw("CLIENT", "GETNAME") == b"$-1\r\n"
    assert str(await client.call("EXEC")) == "ERR EXEC without MULTI"


# --- INFO -----------------------------------------------------------------------------------------


async def test_info_has_what_libraries_look_for(client: MemoryClient) -> None:
    await client.call("SET", "k", "v")
    fields = await info(client)
    assert fields["redis_version"] == "7.0.15"
    assert fields["redis_mode"] == "standalone"
    assert fields["loading"] == "0"
    assert fields["maxmemory_policy"] == "noeviction"
    assert fields["role"] == "master"
    assert fields["connected_clients"] == "1"
    assert fields["cluster_enabled"] == "0"
    assert fields["raft_term"] == "3"
    assert fields["db0"] == "keys=1,expires=0,avg_ttl=0"
    assert "cmdstat_set" not in fields


async def test_a_follower_names_its_leader(service: FakeService, client: MemoryClient) -> None:
    service.role = "follower"
    fields = await info(client, "replication")
    assert (fields["role"], fields["master_host"], fields["master_port"]) == (
        "slave",
        "127.0.0.1",
        "6380",
    )


async def test_info_shows_the_sections_asked_for(client: MemoryClient) -> None:
    await client.call("GET", "k")
    await client.call("GET")
    assert set(await info(client, "CLUSTER", "nosuch")) == {"cluster_enabled"}
    everything = await info(client, "everything")
    assert everything["cmdstat_get"].startswith("calls=1,")
    assert everything["errorstat_ERR"] == "count=1"


async def test_info_counts_the_keys_that_expired_since_resetstat() -> None:
    now_ms = 1_700_000_000_000
    service = FakeService(wall_ms=lambda: now_ms)
    client = MemoryClient(serve(service))
    await client.call("SET", "k", "v", "PX", "10")
    assert (await info(client, "stats"))["expired_keys"] == "0"
    now_ms += 11
    await client.call("SET", "k", "v", "PX", "10")
    assert (await info(client, "stats"))["expired_keys"] == "1"
    await client.call("CONFIG", "RESETSTAT")
    assert (await info(client, "stats"))["expired_keys"] == "0"
    now_ms += 11
    await client.call("DEL", "k")
    assert (await info(client, "stats"))["expired_keys"] == "1"


async def test_resetstat_resets_the_counters(client: MemoryClient) -> None:
    await client.call("GET", "k")
    assert await client.call("CONFIG", "RESETSTAT") == b"OK"
    assert "cmdstat_get" not in await info(client, "commandstats")


# --- CONFIG ---------------------------------------------------------------------------------------


async def test_config_get_takes_names_and_patterns(client: MemoryClient) -> None:
    found = pairs(await client.call("CONFIG", "GET", "save", "max*", "NOSUCH", "SAVE"))
    assert found == {
        b"save": b"",
        b"max-connections-per-peer": b"1024",
        b"maxclients": b"10000",
        b"maxmemory": b"0",
        b"maxmemory-policy": b"noeviction",
    }
    await client.call("HELLO", 3)
    assert await client.call("CONFIG", "GET", "appendonly") == {b"appendonly": b"yes"}


async def test_the_password_is_never_shown(locked: MemoryClient) -> None:
    await locked.call("AUTH", "secret")
    assert b"secret" not in await locked.call_raw("CONFIG", "GET", "*")


async def test_what_cannot_be_set_is_refused_with_a_sentence(client: MemoryClient) -> None:
    reply = str(await client.call("CONFIG", "SET", "maxmemory", "1"))
    assert reply == (
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - "
        "kvnode takes it from flags, environment or file, and only at start"
    )
    reply = str(await client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"))
    assert "nothing is ever evicted" in reply


async def test_a_setting_may_be_set_to_what_it_is(client: MemoryClient) -> None:
    assert await client.call("CONFIG", "SET", "appendonly", "yes", "save", "") == b"OK"


async def test_config_set_changes_all_or_nothing(server: RespServer, client: MemoryClient) -> None:
    refused = await client.call("CONFIG", "SET", "maxclients", 5, "timeout", "soon")
    assert str(refused).endswith("'timeout') - argument couldn't be parsed into an integer")
    assert server.settings.clients_max == 10_000
    assert await client.call("CONFIG", "SET", "maxclients", 1, "TIMEOUT", 60) == b"OK"
    found = pairs(await client.call("CONFIG", "GET", "maxclients", "timeout"))
    assert found == {b"maxclients": b"1", b"timeout": b"60"}
    assert str(await MemoryClient(server).raw()) == str(b"-ERR max number of clients reached\r\n")


# --- COMMAND --------------------------------------------------------------------------------------


async def test_command_describes_every_command(client: MemoryClient) -> None:
    rows = {row[0].decode(): row for row in await client.call("COMMAND")}
    assert list(rows) == list(COMMANDS)
    assert await client.call("COMMAND", "COUNT") == len(COMMANDS)
    assert rows["get"][:6] == [b"get", 2, [b"readonly", b"fast"], 1, 1, 1]
    assert rows["mset"][3:6] == [1, -1, 2]
    assert next(sub[0] for sub in rows["config"][9]) == b"config|get"


async def test_command_info_and_docs_know_subcommands(client: MemoryClient) -> None:
    found, missing = await client.call("COMMAND", "INFO", "CLIENT|ID", "nosuch")
    assert found[0] == b"client|id"
    assert missing is None
    docs = pairs(await client.call("COMMAND", "DOCS", "get", "nosuch"))
    assert list(docs) == [b"get"]
    assert pairs(docs[b"get"])[b"since"] == b"1.0.0"


async def test_config_get_answers_a_name_as_it_was_spelled_first(client: MemoryClient) -> None:
    found = await client.call("CONFIG", "GET", "DataBases", "databases", "data*")
    assert found == [b"DataBases", b"16"]
    assert await client.call("CONFIG", "GET", "DATABASE*") == [b"databases", b"16"]


@pytest.mark.parametrize("protocol", ["2", "3"])
async def test_command_list_is_an_array_with_subcommands(
    client: MemoryClient, protocol: str
) -> None:
    await client.call("HELLO", protocol)
    assert (await client.call_raw("COMMAND", "LIST"))[:1] == b"*"
    names = await client.call("COMMAND", "LIST")
    assert {b"get", b"client", b"client|id", b"object|help"} <= set(names)
    assert len(names) == len(set(names))


async def test_command_getkeys_of_a_command_without_keys_says_so_whatever_follows(
    client: MemoryClient,
) -> None:
    for line in ("EXEC x", "SELECT 1 2", "CONFIG GET"):
        failed = await client.call("COMMAND", "GETKEYS", *line.split())
        assert str(failed) == "ERR The command has no key arguments"


async def test_command_getkeys_finds_the_keys(client: MemoryClient) -> None:
    assert await client.call("COMMAND", "GETKEYS", "MSET", "a", 1, "b", 2) == [b"a", b"b"]
    assert await client.call("COMMAND", "GETKEYS", "SET", "k", "v", "NX") == [b"k"]


async def test_time_is_the_clusters(service: FakeService) -> None:
    client = MemoryClient(serve(FakeService(wall_ms=lambda: 1_700_000_000_123)))
    assert await client.call("TIME") == [b"1700000000", b"123000"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_row_of_the_table_is_whole(name: str) -> None:
    command = COMMANDS[name]
    assert command.name == name == name.lower()
    assert ROWS[command.index] is command
    assert command.summary.endswith(".")
    assert ("write" in command.flags) + ("readonly" in command.flags) == (command.kind != LOCAL)
    for sub in command.subcommands.values():
        assert sub.name.startswith(f"{name}|")
        assert ROWS[sub.index] is sub
