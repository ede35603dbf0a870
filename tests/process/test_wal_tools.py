"""`kvnode wal` on the directories of real nodes: one that runs, one that was refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from wal.format import parse_segment_name

pytestmark = pytest.mark.cluster

EXIT_SECONDS = 20.0
LOOKS = 8


@pytest.fixture
def single() -> Iterator[LocalNode]:
    """A cluster of one that runs."""
    cluster = NodeCluster(1)
    try:
        cluster.start()
        yield cluster.nodes[0]
    finally:
        cluster.kill()
        cluster.finish(keep=False)


def wal(command: str, node: LocalNode, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `kvnode wal`."""
    return subprocess.run(
        [sys.executable, "-m", "kvnode.cli", "wal", command, str(node.data), *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_log_of_a_node_that_writes_is_never_called_damaged(single: LocalNode) -> None:
    stopped = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with redis.Redis(*single.address, retry=None) as connection:
            while not stopped.is_set():
                connection.mset({f"k{i}": os.urandom(3000) for i in range(20)})
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for command in ["verify"] * LOOKS + ["inspect"]:
            before = written
            result = wal(command, single, "--json")
            found = json.loads(result.stdout)
            assert (result.returncode, found["verdict"]) == (0, "clean"), result.stdout
            assert found["running"] == str(single.pid)
            assert written > before
    finally:
        stopped.set()
        writer.join()
    assert wal("repair", single).returncode == 75


def test_a_refused_log_is_explained_and_its_loss_accepted_only_by_word(single: LocalNode) -> None:
    with redis.Redis(*single.address, retry=None) as connection:
        for i in range(100):
            connection.set(f"k{i}", "v" * 500)
    single.send(signal.SIGTERM)
    assert single.wait_exit(EXIT_SECONDS) == 0
    segments = (single.data / "wal").iterdir()
    path = max(path for path in segments if parse_segment_name(path.name))
    os.truncate(path, len(path.read_bytes().rstrip(b"\0")) // 2)
    single.start()
    assert single.wait_exit(EXIT_SECONDS) == 65
    assert f"kvnode wal repair --accept-loss {single.data}" in single.log_tail()
    for command in ("verify", "repair"):
        result = wal(command, single)
        assert result.returncode == 65
        assert "acknowledged entries are gone" in (result.stdout + result.stderr).lower()
    assert wal("repair", single, "--accept-loss", "--dry-run").returncode == 3
    result = wal("repair", single, "--accept-loss")
    assert result.returncode == 0
    assert "ACKNOWLEDGED ENTRIES ARE LOST HERE" in result.stdout
    assert wal("verify", single).returncode == 0
    single.start()
    single.wait_ready()
    with redis.Redis(*single.address, retry=None) as connection:
        left = connection.dbsize()
        assert 0 < left < 100
        assert all(connection.exists(f"k{i}") for i in range(left))


def test_a_repair_is_told_with_all_that_an_operator_asks_for(single: LocalNode) -> None:
    with redis.Redis(*single.address, retry=None) as connection:
        connection.set("k", "v")
    single.kill()
    segments = (single.data / "wal").iterdir()
    path = max(path for path in segments if parse_segment_name(path.name))
    os.truncate(path, len(path.read_bytes().rstrip(b"\0")) + 100)
    single.start()
    single.wait_ready()
    lines = single.log_path.read_text().splitlines()
    (line,) = [line for line in lines if "WAL tail truncated, repairing" in line]
    for field in ("directory", "segment", "offset", "bytes_dropped", "error", "evidence"):
        assert f"{field}=" in line
    assert "first_index_dropped=" in line
    assert "last_index_dropped=" in line
    assert "unexpected end of file" in line
    status = single.status()
    assert status is not None
    told = status["wal"]["last_repair"]
    assert (told["directory"], told["kind"]) == (str(single.data / "wal"), "short file")
    assert b"kvnode_wal_repairs_total 1.0" in single.get("/metrics")[1]
