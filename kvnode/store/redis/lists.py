"""Lists: pushing and popping at both ends, moving between lists, and what lies in the middle.

Each function is the meaning of one op; its arguments are in DESIGN.md. How a list lies in rows is
told in `list_rows`. A list without elements does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import POPPED_BYTES_MAX
from kvnode.store import ops
from kvnode.store.collection import create, find, open_
from kvnode.store.keyspace import LIST
from kvnode.store.notices import Notice
from kvnode.store.redis import list_node, messages
from kvnode.store.redis.list_rows import LEFT, RIGHT, ListRows
from kvnode.store.reply import OK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvnode.store.collection import Collection
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

_PUSHED: Final = (b"lpush", b"rpush")
_POPPED: Final = (b"lpop", b"rpop")

_ELEMENT_REPLY_BYTES: Final = 16
"""What stands around an element in a reply, at most."""

_COPIED_ELEMENTS: Final = 1024
"""Elements that LTRIM copies at a time."""


def push(space: Keyspace, op: Op) -> Result:
    """LPUSH, RPUSH and, with `only_if_present`, LPUSHX and RPUSHX: the new length."""
    _, number, key, side, only_if_present, *elements = op
    collection = open_(space, number, key, LIST)
    if isinstance(collection, CommandError):
        return collection
    if only_if_present and collection.is_new:
        return 0
    rows = ListRows(collection)
    rows.push(side, elements)
    space.advance()
    rows.save()
    space.notify(Notice.LIST, _PUSHED[side], number, key)
    return collection.count


def pop(space: Keyspace, op: Op) -> Result:
    """LPOP and RPOP: the element, None if there is none.

    With a count it is a list that holds the list of elements, or nothing if the key is absent: in
    RESP2 that is another nil.
    """
    _, number, key, side, count = op
    found = find(space, number, key, LIST)
    if found is None:
        return None if count is None else []
    if isinstance(found, CommandError):
        return found
    if count == 0:
        return [[]]
    taken = _take(found, side, 1 if count is None else count)
    if isinstance(taken, CommandError):
        return taken
    return taken[0] if count is None else [list(taken)]


def _take(collection: Collection, side: int, count: int) -> list[bytes] | CommandError:
    """Pop up to `count` elements off a list and save it; all of its rows go with its key."""
    rows = ListRows(collection)
    if count > 1 and _is_too_much(rows, side, count):
        return CommandError(messages.POPS_TOO_MUCH)
    if count < collection.count:
        taken = rows.pop(side, count)
    else:
        taken = rows.slice(0, collection.count)
        taken = taken[::-1] if side else taken
        collection.count = 0
    collection.space.advance()
    _save_popped(rows, side)
    return taken


def _is_too_much(rows: ListRows, side: int, count: int) -> bool:
    """Whether a reply with `count` elements from a side is too large. Mostly a look is enough."""
    collection = rows.collection
    around = _ELEMENT_REPLY_BYTES * min(count, collection.count)
    if collection.content_bytes + around <= POPPED_BYTES_MAX:
        return False
    size = 0
    for _, node in rows.nodes_back() if side else rows.nodes():
        elements = list_node.unpack(node)
        popped = elements[-count:] if side else elements[:count]
        size += sum(map(len, popped)) + _ELEMENT_REPLY_BYTES * len(popped)
        count -= len(popped)
        if not count or size > POPPED_BYTES_MAX:
            break
    return size > POPPED_BYTES_MAX


def lmpop(space: Keyspace, op: Op) -> Result:
    """LMPOP: [key, elements] of the first list that is there, None if there is none."""
    _, number, side, count, *keys = op
    for key in keys:
        found = find(space, number, key, LIST)
        if isinstance(found, CommandError):
            return found
        if found is not None:
            taken = _take(found, side, count)
            return taken if isinstance(taken, CommandError) else [key, list(taken)]
    return None


def lmove(space: Keyspace, op: Op) -> Result:
    """LMOVE and RPOPLPUSH: the element that was moved, None if there was none."""
    _, number, source_key, target_key, source_side, target_side = op
    source = find(space, number, source_key, LIST)
    if source is None or isinstance(source, CommandError):
        return source
    target = source
    if target_key != source_key:
        opened = open_(space, number, target_key, LIST)
        if isinstance(opened, CommandError):
            return opened
        target = opened
    source_rows = ListRows(source)
    target_rows = source_rows if target is source else ListRows(target)
    taken = source_rows.pop(source_side, 1)
    target_rows.push(target_side, taken)
    space.advance()
    target_rows.save()
    space.notify(Notice.LIST, _PUSHED[target_side], number, target_key)
    if target is source:
        space.notify(Notice.LIST, _POPPED[source_side], number, source_key)
    else:
        _save_popped(source_rows, source_side)
    return taken[0]


def _save_popped(rows: ListRows, side: int) -> None:
    """Save a list from which elements were popped."""
    collection = rows.collection
    collection.space.notify(Notice.LIST, _POPPED[side], collection.number, collection.key)
    _save_shorter(rows)


def _save_shorter(rows: ListRows) -> None:
    """Save a list that may have lost its last element."""
    rows.save()
    collection = rows.collection
    if not collection.count:
        collection.space.notify(Notice.GENERIC, b"del", collection.number, collection.key)


# --- in the middle --------------------------------------------------------------------------------


def llen(space: Keyspace, op: Op) -> Result:
    """LLEN: 0 for an absent key."""
    found = find(space, op[1], op[2], LIST)
    if found is None or isinstance(found, CommandError):
        return 0 if found is None else found
    return found.count


def lindex(space: Keyspace, op: Op) -> Result:
    """LINDEX. As in Redis a bad index (None) is an error only for a list that is there."""
    _, number, key, index = op
    found = find(space, number, key, LIST)
    if found is None or isinstance(found, CommandError):
        return found
    if index is None:
        return CommandError(messages.NOT_AN_INTEGER)
    at = index + found.count if index < 0 else index
    return ListRows(found).at(at) if 0 <= at < found.count else None


def lrange(space: Keyspace, op: Op) -> Result:
    """LRANGE: both ends are included; a negative one counts from the end of the list."""
    _, number, key, first, last = op
    found = find(space, number, key, LIST)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return []
    start, count = clip(first, last, found.count)
    return [*ListRows(found).slice(start, count)] if count else []


def clip(first: int, last: int, length: int) -> tuple[int, int]:
    """Where a range of Redis' indexes begins in a list, and how many elements it has."""
    start = max(first + length, 0) if first < 0 else first
    stop = last + length if last < 0 else min(last, length - 1)
    return start, max(stop - start + 1, 0)


def lset(space: Keyspace, op: Op) -> Result:
    """LSET. A bad index (None) is an error only after all others."""
    _, number, key, index, element = op
    found = find(space, number, key, LIST)
    if found is None:
        return CommandError(messages.NO_SUCH_KEY)
    if isinstance(found, CommandError):
        return found
    if index is None:
        return CommandError(messages.NOT_AN_INTEGER)
    at = index + found.count if index < 0 else index
    if not 0 <= at < found.count:
        return CommandError(messages.INDEX_OUT_OF_RANGE)
    rows = ListRows(found)
    rows.replace(at, element)
    space.advance()
    rows.save()
    space.notify(Notice.LIST, b"lset", number, key)
    return OK


def linsert(space: Keyspace, op: Op) -> Result:
    """LINSERT: the new length, 0 without a list, -1 without the pivot."""
    _, number, key, after, pivot, element = op
    found = find(space, number, key, LIST)
    if found is None or isinstance(found, CommandError):
        return 0 if found is None else found
    rows = ListRows(found)
    if not rows.insert_beside(pivot, element, after=after):
        return -1
    space.advance()
    rows.save()
    space.notify(Notice.LIST, b"linsert", number, key)
    return found.count


def lrem(space: Keyspace, op: Op) -> Result:
    """LREM: how many elements went; a negative count begins at the end, 0 means all."""
    _, number, key, count, element = op
    found = find(space, number, key, LIST)
    if found is None or isinstance(found, CommandError):
        return 0 if found is None else found
    rows = ListRows(found)
    removed = rows.remove(element, abs(count) or found.count, RIGHT if count < 0 else LEFT)
    if removed:
        space.advance()
        space.notify(Notice.LIST, b"lrem", number, key)
        _save_shorter(rows)
    return removed


def ltrim(space: Keyspace, op: Op) -> Result:
    """LTRIM: what is kept is copied if that is less than what goes.

    It counts as a write even if all is kept, as in Redis.
    """
    _, number, key, first, last = op
    found = find(space, number, key, LIST)
    if found is None or isinstance(found, CommandError):
        return OK if found is None else found
    start, kept = clip(first, last, found.count)
    rows = ListRows(found)
    if not kept:
        found.count = 0
    elif kept <= (found.count - kept) // 2:
        rows = _copy(found, start, kept)
    else:
        rows.drop(RIGHT, found.count - kept - start)
        rows.drop(LEFT, start)
    space.advance()
    space.notify(Notice.LIST, b"ltrim", number, key)
    _save_shorter(rows)
    return OK


def _copy(source: Collection, start: int, count: int) -> ListRows:
    """A fresh list in the place of `source` that has only `count` of its elements."""
    fresh = create(source.space, source.number, source.key, LIST, source.deadline_ms)
    source_rows, rows = ListRows(source), ListRows(fresh)
    for at in range(start, start + count, _COPIED_ELEMENTS):
        rows.push(RIGHT, source_rows.slice(at, min(_COPIED_ELEMENTS, start + count - at)))
    return rows


# --- where an element is --------------------------------------------------------------------------


def lpos(space: Keyspace, op: Op) -> Result:
    """LPOS: an index or None; with a count (0: all) a list of indexes.

    `rank` is the number of the first match that counts, negative from the end; no more than
    `most` elements are compared, unless that is 0.
    """
    _, number, key, element, rank, count, most = op
    found = find(space, number, key, LIST)
    if isinstance(found, CommandError):
        return found
    indexes: list[Result] = []
    if found is not None:
        skipped = abs(rank) - 1
        for index in _matches(found, element, backwards=rank < 0, most=most):
            if skipped:
                skipped -= 1
                continue
            if count is None:
                return index
            indexes.append(index)
            if len(indexes) == count:
                break
    return None if count is None else indexes


def _matches(
    collection: Collection, element: bytes, *, backwards: bool, most: int
) -> Iterator[int]:
    """Indexes of equal elements among the first `most` that are compared, in that order."""
    rows = ListRows(collection)
    length = collection.count
    most = min(most or length, length)
    compared = 0
    for _, node in rows.nodes_back() if backwards else rows.nodes():
        if compared >= most:
            return
        if element not in node:
            compared += list_node.count_of(node)
            continue
        elements = list_node.unpack(node)
        for each in reversed(elements) if backwards else elements:
            if compared >= most:
                return
            if each == element:
                yield length - 1 - compared if backwards else compared
            compared += 1


READS: Final[dict[int, Meaning]] = {
    ops.LLEN: llen,
    ops.LINDEX: lindex,
    ops.LRANGE: lrange,
    ops.LPOS: lpos,
}
WRITES: Final[dict[int, Meaning]] = {
    ops.LIST_PUSH: push,
    ops.LIST_POP: pop,
    ops.LSET: lset,
    ops.LINSERT: linsert,
    ops.LREM: lrem,
    ops.LTRIM: ltrim,
    ops.LMOVE: lmove,
    ops.LMPOP: lmpop,
}
