"""Draining a real cluster: leadership and readiness leave the node, its clients stay served."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from scripts.local_cluster import HOST, LocalNode, kvnode_command
from tests.support.cluster import NodeCluster

pytestmark = pytest.mark.cluster

WAIT_SECONDS = 30.0


@pytest.fixture
def three() -> Iterator[NodeCluster]:
    cluster = NodeCluster(3)
    try:
        cluster.start()
        cluster.wait_leader()
        yield cluster
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def kvnode(node: LocalNode, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of kvnode against a node."""
    return subprocess.run(
        [*kvnode_command(), command, "--admin", f"{HOST}:{node.ports.admin}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def reasons(node: LocalNode) -> list[str]:
    """Why a node should not be stopped now, whatever disk the tests run on."""
    checked = kvnode(node, "drain", "--check")
    lines = checked.stdout.splitlines() if checked.returncode == 1 else []
    assert checked.returncode in (0, 1), checked.stderr
    return [line for line in lines if not line.startswith("the data directory's disk")]


def readyz(node: LocalNode) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{node.ports.admin}/readyz?verbose") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def status(node: LocalNode) -> dict[str, Any]:
    told = node.status()
    assert told is not None
    return told


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def test_a_leader_is_drained_stopped_and_comes_back_undrained(three: NodeCluster) -> None:
    leader = three.wait_leader()
    wait_for(lambda: not reasons(leader), "health")
    other = next(node for node in three.nodes if node is not leader)
    with redis.Redis(*leader.address, retry=None) as client:
        client.set("k", "v")
        drained = kvnode(leader, "drain", "--wait", "--timeout", "1s")
        assert drained.returncode == 0, drained.stderr
        assert "clients left: 1" in drained.stdout
        # Unready, and serving: whoever is connected notices nothing.
        code, checks = readyz(leader)
        assert (code, "[-]draining" in checks) == (503, True)
        assert client.set("k", "w")
        assert client.get("k") == b"w"
    assert status(leader)["leader"] not in (None, leader.name)
    (seen,) = [one for one in status(other)["members"] if one["name"] == leader.name]
    assert seen["draining"] is True

    assert reasons(other) == [f"{leader.name} is draining"]
    assert reasons(leader) == [], "it is the one"
    told = kvnode(leader, "status", "--get", "draining", "clients", "leader")
    assert told.stdout.splitlines()[:2] == ["true", "0"]

    leader.send(signal.SIGTERM)
    assert leader.wait_exit(WAIT_SECONDS) == 0
    leader.start()
    leader.wait_ready()
    assert status(leader)["draining"] is False
    wait_for(lambda: not reasons(other), "end of draining")


def test_a_node_that_the_quorum_needs_is_neither_spared_nor_drained(three: NodeCluster) -> None:
    leader = three.wait_leader()
    first, second = [node for node in three.nodes if node is not leader]
    wait_for(lambda: not reasons(leader), "health")
    first.kill()
    wait_for(lambda: reasons(second), "notice of it")
    assert reasons(second) == [
        f"{first.name} is not connected",
        f"without {second.name} there is no quorum: 1 of 3 voters would be left, 2 are needed",
    ]
    assert kvnode(first, "drain", "--check").returncode == 69
    assert kvnode(second, "drain").returncode == 0
    wait_for(lambda: kvnode(leader, "drain").returncode == 1, "refusal")
    refused = kvnode(leader, "drain")
    assert refused.stderr.startswith(f"kvnode: {leader.name} leads, and nobody who is caught up")
    assert f"{second.name} is draining" in refused.stderr
    assert status(leader)["draining"] is False
    assert kvnode(second, "drain", "--undo").returncode == 0
    assert "[+]draining ok" in readyz(second)[1]
