"""Rounds of reads."""

from __future__ import annotations

from raft.read_index import ReadIndex, ReadRequest


def reads(boot_id: int = 3, waiting_max: int = 10) -> ReadIndex:
    return ReadIndex(boot_id, waiting_max)


def test_one_round_serves_all_reads_that_arrived_before_it_started() -> None:
    made = reads()
    made.add(1, 10)
    made.add(2, 20)
    round_id = made.start(commit=7)
    made.add(1, 30)
    (confirmed,) = made.confirm(round_id)
    assert confirmed.requests == [ReadRequest(1, 10), ReadRequest(2, 20)]
    assert confirmed.commit == 7


def test_a_confirmed_round_confirms_all_before_it() -> None:
    made = reads()
    made.add(1, 10)
    made.start(1)
    made.add(1, 20)
    second = made.start(2)
    assert [c.commit for c in made.confirm(second)] == [1, 2]
    assert made.confirm(second) == []


def test_no_more_than_two_rounds_are_on_their_way() -> None:
    made = reads()
    for request_id in (1, 2):
        made.add(1, request_id)
        assert made.can_start()
        made.start(1)
    made.add(1, 3)
    assert not made.can_start()
    made.confirm(made.newest)
    assert made.can_start()


def test_no_round_starts_without_a_read() -> None:
    assert not reads().can_start()


def test_round_ids_carry_the_start_of_the_process_and_are_never_used_again() -> None:
    made = reads(boot_id=3)
    made.add(1, 1)
    first = made.start(1)
    made.clear()
    made.add(1, 2)
    second = made.start(1)
    assert (first, second) == (3 << 40 | 1, 3 << 40 | 2)


def test_a_start_has_more_rounds_than_it_will_ever_need() -> None:
    made = reads(boot_id=2**32 - 1)
    made._counter = 2**32  # five days of ten thousand rounds a second
    made.add(1, 1)
    assert made.issued(made.start(1))


def test_an_id_of_another_start_or_of_the_future_was_not_issued() -> None:
    made = reads(boot_id=3)
    made.add(1, 1)
    round_id = made.start(1)
    assert made.issued(round_id)
    assert not made.issued(round_id + 1)
    assert not made.issued(2 << 40 | 1)
    assert not made.issued(0)


def test_reads_beyond_the_bound_are_refused() -> None:
    made = reads(waiting_max=1)
    assert made.add(1, 1)
    assert not made.add(1, 2)


def test_reads_are_forgotten_when_leadership_ends() -> None:
    made = reads()
    made.add(1, 1)
    made.start(1)
    made.add(1, 2)
    made.clear()
    assert made.confirm(made.newest) == []
    assert not made.can_start()
    assert made.in_flight() == 0
