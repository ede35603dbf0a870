"""Relief: memory goes back while it is scarce, and the loop does not wait for it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from kvnode.admission import relief
from kvnode.admission.ladder import Rung
from kvnode.admission.pressure import Pressure
from kvnode.admission.relief import Relief

CALM, SHED, REFUSE, CLOSE = Rung


class Trim:
    """Stands for malloc_trim: notes who calls it, and returns when it may."""

    def __init__(self) -> None:
        self.callers: list[str] = []
        self.called = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> None:
        self.callers.append(threading.current_thread().name)
        self.called.set()
        self.may_end.wait(30)


@pytest.fixture
def trim(monkeypatch: pytest.MonkeyPatch) -> Trim:
    monkeypatch.setattr(relief, "INTERVAL_SECONDS", 0.001)
    return Trim()


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Generations that were collected on demand of the code under test."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


async def test_nothing_is_done_while_all_is_calm(trim: Trim) -> None:
    helper = Relief(Pressure(), asyncio.get_running_loop(), trim)
    await asyncio.sleep(0)
    assert (helper.collected, trim.callers) == (0, [])
    helper.close()


async def test_on_a_rung_it_collects_in_the_loop_and_trims_in_a_thread(
    trim: Trim, collections: list[int]
) -> None:
    pressure = Pressure()
    helper = Relief(pressure, asyncio.get_running_loop(), trim)
    pressure.change(SHED)
    assert 1 in collections
    assert await asyncio.to_thread(trim.called.wait, 30)
    helper.close()
    assert set(trim.callers) == {"kvnode-trim"}


async def test_it_goes_on_while_the_node_stands_on_a_rung_and_ends_when_it_is_calm(
    trim: Trim,
) -> None:
    pressure = Pressure()
    helper = Relief(pressure, asyncio.get_running_loop(), trim)
    pressure.change(SHED)
    while helper.collected < 3:
        await asyncio.sleep(0)
    pressure.change(CALM)
    collected = helper.collected
    await asyncio.sleep(0.01)
    assert helper.collected == collected
    helper.close()


async def test_another_rung_does_not_hurry_it(trim: Trim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relief, "INTERVAL_SECONDS", 3600.0)
    pressure = Pressure()
    helper = Relief(pressure, asyncio.get_running_loop(), trim)
    for rung in (SHED, REFUSE, CLOSE, REFUSE):
        pressure.change(rung)
    assert helper.collected == 1
    helper.close()


async def test_a_trim_that_takes_long_is_not_begun_twice(trim: Trim) -> None:
    trim.may_end.clear()
    pressure = Pressure()
    helper = Relief(pressure, asyncio.get_running_loop(), trim)
    pressure.change(SHED)
    while helper.collected < 3:
        await asyncio.sleep(0)
    helper.close()
    assert len(trim.callers) == 1
    trim.may_end.set()


async def test_it_does_without_a_trim_and_without_a_thread(
    monkeypatch: pytest.MonkeyPatch, trim: Trim
) -> None:
    def no_memory(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pressure = Pressure()
    without = Relief(pressure, asyncio.get_running_loop(), None)
    monkeypatch.setattr(threading.Thread, "start", no_memory)
    with_one = Relief(pressure, asyncio.get_running_loop(), trim)
    pressure.change(SHED)
    assert (without.collected, with_one.collected, trim.callers) == (1, 1, [])
    without.close()
    with_one.close()


class Level:
    """Memory that counts; the first rung begins at 1200."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self) -> int:
        return self.bytes


async def test_free_memory_goes_back_before_it_is_taken_for_load(
    trim: Trim, monkeypatch: pytest.MonkeyPatch, collections: list[int]
) -> None:
    monkeypatch.setattr(relief, "INTERVAL_SECONDS", 3600.0)
    level, loop = Level(), asyncio.get_running_loop()
    helper = Relief(Pressure(), loop, trim, level=level, rung_bytes=1200)
    trimmed = []
    for level.bytes in (999, 1000, 1000, 1099, 1100, 900, 999, 1000, 1100, 1100):
        helper._look()
        if helper._thread is not None:
            await asyncio.to_thread(helper._thread.join)
        trimmed.append(helper.trimmed)
    #          below, reached, no growth, ..., grown; fallen, not yet there, reached, grown
    assert trimmed == [0, 1, 1, 1, 2, 2, 2, 3, 4, 4]
    assert helper.collected == 0, "the collector is for rungs"
    helper.close()
