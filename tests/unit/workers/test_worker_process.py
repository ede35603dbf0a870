"""One worker process: what it answers, what it keeps of the engine, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvnode.limits import MIB
from kvnode.resp.encoder import RESP2, RESP3
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.lmdb_engine import LmdbEngine
from kvnode.workers.frames import ANSWER_BYTES, LET_GO, Answer, Job, Status
from tests.support.reads import READS, call_of, fill
from tests.unit.store.driver import HASH_KEY, Driver

SECONDS_MAX = 60
LARGEST = 64 * MIB


class Link:
    """A worker process, spoken to in frames."""

    def __init__(self, data_bytes_max: int = 0) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kvnode.workers.process", str(theirs.fileno())),
                    *(str(os.getpid()), str(data_bytes_max), HASH_KEY.hex()),
                ],
                pass_fds=(theirs.fileno(),),
            )
        ours.settimeout(SECONDS_MAX)
        self.socket = ours
        self.file = ours.makefile("rb")
        assert self.receive()[0].status == Status.READY

    def receive(self) -> tuple[Answer, bytes]:
        answer = Answer.unpack(self.file.read(ANSWER_BYTES))
        return answer, self.file.read(answer.length)

    def ask(self, job: Job) -> tuple[Answer, bytes]:
        self.socket.sendall(job.pack())
        return self.receive()

    def read(self, engine: LmdbEngine, text: str, protocol: int = RESP2) -> bytes:
        """The reply of a command."""
        command, op = call_of(text.encode().split())
        answer, body = self.ask(Job(str(engine.path), command.name, protocol, op, LARGEST))
        assert answer.status == Status.REPLY, (answer, body)
        return body

    def close(self) -> int:
        self.file.close()
        self.socket.close()
        return self.process.wait(SECONDS_MAX)


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    """A worker."""
    made = Link()
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LmdbEngine:
    """An engine with all the data."""
    return filled(tmp_path_factory.mktemp("engine")).engine_on_disk


class OnDisk(Driver):
    """A machine whose engine others can open."""

    engine_on_disk: LmdbEngine


def filled(path: Path) -> OnDisk:
    """A machine with all the data, committed."""
    driver = empty(path)
    fill(lambda op: driver.do(*op))
    driver.machine.commit()
    return driver


def empty(path: Path) -> OnDisk:
    """A machine with nothing."""
    made = LmdbEngine(path, map_bytes=1 << 28)
    driver = OnDisk(made)
    driver.engine_on_disk = made
    return driver


@pytest.mark.parametrize("protocol", [RESP2, RESP3])
def test_every_reply_is_that_of_the_loop_byte_for_byte(
    link: Link, tmp_path_factory: pytest.TempPathFactory, protocol: int
) -> None:
    driver = filled(tmp_path_factory.mktemp("engine"))
    for calls in READS.values():
        for call in calls:
            command, op = call_of(call.arguments)
            here = driver.machine.read(op)
            job = Job(str(driver.engine_on_disk.path), command.name, protocol, op, LARGEST)
            answer, body = link.ask(job)
            if here is None:
                assert answer.status == Status.NIL
            else:
                assert answer.status == Status.REPLY, (call.text[:60], answer, body)
                assert body == command.renders[protocol - RESP2](here), call.text[:60]


def test_a_worker_sees_each_commit_and_nothing_that_is_not_committed(
    link: Link, tmp_path: Path
) -> None:
    driver = empty(tmp_path)
    for number in range(20):
        driver.do(ops.SADD, 0, b"s", b"%d" % number)
        driver.machine.commit()
        driver.do(ops.SADD, 0, b"s", b"uncommitted")
        reply = link.read(driver.engine_on_disk, "SMEMBERS s")
        assert reply.count(b"$") == number + 1 + (number > 0)
        driver.do(ops.SREM, 0, b"s", b"nobody")


def test_what_has_expired_by_the_log_is_hidden_though_its_rows_are_there(
    link: Link, tmp_path: Path
) -> None:
    driver = empty(tmp_path)
    driver.do(ops.SADD, 0, b"s", b"member")
    driver.do(ops.EXPIRE, 0, b"s", 0, 1_000, 0)
    driver.machine.commit()
    assert link.read(driver.engine_on_disk, "SMEMBERS s") == b"*1\r\n$6\r\nmember\r\n"
    driver.now_ms += 1_001
    driver.do(ops.SET, 0, b"other", b"v")
    driver.machine.commit()
    assert driver.machine.keyspace()[0][0] == 2, "the row is still there"
    assert link.read(driver.engine_on_disk, "SMEMBERS s") == b"*0\r\n"
    assert link.read(driver.engine_on_disk, "KEYS *") == b"*1\r\n$5\r\nother\r\n"


def test_between_jobs_no_old_pages_are_held(link: Link, tmp_path: Path) -> None:
    """A reader that stays keeps every page that is written over: the file would grow for ever."""
    driver = empty(tmp_path)
    for number in range(200):
        driver.do(ops.SET, 0, b"k%d" % (number % 10), bytes(4_000))
        driver.machine.commit()
        if number == 20:
            link.read(driver.engine_on_disk, "KEYS *")
    pages = (tmp_path / "data.mdb").stat().st_size // 4096
    assert pages < 120


def test_another_engine_may_take_the_place_of_the_one_before(link: Link, tmp_path: Path) -> None:
    first, second = empty(tmp_path / "1"), empty(tmp_path / "2")
    for driver, member in ((first, b"one"), (second, b"two")):
        driver.do(ops.SADD, 0, b"s", member)
        driver.machine.commit()
    for driver, member in ((first, b"one"), (second, b"two"), (first, b"one")):
        assert member in link.read(driver.engine_on_disk, "SMEMBERS s")
    link.socket.sendall(LET_GO.pack())
    assert b"two" in link.read(second.engine_on_disk, "SMEMBERS s")


def test_an_engine_that_is_gone_is_an_answer(link: Link, tmp_path: Path) -> None:
    _, op = call_of([b"SMEMBERS", b"s"])
    answer, _ = link.ask(Job(str(tmp_path / "none"), "smembers", RESP2, op, LARGEST))
    assert answer.status == Status.GONE
    assert not (tmp_path / "none").exists()


def test_a_reply_that_is_too_large_is_not_sent(link: Link, engine: LmdbEngine) -> None:
    command, op = call_of([b"HGETALL", b"hash"])
    size = len(link.read(engine, "HGETALL hash"))
    for most, status in ((size, Status.REPLY), (size - 1, Status.TOO_LARGE)):
        answer, _ = link.ask(Job(str(engine.path), command.name, RESP2, op, most))
        assert answer.status == status


def test_a_read_that_raises_costs_its_own_command_only(link: Link, engine: LmdbEngine) -> None:
    broken: Op = [ops.HGETALL, 0, b"hash"]
    answer, body = link.ask(Job(str(engine.path), "hgetall", RESP2, broken, LARGEST))
    assert answer.status == Status.FAILED
    assert b"Traceback" in body
    assert link.read(engine, "SCARD set") == b":2400\r\n"


def test_a_read_that_finds_no_memory_costs_its_own_command_only(engine: LmdbEngine) -> None:
    small = Link(data_bytes_max=32 * MIB)
    command, op = call_of([b"MGET", *[b"large"] * 64])
    answer, _ = small.ask(Job(str(engine.path), command.name, RESP2, op, 1 << 30))
    assert answer.status == Status.TOO_LARGE
    assert small.read(engine, "SCARD set") == b":2400\r\n"
    small.close()


def test_keys_looked_for_are_counted_as_the_front_end_does(link: Link, engine: LmdbEngine) -> None:
    command, op = call_of([b"MGET", b"key1", b"none", b"key2"])
    answer, _ = link.ask(Job(str(engine.path), command.name, RESP2, op, LARGEST))
    assert (answer.missed, answer.found) == (1, 2)


def test_a_worker_is_as_nice_as_can_be_and_ends_with_its_socket() -> None:
    worker = Link()
    assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) == 19
    worker.process.send_signal(signal.SIGINT)
    assert select.select([worker.socket], [], [], 0.2) == ([], [], []), "SIGINT is not for it"
    assert worker.close() == 0


def test_a_worker_dies_with_its_parent() -> None:
    """The parent is a process of its own, which is killed."""
    script = (
        "import socket, subprocess, sys, os, time\n"
        "ours, theirs = socket.socketpair()\n"
        "os.set_inheritable(ours.fileno(), True)\n"
        "p = subprocess.Popen([sys.executable, '-m', 'kvnode.workers.process',"
        " str(theirs.fileno()), str(os.getpid()), '0', '00' * 16], pass_fds=(theirs.fileno(),"
        " ours.fileno()))\n"
        "ours.recv(13)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    # The worker keeps both ends of its socket open: only the kernel can end it.
    assert select.select([handle], [], [], SECONDS_MAX)[0]
    os.close(handle)
