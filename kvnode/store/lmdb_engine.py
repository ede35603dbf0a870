"""The engine on disk: one LMDB tree, opened without sync.

LMDB is a memory-mapped copy-on-write B+tree with one writer and many readers, in other processes
too. The kernel holds what the process wrote, so a killed process loses nothing that it committed; a
crashed machine may leave anything, and `engine_directory` then starts afresh.

One transaction is always open. While nothing was written it is a reader (a get costs no begin);
the first write closes it and begins the writer, so that our own reader never keeps old pages alive.
The hot calls `get`, `put` and `delete` are LMDB's own bound methods, replaced when the transaction
changes.

**Nothing else in this process may open the files of an open engine.** LMDB tells other processes by
fcntl(2) locks that it is there, and the kernel drops all locks that a process has on a file when
the process closes *any* descriptor of it. Who opens the engine next, a snapshot's worker, would
take it for unused and make readers and mutexes anew under those who hold them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

import lmdb

from kvnode.errors import DiskFailed
from kvnode.limits import (
    ENGINE_MAP_BYTES_MAX,
    ENGINE_MAP_BYTES_MIN,
    ENGINE_READERS_MAX,
    ENGINE_ROOM_BYTES_MIN,
)
from kvnode.store.engine import EngineFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_FULL = (lmdb.MapFullError, lmdb.TxnFullError, lmdb.DiskError)


class Mark(Protocol):
    """The durable sign that all committed rows are on disk (`engine_directory.CleanMark`)."""

    def write(self) -> None:
        """Put the mark, durably."""

    def remove(self) -> None:
        """Remove the mark, durably."""


class LmdbEngine:
    """An `Engine` over one LMDB directory. Raises LMDB's errors; `translate` tells their meaning.

    Args:
        path: directory of the environment; created if need be.
        map_bytes: address space to reserve, the most that the engine can hold. A refused
            reservation is halved down to `ENGINE_MAP_BYTES_MIN`.
        mark: removed before the first write, written by a clean close.
        read_only: open what another process writes, and see it as it is now, until `rest` and
            `look_again`. A write raises. Keep it short: pages that this reader can see are not used
            again.
    """

    __slots__ = (
        "_env",
        "_mark",
        "_txn",
        "_viewer",
        "_writing",
        "delete",
        "get",
        "path",
        "put",
    )

    get: Callable[[bytes], bytes | None]
    put: Callable[[bytes, bytes], object]
    delete: Callable[[bytes], object]

    def __init__(
        self,
        path: Path,
        *,
        map_bytes: int = ENGINE_MAP_BYTES_MAX,
        mark: Mark | None = None,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self._env = _open(path, map_bytes, read_only=read_only)
        self._env.reader_check()  # slots of killed readers would keep old pages for ever
        self._mark = mark
        self._viewer: lmdb.Transaction | None = None
        self._begin_reading()

    def peek(self, key: bytes, length: int, start: int = 0, /) -> tuple[bytes, int] | None:
        # What a transaction returns is fixed when it begins: a second one returns views of the map.
        # Inside the writer it sees what is not committed yet; beside a reader, the same commit, as
        # nobody else writes. Where somebody does, it was begun together with the reader.
        if self._viewer is not None:
            seen = self._viewer.get(key)
            return None if seen is None else (bytes(seen[start : start + length]), len(seen))
        parent = self._txn if self._writing else None
        viewer = self._env.begin(parent=parent, write=self._writing, buffers=True)
        try:
            value = viewer.get(key)
            return None if value is None else (bytes(value[start : start + length]), len(value))
        finally:
            viewer.abort()

    def append(self, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        if not self._writing:
            self._begin_writing()
        with self._txn.cursor() as cursor:
            # In append mode LMDB fills its pages to the brim and searches for no place; it skips
            # a row that is out of order and says so by the count only.
            taken, added = cursor.putmulti(rows, append=True)
        if added != taken:
            raise ValueError(f"{taken - added} of {taken} rows are not above the row before them")

    def rows(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor() as cursor:
            if cursor.set_range(start):
                for key, value in cursor.iternext():
                    if key >= stop:
                        return
                    yield key, value

    def rows_back(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor() as cursor:
            found = cursor.prev() if cursor.set_range(stop) else cursor.last()
            if found:
                for key, value in cursor.iterprev():
                    if key < start:
                        return
                    yield key, value

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        with self._txn.cursor() as cursor:
            if cursor.set_range(start):
                for key in cursor.iternext(keys=True, values=False):
                    if key >= stop:
                        return
                    yield key

    def commit(self) -> None:
        if self._writing:
            self._txn.commit()
            self._begin_reading()

    def abort(self) -> None:
        self._txn.abort()
        self._begin_reading()

    def rest(self) -> None:
        """Hold no state between two looks (read-only engines): its pages may be used again."""
        self._txn.abort()
        if self._viewer is not None:
            self._viewer.abort()

    def look_again(self) -> None:
        """See what is committed by now (read-only engines, after `rest`)."""
        self._begin_reading()
        self._begin_viewing()

    def close(self, *, clean: bool) -> None:
        self.rest()
        if clean:
            self._env.sync(True)
        self._env.close()
        if clean and self._mark is not None:
            self._mark.write()

    def release_stale_readers(self) -> int:
        """Free the reader slots of dead processes; returns how many there were."""
        return self._env.reader_check()

    def translate(self, error: Exception) -> Exception | None:
        if not isinstance(error, lmdb.Error):
            return None
        code = getattr(error, "code", None)
        if isinstance(error, lmdb.MemoryError) or code == errno.ENOMEM:
            return MemoryError(str(error))  # the disk is well
        # LMDB calls a page that was written in part an I/O error; on a full disk it is none.
        if isinstance(error, _FULL) or code == errno.ENOSPC or self._has_no_room():
            return EngineFull(str(error))
        return DiskFailed(f"the engine failed: {error}")

    def _has_no_room(self) -> bool:
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize < ENGINE_ROOM_BYTES_MIN

    def _begin_reading(self) -> None:
        self._txn = self._env.begin()
        self._writing = False
        self.get = self._txn.get
        self.put = self._first_put
        self.delete = self._first_delete

    def _begin_viewing(self) -> None:
        """Begin a second reader of the same commit; its writer may commit between the two."""
        self._viewer = self._env.begin(buffers=True)
        while self._viewer.id() != self._txn.id():
            self.rest()
            self._begin_reading()
            self._viewer = self._env.begin(buffers=True)

    def _begin_writing(self) -> None:
        if self._mark is not None:
            self._mark.remove()
        self._txn.abort()
        self._txn = self._env.begin(write=True)
        self._writing = True
        self.get = self._txn.get
        self.put = self._txn.put
        self.delete = self._txn.delete

    def _first_put(self, key: bytes, value: bytes, /) -> object:
        self._begin_writing()
        return self.put(key, value)

    def _first_delete(self, key: bytes, /) -> object:
        self._begin_writing()
        return self.delete(key)


def _open(path: Path, map_bytes: int, *, read_only: bool) -> lmdb.Environment:
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=map_bytes,
                readonly=read_only,
                create=not read_only,
                sync=False,
                metasync=False,
                writemap=False,
                lock=True,
                max_readers=ENGINE_READERS_MAX,
                max_spare_txns=2,
            )
        except (lmdb.MemoryError, MemoryError):
            # An address space limit (ulimit -v) refuses the map, however empty its file is.
            if map_bytes <= ENGINE_MAP_BYTES_MIN:
                raise
            map_bytes //= 2
