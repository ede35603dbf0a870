"""Elections: who leads (paper, sections 5.2 and 5.4.1; thesis, sections 4.2.3, 6.2, 9.6 and 3.10).

A node that hears no leader for an election timeout asks first whether it could win (PreVote), and
stands only then. A vote is given once per term, to a candidate whose log is at least as good as the
voter's, and leaves after it is durable. Who hears a leader elects no other (stickiness), unless the
leader itself asked for it (transfer). A recovering node takes no part.

`term`, `vote` and `role` change only in the four `_become_…` methods and in `_grant`.
"""

from __future__ import annotations

from typing import ClassVar

from raft.configuration import voting_members
from raft.leader import Leader
from raft.messages import (
    CommitNotice,
    PreVoteResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from raft.node_state import Handlers, NodeState
from raft.quorum import (
    VoteResult,
    vote_result,
)
from raft.types import (
    NONE,
    ConfState,
    NodeId,
    Role,
)

TERM_LEAP_MAX = 2**32
"""A later term than this many more is not believed: a hundred elections a second for a year make
fewer."""


class Elections(NodeState):
    """Roles and ballots. `term`, `vote` and `role` change here and nowhere else."""

    __slots__ = ()

    # --- roles ----------------------------------------------------------------------------------

    def _become_follower(self, term: int, leader: NodeId) -> None:
        if term > self.term:
            self.term = term
            self.vote = NONE
        if self.role is not Role.FOLLOWER:
            self.role = Role.FOLLOWER
            self._elapsed = 0
            self._timeout = self._draw_timeout()
            self._votes = {}
        if self._leadership is not None:
            self._leadership = None
            self._reads.clear()
        self.leader = leader

    def _become_pre_candidate(self) -> None:
        """Ask whether an election could be won, before disturbing anybody (thesis, 9.6)."""
        self.role = Role.PRE_CANDIDATE
        self._start_ballot()
        for peer in self._voting_peers():
            self._request_vote(peer)
        # Nothing is promised to anybody, so this node's own consent needs no disk.
        self._count_vote(self.node_id, granted=True)

    def _become_candidate(self, *, transfer: bool) -> None:
        self.role = Role.CANDIDATE
        self.term += 1
        self.vote = self.node_id
        self._transfer_vote = transfer
        self._start_ballot()
        for peer in self._voting_peers():
            self._request_vote(peer)
        # This node's own vote is counted in `synced`, when it is durable.

    def _become_leader(self) -> None:
        assert self._durable == (self.term, self.node_id, False), (
            f"leader of term {self.term} with {self._durable} durable"
        )
        self.role = Role.LEADER
        self.leader = self.node_id
        self._votes = {}
        self._leadership = Leader(
            self._config,
            self.term,
            self.conf_state,
            self.log,
            self._reads,
            self._outbox,
            self._recovering_peers,
        )

    def _promotable(self) -> bool:
        if self.log.has_committed_change():
            # The membership that it would be elected by is out of date.
            return False
        return self.node_id in voting_members(self.conf_state) and not self.recovering

    def _voting_peers(self) -> list[NodeId]:
        return [voter for voter in voting_members(self.conf_state) if voter != self.node_id]

    def campaign(self) -> None:
        """Start an election now, unless this node leads, may not vote, or promised not to."""
        if self._leadership is not None or not self._promotable() or self._has_promised():
            return
        if self._config.pre_vote:
            self._become_pre_candidate()
        else:
            self._become_candidate(transfer=False)

    # --- ballots --------------------------------------------------------------------------------

    def _start_ballot(self) -> None:
        self.leader = NONE
        self._votes = {}
        self._elapsed = 0
        self._timeout = self._draw_timeout()

    def _request_vote(self, peer: NodeId) -> None:
        log = self.log
        if self.role is Role.PRE_CANDIDATE:
            self._send(peer, RequestPreVote(self.term + 1, log.last_index, log.last_term))
        else:
            transfer = self._transfer_vote
            request = RequestVote(self.term, log.last_index, log.last_term, transfer)
            self._send_after_sync(peer, request)

    def _count_vote(self, voter: NodeId, *, granted: bool) -> None:
        votes = self._votes
        votes.setdefault(voter, granted)
        result = vote_result(self.conf_state, votes)
        if result is VoteResult.LOST:
            self._become_follower(self.term, NONE)
        elif result is VoteResult.WON:
            if self.role is Role.PRE_CANDIDATE:
                self._become_candidate(transfer=False)
            elif self.node_id in votes:
                # Only with this node's own vote durable: so a leader's term always is.
                self._become_leader()

    # --- voting ---------------------------------------------------------------------------------

    def _heard_leader_recently(self) -> bool:
        """Leader stickiness (thesis, section 4.2.3): who follows a live leader elects no other."""
        if self._has_promised():
            return True
        if not self._config.check_quorum or self.leader == NONE:
            return False
        return self._leadership is not None or self._elapsed < self._config.election_ticks_min

    def _leaps(self, term: int) -> bool:
        """Refuse a term that no elections can have led to; adopted, it would be everybody's end."""
        if term <= self.term + TERM_LEAP_MAX:
            return False
        self._reject("term leaps")
        return True

    def _has_promised(self) -> bool:
        """A leader may still rely on its lease: no vote, whatever happened since it was heard."""
        if not self._config.lease_reads or self._is_alone():
            return False
        return self._now - self._heard_at < self._config.election_ticks_min

    def _is_alone(self) -> bool:
        """Nobody else can have led, by this membership or by what a change in the log leads to."""
        alone = ConfState((self.node_id,), self.conf_state.learners)
        return self.conf_state == alone and not self.log.changes

    def _tell_commit(self, peer: NodeId) -> None:
        """Tell what is committed: `peer` may wait for votes of nodes that have left since.

        In the term of that entry, not in this node's: whose term ran ahead would depose a leader.
        """
        if self._notices and self.log.commit > 0:
            term = self.log.commit_term
            self._send(peer, CommitNotice(term, self.log.commit, term))

    def _on_silence(self) -> None:
        """No leader was heard for an election timeout, or for several: stand, if that may be.

        And tell everybody what is committed. Who waits for votes of nodes that have left asks only
        the voters that it knows of, and a learner may be the only one to know that they have left.
        """
        if self._elapsed % self._timeout == 0:
            for peer in self._peers:
                self._tell_commit(peer)
        self.campaign()

    def _on_commit_notice(self, _sender: NodeId, message: CommitNotice) -> None:
        log = self.log
        if self._leadership is None and log.term(message.commit) == message.commit_term:
            log.commit_to(message.commit)
            if self.role is not Role.FOLLOWER and log.has_committed_change():
                self._become_follower(self.term, NONE)  # to apply that first

    def _on_request_pre_vote(self, sender: NodeId, message: RequestPreVote) -> None:
        if self.recovering:
            return
        self._tell_commit(sender)
        if message.term <= self.term:
            self._send(sender, PreVoteResponse(self.term, granted=False))
            return
        granted = self.log.is_up_to_date(message.last_index, message.last_term)
        # Granted: the term asked for, which nobody adopts. Refused: ours.
        term = message.term if granted else self.term
        self._send(sender, PreVoteResponse(term, granted=granted))

    def _on_pre_vote_response(self, sender: NodeId, message: PreVoteResponse) -> None:
        if self.role is not Role.PRE_CANDIDATE:
            return
        if message.granted != (message.term == self.term + 1):
            return
        self._count_vote(sender, granted=message.granted)

    def _on_request_vote(self, sender: NodeId, message: RequestVote) -> None:
        if self.recovering:
            # Its log may lack what its vote would have to protect (paper, section 5.4.1).
            return
        self._tell_commit(sender)
        if self._has_promised() and not message.transfer:
            return
        free = self.vote in (sender, NONE) and self.leader == NONE
        if free and self.log.is_up_to_date(message.last_index, message.last_term):
            self._grant(sender)
        else:
            self._send(sender, RequestVoteResponse(self.term, granted=False))

    def _grant(self, candidate: NodeId) -> None:
        assert not self.recovering, f"a vote for {candidate} while recovering"
        assert self.vote in (candidate, NONE), f"a vote for {candidate} after one for {self.vote}"
        self.vote = candidate
        self._elapsed = 0
        self._send_after_sync(candidate, RequestVoteResponse(self.term, granted=True))

    def _on_request_vote_response(self, sender: NodeId, message: RequestVoteResponse) -> None:
        if self.role is Role.CANDIDATE:
            self._count_vote(sender, granted=message.granted)

    def _on_timeout_now(self, sender: NodeId, _message: TimeoutNow) -> None:
        if sender == self.leader and self._promotable():
            # No PreVote: the leader itself has decided that its term ends.
            self._become_candidate(transfer=True)

    HANDLERS: ClassVar[Handlers] = {
        RequestPreVote: _on_request_pre_vote,
        PreVoteResponse: _on_pre_vote_response,
        RequestVote: _on_request_vote,
        RequestVoteResponse: _on_request_vote_response,
        TimeoutNow: _on_timeout_now,
        CommitNotice: _on_commit_notice,
    }
