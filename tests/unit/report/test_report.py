"""What a node tells operators about its memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvnode.admission.ladder import Rung
from kvnode.admission.memory import Reading
from kvnode.config.serve import load
from kvnode.node.strain import CALM as CALM_STRAIN
from kvnode.obs.log import LogWriter
from kvnode.report import NodeReport
from kvnode.watchdog import MemoryWatchdog

CALM, SHED, REFUSE, CLOSE = Rung


class Meter:
    """Measures the same always."""

    limit_bytes = 1000

    def read(self) -> Reading:
        return Reading(1, 2, 3)


@pytest.fixture
def report() -> NodeReport:
    """Of a node that is well, but for its memory."""
    made = NodeReport(load({}, {}), cast(LogWriter, SimpleNamespace(dropped=0)))
    node: Any = SimpleNamespace(
        status=lambda: SimpleNamespace(leader="n1"),
        writer=SimpleNamespace(is_full=False),
        applier=SimpleNamespace(is_full=False),
        proposer=SimpleNamespace(incarnation=1),
        strains=SimpleNamespace(own=CALM_STRAIN),
    )
    made.node = node
    made.is_started = True
    return made


@pytest.mark.parametrize(("rung", "ready"), [(CALM, True), (SHED, True), (REFUSE, False)])
def test_a_node_that_refuses_writes_for_memory_is_not_ready(
    report: NodeReport, rung: Rung, ready: bool
) -> None:
    report.pressure.change(rung)
    assert [check[0] for check in report.checks() if not check[1]] == [] if ready else ["memory"]
    assert all(check[1] for check in report.checks()) is ready


def test_a_node_that_is_drained_is_not_ready_and_says_so(report: NodeReport) -> None:
    assert not report.is_draining
    report.node.strains.own = CALM_STRAIN._replace(is_draining=True)  # type: ignore[union-attr]
    assert [check for check in report.checks() if not check[1]] == [("draining", False, "asked to")]


def test_a_rung_names_itself_in_readyz(report: NodeReport) -> None:
    report.pressure.change(CLOSE)
    (detail,) = [detail for name, _, detail in report.checks() if name == "memory"]
    assert detail == "scarce, on the rung close"


def test_status_tells_the_rung_and_where_all_of_them_begin(report: NodeReport) -> None:
    report.watchdog = MemoryWatchdog(500, 20, Meter())
    report.pressure.change(SHED)
    memory = report._memory()
    assert memory["rung"] == "shed"
    assert memory["rungs_begin_bytes"] == {"shed": 352, "refuse": 411, "close": 470}
    assert (memory["limit_bytes"], memory["threshold_bytes"]) == (1000, 500)


def test_without_a_watchdog_there_is_no_ladder(report: NodeReport) -> None:
    assert "rung" not in report._memory()


def test_metrics_tell_the_rung_and_how_often_each_was_entered(report: NodeReport) -> None:
    report._bind_memory()
    report.pressure.change(REFUSE)
    told = report.metrics().decode().splitlines()
    assert "kvnode_memory_rung 2.0" in told
    assert 'kvnode_memory_rung_entered_total{rung="shed"} 1.0' in told
    assert 'kvnode_memory_rung_entered_total{rung="refuse"} 1.0' in told
    assert 'kvnode_memory_rung_entered_total{rung="close"} 0.0' in told
