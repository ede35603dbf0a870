"""The pool: who gets a place, when a read may begin, and what becomes of it if its worker ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from kvnode.admission.budget import AMPLE
from kvnode.admission.ledger import Ledger
from kvnode.errors import CommandError, Overloaded
from kvnode.limits import HEAVY_RETRY_MS_MAX, HEAVY_RETRY_MS_MIN
from kvnode.resp.commands.table import COMMANDS
from kvnode.resp.encoder import RESP2
from kvnode.service import READ_STOPPING, Op, RenderedPending, Rendering
from kvnode.store import ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.store.reply import Result
from kvnode.workers.pool import WorkerPool
from kvnode.workers.worker import ENDED
from tests.unit.store.driver import HASH_KEY, Driver

MEMBERS = [ops.SMEMBERS, 0, b"s"]


class Read(RenderedPending):
    """A heavy read whose answer can be awaited."""

    def __init__(self, op: Op = MEMBERS, peer: str = "here", command: str = "smembers") -> None:
        self.op = op
        self.size = 1
        self.peer = peer
        self.command = command
        self.wanted = True
        self.charged: list[float] = []
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    @property
    def rendering(self) -> Rendering:
        return Rendering(self.command, RESP2, self.peer)

    @property
    def is_wanted(self) -> bool:
        return self.wanted

    def complete(self, result: Result) -> None:
        self.answer.set_result(result)

    def complete_rendered(self, reply: bytes, missed: int, found: int) -> None:
        self.answer.set_result(reply)

    def charge(self, seconds: float) -> None:
        self.charged.append(seconds)


class Node:
    """A store on disk, as the pool sees it."""

    def __init__(self, path: Path) -> None:
        self.engine = LmdbEngine(path, map_bytes=1 << 28)
        self.driver = Driver(self.engine)
        self.path = path
        self.released = 0
        self.commits = 0
        self.commits_at_once = True
        self.failures: list[tuple[int, str]] = []
        self.pool: WorkerPool

    @property
    def directory(self) -> str:
        return str(self.path)

    @property
    def committed(self) -> int:
        return self.driver.machine.committed

    def want_commit(self) -> None:
        self.commits += 1
        if self.commits_at_once:
            asyncio.get_running_loop().call_soon(self.commit)

    def commit(self) -> None:
        self.driver.machine.commit()
        self.pool.pump()

    def release_stale_readers(self) -> None:
        self.released += 1
        self.engine.release_stale_readers()

    def read_failed(self, code: int, traceback: str) -> None:
        self.failures.append((code, traceback))

    def submit(self, read: Read) -> Read:
        self.pool.submit(read, read.rendering, self.driver.machine.applied)
        return read


@asynccontextmanager
async def serving(
    path: Path, *, size: int = 1, places: int = 16, seconds_max: float = 30
) -> AsyncIterator[Node]:
    node = Node(path)
    node.driver.do(ops.SADD, 0, b"s", b"one")
    node.pool = WorkerPool(
        node,
        asyncio.get_running_loop(),
        size=size,
        hash_key=HASH_KEY,
        ledger=Ledger(AMPLE),
        queue_per_worker=places,
        seconds_max=seconds_max,
    )
    yield node
    node.pool.close()
    assert node.pool.ledger.workers == 0
    assert node.pool.pids() == ()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def freeze(node: Node) -> int:
    """The worker does not go on; whatever it is given takes for ever."""
    (pid,) = node.pool.pids()
    os.kill(pid, signal.SIGSTOP)
    return pid


async def warm(node: Node) -> None:
    """A worker runs."""
    assert await node.submit(Read()).answer == b"*1\r\n$3\r\none\r\n"


async def test_no_process_is_started_before_there_is_a_heavy_read(tmp_path: Path) -> None:
    async with serving(tmp_path, size=2) as node:
        assert node.pool.pids() == ()
        await warm(node)
        assert len(node.pool.pids()) == 1


async def test_a_read_sees_all_that_was_applied_before_it_while_commits_go_on(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as node:
        for number in range(30):
            node.driver.do(ops.SADD, 0, b"s", b"member%d" % number)
            read = node.submit(Read())
            node.driver.do(ops.SADD, 0, b"other", b"x%d" % number)
            reply = await read.answer
            assert isinstance(reply, bytes)
            assert b"member%d\r\n" % number in reply
        assert 0 < node.commits <= 31


async def test_a_read_does_not_begin_before_the_engine_has_committed_what_it_must_see(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        node.commits_at_once = False
        node.driver.do(ops.SADD, 0, b"s", b"two")
        read = node.submit(Read())
        assert (node.pool.waiting, node.pool.running) == (1, 0)
        node.commit()
        reply = await read.answer
        assert isinstance(reply, bytes)
        assert b"two" in reply


async def test_a_read_is_charged_with_the_time_of_its_worker(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        read = node.submit(Read())
        await read.answer
        assert len(read.charged) == 1
        assert read.charged[0] > 0


async def test_one_more_than_there_are_places_for_is_refused_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, places=4) as node:
        await warm(node)
        pid = freeze(node)
        running = node.submit(Read())
        waiting = [node.submit(Read(peer=peer)) for peer in "aabb"]
        assert (node.pool.running, node.pool.waiting) == (1, 4)
        refused = node.submit(Read(peer="c")).answer.result()
        assert isinstance(refused, Overloaded)
        assert refused.text == f"BUSY overloaded retry_ms={refused.retry_ms}"
        assert HEAVY_RETRY_MS_MIN <= refused.retry_ms <= HEAVY_RETRY_MS_MAX
        assert node.pool.stats.refused == 1
        os.kill(pid, signal.SIGCONT)
        for read in (running, *waiting):
            assert isinstance(await read.answer, bytes)


async def test_one_peer_has_half_of_the_places_and_takes_turns_with_others(tmp_path: Path) -> None:
    async with serving(tmp_path, places=8) as node:
        await warm(node)
        pid = freeze(node)
        node.submit(Read(peer="greedy"))
        order: list[str] = []
        greedy = [node.submit(Read(peer="greedy")) for _ in range(5)]
        polite = [node.submit(Read(peer=peer)) for peer in ("p1", "p2")]
        assert isinstance(greedy[4].answer.result(), Overloaded)
        for read in (*greedy[:4], *polite):
            read.answer.add_done_callback(lambda _, peer=read.peer: order.append(peer))
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*(read.answer for read in (*greedy[:4], *polite)))
        assert order == ["greedy", "p1", "p2", "greedy", "greedy", "greedy"]


async def test_a_worker_that_is_killed_costs_one_command_and_another_takes_its_place(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        pid = freeze(node)
        lost, waiting = node.submit(Read()), node.submit(Read())
        os.kill(pid, signal.SIGKILL)
        assert await lost.answer is ENDED
        assert await waiting.answer == b"*1\r\n$3\r\none\r\n"
        assert node.pool.stats.restarts == 1
        assert pid not in node.pool.pids()
        await until(lambda: node.released == 1)


async def test_what_a_killed_worker_held_of_the_engine_is_released(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        freeze(node)
        node.submit(Read())
        (pid,) = node.pool.pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: node.released == 1)
        assert node.engine.release_stale_readers() == 0


async def test_a_read_that_takes_too_long_is_ended_with_its_worker(tmp_path: Path) -> None:
    async with serving(tmp_path, seconds_max=0.2) as node:
        await warm(node)
        pid = freeze(node)
        result = await node.submit(Read()).answer
        assert isinstance(result, CommandError)
        assert result.text == "ERR the command was ended after 0.2 seconds"
        await warm(node)
        assert pid not in node.pool.pids()


async def test_an_engine_that_was_replaced_is_opened_by_the_next_job(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as node:
        await warm(node)
        other = LmdbEngine(tmp_path / "2", map_bytes=1 << 28)
        node.driver = Driver(other)
        node.driver.do(ops.SADD, 0, b"s", b"new")
        node.path = tmp_path / "2"
        node.pool.engine_replaced()
        node.driver.machine.commit()
        assert await node.submit(Read()).answer == b"*1\r\n$3\r\nnew\r\n"


async def test_a_job_whose_engine_goes_under_its_feet_is_done_on_the_new_one(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "1") as node:
        await warm(node)
        pid = freeze(node)
        good = node.path
        node.path = tmp_path / "gone"
        read = node.submit(Read())
        node.path = good
        os.kill(pid, signal.SIGCONT)
        assert await read.answer == b"*1\r\n$3\r\none\r\n"


async def test_a_bug_in_a_read_is_told_to_the_node_with_its_traceback(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        result = await node.submit(Read([ops.HGETALL, 0, b"s"], command="hgetall")).answer
        assert isinstance(result, CommandError)
        assert result.text == "ERR internal error"
        ((code, traceback),) = node.failures
        assert code == ops.HGETALL
        assert "Traceback" in traceback


async def test_nobody_works_for_a_client_that_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        pid = freeze(node)
        node.submit(Read())
        gone, here = node.submit(Read()), node.submit(Read())
        gone.wanted = False
        os.kill(pid, signal.SIGCONT)
        assert isinstance(await here.answer, bytes)
        assert await gone.answer is None


async def test_a_large_reply_arrives_whole_and_nil_as_nil(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        for number in range(8):
            node.driver.do(ops.HSET, 0, b"h", b"f%d" % number, bytes([number]) * 700_000)
        op = [ops.HGETALL, 0, b"h", 3]
        reply = await node.submit(Read(op, command="hgetall")).answer
        here = node.driver.machine.read(op)
        assert bytes(cast("memoryview", reply)) == COMMANDS["hgetall"].renders[0](here)
        nothing = [ops.XREAD, 0, 0, b"stream", bytes(16)]
        assert await node.submit(Read(nothing, command="xread")).answer is None


async def test_under_pressure_idle_workers_go_and_come_back_when_they_are_needed(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        node.pool.shed(running=False)
        assert node.pool.pids() == ()
        await warm(node)
        assert node.pool.stats.restarts == 0


async def test_under_more_pressure_all_workers_go_and_who_waits_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        freeze(node)
        reads = [node.submit(Read()) for _ in range(3)]
        node.pool.shed(running=False)
        assert (node.pool.running, node.pool.waiting) == (1, 2)
        node.pool.shed(running=True)
        assert all(isinstance(read.answer.result(), Overloaded) for read in reads)
        assert node.pool.pids() == ()
        assert node.pool.stats.refused == 3
        await warm(node)


async def test_closing_answers_all_and_leaves_no_process(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        await warm(node)
        pid = freeze(node)
        reads = [node.submit(Read()) for _ in range(3)]
        node.pool.close()
        assert [read.answer.result() for read in reads] == [READ_STOPPING] * 3
        assert node.submit(Read()).answer.result() is READ_STOPPING
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_worker_that_cannot_start_is_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    async with serving(tmp_path) as node:
        read = node.submit(Read())
        for restarts in (1, 2):
            await until(lambda: node.pool.stats.restarts == restarts)  # noqa: B023 - at once
            assert (node.pool.pids(), node.pool.waiting) == ((), 1)
        monkeypatch.undo()
        assert await read.answer == b"*1\r\n$3\r\none\r\n"
