"""Following: the log becomes the leader's (paper, section 5.3), by entries or by a snapshot (7).

What a leader sends is checked against the log and never believed further than log matching proves
it: an append by the entry before it, a commit index by its term, a heartbeat by what this node has
acknowledged. Here is also the way back of a node that lost acknowledged entries (`raft.recovery`).
"""

from __future__ import annotations

from typing import ClassVar

from raft import configuration
from raft.membership import Membership
from raft.messages import (
    AppendEntries,
    AppendResponse,
    CommitAdvance,
    Heartbeat,
    HeartbeatResponse,
    OrderRecovery,
    ReadIndexRequest,
)
from raft.node_state import Handlers
from raft.types import (
    NONE,
    ConfState,
    NodeId,
    Role,
    require,
)


class Following(Membership):
    """What a leader's messages do."""

    __slots__ = ()

    def _follow(self, sender: NodeId) -> bool:
        """Take a message of this term's leader for a sign of life; False if it cannot be one."""
        if self.leader != sender or self.role is not Role.FOLLOWER:
            if self.leader != NONE:
                self._reject("second leader in one term")
                return False
            self._become_follower(self.term, sender)
        self._elapsed = 0
        self._heard_at = self._now
        return True

    def _hear_leader(self, sender: NodeId, term: int) -> bool:
        """Take word of a leader that came on another way; False if its term is over."""
        if term < self.term or self._leaps(term):
            return False
        if term > self.term:
            self._become_follower(term, sender)
        return self._follow(sender)

    # --- the log --------------------------------------------------------------------------------

    def _on_append(self, sender: NodeId, message: AppendEntries) -> None:
        if not self._follow(sender):
            return
        log = self.log
        term, previous_index, previous_term, commit, entries = message
        if previous_index < log.commit:
            # What is committed here equals the leader's log: only what lies beyond can be new.
            known = log.commit - previous_index
            if known <= len(entries) and entries[known - 1].term != log.commit_term:
                self._reject("append contradicts what is committed")
                return
            entries = entries[known:]
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

    # --- snapshots ------------------------------------------------------------------------------

    def accepts_snapshot(self, sender: NodeId, term: int, index: int) -> bool:
        """Tell whether a snapshot that ends at `index` is wanted from `sender`, leader of `term`.

        To be asked before the first chunk; further chunks may ask as well. It counts as a message
        of that leader: a later term is adopted, and no election starts meanwhile. A leader of an
        earlier term, and a snapshot of what is committed here, are refused.
        """
        if sender not in self._heard:
            self._reject("sender is not a member")
            return False
        return self._hear_leader(sender, term) and index > self.log.commit

    def install_snapshot(
        self,
        sender: NodeId,
        term: int,
        index: int,
        snapshot_term: int,
        *,
        conf_state: ConfState | None = None,
    ) -> bool:
        """The state machine is now that of a snapshot from `sender` which ends at `index`.

        Snapshot, its mark in the log and the state machine must be durable, in this order. A log
        that has the entry (`index`, `snapshot_term`) keeps what follows it; any other is replaced.
        `applied` is `index`: what was handed out to be applied before lies below it, and must not
        be applied any more. The leader, whoever it is by now, is told. `conf_state` is the
        membership in the snapshot, which may be any number of steps away (None: as it was).

        Returns:
            False if all of it is committed here already; nothing has changed then.

        Raises:
            ValueError: `snapshot_term` or `conf_state` cannot be.
        """
        require(0 < snapshot_term <= term, "snapshot_term", snapshot_term)
        if conf_state is not None:
            configuration.check(conf_state)
        log = self.log
        if index <= log.commit:
            return False
        if sender in self._heard:
            self._hear_leader(sender, term)
        # What is in a snapshot is committed, so it holds under later leaders too; one of those
        # has the entry itself (leader completeness, paper section 5.4.3).
        assert self._leadership is None or log.term(index) == snapshot_term, (
            f"snapshot {index} of term {snapshot_term} contradicts the leader's {log.term(index)}"
        )
        log.install(index, snapshot_term)
        if conf_state is not None and conf_state != self.conf_state:
            self._reconfigure(conf_state)
        if self.leader not in (NONE, self.node_id):
            self._acknowledge(self.leader, index)
        return True

    # --- recovering -----------------------------------------------------------------------------

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
            self._outbox.withdraw_votes()

    def _become_healed(self) -> None:
        """The log is whole again. The flag is cleared on disk before a vote can leave."""
        self.recovering = False
        if self.leader != NONE:
            # So the leader counts this node again at once.
            index = self._durable_commit
            healed = AppendResponse(self.term, index, False, 0, 0, False)
            self._send_after_sync(self.leader, healed)

    HANDLERS: ClassVar[Handlers] = {
        **Membership.HANDLERS,
        AppendEntries: _on_append,
        Heartbeat: _on_heartbeat,
        CommitAdvance: _on_commit_advance,
        OrderRecovery: _on_order_recovery,
    }
