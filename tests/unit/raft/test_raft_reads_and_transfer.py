"""ReadIndex (thesis, section 6.4) and leadership transfer (section 3.10)."""

from __future__ import annotations

from typing import Any

import pytest

from raft import NoLeader, NotLeader, ProposalDropped, Raft, ReadDropped, ReadState, Role
from raft.messages import (
    Heartbeat,
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
)
from tests.support.raft_cluster import Cluster


def led(nodes: int = 3, **options: Any) -> tuple[Cluster, Raft]:
    made = Cluster(nodes, **options)
    return made, made.elect(1)


def rounds(raft: Raft) -> list[int]:
    ready = raft.ready()
    if ready is None:
        return []
    return [m.round for to, m in ready.messages if to == 2 and isinstance(m, Heartbeat)]


# --- reads --------------------------------------------------------------------------------------


def test_all_reads_of_one_pass_share_a_round() -> None:
    _, raft = led()
    raft.read_index(1)
    raft.step(2, ReadIndexRequest(1, 5))
    (round_id,) = rounds(raft)
    raft.step(3, HeartbeatResponse(1, round_id, False))
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [ReadState(1, 1)]
    assert ready.messages == [(2, ReadIndexResponse(1, 5, 1))]


def test_a_single_voter_answers_at_once_after_its_own_term_is_committed() -> None:
    made = Cluster(1)
    made.nodes[1].autosync = False
    raft = made.raft(1)
    raft.campaign()
    made.pump(1)
    made.sync(1)
    assert raft.role is Role.LEADER
    raft.read_index(1)
    made.pump(1)
    assert made.nodes[1].read_states == []
    made.sync(1)
    assert made.nodes[1].read_states == [ReadState(1, 1)]


def test_a_heartbeat_repeats_the_newest_round_on_its_way() -> None:
    _, raft = led()
    raft.read_index(1)
    (round_id,) = rounds(raft)
    raft.tick()
    assert rounds(raft) == [round_id]
    raft.step(2, HeartbeatResponse(1, round_id, False))
    raft.ready()
    raft.tick()
    assert rounds(raft) == [0], "nothing is on its way any more"


def test_an_old_answer_does_not_confirm_a_new_round() -> None:
    _, raft = led()
    raft.read_index(1)
    (old,) = rounds(raft)
    raft.step(2, HeartbeatResponse(1, old, False))
    raft.ready()
    raft.read_index(2)
    (new,) = rounds(raft)
    assert new > old
    raft.step(2, HeartbeatResponse(1, old, False))
    raft.step(3, HeartbeatResponse(1, old, False))
    assert raft.ready() is None


def test_an_answer_to_a_round_of_another_start_is_counted_and_ignored() -> None:
    _, raft = led()
    raft.read_index(1)
    (round_id,) = rounds(raft)
    raft.step(2, HeartbeatResponse(1, round_id + (1 << 40), False))
    assert raft.ready() is None
    assert raft.rejected == {"heartbeat response to a round of another start": 1}


def test_an_answer_to_an_earlier_round_confirms_nothing_later() -> None:
    _, raft = led()
    raft.read_index(1)
    (first,) = rounds(raft)
    raft.read_index(2)
    assert len(rounds(raft)) == 1
    raft.step(2, HeartbeatResponse(1, first, False))
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [ReadState(1, 1)]


def test_reads_are_dropped_when_leadership_ends() -> None:
    made, raft = led()
    raft.read_index(1)
    (round_id,) = rounds(raft)
    raft.step(2, Heartbeat(5, 0, 0))
    made.pump(1)
    raft.step(3, HeartbeatResponse(5, round_id, False))
    made.pump(1)
    assert made.nodes[1].read_states == []


def test_reads_that_wait_are_bounded_here_and_for_others() -> None:
    _, raft = led(reads_waiting_max=1)
    raft.read_index(1)
    with pytest.raises(ReadDropped):
        raft.read_index(2)
    raft.step(2, ReadIndexRequest(1, 3))
    assert raft.rejected == {"too many reads wait for a round": 1}


def test_without_a_leader_there_is_nobody_to_ask() -> None:
    with pytest.raises(NoLeader):
        Cluster(3).raft(2).read_index(1)


def test_a_follower_is_silent_when_asked_for_an_index() -> None:
    made, _ = led()
    made.raft(2).step(3, ReadIndexRequest(1, 1))
    assert made.raft(2).ready() is None
    assert made.raft(2).rejected == {}


# --- transfer -----------------------------------------------------------------------------------


def test_only_a_leader_hands_over_and_only_to_a_voter() -> None:
    made, raft = led()
    with pytest.raises(NotLeader):
        made.raft(2).transfer_leader(3)
    with pytest.raises(ValueError, match="target=9"):
        raft.transfer_leader(9)


def test_the_target_is_told_once_and_only_when_its_log_is_complete() -> None:
    made, raft = led()
    raft.propose([b"x"])
    raft.transfer_leader(3)
    made.pump(1)
    assert not any(isinstance(e.message, TimeoutNow) for e in made.wire)
    made.stabilize()
    assert made.leaders() == [3]


def test_timeout_now_is_not_repeated() -> None:
    _, raft = led()
    raft.transfer_leader(3)
    first = raft.ready()
    assert first is not None
    assert first.messages == [(3, TimeoutNow(1))]
    raft.step(2, HeartbeatResponse(1, 0, False))
    assert raft.ready() is None


def test_proposals_are_dropped_while_leadership_is_handed_over() -> None:
    _, raft = led()
    raft.transfer_leader(3)
    with pytest.raises(ProposalDropped, match="handed to 3"):
        raft.propose([b"x"])
    assert raft.status().transferee == 3


def test_a_transfer_to_the_leader_itself_withdraws_the_order() -> None:
    _, raft = led()
    raft.transfer_leader(3)
    raft.transfer_leader(1)
    raft.propose([b"x"])
    assert raft.status().transferee == 0


def test_a_transfer_that_fails_is_withdrawn_after_an_election_timeout() -> None:
    made, raft = led()
    made.partition((1, 2), (3,))
    raft.transfer_leader(3)
    for _ in range(10):
        made.tick(1)
        made.stabilize()
    assert raft.status().transferee == 0
    assert made.leaders() == [1]
