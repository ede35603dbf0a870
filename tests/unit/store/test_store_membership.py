"""Membership inside the state machine: sessions, state hash, meta row, and falling back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack
import pytest

from kvnode.errors import CommandError, ConfigurationError, ExitCode
from kvnode.store import batch, ops
from kvnode.store.batch import Kind
from kvnode.store.changes import (
    Add,
    Change,
    Force,
    Found,
    Founder,
    LeaveJoint,
    Promote,
    Raise,
    Remove,
    Replace,
    Update,
)
from kvnode.store.engine import EngineFull
from kvnode.store.keyspace import FORMAT, FORMAT_WITH_MEMBERS, TAG_META
from kvnode.store.memory_engine import MemoryEngine
from kvnode.store.sessions import Outcome
from kvnode.store.state_machine import StateMachine
from tests.unit.store.driver import HASH_KEY, NODE, NONCE, STORAGE, Driver

if TYPE_CHECKING:
    from kvnode.store.engine import Engine
    from kvnode.store.members import Members
    from kvnode.store.reply import Result

FOUND = Found(3, (Founder(NODE, "a", storage_id=STORAGE), Founder(8, "b"), Founder(9, "c")))


def configure(driver: Driver, change: Change) -> Result:
    """Change the membership; returns the entry's result."""
    applied = driver.append(batch.encode_configure(driver.now_ms, 0, change))
    assert (applied.kind, applied.node_id) == (Kind.CONFIGURE, 0)
    assert applied.results is not None
    (result,) = applied.results
    return result


def founded(engine: Engine, *changes: Change) -> Driver:
    """A driver over a cluster of `NODE`, 8 and 9, after changes that all fit."""
    driver = Driver(engine)
    for change in (FOUND, *changes):
        assert configure(driver, change) is None
    return driver


def members(driver: Driver) -> Members:
    held = driver.machine.members
    assert held is not None
    return held


def register(driver: Driver, node_id: int, storage_id: int, nonce: int = 1) -> tuple[Outcome, int]:
    data = batch.encode_register(driver.now_ms, 0, node_id, storage_id, nonce)
    applied = driver.append(data)
    return applied.outcome, applied.incarnation


def send(driver: Driver, node_id: int, incarnation: int, sequence: int = 1) -> Outcome:
    blob = batch.encode_ops([[ops.INCRBY, 0, b"n", 1]])
    data = batch.encode_batch(driver.now_ms, 0, node_id, incarnation, sequence, blob)
    return driver.append(data).outcome


# --- results ------------------------------------------------------------------------------------


def test_a_cluster_that_founded_nothing_has_no_members_and_the_base_level(driver: Driver) -> None:
    assert driver.machine.members is None
    assert driver.machine.level == ops.BASE_LEVEL


def test_founding_sets_members_and_level(engine: Engine) -> None:
    driver = founded(engine)
    assert members(driver).voters == (NODE, 8, 9)
    assert members(driver).index == len(driver.log)
    assert driver.machine.level == 3


def test_a_change_that_does_not_fit_answers_with_the_sentence(engine: Engine) -> None:
    driver = founded(engine)
    before = members(driver).pack()
    driver.now_ms += 5
    refusal = configure(driver, Promote(8))
    assert isinstance(refusal, CommandError)
    assert refusal.text == "ERR b (0000000000000008) is not a learner"
    assert members(driver).pack() == before
    assert driver.machine.stamp_ms == driver.now_ms
    refusal = configure(Driver(MemoryEngine()), Remove(8))
    assert isinstance(refusal, CommandError)
    assert "no registry" in refusal.text


# --- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [Raise(ops.LEVEL + 1), Found(ops.LEVEL + 1, FOUND.members)])
def test_a_level_that_this_program_does_not_know_stops_the_node_with_78(
    engine: Engine, change: Change
) -> None:
    driver = Driver(engine) if isinstance(change, Found) else founded(engine)
    driver.machine.commit()
    before = driver.machine.applied
    with pytest.raises(ConfigurationError, match="use the newer program") as raised:
        configure(driver, change)
    assert raised.value.exit_code == ExitCode.WRONG_CONFIGURATION
    assert driver.machine.applied == before
    assert driver.machine.level <= ops.LEVEL


def test_an_engine_of_a_higher_level_is_refused_and_goes_on_under_the_newer_program(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(ops, "LEVEL", ops.LEVEL + 1)
        driver = founded(engine, Raise(ops.LEVEL))
        driver.machine.commit()
    with pytest.raises(
        ConfigurationError, match=rf"level {ops.LEVEL + 1}, and this program .* up to {ops.LEVEL}"
    ):
        StateMachine(engine, hash_key=HASH_KEY)
    with monkeypatch.context() as newer:
        newer.setattr(ops, "LEVEL", ops.LEVEL + 1)
        assert StateMachine(engine, hash_key=HASH_KEY).level == ops.LEVEL


@pytest.mark.parametrize("form", [FORMAT - 1, FORMAT_WITH_MEMBERS + 1])
def test_an_engine_of_another_format_is_refused(engine: Engine, form: int) -> None:
    driver = founded(engine)
    driver.machine.commit()
    meta = msgpack.unpackb(engine.get(TAG_META))
    engine.put(TAG_META, msgpack.packb([form, *meta[1:]]))
    with pytest.raises(ConfigurationError, match="format"):
        StateMachine(engine, hash_key=HASH_KEY)


# --- sessions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        (Remove(8),),
        (Add(10, "d"), Replace(8, 10), LeaveJoint()),
        (Force(NODE, "c2"),),
    ],
)
def test_whoever_goes_loses_the_session_and_is_fenced(
    engine: Engine, changes: tuple[Change, ...]
) -> None:
    driver = founded(engine)
    outcome, incarnation = register(driver, 8, 80)
    assert outcome is Outcome.APPLIED
    for change in changes:
        assert send(driver, 8, incarnation, driver.sequence + 1) is Outcome.APPLIED
        driver.sequence += 1
        assert configure(driver, change) is None
    assert driver.machine.session(8) is None
    assert send(driver, 8, incarnation, driver.sequence + 1) is Outcome.FENCED
    assert register(driver, 8, 80, nonce=2) == (Outcome.FENCED, 0)
    assert driver.machine.session(NODE) is not None


def test_a_replaced_learner_loses_its_session_too(engine: Engine) -> None:
    driver = founded(engine, Add(10, "d"), Add(11, "d", replaces=10))
    register(driver, 10, 100)
    assert configure(driver, Replace(10, 11)) is None
    assert driver.machine.session(10) is None


def test_a_directory_bound_by_a_change_ends_the_session_of_another(engine: Engine) -> None:
    driver = Driver(engine)
    register(driver, 8, 80)
    register(driver, 55, 550)
    assert configure(driver, FOUND) is None
    assert sorted(driver.machine.sessions()) == [NODE, 8]
    assert configure(driver, Update(8, "", "", 81)) is None
    assert driver.machine.session(8) is None
    assert register(driver, 8, 80) == (Outcome.FENCED, 0)
    assert register(driver, 8, 81)[0] is Outcome.APPLIED


def test_a_stranger_cannot_register(engine: Engine) -> None:
    driver = founded(engine)
    assert register(driver, 77, 1) == (Outcome.FENCED, 0)
    assert driver.machine.session(77) is None


def test_the_first_registration_binds_the_directory_and_another_is_fenced(engine: Engine) -> None:
    driver = founded(engine)
    assert members(driver).by_id[8].storage_id == 0
    outcome, incarnation = register(driver, 8, 80)
    assert outcome is Outcome.APPLIED
    assert members(driver).by_id[8].storage_id == 80
    assert register(driver, 8, 81, nonce=2) == (Outcome.FENCED, incarnation)
    assert register(driver, 8, 80, nonce=2)[0] is Outcome.APPLIED


def test_a_directory_that_the_log_bound_is_the_only_one_that_may_register(engine: Engine) -> None:
    driver = founded(engine, Add(10, "d", storage_id=100), Update(9, "", "", 90))
    assert register(driver, 10, 101) == (Outcome.FENCED, 0)
    assert register(driver, 9, 91) == (Outcome.FENCED, 0)
    assert register(driver, 10, 100)[0] is Outcome.APPLIED
    assert register(driver, 9, 90)[0] is Outcome.APPLIED


def test_a_fenced_registration_binds_nothing(driver: Driver) -> None:
    found = Found(3, (Founder(NODE, "a"), Founder(8, "b")))
    assert configure(driver, found) is None
    assert register(driver, NODE, STORAGE + 1)[0] is Outcome.FENCED
    assert members(driver).by_id[NODE].storage_id == 0
    assert register(driver, NODE, STORAGE, NONCE)[0] is Outcome.DUPLICATE
    assert members(driver).by_id[NODE].storage_id == STORAGE


# --- the state hash and the meta row ------------------------------------------------------------


def test_without_a_registry_hash_and_meta_row_are_those_of_earlier_programs(
    driver: Driver,
) -> None:
    """Nodes of two versions must agree until the registry is founded, and the older be able to
    take the newer one's directory back."""
    driver.do(ops.SET, 0, b"k", b"v")
    driver.machine.commit()
    assert driver.machine.state_hash() == "59c35b6ef5b28336"
    meta = driver.engine.get(TAG_META)
    assert meta is not None
    form, *fields = msgpack.unpackb(meta)
    assert form == driver.machine.store_format == 2
    assert len(fields) == 8
    driver.do(ops.EXEC_WATCHED, 0, [], [])
    driver.machine.commit()
    form, *fields = msgpack.unpackb(driver.engine.get(TAG_META))
    assert form == 2
    assert [len(fields), len(fields[-1])] == [9, 4]


@pytest.mark.parametrize("watched", [False, True])
def test_a_registry_survives_commits_and_restarts(engine: Engine, watched: bool) -> None:
    driver = founded(engine, Add(10, "d"), Replace(8, 10))
    if watched:
        driver.do(ops.EXEC_WATCHED, 0, [], [])
    driver.machine.commit()
    meta = driver.engine.get(TAG_META)
    assert meta is not None
    assert msgpack.unpackb(meta)[0] == driver.machine.store_format == FORMAT_WITH_MEMBERS
    before, packed = driver.machine.state_hash(), members(driver).pack()
    driver.crash()
    assert driver.machine.state_hash() == before == driver.machine.recomputed_hash()
    assert members(driver).pack() == packed
    assert members(driver).outgoing == (NODE, 8, 9)
    assert configure(driver, LeaveJoint()) is None


def test_registry_and_bindings_are_part_of_the_state_hash(engine: Engine) -> None:
    driver = Driver(engine)
    hashes = {driver.machine.state_hash()}
    held = driver.machine._members
    for change in (FOUND, Update(8, "x", ""), Add(10, "d"), Promote(10), Remove(10), Raise(9)):
        assert held.apply(50, change) is None
        hashes.add(driver.machine.state_hash())
    held.bind(8, 80)
    hashes.add(driver.machine.state_hash())
    held.removed = ()
    held._packed = None
    hashes.add(driver.machine.state_hash())
    assert len(hashes) == 9


# --- falling back -------------------------------------------------------------------------------


def test_a_change_is_committed_before_anybody_acts_on_it(engine: Engine) -> None:
    driver = founded(engine)
    assert driver.machine.commit_due
    driver.machine.commit()
    assert not driver.machine.commit_due
    configure(driver, Add(10, "d"))
    driver.machine.commit()
    driver.engine.abort()
    assert StateMachine(driver.engine, hash_key=HASH_KEY).applied == len(driver.log)


def test_a_change_that_is_refused_is_not_taken_back_either(engine: Engine) -> None:
    """Raft has heard that it is over, and lets its leader propose the next one (seed 3317)."""
    driver = founded(engine)
    driver.machine.commit()
    assert not driver.machine.commit_due
    configure(driver, Promote(8))
    assert driver.machine.commit_due


def test_a_machine_that_falls_back_has_the_members_of_its_last_commit(engine: Engine) -> None:
    driver = founded(engine)
    register(driver, 8, 80)
    driver.machine.commit()
    before = driver.machine.state_hash()
    configure(driver, Remove(8))
    configure(driver, Add(10, "d"))
    register(driver, 9, 90)
    with pytest.raises(ops.UnknownOperation):
        driver.append(msgpack.packb([99]))
    assert driver.machine.state_hash() == before
    assert members(driver).voters == (NODE, 8, 9)
    assert members(driver).by_id[9].storage_id == 0
    assert driver.machine.session(8) is not None
    assert not driver.machine.commit_due


class FullAtCommit(MemoryEngine):
    """Takes every row, and has no room for the commit."""

    def commit(self) -> None:
        raise EngineFull("no room")


def test_a_full_engine_takes_a_change_back() -> None:
    driver = founded(FullAtCommit())
    with pytest.raises(EngineFull):
        driver.machine.commit()
    assert driver.machine.applied == 0
    assert driver.machine.members is None
    assert driver.machine.level == ops.BASE_LEVEL


def test_an_adopted_engine_brings_its_members(engine: Engine) -> None:
    driver = Driver(MemoryEngine())
    source = founded(engine, Remove(9))
    source.machine.commit()
    driver.machine.adopt(engine)
    assert members(driver).voters == (NODE, 8)
    assert driver.machine.state_hash() == source.machine.state_hash()
    empty = Driver(MemoryEngine())
    empty.machine.commit()
    driver.machine.adopt(empty.engine)
    assert driver.machine.members is None
