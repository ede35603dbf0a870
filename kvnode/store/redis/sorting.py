"""SORT: the elements of a list, set or sorted set in an order of their own or of other keys.

An element is sorted as a number or, with ALPHA, as bytes: itself, or what the BY pattern finds for
it. GET patterns tell what is answered for it. A pattern names a string or, behind `->`, a field of
a hash, with the element in the place of its first `*`; what is not there weighs nothing.

Where Redis leaves the order open, it follows from the data here, so that a stored result is the
same on every node: equal numbers by their elements, as there; equal weights of ALPHA in the order
in which the elements lie. SORT looks at every element, whatever its LIMIT, unless it does not sort.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.limits import OUTPUT_BYTES_MAX
from kvnode.store import ops
from kvnode.store.collection import create, find
from kvnode.store.keyspace import HASH, KIND_MASK, LIST, SET, STRING, ZSET, payload_of
from kvnode.store.notices import Notice
from kvnode.store.ops import SortFlag
from kvnode.store.redis import messages
from kvnode.store.redis.list_rows import RIGHT, ListRows
from kvnode.store.scores import parse_score
from kvnode.store.sorted_set import SortedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.collection import Collection
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

SPACES: Final = b" \t\n\v\f\r"

STORED_PAGE_ELEMENTS: Final = 1000
"""Elements that are pushed at a time."""

_DESC: Final = int(SortFlag.DESC)
_ALPHA: Final = int(SortFlag.ALPHA)
_NOSORT: Final = int(SortFlag.NOSORT)


def sort(space: Keyspace, op: Op) -> Result:
    """SORT and SORT_RO: the elements, or what GET finds for each."""
    _, number, *question = op
    try:
        return list(_sorted(space, number, *question))
    except CommandError as error:
        return error


def sort_store(space: Keyspace, op: Op) -> Result:
    """SORT with STORE: the length of the list that replaces the destination.

    What GET does not find is stored as an empty string.
    """
    _, number, destination, *question = op
    try:
        answers = _sorted(space, number, *question, for_store=True)
    except CommandError as error:
        return error
    if not answers:
        if space.find(number, destination) is not None:
            space.advance()
            create(space, number, destination, LIST).save()
            space.notify(Notice.GENERIC, b"del", number, destination)
        return 0
    rows = ListRows(create(space, number, destination, LIST))
    for at in range(0, len(answers), STORED_PAGE_ELEMENTS):
        page = answers[at : at + STORED_PAGE_ELEMENTS]
        rows.push(RIGHT, [answer or b"" for answer in page])
    space.advance()
    rows.save()
    space.notify(Notice.LIST, b"sortstore", number, destination)
    return len(answers)


def _sorted(
    space: Keyspace,
    number: int,
    key: bytes,
    flags: int,
    start: int,
    count: int,
    by: bytes | None,
    *gets: bytes,
    for_store: bool = False,
) -> list[bytes | None]:
    """The answers. Raises `CommandError` for a client's fault."""
    collection = _open(space, number, key)
    if collection is None:
        return []
    if for_store and flags & _NOSORT and collection.kind == SET:
        flags = flags & ~_NOSORT | _ALPHA  # a stored order must not be one of chance
    start = min(max(start, 0), collection.count)
    rest = collection.count - start
    count = rest if count < 0 else min(count, rest)
    if flags & _NOSORT:
        elements = _some(collection, start, count, reverse=bool(flags & _DESC))
    else:
        elements = _some(collection, 0, collection.count, reverse=False)
        weigh = None if by is None else _lookup(space, number, by)
        key_of = _alphabetical(weigh) if flags & _ALPHA else _numerical(weigh)
        elements.sort(key=key_of, reverse=bool(flags & _DESC))
        elements = elements[start : start + count]
    if not gets:
        return list(elements)
    lookups = [_lookup(space, number, get) for get in gets]
    return [look_up(element) for element in elements for look_up in lookups]


def _open(space: Keyspace, number: int, key: bytes) -> Collection | None:
    """What is sorted. Raises `CommandError` if it is nothing that SORT sorts."""
    record = space.find(number, key)
    if record is None:
        return None
    kind = record[0] & KIND_MASK
    if kind not in (LIST, SET, ZSET):
        raise CommandError(messages.WRONG_TYPE)
    collection = find(space, number, key, kind)
    assert not isinstance(collection, CommandError)
    return collection


def _some(collection: Collection, start: int, count: int, *, reverse: bool) -> list[bytes]:
    """Elements in the order in which they lie; a set knows no reverse one."""
    if not count:
        return []
    if collection.kind == LIST:
        if not reverse:
            return ListRows(collection).slice(start, count)
        return ListRows(collection).slice(collection.count - start - count, count)[::-1]
    if collection.kind == ZSET:
        pairs = SortedSet(collection).from_rank(start, count, reverse=reverse)
        return [member for member, _ in pairs]
    return [member for _, member, _ in islice(collection.members(), start, start + count)]


# --- weights --------------------------------------------------------------------------------------


def _alphabetical(
    weigh: Callable[[bytes], bytes | None] | None,
) -> Callable[[bytes], Any]:
    """Sorts by bytes; what has no weight comes first."""
    if weigh is None:
        return bytes

    def key_of(element: bytes) -> tuple[bool, bytes]:
        weight = weigh(element)
        return weight is not None, weight or b""

    return key_of


def _numerical(
    weigh: Callable[[bytes], bytes | None] | None,
) -> Callable[[bytes], Any]:
    """Sorts by numbers, equal ones by their elements; what has no weight counts as 0."""

    def key_of(element: bytes) -> tuple[float, bytes]:
        weight = element if weigh is None else weigh(element)
        return 0.0 if weight is None else _number(weight), element

    return key_of


def _number(text: bytes) -> float:
    """As C's `strtod` reads it, since Redis does: up to a NUL, spaces in front, nothing for 0.

    Raises:
        CommandError: it is none, or none that a double can be.
    """
    text = text.split(b"\x00", 1)[0]
    number = parse_score(text.lstrip(SPACES)) if text else 0.0
    if number is None:
        raise CommandError(messages.SORT_NOT_A_FLOAT)
    return number


# --- patterns -------------------------------------------------------------------------------------


class _Pattern(NamedTuple):
    """A key with a gap for the element, and the field of a hash, if it names one."""

    head: bytes
    tail: bytes
    field: bytes | None


def _parse(pattern: bytes) -> _Pattern | None:
    """None for a pattern without a gap, which finds nothing."""
    head, gap, tail = pattern.partition(b"*")
    if not gap:
        return None
    key_tail, _, field = tail.partition(b"->")
    return _Pattern(head, key_tail, field) if field else _Pattern(head, tail, None)


def _lookup(space: Keyspace, number: int, pattern: bytes) -> Callable[[bytes], bytes | None]:
    """What finds for an element what a pattern means. All that it finds must fit a reply.

    Raises, when called:
        CommandError: it found too much.
    """
    if pattern == b"#":
        return lambda element: element
    parsed = _parse(pattern)
    if parsed is None:
        return lambda _element: None
    head, tail, field = parsed
    room = OUTPUT_BYTES_MAX

    def look_up(element: bytes) -> bytes | None:
        nonlocal room
        found = _value(space, number, head + element + tail, field)
        if found is not None:
            room -= len(found)
            if room < 0:
                raise CommandError(messages.SORT_FINDS_TOO_MUCH)
        return found

    return look_up


def _value(space: Keyspace, number: int, key: bytes, field: bytes | None) -> bytes | None:
    """A string, or a field of a hash; None for anything else."""
    if field is not None:
        fields = find(space, number, key, HASH)
        return None if fields is None or isinstance(fields, CommandError) else fields.member(field)
    record = space.find(number, key)
    if record is None or record[0] & KIND_MASK != STRING:
        return None
    return payload_of(record)


READS: Final[dict[int, Meaning]] = {ops.SORT: sort}

WRITES: Final[dict[int, Meaning]] = {ops.SORTSTORE: sort_store}
