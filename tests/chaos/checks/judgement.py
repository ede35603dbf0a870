"""What the checks found.

Violations are sentences about broken promises. What could not be decided is kept apart, and so is
what makes a run void: too calm, or too short, to say anything. Neither counts as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.record import Entry

EXAMPLES_MAX = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The operations that a violation is made of, as few as possible."""

    title: str
    entries: Sequence[Entry]


@dataclass(slots=True)
class Judgement:
    """Of one check, one epoch, or a whole run."""

    violations: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 nothing found, 1 violation, 3 void or undecided."""
        if self.violations:
            return 1
        return 3 if self.undecided or self.void else 0

    def add(self, other: Judgement) -> None:
        """Take over what another one found."""
        self.violations += other.violations
        self.undecided += other.undecided
        self.void += other.void
        self.windows += other.windows

    def violate(self, text: str, entries: Sequence[Entry] = ()) -> None:
        """A promise was broken; `entries` show it."""
        self.violations.append(text)
        if entries:
            self.windows.append(Window(text, entries))

    def violate_each(self, what: str, entries: Sequence[Entry]) -> None:
        """The same promise was broken for several operations: one sentence, some examples."""
        if entries:
            examples = "; ".join(str(entry) for entry in entries[:EXAMPLES_MAX])
            self.violate(f"{len(entries)} {what}, for example {examples}", entries)
