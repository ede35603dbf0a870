"""Who waits for which key: replicated, so that the order of arrival is the same on every node.

A *waiter* is a blocked client as the state machine sees it: the node that it is connected to, the
number by which that node knows it, and the op that shall be done for it as soon as one of its keys
allows. The *ticket* of a waiter is drawn when it arrives: at each key the lowest ticket is served
first, wherever its client is connected.

A waiter that was served is no longer in any queue, but it stays until its node has fetched what it
got: the result is *in hand*, in the waiter's row, where nobody can lose it. What the ops do is in
`kvnode.store.redis.waiting`; here are the rows, the queues, and the bounds.

The rows (tag 30, by ticket) are the truth, and the queues are rebuilt from them. Beside them the
meta row keeps the next ticket, the number of rows and the sum of their hashes.

A node may also wait by itself, for its own clients' reads (`watch`). That is in no row and in no
hash: nothing depends on it but that somebody is told what the read finds right after the write.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack
from xxhash import xxh3_64_intdigest

from kvnode.errors import CommandError
from kvnode.limits import (
    BLOCKED_BYTES_MAX,
    BLOCKED_CLIENTS_MAX,
    BLOCKED_CLIENTS_PER_NODE_MAX,
    BLOCKED_KEYS_MAX,
)
from kvnode.store.keyspace import SUM_MASK, TAG_WAITER, prefix_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result

AwaitedKey = tuple[int, bytes]
"""Number of the database, and tail of the key."""

Queue = OrderedDict[int, "Waiter"]
"""By ticket, so the first came first."""

TOO_MANY: Final = CommandError(
    f"ERR more than {BLOCKED_CLIENTS_MAX} clients are blocked in the cluster"
)
TOO_MANY_HERE: Final = CommandError(
    f"ERR more than {BLOCKED_CLIENTS_PER_NODE_MAX} clients of this node are blocked"
)
TOO_MANY_KEYS: Final = CommandError(
    f"ERR the blocked clients of the cluster wait for more than {BLOCKED_KEYS_MAX} keys"
)
TOO_LARGE: Final = CommandError(
    f"ERR the blocked clients of the cluster occupy more than {BLOCKED_BYTES_MAX} bytes"
)

WAITING: Final = 0
SERVED: Final = 1
FAILED: Final = 2
"""States, as rows keep them. A waiter that failed has the text of an error in hand."""

_TICKET = Struct(">Q")
_pack: Callable[[object], bytes] = msgpack.Packer().pack
"""One packer for all: a new one per row would allocate its buffer each time."""


class WaitingTotals(NamedTuple):
    """What the meta row keeps of the waiters."""

    next_ticket: int = 1
    rows: int = 0
    hash_sum: int = 0


class News(NamedTuple):
    """What an entry means for blocked clients; see `Waiters` for its fields."""

    served: list[tuple[int, int]]
    abandoned: list[int]
    found: list[tuple[object, Result]]


class Waiter:
    """A blocked client.

    Attributes:
        ticket: its place in the order of arrival.
        node_id: the node that it is connected to.
        number: what that node calls it; never used twice in one session of the node.
        op: what shall be done for it.
        kind: of the keys that it waits for (`keyspace.LIST` …).
        keys: (database, tail) of each of its keys, in their order in the op.
        state: WAITING, SERVED or FAILED.
        held: the result that it has in hand.
        failure: the text of an error that it has in hand instead.
        row: the key of its row.
        row_bytes: of its row's value.
        row_hash: what its row adds to the sum of all.
    """

    __slots__ = (
        "failure",
        "held",
        "keys",
        "kind",
        "node_id",
        "number",
        "op",
        "row",
        "row_bytes",
        "row_hash",
        "state",
        "ticket",
    )

    def __init__(
        self,
        ticket: int,
        node_id: int,
        number: int,
        op: Op,
        kind: int,
        keys: list[AwaitedKey],
        state: int = WAITING,
        held: Result = None,
        failure: str = "",
    ) -> None:
        self.ticket = ticket
        self.node_id = node_id
        self.number = number
        self.op = op
        self.kind = kind
        self.keys = keys
        self.state = state
        self.held = held
        self.failure = failure
        self.row = TAG_WAITER + _TICKET.pack(ticket)
        self.row_bytes = self.row_hash = 0

    @property
    def result(self) -> Result:
        """What it has in hand, as its client shall see it."""
        return CommandError(self.failure) if self.state == FAILED else self.held

    def pack(self) -> bytes:
        """The value of its row."""
        fields = (self.node_id, self.number, self.op, self.kind, self.keys)
        value = _pack((*fields, self.state, self.held, self.failure))
        self._note(value)
        return value

    def _note(self, value: bytes) -> None:
        self.row_bytes = len(value)
        self.row_hash = xxh3_64_intdigest(value, self.ticket)

    @classmethod
    def unpack(cls, row: bytes, value: bytes) -> Waiter:
        """What `pack` wrote."""
        (ticket,) = _TICKET.unpack_from(row, len(TAG_WAITER))
        node_id, number, op, kind, keys, *outcome = msgpack.unpackb(value)
        waiter = cls(ticket, node_id, number, op, kind, [(db, tail) for db, tail in keys], *outcome)
        waiter._note(value)
        return waiter


class Waiters:
    """All waiters, and the queues at the keys.

    Attributes:
        origin: the node whose batch is being applied.
        totals: what the meta row keeps.
        served: (node id, number) of those that were served since the last look.
        abandoned: ids of nodes whose waiters went since the last look.
        found: of this node's watches, since the last look: their tokens and what they found.
    """

    __slots__ = (
        "_by_node",
        "_bytes",
        "_entries",
        "_queues",
        "_space",
        "_told",
        "_watched",
        "abandoned",
        "found",
        "origin",
        "served",
        "totals",
    )

    def __init__(self, space: Keyspace) -> None:
        self._space = space
        self._watched: dict[AwaitedKey, dict[object, Op]] = {}
        self._told: set[object] = set()
        self.found: list[tuple[object, Result]] = []
        self.load(WaitingTotals())

    def watch_as(self, other: Waiters) -> None:
        """Watch what another watches: its store is no more."""
        self._watched = other._watched
        self._space.awaited.update(self._watched)

    def load(self, totals: WaitingTotals) -> None:
        """Begin anew from the rows; what this node watches stays."""
        self.totals = totals
        self.origin = 0
        self._by_node: dict[int, dict[int, Waiter]] = {}
        self._queues: dict[AwaitedKey, dict[int, Queue]] = {}
        self._bytes = self._entries = 0
        self.served: list[tuple[int, int]] = []
        self.abandoned: list[int] = []
        # What was found and not told yet is found anew.
        self._told.difference_update([token for token, _ in self.found])
        self.found = []
        self._space.ready.clear()
        self._space.awaited = set(self._watched)
        for waiter in waiters_of(self._space.engine) if totals.rows else ():
            self._by_node.setdefault(waiter.node_id, {})[waiter.number] = waiter
            self._bytes += waiter.row_bytes
            if waiter.state == WAITING:
                self._queue(waiter)

    # --- one waiter -----------------------------------------------------------------------------

    def find(self, node_id: int, number: int) -> Waiter | None:
        """The waiter that a node calls by this number."""
        return self._by_node.get(node_id, {}).get(number)

    def admit(self, key_count: int) -> CommandError | None:
        """Why no client of the node whose batch is being applied may wait now; None if it may."""
        if self._entries + key_count > BLOCKED_KEYS_MAX:
            return TOO_MANY_KEYS
        if self._bytes > BLOCKED_BYTES_MAX:
            return TOO_LARGE
        if len(self._by_node.get(self.origin, ())) >= BLOCKED_CLIENTS_PER_NODE_MAX:
            return TOO_MANY_HERE
        return TOO_MANY if self.totals.rows >= BLOCKED_CLIENTS_MAX else None

    def add(self, number: int, op: Op, kind: int, keys: list[AwaitedKey]) -> None:
        """A client of the node whose batch is being applied waits from now on."""
        ticket, count, hash_sum = self.totals
        waiter = Waiter(ticket, self.origin, number, op, kind, keys)
        change = self._put(waiter)
        self.totals = WaitingTotals(ticket + 1, count + 1, (hash_sum + change) & SUM_MASK)
        self._by_node.setdefault(self.origin, {})[number] = waiter
        self._queue(waiter)

    def hold(self, waiter: Waiter, result: Result) -> None:
        """It was served: it leaves its queues with this in hand."""
        self._unqueue(waiter)
        if isinstance(result, CommandError):
            waiter.state, waiter.failure = FAILED, result.text
        else:
            waiter.state, waiter.held = SERVED, result
        ticket, count, hash_sum = self.totals
        change = self._put(waiter)
        self.totals = WaitingTotals(ticket, count, (hash_sum + change) & SUM_MASK)
        self.served.append((waiter.node_id, waiter.number))

    def forget(self, waiter: Waiter) -> None:
        """It is over, with whatever it had in hand."""
        if waiter.state == WAITING:
            self._unqueue(waiter)
        self._bytes -= waiter.row_bytes
        ticket, count, hash_sum = self.totals
        self.totals = WaitingTotals(ticket, count - 1, (hash_sum - waiter.row_hash) & SUM_MASK)
        self._space.engine.delete(waiter.row)
        of_node = self._by_node[waiter.node_id]
        del of_node[waiter.number]
        if not of_node:
            del self._by_node[waiter.node_id]

    def _put(self, waiter: Waiter) -> int:
        """Write its row; returns by how much that changes the sum of all."""
        before = waiter.row_hash
        self._bytes -= waiter.row_bytes
        value = waiter.pack()
        self._bytes += waiter.row_bytes
        self._space.engine.put(waiter.row, value)
        self._space.written_bytes += len(value)
        return waiter.row_hash - before

    # --- the queues -----------------------------------------------------------------------------

    def queues(self, key: AwaitedKey) -> dict[int, Queue]:
        """Who waits at a key, by the kind of key that they wait for."""
        return self._queues.get(key, {})

    def expand(self, ready: list[AwaitedKey]) -> Iterator[AwaitedKey]:
        """The keys; an empty tail stands for all of its database, the longest awaited first."""
        for key in ready:
            if key[1]:
                yield key
                continue
            yield from sorted([one for one in self._queues if one[0] == key[0]], key=self._oldest)
            yield from [one for one in self._watched if one[0] == key[0]]

    def _oldest(self, key: AwaitedKey) -> tuple[int, bytes]:
        return min(next(iter(queue)) for queue in self._queues[key].values()), key[1]

    def _queue(self, waiter: Waiter) -> None:
        self._entries += len(waiter.keys)
        for key in waiter.keys:
            queue = self._queues.setdefault(key, {}).setdefault(waiter.kind, OrderedDict())
            queue[waiter.ticket] = waiter
        self._space.awaited.update(waiter.keys)

    def _unqueue(self, waiter: Waiter) -> None:
        self._entries -= len(waiter.keys)
        for key in dict.fromkeys(waiter.keys):
            queues = self._queues[key]
            queue = queues[waiter.kind]
            del queue[waiter.ticket]
            if not queue:
                del queues[waiter.kind]
            if not queues:
                del self._queues[key]
                if key not in self._watched:
                    self._space.awaited.discard(key)

    # --- nodes ----------------------------------------------------------------------------------

    def of_node(self, node_id: int) -> list[Waiter]:
        """The waiters of a node: who has something in hand, then the others; the last first."""
        waiters = list(self._by_node.get(node_id, {}).values())
        waiters.sort(key=lambda waiter: (waiter.state == WAITING, -waiter.ticket))
        return waiters

    def nodes(self) -> list[int]:
        """Ids of the nodes that have waiters, ascending."""
        return sorted(self._by_node)

    def watch(self, key: AwaitedKey, token: object, op: Op) -> None:
        """Do the read `op` whenever the key is stored, and note in `found` what it finds."""
        self._watched.setdefault(key, {})[token] = op
        self._space.awaited.add(key)

    def tell(self, token: object, result: Result) -> None:
        """Something was found for a watch."""
        self._told.add(token)
        self.found.append((token, result))

    def is_told(self, token: object) -> bool:
        """Whether something was found for it already."""
        return token in self._told

    def watch_on(self, token: object) -> None:
        """What was found was told; it goes on unless it is ended."""
        self._told.discard(token)

    def unwatch(self, key: AwaitedKey, token: object) -> None:
        """See `watch`."""
        self._told.discard(token)
        watches = self._watched[key]
        del watches[token]
        if not watches:
            del self._watched[key]
            if key not in self._queues:
                self._space.awaited.discard(key)

    def watches(self, key: AwaitedKey) -> dict[object, Op]:
        """The reads that watch a key, by their tokens."""
        return self._watched.get(key, {})

    def take_news(self) -> News:
        """`served`, `abandoned` and `found`, and begin them anew."""
        news = News(self.served, self.abandoned, self.found)
        self.served, self.abandoned, self.found = [], [], []
        return news

    @property
    def has_news(self) -> bool:
        """Whether `take_news` would find anything."""
        return bool(self.served or self.abandoned or self.found)


def waiters_of(engine: Engine) -> Iterator[Waiter]:
    """The waiters in an engine, by ticket."""
    for row, value in engine.rows(TAG_WAITER, prefix_end(TAG_WAITER)):
        yield Waiter.unpack(row, value)


def hash_of(row: bytes, value: bytes) -> int:
    """What a row adds to the sum."""
    return xxh3_64_intdigest(value, _TICKET.unpack_from(row, len(TAG_WAITER))[0])


def count_of(rows: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
    """How many rows there are, and the sum of their hashes."""
    number = hash_sum = 0
    for row, value in rows:
        number += 1
        hash_sum += hash_of(row, value)
    return number, hash_sum & SUM_MASK
