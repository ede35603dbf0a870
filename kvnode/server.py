"""The composition root: the one file that knows everything.

`run` starts a node and returns its exit code. A start goes: data directory (lock, identity) →
memory watchdog → log and store (in the log's thread, so that watchdog and admin port work during a
long replay) → peers → clients. A stop goes the same way back, each step bounded. How the steps are
done is told in `kvnode.starting` and `kvnode.leaving`; which parts there are, and who knows whom,
only here.

All tasks live in one TaskGroup. A `FatalError` in any of them, the watchdog's included, cancels
the others, and its exit code becomes the process's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from kvnode.acquaintances import Acquaintances
from kvnode.address import listen_failed
from kvnode.admin import AdminServer, hold
from kvnode.admission.allocator import find_trim
from kvnode.admission.budget import Budget
from kvnode.admission.departure import Turn
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.memory import memory_limit_bytes
from kvnode.admission.relief import Relief
from kvnode.config.serve import ServeConfig
from kvnode.directory import DataDirectory
from kvnode.errors import ExitCode, FatalError, MemoryPressure
from kvnode.leaving import Leaving
from kvnode.node.control import NodeControl
from kvnode.node.draining import Draining
from kvnode.node.faults import is_disk_failure
from kvnode.node.log_writer import ThreadWorker
from kvnode.node.node import Node
from kvnode.node.recovery import Recovered
from kvnode.node.strain import RUNG_WAITS
from kvnode.obs.collector import Collector
from kvnode.obs.log import LogWriter, event, start_logging
from kvnode.report import NodeReport
from kvnode.resp.listener import RespServer
from kvnode.starting import (
    be_admitted,
    founders,
    node_identity,
    open_directory,
    pause_start,
    plan_recovery,
    recover_in,
    resp_config,
    warn_of_differences,
)
from kvnode.watchdog import MemoryWatchdog
from kvnode.workers.pool import WorkerPool
from kvnode.workers.size import usable_cores, worker_count
from wal.fs import FileSystem, PosixFileSystem

_log = logging.getLogger("kvnode")

HELD_CODES = frozenset((ExitCode.CORRUPT, ExitCode.IO_ERROR, ExitCode.WRONG_CONFIGURATION))
"""With KVNODE_HOLD_ON_FATAL the process stays for these, since a restart cannot help."""


def run(config: ServeConfig, file_system: FileSystem | None = None) -> int:
    """Run a node until it is asked to stop or must leave.

    Args:
        file_system: what the log writes to; tests hand in one that misbehaves.

    Returns:
        the process's exit code; under memory pressure the process ends here.
    """
    os.umask(0o077)  # whatever the node writes is its user's own business
    failure: FatalError | None = None
    with start_logging(config.log_level, config.log_format) as logs:
        server = Server(config, file_system or PosixFileSystem(), logs)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                failure = runner.run(server.main())
        finally:
            server.release(keep_watch=isinstance(failure, MemoryPressure))
    if isinstance(failure, MemoryPressure):
        # Python's own way out frees every object and joins threads; both take their time.
        os._exit(failure.exit_code)
    if failure is None:
        return ExitCode.OK
    if config.hold_on_fatal and failure.exit_code in HELD_CODES:
        return hold(config.admin, failure, config.node)
    return failure.exit_code


class Server:
    """One run of a node, from the empty process to its exit code."""

    def __init__(self, config: ServeConfig, file_system: FileSystem, logs: LogWriter) -> None:
        self._config = config
        self._file_system = file_system
        self._directory: DataDirectory | None = None
        self._collector = Collector()
        self._report = NodeReport(config, logs)
        self._leaving = Leaving(self._report)
        self._ledger = self._report.ledger = Ledger(Budget.of(memory_limit_bytes()))
        self._watching: asyncio.Task[None] | None = None
        self._relief: Relief | None = None
        self._worker: ThreadWorker | None = None
        self._node: Node | None = None
        self._resp: RespServer | None = None

    # --- the whole run ----------------------------------------------------------------------------

    async def main(self) -> FatalError | None:
        """Run; return what ended the node, or None when it was asked to stop."""
        failure: FatalError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                await self._run(group)
        except* MemoryPressure as pressure:
            # It wins over whatever else failed while everything was being cancelled.
            failure = _first(pressure)
        except* MemoryError as refused:
            # With a watchdog it is its fence that refuses; without one nobody has asked for that.
            if failure is not None or self._report.watchdog is None:
                failure = self._note_bugs(failure, refused)
            else:
                failure = MemoryPressure("an allocation went beyond the memory limit")
        except* FatalError as fatal:
            failure = failure or _first(fatal)
            for error in _all(fatal):
                if error is not failure:
                    event(_log, logging.WARNING, "failed while leaving", why=str(error))
        except* Exception as bugs:  # noqa: BLE001 - logged in full, and the process ends with 1
            failure = self._note_bugs(failure, bugs)
        self._leaving.record(failure)
        return failure

    def _note_bugs(
        self, failure: FatalError | None, bugs: BaseExceptionGroup[Exception]
    ) -> FatalError:
        """Log them in full; they are why the node ends unless something else was before."""
        if failure is not None:
            _log.warning("failed while leaving", exc_info=bugs)
            return failure
        _log.error("a bug ended the node", exc_info=bugs)
        return FatalError(repr(next(_all(bugs))))

    async def _run(self, group: asyncio.TaskGroup) -> None:
        asked = self._leaving.asked
        for warning in self._config.warnings:
            event(_log, logging.WARNING, warning)
        self._leaving.listen_to_signals()
        asyncio.get_running_loop().set_exception_handler(self._on_loop_exception)
        self._make_watchdog()
        self._directory = self._report.directory = open_directory(self._config)
        warn_of_differences(self._config, self._directory.identity)
        self._directory.keep_ballast()
        self._report.bind_process()
        self._relieve()
        admin = AdminServer(self._report)
        await admin.start(self._config.admin)
        try:
            # The watchdog begins behind the pause: it would end a process that is too large from
            # the beginning, and make a hot loop of it, though nothing grows meanwhile.
            await pause_start(self._report, asked)
            self._watch(group)
            if not asked.is_set() and await be_admitted(self._config, self._directory, asked):
                node, resp = await self._start(await self._recover())
                running = group.create_task(node.run(), name="node")
                await asked.wait()
                await self._leaving.take_leave(node, resp)
                running.cancel()
        finally:
            await self._close(admin)
        if self._watching is not None:
            self._watching.cancel()

    def _on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody awaits: a socket's own trouble is noted, all else is the end."""
        error = context.get("exception")
        if error is None or (isinstance(error, OSError) and not is_disk_failure(error)):
            event(_log, logging.WARNING, context["message"], error=repr(error))
            return
        loop.default_exception_handler(context)
        if self._node is not None:
            self._node.fail(error)

    # --- starting ---------------------------------------------------------------------------------

    def _relieve(self) -> None:
        watchdog = self._report.watchdog
        if watchdog is not None:
            self._relief = Relief(
                self._report.pressure,
                asyncio.get_running_loop(),
                find_trim(),
                level=lambda: watchdog.latest.total_bytes if watchdog.latest else 0,
                rung_bytes=watchdog.rungs_begin[Rung.SHED],
            )

    def _make_watchdog(self) -> None:
        self._report.watchdog = MemoryWatchdog.from_config(
            self._config,
            workers=self._report.worker_pids,
            in_flight_bytes=self._report.in_flight_bytes,
            pressure=self._report.pressure,
            turn=self._turn,
            on_wait=self._wait_for_turn,
            before_exit=lambda: self._leaving.note(
                ExitCode.MEMORY, "memory pressure; stop got stuck"
            ),
        )

    def _watch(self, group: asyncio.TaskGroup) -> None:
        watchdog = self._report.watchdog
        if watchdog is not None:
            self._watching = group.create_task(watchdog.run(), name="watchdog")

    def _turn(self) -> Turn | None:
        """Whether the other nodes can do without this one; called in the watchdog's thread."""
        return self._node.succession.last_turn if self._node is not None else None

    def _wait_for_turn(self, is_waiting: bool) -> None:
        """The node has to leave, and the others hear of it; or it can stay after all."""
        if self._node is not None:
            self._node.condition.depart(RUNG_WAITS if is_waiting else 0)
        if self._resp is not None and is_waiting:
            self._resp.clients.drop()

    async def _recover(self) -> Recovered:
        assert self._directory is not None
        plan = plan_recovery(self._config, self._directory.identity, self._ledger.budget)
        self._worker = ThreadWorker(asyncio.get_running_loop(), "wal")
        return await recover_in(self._worker, plan, self._file_system, self._report.wal_observer)

    async def _start(self, recovered: Recovered) -> tuple[Node, RespServer]:
        assert self._directory is not None
        assert self._worker is not None
        config, identity = self._config, self._directory.identity
        node = self._node = self._report.node = Node(
            identity=node_identity(config, identity),
            founders=founders(identity),
            found=recovered,
            worker=self._worker,
            loop=asyncio.get_running_loop(),
            rng=random.Random(),
            wall=time.time,
            directory=Acquaintances(self._directory),
            snapshot_log_bytes=config.snapshot_log_bytes,
            data_bytes_max=config.max_data_bytes,
            election_ms=config.election_ms_min,
            lease_reads=config.lease_reads,
            elapsed=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            remove_silent_ms=config.remove_dead_after_ms,
            collector=self._collector,
            ledger=self._ledger,
            pressure=self._report.pressure,
        )
        self._employ_workers(node)
        self._collector.settle()  # twenty milliseconds, so before the first tick
        await node.start(config.peer_listen.host, config.peer_listen.port)
        self._report.membership = Draining(node, self._report.room)
        self._report.library = recovered.library
        self._report.bind_node(node)
        control = NodeControl(node)
        resp = self._resp = self._report.resp = RespServer(
            node,
            resp_config(config, identity),
            control=control,
            request_stop=self._leaving.asked.set,
            pressure=self._report.pressure,
            ledger=self._ledger,
        )
        node.heavy.admits = resp.doorstep.door.admits_heavy
        self._report.bind_clients(resp)
        try:
            await resp.start(config.listen.host, config.listen.port)
        except OSError as error:
            raise listen_failed("--listen", config.listen, error) from error
        self._report.is_started = True
        self._report.log_start(recovered)
        return node, resp

    def _employ_workers(self, node: Node) -> None:
        """Heavy reads leave the loop. No process is started before there is one."""
        workers = self._report.workers = WorkerPool(
            node.heavy,
            asyncio.get_running_loop(),
            size=worker_count(usable_cores(), self._ledger.budget),
            hash_key=node.machine.hash_key,
            ledger=self._ledger,
        )
        node.heavy.employ(workers)
        self._report.bind_workers(workers)

    # --- stopping ---------------------------------------------------------------------------------

    async def _close(self, admin: AdminServer) -> None:
        if self._relief is not None:
            self._relief.close()
        await self._leaving.close(is_under_pressure=self._is_under_pressure())
        admin.close()

    def _is_under_pressure(self) -> bool:
        watching = self._watching
        if watching is None or not watching.done() or watching.cancelled():
            return False
        return isinstance(watching.exception(), MemoryPressure)

    def release(self, *, keep_watch: bool = False) -> None:
        """Give the data directory back and let the threads go that would end the process.

        `keep_watch`: the watchdog's goes on, to end a process that does not end by itself.
        """
        self._leaving.drop_deadline()
        if self._report.watchdog is not None and not keep_watch:
            self._report.watchdog.close()
        if self._directory is not None:
            self._directory.close()


def _first(group: BaseExceptionGroup[FatalError]) -> FatalError:
    error = next(_all(group))
    assert isinstance(error, FatalError)
    return error


def _all(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors of a group, and of those in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _all(error)
        else:
            yield error
