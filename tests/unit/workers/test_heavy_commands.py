"""Heavy commands of clients of a whole node: by way of the workers, and nobody can tell."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvnode.admission.ladder import Rung
from kvnode.limits import HEAVY_COMMANDS_PER_WORKER_MAX
from kvnode.node.control import NodeControl
from kvnode.node.node import Node
from kvnode.resp.config import RespConfig
from kvnode.resp.encoder import RESP2
from kvnode.resp.listener import RespServer
from kvnode.resp.reading import HEAVY
from kvnode.store import ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.workers.pool import WorkerPool
from tests.support.nodes import Cluster, cluster_of, read, until, write
from tests.support.reads import READS, SIZE, call_of, fill

SECONDS_MAX = 60


class Client:
    """A client on a real socket that sees the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._parser = hiredis.Reader(notEnoughData=Ellipsis)

    def send(self, *words: bytes) -> None:
        parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(each), each) for each in words)]
        self.writer.write(b"".join(parts))

    async def receive(self) -> tuple[Any, bytes]:
        """The next reply, and its bytes if nothing came with it."""
        chunks: list[bytes] = []
        while (reply := self._parser.gets()) is Ellipsis:
            data = await asyncio.wait_for(self._reader.read(1 << 20), SECONDS_MAX)
            assert data, "closed"
            chunks.append(data)
            self._parser.feed(data)
        return reply, b"".join(chunks)

    async def call(self, text: str) -> Any:
        self.send(*text.encode().split())
        return (await self.receive())[0]

    async def raw(self, words: list[bytes]) -> bytes:
        self.send(*words)
        return (await self.receive())[1]


class Site:
    """A node, its front end and its workers."""

    def __init__(self, cluster: Cluster, node: Node, server: RespServer, pool: WorkerPool) -> None:
        self.cluster = cluster
        self.node = node
        self.server = server
        self.pool = pool
        self.clients: list[Client] = []

    async def client(self) -> Client:
        where = self.server.host, self.server.port
        self.clients.append(Client(*await asyncio.open_connection(*where, limit=1 << 24)))
        return self.clients[-1]

    async def close(self) -> None:
        for client in self.clients:
            client.writer.close()
            await asyncio.gather(client.writer.wait_closed(), return_exceptions=True)
        self.server.close()
        await until(lambda: not self.server.clients)

    async def fill(self) -> None:
        written: list[ops.Op] = []
        fill(written.append)
        await asyncio.gather(*(write(self.node, *op) for op in written))

    def freeze(self) -> int:
        """The one worker stands still."""
        (pid,) = self.pool.pids()
        os.kill(pid, signal.SIGSTOP)
        return pid


@asynccontextmanager
async def site(path: Path) -> AsyncIterator[Site]:
    async with cluster_of(1, path) as cluster:
        node = await cluster.leader()
        loop = asyncio.get_running_loop()
        pool = WorkerPool(
            node.heavy, loop, size=1, hash_key=node.machine.hash_key, ledger=node.ledger
        )
        node.heavy.employ(pool)
        config = RespConfig(node="n1", version="0", port=0)
        server = RespServer(node, config, control=NodeControl(node), ledger=node.ledger)
        await server.start("127.0.0.1", 0)
        here = Site(cluster, node, server, pool)
        try:
            yield here
        finally:
            await here.close()
    assert pool.pids() == ()


async def test_every_heavy_command_answers_the_same_bytes_as_the_loop(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        for protocol in (2, 3):
            client = await here.client()
            await client.call(f"HELLO {protocol}")
            for calls in READS.values():
                for call in calls:
                    command, op = call_of(call.arguments)
                    promoted = sum(here.pool.stats.promoted.values())
                    reply = await client.raw(call.arguments)
                    render = command.renders[protocol - RESP2]
                    if "rand" not in command.name:  # these draw a seed with each request
                        assert reply == render(here.node.machine.read(op)), call.text[:60]
                    by_worker = sum(here.pool.stats.promoted.values()) - promoted
                    assert by_worker == call.heavy, call.text[:60]
        assert here.node.read_failures.count == 0
        assert here.server.stats.errors_total == 0
        assert here.node.ledger.workers == here.node.ledger.requests == 0


async def test_a_heavy_read_sees_every_write_acknowledged_before_it(tmp_path: Path) -> None:
    """Also what another connection wrote, while others write on and the engine is mostly open."""
    async with site(tmp_path) as here:
        await here.fill()
        writer, reader, other = [await here.client() for _ in range(3)]
        for number in range(20):
            assert await writer.call(f"SADD set new{number}") == 1
            other.send(b"SET", b"noise", b"%d" % number)
            members = await reader.call("SMEMBERS set")
            assert b"new%d" % number in members
            assert len(members) == SIZE + number + 1
            assert (await other.receive())[0] == b"OK"
        assert here.pool.stats.promoted["smembers"] == 20


async def test_replies_keep_their_order_around_heavy_commands(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        client.send(b"HLEN", b"hash")
        client.send(b"HKEYS", b"hash")
        client.send(b"GET", b"key1")
        client.send(b"HDEL", b"hash", b"field1")
        client.send(b"HKEYS", b"hash")
        replies = [(await client.receive())[0] for _ in range(5)]
        assert [replies[0], replies[2], replies[3]] == [SIZE + 1, b"value1", 1]
        assert (len(replies[1]), len(replies[4])) == (SIZE + 1, SIZE)


async def test_others_are_served_while_heavy_commands_wait_and_run(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        heavy, other = await here.client(), await here.client()
        await heavy.call("HGETALL hash")
        pid = here.freeze()
        heavy.send(b"HGETALL", b"hash")
        await until(lambda: here.pool.running == 1)
        assert await other.call("SET k v") == b"OK"
        assert await other.call("GET k") == b"v"
        os.kill(pid, signal.SIGCONT)
        assert len((await heavy.receive())[0]) == 2 * (SIZE + 1)


async def test_a_client_that_was_refused_is_not_read_for_a_while(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        first = await here.client()
        await first.call("HGETALL hash")
        pid = here.freeze()
        others = [await here.client() for _ in range(1 + HEAVY_COMMANDS_PER_WORKER_MAX // 2)]
        for other in others:
            other.send(b"HGETALL", b"hash")
        await until(lambda: here.pool.waiting == HEAVY_COMMANDS_PER_WORKER_MAX // 2)
        first.send(b"HGETALL", b"hash")
        refusal = str((await first.receive())[0])
        assert refusal.startswith("BUSY overloaded retry_ms=")
        (held,) = [each for each in here.server.clients.values() if each.reading.reasons & HEAVY]
        first.send(b"PING")
        assert (await first.receive())[0] == b"PONG"
        assert not held.reading.reasons, "it was read again, but not before its time"
        os.kill(pid, signal.SIGCONT)
        for other in others:
            assert len((await other.receive())[0]) == 2 * (SIZE + 1)


async def test_clients_that_want_no_reply_or_stale_ones_go_to_the_workers_too(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        assert await client.call("READONLY") == b"OK"
        assert len(await client.call("SMEMBERS set")) == SIZE
        client.send(b"CLIENT", b"REPLY", b"OFF")
        client.send(b"SMEMBERS", b"set")
        client.send(b"CLIENT", b"REPLY", b"ON")
        assert (await client.receive())[0] == b"OK"
        assert here.pool.stats.promoted["smembers"] == 2


async def test_a_blocked_client_that_finds_much_has_it_from_a_worker_and_holds_no_place(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        here_now = await client.raw(b"XREAD BLOCK 0 STREAMS stream 0".split())
        command, op = call_of(b"XREAD STREAMS stream 0".split())
        assert here_now == command.renders[0](here.node.machine.read(op))
        assert here.pool.stats.promoted["xread"] == 1
        client.send(*b"XREAD BLOCK 0 STREAMS stream $".split())
        await until(lambda: here.server.clients.blocked == 1)
        assert here.pool.is_idle
        other = await here.client()
        await other.call("XADD stream 999999-1 a b")
        assert (await client.receive())[0][0][1] == [[b"999999-1", [b"a", b"b"]]]


async def test_on_a_rung_of_the_ladder_heavy_commands_are_refused_and_small_ones_are_not(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        here.node.pressure.change(Rung.SHED)
        assert str(await client.call("HGETALL hash")).startswith("BUSY overloaded retry_ms=")
        assert len(await client.call("HGETALL small")) == 4
        here.node.pressure.change(Rung.CALM)
        assert len(await client.call("HGETALL hash")) == 2 * (SIZE + 1)


async def test_after_an_engine_took_the_place_of_another_workers_read_the_new_one(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        assert len(await client.call("SMEMBERS set")) == SIZE
        before, (pid,) = here.node.heavy.directory, here.pool.pids()
        # As if a snapshot of this state had been installed.
        here.node.applier.commit()
        other = LmdbEngine(tmp_path / "new", map_bytes=1 << 28)
        other.append(here.node.machine.engine.rows(b"", b"\xff"))
        other.commit()
        here.node._switch_engine(other)
        shutil.rmtree(before)
        assert len(await client.call("SMEMBERS set")) == SIZE
        assert here.node.heavy.directory == str(tmp_path / "new")
        assert here.pool.pids() == (pid,), "the same worker"
        opened = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert any(each.startswith(str(tmp_path / "new")) for each in opened)
        assert not any(each.startswith(before) for each in opened)


async def test_a_peer_that_ran_too_many_lately_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        asked: list[str] = []

        def admits(peer: str) -> bool:
            asked.append(peer)
            return len(asked) == 1

        here.node.heavy.admits = admits
        assert len(await client.call("SMEMBERS set")) == SIZE
        assert str(await client.call("SMEMBERS set")).startswith("BUSY overloaded retry_ms=")
        assert len(await client.call("HGETALL small")) == 4
        assert asked == ["127.0.0.1"] * 2


async def test_a_node_that_stops_leaves_no_worker(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.fill()
        client = await here.client()
        await client.call("HGETALL hash")
        pid = here.freeze()
        client.send(b"HGETALL", b"hash")
        await until(lambda: here.pool.running == 1)
        await here.cluster.stop(1)
        assert str((await client.receive())[0]).startswith("BUSY the node is stopping")
        assert here.pool.pids() == ()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_reads_of_the_node_itself_run_here(tmp_path: Path) -> None:
    """Whoever cannot take a reply that is written elsewhere gets the result."""
    async with site(tmp_path) as here:
        await here.fill()
        members = await read(here.node, ops.SMEMBERS, 0, b"set")
        assert isinstance(members, list)
        assert len(members) == SIZE
        assert not here.pool.stats.promoted
