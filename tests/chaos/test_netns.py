"""Runs beside each other have networks of their own."""

from __future__ import annotations

from tests.chaos.netns import free_networks

ADDRESSES = """1: lo    inet 127.0.0.1/8 scope host lo
7: kv1-1h    inet 10.75.1.1/30 scope global kv1-1h
8: eth0    inet 10.76.0.9/24 scope global eth0
"""


def test_a_network_that_somebody_has_is_not_taken_again() -> None:
    """Two runs whose process ids were 64 apart heard each other, and neither was ready."""
    assert next(free_networks("", 11)) == 75
    assert next(free_networks(ADDRESSES, 11)) == 77
    assert next(free_networks(ADDRESSES, 64 + 10)) == 74
    assert len(list(free_networks(ADDRESSES, 11))) == 62
