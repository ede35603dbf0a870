"""Waiting for a key: BLOCK, RESOLVE, ABANDON, RETURN, and the serving of who waits.

BLOCK tries its inner op, the form of the command that never waits. If it has an answer, that is
the end of it; if it has none, a waiter is kept (`kvnode.store.waiting`).

Whenever a key that somebody waits for is stored, `serve` follows in the same entry, right after the
op or the whole EXEC that stored it, as in Redis. For each key, in the order in which they were
stored, the inner op is done for the waiters in the order of their arrival, narrowed to that key,
until it finds nothing more. What it does may make other keys ready, as BLMOVE does; that goes on
until none is. It ends, since each waiter is served once.

A waiter that was served has its result in hand. RESOLVE gives it to the waiter's node, or, if the
client is gone, undoes it: what was popped goes back to the end that it came from, for the next. So
an element is given to one client, or is in a list; who dies in between loses nothing for others.

| RESOLVE | Served | Not served | No such waiter |
|---|---|---|---|
| CLAIM | the result; forgotten | KEPT | GONE |
| OVER | the result; forgotten | nil; forgotten | GONE |
| LEAVE | undone and forgotten; nil | nil; forgotten | GONE |

ABANDON does to waiters of a node, up to a limit, what LEAVE does to one: first to those that have
something in hand, the last of them first, so that what they had popped is put back in its order.
RETURN undoes what a node fetched for a client that
was gone by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.keyspace import KIND_MASK, LIST, STREAM, ZSET
from kvnode.store.ops import Resolution, UnknownOperation, ZAddFlag
from kvnode.store.redis.transactions import bytes_in
from kvnode.store.reply import ASK_AGAIN, GONE, KEPT
from kvnode.store.scores import pack_score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result
    from kvnode.store.waiting import AwaitedKey, Queue, Waiter

NO_STREAM: Final = CommandError("UNBLOCKED the stream key no longer exists")
NO_GROUP: Final = CommandError(
    "NOGROUP the consumer group this client was blocked on no longer exists"
)


class Form(NamedTuple):
    """What must be known of an op that somebody may wait with.

    Attributes:
        kind: of the keys that it waits for.
        keys: finds them in the op.
        narrowed: the op as if this one were its only key.
        undo: from the op, its result and what can be done now: the op that takes the result back;
            None if that cannot be any more.
    """

    kind: int
    keys: Callable[[Op], list[bytes]]
    narrowed: Callable[[Op, int], Op]
    undo: Callable[[Op, Result, Callable[[Op], Result]], Op | None]


def waiting_of(
    meanings: Mapping[int, Meaning], forms: Mapping[int, Form]
) -> tuple[dict[int, Meaning], Callable[[Keyspace], None]]:
    """The meanings of BLOCK and its companions over the given ops, and `serve`."""
    serving = _Serving(meanings, forms)
    writes: dict[int, Meaning] = {
        ops.BLOCK: serving.block,
        ops.RESOLVE: serving.resolve,
        ops.ABANDON: serving.abandon,
        ops.RETURN: serving.return_,
    }
    return writes, serving.serve


class _Serving:
    """What somebody may wait with, and how it is done."""

    def __init__(self, meanings: Mapping[int, Meaning], forms: Mapping[int, Form]) -> None:
        self._meanings = meanings
        self._forms = forms

    # --- the ops --------------------------------------------------------------------------------

    def block(self, space: Keyspace, op: Op) -> Result:
        """BLOCK: the result of the inner op, or KEPT."""
        _, number, wait_number, inner = op
        form = self._forms.get(inner[0])
        if form is None:
            raise UnknownOperation(f"BLOCK holds the op code {inner[0]}, which cannot wait")
        result = self._meanings[inner[0]](space, inner)
        if result is not None:
            return result
        waiters, named = space.waiters, form.keys(inner)
        refusal = waiters.admit(len(named))
        if refusal is not None:
            return refusal
        keys = [(number, space.locate(key)) for key in named]
        waiters.add(wait_number, inner, form.kind, keys)
        return KEPT

    def resolve(self, space: Keyspace, op: Op) -> Result:
        """RESOLVE: see the table above."""
        _, _, wait_number, resolution = op
        waiters = space.waiters
        waiter = waiters.find(waiters.origin, wait_number)
        if waiter is None:
            return GONE
        if resolution == Resolution.LEAVE:
            self._leave(space, waiter)
            return None
        if resolution == Resolution.CLAIM and not waiter.state:
            return KEPT
        waiters.forget(waiter)
        return waiter.result

    def abandon(self, space: Keyspace, op: Op) -> Result:
        """ABANDON: how many waiters of the node went."""
        _, _, node_id, limit = op
        waiters = space.waiters.of_node(node_id)[:limit]
        for waiter in waiters:
            self._leave(space, waiter)
        if waiters:
            space.waiters.abandoned.append(node_id)
        return len(waiters)

    def return_(self, space: Keyspace, op: Op) -> Result:
        """RETURN: nil."""
        _, _, inner, held = op
        self._undo(space, inner, held)
        return None

    def _leave(self, space: Keyspace, waiter: Waiter) -> None:
        space.waiters.forget(waiter)
        if waiter.held is not None:
            self._undo(space, waiter.op, waiter.held)

    def _undo(self, space: Keyspace, op: Op, held: Result) -> None:
        def do(op: Op) -> Result:
            return self._meanings[op[0]](space, op)

        undo = self._forms[op[0]].undo(op, held, do)
        if undo is not None:
            do(undo)

    # --- serving --------------------------------------------------------------------------------

    def serve(self, space: Keyspace) -> None:
        """Serve who waits for the keys in `space.ready`, and for those that become ready by it."""
        while space.ready:
            ready, space.ready = dict.fromkeys(space.waiters.expand(space.ready)), []
            for key in ready:
                self._read(space, key)
                if space.waiters.queues(key):
                    self._serve_key(space, key)

    def _read(self, space: Keyspace, key: AwaitedKey) -> None:
        """Who only reads is answered at this place of the log as well: later writes may undo this.

        What is no stream, or has nothing new, leaves them waiting. Who asks the same gets the same
        object: a thousand readers of one stream cost one look. If they ask for different things,
        there is an end to what is kept for them; the others ask anew when there is room. Who was
        found something is not looked for again before it was told.
        """
        answers: dict[tuple[object, ...], Result] = {}
        for token, op in space.waiters.watches(key).items():
            if space.waiters.is_told(token):
                continue
            question = tuple(op)
            if question not in answers:
                answers[question] = self._answer(space, op)
            result = answers[question]
            if result is not None and not isinstance(result, CommandError):
                space.waiters.tell(token, result)

    def _answer(self, space: Keyspace, op: Op) -> Result:
        if space.answers_room < 0:
            return ASK_AGAIN
        result = self._meanings[op[0]](space, op)
        space.answers_room -= bytes_in(result)
        return result

    def _serve_key(self, space: Keyspace, key: AwaitedKey) -> None:
        record = space.find_at(*key)
        kind = 0 if record is None else record[0] & KIND_MASK
        for awaited, queue in list(space.waiters.queues(key).items()):
            if awaited == STREAM and kind != STREAM:
                # Only a group that was there could be waited with.
                for waiter in list(queue.values()):
                    space.waiters.hold(waiter, NO_STREAM)
            elif awaited == STREAM:
                self._serve_groups(space, key, queue)
            elif awaited == kind:
                self._serve_queue(space, key, queue)

    def _serve_queue(self, space: Keyspace, key: AwaitedKey, queue: Queue) -> None:
        """Until the key has no more: what the first does not find, the next would not either."""
        while queue:
            waiter = next(iter(queue.values()))
            result = self._try(space, key, waiter)
            if result is None:
                break
            space.waiters.hold(waiter, result)

    def _serve_groups(self, space: Keyspace, key: AwaitedKey, queue: Queue) -> None:
        """The same for each group of a stream."""
        done: set[bytes] = set()
        for waiter in list(queue.values()):
            group: bytes = waiter.op[2]
            if group in done:
                continue
            result = self._try(space, key, waiter)
            if result is None:
                done.add(group)
            elif isinstance(result, CommandError) and result.text.startswith("NOGROUP"):
                space.waiters.hold(waiter, NO_GROUP)
            else:
                space.waiters.hold(waiter, result)

    def _try(self, space: Keyspace, key: AwaitedKey, waiter: Waiter) -> Result:
        op = self._forms[waiter.op[0]].narrowed(waiter.op, waiter.keys.index(key))
        return self._meanings[op[0]](space, op)


# --- what can wait --------------------------------------------------------------------------------


def _mpop_keys(op: Op) -> list[bytes]:
    return op[4:]


def _mpop_narrowed(op: Op, at: int) -> Op:
    return [*op[:4], op[4 + at]]


def _lmpop_undo(op: Op, held: Result, _do: Callable[[Op], Result]) -> Op:
    """Push what was popped where it was: the last of it first."""
    _, number, side, *_ = op
    key, elements = _pair(held)
    return [ops.LIST_PUSH, number, key, side, 0, *reversed(elements)]


def _zmpop_undo(op: Op, held: Result, _do: Callable[[Op], Result]) -> Op:
    """Add the members again, unless somebody has meanwhile."""
    key, pairs = _pair(held)
    given = [part for member, score in pairs for part in (_packed(score), member)]
    return [ops.ZADD, op[1], key, int(ZAddFlag.NX), *given]


def _packed(score: float | bytes) -> bytes:
    """RETURN holds scores packed, as all entries do."""
    return score if isinstance(score, bytes) else pack_score(score)


def _lmove_keys(op: Op) -> list[bytes]:
    return [op[2]]


def _lmove_narrowed(op: Op, _at: int) -> Op:
    return op


def _lmove_undo(op: Op, held: Result, do: Callable[[Op], Result]) -> Op | None:
    """Move it back, unless somebody else took it meanwhile."""
    _, number, source, target, source_side, target_side = op
    if do([ops.LINDEX, number, target, -target_side]) != held:
        return None
    return [ops.LMOVE, number, target, source, target_side, source_side]


def _xreadgroup_keys(op: Op) -> list[bytes]:
    return op[6::2]


def _xreadgroup_narrowed(op: Op, at: int) -> Op:
    return [*op[:6], *op[6 + 2 * at : 8 + 2 * at]]


def _xreadgroup_undo(_op: Op, _held: Result, _do: Callable[[Op], Result]) -> None:
    """The entries are pending, as for any consumer that went: others may claim them."""


def _pair(held: Any) -> tuple[bytes, list[Any]]:
    key, items = held
    return key, items


FORMS: Final[dict[int, Form]] = {
    ops.LMPOP: Form(LIST, _mpop_keys, _mpop_narrowed, _lmpop_undo),
    ops.LMOVE: Form(LIST, _lmove_keys, _lmove_narrowed, _lmove_undo),
    ops.ZMPOP: Form(ZSET, _mpop_keys, _mpop_narrowed, _zmpop_undo),
    ops.XREADGROUP: Form(STREAM, _xreadgroup_keys, _xreadgroup_narrowed, _xreadgroup_undo),
}
