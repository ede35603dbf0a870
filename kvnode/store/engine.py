"""What the state machine asks of an engine: an ordered map of bytes with one open transaction.

There is one caller and one thread. Every write belongs to the open transaction; reads see it.
`commit` makes it visible to other readers (workers, snapshots), `abort` forgets it. Neither makes
anything durable: the log does that, and an engine is a cache that can be built again from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kvnode.errors import KvnodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class EngineFull(KvnodeError):
    """No room for this transaction, which was aborted. Apply again later; nothing was skipped."""


class Engine(Protocol):
    """An ordered map; keys of at most 511 bytes, values of any size."""

    def get(self, key: bytes, /) -> bytes | None:
        """The value of a row, or None."""

    def peek(self, key: bytes, length: int, start: int = 0, /) -> tuple[bytes, int] | None:
        """`length` bytes of a row's value from `start` on, and the size of it all, or None.

        The rest is not copied. For small values `get` is quicker.
        """

    def put(self, key: bytes, value: bytes, /) -> object:
        """Write a row."""

    def delete(self, key: bytes, /) -> object:
        """Remove a row, if it is there."""

    def append(self, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        """Write ascending rows that lie above all others: the quick way to fill an engine.

        Raises:
            ValueError: a row is not above the one before it; abort then.
        """

    def rows(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, ascending. Nothing may be written while it runs."""

    def rows_back(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same rows, descending."""

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """As `rows`, without reading the values."""

    def commit(self) -> None:
        """End the transaction and show it to other readers."""

    def abort(self) -> None:
        """End the transaction and forget it."""

    def close(self, *, clean: bool) -> None:
        """Forget the open transaction and close; `clean` makes what is committed durable."""

    def translate(self, error: Exception) -> Exception | None:
        """An error of this engine in our terms, None if it is not one.

        In our terms it is an `EngineFull`, a `DiskFailed` or a `MemoryError`.
        """


class StoredEngine(Engine, Protocol):
    """An engine that a node keeps beside others, under a path of its own."""

    path: Path

    def release_stale_readers(self) -> int:
        """Free what dead readers in other processes hold; returns how many there were."""
