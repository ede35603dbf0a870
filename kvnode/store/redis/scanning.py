"""HSCAN, SSCAN, ZSCAN: a page of members whose hash is at least the cursor.

A member keeps its hash for life and on every node, so a walk from 0 to 0 meets every member that
was there all the time, whatever came and went, and whichever node is asked for the next page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kvnode.errors import CommandError
from kvnode.limits import PATTERN_BYTES_MAX, SCAN_BYTES_MAX, SCAN_ROWS_MAX
from kvnode.store.collection import find
from kvnode.store.redis import glob, messages

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op

Page: TypeAlias = tuple[bytes, list[tuple[bytes, bytes]]]
"""The next cursor, and members with their values."""


def page(space: Keyspace, op: Op, kind: int) -> Page | CommandError:
    """A page for the op `[code, db, key, cursor, pattern | nil, count | nil]`.

    As in Redis bad options are errors only for a key that is there: a count of nil stands for one
    that is no integer, 0 for any other mistake. Members of one hash stay on one page: a cursor
    cannot part them.
    """
    _, number, key, cursor, pattern, count = op
    collection = find(space, number, key, kind)
    if collection is None:
        return b"0", []
    if isinstance(collection, CommandError):
        return collection
    if not count:
        return CommandError(messages.NOT_AN_INTEGER if count is None else messages.SYNTAX)
    if pattern is not None and len(pattern) > PATTERN_BYTES_MAX:
        return CommandError(messages.PATTERN_TOO_LONG)
    matches = glob.compile_pattern(b"*" if pattern is None else pattern)
    rows_left, bytes_left = min(count, SCAN_ROWS_MAX), SCAN_BYTES_MAX
    found: list[tuple[bytes, bytes]] = []
    previous = cursor
    for position, member, value in collection.members(cursor):
        if (rows_left <= 0 or bytes_left <= 0) and position != previous:
            return b"%d" % position, found
        rows_left -= 1
        bytes_left -= len(member) + len(value)
        previous = position
        if matches(member):
            found.append((member, value))
    return b"0", found
