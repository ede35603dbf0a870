"""What the node notices of itself, and what follows: refusals, a line in the log, another leader.

Here is all that may be wrong with a node that goes on: its log or engine has no room, its data are
as large as they may be, the log's disk is slow, the event loop late, memory scarce, or its log
lacks what it once acknowledged. Each has a state, is said when it begins and when it ends, and
decides which commands are refused meanwhile, and why. Where another node can do better, this one
offers leadership (`kvnode.node.succession`).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from kvnode.admission.ladder import Rung
from kvnode.errors import Refused
from kvnode.node import reads
from kvnode.node.disk_health import DiskHealth
from kvnode.node.lag import LoopLag
from kvnode.node.proposals import DATA_FULL, ENGINE_FULL, EXEC_DATA_FULL, LOG_FULL
from kvnode.obs.log import event
from kvnode.service import Op
from kvnode.store.ops import EXEC, EXEC_WATCHED

if TYPE_CHECKING:
    from kvnode.node.node import Node

_log = logging.getLogger("kvnode.node")


class Condition:
    """See the module's docstring.

    Args:
        node: whose condition it is.
        election_ms: the shortest election timeout, to judge disk and loop by.
        data_bytes_max: what the data may occupy before writes that add to it are refused; 0: any.
    """

    def __init__(self, node: Node, election_ms: int, data_bytes_max: int) -> None:
        self._node = node
        self._data_bytes_max = data_bytes_max
        self.disk_health = DiskHealth(election_ms)
        self.lag = LoopLag(election_ms, time.thread_time)
        self.refuses_growth = False
        """Writes that can make the data larger are refused now."""
        self._was_recovering = False
        self._departure_rung = 0

    def look(self, now: float, due: float) -> None:
        """Once in each tick, which came `now` and was due then; seconds of the loop's clock."""
        self._watch_loop(now, now - due)
        # At the time at which the tick was due: the disk is not to blame for a late loop.
        self._watch_disk(due)
        if self._node.raft.recovering is not self._was_recovering:
            self._note_recovery()
        if self._data_bytes_max:
            self._judge_growth()

    # --- room -------------------------------------------------------------------------------------

    def log_full(self, full: bool) -> None:
        """The log's disk has no room, or has again: writes are refused meanwhile."""
        text = "the log's disk is full" if full else "the log's disk has room again"
        self._hold(LOG_FULL if full else None, text)

    def engine_full(self, full: bool) -> None:
        """Apply pauses: nothing is lost, but this node's answers wait until there is room."""
        self._node.reads.reason = reads.ENGINE_FULL if full else reads.NO_LEADER
        text = "the engine is full, apply pauses" if full else "the engine has room, apply goes on"
        self._hold(ENGINE_FULL if full else None, text)

    def _hold(self, reason: Refused | None, text: str) -> None:
        """Refuse writes for this reason, and let one lead who has room; None takes them again."""
        node = self._node
        node.proposer.hold(reason)
        event(_log, logging.INFO if reason is None else logging.WARNING, text)
        if reason is not None:
            node.succession.offer()
        node.pulse.wake()

    def _judge_growth(self) -> None:
        node, limit = self._node, self._data_bytes_max
        is_full = bool(limit) and node.machine.data_bytes >= limit
        self.refuses_growth = is_full or node.pressure.rung >= Rung.REFUSE

    # --- memory -----------------------------------------------------------------------------------

    def on_rung(self, rung: Rung) -> None:
        """Memory is scarce, or no longer."""
        node = self._node
        self._judge_growth()
        node.applier.is_hasty = bool(rung)
        self._tell_rung()
        if rung and not (node.is_stopped or node.is_frozen):
            # Pages of an open transaction are the engine's only memory that cannot be evicted.
            node.applier.commit()

    def depart(self, rung: int) -> None:
        """Tell the others of `RUNG_WAITS` or `RUNG_GOES`; 0: the node can stay."""
        self._departure_rung = rung
        self._tell_rung()

    def _tell_rung(self) -> None:
        node = self._node
        rung = max(int(node.pressure.rung), self._departure_rung)
        node.strains.change(node.strains.own._replace(rung=rung))

    # --- time -------------------------------------------------------------------------------------

    @property
    def sync_wait_s(self) -> float:
        """How long the log's disk has been at what it does now, in seconds; 0 while it rests."""
        return self.disk_health.wait_s(self._node.loop.time())

    def _watch_disk(self, now: float) -> None:
        """Say when the log's disk becomes slow or well again; a leader looks for a better one."""
        node, health = self._node, self.disk_health
        if health.judge(now):
            text = "the log's disk is slow" if health.is_slow else "the log's disk is well again"
            level = logging.WARNING if health.is_slow else logging.INFO
            event(_log, level, text, wait_ms=round(health.longest_s * 1000))
        if node.duties.leads and health.should_hand_over(now):
            node.succession.leave_slow_disk(health, now)

    def _watch_loop(self, now: float, lag_s: float) -> None:
        """Say when the loop is late; a leader under strain looks for a node that is better off."""
        node, strains = self._node, self._node.strains
        alarm = self.lag.alarm(now, lag_s)
        if alarm is not None:
            event(_log, logging.WARNING, "the event loop was late", **alarm.fields())
        if self.lag.judge(now, lag_s):
            is_late = self.lag.is_late
            text = "the event loop cannot keep up" if is_late else "the event loop keeps up again"
            event(_log, logging.WARNING, text, lag_ms=round(lag_s * 1000))
            strains.change(strains.own._replace(is_late=is_late))
        if not node.duties.leads:
            return
        if strains.own.is_draining:
            node.succession.step_aside(now)
        elif strains.own.rung or self.lag.should_hand_over(now):
            node.succession.leave_strain(now)

    # --- what was lost ----------------------------------------------------------------------------

    def _note_recovery(self) -> None:
        raft = self._node.raft
        self._was_recovering = raft.recovering
        if self._was_recovering:
            text = "recovering: acknowledged entries are gone here; counting in no quorum"
        else:
            text = "recovered: all committed entries are here again"
        event(_log, logging.WARNING, text, last_index=raft.last_index)


def refusal_of_growth(op: Op) -> Refused:
    """What a write is told that could make the data larger."""
    return EXEC_DATA_FULL if op[0] in (EXEC, EXEC_WATCHED) else DATA_FULL
