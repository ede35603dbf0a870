"""One PySyncObj node that puts load on itself: what side_by_side starts three of.

PySyncObj is a library without a network protocol for clients: a program that uses it calls it. So
the clients live in the leader's process, and each one issues its next command in the callback of
the one before (a closed loop, as everywhere in this bench). That flatters PySyncObj, since nothing
is parsed, received from or sent to a client.

A `get` goes through the log like a `set`: PySyncObj's own reads look into the local dictionary,
may be stale on every node, and would compare a dictionary with a cluster.

The control port takes one JSON object per line and answers with one: `{"do": "status"}`, or
`{"do": "set", "clients": 256, "requests": 10000, "keys": 10000, "value_bytes": 64}` (or `get`). An
answer with `error` instead of figures means that a command failed or had no answer in time.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import socketserver
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from pysyncobj import (  # type: ignore[import-not-found]
    FAIL_REASON,
    SyncObj,
    SyncObjConf,
    replicated,
)

HOST = "127.0.0.1"
LOAD_SECONDS_MAX = 60.0
CLIENTS_MAX = 10_000
REQUESTS_MAX = 10_000_000
REQUEST_LINE_BYTES_MAX = 4096

Ask = Callable[..., None]


class Store(SyncObj):  # type: ignore[misc]
    """A replicated dictionary. (PySyncObj is untyped and not installed where types are checked.)"""

    def __init__(self, own: str, others: list[str], settings: SyncObjConf) -> None:
        super().__init__(own, others, settings)
        self._values: dict[str, str] = {}

    @replicated  # type: ignore[untyped-decorator]
    def set(self, key: str, value: str) -> None:
        """Write a key."""
        self._values[key] = value

    @replicated  # type: ignore[untyped-decorator]
    def get(self, key: str) -> str | None:
        """Read a key at its place in the log."""
        return self._values.get(key)


class Complaints(logging.Handler):
    """Counts what PySyncObj logs as ERROR or above, such as applied entries that it drops."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        """Count one."""
        self.count += 1


class Tally:
    """Latencies of all clients, and the first failure. Only PySyncObj's own thread calls `add`."""

    def __init__(self, requests: int) -> None:
        self._open = requests
        self.latencies_s: list[float] = []
        self.failure: int | None = None
        self.done = threading.Event()

    def add(self, latency_s: float, reason: int) -> None:
        """Note one answer; `done` is set by the last one, or by the first failure."""
        self.latencies_s.append(latency_s)
        self._open -= 1
        if reason != FAIL_REASON.SUCCESS:
            self.failure = reason
        if self._open == 0 or self.failure is not None:
            self.done.set()


def start_client(ask: Ask, requests: int, tally: Tally) -> None:
    """Start one client of a closed loop."""
    left, begin = requests, 0.0

    def issue() -> None:
        nonlocal left, begin
        left, begin = left - 1, time.perf_counter()
        ask(callback=answered)

    def answered(_result: object, reason: int) -> None:
        tally.add(time.perf_counter() - begin, reason)
        if left and tally.failure is None:
            issue()

    issue()


def asker(store: Store, operation: str, keys: int, value: str) -> Ask:
    """What a client does again and again."""

    def key() -> str:
        return f"key:{random.randrange(keys):012d}"

    if operation == "set":
        return lambda callback: store.set(key(), value, callback=callback)
    return lambda callback: store.get(key(), callback=callback)


def load(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Run a closed loop of clients; the figures, or an error."""
    clients, requests = int(request["clients"]), int(request["requests"])
    if not 1 <= clients <= CLIENTS_MAX or not clients <= requests <= REQUESTS_MAX:
        return {"error": f"{clients} clients and {requests} requests are not within the bounds"}
    ask = asker(store, request["do"], int(request["keys"]), "x" * int(request["value_bytes"]))
    tally = Tally(requests)
    begin = time.perf_counter()
    for number in range(clients):
        share = requests * (number + 1) // clients - requests * number // clients
        start_client(ask, share, tally)
    finished = tally.done.wait(LOAD_SECONDS_MAX)
    elapsed = time.perf_counter() - begin
    if not finished or tally.failure is not None:
        return {"error": f"reason {tally.failure}" if finished else "no answer in time"}
    cuts = statistics.quantiles(tally.latencies_s, n=100, method="inclusive")
    return {
        "ops_per_s": requests / elapsed,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
    }


class Control(socketserver.StreamRequestHandler):
    """Answers the control port, one connection at a time."""

    def __init__(self, store: Store, complaints: Complaints, *context: Any) -> None:
        self._store, self._complaints = store, complaints
        super().__init__(*context)

    def handle(self) -> None:
        """Answer line by line until the other side is gone."""
        while line := self.rfile.readline(REQUEST_LINE_BYTES_MAX):
            request = json.loads(line)
            answer = self._status() if request["do"] == "status" else load(self._store, request)
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _status(self) -> dict[str, Any]:
        leader = self._store._getLeader()  # noqa: SLF001  # it has no other name
        return {
            "ready": self._store.isReady(),
            "leader": None if leader is None else str(leader),
            "complaints": self._complaints.count,
        }


class ControlServer(socketserver.TCPServer):
    """Binds a port that the bench keeps reserved."""

    allow_reuse_address = True


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="one PySyncObj node with its own load generator")
    parser.add_argument("--own", required=True, help="host:port of this node")
    parser.add_argument("--other", action="append", default=[], help="host:port of another node")
    parser.add_argument("--control", required=True, type=int, help="port that takes the orders")
    parser.add_argument("--journal", required=True, help="file")
    parser.add_argument("--batch", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--append-period", type=float, default=0.1, help="seconds")
    parser.add_argument("--tick", type=float, default=0.05, help="seconds")
    arguments = parser.parse_args()
    complaints = Complaints()
    logging.getLogger("pysyncobj").addHandler(complaints)
    settings = SyncObjConf(
        journalFile=arguments.journal,
        appendEntriesUseBatch=arguments.batch,
        appendEntriesPeriod=arguments.append_period,
        autoTickPeriod=arguments.tick,
    )
    store = Store(arguments.own, arguments.other, settings)
    handler = functools.partial(Control, store, complaints)
    with ControlServer((HOST, arguments.control), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
