"""From a state machine to a snapshot file: rows in order, synced as they grow, named at the end.

The order of the last steps is the crash safety of the whole: all bytes synced, then the rename,
then the directory synced. Until then there is only a file that ends in `.tmp`.
"""

from __future__ import annotations

import contextlib
import errno
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from kvnode.errors import DiskFailed, KvnodeError
from kvnode.limits import SNAPSHOT_SYNC_BYTES
from kvnode.snapshot.catalog import WRITING, file_name
from kvnode.snapshot.errors import SnapshotFailed
from kvnode.snapshot.format import (
    Block,
    Foot,
    SnapshotMeta,
    blocks_of,
    encode_foot,
    encode_head,
    encode_rows,
    preamble,
    preamble_identity,
    read_header,
    seal,
)
from kvnode.store.keyspace import TAG_META
from kvnode.store.state_machine import StateMachine
from wal.crc import extend
from wal.fs import FileSystem, PosixFileSystem, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from kvnode.snapshot.throttle import Throttle
    from kvnode.store.engine import Engine

_POSIX = PosixFileSystem()


def write_snapshot(
    engine: Engine,
    directory: Path,
    *,
    hash_key: bytes,
    cluster_number: int,
    term_of: Callable[[int], int],
    throttle: Throttle | None = None,
    fs: FileSystem = _POSIX,
) -> SnapshotMeta:
    """Write the state that the engine's meta row tells of; blocks until it is durable.

    Args:
        engine: shows one committed state and no other while this runs: a read-only `LmdbEngine`,
            or a `MemoryEngine` right after the machine's commit.
        directory: where the file goes; it exists.
        hash_key: as the state machine's.
        cluster_number: unsigned 64 bits.
        term_of: the term of the entry at the state's index.
        throttle: bounds the rate; None writes as fast as the disk takes it.
        fs: where.

    Raises:
        SnapshotFailed: nothing was applied yet, or there is no room.
        RowsMissing: the engine lost rows.
        DiskFailed: the disk fails.
    """
    machine = StateMachine(engine, hash_key=hash_key)
    if not machine.applied:
        raise SnapshotFailed("nothing was applied yet, so there is nothing to take a snapshot of")
    meta = _facts(machine, engine, cluster_number, term_of(machine.applied))
    target = directory / file_name(meta.index, meta.term)
    temporary = target.with_name(target.name + WRITING)
    try:
        meta = _fill(temporary, meta, machine.live_rows(), throttle, fs)
        fs.rename(temporary, target)
        fs.sync_directory(directory)
    except (OSError, KvnodeError) as error:
        with contextlib.suppress(OSError):
            fs.unlink(temporary)
        if isinstance(error, OSError):
            raise disk_error(error, temporary) from error
        raise
    return meta


def terms_of(runs: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    """`term_of` from runs of entries: (first index, term), ascending.

    The function raises `SnapshotFailed` for an index before the first run.
    """
    firsts = [first for first, _ in runs]

    def term_of(index: int) -> int:
        run = bisect_right(firsts, index) - 1
        if run < 0:
            raise SnapshotFailed(f"the term of index {index} is not known any more")
        return runs[run][1]

    return term_of


def disk_error(error: OSError, path: Path) -> KvnodeError:
    """What a failed write of a snapshot means for the node."""
    if error.errno in {errno.EIO, errno.EROFS}:
        return DiskFailed(f"writing {path} failed: {error}")
    return SnapshotFailed(f"writing {path} failed: {error}")


def _facts(machine: StateMachine, engine: Engine, cluster_number: int, term: int) -> SnapshotMeta:
    meta_row = engine.get(TAG_META)
    if meta_row is None:
        raise SnapshotFailed("nothing was committed to the engine yet")
    return SnapshotMeta(
        cluster_number=cluster_number,
        index=machine.applied,
        term=term,
        stamp_ms=machine.stamp_ms,
        revision=machine.revision,
        state_hash=machine.state_hash(),
        databases=tuple((number, *counts) for number, counts in machine.keyspace().items()),
        sessions=tuple(
            (node_id, held.incarnation, held.last, held.nonce, held.storage_id)
            for node_id, held in machine.sessions().items()
        ),
        members=b"" if machine.members is None else machine.members.pack(),
        meta_row=meta_row,
        store_format=machine.store_format,
        level=machine.level,
    )


def _fill(
    path: Path,
    meta: SnapshotMeta,
    rows: Iterable[tuple[bytes, bytes]],
    throttle: Throttle | None,
    fs: FileSystem,
) -> SnapshotMeta:
    """Write all blocks to `path` and sync them; returns the facts with the counts."""
    fd = fs.open(path, create=True)
    try:
        file = _Growing(fs, fd, throttle)
        file.begin(encode_head(meta))
        row_count = row_bytes = 0
        for flat in blocks_of(rows):
            row_count += len(flat) // 2
            row_bytes += sum(map(len, flat))
            file.add(Block.ROWS, encode_rows(flat))
        file.add(Block.FOOT, encode_foot(Foot(row_count, row_bytes, file.chain, meta.state_hash)))
        file.sync()
    finally:
        fs.close(fd)
    return replace(meta, rows=row_count, row_bytes=row_bytes, file_bytes=file.size)


class _Growing:
    """A snapshot file that grows block by block.

    Attributes:
        size: bytes so far.
        chain: checksum over the headers so far.
    """

    __slots__ = ("_fd", "_fs", "_identity", "_number", "_synced", "_throttle", "chain", "size")

    def __init__(self, fs: FileSystem, fd: int, throttle: Throttle | None) -> None:
        self._fs = fs
        self._fd = fd
        self._throttle = throttle
        self._identity = 0
        self._number = 0
        self._synced = 0
        self.chain = 0
        self.size = 0

    def begin(self, head: bytes) -> None:
        """Write the preamble and the head; its checksum becomes the identity of all others."""
        self._write(preamble())
        self._identity = preamble_identity(preamble())
        header = self.add(Block.HEAD, head)
        self._identity = read_header(header, self._identity).crc

    def add(self, kind: Block, payload: bytes) -> bytes:
        """Write one block; returns its header."""
        header = seal(kind, self._number, payload, self._identity)
        self._number += 1
        self.chain = extend(self.chain, header)
        self._write(header + payload)
        return header

    def sync(self) -> None:
        """Return when all bytes so far are on the disk."""
        self._fs.fdatasync(self._fd)
        self._synced = self.size

    def _write(self, data: bytes) -> None:
        write_all(self._fs, self._fd, data, self.size)
        self.size += len(data)
        if self.size - self._synced >= SNAPSHOT_SYNC_BYTES:
            self.sync()
        if self._throttle is not None:
            self._throttle.spend(len(data))
