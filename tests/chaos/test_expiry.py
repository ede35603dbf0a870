"""The checks of expiry and of locks notice what they are there for, and nothing else."""

from __future__ import annotations

from tests.chaos.checks.expiry import check_expiry
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.locks import check_lock
from tests.chaos.record import Disturbance, Entry, Json
from tests.support.history import Outcome

SECOND = 1_000_000_000


def op(
    what: str,
    begin: float,
    argument: Json = None,
    result: Json = None,
    outcome: Outcome = Outcome.DONE,
    key: str = "k",
    seconds: float = 0.1,
) -> Entry:
    """An operation that begins at a second."""
    end = int((begin + seconds) * SECOND)
    return Entry("w", 0, "n1", what, key, int(begin * SECOND), argument, result, outcome, end)


def write(begin: float, deadline: Json = 2_000, outcome: Outcome = Outcome.DONE) -> Entry:
    """At stamp 1,000 unless told otherwise, for a second."""
    return op("write", begin, ["v", 1_000], deadline, outcome)


def saw(begin: float, value: str = "v") -> Entry:
    return op("read", begin, None, [value, None])


def missed(begin: float, clock: int) -> Entry:
    return op("read", begin, None, [None, clock])


def moved(begin: float, deadline: int, there: int = 1) -> Entry:
    return op("move", begin, 1_000, [there, deadline])


def kept(begin: float, there: int = 1) -> Entry:
    return op("keep", begin, None, [there, -1 if there else -2])


def found(final: Json, *entries: Entry, disturbances: tuple[Disturbance, ...] = ()) -> str:
    """The violations, in one text."""
    judgement = Judgement()
    check_expiry(entries, {"n1": {"k": final}}, disturbances, judgement)
    return " ".join(judgement.violations)


def test_a_key_that_goes_after_its_deadline_is_well() -> None:
    assert not found(None, write(1), saw(1.5), missed(2.5, 2_001))
    assert not found(None, write(1), missed(2.5, 2_000))
    assert not found(None, write(1), moved(1.2, 9_000), saw(2.5), missed(10, 9_100))
    assert not found("v", write(1), kept(1.2), saw(99))


def test_nobody_sees_a_key_before_it_is_written() -> None:
    early = op("read", 0.9, None, [None, 0], seconds=0.5)
    assert not found(None, write(1), early, saw(1.5))


def test_a_read_beside_the_deadline_may_see_it_after_another_missed_it() -> None:
    slow = op("read", 1.9, None, ["v", None], seconds=1.0)
    assert not found(None, write(1), missed(2.1, 2_050), slow)


def test_a_key_that_comes_back_is_noticed() -> None:
    assert "came back" in found(None, write(1), missed(2.1, 2_050), saw(2.5))
    assert "came back" in found(None, write(1), moved(2.1, -2, 0), saw(2.5))
    unknown = write(1, None, Outcome.UNKNOWN)
    assert "came back" in found(None, unknown, saw(1.5), missed(2.1, 2_050), saw(2.5))
    assert not found(None, unknown, missed(1.1, 1_100), saw(1.5))


def test_a_key_that_goes_too_early_is_noticed() -> None:
    assert "10 ms before" in found(None, write(1), missed(1.5, 1_990))
    assert "before its" in found(None, write(1), moved(1.2, 9_000), missed(3, 2_500))


def test_a_deadline_that_is_being_moved_may_be_either() -> None:
    assert not found(None, write(1), moved(2.45, 9_000, 1), missed(2.4, 2_500))
    unknown = op("move", 1.2, 20, None, Outcome.UNKNOWN)
    assert not found(None, write(1), unknown, missed(1.5, 1_300))


def test_a_kept_key_that_goes_is_noticed() -> None:
    assert "was kept" in found("v", write(1), kept(1.2), missed(5, 99_999))
    assert "was kept" in found(None, write(1), kept(1.2))


def test_a_key_that_never_goes_is_noticed() -> None:
    assert "after its deadline" in found("v", write(1))
    assert not found("v", write(1), op("keep", 1.2, None, None, Outcome.UNKNOWN))


def test_a_refused_key_and_one_of_nobody_are_noticed() -> None:
    refused = write(1, None, Outcome.REFUSED)
    assert not found(None, refused, missed(2, 2_000))
    assert "was refused" in found(None, refused, saw(2))
    assert "nobody wrote" in found(None, write(1), saw(1.5, "w"))


def test_a_clock_that_goes_back_or_runs_ahead_is_noticed() -> None:
    def later(begin: float, deadline: int) -> Entry:
        return op("write", begin, ["w", 1_000], deadline, key="other")

    assert not found(None, write(1), later(3, 4_000))
    assert "went back" in found(None, write(1), later(3, 1_900))
    hour = later(3, 3_602_000)
    assert "ran 3600000 ms" in found(None, write(1), hour)
    one = Disturbance("kill", "processes", ["n1"], 2 * SECOND, until_ns=3 * SECOND, kills=True)
    assert "ran" in found(None, write(1), hour, disturbances=(one,))
    three = Disturbance("kill", "processes", ["n1", "n2", "n3"], 2 * SECOND, kills=True)
    assert not found(None, write(1), hour, disturbances=(three,))
    assert not found(None, write(1), hour, disturbances=(one, one))


def acquired(begin: float, holder: str, deadline: int, lifetime: int = 1_000) -> Entry:
    return op("acquire", begin, [holder, lifetime], deadline)


def wrote(begin: float, line: str, outcome: Outcome = Outcome.DONE) -> Entry:
    return op("write", begin, line, None, outcome)


def token(begin: float, number: int) -> Entry:
    return op("fence", begin, None, number)


def wrong(log: list[str], last: str | None, *entries: Entry) -> str:
    """The violations of a lock, in one text."""
    judgement = Judgement()
    check_lock("lock", entries, {"log": [*log], "last": last}, judgement)
    return " ".join(judgement.violations)


def test_a_lock_that_changes_hands_in_time_is_well() -> None:
    assert not wrong(
        ["1 a", "1 b", "2 c"],
        "2",
        acquired(1, "x", 2_000),
        token(1.2, 1),
        wrote(1.4, "1 a"),
        wrote(1.6, "1 b"),
        acquired(2.5, "y", 3_500),
        token(2.7, 2),
        wrote(2.8, "2 c"),
        wrote(2.9, "1 d", Outcome.REFUSED),
        wrote(2.9, "1 e", Outcome.UNKNOWN),
    )


def test_a_lock_is_given_away_before_its_deadline_only_if_it_was_released() -> None:
    both = [acquired(1, "x", 2_000), acquired(1.5, "y", 2_500)]
    assert "500 ms before" in wrong([], None, *both)
    assert not wrong([], None, *both, op("release", 1.2, "x"))
    assert not wrong([], None, *both, op("release", 1.2, "x", None, Outcome.UNKNOWN))
    assert "before its" in wrong([], None, *both, op("release", 1.2, "x", None, Outcome.REFUSED))
    assert "before its" in wrong([], None, *both, op("release", 1.9, "x"))


def test_two_holders_may_believe_in_the_lock_at_once() -> None:
    """The first dawdles past its deadline and gets the later token: no promise is broken."""
    assert not wrong(
        ["1 b", "2 a"],
        "2",
        acquired(1, "x", 2_000),
        acquired(2.1, "y", 3_100),
        token(2.3, 1),
        wrote(2.5, "1 b"),
        token(2.7, 2),
        wrote(2.9, "2 a"),
    )


def test_tokens_given_twice_or_backwards_are_noticed() -> None:
    assert "twice" in wrong([], None, token(1, 1), token(2, 1))
    assert "smaller" in wrong([], None, token(1, 2), token(2, 1))
    assert not wrong([], None, token(1, 2), op("fence", 1.05, None, 1))


def test_a_log_that_is_not_what_was_accepted_is_noticed() -> None:
    first, second = wrote(1, "1 a"), wrote(2, "2 b")
    assert not wrong(["1 a", "2 b"], "2", first, second)
    assert "lost" in wrong(["1 a"], "1", first, second)
    assert "twice" in wrong(["1 a", "1 a", "2 b"], "2", first, second)
    assert "accepted after" in wrong(["2 b", "1 a"], "2", first, second)
    assert "the last token" in wrong(["1 a", "2 b"], "1", first, second)
    assert "refused writes" in wrong(["1 a"], "1", wrote(1, "1 a", Outcome.REFUSED))
    same = wrote(2, "1 b")
    assert "stands before" in wrong(["1 b", "1 a"], "1", first, same)
