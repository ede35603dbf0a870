"""A data directory with a log in it, and ways to damage it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random

from kvnode.directory import DataDirectory
from kvnode.identity import cluster_number
from kvnode.node.log_writer import encode_entry
from kvnode.node.snapshots import encode_marker
from raft.types import Entry, EntryKind
from wal import Identity, Options, Record, Wal

CLUSTER = "tools"
ALONE = {"n1": "127.0.0.1:1"}
THREE = {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2", "n3": "127.0.0.1:3"}
SMALL = Options(segment_bytes=8192)


def record(index: int, term: int, size: int) -> Record:
    """An entry as a node logs it, of bytes that hold no zero sector."""
    data = Random(index).randbytes(size)
    return encode_entry(Entry(term, index, EntryKind.NORMAL, data))


class LogDirectory:
    """A node's directory after it stopped: entries of term 1, then of term 2, one group each.

    Each has 800 bytes, but for the empty first. The last group is un-witnessed: nothing was written
    after it.
    """

    def __init__(
        self, path: Path, members: dict[str, str] | None = None, entries: int = 10
    ) -> None:
        self.path = path
        directory = DataDirectory.open(
            path, node="n1", cluster_id=CLUSTER, members=members or ALONE
        )
        self.identity = Identity(cluster_number(CLUSTER), directory.identity.node_id)
        directory.close()
        with_log = self.open()
        with_log.append([encode_entry(Entry(1, 1, EntryKind.NORMAL, b""))])
        for index in range(2, entries + 1):
            with_log.append([record(index, 1 if index <= entries // 2 else 2, 800)])
        with_log.close()
        self.last_index = with_log.last_index

    def open(self) -> Wal:
        """The log, to write more."""
        return Wal.open(
            self.path / "wal",
            (self.path / "state-a", self.path / "state-b"),
            self.identity,
            visit=lambda index, payload: None,
            options=SMALL,
        )

    def remember(self, *, commit: int = 0) -> None:
        """Make the end of the log, and a commit index, floors in the state files."""
        wal = self.open()
        wal.refresh_state(commit or wal.last_index)
        wal.close()

    def mark_snapshot(self) -> None:
        """A marker of term 2 for all there is."""
        wal = self.open()
        wal.mark_snapshot(wal.last_index, encode_marker(2))
        wal.close()

    @property
    def segment(self) -> Path:
        """The newest segment."""
        return max((self.path / "wal").glob("*.wal"))

    @property
    def end(self) -> int:
        """Where the zeros begin in it."""
        return len(self.segment.read_bytes().rstrip(b"\0"))

    def tear(self) -> bytes:
        """Zero a sector in the middle of the last record; return the bytes from before."""
        before = self.segment.read_bytes()
        at = self.end - 100 & -512
        self.overwrite(at, bytes(512))
        return before

    def overwrite(self, offset: int, data: bytes, path: Path | None = None) -> None:
        """Change bytes behind the log's back."""
        with (path or self.segment).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def flip(self, offset: int, path: Path | None = None) -> None:
        """Flip one bit."""
        byte = (path or self.segment).read_bytes()[offset]
        self.overwrite(offset, bytes([byte ^ 1]), path)

    def fingerprint(self) -> dict[str, tuple[str, int, int]]:
        """Names, contents and times of change of all files and directories."""
        found = {}
        for root, _, names in os.walk(self.path):
            for path in [Path(root), *(Path(root) / name for name in names)]:
                status = path.stat()
                content = path.read_bytes() if path.is_file() else b""
                digest = hashlib.sha256(content).hexdigest()
                found[str(path)] = (digest, status.st_mtime_ns, status.st_ctime_ns)
        return found
