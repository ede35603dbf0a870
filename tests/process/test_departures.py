"""Three nodes whose memory runs out at the same time: they do not all leave at once.

Each lives in a memory cgroup of its own, with a neighbour that holds memory at the test's command.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from kvnode.limits import LEAVE_WAIT_SECONDS_MAX
from scripts.local_cluster import LocalNode
from tests.support.cgroup import CgroupUnavailable, MemoryCgroup
from tests.support.cluster import NodeCluster
from tests.support.hog import Hog

pytestmark = pytest.mark.cluster

MIB = 1 << 20
LIMIT_MIB = 512
BETWEEN_THRESHOLD_AND_LAST_PERCENT = 87.5
"""Above the 85 where a node has to leave, below the 90 where it waits for nobody."""
DEADLINE_SECONDS = 30.0


class Neighbours:
    """A cluster of three, and for each node a cgroup and somebody else in it."""

    def __init__(self) -> None:
        environment = {"KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "auto"}
        self.cluster = NodeCluster(3, environment=environment)
        self.cgroups: list[MemoryCgroup] = []
        self.hogs: dict[str, Hog] = {}
        self.clients: list[socket.socket] = []
        for node in self.cluster.nodes:
            try:
                name = f"kvnode-departures-{node.ports.client}"
                cgroup = MemoryCgroup.make(name, LIMIT_MIB * MIB)
            except CgroupUnavailable as reason:
                self.close()
                pytest.skip(str(reason))
            self.cgroups.append(cgroup)
            node.arguments = cgroup.command(node.arguments)
            self.hogs[node.name] = Hog(cgroup)

    def press(self, nodes: Sequence[LocalNode]) -> None:
        """Let the neighbours of these nodes hold so much that they have to leave."""
        wanted = {}
        for node in nodes:
            status = node.status()
            assert status is not None
            held = status["memory"]["cgroup_bytes"] // MIB
            wanted[node.name] = int(LIMIT_MIB * BETWEEN_THRESHOLD_AND_LAST_PERCENT / 100) - held
        for name, mib in wanted.items():
            self.hogs[name].hold(mib)

    def connect(self, node: LocalNode) -> socket.socket:
        """A client of `node`, closed at the end."""
        self.clients.append(socket.create_connection(node.address))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for hog in self.hogs.values():
            hog.close()
        for node in self.cluster.nodes:
            node.send(signal.SIGCONT)
        self.cluster.kill()
        self.cluster.finish(keep=False)
        for cgroup in self.cgroups:
            cgroup.remove()


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    made = Neighbours()
    try:
        made.cluster.start()
        made.cluster.wait_leader()
        yield made
    finally:
        made.close()


def told(node: LocalNode, words: str) -> bool:
    return words in node.log_path.read_text()


def test_a_leader_that_has_to_leave_hands_over_first(neighbours: Neighbours) -> None:
    leader = neighbours.cluster.wait_leader()
    others = [node for node in neighbours.cluster.nodes if node is not leader]
    neighbours.press([leader])
    assert leader.wait_exit(DEADLINE_SECONDS) == 2
    # Sooner, if the start was so long ago that it did so on its way up the ladder.
    handed_over = ("leadership handed over", "leadership is offered to a node that is better off")
    assert any(told(leader, words) for words in handed_over), leader.log_tail()
    with redis.Redis(*others[0].address) as connection:
        assert connection.set("k", "v")


def test_one_leaves_and_the_others_wait_and_stay_if_they_have_room_again(
    neighbours: Neighbours,
) -> None:
    nodes = neighbours.cluster.nodes
    clients = {node.name: neighbours.connect(node) for node in nodes}
    neighbours.press(nodes)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while all(node.alive() for node in nodes):
        assert time.monotonic() < deadline, "nobody left"
        time.sleep(0.02)
    (gone,) = [node for node in nodes if not node.alive()]
    left = [node for node in nodes if node is not gone]
    for node in left:
        neighbours.hogs[node.name].hold(1)
    assert gone.wait_exit(1) == 2
    while not all(told(node, "the node can stay") for node in left):
        assert time.monotonic() < deadline, [node.log_tail() for node in left]
        time.sleep(0.02)
    for node in left:
        assert node.alive(), f"it waits for {LEAVE_WAIT_SECONDS_MAX} s: {node.log_tail()}"
        with contextlib.suppress(ConnectionResetError):
            dropped = clients[node.name].recv(1)
            assert dropped == b"", "a node that waits has dropped its clients"
        with redis.Redis(*node.address) as new:
            assert new.set("k", node.name)
    assert sum(cgroup.oom_kills() for cgroup in neighbours.cgroups) == 0
