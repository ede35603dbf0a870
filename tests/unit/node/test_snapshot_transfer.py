"""Snapshots on their way: one chunk in flight, going on where it stopped."""

from __future__ import annotations

import random

import pytest

from kvnode.limits import (
    SNAPSHOT_CHUNK_BYTES_MAX,
    SNAPSHOT_RATE_BYTES_PER_SECOND_MAX,
    SNAPSHOT_RETRY_SECONDS,
    SNAPSHOT_SILENCE_SECONDS_MAX,
)
from kvnode.node.snapshot_transfer import Inbound, Outbound, Slice, SnapshotFile
from kvnode.node.wire import SnapshotAck, SnapshotOffer, Verdict

FILE = SnapshotFile(index=100, term=3, size=3 * SNAPSHOT_CHUNK_BYTES_MAX + 17)


def ack(offset: int, verdict: Verdict = Verdict.GO_ON, index: int = FILE.index) -> SnapshotAck:
    return SnapshotAck(index, offset, verdict)


def test_it_begins_with_an_offer_and_sends_nothing_more_until_it_is_answered() -> None:
    out = Outbound(FILE, 7, now=0)
    assert out.next(0) == SnapshotOffer(7, 100, 3, FILE.size)
    assert out.next(1) is None
    assert out.next(SNAPSHOT_RETRY_SECONDS) == SnapshotOffer(7, 100, 3, FILE.size)


def test_it_goes_on_where_the_peer_is() -> None:
    out = Outbound(FILE, 7, now=0)
    out.next(0)
    out.acknowledged(ack(5_000), 0)
    assert out.next(0) == Slice(5_000, SNAPSHOT_CHUNK_BYTES_MAX)


def test_the_last_chunk_holds_the_rest_and_then_the_peer_has_time_to_install() -> None:
    out = Outbound(FILE, 7, now=0)
    out.next(0)
    out.acknowledged(ack(FILE.size - 17), 0)
    assert out.next(0) == Slice(FILE.size - 17, 17)
    out.acknowledged(ack(FILE.size), 1)
    assert out.next(1) is None
    assert isinstance(out.next(1 + SNAPSHOT_RETRY_SECONDS), SnapshotOffer)
    out.acknowledged(ack(FILE.size, Verdict.INSTALLED), 4)
    assert out.finished is True


def test_between_two_chunks_it_tells_when_the_rate_allows_the_next() -> None:
    """It used to wait for the next sweep, ten times a second: two megabytes and a half a second."""
    out = Outbound(FILE, 7, now=0)
    out.next(0)
    out.acknowledged(ack(0), 0)
    assert isinstance(out.next(0), Slice)
    assert out.due_in(0) is None
    out.acknowledged(ack(SNAPSHOT_CHUNK_BYTES_MAX), 0.001)
    assert out.next(0.001) is None
    delay = out.due_in(0.001)
    assert delay == pytest.approx(
        SNAPSHOT_CHUNK_BYTES_MAX / SNAPSHOT_RATE_BYTES_PER_SECOND_MAX - 0.001
    )
    assert isinstance(out.next(0.001 + delay), Slice)


def test_a_refusal_and_a_long_silence_end_it() -> None:
    out = Outbound(FILE, 7, now=0)
    out.next(0)
    out.acknowledged(ack(0, Verdict.REFUSED), 0)
    assert out.finished is False
    silent = Outbound(FILE, 7, now=0)
    assert silent.next(SNAPSHOT_SILENCE_SECONDS_MAX + 1) is None
    assert silent.finished is False


def test_answers_about_another_snapshot_are_ignored() -> None:
    out = Outbound(FILE, 7, now=0)
    out.next(0)
    out.acknowledged(ack(0, Verdict.INSTALLED, index=99), 0)
    assert out.finished is None


def test_only_the_next_chunk_of_this_snapshot_is_taken() -> None:
    inbound = Inbound(1, 7, FILE, have=10)
    assert inbound.takes(100, 10, 5)
    assert not inbound.takes(100, 0, 5)
    assert not inbound.takes(100, 15, 5)
    assert not inbound.takes(99, 10, 5)
    assert not inbound.takes(100, 10, 0)
    assert not inbound.takes(100, 10, FILE.size)


@pytest.mark.parametrize("seed", range(20))
def test_over_a_lossy_link_every_byte_arrives_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    out, inbound, now = Outbound(FILE, 7, now=0), Inbound(1, 7, FILE, have=0), 0.0
    for _ in range(10_000):
        now += 0.25
        message = out.next(now)
        assert out.finished is None, f"seed {seed}"
        if message is not None and rng.random() < 0.7:
            if isinstance(message, Slice) and inbound.takes(100, *message):
                inbound.have += message.length
            if rng.random() < 0.7:
                out.acknowledged(ack(inbound.have), now)
        if inbound.is_complete:
            return
    pytest.fail(f"not complete, seed {seed}")
