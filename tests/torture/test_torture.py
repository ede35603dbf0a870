"""The short forms of `python -m tests.torture`: the same seed each time, so a change shows."""

from __future__ import annotations

import pytest

from tests.support.disk import SECTOR_BYTES
from tests.torture import fail, flip
from tests.torture.campaigns import CAMPAIGNS, Campaign, play
from tests.torture.history import HEADER_BYTES
from tests.torture.reference import ONE_BIT, reference
from tests.torture.tally import Tally
from tests.torture.verdict import CUT, REFUSED

SEED = 20261120
CASES = {"truncate": 800, "flip": 2500, "crash": 400, "fail": 400}
NAMING = ("rename", "sync_directory")


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_no_promise_of_the_log_is_broken(campaign: Campaign) -> None:
    outcome = play(campaign, CASES[campaign.name], SEED)
    lines = "\n".join(outcome.lines())
    assert not outcome.tally.findings, lines
    assert not outcome.void, lines


def test_a_flipped_bit_in_a_header_behind_whole_sectors_of_padding_is_refused() -> None:
    """The padding before a group is no part of it that was lost."""
    log = reference(*flip.LOGS[1])
    first = next(one for one in log.history.records if one.group == log.history.groups - 1)
    assert first.start - first.witness > SECTOR_BYTES
    for at in range(first.start, first.start + HEADER_BYTES):
        assert flip.play(log, log.segments[log.last], at, bit=at % 8) == REFUSED


def test_padding_that_is_not_zero_is_no_lost_sector() -> None:
    log = reference(*flip.LOGS[1])
    first = next(one for one in log.history.records if one.group == log.history.groups - 1)
    for at in range(first.witness, first.start):
        assert flip.play(log, log.segments[log.last], at, bit=at % 8) == REFUSED


def test_no_room_for_the_name_of_a_file_never_leaves_two_segments_of_one_number() -> None:
    whole = fail.Play()
    whole.run()
    calls = [number for number, (name, _) in enumerate(whole.disk.history, 1) if name in NAMING]
    assert len(calls) > 20
    for number in calls:
        for crash in range(3):
            fail.Case(number, fail.FAULTS["ENOSPC"], crash, Tally()).play()


def test_the_only_bit_of_a_sector_in_the_last_group_is_all_that_a_flip_can_hide_behind() -> None:
    log = reference(*flip.LOGS[0])
    alone = next(one for one in log.history.records if one.payload == ONE_BIT)
    at = alone.start + HEADER_BYTES + ONE_BIT.index(b"\x10")
    assert flip.play(log, log.segments[log.last], at, bit=4) == CUT
    assert flip.play(log, log.segments[log.last], at, bit=5) == REFUSED
