"""Linearizable reads: one read-index round for all reads of a loop pass.

A read may be answered from this node's store once two things are true: a leader confirmed, in a
round that *started after the read arrived*, that it still leads and how far it had committed (the
read index, thesis §6.4), and this node has applied that far. Reads that arrive while rounds are
under way gather for the next one. The id of a round is used once; a lost round is asked again
under a new id.

What may run is run in slices: a thousand reads that all came back with one round would else keep
heartbeats and everybody's writes waiting until the last of them is done. Between two reads the
front end is asked whether it has room for replies. Without it reads stand aside, except for those
whose reply is small for certain: clients that read nothing must not keep others from their small
values. When there is room again, those that stood aside are first. Else it is first come, first
served; reads that wait for no index (`submit_stale`) have half of each slice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from kvnode.errors import Refused
from kvnode.limits import COSTLY_READ_MS, HOLD_MS, READ_SLICE_MS, READS_WAITING_MAX
from kvnode.node.patience import Patience
from kvnode.service import READ_STOPPING, Pending, RenderedPending

ENGINE_FULL = Refused("OOM the engine of this node is full and behind; the read was not executed")
NO_LEADER = Refused("BUSY no leader was found in time; the read was not executed")
QUEUE_FULL = Refused("BUSY too many reads are waiting; the read was not executed")
NO_ROOM = Refused("BUSY replies that clients do not take fill the node; the read was not executed")

ROUNDS_IN_FLIGHT_MAX = 2
"""One on its way while the answer to the other comes back."""

ROUND_RETRY_MS = 300
"""A round that was not answered for this long is asked again."""

_Arrived = tuple[Pending, float]
"""A read and the monotonic time, in seconds, at which it arrived."""

_Waiting = list[_Arrived]


class _Round:
    __slots__ = ("asked_at", "reads")

    def __init__(self, reads: _Waiting, asked_at: float) -> None:
        self.reads = reads
        self.asked_at = asked_at


class ReadPort(Protocol):
    """What `ReadRounds` needs of the node."""

    def ask(self, request_id: int) -> bool:
        """Start a round under this id; False when no leader is known."""

    def may_execute(self) -> bool:
        """Whether there is room for one more reply; asked before each read."""

    def may_execute_small(self, pending: Pending) -> bool:
        """Whether there is room for this one's reply, as it is small; asked if there is no more."""

    def execute(self, pending: Pending) -> None:
        """Run one read on the applied state and complete it."""


class ReadRounds:
    """Gathers reads, asks for read indexes, releases reads when they are applied.

    Invariant: a read is in exactly one of `_waiting`, a round, `_released`, `_stale` or `_aside`,
    or was completed.

    Args:
        port: asks and executes.
        first_id: round ids count up from here; unique across starts of this node.
        monotonic: seconds, for deadlines.
    """

    def __init__(self, port: ReadPort, first_id: int, monotonic: Callable[[], float]) -> None:
        self._port = port
        self._next_id = first_id
        self._monotonic = monotonic
        self._waiting: _Waiting = []
        self._rounds: dict[int, _Round] = {}
        self._released: deque[tuple[int, deque[_Arrived]]] = deque()
        self._stale: deque[_Arrived] = deque()
        self._aside: deque[_Arrived] = deque()
        self._count = 0
        self._is_paused = False
        self._stopping = False
        self._patience = Patience()
        self.reason = NO_LEADER
        """Why reads wait too long, if they do."""
        self.refused = 0
        self.rounds_asked = 0
        self.slices_cut = 0
        """Times that reads yielded to the loop with some left that may run."""

    @property
    def is_idle(self) -> bool:
        """No read waits for anything."""
        return self._count == 0

    def submit(self, pending: Pending) -> None:
        """Take one read; `flush` at the end of the pass starts its round."""
        if self._is_admitted(pending):
            self._waiting.append((pending, self._monotonic()))

    def submit_stale(self, pending: Pending) -> None:
        """Take a read that may run on whatever is applied, in the next `release`."""
        if self._is_admitted(pending):
            self._stale.append((pending, self._monotonic()))

    def _is_admitted(self, pending: Pending) -> bool:
        if self._count >= READS_WAITING_MAX or self._stopping:
            self.refused += 1
            pending.complete(READ_STOPPING if self._stopping else QUEUE_FULL)
            return False
        self._count += 1
        return True

    @property
    def can_ask(self) -> bool:
        """`flush` would ask for a round now: as many reads wait as are under way.

        Fewer gather until a round comes back: each costs every node a fixed price.
        """
        if self._is_paused or len(self._rounds) >= ROUNDS_IN_FLIGHT_MAX:
            return False
        under_way = sum([len(round_.reads) for round_ in self._rounds.values()])
        return len(self._waiting) >= max(1, under_way)

    def flush(self) -> None:
        """Start a round for what waits, unless enough are under way."""
        if not self.can_ask:
            return
        if not self._port.ask(self._next_id):
            self._is_paused = True
            return
        self._rounds[self._next_id] = _Round(self._waiting, self._monotonic())
        self._waiting = []
        self._next_id += 1
        self.rounds_asked += 1

    def confirmed(self, request_id: int, index: int) -> None:
        """A leader answered: the reads of that round may run once `index` is applied."""
        round_ = self._rounds.pop(request_id, None)
        if round_ is not None:
            self._released.append((index, deque(round_.reads)))

    def release(self, applied: int) -> bool:
        """Run the reads whose index is applied, in the order of confirmation, for one slice.

        Returns:
            True when some are left that may run in the next slice; False too when those that are
            left stand aside: try again when there may be room, as with the next tick.
        """
        released, now = self._released, self._monotonic()
        if self._aside and self._port.may_execute():
            self._run(self._aside, now + READ_SLICE_MS / 2000)
        if self._stale:
            self._run(self._stale, now + READ_SLICE_MS / 2000)
        deadline = now + READ_SLICE_MS / 1000
        while released and released[0][0] <= applied:
            if not self._run(released[0][1], deadline):
                break
            released.popleft()
        if not self._is_due(applied) and not (self._aside and self._port.may_execute()):
            return False
        self.slices_cut += 1
        return True

    def _run(self, reads: deque[_Arrived], deadline: float) -> bool:
        """Run the first of them, and more until the deadline; True when none is left."""
        port, monotonic = self._port, self._monotonic
        before = now = began = monotonic()
        while reads:
            pending, _ = reads[0]
            if port.may_execute() or port.may_execute_small(pending):
                reads.popleft()
                self._count -= 1
                port.execute(pending)
            elif reads is self._aside:
                break
            else:
                self._aside.append(reads.popleft())
            now = monotonic()
            if now - before > COSTLY_READ_MS / 1000 and isinstance(pending, RenderedPending):
                pending.charge(now - before)
            if now >= deadline:
                break
            before = now
        if now > began:
            self._patience.came_on(now)
        return not reads

    def has_due(self, applied: int) -> bool:
        """Whether some wait for nothing but their turn."""
        return bool(self._aside) or self._is_due(applied)

    def _is_due(self, applied: int) -> bool:
        return bool(self._stale or (self._released and self._released[0][0] <= applied))

    def leader_changed(self) -> None:
        """Nobody will answer the rounds under way."""
        self._is_paused = False
        for request_id in sorted(self._rounds):
            self._ask_again(request_id)

    def sweep(self) -> None:
        """Ask lost rounds again and refuse reads whose deadline passed."""
        now = self._monotonic()
        for request_id, round_ in sorted(self._rounds.items()):
            if (now - round_.asked_at) * 1000 >= ROUND_RETRY_MS:
                self._ask_again(request_id)
        self._refuse_until(self._patience.ends_for(now), now - HOLD_MS / 1000, self.reason)
        self._is_paused = False

    def resume(self) -> None:
        """What held asking up may be over: try again at the next flush."""
        self._is_paused = False

    def _ask_again(self, request_id: int) -> None:
        self._waiting = self._rounds.pop(request_id).reads + self._waiting

    def _refuse_until(self, submitted_before: float, aside_before: float, reason: Refused) -> None:
        """Refuse what has waited too long: for a round, for its index to be applied, to run.

        Those that stand aside wait for room, and not for those before them.
        """
        self._waiting = self._refuse_some(self._waiting, submitted_before, reason)
        self._stale = deque(self._refuse_some(self._stale, submitted_before, reason))
        no_room = NO_ROOM if reason is self.reason else reason
        self._aside = deque(self._refuse_some(self._aside, aside_before, no_room))
        for _ in range(len(self._released)):
            index, reads = self._released.popleft()
            if left := self._refuse_some(reads, submitted_before, reason):
                self._released.append((index, deque(left)))

    def _refuse_some(
        self, reads: Sequence[_Arrived], submitted_before: float, reason: Refused
    ) -> _Waiting:
        """Refuse the older ones of `reads`; return the others."""
        if not reads or reads[0][1] > submitted_before:
            return list(reads)
        for pending, submitted_at in reads:
            if submitted_at <= submitted_before:
                self._count -= 1
                self.refused += 1
                pending.complete(reason)
        return [read for read in reads if read[1] > submitted_before]

    def stop(self) -> None:
        """Take nothing more; what waits may still finish."""
        self._stopping = True

    def abandon(self) -> None:
        """The node ends now: nothing that still waits was executed."""
        self._stopping = True
        self.leader_changed()
        while self._released:
            self._waiting += self._released.popleft()[1]
        self._waiting += self._aside
        self._aside.clear()
        self._refuse_until(float("inf"), float("inf"), READ_STOPPING)
