"""The listpacks in which Redis keeps entries of a stream, up to a hundred in each.

The first entry of a node names the fields that others may share: `count deleted fields field … 0`.
Each entry is then `flags ms seq`, the distances from the id of the node, its fields and values (its
values alone, if it has the fields of the first one) and the number of integers and strings that it
took, to be read backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvnode.store.rdb.listpack import Entry, write_listpack
from kvnode.store.rdb.values import BadPayload, StreamId

NODE_ENTRIES_MAX: Final = 100
"""Redis' default for stream-node-max-entries."""

_DELETED, _SAME_FIELDS = 1, 2
_MASK: Final = 2**64 - 1


def read_entries(base: StreamId, listpack: list[Entry]) -> list[tuple[StreamId, list[bytes]]]:
    """The entries of one node that are not deleted.

    Raises:
        BadPayload: it does not follow the form, or counts entries that are not there.
    """
    items = iter(listpack)
    alive, deleted = _count(items), _count(items)
    names = [_text(items) for _ in range(_count(items))]
    if _number(items) != 0:
        raise BadPayload("a node of a stream has no end of its first entry")
    found: list[tuple[StreamId, list[bytes]]] = []
    gone = 0
    for _ in range(alive + deleted):
        flags = _number(items)
        entry_id = (base[0] + _number(items)) & _MASK, (base[1] + _number(items)) & _MASK
        if flags & _SAME_FIELDS:
            fields = [text for name in names for text in (name, _text(items))]
            size = len(names) + 3
        else:
            fields = [_text(items) for _ in range(2 * _count(items))]
            size = len(fields) + 4
        if _number(items) != size:
            raise BadPayload("an entry of a stream has another length from behind")
        if flags & _DELETED:
            gone += 1
        else:
            found.append((entry_id, fields))
    if gone != deleted or next(items, None) is not None:
        raise BadPayload("a node of a stream has other entries than it counts")
    return found


def _number(items: Iterator[Entry]) -> int:
    item = next(items, None)
    if not isinstance(item, int):
        raise BadPayload("a node of a stream has no number where one belongs")
    return item


def _text(items: Iterator[Entry]) -> bytes:
    item = next(items, None)
    if item is None:
        raise BadPayload("a node of a stream is cut short")
    return b"%d" % item if isinstance(item, int) else item


def _count(items: Iterator[Entry]) -> int:
    """How many items follow. Who says too many is found out when they end."""
    number = _number(items)
    if number < 0:
        raise BadPayload("a node of a stream counts below zero")
    return number


def write_entries(entries: list[tuple[StreamId, list[bytes]]]) -> tuple[bytes, bytes]:
    """A node of at least one entry: its id in sixteen bytes, and its listpack."""
    (base_ms, base_seq), first_fields = entries[0]
    names = first_fields[::2]
    items: list[Entry] = [len(entries), 0, len(names), *names, 0]
    for (ms, seq), fields in entries:
        distance = [ms - base_ms, _signed(seq - base_seq)]
        if fields[::2] == names:
            items += [_SAME_FIELDS, *distance, *fields[1::2], len(names) + 3]
        else:
            items += [0, *distance, len(fields) // 2, *fields, len(fields) + 4]
    return base_ms.to_bytes(8, "big") + base_seq.to_bytes(8, "big"), write_listpack(items)


def _signed(number: int) -> int:
    """The 64-bit integer with the same bits: a sequence number may lie far below the first one."""
    number &= _MASK
    return number - 2**64 if number >> 63 else number
