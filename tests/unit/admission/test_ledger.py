"""What is in flight, by kind, and whether there is room for more."""

from __future__ import annotations

from dataclasses import replace

from kvnode.admission.budget import AMPLE
from kvnode.admission.ledger import KINDS, Ledger


def test_every_kind_counts_once() -> None:
    ledger = Ledger()
    for power, kind in enumerate(KINDS):
        setattr(ledger, kind, 1 << power)
    assert ledger.total == (1 << len(KINDS)) - 1
    assert ledger.by_kind() == {kind: 1 << power for power, kind in enumerate(KINDS)}
    assert ledger.clients == ledger.requests + ledger.unfinished + ledger.replies


def test_unanswered_and_unfinished_commands_share_their_room() -> None:
    ledger = Ledger(replace(AMPLE, requests_bytes_max=100))
    ledger.requests = 60
    assert ledger.has_room_for_requests
    ledger.unfinished = 40
    assert not ledger.has_room_for_requests
    ledger.requests = 0
    assert ledger.has_room_for_requests


def test_a_quarter_of_the_room_for_replies_is_kept_for_small_ones() -> None:
    ledger = Ledger(replace(AMPLE, replies_bytes_max=100))
    ledger.replies = 99
    assert ledger.has_room_for_replies
    ledger.replies = 100
    assert not ledger.has_room_for_replies
    assert ledger.has_room_for_small_replies
    ledger.replies = 125
    assert not ledger.has_room_for_small_replies


def test_the_largest_figures_stay_known() -> None:
    ledger = Ledger()
    ledger.requests = 7
    ledger.observe()
    ledger.requests = 3
    assert ledger.largest()["requests"] == 7
    assert ledger.largest()["replies"] == 0
