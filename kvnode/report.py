"""What the node tells operators: readiness, /status, /hash and metrics.

The parts count in plain integers; this module knows where each figure lives. It is given the parts
one by one while the node starts, so that the admin port can answer from the first moment on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from kvnode import __version__
from kvnode.admin import Check
from kvnode.admission.allocator import find_free_bytes
from kvnode.admission.ladder import Rung
from kvnode.admission.ledger import Ledger
from kvnode.admission.pressure import Pressure
from kvnode.config.serve import ServeConfig
from kvnode.directory import DataDirectory
from kvnode.node.node import Node
from kvnode.node.parting import Room
from kvnode.node.recovery import Recovered
from kvnode.node.snapshot_library import SnapshotLibrary
from kvnode.obs.gc_pauses import GcPauses
from kvnode.obs.histogram import SecondsHistogram
from kvnode.obs.load import DecayingRate
from kvnode.obs.log import LogWriter, event
from kvnode.obs.metrics import Metrics
from kvnode.resp.commands.command import READ, WRITE
from kvnode.resp.listener import RespServer
from kvnode.service import (
    ChangeAnswer,
    ChangeRequest,
    Membership,
    MemberStatus,
    Verdict,
)
from kvnode.watchdog import MemoryWatchdog
from kvnode.workers.pool import WorkerPool
from raft.types import NONE, Role
from wal import crc
from wal.observer import RepairReport

_log = logging.getLogger("kvnode")

Labelled = dict[tuple[str, ...], float]
"""One value per tuple of label values."""

_CRC_IS_NATIVE = crc.BACKEND != "crcmod-python"


class WalObserver:
    """Watches the log. Called in the log's thread: it counts and logs, nothing else."""

    def __init__(self, metrics: Metrics) -> None:
        self.repairs = 0
        self._metrics = metrics

    def on_repair(self, report: RepairReport) -> None:
        """A torn tail was cut off: never in silence."""
        self.repairs += 1
        event(_log, logging.WARNING, "WAL tail truncated, repairing", **_repair_fields(report))

    def on_state_repaired(self, path: Path, reason: str) -> None:
        """One of the two state files was written again from the other."""
        event(_log, logging.WARNING, "state file rewritten", path=path, why=reason)

    def on_sync(self, seconds: float, _size: int) -> None:
        """A group became durable."""
        self._metrics.wal_fsync_seconds.observe(seconds)


def _repair_fields(report: RepairReport) -> dict[str, object]:
    low, high = report.indexes_dropped or (None, None)
    return {
        "directory": str(report.directory),
        "segment": report.segment,
        "offset": report.offset,
        "bytes_dropped": report.bytes_dropped,
        "first_index_dropped": low,
        "last_index_dropped": high,
        "kind": report.kind,
        "error": report.error,
        "evidence": str(report.evidence),
    }


class NodeReport:
    """Facts about one run of a node (`kvnode.admin.AdminSource`)."""

    def __init__(self, config: ServeConfig, logs: LogWriter) -> None:
        self._config = config
        self._logs = logs
        self._started_at = time.monotonic()
        self.metrics_registry = Metrics()
        self.wal_observer = WalObserver(self.metrics_registry)
        self.gc_pauses = GcPauses()
        self.directory: DataDirectory | None = None
        self.watchdog: MemoryWatchdog | None = None
        self.pressure = Pressure()
        self.ledger = Ledger()
        self._allocator_free_bytes = find_free_bytes()
        self.node: Node | None = None
        self.membership: Membership | None = None
        """Who changes the membership, once the node has started."""
        self.resp: RespServer | None = None
        self.library: SnapshotLibrary | None = None
        self.workers: WorkerPool | None = None
        self.is_started = False
        self.delay = ""
        """Why the start does not go on yet, in a sentence; "" while it does."""
        self.is_stopping = False
        self._slices: dict[tuple[str, ...], SecondsHistogram] = {}
        self._commands = DecayingRate(self._started_at)
        self._reads = DecayingRate(self._started_at)
        self._writes = DecayingRate(self._started_at)

    @property
    def password(self) -> bytes | None:
        """What changes on the admin port need; None: nothing."""
        return self._config.password

    @property
    def has_started(self) -> bool:
        """All that was to be brought back is there: this node's session is behind it in the log."""
        return self.node is not None and self.node.proposer.incarnation > 0

    @property
    def is_draining(self) -> bool:
        """Somebody is about to stop this node."""
        return self.node is not None and self.node.strains.own.is_draining

    # --- readiness --------------------------------------------------------------------------------

    def checks(self) -> list[Check]:
        """What must hold before clients should come here."""
        node = self.node
        if node is None:
            return [("started", False, self.delay or "the log is being read")]
        leader = node.status().leader
        return [
            ("started", self.is_started, "" if self.is_started else "starting"),
            ("serving", not self.is_stopping, "stopping" if self.is_stopping else ""),
            ("draining", not self.is_draining, "asked to" if self.is_draining else ""),
            ("leader", leader is not None, leader or "no leader is known"),
            ("log", not node.writer.is_full, "no room" if node.writer.is_full else ""),
            ("engine", not node.applier.is_full, "no room" if node.applier.is_full else ""),
            ("session", node.proposer.incarnation > 0, "this node's session with the cluster"),
            ("memory", self.pressure.rung < Rung.REFUSE, self._pressure_detail()),
        ]

    def _pressure_detail(self) -> str:
        rung = self.pressure.rung
        return f"scarce, on the rung {rung.name.lower()}" if rung else ""

    # --- status -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The /status document."""
        config = self._config
        document: dict[str, Any] = {
            "node": self._name(),
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "ready": all(passed for _, passed, _ in self.checks()),
            "draining": self.is_draining,
            "insecure": config.insecure,
            "crc_backend": crc.BACKEND,
            "memory": self._memory(),
            "last_exit": self._last_exit(),
            "clients": len(self.resp.clients) if self.resp else 0,
            "disk": self.room()._asdict(),
            "load": self._load(),
        }
        if self.delay:
            document["start_delayed"] = self.delay
        if self.resp is not None:
            document["costliest"] = self.resp.costs.report()
        if self.node is not None:
            document |= self._consensus(self.node)
            document["wal"] = self._wal(self.node)
            document["snapshot"] = self._snapshot(self.node)
            document["heavy"] = self._heavy(self.node)
        return document

    def _consensus(self, node: Node) -> dict[str, Any]:
        status = node.status()
        return {
            "node_id": f"{status.node_id:016x}",
            "cluster_id": status.cluster_id,
            "role": status.role,
            "leader": status.leader,
            "term": status.term,
            "commit": status.commit,
            "applied": status.applied,
            "last_index": status.last_index,
            "recovering": status.recovering,
            "heals_at": status.heals_at,
            "voters_missing": status.voters_missing,
            "level": status.level,
            "members": [_member_document(member) for member in status.members],
        }

    def room(self) -> Room:
        """Of the file system that has the data, as df counts it: without what is root's alone."""
        try:
            found = os.statvfs(self._config.data)
        except OSError:
            return Room(0, 0)
        used = found.f_blocks - found.f_bfree
        return Room(found.f_bavail * found.f_frsize, (used + found.f_bavail) * found.f_frsize)

    def _load(self) -> dict[str, float]:
        """How busy this node is: what an operator compares before moving clients or leadership."""
        resp, node, now = self.resp, self.node, time.monotonic()
        tallies = resp.stats.tallies if resp else []
        by_kind = {READ: 0, WRITE: 0}
        for tally in tallies:
            if tally.command.kind in by_kind:
                by_kind[tally.command.kind] += tally.calls
        commands = sum(tally.calls for tally in tallies)
        return {
            "commands_per_second": round(self._commands.look(commands, now), 1),
            "reads_per_second": round(self._reads.look(by_kind[READ], now), 1),
            "writes_per_second": round(self._writes.look(by_kind[WRITE], now), 1),
            "clients": len(resp.clients) if resp else 0,
            "loop_lag_ms": round(node.condition.lag.latest_s * 1000, 3) if node else 0.0,
            "in_flight_bytes": self.in_flight_bytes(),
        }

    def _wal(self, node: Node) -> dict[str, Any]:
        repair, health = node.wal.last_repair, node.condition.disk_health
        return {
            "segments": node.wal.segments,
            "bytes": node.wal.bytes,
            "last_repair": None if repair is None else _repair_fields(repair),
            "slow": health.is_slow,
            "slow_syncs": health.slow_syncs,
            "sync_wait_ms": round(node.condition.sync_wait_s * 1000),
        }

    def _heavy(self, node: Node) -> dict[str, Any]:
        workers, writes = self.workers, node.heavy_writes
        return {
            "workers": len(workers.pids()) if workers else 0,
            "running": workers.running if workers else 0,
            "waiting": workers.waiting if workers else 0,
            "reads": dict(workers.stats.promoted) if workers else {},
            "reads_refused": workers.stats.refused if workers else 0,
            "writes": writes.admitted,
            "writes_refused": writes.refused,
        }

    def _snapshot(self, node: Node) -> dict[str, Any]:
        snapshots = node.snapshots
        newest = snapshots.newest
        return {
            "index": newest.index if newest else 0,
            "bytes": newest.size if newest else 0,
            "saved_at_s": snapshots.saved_at_s,
            "in_progress": snapshots.is_busy,
            "last_failure": snapshots.last_failure,
        }

    def _name(self) -> str:
        return self.directory.identity.node if self.directory else self._config.node

    def worker_pids(self) -> tuple[int, ...]:
        """Processes that work for this one; called in the watchdog's thread."""
        snapshots = tuple(self.library.workers) if self.library else ()
        return snapshots + (self.workers.pids() if self.workers else ())

    def _memory(self) -> dict[str, Any]:
        document: dict[str, Any] = dict(self._memory_figures())
        document["in_flight"] = self.ledger.by_kind()
        document["in_flight_largest"] = self.ledger.largest()
        document["budget"] = asdict(self.ledger.budget)
        if self.watchdog is not None:
            document["rung"] = self.pressure.rung.name.lower()
            document["rungs_begin_bytes"] = {
                rung.name.lower(): begin for rung, begin in self.watchdog.rungs_begin.items()
            }
        return document

    def _memory_figures(self) -> dict[str, int]:
        figures = {
            "in_flight_bytes": self.in_flight_bytes(),
            "allocator_free_bytes": self._allocator_free_bytes(),
        }
        watchdog = self.watchdog
        if watchdog is not None:
            figures |= {
                "limit_bytes": watchdog.limit_bytes,
                "threshold_bytes": watchdog.threshold_bytes,
                "interval_ms": watchdog.interval_ms,
            }
            if watchdog.latest is not None:
                figures |= {
                    "rss_anon_bytes": watchdog.latest.rss_anon_bytes,
                    "workers_bytes": watchdog.latest.workers_bytes,
                    "cgroup_bytes": watchdog.latest.cgroup_bytes,
                }
        return figures

    def _last_exit(self) -> dict[str, Any] | None:
        last = self.directory.last_exit if self.directory else None
        if last is None:
            return None
        return {"code": last.code, "reason": last.reason, "time_ms": last.time_ms}

    def hash(self, index: int | None, /) -> tuple[int, str] | None:
        """The state hash at an applied index, or the newest."""
        return self.node.applier.hash_at(index) if self.node else None

    def change(
        self, request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        """Ask the cluster for a change of its membership."""
        if self.membership is not None:
            return self.membership.request_change(request, done)
        answer = ChangeAnswer(Verdict.AGAIN, "this node has not started yet")
        return asyncio.get_running_loop().call_soon(done, answer).cancel

    def in_flight_bytes(self) -> int:
        """All that is held for clients and peers; called in the watchdog's thread, too."""
        return self.ledger.total

    def log_start(self, recovered: Recovered) -> None:
        """The start-up line: who, where, and what is in effect."""
        config, node = self._config, self.node
        assert node is not None
        event(
            _log,
            logging.INFO,
            "started",
            version=__version__,
            node=node.identity.name,
            node_id=f"{node.identity.node_id:016x}",
            cluster_id=node.identity.cluster_id,
            storage_id=f"{node.identity.storage_id:016x}",
            incarnation=node.identity.incarnation,
            listen=config.listen,
            peer_listen=config.peer_listen,
            admin=config.admin,
            members=len(node.roster.members),
            data=config.data,
            heartbeat_ms=config.heartbeat_ms,
            election_ms=f"{config.election_ms_min}-{config.election_ms_max}",
            max_clients=config.max_clients,
            max_connections_per_peer=config.max_connections_per_peer,
            memory_threshold_bytes=self.watchdog.threshold_bytes if self.watchdog else 0,
            memory_interval_ms=self.watchdog.interval_ms if self.watchdog else 0,
            crc_backend=crc.BACKEND,
            engine="reused" if recovered.engine_reused else "rebuilt from the log",
            last_index=node.raft.last_index,
            applied=node.machine.applied,
            password="yes" if config.password else "no",
        )
        if config.insecure:
            event(_log, logging.WARNING, "INSECURE: reachable without a password, as asked for")
        if not _CRC_IS_NATIVE:
            event(_log, logging.WARNING, "CRC-32C in pure Python: 35 times slower than native code")

    # --- metrics ----------------------------------------------------------------------------------

    def metrics(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return self.metrics_registry.render()

    def bind_process(self) -> None:
        """Metrics that exist from the start of the process on."""
        self.gc_pauses.start()
        bind, config = self.metrics_registry.bind, self._config
        bind("kvnode_ready", lambda: float(all(passed for _, passed, _ in self.checks())))
        bind("kvnode_draining", lambda: float(self.is_draining))
        bind("kvnode_insecure", lambda: float(config.insecure))
        bind("kvnode_crc_accelerated", _crc_accelerated)
        bind("kvnode_exits_total", self._exit_counts)
        bind("kvnode_wal_repairs_total", lambda: self.wal_observer.repairs)
        bind("kvnode_in_flight_bytes", self._in_flight)
        pauses = self.gc_pauses.pauses
        self.metrics_registry.bind_histogram("kvnode_gc_pause_seconds", {(): pauses})
        bind("kvnode_gc_collections_total", lambda: pauses.count)
        bind("kvnode_log_records_dropped_total", lambda: self._logs.dropped)
        self._bind_memory()

    def _exit_counts(self) -> Labelled:
        counts = self.directory.exit_counts if self.directory else {}
        return {(code,): float(count) for code, count in counts.items()}

    def _in_flight(self) -> Labelled:
        return {(kind,): float(size) for kind, size in self.ledger.by_kind().items()}

    def _bind_memory(self) -> None:
        bind = self.metrics_registry.bind
        for figure in (
            *("rss_anon_bytes", "workers_bytes", "cgroup_bytes"),
            *("threshold_bytes", "limit_bytes", "allocator_free_bytes"),
        ):
            bind(f"kvnode_memory_{figure}", partial(self._memory_figure, figure))
        bind("kvnode_memory_rung", lambda: self.pressure.rung)
        bind("kvnode_memory_rung_entered_total", self._rungs_entered)

    def _memory_figure(self, name: str) -> float:
        return self._memory_figures().get(name, 0)

    def _rungs_entered(self) -> Labelled:
        entered = self.pressure.entered
        return {(rung.name.lower(),): float(times) for rung, times in entered.items()}

    def bind_node(self, node: Node) -> None:
        """Metrics of consensus, log, store and peers."""
        bind, raft = self.metrics_registry.bind, node.raft
        info: Labelled = {(node.identity.name, node.identity.cluster_id, __version__): 1.0}
        bind("kvnode_info", lambda: info)
        bind("kvnode_has_leader", lambda: float(raft.leader != NONE))
        bind("kvnode_is_leader", lambda: float(raft.role is Role.LEADER))
        bind("kvnode_leader_changes_seen_total", lambda: node.consensus.leader_changes_seen)
        bind("kvnode_term", lambda: raft.term)
        bind("kvnode_commit_index", lambda: raft.commit)
        bind("kvnode_applied_index", lambda: node.machine.applied)
        bind("kvnode_last_index", lambda: raft.last_index)
        bind("kvnode_members", lambda: _roles(node))
        bind("kvnode_members_recovering", lambda: len(raft.status().recovering))
        bind("kvnode_feature_level", lambda: node.machine.level)
        bind("kvnode_recovering", lambda: float(raft.recovering))
        bind("kvnode_member_lag_entries", lambda: _lags(node))
        bind("kvnode_proposals_committed_total", lambda: raft.commit)
        bind("kvnode_proposals_applied_total", lambda: node.outcomes.entries_applied)
        bind("kvnode_batches_grouped_total", lambda: node.duties.batches_grouped)
        bind("kvnode_proposals_pending_total", lambda: node.proposer.waiting)
        bind(
            "kvnode_proposals_failed_total",
            lambda: node.proposer.refused + node.proposer.outcomes_unknown,
        )
        bind("kvnode_wal_segments", lambda: node.wal.segments)
        bind("kvnode_wal_bytes", lambda: node.wal.bytes)
        bind("kvnode_wal_slow_syncs_total", lambda: node.condition.disk_health.slow_syncs)
        bind("kvnode_wal_sync_wait_seconds", lambda: node.condition.sync_wait_s)
        bind("kvnode_keys", lambda: _keys(node))
        bind("kvnode_data_bytes", lambda: node.machine.data_bytes)
        bind("kvnode_waiters", lambda: node.machine.waiters)
        bind("kvnode_large_commands", lambda: node.machine.large_commands)
        bind("kvnode_garbage", lambda: float(node.machine.has_garbage))
        bind("kvnode_log_full", lambda: float(node.writer.is_full))
        bind("kvnode_engine_full", lambda: float(node.applier.is_full))
        bind("kvnode_heavy_writes_total", lambda: node.heavy_writes.admitted)
        bind("kvnode_heavy_writes_refused_total", lambda: node.heavy_writes.refused)
        bind("kvnode_read_failures_total", lambda: node.read_failures.count)
        bind("kvnode_read_slices_cut_total", lambda: node.reads.slices_cut)
        bind("kvnode_loop_lag_max_seconds", lambda: node.condition.lag.lags.longest)
        bind_histogram = self.metrics_registry.bind_histogram
        bind_histogram("kvnode_loop_lag_seconds", {(): node.condition.lag.lags})
        bind_histogram("kvnode_slice_seconds", self._slices)
        self._slices |= {(kind,): seconds for kind, seconds in node.pulse.slices.kinds.items()}
        self._bind_peers(node)
        self._bind_snapshots(node)

    def _bind_snapshots(self, node: Node) -> None:
        bind, snapshots = self.metrics_registry.bind, node.snapshots
        stats = snapshots.stats
        bind("kvnode_snapshot_index", lambda: snapshots.newest.index if snapshots.newest else 0)
        bind("kvnode_snapshots_taken_total", lambda: stats.taken)
        bind("kvnode_snapshots_sent_total", lambda: stats.sent)
        bind("kvnode_snapshots_installed_total", lambda: stats.installed)
        bind("kvnode_snapshots_failed_total", lambda: stats.failed)

    def _bind_peers(self, node: Node) -> None:
        bind, stats = self.metrics_registry.bind, node.transport.stats
        bind("kvnode_raft_steps_dropped_total", lambda: stats.messages_dropped)
        rejected = node.raft.rejected
        bind(
            "kvnode_raft_messages_rejected_total",
            lambda: _by_reason(rejected),
        )
        bind("kvnode_peer_connects_total", lambda: stats.connects)
        bind("kvnode_peer_frames_sent_total", lambda: stats.frames_sent)
        bind("kvnode_peer_frames_received_total", lambda: stats.frames_received)
        bind("kvnode_peer_frames_malformed_total", lambda: stats.malformed)
        bind("kvnode_peer_hellos_refused_total", lambda: stats.hellos_refused)
        bind("kvnode_peer_connected", lambda: _peers_connected(node))

    def bind_workers(self, workers: WorkerPool) -> None:
        """Metrics of the heavy reads."""
        bind, stats = self.metrics_registry.bind, workers.stats
        bind("kvnode_heavy_running", lambda: workers.running)
        bind("kvnode_heavy_waiting", lambda: workers.waiting)
        bind("kvnode_heavy_refused_total", lambda: stats.refused)
        bind("kvnode_heavy_worker_restarts_total", lambda: stats.restarts)
        bind("kvnode_heavy_promoted_total", lambda: _by_reason(stats.promoted))
        self.metrics_registry.bind_histogram("kvnode_heavy_seconds", {(): stats.seconds})

    def bind_clients(self, resp: RespServer) -> None:
        """Metrics of the Redis front end."""
        bind, stats = self.metrics_registry.bind, resp.stats
        self._slices["replies",] = resp.passes.flushes
        bind("kvnode_clients", lambda: len(resp.clients))
        bind("kvnode_clients_blocked", lambda: resp.clients.blocked)
        bind("kvnode_client_connections_total", lambda: stats.connections_total)
        rejected = stats.connections_rejected_total
        bind("kvnode_client_rejects_total", lambda: _by_reason(rejected))
        bind("kvnode_client_peers", lambda: resp.doorstep.door.peers)
        bind("kvnode_clients_closed_total", lambda: _by_reason(stats.connections_closed_total))
        bind("kvnode_clients_in_line", lambda: resp.turns.waiting)
        bind("kvnode_requests_full_total", lambda: resp.turns.times_full)
        bind("kvnode_commands_total", lambda: _calls(resp))


def _member_document(member: MemberStatus) -> dict[str, Any]:
    """Name and id first, then all that is known."""
    document = asdict(member)
    return {"name": member.name, **document, "node_id": f"{member.node_id:016x}"}


def _roles(node: Node) -> Labelled:
    roles = [member.role.name.lower() for member in node.roster.members.values()]
    return {(role,): float(roles.count(role)) for role in ("voter", "learner", "leaving")}


def _by_reason(counts: Mapping[str, int]) -> Labelled:
    return {(reason,): float(count) for reason, count in counts.items()}


def _crc_accelerated() -> Labelled:
    return {(crc.BACKEND,): float(_CRC_IS_NATIVE)}


def _lags(node: Node) -> Labelled:
    members = node.status().members
    return {(member.name,): float(member.lag) for member in members if member.lag is not None}


def _keys(node: Node) -> Labelled:
    return {(str(db),): float(keys) for db, (keys, _) in node.keyspace().items()}


def _peers_connected(node: Node) -> Labelled:
    return {
        (member.name,): float(node.transport.is_connected(node_id))
        for node_id, member in node.roster.members.items()
        if node_id != node.identity.node_id
    }


def _calls(resp: RespServer) -> Labelled:
    return {(name,): float(count) for name, count in resp.stats.calls_by_name().items()}
