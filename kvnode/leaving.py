"""How a node ends: asked to, for memory, or after a failure. Each way is bounded.

The long way, when somebody asks, loses nothing: load balancers take the node out, it hands
leadership over, answers what it has taken on, and finishes its log. The short way is all there is
under memory pressure and after a failure: the clients are cut off and the log is closed. However
stuck a disk, a peer or a client is, a timer ends the process; under pressure the watchdog does.

Crash safety never depends on any of this. It is for those who wait meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading

from kvnode.errors import ExitCode, FatalError
from kvnode.limits import (
    STOP_DRAIN_SECONDS_MAX,
    STOP_GRACE_SECONDS,
    STOP_HAND_OVER_SECONDS_MAX,
    STOP_MEMORY_HAND_OVER_SECONDS_MAX,
    STOP_MEMORY_SECONDS_MAX,
    STOP_SECONDS_MAX,
)
from kvnode.node.node import Node
from kvnode.node.strain import RUNG_GOES
from kvnode.obs.log import event
from kvnode.report import NodeReport
from kvnode.resp.listener import RespServer

_log = logging.getLogger("kvnode")


class Leaving:
    """The ways out of one run, and the note of which one was taken.

    Attributes:
        asked: set once somebody has asked the node to stop.
    """

    def __init__(self, report: NodeReport) -> None:
        """`report` knows which parts of the node there are by now."""
        self.asked = asyncio.Event()
        self._report = report
        self._deadline: threading.Timer | None = None

    # --- asked ------------------------------------------------------------------------------------

    def listen_to_signals(self) -> None:
        """SIGTERM and SIGINT ask the node to stop; the second one is obeyed at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            # Crash safety never depends on grace, so a second request is obeyed at once.
            self.record(None)
            os._exit(ExitCode.OK)
        event(_log, logging.INFO, "stopping", signal=number.name)
        self.asked.set()

    # --- the ways ---------------------------------------------------------------------------------

    async def take_leave(self, node: Node, resp: RespServer) -> None:
        """The first part of the long way, in the order that loses nothing; `close` is the rest."""
        self._leave_at_the_latest(STOP_SECONDS_MAX, ExitCode.OK)
        self._report.is_stopping = True
        if not node.roster.is_alone:
            await asyncio.sleep(STOP_GRACE_SECONDS)
        resp.stop_accepting()
        await _hand_over(node, STOP_HAND_OVER_SECONDS_MAX)
        await resp.drain(STOP_DRAIN_SECONDS_MAX)
        await node.finish_in_flight(STOP_DRAIN_SECONDS_MAX)

    async def close(self, *, is_under_pressure: bool) -> None:
        """Both ways end here; under memory pressure, or after a failure, it is all there is."""
        node, resp = self._report.node, self._report.resp
        graceful = self.asked.is_set()
        if not graceful and not is_under_pressure:
            # Under pressure the watchdog itself bounds what follows.
            self._leave_at_the_latest(STOP_MEMORY_SECONDS_MAX, self._code_so_far())
        if resp is not None:
            resp.close()
        if node is not None:
            if is_under_pressure:
                node.condition.depart(RUNG_GOES)
                try:
                    await _hand_over(node, STOP_MEMORY_HAND_OVER_SECONDS_MAX)
                except Exception:  # noqa: BLE001 - said; an election does it, too
                    _log.warning("failed while leaving", exc_info=True)
            await node.close(clean=graceful)

    def _leave_at_the_latest(self, seconds: float, code: int) -> None:
        """However stuck a disk, a peer or a client is, the process ends."""
        self._deadline = threading.Timer(seconds, os._exit, args=(code,))
        self._deadline.daemon = True
        try:
            self._deadline.start()
        except RuntimeError:  # no memory for a thread: then at once
            self.note(ExitCode(code), "there was no memory for an orderly stop")
            os._exit(code)

    def drop_deadline(self) -> None:
        """Let the process live on; for those who outlive a run."""
        if self._deadline is not None:
            self._deadline.cancel()

    # --- the note ---------------------------------------------------------------------------------

    def _code_so_far(self) -> ExitCode:
        """The exit code, should even the short way out get stuck."""
        node = self._report.node
        if node is not None and node.failure.done() and not node.failure.cancelled():
            error = node.failure.exception()
            if isinstance(error, FatalError):
                return error.exit_code
            if isinstance(error, MemoryError) and self._report.watchdog is not None:
                return ExitCode.MEMORY
        return ExitCode.BUG

    def record(self, failure: FatalError | None) -> None:
        """Log why the node leaves and note it in the journal; None: it was asked to."""
        if failure is None:
            event(_log, logging.INFO, "left", code=0)
            self.note(ExitCode.OK, "asked to stop")
        else:
            code = failure.exit_code
            event(_log, logging.ERROR, "leaving", code=int(code), why=str(failure))
            self.note(code, str(failure))

    def note(self, code: ExitCode, reason: str) -> None:
        """Write an exit into the journal, if there is a directory yet; from any thread."""
        directory, watchdog, threshold_bytes = self._report.directory, self._report.watchdog, 0
        if directory is None:
            return
        if code == ExitCode.MEMORY and watchdog is not None and not self._report.has_started:
            threshold_bytes = watchdog.threshold_bytes
        directory.record_exit(code, reason, start_threshold_bytes=threshold_bytes)


async def _hand_over(node: Node, seconds: float) -> None:
    """Give leadership away, if this node has it and another one can take it in time."""
    if await node.succession.hand_over(seconds):
        event(_log, logging.INFO, "leadership handed over", leader=node.status().leader)
