"""What a payload of DUMP says, as plain data: one class per kind of value.

Strings are bytes and scores are floats. The parts of a stream carry the names that Redis' XINFO
gives them; ids are pairs of numbers, times are milliseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

StreamId: TypeAlias = "tuple[int, int]"


class BadPayload(ValueError):
    """Bytes that are no value: cut short, damaged, contradictory, or larger than is allowed."""


class TooLarge(BadPayload):
    """A value of more elements or longer strings than are accepted."""


@dataclass(frozen=True, slots=True)
class ListValue:
    """A list, from its head on."""

    elements: list[bytes]


@dataclass(frozen=True, slots=True)
class SetValue:
    """A set; no member comes twice."""

    members: list[bytes]


@dataclass(frozen=True, slots=True)
class SortedSetValue:
    """A sorted set in any order; no member comes twice, no score is NaN."""

    pairs: list[tuple[bytes, float]]


@dataclass(frozen=True, slots=True)
class HashValue:
    """A hash in any order; no field comes twice."""

    pairs: list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that a consumer was given and has not acknowledged."""

    id: StreamId
    delivered_ms: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer of a group, and the ids of what it has not acknowledged."""

    name: bytes
    seen_ms: int
    pending: list[StreamId]


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `entries_read` is -1 if it is not known."""

    name: bytes
    last_id: StreamId
    entries_read: int
    pending: list[Pending]
    consumers: list[Consumer]


@dataclass(frozen=True, slots=True)
class StreamValue:
    """A stream: its entries in ascending order, each with fields and values in turn."""

    entries: list[tuple[StreamId, list[bytes]]]
    last_id: StreamId
    max_deleted_id: StreamId
    entries_added: int
    groups: list[Group] = field(default_factory=list)


Value: TypeAlias = "bytes | ListValue | SetValue | SortedSetValue | HashValue | StreamValue"
