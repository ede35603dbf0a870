"""Lease reads on real nodes: fewer messages, and only where all members agree on them."""

from __future__ import annotations

from pathlib import Path

from kvnode.node.hello import Hello, Refusal, RefusalReason
from kvnode.node.node import Node
from kvnode.store import ops
from kvnode.store.ops import LEVEL
from tests.support.nodes import cluster_of, read, until, write


def holds_lease(node: Node) -> bool:
    """What a read would find."""
    leadership = node.raft._leadership
    return leadership is not None and leadership._lease is not None and leadership._lease.held


async def test_with_leases_a_leader_answers_reads_without_a_round(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path, lease_reads=True) as cluster:
        leader = await cluster.leader()
        await write(leader, ops.SET, 0, b"k", b"v")
        await until(lambda: holds_lease(leader))
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        sent = leader.transport.stats.frames_sent
        leader.pulse._tick_timer.cancel()  # type: ignore[union-attr]  # no heartbeat in between
        assert await read(leader, ops.GET, 0, b"k") == b"v"
        assert leader.transport.stats.frames_sent == sent
        leader.pulse._tick()
        assert await read(follower, ops.GET, 0, b"k") == b"v"


async def test_a_leader_that_was_paused_knows_that_its_lease_is_over(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path, lease_reads=True) as cluster:
        leader = await cluster.leader()
        await until(lambda: holds_lease(leader))
        leader.pulse._due_ticks._due -= 10.0  # as if the process had stood still for ten seconds
        leader.pulse.before_reads()
        assert not holds_lease(leader)


async def test_a_peer_that_thinks_otherwise_about_leases_is_refused(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        node = await cluster.leader()
        own = node.identity
        other = next(number for number in cluster.nodes if number != own.node_id)
        hello = Hello("c", other, own.node_id, 1000 + other, 9, "t", "", False, True, level=LEVEL)
        answer = node.transport.receiver.check_hello(hello)
        assert isinstance(answer, Refusal)
        assert answer.reason is RefusalReason.OTHER_LEASES
