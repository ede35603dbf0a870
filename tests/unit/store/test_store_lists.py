"""The list ops, as Redis 7.0 means them, against a plain Python list, and the rows beneath."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from kvnode.errors import CommandError
from kvnode.store import ops
from kvnode.store.collection import Collection, find
from kvnode.store.keyspace import LIST
from kvnode.store.ops import (
    DEL,
    EXPIRE,
    GET,
    LINDEX,
    LINSERT,
    LIST_POP,
    LIST_PUSH,
    LLEN,
    LMOVE,
    LMPOP,
    LPOS,
    LRANGE,
    LREM,
    LSET,
    LTRIM,
    TTL,
)
from kvnode.store.redis import list_labels, list_node, lists, messages
from kvnode.store.redis.list_rows import ENDS, LEFT, RIGHT, ListRows
from kvnode.store.reply import OK
from kvnode.store.spans import PART_ORDER, PART_SPANS, Spans

if TYPE_CHECKING:
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result
    from tests.unit.store.driver import Driver

KEYS = [b"", b"a", b"long" * 120]
TWO_63 = 2**63


def text(result: Result) -> str:
    assert isinstance(result, CommandError)
    return result.text


def push(driver: Driver, key: bytes, *elements: bytes) -> None:
    driver.do(LIST_PUSH, 0, key, RIGHT, 0, *elements)


def run(driver: Driver, op: Op) -> Result:
    """A write through the log, a read without."""
    return driver.do(*op) if ops.is_write(op) else driver.read(*op)


def whole(driver: Driver, key: bytes) -> Result:
    return driver.read(LRANGE, 0, key, 0, -1)


def opened(driver: Driver, key: bytes) -> Collection:
    collection = find(driver.machine._space, 0, key, LIST)
    assert isinstance(collection, Collection)
    return collection


def check_rows(driver: Driver, key: bytes) -> int:
    """What must hold of the rows of a list at any time; returns how many nodes are sealed."""
    collection = opened(driver, key)
    sealed = list(collection.rows(PART_ORDER, PART_SPANS))
    ends = [collection.get(part) for part in ENDS]
    counts = [0 if node is None else list_node.count_of(node) for node in ends]
    assert list(collection.extra) == counts
    assert collection.count == sum(counts) + sum(list_node.count_of(node) for _, node in sealed)
    spans = Spans(collection, list_node.count_of)
    before = 0
    for part, node in sealed:
        assert list_node.fits(list_node.unpack(node))
        assert spans.rank(part[1:]) == before
        assert spans.find(before) == (part[1:], 0)
        before += list_node.count_of(node)
    assert spans.find(before) is None
    for node in ends:
        assert node is None or len(node) <= list_node.END_BYTES_MAX or not node[0]
    return len(sealed)


class Model:
    """Lists as Python's."""

    def __init__(self) -> None:
        self.lists: dict[bytes, list[bytes]] = {}

    def apply(self, op: Op) -> Result:
        code, _, *arguments = op
        result: Result = MEANINGS[code](self, *arguments)
        self.lists = {key: value for key, value in self.lists.items() if value}
        return result

    def push(self, key: bytes, side: int, only_if_present: int, *elements: bytes) -> Result:
        if only_if_present and key not in self.lists:
            return 0
        stored = self.lists.setdefault(key, [])
        stored[:] = [*stored, *elements] if side else [*reversed(elements), *stored]
        return len(stored)

    def pop(self, key: bytes, side: int, count: int | None) -> Result:
        if key not in self.lists:
            return None if count is None else []
        stored = self.lists[key]
        taken = [stored.pop(-side) for _ in range(min(1 if count is None else count, len(stored)))]
        return taken[0] if count is None else [list[Any](taken)]

    def lset(self, key: bytes, index: int, element: bytes) -> Result:
        if key not in self.lists:
            return CommandError(messages.NO_SUCH_KEY)
        try:
            self.lists[key][index] = element
        except IndexError:
            return CommandError(messages.INDEX_OUT_OF_RANGE)
        return OK

    def linsert(self, key: bytes, after: int, pivot: bytes, element: bytes) -> Result:
        stored = self.lists.get(key, [])
        if pivot not in stored:
            return -1 if stored else 0
        stored.insert(stored.index(pivot) + after, element)
        return len(stored)

    def lrem(self, key: bytes, count: int, element: bytes) -> Result:
        stored = self.lists.get(key, [])
        places = [at for at, each in enumerate(stored) if each == element]
        gone = places[count:] if count < 0 else places[: count or None]
        for at in reversed(gone):
            del stored[at]
        return len(gone)

    def ltrim(self, key: bytes, first: int, last: int) -> Result:
        if key in self.lists:
            self.lists[key] = self.lrange(key, first, last)  # type: ignore[assignment]
        return OK

    def lmove(self, source: bytes, target: bytes, side: int, target_side: int) -> Result:
        if source not in self.lists:
            return None
        element = self.lists[source].pop(-side)
        self.push(target, target_side, 0, element)
        return element

    def lmpop(self, side: int, count: int, *keys: bytes) -> Result:
        for key in keys:
            if key in self.lists:
                return [key, self.pop(key, side, count)[0]]  # type: ignore[index]
        return None

    def llen(self, key: bytes) -> Result:
        return len(self.lists.get(key, []))

    def lindex(self, key: bytes, index: int) -> Result:
        stored = self.lists.get(key, [])
        return stored[index] if -len(stored) <= index < len(stored) else None

    def lrange(self, key: bytes, first: int, last: int) -> Result:
        stored = self.lists.get(key, [])
        start, stop = (at + len(stored) if at < 0 else at for at in (first, last))
        return [each for at, each in enumerate(stored) if start <= at <= stop]

    def lpos(self, key: bytes, element: bytes, rank: int, count: int | None, most: int) -> Result:
        places = list(enumerate(self.lists.get(key, [])))
        compared = (places[::-1] if rank < 0 else places)[: most or None]
        found: list[Result] = [at for at, each in compared if each == element][abs(rank) - 1 :]
        if count is None:
            return found[0] if found else None
        return found[: count or None]


MEANINGS: dict[int, Any] = {
    LIST_PUSH: Model.push,
    LIST_POP: Model.pop,
    LSET: Model.lset,
    LINSERT: Model.linsert,
    LREM: Model.lrem,
    LTRIM: Model.ltrim,
    LMOVE: Model.lmove,
    LMPOP: Model.lmpop,
    LLEN: Model.llen,
    LINDEX: Model.lindex,
    LRANGE: Model.lrange,
    LPOS: Model.lpos,
}


def some_element(rng: random.Random) -> bytes:
    """Mostly one of a few; now and then a large one, or one of its own."""
    dice = rng.random()
    if dice < 0.6:
        return b"%d" % rng.randrange(12)
    if dice < 0.9:
        return rng.randbytes(rng.choice([0, 1, 30, 64, 64, 200]))
    return bytes((rng.randrange(4),)) * rng.choice(
        [400, 600, list_node.ELEMENT_BYTES_MAX, list_node.ELEMENT_BYTES_MAX + 1, 3000, 9000]
    )


def some_op(rng: random.Random, length: int) -> Op:
    """An op on lists that have about `length` elements."""
    key, side = rng.choice(KEYS), rng.randrange(2)
    index = rng.randint(-length - 2, length + 2)
    count = rng.choice([1, 1, 2, 5, 40, 200])
    elements = [some_element(rng) for _ in range(rng.choice([1, 1, 1, 2, 7, 60, 200]))]
    element = elements[0]
    choices: list[tuple[float, list[Any]]] = [
        (6 if length < 900 else 0.1, [LIST_PUSH, 0, key, side, int(rng.random() < 0.1), *elements]),
        (2, [LIST_POP, 0, key, side, rng.choice([None, None, 0, count])]),
        (2, [LSET, 0, key, index, element]),
        (4, [LINSERT, 0, key, rng.randrange(2), some_element(rng), element]),
        (1, [LREM, 0, key, rng.choice([0, 1, -1, 2, -3, -TWO_63]), element]),
        (0.2, [LTRIM, 0, key, rng.randint(0, 9), -rng.randint(0, 9)]),
        (0.1, [LTRIM, 0, key, index, rng.randint(-length, length)]),
        (2, [LMOVE, 0, key, rng.choice(KEYS), side, rng.randrange(2)]),
        (1, [LMPOP, 0, side, count, *rng.choices(KEYS, k=2)]),
        (1, [LLEN, 0, key]),
        (2, [LINDEX, 0, key, index]),
        (2, [LRANGE, 0, key, index, rng.choice([-1, index + 5, rng.randint(-length, length)])]),
        (2, [LPOS, 0, key, element, rng.choice([1, 2, -1, -2]), rng.choice([None, 0, 2]),
             rng.choice([0, 0, 5, 100])]),
    ]  # fmt: skip
    weights = [weight for weight, _ in choices]
    return rng.choices([op for _, op in choices], weights)[0]


def plain(result: Result) -> object:
    return ("error", result.text) if isinstance(result, CommandError) else result


@pytest.mark.parametrize("large", [False, True])
def test_random_histories_answer_as_python_lists_do(driver: Driver, large: bool) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    model = Model()
    sealed_max = 0
    for step in range(1200):
        length = max(map(len, model.lists.values()), default=0)
        op = some_op(rng, length)
        if large and op[0] in (LTRIM, LREM) and rng.random() < 0.9:
            continue
        expected = plain(model.apply(op))
        assert plain(run(driver, op)) == expected, (step, op)
        if step % 20 == 0:
            for key in model.lists:
                sealed_max = max(sealed_max, check_rows(driver, key))
            assert driver.machine.state_hash() == driver.machine.recomputed_hash()
        if step % 300 == 0:
            driver.machine.commit()
        if step % 300 == 200:
            before = driver.machine.state_hash()
            driver.crash()
            assert driver.machine.state_hash() == before
    for key in KEYS:
        assert whole(driver, key) == model.lists.get(key, [])
    assert sealed_max > 5
    driver.check()


# --- ends -----------------------------------------------------------------------------------------


def test_elements_are_pushed_one_after_the_other(driver: Driver) -> None:
    assert driver.do(LIST_PUSH, 0, b"k", LEFT, 0, b"1", b"2", b"3") == 3
    assert driver.do(LIST_PUSH, 0, b"k", RIGHT, 0, b"4", b"5") == 5
    assert whole(driver, b"k") == [b"3", b"2", b"1", b"4", b"5"]
    driver.check()


def test_a_list_goes_away_with_its_last_element(driver: Driver) -> None:
    for op in (
        [LIST_POP, 0, b"k", LEFT, None],
        [LIST_POP, 0, b"k", RIGHT, 5],
        [LREM, 0, b"k", 0, b"x"],
        [LTRIM, 0, b"k", 1, 0],
        [LTRIM, 0, b"k", 5, 9],
        [LMPOP, 0, LEFT, 3, b"k"],
        [LMOVE, 0, b"k", b"other", LEFT, LEFT],
    ):
        push(driver, b"k", b"x")
        driver.do(*op)
        assert driver.read(ops.EXISTS, 0, b"k") == 0, op
        driver.check()
    driver.do(DEL, 0, b"other")
    assert driver.machine.keyspace() == {}
    while driver.machine.collect_garbage(100):
        pass
    assert list(driver.engine.keys(b"\x02", b"\xff")) == []


def test_pushing_only_to_a_list_that_is_there_makes_none(driver: Driver) -> None:
    before = driver.machine.revision
    assert driver.do(LIST_PUSH, 0, b"k", LEFT, 1, b"x") == 0
    assert driver.machine.revision == before
    push(driver, b"k", b"a")
    assert driver.do(LIST_PUSH, 0, b"k", LEFT, 1, b"x", b"y") == 3


def test_a_count_of_pops_that_is_larger_than_the_list_takes_it_all(driver: Driver) -> None:
    push(driver, b"k", *(b"%d" % number for number in range(1000)))
    taken = driver.do(LIST_POP, 0, b"k", RIGHT, 2**63 - 1)
    assert taken == [[b"%d" % number for number in reversed(range(1000))]]
    assert driver.do(LIST_POP, 0, b"k", RIGHT, 1) == []
    assert driver.do(LIST_POP, 0, b"k", RIGHT, None) is None


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_more_than_a_reply_may_hold_is_not_popped(
    driver: Driver, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of large elements nor of very many, whose reply is mostly what stands around them."""
    monkeypatch.setattr(lists, "POPPED_BYTES_MAX", 100_000)
    for elements, fit in (([b"x" * 25_000] * 5, 3), ([b""] * 7000, 6250)):
        driver.do(DEL, 0, b"k")
        push(driver, b"k", *elements)
        before = driver.machine.revision
        assert text(driver.do(LIST_POP, 0, b"k", side, len(elements))) == messages.POPS_TOO_MUCH
        assert text(driver.do(LMPOP, 0, side, 10**9, b"k")) == messages.POPS_TOO_MUCH
        assert driver.machine.revision == before
        assert driver.read(LLEN, 0, b"k") == len(elements)
        assert driver.do(LIST_POP, 0, b"k", side, fit) == [elements[:fit]]


def test_a_pop_of_nothing_changes_nothing(driver: Driver) -> None:
    push(driver, b"k", b"a")
    before = driver.machine.state_hash(), driver.machine.revision
    assert driver.machine.read([LLEN, 0, b"k"]) == 1
    assert driver.do(LIST_POP, 0, b"k", LEFT, 0) == [[]]
    assert driver.machine.revision == before[1]


def test_a_move_within_a_list_turns_it_around(driver: Driver) -> None:
    push(driver, b"k", b"1", b"2", b"3")
    assert driver.do(LMOVE, 0, b"k", b"k", RIGHT, LEFT) == b"3"
    assert whole(driver, b"k") == [b"3", b"1", b"2"]
    assert driver.do(LTRIM, 0, b"k", 0, 0) is OK
    assert driver.do(LMOVE, 0, b"k", b"k", RIGHT, LEFT) == b"3"
    assert whole(driver, b"k") == [b"3"]
    driver.check()


def test_a_move_keeps_the_deadline_of_either_list(driver: Driver) -> None:
    push(driver, b"a", b"1", b"2")
    push(driver, b"b", b"3")
    driver.do(EXPIRE, 0, b"a", 0, 100, 0)
    driver.do(EXPIRE, 0, b"b", 0, 200, 0)
    driver.do(LMOVE, 0, b"a", b"b", LEFT, LEFT)
    assert [driver.read(TTL, 0, key, 1) for key in (b"a", b"b")] == [100, 200]


def test_a_list_that_has_expired_is_absent_and_pushed_anew(driver: Driver) -> None:
    push(driver, b"k", *[b"x" * 100] * 50)
    driver.do(EXPIRE, 0, b"k", 0, 10, 0)
    driver.now_ms += 10
    driver.tick()
    assert driver.read(LLEN, 0, b"k") == 0
    assert driver.do(LIST_PUSH, 0, b"k", LEFT, 1, b"y") == 0
    assert driver.do(LIST_PUSH, 0, b"k", LEFT, 0, b"y") == 1
    assert whole(driver, b"k") == [b"y"]
    assert driver.read(TTL, 0, b"k", 1) == -1
    driver.check()


# --- errors ---------------------------------------------------------------------------------------

ON_ONE_KEY: list[Op] = [
    [LIST_PUSH, 0, b"k", LEFT, 0, b"x"],
    [LIST_PUSH, 0, b"k", LEFT, 1, b"x"],
    [LIST_POP, 0, b"k", LEFT, None],
    [LIST_POP, 0, b"k", LEFT, 0],
    [LSET, 0, b"k", None, b"x"],
    [LINSERT, 0, b"k", 0, b"x", b"y"],
    [LREM, 0, b"k", 0, b"x"],
    [LTRIM, 0, b"k", 0, -1],
    [LMOVE, 0, b"k", b"list", LEFT, LEFT],
    [LMOVE, 0, b"list", b"k", LEFT, LEFT],
    [LMPOP, 0, LEFT, 1, b"none", b"k", b"list"],
    [LLEN, 0, b"k"],
    [LINDEX, 0, b"k", None],
    [LRANGE, 0, b"k", 0, -1],
    [LPOS, 0, b"k", b"x", 1, None, 0],
]


@pytest.mark.parametrize("op", ON_ONE_KEY, ids=str)
def test_a_key_of_another_kind_is_refused_and_nothing_is_changed(driver: Driver, op: Op) -> None:
    driver.do(ops.SET, 0, b"k", b"v")
    push(driver, b"list", b"1")
    before = driver.machine.revision
    assert text(run(driver, op)) == messages.WRONG_TYPE
    assert driver.machine.revision == before
    assert driver.read(GET, 0, b"k") == b"v"
    assert whole(driver, b"list") == [b"1"]
    driver.check()


def test_lmpop_takes_the_first_list_before_it_meets_another_kind(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"k", b"v")
    push(driver, b"list", b"1", b"2", b"3")
    assert driver.do(LMPOP, 0, RIGHT, 2, b"none", b"list", b"k") == [b"list", [b"3", b"2"]]
    assert driver.do(LMPOP, 0, RIGHT, 2, b"none") is None


def test_a_bad_index_is_seen_only_on_a_list_that_is_there(driver: Driver) -> None:
    assert driver.read(LINDEX, 0, b"k", None) is None
    assert text(driver.do(LSET, 0, b"k", None, b"x")) == messages.NO_SUCH_KEY
    push(driver, b"k", b"a")
    assert text(driver.read(LINDEX, 0, b"k", None)) == messages.NOT_AN_INTEGER
    assert text(driver.do(LSET, 0, b"k", None, b"x")) == messages.NOT_AN_INTEGER
    for index in (1, -2, TWO_63 - 1, -TWO_63):
        assert driver.read(LINDEX, 0, b"k", index) is None
        assert text(driver.do(LSET, 0, b"k", index, b"x")) == messages.INDEX_OUT_OF_RANGE


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (0, -1, "abcde"),
        (0, 0, "a"),
        (-2, -1, "de"),
        (-100, 1, "ab"),
        (3, 100, "de"),
        (3, 2, ""),
        (-1, -2, ""),
        (5, 9, ""),
        (-100, -6, ""),
        (-TWO_63, TWO_63 - 1, "abcde"),
        (TWO_63 - 1, -TWO_63, ""),
    ],
)
def test_ranges_include_both_ends_and_count_from_either(
    driver: Driver, first: int, last: int, found: str
) -> None:
    push(driver, b"k", *(b"%c" % sign for sign in b"abcde"))
    expected = [sign.encode() for sign in found]
    assert driver.read(LRANGE, 0, b"k", first, last) == expected
    assert driver.do(LTRIM, 0, b"k", first, last) is OK
    assert whole(driver, b"k") == expected
    driver.check()


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_every_index_is_found(driver: Driver, side: int) -> None:
    elements = [b"%060d" % number for number in range(700)]
    driver.do(LIST_PUSH, 0, b"k", side, 0, *elements)
    driver.do(LIST_PUSH, 0, b"k", 1 - side, 0, b"edge")
    expected = [b"edge", *elements] if side else [*elements[::-1], b"edge"]
    assert check_rows(driver, b"k") > 30
    for index, element in enumerate(expected):
        assert driver.read(LINDEX, 0, b"k", index) == element
        assert driver.read(LINDEX, 0, b"k", index - len(expected)) == element
        assert driver.read(LRANGE, 0, b"k", index, index + 20) == expected[index : index + 21]


def test_a_trim_that_keeps_little_leaves_the_rest_to_the_garbage_collector(driver: Driver) -> None:
    push(driver, b"k", *[b"x" * 60] * 3000)
    before = opened(driver, b"k").generation
    driver.do(LTRIM, 0, b"k", 0, 1999)
    assert opened(driver, b"k").generation == before
    driver.do(LTRIM, 0, b"k", 5, 20)
    assert opened(driver, b"k").generation != before
    assert driver.machine.has_garbage


@pytest.mark.parametrize(("first", "last"), [(0, 19), (990, 1009), (1980, 1999), (5, 1990)])
def test_a_trim_leaves_only_what_it_should_of_a_long_list(
    driver: Driver, first: int, last: int
) -> None:
    elements = [b"%060d" % number for number in range(2000)]
    push(driver, b"k", *elements)
    driver.do(EXPIRE, 0, b"k", 0, 1000, 0)
    driver.do(LTRIM, 0, b"k", first, last)
    assert whole(driver, b"k") == elements[first : last + 1]
    assert driver.read(TTL, 0, b"k", 1) == 1000
    check_rows(driver, b"k")
    driver.check()
    while driver.machine.collect_garbage(100):
        pass
    assert whole(driver, b"k") == elements[first : last + 1]


# --- rows -----------------------------------------------------------------------------------------


def test_a_short_list_has_one_row_beside_its_record(driver: Driver) -> None:
    push(driver, b"k", *[b"x" * 60] * 20)
    rows = list(opened(driver, b"k").rows(b"\x00", b"\xff"))
    assert [part for part, _ in rows] == [ENDS[RIGHT]]


def test_turns_at_the_edge_of_an_end_do_not_seal_and_unseal_each_time(driver: Driver) -> None:
    element = b"x" * 64
    for side in (LEFT, RIGHT):
        driver.do(DEL, 0, b"k")
        while not check_rows(driver, b"k") if driver.read(LLEN, 0, b"k") else True:
            driver.do(LIST_PUSH, 0, b"k", side, 0, element)
        (sealed,) = opened(driver, b"k").rows(PART_ORDER, PART_SPANS)
        for _ in range(10):
            driver.do(LIST_POP, 0, b"k", side, None)
        for _ in range(10):
            driver.do(LIST_PUSH, 0, b"k", side, 0, element)
        assert list(opened(driver, b"k").rows(PART_ORDER, PART_SPANS)) == [sealed]


def test_large_elements_have_rows_of_their_own(driver: Driver) -> None:
    large = b"x" * 100_000
    for side in (LEFT, RIGHT):
        driver.do(LIST_PUSH, 0, b"k", side, 0, b"small", large, b"small", large)
    check_rows(driver, b"k")
    nodes = [value for _, value in opened(driver, b"k").rows(PART_ORDER, PART_SPANS)]
    nodes += [value for part in ENDS if (value := opened(driver, b"k").get(part))]
    assert all(len(node) < 1000 or node == b"\x00" + large for node in nodes)
    assert driver.read(LPOS, 0, b"k", large, 1, 0, 0) == [0, 2, 5, 7]
    assert driver.do(LSET, 0, b"k", 0, b"tiny") is OK
    assert driver.do(LREM, 0, b"k", 0, large) == 3
    assert whole(driver, b"k") == [b"tiny", b"small", b"small", b"small", b"small"]
    check_rows(driver, b"k")
    driver.check()


def test_nodes_that_became_small_are_joined(driver: Driver) -> None:
    push(driver, b"k", *(b"%060d" % (number % 15) for number in range(3000)))
    before = check_rows(driver, b"k")
    for number in range(1, 15):
        driver.do(LREM, 0, b"k", 0, b"%060d" % number)
    assert driver.read(LLEN, 0, b"k") == 200
    assert check_rows(driver, b"k") < before / 6
    assert whole(driver, b"k") == [b"%060d" % 0] * 200
    driver.check()


def test_insertions_before_one_pivot_find_room_for_ever(driver: Driver) -> None:
    """Each halves the same gap: labels run out, again and again."""
    push(driver, b"k", *(b"%060d" % number for number in range(200)), b"pivot", *[b"y" * 900] * 9)
    expected = whole(driver, b"k")
    assert isinstance(expected, list)
    at = expected.index(b"pivot")
    for number in range(600):
        element = b"%0700d" % number
        driver.do(LINSERT, 0, b"k", 0, b"pivot", element)
        expected.insert(at, element)
        at += 1
    assert whole(driver, b"k") == expected
    check_rows(driver, b"k")
    driver.check()


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_queue_whose_labels_reach_the_end_of_numbers_goes_on(driver: Driver, side: int) -> None:
    """As after 2^43 nodes: here the first node gets a label near the end."""
    edge = list_labels.LABELS - 3 if side else 2
    old_middle = list_labels.MIDDLE
    list_labels.MIDDLE = edge  # type: ignore[misc]
    try:
        elements = [b"%0700d" % number for number in range(100)]
        for element in elements:
            driver.do(LIST_PUSH, 0, b"k", side, 0, element)
    finally:
        list_labels.MIDDLE = old_middle  # type: ignore[misc]
    assert whole(driver, b"k") == (elements if side else elements[::-1])
    check_rows(driver, b"k")
    driver.check()


def test_spans_go_with_the_nodes(driver: Driver) -> None:
    push(driver, b"k", *(b"%060d" % number for number in range(5000)))
    collection = opened(driver, b"k")
    assert list(collection.rows(PART_SPANS, b"\x03"))
    rows = ListRows(collection)
    rows.drop(LEFT, 2500)
    rows.drop(RIGHT, 2490)
    assert list(collection.rows(PART_SPANS, b"\x03")) == []
    assert list(collection.rows(PART_ORDER, PART_SPANS)) == []
