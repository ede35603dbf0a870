"""The check of the sets notices what it is there for, and nothing else."""

from __future__ import annotations

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.queues import STRAY_NS
from tests.chaos.checks.sets import check_pair
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome


def op(
    what: str,
    begin: int,
    end: int,
    argument: Json = None,
    result: Json = None,
    outcome: Outcome = Outcome.DONE,
) -> Entry:
    return Entry("sets", begin, "n1", what, "pair", begin, argument, result, outcome, end)


def found(left: list[str], right: list[str], *entries: Entry) -> str:
    """The violations, in one text."""
    judgement = Judgement()
    check_pair("pair", entries, [[*left], [*right]], judgement)
    return " ".join(judgement.violations)


ADDED = [op("add", 1, 2, ["a", "b"], 2), op("add", 3, 4, ["c"], 1)]


def test_added_moved_and_taken_is_well() -> None:
    assert not found(
        ["b"],
        [],
        *ADDED,
        op("read", 5, 6, None, [["a", "b"], ["c"]]),
        op("move", 7, 8, "a", 1),
        op("remove", 9, 10, "a", [0, 1]),
        op("pop", 11, 12, None, ["c"]),
        op("move", 13, 14, "c", 0),
        op("read", 15, 16, None, [["b"], []]),
    )


def test_a_look_beside_a_change_may_see_either() -> None:
    taking = op("pop", 5, 20, None, ["a"])
    adding = op("add", 6, 20, ["d"], 1)
    before = op("read", 7, 8, None, [["a", "b"], ["c"]])
    after = op("read", 9, 10, None, [["b", "d"], ["c"]])
    assert not found(["b", "d"], ["c"], *ADDED, taking, adding, before, after)


def test_what_is_unknown_may_have_happened_or_not() -> None:
    removal = op("remove", 5, 6, "a", None, Outcome.UNKNOWN)
    assert not found(["a", "b"], ["c"], *ADDED, removal)
    assert not found(["b"], ["c"], *ADDED, removal, op("read", 9, 10, None, [["b"], ["c"]]))
    addition = op("add", 5, 6, ["d"], None, Outcome.UNKNOWN)
    assert not found(["a", "b"], ["c"], *ADDED, addition)
    assert not found(["a", "b"], ["c", "d"], *ADDED, addition)
    pop = op("pop", 5, 6, None, None, Outcome.UNKNOWN)
    assert not found(["b"], ["c"], *ADDED, pop, op("read", 9, 10, None, [["b"], ["c"]]))


def test_a_lost_element_is_noticed() -> None:
    assert "lost" in found(["b"], ["c"], *ADDED)
    doubt = op("pop", 5, 6, None, None, Outcome.UNKNOWN)
    assert "1 elements are lost" in found(["b"], [], *ADDED, doubt)
    late = op("add", STRAY_NS + 10, STRAY_NS + 11, ["z"], 1)
    assert "lost" in found(["a", "b"], ["c"], *ADDED, doubt, late)


def test_an_element_taken_twice_or_taken_and_there_is_noticed() -> None:
    pops = [op("pop", 5, 6, None, ["a"]), op("remove", 7, 8, "a", [1, 0])]
    assert "twice" in found(["b"], ["c"], *ADDED, *pops)
    assert "twice" in found(["a", "b"], ["c"], *ADDED, pops[0])


def test_an_element_in_both_sets_is_noticed() -> None:
    torn = op("read", 5, 6, None, [["a", "b"], ["a", "c"]])
    assert "in both" in found(["a", "b"], ["c"], *ADDED, torn)
    assert "twice" in found(["a", "b"], ["a", "c"], *ADDED)


def test_an_element_that_comes_back_is_noticed() -> None:
    taken = op("pop", 5, 6, None, ["a"])
    late = op("read", 7, 8, None, [["a", "b"], ["c"]])
    assert "came back" in found(["b"], ["c"], *ADDED, taken, late)
    assert "came back" in found(["b"], ["c"], *ADDED, taken, op("move", 7, 8, "a", 1))


def test_a_stale_look_is_noticed() -> None:
    assert "c was not seen" in found(
        ["a", "b"], ["c"], *ADDED, op("read", 5, 6, None, [["a", "b"], []])
    )


def test_a_refused_element_that_is_there_and_one_of_nobody_are_noticed() -> None:
    refused = op("add", 5, 6, ["d"], None, Outcome.REFUSED)
    assert "refused" in found(["a", "b"], ["c", "d"], *ADDED, refused)
    assert "never pushed" in found(["a", "b"], ["c", "x"], *ADDED)


def test_an_addition_that_counts_wrong_is_noticed() -> None:
    assert "there before" in found(["a"], [], op("add", 1, 2, ["a"], 0))


def test_a_refused_element_is_missed_by_nobody_who_looks() -> None:
    refused = op("add", 5, 6, ["d"], None, Outcome.REFUSED)
    look = op("read", 7, 8, None, [["a", "b"], ["c"]])
    assert not found(["a", "b"], ["c"], *ADDED, refused, look)
