"""The one place for heavy writes: who holds it pays for it."""

from __future__ import annotations

from typing import cast

import pytest

from kvnode.admission.pressure import Pressure
from kvnode.errors import Refused
from kvnode.limits import HEAVY_WRITE_ROWS_MIN
from kvnode.node.heavy import ROW_MICROSECONDS, HeavyWrites
from kvnode.service import Op, RenderedPending
from kvnode.store.reply import OK, Result
from kvnode.store.state_machine import StateMachine


class Machine:
    """A store in which an op weighs what it says."""

    def weight_of(self, op: Op) -> int:
        weight = op[2]
        assert isinstance(weight, int)
        return weight


class Write(RenderedPending):
    """A write of some weight that remembers what happened to it."""

    rendering = None
    is_wanted = True

    def __init__(self, weight: int) -> None:
        self.op = [0, 0, weight]
        self.size = 10
        self.results: list[Result] = []
        self.charged: list[float] = []

    def complete(self, result: Result) -> None:
        self.results.append(result)

    def complete_rendered(self, reply: bytes, missed: int, found: int) -> None:
        raise AssertionError

    def charge(self, seconds: float) -> None:
        self.charged.append(seconds)


def no_failure(code: int, text: str) -> None:
    raise AssertionError((code, text))


def place_of_a_calm_node() -> HeavyWrites:
    machine = cast("StateMachine", Machine())
    return HeavyWrites(machine, Pressure(), lambda _: None, no_failure, lambda: 0.0)


@pytest.mark.parametrize(
    ("result", "is_charged"), [(OK, True), (Refused("BUSY no leader was found in time"), False)]
)
def test_a_heavy_write_is_charged_by_its_weight_if_it_was_done(
    result: Result, is_charged: bool
) -> None:
    place = place_of_a_calm_node()
    write = Write(5 * HEAVY_WRITE_ROWS_MIN)
    placed = place.admit(write)
    assert placed is not None
    placed.complete(result)
    assert write.results == [result]
    expected_s = 5 * HEAVY_WRITE_ROWS_MIN * ROW_MICROSECONDS / 1e6
    assert write.charged == ([expected_s] if is_charged else [])
    assert place.admit(Write(5 * HEAVY_WRITE_ROWS_MIN)) is not None, "the place is free again"


def test_a_light_write_takes_no_place_and_is_not_charged() -> None:
    place = place_of_a_calm_node()
    write = Write(HEAVY_WRITE_ROWS_MIN - 1)
    assert place.admit(write) is write
    assert write.charged == []
