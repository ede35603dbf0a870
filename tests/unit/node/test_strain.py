"""Nodes tell each other how hard they have it, and leadership goes to those who have it easier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvnode.admission.departure import Turn
from kvnode.admission.ladder import Rung
from kvnode.limits import STRAIN_REPEAT_SECONDS, STRAIN_SECONDS
from kvnode.node.hello import WIRE_VERSION
from kvnode.node.node import Node
from kvnode.node.strain import (
    CALM,
    RUNG_GOES,
    RUNG_WAITS,
    Strain,
    Strains,
)
from kvnode.node.wire import Fitness, Strained
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict
from tests.support.nodes import Cluster, cluster_of, until

CALM_RUNG, SHED, REFUSE = Rung.CALM, Rung.SHED, Rung.REFUSE


class Told:
    """Strains of a node with the peers 2 and 3, and what it sent."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, Fitness | Strained]] = []
        self.version = WIRE_VERSION
        self.strains = Strains(self, lambda: None, lambda: self.now)

    peers: Sequence[int] = (2, 3)

    def wire_version(self, peer: int) -> int:
        del peer
        return self.version

    def send(self, peer: int, message: Fitness | Strained) -> None:
        self.sent.append((peer, message))


# --- telling ------------------------------------------------------------------------------------


def test_a_change_is_told_to_all_at_once_and_repeated_while_it_lasts() -> None:
    told = Told()
    told.strains.change(Strain(SHED))
    assert told.sent == [(2, Fitness(SHED, False, False)), (3, Fitness(SHED, False, False))]
    told.sent.clear()
    told.strains.change(Strain(SHED))
    told.strains.sweep()
    assert not told.sent
    told.now += STRAIN_REPEAT_SECONDS
    told.strains.sweep()
    assert [peer for peer, _ in told.sent] == [2, 3]


def test_the_end_of_it_is_told_and_then_nothing_more() -> None:
    told = Told()
    told.strains.change(Strain(0, is_late=True))
    told.sent.clear()
    told.strains.change(CALM)
    assert told.sent == [(2, Fitness(0, False, False)), (3, Fitness(0, False, False))]
    told.sent.clear()
    told.now += 10
    told.strains.sweep()
    told.strains.connected(2)
    assert not told.sent


def test_a_peer_that_comes_back_hears_of_it() -> None:
    told = Told()
    told.strains.change(Strain(REFUSE))
    told.sent.clear()
    told.strains.connected(3)
    assert told.sent == [(3, Fitness(REFUSE, False, False))]


def test_what_a_peer_said_holds_until_it_says_otherwise_falls_silent_or_comes_anew() -> None:
    told, strained = Told(), Fitness(REFUSE, True, False)
    strains = told.strains
    assert strains.of(2) == CALM
    strains.told(2, strained)
    assert strains.of(2) == Strain(REFUSE, is_late=True)
    strains.told(2, Fitness(0, False, False))
    assert strains.of(2) == CALM

    strains.told(2, strained)
    told.now += STRAIN_SECONDS
    assert strains.of(2) == CALM

    strains.told(3, strained)
    strains.forget(3)
    assert strains.of(3) == CALM


@pytest.mark.parametrize(
    ("own", "strained"),
    [
        (Strain(SHED, is_late=True), Strained(SHED, True)),
        (Strain(is_draining=True), Strained(REFUSE, False)),
        (Strain(RUNG_WAITS, is_draining=True), Strained(RUNG_WAITS, False)),
    ],
)
def test_a_peer_that_does_not_know_of_draining_hears_of_a_rung_that_nobody_leads_from(
    own: Strain, strained: Strained
) -> None:
    told = Told()
    told.version = 4
    told.strains.change(own)
    assert told.sent == [(2, strained), (3, strained)]
    told.strains.told(2, strained)
    assert told.strains.of(2).may_lead is own.may_lead
    told.version, told.sent = 3, []
    told.strains.sweep()
    assert not told.sent


def test_a_message_may_get_lost_without_an_interruption() -> None:
    assert STRAIN_SECONDS > 2 * STRAIN_REPEAT_SECONDS


# --- choosing -----------------------------------------------------------------------------------


async def settled(nodes: Cluster) -> tuple[Node, list[Node]]:
    """A leader that holds off no more and is connected to all, and the others."""
    leader = await nodes.leader()
    others = [node for node in nodes.nodes.values() if node is not leader]
    await until(lambda: len(leader.succession._electable()) == len(others))
    for node in nodes.nodes.values():
        own = node.identity.node_id
        peers = [peer for peer in nodes.nodes if peer != own]
        await until(lambda node=node, peers=peers: all(map(node.transport.is_connected, peers)))  # type: ignore[misc]
    leader.succession.hold_off(float("-inf"))
    return leader, others


def strain_of(leader: Node, other: Node) -> Strain:
    return leader.strains.of(other.identity.node_id)


async def test_a_leader_short_of_memory_hands_over_to_the_one_that_is_calm(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (calm, short) = await settled(nodes)
        short.pressure.change(SHED)
        await until(lambda: strain_of(leader, short).rung == SHED)
        leader.pressure.change(SHED)
        await until(lambda: calm.duties.leads)
        status = {member.name: member.rung for member in calm.status().members}
        assert status[calm.identity.name] == 0
        assert status[short.identity.name] == SHED


async def test_leadership_stays_where_it_is_when_nobody_is_better_off(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        term = leader.raft.term
        for node in others:
            node.pressure.change(SHED)
        await until(lambda: all(strain_of(leader, node).rung for node in others))
        leader.pressure.change(REFUSE)
        ticks = leader.pulse.ticks
        await until(lambda: leader.pulse.ticks >= ticks + 30)
        assert (leader.duties.leads, leader.raft.term) == (True, term)


async def test_after_an_offer_or_taking_office_leadership_is_left_alone(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, _ = await settled(nodes)
        leader.succession.hold_off(leader.loop.time())
        leader.pressure.change(SHED)
        ticks = leader.pulse.ticks
        await until(lambda: leader.pulse.ticks >= ticks + 30)
        assert leader.duties.leads
        leader.succession.hold_off(float("-inf"))
        await until(lambda: any(node.duties.leads for node in nodes.nodes.values()))
        await until(lambda: not leader.duties.leads)


async def test_a_leader_with_a_late_loop_hands_over_to_one_that_keeps_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        late = others[0]
        late.strains.change(Strain(0, is_late=True))
        await until(lambda: strain_of(leader, late).is_late)
        # The loop of this test is that of all nodes: only the leader is told that it is late.
        monkeypatch.setattr(leader.condition.lag, "judge", lambda now, lag_s: False)
        monkeypatch.setattr(leader.condition.lag, "should_hand_over", lambda now: True)
        leader.strains.change(Strain(0, is_late=True))
        await until(lambda: others[1].duties.leads)


async def test_nobody_on_a_rung_that_refuses_writes_is_handed_leadership(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, (one, other) = await settled(nodes)
        one.pressure.change(REFUSE)
        other.pressure.change(SHED)
        await until(lambda: strain_of(leader, one).rung == REFUSE)
        await until(lambda: strain_of(leader, other).rung == SHED)
        assert leader.succession.best_follower() == other.identity.node_id
        refused: asyncio.Future[ChangeAnswer] = asyncio.get_running_loop().create_future()
        leader.changes.request_change(
            ChangeRequest(Action.TRANSFER, one.identity.name), refused.set_result
        )
        assert (await refused).verdict is Verdict.REFUSED
        other.pressure.change(REFUSE)
        await until(lambda: strain_of(leader, other).rung == REFUSE)
        assert leader.succession.best_follower() is None
        leader.succession.offer()
        assert not await leader.succession.hand_over(1.0)
        assert leader.duties.leads


async def test_of_those_that_have_the_log_the_calm_one_is_preferred(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        last, first = sorted(others, key=lambda node: node.identity.node_id, reverse=True)
        assert leader.succession.best_follower() in (first.identity.node_id, last.identity.node_id)
        for strained, calm in ((last, first), (first, last)):
            calm.pressure.change(CALM_RUNG)
            strained.strains.change(Strain(0, is_late=True))
            calm.strains.change(CALM)
            await until(lambda s=strained: strain_of(leader, s).is_late)  # type: ignore[misc]
            await until(lambda c=calm: strain_of(leader, c) == CALM)  # type: ignore[misc]
            assert leader.succession.best_follower() == calm.identity.node_id


def needed(nodes: Cluster) -> list[bool]:
    """Of the nodes that run, whether each thinks that the others cannot do without it."""
    turns = [node.succession.last_turn for node in nodes.nodes.values()]
    return [turn is not None and turn.is_needed for turn in turns]


async def test_a_node_knows_whether_the_others_can_do_without_it(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        await settled(nodes)
        await until(lambda: not any(needed(nodes)))
        await nodes.stop(3)
        await until(lambda: all(needed(nodes)))


async def test_who_goes_counts_as_gone_and_who_waits_goes_by_its_id(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        await settled(nodes)
        first, second, third = sorted(nodes.nodes.values(), key=lambda node: node.identity.node_id)
        for node in (second, first):
            node.pressure.change(Rung.CLOSE)
            node.condition.depart(RUNG_WAITS)
        await until(lambda: third.succession.last_turn == Turn(2))
        await until(lambda: second.succession.last_turn == Turn(1))
        assert first.succession.turn() == Turn(0)
        first.condition.depart(RUNG_GOES)
        first.pressure.change(Rung.REFUSE)
        await until(lambda: second.succession.last_turn == Turn(0, is_needed=True))
        await until(lambda: third.succession.last_turn == Turn(1, is_needed=True))
        first.condition.depart(0)
        await until(lambda: strain_of(third, first) == Strain(REFUSE))
        await until(lambda: second.succession.last_turn == Turn(0))


async def test_two_nodes_take_no_turns(tmp_path: Path) -> None:
    async with cluster_of(2, tmp_path) as nodes:
        leader, (other,) = await settled(nodes)
        assert leader.succession.turn() is None
        assert other.succession.turn() is None


async def test_a_late_loop_among_late_loops_keeps_its_office(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        term = leader.raft.term
        for node in others:
            node.strains.change(Strain(0, is_late=True))
        await until(lambda: all(strain_of(leader, node).is_late for node in others))
        monkeypatch.setattr(leader.condition.lag, "should_hand_over", lambda now: True)
        leader.strains.change(Strain(0, is_late=True))
        ticks = leader.pulse.ticks
        await until(lambda: leader.pulse.ticks >= ticks + 30)
        assert (leader.duties.leads, leader.raft.term) == (True, term)


async def test_heartbeats_leave_in_the_tick_however_long_the_pass_has_to_wait(
    tmp_path: Path,
) -> None:
    async with cluster_of(3, tmp_path) as nodes:
        leader, others = await settled(nodes)
        term = leader.raft.term
        await until(lambda: not leader.pulse._pass_scheduled)
        leader.pulse._pass_scheduled = True  # and it does not come
        ticks = leader.pulse.ticks
        await until(lambda: leader.pulse.ticks >= ticks + 100)
        assert leader.pulse._pass_scheduled
        assert all(node.raft.leader == leader.identity.node_id for node in others)
        assert leader.raft.term == term
        leader.pulse._pass_scheduled = False
        leader.pulse.wake()
