"""A worker of RQ or of Celery as a process of its own, and the job that it does.

    python -m tests.support.queue_workers rq HOST PORT
    python -m tests.support.queue_workers celery HOST PORT

The job writes its number and its worker's port into a file, one line each, so that it shows what
was done how often, whatever the queue believes. What of the libraries needs scripts or channels is
switched off:

* RQ: the worker does not subscribe to the channel on which it could be told to stop.
* Celery: no gossip, mingle, heartbeat and remote control (channels), no results, and what was not
  acknowledged in time is not looked for: the lock for that is released by a script.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery
from kombu.transport.redis import QoS
from redis import Redis
from rq import Queue, Worker

QUEUE = "jobs"
PORT_VARIABLE = "KVNODE_WORKER_PORT"


def note(path: str, number: int) -> None:
    """The job."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # One write: lines of several workers do not mix.
    os.write(descriptor, f"{number} {os.environ[PORT_VARIABLE]}\n".encode())
    os.close(descriptor)


def noted(path: Path) -> list[tuple[int, int]]:
    """The number of each job that was done, as often as it was, and the port of who did it."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), int(port)) for number, port in map(str.split, lines)]


class DeafWorker(Worker):
    """Takes jobs, and no orders."""

    def subscribe(self) -> None:
        """Do not: there are no channels."""


def restore_nothing(*_: object, **__: object) -> None:
    """In place of what looks for messages that were not acknowledged in time."""


def celery_app(host: str, port: int) -> Celery:
    """An application with the job as its only task, and this node for a broker."""
    app = Celery("kvnode", broker=f"redis://{host}:{port}/0")
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=QUEUE,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    app.task(note, name="note")
    return app


def main(library: str, host: str, port: str) -> None:
    """Work until told to end."""
    os.environ[PORT_VARIABLE] = port
    if library == "rq":
        connection = Redis(host, int(port))
        DeafWorker([Queue(QUEUE, connection=connection)], connection=connection).work()
        return
    QoS.restore_visible = restore_nothing
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    celery_app(host, int(port)).worker_main(
        ["worker", "--concurrency=2", f"--hostname=at-{port}@%h", *quiet]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
