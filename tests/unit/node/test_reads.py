"""Read rounds: a read runs after a round that began after it, and after its index is applied."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kvnode.limits import COSTLY_READ_MS, HOLD_MS, READ_SLICE_MS
from kvnode.node import reads
from kvnode.node.reads import (
    NO_LEADER,
    ROUND_RETRY_MS,
    ROUNDS_IN_FLIGHT_MAX,
    ReadRounds,
)
from kvnode.service import READ_STOPPING, Pending, RenderedPending
from kvnode.store.reply import Result


@dataclass
class Read:
    """A client's read that remembers its answers."""

    op: list[object]
    size: int = 10
    results: list[Result] = field(default_factory=list)

    def complete(self, result: Result) -> None:
        self.results.append(result)


SMALL = 72
"""An op with a small reply."""


class CostlyRead(RenderedPending):
    """A read that can be charged."""

    rendering = None
    is_wanted = True

    def __init__(self) -> None:
        self.op = [64, 0, b"k"]
        self.size = 10
        self.charged: list[float] = []

    def complete(self, result: Result) -> None:
        pass

    def complete_rendered(self, reply: bytes, missed: int, found: int) -> None:
        raise AssertionError

    def charge(self, seconds: float) -> None:
        self.charged.append(seconds)


class Port:
    """A leader that a test turns on and off, and a store that answers 7."""

    def __init__(self) -> None:
        self.here = True
        self.asked: list[int] = []
        self.room = 1 << 30
        self.takes = lambda: None

    def ask(self, request_id: int) -> bool:
        if self.here:
            self.asked.append(request_id)
        return self.here

    def may_execute(self) -> bool:
        return self.room > 0

    def may_execute_small(self, pending: Pending) -> bool:
        return pending.op[0] == SMALL

    def execute(self, pending: Pending) -> None:
        self.room -= 1
        self.takes()
        pending.complete(7)


class Setup:
    """Read rounds, their port and their clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.port = Port()
        self.rounds = ReadRounds(self.port, 1, lambda: self.now)

    def each_read_takes(self, milliseconds: float) -> None:
        def takes() -> None:
            self.now += milliseconds / 1000

        self.port.takes = takes

    def released(self, count: int) -> list[Read]:
        """Reads that may run."""
        reads = [self.submit() for _ in range(count)]
        self.rounds.flush()
        self.rounds.confirmed(self.port.asked[-1], 0)
        return reads

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
    assert in_round.results == waiting.results == late.results == [READ_STOPPING]
    assert setup.rounds.is_idle


# --- slices ---------------------------------------------------------------------------------------


def done(reads: list[Read]) -> int:
    """How many of them were answered, from the first on."""
    answered = [bool(read.results) for read in reads]
    assert answered == sorted(answered, reverse=True)
    return sum(answered)


def test_reads_are_run_for_a_slice_and_the_others_in_the_next_pass_as_they_came() -> None:
    setup = Setup()
    setup.each_read_takes(READ_SLICE_MS / 4)
    reads = setup.released(6)
    assert setup.rounds.release(0)
    assert done(reads) == 4
    assert not setup.rounds.is_idle
    assert not setup.rounds.release(0)
    assert done(reads) == 6
    assert setup.rounds.is_idle
    assert setup.rounds.slices_cut == 1


def test_a_read_that_took_the_loop_long_is_charged_with_it() -> None:
    setup = Setup()
    for milliseconds, charged in ((COSTLY_READ_MS / 2, []), (1.5, [0.0015])):
        setup.each_read_takes(milliseconds)
        read = CostlyRead()
        setup.released(1)
        setup.rounds.submit_stale(read)
        setup.rounds.release(0)
        assert read.charged == [pytest.approx(each) for each in charged]


def test_a_read_longer_than_a_slice_is_done_and_is_the_only_one_of_its_pass() -> None:
    setup = Setup()
    setup.each_read_takes(50 * READ_SLICE_MS)
    reads = setup.released(3)
    for passed in (1, 2, 3):
        assert setup.rounds.release(0) is (passed < 3)
        assert done(reads) == passed


def test_what_is_left_of_a_slice_still_waits_for_its_index() -> None:
    """An engine that ran full takes the store back behind the index of reads that could run."""
    setup = Setup()
    setup.each_read_takes(READ_SLICE_MS)
    reads = [setup.submit(), setup.submit()]
    setup.rounds.flush()
    setup.rounds.confirmed(1, 5)
    assert setup.rounds.release(5)
    assert not setup.rounds.release(4)
    assert done(reads) == 1
    setup.rounds.release(5)
    assert done(reads) == 2


def test_no_read_runs_without_room_for_its_reply_and_the_loop_is_not_kept_busy_meanwhile() -> None:
    setup = Setup()
    reads = setup.released(3)
    setup.port.room = 2
    assert not setup.rounds.release(0)
    assert done(reads) == 2
    assert setup.rounds.has_due(0)
    setup.port.room = 1
    assert not setup.rounds.release(0)
    assert done(reads) == 3
    assert not setup.rounds.has_due(0)


def test_small_replies_pass_those_for_which_there_is_no_room_and_these_come_first_later() -> None:
    setup = Setup()
    setup.port.room = 0
    large = [Read([64, 0, b"k"]) for _ in range(3)]
    small = Read([SMALL, 0])
    for read in (*large, small):
        setup.rounds.submit_stale(read)
    assert not setup.rounds.release(0)
    assert small.results == [7]
    assert done(large) == 0
    late = Read([64, 0, b"k"])
    setup.rounds.submit_stale(late)
    setup.port.room = 3
    setup.rounds.release(0)
    assert done(large) == 3
    assert late.results == []
    assert not setup.rounds.is_idle


def test_a_read_is_held_longer_while_those_before_it_run() -> None:
    setup = Setup()
    setup.each_read_takes(HOLD_MS / 4)
    line = setup.released(8)
    for ran in range(1, len(line)):
        setup.rounds.release(0)
        setup.rounds.sweep()
        assert done(line) == ran
        assert line[-1].results == []
    setup.later(HOLD_MS)
    assert line[-1].results == [NO_LEADER]


def test_who_waits_too_long_for_room_is_told_so() -> None:
    setup = Setup()
    setup.port.room = 0
    (read,) = setup.released(1)
    setup.rounds.release(0)
    setup.now += HOLD_MS / 1000
    setup.rounds.sweep()
    assert read.results == [reads.NO_ROOM]
    assert setup.rounds.is_idle


def test_who_waits_for_room_is_answered_when_the_node_ends() -> None:
    setup = Setup()
    setup.port.room = 0
    (read,) = setup.released(1)
    setup.rounds.release(0)
    setup.rounds.abandon()
    assert read.results == [READ_STOPPING]
    assert setup.rounds.is_idle


def test_stale_reads_run_while_nothing_is_applied_and_leave_half_of_each_slice_to_others() -> None:
    setup = Setup()
    setup.each_read_takes(READ_SLICE_MS / 4)
    stale = []
    for _ in range(9):
        stale.append(Read([64, 0, b"k"]))
        setup.rounds.submit_stale(stale[-1])
    waiting = setup.submit()
    setup.rounds.flush()
    setup.rounds.confirmed(1, 7)
    setup.rounds.release(0)
    assert (done(stale), waiting.results) == (2, [])
    fresh = setup.released(4)
    setup.rounds.release(7)
    assert (done(stale), waiting.results, done(fresh)) == (4, [7], 1)
    setup.rounds.release(7)
    assert (done(stale), done(fresh)) == (6, 3)


def test_reads_that_wait_too_long_for_their_turn_are_refused_and_so_is_all_on_leaving() -> None:
    setup = Setup()
    setup.each_read_takes(READ_SLICE_MS)
    reads = setup.released(2)
    stale = [Read([64, 0, b"k"]) for _ in range(2)]
    for read in stale:
        setup.rounds.submit_stale(read)
    setup.rounds.release(0)
    assert (done(reads), done(stale)) == (1, 1)
    setup.later(HOLD_MS + 1)
    assert reads[1].results == stale[1].results == [NO_LEADER]
    late = Read([64, 0, b"k"])
    setup.rounds.submit_stale(late)
    setup.rounds.abandon()
    assert late.results == [READ_STOPPING]
    assert setup.rounds.is_idle
