"""The checks of the nodes notice what they are there for, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.checks import wal
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.void import check_void, checked_per_second, is_write_in_flight
from tests.chaos.checks.weather import (
    PROGRESS_SECONDS_MAX,
    RSS_BYTES_MAX,
    calm_moments,
    check_agreement,
    check_errors,
    check_exits,
    check_memory,
    check_progress,
)
from tests.chaos.record import Disturbance, Entry, Exit, Incident, Record, Sample
from tests.chaos.verdict import judge
from tests.chaos.workloads.choice import WORKLOADS
from tests.support.disk import MemoryDisk
from tests.support.history import Outcome
from tests.unit.wal.wal_harness import open_log
from wal import Record as Logged

SECOND = 1_000_000_000


def kill(since: int, until: int | None, *nodes: str) -> Disturbance:
    """From one second to another."""
    end = None if until is None else until * SECOND
    return Disturbance(
        "kill", "processes", [*nodes], since * SECOND, end, end, "killed", True,
        excused=[*nodes], exits=[-9],
    )  # fmt: skip


def write(node: str, begin: float, end: float | None = None) -> Entry:
    """An acknowledged one, or one that never ended."""
    ended = None if end is None else int(end * SECOND)
    outcome = Outcome.UNKNOWN if end is None else Outcome.DONE
    return Entry("w", 0, node, "write", "k", int(begin * SECOND), "v", None, outcome, ended)


def found(check: Callable[[Record, Judgement], None], record: Record) -> str:
    """The violations, in one text."""
    judgement = Judgement()
    check(record, judgement)
    return " ".join(judgement.violations)


def test_errors_are_excused_at_killed_nodes_and_while_they_are_away() -> None:
    record = Record(disturbances=[kill(10, 20, "n1")])
    record.incidents = [Incident(0, "n1", 15 * SECOND, 18 * SECOND, "connection lost")]
    assert not found(check_errors, record)
    record.incidents.append(Incident(1, "n2", 15 * SECOND, 18 * SECOND, "timeout"))
    assert "timeout at n2" in found(check_errors, record)
    record.incidents = [Incident(0, "n1", 21 * SECOND, 22 * SECOND, "connection lost")]
    assert "1 errors" in found(check_errors, record)


def test_a_process_may_end_as_the_fault_says_and_not_otherwise() -> None:
    record = Record(disturbances=[kill(10, 20, "n1")])
    record.exits = [Exit(11 * SECOND, "n1", -9)]
    assert not found(check_exits, record)
    for other in (Exit(11 * SECOND, "n1", 1, "a bug"), Exit(11 * SECOND, "n2", -9)):
        record.exits = [other]
        assert f"{other.node} ended with {other.code}" in found(check_exits, record)
    record.exits = [Exit(30 * SECOND, "n1", -9)]
    assert "ended with -9" in found(check_exits, record)


def test_calm_begins_when_the_last_fault_is_healed() -> None:
    record = Record(disturbances=[kill(10, 20, "n1"), kill(15, 30, "n2"), kill(40, 50, "n1")])
    record.entries = [write("n1", 60, 61)]
    moments = [(since // SECOND, until // SECOND) for since, until in calm_moments(record)]
    assert moments == [(30, 40), (50, 60)]


def test_a_node_without_progress_is_noticed() -> None:
    late = 20 + PROGRESS_SECONDS_MAX + 1
    record = Record(disturbances=[kill(10, 20, "n1")], finals={"n1": {}, "n2": {}})
    record.entries = [write(node, at, at + 0.1) for node in ("n1", "n2") for at in (1, 21, late)]
    assert not found(check_progress, record)
    record.entries = [one for one in record.entries if one.invoked_ns != 21 * SECOND]
    assert "no write went through n1" in found(check_progress, record)
    assert "no write went through n2" in found(check_progress, record)


def test_a_node_that_came_later_or_a_calm_that_was_short_is_no_lack_of_progress() -> None:
    record = Record(disturbances=[kill(10, 20, "n1")], finals={"n1": {}, "n2": {}})
    record.entries = [write("n1", at, at + 0.1) for at in (1, 21, 70)]
    assert not found(check_progress, record)
    record.disturbances.append(kill(22, 60, "n1"))
    record.entries = [write("n1", at, at + 0.1) for at in (1, 61)]
    assert not found(check_progress, record)


def test_nodes_that_differ_are_noticed() -> None:
    record = Record(finals={"n1": {"a": 1, "b": [2]}, "n2": {"a": 1, "b": [2]}})
    record.hashes = {"n1": {7: "x", 8: "y"}, "n2": {7: "x"}}
    assert not found(check_agreement, record)
    record.finals["n2"]["b"] = [3]
    assert "n2 and n1 differ on 1 keys" in found(check_agreement, record)
    record.hashes["n2"][8] = "z"
    assert "differ at index 8" in found(check_agreement, record)


def test_memory_past_its_limit_is_noticed() -> None:
    record = Record(samples=[Sample(1, "n1", RSS_BYTES_MAX), Sample(2, "n2", 80, 100)])
    assert not found(check_memory, record)
    record.samples += [Sample(3, "n1", RSS_BYTES_MAX + 1), Sample(3, "n2", 101, 100)]
    assert "n1 held" in found(check_memory, record)
    assert "n2 held" in found(check_memory, record)


def test_a_run_is_void_if_it_was_calm_or_a_fault_did_not_take_hold() -> None:
    def void(record: Record) -> str:
        judgement = Judgement()
        check_void(record, ["w"], judgement)
        return " ".join(judgement.void)

    busy = [write("n1", n / 500, (n + 1) / 500) for n in range(1000)]
    assert checked_per_second(Record(entries=busy)) == pytest.approx(500)
    assert not void(Record(entries=busy, disturbances=[kill(1, 2, "n1")]))
    assert "operations/s" in void(Record(entries=busy[::5]))
    assert "w did nothing" in void(Record())
    assert "no write in flight" in void(Record(entries=busy, disturbances=[kill(9, 10, "n1")]))
    nothing = kill(1, 2, "n1")
    nothing.evidence = None
    assert "did not take hold" in void(Record(entries=busy, disturbances=[nothing]))


def test_a_write_without_an_end_is_in_flight_from_then_on() -> None:
    assert is_write_in_flight(Record(entries=[write("n1", 1)]), 5 * SECOND)
    assert not is_write_in_flight(Record(entries=[write("n1", 1, 2)]), 5 * SECOND)


def test_an_empty_record_is_void_and_no_violation() -> None:
    judgement = judge(Record(), [kind() for kind in WORKLOADS.values()])
    assert judgement.exit_code == 3
    assert len(judgement.undecided) == sum(kind.needs_finals for kind in WORKLOADS.values())


def test_a_cut_below_the_witness_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, log = tmp_path / "evidence", tmp_path / "n1.log"
    evidence.write_bytes(b"")
    log.write_text(
        'time=1 level=WARNING msg="WAL tail truncated, repairing" directory=d segment=3 '
        f"offset=512 bytes_dropped=7 evidence={evidence}\n"
    )
    judgement = Judgement()
    monkeypatch.setattr(wal, "witness", lambda _: 512)
    wal.check_logs({"n1": log}, judgement)
    assert judgement.violations == []
    monkeypatch.setattr(wal, "witness", lambda _: 520)
    wal.check_logs({"n1": log}, judgement)
    assert "n1 cut segment 3 at 512" in judgement.violations[0]


def test_a_task_that_died_unseen_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "n1.log"
    log.write_text('level=ERROR msg="Task exception was never retrieved"\n')
    judgement = Judgement()
    wal.check_logs({"n1": log}, judgement)
    assert "never retrieved" in judgement.violations[0]


def test_the_witness_is_what_a_record_says_was_durable_before_it() -> None:
    disk = MemoryDisk()
    log, _ = open_log(disk)
    ends = []
    for index in (1, 2, 3):
        log.append([Logged(index, b"x" * 100)])
        ends.append(log.synced.offset)
    data = next(data for path, data in disk.image().items() if path.suffix == ".wal")
    assert wal.witness(data) == ends[1]
    assert wal.witness(data[: ends[0]]) < ends[0]
    assert wal.witness(b"") == 0
