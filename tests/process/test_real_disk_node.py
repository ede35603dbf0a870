"""A whole node on a disk that loses power, or has nothing behind it any more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis

from kvnode.errors import ExitCode
from scripts.local_cluster import LocalNode
from tests.support.cluster import NodeCluster
from tests.support.real_disk import LoopDisk, loop_disk
from tests.support.small_disk import MIB, make_room, run_or_skip, small_disk, take_all_room

pytestmark = pytest.mark.cluster

CLIENTS = 4
REBUILT = 'engine="rebuilt from the log"'
"""After a power loss the engine may be anything; a start that trusts it dies of it."""
ACKNOWLEDGED_MAX = 1_500
"""Commands in one round, at most."""
EXIT_SECONDS = 20.0
VALUE = bytes(range(1, 201))
"""Small, so that each group of the log is within one block: Linux' loop driver takes a write of
several blocks, of which only the first found room, for a whole one."""
WRITES_MAX = 300
DISK_MIB = 128


@pytest.fixture
def stopped() -> Iterator[LocalNode]:
    """A single node that has not been started; its data directory exists."""
    cluster = NodeCluster(1)
    node = cluster.nodes[0]
    node.data.mkdir(mode=0o700)
    try:
        yield node
    finally:
        cluster.kill()
        cluster.finish(keep=False)


class Load:
    """Clients that write keys of their own, one after another, and note what was acknowledged."""

    def __init__(self, node: LocalNode, name: str, enough: int) -> None:
        self._node = node
        self._enough = enough
        self._left = enough
        self._lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}
        self.is_enough = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(f"{name}:{number}",))
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, name: str) -> None:
        with redis.Redis(*self._node.address, retry=None, socket_timeout=20) as connection:
            number = 0
            with contextlib.suppress(redis.RedisError):
                while True:
                    key = f"{name}:{number}"
                    connection.set(key, f"v:{key}")
                    number += 1
                    with self._lock:
                        self.acknowledged[key] = f"v:{key}"
                        self._left -= 1
                    if self._left <= 0:
                        self.is_enough.set()

    def join(self) -> None:
        """Wait until every client has seen the end of the node."""
        for thread in self._threads:
            thread.join()


def missing(node: LocalNode, expected: dict[str, str]) -> dict[str, bytes | None]:
    """What is not there, or is something else."""
    with redis.Redis(*node.address, retry=None) as connection:
        there = connection.mget(list(expected)) if expected else []
    pairs = zip(expected.items(), there, strict=True)
    return {key: found for (key, value), found in pairs if found != value.encode()}


def test_a_node_that_loses_power_under_load_has_all_that_it_acknowledged(
    stopped: LocalNode, seed: int, rounds: int
) -> None:
    chance = Random(seed)
    options = chance.choice(["", "data=writeback,nodelalloc"])
    print(f"mounted with {options or 'defaults'}")
    expected: dict[str, str] = {}
    with loop_disk(stopped.data, size_mib=DISK_MIB, options=options) as disk:
        for number in range(max(2, rounds // 5)):
            stopped.start()
            stopped.wait_ready()
            assert REBUILT in stopped.log_tail()
            assert missing(stopped, expected) == {}
            load = Load(stopped, f"r{number}", chance.randint(1, ACKNOWLEDGED_MAX))
            assert load.is_enough.wait(60)
            if chance.random() < 0.5:
                stopped.kill()
            disk.lose_power()
            stopped.kill()
            load.join()
            expected |= load.acknowledged
            disk.power_cycle()
        stopped.start()
        stopped.wait_ready()
        assert missing(stopped, expected) == {}
        stopped.kill()


@pytest.fixture
def hollow(stopped: LocalNode, tmp_path: Path) -> Iterator[HollowDisk]:
    """The node's data directory is on a disk that can lose what is behind it."""
    backing = tmp_path / "backing"
    with (
        small_disk("tmpfs", backing, DISK_MIB),
        loop_disk(stopped.data, size_mib=DISK_MIB, image=backing / "image") as disk,
    ):
        yield HollowDisk(disk, backing)


class HollowDisk:
    """A disk whose image has no room any more for what it is said to hold.

    Blocks that are full of zeros are given back to what is behind the image, as thinly provisioned
    storage does, and something else takes the room.
    """

    def __init__(self, disk: LoopDisk, backing: Path) -> None:
        self.disk = disk
        self._backing = backing

    def lose_backing(self) -> None:
        """From now on a write to where zeros were is taken, and lost."""
        os.sync()
        run_or_skip("fallocate", "--dig-holes", str(self.disk.image))
        take_all_room(self._backing)

    def mend(self) -> None:
        """What an operator does: room behind the disk, and the file system is checked."""
        self.disk.unmount()
        make_room(self._backing)
        subprocess.run(["e2fsck", "-fy", str(self.disk.image)], check=False, capture_output=True)
        self.disk.mount()


def test_on_such_a_disk_the_second_sync_claims_success(hollow: HollowDisk) -> None:
    """Why nothing is retried: the error is told once, and the bytes are gone."""
    descriptor = os.open(hollow.disk.directory / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(MIB), 0)
        os.fsync(descriptor)
        hollow.lose_backing()
        os.pwrite(descriptor, b"x" * 8192, 0)
        with pytest.raises(OSError, match=r"Input/output|No space"):
            os.fdatasync(descriptor)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    hollow.mend()
    assert b"x" not in (hollow.disk.directory / "file").read_bytes()


def test_a_disk_with_nothing_behind_it_ends_the_node_with_74_at_the_first_failed_sync(
    stopped: LocalNode, hollow: HollowDisk
) -> None:
    stopped.start()
    stopped.wait_ready()
    with redis.Redis(*stopped.address, retry=None) as connection:
        for number in range(20):
            connection.set(f"k{number}", VALUE)
        stopped.send(signal.SIGSTOP)  # or a block might be filled while it is given back
        hollow.lose_backing()
        stopped.send(signal.SIGCONT)
        done = fill(connection, 20)
    assert stopped.wait_exit(EXIT_SECONDS) == ExitCode.IO_ERROR
    hollow.mend()
    stopped.start()
    stopped.wait_ready()
    with redis.Redis(*stopped.address, retry=None) as connection:
        assert [n for n in range(done) if connection.get(f"k{n}") != VALUE] == []
    stopped.kill()


def fill(connection: redis.Redis, done: int) -> int:
    """Write until the node is gone; how many were acknowledged in all."""
    with contextlib.suppress(redis.ConnectionError):
        while done < WRITES_MAX:
            connection.set(f"k{done}", VALUE)
            done += 1
    assert done < WRITES_MAX, "the disk never failed"
    return done
