"""glibc tells what it keeps, and can give it back."""

from __future__ import annotations

import pytest

from kvnode.admission.allocator import find_free_bytes, find_trim

KIB = 1024


def test_glibc_can_trim() -> None:
    trim = find_trim()
    if trim is None:
        pytest.skip("the C library is not glibc")
    assert trim() in {0, 1}


def test_what_was_freed_between_blocks_in_use_is_told() -> None:
    free_bytes = find_free_bytes()
    if not free_bytes():
        pytest.skip("the C library is not glibc")
    blocks = [bytes(64 * KIB) for _ in range(400)]
    full = free_bytes()
    kept = blocks[::2]
    del blocks
    assert free_bytes() - full >= 100 * 64 * KIB
    assert len(kept) == 200


def test_without_glibc_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvnode.admission.allocator.ctypes.CDLL", lambda _: object())
    assert find_free_bytes()() == 0
    assert find_trim() is None
