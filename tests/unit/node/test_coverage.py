"""How far the voters have the log: known on the leader, asked for elsewhere, never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kvnode.limits import COVERAGE_ANSWER_MS_MAX, WAIT_POLL_MS_MAX
from kvnode.node.coverage import Coverage
from kvnode.node.frames import MalformedFrame
from kvnode.node.wire import CoverageAnswer, CoverageQuery
from raft.progress import ProgressView
from raft.types import NONE, ConfState, Role

VOTERS = (1, 2, 3)


@dataclass
class Raft:
    """What one of three voters knows."""

    node_id: int = 1
    role: Role = Role.FOLLOWER
    leader: int = 2
    term: int = 5
    commit: int = 10
    conf_state: ConfState = field(default_factory=lambda: ConfState(VOTERS))
    matches: dict[int, int] = field(default_factory=dict)

    def progress(self) -> dict[int, ProgressView]:
        return {v: ProgressView(m, m + 1, "", True, 0, 0) for v, m in self.matches.items()}


@dataclass
class Timer:
    when_ms: float
    callback: object
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, callback: object) -> Timer:
        self.timers.append(Timer(self.now_ms + seconds * 1000, callback))
        return self.timers[-1]

    @property
    def armed(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance(self, milliseconds: float) -> None:
        end = self.now_ms + milliseconds
        while due := [timer for timer in self.armed if timer.when_ms <= end]:
            timer = min(due, key=lambda t: t.when_ms)
            self.timers.remove(timer)
            self.now_ms = timer.when_ms
            timer.callback()  # type: ignore[operator]
        self.now_ms = end


class Setup:
    def __init__(self) -> None:
        self.raft = Raft()
        self.loop = Loop()
        self.sent: list[tuple[int, object]] = []
        self.woken = 0
        self.coverage = Coverage(
            self.raft,  # type: ignore[arg-type]
            self.loop,  # type: ignore[arg-type]
            lambda peer, message: self.sent.append((peer, message)),
            self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def lead(self, **matches: int) -> None:
        self.raft.role, self.raft.leader = Role.LEADER, 1
        self.raft.matches = {int(name[1:]): match for name, match in matches.items()}

    def told(self, *matches: int, term: int = 5) -> None:
        self.coverage.answered(CoverageAnswer(term, list(VOTERS), list(matches)))


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_the_leader_counts_the_matches_of_the_others(setup: Setup) -> None:
    setup.lead(n1=12, n2=10, n3=9)
    assert [setup.coverage.covering(index) for index in (9, 10, 11)] == [2, 1, 0]


def test_a_follower_that_was_told_nothing_counts_what_commit_implies(setup: Setup) -> None:
    assert setup.coverage.covering(10) == 1
    assert setup.coverage.covering(11) == 0


def test_a_follower_does_not_count_itself(setup: Setup) -> None:
    setup.told(10, 10, 9)
    assert [setup.coverage.covering(index) for index in (9, 10)] == [2, 1]


@pytest.mark.parametrize("term", [4, 6])
def test_only_the_leader_of_this_term_is_believed(setup: Setup, term: int) -> None:
    setup.told(10, 10, 10, term=term)
    assert setup.coverage.covering(10) == 1
    setup.told(10, 10, 10)
    setup.told(0, 0, 0, term=term)
    assert setup.coverage.covering(10) == 2


def test_what_an_earlier_leader_told_counts_no_more(setup: Setup) -> None:
    """It may have counted entries at these indexes that were replaced since."""
    setup.told(10, 10, 10)
    setup.raft.term = 6
    assert setup.coverage.covering(10) == 1


def test_a_follower_asks_once_for_all_who_wait_and_tells_them(setup: Setup) -> None:
    results: list[int] = []
    for index in (8, 9, 10):
        setup.coverage.when_covered(index, 2, results.append)
    setup.loop.advance(0)
    assert setup.sent == [(2, CoverageQuery())]
    assert setup.woken == 1
    setup.told(10, 10, 9)
    assert results == [2, 2]
    setup.loop.advance(1)
    setup.told(10, 10, 10)
    assert results == [2, 2, 2]
    assert not setup.loop.armed


def test_a_question_that_was_lost_is_asked_again_and_only_then(setup: Setup) -> None:
    setup.coverage.when_covered(10, 2, print)
    setup.loop.advance(COVERAGE_ANSWER_MS_MAX - 1)
    setup.coverage.when_covered(10, 2, print)
    setup.loop.advance(0)
    assert len(setup.sent) == 1
    setup.loop.advance(1)
    assert len(setup.sent) == 2


def test_while_a_voter_stays_away_the_leader_is_asked_ever_more_rarely(setup: Setup) -> None:
    setup.coverage.when_covered(10, 2, print)
    for _ in range(5_000):
        asked = len(setup.sent)
        setup.loop.advance(1)
        if len(setup.sent) > asked:
            setup.told(10, 10, 9)
    assert len(setup.sent) < 5_000 / WAIT_POLL_MS_MAX + 10


def test_who_becomes_the_leader_meanwhile_looks_for_itself(setup: Setup) -> None:
    results: list[int] = []
    setup.coverage.when_covered(10, 2, results.append)
    setup.loop.advance(0)
    setup.lead(n1=12, n2=10, n3=10)
    setup.loop.advance(COVERAGE_ANSWER_MS_MAX)
    assert results == [2]


def test_without_a_leader_nobody_is_asked_until_there_is_one(setup: Setup) -> None:
    setup.raft.leader = NONE
    setup.coverage.when_covered(10, 2, print)
    setup.loop.advance(500)
    assert setup.sent == []
    setup.raft.leader = 3
    setup.loop.advance(WAIT_POLL_MS_MAX)
    assert setup.sent == [(3, CoverageQuery())]


def test_when_nobody_waits_any_more_nobody_is_asked(setup: Setup) -> None:
    results: list[int] = []
    forget = setup.coverage.when_covered(10, 2, results.append)
    setup.loop.advance(0)
    forget()
    forget()
    assert not setup.loop.armed
    setup.told(10, 10, 10)
    assert results == []


def test_the_end_of_one_wait_may_be_the_end_of_another(setup: Setup) -> None:
    results: list[int] = []
    forgets = []
    setup.coverage.when_covered(10, 2, lambda count: (results.append(count), forgets[0]()))
    forgets.append(setup.coverage.when_covered(10, 2, results.append))
    setup.loop.advance(0)
    setup.told(10, 10, 10)
    assert results == [2]


def test_more_voters_than_there_are_is_a_wait_without_end(setup: Setup) -> None:
    results: list[int] = []
    for index in (0, 10):
        setup.coverage.when_covered(index, 10**18, results.append)
    setup.loop.advance(0)
    setup.told(10, 10, 10)
    assert results == []
    assert setup.loop.armed


def test_only_a_leader_answers(setup: Setup) -> None:
    setup.coverage.asked(3)
    assert setup.sent == []
    setup.lead(n1=12, n2=10, n3=9)
    setup.coverage.asked(3)
    assert setup.sent == [(3, CoverageAnswer(5, [1, 2, 3], [12, 10, 9]))]


def test_an_answer_without_a_match_per_voter_is_malformed(setup: Setup) -> None:
    with pytest.raises(MalformedFrame):
        setup.coverage.answered(CoverageAnswer(5, [1, 2], [7]))
