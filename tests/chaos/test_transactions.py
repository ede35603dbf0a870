"""The checkers of transactions notice what they are there for, and nothing else."""

from __future__ import annotations

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.money import check_balances
from tests.chaos.checks.transactions import check_transactions, name_of
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome


def done(begin: int, end: int, *steps: tuple[list[Json], Json]) -> Entry:
    """An acknowledged transaction: steps and what they were answered."""
    return Entry(
        "transactions",
        begin,
        "n1",
        "transaction",
        "",
        begin,
        [step for step, _ in steps],
        [result for _, result in steps],
        Outcome.DONE,
        end,
    )


def ended(outcome: Outcome, begin: int, *steps: list[Json]) -> Entry:
    """One that was not."""
    return Entry(
        "transactions", 0, "n1", "transaction", "", begin, [*steps], None, outcome, begin + 1
    )


def append(key: str, value: str, length: int) -> tuple[list[Json], Json]:
    return ["a", key, value], length


def read(key: str, *values: str) -> tuple[list[Json], Json]:
    return ["r", key], [*values]


def found(finals: dict[str, list[str]], *entries: Entry) -> str:
    """The violations, in one text."""
    judgement = Judgement()
    check_transactions(entries, {key: [*value] for key, value in finals.items()}, judgement)
    return " ".join(judgement.violations)


def test_one_after_the_other_is_well() -> None:
    assert not found(
        {"x": ["1", "2"], "y": ["3"]},
        done(1, 2, append("x", "1", 1), read("y")),
        done(3, 4, append("x", "2", 2), append("y", "3", 1), read("x", "1", "2")),
        done(5, 6, read("x", "1", "2"), read("y", "3")),
    )


def test_concurrent_ones_may_take_effect_in_any_order() -> None:
    """Odd to look at: the one that began last came first, and a reader saw nothing of either."""
    assert not found(
        {"x": ["2", "1"]},
        done(1, 10, append("x", "1", 2)),
        done(5, 9, append("x", "2", 1)),
        done(6, 8, read("x")),
        done(7, 11, read("x", "2")),
    )


def test_one_of_unknown_outcome_may_be_there_late_or_never() -> None:
    early = ended(Outcome.UNKNOWN, 1, ["a", "x", "1"])
    never = ended(Outcome.UNKNOWN, 1, ["a", "x", "9"], ["a", "y", "8"])
    late = done(5, 6, append("x", "2", 1))
    assert not found({"x": ["2", "1"]}, early, never, late, done(7, 8, read("x", "2")))


def test_a_lost_append_is_noticed() -> None:
    assert "2 is lost" in found(
        {"x": ["1"]}, done(1, 2, append("x", "1", 1)), done(3, 4, append("x", "2", 2))
    )


def test_an_append_that_is_there_twice_is_noticed() -> None:
    assert "twice" in found({"x": ["1", "1"]}, done(1, 2, append("x", "1", 1)))


def test_a_refused_append_that_is_there_is_noticed() -> None:
    assert "was refused" in found({"x": ["1"]}, ended(Outcome.REFUSED, 1, ["a", "x", "1"]))


def test_an_append_that_nobody_made_is_noticed() -> None:
    assert "nobody appended 7" in found({"x": ["7"]})


def test_half_a_transaction_is_noticed() -> None:
    half = ended(Outcome.UNKNOWN, 1, ["a", "x", "1"], ["a", "y", "2"])
    assert "without 2" in found({"x": ["1"], "y": []}, half)


def test_a_read_that_is_no_beginning_is_noticed() -> None:
    assert "no beginning" in found(
        {"x": ["1", "2"]},
        done(1, 2, append("x", "1", 1), append("x", "2", 2)),
        done(3, 4, read("x", "2", "1")),
    )


def test_a_length_that_does_not_fit_is_noticed() -> None:
    assert "made the list 2 long" in found({"x": ["1"]}, done(1, 2, append("x", "1", 2)))


def test_a_transaction_that_does_not_see_its_own_append_is_noticed() -> None:
    assert "its own" in found({"x": ["1"]}, done(1, 2, append("x", "1", 1), read("x")))


def test_appends_in_a_cycle_are_noticed() -> None:
    assert found(
        {"x": ["1", "2"], "y": ["4", "3"]},
        done(1, 9, append("x", "1", 1), append("y", "3", 2)),
        done(1, 9, append("x", "2", 2), append("y", "4", 1)),
    ).startswith("G0: ")


def test_two_that_see_each_other_are_noticed() -> None:
    assert found(
        {"x": ["1"], "y": ["2"]},
        done(1, 9, append("x", "1", 1), read("y", "2")),
        done(1, 9, append("y", "2", 1), read("x", "1")),
    ).startswith("G1c: ")


def test_write_skew_is_noticed() -> None:
    assert found(
        {"x": ["1"], "y": ["2"]},
        done(1, 9, append("x", "1", 1), read("y")),
        done(1, 9, append("y", "2", 1), read("x")),
    ).startswith("G2: ")


def test_a_read_of_the_middle_of_a_transaction_is_noticed() -> None:
    assert "G-single" in found(
        {"x": ["1", "2"]},
        done(1, 9, append("x", "1", 1), append("x", "2", 2)),
        done(1, 9, read("x", "1")),
    )


def test_a_stale_read_is_noticed_by_time_alone() -> None:
    text = found({"x": ["1"]}, done(1, 2, append("x", "1", 1)), done(3, 4, read("x")))
    assert text.startswith("G-single in real time: ")
    assert "2 transactions" in text


def test_a_cycle_is_found_among_many_and_is_the_smallest() -> None:
    many = [done(10 * n, 10 * n + 5, append("x", str(n), n)) for n in range(1, 500)]
    finals = {"x": [str(n) for n in range(1, 500)]}
    assert not found(finals, *many)
    stale = done(9000, 9001, read("x", *finals["x"][:250]))
    assert "2 transactions" in found(finals, *many, stale)


def test_the_names_of_cycles() -> None:
    assert name_of(["ww", "ww"]) == "G0"
    assert name_of(["ww", "wr", "time"]) == "G1c in real time"
    assert name_of(["rw", "wr"]) == "G-single"
    assert name_of(["rw", "rw", "ww"]) == "G2"


def test_a_bank_whose_sums_are_wrong_is_noticed() -> None:
    transfer = Entry("bank", 0, "n1", "transfer", "t1", 1, "0 1 5", None, Outcome.DONE, 2)
    good: dict[str, Json] = {"0": -5, "1": 5}
    book: dict[str, Json] = {"t1": "0 1 5"}

    def wrong(seen: dict[str, Json], final: dict[str, Json], lines: dict[str, Json]) -> str:
        reading = Entry("bank", 1, "n1", "read", "a", 3, None, seen, Outcome.DONE, 4)
        judgement = Judgement()
        check_balances([reading], [transfer], {"n1": (final, lines)}, judgement)
        return " ".join(judgement.violations)

    assert wrong(good, good, book) == wrong({}, good, book) == wrong({}, {}, {}) == ""
    assert "a half" in wrong({"0": -5}, good, book)
    assert "not what the book says" in wrong(good, {"0": -10, "1": 10}, book)
    assert "not what the book says" in wrong(good, good, {})
