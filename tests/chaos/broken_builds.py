"""Nodes with one rule taken out, to prove that the chaos run would notice.

Each function bends the modules of the process it runs in; `tests.chaos.node --broken NAME` calls it
before the node starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import raft.leader
from kvnode.store.batch import Batch
from kvnode.store.sessions import Outcome, Sessions


def no_fdatasync() -> None:
    """Acknowledge what the disk does not have. The file system of the node does it; see there."""


def reply_before_quorum() -> None:
    """Call an entry committed as soon as any one node has it."""

    def anyone(values: Sequence[int]) -> int:
        return max(values)

    raft.leader.agreed = anyone  # type: ignore[attr-defined]  # imported there, used from there


def no_session_check() -> None:
    """Apply a batch as often as it arrives."""
    admit = Sessions.admit

    def admit_twice(self: Sessions, batch: Batch) -> Outcome:
        outcome = admit(self, batch)
        return Outcome.APPLIED if outcome is Outcome.DUPLICATE else outcome

    Sessions.admit = admit_twice  # type: ignore[method-assign]  # that is the point


BROKEN: dict[str, Callable[[], None]] = {
    "no-fdatasync": no_fdatasync,
    "reply-before-quorum": reply_before_quorum,
    "no-session-check": no_session_check,
}
