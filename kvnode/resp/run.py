"""Runs of one kind: the data commands of one client that the node has and has not answered.

The node answers reads and writes on different paths, so a read could overtake the write that its
client sent before it. Therefore the unanswered data commands of a connection are always of one
kind; whatever is of the other kind waits until the run is answered.

Of reads so many are begun at once that their replies take half of the client's room, as they come
in bursts: the node runs all reads of a pass together. At first as if all were of the largest size,
then twice as many with each pass, as long as the replies seen allow it.
"""

from __future__ import annotations

from typing import Final

from kvnode.limits import VALUE_BYTES_MAX
from kvnode.resp.commands.command import LOCAL, READ, MustWait

VALUES_PER_BURST: Final = 2 * VALUE_BYTES_MAX
"""Room that one read of a burst needs when its reply may be of the largest size."""


class Run:
    """The run of one connection.

    Attributes:
        in_flight: data commands that the node has and has not answered.
        kind: what they are; `LOCAL`: nothing may join them.
        reads_max: so many reads may be in flight.
    """

    __slots__ = ("in_flight", "kind", "reads_max")

    def __init__(self, reads_min: int) -> None:
        self.in_flight = 0
        self.kind = LOCAL
        self.reads_max = reads_min

    def wait_for_kind(self, kind: int) -> None:
        """Raise `MustWait` while unanswered commands are of another kind."""
        if self.in_flight and self.kind != kind:
            raise MustWait

    def pace(self, reply_bytes: int, room_bytes: int, reads_min: int) -> None:
        """Let twice as many reads begin at once, or so few that replies of this length fit."""
        growth = 2 if self.kind == READ else 1
        fitting = room_bytes // 2 // (reply_bytes + 1)
        self.reads_max = max(reads_min, min(fitting, self.reads_max * growth))
