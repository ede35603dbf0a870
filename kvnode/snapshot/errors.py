"""What can be wrong with a snapshot: its bytes, or the attempt to make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvnode.errors import KvnodeError

if TYPE_CHECKING:
    from pathlib import Path


class SnapshotDamaged(KvnodeError):
    """The bytes of a snapshot are not what was written. An older one and the log may replace it.

    Attributes:
        path: the file.
        offset: where the damage was noticed, in bytes.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"snapshot {path} is damaged at byte {offset}: {reason}")
        self.path = path
        self.offset = offset


class SnapshotFailed(KvnodeError):
    """No snapshot came of it; the older ones are as they were. Try again later."""


class NoRoomToLoad(SnapshotFailed):
    """The file may be whole, but the engine's disk has no room for what is in it."""
