"""Sets: members in the order of a keyed hash, each in a row of its own.

Each function is the meaning of one op; its arguments are in `kvnode/store/redis/DESIGN.md`. An op
costs the members that it names or answers. Members are drawn by `drawing`, and sets are combined
by `kvnode.store.set_algebra`: a store form does it range by range of hashes, and what would take
long in steps (`kvnode.store.bulk`).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.store import bulk, ops, set_algebra
from kvnode.store.collection import Collection, find, open_
from kvnode.store.draws import Draws
from kvnode.store.keyspace import HASH_BYTES, SET
from kvnode.store.notices import Notice
from kvnode.store.ops import SetOperation
from kvnode.store.redis import drawing, scanning
from kvnode.store.set_algebra import HASHES

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

NOTHING: Final = b""
"""What the row of a member holds besides it."""


# --- writes ---------------------------------------------------------------------------------------


def sadd(space: Keyspace, op: Op) -> Result:
    """SADD: how many of the members are new."""
    _, number, key, *members = op
    opened = open_(space, number, key, SET)
    if isinstance(opened, CommandError):
        return opened
    added = sum([_add(opened, member) for member in members])
    if added:
        _save(space, opened, b"sadd")
    return added


def srem(space: Keyspace, op: Op) -> Result:
    """SREM: how many of the members were there; a set without members goes away."""
    _, number, key, *members = op
    opened = open_(space, number, key, SET)
    if isinstance(opened, CommandError):
        return opened
    removed = sum([_remove(opened, member) for member in members])
    if removed:
        _save(space, opened, b"srem")
    return removed


def spop(space: Keyspace, op: Op) -> Result:
    """SPOP: a random member, or a list of different ones, drawn by the seed of the batch."""
    _, number, key, count = op
    opened = open_(space, number, key, SET)
    if isinstance(opened, CommandError):
        return opened
    if opened.is_new or count == 0:
        return None if count is None else []
    rows = drawing.distinct(opened, space.draws, 1 if count is None else count)
    popped = [drawing.read(opened, row)[0] for row in rows]
    if len(popped) < opened.count:
        for member in popped:
            _remove(opened, member)
    else:
        opened.count = 0  # what is saved with no members takes its rows along
    _save(space, opened, b"spop")
    return popped[0] if count is None else list(popped)


def smove(space: Keyspace, op: Op) -> Result:
    """SMOVE: 1 if the member was there. A destination of another kind is an error in any case."""
    _, number, key, destination, member = op
    source = find(space, number, key, SET)
    if source is None:
        return 0
    target = open_(space, number, destination, SET)
    for opened in (source, target):
        if isinstance(opened, CommandError):
            return opened
    assert isinstance(source, Collection)
    assert isinstance(target, Collection)
    if source.tail == target.tail:
        return int(source.member(member) is not None)
    if not _remove(source, member):
        return 0
    space.advance()
    _store(space, source, b"srem")
    if _add(target, member):
        _store(space, target, b"sadd")
    return 1


def combine_store(space: Keyspace, op: Op) -> Result:
    """SUNIONSTORE and its kin: how many members are in the result, which replaces what was there.

    The sources stay whole until it is complete, so the destination may be one of them.
    """
    return bulk.store(space, op, COMBINED_ROWS)


def _check_combined(space: Keyspace, op: Op) -> Result | bulk.Check:
    sources = _sources(space, op[1], op[4:])
    return sources if isinstance(sources, CommandError) else bulk.GO_ON


def _combine_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bytes | None:
    """The cursor is the hash to go on from: all up to the next one are found at once."""
    sources = _sources(space, op[1], op[4:])
    assert isinstance(sources, list), "a job begins anew when a source is another one"
    operation = OPERATIONS[op[2]]
    rows_max = max(rows_max, len(sources))  # to find so many sources is as much work
    from_hash = int.from_bytes(cursor, "big")
    end_hash = from_hash + HASHES * rows_max // max(operation.rows(sources), rows_max)
    found = [member for _, member, _ in operation.walk(sources, from_hash, end_hash)]
    for member in found:
        made.put_member(member, NOTHING, None)
    made.count += len(found)
    return None if end_hash >= HASHES else end_hash.to_bytes(HASH_BYTES, "big")


def _finish_combined(space: Keyspace, op: Op, made: Collection) -> Result:
    if made.count:
        space.notify(Notice.SET, STORE_EVENTS[op[2]], made.number, made.key)
    elif made.replaced is not None and not space.is_expired(made.replaced):
        space.notify(Notice.GENERIC, b"del", made.number, made.key)
    return made.count


COMBINED_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], key) for key in op[4:]],
    target=lambda op: (op[1], op[3]),
    kind=lambda _space, _op: SET,
    check=_check_combined,
    part=_combine_part,
    finish=_finish_combined,
)


def _add(opened: Collection, member: bytes) -> bool:
    is_new = opened.set_member(member, NOTHING) is None
    opened.count += is_new
    return is_new


def _remove(opened: Collection, member: bytes) -> bool:
    was_there = opened.take_member(member) is not None
    opened.count -= was_there
    return was_there


def _save(space: Keyspace, changed: Collection, event: bytes) -> None:
    """Save the one collection that an op has changed."""
    space.advance()
    _store(space, changed, event)


def _store(space: Keyspace, changed: Collection, event: bytes) -> None:
    changed.save()
    space.notify(Notice.SET, event, changed.number, changed.key)
    if not changed.count:
        space.notify(Notice.GENERIC, b"del", changed.number, changed.key)


# --- reads ----------------------------------------------------------------------------------------


def smembers(space: Keyspace, op: Op) -> Result:
    """SMEMBERS: all of them."""
    found = find(space, op[1], op[2], SET)
    if isinstance(found, CommandError):
        return found
    return [] if found is None else [member for _, member, _ in found.members()]


def smismember(space: Keyspace, op: Op) -> Result:
    """SMISMEMBER: 0 or 1 for each."""
    _, number, key, *members = op
    found = find(space, number, key, SET)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return [0] * len(members)
    return [int(found.member(member) is not None) for member in members]


def sismember(space: Keyspace, op: Op) -> Result:
    """SISMEMBER: 0 or 1."""
    answer = smismember(space, op)
    return answer[0] if isinstance(answer, list) else answer


def scard(space: Keyspace, op: Op) -> Result:
    """SCARD."""
    found = find(space, op[1], op[2], SET)
    if isinstance(found, CommandError):
        return found
    return 0 if found is None else found.count


def srandmember(space: Keyspace, op: Op) -> Result:
    """SRANDMEMBER: a random member, or a list: of different ones, or below 0 of any.

    The seed comes from the client's node, so that the ops of an EXEC answer alike everywhere.
    """
    _, number, key, seed, count = op
    found = find(space, number, key, SET)
    if isinstance(found, CommandError):
        return found
    if count is None:
        return None if found is None else drawing.draw_one(found, Draws(seed))
    if found is None or not count:
        return []
    drawn = drawing.draw(found, Draws(seed), count)
    return drawn if isinstance(drawn, CommandError) else [member for member, _ in drawn]


def combine(space: Keyspace, op: Op) -> Result:
    """SUNION, SINTER, SDIFF: the members of the result."""
    _, number, operation, *keys = op
    sources = _sources(space, number, keys)
    if isinstance(sources, CommandError):
        return sources
    return [member for _, member, _ in OPERATIONS[operation].walk(sources, 0, HASHES)]


def sintercard(space: Keyspace, op: Op) -> Result:
    """SINTERCARD: how many members all sets have; it stops counting at a limit above 0."""
    _, number, limit, *keys = op
    sources = _sources(space, number, keys)
    if isinstance(sources, CommandError):
        return sources
    return sum(1 for _ in islice(set_algebra.intersection(sources), limit or None))


def sscan(space: Keyspace, op: Op) -> Result:
    """SSCAN: the next cursor, and members."""
    page = scanning.page(space, op, SET)
    if isinstance(page, CommandError):
        return page
    cursor, found = page
    return [cursor, [member for member, _ in found]]


def _sources(
    space: Keyspace, number: int, keys: list[bytes]
) -> list[Collection | None] | CommandError:
    """The sets of the keys, or an error if one of them holds something else.

    A key that is named again changes no result, unless it is the first one of a difference.
    """
    first, *others = keys
    sources: list[Collection | None] = []
    for key in (first, *dict.fromkeys(others)):
        found = find(space, number, key, SET)
        if isinstance(found, CommandError):
            return found
        sources.append(found)
    return sources


OPERATIONS: Final[dict[int, set_algebra.Operation]] = {
    SetOperation.UNION: set_algebra.UNION,
    SetOperation.INTERSECTION: set_algebra.INTERSECTION,
    SetOperation.DIFFERENCE: set_algebra.DIFFERENCE,
}

STORE_EVENTS: Final[dict[int, bytes]] = {
    SetOperation.UNION: b"sunionstore",
    SetOperation.INTERSECTION: b"sinterstore",
    SetOperation.DIFFERENCE: b"sdiffstore",
}

READS: Final[dict[int, Meaning]] = {
    ops.SMEMBERS: smembers,
    ops.SISMEMBER: sismember,
    ops.SMISMEMBER: smismember,
    ops.SCARD: scard,
    ops.SRANDMEMBER: srandmember,
    ops.SCOMBINE: combine,
    ops.SINTERCARD: sintercard,
    ops.SSCAN: sscan,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.SADD: sadd,
    ops.SREM: srem,
    ops.SPOP: spop,
    ops.SMOVE: smove,
    ops.SCOMBINESTORE: combine_store,
}

RECIPES: Final[dict[int, bulk.Recipe]] = {ops.SCOMBINESTORE: COMBINED_ROWS}
