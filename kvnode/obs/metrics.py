"""Metrics: a list of declarations, and readers that are called when somebody scrapes.

The parts of the node count in plain integers of their own and know nothing of this module. The
composition root binds each declared name to a function that reads them. So an operation costs what
an addition costs, and a scrape pays for the rest.

Every name begins with `kvnode_` and stands in METRICS.md; a test holds the two lists together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from kvnode.obs.histogram import SecondsHistogram

Kind = Literal["gauge", "counter", "histogram"]
Reader: TypeAlias = "Callable[[], float] | Callable[[], Mapping[tuple[str, ...], float]]"
"""Returns the value, or with labels one value per tuple of label values."""

Histograms: TypeAlias = Mapping[tuple[str, ...], SecondsHistogram]
"""One histogram per tuple of label values."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One metric: its name (with the unit, counters end in _total), kind, help and labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name, "gauge", help_text, labels)


def _counter(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name, "counter", help_text, labels)


def _histogram(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name, "histogram", help_text, labels)


DECLARATIONS: tuple[Declaration, ...] = (
    # The node
    _gauge(
        "kvnode_info", "Always 1; the labels tell who this is.", "node", "cluster_id", "version"
    ),
    _gauge("kvnode_ready", "1 when all readiness checks pass."),
    _gauge("kvnode_draining", "1 while the node is drained: somebody is about to stop it."),
    _gauge("kvnode_insecure", "1 when reachable from other machines without a password."),
    _counter("kvnode_exits_total", "Exits of earlier processes by exit code, or killed.", "code"),
    # Consensus
    _gauge("kvnode_has_leader", "1 when this node knows a leader."),
    _gauge("kvnode_is_leader", "1 when this node leads."),
    _counter("kvnode_leader_changes_seen_total", "Changes of the leader that this node saw."),
    _gauge("kvnode_term", "Raft term."),
    _gauge("kvnode_commit_index", "Highest log index known to be committed."),
    _gauge("kvnode_applied_index", "Highest log index applied to the store."),
    _gauge("kvnode_last_index", "Highest log index in this node's log."),
    _gauge("kvnode_members", "Members of the cluster, by role.", "role"),
    _gauge("kvnode_recovering", "1 while this node heals a repaired log and counts in no quorum."),
    _gauge(
        "kvnode_members_recovering", "Members that count in no quorum, as far as is known here."
    ),
    _gauge("kvnode_feature_level", "The cluster's feature level: what every member must know."),
    _gauge("kvnode_member_lag_entries", "Entries that a member is behind; leader only.", "member"),
    _counter("kvnode_proposals_committed_total", "Log entries committed, as seen here."),
    _counter("kvnode_proposals_applied_total", "Log entries applied here."),
    _counter(
        "kvnode_batches_grouped_total",
        "Batches that this node, as the leader, put into one log entry with others.",
    ),
    _gauge("kvnode_proposals_pending_total", "Commands of this node that wait to be applied."),
    _counter("kvnode_proposals_failed_total", "Commands refused or of unknown outcome."),
    _counter("kvnode_raft_steps_dropped_total", "Raft messages dropped on the way to a peer."),
    # Peers
    _counter(
        "kvnode_raft_messages_rejected_total",
        "Raft messages from peers that were impossible, and not believed.",
        "reason",
    ),
    _gauge("kvnode_peer_connected", "1 when this node's link to the peer is up.", "peer"),
    _counter("kvnode_peer_connects_total", "Links to peers that were opened."),
    _counter("kvnode_peer_frames_sent_total", "Frames sent to peers."),
    _counter("kvnode_peer_frames_received_total", "Frames received from peers."),
    _counter("kvnode_peer_frames_malformed_total", "Frames from peers that made no sense."),
    _counter("kvnode_peer_hellos_refused_total", "Peers that were refused by this node."),
    # The log
    _counter("kvnode_wal_repairs_total", "Torn tails of the log that were repaired."),
    _gauge("kvnode_wal_segments", "Segment files of the log."),
    _gauge("kvnode_wal_bytes", "Bytes of the log's segment files."),
    _counter("kvnode_wal_slow_syncs_total", "Syncs of the log that took 200 ms or longer."),
    _gauge("kvnode_wal_sync_wait_seconds", "How long the log's disk has been at its present sync."),
    _gauge("kvnode_data_bytes", "Sizes of all records and their keys."),
    _gauge("kvnode_log_full", "1 while the log's disk has no room and writes are refused."),
    _gauge("kvnode_engine_full", "1 while the engine has no room and apply pauses."),
    _gauge("kvnode_snapshot_index", "Log index of the newest snapshot here; 0 without one."),
    _counter("kvnode_snapshots_taken_total", "Snapshots taken here."),
    _counter("kvnode_snapshots_sent_total", "Snapshots that peers installed from here."),
    _counter("kvnode_snapshots_installed_total", "Snapshots installed here."),
    _counter("kvnode_snapshots_failed_total", "Snapshots that could not be taken or installed."),
    _histogram("kvnode_wal_fsync_seconds", "Time to write and sync one group of the log."),
    _gauge("kvnode_crc_accelerated", "1 when CRC-32C is computed by native code.", "backend"),
    # Clients and the store
    _gauge("kvnode_clients", "Connected clients."),
    _counter("kvnode_client_connections_total", "Client connections accepted."),
    _counter(
        "kvnode_client_rejects_total",
        "Client connections turned away: too many in all (clients), or of one address (peer).",
        "reason",
    ),
    _gauge("kvnode_client_peers", "Addresses that clients are connected from."),
    _counter(
        "kvnode_clients_closed_total",
        "Client connections that were closed to protect the node.",
        "reason",
    ),
    _gauge("kvnode_clients_in_line", "Clients that hold much and wait for their turn to be read."),
    _counter("kvnode_requests_full_total", "Times that requests filled their room."),
    _counter("kvnode_commands_total", "Commands received from clients, by name.", "command"),
    _gauge("kvnode_in_flight_bytes", "Bytes held for clients and peers, by kind.", "kind"),
    _gauge("kvnode_keys", "Keys, by database.", "db"),
    _gauge("kvnode_clients_blocked", "Clients of this node that wait for a key."),
    _gauge("kvnode_waiters", "Clients of all nodes that wait for a key or have something in hand."),
    _gauge(
        "kvnode_large_commands",
        "Commands that are being carried on a part at a time, of all nodes.",
    ),
    _gauge(
        "kvnode_garbage",
        "1 while rows of flushed databases or dropped collections are being deleted.",
    ),
    _gauge("kvnode_heavy_running", "Heavy reads that a worker process is at."),
    _gauge("kvnode_heavy_waiting", "Heavy reads that wait for a worker process."),
    _counter("kvnode_heavy_refused_total", "Heavy reads that found no place and were refused."),
    _counter("kvnode_heavy_promoted_total", "Reads given to workers, by command.", "command"),
    _counter("kvnode_heavy_worker_restarts_total", "Worker processes that ended unasked."),
    _histogram("kvnode_heavy_seconds", "Heavy reads, from their turn to their reply."),
    _counter("kvnode_heavy_writes_total", "Heavy writes that this node let into the log."),
    _counter("kvnode_heavy_writes_refused_total", "Heavy writes refused as another was under way."),
    _counter("kvnode_read_failures_total", "Reads that met a bug and answered an internal error."),
    _counter(
        "kvnode_read_slices_cut_total", "Times that reads made way for others with some left."
    ),
    # The process
    _histogram("kvnode_loop_lag_seconds", "How late the event loop ran the timer of each tick."),
    _gauge("kvnode_loop_lag_max_seconds", "The largest lag of the event loop since the start."),
    _gauge("kvnode_memory_rss_anon_bytes", "Anonymous resident memory of this process."),
    _gauge("kvnode_memory_workers_bytes", "Anonymous resident memory of its workers."),
    _gauge("kvnode_memory_cgroup_bytes", "Memory of the limited cgroup that cannot be evicted."),
    _gauge(
        "kvnode_memory_allocator_free_bytes",
        "What malloc keeps of what was freed; 0 without glibc.",
    ),
    _gauge("kvnode_memory_limit_bytes", "Smallest of the machine's memory and the cgroup's limit."),
    _gauge("kvnode_memory_threshold_bytes", "The watchdog's threshold; 0 when it is off."),
    _gauge(
        "kvnode_memory_rung",
        "0 calm, 1 shed (60 %), 2 refuse (70 %), 3 close (80 % of the limit).",
    ),
    _counter("kvnode_memory_rung_entered_total", "Times that a rung was entered.", "rung"),
    _histogram("kvnode_slice_seconds", "Turns of the event loop's work, by what was done.", "kind"),
    _histogram("kvnode_gc_pause_seconds", "Runs of Python's cyclic garbage collector."),
    _counter("kvnode_gc_collections_total", "Runs of Python's cyclic garbage collector."),
    _counter("kvnode_log_records_dropped_total", "Log records dropped because stderr was blocked."),
)

_BY_NAME = {declaration.name: declaration for declaration in DECLARATIONS}

# fmt: off
FSYNC_BUCKETS_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)
# fmt: on
"""From a drive with a write cache that survives power loss to a disk that is about to fail."""


class Metrics(Collector):
    """The metrics of one node. `bind` names to readers, then `render` as often as asked."""

    def __init__(self) -> None:
        self._readers: dict[str, Reader] = {}
        self._histograms: dict[str, Histograms] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace="kvnode", registry=self._registry)
        self.wal_fsync_seconds = SecondsHistogram(FSYNC_BUCKETS_SECONDS)
        """Time to write and sync one group of the log; the log's thread observes."""
        self.bind_histogram("kvnode_wal_fsync_seconds", {(): self.wal_fsync_seconds})

    def bind(self, name: str, read: Reader) -> None:
        """Let `read` give the value of a declared metric from now on.

        Raises:
            KeyError: the name is not declared.
        """
        self._readers[_BY_NAME[name].name] = read

    def bind_histogram(self, name: str, histograms: Histograms) -> None:
        """Let these be what a declared histogram shows: one, or one per tuple of label values.

        Raises:
            KeyError: the name is not declared.
        """
        self._histograms[_BY_NAME[name].name] = histograms

    def unbound(self) -> list[str]:
        """Declared metrics that nobody has bound; they are left out when rendering."""
        return [name for name in _BY_NAME if name not in {*self._readers, *self._histograms}]

    def names(self) -> list[str]:
        """All metrics that can be exposed, those of the process included."""
        found = self._registry.collect()
        exposed = {f"{f.name}_total" if f.type == "counter" else f.name for f in found}
        return sorted(exposed | set(_BY_NAME))

    def render(self) -> bytes:
        """Read everything and return it in the Prometheus text format (version 0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry while rendering."""
        for name, declaration in _BY_NAME.items():
            if name in self._histograms:
                yield _histogram_family(declaration, self._histograms[name])
            read = self._readers.get(name)
            if read is not None:
                yield _family(declaration, read())


def _family(declaration: Declaration, value: float | Mapping[tuple[str, ...], float]) -> Metric:
    make = CounterMetricFamily if declaration.kind == "counter" else GaugeMetricFamily
    family = make(declaration.name, declaration.help, labels=declaration.labels)
    if isinstance(value, Mapping):
        for labels, number in sorted(value.items()):
            family.add_metric(labels, number)
    else:
        family.add_metric((), value)
    return family


def _histogram_family(declaration: Declaration, histograms: Histograms) -> Metric:
    family = HistogramMetricFamily(declaration.name, declaration.help, labels=declaration.labels)
    for labels, histogram in sorted(histograms.items()):
        family.add_metric(labels, histogram.buckets(), histogram.sum)
    return family
