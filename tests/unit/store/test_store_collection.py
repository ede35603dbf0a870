"""Collections: records, rows, what happens to them when keys move, go, or are copied."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.store import batch, ops
from kvnode.store import collection as collections
from kvnode.store.collection import Collection
from kvnode.store.draws import Draws
from kvnode.store.export import RowsMissing
from kvnode.store.keyspace import HASH, SET, TAG_COLLECTION, TAG_GARBAGE, prefix_end
from kvnode.store.redis import table
from kvnode.store.scores import from_sortable, pack_score, sortable, unpack_score

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result
    from tests.unit.store.driver import Driver

PUT, TAKE, NUMBERS = 60, 61, 62
LONG = b"m" * 700


def put(space: Keyspace, op: Op) -> Result:
    opened = collections.open_(space, op[1], op[2], HASH)
    if isinstance(opened, CommandError):
        return opened
    space.advance()
    for position in range(3, len(op), 2):
        old = opened.member(op[position])
        opened.put_member(op[position], op[position + 1], old)
        opened.count += old is None
    opened.save()
    return opened.count


def take(space: Keyspace, op: Op) -> Result:
    opened = collections.open_(space, op[1], op[2], HASH)
    assert isinstance(opened, Collection)
    space.advance()
    for member in op[3:]:
        old = opened.member(member)
        assert old is not None
        opened.delete_member(member, old)
        opened.count -= 1
    opened.save()
    return opened.count


def numbers(space: Keyspace, _op: Op) -> Result:
    return [space.draws.below(1000), space.draws.below(1000)]


@pytest.fixture(autouse=True)
def _ops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops of this test alone."""
    for code, meaning in ((PUT, put), (TAKE, take), (NUMBERS, numbers)):
        monkeypatch.setitem(table.WRITES, code, meaning)


def held(driver: Driver, key: bytes, number: int = 0) -> dict[bytes, bytes]:
    found = collections.find(driver.machine._space, number, key, HASH)
    if found is None:
        return {}
    assert isinstance(found, Collection)
    members = {member: value for _, member, value in found.members()}
    assert found.count == len(members)
    return members


def rows(driver: Driver, tag: bytes) -> list[bytes]:
    return list(driver.engine.keys(tag, prefix_end(tag)))


def test_members_of_any_length_are_kept_and_found(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"", b"empty", LONG, b"long", LONG + b"!", b"longer", b"a", b"")
    assert held(driver, b"h") == {b"": b"empty", LONG: b"long", LONG + b"!": b"longer", b"a": b""}
    driver.do(PUT, 0, b"h", LONG, b"changed")
    found = collections.find(driver.machine._space, 0, b"h", HASH)
    assert isinstance(found, Collection)
    assert found.member(LONG) == b"changed"
    driver.check()
    driver.do(TAKE, 0, b"h", LONG, b"")
    assert held(driver, b"h") == {LONG + b"!": b"longer", b"a": b""}
    driver.check()


def test_a_walk_from_any_hash_meets_every_member_behind_it_once(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", *[part for n in range(50) for part in (b"%d" % n, b"")])
    found = collections.find(driver.machine._space, 0, b"h", HASH)
    assert isinstance(found, Collection)
    order = [hashed for hashed, _, _ in found.members()]
    assert order == sorted(order)
    for start in (0, order[7], order[7] + 1, order[-1] + 1, 2**64 - 1):
        found_there = [hashed for hashed, _, _ in found.members(start)]
        assert found_there == [one for one in order if one >= start]


def test_a_collection_without_elements_is_no_key(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"a", b"1")
    driver.do(TAKE, 0, b"h", b"a")
    assert driver.read(ops.EXISTS, 0, b"h") == 0
    assert driver.machine.data_bytes == 0
    driver.check()


def test_another_kind_is_refused_and_nothing_changes(driver: Driver) -> None:
    driver.do(ops.SET, 0, b"s", b"1")
    before = driver.machine.revision
    assert isinstance(driver.do(PUT, 0, b"s", b"a", b"1"), CommandError)
    driver.do(PUT, 0, b"h", b"a", b"1")
    space = driver.machine._space
    assert isinstance(collections.find(space, 0, b"h", SET), CommandError)
    assert isinstance(driver.do(ops.APPEND, 0, b"h", b"x"), CommandError)
    assert isinstance(driver.read(ops.GET, 0, b"h"), CommandError)
    assert driver.machine.revision == before + 1


def test_data_bytes_count_elements_and_come_back(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"a", b"1" * 1000)
    assert driver.machine.data_bytes > 1000
    driver.do(PUT, 0, b"h", b"a", b"")
    assert driver.machine.data_bytes < 200
    driver.do(PUT, 0, b"h", b"b", b"1" * 1000)
    driver.do(ops.SET, 0, b"h", b"x")
    assert driver.machine.data_bytes < 100
    driver.check()


@pytest.mark.parametrize(
    "drop",
    [
        [ops.DEL, 0, b"h"],
        [ops.SET, 0, b"h", b"1"],
        [ops.RENAME, 0, b"other", b"h", 0],
        [ops.COPY, 0, b"other", 0, b"h", 1],
        [ops.FLUSHDB, 0],
        [ops.EXPIRE, 0, b"h", 1, 1, 0],
    ],
    ids=["DEL", "SET", "RENAME", "COPY", "FLUSHDB", "EXPIRE"],
)
def test_a_dropped_collection_is_one_row_until_its_garbage_is_collected(
    driver: Driver, drop: Op
) -> None:
    driver.do(PUT, 0, b"h", *[part for n in range(100) for part in (b"%d" % n, b"v")])
    driver.do(ops.SET, 0, b"other", b"1")
    generation = rows(driver, TAG_COLLECTION)[0][1:9]
    driver.do(*drop)
    assert len(rows(driver, TAG_COLLECTION + generation)) == 100
    assert list(driver.machine.live_rows()) == [
        row for row in driver.machine.live_rows() if row[0][1:9] != generation
    ]
    before = driver.machine.state_hash()
    while collected := driver.machine.collect_garbage(7):
        assert collected <= 7
    assert not rows(driver, TAG_COLLECTION + generation)
    assert not rows(driver, TAG_GARBAGE)
    assert driver.machine.state_hash() == before
    driver.check()


def test_a_small_collection_goes_with_its_key_and_leaves_no_garbage(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", *[part for n in range(64) for part in (b"%d" % n, b"v")])
    driver.do(ops.DEL, 0, b"h")
    driver.do(PUT, 0, b"h", b"a", b"1")
    driver.do(TAKE, 0, b"h", b"a")
    assert not rows(driver, TAG_COLLECTION)
    assert not rows(driver, TAG_GARBAGE)
    driver.check()


def test_renamed_and_moved_collections_keep_their_rows(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"a", b"1")
    before = rows(driver, TAG_COLLECTION)
    driver.do(ops.RENAME, 0, b"h", b"i", 0)
    driver.do(ops.MOVE, 0, b"i", 3)
    assert held(driver, b"i", 3) == {b"a": b"1"}
    assert rows(driver, TAG_COLLECTION) == before
    assert not rows(driver, TAG_GARBAGE)
    driver.do(ops.FLUSHDB, 0)
    driver.do(ops.SWAPDB, 0, 0, 3)
    assert held(driver, b"i") == {b"a": b"1"}
    driver.check()


def test_a_copy_and_its_source_go_separate_ways(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", *[part for n in range(900) for part in (b"%d" % n, b"v")])
    driver.do(ops.COPY, 0, b"h", 1, b"c", 0)
    driver.do(PUT, 0, b"h", b"1", b"changed")
    assert held(driver, b"c", 1) == {b"%d" % n: b"v" for n in range(900)}
    driver.do(ops.DEL, 0, b"h")
    while driver.machine.collect_garbage(1000):
        pass
    assert len(held(driver, b"c", 1)) == 900
    driver.check()


def test_a_collection_expires_as_a_whole(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"a", b"1")
    driver.do(ops.EXPIRE, 0, b"h", 0, 10, 0)
    driver.do(PUT, 0, b"h", b"b", b"2")
    assert driver.read(ops.TTL, 0, b"h", 1) == 10
    driver.now_ms += 10
    driver.tick()
    assert held(driver, b"h") == {}
    driver.do(PUT, 0, b"h", b"c", b"3")
    assert held(driver, b"h") == {b"c": b"3"}
    assert driver.read(ops.TTL, 0, b"h", 1) == -1
    driver.check()


def test_a_snapshot_has_the_rows_of_live_collections_and_misses_none(driver: Driver) -> None:
    driver.do(PUT, 0, b"h", b"a", b"1", b"b", b"2")
    driver.do(PUT, 1, b"i", b"c", b"3")
    exported = [key for key, _ in driver.machine.live_rows()]
    assert exported == sorted(exported)
    lost = next(key for key in exported if key[:1] == TAG_COLLECTION)
    driver.engine.delete(lost)
    with pytest.raises(RowsMissing):
        list(driver.machine.live_rows())
    assert driver.machine.recomputed_hash() != driver.machine.state_hash()


def test_the_history_of_a_collection_is_the_same_after_a_crash(driver: Driver) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    model: dict[bytes, dict[bytes, bytes]] = {}
    for step in range(300):
        key, member = b"%d" % rng.randrange(3), b"%d" % rng.randrange(30)
        fields = model.setdefault(key, {})
        if member in fields and rng.random() < 0.5:
            driver.do(TAKE, 0, key, member)
            del fields[member]
        elif rng.random() < 0.05:
            driver.do(ops.DEL, 0, key)
            fields.clear()
        else:
            fields[member] = b"%d" % step
            driver.do(PUT, 0, key, member, fields[member])
        if rng.random() < 0.05:
            driver.machine.commit()
            driver.machine.collect_garbage(rng.randrange(1, 10))
        if rng.random() < 0.05:
            driver.crash()
    for key, fields in model.items():
        assert held(driver, key) == fields
    driver.check()


def test_draws_depend_on_the_seed_of_the_batch_alone(driver: Driver) -> None:
    def drawn(seed: int) -> Result:
        driver.sequence += 1
        blob = batch.encode_ops([[NUMBERS]])
        entry = batch.encode_batch(driver.now_ms, seed, 7, 1, driver.sequence, blob)
        results = driver.append(entry).results
        assert results is not None
        return results[0]

    assert drawn(5) == drawn(5) != drawn(6)


def test_draws_are_those_of_splitmix64_and_stay_below_their_bound() -> None:
    draws = Draws(1234567)
    assert [draws.u64() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}


def test_the_bytes_of_scores_are_ordered_as_the_scores() -> None:
    scores = [float("-inf"), -1e300, -2.5, -1.0, -5e-324, 0.0, 5e-324, 1.0, 3.0, 1e300]
    assert [sortable(one) for one in scores] == sorted(sortable(one) for one in scores)
    assert [from_sortable(sortable(one)) for one in scores] == scores
    assert sortable(-0.0) == sortable(0.0)
    assert str(unpack_score(pack_score(-0.0))) == "-0.0"
    with pytest.raises(ValueError, match="NaN"):
        sortable(float("nan"))
