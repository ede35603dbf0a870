"""Faults of processes: killed, stopped, restarted, short of descriptors, not listened to."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import resource
import signal
import socket
import struct
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.chaos.faults.protocol import (
    Fault,
    Injection,
    NotApplicable,
)
from tests.chaos.panel import Slot
from tests.chaos.plan import Whom
from tests.chaos.points import POINTS, Point
from tests.chaos.stage import Stage, StageNode

FAMILY = "processes"
KILLED = -signal.SIGKILL
RETURN_SECONDS = (0.1, 1.5)
"""Between the returns of several."""
GAP_SECONDS_MAX = 0.15
"""Between the deaths of several: the worst moment is the one between two."""
FEW_DESCRIPTORS = 16
"""How many more than it has a node gets when they are short."""
STOPPED_STATE = "T"
REACH_SECONDS_MAX = 8.0
"""A point that a node has not come by until then it does not come by now."""
ELECTION_SECONDS = 2.0
ABSENCE_SECONDS = 5.0


class Killed(Injection):
    """Some nodes are down."""

    def __init__(
        self,
        fault: Fault,
        stage: Stage,
        nodes: Sequence[StageNode],
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(fault, stage, nodes, excused=nodes, exits=[KILLED], kills=True)
        self.lost_bytes = 0
        self._dead: list[str] = []
        self._random = rng

    async def kill(self, node: StageNode, *, power: bool) -> None:
        """Kill -9 one of them, and take its power if it has any."""
        self.stage.hold_down(node, self)
        was_alive = node.alive()
        if power:
            await asyncio.to_thread(self.stage.lose_power, [node])
        else:
            await asyncio.to_thread(node.kill)
        if was_alive and node.process is not None and node.process.returncode == KILLED:
            self._dead.append(node.name)
            if node.disk == "forgetful":
                self.lost_bytes += node.panel[Slot.UNSYNCED_BYTES]

    async def undo(self) -> None:
        """Those that died last come back last: what they alone knew is missing when others vote."""
        for position, node in enumerate(self.nodes):
            if position and self._random is not None:
                await asyncio.sleep(self._random.uniform(*RETURN_SECONDS))
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """They were alive, and ended by the signal."""
        if len(self._dead) < len(self.nodes):
            return None
        return f"killed {', '.join(self._dead)}; {self.lost_bytes} bytes were not synced"


class Kill(Fault):
    """SIGKILL of one node, of the leader, or of a minority."""

    name = "kill"
    family = FAMILY
    whom: ClassVar[tuple[Whom, ...]] = (Whom.LEADER, Whom.LEADER, Whom.FOLLOWER, Whom.MINORITY)
    seconds = (0.1, 6.0)
    power: ClassVar[bool] = False

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """One after the other."""
        injection = Killed(self, stage, targets, rng)
        for position, node in enumerate(targets):
            if position:
                await asyncio.sleep(rng.uniform(0, GAP_SECONDS_MAX))
            await injection.kill(node, power=self.power)
        return injection


class PowerLoss(Kill):
    """SIGKILL, and what was not synced is gone: by the file system in the node, or by the disk."""

    name = "power-loss"
    power = True

    def missing(self, disks: Sequence[str]) -> str | None:
        """A plain disk forgets nothing."""
        return None if {"forgetful", "loop"} & set(disks) else "no disk here forgets anything"


class KillAll(Kill):
    """SIGKILL of all nodes a moment apart; they come back one after the other."""

    name = "kill-all"
    whom = (Whom.ALL,)


class PowerLossAll(PowerLoss):
    """The same, and all lose what was not synced: the power of the whole house went."""

    name = "power-loss-all"
    whom = (Whom.ALL,)


class Stopped(Injection):
    """Processes that do not run."""

    def __init__(
        self, fault: Fault, stage: Stage, nodes: Sequence[StageNode], seconds: float
    ) -> None:
        # Who is stopped may find its peers gone, and its leader another one, when it wakes up.
        super().__init__(fault, stage, nodes, excused=nodes)
        self._pids = [node.pid for node in nodes if node.alive()]
        self._seen = ""

    async def begin(self) -> None:
        """Stop them, and see that they stand."""
        for node in self.nodes:
            node.send(signal.SIGSTOP)
        for pid in self._pids:
            while (state := state_of(pid)) not in ("", STOPPED_STATE, "Z"):
                await asyncio.sleep(0.001)
            self._seen += state

    async def undo(self) -> None:
        """Let them run."""
        for node in self.nodes:
            node.send(signal.SIGCONT)

    def took_hold(self) -> str | None:
        """The kernel said that they were stopped."""
        stood = self._seen.count(STOPPED_STATE)
        return f"{stood} processes stood still" if stood and stood == len(self.nodes) else None


class Stop(Fault):
    """SIGSTOP for a while, as a machine that hangs."""

    name = "stop"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER, Whom.MINORITY)
    seconds = (0.1, 5.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Stop them all at once."""
        injection = Stopped(self, stage, targets, seconds)
        await injection.begin()
        return injection


class StopLong(Stop):
    """SIGSTOP for up to half a minute: an election goes by, and the leases of many things."""

    name = "stop-long"
    seconds = (5.0, 30.0)


class Restarted(Injection):
    """Nodes that were asked to stop, one after the other, and came back."""

    def __init__(self, fault: Fault, stage: Stage, nodes: Sequence[StageNode]) -> None:
        super().__init__(fault, stage, nodes, excused=nodes, exits=[0])
        self.codes: list[int | None] = []

    async def undo(self) -> None:
        """They are back already."""

    def took_hold(self) -> str | None:
        """All ended, and with 0."""
        return f"{len(self.codes)} nodes restarted" if set(self.codes) == {0} else None


class RollingRestart(Fault):
    """SIGTERM for each node in turn, and a start: what an update does."""

    name = "rolling-restart"
    family = FAMILY
    group = "restart"
    whom = (Whom.ALL,)
    seconds = (0.0, 0.0)
    STOP_SECONDS_MAX: ClassVar[float] = 27.0

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Followers first, the leader last, each when the one before serves again."""
        injection = Restarted(self, stage, targets)
        leader = await asyncio.to_thread(stage.leader)
        for node in sorted(targets, key=lambda node: node is leader):
            if not node.alive():
                raise NotApplicable(f"{node.name} is down already")
            stage.hold_down(node, injection)
            try:
                node.send(signal.SIGTERM)
                code = await asyncio.to_thread(node.wait_exit, self.STOP_SECONDS_MAX)
                injection.codes.append(code)
                if code is None:
                    await asyncio.to_thread(node.kill)
            finally:
                stage.lift(node, injection)
            await stage.settle()
        return injection


class ShortOfDescriptors(Injection):
    """Nodes that may open few more files."""

    def __init__(self, fault: Fault, stage: Stage, nodes: Sequence[StageNode]) -> None:
        # A node that cannot open its log's next segment takes its disk for broken.
        super().__init__(fault, stage, nodes, excused=nodes, exits=[74])
        self._before: dict[int, tuple[int, int]] = {}
        self._callers: list[socket.socket] = []
        self._most: list[str] = []

    async def begin(self) -> None:
        """Lower the limit, and take what is left of it by connections."""
        for node in self.nodes:
            limits = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
            self._before[node.pid] = limits
            limit = open_files(node.pid) + FEW_DESCRIPTORS
            resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (limit, limits[1]))
            for _ in range(2 * FEW_DESCRIPTORS):
                caller = socket.socket()
                caller.setblocking(False)
                caller.connect_ex((node.host, node.own.client))
                self._callers.append(caller)
            deadline = time.monotonic() + 5.0
            while open_files(node.pid) < limit and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            if open_files(node.pid) >= limit:
                self._most.append(f"{node.name} had {limit} files open, as many as it may")

    async def undo(self) -> None:
        """Hang up, and raise the limit."""
        for caller in self._callers:
            caller.close()
        self._callers.clear()
        for node in self.nodes:
            if node.alive() and node.pid in self._before:
                resource.prlimit(node.pid, resource.RLIMIT_NOFILE, self._before[node.pid])
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """All descriptors were taken."""
        return "; ".join(self._most) if len(self._most) == len(self.nodes) else None


class FewDescriptors(Fault):
    """The limit of open files is lowered under a running node until it has none left."""

    name = "few-descriptors"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (1.0, 4.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Lower it."""
        injection = ShortOfDescriptors(self, stage, [node for node in targets if node.alive()])
        if not injection.nodes:
            raise NotApplicable("the node is down")
        await injection.begin()
        return injection


class Unheard(Injection):
    """Nodes whose log nobody takes."""

    def __init__(
        self, fault: Fault, stage: Stage, nodes: Sequence[StageNode], seconds: float
    ) -> None:
        super().__init__(fault, stage, nodes)
        self._waiting = 0
        for node in nodes:
            if node.pipe is not None:
                node.pipe.stop()

    async def undo(self) -> None:
        """Read on."""
        for node in self.nodes:
            if node.pipe is not None:
                self._waiting += unread_bytes(node.pipe.source)
                node.pipe.go_on()

    def took_hold(self) -> str | None:
        """Words waited in the pipe."""
        return f"{self._waiting} bytes of logs waited" if self._waiting else None


class LogStopped(Fault):
    """Who reads a node's log stops; the pipe between them holds few bytes."""

    name = "log-stopped"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER, Whom.ALL)
    seconds = (2.0, 6.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Stop reading; and let the nodes have something to say: every nonsense is logged."""
        injection = Unheard(self, stage, targets, seconds)
        for node in targets:
            for _ in range(8):
                await asyncio.to_thread(talk_nonsense, (node.host, node.own.peer))
        return injection


def talk_nonsense(address: tuple[str, int]) -> None:
    """Say something to a node's peer port that is no hello."""
    try:
        with socket.create_connection(address, 1.0) as caller:
            caller.sendall(b"\0\0\0\1\0")
            caller.recv(64)
    except OSError:
        return


def state_of(pid: int) -> str:
    """The state of a process as a letter; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def open_files(pid: int) -> int:
    """How many descriptors a process has; 0 if it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def unread_bytes(descriptor: int) -> int:
    """How much waits in a pipe; 0 if it is closed."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])
    except OSError:
        return 0


class Armed(Killed):
    """A node that died, or is to die, at a point of its own code."""

    def __init__(self, fault: Fault, stage: Stage, node: StageNode, point: Point) -> None:
        super().__init__(fault, stage, [node])
        self.point = point
        self.node = node
        self._is_reached = False

    async def wait_for_death(self, passes: int) -> bool:
        """Arm the point, bring about what leads there, and wait until the node has died of it."""
        node, panel = self.node, self.node.panel
        panel[Slot.POINT_REACHED] = 0
        panel[Slot.PASSES] = passes
        if self.point.step.comes not in ("start", "install"):
            panel[Slot.POINT] = self.point.number
        await self._lead_there()
        deadline = time.monotonic() + REACH_SECONDS_MAX
        while node.alive() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._is_reached = panel[Slot.POINT_REACHED] == self.point.number
        panel[Slot.POINT] = 0
        return self._is_reached

    async def _lead_there(self) -> None:
        """What comes always, or by itself under load, needs no help."""
        node, comes = self.node, self.point.step.comes
        if comes == "election":
            leader = await asyncio.to_thread(self.stage.leader)
            if leader is not None and leader is not node:
                leader.send(signal.SIGSTOP)
                await asyncio.sleep(ELECTION_SECONDS)
                leader.send(signal.SIGCONT)
        elif comes in ("start", "install"):
            await asyncio.to_thread(node.kill)
            if comes == "install":
                await asyncio.sleep(ABSENCE_SECONDS)  # the others cut what it would need
            node.panel[Slot.POINT] = self.point.number
            node.start()

    async def undo(self) -> None:
        """Nothing is armed, and it starts again."""
        self.node.panel[Slot.POINT] = 0
        await super().undo()

    def took_hold(self) -> str | None:
        """It was there."""
        if not self._is_reached:
            return None
        lost = self.node.panel[Slot.UNSYNCED_BYTES] if self.node.disk == "forgetful" else 0
        return f"died {self.point}; {lost} bytes were not synced"


class ArmedPoint(Fault):
    """SIGKILL before or after a step of the code: persist, send, apply, snapshot or rename."""

    name = "armed-point"
    family = FAMILY
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (0.1, 2.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Arm one of all points, and wait until it is reached."""
        point = rng.choice(POINTS)
        injection = Armed(self, stage, targets[0], point)
        if point.step.comes == "election":
            injection.disturbance.excused = stage.names  # who leads is stopped for a while
        stage.hold_down(targets[0], injection)
        passes = rng.choice([1, 1, 2, 3, 10, 50]) if point.step.comes == "always" else 1
        if not await injection.wait_for_death(passes):
            await injection.undo()
            raise NotApplicable(f"{point} was not reached")
        return injection
