"""`kvnode member replace --data`: a machine whose log is damaged starts over as a new member.

What the directory holds is set aside, never deleted, and the node of the same name asks to join in
the place of the member that it was. It comes back as a learner with a new id, since the old one
would vouch for entries that this disk no longer has.

Two steps make that safe to interrupt anywhere. First the identity file is replaced, atomically, by
that of a node which asks to join: from then on nobody can start as the old member here. Then what
was there is moved away, the log last. While any of the log is left, a start is refused and names
this command; run again, it goes on where it was.

The content goes to `DIR.quarantine-<UTC>` beside the directory. Where that is another file system
(a mount point), or where nothing may be made, it goes to `DIR/quarantine-<UTC>`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kvnode.directory import (
    MADE_BY_MKFS,
    copy_identity,
    has_log,
    holder,
    locked,
    read_identity,
    set_out_to_join,
    sync_directory,
)
from kvnode.errors import (
    ConfigurationError,
    DiskFailed,
    ExitCode,
    LogCorrupt,
    ResourceBusy,
    UsageError,
)
from kvnode.identity_file import Identity
from kvnode.offline.refused import OperationRefused
from kvnode.wal_tools.examine import examine
from kvnode.wal_tools.target import open_target
from wal.errors import WalError

STAYS: Final = {"LOCK", "identity", "identity.new", "ballast", MADE_BY_MKFS}
"""What is no part of the member that the directory was: the lock is held while this happens."""

LOG: Final = ("state-a", "state-b", "wal")
"""Moved last and in this order: while one of them is there, no node starts."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """What is to be done, or was.

    Attributes:
        data: the directory.
        node: the name of the node.
        join: peers that it will ask, separated by commas.
        replaces: the member, by id or name, whose place it takes.
        quarantine: where the content went; None if there was nothing to move.
        is_resumed: an earlier run had begun it.
        unfinished: id of the learner that the directory was, if it had not yet taken that place.
    """

    data: Path
    node: str
    join: str
    replaces: str
    quarantine: Path | None
    is_resumed: bool
    unfinished: str = ""

    def explain(self) -> list[str]:
        """Return what was done and what comes next, as sentences."""
        lines = [f"{self.data} is that of a new member now."]
        if self.quarantine is not None:
            lines.append(
                f"What it held is in {self.quarantine}: keep it until the new member is a voter."
            )
        if self.unfinished:
            lines.append(
                "It was a learner that had not taken its place yet: make room for another one "
                f"with `kvnode member remove {self.unfinished}`."
            )
        lines.append(
            f"Start node {self.node!r} with the same flags as before: it joins as a learner by way "
            f"of {self.join}, and takes the place of {self.replaces} when it has caught up."
        )
        return lines

    def document(self) -> dict[str, Any]:
        """Return the same as a JSON document."""
        return {
            "directory": str(self.data),
            "node": self.node,
            "join": self.join.split(","),
            "replaces": self.replaces,
            "quarantine": None if self.quarantine is None else str(self.quarantine),
            "resumed": self.is_resumed,
            "unfinished": self.unfinished or None,
            "explanation": self.explain(),
        }


def set_aside(
    data: Path, *, node: str = "", via: Sequence[str] = (), force: bool = False
) -> SetAside:
    """Set a member's directory aside and leave one that asks to join in its place.

    Args:
        data: the directory of a node that does not run.
        node: its name; needed where its identity is damaged.
        via: peer addresses to ask; by default those that the directory knows.
        force: even if the log is healthy.

    Raises:
        UsageError: `data` is no data directory, or more must be told (exit 64).
        OperationRefused: it would harm; nothing was changed (exit 1).
        ResourceBusy: the node runs (exit 75).
        DiskFull, DiskFailed: the disk has no room or fails (exit 10, 74); it can be run again.
    """
    data = data.resolve()
    known = _identity_of(data)
    if (process := holder(data)) is not None:
        raise ResourceBusy(f"data directory {data} is in use by process {process}")
    if known is not None and node not in {"", known.node}:
        raise UsageError(f"{data} belongs to node {known.node!r}, not to {node!r}")
    if known is not None and not known.is_admitted:
        with locked(data):
            quarantine = _finish(data)
        return SetAside(data, known.node, known.join, known.replaces, quarantine, is_resumed=True)
    plan = _plan(data, known, node, via)
    if known is not None and not force:
        _refuse_if_healthy(data)
    _refuse_mount_points(data)
    with locked(data):
        quarantine = _quarantine_for(data, is_moving=False)
        copy_identity(data, quarantine)
        set_out_to_join(data, plan.node, plan.join, plan.replaces)
        _move(data, quarantine)
    return replace(plan, quarantine=quarantine)


# --- whether and how ------------------------------------------------------------------------------


def _identity_of(data: Path) -> Identity | None:
    """Return whose directory this is; None if that is damaged or gone, but a log is there."""
    if not data.is_dir():
        raise UsageError(f"{data} is no directory")
    try:
        known = read_identity(data)
    except LogCorrupt:
        return None
    if known is None:
        raise UsageError(f"{data} is no data directory of kvnode: it has no identity file")
    return known


def _plan(data: Path, known: Identity | None, node: str, via: Sequence[str]) -> SetAside:
    """Find out whose place the node shall take, and whom it can ask."""
    if known is None:
        if not node or not via:
            raise UsageError(
                f"the identity file in {data} is damaged or gone: tell the name of the node with "
                "--node and peers that it can ask with --via"
            )
        return SetAside(data, node, ",".join(via), node, None, is_resumed=False)
    if not known.has_others:
        raise OperationRefused(
            f"{data} belongs to a single node: there is nobody to get its data from. Mend the log "
            f"with `kvnode wal repair`, or bring it back from a copy"
        )
    join = list(via) or _peers_of(known)
    if not join:
        raise UsageError(f"{data} knows no address of another member: tell one with --via")
    own, unfinished = known.configuration.get(known.node_id), ""
    replaces = f"{known.node_id:016x}"
    if known.replaces and (own is None or own.role == "learner"):
        unfinished, replaces = replaces, known.replaces
    return SetAside(
        *(data, known.node, ",".join(join), replaces, None),
        is_resumed=False,
        unfinished=unfinished,
    )


def _peers_of(known: Identity) -> list[str]:
    """Return the peer addresses of the other members, voters first."""
    if known.configuration:
        others = [
            member for number, member in known.configuration.items() if number != known.node_id
        ]
        others.sort(key=lambda member: member.role != "voter")
        return [member.peer_address for member in others if member.peer_address]
    if known.members:
        return [address for name, address in known.members.items() if name != known.node]
    return [address for address in known.join.split(",") if address]


def _refuse_if_healthy(data: Path) -> None:
    """A log that a start would open needs no replacement, and a copy fewer is a risk."""
    try:
        found = examine(open_target(data))
    except (WalError, DiskFailed, ConfigurationError):
        return
    if found.exit_code != ExitCode.CORRUPT and not found.missing_snapshot:
        raise OperationRefused(
            f"the log in {data} is {found.verdict}: the node can start as it is. To replace it all "
            "the same, such as when its peers refuse it, add --force"
        )


def _refuse_mount_points(data: Path) -> None:
    for path in data.iterdir():
        if os.path.ismount(path) and {inner.name for inner in path.iterdir()} - {MADE_BY_MKFS}:
            raise OperationRefused(
                f"{path} is a mount point and cannot be moved: move what it holds to another "
                "place, and run this again with --force"
            )


# --- moving ---------------------------------------------------------------------------------------


def _finish(data: Path) -> Path | None:
    """Go on where an interrupted run was; None if it had nothing left to do."""
    if not has_log(data):
        return None
    quarantine = _quarantine_for(data, is_moving=True)
    _move(data, quarantine)
    return quarantine


def _move(data: Path, quarantine: Path) -> None:
    """Move everything but `STAYS` to the quarantine, what makes a start impossible last."""
    names = [path.name for path in data.iterdir() if path.name not in STAYS]
    names = [name for name in names if name not in LOG and not name.startswith("quarantine-")]
    for name in [*sorted(names), *LOG]:
        if not (data / name).exists() or os.path.ismount(data / name):
            continue
        try:
            os.rename(data / name, quarantine / name)
            # In this order: a crash may leave a name twice, and never loses one.
            sync_directory(quarantine)
            sync_directory(data)
        except OSError as error:
            raise DiskFailed(
                f"cannot move {data / name} to {quarantine}: {error.strerror}; run this again"
            ) from error


def _quarantines(data: Path) -> list[Path]:
    """All that were ever made for this directory, oldest first."""
    made = [path for path in data.iterdir() if path.name.startswith("quarantine-")]
    with contextlib.suppress(OSError):
        beside = f"{data.name}.quarantine-"
        made += [path for path in data.parent.iterdir() if path.name.startswith(beside)]
    return sorted(made, key=lambda path: path.name.rpartition("quarantine-")[2])


def _quarantine_for(data: Path, *, is_moving: bool) -> Path:
    """Return where the content goes: a new place, or that of the run that was interrupted."""
    made = _quarantines(data)
    if made:
        held = {path.name for path in made[-1].iterdir()}
        if is_moving or held <= {"identity", "identity.new"}:
            return made[-1]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    is_inside = os.path.ismount(data) or not os.access(data.parent, os.W_OK | os.X_OK)
    path = data / f"quarantine-{stamp}" if is_inside else Path(f"{data}.quarantine-{stamp}")
    try:
        path.mkdir(mode=0o700)
        sync_directory(path.parent)
    except OSError as error:
        raise OperationRefused(f"cannot make {path}: {error.strerror}") from error
    return path
