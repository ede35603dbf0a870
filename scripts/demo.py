"""Three nodes on this machine, to play with: `make demo`.

Starts three real processes on free loopback ports, tells how to talk to them, and runs until
Ctrl-C. The first Ctrl-C stops all three gracefully within ten seconds; a second one kills them.
The data lives in a temporary directory and is thrown away at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from scripts.local_cluster import (
    HOST,
    POLL_SECONDS,
    STOP_SECONDS_MAX,
    LocalCluster,
    LocalNode,
    NodeFailed,
)

SAME_SIGNAL_SECONDS = 0.5
"""A signal to the whole group may arrive twice: directly, and passed on by make."""


class Signals:
    """Counts the wishes to end: 0 go on, 1 stop gracefully, 2 stop at once.

    The handler only counts. An exception thrown out of it could strike between the start of a node
    and the moment we know its process id.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last = float("-inf")

    def install(self) -> None:
        """Take over the signals that end a terminal program."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - self._last >= SAME_SIGNAL_SECONDS:
            self.count += 1
        self._last = now


def describe(cluster: LocalCluster, leader: LocalNode) -> str:
    """What the user reads: one line per node, who leads, and what to try."""
    first, last = cluster.nodes[0], cluster.nodes[-1]
    python = os.path.relpath(sys.executable)
    increment = f"import redis; print(redis.Redis(port={first.ports.client}).incr('visits'))"
    lines = ["", "kvnode runs on three nodes:", ""]
    for node in cluster.nodes:
        role = "leader" if node is leader else "follower"
        lines.append(f"  redis-cli -p {node.ports.client}    # {node.name}, {role}, pid {node.pid}")
    lines += [
        "",
        f"{leader.name} leads. Try:",
        "",
        f"  redis-cli -p {first.ports.client} SET greeting hello    # any node takes any command",
        f"  redis-cli -p {last.ports.client} GET greeting          # and every other one knows it",
        f"  kill -9 {leader.pid}    # the leader: clients of the others see a pause, no error",
        f"  curl http://{HOST}:{first.ports.admin}/status    # who leads, who lags",
        "",
        "Without redis-cli:",
        "",
        f'  {python} -c "{increment}"',
        f"  bash -c 'exec 3<>/dev/tcp/{HOST}/{first.ports.client}; echo PING >&3; head -1 <&3'",
        "",
        f"Data and logs: {cluster.directory} (removed at the end)",
        "Ctrl-C stops all three; a second Ctrl-C kills them.",
    ]
    return "\n".join(lines)


def bring_up(cluster: LocalCluster, signals: Signals) -> None:
    """Start the nodes and say how to use them; returns early if somebody wants to end."""
    print("starting three nodes …", flush=True)
    cluster.launch()
    for node in cluster.nodes:
        node.wait_ready(give_up=lambda: signals.count > 0)
    if signals.count == 0:
        print(describe(cluster, cluster.wait_leader()), flush=True)


def watch(cluster: LocalCluster, signals: Signals) -> None:
    """Bring back nodes that end (somebody tries `kill -9`), until somebody wants to end."""
    while signals.count == 0:
        for node in cluster.nodes:
            if not node.alive():
                code = node.wait_exit(0)
                print(f"{node.name} ended (exit code {code}); starting it again", flush=True)
                node.start()
                node.wait_ready(give_up=lambda: signals.count > 0)
                print(f"{node.name} is back, pid {node.pid}", flush=True)
        time.sleep(POLL_SECONDS)


def stop(cluster: LocalCluster, signals: Signals) -> int:
    """Stop all nodes; 0 if all of them did so by themselves."""
    print("\nstopping all three …", flush=True)
    cluster.request_stop()
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while any(node.alive() for node in cluster.nodes):
        if signals.count > 1 or time.monotonic() > deadline:
            names = " ".join(node.name for node in cluster.nodes if node.alive())
            cluster.kill()
            print(f"killed: {names}", flush=True)
            return 1
        time.sleep(POLL_SECONDS)
    print("stopped", flush=True)
    return 0


def main() -> int:
    """Run the demo until a signal; 0 if all nodes stopped gracefully."""
    signals = Signals()
    signals.install()
    directory = Path(tempfile.mkdtemp(prefix="kvnode-demo-"))
    cluster = LocalCluster(directory)
    try:
        bring_up(cluster, signals)
        watch(cluster, signals)
        return stop(cluster, signals)
    except NodeFailed as failure:
        print(f"demo: {failure}", file=sys.stderr, flush=True)
        return 1
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
