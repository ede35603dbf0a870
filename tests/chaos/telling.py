"""What a run tells people, whatever it was, and where that goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.checks.judgement import Judgement

RESULTS = Path(__file__).resolve().parents[2] / "chaos-results"
SNAPSHOT_LOG_BYTES = "256kb"
"""Small, so that logs are cut and snapshots are sent while nodes die."""


@dataclass(slots=True)
class Outcome:
    """What came of a run: what was found, the figures, and where its data are kept."""

    judgement: Judgement
    figures: dict[str, Any]
    kept: Path | None = None


def tell(figures: Mapping[str, object], judgement: Judgement, kept: Path | None) -> None:
    """The figures, what was found, and where the rest is."""
    for name, value in figures.items():
        print(f"  {name}: {value}")
    for title, findings in (
        ("VIOLATION", judgement.violations),
        ("UNDECIDED", judgement.undecided),
        ("VOID", judgement.void),
    ):
        for finding, count in Counter(findings).items():
            print(f"{title}: {finding}" + (f" ({count} times)" if count > 1 else ""))
    if kept is not None:
        print(f"kept: {kept}")
    if judgement.exit_code == 0:
        print("nothing found: every promise was kept")


def count_in_logs(paths: Iterable[Path], sentence: str) -> int:
    """How often the nodes said something: shows that faults hit what they were meant to hit."""
    return sum(path.read_text(errors="replace").count(sentence) for path in paths if path.exists())
