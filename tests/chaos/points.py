"""Points in the code at which a node can be made to die: around every step that a crash may hurt.

Before and after each function of the table stands a point. The harness arms one of them on the
node's control panel, with a number of passes; the process that comes by for the last time kills
itself there with SIGKILL, so that nothing is finished, flushed or said. What was written and not
synced is gone with it, if its disk forgets.

Functions are named where they are looked up when they are called: a method by its class, a function
that another module imported by that module.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.panel import Panel, Slot


@dataclass(frozen=True, slots=True)
class Step:
    """A function.

    Attributes:
        module: where it is looked up.
        qualname: its name there.
        comes: when nodes come by: "always" under load, else at an "election", at a "snapshot"
            that is taken, at an "install" of one that was sent, or at a "start".
    """

    module: str
    qualname: str
    comes: str = "always"


STEPS = (
    # --- persist: the log and the state files
    Step("kvnode.node.log_writer", "_Group.write"),
    Step("wal.log", "Wal.append"),
    Step("wal.log", "Wal._write"),
    Step("wal.log", "write_all"),
    Step("wal.log", "Wal.mark"),
    Step("wal.log", "Wal.refresh_state"),
    Step("wal.log", "Wal.save_state", "election"),
    Step("wal.state", "StateFiles.save"),
    Step("wal.state", "StateFiles._write"),
    Step("wal.state", "StateFiles._put"),
    Step("wal.log", "create_segment"),
    Step("wal.segment", "write_zeros"),
    Step("wal.fs", "PosixFileSystem.fdatasync"),
    Step("kvnode.directory", "_replace_file", "start"),
    # --- send: to peers, and to clients
    Step("kvnode.node.transport", "Transport.flush"),
    Step("kvnode.node.transport", "PeerLink.flush"),
    Step("kvnode.node.driver", "Driver.pump"),
    Step("kvnode.node.driver", "Driver.synced"),
    Step("kvnode.resp.outbox", "Outbox.write"),
    Step("raft.raft", "Raft.propose"),
    Step("raft.raft", "Raft.synced"),
    Step("raft.raft", "Raft._grant", "election"),
    Step("raft.raft", "Raft._become_candidate", "election"),
    Step("raft.raft", "Raft._become_leader", "election"),
    # --- apply
    Step("kvnode.node.applier", "Applier._apply"),
    Step("kvnode.node.applier", "Applier._commit_in_time"),
    Step("kvnode.store.state_machine", "StateMachine.apply"),
    Step("kvnode.store.state_machine", "StateMachine.commit"),
    Step("kvnode.node.outcomes", "Outcomes.on_applied"),
    # --- snapshot, and the cut of the log behind it
    Step("kvnode.node.snapshots", "Snapshots._take", "snapshot"),
    Step("kvnode.node.snapshot_library", "SnapshotLibrary.take", "snapshot"),
    Step("kvnode.node.snapshot_library", "SnapshotLibrary.prune", "snapshot"),
    Step("wal.log", "Wal.mark_snapshot", "snapshot"),
    Step("kvnode.node.snapshots", "Snapshots._cut_log", "snapshot"),
    Step("wal.log", "Wal.release", "snapshot"),
    Step("wal.log", "remove", "snapshot"),
    Step("raft.raft", "Raft.compact", "snapshot"),
    Step("kvnode.node.snapshots", "Snapshots._begin_inbound", "install"),
    Step("kvnode.node.snapshots", "Snapshots._on_chunk", "install"),
    Step("kvnode.node.snapshots", "Snapshots._install", "install"),
    Step("kvnode.node.snapshots", "Snapshots._switch", "install"),
    Step("kvnode.node.snapshot_library", "SnapshotLibrary.adopt", "install"),
    Step("kvnode.node.snapshot_library", "SnapshotLibrary.load", "install"),
    Step("kvnode.node.snapshot_library", "SnapshotLibrary.use", "install"),
    Step("raft.raft", "Raft.install_snapshot", "install"),
    # --- rename and its like
    Step("wal.fs", "PosixFileSystem.rename"),
    Step("wal.fs", "PosixFileSystem.unlink", "snapshot"),
    Step("wal.fs", "PosixFileSystem.sync_directory"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """A place to die.

    Attributes:
        number: on the panel, from 1.
    """

    number: int
    step: Step
    after: bool

    def __str__(self) -> str:
        """For people."""
        return f"{'after' if self.after else 'before'} {self.step.qualname}"


POINTS = tuple(
    Point(number, step, after)
    for number, (step, after) in enumerate(
        ((step, after) for step in STEPS for after in (False, True)), 1
    )
)


def find(step: Step) -> tuple[Any, str, Callable[..., Any]]:
    """Where the function hangs, under which name, and the function.

    Raises:
        AttributeError: the product has moved on; the table must be mended.
    """
    owner: Any = importlib.import_module(step.module)
    *path, name = step.qualname.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def install(panel: Panel) -> None:
    """Put all points into this process."""
    points = iter(POINTS)
    for before, after in _pairs(points):
        owner, name, function = find(before.step)
        setattr(owner, name, guarded(function, panel, before.number, after.number))


def _pairs(points: Iterator[Point]) -> Iterator[tuple[Point, Point]]:
    for before in points:
        yield before, next(points)


def guarded(
    function: Callable[..., Any], panel: Panel, before: int, after: int
) -> Callable[..., Any]:
    """The function between two points."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*arguments: Any, **named: Any) -> Any:
            if panel[Slot.POINT] == before:
                passed(panel)
            result = await function(*arguments, **named)
            if panel[Slot.POINT] == after:
                passed(panel)
            return result

        return later

    @functools.wraps(function)
    def at_once(*arguments: Any, **named: Any) -> Any:
        if panel[Slot.POINT] == before:
            passed(panel)
        result = function(*arguments, **named)
        if panel[Slot.POINT] == after:
            passed(panel)
        return result

    return at_once


def passed(panel: Panel) -> None:
    """The process is at the point that is armed: perhaps for the last time."""
    panel[Slot.PASSES] -= 1
    if panel[Slot.PASSES] <= 0:
        panel[Slot.POINT_REACHED] = panel[Slot.POINT]
        os.kill(os.getpid(), signal.SIGKILL)
