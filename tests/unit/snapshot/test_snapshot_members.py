"""Who takes part travels in a snapshot, and is shown by name."""

from __future__ import annotations

import pytest

from kvnode.errors import ConfigurationError, ExitCode
from kvnode.snapshot.catalog import file_name
from kvnode.snapshot.reader import load, read_meta, verify
from kvnode.store import batch, ops
from kvnode.store.changes import Add, Change, Found, Founder, LeaveJoint, Raise, Replace
from kvnode.store.keyspace import FORMAT, FORMAT_WITH_MEMBERS
from kvnode.store.memory_engine import MemoryEngine
from tests.support.disk import MemoryDisk
from tests.unit.snapshot.conftest import Engines
from tests.unit.snapshot.states import SNAP, filled, take
from tests.unit.store.driver import HASH_KEY, NODE, STORAGE, Driver

NEWER = ops.LEVEL + 1
REFUSAL = rf"level {NEWER}, .* up to {ops.LEVEL}: use the newer"
FOUND = Found(
    3, (Founder(NODE, "a", "a:7379", "a:6379", STORAGE), Founder(8, "b", "b:7379"), Founder(9, "c"))
)
JOINT = (FOUND, Add(10, "d", "d:7379"), Add(11, "e", promote=False), Replace(8, 10))


def changed(driver: Driver, *changes: Change) -> Driver:
    for change in changes:
        driver.append(batch.encode_configure(driver.now_ms, 0, change))
    driver.machine.commit()
    return driver


@pytest.mark.parametrize("changes", [(FOUND,), JOINT, (*JOINT, LeaveJoint())])
def test_a_loaded_state_has_the_members_of_the_original(
    engines: Engines, changes: tuple[Change, ...]
) -> None:
    driver, disk = changed(filled(engines()), *changes), MemoryDisk()
    meta = take(driver.engine, fs=disk)
    machine = load(SNAP / file_name(meta.index, meta.term), engines(), hash_key=HASH_KEY, fs=disk)
    assert machine.members is not None
    assert driver.machine.members is not None
    assert machine.members.pack() == driver.machine.members.pack() == meta.members
    assert machine.state_hash() == driver.machine.state_hash() == machine.recomputed_hash()
    assert (machine.level, meta.level, meta.store_format) == (3, 3, FORMAT_WITH_MEMBERS)


def test_without_a_registry_a_snapshot_is_what_it_was_before_there_were_any(
    engines: Engines,
) -> None:
    disk = MemoryDisk()
    meta = take(filled(engines()).engine, fs=disk)
    assert (
        (meta.store_format, meta.level, meta.members)
        == (FORMAT, ops.BASE_LEVEL, b"")
        == (2, 2, b"")
    )
    assert meta.describe()["members"] == []


def test_members_are_shown_by_name_and_role() -> None:
    disk = MemoryDisk()
    meta = take(changed(Driver(MemoryEngine()), *JOINT).engine, fs=disk)
    shown = read_meta(SNAP / file_name(meta.index, meta.term), fs=disk).describe()
    assert shown["level"] == 3
    assert shown["members"] == [
        {
            "node_id": f"{node_id:016x}",
            "name": name,
            "role": role,
            "peer_address": address,
        }
        for node_id, name, role, address in (
            (NODE, "a", "voter", "a:7379"),
            (8, "b", "leaving", "b:7379"),
            (9, "c", "voter", ""),
            (10, "d", "voter", "d:7379"),
            (11, "e", "learner", ""),
        )
    ]


def test_a_snapshot_of_a_higher_level_is_refused_and_not_called_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    with monkeypatch.context() as newer:
        newer.setattr(ops, "LEVEL", NEWER)
        meta = take(changed(filled(MemoryEngine()), FOUND, Raise(NEWER)).engine, fs=disk)
        path = SNAP / file_name(meta.index, meta.term)
        assert verify(path, fs=disk).level == NEWER
    for read in (
        lambda: read_meta(path, fs=disk),
        lambda: verify(path, fs=disk),
        lambda: load(path, MemoryEngine(), hash_key=HASH_KEY, fs=disk),
    ):
        with pytest.raises(ConfigurationError, match=REFUSAL) as left:
            read()
        assert left.value.exit_code == ExitCode.WRONG_CONFIGURATION
