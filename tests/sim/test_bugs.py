"""Planted bugs: each still has its target, some are found here, and none stays behind."""

from __future__ import annotations

import pytest

from tests.sim.bugs import BUGS, Bug, Edit, TargetMoved
from tests.sim.hunt import hunt
from tests.sim.run import Run, Setting

NAMES = [bug.name for bug in BUGS]
QUICK = ["applied-before-own-sync", "duplicate-applied", "read-before-apply", "vote-not-kept"]
"""Found by nearly every seed."""


def test_there_are_enough_of_them_and_each_has_its_name() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 20


@pytest.mark.parametrize("bug", BUGS, ids=NAMES)
def test_a_bug_is_planted_and_removed(bug: Bug) -> None:
    functions = [edit.function for edit in bug.edits]
    before = [function.__code__ for function in functions]
    with bug.planted():
        assert all(f.__code__ is not code for f, code in zip(functions, before, strict=True))
    assert [function.__code__ for function in functions] == before


@pytest.mark.parametrize("name", QUICK)
def test_a_bug_is_found_and_leaves_no_trace(name: str) -> None:
    assert hunt((name, 1, 10)).found_in
    assert Run(1, Setting(operations=50)).run().violations == []


def test_a_bug_whose_target_moved_is_an_error() -> None:
    moved = Bug("moved", "Nothing.", (Edit(Run.end, "this is not there", ""),))
    with pytest.raises(TargetMoved, match="0 times"), moved.planted():
        pass
