"""The caps that follow from the memory a node may use."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kvnode import limits
from kvnode.admission.budget import AMPLE, AMPLE_BYTES, Budget
from kvnode.limits import MIB

BASE_BYTES = 60 * MIB
"""A node that has just started, measured."""


def test_a_large_machine_has_the_caps_of_a_node_without_budgets() -> None:
    assert asdict(Budget.of(64 * AMPLE_BYTES)) | {"limit_bytes": 0} == asdict(AMPLE) | {
        "limit_bytes": 0
    }
    assert AMPLE.requests_bytes_max == AMPLE.replies_bytes_max == limits.IN_FLIGHT_BYTES_MAX
    assert AMPLE.client_requests_bytes_max == limits.PIPELINE_BYTES_MAX
    assert AMPLE.reply_bytes_max == limits.OUTPUT_BYTES_MAX
    assert AMPLE.command_bytes_max == limits.COMMAND_BYTES_MAX
    assert AMPLE.peer_queue_bytes_max == limits.PEER_QUEUE_BYTES_MAX
    assert AMPLE.log_cache_bytes_max == limits.RAFT_CACHE_BYTES_MAX
    assert AMPLE.uncommitted_bytes_max == limits.RAFT_UNCOMMITTED_BYTES_MAX
    assert AMPLE.socket_bytes_max == 0


@pytest.mark.parametrize("mebibytes", [512, 768, 1024, 2048, 4096, 1 << 20])
def test_all_that_an_attack_can_fill_stays_under_sixty_percent(mebibytes: int) -> None:
    """The sum of DESIGN.md: every cap reached at once, with all copies, on a leader of three."""
    budget = Budget.of(mebibytes * MIB)
    packed = limits.BATCHES_IN_FLIGHT_MAX * limits.BATCH_BYTES_MAX + budget.command_bytes_max
    log = 2 * budget.log_cache_bytes_max + budget.uncommitted_bytes_max
    engine = limits.ENGINE_COMMIT_BYTES_MAX * 3 // 2
    peers = 2 * budget.peer_queue_bytes_max
    clients = budget.requests_bytes_max + budget.replies_bytes_max * 5 // 4 + budget.reply_bytes_max
    assert BASE_BYTES + clients + packed + log + engine + peers <= budget.limit_bytes * 0.6


@pytest.mark.parametrize("mebibytes", [1, 128, 256, 512, 1024, 4096])
def test_what_must_pass_passes_on_the_smallest_node(mebibytes: int) -> None:
    budget = Budget.of(mebibytes * MIB)
    assert budget.command_bytes_max > limits.VALUE_BYTES_MAX
    assert budget.requests_bytes_max >= 2 * budget.command_bytes_max
    assert budget.replies_bytes_max >= budget.reply_bytes_max >= limits.POPPED_BYTES_MAX
    assert budget.worker_bytes_max > budget.reply_bytes_max
    assert budget.uncommitted_bytes_max >= budget.command_bytes_max


def test_more_memory_never_means_less_of_anything() -> None:
    smaller = asdict(Budget.of(MIB))
    for mebibytes in range(64, 4096, 64):
        larger = asdict(Budget.of(mebibytes * MIB))
        assert all(larger[name] >= smaller[name] for name in larger)
        smaller = larger


def test_no_memory_is_no_budget() -> None:
    with pytest.raises(ValueError, match="cannot live"):
        Budget.of(0)
