"""What a lease allows, and what a promise to its holder forbids (raft.lease)."""

from __future__ import annotations

from raft import Raft, Role
from raft.lease import Lease
from raft.messages import AppendResponse, HeartbeatResponse, RequestPreVote, RequestVote
from tests.support.raft_cluster import Cluster

SPAN = 8  # of Cluster's election_ticks_min, 10, and the default drift, 2


def cluster() -> Cluster:
    """Three nodes whose promise of the start is over."""
    made = Cluster(3, random_ticks=lambda low, high: low + 5, lease_reads=True)
    for node_id in made.nodes:
        made.tick(node_id, 10)
    return made


def confirmed() -> tuple[Cluster, Raft]:
    """Node 1 leads and was confirmed in this tick."""
    made = cluster()
    raft = made.elect(1)
    made.tick(1)
    made.stabilize()
    return made, raft


def answered_at_once(raft: Raft) -> bool:
    raft.read_index(1)
    ready = raft.ready()
    return ready is not None and bool(ready.read_states)


def test_a_lease_counts_from_the_start_of_its_round_and_not_from_the_answer() -> None:
    lease = Lease(SPAN)
    lease.started(1)
    for _ in range(5):
        lease.tick()
    lease.confirmed(1)
    assert lease.held
    for _ in range(3):
        lease.tick()
    assert not lease.held


def test_a_later_round_confirms_the_earlier_and_counts_for_itself() -> None:
    lease = Lease(SPAN)
    lease.started(1)
    lease.tick()
    lease.started(2)
    lease.confirmed(2)
    for _ in range(SPAN - 1):
        lease.tick()
    assert lease.held
    lease.confirmed(1)
    assert lease.held, "an old answer takes nothing back"
    lease.tick()
    assert not lease.held


def test_a_new_leader_has_no_lease() -> None:
    raft = cluster().elect(1)
    assert not answered_at_once(raft)


def test_before_the_first_commit_of_its_term_a_lease_answers_nothing() -> None:
    made = cluster()
    raft = made.raft(1)
    raft.campaign()
    for node_id in (1, 2):
        made.pump(node_id)
    while raft.role is not Role.LEADER:
        made.deliver()
    made.tick(1)
    round_id = raft._reads.newest
    raft.step(2, HeartbeatResponse(1, round_id, False))
    assert raft.commit < raft.first_index_of_term
    assert not answered_at_once(raft)
    raft.step(2, AppendResponse(1, 1, False, 0, 0, False))
    assert answered_at_once(raft)


def test_a_recovering_voter_extends_no_lease() -> None:
    made, raft = confirmed()
    made.tick(1, SPAN)
    raft.step(2, HeartbeatResponse(1, raft._reads.newest, True))
    assert not answered_at_once(raft)


def test_no_vote_of_any_kind_within_the_promise_but_for_a_transfer() -> None:
    made, _ = confirmed()
    raft = made.raft(2)
    # Its term changes and its leader is forgotten; the promise stays.
    raft.step(3, AppendResponse(5, 0, True, 0, 0, False))
    raft.step(3, RequestPreVote(9, 9, 5))
    raft.step(3, RequestVote(5, 9, 5, False))
    raft.step(3, RequestVote(6, 9, 5, False))
    raft.campaign()
    made.pump(2)
    assert not made.wire
    assert (raft.term, raft.vote, raft.role) == (5, 0, Role.FOLLOWER)
    raft.step(3, RequestVote(6, 9, 5, True))
    assert raft.vote == 3


def test_a_voter_alone_has_made_nobody_a_promise() -> None:
    made = Cluster(1, lease_reads=True)
    assert made.elect(1).role is Role.LEADER
