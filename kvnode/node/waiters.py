"""The blocked clients of this node: what they wait with goes into the log, and comes back.

The order in which clients are served is replicated state (`kvnode.store.waiting`). Here is the
other half: one `Wait` per blocked client of this node, which asks by BLOCK, learns by what is
applied that it was served, and fetches what it got by RESOLVE. All of that travels in the node's
own batches, so it is as exactly-once as they are::

    ASKING ── kept ──→ KEPT ── served ──→ RESOLVING (claim) ── result ──→ over
      │ answered at once   │ its time is over, its client left ──→ RESOLVING (over, leave)
      └──→ over            └ abandoned ──→ ASKING, under a new number

A client that waits anyway is not told that there is no leader: its BLOCK is asked again until its
own time is over. Only where a result was lost on its way, by a snapshot that took the place of the
log, or where the time is over while nobody can tell whether something is in hand, does it see
`-UNBLOCKED`.

A leader also looks after the others: what the clients of a node have in hand that was not heard
for `BLOCKED_CLIENTS_SILENT_MS` is given to the next. That node, if it lives, lets its clients wait
again.

Reads wait in a simpler way: `when_found` has them done here, right after each write to their keys,
at its place in the log. So they see what came even if the next command takes it away again. They
are told in slices (`tell`): a write to a stream may answer thousands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

from kvnode.errors import CommandError, OutcomeUnknown, Refused
from kvnode.limits import (
    ABANDONED_CLIENTS_PER_ENTRY_MAX,
    BLOCKED_CLIENTS_SILENT_MS,
    READ_SLICE_MS,
)
from kvnode.node.proposals import NO_LEADER
from kvnode.service import Op, PatientPending, Pending
from kvnode.store import ops
from kvnode.store.ops import Resolution
from kvnode.store.reply import ASK_AGAIN, GONE, KEPT, Result
from kvnode.store.scores import pack_score

if TYPE_CHECKING:
    from kvnode.store.state_machine import StateMachine
    from kvnode.store.waiting import News, Waiter

LOST = CommandError(
    "UNBLOCKED force unblock from blocking operation: its outcome was not learned in time"
)

Done = Callable[[Result], None]


class _Phase(Enum):
    ASKING = auto()
    """BLOCK is on its way."""
    KEPT = auto()
    """It stands in the store's queues, as far as is known here."""
    RESOLVING = auto()
    """RESOLVE is on its way."""
    REFUSED = auto()
    """BLOCK was not done; it is asked again."""
    STUCK = auto()
    """RESOLVE was not done; it is asked again."""
    OVER = auto()


class Wait(PatientPending):
    """One blocked client, and the `Pending` of the op that is under way for it.

    Args:
        waits: where it belongs.
        db: the number of its database.
        inner: the op that it waits with.
        size: bytes that it occupies.
        done: takes the result, once, unless the client leaves before.
    """

    __slots__ = (
        "_db",
        "_done",
        "_inner",
        "_phase",
        "_sent",
        "_waits",
        "_wish",
        "is_lost",
        "number",
        "op",
        "size",
    )

    def __init__(self, waits: Waits, db: int, inner: Op, size: int, done: Done) -> None:
        self._waits = waits
        self._db = db
        self._inner = inner
        self._done: Done | None = done
        self._wish: Resolution | None = None
        self._sent = Resolution.CLAIM
        self._phase = _Phase.ASKING
        self.is_lost = False
        """What it got, if anything, was lost on its way."""
        self.size = size
        self.op: Op = []
        self.number = 0

    @property
    def is_patient(self) -> bool:
        """Its client waits anyway: an outcome that is not known yet is no answer."""
        return self._wish is None

    # --- the client -----------------------------------------------------------------------------

    def expire(self) -> None:
        """Its time is over: it gets what it has in hand, or nil."""
        if self._wish is None:
            self._end(Resolution.OVER)

    def leave(self) -> None:
        """Its client is gone: what it has in hand is for others."""
        self._done = None
        self._end(Resolution.LEAVE)

    def _end(self, wish: Resolution) -> None:
        self._wish = wish
        if self._phase is _Phase.KEPT:
            self._resolve(wish)
        elif self._phase is _Phase.REFUSED:
            self._finish(None)
        elif self._phase is _Phase.STUCK:
            self._answer(None)

    def _answer(self, result: Result) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result)

    def _finish(self, result: Result) -> None:
        self._phase = _Phase.OVER
        self._waits.forget(self)
        if self._done is not None:
            self._answer(result)
        elif not (result is None or isinstance(result, CommandError)):
            # It was on its way when the client left.
            _Return(self._waits, [ops.RETURN, self._db, self._inner, _packed(result)]).try_again()

    # --- the log --------------------------------------------------------------------------------

    def ask(self) -> None:
        """Wait, or wait again: the number is a new one each time."""
        self.number = self._waits.register(self)
        self.op = [ops.BLOCK, self._db, self.number, self._inner]
        self._phase = _Phase.ASKING
        self._waits.submit(self)

    def _resolve(self, resolution: Resolution) -> None:
        self._sent = resolution
        self.op = [ops.RESOLVE, self._db, self.number, int(resolution)]
        self._phase = _Phase.RESOLVING
        self._waits.submit(self)

    def try_again(self) -> None:
        """Ask once more for what was refused."""
        if self._phase is _Phase.REFUSED:
            self._waits.forget(self)
            self.ask()
        elif self._phase is _Phase.STUCK:
            # Who was answered nil must not get anything any more.
            self._resolve(Resolution.LEAVE if self._done is None else Resolution.CLAIM)

    def look(self) -> None:
        """See what has become of it in the store."""
        if self._phase is not _Phase.KEPT:
            return
        waiter = self._waits.in_store(self)
        if waiter is None:
            self._waits.forget(self)
            self.ask()
        elif waiter.state:
            self._resolve(Resolution.CLAIM)

    def complete(self, result: Result) -> None:
        """What became of BLOCK or RESOLVE."""
        if self._phase is _Phase.ASKING:
            self._asked(result)
        else:
            self._resolved(result)

    def _asked(self, result: Result) -> None:
        if result is KEPT or (isinstance(result, OutcomeUnknown) and self._waits.in_store(self)):
            self._phase = _Phase.KEPT
            if self._wish is not None:
                self._resolve(self._wish)
            else:
                self.look()
        elif result is NO_LEADER and self._wish is None:
            self._phase = _Phase.REFUSED
            self._waits.postpone(self)
        elif isinstance(result, OutcomeUnknown):
            self._give_up()
        else:
            is_too_late = isinstance(result, Refused) and self._wish is not None
            self._finish(None if is_too_late else result)

    def _resolved(self, result: Result) -> None:
        if isinstance(result, Refused):
            self._phase = _Phase.STUCK
            if self._wish is not None:
                self._answer(None)
            self._waits.postpone(self)
        elif isinstance(result, OutcomeUnknown):
            self._give_up()
        elif result is GONE and self._wish is None:
            self._waits.forget(self)
            self.ask()
        elif result is KEPT:
            self._phase = _Phase.KEPT
            if self._wish is not None:
                self._resolve(self._wish)
        else:
            self._finish(None if result is GONE else result)

    def _give_up(self) -> None:
        """Nobody knows what it got; what it may still get is for others."""
        if self._sent is Resolution.LEAVE and self._phase is _Phase.RESOLVING:
            self._finish(None)
            return
        self.is_lost = True
        self._answer(LOST)
        self._wish = Resolution.LEAVE
        self._resolve(Resolution.LEAVE)


def _packed(result: Result) -> Result:
    """The result as an entry may hold it: no floats."""
    if isinstance(result, list):
        return [_packed(item) for item in result]
    return pack_score(result) if isinstance(result, float) else result


class _Return:
    """The `Pending` of a RETURN: what it brings back is nowhere else, so it is tried until done."""

    __slots__ = ("_waits", "op", "size")

    def __init__(self, waits: Waits, op: Op) -> None:
        self._waits = waits
        self.op = op
        self.size = 0

    def try_again(self) -> None:
        """Put it into the log."""
        self._waits.submit(self)

    def complete(self, result: Result) -> None:
        """Done, or refused; one whose outcome is unknown keeps its place on the way."""
        if isinstance(result, Refused):
            self._waits.postpone(self)


class _Abandonment:
    """The `Pending` of an ABANDON."""

    __slots__ = ("_over", "op", "size")

    def __init__(self, node_id: int, over: Callable[[], None]) -> None:
        self.op: Op = [ops.ABANDON, 0, node_id, ABANDONED_CLIENTS_PER_ENTRY_MAX]
        self.size = 0
        self._over = over

    def complete(self, result: Result) -> None:
        """Done, or not: then the next sweep sees that it is still to be done."""
        del result
        self._over()


class Waits:
    """All blocked clients of this node.

    Args:
        machine: the store.
        node_id: of this node.
        monotonic: seconds.
        submit: puts an op of this node into the log.
        has_room: whether there is room for one more reply.
        silent_nodes: others of some nodes that this one, as the leader, has not heard for so many
            milliseconds; else none.
    """

    def __init__(
        self,
        machine: StateMachine,
        node_id: int,
        monotonic: Callable[[], float],
        *,
        submit: Callable[[Pending], None],
        has_room: Callable[[], bool],
        silent_nodes: Callable[[Iterable[int], int], list[int]],
    ) -> None:
        self._submit = submit
        self._has_room = has_room
        self._silent_nodes = silent_nodes
        self._machine = machine
        self._node_id = node_id
        self._monotonic = monotonic
        self._found: deque[tuple[object, Result]] = deque()
        self._last_number = 0
        self._waits: dict[int, Wait] = {}
        self._postponed: list[Wait | _Return] = []
        self._abandoning: set[int] = set()
        self._readers: dict[object, tuple[Done, Callable[[], None]]] = {}
        self._told = 0

    # --- clients --------------------------------------------------------------------------------

    def wait(self, db: int, inner: Op, size: int, done: Done) -> Wait:
        """Do `inner` now or as soon as one of its keys allows; `done` is called once."""
        wait = Wait(self, db, inner, size, done)
        wait.ask()
        return wait

    def when_found(
        self, questions: Mapping[bytes, Op], found: Done, again: Callable[[], None]
    ) -> Callable[[], None]:
        """Ask a read whenever this node has applied a write to its key.

        Args:
            questions: the read to do, by key.
            found: called with what one of them found, unless that is nil or an error.
            again: called when nobody knows what was written meanwhile, as the store was replaced,
                or when there was no room for what was found: it must be asked anew.

        Returns:
            what ends it.
        """
        token = object()
        watch = self._machine.watch
        watched = [watch(op[1], key, token, op) for key, op in questions.items()]
        self._readers[token] = found, again

        def forget() -> None:
            for awaited in watched:
                self._machine.unwatch(awaited, token)
            watched.clear()
            self._readers.pop(token, None)

        return forget

    # --- of a wait ------------------------------------------------------------------------------

    def register(self, wait: Wait) -> int:
        """A number for a wait that begins."""
        self._last_number += 1
        self._waits[self._last_number] = wait
        return self._last_number

    def forget(self, wait: Wait) -> None:
        """Its number means nothing any more."""
        self._waits.pop(wait.number, None)

    def submit(self, pending: Pending) -> None:
        """Put its op into the log."""
        self._submit(pending)

    def postpone(self, postponed: Wait | _Return) -> None:
        """Try again a little later."""
        self._postponed.append(postponed)

    def in_store(self, wait: Wait) -> Waiter | None:
        """What the store has of it."""
        return self._machine.waiter(self._node_id, wait.number)

    # --- what the store tells -------------------------------------------------------------------

    def applied(self, index: int, news: News) -> None:
        """By the entry at `index` some were served, or abandoned, or reads found something."""
        if index <= self._told:
            # Applied again, after a full engine took the store back.
            for token, _ in news.found:
                self._machine.watch_on(token)
            return
        self._told = index
        for node_id, number in news.served:
            wait = self._waits.get(number)
            if node_id == self._node_id and wait is not None:
                wait.look()
        if self._node_id in news.abandoned:
            self.restored()
        self._found.extend(news.found)

    @property
    def has_found(self) -> bool:
        """Whether `tell` would tell anybody anything."""
        return bool(self._found)

    def tell(self) -> bool:
        """Tell readers what was found for them, while there is room and for one slice of time.

        Returns:
            True when only the time was over.
        """
        if not self._found:
            return False
        found, readers, has_room = self._found, self._readers, self._has_room
        deadline = self._monotonic() + READ_SLICE_MS / 1000
        while found and has_room():
            token, result = found.popleft()
            reader = readers.get(token)
            if reader is not None:
                self._machine.watch_on(token)
                if result is ASK_AGAIN:
                    reader[1]()
                else:
                    reader[0](result)
                if self._monotonic() >= deadline:
                    return bool(found)
        return False

    def restored(self) -> None:
        """The store may know less or more of the waits than what was told: look at each."""
        for wait in list(self._waits.values()):
            wait.look()

    def replaced(self) -> None:
        """The store is another one now, further on."""
        self.restored()
        for _, again in list(self._readers.values()):
            again()

    @property
    def is_behind(self) -> bool:
        """Whether something that was refused is still to be asked again."""
        return bool(self._postponed)

    # --- the clock ------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Ten times a second: ask again for what was refused, and abandon those of silent nodes."""
        postponed, self._postponed = self._postponed, []
        for one in postponed:
            one.try_again()
        nodes = self._machine.nodes_with_waiters()
        for node_id in self._silent_nodes(nodes, BLOCKED_CLIENTS_SILENT_MS) if nodes else ():
            if node_id not in self._abandoning:
                self._abandon(node_id)

    def _abandon(self, node_id: int) -> None:
        self._abandoning.add(node_id)

        def over() -> None:
            self._abandoning.discard(node_id)

        self._submit(_Abandonment(node_id, over))
