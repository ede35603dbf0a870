"""The contract of an engine, for both of them; and what is LMDB's own."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import lmdb
import pytest

from kvnode.errors import DiskFailed
from kvnode.store.engine import EngineFull
from kvnode.store.lmdb_engine import LmdbEngine

if TYPE_CHECKING:
    from pathlib import Path

    from kvnode.store.engine import Engine


def test_an_uncommitted_row_is_read_back(engine: Engine) -> None:
    engine.put(b"a", b"1")
    assert engine.get(b"a") == b"1"


def test_abort_restores_what_was_changed_added_and_deleted(engine: Engine) -> None:
    engine.put(b"kept", b"1")
    engine.put(b"gone", b"1")
    engine.commit()
    engine.put(b"kept", b"2")
    engine.put(b"kept", b"3")
    engine.put(b"new", b"1")
    engine.delete(b"gone")
    engine.abort()
    assert list(engine.rows(b"", b"z")) == [(b"gone", b"1"), (b"kept", b"1")]


def test_commit_survives_a_later_abort(engine: Engine) -> None:
    engine.put(b"a", b"1")
    engine.commit()
    engine.abort()
    assert engine.get(b"a") == b"1"


def test_rows_are_ordered_by_bytes_and_the_end_is_excluded(engine: Engine) -> None:
    for key in (b"b", b"a\xff", b"a", b"c"):
        engine.put(key, key)
    assert list(engine.keys(b"a", b"c")) == [b"a", b"a\xff", b"b"]
    assert [key for key, _ in engine.rows(b"a\x00", b"c")] == [b"a\xff", b"b"]


def test_an_empty_value_is_a_row(engine: Engine) -> None:
    engine.put(b"a", b"")
    assert engine.get(b"a") == b""


def test_appended_rows_are_rows_like_others(engine: Engine) -> None:
    engine.append([(b"a", b"1"), (b"b", b"")])
    engine.append(iter([(b"c", b"3")]))
    engine.commit()
    engine.append([(b"d", b"4")])
    engine.abort()
    assert list(engine.rows(b"", b"z")) == [(b"a", b"1"), (b"b", b""), (b"c", b"3")]


@pytest.mark.parametrize("late", [[b"a"], [b"b"], [b"c", b"c"], [b"d", b"c"]])
def test_a_row_that_is_not_above_the_others_cannot_be_appended(
    engine: Engine, late: list[bytes]
) -> None:
    engine.append([(b"a", b"1"), (b"b", b"2")])
    engine.commit()
    with pytest.raises(ValueError, match="not above"):
        engine.append((key, b"x") for key in late)
    engine.abort()
    assert list(engine.keys(b"", b"z")) == [b"a", b"b"]


def test_a_peek_sees_what_a_get_sees_committed_or_not(engine: Engine) -> None:
    assert engine.peek(b"a", 2) is None
    engine.put(b"a", b"12345")
    assert engine.peek(b"a", 2) == (b"12", 5)
    engine.commit()
    assert engine.peek(b"a", 9) == (b"12345", 5)
    assert engine.peek(b"a", 2, 3) == (b"45", 5)
    assert engine.peek(b"a", 2, 9) == (b"", 5)
    engine.delete(b"a")
    assert engine.peek(b"a", 2) is None
    engine.put(b"b", b"")
    assert engine.peek(b"b", 2) == (b"", 0)
    engine.abort()
    assert engine.peek(b"a", 0) == (b"", 5)
    assert engine.peek(b"b", 2) is None


@pytest.mark.parametrize("committed", [True, False])
def test_a_peek_does_not_copy_the_value(tmp_path: Path, committed: bool) -> None:
    engine = LmdbEngine(tmp_path, map_bytes=1 << 28)
    engine.put(b"a", bytes(1 << 26))
    if committed:
        engine.commit()
    tracemalloc.start()
    assert engine.peek(b"a", 3) == (bytes(3), 1 << 26)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 1 << 16
    engine.close(clean=False)


def test_deleting_an_absent_row_is_nothing(engine: Engine) -> None:
    engine.delete(b"a")
    engine.commit()
    assert engine.get(b"a") is None


def test_foreign_errors_are_not_the_engines(engine: Engine) -> None:
    assert engine.translate(ValueError()) is None


def test_a_reader_elsewhere_sees_committed_rows_only(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, map_bytes=1 << 28)
    engine.put(b"a", b"1")
    engine.commit()
    engine.put(b"b", b"1")
    with engine._env.begin() as reader:
        assert reader.get(b"a") == b"1"
        assert reader.get(b"b") is None
    engine.close(clean=False)


def test_a_full_map_is_engine_full(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, map_bytes=1 << 16)
    with pytest.raises(lmdb.MapFullError) as raised:
        engine.put(b"a", bytes(1 << 17))
    assert isinstance(engine.translate(raised.value), EngineFull)
    engine.abort()
    engine.put(b"a", b"1")
    engine.commit()
    engine.close(clean=False)


def test_any_other_lmdb_error_means_that_the_disk_failed(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, map_bytes=1 << 28)
    assert isinstance(engine.translate(lmdb.PanicError("x")), DiskFailed)
    engine.close(clean=False)


def test_want_of_memory_is_no_failure_of_the_disk(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, map_bytes=1 << 28)
    assert isinstance(engine.translate(lmdb.MemoryError("x")), MemoryError)
    engine.close(clean=False)


def test_a_refused_address_space_is_asked_for_in_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    really_open = lmdb.open

    def refuse_above_two_gib(path: str, *, map_size: int, **options: object) -> lmdb.Environment:
        asked.append(map_size)
        if map_size > 1 << 31:
            raise lmdb.MemoryError("no")
        return really_open(path, map_size=map_size, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lmdb, "open", refuse_above_two_gib)
    LmdbEngine(tmp_path, map_bytes=1 << 33).close(clean=False)
    assert asked == [1 << 33, 1 << 32, 1 << 31]


class Reader:
    """A transaction that sees one commit."""

    def __init__(self, commit: int) -> None:
        self.id = lambda: commit
        self.get = self.abort = lambda *_: None


class BusyEnvironment:
    """Its writer commits after each of the first few looks."""

    def __init__(self, commits: list[int]) -> None:
        self.commits = commits

    def begin(self, *, buffers: bool = False) -> Reader:
        return Reader(self.commits.pop(0) if len(self.commits) > 1 else self.commits[0])


def test_what_is_read_in_part_is_of_the_same_commit_as_the_rest() -> None:
    """In another process than the writer's, where it may commit between two looks."""
    engine = LmdbEngine.__new__(LmdbEngine)
    engine._env = BusyEnvironment([1, 2, 3, 4, 5])  # type: ignore[assignment]
    engine.look_again()
    assert engine._viewer is not None
    assert engine._txn.id() == engine._viewer.id() == 5
