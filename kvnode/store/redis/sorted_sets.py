"""Sorted sets: adding, counting, ranges, ranks, popping, and the algebra of several sets.

A range is three arguments of an op: how it is meant (`ZBy`), and its two bounds. A rank is a
number; a score is `[` or `(` (without it) and eight bytes; a member is `[` or `(` and the member,
`-` or `+` for the ends. In a set whose scores differ a range by members goes from its lower bound
among the lowest score to its upper bound among the highest: Redis leaves open what it means there.

Redis looks at some options only after it has looked at the keys. An op carries the text of such a
refusal as its last argument, and it is given where Redis gives it.
"""

from __future__ import annotations

import sys
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Final, NamedTuple

from kvnode.errors import CommandError
from kvnode.limits import BULK_ROWS_MAX
from kvnode.store import bulk, ops, set_algebra
from kvnode.store.collection import Collection, create, find, open_
from kvnode.store.draws import Draws
from kvnode.store.keyspace import KIND_MASK, SET, ZSET
from kvnode.store.notices import Notice
from kvnode.store.ops import ZAddFlag, ZAggregate, ZBy, ZOperation, ZRangeFlag
from kvnode.store.redis import drawing, messages, scanning
from kvnode.store.scores import score_text, sortable, unpack_score
from kvnode.store.set_algebra import HASHES
from kvnode.store.sorted_set import PLACES_END, Pair, SortedSet, after_score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.redis.meaning import Meaning
    from kvnode.store.reply import Result

_NX, _XX, _GT, _LT, _CH, _INCR = (int(flag) for flag in ZAddFlag)
_REV, _WITHSCORES = (int(flag) for flag in ZRangeFlag)


# --- members and scores ---------------------------------------------------------------------------


def zadd(space: Keyspace, op: Op) -> Result:
    """ZADD, ZINCRBY, GEOADD: how many members came, with CH or changed; with INCR the new score."""
    _, number, key, flags, *given = op
    opened = open_(space, number, key, ZSET)
    if isinstance(opened, CommandError):
        return opened
    if opened.is_new and flags & _XX:
        return None if flags & _INCR else 0
    members = SortedSet(opened)
    members.expect(len(given) // 2)
    answer: Result = None
    before, updated = opened.count, 0
    for packed, member in zip(given[::2], given[1::2], strict=True):
        old = members.score(member)
        score = _new_score(unpack_score(packed), old, flags)
        if score is None:
            continue
        if isnan(score):  # there is one pair only, so nothing was written yet
            return CommandError(messages.SCORE_IS_NAN)
        answer = score
        if score != old:
            members.put(member, score, old)
            updated += old is not None
    added = opened.count - before
    if added or updated:
        members.settle()
        _save(opened, b"zincr" if flags & _INCR else b"zadd")
    if flags & _INCR:
        return answer
    return added + updated if flags & _CH else added


def _new_score(given: float, old: float | None, flags: int) -> float | None:
    """What a member gets, None for nothing: the conditions do not allow it."""
    if old is None:
        return None if flags & _XX else given
    if flags & _NX:
        return None
    score = old + given if flags & _INCR else given
    if (flags & _GT and score <= old) or (flags & _LT and score >= old):
        return None
    return score


def zrem(space: Keyspace, op: Op) -> Result:
    """ZREM: how many of the members were there."""
    _, number, key, *named = op
    opened = open_(space, number, key, ZSET)
    if isinstance(opened, CommandError):
        return opened
    if opened.is_new:
        return 0
    members = SortedSet(opened)
    there = {
        member: score
        for member in dict.fromkeys(named)
        if (score := members.score(member)) is not None
    }
    if there:
        members.remove_all(list(there.items()))
        _save(opened, b"zrem")
    return len(there)


def zscore(space: Keyspace, op: Op) -> Result:
    """ZSCORE."""
    _, number, key, member = op
    found = find(space, number, key, ZSET)
    return SortedSet(found).score(member) if isinstance(found, Collection) else found


def zmscore(space: Keyspace, op: Op) -> Result:
    """ZMSCORE: a score, or nil, for each member."""
    _, number, key, *named = op
    found = find(space, number, key, ZSET)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return [None] * len(named)
    members = SortedSet(found)
    return [members.score(member) for member in named]


def zcard(space: Keyspace, op: Op) -> Result:
    """ZCARD."""
    _, number, key = op
    found = find(space, number, key, ZSET)
    return found.count if isinstance(found, Collection) else found or 0


def zrank(space: Keyspace, op: Op) -> Result:
    """ZRANK and ZREVRANK: how many members stand before it, or behind it; nil if it is none."""
    _, number, key, member, reverse = op
    found = find(space, number, key, ZSET)
    if not isinstance(found, Collection):
        return found
    members = SortedSet(found)
    score = members.score(member)
    if score is None:
        return None
    rank = members.rank(member, score)
    return found.count - 1 - rank if reverse else rank


# --- ranges ---------------------------------------------------------------------------------------


def zcount(space: Keyspace, op: Op) -> Result:
    """ZCOUNT and ZLEXCOUNT: the size of a range by score or by member."""
    _, number, key, by, low, high = op
    found = find(space, number, key, ZSET)
    if not isinstance(found, Collection):
        return found or 0
    members = SortedSet(found)
    return members.count_between(*_places(members, by, low, high))


def zrange(space: Keyspace, op: Op) -> Result:
    """ZRANGE and its older forms: members, or pairs of member and score."""
    _, number, key, by, low, high, flags, offset, limit = op
    found = find(space, number, key, ZSET)
    if not isinstance(found, Collection):
        return [] if found is None else found
    pairs = _select(SortedSet(found), by, low, high, flags, offset, limit)
    return _shown(pairs, with_scores=flags & _WITHSCORES)


def zrangestore(space: Keyspace, op: Op) -> Result:
    """ZRANGESTORE: a range becomes the sorted set of another key; its size."""
    _, number, target, key, *how = op
    found = find(space, number, key, ZSET)
    if isinstance(found, CommandError):
        return found
    if found is None:
        return store(space, number, target, [], b"zrangestore")
    members = SortedSet(found)
    first, size = ranks(members, *how)
    if size > BULK_ROWS_MAX:
        return bulk.store(space, op, RANGE_ROWS)
    return store(space, number, target, list(members.from_rank(first, size)), b"zrangestore")


def _check_range(space: Keyspace, op: Op) -> Result | bulk.Check:
    found = find(space, op[1], op[3], ZSET)
    return found if isinstance(found, CommandError) else bulk.GO_ON


def _range_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bytes | None:
    """The cursor is how many are stored."""
    _, number, _, key, *how = op
    found = find(space, number, key, ZSET)
    if found is None:
        return None
    assert isinstance(found, Collection), "a job begins anew when its source is another one"
    members = SortedSet(found)
    first, size = ranks(members, *how)
    done = int.from_bytes(cursor, "big")
    share = min(max(rows_max // ROWS_PER_MEMBER, 1), size - done)
    SortedSet(made).fill(list(members.from_rank(first + done, share)) if share > 0 else [])
    done += share
    return done.to_bytes(8, "big") if done < size else None


def _finish_range(space: Keyspace, _op: Op, made: Collection) -> Result:
    return stored(space, made, b"zrangestore")


ROWS_PER_MEMBER: Final = 2
"""A member, and its place; spans cost as much again."""

RANGE_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], op[3])],
    target=lambda op: (op[1], op[2]),
    kind=lambda _space, _op: ZSET,
    check=_check_range,
    part=_range_part,
    finish=_finish_range,
)


def zremrange(space: Keyspace, op: Op) -> Result:
    """ZREMRANGEBYRANK, …BYSCORE, …BYLEX: how many members went."""
    _, number, key, by, low, high = op
    opened = open_(space, number, key, ZSET)
    if isinstance(opened, CommandError):
        return opened
    if opened.is_new:
        return 0
    members, how = SortedSet(opened), (by, low, high, 0, 0, -1)
    pairs = list(islice(_select(members, *how), REMOVED_MEMBERS_MAX + 1))
    if len(pairs) <= REMOVED_MEMBERS_MAX:
        if pairs:
            members.remove_all(pairs)
            _save(opened, _REMOVED_BY[by])
        return len(pairs)
    first, size = ranks(members, *how)
    if 2 * size <= opened.count:
        members.remove_all(list(members.from_rank(first, size)))
    else:
        opened = _without(members, first, size)
    _save(opened, _REMOVED_BY[by])
    return size


def _without(members: SortedSet, first: int, size: int) -> Collection:
    """A new collection of what a range of ranks leaves: so removing most costs no more than that.

    The one before goes as a whole.
    """
    before, behind = members.from_rank(0, first), members.from_rank(first + size, sys.maxsize)
    kept = [*before, *behind]
    old = members.collection
    made = create(old.space, old.number, old.key, ZSET, old.deadline_ms)
    SortedSet(made).fill(kept)
    return made


REMOVED_MEMBERS_MAX: Final = 256
"""Up to so many are taken away one by one in any case."""

_REMOVED_BY: Final = {
    ZBy.RANK: b"zremrangebyrank",
    ZBy.SCORE: b"zremrangebyscore",
    ZBy.LEX: b"zremrangebylex",
}


def _select(
    members: SortedSet, by: int, low: int | bytes, high: int | bytes, flags: int, offset: int,
    limit: int,
) -> Iterable[Pair]:  # fmt: skip
    """The pairs of a range, in its direction; a negative limit is none."""
    reverse = bool(flags & _REV)
    if by == ZBy.RANK:
        first, size = slice_of(members.collection.count, low, high)
        return members.from_rank(first, size, reverse=reverse)
    if offset < 0:
        return ()
    place, end = _places(members, by, low, high)
    pairs = members.between(place, end, reverse=reverse, skip=offset)
    return pairs if limit < 0 else islice(pairs, limit)


def ranks(
    members: SortedSet, by: int, low: int | bytes, high: int | bytes, flags: int, offset: int,
    limit: int,
) -> tuple[int, int]:  # fmt: skip
    """The lowest rank of a range, and how many members are in it."""
    count, reverse = members.collection.count, flags & _REV
    if by == ZBy.RANK:
        first, size = slice_of(count, low, high)
        return (count - first - size if reverse else first), size
    place, end = _places(members, by, low, high)
    first, size = members.spans.rank(place), members.count_between(place, end)
    if not 0 <= offset < size:
        return 0, 0
    left = size - offset
    taken = left if limit < 0 else min(limit, left)
    return (first + left - taken if reverse else first + offset), taken


def members_met(members: SortedSet, by: int, low: int | bytes, high: int | bytes, most: int) -> int:
    """How many members are in a range of scores or members, at most `most`."""
    place, end = _places(members, by, low, high)
    return members.count_rows(place, end, most)


def slice_of(count: int, low: int | bytes, high: int | bytes) -> tuple[int, int]:
    """The first of `count` elements in a range of ranks that includes its ends, and its size."""
    assert isinstance(low, int)
    assert isinstance(high, int)
    first = max(low + count, 0) if low < 0 else low
    last = high + count if high < 0 else min(high, count - 1)
    return first, max(last + 1 - first, 0)


def _places(
    members: SortedSet, by: int, low: int | bytes, high: int | bytes
) -> tuple[bytes, bytes]:
    """The range of places that a range by scores or members means."""
    assert isinstance(low, bytes)
    assert isinstance(high, bytes)
    if by == ZBy.SCORE:
        least, most = unpack_score(low[1:]), unpack_score(high[1:])
        first = sortable(least) if low[:1] == b"[" else after_score(least)
        return first, after_score(most) if high[:1] == b"[" else sortable(most)
    ends = members.ends()
    if ends is None or low[:1] == b"+" or high[:1] == b"-":
        return PLACES_END, PLACES_END
    lowest, highest = ends
    first = b""
    if low[:1] != b"-":
        first = members.bound(low[1:], lowest, after=low[:1] == b"(")
    if high[:1] == b"+":
        return first, PLACES_END
    return first, members.bound(high[1:], highest, after=high[:1] == b"[")


def _shown(pairs: Iterable[Pair], *, with_scores: int) -> Result:
    if with_scores:
        return [[member, score] for member, score in pairs]
    return [member for member, _ in pairs]


# --- popping --------------------------------------------------------------------------------------


def zpop(space: Keyspace, op: Op) -> Result:
    """ZPOPMIN and ZPOPMAX: [member, score], with a count pairs of them; empty if there is none."""
    _, number, key, from_end, count = op
    opened = open_(space, number, key, ZSET)
    if isinstance(opened, CommandError):
        return opened
    pairs = _pop(opened, from_end, 1 if count is None else count)
    if count is None:
        return [*pairs[0]] if pairs else []
    return _shown(pairs, with_scores=1)


def zmpop(space: Keyspace, op: Op) -> Result:
    """ZMPOP: from the first key that has members [key, pairs]; nil if none has."""
    _, number, from_end, count, *keys = op
    for key in keys:
        opened = open_(space, number, key, ZSET)
        if isinstance(opened, CommandError):
            return opened
        if not opened.is_new:
            return [key, _shown(_pop(opened, from_end, count), with_scores=1)]
    return None


def _pop(opened: Collection, from_end: int, count: int) -> list[Pair]:
    if opened.is_new or not count:
        return []
    members = SortedSet(opened)
    size = min(count, opened.count)
    pairs = list(members.from_rank(0, size, reverse=bool(from_end)))
    members.remove_all(pairs)
    _save(opened, b"zpopmax" if from_end else b"zpopmin")
    return pairs


# --- algebra --------------------------------------------------------------------------------------


def zalgebra(space: Keyspace, op: Op) -> Result:
    """ZUNION, ZINTER, ZDIFF: members in their new order, or pairs of member and score."""
    _, number, operation, keys, weights, aggregate, with_scores, refusal = op
    operands = _operands(space, number, keys, weights, refusal)
    if isinstance(operands, CommandError):
        return operands
    pairs = list(operands.combine(operation, aggregate))
    pairs.sort(key=lambda pair: (pair[1], pair[0]))
    return _shown(pairs, with_scores=with_scores)


def zintercard(space: Keyspace, op: Op) -> Result:
    """ZINTERCARD: how many members all have; it stops counting at the limit, if that is not 0."""
    _, number, keys, limit, refusal = op
    operands = _operands(space, number, keys, [], refusal)
    if isinstance(operands, CommandError):
        return operands
    return sum(1 for _ in islice(set_algebra.intersection(operands.sources), limit or None))


def zalgebrastore(space: Keyspace, op: Op) -> Result:
    """ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE: the result becomes the value of a key; its size."""
    return bulk.store(space, op, COMBINED_ROWS)


class Operands(NamedTuple):
    """Sorted sets, and sets whose members count 1.

    Attributes:
        sources: None for an absent key.
        weights: of each.
    """

    sources: list[Collection | None]
    weights: list[float]

    def combine(
        self, operation: int, aggregate: int, from_hash: int = 0, end_hash: int = HASHES
    ) -> Iterator[Pair]:
        """Members of the result and their scores, in the order of hashes."""
        order: Iterable[int] = range(len(self.sources))
        if operation != ZOperation.DIFF:
            # Redis begins with the smallest, and the order of an addition shows in its last digit.
            order = sorted(order, key=self._size)
        sources, weights = [self.sources[at] for at in order], [self.weights[at] for at in order]
        has_scores = [each is not None and each.kind == ZSET for each in sources]
        add, is_union = _AGGREGATES[aggregate], operation == ZOperation.UNION
        for _, member, values in OPERATIONS[operation].walk(sources, from_hash, end_hash):
            total: float | None = None
            for at, packed in values:
                score = weights[at] * (unpack_score(packed) if has_scores[at] else 1.0)
                if is_union or total is None:  # Redis leaves out the others of an intersection
                    score = _number(score)
                total = score if total is None else add(total, score)
            assert total is not None
            yield member, total

    def _size(self, at: int) -> int:
        source = self.sources[at]
        return 0 if source is None else source.count


def _operands(
    space: Keyspace, number: int, keys: list[bytes], weights: list[bytes], refusal: bytes | None
) -> Operands | CommandError:
    """The operands, or why there is no result."""
    found: list[tuple[Collection | None, float]] = []
    for at, key in enumerate(keys):
        record = space.find(number, key)
        kind = ZSET if record is None else record[0] & KIND_MASK
        source = find(space, number, key, kind if kind == SET else ZSET)
        if isinstance(source, CommandError):
            return source
        found.append((source, unpack_score(weights[at]) if weights else 1.0))
    if refusal is not None:
        return refused(refusal)
    return Operands([source for source, _ in found], [weight for _, weight in found])


def _check_combined(space: Keyspace, op: Op) -> Result | bulk.Check:
    _, number, _, _, keys, weights, _, refusal = op
    operands = _operands(space, number, keys, weights, refusal)
    return operands if isinstance(operands, CommandError) else bulk.GO_ON


def _combine_part(
    space: Keyspace, op: Op, made: Collection, cursor: bytes, rows_max: int
) -> bytes | None:
    """The cursor is the hash to go on from: all up to the next one are found at once."""
    _, number, operation, _, keys, weights, aggregate, _ = op
    operands = _operands(space, number, keys, weights, None)
    assert isinstance(operands, Operands), "a job begins anew when a source is another one"
    rows = OPERATIONS[operation].rows(operands.sources)
    from_hash = int.from_bytes(cursor, "big")
    share = max(rows_max // ROWS_PER_MEMBER, 1)
    end_hash = from_hash + HASHES * share // max(rows, share)
    SortedSet(made).fill(list(operands.combine(operation, aggregate, from_hash, end_hash)))
    return end_hash.to_bytes(8, "big") if end_hash < HASHES else None


def _finish_combined(space: Keyspace, op: Op, made: Collection) -> Result:
    return stored(space, made, _STORED_BY[op[2]])


OPERATIONS: Final[dict[int, set_algebra.Operation]] = {
    ZOperation.UNION: set_algebra.UNION,
    ZOperation.INTER: set_algebra.INTERSECTION,
    ZOperation.DIFF: set_algebra.DIFFERENCE,
}

_STORED_BY: Final = {
    ZOperation.UNION: b"zunionstore",
    ZOperation.INTER: b"zinterstore",
    ZOperation.DIFF: b"zdiffstore",
}

COMBINED_ROWS: Final = bulk.Recipe(
    sources=lambda op: [(op[1], key) for key in op[4]],
    target=lambda op: (op[1], op[3]),
    kind=lambda _space, _op: ZSET,
    check=_check_combined,
    part=_combine_part,
    finish=_finish_combined,
)


def _number(score: float) -> float:
    """Infinity times zero is zero here, and so is infinity less infinity."""
    return 0.0 if isnan(score) else score


_AGGREGATES: Final[dict[int, Callable[[float, float], float]]] = {
    ZAggregate.SUM: lambda one, other: _number(one + other),
    ZAggregate.MIN: min,
    ZAggregate.MAX: max,
}


# --- random members and pages ---------------------------------------------------------------------


def zrandmember(space: Keyspace, op: Op) -> Result:
    """ZRANDMEMBER: one member; with a count several, no two alike unless it is negative."""
    _, number, key, seed, count, with_scores = op
    found = find(space, number, key, ZSET)
    if not isinstance(found, Collection):
        return [] if found is None and count is not None else found
    draws = Draws(seed)
    if count is None:
        return drawing.draw_one(found, draws)
    drawn = drawing.draw(found, draws, count)
    if isinstance(drawn, CommandError):
        return drawn
    pairs = [(member, unpack_score(packed)) for member, packed in drawn]
    return _shown(pairs, with_scores=with_scores)


def zscan(space: Keyspace, op: Op) -> Result:
    """ZSCAN: a page of members and the texts of their scores."""
    found = scanning.page(space, op, ZSET)
    if isinstance(found, CommandError):
        return found
    cursor, pairs = found
    shown = [part for member, packed in pairs for part in (member, _score_text(packed))]
    return [cursor, [*shown]]


def _score_text(packed: bytes) -> bytes:
    return score_text(unpack_score(packed))


# --- what several ops share -----------------------------------------------------------------------


def store(space: Keyspace, number: int, key: bytes, pairs: list[Pair], event: bytes) -> int:
    """Make these pairs the sorted set of a key, in place of what it holds; their number.

    Without pairs the key goes away.
    """
    made = create(space, number, key, ZSET)
    SortedSet(made).fill(pairs)
    if pairs or space.find(number, key) is not None:
        space.advance()
    made.save()
    return stored(space, made, event)


def stored(space: Keyspace, made: Collection, event: bytes) -> int:
    """Tell of a result that is in place; its size."""
    if made.count:
        space.notify(Notice.ZSET, event, made.number, made.key)
    elif made.replaced is not None and not space.is_expired(made.replaced):
        space.notify(Notice.GENERIC, b"del", made.number, made.key)
    return made.count


def refused(text: bytes) -> CommandError:
    """An error whose text an op carried."""
    return CommandError(text.decode("utf-8", "surrogateescape"))


def _save(collection: Collection, event: bytes) -> None:
    space = collection.space
    space.advance()
    collection.save()
    space.notify(Notice.ZSET, event, collection.number, collection.key)
    if not collection.count:
        space.notify(Notice.GENERIC, b"del", collection.number, collection.key)


READS: Final[dict[int, Meaning]] = {
    ops.ZSCORE: zscore,
    ops.ZMSCORE: zmscore,
    ops.ZCARD: zcard,
    ops.ZCOUNT: zcount,
    ops.ZRANK: zrank,
    ops.ZRANGE: zrange,
    ops.ZALGEBRA: zalgebra,
    ops.ZINTERCARD: zintercard,
    ops.ZRANDMEMBER: zrandmember,
    ops.ZSCAN: zscan,
}

WRITES: Final[dict[int, Meaning]] = {
    ops.ZADD: zadd,
    ops.ZREM: zrem,
    ops.ZREMRANGE: zremrange,
    ops.ZPOP: zpop,
    ops.ZMPOP: zmpop,
    ops.ZRANGESTORE: zrangestore,
    ops.ZALGEBRASTORE: zalgebrastore,
}

RECIPES: Final[dict[int, bulk.Recipe]] = {
    ops.ZALGEBRASTORE: COMBINED_ROWS,
    ops.ZRANGESTORE: RANGE_ROWS,
}
