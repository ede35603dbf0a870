"""Nodes with one rule taken out, to prove that the chaos run would notice.

Each function bends the modules of the process it runs in; `tests.chaos.node --broken NAME` calls it
before the node starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import raft.leader
from kvnode.store import ops
from kvnode.store.batch import Batch
from kvnode.store.keyspace import Keyspace
from kvnode.store.ops import Op, Resolution
from kvnode.store.redis.table import WRITES
from kvnode.store.reply import Result
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


def claim_not_forgotten() -> None:
    """Keep what a blocked client fetched in hand, so that it goes back when its node dies."""
    resolve = WRITES[ops.RESOLVE]

    def resolve_and_keep(space: Keyspace, op: Op) -> Result:
        waiter = space.waiters.find(space.waiters.origin, op[2])
        if waiter is not None and waiter.state and op[3] != Resolution.LEAVE:
            return waiter.result
        return resolve(space, op)

    WRITES[ops.RESOLVE] = resolve_and_keep


BROKEN: dict[str, Callable[[], None]] = {
    "no-fdatasync": no_fdatasync,
    "reply-before-quorum": reply_before_quorum,
    "no-session-check": no_session_check,
    "claim-not-forgotten": claim_not_forgotten,
}
