"""Every workload finds nothing on a cluster that is well, and has done something."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.against import guests, work
from tests.chaos.record import Record
from tests.chaos.verdict import judge
from tests.chaos.workloads.choice import WORKLOADS
from tests.support.cluster import NodeCluster

SECONDS = 3.0
ENTRIES_DUE = 20


def test_a_workload_sees_its_own_keys_only() -> None:
    record = Record(answered={"sets": ["n1"]})
    for workload in WORKLOADS.values():
        for epoch in (1, 11):
            record.final("n1", workload(epoch).key(1), workload.name)
            record.final("n2", workload(epoch).key(1), workload.name)
    assert WORKLOADS["sets"](1).finals(record) == {"n1": {"sets:1:1": "sets"}}
    assert WORKLOADS["streams"](1).finals(record) == {}


@pytest.mark.cluster
async def test_a_calm_cluster_keeps_every_promise() -> None:
    seed = time.time_ns() % 1_000_000
    cluster = NodeCluster()
    workloads = [kind(epoch=seed) for kind in WORKLOADS.values()]
    is_well = False
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_leader)
        nodes = guests([f"{host}:{port}" for host, port in cluster.addresses()])
        end = asyncio.Event()
        asyncio.get_running_loop().call_later(SECONDS, end.set)
        record = await work(nodes, workloads, seed, end)
        judgement = judge(record, workloads, rate_min=0)
        assert judgement.violations == [], f"seed {seed}"
        assert judgement.undecided == [], f"seed {seed}"
        assert record.incidents == [], f"seed {seed}"
        for workload in workloads:
            done = sum(entry.is_done for entry in record.of(workload.name))
            assert done >= ENTRIES_DUE, workload.name
            assert set(workload.finals(record)) == {node.name for node in nodes}
        is_well = True
    finally:
        cluster.finish(keep=not is_well)
