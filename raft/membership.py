"""Members come and go: which configuration a node goes by (thesis, chapter 4).

A change of membership is an entry of kind `CONF_CHANGE`. Its data is the state machine's affair,
and it takes effect on a node when it is *applied* there: the driver then says who takes part from
now on. What a legal step is, and why one at a time is safe, says `raft.configuration`. Three rules
keep the nodes that count within one step of each other:

1. a leader proposes a change only when it has committed in its own term and has applied every
   earlier change in its log (`Leader.propose_change`);
2. so a log that holds a change proves that the changes before it are committed, and the commit
   index follows that proof (`RaftLog`);
3. a node that has not applied a change which it knows to be committed stands for no election.

By 1 and 2 a node lacks at most the newest change that its log holds, or knows that it lacks more,
and then 3 keeps it from leading by what it lacks. If its log does not hold the newest committed
change, it cannot win: majorities one step apart share a voter who refuses.

*Strangers* are nodes that no configuration here has named yet. A follower that fell behind must be
able to follow a leader that joined later, and a node that has just begun knows nobody at all. So
the driver introduces whom it has reason to believe (`Membership.introduce`). Strangers may send
whatever members send; they count nowhere. Who was a member and is one no longer is not heard.
"""

from __future__ import annotations

from raft import configuration
from raft.elections import Elections
from raft.types import NONE, ConfState, NodeId, Role, require

STRANGERS_MAX = 1024
"""How many nodes may be introduced without being named; the one introduced first is forgotten."""


class Membership(Elections):
    """Changes of `conf_state`, and whom this node hears."""

    __slots__ = ()

    def introduce(self, peer: NodeId) -> None:
        """Take the messages of `peer` although no configuration here has named it.

        Nothing changes if it is a member. The driver must not introduce who was removed.

        Raises:
            ValueError: `peer` is nobody.
        """
        require(peer != NONE, "peer", peer)
        if peer in self._heard or peer == self.node_id:
            return
        if len(self._strangers) >= STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            self._heard.discard(oldest)
        self._strangers[peer] = None
        self._heard.add(peer)

    def apply_conf_state(self, conf_state: ConfState) -> None:
        """Say who takes part, now that the state machine has applied a change of membership.

        To be called after each entry of kind `CONF_CHANGE`, in their order, before `applied_to`
        covers it; also when the entry changed nothing. A leader that is no voter any more steps
        down in the next `Ready`, which still tells the others what is committed.

        Raises:
            ValueError: it is no legal step from the present membership; nothing has changed then.
        """
        self._notices = True
        if conf_state != self.conf_state:
            configuration.check_follows(self.conf_state, conf_state)
            self._reconfigure(conf_state)

    def _reconfigure(self, conf_state: ConfState) -> None:
        self._notices = True
        self._seat(conf_state)
        if self.leader != self.node_id and self.leader not in self._heard:
            self.leader = NONE
        if self._leadership is not None:
            self._leadership.reconfigure(conf_state)
        elif self.role is not Role.FOLLOWER:
            # Whom a ballot asked, and whose votes it counts, is a matter of the old membership.
            self._become_follower(self.term, NONE)
