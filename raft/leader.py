"""What a node does while it leads: replicate, commit, confirm reads, hand over.

A `Leader` exists from the moment an election is won until the node steps down. Its term and vote
are durable before it is created, so whatever it sends may leave at once; only its *own* match
waits for its own disk (thesis, section 10.2.1: the leader writes in parallel with its followers).

Nothing is sent while messages are handled. Handlers only note what they learned; `flush` then
sends, once per `Ready`, what each follower is due. So several proposals share one message, a commit
index rides on the next append, and all reads of one pass of the driver share one round.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft import configuration
from raft.lease import Lease
from raft.log import RaftLog
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    Heartbeat,
    HeartbeatResponse,
    OrderRecovery,
    ReadIndexResponse,
    TimeoutNow,
)
from raft.outbox import Outbox
from raft.progress import PROBE, REPLICATE, SNAPSHOT, Inflights, Progress
from raft.quorum import agreed, missing
from raft.read_index import ReadIndex
from raft.transfer import Transfer
from raft.types import (
    NONE,
    Config,
    ConfState,
    Entry,
    EntryKind,
    NodeId,
    ProposalDropped,
    ReadState,
    memory_size,
)
from raft.uncommitted import Uncommitted

NORMAL = int(EntryKind.NORMAL)
CONF_CHANGE = int(EntryKind.CONF_CHANGE)


class Leader:
    """The state of one leadership (paper, figure 2: volatile state on leaders).

    Attributes:
        term: the term that this node leads.
        first_index: index of its no-op; only entries from there on are committed by counting.
        progress: by node id, sorted; this node is included, unless it was removed.
        removed: this node is no voter any more. It steps down after the next `flush`.
        transfer: the order to hand leadership over, if there is one.
        work: something was learned that `flush` may have to act on.

    Invariants: its own log only grows; it commits by counting only from `first_index` on, and what
    it counts is `match` of voters that are not recovering; a read is answered at an index that was
    committed after the read arrived and a quorum confirmed the leader after that, or by a lease.
    """

    __slots__ = (
        "_conf_state",
        "_config",
        "_lease",
        "_log",
        "_node_id",
        "_outbox",
        "_outgoing",
        "_own",
        "_peers",
        "_reads",
        "_recovering_peers",
        "_shared",
        "_ticks_since_heartbeat",
        "_ticks_since_quorum_check",
        "_uncommitted",
        "_voters",
        "first_index",
        "progress",
        "removed",
        "term",
        "transfer",
        "work",
    )

    def __init__(
        self,
        config: Config,
        term: int,
        conf_state: ConfState,
        log: RaftLog,
        reads: ReadIndex,
        outbox: Outbox,
        recovering_peers: set[NodeId],
    ) -> None:
        self.term = term
        self.first_index = log.last_index + 1
        self.transfer = Transfer(config.election_ticks_min)
        self.work = False
        self._config = config
        self._log = log
        self._reads = reads
        self._outbox = outbox
        self._recovering_peers = recovering_peers
        self._node_id = config.node_id
        self._own = self._new_progress(config.node_id)
        self._own.become_replicate()
        self._own.match = log.stable
        self.progress: dict[NodeId, Progress] = {config.node_id: self._own}
        self._seat(conf_state)
        for peer in self._peers:
            # Nobody was heard yet.
            peer.recent_active = False
        self._ticks_since_heartbeat = 0
        self._ticks_since_quorum_check = 0
        self._uncommitted = Uncommitted(config.uncommitted_bytes_max)
        span = config.election_ticks_min - config.lease_drift_ticks
        self._lease = Lease(span) if config.lease_reads else None
        # The append that was made last in this flush: followers at the same place share it.
        self._shared: tuple[int, AppendEntries, int] | None = None
        # Entries of earlier terms are committed by committing this one (paper, section 5.4.2).
        log.append([Entry(term, self.first_index, NORMAL, b"")])

    # --- the membership -------------------------------------------------------------------------

    def _new_progress(self, node_id: NodeId) -> Progress:
        config = self._config
        inflights = Inflights(config.inflight_messages_max, config.inflight_bytes_max)
        progress = Progress(node_id, self._log.last_index + 1, inflights)
        progress.recovering = node_id in self._recovering_peers
        # Who has just come had no time to be heard.
        progress.recent_active = True
        return progress

    def _seat(self, conf_state: ConfState) -> None:
        """Go by this membership; what is known of members stays known."""
        self._conf_state = conf_state
        known = self.progress
        self.progress = {
            node_id: known.get(node_id) or self._new_progress(node_id)
            for node_id in configuration.members(conf_state)
        }
        self._peers = [peer for peer in self.progress.values() if peer is not self._own]
        self._voters = [self.progress[node_id] for node_id in conf_state.voters]
        self._outgoing = [self.progress[node_id] for node_id in conf_state.outgoing]
        self.removed = self._own not in self._voters and self._own not in self._outgoing
        self.work = True

    def reconfigure(self, conf_state: ConfState) -> None:
        """Another membership took effect: judge by its quorums from here on."""
        if self.work:
            # Those who leave are still sent what they are due: that they do, for one thing.
            self.flush()
        self._seat(conf_state)
        if self.transfer.target not in conf_state.voters:
            self.transfer.begin(NONE)
        if self._lease is not None:
            # What the old quorum promised binds the next one, but not the one after.
            self._lease.lapse()
        # Fewer may be enough now.
        self._maybe_commit()
        self._confirm_rounds()

    # --- from the driver ------------------------------------------------------------------------

    def propose_change(self, data: bytes) -> int:
        """Append a change of membership; return its index. See `Raft.propose_conf_change`."""
        if not data:
            raise ValueError("a change of membership needs data")
        if self.transfer.target != NONE:
            raise ProposalDropped(f"leadership is being handed to {self.transfer.target}")
        log = self._log
        if log.commit < self.first_index:
            # Two leaders that never saw each other's change could otherwise each count a
            # majority of their own (found in 2015, after the thesis).
            raise ProposalDropped("nothing of this leader's term is committed yet")
        if log.changes:
            raise ProposalDropped(
                f"the change of membership at {log.changes[0]} is not applied yet"
            )
        return self._append([Entry(self.term, log.last_index + 1, CONF_CHANGE, data)])

    def propose(self, data: Sequence[bytes]) -> int:
        """Append one entry per element; return the index of the first. See `Raft.propose`."""
        if self.transfer.target != NONE:
            raise ProposalDropped(f"leadership is being handed to {self.transfer.target}")
        if not data or not all(data):
            raise ValueError("a proposal needs at least one entry, and data in each")
        term = self.term
        first = self._log.last_index + 1
        return self._append([Entry(term, index, NORMAL, d) for index, d in enumerate(data, first)])

    def _append(self, entries: list[Entry]) -> int:
        size = memory_size(entries)
        if not self._uncommitted.has_room(size):
            raise ProposalDropped(f"{self._uncommitted.size} bytes are not committed yet")
        first, last = entries[0].index, entries[-1].index
        self._log.append(entries)
        self._uncommitted.add(last, size)
        self.work = True
        return first

    def tick(self) -> bool:
        """Let one tick pass; False if the leader must step down (CheckQuorum, thesis 6.2)."""
        if self._lease is not None:
            self._lease.tick()
        self.transfer.tick()
        self._ticks_since_quorum_check += 1
        if self._ticks_since_quorum_check >= self._config.election_ticks_min:
            self._ticks_since_quorum_check = 0
            if not self._heard_quorum() and self._config.check_quorum:
                return False
        self._ticks_since_heartbeat += 1
        if self._ticks_since_heartbeat >= self._config.heartbeat_ticks:
            self._ticks_since_heartbeat = 0
            for peer in self._peers:
                peer.match_at_heartbeat = peer.match
                if peer.suspect:
                    self._order_recovery(peer)
            self._send_heartbeats(self._round_of_heartbeat())
        return True

    def synced(self) -> None:
        """This node's own log grew on its own disk: the leader's vote for its entries."""
        if self._own.maybe_update(self._log.stable):
            self._maybe_commit()

    def transfer_to(self, target: NodeId) -> bool:
        """Hand leadership to `target` as soon as its log is complete (thesis, section 3.10).

        `NONE` withdraws the order. False if `target` cannot be elected soon.
        """
        if target != NONE:
            progress = self.progress[target]
            if progress.recovering or progress.state is SNAPSHOT:
                return False
        self.transfer.begin(target)
        self.work = True
        return True

    def unreachable(self, peer: NodeId) -> None:
        """A message to `peer` was dropped: do not pipeline into the void."""
        progress = self.progress[peer]
        if progress.state is REPLICATE:
            # Paused: the answer to a heartbeat after this tells that the peer is back.
            progress.become_probe()
            progress.paused = True

    def connected(self, peer: NodeId, *, recovering: bool) -> None:
        """`peer` can be reached (again): find out at once where its log ends."""
        progress = self.progress[peer]
        if recovering:
            # Perhaps another loss than the one that is known.
            progress.forget()
        if recovering is not progress.recovering:
            self._set_recovering(progress, recovering)
        if progress.state is REPLICATE:
            progress.become_probe()
        # Already probing: the answer may have been lost. Where to probe stays as it is, since
        # `match` may not be known at all yet.
        progress.paused = False
        self.work = True

    def snapshot_finished(self, peer: NodeId, index: int, *, ok: bool) -> None:
        """The driver's stream to `peer` ended. See `Raft.snapshot_finished`."""
        progress = self.progress[peer]
        if progress.state is SNAPSHOT:
            progress.snapshot_finished(index, ok=ok)
            self.work = True

    # --- from peers -----------------------------------------------------------------------------

    def on_append_response(self, sender: NodeId, message: AppendResponse) -> str | None:
        """Move the follower's progress; return a reason if the message is impossible."""
        progress = self.progress.get(sender)
        if progress is None:
            return "append response from a node that is not replicated to"
        progress.recent_active = True
        if message.recovering is not progress.recovering:
            self._set_recovering(progress, message.recovering)
        index = message.index
        if index > self._log.last_index:
            return "append response beyond the log"
        if message.rejected:
            self._on_rejection(progress, message)
        elif progress.maybe_update(index):
            if progress.state is REPLICATE:
                progress.inflights.free_to(index)
            elif progress.state is PROBE or index >= self._log.compacted:
                progress.become_replicate()
            progress.suspect = False
            if index > self._log.commit:
                self._maybe_commit()
            self.work = True
        elif index == progress.match:
            progress.suspect = False
            if progress.state is PROBE:
                progress.become_replicate()
                self.work = True
        return None

    def _on_rejection(self, progress: Progress, message: AppendResponse) -> None:
        # The follower names the last place where the logs may meet. It keeps what it acknowledged
        # to this leader, so a place before that was named earlier. One lost append makes many such
        # rejections, one for each that was on its way behind it; heeding them all would send
        # everything again for each.
        if message.hint_index < progress.match:
            # Or it did not keep it. Which of the two, the follower itself will be asked.
            progress.suspect = True
            return
        hint, _ = self._log.find_conflict_by_term(message.hint_index, message.hint_term)
        if progress.maybe_decrease(message.index, hint):
            self.work = True

    def on_heartbeat_response(self, sender: NodeId, message: HeartbeatResponse) -> str | None:
        """The follower lives and follows; return a reason if the message is impossible."""
        progress = self.progress.get(sender)
        if progress is None:
            return "heartbeat response from a node that is not replicated to"
        progress.recent_active = True
        if message.recovering is not progress.recovering:
            self._set_recovering(progress, message.recovering)
        round_id = message.round
        if round_id > progress.acked_round and not progress.recovering:
            if not self._reads.issued(round_id):
                return "heartbeat response to a round of another start"
            progress.acked_round = round_id
            if self._lease is not None or self._reads.in_flight():
                self._confirm_rounds()
        if progress.match == progress.match_at_heartbeat:
            # No progress since the last regular heartbeat: slow, or something was lost. Send a
            # probe again, or an append after all that was sent. Once per heartbeat, since the
            # rounds of reads are answered far more often.
            progress.match_at_heartbeat = -1
            progress.paused = False
            progress.verify = progress.match < self._log.last_index
            if progress.recovering:
                # It does not go by the commit index of heartbeats: tell it again.
                progress.sent_commit = 0
            self.work = True
        return None

    def on_read(self, origin: NodeId, request_id: int) -> bool:
        """Answer a read by the lease, or queue it for the next round; False if too many wait."""
        self.work = True
        lease = self._lease
        if lease is not None and lease.held and self._may_read() and self.transfer.target == NONE:
            self._answer_read(origin, request_id, self._log.commit)
            return True
        return self._reads.add(origin, request_id)

    def _may_read(self) -> bool:
        """Before its term's first commit a leader does not know the newest commit index."""
        return self._log.commit >= self.first_index

    def _set_recovering(self, progress: Progress, recovering: bool) -> None:
        """A follower tells that it lost something, or that it is healed and counts again."""
        progress.recovering = recovering
        self.work = True
        if recovering:
            progress.forget()
            self._recovering_peers.add(progress.node_id)
            if self.transfer.target == progress.node_id:
                self.transfer.begin(NONE)  # it could not be elected
        else:
            self._recovering_peers.discard(progress.node_id)
            self._maybe_commit()

    # --- deciding -------------------------------------------------------------------------------

    # A recovering voter is one that does not answer: it adds to no count, and the quorum stays as
    # large as it is.

    def _maybe_commit(self) -> None:
        """Commit what a quorum has, if it is of this term (paper, section 5.4.2)."""
        log = self._log
        index = stored(self._voters)
        if self._outgoing:
            index = min(index, stored(self._outgoing))
        if index <= log.commit or index < self.first_index:
            return
        log.commit_to(index)
        self.work = True
        self._uncommitted.free_to(index)

    def _heard_quorum(self) -> bool:
        heard = {self._own.node_id}
        for peer in self._peers:
            if peer.recent_active and not peer.recovering:
                heard.add(peer.node_id)
            peer.recent_active = False
        return missing(self._conf_state, heard) == 0

    def _confirm_rounds(self) -> None:
        """Answer the reads of all rounds that a quorum has confirmed."""
        self._own.acked_round = self._reads.newest
        # Nothing is noted of recovering voters, so they are 0 here.
        newest = agreed([voter.acked_round for voter in self._voters])
        if self._outgoing:
            newest = min(newest, agreed([voter.acked_round for voter in self._outgoing]))
        if self._lease is not None:
            self._lease.confirmed(newest)
        for confirmed in self._reads.confirm(newest):
            for origin, request_id in confirmed.requests:
                self._answer_read(origin, request_id, confirmed.commit)
            self.work = True

    def _answer_read(self, origin: NodeId, request_id: int, index: int) -> None:
        if origin == self._node_id:
            self._outbox.read_states.append(ReadState(request_id, index))
        else:
            response = ReadIndexResponse(self.term, request_id, index)
            self._outbox.messages.append((origin, response))

    def _round_of_heartbeat(self) -> int:
        """Repeat the newest round, which may have been lost; with leases always start another."""
        if self._lease is None:
            return self._reads.in_flight()
        round_id = self._reads.new_id()
        self._lease.started(round_id)
        return round_id

    # --- sending --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send every follower what it is due, and start a round if reads wait."""
        self.work = False
        self._shared = None
        if self._reads.can_start() and self._may_read():
            self._start_round()
        compacted = self._log.compacted
        for peer in self._peers:
            if peer.next_index <= compacted:
                self._maybe_ask_for_snapshot(peer)
            elif peer.state is REPLICATE:
                self._pipeline(peer)
            elif peer.state is PROBE and not peer.paused:
                self._send_append(peer)
        if self.transfer.waits:
            self._maybe_send_timeout_now()

    def _start_round(self) -> None:
        round_id = self._reads.start(self._log.commit)
        if self._lease is not None:
            self._lease.started(round_id)
        self._send_heartbeats(round_id)
        self._confirm_rounds()  # a voter alone is a quorum

    def _pipeline(self, peer: Progress) -> None:
        log = self._log
        while peer.next_index <= log.last_index and not peer.inflights.full():
            self._send_append(peer)
        if peer.verify:
            self._send_verification(peer)
        commit = log.commit
        # Useful only to a follower that was sent the committed entries.
        if peer.sent_commit < commit < peer.next_index:
            message = CommitAdvance(self.term, commit, log.commit_term)
            self._outbox.messages.append((peer.node_id, message))
            peer.sent_commit = commit

    def _maybe_ask_for_snapshot(self, peer: Progress) -> None:
        """What `peer` needs is forgotten: say so, once, and not before it shows that it lives."""
        if peer.state is REPLICATE or (peer.state is PROBE and not peer.paused):
            peer.become_snapshot()
            self._outbox.snapshots.append(peer.node_id)

    def _send_append(self, peer: Progress) -> None:
        """Send the entries from `next_index` on, which the log still holds."""
        shared = self._shared
        if shared is None or shared[0] != peer.next_index:
            shared = self._make_append(peer.next_index)
            self._shared = shared
        _, message, size = shared
        self._outbox.messages.append((peer.node_id, message))
        peer.sent(message.previous_index + len(message.entries), size)
        peer.sent_commit = message.commit

    def _make_append(self, next_index: int) -> tuple[int, AppendEntries, int]:
        log = self._log
        entries: list[Entry] = []
        size = 0
        if next_index <= log.last_index:
            bytes_max = self._config.message_bytes_max
            entries, size = log.entries(next_index, log.last_index + 1, bytes_max)
        return next_index, self._append_after(next_index - 1, tuple(entries)), size

    def _append_after(self, previous: int, entries: tuple[Entry, ...]) -> AppendEntries:
        previous_term = self._log.term(previous)
        assert previous_term is not None, f"no term at {previous}"
        return AppendEntries(self.term, previous, previous_term, self._log.commit, entries)

    def _send_verification(self, peer: Progress) -> None:
        """Send an empty append after everything that was sent; the answer tells what was lost."""
        peer.verify = False
        message = self._append_after(peer.next_index - 1, ())
        self._outbox.messages.append((peer.node_id, message))
        peer.sent_commit = message.commit

    def _send_heartbeats(self, round_id: int) -> None:
        commit = self._log.commit
        for peer in self._peers:
            # A follower may only be told of commits that its own log is known to hold.
            message = Heartbeat(self.term, min(peer.match, commit), round_id)
            self._outbox.messages.append((peer.node_id, message))

    def _order_recovery(self, peer: Progress) -> None:
        """Ask `peer` whether it has what it acknowledged; if not, it must recover."""
        term = self._log.term(peer.match)
        # What is compacted comes with the next snapshot, and all that was acknowledged with it.
        if term:
            message = OrderRecovery(self.term, peer.match, term)
            self._outbox.messages.append((peer.node_id, message))

    def _maybe_send_timeout_now(self) -> None:
        target = self.progress[self.transfer.target]
        if target.match == self._log.last_index:
            self._outbox.messages.append((target.node_id, TimeoutNow(self.term)))
            self.transfer.told()
            if self._lease is not None:
                self._lease.revoke()


def stored(half: list[Progress]) -> int:
    """Return the index up to which a quorum of `half` has the log on disk."""
    return agreed([0 if voter.recovering else voter.match for voter in half])
