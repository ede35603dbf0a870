"""Nodes that somebody else runs are judged like our own, and may be restarted if that is said."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.chaos import against
from tests.chaos.record import Incident, Record
from tests.chaos.workloads.choice import WORKLOADS
from tests.support.cluster import NodeCluster


def test_addresses_may_be_of_any_kind() -> None:
    nodes = against.guests(["10.0.0.1:6379", "[::1]:7000"], "secret")
    assert [node.address for node in nodes] == [("10.0.0.1", 6379), ("::1", 7000)]
    with pytest.raises(ValueError, match="invalid literal"):
        against.guests(["nowhere"])


def test_who_loses_a_connection_to_a_node_that_restarts_has_seen_no_error() -> None:
    lost = Incident(0, "n1", 1, 2, "connection lost")
    unknown = Incident(0, "n1", 1, 2, "UNKNOWN no leader")
    for incidents, restarts, wrong in (
        ([lost], True, 0),
        ([lost], False, 1),
        ([lost, unknown], True, 1),
    ):
        judgement = against.judge(Record(incidents=[*incidents]), [], restarts=restarts)
        assert len(judgement.violations) == wrong


@pytest.mark.cluster
async def test_a_graceful_restart_of_a_node_breaks_no_promise() -> None:
    seed = time.time_ns() % 1_000_000
    cluster = NodeCluster()
    workloads = [WORKLOADS[name](seed) for name in ("registers", "streams", "queues")]
    is_well = False
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_leader)
        nodes = against.guests([f"{host}:{port}" for host, port in cluster.addresses()])
        end = asyncio.Event()
        working = asyncio.create_task(against.work(nodes, workloads, seed, end))
        await asyncio.sleep(1)
        leader = await asyncio.to_thread(cluster.wait_leader)
        leader.send(signal.SIGTERM)
        assert await asyncio.to_thread(leader.wait_exit, 25) == 0
        leader.start()
        await asyncio.to_thread(leader.wait_ready)
        end.set()
        judgement = against.judge(await working, workloads, restarts=True)
        assert judgement.violations == [], f"seed {seed}"
        assert judgement.undecided == [], f"seed {seed}"
        is_well = True
    finally:
        cluster.finish(keep=not is_well)
