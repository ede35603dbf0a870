"""How one read is done: here on the applied state, or by a worker; and what a bug in one means.

`kvnode.node.reads` decides when reads may run, and comes here for the rest. A read changes nothing.
If its meaning has a bug, its client gets an error, the log a traceback, and the node goes on. An
engine that fails, or an op that nobody knows, is no bug of one read: that ends the node.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from kvnode.admission.ledger import Ledger
from kvnode.errors import CommandError, KvnodeError
from kvnode.node.heavy import HeavyReads
from kvnode.obs.log import Repeats
from kvnode.service import READ_FAILED, Pending
from kvnode.store.redis.weights import WEIGHTS
from kvnode.store.state_machine import StateMachine
from raft.raft import Raft
from raft.types import U32_MAX, NoLeader, ReadDropped

_log = logging.getLogger("kvnode.node")

READ_TOO_LARGE = CommandError("OOM there is not enough memory for the reply")


class ReadFailures:
    """Counts reads that met a bug, here or in a worker; one traceback a second for each op code."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._logged = Repeats()
        self.count = 0

    def note(self, code: int, text: str) -> None:
        """A read failed: its op code, and a traceback."""
        self.count += 1
        if self._logged.admit(code, self._monotonic()) is not None:
            _log.error("a read failed; op code %d\n%s", code, text)


class Reading:
    """A `kvnode.node.reads.ReadPort`.

    Args:
        before_reads: lets the time pass that is due, before Raft is asked.
    """

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        heavy: HeavyReads,
        ledger: Ledger,
        failures: ReadFailures,
        before_reads: Callable[[], None],
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._heavy = heavy
        self._ledger = ledger
        self._failures = failures
        self._before_reads = before_reads

    def ask(self, request_id: int) -> bool:
        """Start a read-index round."""
        self._before_reads()
        try:
            self._raft.read_index(request_id)
        except (NoLeader, ReadDropped):
            return False
        return True

    def may_execute(self) -> bool:
        """Whether there is room for one more reply."""
        return self._ledger.has_room_for_replies

    def may_execute_small(self, pending: Pending) -> bool:
        """Whether there is room for this one's reply, since it is small; False if nobody knows."""
        try:
            return self._ledger.has_room_for_small_replies and self._machine.has_small_reply(
                pending.op
            )
        except KvnodeError:
            raise
        except Exception:  # noqa: BLE001 - a bug of the look at it: `execute` will meet it, or not
            return False

    def execute(self, pending: Pending) -> None:
        """Run one read on the applied state, or have a worker run it."""
        try:
            if pending.op[0] in WEIGHTS and self._heavy.takes(pending):
                return
            result = self._machine.read(pending.op)
        except KvnodeError:
            raise
        except MemoryError:
            result = READ_TOO_LARGE
        except Exception:  # noqa: BLE001 - logged in full; the node is as it was
            self._failures.note(pending.op[0], traceback.format_exc())
            result = READ_FAILED
        pending.complete(result)


def first_request_id(incarnation: int) -> int:
    """Read rounds of one start count up from here: no id is ever used twice by a node."""
    return (incarnation & U32_MAX) << 32 | 1
