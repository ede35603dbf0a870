"""Batches of three nodes in one entry: each client has its own answer, nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvnode.node.leader import LeaderDuties
from kvnode.node.node import Node
from kvnode.store import batch, ops
from kvnode.store.batch import Group
from tests.support.nodes import Cluster, Command, cluster_of, read, until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(3, tmp_path) as cluster:
        await cluster.leader()
        for node in cluster.nodes.values():
            await until(lambda node=node: node.machine.level >= ops.GROUPS_LEVEL)
        yield cluster


async def gathered(cluster: Cluster, leads: Node) -> list[Command]:
    """One command at each node, in the order of their ids; their batches wait at the leader."""
    commands = []
    for number, node in sorted(cluster.nodes.items()):
        commands.append(Command([ops.INCRBY, 0, b"%d" % number, number]))
        node.submit_write(commands[-1])
    await until(lambda: len(leads.duties._gathering._parts) == len(commands))
    return commands


async def test_batches_of_all_nodes_share_an_entry_and_each_client_has_its_own_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = await cluster.leader()
    with monkeypatch.context() as patched:
        patched.setattr(LeaderDuties, "can_flush", property(lambda _: False))
        commands = await gathered(cluster, leads)
        before = leads.raft.last_index
    leads.pulse.wake()
    assert await asyncio.gather(*[command.result for command in commands]) == [1, 2, 3]
    (entry,), _ = leads.raft.log.entries(before + 1, before + 2, 1 << 20)
    group = batch.decode(entry.data)
    assert isinstance(group, Group)
    assert sorted(part.node_id for part in group.parts) == [1, 2, 3]
    nodes = cluster.nodes.values()
    await until(lambda: all(node.machine.applied == before + 1 for node in nodes))
    assert len({node.machine.state_hash() for node in nodes}) == 1
    assert all(node.proposer.is_idle for node in nodes)


async def test_what_gathered_at_a_leader_that_goes_is_done_once_by_the_next(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = await cluster.leader()
    with monkeypatch.context() as patched:
        patched.setattr(LeaderDuties, "can_flush", property(lambda _: False))
        commands = await gathered(cluster, leads)
        gone = leads.identity.node_id
        await cluster.stop(gone)
    others = [number for number in (1, 2, 3) if number != gone]
    results = [await commands[number - 1].result for number in others]
    assert results == others
    node = cluster.nodes[others[0]]
    for number in others:
        assert await read(node, ops.GET, 0, b"%d" % number) == b"%d" % number
