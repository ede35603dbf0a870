"""The state machine: log entries in, answers out, one commit for both rows and applied index.

Contract with the driver:

1. `apply` takes every committed entry in order, once, changes of the membership among them.
2. `read` answers from what was applied, committed to the engine or not.
3. `commit` ends the engine transaction; call it when `commit_due`, and when idle. It is due after
   each change of the membership, refused or not: commit before anybody acts on what was decided,
   and no failure takes it back.
4. An exception out of `apply`, `commit` or `collect_garbage` leaves the machine at its last commit;
   look at `applied` again. After `EngineFull` wait and go on from there; anything else ends it.

DESIGN.md has the rows, the entries and the reasons.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgpack

from kvnode.errors import CommandError, ConfigurationError
from kvnode.limits import (
    BLOCKED_CLIENTS_PER_NODE_MAX,
    ENGINE_COMMIT_BYTES_MAX,
    ENGINE_COMMIT_OPS_MAX,
)
from kvnode.store import batch, state_hash
from kvnode.store.arrivals import Arrivals
from kvnode.store.batch import Batch, Configure, Entry, Expire, Group, Kind, Register
from kvnode.store.buckets import Buckets
from kvnode.store.engine import EngineFull
from kvnode.store.export import live_rows
from kvnode.store.jobs import Jobs
from kvnode.store.keyspace import (
    DATABASES,
    FORMAT,
    FORMAT_WITH_MEMBERS,
    TAG_META,
    Database,
    Keyspace,
)
from kvnode.store.members import Members
from kvnode.store.ops import ABANDON, UnknownOperation, check_level
from kvnode.store.redis import weights, write_weights
from kvnode.store.redis.table import READS, WRITES, serve
from kvnode.store.reply import Unfinished
from kvnode.store.sessions import Outcome, Session, Sessions
from kvnode.store.waiting import News, Waiters, WaitingTotals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvnode.store.engine import Engine
    from kvnode.store.notices import Event
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result
    from kvnode.store.waiting import AwaitedKey, Waiter


@dataclass(slots=True)
class Applied:
    """What became of one entry.

    Attributes:
        kind: of the entry.
        node_id: the node it came from; 0 for entries of no session, as are the next two.
        incarnation: of the batch; for a registration the one that holds now.
        sequence: of the batch.
        outcome: anything but APPLIED changed no key.
        results: one per op of a batch; of an expiry entry the number of deleted keys; of a change
            of the membership None, or the `CommandError` with the reason why nothing was changed.
        is_unfinished: some of them are `Unfinished`.
        events: what happened to keys, if somebody listens. An entry that is applied again, because
            the engine fell back, tells them again.
        news: what blocked clients must hear of, None if there is nothing.
        parts: of a group, what became of each batch, in their order: `Applied` of kind BATCH, whose
            events and news are with those of the entry.
    """

    kind: int
    node_id: int = 0
    incarnation: int = 0
    sequence: int = 0
    outcome: Outcome = Outcome.APPLIED
    results: list[Result] | None = None
    is_unfinished: bool = False
    events: list[Event] = field(default_factory=list)
    news: News | None = None
    parts: Sequence[Applied] = ()


class StateMachine:
    """The replicated state of one node.

    Args:
        engine: holds what an earlier machine committed, or nothing.
        hash_key: 16 to 64 bytes made from the cluster id; all nodes must use the same.

    Raises:
        ConfigurationError: the engine was filled under another hash key or format, or by a cluster
            of a higher feature level than this program knows.
    """

    __slots__ = (
        "_change_decided",
        "_committed",
        "_engine",
        "_expired_before",
        "_fingerprint",
        "_hash_key",
        "_members",
        "_own_node_id",
        "_sessions",
        "_space",
        "_written_before",
        "applied",
        "commit_share_max",
        "uncommitted_ops",
    )

    def __init__(self, engine: Engine, *, hash_key: bytes) -> None:
        self.commit_share_max = 1.0
        """At which share of the largest transaction a commit is due; none of its state."""
        if not 16 <= len(hash_key) <= 64:
            raise ConfigurationError("the hash key must have 16 to 64 bytes")
        self._engine = engine
        self.applied = 0
        self._own_node_id = 0
        self.uncommitted_ops = 0
        self._fingerprint = blake2b(digest_size=8, key=hash_key).digest()
        self._hash_key = hash_key
        self._space = _keyspace(engine, hash_key)
        self._load()

    # --- the log ------------------------------------------------------------------------------

    @property
    def stamp_ms(self) -> int:
        """The largest stamp applied, in milliseconds since the epoch; it never goes back."""
        return self._space.stamp_ms

    @property
    def revision(self) -> int:
        """Of the newest write; it never goes back."""
        return self._space.revision

    @property
    def members(self) -> Members | None:
        """The registry of members; None before it is founded."""
        return self._members if self._members.is_founded else None

    @property
    def level(self) -> int:
        """The cluster's feature level."""
        return self._members.level

    @property
    def store_format(self) -> int:
        """Of the meta row as it would be written now."""
        return FORMAT_WITH_MEMBERS if self._members.is_founded else FORMAT

    def apply(self, index: int, data: bytes) -> Applied:
        """Apply the entry at `index`, which must be `applied + 1`.

        Raises:
            EngineFull: no room; nothing since the last commit stands.
            ConfigurationError: the entry needs a newer program.
        """
        if index != self.applied + 1:
            raise ValueError(f"entry {index} cannot follow entry {self.applied}")
        try:
            outcome = self._apply(index, batch.decode(data))
        except Exception as error:
            self._fall_back(error)
            raise
        self.applied = index
        if self._space.notices:
            outcome.events, self._space.notices = self._space.notices, []
        if self._space.waiters.has_news:
            outcome.news = self._space.waiters.take_news()
        return outcome

    def listen(self, *, to_events: bool) -> None:
        """Begin or cease to tell in `Applied.events` what happens to keys."""
        self._space.notices = [] if to_events else None

    def _apply(self, index: int, entry: Entry) -> Applied:
        space = self._space
        if isinstance(entry, Batch):
            space.stamp_ms = max(space.stamp_ms, entry.stamp_ms)
            return self._apply_batch(entry)
        if isinstance(entry, Group):
            space.stamp_ms = max(space.stamp_ms, entry.stamp_ms)
            return Applied(Kind.GROUP, parts=[self._apply_batch(part) for part in entry.parts])
        if isinstance(entry, Register):
            space.stamp_ms = max(space.stamp_ms, entry.stamp_ms)
            return self._register(index, entry)
        if isinstance(entry, Expire):
            space.stamp_ms = max(space.stamp_ms, entry.stamp_ms)
            deleted = space.delete_expired(entry.limit)
            serve(space)
            self.uncommitted_ops += deleted
            return Applied(Kind.EXPIRE, results=[deleted])
        if isinstance(entry, Configure):
            space.stamp_ms = max(space.stamp_ms, entry.stamp_ms)
            return self._configure(index, entry)
        return Applied(Kind.NOOP)

    def _apply_batch(self, entry: Batch) -> Applied:
        outcome = self._sessions.admit(entry)
        results: list[Result] | None = None
        if outcome is Outcome.APPLIED:
            ops = batch.decode_ops(entry.ops_blob)
            space = self._space
            space.draws.reset(entry.seed)
            space.waiters.origin = entry.node_id
            space.wants_answers = self._own_node_id in (0, entry.node_id)
            space.answers_room = space.reply_bytes_max
            results = []
            for op in ops:
                meaning = WRITES.get(op[0])
                if meaning is None:
                    raise UnknownOperation(f"the log holds the unknown op code {op[0]}")
                results.append(meaning(space, op))
                if space.ready:
                    serve(space)
            self.uncommitted_ops += len(ops)
            if space.jobs:
                space.jobs.begun_by(entry.node_id)
        node_id, incarnation, sequence = entry.node_id, entry.incarnation, entry.sequence
        is_unfinished = bool(self._space.jobs) and any(
            isinstance(result, Unfinished) for result in results or ()
        )
        fields = (Kind.BATCH, node_id, incarnation, sequence, outcome, results, is_unfinished)
        return Applied(*fields)

    def _register(self, index: int, entry: Register) -> Applied:
        outcome = Outcome.FENCED
        if self._members.admits(entry.node_id, entry.storage_id):
            outcome = self._sessions.register(index, entry)
            if outcome is Outcome.APPLIED:
                self._abandon([entry.node_id])
        if outcome is not Outcome.FENCED:
            self._members.bind(entry.node_id, entry.storage_id)
        if outcome is Outcome.APPLIED:
            self._space.jobs.drop(self._space, node_id=entry.node_id)
        session = self._sessions.get(entry.node_id)
        held = session.incarnation if session is not None else 0
        return Applied(Kind.REGISTER, entry.node_id, held, 0, outcome)

    def _configure(self, index: int, entry: Configure) -> Applied:
        members, sessions = self._members, self._sessions
        refusal = members.apply(index, entry.change)
        self._change_decided = True
        if refusal is not None:
            return Applied(Kind.CONFIGURE, results=[CommandError(f"ERR {refusal}")])
        check_level(members.level)
        ended = [
            node_id
            for node_id, session in sorted(sessions.items())
            if not members.admits(node_id, session.storage_id)
        ]
        for node_id in ended:
            del sessions[node_id]
            self._space.jobs.drop(self._space, node_id=node_id)
        self._abandon(ended)
        return Applied(Kind.CONFIGURE, results=[None])

    def _abandon(self, node_ids: list[int]) -> None:
        """The clients of sessions that are over are gone."""
        for node_id in node_ids:
            WRITES[ABANDON](self._space, [ABANDON, 0, node_id, BLOCKED_CLIENTS_PER_NODE_MAX])
        serve(self._space)

    def read(self, op: Op) -> Result:
        """Answer a read op as of `applied`. Raises `UnknownOperation` for anything else.

        An engine that fails raises in our terms, whatever else is raised is a bug of the read.
        """
        meaning = READS.get(op[0])
        if meaning is None:
            raise UnknownOperation(f"op code {op[0]} is not a read")
        try:
            return meaning(self._space, op)
        except Exception as error:
            translated = self._engine.translate(error)
            if translated is not None:
                raise translated from error
            raise

    def answer_for(self, node_id: int, reply_bytes_max: int) -> None:
        """From now on answers are only wanted by clients of this node, and none that is larger."""
        self._own_node_id = node_id
        self._space.reply_bytes_max = reply_bytes_max

    def weight_of(self, op: Op) -> int:
        """Rows that an op counts for (`kvnode.store.redis.weights`, `write_weights`).

        Raises as `read` does.
        """
        weigh = weights.WEIGHTS.get(op[0]) or write_weights.WRITE_WEIGHTS.get(op[0])
        try:
            return 0 if weigh is None else weigh(self._space, op)
        except Exception as error:
            translated = self._engine.translate(error)
            if translated is not None:
                raise translated from error
            raise

    def has_small_reply(self, op: Op) -> bool:
        """Whether the reply of a read is small for certain. Raises as `read` does."""
        try:
            return weights.has_small_reply(self._space, op)
        except Exception as error:
            translated = self._engine.translate(error)
            if translated is not None:
                raise translated from error
            raise

    def least_reply_bytes(self, op: Op) -> int:
        """What the reply of a read certainly has; 0 if nobody can tell."""
        return weights.least_reply_bytes(self._space, op)

    # --- transactions -------------------------------------------------------------------------

    @property
    def committed(self) -> int:
        """Index of the last entry that other readers of the engine see as applied."""
        return self._committed

    @property
    def engine(self) -> Engine:
        """Where it keeps its rows; another one after `adopt`."""
        return self._engine

    @property
    def commit_due(self) -> bool:
        """Whether the open transaction is as large as may be, or decided a change of members."""
        return self._change_decided or self.uncommitted_share >= self.commit_share_max

    @property
    def uncommitted_share(self) -> float:
        """How large the open transaction is; 1 is the largest that there may be."""
        return max(
            self.uncommitted_ops / ENGINE_COMMIT_OPS_MAX,
            self.uncommitted_bytes / ENGINE_COMMIT_BYTES_MAX,
        )

    @property
    def uncommitted_bytes(self) -> int:
        """Rows of the open transaction: the engine keeps their pages in memory until its commit."""
        return self._space.written_bytes - self._written_before

    def commit(self) -> None:
        """Write the meta row and end the engine transaction. Raises as `apply` does."""
        if self.applied == self._committed and not self.uncommitted_ops:
            return
        try:
            self._engine.put(TAG_META, self._meta())
            self._engine.commit()
        except Exception as error:
            self._fall_back(error)
            raise
        self._note_commit()

    def close(self, *, clean: bool) -> None:
        """Close the engine: `clean` commits and makes it durable, else what is open is lost."""
        if clean:
            # A full engine stays at its last commit: the log has the rest.
            with suppress(EngineFull):
                self.commit()
        self._engine.close(clean=clean)

    def adopt(self, engine: Engine) -> None:
        """Go on with an engine that holds another state; the one before is closed as it is.

        Raises:
            ConfigurationError: it was filled under another hash key or format, or by a cluster of a
                higher feature level.
        """
        self._engine.close(clean=False)
        self._engine = engine
        before = self._space
        self._space = _keyspace(engine, self._hash_key)
        self._space.expired_keys = before.expired_keys
        self._space.reply_bytes_max = before.reply_bytes_max
        self.listen(to_events=before.notices is not None)
        self._space.waiters.watch_as(before.waiters)
        self._load()

    def _fall_back(self, error: Exception) -> None:
        """Return to the last commit, and raise the engine's error in our terms if it was one."""
        self._engine.abort()
        self._space.expired_keys = self._expired_before
        self.listen(to_events=self._space.notices is not None)
        self._load()
        meaning = self._engine.translate(error)
        if meaning is not None:
            raise meaning from error

    def _meta(self) -> bytes:
        space = self._space
        databases = [database.to_row() for database in space.databases]
        form, members = self.store_format, self._members
        fields = [form, self._fingerprint, self.applied, space.stamp_ms, space.revision]
        rows = self._sessions.to_rows()
        fields += [space.next_generation, databases, rows, space.removals.versions]
        arrivals = None if space.arrivals is None else space.arrivals.to_row()
        waiting = space.waiters.totals
        optional = [
            arrivals,
            members.pack() if members.is_founded else None,
            space.jobs.pack() if space.jobs else None,
            waiting if waiting.next_ticket > 1 else None,
        ]
        while optional and optional[-1] is None:
            optional.pop()
        fields += optional
        packed: bytes = msgpack.packb(fields)
        return packed

    def _load(self) -> None:
        space = self._space
        meta = self._engine.get(TAG_META)
        if meta is None:
            self.applied = space.stamp_ms = space.revision = 0
            empty = [Database(number) for number in range(DATABASES)]
            space.restore(empty, DATABASES, Buckets(), None, Jobs())
            self._sessions = Sessions()
            self._members = Members()
            space.waiters.load(WaitingTotals())
        else:
            form, fingerprint, *fields = msgpack.unpackb(meta)
            _check_format(form)
            if fingerprint != self._fingerprint:
                raise ConfigurationError("the engine belongs to another cluster")
            self.applied, space.stamp_ms, space.revision, generation, *fields = fields
            databases, sessions, removals, *rest = fields
            arrivals, members, jobs, waiting = [*rest, None, None, None, None][:4]
            restored = [Database(*counted) for counted in databases]
            brought = Arrivals.from_row(arrivals) if arrivals else None
            self._members = Members.unpack(members) if members else Members()
            under_way = Jobs.unpack(jobs) if jobs else Jobs()
            space.restore(restored, generation, Buckets(removals), brought, under_way)
            self._sessions = Sessions.from_rows(sessions)
            space.waiters.load(WaitingTotals(*waiting) if waiting else WaitingTotals())
        self._note_commit()

    def _note_commit(self) -> None:
        self._committed = self.applied
        self._written_before = self._space.written_bytes
        self._expired_before = self._space.expired_keys
        self._change_decided = False
        self.uncommitted_ops = 0

    # --- what others ask ----------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any key, in milliseconds since the epoch."""
        return self._space.next_deadline_ms()

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """{database: (keys, keys with a deadline)} of the databases that are not empty."""
        return {
            number: (database.keys, database.expires)
            for number, database in enumerate(self._space.databases)
            if database.keys
        }

    @property
    def hash_key(self) -> bytes:
        """What all nodes hash keys and rows with."""
        return self._hash_key

    @property
    def data_bytes(self) -> int:
        """Sizes of all records and of their row keys, expired ones too: what the data occupies."""
        return sum([database.record_bytes for database in self._space.databases])

    @property
    def expired_keys(self) -> int:
        """Keys that went because they had expired, since the program started (the log that it
        applied again at its start included). A figure of this node: it is in no hash."""
        return self._space.expired_keys

    @property
    def waiters(self) -> int:
        """Blocked clients of all nodes, and those that were served and not told yet."""
        return self._space.waiters.totals.rows

    @property
    def large_commands(self) -> int:
        """Commands under way that store their result a part at a time."""
        return len(list(self._space.jobs))

    # --- who waits ----------------------------------------------------------------------------

    def waiter(self, node_id: int, number: int) -> Waiter | None:
        """The blocked client that a node calls by this number."""
        return self._space.waiters.find(node_id, number)

    def nodes_with_waiters(self) -> list[int]:
        """Ids of the nodes that have blocked clients."""
        return self._space.waiters.nodes()

    def watch(self, number: int, key: bytes, token: object, op: Op) -> AwaitedKey:
        """Have a read done right after each write to a key; `Applied.news` tells what it found."""
        awaited = number, self._space.locate(key)
        self._space.waiters.watch(awaited, token, op)
        return awaited

    def watch_on(self, token: object) -> None:
        """What was found for a watch was told: look for more from now on, unless it has ended."""
        self._space.waiters.watch_on(token)

    def unwatch(self, awaited: AwaitedKey, token: object) -> None:
        """See `watch`."""
        self._space.waiters.unwatch(awaited, token)

    def session(self, node_id: int) -> Session | None:
        """The newest registration of a node."""
        return self._sessions.get(node_id)

    def sessions(self) -> dict[int, Session]:
        """All of them by node id, in its order."""
        return dict(sorted(self._sessions.items()))

    def state_hash(self) -> str:
        """Sixteen hex digits: equal on all nodes that have applied as much."""
        return self._fold(self._space.databases, self._space.waiters.totals)

    def recomputed_hash(self) -> str:
        """The same from all rows: slow, and equal unless a row was lost or altered."""
        space = self._space
        waiting = state_hash.recount_waiters(space.engine, space.waiters.totals)
        return self._fold(state_hash.recount(space), waiting)

    def _fold(self, databases: list[Database], waiting: WaitingTotals) -> str:
        sessions, members = self._sessions, self._members
        return state_hash.fold(self.applied, self._space, databases, sessions, members, waiting)

    def live_rows(self) -> Iterator[tuple[bytes, bytes]]:
        """All rows of the state but the meta row, ascending; call it right after `commit`.

        Raises:
            RowsMissing: they do not add up to what the meta row counts.
        """
        space = self._space
        unplaced = [job.record for job in space.jobs]
        return live_rows(self._engine, space.databases, space.waiters.totals, unplaced)

    @property
    def has_garbage(self) -> bool:
        """Whether `collect_garbage` would find anything."""
        return self._space.has_garbage

    def collect_garbage(self, budget: int) -> int:
        """Delete up to `budget` rows of flushed databases; returns how many. Nobody can see it.

        Raises as `apply` does.
        """
        try:
            deleted = self._space.collect_garbage(budget)
        except Exception as error:
            self._fall_back(error)
            raise
        self.uncommitted_ops += deleted
        return deleted


def load_view(engine: Engine, hash_key: bytes) -> Keyspace:
    """What another process committed, to read from: databases and stamp, and nothing besides.

    Raises:
        ConfigurationError: the engine was filled under another hash key or format.
    """
    space = Keyspace(engine, hash_key)
    meta = engine.get(TAG_META)
    if meta is None:
        return space
    form, fingerprint, _, space.stamp_ms, space.revision, _, databases, *_ = msgpack.unpackb(meta)
    _check_format(form)
    if fingerprint != blake2b(digest_size=8, key=hash_key).digest():
        raise ConfigurationError("the engine belongs to another cluster")
    space.databases = [Database(*counted) for counted in databases]
    return space


def _keyspace(engine: Engine, hash_key: bytes) -> Keyspace:
    space = Keyspace(engine, hash_key)
    space.waiters = Waiters(space)
    return space


def _check_format(form: int) -> None:
    if form > FORMAT_WITH_MEMBERS:
        raise ConfigurationError(
            f"the engine has format {form}, and this program knows formats up to "
            f"{FORMAT_WITH_MEMBERS}: use the newer program"
        )
    if form not in (FORMAT, FORMAT_WITH_MEMBERS):
        raise ConfigurationError(f"the engine has the format {form} of an older program")
