"""The node: one object per process that front ends see as a `Service`.

Here its parts are put together, started and closed, and here commands come in. What they do, and
when, is with the parts: the order of things in `kvnode.node.pulse`, what the node notices of itself
in `kvnode.node.condition`, what became of batches in `kvnode.node.outcomes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from kvnode.admission.ledger import Ledger
from kvnode.admission.pressure import Pressure
from kvnode.errors import DiskFailed
from kvnode.node.applier import Applier
from kvnode.node.changes import Changes
from kvnode.node.channel import LeaderChannel
from kvnode.node.clock import StampClock
from kvnode.node.condition import Condition, refusal_of_growth
from kvnode.node.consensus import Consensus
from kvnode.node.coverage import Coverage
from kvnode.node.driver import Driver
from kvnode.node.faults import as_fatal
from kvnode.node.heavy import HeavyReads, HeavyWrites
from kvnode.node.leader import LeaderDuties
from kvnode.node.log_writer import LogWriter, Worker
from kvnode.node.membership import Acquaintances, Membership
from kvnode.node.outcomes import Outcomes
from kvnode.node.peers import Peers
from kvnode.node.proposals import Proposer
from kvnode.node.pulse import Pulse
from kvnode.node.reading import ReadFailures, Reading, first_request_id
from kvnode.node.reads import ReadRounds
from kvnode.node.recovery import Recovered
from kvnode.node.roster import Roster
from kvnode.node.snapshots import Snapshots
from kvnode.node.status import Contact, NodeIdentity, describe
from kvnode.node.strain import Strains
from kvnode.node.succession import Succession
from kvnode.node.ticks import TICK_SECONDS
from kvnode.node.transport import Transport
from kvnode.node.waiters import Waits
from kvnode.obs.collector import Collector
from kvnode.service import NodeStatus, Op, Pending, Wait
from kvnode.store.engine import StoredEngine
from kvnode.store.members import Member
from kvnode.store.ops import can_grow
from kvnode.store.redis.write_weights import WRITE_WEIGHTS
from kvnode.store.reply import Result


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
        self.pressure = pressure or Pressure()
        self.collector = collector
        self.lease_reads = lease_reads
        self.raft, self.wal, self.machine = found.raft, found.wal, found.machine
        self._library = found.library
        self.loop = loop
        self.is_stopped = False
        self.is_frozen = False
        """While a snapshot's marker is written no message and no tick may change the log."""
        self.failure: asyncio.Future[None] = loop.create_future()
        """Fails when the node cannot go on; never succeeds."""

        # These know the node: they call many of its parts, and only when it runs.
        self.pulse = Pulse(self, elapsed or loop.time)
        self.condition = Condition(self, election_ms, data_bytes_max)
        self.consensus = Consensus(self)
        self.outcomes = Outcomes(self)
        self.membership = Membership(self, directory)
        self.changes = Changes(self, rng, 4 * election_ms, remove_silent_ms=remove_silent_ms)
        self.peers = Peers(self, directory.bind_peer)

        # The others know what they are given.
        by_id = {member.node_id: member for member in founders}
        self.roster = Roster(identity.node_id, by_id, self.machine)
        self.transport = Transport(self.peers, rng, self.ledger.budget.peer_queue_bytes_max)
        wake = self.pulse.wake
        self.strains = Strains(self.transport, wake, loop.time)
        self.succession = Succession(
            self.raft, self.roster, self.transport, self.strains, loop, wake
        )
        self.coverage = Coverage(self.raft, loop, self.transport.send, wake)
        self.clock = StampClock(loop.time, wall)
        self.clock.observe(self.machine.stamp_ms)
        self.duties = self._make_duties(rng)
        self.proposer = self._make_proposer(rng)
        self.waits = self._make_waits()
        self.applier = self._make_applier()
        self.read_failures = ReadFailures(loop.time)
        self.heavy, self.heavy_writes = self._make_heavy()
        self.reads = self._make_reads()
        self.driver = self._make_driver()
        self.writer = self.driver.writer = self._make_writer(worker)
        self.snapshots = self._make_snapshots(snapshot_log_bytes)
        self._unsubscribe = self.pressure.subscribe(self.condition.on_rung)

    def _make_duties(self, rng: Random) -> LeaderDuties:
        return LeaderDuties(
            self.raft,
            self.machine,
            self.clock,
            self.loop,
            rng,
            self.pulse.wake,
            on_dropped=self.outcomes.dropped,
        )

    def _make_proposer(self, rng: Random) -> Proposer:
        channel = LeaderChannel(self.identity, self.raft, self.duties, self.transport)
        proposer = Proposer(channel, rng.getrandbits(63), self.loop.time, self.ledger)
        proposer.set_level(self.machine.level)
        proposer.large_commands = lambda: self.machine.large_commands
        return proposer

    def _make_waits(self) -> Waits:
        return Waits(
            self.machine,
            self.identity.node_id,
            self.loop.time,
            submit=self.submit_write,
            has_room=lambda: self.ledger.has_room_for_replies,
            silent_nodes=self.changes.silent_nodes,
        )

    def _make_applier(self) -> Applier:
        return Applier(
            self.raft,
            self.machine,
            self.loop,
            on_applied=self.outcomes.on_applied,
            on_configured=self.membership.on_configured,
            on_full=self.condition.engine_full,
            commits=self.pulse.slices.kinds["commit"],
        )

    def _make_heavy(self) -> tuple[HeavyReads, HeavyWrites]:
        self.machine.answer_for(self.identity.node_id, self.ledger.budget.reply_bytes_max)
        reads = HeavyReads(
            self.machine,
            self.loop,
            commit=self.applier.commit,
            may_commit=lambda: not (self.is_frozen or self.is_stopped),
            pressure=self.pressure,
            on_failure=self.read_failures.note,
        )
        failed, time = self.read_failures.note, self.loop.time
        return reads, HeavyWrites(self.machine, self.pressure, self._propose, failed, time)

    def _make_reads(self) -> ReadRounds:
        reading = Reading(
            self.raft,
            self.machine,
            self.heavy,
            self.ledger,
            self.read_failures,
            before_reads=self.pulse.before_reads,
        )
        return ReadRounds(reading, first_request_id(self.identity.incarnation), self.loop.time)

    def _make_driver(self) -> Driver:
        return Driver(
            self.raft,
            self.transport,
            on_soft_state=self.consensus.on_soft_state,
            on_read_state=self.consensus.on_read_state,
            on_snapshot_needed=self.consensus.on_snapshot_needed,
            wake=self.pulse.wake,
        )

    def _make_writer(self, worker: Worker) -> LogWriter:
        return LogWriter(
            self.wal,
            worker,
            self.loop,
            commit=lambda: self.raft.hard_state.commit,
            on_synced=self.driver.synced,
            on_failure=self.fail,
            on_full=self.condition.log_full,
            health=self.condition.disk_health,
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
        self.pulse.start()
        if self.roster.is_alone:
            self.raft.campaign()
        self.pulse.wake()

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
        busy = (self.proposer, self.reads, self.heavy, self.heavy_writes)
        while not all(part.is_idle for part in busy):
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
        self.pulse.stop()
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

    def _freeze(self, frozen: bool) -> None:
        self.is_frozen = frozen

    def _switch_engine(self, engine: StoredEngine) -> None:
        """A snapshot takes the place of the store: results of what it had applied are lost."""
        self.machine.adopt(engine)
        self.applier.restart()
        self.clock.observe(self.machine.stamp_ms)
        self.proposer.restored(self.machine.session(self.identity.node_id))
        self.waits.replaced()
        if self.collector is not None:
            self.collector.settle()
        self.heavy.engine_replaced()
        self.pulse.wake()

    # --- the service (kvnode.service.Service) -----------------------------------------------------

    def submit_write(self, pending: Pending) -> None:
        """Queue a write for the batch of this pass."""
        if self.condition.refuses_growth and can_grow(pending.op):
            self.proposer.refuse(pending, refusal_of_growth(pending.op))
            return
        if pending.op[0] in WRITE_WEIGHTS:
            admitted = self.heavy_writes.admit(pending)
            if admitted is None:
                return
            pending = admitted
        self._propose(pending)

    def _propose(self, pending: Pending) -> None:
        self.proposer.submit(pending)
        self.pulse.wake()

    def submit_read(self, pending: Pending) -> None:
        """Queue a read for the round of this pass."""
        self.reads.submit(pending)
        self.pulse.wake()

    def submit_stale_read(self, pending: Pending) -> None:
        """Queue a read that runs on whatever is applied here by then."""
        self.reads.submit_stale(pending)
        self.pulse.wake()

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


def _is_disk_failure(failure: asyncio.Future[None]) -> bool:
    """Whether that is why the node ends."""
    ended = failure.done() and not failure.cancelled()
    return ended and isinstance(failure.exception(), DiskFailed)
