"""The account of a stream notices what it is there for, and nothing else."""

from __future__ import annotations

from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.streams import DELIVERED_MAX, check_stream
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
    return Entry("streams", begin, "n1", what, "s", begin, argument, result, outcome, end)


def pairs(*numbers: int) -> list[Json]:
    """Entries by their number: id and value."""
    return [[f"{number}-0", f"v{number}"] for number in numbers]


def add(number: int, begin: int, outcome: Outcome = Outcome.DONE) -> Entry:
    return op("add", begin, begin + 1, f"v{number}", f"{number}-0", outcome)


def deliver(begin: int, *numbers: int, end: int = 0) -> Entry:
    return op("deliver", begin, end or begin + 1, "c", pairs(*numbers))


def ack(number: int, begin: int, count: int = 1, outcome: Outcome = Outcome.DONE) -> Entry:
    return op("acknowledge", begin, begin + 1, f"{number}-0", count, outcome)


def final(there: list[int], pending: list[int], last: int) -> Json:
    return {
        "entries": pairs(*there),
        "pending": [f"{number}-0" for number in pending],
        "last": f"{last}-0",
    }


def found(end: Json, *entries: Entry) -> str:
    """The violations, in one text."""
    judgement = Judgement()
    check_stream("s", entries, end, judgement)
    return " ".join(judgement.violations)


ADDED = [add(1, 1), add(2, 3), add(3, 5)]
WELL = [*ADDED, deliver(10, 1, 2), ack(1, 20)]
END = final([1, 2, 3], [2], 2)


def test_delivered_pending_acknowledged_and_new_ones_are_well() -> None:
    assert not found(END, *WELL)
    assert not found(END, *WELL, op("claim", 25, 26, "d", pairs(2)))
    assert not found(END, *WELL, op("read", 25, 26, None, pairs(3, 2, 1)))


def test_concurrent_operations_may_look_odd() -> None:
    """Two deliveries at once, the later entry first; an entry claimed while it is acknowledged."""
    together = [deliver(10, 2, 3, end=30), deliver(11, 1, end=29)]
    claimed = [op("claim", 35, 45, "d", pairs(1)), ack(1, 36)]
    assert not found(final([1, 2, 3], [2, 3], 3), *ADDED, *together, *claimed)


def test_what_is_unknown_may_have_happened_or_not() -> None:
    perhaps = [
        add(4, 7, Outcome.UNKNOWN),
        op("deliver", 10, 11, "c", None, Outcome.UNKNOWN),
        ack(1, 20, 0, Outcome.UNKNOWN),
    ]
    assert not found(final([1, 2, 3], [], 0), *ADDED, *perhaps)
    assert not found(final([1, 2, 3, 4], [1, 2, 3, 4], 4), *ADDED, *perhaps)
    assert not found(final([1, 2, 3, 4], [2, 3, 4], 4), *ADDED, *perhaps)
    # Its effect may come late: somebody else acknowledges it, and is told that it was done.
    assert not found(final([1, 2, 3], [2], 2), *ADDED, *perhaps, deliver(15, 1, 2), ack(1, 30, 0))


def test_a_lost_entry_is_noticed() -> None:
    assert "lost" in found(final([1, 3], [], 0), *ADDED)


def test_an_entry_that_is_there_twice_is_noticed() -> None:
    end = final([1, 2, 3], [], 0)
    assert isinstance(end, dict)
    assert isinstance(end["entries"], list)
    end["entries"].append(["9-0", "v3"])
    assert "twice" in found(end, *ADDED)


def test_a_refused_entry_that_is_there_and_one_of_nobody_are_noticed() -> None:
    end = final([1, 2, 3, 4], [], 0)
    assert "refused entries are there" in found(end, *ADDED, add(4, 7, Outcome.REFUSED))
    assert "nobody added v4" in found(end, *ADDED)


def test_an_order_against_real_time_is_noticed() -> None:
    assert "stands before" in found(final([1, 2], [], 0), add(2, 1), add(1, 5))


def test_an_entry_delivered_twice_as_new_is_noticed() -> None:
    assert "twice as new" in found(END, *WELL, deliver(30, 2))


def test_a_delivery_out_of_order_or_with_a_gap_is_noticed() -> None:
    end = final([1, 2, 3], [1, 2, 3], 3)
    assert "delivered later" in found(end, *ADDED, deliver(10, 2, 3), deliver(20, 1))
    assert "left entries out" in found(end, *ADDED, deliver(10, 1, 3), deliver(20, 2))


def test_entries_that_nobody_was_given_are_noticed() -> None:
    many = DELIVERED_MAX + 2
    adds = [add(n, 2 * n) for n in range(1, many + 1)]
    numbers = list(range(1, many + 1))
    passed_by = deliver(100, many)
    end = final(numbers, numbers, many)
    assert "passed by" in found(end, *adds, passed_by)
    doubt = op("deliver", 90, 91, "c", None, Outcome.UNKNOWN)
    assert "passed by" in found(end, *adds, passed_by, doubt)
    assert not found(end, *adds, passed_by, doubt, doubt)


def test_an_entry_that_is_neither_pending_nor_acknowledged_is_noticed() -> None:
    assert "neither pending nor" in found(final([1, 2, 3], [], 2), *WELL)


def test_an_acknowledged_entry_that_is_pending_is_noticed() -> None:
    assert "acknowledged and is pending" in found(final([1, 2, 3], [1, 2], 2), *WELL)


def test_an_acknowledgement_that_counts_twice_is_noticed() -> None:
    assert "acknowledged twice" in found(END, *WELL, ack(1, 30))


def test_an_acknowledgement_of_what_was_not_pending_is_noticed() -> None:
    assert "not pending, though" in found(END, *WELL, ack(2, 30, 0))
    assert not found(END, *WELL, ack(1, 30, 0))


def test_a_delivery_after_the_acknowledgement_is_noticed() -> None:
    assert "after they had been" in found(END, *WELL, op("claim", 30, 31, "d", pairs(1)))


def test_a_group_that_went_back_is_noticed() -> None:
    assert "went back" in found(final([1, 2, 3], [], 0), *ADDED, deliver(10, 1))


def test_a_look_that_misses_an_entry_is_noticed() -> None:
    assert "missed" in found(END, *WELL, op("read", 25, 26, None, pairs(2, 1)))
    assert not found(END, *WELL, op("read", 4, 26, None, pairs(2, 1)))


def test_what_was_seen_and_is_not_there_is_noticed() -> None:
    assert "not there" in found(END, *WELL, op("read", 25, 26, None, pairs(7)))
