"""RQ and Celery with workers at several nodes, and a leader that is killed: each job is done once.

What is switched off in them is told in `tests.support.queue_workers`. The workers are at nodes that
stay: neither library promises "once" to a worker that loses its connection in the middle of a job.
KVNODE_QUEUE_JOBS sets the number of jobs (30).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from scripts.local_cluster import LocalNode
from tests.support.cluster import REPOSITORY, NodeCluster

pytest.importorskip("rq", reason="RQ is not installed (make setup)")
pytest.importorskip("celery", reason="Celery is not installed (make setup)")

from rq import Queue  # only where it is installed
from rq.registry import FinishedJobRegistry, StartedJobRegistry

from tests.support.queue_workers import QUEUE, celery_app, noted

pytestmark = pytest.mark.cluster

JOBS = int(os.environ.get("KVNODE_QUEUE_JOBS", "30"))
PATIENCE_SECONDS = 30.0 + JOBS / 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[NodeCluster]:
    made = NodeCluster(3)
    try:
        made.start()
        until(lambda: all(knows_lists(node) for node in made.nodes))
        yield made
    finally:
        made.kill()
        made.finish(keep=False)


def connect(node: LocalNode) -> redis.Redis:
    host, port = node.address
    return redis.Redis(host=host, port=port, socket_timeout=PATIENCE_SECONDS)


def knows_lists(node: LocalNode) -> bool:
    """The feature level rises by itself soon after the start."""
    with connect(node) as client:
        try:
            return client.lpop("none") is None
        except redis.ResponseError:
            return False


def until(is_so: Callable[[], bool], every_seconds: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(every_seconds)


class Crew:
    """Workers of one library, a process each."""

    def __init__(self, library: str, nodes: list[LocalNode], directory: Path) -> None:
        self.done = directory / "done"
        self.log = directory / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        with self.log.open("wb") as log:
            for node in nodes:
                host, port = node.address
                command = ["-m", "tests.support.queue_workers", library, host, str(port)]
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        cwd=directory,
                        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    def is_whole(self) -> bool:
        """None of them has ended."""
        return all(process.poll() is None for process in self._processes)

    def dismiss(self) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        print(self.log.read_text(errors="replace")[-8000:])  # pytest shows it if the test fails


def work_through_an_election(
    cluster: NodeCluster,
    library: str,
    directory: Path,
    sender: Callable[[LocalNode, str], Callable[[int], object]],
    is_settled: Callable[[redis.Redis, int], bool],
) -> None:
    """Send jobs, kill the leader when some are done, and wait until all are: once each."""
    leader = cluster.wait_leader()
    others = [node for node in cluster.nodes if node is not leader]
    crew = Crew(library, others, directory)
    numbers = itertools.count()
    try:
        send = sender(others[0], str(crew.done))

        def send_one_more() -> None:
            send(next(numbers))

        def all_have_begun() -> bool:
            send_one_more()
            return {port for _, port in noted(crew.done)} == {node.address[1] for node in others}

        until(all_have_begun, every_seconds=0.3)
        begun = len(noted(crew.done))
        for _ in range(JOBS // 2):
            send_one_more()
        until(lambda: len(noted(crew.done)) > begun + JOBS // 4)
        leader.kill()
        for _ in range(JOBS // 2):
            send_one_more()
        sent = next(numbers)
        until(lambda: {number for number, _ in noted(crew.done)} == set(range(sent)))
        with connect(others[1]) as client:
            until(lambda: is_settled(client, sent))
        assert crew.is_whole(), "a worker ended"
    finally:
        crew.dismiss()
    assert Counter(number for number, _ in noted(crew.done)) == Counter(range(sent))
    leader.start()
    leader.wait_ready()


def test_rq_does_each_job_once(cluster: NodeCluster, tmp_path: Path) -> None:
    def sender(node: LocalNode, path: str) -> Callable[[int], object]:
        queue = Queue(QUEUE, connection=connect(node))
        return lambda number: queue.enqueue("tests.support.queue_workers.note", path, number)

    def is_settled(client: redis.Redis, sent: int) -> bool:
        queue = Queue(QUEUE, connection=client)
        finished, started = FinishedJobRegistry(queue=queue), StartedJobRegistry(queue=queue)
        return (finished.count, started.count, queue.count) == (sent, 0, 0) and not client.exists(
            queue.intermediate_queue_key
        )

    work_through_an_election(cluster, "rq", tmp_path, sender, is_settled)


def test_celery_does_each_job_once(cluster: NodeCluster, tmp_path: Path) -> None:
    def sender(node: LocalNode, path: str) -> Callable[[int], object]:
        app = celery_app(*node.address)
        return lambda number: app.send_task("note", (path, number))

    def is_settled(client: redis.Redis, sent: int) -> bool:
        return not client.exists(QUEUE, "unacked", "unacked_index")

    work_through_an_election(cluster, "celery", tmp_path, sender, is_settled)
