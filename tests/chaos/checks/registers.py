"""Registers and counters: there is one order of the operations that explains every answer.

The search is `tests.support.linearizability`; here the record is put into its words, and a history
that it refutes is made as small as possible (`tests.chaos.checks.smallest`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.smallest import smallest
from tests.chaos.record import Entry
from tests.support.history import Kind, Operation, Outcome
from tests.support.linearizability import Finding, Verdict, check

READ = "read"
WRITE = "write"
SWAP = "swap"
"""Its argument is a pair: the value that must be there, and the one that takes its place."""
INCREMENT = "increment"
KINDS = {
    READ: Kind.READ,
    WRITE: Kind.WRITE,
    SWAP: Kind.SWAP,
    INCREMENT: Kind.INCREMENT,
}
STEPS_MAX = 1_000_000
"""Configurations looked at for one key: some ten seconds."""

WINDOW_MAX = 40
"""Operations to show: of a counter all increments belong to the proof, and the last tell most."""


def check_register(key: str, entries: Sequence[Entry], judgement: Judgement) -> None:
    """Judge the history of one register, which is absent at first."""
    _decide(key, entries, None, judgement)


def check_counter(key: str, entries: Sequence[Entry], judgement: Judgement) -> None:
    """Judge the history of one counter, which is 0 at first.

    Every acknowledged increment counts once, one of unknown outcome at most once, a refused one
    never: that is told by numbers, even where the search gives up.
    """
    before = len(judgement.violations)
    _decide(key, entries, 0, judgement)
    counts = dict.fromkeys(Outcome, 0)
    for entry in entries:
        if entry.what == INCREMENT:
            counts[entry.outcome] += 1
    low, high = counts[Outcome.DONE], counts[Outcome.DONE] + counts[Outcome.UNKNOWN]
    wrong = [e for e in entries if e.is_final and e.is_done and not low <= _number(e) <= high]
    if wrong and len(judgement.violations) == before:
        judgement.violate(
            f"{key} is {_number(wrong[0])} at {wrong[0].node}, but {low} to {high} increments can "
            "have counted",
            [*(e for e in entries if e.outcome is Outcome.UNKNOWN), *wrong],
        )


def refuted(entries: Sequence[Entry], initial: int | None, steps_max: int = STEPS_MAX) -> Finding:
    """What the search says."""
    return check([_operation(entry) for entry in entries], initial, steps_max)


def _decide(key: str, entries: Sequence[Entry], initial: int | None, judgement: Judgement) -> None:
    finding = refuted(entries, initial)
    if finding.verdict is Verdict.VIOLATION:
        window = smallest(entries, lambda part: refuted(part, initial).verdict is Verdict.VIOLATION)
        text = refuted(window, initial).text
        judgement.violate(f"{key}: {text}", window[-WINDOW_MAX:])
    elif finding.verdict is Verdict.UNDECIDED:
        judgement.undecided.append(f"{key}: {finding.text}")


def _number(entry: Entry) -> int:
    assert isinstance(entry.result, int), entry
    return entry.result


def _operation(entry: Entry) -> Operation:
    """The same in the words of the search."""
    argument, expected = entry.argument, None
    if isinstance(argument, list):
        expected, argument = argument
    result = entry.result
    assert argument is None or isinstance(argument, str), entry
    assert expected is None or isinstance(expected, str), entry
    assert result is None or isinstance(result, str | int), entry
    return Operation(
        entry.client,
        entry.node,
        entry.key,
        KINDS[entry.what],
        entry.invoked_ns,
        argument,
        expected,
        result,
        entry.outcome,
        entry.ended_ns if entry.is_done else None,
        entry.note,
    )
