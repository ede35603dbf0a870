"""Read rounds: a read runs after a round that began after it, and after its index is applied."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvnode.limits import HOLD_MS
from kvnode.node import reads
from kvnode.node.reads import ROUND_RETRY_MS, ROUNDS_IN_FLIGHT_MAX, ReadRounds
from kvnode.service import Pending
from kvnode.store.reply import Result


@dataclass
class Read:
    """A client's read that remembers its answers."""

    op: list[object]
    size: int = 10
    results: list[Result] = field(default_factory=list)

    def complete(self, result: Result) -> None:
        self.results.append(result)


class Port:
    """A leader that a test turns on and off, and a store that answers 7."""

    def __init__(self) -> None:
        self.here = True
        self.asked: list[int] = []

    def ask(self, request_id: int) -> bool:
        if self.here:
            self.asked.append(request_id)
        return self.here

    def execute(self, pending: Pending) -> None:
        pending.complete(7)


class Setup:
    """Read rounds, their port and their clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.port = Port()
        self.rounds = ReadRounds(self.port, 1, lambda: self.now)

    def submit(self) -> Read:
        read = Read([64, 0, b"k"])
        self.rounds.submit(read)
        return read

    def later(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000
        self.rounds.sweep()
        self.rounds.flush()


def test_all_reads_of_a_pass_share_one_round_and_wait_for_its_index_to_be_applied() -> None:
    setup = Setup()
    a, b = setup.submit(), setup.submit()
    setup.rounds.flush()
    assert setup.port.asked == [1]
    setup.rounds.confirmed(1, 5)
    setup.rounds.release(4)
    assert a.results == b.results == []
    setup.rounds.release(5)
    assert a.results == b.results == [7]
    assert setup.rounds.is_idle


def test_fewer_reads_than_are_under_way_gather_until_a_round_comes_back() -> None:
    setup = Setup()
    first = [setup.submit() for _ in range(3)]
    setup.rounds.flush()
    second = [setup.submit() for _ in range(2)]
    setup.rounds.flush()
    assert setup.port.asked == [1]
    assert not setup.rounds.can_ask
    setup.rounds.confirmed(1, 0)
    setup.rounds.release(0)
    setup.rounds.flush()
    assert setup.port.asked == [1, 2]
    setup.rounds.confirmed(2, 0)
    setup.rounds.release(0)
    assert [read.results for read in first + second] == [[7]] * 5


def test_a_read_that_arrives_during_a_round_is_not_served_by_it() -> None:
    setup = Setup()
    setup.submit()
    setup.rounds.flush()
    late = setup.submit()
    setup.rounds.confirmed(1, 5)
    setup.rounds.release(5)
    assert late.results == []


def test_rounds_in_flight_are_bounded_and_further_reads_gather() -> None:
    setup = Setup()
    for _ in range(ROUNDS_IN_FLIGHT_MAX + 3):
        setup.submit()
        setup.rounds.flush()
    assert len(setup.port.asked) == ROUNDS_IN_FLIGHT_MAX


def test_a_lost_round_is_asked_again_under_a_new_id_and_the_old_id_is_dead() -> None:
    setup = Setup()
    read = setup.submit()
    setup.rounds.flush()
    setup.later(ROUND_RETRY_MS + 1)
    assert setup.port.asked == [1, 2]
    setup.rounds.confirmed(1, 5)
    setup.rounds.release(9)
    assert read.results == []
    setup.rounds.confirmed(2, 6)
    setup.rounds.release(9)
    assert read.results == [7]


def test_without_a_leader_a_read_is_refused_after_the_deadline() -> None:
    setup = Setup()
    setup.port.here = False
    read = setup.submit()
    setup.rounds.flush()
    assert not setup.rounds.can_ask
    setup.later(HOLD_MS)
    assert read.results == [reads.NO_LEADER]
    assert setup.rounds.is_idle


def test_a_read_whose_index_is_never_applied_is_refused_too_and_says_why() -> None:
    """It used to wait for ever: only reads without a round had a deadline."""
    setup = Setup()
    read = setup.submit()
    setup.rounds.flush()
    setup.rounds.confirmed(1, 5)
    setup.rounds.reason = reads.ENGINE_FULL
    setup.later(HOLD_MS + 1)
    assert read.results == [reads.ENGINE_FULL]
    assert setup.rounds.is_idle
    setup.rounds.release(5)
    assert len(read.results) == 1


def test_a_new_leader_is_asked_for_everything_that_was_open() -> None:
    setup = Setup()
    first = setup.submit()
    setup.rounds.flush()
    setup.rounds.leader_changed()
    second = setup.submit()
    setup.rounds.flush()
    assert setup.port.asked == [1, 2]
    setup.rounds.confirmed(2, 1)
    setup.rounds.release(1)
    assert first.results == second.results == [7]


def test_leaving_refuses_every_read_that_was_not_executed() -> None:
    setup = Setup()
    in_round = setup.submit()
    setup.rounds.flush()
    setup.rounds.confirmed(1, 5)
    waiting = setup.submit()
    setup.rounds.abandon()
    late = setup.submit()
    assert in_round.results == waiting.results == late.results == [reads.STOPPING]
    assert setup.rounds.is_idle
