"""Proposals: from single commands to batches in the log, exactly once.

Every node has a *proposer session*. It registers once per start, through the log;
the index of that registration is its incarnation. Then it numbers its batches 1, 2, 3, ...; a
replica applies a batch only if it is the next one of the current incarnation. So a batch may be
sent as often as needed, to any leader, and is applied once, in order.

The life of a command here::

    submit -> queue -> batch (gets its number, goes to the leader) -> applied here -> complete
                 \\-> refused: it never left this node              \\-> unknown: its client's
                     within the deadline                                 deadline passed

Batching is what makes Python fast enough: everything that arrives in one loop pass, or while
enough batches are under way, becomes one log entry.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol

from kvnode.admission.ledger import Ledger
from kvnode.errors import OutcomeUnknown, Refused
from kvnode.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    BATCH_ROWS_MAX,
    BATCHES_IN_FLIGHT_MAX,
    LEVEL_WAIT_MS,
    QUEUED_COMMANDS_MAX,
    RESEND_MS,
    STEP_PAUSE_MS,
    STEPS_ALONE_MS,
)
from kvnode.node.patience import Patience
from kvnode.service import PatientPending, Pending
from kvnode.store import ops
from kvnode.store.batch import encode_ops, fits
from kvnode.store.reply import Result, Unfinished
from kvnode.store.sessions import Outcome, Session
from kvnode.store.state_machine import Applied

NO_LEADER = Refused(
    "BUSY no leader was found in time; the command was not executed, it may be sent again"
)
QUEUE_FULL = Refused("BUSY too many commands are waiting; the command was not executed")
LOG_FULL = Refused("ERR the disk of this node's log is full; the command was not executed")
DATA_FULL = Refused("OOM command not allowed when used memory > 'maxmemory'.")
EXEC_DATA_FULL = Refused(f"EXECABORT Transaction discarded because of: {DATA_FULL.text}")
"""As Redis has it: nothing of the transaction was done."""
ENGINE_FULL = Refused("OOM the engine of this node is full; the command was not executed")
STOPPING = Refused("BUSY the node is stopping; the command was not executed")
TOO_MANY_PARTS = Refused(
    "ERR the command has too many parts for one log entry; it was not executed"
)
RESULT_LOST = OutcomeUnknown(
    "UNKNOWN the command was applied, but its result was lost: this node installed a snapshot"
)
UNKNOWN = OutcomeUnknown(
    "UNKNOWN the command was sent to the leader and its outcome was not learned in time; "
    "it may still be executed"
)


STEP_BYTES = 32

MANY_PARTS_BYTES = 64 * 1024
"""A smaller command cannot have more parts than an entry may hold. One that has would stop all
nodes: it is refused, whoever made such an op."""


class Channel(Protocol):
    """How batches reach whoever leads: into the own log, or to another node."""

    def send_batch(self, incarnation: int, sequence: int, operations: bytes) -> bool:
        """Hand a batch to the leader; False when there is none or it cannot take more now."""

    def send_registration(self, nonce: int) -> bool:
        """Hand the session's registration to the leader; False when there is none."""


class _Step:
    """The next step of a large command, in its client's name."""

    __slots__ = ("client", "op", "size")

    def __init__(self, pending: Pending, job: int) -> None:
        self.client: Pending = pending.client if isinstance(pending, _Step) else pending
        self.op: list[Any] = [ops.STEP, 0, job]
        self.size = STEP_BYTES

    def complete(self, result: Result) -> None:
        """The client is answered; whatever hinders a step hinders the command."""
        self.client.complete(result)


class _Answered:
    """Stands in a batch for a command whose client was answered before the batch was applied."""

    __slots__ = ("op", "size")

    def __init__(self) -> None:
        self.op: list[Any] = []
        self.size = 0

    def complete(self, result: Result) -> None:
        """Nobody waits for it."""


_ANSWERED = _Answered()


class _Batch:
    """A numbered batch on its way; `pendings` is None once their clients were answered."""

    __slots__ = ("commands", "operations", "pendings", "sent_at", "sequence", "submitted_at")

    def __init__(
        self, sequence: int, operations: bytes, pendings: list[Pending], submitted_at: float
    ) -> None:
        self.sequence = sequence
        self.operations = operations
        self.pendings: list[Pending] | None = pendings
        self.commands = len(pendings)
        self.submitted_at = submitted_at
        self.sent_at = 0.0


class Proposer:
    """The proposer session of this node; no I/O and no timers: `Pulse` calls `flush` and `sweep`.

    Invariants:
        * sequence numbers in the window are contiguous and end at `_sequence`;
        * a batch in the window was sent at least once, so its fate is open until it is applied;
        * a command is in the queue or in exactly one batch, and is completed exactly once;
        * a batch keeps its number and its bytes for ever, so that a resend is the same batch.

    Args:
        channel: the way to the leader.
        nonce: random and unique per start, so that a repeated registration is recognised.
        monotonic: seconds, for deadlines.
        ledger: counts the packed batches. What waits for a batch is counted with the requests.
    """

    def __init__(
        self,
        channel: Channel,
        nonce: int,
        monotonic: Callable[[], float],
        ledger: Ledger | None = None,
    ) -> None:
        self._channel = channel
        self._ledger = ledger or Ledger()
        self._nonce = nonce
        self._monotonic = monotonic
        self._queue: deque[tuple[Pending, float]] = deque()
        self._early: deque[tuple[Pending, float]] = deque()
        self._resting: deque[tuple[_Step, float]] = deque()
        """Steps of large commands that make way for others, and until when."""
        self._others_at = 0.0
        """When the last command came that was no step."""
        self.large_commands: Callable[[], int] = _one
        """How many large commands are under way in the cluster."""
        self._window: OrderedDict[int, _Batch] = OrderedDict()
        self._sequence = 0
        self._resend_from: int | None = None
        self._registration_sent_at: float | None = None
        self._is_paused = False
        self._patience = Patience()
        self._held: Refused | None = None
        self.set_level(ops.BASE_LEVEL)
        self.incarnation = 0
        """Log index of this start's registration; 0 until it is applied."""
        self.batches_resent = 0
        self.outcomes_unknown = 0
        self.refused = 0

    @property
    def is_idle(self) -> bool:
        """Nothing waits for an answer."""
        under_way = any(batch.pendings for batch in self._window.values())
        return not (self._queue or self._early or self._resting or under_way)

    @property
    def waiting(self) -> int:
        """Commands that wait for a batch, and batches under way."""
        return len(self._queue) + len(self._early) + len(self._resting) + len(self._window)

    # --- commands in ------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Take one write. It is completed later, or refused at once when the queue is full."""
        reason = self._held
        if reason is None:
            if len(self._queue) + len(self._early) >= QUEUED_COMMANDS_MAX:
                reason = QUEUE_FULL
            elif self._knows_newer_ops:
                reason = self._gate(pending.op)
                if self._early or (reason is not None and self._awaits_level):
                    self._early.append((pending, self._monotonic()))
                    return
        if pending.size > MANY_PARTS_BYTES and not fits(pending.op):
            reason = TOO_MANY_PARTS
        if reason is not None:
            self.refuse(pending, reason)
            return
        self._others_at = self._monotonic()
        self._queue.append((pending, self._others_at))

    def set_level(self, level: int) -> None:
        """Tell the cluster's feature level: ops of a higher one are refused from now on.

        A member that does not know an op stops when it finds it in the log. Until it is told, the
        session trusts in no more than `BASE_LEVEL`. A cluster that has just begun learns its level
        in a moment; commands that need it wait for that, and all later ones behind them, but
        not again once one has waited in vain.
        """
        self._level = level
        # Nearly always False, and then no command is looked into.
        self._knows_newer_ops = max(ops.SINCE.values()) > level
        self._awaits_level = level == ops.BASE_LEVEL
        self._submit_early()

    def _submit_early(self) -> None:
        """What waited for the level comes in its order, to be taken or refused."""
        early, self._early = self._early, deque()
        for pending, _ in early:
            self.submit(pending)

    def _gate(self, op: list[Any]) -> Refused | None:
        needed = ops.level_of(op)
        if needed <= self._level:
            return None
        return Refused(
            f"ERR this needs feature level {needed} and the cluster is at {self._level} until "
            f"every member is updated"
        )

    def refuse(self, pending: Pending, reason: Refused) -> None:
        """Answer a command that was not, and will not be, done."""
        self.refused += 1
        pending.complete(reason)

    @property
    def can_send(self) -> bool:
        """`flush` would send something now."""
        if self._is_paused or not self.incarnation:
            return False
        return self._resend_from is not None or self._batch_is_due

    @property
    def _batch_is_due(self) -> bool:
        """As many commands wait as are under way. Fewer gather until a batch comes back: every
        batch costs each node a fixed price, so two equal ones are cheaper than a large and a small.
        """
        window = self._window
        if len(window) >= BATCHES_IN_FLIGHT_MAX:
            return False
        under_way = sum([batch.commands for batch in window.values()])
        return len(self._queue) >= max(1, under_way)

    def flush(self) -> None:
        """Make batches of what waits and send them, as far as the window allows."""
        if self._resting:
            self._go_on(self._monotonic())
        if self._is_paused:
            return
        if not self.incarnation:
            self._register()
            return
        if self._resend_from is not None and not self._resend():
            return
        while self._batch_is_due:
            batch = self._next_batch()
            if not self._send(batch):
                self._take_back(batch)
                return

    def _register(self) -> None:
        now = self._monotonic()
        sent_at = self._registration_sent_at
        if sent_at is not None and (now - sent_at) * 1000 < RESEND_MS:
            return
        if self._channel.send_registration(self._nonce):
            self._registration_sent_at = now
        else:
            self._is_paused = True

    def _next_batch(self) -> _Batch:
        queue = self._queue
        pendings: list[Pending] = []
        submitted_at = queue[0][1]
        size = rows = 0
        while queue and len(pendings) < BATCH_COMMANDS_MAX:
            pending = queue[0][0]
            size += pending.size
            rows += ops.rows_of(pending.op)
            if pendings and (size > BATCH_BYTES_MAX or rows > BATCH_ROWS_MAX):
                break
            pendings.append(pending)
            queue.popleft()
        self._sequence += 1
        operations = encode_ops([pending.op for pending in pendings])
        batch = _Batch(self._sequence, operations, pendings, submitted_at)
        self._window[batch.sequence] = batch
        self._ledger.proposals += len(operations)
        return batch

    def _drop(self, sequence: int) -> _Batch | None:
        """Take a batch out of the window."""
        batch = self._window.pop(sequence, None)
        if batch is not None:
            self._ledger.proposals -= len(batch.operations)
        return batch

    def _send(self, batch: _Batch) -> bool:
        if not self._channel.send_batch(self.incarnation, batch.sequence, batch.operations):
            self._is_paused = True
            return False
        batch.sent_at = self._monotonic()
        return True

    def _take_back(self, batch: _Batch) -> None:
        """The newest batch never left this node: its commands are only waiting, as before."""
        assert batch.sequence == self._sequence, f"{batch.sequence} is not {self._sequence}"
        assert batch.pendings is not None
        self._drop(batch.sequence)
        self._sequence -= 1
        self._queue.extendleft((p, batch.submitted_at) for p in reversed(batch.pendings))

    # --- resending --------------------------------------------------------------------------------

    def leader_changed(self) -> None:
        """Another leader, or the same in a new term: what was under way may be lost."""
        self._registration_sent_at = None
        self._is_paused = False
        if self._window:
            self._resend_from = next(iter(self._window))

    def rejected(self) -> None:
        """The leader did not take a batch or the registration: try again at the next sweep."""
        self.leader_changed()
        self._is_paused = True

    def resume(self) -> None:
        """What held sending up may be over: try again at the next flush."""
        self._is_paused = False

    def _resend(self) -> bool:
        """Send the window again from `_resend_from` on, in order; False when it got stuck."""
        first = self._resend_from
        assert first is not None
        for sequence, batch in self._window.items():
            if sequence < first:
                continue
            if not self._send(batch):
                self._resend_from = sequence
                return False
            self.batches_resent += 1
        self._resend_from = None
        return True

    # --- results ----------------------------------------------------------------------------------

    def registered(self, incarnation: int, nonce: int) -> None:
        """A registration of this node was applied; it counts if it is this start's."""
        if nonce == self._nonce:
            self.incarnation = incarnation

    def applied(self, applied: Applied) -> None:
        """A batch of this node was applied, or skipped, by this node's own store."""
        if applied.incarnation != self.incarnation:
            return
        if applied.outcome is Outcome.GAP:
            # An earlier batch was lost on the way: everything from the first open one again.
            if self._window and self._resend_from is None:
                self._resend_from = next(iter(self._window))
            return
        if applied.outcome is not Outcome.APPLIED:
            return
        batch = self._drop(applied.sequence)
        if batch is None:
            return  # applied again: an engine that is full takes back what it could not keep
        self._patience.came_on(self._monotonic())
        if batch.pendings is None:
            return
        assert applied.results is not None
        if applied.is_unfinished:
            self._carry_on(batch.pendings, applied.results)
            return
        for pending, result in zip(batch.pendings, applied.results, strict=True):
            pending.complete(result)

    def _carry_on(self, pendings: list[Pending], results: list[Result]) -> None:
        """Propose the next steps of large commands (`kvnode.store.bulk`); answer the others.

        Every node applies each step in one go. While there are others to serve, steps of all large
        commands of the cluster together leave them most of the time.
        """
        now = self._monotonic()
        pause_s = 0.0
        if (now - self._others_at) * 1000 < STEPS_ALONE_MS:
            pause_s = max(1, self.large_commands()) * STEP_PAUSE_MS / 1000
        for pending, result in zip(pendings, results, strict=True):
            if isinstance(result, Unfinished):
                self._resting.append((_Step(pending, result.job), now + pause_s))
            else:
                pending.complete(result)
        if not pause_s:
            self._go_on(now)

    @property
    def has_due_step(self) -> bool:
        """`flush` would find the next step of a large command."""
        return bool(self._resting) and self._resting[0][1] <= self._monotonic()

    def _go_on(self, now: float) -> None:
        """Steps whose rest is over wait for a batch like any command."""
        resting = self._resting
        while resting and resting[0][1] <= now:
            self._queue.append((resting.popleft()[0], now))

    def restored(self, session: Session | None) -> None:
        """The store was replaced by a snapshot: what it had applied was applied without us."""
        if session is None:
            return
        self.registered(session.incarnation, session.nonce)
        if session.incarnation != self.incarnation:
            return
        for sequence in [s for s in self._window if s <= session.last]:
            batch = self._drop(sequence)
            for pending in (batch and batch.pendings) or ():
                self.outcomes_unknown += 1
                pending.complete(RESULT_LOST)
        self.leader_changed()

    # --- deadlines --------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Answer clients whose deadline passed, and send again what seems lost."""
        now = self._monotonic()
        if self._early and (now - self._early[0][1]) * 1000 >= LEVEL_WAIT_MS:
            self._awaits_level = False
            self._submit_early()
        overdue = self._patience.ends_for(now)
        self._refuse_until(overdue)
        for batch in self._window.values():
            if batch.pendings is not None and batch.submitted_at <= overdue:
                self._answer_unknown(batch, stays=True)
        head = next(iter(self._window.values()), None)
        if head is not None and (now - head.sent_at) * 1000 >= RESEND_MS:
            self._resend_from = head.sequence
        self._is_paused = False

    def _refuse_until(self, submitted_before: float, reason: Result = NO_LEADER) -> None:
        queue = self._queue
        while queue and queue[0][1] <= submitted_before:
            pending, _ = queue.popleft()
            self.refused += 1
            pending.complete(reason)

    def _answer_unknown(self, batch: _Batch, *, stays: bool) -> None:
        """Its clients go with an honest answer; the batch itself keeps its place.

        Those that wait anyway stay, unless the node ends.
        """
        pendings = batch.pendings or []
        kept = [pending if stays and _is_patient(pending) else _ANSWERED for pending in pendings]
        batch.pendings = kept if any(pending is not _ANSWERED for pending in kept) else None
        for pending, left in zip(pendings, kept, strict=True):
            if left is _ANSWERED and pending is not _ANSWERED:
                self.outcomes_unknown += 1
                pending.complete(UNKNOWN)

    def hold(self, reason: Refused | None) -> None:
        """Refuse new commands for `reason` from now on; None takes them again."""
        if self._held is not STOPPING:
            self._held = reason

    def stop(self) -> None:
        """Take nothing more; what is under way may still finish."""
        self._held = STOPPING

    def abandon(self) -> None:
        """The node ends now: everybody gets the answer that is true."""
        self.stop()
        self._submit_early()
        self._go_on(float("inf"))
        self._refuse_until(float("inf"), STOPPING)
        for batch in self._window.values():
            self._answer_unknown(batch, stays=False)


def _one() -> int:
    return 1


def _is_patient(pending: Pending) -> bool:
    return isinstance(pending, PatientPending) and pending.is_patient
