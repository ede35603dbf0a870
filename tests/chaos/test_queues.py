"""The account of the queues notices what it is there for."""

from __future__ import annotations

import math

from tests.chaos.checks.queues import STRAY_NS, Account, Push
from tests.support.history import Outcome


def pushed(*elements: str, outcome: Outcome = Outcome.DONE) -> dict[str, Push]:
    """One push after the other, a second each."""
    second = 1_000_000_000
    return {
        element: Push(
            at * second, at * second + 1 if outcome is Outcome.DONE else math.inf, outcome
        )
        for at, element in enumerate(elements)
    }


def test_an_element_with_one_client_or_in_a_queue_is_well() -> None:
    account = Account(pushed("a", "b"), {"a": [(5, 6)]})
    assert account.judge(["b"]) == []


def test_an_element_with_two_clients_is_noticed() -> None:
    account = Account(pushed("a"), {"a": [(5, 6), (8, 9)]})
    assert "twice" in account.judge([])[0]


def test_an_element_with_a_client_and_in_a_queue_is_noticed() -> None:
    assert "twice" in Account(pushed("a"), {"a": [(5, 6)]}).judge(["a"])[0]


def test_a_lost_element_is_noticed() -> None:
    assert "lost" in Account(pushed("a", "b")).judge(["b"])[0]


def test_a_pop_in_doubt_excuses_one_lost_element() -> None:
    elements = pushed("a", "b")
    assert Account(elements, doubts=[0, 1]).judge([]) == []
    assert "1 elements are lost" in Account(elements, doubts=[0]).judge([])[0]


def test_a_pop_that_ended_long_before_the_push_excuses_nothing() -> None:
    late = {"a": Push(STRAY_NS + 2, STRAY_NS + 3, Outcome.DONE)}
    assert Account(late, doubts=[2]).judge([]) == []
    assert "lost" in Account(late, doubts=[1]).judge([])[0]


def test_an_unknown_push_may_be_there_or_not_and_a_refused_one_must_not() -> None:
    unknown = Account(pushed("a", outcome=Outcome.UNKNOWN))
    assert unknown.judge([]) == unknown.judge(["a"]) == []
    refused = Account(pushed("a", outcome=Outcome.REFUSED))
    assert refused.judge([]) == []
    assert "refused" in refused.judge(["a"])[0]
    assert "never pushed" in Account().judge(["a"])[0]


def test_an_element_that_overtakes_one_pushed_before_it_is_noticed() -> None:
    elements = pushed("a", "b")
    assert Account(elements, {"a": [(5, 6)], "b": [(7, 8)]}).judge_order("q", []) == []
    assert Account(elements, {"a": [(5, 8)], "b": [(5, 8)]}).judge_order("q", []) == []
    assert Account(elements, {"a": [(9, 10)], "b": [(7, 8)]}).judge_order("q", [])
    assert Account(elements, {"b": [(7, 8)]}).judge_order("q", ["a"])


def test_elements_pushed_at_the_same_time_have_no_order() -> None:
    together = {e: Push(0, 5, Outcome.DONE) for e in "ab"}
    assert Account(together, {"a": [(9, 10)], "b": [(7, 8)]}).judge_order("q", []) == []
    later = {**pushed("a", outcome=Outcome.UNKNOWN), "b": Push(7, 8, Outcome.DONE)}
    assert Account(later, {"a": [(19, 20)], "b": [(11, 12)]}).judge_order("q", []) == []
