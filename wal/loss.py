"""What is gone from the disk, told to whoever must decide what follows.

The bytes tell that a tail was never written in full; whether that matters, they do not. Another
node may have what is gone, or nobody may. So the log judges, then asks, and changes nothing before
it was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from wal.errors import Corruption
from wal.format import Position


class Decision(Enum):
    """What follows a loss. A third way is to raise: then nothing is changed."""

    REPAIR = "repair"
    """Cut the tail and go on; where the log ends below a floor, the floors come down to its end."""
    RECOVER = "recover"
    """The same, but the recovering flag is durable before the cut, and the floors stay."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A tail that must be cut, or a log that ends before what its state files know was durable.

    Attributes:
        directory: of the log.
        path: its last segment; the directory if none is left.
        segment: the sequence of that segment, 0 if none is left.
        offset: where the log will end in it, in bytes.
        bytes_dropped: from there to the last byte that is not zero.
        indexes_dropped: smallest and largest index of entries whose headers could be read behind
            the cut, None if there were none.
        last_index: of the log after the cut; a snapshot that replaced the log counts.
        floor: position that was durable, by the state files.
        floor_commit: index that was committed and durable here, by the state files.
        below_floor: the log ends below one of the two: acknowledged entries are gone.
        is_torn: a group at the end was never written in full, in a file of its full size.
        damage: what was found, in one sentence.
    """

    directory: Path
    path: Path
    segment: int
    offset: int
    bytes_dropped: int
    indexes_dropped: tuple[int, int] | None
    last_index: int
    floor: Position
    floor_commit: int
    below_floor: bool
    is_torn: bool
    damage: str

    @property
    def indexes_lost(self) -> tuple[int, int | None]:
        """First index that is gone, and the last one as far as that is known."""
        known = max(self.floor_commit, self.indexes_dropped[1] if self.indexes_dropped else 0)
        return self.last_index + 1, known if known > self.last_index else None

    def describe(self) -> str:
        """Return in one sentence where the log ends, where it ended, and what is gone."""
        first, last = self.indexes_lost
        lost = f"from index {first} on" if last is None else f"{first} to {last} at least"
        return (
            f"acknowledged entries are gone ({lost}): the log ends at index {self.last_index}, "
            f"segment {self.segment} offset {self.offset}; it was durable up to segment "
            f"{self.floor.segment} offset {self.floor.offset}, and index {self.floor_commit} "
            f"was committed; {self.damage}"
        )


OnLoss = Callable[[Loss], Decision]
"""on_loss(loss): decide, or raise to refuse."""


def accept_only_torn(loss: Loss) -> Decision:
    """The decision where nobody is asked: what was never acknowledged may go, nothing else.

    Raises:
        Corruption: the log ends below a floor.
    """
    if loss.below_floor:
        raise Corruption(loss.describe(), loss.path, loss.offset)
    return Decision.REPAIR
