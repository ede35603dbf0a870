"""What became of batches: each entry that was applied is told to whom it concerns.

Applied are batches of all nodes, in entries that may hold several. Those of this node complete the
commands that wait for them; whoever waits for a key hears of every entry that served somebody. A
batch or a registration that the store calls *fenced* tells this process that another one took its
place: then it ends, unless the node was removed and ends anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvnode.errors import ConfigurationError, FatalError
from kvnode.node.wire import ForwardRejected
from kvnode.store.batch import Kind
from kvnode.store.sessions import Outcome
from kvnode.store.state_machine import Applied

if TYPE_CHECKING:
    from kvnode.node.node import Node


class Outcomes:
    """See the module's docstring."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.entries_applied = 0
        """Since the start."""

    def on_applied(self, applied: Applied) -> None:
        """An entry was applied."""
        node = self._node
        self.entries_applied += 1
        for part in applied.parts or (applied,):
            if part.node_id == node.identity.node_id:
                self._on_own_applied(part)
        if applied.news is not None:
            node.waits.applied(node.machine.applied, applied.news)

    def _on_own_applied(self, applied: Applied) -> None:
        if applied.kind == Kind.BATCH:
            if applied.outcome is Outcome.FENCED:
                self._check_fenced(applied)
            self._node.proposer.applied(applied)
        elif applied.kind == Kind.REGISTER:
            self._on_registered(applied)

    def _on_registered(self, applied: Applied) -> None:
        node = self._node
        session = node.machine.session(node.identity.node_id)
        if applied.outcome is Outcome.FENCED or session is None:
            self._give_way(_storage_changed(node.identity.name))
        else:
            node.proposer.registered(session.incarnation, session.nonce)
            node.pulse.wake()

    def _check_fenced(self, applied: Applied) -> None:
        node = self._node
        own = node.proposer.incarnation
        if own and applied.incarnation == own:
            self._give_way(_fenced(node.identity.name))

    def _give_way(self, why: FatalError) -> None:
        if not self._node.membership.is_leaving:
            self._node.fail(why)

    def dropped(self, node_id: int, sequence: int) -> None:
        """A batch that this leader had taken could not be proposed after all."""
        node = self._node
        if node_id == node.identity.node_id:
            node.proposer.rejected()
        else:
            node.transport.send(node_id, ForwardRejected(sequence))


def _storage_changed(name: str) -> FatalError:
    return ConfigurationError(
        f"the cluster knows {name!r} with another data directory; "
        f"use `kvnode member replace` to bring this machine in"
    )


def _fenced(name: str) -> FatalError:
    return ConfigurationError(f"another process registered as {name!r}: this one is fenced")
