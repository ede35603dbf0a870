"""The sorted set ops against a dictionary that is sorted when asked, and the rows beneath."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.limits import BULK_ROWS_MAX
from kvnode.store import ops
from kvnode.store.collection import Collection, find
from kvnode.store.keyspace import ZSET
from kvnode.store.ops import (
    DEL,
    EXEC,
    EXPIRE,
    GET,
    SADD,
    SET,
    STEP,
    TTL,
    ZADD,
    ZALGEBRA,
    ZALGEBRASTORE,
    ZCARD,
    ZCOUNT,
    ZINTERCARD,
    ZMPOP,
    ZMSCORE,
    ZPOP,
    ZRANDMEMBER,
    ZRANGE,
    ZRANGESTORE,
    ZRANK,
    ZREM,
    ZREMRANGE,
    ZSCAN,
    ZSCORE,
    ZAddFlag,
    ZAggregate,
    ZBy,
    ZOperation,
    ZRangeFlag,
)
from kvnode.store.redis import messages
from kvnode.store.redis.sorted_sets import REMOVED_MEMBERS_MAX
from kvnode.store.reply import Unfinished
from kvnode.store.scores import pack_score, parse_bound, parse_score, score_text
from kvnode.store.sorted_set import RESPAN_MEMBERS_MIN, SKIPPED_ROWS_MAX, SortedSet
from kvnode.store.spans import PART_ORDER, PART_SPANS, height_of
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from kvnode.store.reply import Result
    from tests.unit.store.driver import Driver

KEYS = [b"", b"a", b"long" * 120]
MEMBERS = [b"", b"a", b"ab", b"b", b"\xff\x00", b"x" * 400, b"x" * 401, b"y" * 5000]
SCORES = [0.0, -0.0, 1.0, 1.5, -2.0, 1e300, 5e-324, math.inf, -math.inf]
NX, XX, GT, LT, CH, INCR = (int(flag) for flag in ZAddFlag)
REV, WITHSCORES = (int(flag) for flag in ZRangeFlag)
RANK, SCORE, LEX = (int(by) for by in ZBy)
UNION, INTER, DIFF = (int(operation) for operation in ZOperation)

Pairs = list[tuple[bytes, float]]


def text(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


def add(driver: Driver, key: bytes, pairs: dict[bytes, float], flags: int = 0) -> Result:
    given = [part for member, score in pairs.items() for part in (pack_score(score), member)]
    return driver.do(ZADD, 0, key, flags, *given)


def whole(driver: Driver, key: bytes) -> Result:
    return driver.read(ZRANGE, 0, key, RANK, 0, -1, WITHSCORES, 0, -1)


def bound(score: float, *, is_open: bool = False) -> bytes:
    return (b"(" if is_open else b"[") + pack_score(score)


def opened(driver: Driver, key: bytes) -> Collection:
    collection = find(driver.machine._space, 0, key, ZSET)
    assert isinstance(collection, Collection)
    return collection


def check_rows(driver: Driver, key: bytes, expected: dict[bytes, float]) -> None:
    """Order and spans are what the members imply, whatever happened before."""
    collection = opened(driver, key)
    assert collection.count == len(expected)
    assert {member for _, member, _ in collection.members()} == expected.keys()
    assert len(list(collection.rows(PART_ORDER, PART_SPANS))) == len(expected)
    kept = list(collection.rows(PART_SPANS, b"\x03"))
    locate = collection.space.locate
    members = SortedSet(collection)
    members.spans.rebuild(
        lambda place, hashed: height_of(int.from_bytes((hashed or locate(place[8:]))[:8], "big"))
    )
    assert list(collection.rows(PART_SPANS, b"\x03")) == kept


class Model:
    """What the key should hold, in memory."""

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}

    def pairs(self) -> Pairs:
        return sorted(self.scores.items(), key=lambda pair: (pair[1], pair[0]))

    def add(self, pairs: dict[bytes, float], flags: int) -> int:
        changed = 0
        for member, score in pairs.items():
            old = self.scores.get(member)
            if (flags & NX and old is not None) or (flags & XX and old is None):
                continue
            if old is not None and ((flags & GT and score <= old) or (flags & LT and score >= old)):
                continue
            changed += old is None or (bool(flags & CH) and score != old)
            self.scores[member] = score + 0.0
        return changed

    def remove(self, pairs: Pairs) -> None:
        for member, _ in pairs:
            del self.scores[member]


def shown(pairs: Pairs) -> list[list[object]]:
    return [[member, score] for member, score in pairs]


def test_any_history_answers_as_a_sorted_dictionary(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    models = {key: Model() for key in KEYS}
    for step in range(500):
        key = rng.choice(KEYS)
        model = models[key]
        play(driver, rng, key, model)
        assert whole(driver, key) == shown(model.pairs())
        if step % 50 == 0:
            driver.check()
    driver.check()
    for key, model in models.items():
        if model.scores:
            check_rows(driver, key, model.scores)


def play(driver: Driver, rng: random.Random, key: bytes, model: Model) -> None:
    """One random op, done and predicted."""
    pairs = model.pairs()
    match rng.randrange(8):
        case 0 | 1 | 2:
            chosen = {rng.choice(MEMBERS): rng.choice(SCORES) for _ in range(rng.randrange(1, 5))}
            flags = rng.choice([0, 0, NX, XX, GT, LT, CH, CH | GT])
            assert add(driver, key, chosen, flags) == model.add(chosen, flags)
        case 3:
            named = rng.sample(MEMBERS, 3)
            gone = [(member, 0.0) for member in named if member in model.scores]
            assert driver.do(ZREM, 0, key, *named, named[0]) == len(gone)
            model.remove(gone)
        case 4:
            count, from_end = rng.randrange(4), rng.randrange(2)
            popped = (pairs[::-1] if from_end else pairs)[:count]
            assert driver.do(ZPOP, 0, key, from_end, count) == shown(popped)
            model.remove(popped)
        case 5:
            low, high = rng.randrange(-4, 4), rng.randrange(-4, 4)
            gone = pairs[slice(low, high + 1 or None)] if low * high >= 0 else []
            if low * high >= 0:
                assert driver.do(ZREMRANGE, 0, key, RANK, low, high) == len(gone)
                model.remove(gone)
        case 6:
            check_ranges(driver, rng, key, pairs)
        case 7:
            member = rng.choice(MEMBERS)
            names = [name for name, _ in pairs]
            rank = names.index(member) if member in names else None
            assert driver.read(ZRANK, 0, key, member, 0) == rank
            behind = None if rank is None else len(names) - 1 - rank
            assert driver.read(ZRANK, 0, key, member, 1) == behind
            assert driver.read(ZSCORE, 0, key, member) == model.scores.get(member)
            assert driver.read(ZCARD, 0, key) == len(pairs)


def check_ranges(driver: Driver, rng: random.Random, key: bytes, pairs: Pairs) -> None:
    low, high = rng.choice(SCORES), rng.choice(SCORES)
    low_open, high_open = rng.random() < 0.5, rng.random() < 0.5
    inside = [
        pair
        for pair in pairs
        if (low < pair[1] or (low == pair[1] and not low_open))
        and (pair[1] < high or (pair[1] == high and not high_open))
    ]
    bounds = bound(low, is_open=low_open), bound(high, is_open=high_open)
    assert driver.read(ZCOUNT, 0, key, SCORE, *bounds) == len(inside)
    offset, limit = rng.randrange(3), rng.randrange(-1, 3)
    for flags, expected in ((WITHSCORES, inside), (WITHSCORES | REV, inside[::-1])):
        page = expected[offset:] if limit < 0 else expected[offset : offset + limit]
        op = [ZRANGE, 0, key, SCORE, *bounds, flags, offset, limit]
        assert driver.read(*op) == shown(page)


def test_a_large_set_is_ranked_counted_and_cut_like_a_list(driver: Driver) -> None:
    size = 3 * RESPAN_MEMBERS_MIN
    model = {b"m%d" % number: float(number * 37 % 101) for number in range(size)}
    add(driver, b"k", model)
    check_rows(driver, b"k", model)
    pairs = sorted(model.items(), key=lambda pair: (pair[1], pair[0]))
    for rank in (0, 1, SKIPPED_ROWS_MAX, SKIPPED_ROWS_MAX + 1, size // 2, size - 1):
        member, _ = pairs[rank]
        assert driver.read(ZRANK, 0, b"k", member, 0) == rank
        assert driver.read(ZRANGE, 0, b"k", RANK, rank, rank + 2, 0, 0, -1) == [
            name for name, _ in pairs[rank : rank + 3]
        ]
        assert driver.read(ZRANGE, 0, b"k", RANK, rank, rank, REV, 0, -1) == [pairs[-1 - rank][0]]
    inside = [name for name, score in pairs if 10 <= score < 90]
    bounds = bound(10), bound(90, is_open=True)
    assert driver.read(ZCOUNT, 0, b"k", SCORE, *bounds) == len(inside)
    for offset in (0, 3, 200, len(inside) - 1, len(inside), size):
        op = [ZRANGE, 0, b"k", SCORE, *bounds]
        assert driver.read(*op, 0, offset, 5) == inside[offset : offset + 5]
        assert driver.read(*op, REV, offset, 5) == inside[::-1][offset : offset + 5]
    assert driver.do(ZREMRANGE, 0, b"k", SCORE, *bounds) == len(inside)
    for name in inside:
        del model[name]
    check_rows(driver, b"k", model)
    more = {b"n%d" % number: 5.0 for number in range(2 * RESPAN_MEMBERS_MIN)}
    assert add(driver, b"k", more | {next(iter(model)): 9.0}) == len(more)
    check_rows(driver, b"k", model | more)
    driver.check()


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (0, 299), (10, 299), (0, 990), (10, -1), (0, -1)]
)
def test_a_range_is_removed_one_by_one_or_by_keeping_the_rest(
    driver: Driver, low: int, high: int
) -> None:
    size = 4 * REMOVED_MEMBERS_MAX
    names = [b"%04d" % number for number in range(size)]
    model = dict(zip(names, map(float, range(size)), strict=True))
    add(driver, b"k", model)
    driver.do(EXPIRE, 0, b"k", 0, 10_000, 0)
    gone = names[low : high + 1 or None]
    assert driver.do(ZREMRANGE, 0, b"k", RANK, low, high) == len(gone)
    for name in gone:
        del model[name]
    assert driver.read(ZRANGE, 0, b"k", RANK, 0, -1, 0, 0, -1) == list(model)
    if model:
        check_rows(driver, b"k", model)
        assert driver.read(TTL, 0, b"k", 1) == 10_000
    else:
        assert driver.machine.keyspace() == {}
    driver.check()


def test_members_of_one_score_are_ordered_and_found_as_bytes(driver: Driver) -> None:
    names = [b"", b"a", b"aa", b"ab", b"b", b"\xff"]
    add(driver, b"k", dict.fromkeys(names, 1.0))
    for low, high, expected in [
        (b"-", b"+", names),
        (b"[a", b"[ab", [b"a", b"aa", b"ab"]),
        (b"(a", b"(ab", [b"aa"]),
        (b"[", b"(a", [b""]),
        (b"(", b"+", names[1:]),
        (b"+", b"-", []),
        (b"-", b"-", []),
        (b"+", b"+", []),
        (b"[b", b"[a", []),
        (b"[a\x00", b"+", names[2:]),
    ]:
        assert driver.read(ZRANGE, 0, b"k", LEX, low, high, 0, 0, -1) == expected
        assert driver.read(ZCOUNT, 0, b"k", LEX, low, high) == len(expected)
        assert driver.read(ZRANGE, 0, b"k", LEX, low, high, REV, 0, -1) == expected[::-1]
    assert driver.do(ZREMRANGE, 0, b"k", LEX, b"[a", b"(b") == 3
    assert driver.read(ZRANGE, 0, b"k", RANK, 0, -1, 0, 0, -1) == [b"", b"b", b"\xff"]


def test_an_increment_that_is_no_number_is_refused_and_changes_nothing(driver: Driver) -> None:
    add(driver, b"k", {b"a": math.inf})
    before = driver.machine.revision
    assert text(add(driver, b"k", {b"a": -math.inf}, INCR)) == messages.SCORE_IS_NAN
    assert driver.machine.revision == before
    assert add(driver, b"k", {b"b": 1.5}, INCR) == 1.5
    assert add(driver, b"k", {b"b": 1.5}, INCR) == 3.0
    assert add(driver, b"k", {b"b": 1.0}, INCR | NX) is None
    assert add(driver, b"k", {b"c": 1.0}, INCR | XX) is None
    assert add(driver, b"k", {b"b": -1.0}, INCR | GT) is None


def test_what_changes_nothing_is_no_write(driver: Driver) -> None:
    add(driver, b"k", {b"a": 0.0})
    before = driver.machine.revision
    add(driver, b"k", {b"a": -0.0})
    add(driver, b"k", {b"a": 5.0}, NX)
    add(driver, b"none", {b"a": 5.0}, XX)
    driver.do(ZREM, 0, b"k", b"x")
    driver.do(ZPOP, 0, b"none", 0, 3)
    driver.do(ZPOP, 0, b"k", 0, 0)
    driver.do(ZMPOP, 0, 0, 1, b"none")
    driver.do(ZREMRANGE, 0, b"k", RANK, 5, 9)
    driver.do(ZRANGESTORE, 0, b"none", b"absent", RANK, 0, -1, 0, 0, -1)
    driver.do(ZALGEBRASTORE, 0, UNION, b"none", [b"absent"], [], 0, None)
    assert driver.machine.revision == before
    assert driver.machine.keyspace() == {0: (1, 0)}
    assert driver.read(ZSCORE, 0, b"k", b"a") == 0.0
    driver.check()


def test_a_set_that_becomes_empty_goes_away_with_its_deadline(driver: Driver) -> None:
    for empty in (
        [ZREM, 0, b"k", b"a", b"b"],
        [ZPOP, 0, b"k", 1, 9],
        [ZREMRANGE, 0, b"k", RANK, 0, -1],
        [ZRANGESTORE, 0, b"k", b"absent", RANK, 0, -1, 0, 0, -1],
        [ZALGEBRASTORE, 0, DIFF, b"k", [b"k", b"k"], [], 0, None],
    ):
        add(driver, b"k", {b"a": 1.0, b"b": 2.0})
        driver.do(EXPIRE, 0, b"k", 0, 10_000, 0)
        driver.do(*empty)
        assert driver.machine.keyspace() == {}
        add(driver, b"k", {b"c": 3.0})
        assert driver.read(TTL, 0, b"k", 1) == -1
        assert whole(driver, b"k") == [[b"c", 3.0]]
        driver.do(DEL, 0, b"k")
        driver.check()


def test_a_store_replaces_whatever_was_there(driver: Driver) -> None:
    add(driver, b"k", {b"a": 1.0, b"b": 2.0, b"c": 3.0})
    driver.do(SET, 0, b"t", b"text", 16, 10_000)
    assert driver.do(ZRANGESTORE, 0, b"t", b"k", RANK, 0, 1, REV, 0, -1) == 2
    assert whole(driver, b"t") == [[b"b", 2.0], [b"c", 3.0]]
    assert driver.read(TTL, 0, b"t", 1) == -1
    assert driver.do(ZRANGESTORE, 0, b"k", b"k", RANK, 0, 0, 0, 0, -1) == 1
    assert whole(driver, b"k") == [[b"a", 1.0]]
    driver.check()


def test_algebra_is_that_of_dictionaries(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(60):
        sets = []
        for key in (b"x", b"y", b"z"):
            driver.do(DEL, 0, key)
            names = rng.sample(MEMBERS, rng.randrange(6))
            sets.append({name: float(rng.randrange(-5, 9)) for name in names})
            if names:
                add(driver, key, sets[-1])
        weights = [float(rng.randrange(-2, 3)) for _ in sets]
        packed = [pack_score(weight) for weight in weights]
        keys = [b"x", b"y", b"z"]
        for aggregate, combine in ((ZAggregate.SUM, sum), (ZAggregate.MIN, min)):
            weighted = [
                {name: score * weight for name, score in one.items()}
                for one, weight in zip(sets, weights, strict=True)
            ]
            everything = {name for one in weighted for name in one}
            union = {
                name: float(combine([one[name] for one in weighted if name in one]))
                for name in everything
            }
            inter = {n: s for n, s in union.items() if all(n in one for one in sets)}
            for operation, expected in ((UNION, union), (INTER, inter)):
                how = [keys, packed, int(aggregate)]
                pairs = sorted(expected.items(), key=lambda pair: (pair[1], pair[0]))
                assert driver.read(ZALGEBRA, 0, operation, *how, 1, None) == shown(pairs)
                assert driver.do(ZALGEBRASTORE, 0, operation, b"t", *how, None) == len(pairs)
                assert whole(driver, b"t") == shown(pairs)
        rest = {n: s for n, s in sets[0].items() if n not in sets[1] and n not in sets[2]}
        pairs = sorted(rest.items(), key=lambda pair: (pair[1], pair[0]))
        assert driver.read(ZALGEBRA, 0, DIFF, keys, [], 0, 1, None) == shown(pairs)
        common = len(set(sets[0]) & set(sets[1]))
        assert driver.read(ZINTERCARD, 0, keys[:2], 0, None) == common
        assert driver.read(ZINTERCARD, 0, keys[:2], 2, None) == min(common, 2)
    driver.check()


def finish(driver: Driver, answer: Result) -> Result:
    """Step a command to its end; it must have been too large for one entry."""
    assert isinstance(answer, Unfinished)
    while isinstance(answer, Unfinished):
        answer = driver.do(STEP, 0, answer.job)
        driver.check()
    return answer


@pytest.mark.parametrize("target", [b"t", b"x"])
@pytest.mark.parametrize("operation", [UNION, INTER, DIFF])
def test_a_large_result_is_stored_in_steps_and_is_that_of_one(
    engine: Engine, operation: int, target: bytes
) -> None:
    driver = founded(engine)
    size = BULK_ROWS_MAX + 100
    add(driver, b"x", {b"%d" % number: float(number % 50) for number in range(size)})
    add(driver, b"y", {b"%d" % number: 1.5 for number in range(size // 2, size * 3 // 2)})
    driver.do(SADD, 0, b"s", *(b"%d" % number for number in range(0, size, 3)))
    weights = [] if operation == DIFF else [pack_score(weight) for weight in (2.0, 3.0, -1.0)]
    keys = [b"x", b"y", b"s"]
    expected = driver.read(ZALGEBRA, 0, operation, keys, weights, 0, 1, None)
    assert isinstance(expected, list)
    assert expected
    op = [ZALGEBRASTORE, 0, operation, target, keys, weights, 0, None]
    (within,) = (driver.do(EXEC, 0, [], [[*op[:3], b"once", *op[4:]]]),)
    assert within == [len(expected)]
    answer = driver.do(*op)
    if operation == UNION:
        answer = finish(driver, answer)
    while isinstance(answer, Unfinished):
        answer = driver.do(STEP, 0, answer.job)
    assert answer == len(expected)
    assert whole(driver, target) == whole(driver, b"once") == expected
    check_rows(driver, target, dict(expected))  # type: ignore[misc]
    driver.check()


@pytest.mark.parametrize("flags", [0, REV])
@pytest.mark.parametrize(("offset", "limit"), [(0, -1), (7, -1), (7, BULK_ROWS_MAX + 20)])
def test_a_large_range_is_stored_in_steps(
    engine: Engine, flags: int, offset: int, limit: int
) -> None:
    driver = founded(engine)
    size = BULK_ROWS_MAX + 100
    add(driver, b"k", {b"%d" % number: float(number) for number in range(size)})
    how = [SCORE, bound(5.0), bound(math.inf), flags, offset, limit]
    expected = driver.read(ZRANGE, 0, b"k", *how[:3], flags | WITHSCORES, offset, limit)
    assert isinstance(expected, list)
    assert finish(driver, driver.do(ZRANGESTORE, 0, b"t", b"k", *how)) == len(expected)
    assert whole(driver, b"t") == sorted(expected, key=lambda pair: pair[1])  # type: ignore[index,misc,return-value]
    small = [SCORE, bound(5.0), bound(math.inf), flags, offset, 3]
    assert driver.do(ZRANGESTORE, 0, b"t", b"k", *small) == 3
    shown_first = driver.read(ZRANGE, 0, b"k", *small)
    assert isinstance(shown_first, list)
    held = driver.read(ZRANGE, 0, b"t", RANK, 0, -1, flags, 0, -1)
    assert held == shown_first


EDGES = [-(2**63), -5, -1, 0, 1, 2, 3, 4, 2**63 - 1]


def test_any_offset_and_limit_of_a_range_is_read_and_stored_alike(driver: Driver) -> None:
    add(driver, b"k", {b"a": 1.0, b"b": 2.0, b"c": 3.0, b"d": 4.0})
    for flags, offset, limit in product((0, REV), EDGES, EDGES):
        how = [SCORE, bound(2.0), bound(math.inf), flags, offset, limit]
        names = [b"b", b"c", b"d"][:: -1 if flags else 1]
        expected = names[offset:][: None if limit < 0 else limit] if offset >= 0 else []
        assert driver.read(ZRANGE, 0, b"k", *how) == expected
        assert driver.do(ZRANGESTORE, 0, b"t", b"k", *how) == len(expected)
        assert driver.read(ZRANGE, 0, b"t", RANK, 0, -1, flags, 0, -1) == expected


def test_any_ranks_are_read_stored_and_removed_alike(driver: Driver) -> None:
    names = [b"a", b"b", b"c", b"d"]
    for low, high in product(EDGES, EDGES):
        add(driver, b"k", {name: float(at) for at, name in enumerate(names)})
        first = max(low + 4, 0) if low < 0 else low
        last = high + 4 if high < 0 else high
        for flags in (REV, 0):
            turned = names[:: -1 if flags else 1]
            expected = [name for at, name in enumerate(turned) if first <= at <= last]
            assert driver.read(ZRANGE, 0, b"k", RANK, low, high, flags, 0, -1) == expected
            stored = driver.do(ZRANGESTORE, 0, b"t", b"k", RANK, low, high, flags, 0, -1)
            assert stored == len(expected)
            assert driver.read(ZRANGE, 0, b"t", RANK, 0, -1, flags, 0, -1) == expected
        assert driver.do(ZREMRANGE, 0, b"k", RANK, low, high) == len(expected)


def test_infinity_times_zero_and_infinity_less_infinity_are_zero(driver: Driver) -> None:
    add(driver, b"x", {b"a": math.inf})
    add(driver, b"y", {b"a": -math.inf})
    zero = [pack_score(0.0)]
    assert driver.read(ZALGEBRA, 0, UNION, [b"x"], zero, 0, 1, None) == [[b"a", 0.0]]
    for operation in (UNION, INTER):
        assert driver.read(ZALGEBRA, 0, operation, [b"x", b"y"], [], 0, 1, None) == [[b"a", 0.0]]


def test_a_refusal_comes_after_a_key_of_another_kind(driver: Driver) -> None:
    driver.do(SET, 0, b"s", b"v")
    add(driver, b"k", {b"a": 1.0})
    for key, said in ((b"s", messages.WRONG_TYPE), (b"k", "ERR no"), (b"none", "ERR no")):
        assert text(driver.read(ZALGEBRA, 0, UNION, [key], [], 0, 0, b"ERR no")) == said
        assert text(driver.do(ZALGEBRASTORE, 0, UNION, b"k", [key], [], 0, b"ERR no")) == said
        assert text(driver.read(ZINTERCARD, 0, [key], 0, b"ERR no")) == said
    assert text(driver.read(ZSCAN, 0, b"s", 0, None, 0)) == messages.WRONG_TYPE
    assert text(driver.read(ZSCAN, 0, b"k", 0, None, 0)) == messages.SYNTAX
    assert driver.read(ZSCAN, 0, b"none", 0, None, 0) == [b"0", []]


@pytest.mark.parametrize("op", [
    [ZADD, 0, b"s", 0, pack_score(1.0), b"a"], [ZREM, 0, b"s", b"a"], [ZSCORE, 0, b"s", b"a"],
    [ZMSCORE, 0, b"s", b"a"], [ZCARD, 0, b"s"], [ZRANK, 0, b"s", b"a", 0], [ZPOP, 0, b"s", 0, 0],
    [ZRANGE, 0, b"s", RANK, 0, -1, 0, 0, -1], [ZREMRANGE, 0, b"s", RANK, 0, -1],
    [ZRANGESTORE, 0, b"t", b"s", RANK, 0, -1, 0, 0, -1], [ZMPOP, 0, 0, 1, b"none", b"s"],
    [ZCOUNT, 0, b"s", LEX, b"-", b"+"], [ZRANDMEMBER, 0, b"s", 1, None, 0],
])  # fmt: skip
def test_another_kind_of_value_is_refused(driver: Driver, op: list[object]) -> None:
    driver.do(SET, 0, b"s", b"v")
    answer = driver.do(*op) if ops.is_write(op) else driver.read(*op)
    assert text(answer) == messages.WRONG_TYPE
    assert driver.read(GET, 0, b"s") == b"v"


def test_random_members_are_distinct_and_any_of_them(driver: Driver) -> None:
    names = {b"%d" % number: float(number) for number in range(100)}
    add(driver, b"k", names)
    for count in (1, 2, 5, 50, 99, 100, 1000):
        drawn = driver.read(ZRANDMEMBER, 0, b"k", 7, count, 0)
        assert isinstance(drawn, list)
        assert len(drawn) == len({*drawn}) == min(count, 100)  # type: ignore[misc]
        assert {*drawn} <= names.keys()  # type: ignore[misc]
    repeated = driver.read(ZRANDMEMBER, 0, b"k", 7, -500, 1)
    assert isinstance(repeated, list)
    assert len(repeated) == 500
    singles = {driver.read(ZRANDMEMBER, 0, b"k", seed, None, 0) for seed in range(2000)}  # type: ignore[misc]
    assert singles == names.keys()
    assert driver.read(ZRANDMEMBER, 0, b"none", 7, None, 0) is None
    assert driver.read(ZRANDMEMBER, 0, b"none", 7, 5, 0) == []


def test_the_rows_survive_a_crash(driver: Driver) -> None:
    add(driver, b"k", {b"m%d" % number: float(number) for number in range(100)})
    driver.machine.commit()
    driver.do(ZPOP, 0, b"k", 0, 50)
    add(driver, b"k", {b"n": 7.0})
    before = driver.machine.state_hash()
    driver.crash()
    assert driver.machine.state_hash() == before
    assert driver.read(ZCARD, 0, b"k") == 51
    driver.check()


@pytest.mark.parametrize(
    ("given", "score", "as_bound"),
    [
        (b"1", 1.0, 1.0),
        (b"-.5e1", -5.0, -5.0),
        (b"0x1p4", 16.0, 16.0),
        (b"+inf", math.inf, math.inf),
        (b"-Infinity", -math.inf, -math.inf),
        (b"4.9e-324", 5e-324, 5e-324),
        (b"0e999", 0.0, 0.0),
        (b"1e999", None, math.inf),
        (b"-0x1p9999", None, -math.inf),
        (b"1e-999", None, 0.0),
        (b"0x1p-9999", None, 0.0),
        (b"", None, 0.0),
        (b" 1", None, 1.0),
        (b"1\x002", None, 1.0),
        (b"1 ", None, None),
        (b"nan", None, None),
        (b"1_0", None, None),
        (b"0x", None, None),
        (b".", None, None),
        (b"infinit", None, None),
        (b" ", None, None),
    ],
)
def test_a_text_is_the_number_that_it_is_to_redis(
    given: bytes, score: float | None, as_bound: float | None
) -> None:
    assert parse_score(given) == score
    assert parse_bound(given) == as_bound


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (1e17, b"100000000000000000"),
        (1e20, b"1e+20"),
        (0.1, b"0.10000000000000001"),
        (-0.0, b"0"),
        (math.inf, b"inf"),
        (-1.5, b"-1.5"),
    ],
)
def test_zscan_shows_integers_without_an_exponent(score: float, expected: bytes) -> None:
    assert score_text(score) == expected
