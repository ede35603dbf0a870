"""Points at which a node dies: where they are, and when they are passed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.chaos import points
from tests.chaos.panel import Panel, Slot
from tests.chaos.points import POINTS, STEPS, guarded


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    return Panel.at(tmp_path / "panel")


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have killed this process, and what it had done before."""
    diary: list[str] = []

    def die(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        diary.append("died")

    monkeypatch.setattr(os, "kill", die)
    return diary


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.qualname)
def test_every_step_of_the_table_is_where_it_was(step: points.Step) -> None:
    _, _, function = points.find(step)
    assert callable(function)


def test_every_step_has_two_points_with_numbers_of_their_own() -> None:
    assert [point.number for point in POINTS] == list(range(1, 2 * len(STEPS) + 1))
    assert [point.after for point in POINTS[:2]] == [False, True]


@pytest.mark.parametrize(("number", "story"), [(1, ["died", "done"]), (2, ["done", "died"])])
def test_a_process_dies_before_or_after_the_step(
    panel: Panel, deaths: list[str], number: int, story: list[str]
) -> None:
    step = guarded(lambda: deaths.append("done"), panel, 1, 2)
    panel[Slot.POINT], panel[Slot.PASSES] = number, 1
    step()
    assert deaths == story
    assert panel[Slot.POINT_REACHED] == number


async def test_a_step_that_waits_has_points_too(panel: Panel, deaths: list[str]) -> None:
    async def wait() -> None:
        deaths.append("done")

    panel[Slot.POINT], panel[Slot.PASSES] = 2, 1
    await guarded(wait, panel, 1, 2)()
    assert deaths == ["done", "died"]


def test_a_process_dies_at_the_last_pass_and_at_no_other_point(
    panel: Panel, deaths: list[str]
) -> None:
    step = guarded(lambda: None, panel, 3, 4)
    panel[Slot.POINT], panel[Slot.PASSES] = 3, 2
    step()
    assert deaths == []
    step()
    assert deaths == ["died"]
    panel[Slot.POINT] = 5
    step()
    assert deaths == ["died"]


def test_what_a_step_answers_comes_through(panel: Panel) -> None:
    assert guarded(lambda a, b: a - b, panel, 1, 2)(5, b=3) == 2
