"""Faults of disks: full, failing, slow; spoilt while the node is down; a wrong directory put back.

What spoils files is done to a minority, and one at a time: the promise is about that. A node that
refuses to start with what is left (65, 78) is replaced by an empty one, as an operator would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from tests.chaos.faults import damage
from tests.chaos.faults.protocol import Fault, Injection, NotApplicable
from tests.chaos.panel import Disk, Slot
from tests.chaos.plan import Whom
from tests.chaos.stage import Stage, StageNode
from tests.support import small_disk
from wal.fs import PosixFileSystem

FAMILY = "disks"
TROUBLE = "disk trouble"
DAMAGE = "damage"
"""At most one node at a time may have lost what it had acknowledged."""
KILLED = -9
DISK_FULL, CORRUPT, IO_ERROR, WRONG_IDENTITY = 10, 65, 74, 78
VERDICT_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
BLOCK_BYTES = 4096
OLDER_SECONDS = 1.0
"""How much newer than its copy a directory gets before the copy is put back."""


# --- while the node runs ----------------------------------------------------------------------


class Trouble(Injection):
    """A switch of the panel is turned."""

    def __init__(
        self,
        fault: DiskTrouble,
        stage: Stage,
        nodes: Sequence[StageNode],
    ) -> None:
        excused = nodes if fault.is_felt else ()
        super().__init__(fault, stage, nodes, excused=excused, exits=fault.exits)
        self._fault = fault
        self._before = self._count()
        for node in nodes:
            if fault.exits:
                stage.hold_down(node, self)  # a supervisor would not start it on such a disk
            node.panel[fault.slot] = fault.value

    def _count(self) -> int:
        return sum(node.panel[self._fault.counter] for node in self.nodes)

    async def undo(self) -> None:
        """The disk is well."""
        for node in self.nodes:
            node.panel[self._fault.slot] = 0
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """Calls failed, or took long."""
        number = self._count() - self._before
        return f"{number} {self._fault.what}" if number else None


class DiskTrouble(Fault):
    """What a panel can do to a disk."""

    family = FAMILY
    group = TROUBLE
    whom = (Whom.LEADER, Whom.FOLLOWER)
    seconds = (2.0, 8.0)
    slot: ClassVar[Slot] = Slot.DISK
    value: ClassVar[int]
    counter: ClassVar[Slot] = Slot.DISK_FAILURES
    what: ClassVar[str] = "calls failed"
    is_felt: ClassVar[bool] = True
    """Clients of the node may see errors."""
    exits: ClassVar[tuple[int, ...]] = ()

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Turn the switch."""
        return Trouble(self, stage, targets)


class Full(DiskTrouble):
    """No room for the log's next segment, nor for a snapshot that is received."""

    name = "disk-full"
    value = Disk.FULL
    seconds = (4.0, 10.0)


class Failing(DiskTrouble):
    """EIO for every write and sync: the node leaves with 74."""

    name = "disk-eio"
    value = Disk.FAILS
    exits = (IO_ERROR,)
    seconds = (1.0, 4.0)


class ReadOnly(DiskTrouble):
    """EROFS for everything that changes something: the node leaves with 74."""

    name = "disk-read-only"
    value = Disk.READ_ONLY
    exits = (IO_ERROR,)
    seconds = (1.0, 4.0)


class SlowSync(DiskTrouble):
    """Every sync takes two seconds; a leader hands over, clients wait and see no error."""

    name = "disk-slow"
    slot = Slot.SYNC_DELAY_MS
    value = 2_000
    counter = Slot.SLOW_SYNCS
    what = "syncs took two seconds longer"
    is_felt = False
    seconds = (4.0, 10.0)


class RealFull(Injection):
    """Not a block is left on a loop disk."""

    def __init__(self, fault: Fault, stage: Stage, node: StageNode) -> None:
        super().__init__(fault, stage, [node], excused=[node], exits=[DISK_FULL])
        assert node.loop is not None
        self._place = node.loop.directory
        self._free = -1

    async def begin(self) -> None:
        """Put something else on it, most of it without writing."""
        await asyncio.to_thread(take_all_room, self._place)

    async def undo(self) -> None:
        """Delete that."""
        if (self._place / small_disk.FILLER).exists():
            room = os.statvfs(self._place)
            self._free = room.f_bavail * room.f_frsize
            small_disk.make_room(self._place)
            # Durable, or the next loss of power would fill the disk again.
            PosixFileSystem().sync_directory(self._place)
        for node in self.nodes:
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """It stayed full to the end."""
        return f"{self._free} bytes were free" if 0 <= self._free < 1 << 18 else None


def take_all_room(place: Path) -> None:
    """Leave not a block of a file system."""
    room = os.statvfs(place)
    most = max(0, room.f_bavail * room.f_frsize - (1 << 20))
    with (place / small_disk.FILLER).open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, most)
    small_disk.take_all_room(place)


class LoopFault(Fault):
    """Something that only a disk of its own can do."""

    family = FAMILY
    group = TROUBLE
    whom = (Whom.FOLLOWER,)
    seconds = (2.0, 8.0)

    def missing(self, disks: Sequence[str]) -> str | None:
        """A loop disk."""
        return None if "loop" in disks else "no node has a loop disk"

    def target(self, stage: Stage, rng: random.Random) -> StageNode:
        """A node on such a disk.

        Raises:
            NotApplicable: none runs.
        """
        nodes = [node for node in stage.nodes if node.loop is not None and node.alive()]
        if not nodes:
            raise NotApplicable("no node on a loop disk runs")
        return rng.choice(nodes)


class LoopFull(LoopFault):
    """A loop disk without a free block: log, engine and snapshots feel it."""

    name = "loop-full"
    seconds = (4.0, 10.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """Fill it."""
        injection = RealFull(self, stage, self.target(stage, rng))
        await injection.begin()
        return injection


class Aborted(Injection):
    """A file system that has made itself read-only."""

    def __init__(self, fault: Fault, stage: Stage, node: StageNode) -> None:
        super().__init__(fault, stage, [node], excused=[node], exits=[IO_ERROR, KILLED])
        stage.hold_down(node, self)
        assert node.loop is not None
        node.loop.become_read_only()
        self._code: int | None = None
        self._healed = False

    async def undo(self) -> None:
        """Mend it: unmounted and mounted again, when nobody uses it."""
        if self._healed:
            return
        self._healed = True
        (node,) = self.nodes
        self._code = await asyncio.to_thread(node.wait_exit, VERDICT_SECONDS_MAX)
        await asyncio.to_thread(self.stage.lose_power, [node])
        self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """The node left because of it."""
        return f"exit code {self._code}" if self._code == IO_ERROR else None


class LoopReadOnly(LoopFault):
    """ext4 finds an error and makes itself read-only: the node leaves with 74."""

    name = "loop-read-only"
    seconds = (1.0, 4.0)

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """What the kernel does itself."""
        return Aborted(self, stage, self.target(stage, rng))


def sync_all(place: Path) -> None:
    """Let the file system of `place` have everything."""
    subprocess.run(["sync", "--file-system", str(place)], check=True)


# --- while it is down -------------------------------------------------------------------------


class Spoilt(Injection):
    """A node that was killed, and started on something else than it had.

    Attributes:
        verdict: how that start ended: an exit code, "ready", or "" while nobody knows.
    """

    def __init__(self, fault: DiskDamage, stage: Stage, node: StageNode) -> None:
        exits = [KILLED, *fault.refusals]
        super().__init__(fault, stage, [node], excused=[node], exits=exits, kills=True)
        self._fault = fault
        self._told = node.said(fault.sentence) if fault.sentence else 0
        self._done = ""
        self.verdict = ""

    async def begin(self, rng: random.Random) -> None:
        """Kill, spoil, start, and wait what becomes of it.

        Raises:
            NotApplicable: there is nothing to spoil.
        """
        (node,) = self.nodes
        self.stage.hold_down(node, self)
        await asyncio.to_thread(self.stage.lose_power, [node])
        try:
            self._done = await self._fault.spoil(self.stage, node, rng)
            node.is_damaged = True
        except damage.NothingToDamage as reason:
            self.stage.lift(node, self)
            await self.stage.settle()
            raise NotApplicable(str(reason)) from None
        node.start()
        deadline = time.monotonic() + VERDICT_SECONDS_MAX
        while not self.verdict and time.monotonic() < deadline:
            if not node.alive():
                assert node.process is not None
                self.verdict = f"exit code {node.process.returncode}"
            elif await asyncio.to_thread(node.ready):
                self.verdict = "ready"
            await asyncio.sleep(POLL_SECONDS)
        if self.verdict == "ready" and not self._fault.sentence:
            self.findings.append(f"{node.name} serves as if nothing had been: {self._done}")

    async def undo(self) -> None:
        """Start it again, or another one in its place."""
        for node in self.nodes:
            self.stage.lift(node, self)

    def took_hold(self) -> str | None:
        """The node refused, or said what it found."""
        (node,) = self.nodes
        codes = [f"exit code {code}" for code in self._fault.refusals]
        said = self._fault.sentence and node.said(self._fault.sentence) > self._told
        if self.verdict in codes or said:
            return f"{self._done}: {self.verdict}" + (f", {self._fault.sentence}" if said else "")
        return None


Spoil = Callable[[Path, random.Random], str]


class DiskDamage(Fault):
    """Files of one node are spoilt while it is down."""

    family = FAMILY
    group = DAMAGE
    whom = (Whom.FOLLOWER, Whom.LEADER)
    seconds = (0.1, 2.0)
    refusals: ClassVar[tuple[int, ...]] = (CORRUPT,)
    """The codes with which it may refuse to start."""
    sentence: ClassVar[str] = ""
    """What it says if it starts all the same."""

    async def spoil(self, stage: Stage, node: StageNode, rng: random.Random) -> str:
        """Do it; the node is down.

        Raises:
            damage.NothingToDamage: there is nothing of that kind.
        """
        raise NotImplementedError

    async def inject(
        self, stage: Stage, rng: random.Random, targets: Sequence[StageNode], seconds: float
    ) -> Injection:
        """To one node."""
        if any(node.is_damaged for node in stage.nodes):
            raise NotApplicable("another node is damaged")
        injection = Spoilt(self, stage, targets[0])
        await injection.begin(rng)
        return injection


class SpoiltFile(DiskDamage):
    """One that a function does to the directory."""

    how: ClassVar[Spoil]

    async def spoil(self, stage: Stage, node: StageNode, rng: random.Random) -> str:
        """Do it."""
        return await asyncio.to_thread(type(self).how, node.data, rng)


class ClosedSegment(SpoiltFile):
    """A bit flipped, a sector zeroed, or the end cut off, in a closed segment of the log."""

    name = "spoilt-closed-segment"
    how = damage.spoil_closed_segment


class BelowWitness(SpoiltFile):
    """A bit flipped, or a sector zeroed, in the open segment, where it is known to be durable."""

    name = "spoilt-open-segment"
    how = damage.spoil_below_witness


class LostTail(SpoiltFile):
    """The end of the log is lost below its witness: the node is refused, or starts recovering."""

    name = "lost-tail"
    how = damage.cut_below_witness
    sentence = "recovering: acknowledged entries are gone here"
    seconds = (1.0, 3.0)


class Snapshot(SpoiltFile):
    """The newest snapshot is spoilt, and the engine is gone: the one before must do."""

    name = "spoilt-snapshot"
    how = damage.spoil_snapshot
    sentence = "cannot be used, trying the one before"


class StateFile(SpoiltFile):
    """One of the two state files is spoilt: the other holds."""

    name = "spoilt-state-file"
    how = damage.spoil_state_file
    refusals = ()
    sentence = "state file rewritten"


class BothStateFiles(SpoiltFile):
    """Both state files are spoilt: term and vote are lost, and it must never vote again."""

    name = "spoilt-state-files"
    how = damage.spoil_both_state_files


class Wiped(DiskDamage):
    """An empty directory under a known name: it must be refused."""

    name = "wiped-directory"
    refusals = (WRONG_IDENTITY,)

    async def spoil(self, stage: Stage, node: StageNode, rng: random.Random) -> str:
        """Remove all of it."""
        if "--replaces" in node.arguments:
            # With that flag it would ask to take its own place, and rightly get it.
            stage.tell(node, *stage.join_flags(node))
        await asyncio.to_thread(shutil.rmtree, node.data)
        return "the directory was emptied"


class OldDirectory(DiskDamage):
    """An older copy is put back: refused, or ordered into recovering by who leads."""

    name = "old-directory"
    refusals = (WRONG_IDENTITY,)
    sentence = "recovering: acknowledged entries are gone here"
    seconds = (1.0, 3.0)

    async def spoil(self, stage: Stage, node: StageNode, rng: random.Random) -> str:
        """Copy it, let the node go on from it for one life or two, and put the copy back."""
        copy = stage.directory / f"{node.name}.copy"
        await asyncio.to_thread(shutil.copytree, node.data, copy)
        for _ in range(rng.randint(1, 2)):
            node.start()
            await asyncio.to_thread(node.wait_ready)
            await asyncio.sleep(OLDER_SECONDS)
            await asyncio.to_thread(stage.lose_power, [node])
        await asyncio.to_thread(shutil.rmtree, node.data)
        await asyncio.to_thread(shutil.copytree, copy, node.data)
        await asyncio.to_thread(shutil.rmtree, copy)
        sync_all(node.data)
        return "an older directory was put back"
