"""A node that lost acknowledged entries counts nowhere until it has them again."""

from __future__ import annotations

import pytest

from raft import NONE, ConfState, Entry, HardState, Message, Raft, RaftLog, Ready, Role
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    Heartbeat,
    HeartbeatResponse,
    OrderRecovery,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from raft.recovery import Recovery
from raft.types import Config
from tests.support.raft_cluster import Cluster, Disk

BOOT = 7
FIRST_QUESTION = (BOOT << 32) + 2**32 - 1


def node(
    terms: list[int],
    *,
    recovering: bool = True,
    voters: tuple[int, ...] = (1, 2, 3),
    commit: int = 0,
) -> Raft:
    """Node 1 in term 5 with entries of these terms."""
    disk = Disk(log=[Entry(term, index, 0, b"x") for index, term in enumerate(terms, 1)])
    return Raft(
        Config(
            node_id=1,
            heartbeat_ticks=1,
            election_ticks_min=10,
            election_ticks_max=10,
            random_ticks=lambda low, _high: low,
            boot_id=BOOT,
        ),
        hard_state=HardState(5, NONE, commit),
        conf_state=ConfState(voters),
        log=RaftLog.restore(disk, disk.log),
        applied=0,
        recovering=recovering,
    )


def take(raft: Raft) -> Ready:
    ready = raft.ready()
    return ready if ready is not None else Ready([], None, [], None)


def settle(raft: Raft) -> list[Message]:
    """Take everything and make it durable; return all messages."""
    out: list[Message] = []
    while (ready := raft.ready()) is not None:
        out += [message for _, message in ready.messages]
        if ready.persist is not None:
            raft.synced(ready.persist.number)
            out += [message for _, message in ready.persist.messages]
    return out


# --- what it does not do ------------------------------------------------------------------------


def test_a_recovering_node_never_campaigns() -> None:
    raft = node([1])
    for _ in range(50):
        raft.tick()
    raft.campaign()
    assert (raft.role, raft.term) == (Role.FOLLOWER, 5)


@pytest.mark.parametrize("transfer", [False, True])
def test_a_recovering_node_gives_no_vote_and_says_nothing(transfer: bool) -> None:
    raft = node([1])
    raft.step(2, RequestPreVote(6, 9, 5))
    raft.step(2, RequestVote(6, 9, 5, transfer))
    assert settle(raft) == []
    assert (raft.term, raft.vote) == (6, NONE)


def test_a_recovering_node_does_not_stand_when_its_leader_tells_it_to() -> None:
    raft = node([1])
    raft.step(2, TimeoutNow(5))
    assert raft.role is Role.FOLLOWER


def test_a_recovering_node_believes_no_commit_index_that_its_state_names() -> None:
    assert node([1, 1], commit=2).commit == 0
    assert node([1, 1], commit=9).commit == 0, "the entries may be gone altogether"
    assert node([1, 1], commit=2, recovering=False).commit == 2


def test_a_recovering_node_believes_no_commit_index_of_a_heartbeat() -> None:
    raft = node([1, 1])
    raft.step(2, Heartbeat(5, 2, 0))
    raft.step(2, Heartbeat(5, 99, 0))
    assert raft.commit == 0
    assert raft.rejected == {}
    assert settle(raft) == [HeartbeatResponse(5, 0, True)] * 2


def test_a_recovering_voter_alone_stays_silent_since_others_may_have_joined() -> None:
    # Its membership is that of its snapshot. Whether others have come since, the log said that it
    # lost; if none have, nothing here can heal it.
    raft = node([1], voters=(1,))
    for _ in range(50):
        raft.tick()
    raft.campaign()
    assert raft.role is Role.FOLLOWER
    assert raft.status().voters_missing == 1
    raft.introduce(2)
    raft.step(2, Heartbeat(5, 0, 0))
    assert raft.leader == 2


# --- how it is healed ---------------------------------------------------------------------------


def questions(raft: Raft) -> list[int]:
    return [m.request_id for m in settle(raft) if isinstance(m, ReadIndexRequest)]


def test_it_asks_again_with_a_new_id_until_it_is_answered() -> None:
    raft = node([1])
    raft.step(2, Heartbeat(5, 0, 0))
    settle(raft)
    asked = []
    for _ in range(3):
        raft.tick()
        asked += questions(raft)
    assert asked == [FIRST_QUESTION, FIRST_QUESTION - 1, FIRST_QUESTION - 2]
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 4))
    raft.tick()
    assert questions(raft) == []
    assert raft.status().recovers_at == 4


def test_it_asks_nobody_while_it_knows_no_leader() -> None:
    raft = node([1])
    raft.tick()
    assert settle(raft) == []


def ask(raft: Raft) -> None:
    raft.step(2, Heartbeat(5, 0, 0))
    raft.tick()
    assert questions(raft)


def test_it_is_healed_when_the_log_is_committed_and_durable_up_to_the_answer() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 3))
    raft.step(2, AppendEntries(5, 1, 1, 2, (Entry(5, 2, 0, b"a"), Entry(5, 3, 0, b"b"))))
    entries = take(raft).persist
    assert entries is not None
    raft.synced(entries.number)
    assert not raft.has_ready(), "durable, but 3 is not known to be committed"
    raft.step(2, AppendEntries(5, 3, 5, 2, (Entry(5, 4, 0, b"c"),)))
    raft.step(2, CommitAdvance(5, 3, 5))
    assert raft.has_ready()
    healed = take(raft)
    assert healed.messages == []
    assert healed.persist is not None
    assert healed.persist.recovering is False
    assert healed.persist.messages[-1] == (2, AppendResponse(5, 3, False, 0, 0, False))
    assert not raft.recovering


def test_until_the_cleared_flag_is_durable_nothing_leaves_that_a_voter_would_send() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, AppendEntries(5, 1, 1, 1, ()))
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 1))
    assert take(raft).persist is not None
    raft.step(2, Heartbeat(5, 1, 0))
    raft.step(3, RequestVote(6, 9, 5, True))
    waiting = take(raft)
    assert waiting.messages == []
    assert waiting.persist is not None
    assert [type(m) for _, m in waiting.persist.messages] == [
        HeartbeatResponse,
        RequestVoteResponse,
    ]
    raft.synced(waiting.persist.number)
    assert waiting.persist.messages[-1][1] == RequestVoteResponse(6, True)


def test_what_is_only_in_memory_heals_nothing() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 2))
    raft.step(2, AppendEntries(5, 1, 1, 2, (Entry(5, 2, 0, b"a"),)))
    assert raft.commit == 2
    persist = take(raft).persist
    assert persist is not None
    assert persist.recovering is None
    assert raft.recovering
    raft.synced(persist.number)
    assert take(raft).persist is not None
    assert not raft.recovering


def test_an_answer_to_an_earlier_recovery_means_nothing() -> None:
    recovery = Recovery(BOOT)
    old = recovery.next_request_id()
    recovery.begin()
    assert recovery.take_answer(old, 3), "it is not the driver's"
    assert recovery.index is None
    assert recovery.take_answer(recovery.next_request_id(), 5)
    assert recovery.index == 5


def test_the_drivers_own_reads_get_their_answers_meanwhile() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, ReadIndexResponse(5, BOOT << 32 | 1, 1))
    assert [state.request_id for state in take(raft).read_states] == [BOOT << 32 | 1]


def test_only_the_leader_can_tell_how_far_it_must_come() -> None:
    raft = node([1])
    ask(raft)
    raft.step(3, ReadIndexResponse(5, FIRST_QUESTION, 1))
    assert raft.status().recovers_at == 0
    assert raft.rejected == {"read index from a node that does not lead": 1}


def test_it_is_healed_also_when_its_leader_is_gone_by_then() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, AppendEntries(5, 1, 1, 1, ()))
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 1))
    raft.step(3, RequestVote(6, 9, 5, True))
    assert raft.leader == NONE
    assert [m for m in settle(raft) if isinstance(m, AppendResponse) and not m.recovering] == []
    assert not raft.recovering


# --- ordered by the leader ----------------------------------------------------------------------


def test_a_node_without_the_entry_begins_to_recover_and_says_so_only_when_that_is_durable() -> None:
    raft = node([1, 1], recovering=False)
    raft.step(2, OrderRecovery(5, 3, 5))
    raft.step(2, Heartbeat(5, 0, 0))
    ready = take(raft)
    assert ready.messages == []
    assert ready.persist is not None
    assert ready.persist.recovering is True
    assert ready.persist.hard_state is None
    assert ready.persist.messages == [(2, HeartbeatResponse(5, 0, True))]


def test_a_node_with_another_entry_there_begins_to_recover() -> None:
    raft = node([1, 1], recovering=False)
    raft.step(2, OrderRecovery(5, 2, 4))
    assert raft.recovering


def test_a_node_that_has_the_entry_acknowledges_it_and_goes_on() -> None:
    raft = node([1, 1], recovering=False)
    raft.step(2, OrderRecovery(5, 2, 1))
    assert settle(raft) == [AppendResponse(5, 2, False, 0, 0, False)]
    assert not raft.recovering


def test_a_vote_that_waits_for_the_disk_is_withdrawn_when_recovery_begins() -> None:
    raft = node([1, 1], recovering=False)
    raft.step(3, RequestVote(6, 2, 1, False))
    raft.step(2, OrderRecovery(6, 2, 4))
    assert settle(raft) == []
    assert (raft.recovering, raft.vote) == (True, 3)


def test_a_second_leader_cannot_order_anything() -> None:
    raft = node([1, 1], recovering=False)
    raft.step(2, Heartbeat(5, 0, 0))
    raft.step(3, OrderRecovery(5, 2, 4))
    assert not raft.recovering
    assert raft.rejected == {"second leader in one term": 1}


def test_an_order_while_recovering_changes_nothing() -> None:
    raft = node([1])
    ask(raft)
    raft.step(2, ReadIndexResponse(5, FIRST_QUESTION, 4))
    raft.step(2, OrderRecovery(5, 3, 5))
    assert raft.status().recovers_at == 4


# --- the leader's side --------------------------------------------------------------------------


def leader() -> tuple[Cluster, Raft]:
    made = Cluster(3, random_ticks=lambda low, high: low + 5)
    return made, made.elect(1)


def test_the_leader_forgets_what_a_recovering_peer_had_acknowledged() -> None:
    _, raft = leader()
    raft.peer_connected(3, recovering=True)
    view = raft.progress()[3]
    assert (view.match, view.next_index, view.state, view.recovering) == (0, 2, "probe", True)


def test_the_leader_learns_from_any_answer_that_a_peer_is_recovering_or_healed() -> None:
    _, raft = leader()
    raft.step(3, HeartbeatResponse(1, 0, True))
    assert raft.progress()[3].recovering
    raft.step(3, AppendResponse(1, 1, False, 0, 0, False))
    assert not raft.progress()[3].recovering


def test_entries_that_a_healed_node_has_are_counted_from_then_on() -> None:
    _, raft = leader()
    raft.peer_connected(3, recovering=True)
    raft.propose([b"x"])
    settle(raft)
    raft.step(3, AppendResponse(1, 2, False, 0, 0, True))
    assert raft.commit == 1
    raft.step(3, HeartbeatResponse(1, 0, False))
    assert raft.commit == 2


def test_a_new_leader_knows_who_told_it_that_it_is_recovering() -> None:
    made = Cluster(3, random_ticks=lambda low, high: low + 5)
    made.raft(1).peer_connected(3, recovering=True)
    made.raft(1).peer_connected(2, recovering=True)
    made.raft(1).peer_connected(2)
    made.elect(1)
    assert made.raft(1).status().recovering == (), "its answers said otherwise meanwhile"
    made.raft(2).peer_connected(3, recovering=True)
    assert made.raft(2).status().recovering == (3,)
    assert made.raft(2).status().voters_missing == 0
    made.raft(2).peer_connected(1, recovering=True)
    assert made.raft(2).status().voters_missing == 1


def test_leadership_is_not_handed_to_a_recovering_node() -> None:
    _, raft = leader()
    raft.peer_connected(3, recovering=True)
    assert not raft.transfer_leader(3)
    assert raft.status().transferee == NONE
    assert raft.transfer_leader(2)
    raft.peer_connected(2, recovering=True)
    assert raft.status().transferee == NONE, "it began to recover while it was waited for"


def test_a_doubt_about_what_is_compacted_is_left_to_the_snapshot() -> None:
    made, raft = leader()
    for data in (b"x", b"y"):
        raft.propose([data])
        made.stabilize()
    made.partition([1, 2], [3])
    raft.propose([b"z"])
    made.stabilize()
    made.take_snapshot(1)
    raft.step(3, AppendResponse(1, 3, True, 0, 0, False))
    raft.tick()
    assert not any(isinstance(m, OrderRecovery) for m in settle(raft))


def test_a_doubt_ends_with_the_next_acknowledgement() -> None:
    _, raft = leader()
    raft.step(3, AppendResponse(1, 1, True, 0, 0, False))
    raft.step(3, AppendResponse(1, 1, False, 0, 0, False))
    raft.tick()
    assert not any(isinstance(m, OrderRecovery) for m in settle(raft))
    raft.step(3, AppendResponse(1, 1, True, 0, 0, False))
    raft.tick()
    assert OrderRecovery(1, 1, 1) in settle(raft)
