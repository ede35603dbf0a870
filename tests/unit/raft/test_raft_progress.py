"""What a leader knows about one follower."""

from __future__ import annotations

from raft.progress import PROBE, REPLICATE, SNAPSHOT, Inflights, Progress


def progress(next_index: int = 5, match: int = 0) -> Progress:
    made = Progress(2, next_index, Inflights(3, 100))
    made.match = match
    return made


def replicating(match: int) -> Progress:
    made = progress(match=match)
    made.become_replicate()
    return made


def test_inflights_are_full_by_count() -> None:
    window = Inflights(2, 100)
    window.add(1, 1)
    assert not window.full()
    window.add(2, 1)
    assert window.full()


def test_inflights_are_full_by_bytes_and_the_crossing_message_is_admitted() -> None:
    window = Inflights(10, 100)
    window.add(1, 500)
    assert window.full()
    assert window.size == 500


def test_an_acknowledgement_frees_all_messages_that_it_covers_and_no_other() -> None:
    window = Inflights(10, 100)
    for last_index in (3, 5, 9):
        window.add(last_index, 10)
    window.free_to(8)
    assert (len(window), window.size) == (1, 10)


def test_match_never_goes_back() -> None:
    made = replicating(7)
    assert not made.maybe_update(6)
    assert not made.maybe_update(7)
    assert made.match == 7


def test_an_acknowledgement_moves_match_and_at_least_as_far_next() -> None:
    made = replicating(3)
    assert made.maybe_update(6)
    assert (made.match, made.next_index) == (6, 7)


def test_an_acknowledgement_does_not_take_back_what_was_sent() -> None:
    made = replicating(3)
    made.sent(9, 10)
    made.maybe_update(5)
    assert made.next_index == 10


def test_a_probe_sends_one_message_and_waits() -> None:
    made = progress(next_index=5)
    made.sent(8, 10)
    assert made.paused
    assert made.next_index == 5, "only an answer tells where to go on"


def test_a_rejection_in_replicate_goes_back_to_probing_after_match() -> None:
    made = replicating(3)
    made.sent(9, 10)
    assert made.maybe_decrease(9, 6)
    assert (made.state, made.next_index, len(made.inflights)) == (PROBE, 4, 0)


def test_a_rejection_of_something_acknowledged_is_out_of_date() -> None:
    made = replicating(7)
    assert not made.maybe_decrease(7, 2)
    assert made.state is REPLICATE


def test_a_rejected_probe_goes_back_to_the_hint() -> None:
    made = progress(next_index=10)
    made.sent(12, 10)
    assert made.maybe_decrease(9, 4)
    assert (made.next_index, made.paused) == (5, False)


def test_a_probe_goes_back_by_one_at_least() -> None:
    made = progress(next_index=10)
    assert made.maybe_decrease(9, 50)
    assert made.next_index == 9


def test_a_probe_never_goes_back_to_what_is_known_to_match() -> None:
    made = progress(next_index=10, match=6)
    assert made.maybe_decrease(9, 2)
    assert made.next_index == 7


def test_a_rejection_of_another_probe_is_out_of_date() -> None:
    made = progress(next_index=10)
    assert not made.maybe_decrease(7, 2)
    assert made.next_index == 10


def test_a_follower_that_waits_for_a_snapshot_ignores_rejections() -> None:
    made = progress()
    made.become_snapshot()
    assert not made.maybe_decrease(4, 0)
    assert made.view().state == SNAPSHOT.value


def test_a_follower_is_probed_behind_its_snapshot_or_behind_what_it_had_before() -> None:
    for index, next_index in ((9, 10), (6, 8)):
        made = progress(match=7)
        made.become_snapshot()
        made.snapshot_finished(index, ok=True)
        assert (made.state, made.next_index, made.paused) == (PROBE, next_index, False)


def test_a_follower_whose_snapshot_failed_is_not_probed_at_once() -> None:
    made = progress(next_index=9, match=7)
    made.become_snapshot()
    made.snapshot_finished(9, ok=False)
    assert (made.state, made.next_index, made.paused) == (PROBE, 8, True)
