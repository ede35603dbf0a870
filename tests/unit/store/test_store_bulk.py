"""Large commands: their parts, what may happen between them, and what others see meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvnode.errors import CommandError
from kvnode.limits import (
    BULK_COMMANDS_MAX,
    BULK_RESTARTS_MAX,
    BULK_ROWS_AT_ONCE_MAX,
    BULK_ROWS_MAX,
    BULK_ROWS_PER_STEP_MAX,
    BULK_STALE_MS,
)
from kvnode.store import batch, ops
from kvnode.store import collection as collections
from kvnode.store.collection import Collection
from kvnode.store.engine import EngineFull
from kvnode.store.keyspace import HASH, TAG_COLLECTION, prefix_end
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.redis import table
from kvnode.store.reply import Result, Unfinished
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, NODE, STORAGE
from tests.unit.store.test_store_membership import founded

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from tests.unit.store.driver import Driver

FILL = 60
ROWS = BULK_ROWS_MAX + 1
STEPS = ROWS // BULK_ROWS_PER_STEP_MAX + 1


def fill(space: Keyspace, op: Op) -> Result:
    """FILL key, number of members, value."""
    opened = collections.open_(space, op[1], op[2], HASH)
    assert isinstance(opened, Collection)
    space.advance()
    for number in range(op[3]):
        member = b"%d" % number
        old = opened.member(member)
        opened.put_member(member, op[4], old)
        opened.count += old is None
    opened.save()
    return opened.count


@pytest.fixture(autouse=True)
def _ops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.WRITES, FILL, fill)


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """A machine with members, as jobs need them, and a large collection."""
    made = founded(engine)
    made.do(FILL, 0, b"h", ROWS, b"v")
    return made


def begin(driver: Driver, new_key: bytes = b"c", replace: int = 0) -> int:
    answer = driver.do(ops.COPY, 0, b"h", 0, new_key, replace)
    assert isinstance(answer, Unfinished)
    return answer.job


def finish(driver: Driver, job: int) -> Result:
    answer: Result = Unfinished(job)
    while isinstance(answer, Unfinished):
        answer = driver.do(ops.STEP, 0, job)
    return answer


def copied(driver: Driver, key: bytes = b"c") -> dict[bytes, bytes]:
    found = collections.find(driver.machine._space, 0, key, HASH)
    assert isinstance(found, Collection)
    return {member: value for _, member, value in found.members()}


def generations(driver: Driver) -> set[bytes]:
    while driver.machine.collect_garbage(1000):
        pass
    rows = driver.engine.keys(TAG_COLLECTION, prefix_end(TAG_COLLECTION))
    return {row[1:9] for row in rows}


def test_nobody_sees_the_result_before_it_is_complete(driver: Driver) -> None:
    job = begin(driver)
    for _ in range(STEPS - 1):
        assert isinstance(driver.do(ops.STEP, 0, job), Unfinished)
        assert driver.read(ops.EXISTS, 0, b"c") == 0
        driver.check()
    assert driver.do(ops.STEP, 0, job) == 1
    assert copied(driver) == dict.fromkeys((b"%d" % n for n in range(ROWS)), b"v")
    assert not driver.machine._space.jobs
    driver.check()


def test_a_source_that_changes_makes_it_begin_anew(driver: Driver) -> None:
    job = begin(driver)
    driver.do(ops.STEP, 0, job)
    driver.do(FILL, 0, b"h", 10, b"new")
    assert finish(driver, job) == 1
    assert copied(driver)[b"3"] == b"new"
    assert len(copied(driver)) == ROWS
    assert len(generations(driver)) == 2


def test_a_source_that_keeps_changing_ends_it_with_nothing_stored(driver: Driver) -> None:
    job = begin(driver)
    answers = []
    for number in range(BULK_RESTARTS_MAX + 1):
        driver.do(FILL, 0, b"h", 1, b"%d" % number)
        answers.append(driver.do(ops.STEP, 0, job))
    assert all(isinstance(answer, Unfinished) for answer in answers[:-1])
    assert isinstance(answers[-1], CommandError)
    assert answers[-1].text.startswith("BUSY")
    assert driver.read(ops.EXISTS, 0, b"c") == 0
    assert len(generations(driver)) == 1
    driver.check()


@pytest.mark.parametrize("drop", [[ops.DEL, 0, b"h"], [ops.FLUSHALL, 0], [ops.SWAPDB, 0, 0, 1]])
def test_a_source_that_goes_ends_it_as_if_it_had_come_later(driver: Driver, drop: Op) -> None:
    job = begin(driver)
    driver.do(ops.STEP, 0, job)
    driver.do(*drop)
    assert finish(driver, job) == 0
    assert driver.read(ops.EXISTS, 0, b"c") == 0
    driver.check()


def test_a_name_that_is_taken_meanwhile_is_left_alone(driver: Driver) -> None:
    job = begin(driver)
    driver.do(ops.SET, 0, b"c", b"mine")
    assert finish(driver, job) == 0
    assert driver.read(ops.GET, 0, b"c") == b"mine"
    assert len(generations(driver)) == 1


def test_what_held_the_name_is_replaced_at_the_end_only(driver: Driver) -> None:
    driver.do(FILL, 0, b"c", 100, b"old")
    job = begin(driver, replace=1)
    driver.do(ops.STEP, 0, job)
    assert copied(driver) == dict.fromkeys((b"%d" % n for n in range(100)), b"old")
    assert finish(driver, job) == 1
    assert len(copied(driver)) == ROWS
    assert len(generations(driver)) == 2
    driver.check()


def test_a_job_and_its_rows_survive_crashes_and_snapshots(driver: Driver) -> None:
    job = begin(driver)
    driver.do(ops.STEP, 0, job)
    driver.machine.commit()
    driver.do(ops.STEP, 0, job)
    driver.crash()
    driver.machine.commit()
    assert driver.machine.state_hash() == driver.machine.recomputed_hash()
    other = MemoryEngine()
    other.append([(b"\x00", driver.machine._meta()), *driver.machine.live_rows()])
    restored = StateMachine(other, hash_key=HASH_KEY)
    assert restored.state_hash() == driver.machine.state_hash()
    driver.crash(other)
    assert finish(driver, job) == 1
    assert len(copied(driver)) == ROWS
    driver.check()


def test_a_new_session_of_the_node_ends_its_jobs(driver: Driver) -> None:
    job = begin(driver)
    driver.do(ops.STEP, 0, job)
    driver.append(batch.encode_register(driver.now_ms, 0, NODE, STORAGE, 999))
    assert not driver.machine._space.jobs
    assert driver.machine._space.jobs.get(job) is None
    assert len(generations(driver)) == 1


def test_a_job_that_nobody_steps_is_dropped_when_another_begins(driver: Driver) -> None:
    first = begin(driver)
    driver.now_ms += BULK_STALE_MS + 1
    second = begin(driver, b"d")
    answer = driver.do(ops.STEP, 0, first)
    assert isinstance(answer, CommandError)
    assert answer.text.startswith("BUSY")
    assert finish(driver, second) == 1
    assert len(generations(driver)) == 2


def test_jobs_are_bounded(driver: Driver) -> None:
    for number in range(BULK_COMMANDS_MAX):
        begin(driver, b"c%d" % number)
    answer = driver.do(ops.COPY, 0, b"h", 0, b"d", 0)
    assert isinstance(answer, CommandError)
    assert answer.text.startswith("BUSY")


def test_inside_a_transaction_it_is_done_at_once_up_to_a_bound(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = [ops.COPY, 0, b"h", 0, b"c", 0]
    assert driver.do(ops.EXEC, 0, [], [copy, [ops.DEL, 0, b"h"]]) == [1, 1]
    assert len(copied(driver)) == ROWS
    assert BULK_ROWS_AT_ONCE_MAX > ROWS
    monkeypatch.setattr("kvnode.store.bulk.BULK_ROWS_AT_ONCE_MAX", ROWS - 1)
    refused = driver.do(ops.EXEC, 0, [], [[ops.COPY, 0, b"c", 0, b"d", 0]])
    assert isinstance(refused, list)
    assert isinstance(refused[0], CommandError)
    assert not driver.machine._space.is_atomic


def test_a_transaction_that_found_no_room_leaves_no_trace_in_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else this node alone would do the next large command at once, and diverge."""
    engine = MemoryEngine()
    driver = founded(engine)
    driver.do(FILL, 0, b"h", ROWS, b"v")
    driver.machine.commit()

    def no_room(_engine: MemoryEngine, _key: bytes, _value: bytes) -> None:
        raise EngineFull

    with monkeypatch.context() as full:
        full.setattr(MemoryEngine, "put", no_room)
        with pytest.raises(EngineFull):
            driver.do(ops.EXEC, 0, [], [[ops.SET, 0, b"k", b"v"]])
    driver.log.pop()
    driver.sequence -= 1
    begin(driver)
