"""SORT: the elements of a list, set or sorted set in an order of their own or of other keys.

An element is sorted as a number or, with ALPHA, as bytes: itself, or what the BY pattern finds for
it. GET patterns tell what is answered for it. A pattern names a string or, behind `->`, a field of
a hash, with the element in the place of its first `*`; what is not there weighs nothing.

Where Redis leaves the order open, it follows from the data here, so that a stored result is the
same on every node: equal numbers by their elements, as there; equal weights of ALPHA in the order
in which the elements lie. SORT looks at every element, whatever its LIMIT, unless it does not sort.
A large STORE is done in steps (`kvnode.store.bulk`).
"""

from __future__ import annotations

from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.limits import BULK_ROWS_AT_ONCE_MAX, OUTPUT_BYTES_MAX
from kvnode.store import bulk, ops
from kvnode.store.collection import Collection, find
from kvnode.store.keyspace import HASH, KIND_MASK, LIST, SET, STRING, ZSET, payload_of
from kvnode.store.notices import Notice
from kvnode.store.ops import SortFlag
from kvnode.store.redis import messages
from kvnode.store.redis.list_rows import RIGHT, ListRows
from kvnode.store.scores import parse_score, sortable
from kvnode.store.sorted_set import SortedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

SPACES: Final = b" \t\n\v\f\r"

DIGITS_MAX: Final = 300
"""So many digits are a number that a double can be near to."""

PART_SORTED: Final = b"\x10"
SORTED_END: Final = b"\x11"
"""Part of the rows of elements that are being sorted: no list has it when it is complete."""

PLACE_BYTES_MAX: Final = 240
"""Bytes of an element that the key of its row tells: with every NUL doubled they still fit."""

_PROGRESS: Final = Struct(">?QQ")
_U64: Final = Struct(">Q")

_DESC: Final = int(SortFlag.DESC)
_ALPHA: Final = int(SortFlag.ALPHA)
_NOSORT: Final = int(SortFlag.NOSORT)


def sort(space: Keyspace, op: Op) -> Result:
    """SORT and SORT_RO: the elements, or what GET finds for each."""
    _, number, key, *_ = op
    collection = _open(space, number, key)
    if collection is None or isinstance(collection, CommandError):
        return collection or []
    try:
        return list(_sorted(collection, _Question.of(op, 2)))
    except CommandError as error:
        return error


class _Question(NamedTuple):
    """What is asked of the collection: the arguments of SORT behind its key."""

    flags: int
    start: int
    limit: int
    by: bytes | None
    gets: list[bytes]

    @classmethod
    def of(cls, op: Op, key_at: int) -> _Question:
        flags, start, limit, by, *gets = op[key_at + 1 :]
        return cls(flags, start, limit, by, gets)

    def of_stored(self, kind: int) -> _Question:
        """What it means for STORE: the order of a set must not be one of chance."""
        if kind != SET or not self.flags & _NOSORT:
            return self
        return self._replace(flags=self.flags & ~_NOSORT | _ALPHA)

    def bounds(self, size: int) -> tuple[int, int]:
        """How many of so many elements come before those that are asked for, and how many these
        are."""
        start = min(max(self.start, 0), size)
        return start, size - start if self.limit < 0 else min(self.limit, size - start)


def _sorted(collection: Collection, question: _Question) -> list[bytes | None]:
    """The answers. Raises `CommandError` for a client's fault."""
    flags, by = question.flags, question.by
    start, count = question.bounds(collection.count)
    if flags & _NOSORT:
        elements = _some(collection, start, count, reverse=bool(flags & _DESC))
    else:
        elements = _some(collection, 0, collection.count, reverse=False)
        weigh = None if by is None else _lookup(collection, by)
        key_of = _alphabetical(weigh) if flags & _ALPHA else _numerical(weigh)
        elements.sort(key=key_of, reverse=bool(flags & _DESC))
        elements = elements[start : start + count]
    if not question.gets:
        return list(elements)
    lookups = [_lookup(collection, get) for get in question.gets]
    return [look_up(element) for element in elements for look_up in lookups]


def _open(space: Keyspace, number: int, key: bytes) -> Collection | CommandError | None:
    """What is sorted, None if it is absent."""
    record = space.find(number, key)
    if record is None:
        return None
    kind = record[0] & KIND_MASK
    if kind not in (LIST, SET, ZSET):
        return CommandError(messages.WRONG_TYPE)
    return find(space, number, key, kind)


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


# --- STORE ----------------------------------------------------------------------------------------


def sort_store(space: Keyspace, op: Op) -> Result:
    """SORT with STORE: the length of the list that replaces the destination.

    What GET does not find is stored as an empty string. With BY or GET all is done at once: the
    keys that they read might change between two steps.
    """
    return bulk.store(space, op, STORED_ROWS, at_once=_reads_others(op))


def _reads_others(op: Op) -> bool:
    return op[7] is not None or len(op) > 8


def _check_stored(space: Keyspace, op: Op) -> Result | bulk.Check:
    collection = _open(space, op[1], op[3])
    if isinstance(collection, CommandError):
        return collection
    size = 0 if collection is None else collection.count
    if size > BULK_ROWS_AT_ONCE_MAX and _reads_others(op):
        return CommandError(messages.SORT_TOO_LARGE)
    return bulk.GO_ON


def _store_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bulk.Cursor:
    """Few elements are sorted here, more by the engine."""
    collection = _open(space, op[1], op[3])
    if collection is None:
        return None
    assert isinstance(collection, Collection), "a job begins anew when its source is another one"
    question = _Question.of(op, 3).of_stored(collection.kind)
    rows = ListRows(made)
    try:
        if cursor or collection.count > rows_max:
            return _sort_in_steps(collection, question, rows, _Progress.of(cursor), rows_max)
        rows.push(RIGHT, [answer or b"" for answer in _sorted(collection, question)])
        return None
    except CommandError as error:
        return error
    finally:
        rows.settle()


def _finish_stored(space: Keyspace, _op: Op, made: Collection) -> Result:
    if made.count:
        space.notify(Notice.LIST, b"sortstore", made.number, made.key)
    elif made.replaced is not None and not space.is_expired(made.replaced):
        space.notify(Notice.GENERIC, b"del", made.number, made.key)
    return made.count


STORED_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], op[3])],
    target=lambda op: (op[1], op[2]),
    kind=lambda _space, _op: LIST,
    check=_check_stored,
    part=_store_part,
    finish=_finish_stored,
)


# --- sorting in steps -----------------------------------------------------------------------------
#
# An element becomes a row of the new list's collection, in a part of its own, and the key of that
# row is its place in the order: the engine sorts. Then they are taken out in order, page by page.


class _Progress(NamedTuple):
    """How far a sort in steps has come: the cursor of a job.

    Attributes:
        has_all: every element is a row.
        position: of the next element: an index, in a set a hash; then how many were taken out.
        rows: how many elements are rows.
    """

    has_all: bool
    position: int
    rows: int

    @classmethod
    def of(cls, cursor: bytes) -> _Progress:
        return cls(*_PROGRESS.unpack(cursor)) if cursor else cls(False, 0, 0)

    def to_cursor(self) -> bytes:
        return _PROGRESS.pack(*self)


def _sort_in_steps(
    collection: Collection, question: _Question, result: ListRows, done: _Progress, rows_max: int
) -> bytes | None:
    """The next page of a sort. Raises `CommandError` for what is no number."""
    size = collection.count
    if question.flags & _NOSORT:
        start, count = question.bounds(size)
        page_size = min(rows_max, count - done.position)
        reverse = bool(question.flags & _DESC)
        page = _some(collection, start + done.position, page_size, reverse=reverse)
        result.push(RIGHT, page)
        done = done._replace(position=done.position + len(page))
        return done.to_cursor() if done.position < count else None
    if not done.has_all:
        page, position = _page_of(collection, done.position, rows_max)
        place_of = _place_by_bytes if question.flags & _ALPHA else _place_by_number
        for number, element in enumerate(page, start=done.rows):
            place = place_of(element) + _U64.pack(number)
            result.collection.put_derived(PART_SORTED + place, element)
        gathered = done.rows + len(page)
        if gathered == size:
            return _Progress(True, 0, gathered).to_cursor()
        return _Progress(False, position, gathered).to_cursor()
    page = _take_out(result.collection, rows_max, reverse=bool(question.flags & _DESC))
    start, count = question.bounds(size)
    first, end = (min(max(at - done.position, 0), len(page)) for at in (start, start + count))
    result.push(RIGHT, page[first:end])
    taken = done.position + len(page)
    return done._replace(position=taken).to_cursor() if taken < size else None


def _page_of(collection: Collection, position: int, rows_max: int) -> tuple[list[bytes], int]:
    """Some elements, and the position of those behind them. Members of one hash stay together."""
    if collection.kind != SET:
        page_size = min(rows_max, collection.count - position)
        page = _some(collection, position, page_size, reverse=False)
        return page, position + len(page)
    page = []
    last = position
    for hashed, member, _ in collection.members(position):
        if len(page) >= rows_max and hashed != last:
            return page, hashed
        page.append(member)
        last = hashed
    return page, last


def _place_by_number(element: bytes) -> bytes:
    return sortable(_number(element)) + _place_by_bytes(element)


def _place_by_bytes(element: bytes) -> bytes:
    """Bytes in the order of elements, as far as these differ in what is told of them; none is the
    beginning of another: a NUL is written as `00 ff`, and `00 00` is the end."""
    return element[:PLACE_BYTES_MAX].replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def _take_out(made: Collection, rows_max: int, *, reverse: bool) -> list[bytes]:
    """The next elements in their order; their rows are deleted. What a place does not tell apart
    stays together and is sorted here."""
    walk = made.rows_back if reverse else made.rows
    parts: list[bytes] = []
    groups: list[list[bytes]] = []
    place = b""
    for part, element in walk(PART_SORTED, SORTED_END):
        if part[: -_U64.size] != place:
            if len(parts) >= rows_max:
                break
            place = part[: -_U64.size]
            groups.append([])
        parts.append(part)
        groups[-1].append(element)
    for part in parts:
        made.delete_derived(part)
    return [element for group in groups for element in sorted(group, reverse=reverse)]


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
    if text.isdigit() and len(text) <= DIGITS_MAX:
        return float(text)
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


def _lookup(collection: Collection, pattern: bytes) -> Callable[[bytes], bytes | None]:
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
    space, number = collection.space, collection.number
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

RECIPES: Final[dict[int, bulk.Recipe]] = {ops.SORTSTORE: STORED_ROWS}
