"""The record keeps what it was told, and the plain checks read it rightly."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.checks.exactly_once import check_ledger
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.registers import INCREMENT, READ, SWAP, WRITE, check_counter, check_register
from tests.chaos.record import (
    FINAL_CLIENT,
    Disturbance,
    Entry,
    Exit,
    Incident,
    Json,
    Leadership,
    Record,
    Sample,
    load,
    save,
)
from tests.support.history import Outcome


def entry(
    what: str,
    begin: int,
    end: int,
    argument: Json = None,
    result: Json = None,
    outcome: Outcome = Outcome.DONE,
    client: int = 0,
) -> Entry:
    """One operation on the one key."""
    return Entry("w", client, "n1", what, "key", begin, argument, result, outcome, end)


def judged(check: object, *entries: Entry) -> list[str]:
    """The violations that a check of one key finds."""
    judgement = Judgement()
    assert callable(check)
    check("key", entries, judgement)
    return judgement.violations


def test_a_saved_record_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    record = Record()
    record.begin("registers", 1, "n1", "swap", "r:1", [None, "1.1"]).finish(Outcome.DONE, "x", "y")
    record.begin("registers", 2, "n2", "read", "r:1")
    record.incidents.append(Incident(1, "n1", 5, 6, "timeout"))
    record.disturbances.append(Disturbance("kill", "processes", ["n1"], 5, excused=["n1"]))
    record.leaders.append(Leadership(5, "n1", 2))
    record.exits.append(Exit(6, "n1", -9, "last words"))
    record.samples.append(Sample(7, "n1", 12345))
    record.final("n1", "r:1", ["a", 1])
    record.answered["registers"] = ["n1"]
    record.hashes["n1"] = {7: "abc"}
    save(tmp_path / "record.jsonl", record)
    assert load(tmp_path / "record.jsonl") == record


def test_a_full_record_says_so() -> None:
    record = Record(entries_max=1)
    assert not record.is_full
    record.begin("w", 0, "n1", "read", "k")
    assert record.is_full


def test_an_operation_without_an_end_is_unknown_and_never_returns() -> None:
    record = Record()
    open_one = record.begin("w", 0, "n1", "write", "k", "v")
    assert open_one.outcome is Outcome.UNKNOWN
    open_one.finish(Outcome.UNKNOWN, note="timeout")
    assert open_one.returned_ns == float("inf")


def test_only_what_was_acknowledged_has_taken_effect_by_some_moment() -> None:
    record = Record()
    ends = {}
    for outcome in Outcome:
        one = record.begin("w", 0, "n1", "write", "k", "v")
        one.finish(outcome)
        ends[outcome] = one.returned_ns < float("inf")
    assert ends == {Outcome.DONE: True, Outcome.REFUSED: False, Outcome.UNKNOWN: False}


def test_a_fault_excuses_its_nodes_while_it_lasts() -> None:
    fault = Disturbance("kill", "processes", ["n1"], 100, until_ns=200, excused=["n1"])
    assert fault.covers("n1", 150, 180)
    assert fault.covers("n1", 50, 110)
    assert not fault.covers("n2", 150, 180)
    assert not fault.covers("n1", 201, 250)
    fault.until_ns = None
    assert fault.covers("n1", 201, 250)


def test_a_stale_read_is_refuted() -> None:
    good = [entry(WRITE, 1, 2, "a"), entry(WRITE, 3, 4, "b"), entry(READ, 5, 6, None, "b")]
    assert judged(check_register, *good) == []
    stale = entry(READ, 7, 8, None, "a")
    assert "not linearizable" in judged(check_register, *good, stale)[0]


def test_a_swap_of_another_value_is_refuted() -> None:
    write = entry(WRITE, 1, 2, "a")
    assert judged(check_register, write, entry(SWAP, 3, 4, ["a", "b"])) == []
    assert judged(check_register, write, entry(SWAP, 3, 4, [None, "b"])) != []


def test_a_counter_may_exceed_the_acknowledged_by_the_unknown_only() -> None:
    counted = [
        entry(INCREMENT, 1, 2, None, 1),
        entry(INCREMENT, 3, 4, None, 2),
        entry(INCREMENT, 5, 6, outcome=Outcome.UNKNOWN),
        entry(INCREMENT, 7, 8, outcome=Outcome.REFUSED),
    ]
    wrong = {
        n: bool(judged(check_counter, *counted, entry(READ, 9, 10, None, n, client=FINAL_CLIENT)))
        for n in range(1, 5)
    }
    assert wrong == {1: True, 2: False, 3: False, 4: True}


def test_the_ledger_tells_lost_phantom_and_doubled_writes() -> None:
    outcomes = {
        "a": Outcome.DONE,
        "b": Outcome.DONE,
        "c": Outcome.REFUSED,
        "d": Outcome.UNKNOWN,
        "e": Outcome.UNKNOWN,
    }
    entries = [
        Entry("ledger", 0, "n1", "append", key, 1, key * 2, None, outcome, 2)
        for key, outcome in outcomes.items()
    ]
    good: dict[str, Json] = {"a": "aa", "b": "bb", "c": None, "d": "dd", "e": None}

    def found(**other: Json) -> str:
        judgement = Judgement()
        check_ledger(entries, {"n1": {**good, **other}}, judgement)
        return " ".join(judgement.violations)

    assert found() == ""
    assert "lost" in found(a=None)
    assert "refused writes were done" in found(c="cc")
    assert "not what was written" in found(d="dddd")
    assert "not what was written" in found(a="aaaa")
