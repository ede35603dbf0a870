"""Batches that share an entry: what they leave is what they would have left one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.limits import BULK_ROWS_MAX
from kvnode.store import batch, ops
from kvnode.store.batch import Batch, Group, Kind, MalformedEntry, Part
from kvnode.store.engine import EngineFull
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.ops import Resolution
from kvnode.store.reply import KEPT
from kvnode.store.sessions import Outcome
from tests.unit.store.driver import NODE, START_MS, Driver

if TYPE_CHECKING:
    from kvnode.store.ops import Op
    from kvnode.store.state_machine import Applied

LEFT = 0
NODES = (NODE, NODE + 1, NODE + 2)
SEED = 2**62 + 5


class Groups:
    """Three nodes with a session each; what they send goes into one entry, or into one each."""

    def __init__(self, *, grouped: bool) -> None:
        self.driver = Driver(MemoryEngine())
        self.grouped = grouped
        self.last = dict.fromkeys(NODES, 0)
        for node_id in NODES[1:]:
            self.driver.append(batch.encode_register(START_MS, 0, node_id, node_id, 1))

    def part(self, node_id: int, *operations: Op, step: int = 1) -> Part:
        """The next batch of a node."""
        self.last[node_id] += step
        incarnation = self.driver.machine.sessions()[node_id].incarnation
        return Part(node_id, incarnation, self.last[node_id], batch.encode_ops(list(operations)))

    def apply(self, *parts: Part) -> list[Applied]:
        """Both ways take as many entries, so that the states are at the same index."""
        driver = self.driver
        data = batch.encode_group(driver.now_ms, SEED, parts)
        if self.grouped:
            applied = driver.append(data)
            assert applied.kind == Kind.GROUP
            for _ in parts[1:]:
                driver.append(b"")
            return list(applied.parts)
        group = batch.decode(data)
        assert isinstance(group, Group)
        singles = zip(group.parts, parts, strict=True)
        return [
            driver.append(batch.encode_batch(driver.now_ms, one.seed, *part))
            for one, part in singles
        ]


def outcomes(applied: list[Applied]) -> list[Outcome]:
    return [one.outcome for one in applied]


def increment(key: bytes = b"n") -> Op:
    return [ops.INCRBY, 0, key, 1]


# --- the entry ------------------------------------------------------------------------------------

U63 = st.integers(0, 2**63 - 1)


@given(U63, U63, st.lists(st.builds(Part, U63, U63, U63, st.binary()), min_size=1, max_size=5))
def test_a_group_is_read_as_the_batches_that_it_was_made_of(
    stamp: int, seed: int, parts: list[Part]
) -> None:
    data = batch.encode_group(stamp, seed, parts)
    group = batch.decode(data)
    assert isinstance(group, Group)
    assert (group.stamp_ms, group.seed, batch.stamp_of(data)) == (stamp, seed, stamp)
    assert group.parts == [
        Batch(stamp, read.seed, *part) for read, part in zip(group.parts, parts, strict=True)
    ]


def test_the_seeds_of_parts_are_the_first_numbers_of_splitmix64() -> None:
    """Part of the format: every program must draw the same ones."""
    group = batch.decode(batch.encode_group(0, 1234567, [Part(1, 2, 3, b"\x90")] * 3))
    assert isinstance(group, Group)
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [part.seed for part in group.parts] == known


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [7],
        [[1, 2, 3]],
        [[1, 2, 3, b"\x90", 4]],
        [[1, 2, -3, b"\x90"]],
        [[1, 2, b"3", b"\x90"]],
        [[1, 2, 3, [1]]],
        [[1, 2, 3, b"\x90"], b""],
    ],
)
def test_other_parts_are_malformed(rows: list[Any]) -> None:
    with pytest.raises(MalformedEntry):
        batch.decode(msgpack.packb([5, 0, 0, *rows]))


def test_the_kind_and_its_level_are_for_ever() -> None:
    assert (Kind.GROUP, ops.GROUPS_LEVEL) == (5, 5)


# --- what it leaves -------------------------------------------------------------------------------

KEYS = st.sampled_from([b"a", b"b", b"c"])
OPS = st.one_of(
    st.builds(lambda key: [ops.INCRBY, 0, b"n" + key, 1], KEYS),
    st.builds(lambda key, more: [ops.SADD, 0, b"s" + key, *more], KEYS, st.lists(KEYS, min_size=1)),
    st.builds(lambda key: [ops.SPOP, 0, b"s" + key, 1], KEYS),
    st.builds(lambda key: [ops.DEL, 0, b"s" + key], KEYS),
    st.builds(lambda key, value: [ops.LIST_PUSH, 0, b"l" + key, 1, 0, value], KEYS, KEYS),
    st.builds(lambda key: [ops.BLOCK, 0, 0, [ops.LMPOP, 0, LEFT, 1, b"l" + key]], KEYS),
    st.just([ops.FLUSHDB, 0]),
)
STEPS = st.sampled_from([1, 1, 1, 1, 0, 2])
"""Of a session: the next batch, mostly; or one that is a duplicate, or comes too early."""


@given(st.lists(st.lists(st.tuples(st.sampled_from(NODES), STEPS, st.lists(OPS)), min_size=1)))
def test_a_group_leaves_what_its_batches_leave_one_by_one(
    groups: list[list[tuple[int, int, list[Op]]]],
) -> None:
    both = [Groups(grouped=True), Groups(grouped=False)]
    number = 0
    for rows in groups:
        numbered = []
        for node_id, step, operations in rows:
            filled = []
            for op in operations:
                number += 1
                filled.append([*op[:2], number, op[3]] if op[0] == ops.BLOCK else op)
            numbered.append((node_id, step, filled))
        answers = [
            [
                (one.outcome, one.results)
                for one in world.apply(
                    *[world.part(node, *filled, step=step) for node, step, filled in numbered]
                )
            ]
            for world in both
        ]
        assert answers[0] == answers[1]
        for world in both:  # what is refused leaves a hole in no session
            for node_id in NODES:
                session = world.driver.machine.session(node_id)
                assert session is not None
                world.last[node_id] = session.last
    grouped, single = (world.driver.machine for world in both)
    assert grouped.state_hash() == single.state_hash() == grouped.recomputed_hash()


def test_a_part_that_is_refused_leaves_the_others_alone() -> None:
    groups = Groups(grouped=True)
    groups.apply(groups.part(NODES[0], increment()))
    fenced = groups.part(NODES[2], increment())._replace(incarnation=1)
    applied = groups.apply(
        groups.part(NODES[0], increment(), step=0),
        fenced,
        groups.part(NODES[1], increment()),
        groups.part(NODES[0], increment(), step=2),
        groups.part(NODES[1], increment()),
    )
    assert outcomes(applied) == [
        Outcome.DUPLICATE,
        Outcome.FENCED,
        Outcome.APPLIED,
        Outcome.GAP,
        Outcome.APPLIED,
    ]
    assert [one.results for one in applied] == [None, None, [2], None, [3]]
    assert [one.node_id for one in applied] == [NODES[0], NODES[2], NODES[1], NODES[0], NODES[1]]


def test_batches_of_one_session_are_applied_once_each_in_their_order() -> None:
    groups = Groups(grouped=True)
    first, second = groups.part(NODE, increment()), groups.part(NODE, increment())
    assert outcomes(groups.apply(second, first, first)) == [
        Outcome.GAP,
        Outcome.APPLIED,
        Outcome.DUPLICATE,
    ]
    assert groups.driver.read(ops.GET, 0, b"n") == b"1"


def test_the_news_of_an_entry_is_that_of_all_its_parts() -> None:
    groups = Groups(grouped=True)
    groups.apply(
        groups.part(NODES[0], [ops.BLOCK, 0, 1, [ops.LMPOP, 0, LEFT, 1, b"q"]]),
        groups.part(NODES[1], [ops.BLOCK, 0, 9, [ops.LMPOP, 0, LEFT, 1, b"r"]]),
    )
    driver, push = groups.driver, ops.LIST_PUSH
    parts = [
        groups.part(NODES[2], [ops.BLOCK, 0, 4, [ops.LMPOP, 0, LEFT, 1, b"q"]]),
        groups.part(NODES[1], [push, 0, b"q", 1, 0, b"1"], [push, 0, b"r", 1, 0, b"2"]),
        groups.part(NODES[0], [push, 0, b"q", 1, 0, b"3"]),
    ]
    applied = driver.append(batch.encode_group(driver.now_ms, SEED, parts))
    assert applied.parts[0].results == [KEPT]
    assert applied.news is not None
    assert applied.news.served == [(NODES[0], 1), (NODES[1], 9), (NODES[2], 4)]
    assert all(part.news is None for part in applied.parts)
    claim = [ops.RESOLVE, 0, 4, int(Resolution.CLAIM)]
    assert groups.apply(groups.part(NODES[2], claim))[0].results == [[b"q", [b"3"]]]


def test_a_large_command_belongs_to_the_node_of_its_part() -> None:
    groups = Groups(grouped=True)
    members = [b"%d" % at for at in range(BULK_ROWS_MAX + 1)]
    groups.apply(groups.part(NODES[0], [ops.SADD, 0, b"s", *members]))
    applied = groups.apply(
        groups.part(NODES[0], increment()),
        groups.part(NODES[1], [ops.COPY, 0, b"s", 0, b"t", 0]),
        groups.part(NODES[2], increment()),
    )
    assert [one.is_unfinished for one in applied] == [False, True, False]
    assert [job.node_id for job in groups.driver.machine._space.jobs] == [NODES[1]]


class Narrow(MemoryEngine):
    """Refuses one key."""

    refuses = b""

    def put(self, key: bytes, value: bytes) -> None:
        if self.refuses and self.refuses in key:
            raise MemoryError("no room")
        super().put(key, value)

    def translate(self, error: Exception) -> EngineFull | None:
        return EngineFull("no room") if isinstance(error, MemoryError) else None


def test_an_engine_that_runs_full_within_a_group_takes_back_all_of_it() -> None:
    groups = Groups(grouped=True)
    engine = Narrow()
    driver = groups.driver = Driver(engine)
    driver.append(batch.encode_register(START_MS, 0, NODES[1], NODES[1], 1))
    driver.machine.commit()
    before = driver.machine.state_hash()
    parts = [groups.part(NODES[0], increment(b"one")), groups.part(NODES[1], increment(b"two"))]
    data = batch.encode_group(driver.now_ms, SEED, parts)
    engine.refuses = b"two"
    with pytest.raises(EngineFull):
        driver.machine.apply(3, data)
    assert (driver.machine.applied, driver.machine.state_hash()) == (2, before)
    engine.refuses = b""
    applied = driver.machine.apply(3, data)
    assert [part.results for part in applied.parts] == [[1], [1]]
