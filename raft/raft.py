"""The state machine: roles, terms and votes, and the face of the package.

`Raft` takes ticks, messages, proposals and acknowledgements of the disk, and gives `Ready` back. It
holds what is true in every role; what only a leader has lives in `raft.leader`. The contract with
the driver is in DESIGN.md, as numbered steps.

Two laws of this file:

* a peer can be late, repeat itself, or be wrong, but nothing it sends raises: what cannot be is
  counted in `rejected` and dropped;
* `term`, `vote` and `role` change only in the four `_become_…` methods and in `_grant`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from raft.leader import Leader
from raft.log import RaftLog
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    Heartbeat,
    HeartbeatResponse,
    Message,
    OrderRecovery,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestPreVote,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from raft.outbox import Outbox
from raft.progress import ProgressView
from raft.quorum import VoteResult, majority, vote_result
from raft.read_index import ReadIndex
from raft.recovery import Recovery
from raft.types import (
    NONE,
    Config,
    ConfState,
    Entry,
    HardState,
    NodeId,
    NoLeader,
    NotLeader,
    Persist,
    ReadDropped,
    ReadState,
    Ready,
    Role,
    SoftState,
    require,
)

FROM_LEADER = (AppendEntries, Heartbeat, CommitAdvance, TimeoutNow, OrderRecovery)
"""Sent by the leader of their term and by nobody else."""


class Status(NamedTuple):
    """What a node knows of itself, and who counts in no quorum now.

    Attributes:
        progress: empty unless this node leads.
        recovering: members, this node included, that are recovering as far as this node was told.
        recovers_at: this node is healed when its durable, committed log reaches this index; 0 if
            it is not recovering, or its leader has not told the index yet.
        voters_missing: how many more voters must be there, and not recovering, for anybody to be
            elected. Above 0 the group waits.
    """

    node_id: NodeId
    role: Role
    leader: NodeId
    term: int
    vote: NodeId
    commit: int
    applied: int
    stable: int
    last_index: int
    transferee: NodeId
    progress: dict[NodeId, ProgressView]
    recovering: tuple[NodeId, ...]
    recovers_at: int
    voters_missing: int


class Raft:
    """One node of a Raft group.

    Args:
        config: parameters of this node.
        hard_state: what the disk holds; `HardState(0, NONE, 0)` on a new node.
        conf_state: who takes part.
        log: the restored log.
        applied: index up to which the state machine has applied; 0 on a new node.
        recovering: the durable flag: this disk lost entries that were acknowledged. Then the commit
            index of `hard_state` is not believed, and `applied` must be that of a snapshot whose
            place is in the log (DESIGN.md, step 2).

    Raises:
        ValueError: the arguments contradict each other; the disk has lost something.
    """

    __slots__ = (
        "_config",
        "_durable",
        "_elapsed",
        "_handed",
        "_leadership",
        "_outbox",
        "_peers",
        "_pending",
        "_persist_number",
        "_reads",
        "_recovering_peers",
        "_recovery",
        "_soft_state",
        "_timeout",
        "_transfer_vote",
        "_votes",
        "conf_state",
        "leader",
        "log",
        "node_id",
        "recovering",
        "rejected",
        "role",
        "term",
        "vote",
    )

    def __init__(
        self,
        config: Config,
        *,
        hard_state: HardState,
        conf_state: ConfState,
        log: RaftLog,
        applied: int,
        recovering: bool = False,
    ) -> None:
        members = {*conf_state.voters, *conf_state.learners}
        require(bool(conf_state.voters), "voters", conf_state.voters)
        require(NONE not in members, "members", sorted(members))
        require(hard_state.term >= log.last_term, "term", hard_state.term)
        alone = conf_state.voters == (config.node_id,)
        require(not (recovering and alone), "recovering with voters", conf_state.voters)
        # What was cut off may have replaced what is now the end: only a snapshot is certain.
        commit = applied if recovering else hard_state.commit
        log.start(commit, applied, config.cache_bytes_max)
        self._config = config
        self.node_id = config.node_id
        self.conf_state = conf_state
        self.log = log
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.role = Role.FOLLOWER
        self.leader: NodeId = NONE
        self.rejected: dict[str, int] = {}
        """How often a peer sent something impossible, by reason."""
        self.recovering = recovering
        """This node lost acknowledged entries: it gives no vote and counts in no quorum."""
        self._recovery = Recovery(config.boot_id)
        self._recovering_peers: set[NodeId] = set()
        self._peers = sorted(members - {config.node_id})
        self._leadership: Leader | None = None
        self._reads = ReadIndex(config.boot_id, config.reads_waiting_max)
        self._outbox = Outbox()
        self._votes: dict[NodeId, bool] = {}
        self._transfer_vote = False
        self._elapsed = 0
        self._timeout = self._draw_timeout()
        # (term, vote, recovering): now durable; given to the driver; and per Persist on its way.
        self._durable = (self.term, self.vote, recovering)
        self._handed = self._durable
        self._pending: deque[tuple[int, tuple[int, NodeId, bool]]] = deque()
        self._persist_number = 0
        self._soft_state = SoftState(NONE, Role.FOLLOWER)

    # --- asking ---------------------------------------------------------------------------------

    @property
    def commit(self) -> int:
        """Largest index known to be committed."""
        return self.log.commit

    @property
    def applied(self) -> int:
        """Largest index that the state machine has applied."""
        return self.log.applied

    @property
    def last_index(self) -> int:
        """Index of the last entry, durable or not."""
        return self.log.last_index

    @property
    def hard_state(self) -> HardState:
        """Term and vote as they are now, durable or not, and a commit index that is safe to write.

        The commit index here never exceeds what is durable on this disk: written before the
        entries themselves, it must not claim after a crash that they were there.
        """
        return HardState(self.term, self.vote, min(self.log.commit, self.log.stable))

    @property
    def first_index_of_term(self) -> int:
        """On a leader the index of its no-op; committed, it opens the way for reads. Else 0."""
        return self._leadership.first_index if self._leadership else 0

    def progress(self) -> dict[NodeId, ProgressView]:
        """Return the leader's view of all nodes, itself included; empty on others."""
        if self._leadership is None:
            return {}
        return {node_id: p.view() for node_id, p in self._leadership.progress.items()}

    def status(self) -> Status:
        """Describe this node."""
        recovering = {*self._recovering_peers, *((self.node_id,) if self.recovering else ())}
        voters = self.conf_state.voters
        counting = len([voter for voter in voters if voter not in recovering])
        return Status(
            node_id=self.node_id,
            role=self.role,
            leader=self.leader,
            term=self.term,
            vote=self.vote,
            commit=self.log.commit,
            applied=self.log.applied,
            stable=self.log.stable,
            last_index=self.log.last_index,
            transferee=self._leadership.transferee if self._leadership else NONE,
            progress=self.progress(),
            recovering=tuple(sorted(recovering)),
            recovers_at=(self._recovery.index or 0) if self.recovering else 0,
            voters_missing=max(0, majority(len(voters)) - counting),
        )

    # --- from the driver ------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick of time pass."""
        if self._leadership is not None:
            if not self._leadership.tick():
                self._become_follower(self.term, NONE)
            return
        if self.recovering and self._recovery.tick(self._config.heartbeat_ticks):
            self._ask_how_far()
        self._elapsed += 1
        if self._elapsed >= self._timeout:
            self._elapsed = 0
            self.campaign()

    def campaign(self) -> None:
        """Start an election now, unless this node leads, has no vote, or is recovering."""
        if self._leadership is not None or not self._promotable():
            return
        if self._config.pre_vote:
            self._become_pre_candidate()
        else:
            self._become_candidate(transfer=False)

    def propose(self, data: Sequence[bytes]) -> int:
        """Append one entry per element of `data`; return the index of the first.

        The entries are committed if and only if they come back from `committed_entries` with this
        term and index.

        Raises:
            NotLeader: this node does not lead; nothing was appended.
            ProposalDropped: too much is uncommitted, or leadership is being handed over; nothing
                was appended.
            ValueError: no data, or an element is empty.
        """
        if self._leadership is None:
            raise NotLeader(self.leader)
        return self._leadership.propose(data)

    def read_index(self, request_id: int) -> None:
        """Ask for the index that a linearizable read must wait for.

        The answer is a `ReadState` with this `request_id` in a later `Ready`, or nothing if it was
        lost: then ask again with a *new* id.

        Raises:
            NoLeader: nobody to ask.
            ReadDropped: too many reads wait on this leader.
        """
        if self._leadership is not None:
            if not self._leadership.on_read(self.node_id, request_id):
                raise ReadDropped("too many reads wait for a round")
        elif self.leader == NONE:
            raise NoLeader("no leader is known")
        else:
            self._send(self.leader, ReadIndexRequest(self.term, request_id))

    def transfer_leader(self, target: NodeId) -> bool:
        """Hand leadership to `target`; to this node itself: withdraw the last order.

        It is over when `leader` changes, or, unsuccessful, when `status().transferee` is `NONE`.
        Until then proposals are dropped.

        Returns:
            False if `target` cannot be elected soon, since it is recovering or needs a snapshot;
            nothing has changed then.

        Raises:
            NotLeader: this node does not lead.
            ValueError: `target` is not a voter.
        """
        if self._leadership is None:
            raise NotLeader(self.leader)
        require(target in self.conf_state.voters, "target", target)
        return self._leadership.transfer_to(NONE if target == self.node_id else target)

    def report_unreachable(self, peer: NodeId) -> None:
        """The transport dropped a message to `peer`."""
        if self._leadership is not None and peer in self._peers:
            self._leadership.unreachable(peer)

    def compact(self, index: int) -> None:
        """Let the log forget the entries up to `index`; its term stays known.

        The driver's newest durable snapshot must reach at least as far. Followers that still need
        what was forgotten are named in `Ready.snapshots`. An index that was forgotten before
        changes nothing.

        Raises:
            ValueError: `index` is not applied yet.
        """
        require(index <= self.log.applied, "index", index)
        self.log.compact(index)
        if self._leadership is not None:
            self._leadership.work = True

    def snapshot_finished(self, peer: NodeId, index: int, *, ok: bool) -> None:
        """The driver's stream of a snapshot to `peer` ended; call it for every one, whatever came.

        `ok`: the peer has installed a snapshot that ends at `index`, or has more than that.
        Appends go on from there. Not `ok`: after the next answer to a heartbeat the peer is named
        again, if it still needs one. Out of date it changes nothing.

        Raises:
            ValueError: `index` is beyond what this node has applied.
        """
        require(index <= self.log.applied, "index", index)
        if self._leadership is not None and peer in self._peers:
            self._leadership.snapshot_finished(peer, index, ok=ok)

    def accepts_snapshot(self, sender: NodeId, term: int, index: int) -> bool:
        """Tell whether a snapshot that ends at `index` is wanted from `sender`, leader of `term`.

        To be asked before the first chunk; further chunks may ask as well. It counts as a message
        of that leader: a later term is adopted, and no election starts meanwhile. A leader of an
        earlier term, and a snapshot of what is committed here, are refused.
        """
        if sender not in self._peers:
            self._reject("sender is not a member")
            return False
        return self._hear_leader(sender, term) and index > self.log.commit

    def install_snapshot(self, sender: NodeId, term: int, index: int, snapshot_term: int) -> bool:
        """The state machine is now that of a snapshot from `sender` which ends at `index`.

        Snapshot, its mark in the log and the state machine must be durable, in this order. A log
        that has the entry (`index`, `snapshot_term`) keeps what follows it; any other is replaced.
        `applied` is `index`: what was handed out to be applied before lies below it, and must not
        be applied any more. The leader, whoever it is by now, is told.

        Returns:
            False if all of it is committed here already; nothing has changed then.

        Raises:
            ValueError: `snapshot_term` cannot be.
        """
        require(0 < snapshot_term <= term, "snapshot_term", snapshot_term)
        log = self.log
        if index <= log.commit:
            return False
        if sender in self._peers:
            self._hear_leader(sender, term)
        # What is in a snapshot is committed, so it holds under later leaders too; one of those
        # has the entry itself (leader completeness, paper section 5.4.3).
        assert self._leadership is None or log.term(index) == snapshot_term, (
            f"snapshot {index} of term {snapshot_term} contradicts the leader's {log.term(index)}"
        )
        log.install(index, snapshot_term)
        if self.leader not in (NONE, self.node_id):
            self._acknowledge(self.leader, index)
        return True

    def peer_connected(self, peer: NodeId, *, recovering: bool = False) -> None:
        """The transport reached `peer` (again): send what it may have missed.

        `recovering`: what the peer said of itself while connecting. From here on no message may be
        stepped that an earlier start of the peer sent: its acknowledgements may be of entries that
        it has lost.
        """
        if peer not in self._peers:
            return
        if self._leadership is not None:
            self._leadership.connected(peer, recovering=recovering)
            return
        if recovering:
            self._recovering_peers.add(peer)
        else:
            self._recovering_peers.discard(peer)
        if self.role is not Role.FOLLOWER and peer in self.conf_state.voters:
            self._request_vote(peer)

    # --- Ready ----------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Tell whether `ready` may have something. Cheap."""
        outbox = self._outbox
        return bool(
            outbox.messages
            or outbox.after_sync
            or outbox.read_states
            or (self._leadership is not None and self._leadership.work)
            or self.log.has_unhanded()
            or self._handed != (self.term, self.vote, self.recovering)
            or (self.recovering and self._recovery.is_healed(self._durable_commit))
            or self._soft_state != (self.leader, self.role)
        )

    def ready(self) -> Ready | None:
        """Return what is to be done now, None if nothing. May be called before `synced`."""
        if self._leadership is not None and self._leadership.work:
            self._leadership.flush()
        if self.recovering and self._recovery.is_healed(self._durable_commit):
            self._become_healed()
        persist = self._make_persist()
        soft_state = None
        if self._soft_state != (self.leader, self.role):
            soft_state = self._soft_state = SoftState(self.leader, self.role)
        outbox = self._outbox
        messages = outbox.messages
        read_states = outbox.read_states
        snapshots = outbox.snapshots
        if not (messages or persist or read_states or soft_state or snapshots):
            return None
        # Even empty lists are handed over, never shared: what comes next belongs to the next Ready.
        outbox.messages = []
        outbox.read_states = []
        outbox.snapshots = []
        return Ready(messages, persist, read_states, soft_state, snapshots)

    def synced(self, number: int) -> None:
        """Everything in the `Persist`s up to `number` is durable.

        Raises:
            ValueError: no `Persist` had that number yet.
        """
        require(number <= self._persist_number, "number", number)
        pending = self._pending
        while pending and pending[0][0] <= number:
            self._durable = pending.popleft()[1]
        self.log.synced(number)
        if self._leadership is not None:
            self._leadership.synced()
        elif self.role is Role.CANDIDATE and self._durable[:2] == (self.term, self.node_id):
            self._count_vote(self.node_id, granted=True)

    def committed_entries(self, bytes_max: int) -> list[Entry]:
        """Return the next entries to apply: committed and durable here, each handed out once.

        At least one if there is any, then as many as fit in `bytes_max` (which charges
        `ENTRY_OVERHEAD_BYTES` for each).
        """
        return self.log.take_committed(bytes_max)

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        self.log.applied_to(index)

    def _make_persist(self) -> Persist | None:
        state = (self.term, self.vote, self.recovering)
        changed = state != self._handed
        after_sync = self._outbox.after_sync
        if not (changed or after_sync or self.log.has_unhanded()):
            return None
        self._persist_number += 1
        number = self._persist_number
        hard_state = recovering = None
        if changed:
            if state[:2] != self._handed[:2]:
                hard_state = self.hard_state
            if self.recovering is not self._handed[2]:
                recovering = self.recovering
            self._handed = state
            self._pending.append((number, state))
        self._outbox.after_sync = []
        return Persist(number, hard_state, self.log.hand_out(number), after_sync, recovering)

    def _send(self, to: NodeId, message: Message) -> None:
        """Send what rests on nothing but the term and the flag: at once if they are durable."""
        if self._durable[0] >= self.term and self._durable[2] is self.recovering:
            self._outbox.messages.append((to, message))
        else:
            self._outbox.after_sync.append((to, message))

    def _send_after_sync(self, to: NodeId, message: Message) -> None:
        """Send a promise: not before everything that this node has now is durable."""
        self._outbox.after_sync.append((to, message))

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
        return self.node_id in self.conf_state.voters and not self.recovering

    def _voting_peers(self) -> list[NodeId]:
        return [voter for voter in self.conf_state.voters if voter != self.node_id]

    def _draw_timeout(self) -> int:
        config = self._config
        return config.random_ticks(config.election_ticks_min, config.election_ticks_max)

    # --- elections (paper, section 5.2) ---------------------------------------------------------

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
        result = vote_result(self.conf_state.voters, votes)
        if result is VoteResult.LOST:
            self._become_follower(self.term, NONE)
        elif result is VoteResult.WON:
            if self.role is Role.PRE_CANDIDATE:
                self._become_candidate(transfer=False)
            elif self.node_id in votes:
                # Only with this node's own vote durable: so a leader's term always is.
                self._become_leader()

    def _heard_leader_recently(self) -> bool:
        """Leader stickiness (thesis, section 4.2.3): who follows a live leader elects no other."""
        if not self._config.check_quorum or self.leader == NONE:
            return False
        return self._leadership is not None or self._elapsed < self._config.election_ticks_min

    def _on_request_pre_vote(self, sender: NodeId, message: RequestPreVote) -> None:
        if self.recovering:
            return
        if message.term <= self.term:
            self._send(sender, PreVoteResponse(self.term, granted=False))
            return
        granted = self.log.is_up_to_date(message.last_index, message.last_term)
        # Granted: the term asked for, which nobody adopts. Refused: ours.
        term = message.term if granted else self.term
        if term > 0:
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
        free = self.vote in (sender, NONE) and self.leader == NONE
        if free and self.log.is_up_to_date(message.last_index, message.last_term):
            self._grant(sender)
        else:
            self._send(sender, RequestVoteResponse(self.term, granted=False))

    def _grant(self, candidate: NodeId) -> None:
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

    # --- following (paper, section 5.3) ---------------------------------------------------------

    def _follow(self, sender: NodeId) -> bool:
        """Take a message of this term's leader for a sign of life; False if it cannot be one."""
        if self.leader != sender or self.role is not Role.FOLLOWER:
            if self.leader != NONE:
                self._reject("second leader in one term")
                return False
            self._become_follower(self.term, sender)
        self._elapsed = 0
        return True

    def _hear_leader(self, sender: NodeId, term: int) -> bool:
        """Take word of a leader that came on another way; False if its term is over."""
        if term < self.term:
            return False
        if term > self.term:
            self._become_follower(term, sender)
        return self._follow(sender)

    def _on_append(self, sender: NodeId, message: AppendEntries) -> None:
        if not self._follow(sender):
            return
        log = self.log
        term, previous_index, previous_term, commit, entries = message
        if previous_index < log.commit:
            # What is committed here equals the leader's log: only what lies beyond can be new.
            entries = entries[log.commit - previous_index :]
            previous_index = log.commit
            previous_term = log.commit_term
        last_new = log.maybe_append(previous_index, previous_term, entries)
        if last_new is None:
            hint_index, hint_term = log.find_conflict_by_term(previous_index, previous_term)
            response = AppendResponse(
                term, previous_index, True, hint_index, hint_term, self.recovering
            )
            self._send(sender, response)
            return
        log.commit_to(min(commit, last_new))
        self._acknowledge(sender, last_new)

    def _acknowledge(self, leader: NodeId, index: int) -> None:
        response = AppendResponse(self.term, index, False, 0, 0, self.recovering)
        if index > self.log.stable:
            self._send_after_sync(leader, response)
        else:
            self._send(leader, response)

    def _on_heartbeat(self, sender: NodeId, message: Heartbeat) -> None:
        if not self._follow(sender):
            return
        if self.recovering:
            # The leader may still go by what this node acknowledged and lost since. Appends and
            # CommitAdvance name a term with their index, and so prove what they say.
            pass
        elif message.commit > self.log.last_index:
            self._reject("commit beyond what was acknowledged")
            return
        else:
            self.log.commit_to(message.commit)
        # Not a promise about the log: a read must not wait for this node's disk.
        self._send(sender, HeartbeatResponse(self.term, message.round, self.recovering))

    def _on_commit_advance(self, sender: NodeId, message: CommitAdvance) -> None:
        if self._follow(sender) and self.log.term(message.commit) == message.commit_term:
            self.log.commit_to(message.commit)

    def _on_read_index_request(self, sender: NodeId, message: ReadIndexRequest) -> None:
        # Not the leader (any more): silence. The sender asks again, with a new id.
        leadership = self._leadership
        if leadership is not None and not leadership.on_read(sender, message.request_id):
            self._reject("too many reads wait for a round")

    def _on_read_index_response(self, sender: NodeId, message: ReadIndexResponse) -> None:
        if self.leader not in (sender, NONE):
            self._reject("read index from a node that does not lead")
        elif not self._recovery.take_answer(message.request_id, message.index):
            self._outbox.read_states.append(ReadState(message.request_id, message.index))

    # --- recovering (raft.recovery) -------------------------------------------------------------

    @property
    def _durable_commit(self) -> int:
        """The log up to here is on this disk and equals that of any leader to come."""
        return min(self.log.commit, self.log.stable)

    def _ask_how_far(self) -> None:
        if self.leader != NONE:
            question = ReadIndexRequest(self.term, self._recovery.next_request_id())
            self._send(self.leader, question)

    def _on_order_recovery(self, sender: NodeId, message: OrderRecovery) -> None:
        """The leader doubts that this node still has what it acknowledged."""
        if not self._follow(sender):
            return
        index = message.index
        if index <= self.log.commit or self.log.term(index) == message.index_term:
            # Within a term nothing that was acknowledged is ever replaced, so the doubt came from
            # an answer that was overtaken.
            self._acknowledge(sender, index)
        elif not self.recovering:
            self.recovering = True
            self._recovery.begin()

    def _become_healed(self) -> None:
        """The log is whole again. The flag is cleared on disk before a vote can leave."""
        self.recovering = False
        if self.leader != NONE:
            # So the leader counts this node again at once.
            index = self._durable_commit
            healed = AppendResponse(self.term, index, False, 0, 0, False)
            self._send_after_sync(self.leader, healed)

    # --- leading --------------------------------------------------------------------------------

    def _on_append_response(self, sender: NodeId, message: AppendResponse) -> None:
        if self._leadership is not None:
            reason = self._leadership.on_append_response(sender, message)
            if reason is not None:
                self._reject(reason)

    def _on_heartbeat_response(self, sender: NodeId, message: HeartbeatResponse) -> None:
        if self._leadership is not None:
            reason = self._leadership.on_heartbeat_response(sender, message)
            if reason is not None:
                self._reject(reason)

    # --- from peers -----------------------------------------------------------------------------

    def step(self, sender: NodeId, message: Message) -> None:
        """Take a message from a peer. Whatever it is, this does not raise."""
        if sender not in self._peers:
            self._reject("sender is not a member")
            return
        term = message.term
        if term < self.term and type(message) is not RequestPreVote:
            self._answer_old_term(sender, message)
            return
        if term > self.term and not self._accept_new_term(sender, message):
            return
        self._HANDLERS[type(message)](self, sender, message)

    def _accept_new_term(self, sender: NodeId, message: Message) -> bool:
        """Decide about a message of a later term; True if it is to be handled, in that term."""
        if isinstance(message, RequestPreVote):
            return not self._heard_leader_recently()
        if isinstance(message, PreVoteResponse) and message.granted:
            return True
        if (
            isinstance(message, RequestVote)
            and not message.transfer
            and self._heard_leader_recently()
        ):
            return False
        leads = isinstance(message, FROM_LEADER)
        self._become_follower(message.term, sender if leads else NONE)
        return True

    def _answer_old_term(self, sender: NodeId, message: Message) -> None:
        """Tell a leader or candidate of an earlier term that its time is over.

        Without this answer a node whose term ran ahead could neither follow the old leader nor,
        since its votes are ignored, depose it.
        """
        if isinstance(message, FROM_LEADER):
            self._send(sender, AppendResponse(self.term, 0, True, 0, 0, self.recovering))
        elif isinstance(message, RequestVote):
            self._send(sender, RequestVoteResponse(self.term, granted=False))

    def _reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    # The message types differ per handler; `step` picks by type, which the checker cannot follow.
    _HANDLERS: ClassVar[dict[type, Callable[[Any, NodeId, Any], None]]] = {
        RequestPreVote: _on_request_pre_vote,
        PreVoteResponse: _on_pre_vote_response,
        RequestVote: _on_request_vote,
        RequestVoteResponse: _on_request_vote_response,
        AppendEntries: _on_append,
        AppendResponse: _on_append_response,
        Heartbeat: _on_heartbeat,
        HeartbeatResponse: _on_heartbeat_response,
        CommitAdvance: _on_commit_advance,
        ReadIndexRequest: _on_read_index_request,
        ReadIndexResponse: _on_read_index_response,
        TimeoutNow: _on_timeout_now,
        OrderRecovery: _on_order_recovery,
    }
