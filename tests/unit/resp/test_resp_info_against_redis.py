"""INFO beside that of a real redis-server: each of its fields is there, or there is a reason."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import hiredis
import pytest

from kvnode.resp.info import NEVER, SECTIONS
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve
from tests.unit.resp.test_resp_against_redis import ask, redis_socket

__all__ = ["redis_socket"]

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

LEFT_OUT = {
    "of a program in C": "monotonic_clock atomicvar_api gcc_version lru_clock",
    "of an allocator that tells; Python's does not": (
        "allocator_allocated allocator_active allocator_resident allocator_frag_ratio "
        "allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes rss_overhead_ratio "
        "rss_overhead_bytes"
    ),
    "of data in memory: ours is in the engine's files": (
        "used_memory_overhead used_memory_dataset used_memory_dataset_perc"
    ),
    "of machines for scripts, and used_memory_lua and used_memory_scripts in other words": (
        "used_memory_vm_eval used_memory_lua_human used_memory_scripts_eval "
        "used_memory_vm_functions used_memory_vm_total used_memory_vm_total_human "
        "used_memory_scripts_human"
    ),
    "of a file that is appended to: the log's size is in /status": (
        "mem_aof_buffer aof_current_size aof_base_size aof_rewrites_consecutive_failures"
    ),
    "of a forked child: a snapshot's worker reads by itself, see /status": (
        "current_cow_size_age current_fork_perc current_save_keys_processed "
        "current_save_keys_total total_forks rdb_saves"
    ),
    "of loading an RDB file": "rdb_last_load_keys_expired rdb_last_load_keys_loaded",
    "of a replication stream: peers' bytes are on the metrics page": (
        "total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_repl_kbps "
        "instantaneous_output_repl_kbps"
    ),
    "of a search for expired keys: ours are in an index": (
        "expired_stale_perc expire_cycle_cpu_milliseconds"
    ),
    "counting it would cost every command": (
        "total_reads_processed total_writes_processed reply_buffer_shrinks reply_buffer_expands"
    ),
}
"""Fields of Redis 7.0 that kvnode does not show, by the reason."""


def fields(text: bytes) -> dict[str, dict[str, str]]:
    """Fields by section."""
    found: dict[str, dict[str, str]] = {}
    for line in text.decode().splitlines():
        if line.startswith("# "):
            section = found.setdefault(line[2:].lower(), {})
        elif line:
            name, _, value = line.partition(":")
            section[name] = value
    return found


def info_of(redis: socket.socket) -> dict[str, dict[str, str]]:
    reader: Any = hiredis.Reader()
    reader.feed(ask(redis, "INFO", "everything"))
    return fields(reader.gets())


async def test_every_field_of_redis_is_there_or_has_a_reason(redis_socket: Path) -> None:
    service = FakeService()
    client = MemoryClient(serve(service, service))
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        for line in (["SET", "k", "v"], ["GET", "k"], ["NOSUCH"]):
            ask(redis, *line)
            await client.call(*line)
        theirs = info_of(redis)
        await client.call("INFO")  # which shows in commandstats of both only then
        ask(redis, "INFO")
    ours = fields(await client.call("INFO", "everything"))
    assert set(theirs) <= set(ours)
    left_out = set(" ".join(LEFT_OUT.values()).split())
    for section, there in theirs.items():
        missing = set(there) - set(ours[section])
        assert (section, missing - left_out) == (section, set())
    shown = {name for section in ours.values() for name in section}
    assert left_out.isdisjoint(shown)


async def test_what_never_happens_here_is_zero_in_an_idle_redis_too(redis_socket: Path) -> None:
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(redis_socket))
        theirs = info_of(redis)
    assert set(NEVER) <= set(SECTIONS)
    for section, names in NEVER.items():
        assert set(names) <= set(theirs[section])
