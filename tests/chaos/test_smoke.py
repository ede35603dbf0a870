"""The short form of the chaos run, and the proof that it is not blind."""

from __future__ import annotations

import time

import pytest

from tests.chaos import broken, smoke
from tests.chaos.nemesis import Outage, Target
from tests.chaos.verdict import check_counters, check_ledger, unexcused
from tests.chaos.workload import Incident, Record
from tests.support.history import Kind, Operation, Outcome

SHORT_SECONDS = 15.0


def test_an_error_at_a_node_that_lived_is_not_excused() -> None:
    outage = Outage(Target.LEADER, "n1", 100, 200)
    at_killed = Incident(0, "n1", 150, 180, "connection lost")
    across = Incident(0, "n1", 50, 110, "connection lost")
    at_survivor = Incident(0, "n2", 150, 180, "connection lost")
    later = Incident(0, "n1", 201, 250, "timeout")
    assert unexcused([at_killed, across, at_survivor, later], [outage]) == [at_survivor, later]


def test_the_ledger_tells_lost_phantom_and_doubled_writes() -> None:
    record = Record()
    record.ledger.done = {"a": "1", "b": "2"}
    record.ledger.refused = {"c": "3"}
    record.ledger.unknown = {"d": "4", "e": "5"}
    good: dict[str, str | None] = {"a": "1", "b": "2", "c": None, "d": "4", "e": None}
    assert check_ledger(record, "n1", good) == []
    assert "lost" in check_ledger(record, "n1", {**good, "a": None})[0]
    assert "refused writes were done" in check_ledger(record, "n1", {**good, "c": "3"})[0]
    assert "not what was written" in check_ledger(record, "n1", {**good, "d": "44"})[0]
    assert "not what was written" in check_ledger(record, "n1", {**good, "a": "11"})[0]


def test_a_counter_may_exceed_the_acknowledged_by_the_unknown_only() -> None:
    record = Record()
    for outcome in (Outcome.DONE, Outcome.DONE, Outcome.UNKNOWN, Outcome.REFUSED):
        record.history.append(
            Operation(0, "n1", "counter:0", Kind.INCREMENT, 0, outcome=outcome, returned_ns=1)
        )
    wrong = {n: bool(check_counters(record, {"counter:0": n})) for n in range(1, 5)}
    assert wrong == {1: True, 2: False, 3: False, 4: True}


@pytest.mark.cluster
@pytest.mark.timeout(180)
def test_every_promise_holds_under_kill_9() -> None:
    seed = time.time_ns() % 1_000_000
    outcome = smoke.run(smoke.Plan(SHORT_SECONDS, seed))
    smoke.report(outcome)
    assert outcome.judgement.violations == [], f"seed {seed}"
    assert outcome.judgement.undecided == [], f"seed {seed}"
    if outcome.judgement.void:
        pytest.skip(f"void, this machine was too busy: {outcome.judgement.void}")


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_log_without_fdatasync_is_found_out() -> None:
    assert broken.caught("no-fdatasync", time.time_ns() % 1_000_000) is not None
