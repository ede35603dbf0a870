"""What kvnode does not do, and one sentence each that says why, or what to use instead.

These commands are not in the command table, so that libraries which look there do not count on
them.
"""

from __future__ import annotations

from typing import Final

_MEMBERS = "members replicate by Raft, and are changed with 'kvnode member'"
_STREAM = "there is no replication stream to follow; use SCAN, or 'kvnode snapshot save'"
_MODULES = "native code cannot be replicated and replayed safely"
_CLUSTER = "every node serves every key; members are changed with 'kvnode member'"
_SENTINEL = "the cluster elects its leader by itself"

REFUSED: Final[dict[str, str]] = {
    "replicaof": f"ERR REPLICAOF is not available: {_MEMBERS}",
    "slaveof": f"ERR SLAVEOF is not available: {_MEMBERS}",
    "failover": "ERR FAILOVER is not available: a leader is elected, or named with "
    "'kvnode member transfer'",
    "sync": f"ERR SYNC is not available: {_STREAM}",
    "psync": f"ERR PSYNC is not available: {_STREAM}",
    "replconf": f"ERR REPLCONF is not available: {_STREAM}",
    "migrate": "ERR MIGRATE is not available: a move between two servers cannot be atomic in the "
    "log of one; use DUMP and RESTORE",
    "restore-asking": f"ERR This instance has cluster support disabled: {_CLUSTER}",
    "asking": f"ERR This instance has cluster support disabled: {_CLUSTER}",
    "cluster": f"ERR This instance has cluster support disabled: {_CLUSTER}",
    "sentinel": f"ERR SENTINEL is not available: {_SENTINEL}",
    "bgrewriteaof": "ERR BGREWRITEAOF is not available: the log is cut behind snapshots, "
    "see BGSAVE",
    "module|load": f"ERR MODULE LOAD is not available: {_MODULES}",
    "module|loadex": f"ERR MODULE LOADEX is not available: {_MODULES}",
    "module|unload": f"ERR MODULE UNLOAD is not available: {_MODULES}",
    "memory|malloc-stats": "ERR MEMORY MALLOC-STATS is not available: memory is Python's, "
    "see INFO memory",
    "memory|purge": "ERR MEMORY PURGE is not available: memory is Python's, which gives it back by "
    "itself",
    "monitor": "ERR MONITOR is not available: every command would be written twice; use "
    "SLOWLOG, or INFO commandstats",
    "pfdebug": "ERR PFDEBUG is not available: it is about the insides of Redis; use GET",
    "pfselftest": "ERR PFSELFTEST is not available: kvnode's own tests do what it does",
    "latency|graph": "ERR LATENCY GRAPH is not available: use LATENCY HISTORY, or the metrics page",
}
"""Commands and subcommands (`module|load`) in lower case, with their error line."""

MAXMEMORY_POLICY: Final = (
    "nothing is ever evicted: replicas could not agree on what; writes are refused instead"
)
