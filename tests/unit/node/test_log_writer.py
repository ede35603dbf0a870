"""The way to the disk: groups in order, and no message before the sync that covers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvnode.node.disk_health import DiskHealth
from kvnode.node.log_writer import IDLE_MARK_SECONDS, LogWriter, decode_entry, encode_entry
from raft.messages import AppendResponse, Heartbeat
from raft.types import Entry, HardState, Persist
from wal.errors import DiskFull


class StepWorker:
    """Runs jobs when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], None], Callable[[BaseException | None], None]]] = []
        self.stopped = False

    def submit(self, job: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        self.jobs.append((job, done))

    def stop(self) -> None:
        self.stopped = True

    def step(self) -> None:
        job, done = self.jobs.pop(0)
        error: BaseException | None = None
        try:
            job()
        except (OSError, DiskFull) as caught:
            error = caught
        done(error)


class Timer:
    """A timer handle."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The part of an event loop that the writer uses, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Timer]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.soon.append(lambda: call(*args))

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(lambda: call(*args))
        self.timers.append((delay, timer))
        return timer

    def run_soon(self) -> None:
        soon, self.soon = self.soon, []
        for call in soon:
            call()


class RecordingWal:
    """Notes what was done to it, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.broken = False
        self.full = False

    def append(self, records: list[Any]) -> None:
        if self.broken:
            raise OSError("disk")
        if self.full:
            raise DiskFull("making a segment", Path("x"), OSError(28, "no room"))
        self.calls.append(("append", [record.index for record in records]))

    def save_state(self, *, term: int, vote: int, commit: int, recovering: bool = False) -> None:
        self.calls.append(("state", term, vote))

    def refresh_state(self, commit: int) -> None:
        self.calls.append(("refresh", commit))

    def mark(self) -> None:
        self.calls.append(("mark",))

    def close(self) -> None:
        self.calls.append(("close",))


class Setup:
    """A writer on a recording log."""

    def __init__(self) -> None:
        self.wal = RecordingWal()
        self.worker = StepWorker()
        self.loop = Loop()
        self.synced: list[tuple[int, list[Any]]] = []
        self.failures: list[BaseException] = []
        self.full: list[bool] = []
        self.health = DiskHealth(election_ms=500)
        self.writer = LogWriter(
            self.wal,  # type: ignore[arg-type]
            self.worker,
            self.loop,  # type: ignore[arg-type]
            commit=lambda: 5,
            on_synced=lambda number, messages: self.synced.append((number, messages)),
            on_failure=self.failures.append,
            on_full=self.full.append,
            health=self.health,
        )


def persist(
    number: int, *indexes: int, state: HardState | None = None, message: Any = None
) -> Persist:
    entries = [Entry(1, index, 0, b"d") for index in indexes]
    return Persist(number, state, entries, [(2, message)] if message else [])


def test_an_entry_survives_its_record() -> None:
    entry = Entry(2**63, 7, 1, b"data")
    assert decode_entry(7, encode_entry(entry).payload) == entry


def test_messages_leave_only_after_the_sync_that_covers_them() -> None:
    setup = Setup()
    response = AppendResponse(1, 1, False, 0, 0, False)
    setup.writer.submit(persist(1, 1, message=response))
    assert setup.synced == []
    setup.worker.step()
    assert setup.synced == [(1, [(2, response)])]


def test_what_arrives_during_a_sync_becomes_one_group() -> None:
    setup = Setup()
    for number in (1, 2, 3):
        setup.writer.submit(persist(number, number))
    assert len(setup.worker.jobs) == 1
    setup.worker.step()
    setup.worker.step()
    assert setup.wal.calls == [("append", [1]), ("append", [2, 3])]
    assert [number for number, _ in setup.synced] == [1, 3]


def test_the_newest_term_and_vote_of_a_group_are_durable_before_its_entries() -> None:
    setup = Setup()
    setup.writer.submit(persist(1))
    setup.writer.submit(persist(2, 4, state=HardState(3, 1, 0)))
    setup.writer.submit(persist(3, state=HardState(4, 2, 0)))
    setup.loop.run_soon()
    setup.worker.step()
    assert setup.wal.calls == [("state", 4, 2), ("append", [4])]


def test_messages_without_anything_to_write_still_wait_for_what_was_written_before() -> None:
    setup = Setup()
    beat = Heartbeat(1, 0, 0)
    setup.writer.submit(persist(1, 1))
    setup.writer.submit(persist(2, message=beat))
    assert setup.loop.soon == []
    setup.worker.step()
    setup.loop.run_soon()
    assert setup.synced == [(1, []), (2, [(2, beat)])]
    assert setup.wal.calls == [("append", [1])]


def test_after_a_pause_one_marker_makes_the_last_group_a_witnessed_one() -> None:
    setup = Setup()
    setup.writer.submit(persist(1, 1))
    setup.worker.step()
    ((delay, timer),) = setup.loop.timers
    assert delay == IDLE_MARK_SECONDS
    timer.call()
    setup.worker.step()
    assert setup.wal.calls[1:] == [("mark",), ("refresh", 5)]
    assert setup.worker.jobs == []
    assert len(setup.loop.timers) == 1


def test_an_append_before_the_pause_is_over_takes_the_marker_back() -> None:
    setup = Setup()
    setup.writer.submit(persist(1, 1))
    setup.worker.step()
    setup.writer.submit(persist(2, 2))
    assert setup.loop.timers[0][1].cancelled


def test_under_load_the_state_files_are_refreshed_every_second() -> None:
    setup = Setup()
    setup.loop.now = 1.5
    setup.writer.submit(persist(1, 1))
    setup.worker.step()
    assert setup.wal.calls == [("append", [1]), ("refresh", 5)]


def test_a_failed_sync_is_told_once_and_nothing_is_ever_acknowledged_again() -> None:
    setup = Setup()
    setup.wal.broken = True
    setup.writer.submit(persist(1, 1))
    setup.writer.submit(persist(2, 2))
    setup.worker.step()
    setup.writer.submit(persist(3, 3))
    assert len(setup.failures) == 1
    assert setup.synced == []
    assert setup.worker.jobs == []


def test_a_full_disk_holds_the_group_up_until_there_is_room_again() -> None:
    setup = Setup()
    setup.wal.full = True
    setup.writer.submit(persist(1, 1))
    setup.worker.step()
    setup.writer.submit(persist(2, 2))
    assert (setup.full, setup.failures, setup.synced) == ([True], [], [])
    setup.loop.timers[-1][1].call()
    setup.worker.step()
    assert setup.full == [True]
    setup.wal.full = False
    setup.loop.timers[-1][1].call()
    setup.worker.step()
    setup.worker.step()
    assert setup.full == [True, False]
    assert setup.wal.calls == [("append", [1]), ("append", [2])]
    assert [number for number, _ in setup.synced] == [1, 2]


def test_a_job_runs_behind_what_was_submitted_before_it_and_before_what_came_after() -> None:
    setup = Setup()
    setup.writer.submit(persist(1, 1))
    setup.writer.submit(persist(2, 2))
    order: list[str] = []
    setup.writer.run(lambda: setup.wal.calls.append(("job",)), lambda: order.append("then"))
    setup.worker.step()
    setup.worker.step()
    setup.writer.submit(persist(3, 3))
    while setup.worker.jobs:
        setup.worker.step()
    assert setup.wal.calls == [("append", [1]), ("append", [2]), ("job",), ("append", [3])]
    assert order == ["then"]


@pytest.mark.parametrize("pending", [False, True])
def test_closing_writes_what_is_left_and_marks_the_end(pending: bool) -> None:
    setup = Setup()
    if pending:
        setup.writer.submit(persist(1, 1))
        setup.writer.submit(persist(2, 2))
    outcome: list[BaseException | None] = []
    setup.writer.close(outcome.append)
    while setup.worker.jobs:
        setup.worker.step()
    appended = [("append", [1]), ("append", [2])] if pending else []
    assert setup.wal.calls == [*appended, ("mark",), ("refresh", 5), ("close",)]
    assert outcome == [None]
    assert setup.worker.stopped


def test_the_disk_is_waited_for_from_the_moment_a_job_is_given_to_it_until_it_returns() -> None:
    setup = Setup()
    setup.writer.submit(persist(1, 1))
    setup.writer.submit(persist(2, 2))
    assert setup.health.wait_s(3.0) == 3.0
    setup.loop.now = 4.0
    setup.worker.step()
    assert setup.health.wait_s(5.0) == 1.0
    setup.wal.broken = True
    setup.worker.step()
    assert setup.health.wait_s(9.0) == 0.0


def test_a_full_disk_that_is_left_alone_until_the_next_try_is_not_a_slow_one() -> None:
    setup = Setup()
    setup.wal.full = True
    setup.writer.submit(persist(1, 1))
    setup.worker.step()
    assert setup.health.wait_s(9.0) == 0.0


def test_a_node_is_healed_only_when_the_entries_that_heal_it_are_durable() -> None:
    setup = Setup()
    calls = setup.wal.calls

    def save_state(**saved: Any) -> None:
        calls.append(("recovering", saved["recovering"]))

    setup.wal.save_state = save_state  # type: ignore[method-assign]  # it notes the flag instead
    setup.wal.state = HardState(1, 2, 0)  # type: ignore[attr-defined]  # read for term and vote
    setup.writer.submit(persist(1))
    setup.writer.submit(replace(persist(2, 7), recovering=True))
    setup.writer.submit(replace(persist(3, 8), recovering=False))
    setup.loop.run_soon()
    setup.worker.step()
    assert calls == [("recovering", True), ("append", [7, 8]), ("recovering", False)]


def test_copies_of_entries_count_while_they_are_written() -> None:
    setup = Setup()
    setup.writer.submit(persist(1, 1, 2))
    size = sum(len(encode_entry(Entry(1, index, 0, b"d")).payload) for index in (1, 2))
    assert setup.writer.writing_bytes == 2 * size
    setup.worker.step()
    assert setup.writer.writing_bytes == 0
