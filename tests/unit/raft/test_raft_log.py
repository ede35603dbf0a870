"""The log of one node: cursors, terms, cache."""

from __future__ import annotations

import pytest

from raft import ENTRY_OVERHEAD_BYTES, Entry, RaftLog
from tests.support.raft_cluster import Disk

SIZE = ENTRY_OVERHEAD_BYTES + 1


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(term, index, 0, data)


def entries(*terms: int, first: int = 1) -> list[Entry]:
    return [entry(index, term) for index, term in enumerate(terms, first)]


def restored(*terms: int, cache_bytes_max: int = 1 << 20) -> RaftLog:
    disk = Disk(log=entries(*terms))
    return RaftLog.restore(disk, list(disk.log), cache_bytes_max=cache_bytes_max)


def terms_of(log: RaftLog) -> list[int | None]:
    return [log.term(index) for index in range(1, log.last_index + 1)]


# --- restoring ----------------------------------------------------------------------------------


def test_what_the_disk_replays_is_stable_and_not_written_again() -> None:
    log = restored(1, 1, 2)
    assert (log.last_index, log.last_term, log.stable) == (3, 2, 3)
    assert not log.has_unhanded()


def test_a_replayed_entry_replaces_the_suffix_that_it_replaced_on_disk() -> None:
    log = restored(1, 1, 1)
    log.restore_entry(entry(2, 3))
    assert terms_of(log) == [1, 3]
    assert log.stable == 2


def test_a_gap_in_the_replay_is_an_error() -> None:
    with pytest.raises(ValueError, match="entry 5 leaves a gap after 2"):
        restored(1, 1).restore_entry(entry(5, 1))


def test_a_term_that_goes_back_in_the_replay_is_an_error() -> None:
    with pytest.raises(ValueError, match="term 1 at 3 is below 2"):
        restored(1, 2).restore_entry(entry(3, 1))


def test_a_log_may_begin_at_a_snapshot() -> None:
    log = RaftLog.restore(Disk(), entries(4, 5, first=10), snapshot_index=10, snapshot_term=4)
    assert (log.first_index, log.last_index, log.term(10), log.term(11)) == (11, 11, 4, 5)
    assert log.term(9) is None
    assert log.compacted == 10


def test_cursors_that_do_not_fit_the_log_are_an_error() -> None:
    with pytest.raises(ValueError, match="applied 0 and commit 9 do not fit a log of 1 to 2"):
        restored(1, 1).start(commit=9, applied=0, cache_bytes_max=1)
    with pytest.raises(ValueError, match="applied 3"):
        restored(1, 1).start(commit=0, applied=3, cache_bytes_max=1)


def test_what_was_applied_was_committed() -> None:
    log = restored(1, 1)
    log.start(commit=0, applied=2, cache_bytes_max=1)
    assert log.commit == 2


# --- restoring what was compacted ---------------------------------------------------------------


def replayed(*records: Entry | tuple[int, int, bool]) -> RaftLog:
    """A log fed with entries and marks (index, term, discard) in the order of writing."""
    log = RaftLog(Disk())
    for record in records:
        if isinstance(record, Entry):
            log.restore_entry(record)
        else:
            index, term, discard = record
            log.restore_snapshot(index, term, discard=discard)
    return log


def started(log: RaftLog, applied: int) -> RaftLog:
    log.start(commit=0, applied=applied, cache_bytes_max=1 << 20)
    return log


def test_a_snapshot_of_its_own_leaves_the_log_as_it_is() -> None:
    log = started(replayed(*entries(1, 1, 2), (2, 1, False), *entries(2, first=4)), applied=2)
    assert (log.compacted, terms_of(log)) == (0, [1, 1, 2, 2])


def test_a_received_snapshot_replaces_the_log_as_it_did_then() -> None:
    log = started(replayed(*entries(1, 1, 1), (2, 3, True), *entries(3, 4, first=3)), applied=2)
    assert (log.compacted, terms_of(log)) == (2, [None, 3, 3, 4])
    assert (log.stable, log.has_unhanded()) == (4, False)


def test_a_released_beginning_ends_where_the_snapshot_was_taken() -> None:
    log = started(replayed(*entries(2, 2, first=8), (7, 1, False)), applied=7)
    assert (log.compacted, log.term(7), log.first_index) == (7, 1, 8)


def test_a_released_beginning_whose_term_is_unknown_costs_one_entry_more() -> None:
    log = started(replayed(*entries(1, 2, 2, 2, first=5), (7, 2, False)), applied=7)
    assert (log.compacted, log.term(5), log.term(4)) == (5, 1, None)
    assert log.entries(6, 9, 1 << 20)[0] == entries(2, 2, 2, first=6)


def test_a_mark_alone_is_a_log() -> None:
    log = started(replayed((7, 3, False)), applied=7)
    assert (log.compacted, log.last_index, log.last_term) == (7, 7, 3)


def test_entries_between_a_snapshot_and_its_mark_may_be_released_with_what_is_before() -> None:
    """8 was written while the snapshot of 7 was taken, and its segment is gone."""
    records = (7, 1, False), *entries(2, 2, first=9), (9, 2, False)
    log = started(replayed(*records), applied=9)
    assert (log.compacted, log.last_index, log.term(10)) == (9, 10, 2)


def test_of_several_marks_at_the_beginning_the_last_one_counts() -> None:
    log = started(replayed((7, 1, False), (9, 2, False), *entries(2, first=10)), applied=9)
    assert (log.compacted, log.term(9), log.last_index) == (9, 2, 10)


def test_behind_a_received_snapshot_comes_the_next_entry() -> None:
    with pytest.raises(ValueError, match="leaves a gap"):
        replayed((7, 1, True), *entries(2, first=9))


def test_a_suffix_replaced_below_the_released_beginning_is_the_beginning() -> None:
    log = started(replayed(*entries(1, 1, first=6), *entries(3, 3, first=4)), applied=4)
    assert (log.compacted, log.last_index, log.term(5)) == (4, 5, 3)


def test_older_marks_of_released_entries_are_passed_over() -> None:
    log = started(replayed(*entries(2, 2, first=8), (3, 1, False), (8, 2, False)), applied=8)
    assert (log.compacted, log.last_index) == (8, 9)


@pytest.mark.parametrize("mark", [(2, 2, False), (4, 1, False)])
def test_a_snapshot_of_its_own_that_does_not_fit_the_log_is_an_error(
    mark: tuple[int, int, bool],
) -> None:
    with pytest.raises(ValueError, match="does not fit a log of 1 to 3"):
        replayed(*entries(1, 1, 1), mark)


@pytest.mark.parametrize("applied", [0, 3, 4])
def test_a_beginning_that_no_snapshot_covers_is_an_error(applied: int) -> None:
    with pytest.raises(ValueError, match=r"applied \d|no snapshot tells the term of 4"):
        started(replayed(*entries(1, 1, first=5)), applied)


# --- terms --------------------------------------------------------------------------------------


def test_the_term_of_every_index_is_known() -> None:
    log = restored(1, 1, 4, 6, 6)
    assert terms_of(log) == [1, 1, 4, 6, 6]
    assert (log.term(0), log.term(6)) == (0, None)


@pytest.mark.parametrize(
    ("index", "term", "found"),
    [
        (5, 9, (5, 6)),
        (9, 9, (5, 6)),
        (5, 5, (3, 4)),
        (5, 3, (2, 1)),
        (4, 1, (2, 1)),
        (5, 0, (0, 0)),
        (1, 4, (1, 1)),
    ],
)
def test_logs_meet_at_the_last_index_whose_term_is_not_later(
    index: int, term: int, found: tuple[int, int]
) -> None:
    assert restored(1, 1, 4, 6, 6).find_conflict_by_term(index, term) == found


@pytest.mark.parametrize(
    ("index", "term", "up_to_date"),
    [(3, 2, True), (4, 2, True), (2, 2, False), (1, 3, True), (9, 1, False)],
)
def test_a_later_last_term_wins_and_then_the_longer_log(
    index: int, term: int, up_to_date: bool
) -> None:
    assert restored(1, 2, 2).is_up_to_date(index, term) is up_to_date


def test_a_meeting_point_that_was_compacted_is_not_known() -> None:
    log = RaftLog.restore(Disk(), entries(5, 6, first=11), snapshot_index=10, snapshot_term=4)
    assert log.find_conflict_by_term(12, 5) == (11, 5)
    assert log.find_conflict_by_term(12, 4) == (10, 4)
    assert log.find_conflict_by_term(12, 3) == (9, 0)
    assert log.find_conflict_by_term(7, 3) == (7, 0)


def test_the_runs_tell_every_term() -> None:
    log = restored(1, 1, 4, 6, 6)
    assert log.term_runs() == [(0, 0), (1, 1), (3, 4), (4, 6)]


# --- being compacted ----------------------------------------------------------------------------


def applied_to(index: int, *terms: int, cache_bytes_max: int = 1 << 20) -> RaftLog:
    log = restored(*terms, cache_bytes_max=cache_bytes_max)
    log.commit_to(index)
    log.take_committed(1 << 20)
    log.applied_to(index)
    return log


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_a_compacted_log_knows_the_terms_from_there_on(index: int) -> None:
    log = applied_to(4, 1, 1, 4, 6, 6)
    log.compact(index)
    terms = [0, 1, 1, 4, 6, 6]
    assert [log.term(i) for i in range(index, 6)] == terms[index:]
    assert log.term(index - 1) is None
    assert (log.compacted, log.first_index) == (index, index + 1)
    assert log.term_runs()[0] == (index, terms[index])


def test_a_compacted_log_grows_and_is_replaced_as_ever() -> None:
    log = applied_to(3, 1, 1, 4, 6, 6)
    log.compact(3)
    assert log.maybe_append(3, 4, entries(7, 7, first=4)) == 5
    assert [log.term(index) for index in (3, 4, 5)] == [4, 7, 7]
    log.compact(2)
    assert log.compacted == 3, "compaction never goes back"


def test_a_log_may_be_compacted_to_its_end() -> None:
    log = applied_to(3, 1, 1, 2)
    log.compact(3)
    assert (log.last_index, log.last_term, log.term(3)) == (3, 2, 2)
    log.append(entries(5, first=4))
    assert [e.index for e in log.hand_out(1)] == [4]


def test_what_is_not_applied_is_not_compacted() -> None:
    with pytest.raises(AssertionError, match="3 is compacted, but only 2 is applied"):
        applied_to(2, 1, 1, 1).compact(3)


def test_a_snapshot_of_what_is_committed_is_not_installed() -> None:
    with pytest.raises(AssertionError, match="snapshot 2 is not beyond commit 2"):
        applied_to(2, 1, 1, 1).install(2, 1)


def test_what_was_compacted_is_not_read() -> None:
    log = applied_to(2, 1, 1, 1)
    log.compact(2)
    with pytest.raises(AssertionError, match="entries 2 to 3 asked of 3 to 3"):
        log.entries(2, 4, 1)


def test_memory_stays_bounded_when_what_it_held_was_compacted() -> None:
    log = applied_to(5, 1, 1, 1, 1, 1, cache_bytes_max=5 * SIZE)
    log.compact(5)
    log.append(entries(*[1] * 5, first=6))
    log.hand_out(1)
    log.synced(1)
    log.commit_to(10)
    log.take_committed(1 << 20)
    log.applied_to(10)
    assert log.cache_bytes <= 5 * SIZE
    assert log.entries(8, 11, 1 << 20)[0] == entries(1, 1, 1, first=8)


# --- growing ------------------------------------------------------------------------------------


def test_an_append_whose_predecessor_is_missing_or_different_does_not_fit() -> None:
    log = restored(1, 1)
    assert log.maybe_append(3, 1, []) is None
    assert log.maybe_append(2, 2, entries(2, first=3)) is None
    assert terms_of(log) == [1, 1]


def test_an_append_that_was_overtaken_does_not_shorten_the_log() -> None:
    log = restored(1, 1, 1, 1)
    assert log.maybe_append(1, 1, entries(1, first=2)) == 2
    assert log.last_index == 4
    assert log.stable == 4


def test_only_the_conflicting_suffix_is_replaced() -> None:
    log = restored(1, 1, 1, 1)
    assert log.maybe_append(1, 1, entries(1, 3, 3, first=2)) == 4
    assert terms_of(log) == [1, 1, 3, 3]
    assert log.stable == 2
    assert [e.index for e in log.hand_out(1)] == [3, 4]


def test_an_append_that_reaches_beyond_the_end_adds_only_what_is_new() -> None:
    log = restored(1, 1)
    log.maybe_append(1, 1, entries(1, 1, 2, first=2))
    assert [e.index for e in log.hand_out(1)] == [3, 4]


def test_a_committed_entry_is_never_replaced() -> None:
    log = restored(1, 1)
    log.commit_to(2)
    with pytest.raises(AssertionError, match="entry 2 would replace a committed one"):
        log.maybe_append(1, 1, entries(3, first=2))


def test_the_commit_index_never_goes_back_and_never_beyond_the_end() -> None:
    log = restored(1, 1)
    assert log.commit_to(2)
    assert not log.commit_to(1)
    assert log.commit == 2
    with pytest.raises(AssertionError, match="commit 3 is beyond the end, 2"):
        log.commit_to(3)


def test_a_leader_appends_without_a_gap() -> None:
    with pytest.raises(AssertionError, match="entry 5 appended after 2"):
        restored(1, 1).append(entries(1, first=5))


# --- becoming durable ---------------------------------------------------------------------------


def test_entries_are_handed_out_once() -> None:
    log = restored()
    log.append(entries(1, 1))
    assert [e.index for e in log.hand_out(1)] == [1, 2]
    log.append(entries(1, first=3))
    assert [e.index for e in log.hand_out(2)] == [3]
    assert not log.has_unhanded()


def test_a_sync_covers_all_writes_up_to_its_number_and_no_later_one() -> None:
    log = restored()
    for number in (1, 2, 3):
        log.append(entries(1, first=number))
        log.hand_out(number)
    log.synced(2)
    assert log.stable == 2
    log.synced(1)
    assert log.stable == 2


def test_a_sync_of_replaced_entries_does_not_make_their_successors_stable() -> None:
    log = restored(1)
    log.append(entries(1, 1, first=2))
    log.hand_out(1)
    log.maybe_append(1, 1, entries(2, 2, first=2))
    log.hand_out(2)
    log.synced(1)
    assert log.stable == 1
    log.synced(2)
    assert log.stable == 3


def test_a_shorter_replacement_hides_the_old_suffix_from_its_sync() -> None:
    log = restored(1)
    log.append(entries(1, 1, 1, first=2))
    log.hand_out(1)
    log.maybe_append(2, 1, entries(2, first=3))
    log.synced(1)
    assert log.stable == 2, "entry 2 is still the one that was written"


# --- applying -----------------------------------------------------------------------------------


def test_only_what_is_committed_and_stable_is_applied() -> None:
    log = restored(1)
    log.append(entries(1, 1, first=2))
    log.hand_out(1)
    log.commit_to(2)
    assert [e.index for e in log.take_committed(1 << 20)] == [1]
    log.synced(1)
    assert [e.index for e in log.take_committed(1 << 20)] == [2]
    assert log.take_committed(1 << 20) == []


def test_what_is_taken_to_be_applied_is_bounded_but_never_empty() -> None:
    log = restored(1, 1, 1)
    log.commit_to(3)
    assert len(log.take_committed(1)) == 1
    assert len(log.take_committed(2 * SIZE)) == 2


def test_nothing_is_applied_that_was_not_handed_out() -> None:
    log = restored(1, 1)
    log.commit_to(2)
    log.take_committed(1)
    with pytest.raises(AssertionError, match="applied 2 is not between 0 and"):
        log.applied_to(2)


# --- the cache ----------------------------------------------------------------------------------


def test_entries_are_cut_by_bytes_but_at_least_one_is_returned() -> None:
    log = restored(1, 1, 1)
    assert log.entries(1, 4, 2 * SIZE) == (entries(1, 1), 2 * SIZE)
    assert log.entries(2, 4, 1) == (entries(1, first=2), SIZE)
    assert log.entries(1, 3, 1 << 20) == (entries(1, 1), 2 * SIZE)


def test_a_replay_keeps_only_the_newest_entries_in_memory() -> None:
    log = restored(*[1] * 50, cache_bytes_max=5 * SIZE)
    assert log.cache_bytes <= 5 * SIZE
    assert log.entries(1, 4, 1 << 20)[0] == entries(1, 1, 1), "the others come from the disk"


def test_a_read_that_begins_on_disk_ends_where_memory_begins() -> None:
    log = restored(1, 1, 1, 1, cache_bytes_max=2 * SIZE)
    first_cached = log._cache_first
    assert log.entries(first_cached - 1, 5, 1 << 20)[0] == entries(1, first=first_cached - 1)


def test_memory_keeps_what_is_not_applied_even_beyond_its_bound() -> None:
    log = restored(cache_bytes_max=4 * SIZE)
    log.append(entries(*[1] * 7))
    log.hand_out(1)
    log.synced(1)
    assert log._cache_first == 1
    log.commit_to(7)
    log.take_committed(1 << 20)
    log.applied_to(5)
    assert log._cache_first == 1 + 4
    assert log.cache_bytes == 3 * SIZE


def test_memory_keeps_what_is_not_stable_whatever_was_applied() -> None:
    log = restored(1, 1, cache_bytes_max=SIZE)
    log.commit_to(2)
    log.take_committed(1 << 20)
    log.append(entries(*[1] * 9, first=3))
    log.applied_to(2)
    assert [e.index for e in log.hand_out(1)] == list(range(3, 12))


def test_memory_is_bounded_while_apply_stands_still() -> None:
    log = restored(cache_bytes_max=4 * SIZE)
    log.append(entries(*[1] * 9))
    log.hand_out(1)
    log.synced(1)
    assert log.cache_bytes <= 4 * SIZE


def test_a_suffix_replaced_below_what_memory_holds_leaves_a_whole_log() -> None:
    log = restored(*[1] * 8, cache_bytes_max=2 * SIZE)
    log.maybe_append(2, 1, entries(2, 2, first=3))
    assert terms_of(log) == [1, 1, 2, 2]
    assert log.entries(3, 5, 1 << 20)[0] == entries(2, 2, first=3)
    assert log.cache_bytes == 2 * SIZE
