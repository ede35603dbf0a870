"""What commands are charged with, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.admission.costs import estimate_ns
from kvnode.limits import COST_SAMPLE_COMMANDS
from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode

MANY = 10 * COST_SAMPLE_COMMANDS


def named(server: RespServer, kind: str) -> list[Any]:
    """The items of one list of the report, costliest first."""
    report = server.costs.report()
    return [line[kind.removesuffix("s")] for line in report[kind]]


async def test_a_sample_stands_for_all_commands_of_its_name(
    server: RespServer, client: MemoryClient
) -> None:
    client.send_bytes(encode("SET", "k", "x" * 1000) * MANY)
    await client.replies()
    each = estimate_ns(3, len("SET") + len("k") + 1000 + len("+OK\r\n"))
    assert server.costs.peers.total == pytest.approx(MANY * each)
    assert named(server, "peers") == ["10.0.0.1"]
    assert named(server, "commands") == ["set"]
    assert named(server, "keys") == ["0:k"]


async def test_replies_count_and_the_database_is_told(
    server: RespServer, client: MemoryClient
) -> None:
    other = MemoryClient(server, ("10.0.0.2", 1))
    await client.call("SELECT", 3)
    await client.call("SET", "large", "x" * 100_000)
    for _ in range(COST_SAMPLE_COMMANDS):
        await client.call("GET", "large")
    for _ in range(COST_SAMPLE_COMMANDS):
        await other.call("GET", "small")
    assert named(server, "peers") == ["10.0.0.1", "10.0.0.2"]
    assert named(server, "keys") == ["3:large", "0:small"]


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("EVAL", "return 1"), None),
        (("BITOP", "AND", "to", "from"), "0:to"),
        (("XREAD", "STREAMS", "s", "0"), "0:s"),
        (("SORT_RO", "list", "BY", "nosort"), "0:list"),
        (("DBSIZE",), None),
    ],
)
async def test_the_first_key_of_a_command_is_named(
    server: RespServer, client: MemoryClient, command: tuple[str, ...], key: str | None
) -> None:
    client.send_bytes(encode(*command) * COST_SAMPLE_COMMANDS)
    await client.replies()
    assert named(server, "keys") == ([] if key is None else [key])


async def test_transactions_and_the_muted_are_charged_or_left_out_but_break_nothing(
    server: RespServer, client: MemoryClient
) -> None:
    transaction = encode("MULTI") + encode("SET", "k", "v") + encode("EXEC")
    client.send_bytes(transaction * COST_SAMPLE_COMMANDS * 2)
    assert (await client.replies())[2::3] == [[b"OK"]] * COST_SAMPLE_COMMANDS * 2
    assert named(server, "commands") == ["exec"]
    assert named(server, "keys") == []
    client.send_bytes(encode("CLIENT", "REPLY", "OFF") + encode("SET", "k", "v") * MANY)
    assert await client.raw() == b""


async def test_who_is_gone_is_charged_without_reply(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    service.hold()
    client.send_bytes(encode("SET", "k", "v") * COST_SAMPLE_COMMANDS)
    client.transport.abort()
    await client.raw()
    service.release()
    assert named(server, "peers") == ["10.0.0.1"]
    assert server.pending_bytes == 0


async def test_a_slow_command_of_the_front_end_is_charged_always(
    server: RespServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.resp.dispatch.COSTLY_NS", -1)
    await client.call("CLIENT", "LIST")
    assert named(server, "commands") == ["client|list"]
