"""A roll under load, and that those who judge it would see what must not happen."""

from __future__ import annotations

import pytest

from tests.rolling.load import SEPARATOR, Call, Parts, Tally
from tests.rolling.under_load import Heard, Rolled, Side, Stage, Verdict, Window, sides, windows
from tests.support.docker import Containers


@pytest.mark.docker
@pytest.mark.timeout(300)  # the image may have to be built first
def test_a_roll_fails_nobody_elsewhere_and_loses_nothing(containers: Containers) -> None:
    """How long a call takes depends on who else uses the machine: `make roll` judges that."""
    stage = Stage(containers, seed=1, STABLE_SECONDS="0")
    with stage.load.running():
        verdict = stage.roll()
    print(verdict)
    assert not verdict.wrong, verdict


# --- when a node is away --------------------------------------------------------------------------


def rolled(*lines: tuple[float, str, str], orders: tuple[tuple[float, str], ...]) -> Rolled:
    return Rolled(0, 0.0, 100.0, [Heard(*line) for line in lines], list(orders))


def test_a_node_is_away_from_the_order_to_stop_until_it_is_back() -> None:
    roll = rolled(
        (9.0, "n1", "drained: n1 is drained"),
        (12.0, "n1", "started: image"),
        (13.0, "n1", "back: applied 7"),
        (18.0, "n1", "stable: for 5 s"),
        (23.0, "n2", "back: applied 9"),
        orders=((10.0, "n1"), (20.0, "n2")),
    )
    assert windows(roll) == [Window("n1", 10.0, 13.0), Window("n2", 20.0, 23.0)]


def test_a_node_that_is_rolled_back_is_away_until_the_old_one_is_back() -> None:
    roll = rolled(
        (13.0, "n1", "back: applied 7"),
        (14.0, "n1", "failed: it ended"),
        (17.0, "n1", "back: applied 8"),
        orders=((10.0, "n1"), (15.0, "n1")),
    )
    assert windows(roll) == [Window("n1", 10.0, 17.0)]


def test_a_node_that_never_comes_back_is_away_until_the_end() -> None:
    assert windows(rolled(orders=((10.0, "n1"),))) == [Window("n1", 10.0, 100.0)]


@pytest.mark.parametrize(
    ("node", "begun", "ended", "is_excused"),
    [
        ("n1", 9.0, 10.5, True),
        ("n1", 12.9, 15.0, True),
        ("n1", 9.0, 9.9, False),
        ("n1", 13.1, 14.0, False),
        ("n2", 11.0, 12.0, False),
    ],
)
def test_only_calls_under_way_at_the_node_that_is_away_are_excused(
    node: str, begun: float, ended: float, is_excused: bool
) -> None:
    call = Call(node, "set", begun, ended, "ConnectionError")
    elsewhere, restarting, _ = sides([call], [Window("n1", 10.0, 13.0)])
    assert (elsewhere.failed, restarting.failed) == ((0, 1) if is_excused else (1, 0))


# --- what is wrong --------------------------------------------------------------------------------


def verdict_of(elsewhere: list[Call], *, code: int = 0, lost: int = 0, twice: int = 0) -> Verdict:
    roll = Rolled(code, 0.0, 100.0, [], [])
    others, _, slowest = sides([Call("n2", "get", 1.0, 1.1), *elsewhere], [])
    there = Side()
    there.add(Call("n1", "set", 10.0, 14.0, "ConnectionError"))
    verdict = Verdict(roll, others, there, lost, twice, "", slowest)
    verdict.judge(0)
    return verdict


def test_failures_on_the_restarting_node_are_not_wrong() -> None:
    verdict = verdict_of([])
    assert verdict.wrong == []
    assert verdict.is_quick


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (verdict_of([Call("n2", "set", 1.0, 1.1, "TimeoutError")]), "TimeoutError"),
        (verdict_of([], lost=1), "lost"),
        (verdict_of([], twice=1), "twice"),
        (verdict_of([], code=1), "exit code 1"),
    ],
)
def test_what_must_not_happen_is_wrong(verdict: Verdict, word: str) -> None:
    (text,) = verdict.wrong
    assert word in text


def test_a_second_is_too_long_elsewhere() -> None:
    assert not verdict_of([Call("n2", "set", 20.0, 21.1)]).is_quick


# --- what a client can know by itself -------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [(1, 11, (0, 0)), (1, 10, (1, 0)), (1, 12, (0, 1)), (3, 13, (0, 0)), (3, 14, (0, 1))],
)
def test_a_counter_grows_by_one_for_each_call_and_by_none_or_one_for_one_that_failed(
    asked: int, answer: int, expected: tuple[int, int]
) -> None:
    tally = Tally(1)
    tally.known = 10
    for _ in range(asked):
        tally.asks()
    assert tally.answered(answer) == expected
    tally.asks()
    assert tally.answered(answer + 1) == (0, 0), "what was said once is not said again"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1;2;", (0, 0)),
        (b"1;3;2;", (0, 0)),
        (b"1;", (1, 0)),
        (b"1;2;2;", (0, 1)),
        (b"1;2;3;3;", (0, 1)),
        (b"1;2;4;", (0, 1)),
    ],
)
def test_what_was_appended_is_there_once(content: bytes, expected: tuple[int, int]) -> None:
    assert SEPARATOR == b";"
    assert Parts([b"1", b"2"], [b"3"]).found(content) == expected
