"""CLIENT LIST tells what the ledger knows."""

from __future__ import annotations

import pytest

from kvnode.limits import CLIENT_BYTES, MIB
from kvnode.resp.listener import RespServer
from kvnode.resp.request import REQUEST_OVERHEAD_BYTES, memory_of
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, encode


async def listed(client: MemoryClient) -> dict[int, dict[str, int]]:
    """The memory fields of all clients, by id."""
    lines = (await client.call("CLIENT", "LIST")).decode().splitlines()
    told = [dict(field.split("=", 1) for field in line.split()) for line in lines]
    names = ("qbuf", "argv-mem", "multi-mem", "omem", "tot-mem")
    return {int(line["id"]): {name: int(line[name]) for name in names} for line in told}


def total(lines: dict[int, dict[str, int]]) -> int:
    """All that clients hold besides their connections."""
    return sum(line["tot-mem"] - CLIENT_BYTES for line in lines.values())


async def test_each_kind_of_bytes_stands_in_its_field_and_the_sum_is_the_ledger(
    service: FakeService, server: RespServer, client: MemoryClient
) -> None:
    begun, writing, queuing, slow = [MemoryClient(server) for _ in range(4)]
    slow.transport.takes = False
    assert await client.call("SET", "large", "x" * MIB) == b"OK"
    slow.send("GET", "large")
    await slow.raw()
    service.hold()
    begun.send_bytes(encode("SET", "k", "x" * 1000)[:900])
    writing.send("SET", "k", "y" * 500)
    queuing.send_bytes(encode("MULTI") + encode("SET", "k", "z" * 300) * 2)
    await queuing.raw()
    lines = await listed(client)
    of = {each: lines[each.connection.id] for each in (client, begun, writing, queuing, slow)}
    assert of[client] == {
        "qbuf": 0,
        "argv-mem": 0,
        "multi-mem": 0,
        "omem": 0,
        "tot-mem": CLIENT_BYTES,
    }
    assert 800 < of[begun]["qbuf"] < 1000
    assert of[writing]["argv-mem"] == memory_of([b"SET", b"k", b"z" * 500], len("SETk") + 500)
    assert of[queuing]["multi-mem"] == 2 * memory_of([b"SET", b"k", b"z" * 300], len("SETk") + 300)
    assert of[queuing]["qbuf"] == 0
    assert of[slow]["omem"] > MIB
    assert total(lines) == server.pending_bytes
    memory = (await client.call("INFO", "memory")).decode()
    assert f"mem_clients_normal:{total(lines) + 5 * CLIENT_BYTES}\r\n" in memory
    service.release()
    await writing.raw()
    left = of[begun]["qbuf"] + of[queuing]["multi-mem"] + of[slow]["omem"]
    assert total(await listed(client)) == left


async def test_what_is_queued_from_a_backlog_is_counted_as_it_goes(
    service: FakeService,
    server: RespServer,
    client: MemoryClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvnode.resp.backlog.PASS_SLICE_NS", -1)
    monkeypatch.setattr("kvnode.resp.dispatch.PASS_SLICE_NS", -1)
    queuing = MemoryClient(server)
    queuing.send_bytes(encode("MULTI") + encode("SET", "k", "z" * 300) * 200)
    before = total(await listed(client))
    for _ in range(5):
        lines = await listed(client)
        assert total(lines) == server.pending_bytes
        assert before - 20 * REQUEST_OVERHEAD_BYTES < total(lines) <= before
    assert lines[queuing.connection.id]["multi-mem"] > 0
