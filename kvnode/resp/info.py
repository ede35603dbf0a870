"""The text of INFO: sections and fields as in Redis 7.0, filled with what is true here.

Operators' tools ignore fields they do not know and lose only the figures they miss, so a figure
that nobody takes here is left out instead of invented. What does not exist here (`NEVER`) has been
done no times and takes no bytes: its fields are 0, since dashboards show a gap for a missing field.

Some figures mean what fits this architecture: offsets are log indexes, the lag of a replica is in
log entries, and the times of commands are those that clients lived (`kvnode.resp.stats`).
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from kvnode.limits import CLIENT_BYTES
from kvnode.resp.encoder import RESP2

if TYPE_CHECKING:
    from kvnode.resp.listener import RespServer

Fields: TypeAlias = "dict[str, str | int | float]"

_PAGE_BYTES: Final = resource.getpagesize()

NEVER: Final[dict[str, tuple[str, ...]]] = {
    "memory": (
        *("used_memory_lua", "used_memory_scripts", "number_of_cached_scripts"),
        *("number_of_functions", "number_of_libraries", "used_memory_functions"),
        *("mem_not_counted_for_evict", "mem_replication_backlog", "mem_cluster_links"),
        *("mem_clients_slaves", "mem_total_replication_buffers", "active_defrag_running"),
        *("lazyfree_pending_objects", "lazyfreed_objects"),
    ),
    "persistence": (
        *("rdb_last_cow_size", "aof_last_cow_size", "current_cow_size", "current_cow_peak"),
        *("module_fork_in_progress", "module_fork_last_cow_size"),
        *("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_rewrites"),
    ),
    "stats": (
        *("sync_full", "sync_partial_ok", "sync_partial_err", "evicted_keys"),
        *("total_eviction_exceeded_time", "current_eviction_exceeded_time"),
        *("expired_time_cap_reached_count", "slave_expires_tracked_keys"),
        *("pubsub_channels", "pubsub_patterns", "pubsubshard_channels"),
        *("latest_fork_usec", "migrate_cached_sockets"),
        *("active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits"),
        *("active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time"),
        *("tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"),
        *("unexpected_error_replies", "dump_payload_sanitizations"),
        *("io_threaded_reads_processed", "io_threaded_writes_processed"),
    ),
}
"""Fields that are 0 because what they count does not exist here: scripts, defragmentation, forks, a
replication stream, eviction, client-side caching, and the like."""


def render(server: RespServer, sections: Sequence[str] = ()) -> str:
    """The sections asked for (none: the default ones), in INFO's order; others are ignored."""
    wanted = set(sections) or {"default"}
    if wanted & {"all", "everything"}:
        chosen = list(SECTIONS)
    else:
        chosen = [
            name
            for name in SECTIONS
            if name in wanted or ("default" in wanted and name not in ON_DEMAND)
        ]
    return "\r\n".join([_section(name, SECTIONS[name](server)) for name in chosen])


def _section(name: str, fields: Fields) -> str:
    fields = fields | dict.fromkeys(NEVER.get(name, ()), 0)
    lines = [f"# {name.capitalize() if name != 'cpu' else 'CPU'}\r\n"]
    lines += [f"{field}:{value}\r\n" for field, value in fields.items()]
    return "".join(lines)


def _server(server: RespServer) -> Fields:
    uptime_s = int(server.loop.time() - server.started_at)
    return {
        "redis_version": server.redis_version,
        "kvnode_version": server.config.version,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64 if sys.maxsize > 1 << 32 else 32,
        "python_version": platform.python_version(),
        "multiplexing_api": "libuv",
        "process_id": os.getpid(),
        "process_supervised": "no",
        "run_id": server.config.run_id,
        "tcp_port": server.port,
        "server_time_usec": time.time_ns() // 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86_400,
        "hz": 10,
        "configured_hz": 10,
        "io_threads_active": 0,
        "executable": sys.executable,
        "config_file": "",
    }


def _clients(server: RespServer) -> Fields:
    clients = server.clients.values()
    return {
        "connected_clients": len(clients),
        "cluster_connections": 0,
        "maxclients": server.settings.clients_max,
        "client_recent_max_input_buffer": max([each.held_bytes for each in clients], default=0),
        "client_recent_max_output_buffer": server.slow_readers.largest_bytes,
        "blocked_clients": server.clients.blocked,
        "tracking_clients": 0,
        "clients_in_timeout_table": 0,
        "resp2_clients": sum([each.protocol == RESP2 for each in clients]),
        "readonly_clients": sum([each.is_read_only for each in clients]),
        "paused_seconds_left": round(server.pause.seconds_left, 3) if server.pause else 0,
        "in_flight_bytes": server.pending_bytes,
    }


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Bytes of this process: what is its own, with what it shares, and the most there ever was."""

    used_bytes: int
    resident_bytes: int
    peak_bytes: int


def memory_figures() -> MemoryFigures:
    """Ask the kernel."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        _, resident, shared, *_ = [int(pages) * _PAGE_BYTES for pages in statm.read().split()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return MemoryFigures(resident - shared, resident, peak)


def _memory(server: RespServer) -> Fields:
    figures = memory_figures()
    used, resident, peak = figures.used_bytes, figures.resident_bytes, figures.peak_bytes
    total = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
        "used_memory_peak_perc": f"{100 * used / max(peak, 1):.2f}%",
        "used_memory_startup": server.used_memory_at_start,
        "total_system_memory": total,
        "total_system_memory_human": _human(total),
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": f"{resident / max(used, 1):.2f}",
        "mem_fragmentation_bytes": resident - used,
        "memory_rung": server.pressure.rung.name.lower(),
        "mem_clients_normal": server.pending_bytes + CLIENT_BYTES * len(server.clients),
        "mem_allocator": "python",
    }


def _human(size: float) -> str:
    for unit in ("B", "K", "M"):
        if size < 1024:
            return f"{size:.2f}{unit}" if unit != "B" else f"{size:.0f}B"
        size /= 1024
    return f"{size:.2f}G"


def _persistence(server: RespServer) -> Fields:
    """Snapshots stand for RDB files, the log for an AOF that is always on and never rewritten."""
    fields: Fields = {"loading": 0, "async_loading": 0}
    if server.control is not None:
        snapshots, disk = server.control.snapshot_status(), server.control.log_disk_status()
        fields |= {
            "rdb_changes_since_last_save": snapshots.entries_since,
            "rdb_bgsave_in_progress": int(snapshots.in_progress),
            "rdb_last_save_time": snapshots.saved_at_s or server.started_at_s,
            "rdb_last_bgsave_status": "ok" if snapshots.last_succeeded else "err",
            "rdb_last_bgsave_time_sec": snapshots.last_duration_s,
            "rdb_current_bgsave_time_sec": -1,
            "aof_last_write_status": "err" if disk.is_full else "ok",
            "aof_delayed_fsync": disk.slow_syncs,
            "wal_slow": int(disk.is_slow),
            "wal_sync_wait_ms": disk.wait_ms,
        }
    else:
        fields |= {"rdb_bgsave_in_progress": 0, "aof_last_write_status": "ok"}
    return fields | {
        "aof_enabled": 1,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
    }


def _stats(server: RespServer) -> Fields:
    stats = server.stats
    return {
        "total_connections_received": stats.connections_total,
        "total_commands_processed": stats.commands_total,
        "instantaneous_ops_per_sec": round(server.rate.per_second),
        "total_net_input_bytes": stats.input_bytes_total,
        "total_net_output_bytes": stats.output_bytes_total,
        "instantaneous_input_kbps": f"{server.input_rate.per_second / 1024:.2f}",
        "instantaneous_output_kbps": f"{server.output_rate.per_second / 1024:.2f}",
        "rejected_connections": sum(stats.connections_rejected_total.values()),
        "expired_keys": server.service.expired_keys() - server.stats.expired_before,
        "evicted_clients": stats.connections_closed_total.get("output", 0),
        "keyspace_hits": stats.keyspace_hits,
        "keyspace_misses": stats.keyspace_misses,
        "total_error_replies": stats.errors_total,
    }


def _replication(server: RespServer) -> Fields:
    status = server.service.status()
    if status.role == "leader":
        others = [member for member in status.members if member.node_id != status.node_id]
        fields: Fields = {"role": "master", "connected_slaves": len(others)}
        for number, member in enumerate(others):
            host, _, port = member.client_address.rpartition(":")
            state = "recovering" if member.recovering else "online"
            fields[f"slave{number}"] = (
                f"ip={host},port={port},state={state},offset={member.match or 0},"
                f"lag={member.lag or 0}"
            )
    else:
        host, _, port = (status.leader_client_address or "").rpartition(":")
        fields = {
            "role": "slave",
            "master_host": host,
            "master_port": port or 0,
            "master_link_status": "up" if status.leader else "down",
            "master_last_io_seconds_ago": 0 if status.leader else -1,
            "master_sync_in_progress": 0,
            "slave_read_repl_offset": status.applied,
            "slave_repl_offset": status.applied,
            "slave_priority": 100,
            "slave_read_only": 0,
            "replica_announced": 1,
            "connected_slaves": 0,
        }
    return fields | {
        "master_failover_state": "no-failover",
        "master_replid": server.config.run_id,
        "master_replid2": "0" * 40,
        "master_repl_offset": status.commit,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    }


def _cpu(_: RespServer) -> Fields:
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD)  # INFO runs in the loop's
    return {
        "used_cpu_sys": f"{used.ru_stime:.6f}",
        "used_cpu_user": f"{used.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
        "used_cpu_sys_main_thread": f"{thread.ru_stime:.6f}",
        "used_cpu_user_main_thread": f"{thread.ru_utime:.6f}",
    }


def _nothing(_: RespServer) -> Fields:
    return {}


def _commandstats(server: RespServer) -> Fields:
    return {
        f"cmdstat_{tally.command.name}": (
            f"calls={tally.calls},usec={tally.nanoseconds // 1000},"
            f"usec_per_call={tally.nanoseconds / 1000 / max(tally.calls, 1):.2f},"
            f"rejected_calls={tally.rejected},failed_calls={tally.failed}"
        )
        for tally in server.stats.tallies
        if tally.calls or tally.rejected
    }


def _latencystats(server: RespServer) -> Fields:
    """Upper bounds, since times are counted by powers of two."""
    return {
        f"latency_percentiles_usec_{tally.command.name}": ",".join(
            f"p{percent:g}={tally.percentile_us(percent):.3f}" for percent in (50, 99, 99.9)
        )
        for tally in server.stats.tallies
        if any(tally.buckets)
    }


def _errorstats(server: RespServer) -> Fields:
    return {
        f"errorstat_{code}": f"count={count}" for code, count in sorted(server.stats.errors.items())
    }


def _cluster(_: RespServer) -> Fields:
    return {"cluster_enabled": 0}


def _raft(server: RespServer) -> Fields:
    status = server.service.status()
    fields: Fields = {
        "raft_node": status.node,
        "raft_node_id": f"{status.node_id:016x}",
        "raft_cluster_id": status.cluster_id,
        "raft_role": status.role,
        "raft_leader": status.leader or "",
        "raft_leader_address": status.leader_client_address or "",
        "raft_term": status.term,
        "raft_commit": status.commit,
        "raft_applied": status.applied,
        "raft_last_index": status.last_index,
        "raft_members": len(status.members),
    }
    for number, member in enumerate(status.members):
        fields[f"raft_member{number}"] = (
            f"name={member.name},id={member.node_id:016x},peer={member.peer_address},"
            f"client={member.client_address},role={member.role},"
            f"match={'' if member.match is None else member.match},"
            f"lag={'' if member.lag is None else member.lag},recovering={int(member.recovering)}"
        )
    return fields


def _keyspace(server: RespServer) -> Fields:
    return {
        f"db{db}": f"keys={keys},expires={expires},avg_ttl=0"
        for db, (keys, expires) in sorted(server.service.keyspace().items())
        if keys
    }


SECTIONS: Final[dict[str, Callable[[RespServer], Fields]]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "modules": _nothing,
    "commandstats": _commandstats,
    "errorstats": _errorstats,
    "latencystats": _latencystats,
    "cluster": _cluster,
    "raft": _raft,
    "keyspace": _keyspace,
}
"""All sections, in the order of the text."""

ON_DEMAND: Final = frozenset({"commandstats", "latencystats"})
"""Sections that only `all`, `everything` or their own name show."""
