"""Pressure: who must act learns of each rung, once."""

from __future__ import annotations

from kvnode.admission.ladder import Rung
from kvnode.admission.pressure import Pressure

CALM, SHED, REFUSE, CLOSE = Rung


def test_nothing_is_said_while_all_is_calm() -> None:
    heard: list[Rung] = []
    pressure = Pressure()
    pressure.subscribe(heard.append)
    assert (pressure.rung, heard) == (CALM, [])


def test_every_change_is_told_and_no_repetition() -> None:
    heard: list[Rung] = []
    pressure = Pressure()
    pressure.subscribe(heard.append)
    for rung in (SHED, SHED, CLOSE, REFUSE, CALM):
        pressure.change(rung)
    assert heard == [SHED, CLOSE, REFUSE, CALM]


def test_who_comes_late_hears_where_the_node_stands() -> None:
    heard: list[Rung] = []
    pressure = Pressure()
    pressure.change(REFUSE)
    pressure.subscribe(heard.append)
    assert heard == [REFUSE]


def test_who_has_left_hears_nothing() -> None:
    heard: list[Rung] = []
    pressure = Pressure()
    leave = pressure.subscribe(heard.append)
    leave()
    pressure.change(REFUSE)
    assert heard == []


def test_who_leaves_while_it_is_told_takes_nobody_along() -> None:
    heard: list[str] = []
    pressure = Pressure()

    def once(rung: Rung) -> None:
        heard.append("first")
        leave()

    leave = pressure.subscribe(once)
    pressure.subscribe(lambda rung: heard.append("second"))
    pressure.change(SHED)
    assert heard == ["first", "second"]


def test_a_rung_that_was_climbed_over_was_entered_too() -> None:
    pressure = Pressure()
    for rung in (REFUSE, SHED, CLOSE, CALM):
        pressure.change(rung)
    assert pressure.entered == {SHED: 1, REFUSE: 2, CLOSE: 1}
