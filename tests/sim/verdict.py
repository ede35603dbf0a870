"""What clients were told, judged: linearizability of every key, and lists without a search.

Registers and counters go to the checker of the chaos tests. A list tells more: its last value
*is* the order in which the appends took effect, so nothing has to be searched for. A write that was
acknowledged must be in it exactly once and have been answered with the length up to there (an id
tells no place); every read must be a beginning of it; and whoever ended before another began must
not stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.sim.dialects import TOKEN_CHARACTERS
from tests.support import linearizability
from tests.support.history import Kind, Operation, Outcome, by_key
from tests.support.linearizability import Verdict

STEPS_MAX = 200_000
"""Configurations looked at for one key before it counts as undecided."""


def judge(history: Iterable[Operation]) -> tuple[list[str], int]:
    """Check registers and counters; returns what is wrong, and how many keys are undecided."""
    wrong: list[str] = []
    undecided = 0
    for operations in by_key(history).values():
        finding = linearizability.check(operations, steps_max=STEPS_MAX)
        if finding.verdict is Verdict.VIOLATION:
            wrong.append(finding.text)
        undecided += finding.verdict is Verdict.UNDECIDED
    return wrong, undecided


def judge_lists(history: Iterable[Operation]) -> list[str]:
    """Check lists; the last operation on each must be a read that saw all."""
    return [text for part in by_key(history).values() for text in _judge_list(part)]


def _judge_list(operations: Sequence[Operation]) -> list[str]:
    reads = [o for o in operations if o.kind is Kind.READ and o.outcome is Outcome.DONE]
    final = str(max(reads, key=lambda read: read.returned_ns or 0).result or "") if reads else ""
    tokens = [final[at : at + TOKEN_CHARACTERS] for at in range(0, len(final), TOKEN_CHARACTERS)]
    place = {token: number for number, token in enumerate(tokens, 1)}
    if len(place) != len(tokens):
        return [f"{operations[0].key}: something was appended twice: {final}"]
    wrong: list[str] = []
    moments: list[tuple[int, int, int, Operation]] = []
    for operation in operations:
        found = _place(operation, place, final)
        if isinstance(found, str):
            wrong.append(f"{operation}: {found}")
        elif found is not None:
            moments.append((operation.invoked_ns, 0, found, operation))
            if operation.returned_ns is not None:
                moments.append((operation.returned_ns, 1, found, operation))
    return wrong + _in_real_time(moments)


def _place(operation: Operation, place: dict[str, int], final: str) -> int | str | None:
    """The place of an operation in the list; a sentence if it cannot be there; None: no matter."""
    if operation.kind is Kind.READ:
        if operation.outcome is not Outcome.DONE:
            return None
        value = str(operation.result or "")
        if not final.startswith(value):
            return f"is no beginning of {final}"
        return len(value) // TOKEN_CHARACTERS
    position = place.get(str(operation.argument))
    if operation.outcome is Outcome.REFUSED:
        return None if position is None else "was refused and is there"
    if operation.outcome is Outcome.UNKNOWN:
        return position
    if position is None:
        return "was acknowledged and is lost"
    if operation.result not in (None, position * TOKEN_CHARACTERS):
        return f"was answered {operation.result!r} at place {position}"
    return position


def _in_real_time(moments: list[tuple[int, int, int, Operation]]) -> list[str]:
    """Nothing that begins after the end of another may stand before it."""
    highest, by = -1, ""
    wrong: list[str] = []
    for _, is_return, position, operation in sorted(moments, key=lambda moment: moment[:3]):
        if is_return:
            if position > highest:
                highest, by = position, str(operation)
        elif position < highest or (position == highest and operation.kind is Kind.WRITE):
            wrong.append(f"{operation} began after this had ended, and saw less: {by}")
    return wrong
