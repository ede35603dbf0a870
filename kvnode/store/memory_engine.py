"""The engine in memory: a sorted map with an undo log. For the simulator and for tests.

`abort` is what a crash does to uncommitted rows, so a simulated crash keeps this object, aborts,
and builds a new state machine over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class MemoryEngine:
    """An `Engine` without a disk."""

    __slots__ = ("_rows", "_undo", "get")

    def __init__(self) -> None:
        self._rows: SortedDict[bytes, bytes] = SortedDict()
        self._undo: dict[bytes, bytes | None] = {}
        self.get = self._rows.get

    def peek(self, key: bytes, length: int, start: int = 0, /) -> tuple[bytes, int] | None:
        value = self._rows.get(key)
        return None if value is None else (value[start : start + length], len(value))

    def put(self, key: bytes, value: bytes, /) -> None:
        if key not in self._undo:
            self._undo[key] = self._rows.get(key)
        self._rows[key] = value

    def delete(self, key: bytes, /) -> None:
        if key not in self._undo:
            self._undo[key] = self._rows.get(key)
        self._rows.pop(key, None)

    def append(self, rows: Iterable[tuple[bytes, bytes]], /) -> None:
        highest = self._rows.peekitem()[0] if self._rows else b""
        for key, value in rows:
            if key <= highest:
                raise ValueError(f"row {key!r} is not above {highest!r}")
            self.put(key, value)
            highest = key

    def rows(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in self._rows.irange(start, stop, (True, False)):
            yield key, self._rows[key]

    def rows_back(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in self._rows.irange(start, stop, (True, False), reverse=True):
            yield key, self._rows[key]

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        yield from self._rows.irange(start, stop, (True, False))

    def commit(self) -> None:
        self._undo.clear()

    def abort(self) -> None:
        for key, value in self._undo.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._undo.clear()

    def close(self, *, clean: bool) -> None:
        del clean  # nothing here outlives the process either way
        self.abort()

    def translate(self, error: Exception) -> Exception | None:
        del error
        return None
