"""Blocked clients of three nodes: served in one order, kept through elections, lost with nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kvnode.errors import CommandError
from kvnode.node import proposals, waiters
from kvnode.node.node import Node
from kvnode.node.waiters import LOST, Waits
from kvnode.service import Op, Pending, Wait
from kvnode.store import batch, ops
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import COLLECTIONS_LEVEL, Resolution
from kvnode.store.reply import GONE, KEPT, Result
from kvnode.store.state_machine import StateMachine
from tests.support.nodes import Cluster, cluster_of, read, until, write

LEFT, RIGHT = 0, 1


class Client:
    """A blocked client."""

    def __init__(self, node: Node, *keys: bytes) -> None:
        self.node = node
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        op = [ops.LMPOP, 0, LEFT, 1, *keys]
        self.wait: Wait = node.submit_blocking(0, op, 10, self.result.set_result)


async def blocked(node: Node, *keys: bytes) -> Client:
    """A client that waits in the store of its node."""
    before = len(node.machine._space.waiters.of_node(node.identity.node_id))
    client = Client(node, *keys)
    await until(lambda: len(node.machine._space.waiters.of_node(node.identity.node_id)) > before)
    return client


async def push(node: Node, key: bytes, *elements: bytes) -> None:
    await write(node, ops.LIST_PUSH, 0, key, RIGHT, 0, *elements)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(3, tmp_path) as cluster:
        await cluster.leader()
        for node in cluster.nodes.values():
            await until(lambda node=node: node.machine.level >= COLLECTIONS_LEVEL)
        yield cluster


async def test_clients_of_all_nodes_are_served_in_the_order_of_their_arrival(
    cluster: Cluster,
) -> None:
    clients = [await blocked(cluster.nodes[number], b"q") for number in (1, 2, 3, 2, 1)]
    await push(cluster.nodes[3], b"q", *[b"%d" % at for at in range(len(clients))])
    results = await asyncio.gather(*[client.result for client in clients])
    assert results == [[b"q", [b"%d" % at]] for at in range(len(clients))]
    assert await read(cluster.nodes[1], ops.LLEN, 0, b"q") == 0


async def test_a_client_waits_on_when_the_leader_goes(cluster: Cluster) -> None:
    leader = await cluster.leader()
    other = next(node for node in cluster.nodes.values() if node is not leader)
    client = await blocked(other, b"q")
    await cluster.stop(leader.identity.node_id)
    late = Client(other, b"q")
    await push(other, b"q", b"a", b"b")
    assert await client.result == [b"q", [b"a"]]
    assert await late.result == [b"q", [b"b"]]


async def test_what_the_clients_of_a_silent_node_have_in_hand_goes_to_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "BLOCKED_CLIENTS_SILENT_MS", 300)
    leader = await cluster.leader()
    silent, other = [node for node in cluster.nodes.values() if node is not leader]
    await blocked(silent, b"q")
    client = await blocked(other, b"q")
    await cluster.stop(silent.identity.node_id)
    await push(other, b"q", b"a")
    assert await client.result == [b"q", [b"a"]]
    assert leader.machine.nodes_with_waiters() == []


async def test_a_node_that_starts_again_leaves_nothing_in_hand(cluster: Cluster) -> None:
    leader = await cluster.leader()
    number = next(n for n, node in cluster.nodes.items() if node is not leader)
    await blocked(cluster.nodes[number], b"q")
    await cluster.stop(number)
    await push(leader, b"q", b"a")
    again = await cluster.start(number)
    await until(lambda: leader.machine.nodes_with_waiters() == [])
    assert await read(again, ops.LRANGE, 0, b"q", 0, -1) == [b"a"]


async def test_who_was_abandoned_waits_again_behind_the_others(cluster: Cluster) -> None:
    leader = await cluster.leader()
    first, second = [await blocked(cluster.nodes[number], b"q") for number in (1, 2)]
    await write(leader, ops.ABANDON, 0, first.node.identity.node_id, 10)
    await until(lambda: len(leader.machine.nodes_with_waiters()) == 2)
    await push(leader, b"q", b"a")
    assert await second.result == [b"q", [b"a"]]
    await push(leader, b"q", b"b")
    assert await first.result == [b"q", [b"b"]]


async def test_a_reader_is_told_of_writes_that_its_node_has_applied(cluster: Cluster) -> None:
    told: list[Result] = []
    questions = {key: [ops.GET, 0, key] for key in (b"k", b"l")}
    forget = cluster.nodes[2].when_found(questions, told.append, lambda: None)
    await write(cluster.nodes[1], ops.SET, 0, b"other", b"v")
    await write(cluster.nodes[1], ops.EXEC, 0, [], [[ops.SET, 0, b"k", b"v"]])
    await until(lambda: bool(told))
    forget()
    await write(cluster.nodes[2], ops.SET, 0, b"l", b"v")
    assert told == [b"v"]


# --- one node, step by step -----------------------------------------------------------------------


class Steps:
    """A node whose log is in the hands of the test."""

    def __init__(self) -> None:
        self.machine = StateMachine(MemoryEngine(), hash_key=bytes(16))
        self.machine.apply(1, batch.encode_register(1, 0, 1, 1, 1))
        self.sequence = 0
        self.under_way: list[Pending] = []
        self.results: list[Result] = []
        self.silent: list[int] = []
        self.now_s = 0.0
        self.has_room = True
        self.waits = Waits(
            self.machine,
            1,
            lambda: self.now_s,
            submit=self.submit_write,
            has_room=lambda: self.has_room,
            silent_nodes=self.silent_nodes,
        )

    def submit_write(self, pending: Pending) -> None:
        self.under_way.append(pending)

    def silent_nodes(self, node_ids: object, milliseconds: int) -> list[int]:
        del node_ids, milliseconds
        return self.silent

    def wait(self) -> waiters.Wait:
        return self.waits.wait(0, [ops.LMPOP, 0, LEFT, 1, b"q"], 10, self.results.append)

    def run(self, op: Op) -> Result:
        self.sequence += 1
        data = batch.encode_batch(1, 0, 1, 1, self.sequence, batch.encode_ops([op]))
        applied = self.machine.apply(self.machine.applied + 1, data)
        assert applied.results is not None
        if applied.news is not None:
            self.news = self.machine.applied, applied.news
        return applied.results[0]

    def tell(self) -> None:
        self.waits.applied(*self.news)
        self.waits.tell()

    def push(self, *elements: bytes) -> None:
        self.run([ops.LIST_PUSH, 0, b"q", RIGHT, 0, *elements])

    def step(self, result: Result = None) -> list[object]:
        """Apply what is under way, or answer it with another result; returns the op."""
        pending = self.under_way.pop(0)
        op: list[object] = list(pending.op)
        pending.complete(self.run(pending.op) if result is None else result)
        return op

    @property
    def list(self) -> Result:
        return self.machine.read([ops.LRANGE, 0, b"q", 0, -1])


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_news_that_come_before_the_answer_to_block_are_not_missed(steps: Steps) -> None:
    """Both may be in one entry."""
    steps.wait()
    pending = steps.under_way.pop()
    result = steps.run(pending.op)
    steps.push(b"a")
    steps.tell()
    pending.complete(result)
    steps.step()
    assert steps.results == [[b"q", [b"a"]]]


def test_a_wait_whose_block_was_lost_in_a_snapshot_goes_on_if_the_store_has_it(
    steps: Steps,
) -> None:
    steps.wait()
    pending = steps.under_way.pop()
    steps.run(pending.op)
    pending.complete(proposals.RESULT_LOST)
    steps.push(b"a")
    steps.tell()
    steps.step()
    assert steps.results == [[b"q", [b"a"]]]


def test_a_result_that_was_lost_in_a_snapshot_cannot_be_hidden(steps: Steps) -> None:
    steps.wait()
    steps.step(proposals.RESULT_LOST)
    assert steps.results == [LOST]
    assert steps.step() == [ops.RESOLVE, 0, 1, Resolution.LEAVE]
    assert not steps.under_way


def test_after_a_snapshot_each_wait_looks_at_the_store(steps: Steps) -> None:
    served, abandoned = steps.wait(), steps.wait()
    for _ in range(2):
        steps.step()
    steps.push(b"a")
    steps.run([ops.RESOLVE, 0, abandoned.number, Resolution.LEAVE])
    steps.waits.replaced()
    assert [pending.op[0] for pending in steps.under_way] == [ops.RESOLVE, ops.BLOCK]
    steps.step()
    assert steps.results == [[b"q", [b"a"]]]
    assert served.number == 1
    steps.step()
    assert steps.machine.waiter(1, abandoned.number) is not None
    assert abandoned.number == 3


def test_an_entry_that_is_applied_again_tells_nothing(steps: Steps) -> None:
    steps.wait()
    steps.step()
    steps.push(b"a")
    steps.tell()
    steps.tell()
    assert len(steps.under_way) == 1


def test_an_abandonment_that_is_applied_again_does_not_make_anybody_wait_twice(
    steps: Steps,
) -> None:
    """The store fell back behind the BLOCK that followed it."""
    steps.wait()
    steps.step()
    steps.run([ops.ABANDON, 0, 1, 10])
    steps.tell()
    news = steps.news
    steps.step()
    steps.run([ops.RESOLVE, 0, 2, Resolution.LEAVE])
    steps.waits.applied(*news)
    assert not steps.under_way


@pytest.mark.parametrize("end", ["expire", "leave"])
def test_a_wait_that_ends_before_it_is_in_the_store_is_taken_out_again(
    steps: Steps, end: str
) -> None:
    wait = steps.wait()
    getattr(wait, end)()
    steps.step()
    steps.step()
    assert steps.results == ([None] if end == "expire" else [])
    steps.push(b"a")
    assert steps.list == [b"a"]


def test_a_claim_that_was_not_done_is_made_again(steps: Steps) -> None:
    steps.wait()
    steps.step()
    steps.push(b"a")
    steps.tell()
    steps.step(proposals.NO_LEADER)
    assert not steps.under_way
    steps.waits.sweep()
    steps.step()
    assert steps.results == [[b"q", [b"a"]]]


def test_an_element_whose_claim_is_done_when_the_client_has_left_goes_back(steps: Steps) -> None:
    wait = steps.wait()
    steps.step()
    steps.push(b"a", b"b")
    steps.tell()
    wait.leave()
    steps.step()
    assert steps.list == [b"b"]
    steps.step(proposals.NO_LEADER)
    assert steps.list == [b"b"]
    steps.waits.sweep()
    steps.step()
    assert (steps.list, steps.results) == ([b"a", b"b"], [])


def test_a_claim_that_finds_nothing_in_hand_waits_on(steps: Steps) -> None:
    steps.wait()
    steps.step()
    steps.push(b"a")
    steps.tell()
    steps.step(KEPT)
    steps.run([ops.RESOLVE, 0, 1, Resolution.LEAVE])
    steps.waits.restored()
    assert steps.under_way[0].op[:3] == [ops.BLOCK, 0, 2]


def test_over_for_a_wait_that_was_abandoned_is_nil(steps: Steps) -> None:
    wait = steps.wait()
    steps.step()
    wait.expire()
    steps.step(GONE)
    assert steps.results == [None]


@pytest.mark.parametrize(
    "refusal", [proposals.QUEUE_FULL, proposals.DATA_FULL, CommandError("ERR no")]
)
def test_an_error_is_an_answer(steps: Steps, refusal: CommandError) -> None:
    steps.wait()
    steps.step(refusal)
    assert steps.results == [refusal]


def test_a_leader_abandons_a_silent_node_once_at_a_time(steps: Steps) -> None:
    steps.wait()
    steps.step()
    steps.silent = [2]
    steps.waits.sweep()
    steps.waits.sweep()
    assert [pending.op for pending in steps.under_way] == [[ops.ABANDON, 0, 2, 1000]]
    steps.step()
    steps.waits.sweep()
    assert [pending.op for pending in steps.under_way] == [[ops.ABANDON, 0, 2, 1000]]


def test_a_wait_is_patient_until_its_time_is_over(steps: Steps) -> None:
    wait = steps.wait()
    assert wait.is_patient
    wait.expire()
    assert not wait.is_patient


def test_a_read_for_whose_answer_there_is_no_room_is_asked_again() -> None:
    steps = Steps()
    steps.machine.answer_for(1, 100)
    told: list[object] = []
    for end in (90, 91, 92):
        question = [ops.GETRANGE, 0, b"k", 0, end]
        steps.waits.when_found({b"k": question}, told.append, lambda: told.append("again"))
    steps.run([ops.SET, 0, b"k", bytes(200)])
    steps.tell()
    assert told == [bytes(91), bytes(92), "again"]
    steps.run([ops.SET, 0, b"k", bytes(200)])
    steps.tell()
    assert len(told) == 6, "all of them are looked for again"


def test_a_read_is_done_right_after_each_write_until_it_is_forgotten(steps: Steps) -> None:
    told: list[tuple[str, Result]] = []
    again: list[str] = []

    def reader(name: str, *keys: bytes) -> Callable[[], None]:
        questions = {key: [ops.GET, 0, key] for key in keys}
        return steps.waits.when_found(
            questions, lambda result: told.append((name, result)), lambda: again.append(name)
        )

    forget = reader("one", b"k", b"l")
    reader("other", b"k")
    steps.run([ops.SET, 0, b"k", b"v"])
    steps.run([ops.DEL, 0, b"k"])
    steps.tell()
    assert sorted(told) == [("one", b"v"), ("other", b"v")]
    forget()
    steps.run([ops.SET, 0, b"k", b"w"])
    steps.tell()
    assert told[2:] == [("other", b"w")]
    assert steps.run([ops.SET, 0, b"l", b"v"]) is not None
    steps.waits.replaced()
    assert again == ["other"]


def test_many_readers_are_told_in_slices_and_only_while_there_is_room_for_replies(
    steps: Steps,
) -> None:
    told: list[Result] = []

    def take(result: Result) -> None:
        told.append(result)
        steps.now_s += 0.0005

    for _ in range(10):
        steps.waits.when_found({b"k": [ops.GET, 0, b"k"]}, take, lambda: None)
    steps.run([ops.SET, 0, b"k", b"v" * 5000])
    steps.waits.applied(*steps.news)
    assert steps.waits.tell()
    assert len(told) == 4
    steps.has_room = False
    assert not steps.waits.tell()
    assert steps.waits.has_found
    steps.has_room = True
    while steps.waits.tell():
        pass
    assert len(told) == 10
    assert not steps.waits.has_found
    assert all(result is told[0] for result in told)


def test_a_reader_that_left_before_its_turn_is_not_told(steps: Steps) -> None:
    told: list[Result] = []
    forget = steps.waits.when_found({b"k": [ops.GET, 0, b"k"]}, told.append, lambda: None)
    steps.run([ops.SET, 0, b"k", b"v"])
    steps.waits.applied(*steps.news)
    forget()
    assert not steps.waits.tell()
    assert not told
