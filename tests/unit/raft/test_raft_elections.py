"""Who may lead, and when (paper, section 5.2; thesis, sections 4.2.3, 6.2 and 9.6)."""

from __future__ import annotations

from typing import Any

import pytest

from raft import ConfState, HardState, Persist, Raft, Role
from raft.messages import (
    AppendEntries,
    AppendResponse,
    Heartbeat,
    PreVoteResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from tests.support.raft_cluster import Cluster


def fixed(low: int, high: int) -> int:
    return low + 5


def cluster(nodes: int = 3, **options: Any) -> Cluster:
    return Cluster(nodes, random_ticks=fixed, **options)


def sent(raft: Raft) -> list[object]:
    """Take what leaves at once and what waits for the disk, then sync."""
    out: list[object] = []
    while (ready := raft.ready()) is not None:
        out += [message for _, message in ready.messages]
        if ready.persist is not None:
            out += [message for _, message in ready.persist.messages]
            raft.synced(ready.persist.number)
    return out


def persist_of(raft: Raft) -> Persist:
    ready = raft.ready()
    assert ready is not None
    assert ready.persist is not None
    return ready.persist


# --- timeouts -----------------------------------------------------------------------------------


def test_election_timeouts_are_drawn_anew_for_every_election() -> None:
    timeouts = [12, 17, 11]
    made = Cluster(2, random_ticks=lambda low, high: timeouts.pop(0), pre_vote=False)
    raft = made.raft(1)
    for timeout in (12, 11):  # 17 was drawn by node 2
        for _ in range(timeout - 1):
            raft.tick()
        term = raft.term
        timeouts.append(10)
        raft.tick()
        assert raft.term == term + 1


def test_a_follower_that_hears_its_leader_never_stands() -> None:
    made = cluster()
    made.elect(1)
    for _ in range(50):
        made.tick(1)
        made.tick(2)
        made.stabilize()
    assert made.raft(2).term == 1


def test_a_higher_term_alone_does_not_reset_the_timer() -> None:
    made = cluster(pre_vote=False)
    made.tick(2, 14)
    raft = made.raft(2)
    raft.step(3, AppendResponse(7, 0, True, 0, 0, False))
    assert (raft.term, raft.role) == (7, Role.FOLLOWER)
    made.tick(2, 1)
    assert raft.role is Role.CANDIDATE


def test_a_granted_vote_resets_the_timer_and_a_refused_one_does_not() -> None:
    for last_term, role in ((0, Role.FOLLOWER), (None, Role.CANDIDATE)):
        made = cluster(pre_vote=False)
        made.tick(2, 14)
        raft = made.raft(2)
        if last_term is None:
            raft.vote, raft.term = 3, 1  # already given to another
        raft.step(1, RequestVote(1, 0, 0, False))
        made.tick(2, 1)
        assert raft.role is role


def test_a_node_without_a_vote_never_stands() -> None:
    made = cluster()
    made.conf_state = ConfState((2, 3), learners=(1,))
    made.restart(1)
    made.tick(1, 100)
    made.raft(1).campaign()
    assert made.raft(1).term == 0
    assert made.wire == []


# --- votes --------------------------------------------------------------------------------------


def test_a_vote_is_given_once_per_term() -> None:
    raft = cluster().raft(1)
    raft.step(2, RequestVote(1, 0, 0, False))
    raft.step(3, RequestVote(1, 0, 0, False))
    assert sent(raft) == [RequestVoteResponse(1, True), RequestVoteResponse(1, False)]


def test_the_same_candidate_is_answered_the_same_again() -> None:
    raft = cluster().raft(1)
    raft.step(2, RequestVote(1, 0, 0, False))
    raft.step(2, RequestVote(1, 0, 0, False))
    assert sent(raft) == [RequestVoteResponse(1, True)] * 2


def test_a_vote_waits_for_the_write_that_holds_it() -> None:
    raft = cluster().raft(1)
    raft.step(2, RequestVote(1, 0, 0, False))
    ready = raft.ready()
    assert ready is not None
    assert ready.messages == []
    assert ready.persist is not None
    assert ready.persist.hard_state == HardState(1, 2, 0)
    assert ready.persist.messages == [(2, RequestVoteResponse(1, True))]


def test_a_candidate_of_an_earlier_term_is_told_the_term() -> None:
    made = cluster()
    raft = made.elect(1)
    raft.step(3, RequestVote(0, 0, 0, False))
    assert sent(raft) == [RequestVoteResponse(1, False)]


def test_a_candidate_asks_only_when_its_own_vote_is_durable() -> None:
    raft = cluster(pre_vote=False).raft(1)
    raft.campaign()
    ready = raft.ready()
    assert ready is not None
    assert ready.messages == []
    assert ready.persist is not None
    assert [to for to, _ in ready.persist.messages] == [2, 3]


def test_a_candidate_does_not_lead_before_its_own_vote_is_durable() -> None:
    made = cluster(pre_vote=False)
    raft = made.raft(1)
    raft.campaign()
    number = persist_of(raft).number
    raft.step(2, RequestVoteResponse(1, True))
    raft.step(3, RequestVoteResponse(1, True))
    assert made.leaders() == []
    raft.synced(number)
    assert made.leaders() == [1]


def test_a_vote_for_an_earlier_candidacy_does_not_count_when_it_becomes_durable() -> None:
    raft = cluster(nodes=1, pre_vote=False).raft(1)
    raft.campaign()
    number = persist_of(raft).number
    raft.campaign()
    raft.synced(number)
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)


def test_a_refusal_by_a_majority_ends_the_candidacy_in_its_term() -> None:
    raft = cluster(pre_vote=False).raft(1)
    raft.campaign()
    sent(raft)
    raft.step(2, RequestVoteResponse(1, False))
    raft.step(3, RequestVoteResponse(1, False))
    assert (raft.role, raft.term, raft.vote) == (Role.FOLLOWER, 1, 1)


def test_a_repeated_vote_counts_once() -> None:
    made = cluster(nodes=5, pre_vote=False)
    raft = made.raft(1)
    raft.campaign()
    sent(raft)
    for _ in range(3):
        raft.step(2, RequestVoteResponse(1, True))
    assert raft.role is Role.CANDIDATE


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    raft = cluster(pre_vote=False).raft(1)
    raft.campaign()
    raft.step(2, Heartbeat(1, 0, 0))
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 2)


def test_a_second_leader_in_one_term_is_counted_and_not_followed() -> None:
    raft = cluster().raft(1)
    raft.step(2, Heartbeat(1, 0, 0))
    raft.step(3, AppendEntries(1, 0, 0, 0, ()))
    raft.step(3, Heartbeat(1, 0, 0))
    assert raft.leader == 2
    assert raft.rejected == {"second leader in one term": 2}


def test_a_request_asked_again_on_connection_is_the_same() -> None:
    made = cluster(pre_vote=False)
    raft = made.raft(1)
    raft.campaign()
    first = sent(raft)
    raft.peer_connected(2)
    assert sent(raft) == first[:1]


# --- PreVote ------------------------------------------------------------------------------------


def test_asking_for_a_pre_vote_changes_no_term_anywhere() -> None:
    made = cluster()
    made.raft(1).campaign()
    made.pump(1)
    made.deliver()
    assert [made.raft(n).term for n in (1, 2)] == [0, 0]


def test_a_pre_vote_is_refused_to_a_log_that_is_behind() -> None:
    made = cluster()
    made.elect(1)
    raft = made.raft(2)
    made.tick(2, 10)
    raft.step(3, RequestPreVote(2, 0, 0))
    assert sent(raft) == [PreVoteResponse(1, False)]
    raft.step(3, RequestPreVote(2, 1, 1))
    assert sent(raft) == [PreVoteResponse(2, True)]


def test_a_pre_candidate_of_an_earlier_term_learns_the_term() -> None:
    made = cluster()
    made.elect(1)
    raft = made.raft(2)
    raft.step(3, RequestPreVote(1, 1, 1))
    assert sent(raft) == [PreVoteResponse(1, False)]
    late = cluster().raft(3)
    late.campaign()
    late.step(2, PreVoteResponse(1, False))
    assert (late.role, late.term) == (Role.FOLLOWER, 1)


def test_a_pre_vote_for_another_term_does_not_count() -> None:
    raft = cluster().raft(1)
    raft.campaign()
    raft.step(2, PreVoteResponse(7, True))
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 0)


def test_a_pre_vote_that_arrives_late_does_nothing() -> None:
    made = cluster()
    raft = made.elect(1)
    raft.step(2, PreVoteResponse(2, True))
    assert (raft.role, raft.term) == (Role.LEADER, 1)


def test_a_majority_of_refusals_ends_the_asking() -> None:
    made = cluster()
    made.elect(1)
    raft = made.raft(2)
    raft.campaign()
    for peer in (1, 3):
        raft.step(peer, PreVoteResponse(1, False))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


# --- stickiness and CheckQuorum -----------------------------------------------------------------


@pytest.mark.parametrize("request_", [RequestVote(9, 9, 1, False), RequestPreVote(9, 9, 1)])
@pytest.mark.parametrize("node", [1, 2])
def test_who_leads_or_hears_a_leader_ignores_candidates(
    node: int, request_: RequestVote | RequestPreVote
) -> None:
    made = cluster()
    made.elect(1)
    raft = made.raft(node)
    raft.step(3, request_)
    assert raft.term == 1
    assert raft.ready() is None


def test_an_election_that_the_leader_asked_for_is_not_ignored() -> None:
    made = cluster()
    raft = made.elect(1)
    raft.step(3, RequestVote(2, 1, 1, True))
    assert sent(raft) == [RequestVoteResponse(2, True)]


def test_a_leader_that_hears_a_majority_stays() -> None:
    made = cluster()
    made.elect(1)
    made.partition((1, 2), (3,))
    for _ in range(40):
        made.tick(1)
        made.stabilize()
    assert made.leaders() == [1]


def test_a_leader_of_one_stays() -> None:
    made = cluster(nodes=1)
    made.elect(1)
    made.tick(1, 100)
    assert made.leaders() == [1]


def test_without_check_quorum_a_lonely_leader_stays() -> None:
    made = cluster(check_quorum=False)
    made.elect(1)
    made.partition((1,), (2, 3))
    made.tick(1, 100)
    assert made.leaders() == [1]


def test_learners_count_in_no_quorum() -> None:
    made = Cluster(4, random_ticks=fixed)
    made.conf_state = ConfState((1, 2, 3), learners=(4,))
    for node in made.nodes:
        made.restart(node)
    made.elect(1)
    made.partition((1, 4), (2, 3))
    raft = made.raft(1)
    commit = raft.commit
    raft.propose([b"x"])
    made.stabilize()
    assert raft.progress()[4].match == raft.last_index, "a learner gets everything"
    assert raft.commit == commit
    for _ in range(20):
        made.tick(1)
        made.stabilize()
    assert made.leaders() == []


# --- what cannot be -----------------------------------------------------------------------------


def test_a_stranger_is_counted_and_ignored() -> None:
    raft = cluster().raft(1)
    raft.step(9, Heartbeat(5, 0, 0))
    raft.step(1, Heartbeat(5, 0, 0))
    assert raft.term == 0
    assert raft.rejected == {"sender is not a member": 2}


def test_timeout_now_from_another_than_the_leader_does_nothing() -> None:
    made = cluster()
    made.elect(1)
    made.raft(2).step(3, TimeoutNow(1))
    assert made.raft(2).term == 1


def test_a_term_is_shown_to_nobody_before_it_is_durable() -> None:
    made = cluster()
    made.elect(1)
    raft = made.raft(2)
    raft.step(3, Heartbeat(5, 0, 0))
    ready = raft.ready()
    assert ready is not None
    assert ready.messages == [], "the answer to the heartbeat would show term 5"
    assert ready.persist is not None
    raft.step(3, Heartbeat(5, 0, 0))
    again = raft.ready()
    assert again is not None
    assert again.messages == []
    raft.synced(ready.persist.number)
    raft.step(3, Heartbeat(5, 0, 0))
    last = raft.ready()
    assert last is not None
    assert len(last.messages) == 1


def test_a_candidate_that_lost_waits_a_whole_timeout_before_it_stands_again() -> None:
    made = cluster(pre_vote=False)
    raft = made.raft(1)
    raft.campaign()
    made.tick(1, 14)
    for peer in (2, 3):
        raft.step(peer, RequestVoteResponse(1, False))
    made.tick(1, 14)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    made.tick(1, 1)
    assert raft.term == 2


@pytest.mark.parametrize("log_end", [(1, 1), (0, 0)])
def test_a_vote_is_refused_to_a_log_that_is_behind(log_end: tuple[int, int]) -> None:
    made = cluster(check_quorum=False)
    made.elect(1)
    made.raft(1).propose([b"x"])
    made.stabilize()
    raft = made.raft(2)
    raft.step(3, RequestVote(2, *log_end, False))
    assert sent(raft) == [RequestVoteResponse(2, False)]
    raft.step(3, RequestVote(3, 2, 1, False))
    assert sent(raft) == [RequestVoteResponse(3, True)]
