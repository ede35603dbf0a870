"""What WATCH knows of keys that came: buckets of versions, and who can have been swept away."""

from __future__ import annotations

from kvnode.store.arrivals import Arrivals
from kvnode.store.buckets import BUCKETS, Buckets


def test_a_bucket_keeps_its_highest_version() -> None:
    buckets = Buckets()
    assert buckets.newest(0, 5) == 0
    for version in (3, 7, 4):
        buckets.note(0, 5, version)
    assert buckets.newest(0, 5) == 7
    assert buckets.newest(0, 6) == 0


def test_keys_of_one_bucket_are_taken_for_each_other_and_databases_are_not() -> None:
    buckets = Buckets()
    buckets.note(2, 5, 7)
    assert buckets.newest(2, 5 + BUCKETS) == 7
    assert buckets.newest(3, 5) == 0


def test_bytes_bring_all_of_it_back() -> None:
    buckets = Buckets()
    for key_hash in range(BUCKETS):
        buckets.note(0, key_hash, 2**64 - 1 - key_hash)
    again = Buckets(bytes(buckets.versions))
    assert again.newest(0, BUCKETS - 1) == 2**64 - BUCKETS


def test_a_key_is_ruled_out_unless_it_was_created_since() -> None:
    arrivals = Arrivals.begin(10, 16)
    assert arrivals.rule_out(0, 5, 10)
    arrivals.created.note(0, 5, 12)
    assert not arrivals.rule_out(0, 5, 11)
    assert arrivals.rule_out(0, 5, 12)
    assert arrivals.rule_out(0, 6, 11)
    assert arrivals.rule_out(1, 5, 11)


def test_nothing_is_ruled_out_for_a_watch_older_than_the_notes() -> None:
    assert not Arrivals.begin(10, 16).rule_out(0, 5, 9)


def test_a_database_that_was_brought_counts_only_when_it_is_swept_away() -> None:
    arrivals = Arrivals.begin(10, 16)
    arrivals.bring(0, 12)
    assert arrivals.rule_out(0, 5, 11)
    arrivals.sweep(0)
    assert not arrivals.rule_out(0, 5, 11)
    assert arrivals.rule_out(0, 5, 12)
    assert arrivals.rule_out(1, 5, 11)
    arrivals.sweep(0)
    assert not arrivals.rule_out(0, 5, 11)


def test_a_row_brings_all_of_it_back() -> None:
    arrivals = Arrivals.begin(10, 16)
    arrivals.created.note(3, 5, 12)
    arrivals.bring(1, 13)
    arrivals.bring(2, 14)
    arrivals.sweep(2)
    again = Arrivals.from_row(arrivals.to_row())
    assert again.to_hash() == arrivals.to_hash()
    assert again.to_row() == arrivals.to_row()
