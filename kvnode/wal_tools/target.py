"""Which log a tool works on: the data directory, checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvnode.directory import read_identity
from kvnode.errors import DiskFailed, FatalError, UsageError
from kvnode.identity import cluster_number
from kvnode.store.engine_directory import EngineDirectory
from wal.format import Identity, parse_segment_name

Progress = Callable[[int], None]
"""Told the size of each segment, in bytes, when it was read."""


def unseen(_size: int) -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Target:
    """The log in a data directory.

    Attributes:
        data: the data directory.
        node: the node's name.
        cluster_id: of its cluster.
        identity: the same as the log knows it.
        is_member: other nodes may have what is gone here.
    """

    data: Path
    node: str
    cluster_id: str
    identity: Identity
    is_member: bool

    @property
    def log(self) -> Path:
        """The directory of the segments."""
        return self.data / "wal"

    @property
    def states(self) -> tuple[Path, Path]:
        """The state files."""
        return self.data / "state-a", self.data / "state-b"

    @property
    def cache_kept(self) -> bool:
        """The kernel has all that the node wrote to its log since its last start."""
        with suppress(FatalError):
            return EngineDirectory(self.data / "engine").cache_kept(self.log)
        return False

    @property
    def size(self) -> int:
        """Bytes of all segments, as far as they can be seen."""
        total = 0
        with suppress(OSError):
            for path in self.log.iterdir():
                if parse_segment_name(path.name):
                    total += path.stat().st_size
        return total


def open_target(data: Path) -> Target:
    """Check that `data` is a data directory and read whose it is.

    Raises:
        UsageError: it is none.
        LogCorrupt: its identity is damaged, or gone while a log is there.
        DiskFailed: it cannot be read.
    """
    try:
        names = [path.name for path in data.iterdir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{data} is no data directory: {error.strerror}") from error
    except OSError as error:
        raise DiskFailed(f"data directory {data}: {error.strerror}") from error
    if any(parse_segment_name(name) for name in names):
        raise UsageError(f"{data} holds segments: give the data directory that it is part of")
    found = read_identity(data)
    if found is None:
        raise UsageError(f"{data} is no data directory of kvnode: it has no identity file")
    return Target(
        data=data,
        node=found.node,
        cluster_id=found.cluster_id,
        identity=Identity(cluster_number(found.origin), found.node_id),
        is_member=found.has_others,
    )
