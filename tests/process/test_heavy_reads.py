"""Heavy reads of a real node: its workers are killed, it is stopped, it is killed."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster

FIELDS = 5_000
SECONDS_MAX = 30


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[NodeCluster]:
    made = NodeCluster(1)
    try:
        made.start()
        yield made
    finally:
        made.finish(keep=getattr(request.node, "failed", False))


@pytest.fixture
def client(cluster: NodeCluster) -> Iterator[redis.Redis]:
    host, port = cluster.nodes[0].address
    with redis.Redis(host=host, port=port, socket_timeout=SECONDS_MAX) as made:
        for first in range(0, FIELDS, 500):
            made.hset("h", mapping={f"f{at}": f"v{at}" for at in range(first, first + 500)})
        yield made


def workers_of(node: LocalNode) -> list[int]:
    """Process ids of its children that are workers."""
    found = []
    for pid in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split():
        with suppress(OSError):
            if b"kvnode.workers.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def ended(pid: int, cause: Callable[[], None]) -> bool:
    """Whether a process ends when something is done."""
    handle = os.pidfd_open(pid)
    try:
        cause()
        return bool(select.select([handle], [], [], SECONDS_MAX)[0])
    finally:
        os.close(handle)


def test_a_worker_is_started_with_the_first_heavy_read_and_may_be_killed(
    cluster: NodeCluster, client: redis.Redis
) -> None:
    (node,) = cluster.nodes
    assert client.hget("h", "f1") == b"v1"
    assert workers_of(node) == []
    assert len(client.hgetall("h")) == FIELDS
    (pid,) = workers_of(node)
    assert ended(pid, lambda: os.kill(pid, signal.SIGKILL))
    client.hset("h", "new", "value")
    assert len(client.hgetall("h")) == FIELDS + 1
    assert pid not in workers_of(node)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_node(
    cluster: NodeCluster, client: redis.Redis, number: signal.Signals
) -> None:
    (node,) = cluster.nodes
    assert len(client.hgetall("h")) == FIELDS
    (pid,) = workers_of(node)
    assert ended(pid, lambda: node.send(number))
