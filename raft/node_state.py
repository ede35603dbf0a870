"""What a node is, whatever its role, and what of it the disk knows.

The node is written in layers, each a class that knows only those before it:

1. `NodeState` (here): term, vote, role, log, and the rule *persist before send*;
2. `Elections` (`raft.elections`): how roles change;
3. `Membership` (`raft.membership`): who takes part;
4. `Following` (`raft.following`): what a node does with a leader's messages;
5. `Raft` (`raft.raft`): the face of the package; what a leader does is in `raft.leader`.

Invariants: `term` never goes back; `vote` changes at most once per term, from `NONE`; `leader` is
this node if and only if its `role` is leader, which exists only with its own vote durable, and
never while `recovering`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from raft import configuration
from raft.leader import Leader
from raft.log import RaftLog
from raft.messages import Message
from raft.outbox import Outbox
from raft.progress import ProgressView
from raft.quorum import missing
from raft.read_index import ReadIndex
from raft.recovery import Recovery
from raft.types import (
    NONE,
    Config,
    ConfState,
    HardState,
    NodeId,
    Persist,
    Role,
    SoftState,
    require,
)

Handlers: TypeAlias = dict[type, Callable[[Any, NodeId, Any], None]]
"""What to do with (node, sender, message), by the message's type, which a checker cannot follow."""


class Status(NamedTuple):
    """What a node knows of itself, and who counts in no quorum now.

    Attributes:
        progress: empty unless this node leads.
        recovering: members, this node included, that are recovering as far as this node was told.
        recovers_at: this node is healed when its durable, committed log reaches this index; 0 if
            it is not recovering, or its leader has not told the index yet.
        voters_missing: how many more voters must be there, and not recovering, for anybody to be
            elected (at least, while a change is joint). Above 0 the group waits.
        conf_state: who takes part, as far as this node has applied the log.
        pending_change: index of the oldest change of membership in the log that is not applied
            here; 0 if there is none.
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
    conf_state: ConfState
    pending_change: int


class NodeState:
    """One node of a Raft group.

    Args:
        config: parameters of this node.
        hard_state: what the disk holds; `HardState(0, NONE, 0)` on a new node.
        conf_state: who takes part, by all that is applied; `ConfState(())` on a node that joins a
            group and has not heard yet who is in it. Such a node follows and never campaigns.
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
        "_heard",
        "_heard_at",
        "_leadership",
        "_notices",
        "_now",
        "_outbox",
        "_peers",
        "_pending",
        "_persist_number",
        "_reads",
        "_recovering_peers",
        "_recovery",
        "_soft_state",
        "_strangers",
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
        configuration.check(conf_state)
        require(hard_state.term >= log.last_term, "term", hard_state.term)
        # What was cut off may have replaced what is now the end: only a snapshot is certain.
        commit = applied if recovering else hard_state.commit
        log.start(commit, applied, config.cache_bytes_max)
        self._config = config
        self.node_id = config.node_id
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
        self._strangers: dict[NodeId, None] = {}
        self._seat(conf_state)
        self._leadership: Leader | None = None
        self._reads = ReadIndex(config.boot_id, config.reads_waiting_max)
        self._outbox = Outbox()
        self._votes: dict[NodeId, bool] = {}
        self._transfer_vote = False
        self._notices = config.commit_notices
        self._elapsed = 0
        self._timeout = self._draw_timeout()
        # In ticks since the start, which counts as hearing a leader: it may have been heard before.
        self._now = 0
        self._heard_at = 0
        # (term, vote, recovering): now durable; given to the driver; and per Persist on its way.
        self._durable = (self.term, self.vote, recovering)
        self._handed = self._durable
        self._pending: deque[tuple[int, tuple[int, NodeId, bool]]] = deque()
        self._persist_number = 0
        self._soft_state = SoftState(NONE, Role.FOLLOWER)

    def _seat(self, conf_state: ConfState) -> None:
        """Go by this membership. Who was a member and is not named any more is not heard."""
        self.conf_state = conf_state
        self._peers = [m for m in configuration.members(conf_state) if m != self.node_id]
        for peer in self._peers:
            self._strangers.pop(peer, None)
        self._heard = {*self._peers, *self._strangers}
        self._recovering_peers &= self._heard

    def _draw_timeout(self) -> int:
        config = self._config
        return config.random_ticks(config.election_ticks_min, config.election_ticks_max)

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

    @property
    def _durable_commit(self) -> int:
        """The log up to here is on this disk and equals that of any leader to come."""
        return min(self.log.commit, self.log.stable)

    def progress(self) -> dict[NodeId, ProgressView]:
        """Return the leader's view of all nodes, itself included; empty on others."""
        if self._leadership is None:
            return {}
        return {node_id: p.view() for node_id, p in self._leadership.progress.items()}

    def status(self) -> Status:
        """Describe this node."""
        recovering = {*self._recovering_peers, *((self.node_id,) if self.recovering else ())}
        voters = configuration.voting_members(self.conf_state)
        whole = {voter for voter in voters if voter not in recovering}
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
            transferee=self._leadership.transfer.target if self._leadership else NONE,
            progress=self.progress(),
            recovering=tuple(sorted(recovering)),
            recovers_at=(self._recovery.index or 0) if self.recovering else 0,
            voters_missing=missing(self.conf_state, whole),
            conf_state=self.conf_state,
            pending_change=self.log.changes[0] if self.log.changes else 0,
        )

    # --- persist before send --------------------------------------------------------------------

    def _make_persist(self) -> Persist | None:
        state = (self.term, self.vote, self.recovering)
        changed = state != self._handed
        after_sync = self._outbox.after_sync
        log = self.log
        notes = bool(log.changes) and log.has_change_to_note()
        if not (changed or notes or after_sync or log.has_unhanded()):
            return None
        self._persist_number += 1
        number = self._persist_number
        hard_state = recovering = None
        if notes or state[:2] != self._handed[:2]:
            hard_state = self.hard_state
            log.note(number, hard_state.commit)
        if changed:
            if self.recovering is not self._handed[2]:
                recovering = self.recovering
            self._handed = state
            self._pending.append((number, state))
        self._outbox.after_sync = []
        return Persist(number, hard_state, log.hand_out(number), after_sync, recovering)

    def _send(self, to: NodeId, message: Message) -> None:
        """Send what rests on nothing but the term and the flag: at once if they are durable."""
        if self._durable[0] >= self.term and self._durable[2] is self.recovering:
            self._outbox.messages.append((to, message))
        else:
            self._outbox.after_sync.append((to, message))

    def _send_after_sync(self, to: NodeId, message: Message) -> None:
        """Send a promise: not before everything that this node has now is durable."""
        self._outbox.after_sync.append((to, message))

    def _reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
