"""The face of the package: what a driver calls, and where messages go.

`Raft` takes ticks, messages, proposals and acknowledgements of the disk, and gives `Ready` back.
The contract with the driver is in DESIGN.md, as numbered steps. What a leader does lives in
`raft.leader`, all else in the layers that `raft.node_state` lists.

The law of this file: a peer can be late, repeat itself, or be wrong, but nothing it sends raises.
What cannot be is counted in `rejected` and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from raft.following import Following
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    CommitNotice,
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
from raft.node_state import Handlers
from raft.types import (
    NONE,
    Entry,
    NodeId,
    NoLeader,
    NotLeader,
    ReadDropped,
    ReadState,
    Ready,
    Role,
    SoftState,
    require,
)

FROM_LEADER = (AppendEntries, Heartbeat, CommitAdvance, TimeoutNow, OrderRecovery)
"""Sent by the leader of their term and by nobody else."""

IN_ANY_TERM = (RequestPreVote, CommitNotice)
"""Mean something to a node whose term is later."""


class Raft(Following):
    """One node of a Raft group; the arguments are those of `NodeState`."""

    __slots__ = ()

    # --- from the driver ------------------------------------------------------------------------

    def tick(self) -> None:
        """Let one tick of time pass."""
        self._now += 1
        if self._leadership is not None:
            if not self._leadership.tick():
                self._become_follower(self.term, NONE)
            return
        if self.recovering and self._recovery.tick(self._config.heartbeat_ticks):
            self._ask_how_far()
        # Set back by what is heard and by every ballot, and by nothing else: a node that stands for
        # none would else believe for ever that it has just heard its leader.
        self._elapsed += 1
        if self._elapsed >= self._timeout:
            self._on_silence()

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

    def propose_conf_change(self, data: bytes) -> int:
        """Append a change of membership as an entry of kind `CONF_CHANGE`; return its index.

        What `data` means is the state machine's affair. It takes effect when it is applied: see
        `apply_conf_state`. Like every proposal it may be lost with this leadership.

        Raises:
            NotLeader: this node does not lead; nothing was appended.
            ProposalDropped: an earlier change in the log is not applied yet, this leader has not
                committed in its own term yet, leadership is being handed over, or too much is
                uncommitted; nothing was appended.
            ValueError: `data` is empty.
        """
        if self._leadership is None:
            raise NotLeader(self.leader)
        return self._leadership.propose_change(data)

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
            ValueError: `target` is not a voter, or leaves with the old half of a joint change.
        """
        if self._leadership is None:
            raise NotLeader(self.leader)
        if target == self.node_id:
            target = NONE
        else:
            require(target in self.conf_state.voters, "target", target)
        return self._leadership.transfer_to(target)

    def report_unreachable(self, peer: NodeId) -> None:
        """The transport dropped a message to `peer`."""
        if self._leadership is not None and peer in self._peers:
            self._leadership.unreachable(peer)

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
        if self.role is not Role.FOLLOWER and peer in self._voting_peers():
            self._request_vote(peer)

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
            or (self.log.changes and self.log.has_change_to_note())
            or (self.recovering and self._recovery.is_healed(self._durable_commit))
            or self._soft_state != (self.leader, self.role)
        )

    def ready(self) -> Ready | None:
        """Return what is to be done now, None if nothing. May be called before `synced`."""
        leadership = self._leadership
        if leadership is not None and leadership.work:
            leadership.flush()
            if leadership.removed:
                # After it has told the others how far the log is committed.
                self._become_follower(self.term, NONE)
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
        `ENTRY_OVERHEAD_BYTES` for each). A change of membership, and what follows it, is held back
        until the hard state on disk says that it is committed.
        """
        return self.log.take_committed(bytes_max)

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        self.log.applied_to(index)

    # --- from peers -----------------------------------------------------------------------------

    def step(self, sender: NodeId, message: Message) -> None:
        """Take a message from a peer. Whatever it is, this does not raise."""
        if sender not in self._heard:
            self._reject("sender is not a member")
            return
        term = message.term
        if term < self.term and type(message) not in IN_ANY_TERM:
            self._answer_old_term(sender, message)
            return
        if term > self.term and not self._accept_new_term(sender, message):
            return
        handle = self.HANDLERS.get(type(message))
        if handle is None:
            self._reject("unknown type of message")
        else:
            handle(self, sender, message)

    def _accept_new_term(self, sender: NodeId, message: Message) -> bool:
        """Decide about a message of a later term; True if it is to be handled, in that term."""
        if self._leaps(message.term):
            return False
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

    HANDLERS: ClassVar[Handlers] = {
        **Following.HANDLERS,
        AppendResponse: _on_append_response,
        HeartbeatResponse: _on_heartbeat_response,
        ReadIndexRequest: _on_read_index_request,
        ReadIndexResponse: _on_read_index_response,
    }
