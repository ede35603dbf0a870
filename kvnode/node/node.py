"""The node: one object per process that front ends see as a `Service`.

One *pass* of the node does, in this order, what the loop's callbacks asked for since the last one:
batches leave, read rounds start, Raft's decisions are carried out, committed entries are applied
for one slice, and the reads that waited for them run, for another. `wake` asks for a pass; any
number of calls before it runs cost one pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter

from kvnode.admission.departure import Turn
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.pressure import Pressure
from kvnode.errors import (
    CommandError,
    ConfigurationError,
    DiskFailed,
    FatalError,
    KvnodeError,
)
from kvnode.node import reads
from kvnode.node.applier import Applier
from kvnode.node.changes import Changes
from kvnode.node.clock import StampClock
from kvnode.node.coverage import Coverage
from kvnode.node.disk_health import DiskHealth
from kvnode.node.driver import Driver
from kvnode.node.faults import as_fatal
from kvnode.node.heavy import HeavyReads, HeavyWrites
from kvnode.node.hello import Hello
from kvnode.node.lag import LoopLag
from kvnode.node.leader import LeaderDuties
from kvnode.node.log_writer import LogWriter, Worker
from kvnode.node.membership import Acquaintances, Membership
from kvnode.node.peers import Peers
from kvnode.node.proposals import DATA_FULL, ENGINE_FULL, EXEC_DATA_FULL, LOG_FULL, Proposer
from kvnode.node.reads import ReadRounds
from kvnode.node.recovery import Recovered
from kvnode.node.roster import Roster
from kvnode.node.slices import Slices
from kvnode.node.snapshots import Snapshots
from kvnode.node.status import Contact, NodeIdentity, describe
from kvnode.node.strain import WIRE_VERSION_OF_STRAIN, Strains
from kvnode.node.succession import Succession
from kvnode.node.ticks import TICK_SECONDS, Ticks
from kvnode.node.transport import Transport
from kvnode.node.waiters import Waits
from kvnode.node.wire import Forward, ForwardRejected, Register, Strained
from kvnode.obs.collector import Collector
from kvnode.obs.log import Repeats, event
from kvnode.service import NodeStatus, Op, Pending, Wait
from kvnode.store.batch import Kind
from kvnode.store.engine import StoredEngine
from kvnode.store.members import Member
from kvnode.store.ops import EXEC, EXEC_WATCHED, LEVEL, can_grow
from kvnode.store.redis.weights import WEIGHTS
from kvnode.store.redis.write_weights import WRITE_WEIGHTS
from kvnode.store.reply import Result
from kvnode.store.sessions import Outcome
from kvnode.store.state_machine import Applied
from raft.types import NONE, U32_MAX, NoLeader, ReadDropped, ReadState, Role, SoftState

_log = logging.getLogger("kvnode.node")

READ_FAILED = CommandError("ERR internal error")
READ_TOO_LARGE = CommandError("OOM there is not enough memory for the reply")
"""A read met a bug; the log has it."""

QUIET_TICKS_MIN = 3
"""So many ticks without a pass, none of them late, make an idle loop."""

SWEEP_TICKS = 10
"""Deadlines of held commands are looked at this often."""


@dataclass(slots=True)
class NodeStats:
    """Plain counters that metrics and INFO read."""

    leader_changes_seen: int = 0
    entries_applied: int = 0
    hellos_refused_by_peers: int = 0
    read_failures: int = 0


class Node:
    """Consensus, log, store and peers behind one service.

    Args:
        identity: who this node is.
        founders: the members that `--cluster` bootstrapped; none on a node that joined.
        found: log, Raft, store and snapshots as the start found them.
        worker: where the log is written.
        rng: jitter, seeds, ids of new members and the session's nonce.
        wall: seconds since the epoch, for stamps.
        directory: remembers, durably, what it is told of peers and members.
        snapshot_log_bytes: bytes logged between two snapshots.
        data_bytes_max: what the data may occupy before writes that add to it are refused; 0: any.
        election_ms: the shortest election timeout, to judge slow disks and silent members by.
        lease_reads: Raft was told to use leases; all members must be.
        elapsed: seconds on a clock that goes on while the machine sleeps; by default the loop's.
        collector: told when there is nothing to do, and when the state was replaced.
        remove_silent_ms: as a leader, remove members not heard for so long; 0: never.
        ledger: counts what is in flight, and tells how much may be.
        pressure: on which rung of the memory's ladder the node stands.
    """

    turn = Turn()
    """How this node stands with the other voters, should it have to leave; read by any thread."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        founders: tuple[Member, ...],
        found: Recovered,
        worker: Worker,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        wall: Callable[[], float],
        directory: Acquaintances,
        snapshot_log_bytes: int,
        data_bytes_max: int = 0,
        election_ms: int = 500,
        lease_reads: bool = False,
        elapsed: Callable[[], float] | None = None,
        remove_silent_ms: int = 0,
        collector: Collector | None = None,
        ledger: Ledger | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        self.identity = identity
        self.ledger = ledger or Ledger()
        self.raft, self.wal, self.machine = found.raft, found.wal, found.machine
        by_id = {member.node_id: member for member in founders}
        self.roster = Roster(identity.node_id, by_id, self.machine)
        self.membership = Membership(self, directory)
        self.stats = NodeStats()
        self.loop = loop
        self._leader_term = (NONE, 0)
        self._pass_scheduled = self._has_passed = False
        self._collector = collector
        self.is_stopped = False
        self.is_frozen = False
        self._read_failures_logged = Repeats()
        self._data_bytes_max = data_bytes_max
        self.pressure = pressure or Pressure()
        self._refuses_growth = False
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_due, self._ticks, self._quiet_ticks = 0.0, 0, 0
        self.lease_reads = lease_reads
        missed_max = None if lease_reads else SWEEP_TICKS
        self._due_ticks = Ticks(elapsed or loop.time, missed_max)
        self.slices = Slices()
        self.lag = LoopLag(election_ms, time.thread_time)
        self._was_recovering = False
        self.failure: asyncio.Future[None] = loop.create_future()
        """Fails when the node cannot go on; never succeeds."""

        self.clock = StampClock(loop.time, wall)
        self.clock.observe(self.machine.stamp_ms)
        self.duties = self._make_duties(rng)
        self.proposer = Proposer(self, rng.getrandbits(63), loop.time, self.ledger)
        self.proposer.set_level(self.machine.level)
        self.reads = ReadRounds(self, first_request_id(identity.incarnation), loop.time)
        self.waits = Waits(self, self.machine, identity.node_id, loop.time)
        self.applier = self._make_applier()
        self.heavy, self.heavy_writes = self._make_heavy()
        self.changes = Changes(self, rng, 4 * election_ms, remove_silent_ms=remove_silent_ms)
        self.strains = Strains(self, loop.time)
        self.peers = Peers(self, directory.bind_peer)
        self.transport = Transport(self.peers, rng, self.ledger.budget.peer_queue_bytes_max)
        self.succession = self._make_succession()
        self.coverage = Coverage(self.raft, loop, self.transport.send, self.wake)
        self.driver = self._make_driver()
        self.disk_health = DiskHealth(election_ms)
        self.writer = self.driver.writer = self._make_writer(worker)
        self._library = found.library
        self.snapshots = self._make_snapshots(snapshot_log_bytes)
        self._unsubscribe = self.pressure.subscribe(self._on_rung)

    @property
    def members(self) -> Mapping[int, Member]:
        """The members of the cluster, by id."""
        return self.roster.members

    def hello(self) -> Hello:
        """How this node introduces itself, to nobody in particular."""
        own = self.identity
        return Hello(
            own.cluster_id,
            own.node_id,
            NONE,
            own.storage_id,
            own.incarnation,
            own.version,
            own.client_address,
            self.raft.recovering,
            self.lease_reads,
            LEVEL,
            self.roster.configured_at,
            own.peer_address,
        )

    def _make_duties(self, rng: Random) -> LeaderDuties:
        return LeaderDuties(
            self.raft,
            self.machine,
            self.clock,
            self.loop,
            rng,
            self.wake,
            on_dropped=self._on_batch_dropped,
        )

    def _make_applier(self) -> Applier:
        return Applier(
            self.raft,
            self.machine,
            self.loop,
            on_applied=self._on_applied,
            on_configured=self.membership.on_configured,
            on_full=self._on_engine_full,
            commits=self.slices.kinds["commit"],
        )

    def _make_heavy(self) -> tuple[HeavyReads, HeavyWrites]:
        self.machine.answer_for(self.identity.node_id, self.ledger.budget.reply_bytes_max)
        self.proposer.large_commands = lambda: self.machine.large_commands
        reads = HeavyReads(
            self.machine,
            self.loop,
            commit=self.applier.commit,
            may_commit=lambda: not (self.is_frozen or self.is_stopped),
            pressure=self.pressure,
            on_failure=self._on_read_failed,
        )
        return reads, HeavyWrites(self.machine, self.pressure, self._propose, self.loop.time)

    def _make_succession(self) -> Succession:
        return Succession(
            self.raft, self.roster, self.transport, self.strains, self.loop, self.wake
        )

    def _make_driver(self) -> Driver:
        return Driver(
            self.raft,
            self.transport,
            on_soft_state=self._on_soft_state,
            on_read_state=self._on_read_state,
            on_snapshot_needed=self._on_snapshot_needed,
            wake=self.wake,
        )

    def _make_writer(self, worker: Worker) -> LogWriter:
        return LogWriter(
            self.wal,
            worker,
            self.loop,
            commit=lambda: self.raft.hard_state.commit,
            on_synced=self.driver.synced,
            on_failure=self.fail,
            on_full=self._on_log_full,
            health=self.disk_health,
        )

    def _make_snapshots(self, log_bytes: int) -> Snapshots:
        return Snapshots(
            library=self._library,
            raft=self.raft,
            wal=self.wal,
            writer=self.writer,
            loop=self.loop,
            log_bytes=log_bytes,
            pump=self.driver.pump,
            freeze=self._freeze,
            commit_engine=self.applier.commit,
            switch_engine=self._switch_engine,
            conf_state=self.roster.conf_state,
            on_installed=self.membership.on_changed,
            send=self.transport.send,
            flush=self.transport.flush,
            fail=self.fail,
        )

    # --- life -------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> None:
        """Listen for peers and start the clock.

        Raises:
            ResourceBusy: the peer address cannot be bound.
        """
        self.membership.start()
        await self.transport.listen(host, port)
        self._tick_due = self.loop.time() + TICK_SECONDS
        self._tick_timer = self.loop.call_at(self._tick_due, self._tick)
        if self.roster.is_alone:
            self.raft.campaign()
        self.wake()

    async def run(self) -> None:
        """Keep the connections to the peers up; raises what ends the node."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.transport.dial())
            await asyncio.shield(self.failure)

    def fail(self, error: BaseException) -> None:
        """The node cannot go on: `run` raises this."""
        if not self.failure.done():
            self.failure.set_exception(as_fatal(error))

    async def finish_in_flight(self, seconds: float) -> bool:
        """Take nothing more and wait for what is under way. True when nothing is left."""
        self.proposer.stop()
        self.reads.stop()
        deadline = self.loop.time() + seconds
        while not (
            self.proposer.is_idle
            and self.reads.is_idle
            and self.heavy.is_idle
            and not self.heavy_writes.waiting
        ):
            if self.loop.time() >= deadline:
                return False
            await asyncio.sleep(TICK_SECONDS)
        return True

    async def close(self, *, clean: bool) -> None:
        """Answer everybody, stop Raft, sync and close the log, then the store.

        `clean` also makes the store durable, so that the next start need not rebuild it even after
        a crash of the machine.

        Raises:
            BaseException: what the last write or sync failed with.
        """
        self._unsubscribe()
        self.heavy.close()
        await self.snapshots.close()
        self.is_stopped = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self.proposer.abandon()
        self.reads.abandon()
        self.transport.close()
        closed: asyncio.Future[BaseException | None] = self.loop.create_future()
        self.writer.close(closed.set_result)
        error = await asyncio.shield(closed)
        self.applier.close(clean=clean and error is None)
        if error is not None or _is_disk_failure(self.failure):
            self._library.distrust()
        if error is not None:
            raise as_fatal(error)

    # --- the pass ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Ask for a pass soon."""
        if not self._pass_scheduled:
            self._pass_scheduled = True
            self.loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._pass_scheduled = False
        self._has_passed = True
        if self.is_stopped:
            return
        began = perf_counter()
        try:
            self.proposer.flush()
            self.duties.flush()
            self.reads.flush()
            self.driver.pump()
            applies_at = perf_counter()
            more = not self.is_frozen and self.applier.run()
            reads_at = perf_counter()
            more = self.waits.tell() or more
            more = self.reads.release(self.machine.applied) or more
            self.duties.watch_deadlines()
            self.slices.passed(began, applies_at, reads_at)
        except Exception as error:
            # A state machine or a consensus that raised is in no known state: the process ends.
            self.fail(error)
            raise
        if more or self.raft.has_ready() or self._can_send:
            self.wake()

    @property
    def _has_answers(self) -> bool:
        """Somebody could be answered, if there is room for the reply by now."""
        return self.waits.has_found or self.reads.has_due(self.machine.applied)

    @property
    def _can_send(self) -> bool:
        """A pass would bring something on its way."""
        return self.proposer.can_send or self.duties.can_flush or self.reads.can_ask

    def _tick(self) -> None:
        now = self.loop.time()
        self.slices.begin()
        self._heartbeat()
        self._watch_loop(now, now - self._tick_due)
        # At the time at which the tick was due: the disk is not to blame for a late loop.
        self._watch_disk(self._tick_due)
        self._count_bytes()
        self._ticks += 1
        if self.raft.recovering is not self._was_recovering:
            self._note_recovery()
        if self._data_bytes_max:
            self._judge_growth()
        if self._ticks % SWEEP_TICKS == 0:
            self.proposer.sweep()
            self.reads.sweep()
            self.heavy.sweep()
            self.heavy_writes.sweep()
            self.snapshots.sweep()
            self.membership.sweep()
            self.strains.sweep()
            self.turn = self.succession.turn()
            self.changes.sweep()
            self.waits.sweep()
            self.wake()
        self.slices.end("tick")
        self.applier.collect_garbage()
        self.slices.end("garbage")
        self._note_quiet(now - self._tick_due)
        self._tick_due = max(self._tick_due + TICK_SECONDS, now)
        self._tick_timer = self.loop.call_at(self._tick_due, self._tick)
        if self.raft.has_ready() or self._has_answers:
            self.wake()

    def _note_quiet(self, lag_s: float) -> None:
        """Tell the collector when some ticks had nothing to do, and nothing made them late."""
        is_quiet = not self._has_passed and lag_s < TICK_SECONDS / 2
        self._quiet_ticks = self._quiet_ticks + 1 if is_quiet else 0
        self._has_passed = False
        if self._quiet_ticks >= QUIET_TICKS_MIN and self._collector is not None:
            self._collector.idle()

    def _heartbeat(self) -> None:
        """What Raft has to say because time passes leaves at once, before anything else is done."""
        self._let_time_pass()
        if self.raft.has_ready():
            try:
                self.driver.pump()
            except Exception as error:
                self.fail(error)
                raise

    def _count_bytes(self) -> None:
        """What is in flight and cheaper to add up now and then than to count along."""
        ledger = self.ledger
        ledger.peers = self.transport.held_bytes
        ledger.log = self.raft.log.cache_bytes + self.writer.writing_bytes
        ledger.engine = self.machine.uncommitted_bytes

    def _let_time_pass(self) -> None:
        """Tell Raft of the ticks that are due; while it is frozen it hears of none."""
        due = self._due_ticks.take()
        for _ in range(0 if self.is_frozen else due):
            self.raft.tick()

    def before_reads(self) -> None:
        """With leases, what is asked of a leader must find it as old as it is."""
        if self.lease_reads:
            self._let_time_pass()

    def _on_rung(self, rung: Rung) -> None:
        """Memory is scarce, or no longer."""
        self._judge_growth()
        self.applier.is_hasty = bool(rung)
        self.strains.change(self.strains.own._replace(rung=int(rung)))
        if rung and not (self.is_stopped or self.is_frozen):
            # Pages of an open transaction are the engine's only memory that cannot be evicted.
            self.applier.commit()

    def _judge_growth(self) -> None:
        """Whether writes that can make the data larger are refused now."""
        limit = self._data_bytes_max
        is_full = bool(limit) and self.machine.data_bytes >= limit
        self._refuses_growth = is_full or self.pressure.rung >= Rung.REFUSE

    def _note_recovery(self) -> None:
        self._was_recovering = self.raft.recovering
        if self._was_recovering:
            text = "recovering: acknowledged entries are gone here; counting in no quorum"
            event(_log, logging.WARNING, text, last_index=self.raft.last_index)
        else:
            text = "recovered: all committed entries are here again"
            event(_log, logging.WARNING, text, last_index=self.raft.last_index)

    # --- the service (kvnode.service.Service) -----------------------------------------------------

    def submit_write(self, pending: Pending) -> None:
        """Queue a write for the batch of this pass."""
        if self._refuses_growth and can_grow(pending.op):
            is_transaction = pending.op[0] in (EXEC, EXEC_WATCHED)
            self.proposer.refuse(pending, EXEC_DATA_FULL if is_transaction else DATA_FULL)
            return
        if pending.op[0] in WRITE_WEIGHTS:
            admitted = self._admitted(pending)
            if admitted is None:
                return
            pending = admitted
        self._propose(pending)

    def _propose(self, pending: Pending) -> None:
        self.proposer.submit(pending)
        self.wake()

    def _admitted(self, pending: Pending) -> Pending | None:
        """A write that may be heavy, as it may be proposed; None if it was refused."""
        try:
            return self.heavy_writes.admit(pending)
        except KvnodeError:
            raise
        except Exception:  # noqa: BLE001 - nobody knows what it weighs, and it may weigh nothing
            self._on_read_failed(pending.op[0], traceback.format_exc())
            return pending

    def submit_read(self, pending: Pending) -> None:
        """Queue a read for the round of this pass."""
        self.reads.submit(pending)
        self.wake()

    def submit_stale_read(self, pending: Pending) -> None:
        """Queue a read that runs on whatever is applied here by then."""
        self.reads.submit_stale(pending)
        self.wake()

    def submit_blocking(self, db: int, op: Op, size: int, done: Callable[[Result], None]) -> Wait:
        """Do a write as soon as it has an answer."""
        return self.waits.wait(db, op, size, done)

    def when_found(
        self,
        questions: Mapping[bytes, Op],
        found: Callable[[Result], None],
        again: Callable[[], None],
    ) -> Callable[[], None]:
        """Do reads whenever their keys are written; returns what ends it."""
        return self.waits.when_found(questions, found, again)

    def now_ms(self) -> int:
        """The cluster's clock in milliseconds."""
        return self.clock.now_ms()

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Keys and keys with a deadline per database."""
        return self.machine.keyspace()

    def expired_keys(self) -> int:
        """Keys that went because they had expired, since the start."""
        return self.machine.expired_keys

    @property
    def sync_wait_s(self) -> float:
        """How long the log's disk has been at what it does now, in seconds; 0 while it rests."""
        return self.disk_health.wait_s(self.loop.time())

    def name_of(self, peer: int) -> str:
        """A member's name; of a stranger the id."""
        return self.roster.name_of(peer)

    def status(self) -> NodeStatus:
        """Consensus as this node sees it."""
        return describe(
            self.raft,
            self.machine.applied,
            self.identity,
            self.roster,
            self.strains.own,
            self._contact,
        )

    def _contact(self, peer: int) -> Contact:
        return Contact(
            self.transport.is_connected(peer), self.changes.heard_ms(peer), self.strains.of(peer)
        )

    # --- what Raft decided ------------------------------------------------------------------------

    def _on_soft_state(self, state: SoftState) -> None:
        leader_term = (state.leader, self.raft.term)
        if state.role is Role.LEADER and leader_term != self._leader_term:
            self.duties.take_office()
            self.changes.took_office()
            self.disk_health.hold_off(self.loop.time())
            self.succession.hold_off(self.loop.time())
        if state.role is not Role.LEADER:
            self.snapshots.leadership_lost()
            self.changes.leadership_lost()
        if state.leader != NONE and leader_term != self._leader_term:
            self._leader_term = leader_term
            self.stats.leader_changes_seen += 1
            self.proposer.leader_changed()
            self.reads.leader_changed()
            self.wake()
        self.succession.leader_changed()

    def _on_log_full(self, full: bool) -> None:
        """The log's disk has no room, or has again: writes are refused meanwhile."""
        self.proposer.hold(LOG_FULL if full else None)
        text = "the log's disk is full" if full else "the log's disk has room again"
        event(_log, logging.WARNING if full else logging.INFO, text)
        if full:
            self.succession.offer()
        self.wake()

    def _on_snapshot_needed(self, peer: int) -> None:
        self.snapshots.needed_by(peer)

    def _freeze(self, frozen: bool) -> None:
        """While a snapshot's marker is written no message and no tick may change the log."""
        self.is_frozen = frozen

    def _switch_engine(self, engine: StoredEngine) -> None:
        """A snapshot takes the place of the store: results of what it had applied are lost."""
        self.machine.adopt(engine)
        self.applier.restart()
        self.clock.observe(self.machine.stamp_ms)
        self.proposer.restored(self.machine.session(self.identity.node_id))
        self.waits.replaced()
        if self._collector is not None:
            self._collector.settle()
        self.heavy.engine_replaced()
        self.wake()

    def _on_engine_full(self, full: bool) -> None:
        """Apply pauses: nothing is lost, but this node's answers wait until there is room."""
        self.proposer.hold(ENGINE_FULL if full else None)
        self.reads.reason = reads.ENGINE_FULL if full else reads.NO_LEADER
        text = "the engine is full, apply pauses" if full else "the engine has room, apply goes on"
        event(_log, logging.WARNING if full else logging.INFO, text)
        if full:
            self.succession.offer()
        self.wake()

    def _watch_disk(self, now: float) -> None:
        """Say when the log's disk becomes slow or well again; a leader looks for a better one."""
        health = self.disk_health
        if health.judge(now):
            text = "the log's disk is slow" if health.is_slow else "the log's disk is well again"
            level = logging.WARNING if health.is_slow else logging.INFO
            event(_log, level, text, wait_ms=round(health.longest_s * 1000))
        if self.duties.leads and health.should_hand_over(now):
            self.succession.leave_slow_disk(health, now)

    # --- strain -----------------------------------------------------------------------------------

    @property
    def rung(self) -> int:
        """On which rung of the memory ladder this node stands; 0: on none."""
        return self.strains.own.rung

    @property
    def peers_dialled(self) -> Sequence[int]:
        """Whom this node may tell something."""
        return self.transport.peers

    def tell_strain(self, peer: int, strain: Strained) -> None:
        """To a peer that can be told."""
        if self.transport.wire_version(peer) >= WIRE_VERSION_OF_STRAIN:
            self.transport.send(peer, strain)

    def _watch_loop(self, now: float, lag_s: float) -> None:
        """Say when the loop is late; a leader under strain looks for a node that is better off."""
        alarm = self.lag.alarm(now, lag_s)
        if alarm is not None:
            event(_log, logging.WARNING, "the event loop was late", **alarm.fields())
        if self.lag.judge(now, lag_s):
            is_late = self.lag.is_late
            text = "the event loop cannot keep up" if is_late else "the event loop keeps up again"
            event(_log, logging.WARNING, text, lag_ms=round(lag_s * 1000))
            self.strains.change(self.strains.own._replace(is_late=is_late))
        if self.duties.leads and (self.rung or self.lag.should_hand_over(now)):
            self.succession.leave_strain(now)

    def _on_read_state(self, state: ReadState) -> None:
        self.reads.confirmed(state.request_id, state.index)

    def _on_applied(self, applied: Applied) -> None:
        self.stats.entries_applied += 1
        for part in applied.parts or (applied,):
            if part.node_id == self.identity.node_id:
                self._on_own_applied(part)
        if applied.news is not None:
            self.waits.applied(self.machine.applied, applied.news)

    def _on_own_applied(self, applied: Applied) -> None:
        if applied.kind == Kind.BATCH:
            if applied.outcome is Outcome.FENCED:
                self._check_fenced(applied)
            self.proposer.applied(applied)
        elif applied.kind == Kind.REGISTER:
            session = self.machine.session(self.identity.node_id)
            if applied.outcome is Outcome.FENCED or session is None:
                if not self.membership.is_leaving:
                    self.fail(_storage_changed(self.identity.name))
            else:
                self.proposer.registered(session.incarnation, session.nonce)
                self.wake()

    def _check_fenced(self, applied: Applied) -> None:
        own = self.proposer.incarnation
        if own and applied.incarnation == own and not self.membership.is_leaving:
            self.fail(
                ConfigurationError(
                    f"another process registered as {self.identity.name!r}: this one is fenced"
                )
            )

    def _on_batch_dropped(self, node_id: int, sequence: int) -> None:
        """A batch that this leader had taken could not be proposed after all."""
        if node_id == self.identity.node_id:
            self.proposer.rejected()
        else:
            self.transport.send(node_id, ForwardRejected(sequence))

    # --- the way to the leader (kvnode.node.proposals.Channel) ------------------------------------

    def send_batch(self, incarnation: int, sequence: int, operations: bytes) -> bool:
        """Hand a batch of this node to whoever leads."""
        if self.duties.leads:
            return self.duties.propose_batch(
                self.identity.node_id, incarnation, sequence, operations
            )
        return self._send_to_leader(Forward(incarnation, sequence, operations))

    def send_registration(self, nonce: int) -> bool:
        """Hand this node's registration to whoever leads."""
        identity = self.identity
        if self.duties.leads:
            return self.duties.propose_registration(identity.node_id, identity.storage_id, nonce)
        return self._send_to_leader(Register(identity.storage_id, nonce))

    def _send_to_leader(self, message: Forward | Register) -> bool:
        leader = self.raft.leader
        if leader in (NONE, self.identity.node_id) or not self.transport.is_connected(leader):
            return False
        self.transport.send(leader, message)
        return True

    # --- blocked clients (kvnode.node.waiters.WaitsPort) ------------------------------------------

    def silent_nodes(self, node_ids: Iterable[int], milliseconds: int) -> list[int]:
        """Those of them that this node, as the leader, has not heard for so long; else none."""
        if not self.duties.leads:
            return []
        own, silent_ms = self.identity.node_id, self.changes.silent_ms
        return [one for one in node_ids if one != own and silent_ms(one) >= milliseconds]

    # --- reads (kvnode.node.reads.ReadPort) -------------------------------------------------------

    def ask(self, request_id: int) -> bool:
        """Start a read-index round."""
        self.before_reads()
        try:
            self.raft.read_index(request_id)
        except (NoLeader, ReadDropped):
            return False
        return True

    def may_execute(self) -> bool:
        """Whether there is room for one more reply."""
        return self.ledger.has_room_for_replies

    def may_execute_small(self, pending: Pending) -> bool:
        """Whether there is room for this one's reply, since it is small; False if nobody knows."""
        try:
            return self.ledger.has_room_for_small_replies and self.machine.has_small_reply(
                pending.op
            )
        except KvnodeError:
            raise
        except Exception:  # noqa: BLE001 - a bug of the look at it: `execute` will meet it, or not
            return False

    def execute(self, pending: Pending) -> None:
        """Run one read on the applied state, or have a worker run it.

        A read changes nothing: if its meaning has a bug, its client gets an error and the node goes
        on. An engine that fails, or an op that nobody knows, is no bug of one read.
        """
        try:
            if pending.op[0] in WEIGHTS and self.heavy.takes(pending):
                return
            result = self.machine.read(pending.op)
        except KvnodeError:
            raise
        except MemoryError:
            result = READ_TOO_LARGE
        except Exception:  # noqa: BLE001 - logged in full; the node is as it was
            self._on_read_failed(pending.op[0], traceback.format_exc())
            result = READ_FAILED
        pending.complete(result)

    def _on_read_failed(self, code: int, text: str) -> None:
        """A read met a bug, here or in a worker."""
        self.stats.read_failures += 1
        if self._read_failures_logged.admit(code, self.loop.time()) is not None:
            _log.error("a read failed; op code %d\n%s", code, text)


def _is_disk_failure(failure: asyncio.Future[None]) -> bool:
    """Whether that is why the node ends."""
    ended = failure.done() and not failure.cancelled()
    return ended and isinstance(failure.exception(), DiskFailed)


def _storage_changed(name: str) -> FatalError:
    return ConfigurationError(
        f"the cluster knows {name!r} with another data directory; "
        f"use `kvnode member replace` to bring this machine in"
    )


def first_request_id(incarnation: int) -> int:
    """Read rounds of one start count up from here: no id is ever used twice by a node."""
    return (incarnation & U32_MAX) << 32 | 1
