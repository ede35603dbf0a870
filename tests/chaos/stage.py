"""The stage: node processes behind proxies, on disks of their own, that faults are done to.

Every node has a control panel, a front for its peers and one for its clients. Others know it by the
addresses of its fronts, so that all bytes between two names pass a rule (`tests.chaos.proxy`). Its
output goes through a pipe that can be stopped, into its log.

A node's disk is one of three kinds:

* "forgetful": a directory, and in the node a file system that loses at the kill what it did not
  sync;
* "plain": the directory alone, as `kill -9` on a machine that goes on;
* "loop": an ext4 in a file behind a loop device, mounted with a journal that nobody flushes, which
  can lose its power. Needs root.

Several faults may want a node down at the same time; it is started when none of them does
(`hold_down`, `lift`). Whatever was made here is taken back by `close`, mounts and processes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from scripts.local_cluster import (
    HOST,
    LocalCluster,
    LocalNode,
    NodeFailed,
    PortReservation,
    Ports,
)
from tests.chaos import netns
from tests.chaos import panel as panels
from tests.chaos.forgetful import SEED_VARIABLE
from tests.chaos.netns import Namespace
from tests.chaos.node import DISK_VARIABLE, PLAIN
from tests.chaos.panel import Panel
from tests.chaos.proxy import Network
from tests.support.cgroup import MemoryCgroup
from tests.support.membership import voters_of
from tests.support.real_disk import LoopDisk

REPOSITORY = Path(__file__).resolve().parents[2]
SNAPSHOT_LOG_BYTES = "256kb"
"""Small, so that logs are cut and snapshots are sent while nodes die."""
LOOP_DISK_MIB = 96
PIPE_BYTES = 4096
POLL_SECONDS = 0.05
LAST_WORDS_SECONDS_MAX = 1.0
POWER_SECONDS_MAX = 10.0
CALM_SECONDS_MAX = 60.0
"""A node that does not serve by then, and is not killed again, will not."""
KINDS = ("forgetful", "plain", "loop")
CROWDED = ("--max-connections-per-peer", "0")
"""In a namespace all clients come from one address."""
STARTS_MAX = 12
"""Nodes that end again and again in calm weather will not come back."""
REFUSED = (65, 78)
"""Exit codes of a node that will never start again with the directory that it has."""


class LogPipe:
    """Carries what a process says into its log, unless it is told to stop."""

    def __init__(self, source: int, log: Path) -> None:
        self.source = source
        self._log = log
        self._flows = threading.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._carry, name="log pipe", daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        with self._log.open("ab", buffering=0) as log, contextlib.closing(self):
            while self._flows.wait() and (words := os.read(self.source, 1 << 16)):
                log.write(words)

    def stop(self) -> None:
        """Nobody reads the pipe from now on, but for one more portion."""
        self._flows.clear()

    def go_on(self) -> None:
        """Somebody does again."""
        self._flows.set()

    def close(self) -> None:
        """All was read."""
        os.close(self.source)

    def join(self) -> None:
        """Wait for the last words; workers may hold the pipe open a moment longer."""
        self.go_on()
        self._thread.join(LAST_WORDS_SECONDS_MAX)


class StageNode(LocalNode):
    """A node process as faults see it.

    Attributes:
        own: the ports that the process listens on; `ports` are those of its fronts.
        disk: "forgetful", "plain" or "loop".
        loop: the disk of a node on a loop device.
        panel: its switches and counters.
        holds: who wants it down.
        cgroup: of its memory, if it has one of its own.
        namespace: of its network, if it has one of its own; then `host` is its address there.
        front_host: where its fronts listen.
        is_damaged: its directory was spoilt, or changed for another: if it refuses to start, a new
            node takes its place.
        ended: codes of ended processes that nobody was told of yet, with the end of the log.
    """

    def __init__(
        self, name: str, ports: Ports, own: Ports, directory: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, ports, directory, (), environment)
        self.own = own
        self.disk = "forgetful"
        self.loop: LoopDisk | None = None
        panel_path = directory / f"{name}.panel"
        self.panel = Panel.at(panel_path)
        self.environment[panels.VARIABLE] = str(panel_path)
        self.holds: set[object] = set()
        self.is_damaged = False
        self.cgroup: MemoryCgroup | None = None
        self.namespace: Namespace | None = None
        self.front_host = HOST
        self.pipe: LogPipe | None = None
        self.ended: list[tuple[int, str]] = []
        self._noted: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect: its front."""
        return self.front_host, self.ports.client

    def start(self) -> None:
        """Start the process in a session of its own, with its output on a small pipe."""
        if self.alive():
            raise NodeFailed(f"{self.name} runs already, as process {self.pid}")
        self.note_end()
        source, sink = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a small pipe is full sooner, that is all
            _set_pipe_bytes(sink)
        disk = {DISK_VARIABLE: self.disk if self.disk == "forgetful" else PLAIN}
        try:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env={**os.environ, **self.environment, **disk},
            )
        finally:
            os.close(sink)
            self.pipe = LogPipe(source, self.log_path)

    def _command(self) -> tuple[str, ...]:
        command = self.arguments
        if self.namespace is not None:
            command = self.namespace.command(command)
        return self.cgroup.command(command) if self.cgroup is not None else command

    def note_end(self) -> None:
        """If the process has ended, put its code on the list, once."""
        process = self.process
        if process is None or process is self._noted or process.poll() is None:
            return
        self._noted = process
        if self.pipe is not None:
            self.pipe.join()
        self.ended.append((process.returncode, self.log_tail()))

    def said(self, sentence: str) -> int:
        """How often it has said that, in all its lives."""
        if not self.log_path.exists():
            return 0
        return self.log_path.read_text(errors="replace").count(sentence)


def _set_pipe_bytes(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


@dataclass(slots=True)
class Setting:
    """What the stage is made of.

    Attributes:
        size: how many nodes begin.
        seed: of the nodes' and the network's misfortunes.
        disks: kinds of disks, dealt out in turn.
        broken: name of a broken build, or empty.
        flags: more flags for every node.
        memory_mib: the limit of a memory cgroup for each node; 0 for none.
        netns: each node has a network namespace of its own.
    """

    size: int = 3
    seed: int = 0
    disks: Sequence[str] = ("forgetful",)
    broken: str = ""
    flags: Sequence[str] = ()
    memory_mib: int = 0
    netns: bool = False


@dataclass(slots=True)
class Stage:
    """All nodes and what is between them.

    Attributes:
        directory: where data, logs and panels go; made, never removed here.
        nodes: those that are, or are to be, members.
        former: those that were removed.
        replaced: how many nodes an empty one took the place of.
    """

    directory: Path
    setting: Setting = field(default_factory=Setting)
    nodes: list[StageNode] = field(default_factory=list)
    former: list[StageNode] = field(default_factory=list)
    replaced: int = 0
    network: Network = field(init=False)
    cluster: LocalCluster = field(init=False)
    _reservations: list[PortReservation] = field(default_factory=list)
    _disks: list[LoopDisk] = field(default_factory=list)
    _at_end: list[Callable[[], None]] = field(default_factory=list)
    _born: int = 0
    _born_namespaces: int = 0

    def __post_init__(self) -> None:
        self.network = Network(self.setting.seed)
        self.cluster = LocalCluster(self.directory, 0)
        if self.setting.netns:
            netns.remove_leftovers()
            netns.remove_front_address()  # of an earlier process with the same number
            netns.add_front_address()
            self.at_end(netns.remove_front_address)
        # The same list: who leads, and who is to be stopped, is asked of those that are there.
        self.cluster.nodes = cast("list[LocalNode]", self.nodes)

    # --- making nodes -----------------------------------------------------------------------------

    def found(self) -> None:
        """Make the nodes that begin, and start them.

        Raises:
            NodeFailed: one was not ready in time.
        """
        founders = [self.make(self._name()) for _ in range(self.setting.size)]
        members = ",".join(f"{n.name}={n.front_host}:{n.ports.peer}" for n in founders)
        for node in founders:
            self.tell(node, "--cluster", members)
        self.cluster.start()
        self.cluster.wait_leader()

    def make(self, name: str) -> StageNode:
        """A node that is told of nobody yet; not started."""
        front, own = self._ports(), self._ports()
        node = StageNode(
            name,
            Ports(front.client, front.peer, own.admin),
            own,
            self.directory,
            {
                "PYTHONPATH": str(REPOSITORY),
                SEED_VARIABLE: str(self.setting.seed),
                "KVNODE_SNAPSHOT_LOG_BYTES": SNAPSHOT_LOG_BYTES,
            },
        )
        node.disk = self.setting.disks[len(self.nodes) % len(self.setting.disks)]
        if node.disk == "loop":
            self._mount(node)
        if self.setting.memory_mib:
            limit = self.setting.memory_mib << 20
            node.cgroup = MemoryCgroup.make(f"kvnode-chaos-{os.getpid()}-{name}", limit)
            self.at_end(node.cgroup.remove)
        if self.setting.netns:
            self._born_namespaces += 1
            node.namespace = Namespace(name, self._born_namespaces)
            self.at_end(node.namespace.remove)
            node.namespace.make()
            node.host, node.front_host = node.namespace.address, netns.front_address()
        for port, target, peers in (
            (front.client, own.client, False),
            (front.peer, own.peer, True),
        ):
            self.network.add(name, (node.front_host, port), (node.host, target), peers=peers)
        self.nodes.append(node)
        return node

    def newcomer(self, *flags: str) -> StageNode:
        """A node that joins through all that run; not started."""
        node = self.make(self._name())
        self.tell(node, *self.join_flags(node), *flags)
        return node

    def join_flags(self, newcomer: StageNode) -> tuple[str, str]:
        """The flag that makes a node join through all others that run."""
        via = [node for node in self.nodes if node is not newcomer and node.alive()]
        return "--join", ",".join(f"{node.front_host}:{node.ports.peer}" for node in via)

    def tell(self, node: StageNode, *flags: str) -> None:
        """From its next start on a node is told of others by these flags alone."""
        broken = ("--broken", self.setting.broken) if self.setting.broken else ()
        node.arguments = (
            *(sys.executable, "-m", "tests.chaos.node", *broken, "serve", "--node", node.name),
            *("--listen", f"{node.host}:{node.own.client}"),
            *("--peer-listen", f"{node.host}:{node.own.peer}"),
            *("--admin", f"{node.host}:{node.own.admin}"),
            *("--advertise-client", f"{node.front_host}:{node.ports.client}"),
            *("--advertise-peer", f"{node.front_host}:{node.ports.peer}"),
            *(("--insecure", *CROWDED) if node.namespace is not None else ()),
            *("--data", str(node.data)),
            *self.setting.flags,
            *flags,
        )

    def _name(self) -> str:
        self._born += 1
        return f"n{self._born}"

    def _ports(self) -> Ports:
        reserved = [PortReservation() for _ in range(3)]
        self._reservations += reserved
        return Ports(*(reservation.port for reservation in reserved))

    def _mount(self, node: StageNode) -> None:
        place = self.directory / f"{node.name}.disk"
        node.loop = LoopDisk(place.with_suffix(".image"), place)
        self._disks.append(node.loop)
        node.loop.make(LOOP_DISK_MIB)
        node.data = place / "data"

    # --- who is who -------------------------------------------------------------------------------

    def named(self, name: str) -> StageNode:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def leader(self) -> StageNode | None:
        """Who leads, if somebody says so; asks the nodes."""
        return cast("StageNode | None", self.cluster.leader())

    async def wait_leader(self) -> StageNode:
        """Who leads, as soon as somebody does.

        Raises:
            NodeFailed: nobody did in time.
        """
        return cast(StageNode, await asyncio.to_thread(self.cluster.wait_leader))

    @property
    def minority(self) -> int:
        """How many nodes may fail at the same time."""
        return (len(self.nodes) - 1) // 2

    # --- down and up ------------------------------------------------------------------------------

    def hold_down(self, node: StageNode, who: object) -> None:
        """Keep a node from being started until `who` lifts that."""
        node.holds.add(who)

    def lift(self, node: StageNode, who: object) -> None:
        """`who` does not want the node down any more: it is started if nobody else does."""
        node.holds.discard(who)
        if not node.holds and not node.alive() and node in self.nodes:
            self._bring_up(node)

    def revive(self) -> int:
        """Start all that nobody wants down, as a supervisor would; how many that were."""
        down = [node for node in self.nodes if not node.holds and not node.alive()]
        for node in down:
            self._bring_up(node)
        return len(down)

    @staticmethod
    def _is_refusing(node: StageNode) -> bool:
        """It has ended with a code that no supervisor answers by a start, and without a reason."""
        ended = node.process is not None and node.process.poll() in REFUSED
        return ended and not node.is_damaged and not node.holds

    def _bring_up(self, node: StageNode) -> None:
        refused = node.process is not None and node.process.returncode in REFUSED
        if node.is_damaged and refused:
            if not any(other.alive() for other in self.nodes):
                return  # nobody could let it in; another time
            self.replace(node)
        node.start()

    def replace(self, node: StageNode) -> None:
        """What an operator does when a node has lost its disk: an empty one joins in its place."""
        node.is_damaged = False
        self.replaced += 1
        node.data.rename(node.data.with_name(f"{node.data.name}.quarantine-{self.replaced}"))
        self.tell(node, *self.join_flags(node), "--replaces", node.name)

    async def settle(self, seconds: float = CALM_SECONDS_MAX) -> None:
        """Start what is down, and wait until all nodes serve and one leads.

        Raises:
            NodeFailed: that did not come about in time.
        """
        deadline = time.monotonic() + seconds
        starts = 0
        for node in list(self.nodes):
            while not await asyncio.to_thread(node.ready):
                if time.monotonic() > deadline or starts > STARTS_MAX:
                    raise NodeFailed(
                        f"{node.name} not ready after {seconds:g} s:\n{node.log_tail()}"
                    )
                if self._is_refusing(node):
                    raise NodeFailed(f"{node.name} does not start any more:\n{node.log_tail()}")
                starts += self.revive()
                await asyncio.sleep(POLL_SECONDS)
            node.is_damaged = False
        await self.wait_leader()
        while not await asyncio.to_thread(self.all_vote):
            if time.monotonic() > deadline:
                raise NodeFailed(f"not all are voters after {seconds:g} s: {self.roles()}")
            await asyncio.sleep(POLL_SECONDS)

    def all_vote(self) -> bool:
        """Whether every node knows that it is a voter, and the others too."""
        return all(known == set(self.names) for known in self.roles().values())

    def roles(self) -> dict[str, set[str]]:
        """The voters, as each node knows them."""
        return {node.name: voters_of(node) for node in self.nodes}

    @property
    def names(self) -> list[str]:
        """What the nodes are called."""
        return [node.name for node in self.nodes]

    def lose_power(self, nodes: Iterable[StageNode]) -> None:
        """Kill -9; what was not synced is gone, where the disk allows that."""
        nodes = list(nodes)
        for node in nodes:
            node.kill()
        for node in nodes:
            if node.loop is not None:
                power_cycle(node.loop)

    # --- the end ----------------------------------------------------------------------------------

    def at_end(self, undo: Callable[[], None]) -> None:
        """Have something taken back when the stage is closed, however that comes about."""
        self._at_end.append(undo)

    def close(self) -> None:
        """Stop all processes and take back whatever was done to this machine."""
        for node in (*self.nodes, *self.former):
            node.send(signal.SIGCONT)
        with contextlib.ExitStack() as stack:
            # Undone from the last to the first; one that fails does not keep the others.
            stack.callback(self._release)
            for disk in self._disks:
                stack.callback(disk.remove)
            for undo in self._at_end:
                stack.callback(undo)
            stack.callback(self.network.close)
            stack.callback(self._stop)

    def _stop(self) -> None:
        for node in self.nodes:
            if node.pipe is not None:
                node.pipe.go_on()
        self.cluster.stop()
        for node in (*self.nodes, *self.former):
            node.kill()
            node.note_end()

    def _release(self) -> None:
        self.cluster.close()
        for reservation in self._reservations:
            reservation.release()


def power_cycle(disk: LoopDisk) -> None:
    """Lose power and come back.

    A container that was just started may hold a copy of the mount for a moment; then what comes
    back is the old file system, without power.
    """
    deadline = time.monotonic() + POWER_SECONDS_MAX
    disk.power_cycle()
    while True:
        try:
            (disk.directory / "probe").touch()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)
        disk.unmount()
        disk.mount()


def can_mount(directory: Path) -> str | None:
    """Why no loop disk can be made here, or None."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    if shutil.which("mkfs.ext4") is None:
        return "this machine has no mkfs.ext4"
    disk = LoopDisk(directory / "trial.image", directory / "trial.disk")
    try:
        disk.make(8)
    except (pytest.skip.Exception, OSError, subprocess.CalledProcessError) as refusal:
        return str(refusal)
    finally:
        disk.remove()
    return None


def deal_disks(rng: random.Random, size: int, *, loop: bool) -> list[str]:
    """A kind of disk for each node: most forget, and half of the rest can lose its power."""
    kinds = ("forgetful", "loop") if loop else ("forgetful",)
    return [rng.choice(kinds) for _ in range(size)]
