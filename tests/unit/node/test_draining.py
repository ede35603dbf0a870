"""A node that is drained does not lead, and serves on; its peers know."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvnode.admission.ladder import Rung
from kvnode.node import draining
from kvnode.node.draining import Draining
from kvnode.node.node import Node
from kvnode.node.parting import Room
from kvnode.node.wire import ChangeForward
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from kvnode.store.ops import SET
from tests.support.nodes import Cluster, cluster_of, until, write

ROOM = Room(50, 100)


async def ask(node: Node, action: Action, room: Room = ROOM) -> ChangeAnswer:
    answer: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
    Draining(node, lambda: room).request_change(ChangeRequest(action), answer.set_result)
    return await answer


def is_draining(node: Node) -> bool:
    return node.strains.own.is_draining


async def settled(nodes: Cluster) -> tuple[Node, list[Node]]:
    """A leader to which all are connected and caught up, and the others."""
    leader = await nodes.leader()
    others = [node for node in nodes.nodes.values() if node is not leader]
    for node in nodes.nodes.values():
        own = node.identity.node_id
        peers = [peer for peer in nodes.nodes if peer != own]
        await until(lambda node=node, peers=peers: all(map(node.transport.is_connected, peers)))  # type: ignore[misc]
    await until(lambda: leader.succession.caught_up_follower() is not None)
    return leader, others


async def test_a_leader_that_is_drained_hands_over_at_once_and_serves_on(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        answer = await ask(leader, Action.DRAIN)
        assert answer.verdict is Verdict.DONE
        assert answer.text == f"{leader.identity.name} is draining"
        await until(lambda: any(node.duties.leads for node in others))
        await until(
            lambda: all(node.strains.of(leader.identity.node_id).is_draining for node in others)
        )
        (seen,) = [
            one for one in others[0].status().members if one.node_id == leader.identity.node_id
        ]
        assert (seen.draining, seen.rung) == (True, 0)
        await write(leader, SET, 0, b"k", b"v")


async def test_who_gets_leadership_back_while_draining_hands_it_on(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        drained = others[0]
        await ask(drained, Action.DRAIN)
        term, seen = leader.raft.term, drained.consensus.leader_changes_seen
        leader.raft.transfer_leader(drained.identity.node_id)  # as an election may have it
        leader.pulse.wake()
        await until(lambda: drained.consensus.leader_changes_seen >= seen + 2)
        assert not drained.duties.leads
        assert leader.raft.term >= term + 2, "it led, and another one after it"


async def test_a_node_that_is_drained_is_never_chosen_to_lead(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, other) = await settled(nodes)
        await ask(one, Action.DRAIN)
        await until(lambda: leader.strains.of(one.identity.node_id).is_draining)
        assert leader.succession.best_follower() == other.identity.node_id
        refused: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
        wish = ChangeRequest(Action.TRANSFER, one.identity.name)
        leader.changes.request_change(wish, refused.set_result)
        assert (await refused).text == f"{one.identity.name} cannot lead now: it is draining"


async def test_a_leader_is_not_drained_where_nobody_can_take_over(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, other) = await settled(nodes)
        await ask(one, Action.DRAIN)
        other.pressure.change(Rung.REFUSE)
        await until(lambda: leader.succession.caught_up_follower() is None)
        answer = await ask(leader, Action.DRAIN)
        assert answer.verdict is Verdict.REFUSED
        name = leader.identity.name
        assert answer.text.startswith(f"{name} leads, and nobody who is caught up can take over: ")
        assert f"{one.identity.name} is draining" in answer.text
        assert f"{other.identity.name} is short of memory" in answer.text
        assert not is_draining(leader)
        assert leader.duties.leads


async def test_draining_is_undone(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, _) = await settled(nodes)
        await ask(one, Action.DRAIN)
        await until(lambda: leader.strains.of(one.identity.node_id).is_draining)
        assert (await ask(one, Action.UNDRAIN)).text == f"{one.identity.name} is not draining"
        await until(lambda: leader.strains.of(one.identity.node_id).may_lead)


async def test_a_single_node_is_drained_at_once_and_leads_on(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path) as nodes:
        node = await nodes.leader()
        assert (await ask(node, Action.SPARE)).text == "it is the only voter"
        assert (await ask(node, Action.DRAIN)).verdict is Verdict.DONE
        assert is_draining(node)
        assert node.duties.leads
        await write(node, SET, 0, b"k", b"v")


# --- may it be stopped? -------------------------------------------------------------------------


async def test_any_member_may_be_stopped_while_all_are_well(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        await settled(nodes)
        for node in nodes.nodes.values():
            answer = await ask(node, Action.SPARE)
            assert answer.verdict is Verdict.DONE, answer.text
            assert not is_draining(node)


async def test_the_leader_and_the_node_say_together_what_is_not_well(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, other) = await settled(nodes)
        await ask(other, Action.DRAIN)
        await until(lambda: leader.strains.of(other.identity.node_id).is_draining)
        for node in (leader, one):
            answer = await ask(node, Action.SPARE, Room(10, 100))
            assert answer.verdict is Verdict.REFUSED
            assert answer.text.splitlines() == [
                "the data directory's disk has 10 % free, less than 20 %",
                f"{other.identity.name} is draining",
            ]
        assert (await ask(other, Action.SPARE)).verdict is Verdict.DONE


async def test_without_a_leader_the_answer_comes_at_once(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, other) = await settled(nodes)
        await nodes.stop(leader.identity.node_id)
        await nodes.stop(other.identity.node_id)
        await until(lambda: one.status().leader is None)
        assert (await ask(one, Action.SPARE)).text == "no leader is known"


async def test_a_leader_that_says_nothing_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, _) = await settled(nodes)
        monkeypatch.setattr(draining, "SPARE_ANSWER_SECONDS_MAX", 0.01)
        leader.peers._takers[ChangeForward] = lambda sender, message: None
        answer = await ask(one, Action.SPARE)
        assert answer.verdict is Verdict.REFUSED
        assert answer.text == f"the leader, {leader.identity.name}, did not answer"
