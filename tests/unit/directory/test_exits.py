"""The journal of exits as a start reads it: how often in a row memory did not suffice to start."""

from __future__ import annotations

import pytest

from kvnode.exits import Exit, decode_exits, encode_exit, failed_starts, start_pause_seconds

NOW_MS = 1_000_000_000
MINUTE_MS = 60_000
THRESHOLD = 100


def left(code: str, *, starting: int = 0, ago_ms: int = 1000) -> Exit:
    return Exit(code, "why", NOW_MS - ago_ms, starting)


STARTING = left("2", starting=THRESHOLD)
SERVING = left("2")


@pytest.mark.parametrize(
    ("exits", "failed"),
    [
        ([], 0),
        ([STARTING], 1),
        ([STARTING] * 5, 5),
        ([SERVING], 0),
        ([STARTING, SERVING], 0),
        ([SERVING, STARTING, STARTING], 2),
        ([STARTING, left("0"), STARTING], 1),
        ([STARTING, left("killed")], 0),
        ([left("1", starting=THRESHOLD)], 0),
    ],
)
def test_starts_in_a_row_that_ended_for_memory_are_counted(exits: list[Exit], failed: int) -> None:
    assert failed_starts(exits, THRESHOLD, NOW_MS) == failed


def test_starts_that_were_given_less_memory_do_not_count() -> None:
    assert failed_starts([STARTING], THRESHOLD + 1, NOW_MS) == 0
    assert failed_starts([STARTING], THRESHOLD - 1, NOW_MS) == 1


def test_what_is_long_ago_does_not_count_and_a_clock_that_was_set_changes_nothing() -> None:
    old = left("2", starting=THRESHOLD, ago_ms=11 * MINUTE_MS)
    assert failed_starts([old], THRESHOLD, NOW_MS) == 0
    assert failed_starts([old, STARTING], THRESHOLD, NOW_MS) == 2
    from_tomorrow = left("2", starting=THRESHOLD, ago_ms=-MINUTE_MS)
    assert failed_starts([from_tomorrow], THRESHOLD, NOW_MS) == 1


@pytest.mark.parametrize(
    ("failed", "pause_s"),
    [(0, 0), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10_000, 60)],
)
def test_the_pause_doubles_up_to_a_minute(failed: int, pause_s: int) -> None:
    assert start_pause_seconds(failed) == pause_s


def test_the_journal_keeps_that_it_was_while_starting() -> None:
    assert decode_exits(encode_exit(STARTING) + encode_exit(SERVING)) == ({}, [STARTING, SERVING])


def test_journals_of_earlier_programs_tell_of_no_such_exit() -> None:
    line = b'{"exit": "2", "reason": "why", "time_ms": 5}\n'
    assert decode_exits(line) == ({}, [Exit("2", "why", 5)])
    assert encode_exit(Exit("2", "why", 5)) == line


def test_a_damaged_note_hides_no_other() -> None:
    line = b'{"exit": "2", "reason": "why", "time_ms": 5, "start_threshold_bytes": "x"}\n'
    assert decode_exits(line + encode_exit(STARTING)) == ({}, [STARTING])
