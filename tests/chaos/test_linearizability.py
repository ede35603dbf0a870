"""The judge is judged first: against brute force, and against histories spoilt on purpose."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.history import Kind, Operation, Outcome, Value
from tests.support.linearizability import Illegal, Verdict, apply, check

SEEDS = range(20)


def operation(kind: Kind, start: int, end: int | None, **fields: Value) -> Operation:
    outcome = Outcome.UNKNOWN if end is None else Outcome.DONE
    made = Operation(0, "n1", "k", kind, start, outcome=outcome, returned_ns=end)
    return replace(made, **fields)  # type: ignore[arg-type]  # fields differ in type


def write(value: str, start: int, end: int | None = None) -> Operation:
    return operation(Kind.WRITE, start, end, argument=value)


def read(value: Value, start: int, end: int | None = None) -> Operation:
    return operation(Kind.READ, start, end, result=value)


def swap(expected: Value, value: str, start: int, end: int | None = None) -> Operation:
    return operation(Kind.SWAP, start, end, expected=expected, argument=value)


def increment(result: int | None, start: int, end: int | None = None) -> Operation:
    return operation(Kind.INCREMENT, start, end, result=result)


def verdict(*operations: Operation, initial: Value = None) -> Verdict:
    return check(operations, initial).verdict


def test_a_read_after_a_write_must_see_it() -> None:
    assert verdict(write("a", 0, 1), read("a", 2, 3)) is Verdict.LINEARIZABLE
    assert verdict(write("a", 0, 1), read(None, 2, 3)) is Verdict.VIOLATION


def test_a_read_beside_a_write_may_see_either_value() -> None:
    assert verdict(write("a", 0, 3), read(None, 1, 2)) is Verdict.LINEARIZABLE
    assert verdict(write("a", 0, 3), read("a", 1, 2)) is Verdict.LINEARIZABLE


def test_what_was_seen_once_is_not_unseen_later() -> None:
    history = [write("a", 0, 9), read("a", 1, 2), read(None, 3, 4)]
    assert verdict(*history) is Verdict.VIOLATION


def test_a_write_of_unknown_outcome_may_happen_much_later() -> None:
    history = [write("a", 0), read(None, 10, 11), read("a", 20, 21)]
    assert verdict(*history) is Verdict.LINEARIZABLE


def test_a_write_of_unknown_outcome_happens_at_most_once() -> None:
    history = [write("a", 0), read("a", 1, 2), write("b", 3, 4), read("a", 5, 6)]
    assert verdict(*history) is Verdict.VIOLATION


def test_a_refused_write_is_never_seen() -> None:
    refused = replace(write("a", 0, 1), outcome=Outcome.REFUSED)
    assert verdict(refused, read("a", 2, 3)) is Verdict.VIOLATION
    assert verdict(refused, read(None, 2, 3)) is Verdict.LINEARIZABLE


def test_two_swaps_of_one_value_cannot_both_win() -> None:
    history = [write("a", 0, 1), swap("a", "b", 2, 5), swap("a", "c", 3, 6)]
    assert verdict(*history) is Verdict.VIOLATION


def test_a_chain_of_unknown_swaps_is_followed_back() -> None:
    history = [write("a", 0), swap("a", "b", 1), swap("b", "c", 2), read("c", 5, 6)]
    assert verdict(*history) is Verdict.LINEARIZABLE
    assert verdict(*history, read("b", 7, 8)) is Verdict.VIOLATION


def test_an_increment_applied_twice_is_caught() -> None:
    assert verdict(increment(1, 0, 1), increment(3, 2, 3), initial=0) is Verdict.VIOLATION


def test_an_unknown_increment_explains_one_missing_number_only() -> None:
    once = [increment(None, 0), increment(2, 2, 3), increment(3, 4, 5)]
    twice = [increment(None, 0), increment(2, 2, 3), increment(4, 4, 5)]
    assert verdict(*once, initial=0) is Verdict.LINEARIZABLE
    assert verdict(*twice, initial=0) is Verdict.VIOLATION


def test_an_unknown_increment_does_not_act_before_it_was_invoked() -> None:
    history = [increment(2, 0, 1), increment(None, 2)]
    assert verdict(*history, initial=0) is Verdict.VIOLATION


def test_a_spent_budget_is_undecided_and_says_where() -> None:
    history = [write(f"w{i}", 0, 100) for i in range(12)] + [read("w3", 101, 102)]
    finding = check(history, steps_max=100)
    assert finding.verdict is Verdict.UNDECIDED
    assert "gave up" in finding.text


def test_a_violation_names_the_operation_that_cannot_be_explained() -> None:
    finding = check([write("a", 0, 1), read("z", 2, 3)])
    assert "read -> 'z'" in finding.text
    assert "may have held: 'a'" in finding.text


def brute_force(operations: list[Operation], initial: Value) -> bool:
    """Try every order of every subset that holds all finished operations."""
    finished = [op for op in operations if op.returned_ns is not None]
    pending = [op for op in operations if op.returned_ns is None]
    for count in range(len(pending) + 1):
        for chosen in itertools.combinations(pending, count):
            for order in itertools.permutations([*finished, *chosen]):
                if _possible(order, initial):
                    return True
    return False


def _possible(order: tuple[Operation, ...], initial: Value) -> bool:
    value = initial
    for position, first in enumerate(order):
        for later in order[position + 1 :]:
            if later.returned_ns is not None and later.returned_ns < first.invoked_ns:
                return False
        try:
            value = apply(value, first)
        except Illegal:
            return False
    return True


times = st.tuples(st.integers(0, 8), st.integers(0, 4), st.booleans()).map(
    lambda t: (2 * t[0], None if t[2] and t[1] == 0 else 2 * (t[0] + t[1]) + 1)
)


@st.composite
def register_histories(draw: st.DrawFn) -> list[Operation]:
    count = draw(st.integers(1, 5))
    values = st.sampled_from([None, *(f"v{i}" for i in range(count))])
    history = []
    for i in range(count):
        start, end = draw(times)
        kind = draw(st.sampled_from([Kind.READ, Kind.WRITE, Kind.SWAP]))
        if kind is Kind.READ:
            history.append(read(draw(values), start, end or start + 1))
        elif kind is Kind.WRITE:
            history.append(write(f"v{i}", start, end))
        else:
            history.append(swap(draw(values), f"v{i}", start, end))
    return history


@given(register_histories())
@settings(max_examples=400, deadline=None)
def test_registers_are_judged_as_by_brute_force(history: list[Operation]) -> None:
    expected = Verdict.LINEARIZABLE if brute_force(history, None) else Verdict.VIOLATION
    assert check(history).verdict is expected


@given(st.lists(st.tuples(times, st.integers(1, 5)), min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_counters_are_judged_as_by_brute_force(
    drawn: list[tuple[tuple[int, int | None], int]],
) -> None:
    history = [increment(None if end is None else n, start, end) for (start, end), n in drawn]
    expected = Verdict.LINEARIZABLE if brute_force(history, 0) else Verdict.VIOLATION
    assert check(history, 0).verdict is expected


def simulate(seed: int, clients: int = 6, count: int = 400) -> list[Operation]:
    """A true history: operations take effect one by one at a random moment of their interval."""
    rng = random.Random(seed)
    free = [0] * clients
    planned = []
    for number in range(count):
        client = min(range(clients), key=free.__getitem__)
        start = free[client] + rng.randint(1, 20)
        moment = start + rng.randint(1, 30)
        free[client] = moment + rng.randint(1, 30)
        planned.append((moment, number, start, free[client], rng.random(), client))
    history, value = [], None
    for _, number, start, end, dice, client in sorted(planned):
        if dice < 0.5:
            made = read(value, start, end)
        elif dice < 0.9 or value is None:
            made = write(f"v{number}", start, end)
            value = made.argument
        else:
            made = swap(value, f"v{number}", start, end)
            value = made.argument
        history.append(replace(made, client=client))
    return history


@pytest.mark.parametrize("seed", SEEDS)
def test_true_histories_pass(seed: int) -> None:
    finding = check(simulate(seed))
    assert finding.verdict is Verdict.LINEARIZABLE, f"seed {seed}: {finding.text}"


@pytest.mark.parametrize("seed", SEEDS)
def test_true_histories_pass_when_outcomes_get_lost(seed: int) -> None:
    rng = random.Random(seed)
    history = [
        replace(op, outcome=Outcome.UNKNOWN, returned_ns=None, result=None)
        if rng.random() < 0.1
        else op
        for op in simulate(seed)
    ]
    finding = check(history)
    assert finding.verdict is Verdict.LINEARIZABLE, f"seed {seed}: {finding.text}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_acknowledged_write_is_caught(seed: int) -> None:
    """Drop one write that was read: that is what a lost write and a phantom look like."""
    history = simulate(seed)
    read_values = {op.result for op in history if op.kind is Kind.READ}
    victim = next(
        op for op in history[100:] if op.kind is Kind.WRITE and op.argument in read_values
    )
    spoilt = [op for op in history if op is not victim]
    assert check(spoilt).verdict is Verdict.VIOLATION, f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stale_read_is_caught(seed: int) -> None:
    """Append a read, after everything, of a value that was overwritten long before."""
    history = simulate(seed)
    old = next(op.argument for op in history if op.kind is Kind.WRITE)
    end = max(op.returned_ns or 0 for op in history)
    assert check([*history, read(old, end + 1, end + 2)]).verdict is Verdict.VIOLATION
