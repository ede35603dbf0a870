"""The membership over all nodes and all time, and what must never happen to it.

The newest configuration that anybody applied counts as the present one. Judged here, without
trust in what the product keeps in mind about changes:

* a leader proposes a change only when it has applied every earlier one in its log and has committed
  in its own term; whoever stands or leads has at most one in its log that it has not applied, and
  lacks at most one of those that were committed before (`raft.membership` says why this matters);
* whoever has a change in its log takes the ones before it for committed;
* who wins an election was given a majority of each half of the configuration that it goes by, and
  what a leader commits was acknowledged by one;
* what Raft goes by is what the state machine has applied, and the disk says that it is committed;
* no id is a member again that was removed, and a removed one has no session;
* no program is given a feature level that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kvnode.store.members import Members
from kvnode.store.members import Role as MemberRole
from raft.configuration import voting_members
from raft.quorum import majority
from raft.types import ConfState, Role

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from tests.sim.machine import Tally


class Promise:
    """What a node told others, and must still know after any crash."""

    __slots__ = ("acked", "acked_term", "is_void", "term", "votes")

    def __init__(self) -> None:
        self.term = 0
        self.votes: dict[int, int] = {}
        self.acked = 0
        self.acked_term = 0
        self.is_void = False
        """Its disk lost what it had synced: nobody can keep promises then."""

    def has_acked(self, index: int, term: int) -> bool:
        """Whether a leader of that term may know the log to be here up to `index`."""
        return self.acked_term > term or (self.acked_term == term and self.acked >= index)


def halves(conf_state: ConfState) -> list[tuple[int, ...]]:
    """The sets of voters of which each must agree."""
    return [half for half in (conf_state.voters, conf_state.outgoing) if half]


class Configurations:
    """See the module's docstring.

    Args:
        violation: told of what must not have happened.
        promises: what each node told others, by id.
        tally: counts changes.
    """

    def __init__(
        self,
        violation: Callable[[str], None],
        promises: Callable[[int], Promise],
        tally: Tally,
    ) -> None:
        self.registry: Members | None = None
        """The newest that anybody applied."""
        self.removed: set[int] = set()
        self.wiped: set[int] = set()
        """Ids whose directories are gone for good."""
        self._violation = violation
        self._promise = promises
        self._tally = tally
        self._changes: dict[int, set[int]] = {}
        """Terms of the changes that any log has held, by index; in the order of the indexes."""
        self._committed: dict[int, int] = {}
        """By the index of a committed change, the term in which it was."""
        self._founders: tuple[int, ...] = ()
        self._highest = 0

    # --- what it is now ---------------------------------------------------------------------------

    def founded_by(self, founders: Iterable[int]) -> None:
        """The initial voters."""
        self._founders = tuple(founders)

    def halves(self) -> list[tuple[int, ...]]:
        """The present voters, of both halves while a change is joint."""
        if self.registry is None:
            return [self._founders]
        return halves(ConfState(self.registry.voters, (), self.registry.outgoing))

    def is_voter(self, node_id: int) -> bool:
        """Whether a node counts at present."""
        return any(node_id in half for half in self.halves())

    def spares(self, lossy: set[int]) -> bool:
        """Whether those are a minority of the present voters, in each half."""
        return all(len(lossy & {*half}) <= (len(half) - 1) // 2 for half in self.halves())

    # --- what is done to it -----------------------------------------------------------------------

    def logged(self, name: str, node: Node, index: int, term: int) -> None:
        """A change appeared in a log."""
        self._changes.setdefault(index, set()).add(term)
        self._highest = max(self._highest, index)
        raft = node.raft
        if raft.role is not Role.LEADER or term != raft.term:
            self.knows_proof(name, node)
            return
        if (open_changes := self._open_in(node)) and open_changes[0] != index:
            self._violation(
                f"{name} leads term {term} and proposes the change of membership {index} before "
                f"it has applied {open_changes[0]}"
            )
        elif raft.log.commit_term != term:
            self._violation(
                f"{name} proposes the change of membership {index} before it has committed in its "
                f"own term {term}"
            )

    def knows_proof(self, name: str, node: Node) -> None:
        """A log with a change proves that the ones before it are committed; its owner knows that.

        What the disk remembers of the commit index may be old, or not to be believed.
        """
        open_changes = self._open_in(node)
        if len(open_changes) > 1 and node.raft.log.commit < open_changes[-2]:
            self._violation(
                f"{name} has the changes of membership {open_changes} to apply, and takes only "
                f"{node.raft.log.commit} for committed"
            )

    def _open_in(self, node: Node) -> list[int]:
        """Changes in a node's log that it has not applied."""
        log, applied = node.raft.log, node.machine.applied
        if applied >= self._highest:
            return []
        found = [i for i, terms in self._changes.items() if i > applied and log.term(i) in terms]
        return sorted(found)

    def committed(self, index: int, term: int) -> None:
        """A change is committed, by the leader of a term."""
        self._committed[index] = term

    def applied(self, name: str, node: Node, level: int) -> None:
        """A node has another membership than after its last step."""
        registry, raft = node.machine.members, node.raft
        if raft.conf_state != node.roster.conf_state():
            self._violation(
                f"{name} goes by {raft.conf_state} and has applied {node.roster.conf_state()}"
            )
        if registry is None:
            return
        if registry.index > raft.log.noted:
            self._violation(
                f"{name} goes by the change of membership {registry.index}, and its disk says that "
                f"{raft.log.noted} is committed"
            )
        if registry.level > level:
            self._violation(f"{name} knows level {level} and is given level {registry.level}")
        again = self.removed.intersection(registry.by_id)
        if again and self.registry is not None and registry.index > self.registry.index:
            self._violation(f"{name} has members again that were removed: {again}")
        if kept := set(node.machine.sessions()).intersection(registry.removed):
            self._violation(f"{name} keeps sessions of removed nodes: {kept}")
        if self.registry is None or registry.index > self.registry.index:
            self._take(registry)

    def _take(self, registry: Members) -> None:
        before, tally = self.registry, self._tally
        self.registry = Members.unpack(registry.pack())
        if before is None:
            return
        for node_id, member in registry.by_id.items():
            known = before.by_id.get(node_id)
            tally.joined += known is None
            was_voter = known is not None and known.role is MemberRole.VOTER
            tally.promoted += member.role is MemberRole.VOTER and not was_voter
        gone = len(set(registry.removed) - self.removed)
        self.removed.update(registry.removed)
        tally.replaced += before.is_joint and gone
        tally.removed += gone
        tally.levels_raised += registry.level - before.level

    # --- elections and commits --------------------------------------------------------------------

    def stands(self, name: str, node: Node) -> None:
        """A node asks for votes."""
        if len(open_changes := self._open_in(node)) > 1:
            self._violation(
                f"{name} stands for term {node.raft.term} with the changes of membership "
                f"{open_changes} in its log that it has not applied"
            )

    def leads(self, name: str, node: Node) -> None:
        """A node won an election."""
        raft = node.raft
        self.stands(name, node)
        term, applied, own = raft.term, node.machine.applied, raft.node_id
        lacks = [i for i, when in self._committed.items() if i > applied and when < term]
        if len(lacks) > 1:
            self._violation(f"{name} leads term {term} without having applied the changes {lacks}")
        if own not in voting_members(raft.conf_state):
            self._violation(f"{name} leads term {term} and is no voter of {raft.conf_state}")
        for half in halves(raft.conf_state):
            votes = [voter for voter in half if self._promise(voter).votes.get(term) == own]
            if len(votes) < majority(len(half)):
                self._violation(f"{name} leads term {term} by {len(votes)} votes of {half}")

    def leader_commits(self, name: str, node: Node, before: ConfState) -> None:
        """A leader moved its commit index; `before` is what it went by before that step."""
        raft = node.raft
        index = raft.log.commit
        own = raft.node_id if raft.log.stable >= index else 0
        for conf_state in (raft.conf_state, before):
            if all(self._is_stored(half, index, raft.term, own) for half in halves(conf_state)):
                return
        self._violation(
            f"{name} leads term {raft.term} and commits {index}, which no majority of "
            f"{raft.conf_state} has"
        )

    def _is_stored(self, half: Sequence[int], index: int, term: int, own: int) -> bool:
        have = [n for n in half if n == own or self._promise(n).has_acked(index, term)]
        return len(have) >= majority(len(half))

    # --- the end ----------------------------------------------------------------------------------

    def unrest(self, levels: Mapping[int, int]) -> str | None:
        """What the leader has still to do about the membership; `levels` of the nodes that run."""
        registry = self.registry
        if registry is None:
            return "the registry is not founded"
        if registry.is_joint:
            return "a joint change is under way"
        late = [
            m.name
            for m in registry.by_id.values()
            if m.role is MemberRole.LEARNER and m.promote and m.node_id in levels
        ]
        if late:
            return f"learners are not promoted: {late}"
        if set(registry.by_id) == set(levels) and min(levels.values()) > registry.level:
            return f"the level is {registry.level}, and all know {min(levels.values())}"
        return None
