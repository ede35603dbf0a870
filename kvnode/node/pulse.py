"""When things happen: what a pass and a tick of the node do, and in which order.

One *pass* does, in this order, what the loop's callbacks asked for since the last one: batches
leave, read rounds start, Raft's decisions are carried out, committed entries are applied for one
slice, and the reads that waited for them run, for another. `wake` asks for a pass; any number of
calls before it runs cost one pass.

A *tick* comes every `TICK_SECONDS`. What Raft has to say because time passes leaves first. Then the
node looks at itself (`kvnode.node.condition`), every tenth time at all deadlines, and with a loop
that has nothing to do garbage is collected: rows of dropped databases, and Python's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from kvnode.node.slices import Slices
from kvnode.node.ticks import TICK_SECONDS, Ticks

if TYPE_CHECKING:
    from kvnode.node.node import Node

QUIET_TICKS_MIN = 3
"""So many ticks without a pass, none of them late, make an idle loop."""

SWEEP_TICKS = 10
"""Deadlines of held commands are looked at this often."""


class Pulse:
    """Calls all parts of the node when it is their turn.

    Args:
        node: whose parts they are.
        elapsed: seconds, by which Raft's time passes.
    """

    def __init__(self, node: Node, elapsed: Callable[[], float]) -> None:
        self._node = node
        self._loop = node.loop
        missed_max = None if node.lease_reads else SWEEP_TICKS
        self._due_ticks = Ticks(elapsed, missed_max)
        self.slices = Slices()
        self.ticks = 0
        """Since the start."""
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._pass_scheduled = self._has_passed = False
        self._quiet_ticks = 0

    def start(self) -> None:
        """Tick from now on."""
        self._tick_due = self._loop.time() + TICK_SECONDS
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    # --- the pass ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Ask for a pass soon."""
        if not self._pass_scheduled:
            self._pass_scheduled = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._pass_scheduled = False
        self._has_passed = True
        node = self._node
        if node.is_stopped:
            return
        began = perf_counter()
        try:
            node.proposer.flush()
            node.duties.flush()
            node.reads.flush()
            node.driver.pump()
            applies_at = perf_counter()
            more = not node.is_frozen and node.applier.run()
            reads_at = perf_counter()
            more = node.waits.tell() or more
            more = node.reads.release(node.machine.applied) or more
            node.duties.watch_deadlines()
            self.slices.passed(began, applies_at, reads_at)
        except Exception as error:
            # A state machine or a consensus that raised is in no known state: the process ends.
            node.fail(error)
            raise
        if more or node.raft.has_ready() or self._can_send:
            self.wake()

    @property
    def _can_send(self) -> bool:
        """A pass would bring something on its way."""
        node = self._node
        return node.proposer.can_send or node.duties.can_flush or node.reads.can_ask

    @property
    def _has_answers(self) -> bool:
        """Somebody could be answered, if there is room for the reply by now."""
        node = self._node
        return node.waits.has_found or node.reads.has_due(node.machine.applied)

    # --- the tick ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        node, now = self._node, self._loop.time()
        self.slices.begin()
        self._heartbeat()
        node.condition.look(now, self._tick_due)
        self._count_bytes()
        self.ticks += 1
        if self.ticks % SWEEP_TICKS == 0:
            self._sweep()
        self.slices.end("tick")
        node.applier.collect_garbage()
        self.slices.end("garbage")
        self._note_quiet(now - self._tick_due)
        self._tick_due = max(self._tick_due + TICK_SECONDS, now)
        self._tick_timer = self._loop.call_at(self._tick_due, self._tick)
        if node.raft.has_ready() or self._has_answers or node.proposer.has_due_step:
            self.wake()

    def _heartbeat(self) -> None:
        """What Raft has to say because time passes leaves at once, before anything else is done."""
        self._let_time_pass()
        node = self._node
        if node.raft.has_ready():
            try:
                node.driver.pump()
            except Exception as error:
                node.fail(error)
                raise

    def _let_time_pass(self) -> None:
        """Tell Raft of the ticks that are due; while it is frozen it hears of none."""
        node, due = self._node, self._due_ticks.take()
        for _ in range(0 if node.is_frozen else due):
            node.raft.tick()

    def before_reads(self) -> None:
        """With leases, what is asked of a leader must find it as old as it is."""
        if self._node.lease_reads:
            self._let_time_pass()

    def _count_bytes(self) -> None:
        """What is in flight and cheaper to add up now and then than to count along."""
        node = self._node
        ledger = node.ledger
        ledger.peers = node.transport.held_bytes
        ledger.log = node.raft.log.cache_bytes + node.writer.writing_bytes
        ledger.engine = node.machine.uncommitted_bytes

    def _sweep(self) -> None:
        """Ten times a second: deadlines, and what is done again and again until it succeeds."""
        node = self._node
        node.proposer.sweep()
        node.reads.sweep()
        node.heavy.sweep()
        node.heavy_writes.sweep()
        node.snapshots.sweep()
        node.membership.sweep()
        node.strains.sweep()
        node.succession.look()
        node.changes.sweep()
        node.waits.sweep()
        self.wake()

    def _note_quiet(self, lag_s: float) -> None:
        """Tell the collector when some ticks had nothing to do, and nothing made them late."""
        is_quiet = not self._has_passed and lag_s < TICK_SECONDS / 2
        self._quiet_ticks = self._quiet_ticks + 1 if is_quiet else 0
        self._has_passed = False
        collector = self._node.collector
        if self._quiet_ticks >= QUIET_TICKS_MIN and collector is not None:
            collector.idle()
