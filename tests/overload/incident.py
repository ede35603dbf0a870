"""The first incident, replayed: a spike of clients against nodes with little memory.

    python -m tests.overload --attack large-values --memory 512 --seconds 20
    python -m tests.overload --attack all --everywhere

Three nodes, each in a memory cgroup of its own, with `auto` for the watchdog. One of them, or with
`--everywhere` each, is attacked. Polite clients ask PING and write keys meanwhile. What must hold:

* the kernel never kills: no process of the cgroup was killed for memory, no exit by a signal;
* a node that leaves does so with exit code 2, and only where that is allowed;
* PING is answered within 100 ms, as long as the node is there;
* afterwards the logs are clean (`kvnode wal verify`), the nodes come back, every acknowledged key
  is there, and their state hashes agree;
* with all nodes attacked, a majority of them was there in at least 95 % of the time.

`--ordinary` is the opposite: 256 clients with small values, and nothing may happen: no exit, no
rung of the ladder.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis

from scripts.local_cluster import HOST, LocalCluster, LocalNode, kvnode_command
from tests.overload.attacks import prepare
from tests.overload.probe import Pinger, Writer
from tests.support.cgroup import MemoryCgroup

MIB = 1024 * 1024
PING_MS_MAX = 100.0
PRESENT_SHARE_MIN = 0.95
REPOSITORY = Path(__file__).resolve().parents[2]
SETTLE_SECONDS = 2.0
AGREE_SECONDS_MAX = 20.0
ORDINARY = "ordinary"
ORDINARY_CLIENTS = 256
LEAVES_ALLOWED = {"whole-collection"}
"""Attacks that may end in exit 2."""


@dataclass(slots=True)
class Outcome:
    """What became of one attack.

    Attributes:
        wrong: what must not have happened.
        exits: exit codes of nodes that ended during the attack, by name.
        peak_bytes: the highest usage of each node's cgroup, page cache included.
    """

    attack: str
    seconds: float
    wrong: list[str] = field(default_factory=list)
    exits: dict[str, list[int]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    rungs: dict[str, float] = field(default_factory=dict)
    ping_slowest_ms: float = 0.0
    ping_p99_ms: float = 0.0
    pings: int = 0
    writes: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    got: dict[str, int] = field(default_factory=dict)
    present_share: float = 1.0

    def line(self) -> str:
        """One line for people."""
        exits = ", ".join(f"{name} {codes}" for name, codes in self.exits.items() if codes)
        peak = max(self.peak_bytes.values(), default=0) // MIB
        return (
            f"{self.attack:17} {'WRONG' if self.wrong else 'held '} exits: {exits or 'none'}; "
            f"PING slowest {self.ping_slowest_ms:.0f} ms, p99 {self.ping_p99_ms:.1f} ms of "
            f"{self.pings}; {self.writes} writes, refused {self.refused}; rungs {self.rungs}; "
            f"peak {peak} MiB; attackers got {self.got}; majority there {self.present_share:.1%}"
            + "".join(f"\n    WRONG: {text}" for text in self.wrong)
        )


class Stage:
    """Three nodes in cgroups, and what looks after them.

    Args:
        memory_bytes: the limit of each cgroup.
    """

    def __init__(self, memory_bytes: int, nodes: int = 3) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvnode-overload-"))
        environment = {
            "KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "auto",
            "MALLOC_ARENA_MAX": "2",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.cluster = LocalCluster(self.directory, nodes, environment=environment)
        self.cgroups = {
            node.name: MemoryCgroup.make(f"kvnode-overload-{node.ports.client}", memory_bytes)
            for node in self.cluster.nodes
        }
        for node in self.cluster.nodes:
            node.arguments = self.cgroups[node.name].command(node.arguments)
        self.exits: dict[str, list[int]] = {node.name: [] for node in self.cluster.nodes}

    def start(self) -> None:
        """Start all nodes, and wait until the cluster knows its feature level."""
        self.cluster.start()
        time.sleep(SETTLE_SECONDS)

    def supervise(self) -> int:
        """Start again who has left, as a supervisor does; how many nodes are ready."""
        ready = 0
        for node in self.cluster.nodes:
            if not node.alive():
                assert node.process is not None
                self.exits[node.name].append(node.process.returncode)
                node.start()
            elif node.ready():
                ready += 1
        return ready

    def close(self, *, keep: bool) -> None:
        """Stop all, and remove what is not needed any more."""
        self.cluster.stop()
        self.cluster.close()
        for cgroup in self.cgroups.values():
            cgroup.remove()
        if not keep:
            subprocess.run(["rm", "-rf", str(self.directory)], check=True)


def attack(stage: Stage, name: str, seconds: float, *, everywhere: bool) -> Outcome:
    """Attack, and judge what happened."""
    outcome = Outcome(name, seconds)
    leader = stage.cluster.wait_leader()
    victims = stage.cluster.nodes if everywhere else [leader]
    prepare(name, leader.ports.client)
    pingers = [Pinger(node.ports.client) for node in victims]
    writers = [Writer(node.ports.client, f"{name}:{node.name}") for node in stage.cluster.nodes]
    for client in (*pingers, *writers):
        client.start()
    attackers = [_start_attack(name, node, seconds) for node in victims]
    outcome.present_share = _watch(stage, attackers)
    for process in attackers:
        _add_answers(outcome, process)
    for client in (*pingers, *writers):
        client.stop()
    outcome.ping_slowest_ms = max(pinger.slowest_ms() for pinger in pingers)
    outcome.ping_p99_ms = max(pinger.percentile_ms(99) for pinger in pingers)
    outcome.pings = sum(len(pinger.answers) for pinger in pingers)
    outcome.writes = sum(len(writer.acknowledged) for writer in writers)
    for writer in writers:
        for code, count in writer.refused.items():
            outcome.refused[code] = outcome.refused.get(code, 0) + count
    outcome.rungs = _rungs(stage)
    _judge(stage, outcome, everywhere=everywhere)
    outcome.wrong += _check_afterwards(stage, [key for one in writers for key in one.acknowledged])
    return outcome


def _start_attack(name: str, node: LocalNode, seconds: float) -> subprocess.Popen[bytes]:
    port = str(node.ports.client)
    command = [sys.executable, "-m", "tests.overload.attacks", name, port, str(seconds)]
    if name == ORDINARY:
        load = ["redis-benchmark", "-p", port, "-c", str(ORDINARY_CLIENTS), "-d", "64", "-q"]
        load += ["-t", "set,get,incr,lpush,hset,zadd", "-r", "100000", "-l"]
        command = ["timeout", str(seconds), "nice", "-n", "19", *load]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)


def _watch(stage: Stage, attackers: list[subprocess.Popen[bytes]]) -> float:
    """Look after the nodes until the attack is over; the share of time with a majority there."""
    looks = present = 0
    while any(process.poll() is None for process in attackers):
        looks += 1
        present += stage.supervise() > len(stage.cluster.nodes) // 2
        time.sleep(0.1)
    return present / looks if looks else 1.0


def _add_answers(outcome: Outcome, process: subprocess.Popen[bytes]) -> None:
    text, _ = process.communicate()
    if outcome.attack == ORDINARY:
        return
    for kind, count in (json.loads(text) if text else {"attack failed": 1}).items():
        outcome.got[kind] = outcome.got.get(kind, 0) + count


def _rungs(stage: Stage) -> dict[str, float]:
    """How often each rung was entered, over all nodes since their last start."""
    entered: dict[str, float] = {}
    pattern = re.compile(r'^kvnode_memory_rung_entered_total\{rung="(\w+)"\} (\S+)$', re.MULTILINE)
    for node in stage.cluster.nodes:
        if not node.alive():
            continue
        for rung, count in pattern.findall(node.get("/metrics", 10.0)[1].decode()):
            if float(count):
                entered[rung] = entered.get(rung, 0) + float(count)
    return entered


def _judge(stage: Stage, outcome: Outcome, *, everywhere: bool) -> None:
    """What must hold while the attack goes on."""
    outcome.exits = {name: list(codes) for name, codes in stage.exits.items()}
    for name, codes in stage.exits.items():
        cgroup = stage.cgroups[name]
        outcome.peak_bytes[name] = cgroup.peak_bytes()
        if cgroup.oom_kills():
            outcome.wrong.append(f"the kernel killed in the cgroup of {name}")
        if any(code != 2 for code in codes):
            outcome.wrong.append(f"{name} ended with {codes}")
        if codes and outcome.attack not in LEAVES_ALLOWED:
            outcome.wrong.append(f"{name} left, {len(codes)} times")
        codes.clear()
    if outcome.attack == ORDINARY and outcome.rungs:
        outcome.wrong.append(f"an ordinary load entered {outcome.rungs}")
    if outcome.ping_slowest_ms > PING_MS_MAX and not any(outcome.exits.values()):
        outcome.wrong.append(f"a PING took {outcome.ping_slowest_ms:.0f} ms")
    if everywhere and outcome.present_share < PRESENT_SHARE_MIN:
        outcome.wrong.append(f"a majority was there in {outcome.present_share:.1%} of the time")


def _check_afterwards(stage: Stage, keys: list[bytes]) -> list[str]:
    """Stop, look at the logs, start again, and look for every acknowledged key."""
    wrong: list[str] = []
    if killed := stage.cluster.stop(30.0):
        wrong.append(f"did not stop in time: {[node.name for node in killed]}")
    for node in stage.cluster.nodes:
        command = [*kvnode_command(), "wal", "verify", str(node.data)]
        verified = subprocess.run(command, capture_output=True, check=False, text=True)
        if verified.returncode:
            wrong.append(f"wal verify {node.name}: {verified.returncode} {verified.stdout[-300:]}")
    stage.cluster.start()
    leader = stage.cluster.wait_leader()
    with redis.Redis(host=HOST, port=leader.ports.client, socket_timeout=30) as client:
        for start in range(0, len(keys), 1_000):
            part = keys[start : start + 1_000]
            found = zip(part, client.mget(part), strict=True)
            if lost := [key for key, value in found if value is None]:
                wrong.append(f"acknowledged and gone: {lost[:5]} and {len(lost) - 1} more")
    return wrong + _compare_hashes(stage)


def _compare_hashes(stage: Stage) -> list[str]:
    """All nodes have the same state at the same index, as soon as they have applied as much."""
    deadline = time.monotonic() + AGREE_SECONDS_MAX
    while True:
        hashes = [node.get_json("/hash") for node in stage.cluster.nodes]
        if None not in hashes and all(one == hashes[0] for one in hashes):
            return []
        if time.monotonic() > deadline:
            return [f"the nodes do not agree: {hashes}"]
        time.sleep(0.1)
