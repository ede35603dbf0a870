"""Whole nodes in one event loop, over real sockets and a real log: the parts fit together."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import lmdb
import pytest

from kvnode.admission.ladder import Rung
from kvnode.errors import CommandError, DiskFailed, DiskFull, Overloaded
from kvnode.node import snapshot_library
from kvnode.node.node import Node
from kvnode.store import ops
from kvnode.store.engine import EngineFull
from kvnode.store.engine_directory import create_engine
from kvnode.store.keyspace import Database, Keyspace
from kvnode.store.redis.table import READS
from kvnode.store.redis.write_weights import WRITE_WEIGHTS
from kvnode.store.reply import OK, Result
from kvnode.store.state_machine import StateMachine
from tests.support.nodes import cluster_of, read, until, write


async def test_one_node_alone_serves_writes_and_reads(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        assert await write(node, ops.SET, 0, b"k", b"v") == OK
        assert await read(node, ops.GET, 0, b"k") == b"v"


async def test_a_write_through_any_node_is_read_through_every_node(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        await cluster.leader()
        for number, node in cluster.nodes.items():
            assert await write(node, ops.SET, 0, b"k", b"%d" % number) == OK
            for other in cluster.nodes.values():
                assert await read(other, ops.GET, 0, b"k") == b"%d" % number


async def test_counters_lose_and_double_nothing_when_the_leader_goes(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        others = [node for node in cluster.nodes.values() if node is not leader]
        increments = [
            asyncio.create_task(write(others[i % 2], ops.INCRBY, 0, b"n", 1)) for i in range(200)
        ]
        await increments[0]
        await cluster.stop(leader.identity.node_id)
        results = await asyncio.gather(*increments)
        assert sorted(results) == list(range(1, 201))
        new_leader = await cluster.leader()
        assert await read(new_leader, ops.GET, 0, b"n") == b"200"


async def test_a_restarted_node_catches_up_to_the_same_state(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await cluster.stop(number)
        for i in range(50):
            await write(leader, ops.SET, 0, b"k%d" % i, b"v")
        node = await cluster.start(number)
        assert await read(node, ops.DBSIZE, 0) == 50
        index, own = node.applier.hash_at(None) or (0, "")
        assert (index, own) == leader.applier.hash_at(index)


async def test_keys_expire_everywhere_soon_after_their_deadline(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v", int(ops.SetFlag.PX), 100)
        assert await read(node, ops.EXISTS, 0, b"k") == 1
        while await read(node, ops.DBSIZE, 0):
            await asyncio.sleep(0.01)
        for other in cluster.nodes.values():
            assert await read(other, ops.EXISTS, 0, b"k") == 0


async def test_state_files_never_note_a_commit_index_beyond_what_is_durable_here(
    tmp_path: Path,
) -> None:
    """A follower hears of a commit before its own sync returned.

    Noted in the state files at that moment, and the process killed before the append, it made the
    next start find a log that ends below its own commit index: exit 65, and nothing was wrong.
    """
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        log = node.raft.log
        durable, committed = log.stable, log.commit
        log.commit = durable + 5
        assert node.writer.commit_to_note() <= durable
        log.commit = committed


async def test_rows_that_a_flush_left_behind_are_deleted_in_the_background(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.MSET, 0, *(b"k%d" % (i // 2) for i in range(1000)))
        await write(node, ops.FLUSHALL, 0)
        before = node.machine.state_hash()
        while node.machine.has_garbage:
            await asyncio.sleep(0.01)
        assert node.machine.state_hash() == before


async def test_a_snapshot_cuts_the_log_and_a_restart_goes_on_from_it(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        for round_number in range(3):
            for i in range(40):
                await write(node, ops.SET, 0, b"k%d:%d" % (round_number, i), b"x" * 20_000)
            await node.snapshots.take()
        assert node.snapshots.stats.taken == 3
        assert node.wal.first_index > 1
        await cluster.stop(1)
        shutil.rmtree(tmp_path / "n1" / "engine")
        node = await cluster.start(1)
        assert node.machine.applied > 1
        await cluster.leader()
        assert await read(node, ops.DBSIZE, 0) == 120


async def test_a_snapshot_of_what_one_was_just_taken_of_is_no_failure(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        for _ in range(2):
            await node.snapshots.take()
            assert node.snapshots.last_failure is None
        assert node.snapshots.stats.taken == 1


async def test_an_engine_whose_load_was_cut_short_by_a_kill_is_not_trusted_at_the_next_start(
    tmp_path: Path,
) -> None:
    """It had its note from the first moment: its rows were taken for the state at index 0."""
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SET, 0, b"k", b"v")
        await cluster.stop(1)
        # What a kill in the middle of a load leaves: rows of the snapshot, and no meta row.
        unfinished = create_engine(tmp_path / "n1" / "engine")
        unfinished.put(Database(0).record_prefix + b"stale row", b"\x00" * 16)
        unfinished.commit()
        unfinished.close(clean=False)
        node = await cluster.start(1)
        await cluster.leader()
        assert await read(node, ops.DBSIZE, 0) == 1
        assert node.machine.state_hash() == node.machine.recomputed_hash()


async def test_a_start_without_room_for_the_snapshot_is_no_corruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        for i in range(3):
            await write(node, ops.SET, 0, b"k%d" % i, b"x" * 800_000)
            await node.snapshots.take()
        assert node.raft.log.compacted
        await cluster.stop(1)
        shutil.rmtree(tmp_path / "n1" / "engine")

        def no_room(*_arguments: object, **_options: object) -> None:
            raise EngineFull("no room")

        with monkeypatch.context() as patch:
            patch.setattr(snapshot_library.reader, "load", no_room)
            with pytest.raises(DiskFull):
                await cluster.start(1)
        node = await cluster.start(1)
        await cluster.leader()
        assert await read(node, ops.DBSIZE, 0) == 3


async def test_a_damaged_snapshot_falls_back_to_the_one_before_and_the_log(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        for i in range(2):
            await write(node, ops.SET, 0, b"k%d" % i, b"v")
            await node.snapshots.take()
        await write(node, ops.SET, 0, b"k2", b"v")
        await cluster.stop(1)
        newest = max((tmp_path / "n1" / "snap").iterdir())
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        shutil.rmtree(tmp_path / "n1" / "engine")
        node = await cluster.start(1)
        await cluster.leader()
        assert await read(node, ops.DBSIZE, 0) == 3


async def test_a_follower_whose_entries_are_gone_is_caught_up_by_a_snapshot(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = next(n for n, node in cluster.nodes.items() if node is not leader)
        await cluster.stop(number)
        for _ in range(3):
            for i in range(60):
                await write(leader, ops.SET, 0, b"k%d" % i, b"x" * 30_000)
            await leader.snapshots.take()
        node = await cluster.start(number)
        await until(lambda: node.snapshots.stats.installed == 1)
        await write(leader, ops.SET, 0, b"after", b"v")
        assert await read(node, ops.DBSIZE, 0) == 61
        assert await write(node, ops.INCRBY, 0, b"n", 1) == 1
        index, own = node.applier.hash_at(None) or (0, "")
        await until(lambda: leader.machine.applied >= index)
        assert (index, own) == leader.applier.hash_at(index)
        await cluster.stop(number)
        node = await cluster.start(number)
        assert await read(node, ops.DBSIZE, 0) == 62


async def test_snapshots_are_taken_by_themselves_when_the_log_has_grown(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path, snapshot_log_bytes=300_000) as cluster:
        node = await cluster.leader()
        for i in range(20):
            await write(node, ops.SET, 0, b"k%d" % i, b"x" * 20_000)
        await until(lambda: node.snapshots.stats.taken >= 1)


@pytest.mark.parametrize("through_leader", [True, False])
async def test_leadership_is_handed_over_without_an_error(
    tmp_path: Path, through_leader: bool
) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        node = (
            leader if through_leader else next(n for n in cluster.nodes.values() if n is not leader)
        )
        increments = [asyncio.create_task(write(node, ops.INCRBY, 0, b"n", 1)) for _ in range(50)]
        assert await leader.succession.hand_over(5)
        assert sorted(await asyncio.gather(*increments)) == list(range(1, 51))
        assert not leader.duties.leads


async def covered(node: Node, count: int) -> int:
    """How many cover what is applied at `node`, as soon as they are `count`."""
    result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.coverage.when_covered(node.machine.applied, count, result.set_result)
    return await result


async def test_a_follower_learns_from_the_leader_that_all_voters_have_a_write(
    tmp_path: Path,
) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        follower, other = [node for node in cluster.nodes.values() if node is not leader]
        await write(follower, ops.SET, 0, b"k", b"v")
        assert await covered(follower, 2) == 2
        assert await covered(leader, 2) == 2
        await cluster.stop(other.identity.node_id)
        await write(follower, ops.SET, 0, b"k", b"w")
        waiting = asyncio.create_task(covered(follower, 2))
        assert await covered(follower, 1) == 1
        assert follower.coverage.covering(follower.machine.applied) == 1
        assert not waiting.done()
        await cluster.start(other.identity.node_id)
        assert await waiting == 2


async def test_a_read_with_a_bug_answers_an_error_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_space: Keyspace, _op: ops.Op) -> Result:
        raise ZeroDivisionError("a bug of STRLEN")

    monkeypatch.setitem(READS, ops.STRLEN, broken)
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        for _ in range(2):
            answer = await read(node, ops.STRLEN, 0, b"k")
            assert isinstance(answer, CommandError)
            assert answer.text == "ERR internal error"
        assert node.read_failures.count == 2
        assert caplog.text.count("ZeroDivisionError: a bug") == 1, (
            "more than one traceback per second"
        )
        assert await read(node, ops.GET, 0, b"k") is None
        assert not node.failure.done()


async def test_large_reads_wait_while_there_is_no_room_for_replies_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        large, small = b"x" * 100_000, b"w"
        assert await write(node, ops.SET, 0, b"large", large) == OK
        node.ledger.replies = node.ledger.budget.replies_bytes_max
        reading = asyncio.ensure_future(read(node, ops.GET, 0, b"large"))
        assert await write(node, ops.SET, 0, b"small", small) == OK
        assert await read(node, ops.GET, 0, b"small") == small
        assert await read(node, ops.STRLEN, 0, b"large") == len(large)
        assert await read(node, ops.GET, 0, b"none") is None
        assert not reading.done()
        node.ledger.replies -= 1
        assert await reading == large
        node.ledger.replies = node.ledger.budget.replies_bytes_max * 5 // 4
        reading = asyncio.ensure_future(read(node, ops.GET, 0, b"small"))
        await asyncio.sleep(0.05)
        assert not reading.done(), "even small replies have an end"
        node.ledger.replies = 0
        assert await reading == small


async def test_copies_of_a_write_count_where_they_are(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        value = bytes(1 << 20)
        writing = asyncio.ensure_future(write(node, ops.SET, 0, b"k", value))
        while not node.ledger.proposals:
            await asyncio.sleep(0)
        assert node.ledger.proposals > len(value)
        await writing
        assert node.ledger.proposals == 0
        assert node.machine.uncommitted_bytes >= len(value)
        node.pulse._count_bytes()
        assert node.ledger.engine >= len(value)
        assert node.ledger.log >= len(value)
        node.applier.commit()
        node.pulse._count_bytes()
        assert node.ledger.engine == 0
        assert node.ledger.log >= len(value), "kept for followers"
        assert node.ledger.peers == 0


async def test_an_engine_that_fails_under_a_read_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_space: Keyspace, _op: ops.Op) -> Result:
        raise lmdb.CorruptedError("a page is not what it was")

    monkeypatch.setitem(READS, ops.STRLEN, broken)
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        reading = asyncio.ensure_future(read(node, ops.STRLEN, 0, b"k"))
        with pytest.raises(DiskFailed):
            await node.failure
        reading.cancel()


async def test_a_long_read_does_not_keep_those_behind_it_from_their_own_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two of them the loop has its turn: ticks, peers and everybody's writes."""
    order: list[str] = []

    def long(_space: Keyspace, _op: ops.Op) -> Result:
        time.sleep(0.005)
        asyncio.get_running_loop().call_soon(order.append, "others")
        order.append("read")
        return 1

    monkeypatch.setitem(READS, ops.STRLEN, long)
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await asyncio.gather(*(read(node, ops.STRLEN, 0, b"k") for _ in range(3)))
        assert order[:5] == ["read", "others", "read", "others", "read"]


class Calls:
    """A collector of garbage that notes what it is told."""

    def __init__(self) -> None:
        self.idles = self.settles = 0

    def idle(self) -> None:
        self.idles += 1

    def settle(self) -> None:
        self.settles += 1


async def test_the_collector_is_told_when_the_loop_is_idle_and_not_while_it_works(
    tmp_path: Path,
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        collector = node.collector = Calls()  # type: ignore[assignment]
        await until(lambda: collector.idles > 0)
        ticks, before = node.pulse.ticks, collector.idles
        while node.pulse.ticks < ticks + 20:
            node.pulse.wake()
            await asyncio.sleep(0)
        assert collector.idles == before


async def test_what_a_snapshot_brought_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        collector = node.collector = Calls()  # type: ignore[assignment]
        adopted: list[object] = []
        monkeypatch.setattr(StateMachine, "adopt", lambda _, engine: adopted.append(engine))
        node._switch_engine("another engine")  # type: ignore[arg-type]
        assert (adopted, collector.settles) == (["another engine"], 1)


async def test_one_heavy_write_of_a_node_is_under_way_at_a_time_and_others_are_told_when_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.node.heavy.HEAVY_WRITE_ROWS_MIN", 100)
    async with cluster_of(3, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SADD, 0, b"s", *[b"%d" % number for number in range(200)])
        members = [ops.SMEMBERS, 0, b"s"]
        heavy = [ops.EXEC, 0, [], [members, [ops.INCRBY, 0, b"n", 1]]]
        light = [ops.EXEC, 0, [], [[ops.INCRBY, 0, b"n", 1]]]
        answers = await asyncio.gather(*(write(node, *op) for op in (heavy, heavy, light)))
        assert isinstance(answers[0], list)
        assert len(answers[0][0]) == 200  # type: ignore[arg-type]
        assert isinstance(answers[1], Overloaded)
        assert answers[2] == [2]
        assert (node.heavy_writes.admitted, node.heavy_writes.refused) == (1, 1)
        again = await write(node, *heavy)
        assert isinstance(again, list)
        assert again[1] == 3
        node.pressure.change(Rung.SHED)
        assert isinstance(await write(node, *heavy), Overloaded)
        assert await write(node, *light) == [4]


async def test_large_stores_wait_for_each_other_and_one_too_many_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.node.heavy.HEAVY_WRITE_ROWS_MIN", 100)
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        await write(node, ops.SADD, 0, b"s", *[b"%d" % number for number in range(1500)])
        copies = [[ops.COPY, 0, b"s", 0, b"c%d" % at, 0] for at in range(10)]
        answers = await asyncio.gather(*(write(node, *op) for op in copies))
        assert answers[:9] == [1] * 9
        assert isinstance(answers[9], Overloaded), "half of the places are for others"
        assert node.heavy_writes.waiting == 0
        assert await read(node, ops.SCARD, 0, b"c8") == 1500


async def test_a_bug_in_weighing_a_write_does_not_keep_it_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_space: Keyspace, _op: ops.Op) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(WRITE_WEIGHTS, ops.LTRIM, broken)
    async with cluster_of(1, tmp_path) as cluster:
        node = await cluster.leader()
        assert await write(node, ops.LTRIM, 0, b"none", 0, 1) == OK
        assert node.read_failures.count == 1
