"""What the log tells those who watch it: no logging and no metrics in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair cut off.

    Attributes:
        directory: of the log.
        path: the segment that was cut.
        segment: its sequence number.
        offset: where it was cut.
        bytes_dropped: from there to the last byte that was not zero.
        indexes_dropped: smallest and largest index of entries whose headers could be read behind
            the cut, None if there were none.
        kind: "torn", "short file" or "stale".
        error: the original finding.
        evidence: the copy that was made before.
    """

    directory: Path
    path: Path
    segment: int
    offset: int
    bytes_dropped: int
    indexes_dropped: tuple[int, int] | None
    kind: str
    error: str
    evidence: Path


class Observer(Protocol):
    """Called from the thread that calls the log. Must not raise."""

    def on_repair(self, report: RepairReport) -> None:
        """The tail of the log was repaired."""

    def on_state_repaired(self, path: Path, reason: str) -> None:
        """One state file was "missing" or "damaged" and was written again from the other."""

    def on_sync(self, seconds: float, size: int) -> None:
        """A group of `size` bytes was written and synced in `seconds`."""


class Silent:
    """An observer that looks away."""

    def on_repair(self, report: RepairReport) -> None:
        pass

    def on_state_repaired(self, path: Path, reason: str) -> None:
        pass

    def on_sync(self, seconds: float, size: int) -> None:
        pass
