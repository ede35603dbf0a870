"""The newest removal per bucket of keys."""

from __future__ import annotations

from kvnode.store.removals import BUCKETS, Removals


def test_a_bucket_keeps_its_highest_version() -> None:
    removals = Removals()
    assert removals.newest(0, 5) == 0
    for version in (3, 7, 4):
        removals.note(0, 5, version)
    assert removals.newest(0, 5) == 7
    assert removals.newest(0, 6) == 0


def test_keys_of_one_bucket_are_taken_for_each_other_and_databases_are_not() -> None:
    removals = Removals()
    removals.note(2, 5, 7)
    assert removals.newest(2, 5 + BUCKETS) == 7
    assert removals.newest(3, 5) == 0


def test_bytes_bring_all_of_it_back() -> None:
    removals = Removals()
    for key_hash in range(BUCKETS):
        removals.note(0, key_hash, 2**64 - 1 - key_hash)
    again = Removals(bytes(removals.versions))
    assert again.newest(0, BUCKETS - 1) == 2**64 - BUCKETS
