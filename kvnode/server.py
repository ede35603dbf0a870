"""The composition root: the one file that knows everything.

`run` starts a node and returns its exit code. A start goes: data directory (lock, identity) →
memory watchdog → log and store (in the log's thread, so that watchdog and admin port work during a
long replay) → peers → clients. A stop goes the same way back, each step bounded.

All tasks live in one TaskGroup. A `FatalError` in any of them, the watchdog's included, cancels
the others, and its exit code becomes the process's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from kvnode import __version__
from kvnode.acquaintances import Acquaintances
from kvnode.address import listen_failed
from kvnode.admin import AdminServer, hold
from kvnode.admission.budget import Budget
from kvnode.admission.departure import Turn
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.memory import memory_limit_bytes
from kvnode.admission.relief import Relief, find_trim
from kvnode.config import ServeConfig, parse_join
from kvnode.directory import DataDirectory, read_identity
from kvnode.errors import ExitCode, FatalError, MemoryPressure
from kvnode.exits import failed_starts, start_pause_seconds
from kvnode.identity import cluster_number, node_id
from kvnode.limits import (
    MIB,
    STOP_DRAIN_SECONDS_MAX,
    STOP_GRACE_SECONDS,
    STOP_HAND_OVER_SECONDS_MAX,
    STOP_MEMORY_HAND_OVER_SECONDS_MAX,
    STOP_MEMORY_SECONDS_MAX,
    STOP_SECONDS_MAX,
)
from kvnode.node.control import NodeControl
from kvnode.node.faults import is_disk_failure
from kvnode.node.hello import JoinRequest
from kvnode.node.joining import join
from kvnode.node.log_writer import ThreadWorker
from kvnode.node.node import Node
from kvnode.node.recovery import Recovered, RecoveryPlan, recover
from kvnode.node.roster import founder
from kvnode.node.status import NodeIdentity
from kvnode.obs.collector import Collector
from kvnode.obs.log import LogWriter, event, start_logging
from kvnode.report import NodeReport
from kvnode.resp.config import RespConfig
from kvnode.resp.listener import RespServer
from kvnode.store.members import Member
from kvnode.store.ops import LEVEL
from kvnode.watchdog import MemoryWatchdog
from kvnode.workers.pool import WorkerPool
from kvnode.workers.size import usable_cores, worker_count
from wal.fs import FileSystem, PosixFileSystem
from wal.options import Options

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
        self._stop = asyncio.Event()
        self._directory: DataDirectory | None = None
        self._collector = Collector()
        self._report = NodeReport(config, logs)
        self._ledger = self._report.ledger = Ledger(Budget.of(memory_limit_bytes()))
        self._watching: asyncio.Task[None] | None = None
        self._deadline: threading.Timer | None = None
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
        self._record_exit(failure)
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
        for warning in self._config.warnings:
            _warn(warning)
        self._listen_to_signals()
        asyncio.get_running_loop().set_exception_handler(self._on_loop_exception)
        self._make_watchdog()
        self._directory = self._open_directory()
        self._report.directory = self._directory
        self._warn_of_differences()
        self._directory.keep_ballast()
        self._report.bind_process()
        self._relieve()
        admin = AdminServer(self._report)
        await admin.start(self._config.admin)
        try:
            # The watchdog begins behind the pause: it would end a process that is too large from
            # the beginning, and make a hot loop of it, though nothing grows meanwhile.
            await self._pause_start()
            self._watch(group)
            if not self._stop.is_set() and await self._is_admitted():
                node = await self._start(await self._recover())
                running = group.create_task(node.run(), name="node")
                await self._stop.wait()
                await self._stop_gracefully(node)
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

    def _open_directory(self) -> DataDirectory:
        config = self._config
        return DataDirectory.open(
            config.data,
            node=self._name(),
            cluster_id=config.cluster_id,
            members={name: str(address) for name, address in config.cluster.items()},
            join=",".join(map(str, config.join)),
            replaces=config.replaces,
        )

    def _name(self) -> str:
        """A name that nobody gave is that of the directory, or with --join one that is free."""
        config = self._config
        if config.origins["node"] != "default":
            return config.node
        known = read_identity(config.data)
        if known is not None:
            return known.node
        return f"node-{secrets.token_hex(3)}" if config.join else config.node

    def _warn_of_differences(self) -> None:
        """`--cluster` is for bootstrapping: what else it says now does not count."""
        assert self._directory is not None
        told, known = self._config.cluster, self._directory.identity.members
        if self._config.origins["cluster"] != "default" and known:
            texts = {name: str(address) for name, address in told.items()}
            if texts != known:
                _warn("--cluster differs from the first start's; the log has the members")

    async def _pause_start(self) -> None:
        """Wait, if the starts before this one took more memory than there is, and say so.

        The admin port answers meanwhile. A request to stop ends the waiting.
        """
        watchdog = self._report.watchdog
        assert self._directory is not None
        if watchdog is None:
            return
        now_ms = int(time.time() * 1000)
        failed = failed_starts(self._directory.exits, watchdog.threshold_bytes, now_ms)
        pause_s = start_pause_seconds(failed)
        if not pause_s:
            return
        mib = watchdog.threshold_bytes // MIB
        self._report.delay = (
            f"starting alone takes more than the {mib} MiB that the memory threshold allows, "
            f"{failed} times in a row: waiting {pause_s} s before the next try"
        )
        event(
            _log,
            logging.WARNING,
            "starting alone takes more memory than there is: waiting before the next try",
            failed_starts=failed,
            pause_s=pause_s,
            threshold_bytes=watchdog.threshold_bytes,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
        self._report.delay = ""

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
            on_wait=self._drop_clients,
            before_exit=lambda: self._note_exit(ExitCode.MEMORY, "memory pressure; stop got stuck"),
        )

    def _watch(self, group: asyncio.TaskGroup) -> None:
        watchdog = self._report.watchdog
        if watchdog is not None:
            self._watching = group.create_task(watchdog.run(), name="watchdog")

    def _turn(self) -> Turn:
        """Whether the other nodes can do without this one; called in the watchdog's thread."""
        return self._node.succession.last_turn if self._node is not None else Turn()

    def _drop_clients(self) -> None:
        if self._resp is not None:
            self._resp.clients.drop()

    async def _recover(self) -> Recovered:
        assert self._directory is not None
        loop = asyncio.get_running_loop()
        config, identity = self._config, self._directory.identity
        plan = RecoveryPlan(
            data=config.data,
            cluster_number=cluster_number(identity.origin),
            node_id=identity.node_id,
            founders={member.node_id: member for member in self._founders()},
            is_alone=not identity.has_others,
            boot_id=identity.incarnation & 0xFFFF_FFFF,
            heartbeat_ms=config.heartbeat_ms,
            election_ms=(config.election_ms_min, config.election_ms_max),
            wal_options=Options(repair=config.wal_repair),
            lease_reads=config.lease_reads,
            budget=self._ledger.budget,
        )
        rng = random.Random()
        self._worker = ThreadWorker(loop, "wal")
        result: asyncio.Future[Recovered] = loop.create_future()
        found: list[Recovered] = []

        def done(error: BaseException | None) -> None:
            if result.cancelled():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(found[0])

        self._worker.submit(
            lambda: found.append(
                recover(plan, self._file_system, self._report.wal_observer, rng, _warn)
            ),
            done,
        )
        return await result

    async def _is_admitted(self) -> bool:
        """Become a member of the cluster that `--join` names, unless this node is one already.

        Returns:
            False if it was asked to stop before.
        """
        assert self._directory is not None
        config, identity = self._config, self._directory.identity
        if identity.is_admitted:
            return True
        event(_log, logging.INFO, "asking to join", peers=identity.join, node=identity.node)
        request = JoinRequest(
            identity.node,
            identity.replaces,
            str(config.advertise_peer),
            str(config.advertise_client),
            identity.storage_id,
            config.promote,
            LEVEL,
        )
        asking = asyncio.ensure_future(join(parse_join(identity.join), request))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((asking, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return False
            answer = asking.result()
        finally:
            asking.cancel()
            stopped.cancel()
        self._directory.admit(answer.node_id, answer.cluster_id, answer.origin)
        event(_log, logging.INFO, "joined", cluster_id=answer.cluster_id, why=answer.text)
        return True

    def _founders(self) -> tuple[Member, ...]:
        assert self._directory is not None
        identity = self._directory.identity
        return tuple(
            founder(node_id(identity.origin, name), name, address)
            for name, address in sorted(identity.members.items())
        )

    async def _start(self, recovered: Recovered) -> Node:
        assert self._directory is not None
        assert self._worker is not None
        config, identity = self._config, self._directory.identity
        node = self._node = self._report.node = Node(
            identity=NodeIdentity(
                node_id=identity.node_id,
                name=identity.node,
                cluster_id=identity.cluster_id,
                storage_id=identity.storage_id,
                incarnation=identity.incarnation,
                version=__version__,
                client_address=str(config.advertise_client),
                peer_address=str(config.advertise_peer),
                origin=identity.origin,
            ),
            founders=self._founders(),
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
        self._report.membership = node.changes
        self._report.library = recovered.library
        self._report.bind_node(node)
        control = NodeControl(node)
        resp = self._resp = self._report.resp = RespServer(
            node,
            self._resp_config(),
            control=control,
            request_stop=self._stop.set,
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
        return node

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

    def _resp_config(self) -> RespConfig:
        assert self._directory is not None
        config, identity = self._config, self._directory.identity
        return RespConfig(
            password=config.password,
            clients_max=config.max_clients,
            connections_per_peer_max=config.max_connections_per_peer,
            version=__version__,
            node=identity.node,
            run_id=f"{identity.storage_id:016x}{identity.node_id:016x}{identity.incarnation:08x}",
            port=config.listen.port,
        )

    # --- stopping ---------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            # Crash safety never depends on grace, so a second request is obeyed at once.
            self._record_exit(None)
            os._exit(ExitCode.OK)
        event(_log, logging.INFO, "stopping", signal=number.name)
        self._stop.set()

    async def _stop_gracefully(self, node: Node) -> None:
        """The long way out, in the order that loses nothing."""
        self._leave_at_the_latest(STOP_SECONDS_MAX, ExitCode.OK)
        self._report.is_stopping = True
        assert self._resp is not None
        if not node.roster.is_alone:
            await asyncio.sleep(STOP_GRACE_SECONDS)
        self._resp.stop_accepting()
        await _hand_over(node, STOP_HAND_OVER_SECONDS_MAX)
        await self._resp.drain(STOP_DRAIN_SECONDS_MAX)
        await node.finish_in_flight(STOP_DRAIN_SECONDS_MAX)

    async def _close(self, admin: AdminServer) -> None:
        """Both ways end here; under memory pressure, or after a failure, it is all there is."""
        if self._relief is not None:
            self._relief.close()
        graceful = self._stop.is_set()
        if not graceful and not self._is_under_pressure():
            # Under pressure the watchdog itself bounds what follows.
            self._leave_at_the_latest(STOP_MEMORY_SECONDS_MAX, self._code_so_far())
        if self._resp is not None:
            self._resp.close()
        if self._node is not None:
            if self._is_under_pressure():
                with contextlib.suppress(Exception):  # an election does it, too
                    await _hand_over(self._node, STOP_MEMORY_HAND_OVER_SECONDS_MAX)
            await self._node.close(clean=graceful)
        admin.close()

    def _leave_at_the_latest(self, seconds: float, code: int) -> None:
        """However stuck a disk, a peer or a client is, the process ends."""
        self._deadline = threading.Timer(seconds, os._exit, args=(code,))
        self._deadline.daemon = True
        try:
            self._deadline.start()
        except RuntimeError:  # no memory for a thread: then at once
            self._note_exit(ExitCode(code), "there was no memory for an orderly stop")
            os._exit(code)

    def _code_so_far(self) -> ExitCode:
        """The exit code, should even the short way out get stuck."""
        node = self._node
        if node is not None and node.failure.done() and not node.failure.cancelled():
            error = node.failure.exception()
            if isinstance(error, FatalError):
                return error.exit_code
            if isinstance(error, MemoryError) and self._report.watchdog is not None:
                return ExitCode.MEMORY
        return ExitCode.BUG

    def _is_under_pressure(self) -> bool:
        watching = self._watching
        if watching is None or not watching.done() or watching.cancelled():
            return False
        return isinstance(watching.exception(), MemoryPressure)

    def _record_exit(self, failure: FatalError | None) -> None:
        if failure is None:
            event(_log, logging.INFO, "left", code=0)
            self._note_exit(ExitCode.OK, "asked to stop")
        else:
            code = failure.exit_code
            event(_log, logging.ERROR, "leaving", code=int(code), why=str(failure))
            self._note_exit(code, str(failure))

    def _note_exit(self, code: ExitCode, reason: str) -> None:
        if self._directory is None:
            return
        watchdog, threshold_bytes = self._report.watchdog, 0
        if code == ExitCode.MEMORY and watchdog is not None and not self._report.has_started:
            threshold_bytes = watchdog.threshold_bytes
        self._directory.record_exit(code, reason, start_threshold_bytes=threshold_bytes)

    def release(self, *, keep_watch: bool = False) -> None:
        """Give the data directory back and let the threads go that would end the process.

        `keep_watch`: the watchdog's goes on, to end a process that does not end by itself.
        """
        if self._deadline is not None:
            self._deadline.cancel()
        if self._report.watchdog is not None and not keep_watch:
            self._report.watchdog.close()
        if self._directory is not None:
            self._directory.close()


async def _hand_over(node: Node, seconds: float) -> None:
    """Give leadership away, if this node has it and another one can take it in time."""
    if await node.succession.hand_over(seconds):
        event(_log, logging.INFO, "leadership handed over", leader=node.status().leader)


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


def _warn(text: str) -> None:
    event(_log, logging.WARNING, text)
