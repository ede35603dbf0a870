"""Appends, acknowledgements, commits and the disk (paper, sections 5.3 and 5.4)."""

from __future__ import annotations

from typing import Any

import pytest

from raft import ENTRY_OVERHEAD_BYTES, Entry, NotLeader, Persist, ProposalDropped, Raft, Ready
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    Heartbeat,
    HeartbeatResponse,
    Message,
)
from tests.support.raft_cluster import Cluster


def led(nodes: int = 3, **options: Any) -> tuple[Cluster, Raft]:
    made = Cluster(nodes, **options)
    return made, made.elect(1)


def take(raft: Raft) -> Ready:
    ready = raft.ready()
    assert ready is not None
    return ready


def to(ready: Ready, peer: int) -> list[Message]:
    return [message for receiver, message in ready.messages if receiver == peer]


def follower() -> Raft:
    """Node 2, following node 1 in term 1 with entries 1 and 2 stable and none committed."""
    raft = Cluster(3).raft(2)
    raft.step(1, AppendEntries(1, 0, 0, 0, (Entry(1, 1, 0, b""), Entry(1, 2, 0, b"a"))))
    persist = take(raft).persist
    assert persist is not None
    raft.synced(persist.number)
    return raft


# --- proposing ----------------------------------------------------------------------------------


def test_only_a_leader_takes_proposals_and_others_name_it() -> None:
    made, _ = led()
    with pytest.raises(NotLeader) as caught:
        made.raft(2).propose([b"x"])
    assert caught.value.leader == 1


def test_a_proposal_returns_the_index_of_its_first_entry() -> None:
    _, raft = led()
    assert raft.propose([b"a", b"b"]) == 2
    assert raft.propose([b"c"]) == 4


@pytest.mark.parametrize("data", [[], [b""], [b"a", b""]])
def test_an_empty_entry_is_refused_because_it_means_a_no_op(data: list[bytes]) -> None:
    _, raft = led()
    with pytest.raises(ValueError, match="at least one entry, and data in each"):
        raft.propose(data)
    assert raft.last_index == 1


def test_uncommitted_bytes_are_bounded_and_a_commit_makes_room() -> None:
    made, raft = led(uncommitted_bytes_max=2 * (ENTRY_OVERHEAD_BYTES + 10))
    raft.propose([b"0123456789"] * 2)
    with pytest.raises(ProposalDropped, match="340 bytes are not committed yet"):
        raft.propose([b"x"])
    made.stabilize()
    raft.propose([b"x"])


def test_a_single_proposal_above_the_bound_gets_its_turn() -> None:
    _, raft = led(uncommitted_bytes_max=1)
    raft.propose([b"large"])
    with pytest.raises(ProposalDropped):
        raft.propose([b"x"])


# --- sending ------------------------------------------------------------------------------------


def test_the_leader_sends_before_its_own_sync() -> None:
    _, raft = led()
    raft.propose([b"x"])
    ready = take(raft)
    assert [type(m) for m in to(ready, 2)] == [AppendEntries]
    assert ready.persist is not None
    assert ready.persist.messages == []
    assert [e.data for e in ready.persist.entries] == [b"x"]


def test_proposals_of_one_pass_share_a_message() -> None:
    _, raft = led()
    raft.propose([b"a"])
    raft.propose([b"b"])
    (message,) = to(take(raft), 2)
    assert isinstance(message, AppendEntries)
    assert [e.data for e in message.entries] == [b"a", b"b"]


def test_followers_at_the_same_place_get_the_same_object() -> None:
    _, raft = led()
    raft.propose([b"a"])
    ready = take(raft)
    assert to(ready, 2)[0] is to(ready, 3)[0]


def test_a_message_is_bounded_by_bytes() -> None:
    _, raft = led(message_bytes_max=2 * (ENTRY_OVERHEAD_BYTES + 1))
    raft.propose([b"a", b"b", b"c"])
    sizes = [len(m.entries) for m in to(take(raft), 2) if isinstance(m, AppendEntries)]
    assert sizes == [2, 1]


def test_bytes_on_their_way_to_one_follower_are_bounded() -> None:
    _, raft = led(inflight_bytes_max=1)
    raft.propose([b"a"])
    take(raft)
    raft.propose([b"b"])
    assert to(take(raft), 2) == []
    raft.step(2, AppendResponse(1, 2, False, 0, 0, False))
    (message,) = to(take(raft), 2)
    assert isinstance(message, AppendEntries)
    assert message.previous_index == 2


def test_a_slow_follower_is_served_from_the_disk() -> None:
    made, raft = led(cache_bytes_max=500)
    made.partition((1, 2), (3,))
    for number in range(20):
        raft.propose([b"%d" % number])
        made.stabilize()
    made.heal()
    raft.peer_connected(3)
    made.stabilize()
    assert made.nodes[1].disk.reads > 0
    assert made.nodes[3].applied == made.nodes[1].applied


def test_an_unreachable_follower_gets_nothing_until_it_is_heard() -> None:
    _, raft = led()
    raft.report_unreachable(2)
    raft.propose([b"x"])
    assert to(take(raft), 2) == []
    raft.tick()
    take(raft)
    raft.step(2, HeartbeatResponse(1, 0, False))
    (message,) = to(take(raft), 2)
    assert isinstance(message, AppendEntries)


def test_a_connection_asks_at_once_where_the_log_ends_even_with_nothing_to_send() -> None:
    _, raft = led()
    raft.peer_connected(2)
    assert to(take(raft), 2) == [AppendEntries(1, 1, 1, 1, ())]
    raft.step(2, AppendResponse(1, 1, False, 0, 0, False))
    assert raft.progress()[2].state == "replicate"


def test_a_connection_before_the_first_answer_does_not_go_back_to_the_start_of_the_log() -> None:
    made, _ = led(random_ticks=lambda low, high: high)
    made.raft(1).propose([b"%d" % n for n in range(50)])
    made.stabilize()
    made.tick(2, 10)
    made.tick(3, 10)
    made.partition((2, 3), (1,))
    raft = made.elect(2)
    raft.peer_connected(1)
    (message,) = to(take(raft), 1)
    assert isinstance(message, AppendEntries)
    assert message.previous_index == 51


def test_reports_about_strangers_or_from_followers_do_nothing() -> None:
    made, raft = led()
    raft.report_unreachable(9)
    raft.peer_connected(9)
    made.raft(2).report_unreachable(3)
    made.raft(2).peer_connected(3)
    assert raft.ready() is None
    assert made.raft(2).ready() is None


# --- committing ---------------------------------------------------------------------------------


def test_the_leaders_own_entry_counts_only_when_it_is_durable() -> None:
    _, raft = led(nodes=1)
    raft.propose([b"x"])
    persist = take(raft).persist
    assert persist is not None
    assert raft.commit == 1
    raft.synced(persist.number)
    assert raft.commit == 2


def test_a_commit_goes_out_at_once_and_once_per_pass() -> None:
    _, raft = led()
    raft.propose([b"a"])
    raft.propose([b"b"])
    raft.synced(take(raft).persist.number)  # type: ignore[union-attr]
    raft.step(2, AppendResponse(1, 2, False, 0, 0, False))
    raft.step(2, AppendResponse(1, 3, False, 0, 0, False))
    ready = take(raft)
    assert to(ready, 2) == [CommitAdvance(1, 3, 1)]
    assert to(ready, 3) == [CommitAdvance(1, 3, 1)]
    assert raft.ready() is None


def test_a_commit_rides_on_an_append_that_is_due_anyway() -> None:
    _, raft = led()
    raft.propose([b"a"])
    raft.synced(take(raft).persist.number)  # type: ignore[union-attr]
    raft.step(2, AppendResponse(1, 2, False, 0, 0, False))
    raft.propose([b"b"])
    (message,) = to(take(raft), 3)
    assert isinstance(message, AppendEntries)
    assert message.commit == 2


def test_a_heartbeat_tells_no_commit_beyond_what_the_follower_acknowledged() -> None:
    made, raft = led()
    made.partition((1, 2), (3,))
    raft.propose([b"x"])
    made.stabilize()
    raft.tick()
    ready = take(raft)
    assert to(ready, 2) == [Heartbeat(1, 2, 0)]
    assert to(ready, 3) == [Heartbeat(1, 1, 0)]


def test_a_follower_commits_no_further_than_the_append_reaches() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 1, 1, 9, ()))
    assert raft.commit == 1


def test_a_commit_beyond_the_log_is_not_taken_before_the_entry_is_there() -> None:
    raft = follower()
    raft.step(1, CommitAdvance(1, 9, 1))
    assert raft.commit == 0
    raft.step(1, CommitAdvance(1, 2, 1))
    assert raft.commit == 2


def test_a_commit_for_an_entry_of_another_term_is_not_taken() -> None:
    raft = follower()
    raft.step(3, CommitAdvance(2, 2, 2))
    assert (raft.term, raft.commit) == (2, 0)


def test_a_heartbeat_with_a_commit_beyond_the_log_is_counted_and_not_answered() -> None:
    raft = follower()
    raft.step(1, Heartbeat(1, 9, 0))
    assert raft.commit == 0
    assert raft.rejected == {"commit beyond what was acknowledged": 1}


# --- acknowledging ------------------------------------------------------------------------------


def test_an_acknowledgement_waits_for_the_write_of_its_entries() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 2, 1, 0, (Entry(1, 3, 0, b"b"),)))
    ready = take(raft)
    assert ready.messages == []
    assert ready.persist is not None
    assert ready.persist.messages == [(1, AppendResponse(1, 3, False, 0, 0, False))]


def test_an_acknowledgement_of_entries_being_written_waits_behind_them() -> None:
    raft = follower()
    message = AppendEntries(1, 2, 1, 0, (Entry(1, 3, 0, b"b"),))
    raft.step(1, message)
    take(raft)
    raft.step(1, message)
    ready = take(raft)
    assert ready.messages == []
    assert ready.persist is not None
    assert ready.persist.entries == []
    assert ready.persist.messages == [(1, AppendResponse(1, 3, False, 0, 0, False))]


def test_what_is_durable_is_acknowledged_at_once() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 1, 1, 0, (Entry(1, 2, 0, b"a"),)))
    ready = take(raft)
    assert ready.messages == [(1, AppendResponse(1, 2, False, 0, 0, False))]
    assert ready.persist is None


def test_a_heartbeat_is_answered_while_the_disk_is_busy() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 2, 1, 0, (Entry(1, 3, 0, b"b"),)))
    take(raft)
    raft.step(1, Heartbeat(1, 0, 5))
    assert take(raft).messages == [(1, HeartbeatResponse(1, 5, False))]


def test_a_rejection_names_where_the_logs_can_still_meet() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 7, 1, 0, ()))
    assert take(raft).messages == [(1, AppendResponse(1, 7, True, 2, 1, False))]


def test_an_append_below_the_commit_index_brings_what_lies_beyond() -> None:
    raft = follower()
    raft.step(1, CommitAdvance(1, 2, 1))
    raft.step(1, AppendEntries(1, 0, 0, 0, tuple(Entry(1, i, 0, b"a") for i in (1, 2, 3))))
    assert raft.last_index == 3
    raft.step(1, AppendEntries(1, 0, 0, 0, (Entry(1, 1, 0, b"a"),)))
    persist = take(raft).persist
    assert persist is not None
    assert [m.index for _, m in persist.messages if isinstance(m, AppendResponse)] == [3]


def test_an_earlier_leader_is_told_the_term() -> None:
    raft = follower()
    raft.step(3, Heartbeat(2, 0, 0))
    raft.synced(take(raft).persist.number)  # type: ignore[union-attr]
    raft.step(1, AppendEntries(1, 2, 1, 0, (Entry(1, 3, 0, b"b"),)))
    assert take(raft).messages == [(1, AppendResponse(2, 0, True, 0, 0, False))]
    assert raft.last_index == 2


def test_an_answer_beyond_the_leaders_log_is_counted_and_ignored() -> None:
    _, raft = led()
    raft.step(2, AppendResponse(1, 99, False, 0, 0, False))
    assert raft.commit == 1
    assert raft.rejected == {"append response beyond the log": 1}


def test_a_late_answer_to_a_former_leader_does_nothing() -> None:
    raft = follower()
    raft.step(3, AppendResponse(1, 2, False, 0, 0, False))
    raft.step(3, HeartbeatResponse(1, 0, False))
    assert raft.ready() is None


# --- the driver's side --------------------------------------------------------------------------


def test_has_ready_tells_whether_ready_has_something() -> None:
    _, raft = led()
    assert not raft.has_ready()
    raft.propose([b"x"])
    assert raft.has_ready()
    take(raft)
    assert not raft.has_ready()
    assert raft.ready() is None


def test_a_ready_is_never_filled_after_it_was_handed_out() -> None:
    raft = follower()
    raft.step(1, Heartbeat(1, 0, 0))
    first = take(raft)
    assert first.persist is None
    raft.step(1, AppendEntries(1, 2, 1, 0, (Entry(1, 3, 0, b"b"),)))
    second = take(raft)
    raft.step(1, Heartbeat(1, 0, 0))
    raft.step(3, Heartbeat(4, 0, 0))
    take(raft)
    assert second.messages == []
    assert second.persist is not None
    assert len(second.persist.messages) == 1


def test_writes_are_numbered_from_one_without_gaps() -> None:
    _, raft = led(nodes=1)
    start = take_numbers(raft)
    assert start == [3, 4, 5]


def take_numbers(raft: Raft) -> list[int]:
    numbers = []
    for _ in range(3):
        raft.propose([b"x"])
        persist = take(raft).persist
        assert persist is not None
        numbers.append(persist.number)
    return numbers


def test_a_number_that_was_never_handed_out_cannot_be_synced() -> None:
    _, raft = led()
    with pytest.raises(ValueError, match="number=99"):
        raft.synced(99)


def test_a_term_alone_makes_a_write_and_a_commit_does_not() -> None:
    raft = follower()
    raft.step(1, CommitAdvance(1, 2, 1))
    assert raft.ready() is None
    raft.step(3, Heartbeat(2, 0, 0))
    persist = take(raft).persist
    assert persist is not None
    assert persist.hard_state == (2, 0, 2)


def test_a_commit_index_to_be_written_never_claims_what_is_not_durable() -> None:
    raft = follower()
    raft.step(1, AppendEntries(1, 2, 1, 3, (Entry(1, 3, 0, b"b"),)))
    assert raft.commit == 3
    assert raft.hard_state.commit == 2


def test_the_status_of_a_leader_shows_everybody() -> None:
    _, raft = led()
    status = raft.status()
    assert (status.leader, status.commit, status.applied, status.stable) == (1, 1, 1, 1)
    assert {peer: view.match for peer, view in status.progress.items()} == {1: 1, 2: 1, 3: 1}
    assert raft.first_index_of_term == 1


def test_the_status_of_a_follower_shows_nobodys_progress() -> None:
    made, _ = led()
    assert made.raft(2).status().progress == {}
    assert made.raft(2).first_index_of_term == 0


def test_has_ready_tells_of_a_new_term_that_nothing_else_shows() -> None:
    raft = Cluster(3).raft(1)
    raft.step(2, AppendResponse(7, 0, True, 0, 0, False))
    assert raft.has_ready()
    persist = take(raft).persist
    assert persist is not None
    assert persist.hard_state == (7, 0, 0)


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    made, old = led(check_quorum=False, pre_vote=False, message_bytes_max=1)
    made.partition((1, 2), (3,))
    old.propose([b"x"])
    made.pump(1)
    made.deliver()
    made.wire.clear()
    made.partition((2, 3), (1,))
    raft = made.raft(2)
    raft.campaign()
    made.pump(2)
    while raft.progress().get(3) is None or raft.progress()[3].match < 2:
        made.deliver()
    assert (raft.term, raft.log.term(2), raft.commit) == (2, 1, 1), "a majority has 2, of term 1"
    made.stabilize()
    assert raft.commit == 3


def test_a_rejection_from_before_the_repair_does_not_repair_again() -> None:
    _, raft = led(message_bytes_max=1)
    raft.propose([b"lost", b"a", b"b"])
    take(raft)
    raft.step(2, AppendResponse(1, 2, True, 1, 1, False))
    assert len(to(take(raft), 2)) == 1, "the probe"
    raft.step(2, AppendResponse(1, 2, False, 0, 0, False))
    take(raft)
    raft.step(2, AppendResponse(1, 3, True, 1, 1, False))
    assert raft.progress()[2].state == "replicate"
    assert raft.ready() is None


def test_answers_to_rounds_of_reads_do_not_repeat_what_is_on_its_way() -> None:
    _, raft = led()
    raft.propose([b"x"])
    take(raft)
    for request_id in range(3):
        raft.read_index(request_id)
        (heartbeat,) = to(take(raft), 2)
        assert isinstance(heartbeat, Heartbeat)
        raft.step(2, HeartbeatResponse(1, heartbeat.round, False))
        assert take(raft).messages == []
    raft.tick()
    take(raft)
    for expected in ([AppendEntries(1, 2, 1, 1, ())], []):
        raft.step(2, HeartbeatResponse(1, 0, False))
        ready = raft.ready()
        assert (ready.messages if ready else []) == [(2, m) for m in expected]


def test_a_lost_append_is_found_by_the_answer_to_a_heartbeat() -> None:
    made, raft = led()
    raft.propose([b"x"])
    made.pump(1)
    made.wire.clear()
    made.tick(1)
    made.stabilize()
    assert made.raft(2).last_index == raft.last_index


def test_heartbeats_are_as_rare_as_they_are_configured() -> None:
    made = Cluster(3, heartbeat_ticks=2)
    made.elect(1)
    made.tick(1)
    assert not made.wire
    made.tick(1)
    assert [type(envelope.message) for envelope in made.wire] == [Heartbeat, Heartbeat]


def test_a_write_that_is_acknowledged_twice_counts_once() -> None:
    made = Cluster(3)
    raft = made.elect(1)
    made.nodes[1].autosync = False
    raft.propose([b"x"])
    made.pump(1)
    (persist,) = made.nodes[1].pending
    assert isinstance(persist, Persist)
    made.sync(1)
    raft.synced(persist.number)
    assert (raft.progress()[1].match, raft.commit) == (2, 1)


def test_to_be_unreachable_changes_nothing_for_who_is_probed_already() -> None:
    made = Cluster(3)
    raft = made.elect(1)
    for _ in range(2):
        raft.report_unreachable(3)
        assert raft.progress()[3].state == "probe"
