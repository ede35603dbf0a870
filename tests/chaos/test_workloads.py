"""Every workload finds nothing on a cluster that is well, and has done something."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from scripts.local_cluster import LocalNode
from tests.chaos.client import Connection
from tests.chaos.record import Record
from tests.chaos.workloads.choice import WORKLOADS
from tests.chaos.workloads.protocol import Workload
from tests.support.cluster import NodeCluster

SECONDS = 2.0
ENTRIES_DUE = 50


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    """Three nodes, plain ones."""
    cluster = NodeCluster()
    try:
        cluster.start()
        cluster.wait_leader()
        yield cluster
    finally:
        cluster.finish(keep=False)


async def work(nodes: list[LocalNode], workload: Workload, rng: random.Random) -> Record:
    """Let its clients work for a moment; then look."""
    record, stop = Record(), asyncio.Event()
    connection = await Connection.open(nodes[0].address)
    await workload.prepare(connection)
    connection.close()
    clients = workload.clients(nodes, 0, rng, record)
    asyncio.get_running_loop().call_later(SECONDS, stop.set)
    await asyncio.gather(*(client.run(stop) for client in clients))
    for node in nodes:
        connection = await Connection.open(node.address)
        await workload.read_back(node.name, connection, record)
        connection.close()
    return record


def test_a_workload_sees_its_own_keys_only() -> None:
    record = Record(answered={"sets": ["n1"]})
    for workload in WORKLOADS.values():
        for epoch in (1, 11):
            record.final("n1", workload(epoch).key(1), workload.name)
            record.final("n2", workload(epoch).key(1), workload.name)
    assert WORKLOADS["sets"](1).finals(record) == {"n1": {"sets:1:1": "sets"}}
    assert WORKLOADS["streams"](1).finals(record) == {}


@pytest.mark.cluster
@pytest.mark.parametrize("name", WORKLOADS)
async def test_a_calm_cluster_keeps_every_promise(cluster: NodeCluster, name: str) -> None:
    seed = time.time_ns() % 1_000_000
    workload = WORKLOADS[name](epoch=seed)
    record = await work(cluster.nodes, workload, random.Random(seed))
    judgement = workload.judge(record)
    assert judgement.violations == [], f"seed {seed}"
    assert judgement.undecided == [], f"seed {seed}"
    assert record.incidents == [], f"seed {seed}"
    assert record.acknowledged >= ENTRIES_DUE
    assert set(record.finals) == {node.name for node in cluster.nodes}
