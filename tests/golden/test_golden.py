"""Every golden directory opens with what was written into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kvnode.store import ops
from kvnode.store.state_machine import StateMachine
from tests.golden.__main__ import readings
from tests.support.nodes import Cluster, read

DIRECTORIES = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))


@pytest.mark.parametrize("golden", DIRECTORIES, ids=lambda path: path.name)
@pytest.mark.parametrize("with_snapshot", [True, False])
async def test_a_directory_of_every_format_version_opens_with_all_that_is_in_it(
    golden: Path, with_snapshot: bool, tmp_path: Path
) -> None:
    expected = json.loads((golden / "expected.json").read_text())
    shutil.copytree(golden / "data", tmp_path / "n1")
    if not with_snapshot:
        shutil.rmtree(tmp_path / "n1" / "snap")
    cluster = Cluster(tmp_path, 1)
    node = await cluster.start(1)
    try:
        await cluster.leader()
        assert node.applier.hash_at(expected["index"]) == (expected["index"], expected["hash"])
        if "members" in expected:
            check_members(node.machine, expected)
        for db, count in expected["keys"].items():
            assert await read(node, ops.DBSIZE, int(db)) == count
        if "readings" in expected:
            assert await readings(node) == expected["readings"]
        assert await read(node, ops.GET, 0, b"long" * 1_000) == b"a long key"
        assert await read(node, ops.GET, 1, b"counter") == b"42"
    finally:
        await cluster.stop(1)


def check_members(machine: StateMachine, expected: dict[str, Any]) -> None:
    """A later program may go on from there, such as by raising the level."""
    members = machine.members
    assert members is not None
    found = [[one.node_id, one.name, one.role.name] for one in members.by_id.values()]
    assert found == expected["members"]
    assert list(members.removed) == expected["removed"]
    assert machine.level >= expected["level"]


def test_there_is_a_golden_directory() -> None:
    assert DIRECTORIES
