"""Registers and counters in the words of several families.

A counter is one whether it is a string, a field of a hash or the score of a member. So the checks
judge all families, and know none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.client import Command


@dataclass(frozen=True, slots=True)
class Shape:
    """How a register or counter is spoken to. A value to `write` comes behind it."""

    read: Command
    write: Command
    increment: Command


def plain(key: str) -> Shape:
    """A string."""
    return Shape(("GET", key), ("SET", key), ("INCR", key))


def field(key: str) -> Shape:
    """A field of a hash."""
    return Shape(("HGET", key, "field"), ("HSET", key, "field"), ("HINCRBY", key, "field", 1))


def score(key: str) -> Shape:
    """The score of a member of a sorted set: for counters only."""
    return Shape(("ZSCORE", key, "member"), (), ("ZINCRBY", key, 1, "member"))
