"""Members come and go among whole nodes: requests through any of them, learners, removals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvnode.errors import ConfigurationError
from kvnode.node import changes
from kvnode.node.hello import RefusalReason
from kvnode.node.node import Node
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store import ops
from kvnode.store.members import Role
from tests.support.nodes import Cluster, cluster_of, free_port, read, until, write


async def ask(node: Node, action: Action, member: str = "", other: str = "") -> ChangeAnswer:
    """Put a request to a node and wait for what becomes of it."""
    answer: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
    node.changes.request_change(ChangeRequest(action, member, other), answer.set_result)
    return await answer


async def join(cluster: Cluster, number: int, *, promote: bool = True) -> Node:
    """A node that no `--cluster` names comes in, as `kvnode serve --join` would."""
    via = await cluster.leader()
    port = free_port()
    answer: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
    via.changes.request_change(
        ChangeRequest(
            Action.JOIN,
            f"n{number}",
            peer_address=f"127.0.0.1:{port}",
            storage_id=1000 + number,
            promote=promote,
            level=ops.LEVEL,
        ),
        answer.set_result,
    )
    told = await answer
    assert told.verdict is Verdict.DONE, told
    return await cluster.start_joined(number, told.node_id, port)


def follower(cluster: Cluster) -> Node:
    return next(node for node in cluster.nodes.values() if not node.duties.leads)


async def all_met(cluster: Cluster) -> None:
    """On a busy machine a leader may be there before all have dialled each other."""
    nodes = list(cluster.nodes.values())
    await until(
        lambda: all(node.transport.is_connected(p) for node in nodes for p in node.transport.peers)
    )


def role_of(node: Node, number: int) -> Role | None:
    return next((m.role for m in node.roster.members.values() if m.name == f"n{number}"), None)


async def test_a_node_that_joins_gets_all_and_becomes_a_voter(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        first = await cluster.leader()
        await write(first, ops.SET, 0, b"k", b"v")
        second = await join(cluster, 2)
        await until(lambda: role_of(second, 2) is Role.VOTER)
        assert await read(second, ops.GET, 0, b"k") == b"v"
        await write(second, ops.SET, 0, b"k", b"w")
        assert await read(first, ops.GET, 0, b"k") == b"w"
        assert first.raft.conf_state == second.raft.conf_state


async def test_a_learner_that_is_to_stay_one_serves_reads_and_writes(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as cluster:
        first = await cluster.leader()
        learner = await join(cluster, 2, promote=False)
        await write(learner, ops.SET, 0, b"k", b"v")
        assert await read(learner, ops.GET, 0, b"k") == b"v"
        assert role_of(first, 2) is Role.LEARNER
        assert learner.status().role == "learner"
        assert (await ask(learner, Action.PROMOTE, "n2")).verdict is Verdict.DONE
        await until(lambda: learner.status().role == "follower")


async def test_any_member_takes_a_request_and_the_leader_decides(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        asked = follower(cluster)
        answer = await ask(asked, Action.ADD, "n9")
        assert answer.verdict is Verdict.DONE
        assert answer.node_id in leader.roster.members
        answer = await ask(asked, Action.PROMOTE, "n9")
        assert answer.verdict is Verdict.REFUSED
        assert "not connected" in answer.text


async def test_a_member_that_is_removed_ends_and_the_others_forget_it(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await all_met(cluster)
        gone = follower(cluster)
        number = gone.identity.node_id
        answer = await ask(leader, Action.REMOVE, gone.identity.name)
        assert (answer.verdict, answer.text) == (
            Verdict.DONE,
            f"{gone.identity.name} was removed",
        )
        with pytest.raises(ConfigurationError, match="was removed from the cluster"):
            await asyncio.shield(gone.failure)
        await until(lambda: number not in leader.transport.peers)
        assert number not in leader.raft.conf_state.voters
        await write(leader, ops.SET, 0, b"k", b"v")


async def test_a_leader_that_is_removed_hands_over_first(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await all_met(cluster)
        asked = follower(cluster)
        answer = await ask(asked, Action.REMOVE, leader.identity.name)
        assert answer.verdict is Verdict.DONE
        with pytest.raises(ConfigurationError, match="was removed"):
            await asyncio.shield(leader.failure)
        assert await write(asked, ops.SET, 0, b"k", b"v") is not None


async def test_leadership_goes_where_it_is_sent(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await all_met(cluster)
        target = follower(cluster)
        assert (await ask(target, Action.TRANSFER, target.identity.name)).verdict is Verdict.DONE
        assert target.duties.leads
        assert (await ask(leader, Action.TRANSFER)).verdict is Verdict.DONE
        assert not target.duties.leads


async def test_a_request_that_nobody_can_decide_is_given_back_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGE_SECONDS_MAX", 0.3)
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        for number in list(cluster.nodes):
            if cluster.nodes[number] is not leader:
                await cluster.stop(number)
        answer = await ask(leader, Action.ADD, "n9")
        assert answer.verdict is Verdict.AGAIN
        assert answer.text.startswith("nobody could decide in time")


async def test_nothing_is_refused_while_an_earlier_change_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader before may have put it into the log, and it may be what is asked for again."""
    monkeypatch.setattr(changes, "CHANGE_SECONDS_MAX", 0.3)
    async with cluster_of(1, tmp_path) as cluster:
        leader = await cluster.leader()
        assert (await ask(leader, Action.REMOVE, "n9")).verdict is Verdict.REFUSED
        leader.raft.log.changes.append(leader.raft.last_index + 1_000)
        assert (await ask(leader, Action.REMOVE, "n9")).verdict is Verdict.AGAIN


async def test_a_voter_is_replaced_by_a_learner_that_came_for_it(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        dead = follower(cluster)
        await cluster.stop(dead.identity.node_id)
        learner = await join(cluster, 4, promote=False)
        await until(lambda: leader.transport.is_connected(learner.identity.node_id))
        answer = await ask(leader, Action.REPLACE, dead.identity.name, "n4")
        while answer.verdict is not Verdict.DONE:
            assert "not caught up" in answer.text, answer
            answer = await ask(leader, Action.REPLACE, dead.identity.name, "n4")
        await until(lambda: not leader.raft.conf_state.outgoing)
        assert dead.identity.node_id not in leader.roster.members
        assert role_of(leader, 4) is Role.VOTER
        await until(lambda: learner.raft.conf_state == leader.raft.conf_state)


async def test_the_membership_survives_a_snapshot_and_a_restart(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path, snapshot_log_bytes=4_000) as cluster:
        first = await cluster.leader()
        while not first.raft.log.compacted:  # the log is cut behind the older of two snapshots
            await write(first, ops.SET, 0, b"k", b"v" * 100)
        second = await join(cluster, 2)
        await until(lambda: role_of(second, 2) is Role.VOTER)
        assert second.snapshots.stats.installed == 1
        number = second.identity.node_id
        port = int(second.identity.peer_address.rpartition(":")[2])
        await cluster.stop(number)
        again = await cluster.start_joined(2, number, port)
        assert again.raft.conf_state == first.raft.conf_state
        await write(again, ops.SET, 0, b"k", b"w")


async def test_a_removed_member_that_starts_again_stays_until_a_member_refuses_it(
    tmp_path: Path,
) -> None:
    """Ended at once, it could not tell the last of the others that the change is committed."""
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        number = follower(cluster).identity.node_id
        name = cluster.nodes[number].identity.name
        assert (await ask(leader, Action.REMOVE, name)).verdict is Verdict.DONE
        await until(lambda: cluster.nodes[number].roster.was_removed)
        await cluster.stop(number)
        for other in list(cluster.nodes):
            await cluster.stop(other)
        again = await cluster.start(number)
        assert again.membership.is_leaving
        assert not again.failure.done()
        await cluster.start(leader.identity.node_id)
        with pytest.raises(ConfigurationError, match="was removed"):
            await asyncio.shield(again.failure)


async def test_a_removed_node_does_not_take_its_own_word_for_that_of_a_member(
    tmp_path: Path,
) -> None:
    """It had the address of one that left before it, met it in the log, dialled it, and left at
    once; the last voter, whose disk did not know yet, waited for it for ever (seed 2096)."""
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await all_met(cluster)
        gone = follower(cluster)
        assert (await ask(leader, Action.REMOVE, gone.identity.name)).verdict is Verdict.DONE
        await until(lambda: gone.roster.was_removed)
        refusal = gone.peers.check_hello(gone.peers.hello()._replace(receiver=99))
        assert refusal is not None
        assert refusal.reason is RefusalReason.WRONG_RECEIVER
        assert not refusal.reason.is_final


async def test_a_removed_node_is_told_so_by_whoever_has_the_address_of_a_member_that_it_knew(
    tmp_path: Path,
) -> None:
    """All that it knew may have left; their machines have other ids by then."""
    async with cluster_of(3, tmp_path) as cluster:
        leader = await cluster.leader()
        await all_met(cluster)
        gone = follower(cluster)
        hello = gone.peers.hello()._replace(receiver=99)

        def answer() -> RefusalReason:
            refusal = leader.peers.check_hello(hello)
            assert refusal is not None
            return refusal.reason

        assert answer() is RefusalReason.WRONG_RECEIVER
        await ask(leader, Action.REMOVE, gone.identity.name)
        assert answer() is RefusalReason.REMOVED
