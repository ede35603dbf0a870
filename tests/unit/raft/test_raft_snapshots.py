"""Compaction, who needs a snapshot, and what an installed one means (paper, section 7)."""

from __future__ import annotations

from typing import Any

import pytest

from raft import Entry, HardState, Raft, Ready, Role
from raft.messages import AppendEntries, AppendResponse, Heartbeat, Message, RequestVote
from tests.support.raft_cluster import Cluster, Disk


def entries(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(term, index, 0, b"x") for index, term in enumerate(terms, first))


def behind(**options: Any) -> tuple[Cluster, Raft]:
    """Node 1 leads; node 3 was away since entry 1, and the leader's log begins after entry 4."""
    made = Cluster(3, **options)
    raft = made.elect(1)
    made.partition((1, 2))
    raft.propose([b"2", b"3", b"4"])
    made.stabilize()
    made.take_snapshot(1)
    made.heal()
    return made, raft


def meet(made: Cluster) -> None:
    """Let a heartbeat find out what node 3 lacks."""
    made.tick(1)
    made.stabilize()


def follower(*terms: int) -> Raft:
    """Node 2, following node 1 in term 5, with stable entries of `terms`, none committed."""
    made = Cluster(3)
    made.start(2, Disk(HardState(4, 0, 0), list(entries(*terms))))
    raft = made.raft(2)
    raft.step(1, Heartbeat(5, 0, 0))
    settle(raft)
    return raft


def settle(raft: Raft) -> list[Message]:
    """Do what is ready, with a disk that is done at once; return all messages."""
    messages = []
    while (ready := raft.ready()) is not None:
        messages += [message for _, message in ready.messages]
        if ready.persist is not None:
            messages += [message for _, message in ready.persist.messages]
            raft.synced(ready.persist.number)
    return messages


def take(raft: Raft) -> Ready:
    ready = raft.ready()
    assert ready is not None
    return ready


# --- compaction ---------------------------------------------------------------------------------


def test_nothing_is_compacted_that_is_not_applied() -> None:
    made = Cluster(3)
    raft = made.elect(1)
    raft.propose([b"x"])
    with pytest.raises(ValueError, match="index=2 is out of range"):
        raft.compact(2)
    assert raft.log.compacted == 0


def test_compaction_never_goes_back() -> None:
    _, raft = behind()
    raft.compact(2)
    assert raft.log.compacted == 4


def test_a_follower_whose_next_entry_is_gone_is_named_once_and_gets_no_append() -> None:
    made, raft = behind()
    meet(made)
    assert [stream.to for stream in made.streams] == [3]
    assert raft.progress()[3].state == "snapshot"
    raft.propose([b"5"])
    made.stabilize()
    made.tick(1, 5)
    sent = [type(e.message) for e in made.wire if e.to == 3]
    assert sent == [Heartbeat] * 5
    made.stabilize()
    assert len(made.streams) == 1
    assert made.raft(3).last_index == 1


def test_a_follower_that_has_all_that_was_compacted_goes_on_from_the_log() -> None:
    made, raft = behind()
    raft.propose([b"5"])
    made.stabilize()
    assert raft.progress()[2].state == "replicate"
    assert made.raft(2).commit == 5


def test_nobody_is_named_before_it_answers() -> None:
    made, raft = behind()
    made.partition((1, 2))
    made.tick(1, 3)
    made.stabilize()
    raft.propose([b"5"])
    made.stabilize()
    assert made.streams == []


def test_a_pipeline_overtaken_by_compaction_ends_in_a_snapshot() -> None:
    made = Cluster(3, inflight_messages_max=1)
    raft = made.elect(1)
    made.partition((1, 2))
    for data in (b"2", b"3", b"4"):
        raft.propose([data])
        made.stabilize()
    assert raft.progress()[3].inflight_messages == 1, "the window is full, entry 3 waits"
    made.take_snapshot(1)
    assert [stream.to for stream in made.streams] == [3]


def test_a_follower_one_entry_short_of_what_was_compacted_needs_a_snapshot() -> None:
    made = Cluster(3)
    raft = made.elect(1)
    raft.propose([b"2"])
    made.pump(1)
    made.wire.clear()  # nobody gets entry 2 but the leader
    made.partition((1, 2))
    made.tick(1)
    made.stabilize()
    made.take_snapshot(1)
    made.heal()
    meet(made)
    assert [(stream.to, stream.snapshot.index) for stream in made.streams] == [(3, 2)]


# --- the stream ends ----------------------------------------------------------------------------


def test_after_its_snapshot_a_follower_is_probed_behind_it() -> None:
    made, raft = behind()
    meet(made)
    (stream,) = made.streams
    raft.snapshot_finished(3, 4, ok=True)
    (message,) = [m for to, m in take(raft).messages if to == 3]
    assert isinstance(message, AppendEntries)
    assert (message.previous_index, message.previous_term) == (4, 1)
    assert raft.progress()[3].state == "probe"
    made.install(stream)
    made.stabilize()
    assert raft.progress()[3].state == "replicate"
    assert raft.progress()[3].match == 4


def test_a_failed_stream_is_asked_for_again_only_after_a_heartbeat_was_answered() -> None:
    made, raft = behind()
    meet(made)
    made.finish(made.streams[0], ok=False)
    made.stabilize()
    assert len(made.streams) == 1
    assert raft.progress()[3].state == "probe"
    meet(made)
    assert len(made.streams) == 2
    assert raft.progress()[3].state == "snapshot"


def test_a_snapshot_that_compaction_has_overtaken_is_followed_by_another() -> None:
    made, raft = behind()
    meet(made)
    (stream,) = made.streams
    raft.propose([b"5", b"6"])
    made.stabilize()
    made.take_snapshot(1)
    assert made.accept(stream)
    assert made.install(stream)
    made.stabilize()
    assert raft.progress()[3].state == "snapshot", "match=4, but the log begins after 6"
    made.finish(stream, ok=True)
    assert [s.snapshot.index for s in made.streams] == [4, 6]


def test_an_acknowledgement_that_reaches_the_log_ends_the_wait() -> None:
    made, raft = behind()
    meet(made)
    raft.step(3, AppendResponse(1, 3, False, 0, 0, False))
    assert raft.progress()[3].state == "snapshot"
    raft.step(3, AppendResponse(1, 4, False, 0, 0, False))
    assert raft.progress()[3].state == "replicate"
    raft.snapshot_finished(3, 4, ok=False)
    assert raft.progress()[3].state == "replicate", "the end of the stream is out of date"


def test_the_end_of_a_stream_means_nothing_to_a_follower_or_about_a_stranger() -> None:
    made, raft = behind()
    made.raft(2).snapshot_finished(3, 1, ok=True)
    raft.snapshot_finished(9, 4, ok=True)
    assert made.raft(2).ready() is None


def test_nobody_can_have_sent_more_than_was_applied() -> None:
    made, raft = behind()
    meet(made)
    with pytest.raises(ValueError, match="index=5 is out of range"):
        raft.snapshot_finished(3, 5, ok=True)


def test_a_follower_waiting_for_a_snapshot_still_counts_as_heard() -> None:
    made, raft = behind(check_quorum=True)
    meet(made)
    made.partition((1, 3))
    for _ in range(30):
        made.tick(1)
        made.stabilize()
    assert raft.role is Role.LEADER


# --- accepting ----------------------------------------------------------------------------------


def test_a_snapshot_is_accepted_from_the_leader_and_beyond_commit_only() -> None:
    raft = follower(1, 1, 2)
    raft.step(1, Heartbeat(5, 2, 0))
    assert raft.accepts_snapshot(1, 5, 3)
    assert not raft.accepts_snapshot(1, 5, 2)
    assert not raft.accepts_snapshot(1, 4, 9), "its term is over"
    assert not raft.accepts_snapshot(3, 5, 9), "node 1 leads term 5"
    assert not raft.accepts_snapshot(9, 6, 9), "a stranger"
    assert (raft.term, raft.leader) == (5, 1)


def test_an_offer_of_a_later_term_makes_its_sender_the_leader() -> None:
    raft = follower(1)
    assert raft.accepts_snapshot(3, 6, 9)
    assert (raft.term, raft.leader) == (6, 3)


def test_a_candidate_follows_who_offers_a_snapshot_in_its_term() -> None:
    made = Cluster(3, pre_vote=False)
    raft = made.raft(2)
    raft.campaign()
    assert raft.accepts_snapshot(1, 1, 9)
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 1)


def test_offers_keep_an_election_from_starting() -> None:
    raft = follower(1)
    for _ in range(50):
        raft.tick()
        raft.accepts_snapshot(1, 5, 9)
    assert raft.role is Role.FOLLOWER


# --- installing ---------------------------------------------------------------------------------


def test_a_log_that_lacks_the_snapshot_is_replaced_by_it() -> None:
    raft = follower(1, 1, 2)
    assert raft.install_snapshot(1, 5, 7, 4)
    log = raft.log
    assert (log.compacted, log.last_index, log.last_term) == (7, 7, 4)
    assert (raft.commit, raft.applied, log.stable) == (7, 7, 7)
    assert settle(raft) == [AppendResponse(5, 7, False, 0, 0, False)]


def test_a_log_that_conflicts_with_the_snapshot_is_replaced_whole() -> None:
    raft = follower(1, 1, 2, 2, 2)
    assert raft.install_snapshot(1, 5, 3, 4)
    assert (raft.last_index, raft.log.last_term, raft.log.term(4)) == (3, 4, None)


def test_a_log_that_has_the_snapshot_keeps_what_follows() -> None:
    raft = follower(1, 1, 2, 2, 3)
    assert raft.install_snapshot(1, 5, 3, 2)
    assert (raft.log.compacted, raft.commit, raft.applied) == (3, 3, 3)
    assert [raft.log.term(index) for index in (3, 4, 5)] == [2, 2, 3]
    raft.step(1, Heartbeat(5, 5, 0))
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [4, 5]


def test_a_snapshot_of_what_is_committed_changes_nothing() -> None:
    raft = follower(1, 1, 2)
    raft.step(1, Heartbeat(5, 2, 0))
    settle(raft)
    before = raft.status()
    assert not raft.install_snapshot(1, 5, 2, 1)
    assert raft.status() == before
    assert raft.log.compacted == 0
    assert raft.ready() is None


def test_a_term_that_no_snapshot_of_that_leader_can_have_is_an_error() -> None:
    raft = follower(1)
    for term in (0, 6):
        with pytest.raises(ValueError, match=f"snapshot_term={term} is out of range"):
            raft.install_snapshot(1, 5, 9, term)


def test_syncs_of_replaced_entries_prove_nothing() -> None:
    raft = follower(1)
    raft.step(1, AppendEntries(5, 1, 1, 0, entries(2, 2, 2, first=2)))
    persist = take(raft).persist
    assert persist is not None
    raft.install_snapshot(3, 6, 2, 4)
    raft.step(3, AppendEntries(6, 2, 4, 0, entries(6, 6, first=3)))
    raft.synced(persist.number)
    assert (raft.last_index, raft.log.stable) == (4, 2)
    settle(raft)
    assert raft.log.stable == 4


def test_syncs_of_kept_entries_still_count() -> None:
    raft = follower(1)
    raft.step(1, AppendEntries(5, 1, 1, 0, entries(2, 2, 2, first=2)))
    persist = take(raft).persist
    assert persist is not None
    raft.install_snapshot(1, 5, 2, 2)
    assert raft.log.stable == 2
    assert not raft.log.has_unhanded(), "they are on their way"
    raft.synced(persist.number)
    assert raft.log.stable == 4


def test_entries_that_a_snapshot_covers_are_not_written_any_more() -> None:
    raft = follower(1)
    raft.step(1, AppendEntries(5, 1, 1, 0, entries(2, 2, 2, first=2)))
    raft.install_snapshot(1, 5, 3, 2)
    persist = take(raft).persist
    assert persist is not None
    assert [entry.index for entry in persist.entries] == [4]


def test_entries_handed_out_before_the_snapshot_are_not_handed_out_again() -> None:
    raft = follower(1, 1, 2, 2, 2)
    raft.step(1, Heartbeat(5, 2, 0))
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [1, 2]
    raft.install_snapshot(1, 5, 3, 2)
    raft.step(1, Heartbeat(5, 5, 0))
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [4, 5]


def test_the_acknowledgement_waits_for_the_term_that_it_names() -> None:
    raft = follower(1)
    assert raft.install_snapshot(3, 6, 9, 4)
    ready = take(raft)
    assert ready.messages == []
    assert ready.persist is not None
    assert ready.persist.messages == [(3, AppendResponse(6, 9, False, 0, 0, False))]


def test_a_snapshot_of_a_former_leader_is_acknowledged_to_the_present_one() -> None:
    raft = follower(1)
    raft.step(3, Heartbeat(6, 0, 0))
    settle(raft)
    assert not raft.accepts_snapshot(1, 5, 9)
    assert raft.install_snapshot(1, 5, 9, 4), "what is committed is committed under all leaders"
    assert take(raft).messages == [(3, AppendResponse(6, 9, False, 0, 0, False))]


def test_without_a_leader_nobody_is_told() -> None:
    raft = follower(1)
    raft.step(3, RequestVote(6, 9, 5, True))
    settle(raft)
    assert raft.install_snapshot(1, 5, 9, 4)
    assert settle(raft) == []


def test_a_leader_may_learn_from_an_older_snapshot_how_far_the_commit_was() -> None:
    made = Cluster(3, pre_vote=False)
    made.start(2, Disk(HardState(4, 0, 0), list(entries(1, 1, 2, 2))))
    raft = made.raft(2)
    raft.campaign()
    made.pump(2)
    while raft.role is not Role.LEADER:
        made.deliver()
    assert (raft.role, raft.commit) == (Role.LEADER, 0)
    assert raft.install_snapshot(1, 4, 3, 2)
    assert (raft.commit, raft.applied, raft.last_index) == (3, 3, raft.first_index_of_term)
    assert AppendResponse not in [type(message) for message in settle(raft)]


def test_a_snapshot_that_contradicts_the_leaders_log_is_a_broken_invariant() -> None:
    _, raft = behind()
    raft.propose([b"5"])
    with pytest.raises(AssertionError, match="snapshot 6 of term 1 contradicts the leader's"):
        raft.install_snapshot(2, 1, 6, 1)


def test_a_node_that_has_only_a_snapshot_votes_and_stands_by_its_term() -> None:
    raft = follower(1)
    raft.install_snapshot(1, 5, 7, 4)
    assert not raft.log.is_up_to_date(9, 3)
    assert not raft.log.is_up_to_date(6, 4)
    assert raft.log.is_up_to_date(7, 4)


def test_an_append_that_begins_in_the_compacted_part_is_taken_from_its_end_on() -> None:
    raft = follower(1)
    raft.install_snapshot(1, 5, 4, 4)
    settle(raft)
    raft.step(1, AppendEntries(5, 2, 1, 4, entries(1, 4, 5, first=3)))
    assert settle(raft) == [AppendResponse(5, 5, False, 0, 0, False)]
    assert (raft.last_index, raft.log.term(5)) == (5, 5)


def test_an_append_that_lies_in_the_compacted_part_is_acknowledged() -> None:
    raft = follower(1)
    raft.install_snapshot(1, 5, 4, 4)
    settle(raft)
    raft.step(1, AppendEntries(5, 0, 0, 0, entries(1, 1)))
    assert settle(raft) == [AppendResponse(5, 4, False, 0, 0, False)]


def test_an_append_behind_a_gap_names_the_end_of_the_snapshot() -> None:
    raft = follower(1)
    raft.install_snapshot(1, 5, 4, 4)
    settle(raft)
    raft.step(1, AppendEntries(5, 9, 5, 4, entries(5, first=10)))
    assert settle(raft) == [AppendResponse(5, 9, True, 4, 4, False)]


def test_a_snapshot_holds_even_if_its_sender_is_no_member_any_more() -> None:
    raft = follower(1)
    assert raft.install_snapshot(9, 6, 4, 4)
    assert (raft.commit, raft.term, raft.leader) == (4, 5, 1), "but its sender is nobody's leader"
