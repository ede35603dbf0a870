"""Short forms of the attacks, and that the harness sees what must not happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench.plot import Line, Span, plot
from tests.overload import incident
from tests.overload.incident import MIB, Outcome, Stage
from tests.support.cgroup import CgroupUnavailable

SECONDS = 3.0


@pytest.fixture
def stage() -> Iterator[Stage]:
    try:
        made = Stage(512 * MIB)
    except CgroupUnavailable as why:
        pytest.skip(str(why))
    yield made
    made.close(keep=False)


@pytest.mark.parametrize("name", ["slow-readers", "one-transaction"])
def test_nodes_with_little_memory_survive_a_short_attack_and_lose_nothing(
    stage: Stage, name: str
) -> None:
    """How long a PING takes depends on who else uses the machine: `make overload` judges that."""
    stage.start()
    outcome = incident.attack(stage, name, SECONDS, everywhere=False)
    wrong = [text for text in outcome.wrong if "PING" not in text]
    assert not wrong, outcome.line()
    assert outcome.writes
    assert outcome.got


class _Ended:
    """A stage whose nodes ended somehow."""

    def __init__(self, *codes: int, kills: int = 0) -> None:
        self.exits = {"n1": list(codes)}
        self.cgroups = {"n1": self}
        self._kills = kills

    def oom_kills(self) -> int:
        return self._kills

    def peak_bytes(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("stage", "attack", "expected"),
    [
        (_Ended(kills=1), "large-values", "the kernel killed in the cgroup of n1"),
        (_Ended(-9), "whole-collection", "n1 ended with [-9]"),
        (_Ended(2), "large-values", "n1 left, 1 times"),
        (_Ended(2), "whole-collection", ""),
    ],
)
def test_the_harness_tells_a_kill_from_a_departure(
    stage: _Ended, attack: str, expected: str
) -> None:
    outcome = Outcome(attack, 1.0)
    incident._judge(stage, outcome, everywhere=False)  # type: ignore[arg-type]
    assert outcome.wrong == ([expected] if expected else [])


def test_a_ping_that_took_long_and_a_majority_that_was_away_are_seen() -> None:
    outcome = Outcome("large-values", 1.0, ping_slowest_ms=101.0, present_share=0.94)
    incident._judge(_Ended(), outcome, everywhere=True)  # type: ignore[arg-type]
    assert len(outcome.wrong) == 2
    ordinary = Outcome(incident.ORDINARY, 1.0, rungs={"shed": 1.0})
    incident._judge(_Ended(), ordinary, everywhere=False)  # type: ignore[arg-type]
    assert ordinary.wrong == ["an ordinary load entered {'shed': 1.0}"]


def test_a_plot_has_its_lines_and_spans(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    points = [(0.0, 1.0), (10.0, 250.0)]
    plot(path, "Latency", "ms", [Line("SET", points)], [Span("attack", 2.0, 5.0)])
    text = path.read_text()
    assert text.count("<polyline") == 1
    assert all(word in text for word in ("Latency", "attack", "1000 ms", "10 s"))
    with pytest.raises(ValueError, match="without points"):
        plot(path, "Latency", "ms", [], [])
