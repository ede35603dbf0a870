"""What a campaign counted, and what it found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

FINDINGS_MAX = 20
"""So many are kept; all are counted."""


@dataclass(slots=True)
class Tally:
    """Counts by name, and broken promises with the way to see them again."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Count something."""
        self.counts[name] += count

    def most(self, name: str, value: int) -> None:
        """Keep the largest of some values; their name begins with `most`."""
        self.counts[f"most {name}"] = max(self.counts[f"most {name}"], value)

    def broken(self, text: str) -> None:
        """A promise was broken."""
        self.counts["broken"] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)

    def merge(self, other: Tally) -> None:
        """Take over the counts of another part of the campaign."""
        for name, count in other.counts.items():
            if name.startswith("most "):
                self.counts[name] = max(self.counts[name], count)
            else:
                self.counts[name] += count
        self.findings += other.findings[: FINDINGS_MAX - len(self.findings)]

    def short_of(self, floors: dict[str, int]) -> list[str]:
        """Which counts are too low for the campaign to prove anything."""
        return [
            f"{name}: {self.counts[name]}, at least {floor} would prove something"
            for name, floor in floors.items()
            if self.counts[name] < floor
        ]
