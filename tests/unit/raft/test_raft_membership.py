"""Members come and go: when a change may be proposed, and what its taking effect does."""

from __future__ import annotations

from unittest.mock import ANY

import pytest

from raft import (
    NONE,
    Config,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Message,
    NotLeader,
    ProposalDropped,
    Raft,
    RaftLog,
    Role,
)
from raft.membership import STRANGERS_MAX
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    CommitNotice,
    Heartbeat,
    HeartbeatResponse,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from tests.support.raft_cluster import Disk

THREE = ConfState((1, 2, 3))
JOINT = ConfState((1, 4, 5), (), (1, 2, 3))
"""Node 1 with two of four: each half needs one of its own."""


def node(
    conf_state: ConfState,
    kinds: str = "",
    *,
    commit: int = 0,
    applied: int = 0,
    recovering: bool = False,
    lease_reads: bool = False,
    pre_vote: bool = False,
    commit_notices: bool = False,
) -> Raft:
    """Node 1 in term 1 whose log has an entry per letter: `c` is a change, `n` is none."""
    disk = Disk(log=[Entry(1, i, int(kind == "c"), b"x") for i, kind in enumerate(kinds, 1)])
    return Raft(
        Config(
            node_id=1,
            heartbeat_ticks=1,
            election_ticks_min=10,
            election_ticks_max=10,
            random_ticks=lambda low, _high: low,
            boot_id=1,
            uncommitted_bytes_max=1000,
            pre_vote=pre_vote,
            lease_reads=lease_reads,
            commit_notices=commit_notices,
        ),
        hard_state=HardState(1, NONE, commit),
        conf_state=conf_state,
        log=RaftLog.restore(disk, disk.log),
        applied=applied,
        recovering=recovering,
    )


def settle(raft: Raft) -> list[tuple[int, Message]]:
    """Take everything and make it durable; return what is sent, to whom."""
    out: list[tuple[int, Message]] = []
    while (ready := raft.ready()) is not None:
        out += ready.messages
        if ready.persist is not None:
            raft.synced(ready.persist.number)
            out += ready.persist.messages
    return out


def apply(raft: Raft, *conf_states: ConfState) -> list[tuple[int, Message]]:
    """Apply all that is committed; each change in it leads to the next of `conf_states`.

    Returns:
        what is sent before, and by the Persist that says that a change is committed.
    """
    sent = settle(raft)
    left = list(conf_states)
    while entries := raft.committed_entries(1 << 20):
        for entry in entries:
            if entry.kind == EntryKind.CONF_CHANGE:
                raft.apply_conf_state(left.pop(0))
        raft.applied_to(entries[-1].index)
    assert not left, f"no change led to {left}"
    return sent


def elected(conf_state: ConfState, *voters: int, **options: bool) -> Raft:
    """Node 1 as leader of term 2 by these votes; nothing of its term is committed."""
    raft = node(conf_state, **options)
    for _ in range(10):  # a lease is promised for so long after a start
        raft.tick()
    settle(raft)
    for voter in voters:
        raft.step(voter, RequestVoteResponse(2, granted=True))
    assert raft.role is Role.LEADER
    settle(raft)
    return raft


def leader(conf_state: ConfState, *followers: int, **options: bool) -> Raft:
    """Node 1 as leader of term 2, its first entry committed and applied."""
    raft = elected(conf_state, *followers, **options)
    acknowledge(raft, 1, *followers)
    apply(raft)
    assert raft.applied == 1
    settle(raft)
    return raft


def acknowledge(raft: Raft, index: int, *followers: int) -> None:
    for follower in followers:
        raft.step(follower, AppendResponse(2, index, False, 0, 0, False))


def confirm(raft: Raft, round_id: int, *followers: int) -> None:
    for follower in followers:
        raft.step(follower, HeartbeatResponse(2, round_id, False))


def newest_round(raft: Raft) -> int:
    return max(m.round for _, m in settle(raft) if isinstance(m, Heartbeat))


# --- when one may be proposed -------------------------------------------------------------------


def test_only_a_leader_proposes_a_change() -> None:
    with pytest.raises(NotLeader):
        node(THREE).propose_conf_change(b"x")


def test_none_is_proposed_before_the_leader_has_committed_in_its_own_term() -> None:
    raft = elected(THREE, 2)
    with pytest.raises(ProposalDropped, match="nothing of this leader's term is committed"):
        raft.propose_conf_change(b"x")
    acknowledge(raft, 1, 2)
    assert raft.propose_conf_change(b"x") == 2


def test_none_is_proposed_while_an_earlier_one_is_not_applied() -> None:
    raft = leader(THREE, 2, 3)
    assert raft.propose_conf_change(b"x") == 2
    settle(raft)
    acknowledge(raft, 2, 2)
    assert raft.commit == 2, "committed is not applied"
    with pytest.raises(ProposalDropped, match="membership at 2 is not applied"):
        raft.propose_conf_change(b"x")
    apply(raft, ConfState((1, 2, 3), (4,)))
    assert raft.propose_conf_change(b"x") == 3


def test_a_new_leader_counts_a_change_that_it_found_in_its_log() -> None:
    raft = node(THREE, "nc")
    raft.campaign()
    settle(raft)
    raft.step(2, RequestVoteResponse(2, granted=True))
    settle(raft)
    acknowledge(raft, 3, 2)
    assert (raft.role, raft.commit) == (Role.LEADER, 3)
    with pytest.raises(ProposalDropped, match="membership at 2 is not applied"):
        raft.propose_conf_change(b"x")
    assert raft.status().pending_change == 2
    apply(raft, THREE)
    assert raft.status().pending_change == 0
    assert raft.propose_conf_change(b"x") == 4


def test_none_is_proposed_while_leadership_is_being_handed_over() -> None:
    raft = leader(THREE, 2, 3)
    raft.transfer_leader(2)
    with pytest.raises(ProposalDropped, match="handed to 2"):
        raft.propose_conf_change(b"x")


def test_a_change_needs_data_and_room_like_any_proposal() -> None:
    raft = leader(THREE, 2, 3)
    with pytest.raises(ValueError, match="needs data"):
        raft.propose_conf_change(b"")
    raft.propose([b"x"])
    with pytest.raises(ProposalDropped, match="are not committed"):
        raft.propose_conf_change(b"x" * 1000)


# --- rule 2: a change in the log proves those before it ------------------------------------------


def test_a_replayed_log_with_two_changes_has_all_but_the_last_committed() -> None:
    assert node(THREE, "ncncncn").commit == 4
    assert node(THREE, "ncncncn", commit=5).commit == 5
    assert node(THREE, "ncn").commit == 0, "one alone proves nothing"
    assert node(THREE, "ncncn", applied=2).commit == 2, "what is applied is no longer pending"


def test_so_has_the_log_of_a_recovering_node() -> None:
    # What its disk says of the commit index it does not believe; what its log proves it does.
    assert node(THREE, "ncncn", commit=5, recovering=True).commit == 2


def test_a_follower_commits_the_last_but_one_change_that_it_is_sent() -> None:
    raft = node(THREE)
    change = [Entry(1, index, 1, b"x") for index in range(1, 4)]
    raft.step(2, AppendEntries(1, 0, 0, 0, (change[0],)))
    assert raft.commit == 0
    raft.step(2, AppendEntries(1, 0, 0, 0, tuple(change)))
    assert raft.commit == 2


def test_a_change_that_is_replaced_proves_nothing_any_more() -> None:
    raft = node(THREE, "nc")
    raft.step(2, AppendEntries(2, 1, 1, 0, (Entry(2, 2, 0, b"x"), Entry(2, 3, 1, b"x"))))
    assert (raft.commit, raft.status().pending_change) == (0, 3)


def test_an_installed_snapshot_has_the_changes_below_it_applied() -> None:
    raft = node(THREE, "nccn")
    assert raft.install_snapshot(2, 1, 3, 1, conf_state=ConfState((1, 2)))
    assert raft.status().pending_change == 0
    assert raft.conf_state == ConfState((1, 2))
    raft = node(THREE, "nc")
    assert raft.install_snapshot(2, 1, 9, 1, conf_state=ConfState((1, 2)))
    assert raft.status().pending_change == 0


# --- rule 3: no election by a membership that is known to be out of date --------------------------


def test_a_node_with_a_committed_change_that_it_has_not_applied_does_not_campaign() -> None:
    raft = node(THREE, "nc", commit=2)
    raft.campaign()
    raft.step(2, Heartbeat(1, 0, 0))
    raft.step(2, TimeoutNow(1))
    assert raft.role is Role.FOLLOWER
    apply(raft, ConfState((1, 2)))
    raft.campaign()
    assert raft.role is Role.CANDIDATE


def test_a_change_that_may_be_uncommitted_keeps_nobody_from_campaigning() -> None:
    raft = node(THREE, "nc", commit=1)
    raft.campaign()
    assert raft.role is Role.CANDIDATE


# --- what its taking effect does ----------------------------------------------------------------


def test_an_illegal_step_is_refused_and_changes_nothing() -> None:
    raft = node(THREE)
    with pytest.raises(ValueError, match="is no legal step"):
        raft.apply_conf_state(ConfState((1, 4, 5)))
    assert raft.conf_state == raft.status().conf_state == THREE


def test_a_ballot_under_the_old_membership_is_abandoned() -> None:
    raft = node(THREE)
    raft.campaign()
    raft.apply_conf_state(THREE)
    assert raft.role is Role.CANDIDATE, "nothing has changed"
    raft.apply_conf_state(ConfState((1, 2)))
    assert (raft.role, raft.vote) == (Role.FOLLOWER, 1)


def test_a_promoted_learner_keeps_its_progress() -> None:
    raft = leader(ConfState((1, 2), (3,)), 2)
    acknowledge(raft, 1, 3)
    before = raft.progress()[3]
    raft.apply_conf_state(THREE)
    assert raft.progress()[3] == before
    assert (before.state, before.match) == ("replicate", 1)


def test_a_new_member_is_probed_and_has_time_to_be_heard() -> None:
    raft = leader(ConfState((1, 2)), 2)
    for _ in range(9):
        raft.tick()
    raft.apply_conf_state(THREE)
    assert [(to, type(m)) for to, m in settle(raft) if to == 3][-1] == (3, AppendEntries)
    assert raft.progress()[3].recent_active
    raft.tick()
    assert raft.role is Role.LEADER, "CheckQuorum: of three, nodes 1 and 3 count this once"
    for _ in range(10):
        raft.tick()
    assert raft.role is Role.FOLLOWER


def test_who_is_removed_is_told_first_and_then_forgotten() -> None:
    raft = leader(THREE, 2, 3)
    raft.propose_conf_change(b"x")
    settle(raft)
    acknowledge(raft, 2, 2, 3)
    sent = apply(raft, ConfState((1, 2)))
    assert (3, CommitAdvance(2, 2, 2)) in sent
    assert sorted(raft.progress()) == [1, 2]
    raft.step(3, AppendResponse(2, 2, False, 0, 0, False))
    raft.step(3, RequestVote(9, 9, 9, False))
    assert raft.rejected == {"sender is not a member": 2}
    raft.tick()
    assert 3 not in [to for to, _ in settle(raft)]


def test_a_smaller_quorum_commits_and_confirms_at_once() -> None:
    raft = leader(ConfState((1, 2, 3, 4)), 2, 3)
    raft.propose([b"x"])
    raft.read_index(7)
    round_id = newest_round(raft)
    acknowledge(raft, 2, 2)
    confirm(raft, round_id, 2)
    assert raft.commit == 1
    raft.apply_conf_state(THREE)
    assert raft.commit == 2
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [(7, 1)]


def test_a_larger_quorum_is_needed_for_what_follows() -> None:
    raft = leader(ConfState((1,), (2,)))
    raft.propose([b"x"])
    raft.apply_conf_state(ConfState((1, 2)))
    settle(raft)
    assert raft.commit == 1
    acknowledge(raft, 2, 2)
    assert raft.commit == 2


def test_a_leader_that_is_removed_tells_what_is_committed_and_steps_down() -> None:
    raft = leader(THREE, 2, 3)
    raft.propose_conf_change(b"x")
    settle(raft)
    acknowledge(raft, 2, 2)
    raft.propose([b"x"])
    sent = apply(raft, ConfState((2, 3)))
    assert {to for to, message in sent if message == AppendEntries(2, 2, 2, 2, ANY)} == {2, 3}
    assert raft.role is Role.LEADER, "until it has told the others"
    acknowledge(raft, 3, 2, 3)
    ready = raft.ready()
    assert ready is not None
    assert ready.messages == [(2, CommitAdvance(2, 3, 2)), (3, CommitAdvance(2, 3, 2))]
    assert ready.soft_state == (NONE, Role.FOLLOWER)
    for _ in range(50):
        raft.tick()
    raft.campaign()
    assert (raft.role, raft.term) == (Role.FOLLOWER, 2), "it is in nobody's way any more"


def test_a_leader_that_becomes_a_learner_steps_down_too() -> None:
    raft = leader(THREE, 2, 3)
    raft.apply_conf_state(ConfState((2, 3), (1,)))
    settle(raft)
    assert raft.role is Role.FOLLOWER


def test_a_follower_forgets_a_leader_that_is_no_member_any_more() -> None:
    raft = node(THREE)
    raft.step(2, Heartbeat(1, 0, 0))
    raft.apply_conf_state(ConfState((1, 3)))
    assert raft.leader == NONE
    raft.step(3, Heartbeat(2, 0, 0))
    raft.apply_conf_state(ConfState((1, 3), (4,)))
    assert raft.leader == 3


def test_leadership_is_not_handed_to_who_leaves() -> None:
    raft = leader(THREE, 2, 3)
    raft.transfer_leader(3)
    raft.apply_conf_state(ConfState((1, 2), (4,)))
    assert raft.status().transferee == NONE
    raft.propose([b"x"])
    raft.transfer_leader(2)
    raft.apply_conf_state(ConfState((1, 2)))
    assert raft.status().transferee == 2, "node 2 stays"


def test_a_member_that_is_recovering_is_forgotten_with_it() -> None:
    raft = node(THREE)
    raft.peer_connected(3, recovering=True)
    assert raft.status().recovering == (3,)
    raft.apply_conf_state(ConfState((1, 2)))
    assert raft.status().recovering == ()


# --- when it takes effect: noted first ------------------------------------------------------------


def test_a_change_is_applied_when_the_disk_says_that_it_is_committed() -> None:
    raft = node(THREE, "nncn")
    assert not raft.has_ready()
    raft.step(2, CommitAdvance(1, 4, 1))
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [1, 2]
    assert raft.has_ready()
    ready = raft.ready()
    assert ready is not None
    assert ready.persist is not None
    assert ready.persist.hard_state == HardState(1, NONE, 4)
    assert raft.ready() is None, "it is on its way"
    assert raft.committed_entries(1 << 20) == []
    raft.synced(ready.persist.number)
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [3, 4]


def test_what_the_disk_says_already_is_not_noted_again() -> None:
    raft = node(THREE, "ncn", commit=2)
    assert raft.ready() is None
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [1, 2]


def test_a_change_that_is_not_on_this_disk_is_not_noted_yet() -> None:
    raft = node(THREE)
    raft.step(2, AppendEntries(1, 0, 0, 1, (Entry(1, 1, 1, b"x"),)))
    ready = raft.ready()
    assert ready is not None
    assert ready.persist is not None
    assert (ready.persist.hard_state, raft.commit) == (None, 1)
    raft.synced(ready.persist.number)
    ready = raft.ready()
    assert ready is not None
    assert ready.persist is not None
    assert ready.persist.hard_state == HardState(1, NONE, 1)


def test_every_change_in_a_replayed_log_is_noted_before_it_is_applied() -> None:
    raft = node(THREE, "cccc", commit=1)
    assert [entry.index for entry in raft.committed_entries(1 << 20)] == [1]
    apply(raft, *[THREE] * 2)
    assert (raft.applied, raft.commit) == (3, 3), "the last one is not proved"


def test_a_voter_that_does_not_know_that_it_is_one_does_not_stick_to_a_dead_leader() -> None:
    raft = node(ConfState((2, 3), (1,)))
    raft.step(2, Heartbeat(1, 0, 0))
    votes = []
    for _ in range(25):
        raft.tick()
        raft.step(3, RequestPreVote(2, 0, 0))
        votes.append(settle(raft) == [(3, PreVoteResponse(2, granted=True))])
    assert votes == [False] * 9 + [True] * 16


# --- telling who asks for votes -------------------------------------------------------------------


def test_who_asks_for_votes_is_told_what_is_committed_once_a_change_was_applied() -> None:
    raft = node(THREE, "nn", commit=2)
    raft.step(2, RequestPreVote(2, 1, 1))
    assert settle(raft) == [(2, PreVoteResponse(1, granted=False))]
    raft.apply_conf_state(THREE)
    raft.step(2, RequestPreVote(2, 1, 1))
    notice = (2, CommitNotice(1, 2, 1))
    assert settle(raft) == [notice, (2, PreVoteResponse(1, granted=False))]
    raft.step(2, RequestVote(2, 1, 1, False))
    assert (2, CommitNotice(1, 2, 1)) in settle(raft), "in the term of the entry: nobody's end"


LEARNER = ConfState((2, 3), (1, 4))
"""Node 1 may not stand; three others are told what it knows."""


def told(raft: Raft, ticks: int) -> list[tuple[int, Message]]:
    """Let time pass; return what is sent meanwhile."""
    for _ in range(ticks):
        raft.tick()
    return settle(raft)


def test_who_hears_no_leader_tells_all_what_is_committed_once_in_an_election_timeout() -> None:
    raft = node(LEARNER, "nn", commit=2, commit_notices=True)
    notices = [(peer, CommitNotice(1, 2, 1)) for peer in (2, 3, 4)]
    assert told(raft, 9) == []
    assert told(raft, 1) == notices
    assert told(raft, 9) == []
    assert told(raft, 1) == notices
    raft.step(2, Heartbeat(1, 0, 0))
    settle(raft)
    assert told(raft, 9) == [], "a leader is heard"


def test_who_stands_tells_all_as_well() -> None:
    raft = node(ConfState((1, 2), (3,)), "nn", commit=2, commit_notices=True)
    sent = told(raft, 10)
    assert raft.role is Role.CANDIDATE
    assert [to for to, message in sent if message == CommitNotice(1, 2, 1)] == [2, 3]
    assert [to for to, message in sent if isinstance(message, RequestVote)] == [2]


def test_silence_says_nothing_to_who_may_not_know_the_message() -> None:
    raft = node(LEARNER, "nn", commit=2)
    assert told(raft, 30) == []
    raft.apply_conf_state(LEARNER)
    assert len(told(raft, 10)) == 3


def test_a_membership_that_came_in_a_snapshot_shows_that_it_has_changed() -> None:
    raft = node(THREE)
    assert raft.install_snapshot(2, 1, 5, 1, conf_state=LEARNER)
    assert (4, CommitNotice(1, 5, 1)) in told(raft, 10)


def test_what_a_recovering_node_knows_to_be_committed_it_tells_too() -> None:
    # By its snapshot: it may be the only one who knows, and can be healed by a leader only.
    raft = node(LEARNER, "nnn", applied=2, commit=3, recovering=True)
    raft.apply_conf_state(LEARNER)
    assert (2, CommitNotice(1, 2, 1)) in told(raft, 10)


def test_the_notice_of_a_node_whose_term_ran_ahead_deposes_nobody() -> None:
    raft = node(LEARNER, "nn", commit=2, commit_notices=True)
    raft.step(2, RequestVote(7, 2, 1, True))
    settle(raft)
    notices = told(raft, 10)
    assert (raft.term, notices[0]) == (7, (2, CommitNotice(1, 2, 1)))
    other = leader(ConfState((1, 2)), 2)
    other.step(2, notices[0][1])
    assert (other.role, other.term) == (Role.LEADER, 2)


def test_nothing_is_told_where_nothing_is_committed() -> None:
    raft = node(THREE, commit_notices=True)
    raft.step(2, RequestPreVote(2, 1, 1))
    assert settle(raft) == [(2, PreVoteResponse(2, granted=True))]


def test_a_notice_is_believed_in_any_term_if_the_log_has_the_entry() -> None:
    raft = node(THREE, "nnnn")
    raft.step(2, CommitNotice(1, 3, 2))
    raft.step(2, CommitNotice(1, 9, 1))
    assert raft.commit == 0
    raft.step(2, CommitNotice(1, 1, 1))
    assert raft.commit == 1
    raft.step(2, CommitNotice(5, 2, 1))
    assert (raft.commit, raft.term) == (2, 5)
    raft.step(2, CommitNotice(1, 3, 1))
    assert (raft.commit, raft.term) == (3, 5)


def test_a_candidate_that_is_told_of_a_change_applies_it_first() -> None:
    # Node 1 goes by a membership in which it needs the vote of node 2, which has left.
    raft = node(ConfState((1, 2)), "nc")
    raft.campaign()
    settle(raft)
    raft.step(2, CommitNotice(2, 1, 1))
    assert raft.role is Role.CANDIDATE, "nothing of the membership"
    raft.step(2, CommitNotice(2, 2, 1))
    assert raft.role is Role.FOLLOWER
    apply(raft, ConfState((1,)))
    raft.campaign()
    settle(raft)
    assert raft.role is Role.LEADER


def test_a_leader_counts_for_itself() -> None:
    raft = elected(THREE, 2)
    raft.step(2, CommitNotice(2, 1, 2))
    assert raft.commit == 0


# --- joint --------------------------------------------------------------------------------------


def test_a_joint_commit_needs_both_halves() -> None:
    raft = leader(THREE, 2, 3)
    raft.apply_conf_state(JOINT)
    raft.propose([b"x"])
    settle(raft)
    acknowledge(raft, 2, 2, 3)
    assert raft.commit == 1, "the new half lacks it"
    acknowledge(raft, 2, 4)
    assert raft.commit == 2
    raft.propose([b"x"])
    settle(raft)
    acknowledge(raft, 3, 4, 5)
    assert raft.commit == 2, "the old half lacks it"
    raft.apply_conf_state(ConfState((1, 4, 5)))
    assert raft.commit == 3, "and is not asked any more"


def test_a_joint_read_is_confirmed_by_both_halves() -> None:
    raft = leader(THREE, 2, 3)
    raft.apply_conf_state(JOINT)
    raft.read_index(7)
    round_id = newest_round(raft)
    confirm(raft, round_id, 2, 3)
    assert raft.ready() is None
    confirm(raft, round_id, 5)
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [(7, 1)]


def test_a_joint_election_is_won_in_both_halves() -> None:
    raft = node(JOINT)
    raft.campaign()
    asked = [to for to, message in settle(raft) if isinstance(message, RequestVote)]
    assert asked == [2, 3, 4, 5]
    for voter in (2, 3):
        raft.step(voter, RequestVoteResponse(2, granted=True))
    assert raft.role is Role.CANDIDATE
    raft.step(4, RequestVoteResponse(2, granted=True))
    assert raft.role is Role.LEADER


@pytest.mark.parametrize(("heard", "role"), [((4, 5), Role.FOLLOWER), ((3, 4), Role.LEADER)])
def test_a_joint_leader_must_hear_both_halves(heard: tuple[int, ...], role: Role) -> None:
    raft = leader(THREE, 2, 3)
    raft.apply_conf_state(JOINT)
    for _ in range(20):
        raft.tick()
        confirm(raft, 0, *heard)
    assert raft.role is role


def test_the_old_half_may_lead_while_it_counts() -> None:
    conf_state = ConfState((4, 5), (), (1, 2, 3))
    raft = elected(conf_state, 2, 4, 5)
    acknowledge(raft, 1, 2, 4)
    assert raft.commit == 0, "of nodes 4 and 5 both are needed"
    acknowledge(raft, 1, 5)
    assert raft.commit == 1
    with pytest.raises(ValueError, match="target"):
        raft.transfer_leader(2)
    assert raft.transfer_leader(1), "to withdraw an order is its own affair"
    raft.apply_conf_state(ConfState((4, 5)))
    settle(raft)
    assert raft.role is Role.FOLLOWER


def test_who_reconnects_is_asked_again_whichever_half_it_is_in() -> None:
    raft = node(JOINT, pre_vote=True)
    raft.campaign()
    settle(raft)
    for peer in (2, 4):
        raft.peer_connected(peer)
    assert settle(raft) == [(2, RequestPreVote(2, 0, 0)), (4, RequestPreVote(2, 0, 0))]


# --- leases -------------------------------------------------------------------------------------


def test_a_lease_ends_with_the_membership_that_confirmed_it() -> None:
    raft = leader(THREE, 2, 3, lease_reads=True)
    raft.tick()
    confirm(raft, newest_round(raft), 2)
    raft.read_index(7)
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [(7, 1)], "by the lease"
    raft.apply_conf_state(ConfState((1, 2, 3, 4)))
    settle(raft)
    raft.read_index(8)
    round_id = newest_round(raft)
    confirm(raft, round_id, 2)
    assert raft.ready() is None
    confirm(raft, round_id, 4)
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [(8, 1)]
    raft.read_index(9)
    ready = raft.ready()
    assert ready is not None
    assert ready.read_states == [(9, 1)], "by the next lease"


def test_only_who_can_never_have_followed_another_makes_no_promise() -> None:
    alone = node(ConfState((1,), (2,)), "n", commit=1, lease_reads=True)
    alone.campaign()
    settle(alone)
    assert alone.role is Role.LEADER
    # The log says that others may have come since, one of whom may lead.
    grown = node(ConfState((1,), (2,)), "c", lease_reads=True)
    grown.campaign()
    assert grown.role is Role.FOLLOWER
    # Here another is alone, as far as this learner knows; others may have been promoted since.
    learner = node(ConfState((2,), (1,)), lease_reads=True)
    learner.step(2, Heartbeat(1, 0, 0))
    learner.introduce(3)
    learner.step(3, RequestVote(2, 9, 9, False))
    assert learner.vote == NONE


# --- strangers ----------------------------------------------------------------------------------


def test_a_joiner_knows_nobody_follows_and_never_campaigns() -> None:
    raft = node(ConfState(()))
    for _ in range(50):
        raft.tick()
    raft.campaign()
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    assert raft.status().voters_missing == 0
    raft.step(2, AppendEntries(1, 0, 0, 0, ()))
    assert raft.rejected == {"sender is not a member": 1}
    raft.introduce(2)
    raft.step(2, AppendEntries(1, 0, 0, 1, (Entry(1, 1, 1, b"x"),)))
    assert (raft.leader, raft.commit) == (2, 1)
    assert (2, AppendResponse(1, 1, False, 0, 0, False)) in settle(raft)
    apply(raft, ConfState((2, 3), (1,)))
    assert raft.leader == 2


def test_a_joiner_gives_its_vote_since_it_may_be_a_voter_already() -> None:
    raft = node(ConfState(()))
    raft.introduce(2)
    raft.step(2, RequestVote(2, 0, 0, False))
    assert (2, RequestVoteResponse(2, granted=True)) in settle(raft)


def test_a_joiner_may_begin_with_a_snapshot() -> None:
    raft = node(ConfState(()))
    assert not raft.accepts_snapshot(2, 1, 9)
    raft.introduce(2)
    assert raft.accepts_snapshot(2, 1, 9)
    assert raft.install_snapshot(2, 1, 9, 1, conf_state=JOINT)
    assert (raft.leader, raft.conf_state) == (2, JOINT)
    assert settle(raft) == [(2, AppendResponse(1, 9, False, 0, 0, False))]


def test_a_stranger_may_lead() -> None:
    raft = node(THREE)
    raft.introduce(9)
    raft.step(9, AppendEntries(2, 0, 0, 0, (Entry(2, 1, 0, b"x"),)))
    assert (raft.leader, raft.term, raft.last_index) == (9, 2, 1)
    raft.apply_conf_state(ConfState((1, 2)))
    assert raft.leader == 9, "a stranger still"


def test_a_stranger_counts_nowhere() -> None:
    raft = node(THREE)
    raft.introduce(9)
    raft.campaign()
    settle(raft)
    raft.step(9, RequestVoteResponse(2, granted=True))
    assert raft.role is Role.CANDIDATE
    raft = leader(THREE, 2, 3)
    raft.introduce(9)
    raft.propose([b"x"])
    settle(raft)
    acknowledge(raft, 2, 9)
    confirm(raft, 0, 9)
    assert raft.commit == 1
    assert raft.rejected == {
        "append response from a node that is not replicated to": 1,
        "heartbeat response from a node that is not replicated to": 1,
    }
    raft.peer_connected(9)
    raft.report_unreachable(9)
    raft.step(9, PreVoteResponse(2, granted=False))
    raft.read_index(7)
    raft.step(9, ReadIndexRequest(2, 8))
    round_id = newest_round(raft)
    confirm(raft, round_id, 2)
    ready = raft.ready()
    assert ready is not None
    assert (9, ReadIndexResponse(2, 8, 1)) in ready.messages, "but it is served"


def test_who_was_a_member_is_no_stranger_afterwards() -> None:
    raft = node(THREE)
    raft.introduce(9)
    raft.apply_conf_state(ConfState((1, 2, 3), (9,)))
    raft.introduce(9)
    raft.apply_conf_state(THREE)
    raft.step(9, Heartbeat(1, 0, 0))
    assert raft.rejected == {"sender is not a member": 1}


def test_strangers_are_bounded_and_the_first_is_forgotten() -> None:
    raft = node(THREE)
    for stranger in range(10, 11 + STRANGERS_MAX):
        raft.introduce(stranger)
        raft.introduce(stranger)
    raft.step(10, RequestPreVote(9, 9, 9))
    assert raft.rejected == {"sender is not a member": 1}
    raft.step(11, RequestPreVote(9, 9, 9))
    raft.step(10 + STRANGERS_MAX, RequestPreVote(9, 9, 9))
    assert [to for to, _ in settle(raft)] == [11, 10 + STRANGERS_MAX]


def test_nobody_cannot_be_introduced_and_oneself_need_not_be() -> None:
    raft = node(THREE)
    with pytest.raises(ValueError, match="peer=0"):
        raft.introduce(NONE)
    raft.introduce(1)
    raft.step(1, Heartbeat(1, 0, 0))
    assert raft.rejected == {"sender is not a member": 1}


# --- snapshots ----------------------------------------------------------------------------------


def test_a_snapshot_may_bring_any_membership() -> None:
    raft = node(THREE)
    raft.step(2, Heartbeat(1, 0, 0))
    assert raft.install_snapshot(2, 1, 9, 1, conf_state=ConfState((7, 8), (2,)))
    assert raft.conf_state == ConfState((7, 8), (2,))
    assert raft.leader == 2


def test_a_snapshot_without_a_possible_membership_is_refused() -> None:
    raft = node(THREE)
    with pytest.raises(ValueError, match="voters"):
        raft.install_snapshot(2, 1, 9, 1, conf_state=ConfState((), (2,)))
    assert (raft.commit, raft.conf_state) == (0, THREE)


def test_a_snapshot_of_the_same_membership_leaves_it_as_it_was() -> None:
    raft = node(THREE)
    assert raft.install_snapshot(2, 1, 9, 1, conf_state=THREE)
    assert raft.install_snapshot(2, 1, 10, 1)
    assert raft.conf_state == THREE
