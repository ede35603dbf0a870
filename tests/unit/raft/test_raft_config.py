"""Nonsense is refused at construction, with the name and the value."""

from __future__ import annotations

from typing import Any

import pytest

from raft import Config, ConfState, Entry, HardState, Raft, RaftLog
from tests.support.raft_cluster import Disk

GOOD: dict[str, Any] = {
    "node_id": 1,
    "heartbeat_ticks": 1,
    "election_ticks_min": 10,
    "election_ticks_max": 20,
    "random_ticks": lambda low, high: low,
    "boot_id": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node_id", 0),
        ("node_id", 2**64),
        ("boot_id", -1),
        ("boot_id", 2**32),
        ("heartbeat_ticks", 0),
        ("election_ticks_min", 1),
        ("election_ticks_max", 9),
        ("message_bytes_max", 0),
        ("inflight_messages_max", 0),
        ("inflight_bytes_max", 0),
        ("uncommitted_bytes_max", 0),
        ("cache_bytes_max", 0),
        ("reads_waiting_max", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} is out of range"):
        Config(**{**GOOD, name: value})


@pytest.mark.parametrize("drift", [0, 10])
def test_a_lease_is_shorter_than_the_election_timeout_and_not_empty(drift: int) -> None:
    with pytest.raises(ValueError, match=f"lease_drift_ticks={drift}"):
        Config(**{**GOOD, "lease_reads": True, "lease_drift_ticks": drift})


def test_lease_reads_need_the_promise_that_check_quorum_makes() -> None:
    with pytest.raises(ValueError, match="lease_reads"):
        Config(**{**GOOD, "lease_reads": True, "check_quorum": False})


@pytest.mark.parametrize(
    ("hard_state", "conf_state", "reason"),
    [
        (HardState(2, 0, 0), ConfState((), (2,)), "voters"),
        (HardState(2, 0, 0), ConfState((0, 1)), "members"),
        (HardState(1, 0, 0), ConfState((1,)), "term=1"),
        (HardState(2, 0, 9), ConfState((1,)), "commit 9"),
    ],
)
def test_a_disk_that_contradicts_itself_is_refused(
    hard_state: HardState, conf_state: ConfState, reason: str
) -> None:
    log = RaftLog.restore(Disk(), [Entry(2, 1, 0, b"x")])
    with pytest.raises(ValueError, match=reason):
        Raft(Config(**GOOD), hard_state=hard_state, conf_state=conf_state, log=log, applied=0)
