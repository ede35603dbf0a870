"""Looks at every node after every step and knows what must never happen.

It only looks. The checks are incremental: a step that changed nothing costs a few comparisons, and
what was committed, elected, promised or hashed once is remembered for the whole run, over all
crashes.

Judged here: one leader per term; log matching; leader completeness; a committed prefix never
changes; term and vote never go back, in what was *sent*; what was acknowledged is there after a
crash; nothing is applied beyond commit and the own disk; equal state at equal applied index; stamps
never go back along the log. The membership is judged in `tests.sim.configurations`, and what
clients were told in `tests.sim.verdict`.

Nodes are known by their ids, for a machine may be another node tomorrow; what is printed is the
name of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvnode.errors import FatalError
from kvnode.node.log_writer import decode_entry
from kvnode.store.batch import stamp_of
from raft.messages import AppendResponse, RequestVote, RequestVoteResponse
from raft.types import NONE, EntryKind, Role
from tests.sim.configurations import Configurations, Promise

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from tests.sim.loop import ProcessLoop, World
    from tests.sim.machine import Machine, Tally
    from tests.sim.trace import Trace


DOUBTS = 20


class Seen:
    """One process as it was after its last step."""

    __slots__ = (
        "applied",
        "commit",
        "conf_state",
        "configured_at",
        "doubts",
        "hashed",
        "last",
        "level",
        "missing_to",
        "node",
        "node_id",
        "number",
        "role",
        "term",
    )

    def __init__(self, number: int, node: Node, level: int) -> None:
        self.number = number
        self.node = node
        self.node_id = node.identity.node_id
        self.level = level
        """The newest feature level that the program knows."""
        self.conf_state = node.raft.conf_state
        self.configured_at = 0
        self.role = Role.FOLLOWER
        self.term = node.raft.term
        self.commit = 0
        self.applied = 0
        self.hashed = node.machine.applied
        self.last = (0, 0)
        self.doubts = 0
        """So many acknowledgements are compared with the disk: a suffix was just replaced."""
        self.missing_to: int | None = None
        """While it recovers: what was committed when that began."""


class Observer:
    """See the module's docstring.

    Attributes:
        violations: what must not have happened, in words.
        expected: says whether a process may end with this error now.
        on_death: told of every process that is gone.
    """

    def __init__(self, world: World, trace: Trace, tally: Tally) -> None:
        self.violations: list[str] = []
        self.expected: Callable[[Machine, FatalError], bool] = lambda _machine, _error: False
        self.on_death: Callable[[Machine], None] = lambda _machine: None
        self.committed: list[tuple[int, bytes]] = [(0, b"")]
        """(term, data) by index."""
        self._committed_in: list[int] = [0]
        """The term whose leader committed it, by index."""
        self.hashes: dict[int, tuple[str, int]] = {}
        self.leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        """By (index, term): the term before it, and the data."""
        self._promises: dict[int, Promise] = {}
        self.configurations = Configurations(self.violation, self.promise, tally)
        self._seen: dict[int, Seen] = {}
        self._stamp_ms = 0
        self._world = world
        self._trace = trace
        self._tally = tally

    def violation(self, text: str) -> None:
        """Note what must not have happened."""
        self._trace.note(f"VIOLATION {text}")
        self.violations.append(text)
        self._world.is_over = True

    def note(self, text: str) -> None:
        """Something that matters for whoever reads the trace."""
        self._trace.note(text)

    def promise(self, node_id: int) -> Promise:
        """What a node told others so far."""
        return self._promises.setdefault(node_id, Promise())

    # --- processes come and go --------------------------------------------------------------------

    def started(self, machine: Machine) -> None:
        """A process has read its disk; compare what it found with what it had told."""
        node, number = machine.node, machine.number
        assert node is not None
        raft, promise = node.raft, self.promise(machine.node_id)
        self._trace.note(f"n{number} starts: term {raft.term}, log to {raft.last_index}")
        self._seen[number] = Seen(number, node, machine.level)
        if not promise.is_void:
            if raft.term < promise.term:
                self.violation(f"n{number} was in term {promise.term}, is back in {raft.term}")
            elif raft.vote != promise.votes.get(raft.term, raft.vote):
                self.violation(
                    f"n{number} voted for {promise.votes[raft.term]} in term {raft.term}, "
                    f"and knows of {raft.vote}"
                )
            elif raft.term == promise.acked_term and raft.last_index < promise.acked:
                self.violation(
                    f"n{number} acknowledged {promise.acked} in term {raft.term}, "
                    f"but its log ends at {raft.last_index}"
                )
        self.configurations.knows_proof(f"n{number}", node)
        self._listen(number, node)

    def _listen(self, number: int, node: Node) -> None:
        """Hear what leaves the node: the real method does its work behind this."""
        own = node.identity.node_id
        send, promise = node.transport.send, self.promise(own)

        def heard(peer: int, message: Any) -> None:
            kind = type(message)
            if kind is AppendResponse:
                self._on_response(promise, message)
                seen = self._seen[number]
                # Of an earlier term it is true as of that: what it is about may be replaced since.
                if seen.doubts and not message.rejected and message.term == node.raft.term:
                    self._check_disk(seen, message.index)
            elif kind is RequestVote:
                self._on_vote(number, promise, own, message.term)
            elif kind is RequestVoteResponse and message.granted:
                self._on_vote(number, promise, peer, message.term)
                if node.raft.recovering:
                    self.violation(f"n{number} votes while it recovers")
            send(peer, message)

        node.transport.send = heard  # type: ignore[method-assign]

    def _on_response(self, promise: Promise, message: AppendResponse) -> None:
        promise.term = max(promise.term, message.term)
        if message.rejected:
            return
        if message.term != promise.acked_term:
            promise.acked_term, promise.acked = message.term, 0
        promise.acked = max(promise.acked, message.index)

    def _check_disk(self, seen: Seen, index: int) -> None:
        """What is acknowledged is on the disk, and not only its index."""
        seen.doubts -= 1
        wal, log = seen.node.wal, seen.node.raft.log
        if index < wal.first_index or index <= log.compacted:
            return
        if index <= wal.last_index:
            (record,) = wal.read(index, index + 1, 1)
            if decode_entry(index, record.payload).term == log.term(index):
                return
        self.violation(f"n{seen.number} acknowledges {index}, which is not on its disk")

    def _on_vote(self, number: int, promise: Promise, candidate: int, term: int) -> None:
        promise.term = max(promise.term, term)
        before = promise.votes.setdefault(term, candidate)
        if before != candidate:
            self.violation(f"n{number} voted for {before} and {candidate} in term {term}")

    def died(self, machine: Machine, node: Node) -> None:
        """A process is gone."""
        self._trace.note(f"n{machine.number} dies")
        self._seen.pop(machine.number, None)
        self.on_death(machine)

    def ended(self, machine: Machine, error: BaseException) -> None:
        """A process ended by itself."""
        self._trace.note(f"n{machine.number} ends: {type(error).__name__}: {error}")
        if not isinstance(error, FatalError) or not self.expected(machine, error):
            self.violation(f"n{machine.number} ended with {type(error).__name__}: {error}")

    # --- after every step -------------------------------------------------------------------------

    def look(self, loop: ProcessLoop) -> None:
        """Something ran in this process."""
        machine = loop.owner
        if machine is None or machine.node is None:
            return
        seen = self._seen.get(machine.number)
        if seen is None:
            return
        node = seen.node
        raft = node.raft
        log = raft.log
        if log.commit != seen.commit and raft.role is seen.role is Role.LEADER:
            self._look_at_leader(seen)
        if raft.term != seen.term or raft.role is not seen.role:
            self._look_at_role(seen)
        if (log.last_index, log.last_term) != seen.last:
            self._look_at_log(seen)
        if log.commit != seen.commit:
            self._look_at_commit(seen)
        if node.read_failures.count:
            self.violation(f"n{seen.number}: a read met a bug")
        if node.machine.applied != seen.applied:
            self._look_at_state(seen)
        seen.conf_state = raft.conf_state
        if raft.recovering is not (seen.missing_to is not None):
            self._look_at_recovery(seen)

    def _look_at_role(self, seen: Seen) -> None:
        raft, number, own = seen.node.raft, seen.number, seen.node_id
        if raft.term < seen.term:
            self.violation(f"n{number} went from term {seen.term} back to {raft.term}")
        if raft.role is Role.LEADER and (seen.role is not Role.LEADER or raft.term != seen.term):
            self._trace.note(f"n{number} leads term {raft.term}")
            self._tally.elections += 1
            other = self.leaders.setdefault(raft.term, own)
            if other != own:
                self.violation(f"term {raft.term} has two leaders, {other:x} and n{number}")
            self._check_complete(seen)
            self._on_vote(number, self.promise(own), own, raft.term)
            self.configurations.leads(f"n{number}", seen.node)
        elif raft.role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            self.configurations.stands(f"n{number}", seen.node)
        seen.term, seen.role = raft.term, raft.role

    def _look_at_leader(self, seen: Seen) -> None:
        """Only entries of its own term are committed by counting (paper, section 5.4.2)."""
        raft = seen.node.raft
        if raft.term == seen.term and raft.log.commit_term != raft.term:
            self.violation(
                f"n{seen.number} leads term {raft.term} and commits {raft.commit} of term "
                f"{raft.log.commit_term}"
            )
        elif raft.term == seen.term:
            name = f"n{seen.number}"
            self.configurations.leader_commits(name, seen.node, seen.conf_state)

    def _check_complete(self, seen: Seen) -> None:
        """Leader completeness (paper, figure 3): a leader has what earlier terms committed."""
        log, leads = seen.node.raft.log, seen.node.raft.term
        for index in range(max(log.compacted, 1), len(self.committed)):
            term = log.term(index)
            if term != self.committed[index][0] and self._committed_in[index] < leads:
                self.violation(
                    f"n{seen.number} leads term {seen.node.raft.term} with term {term} at {index}, "
                    f"where term {self.committed[index][0]} is committed"
                )
                return

    def _look_at_log(self, seen: Seen) -> None:
        """Log matching: an entry of one index and term is the same, and so is all before it."""
        log = seen.node.raft.log
        index, last = seen.last[0], log.last_index
        seen.last = (last, log.last_term)
        low = min(index, last)
        while low > log.compacted and (low, log.term(low)) not in self._entries:
            low -= 1
        low = max(low, log.compacted)
        if low < index:
            seen.doubts = DOUBTS
        if low >= last:
            return
        entries, _ = log.entries(low + 1, last + 1, 1 << 30)
        previous = log.term(low) or 0
        for entry in entries:
            known = self._entries.setdefault((entry.index, entry.term), (previous, entry.data))
            if known[1] != entry.data or (previous and known[0] and known[0] != previous):
                self.violation(
                    f"n{seen.number} has another entry {entry.index} of term {entry.term}"
                )
            previous = entry.term
            if entry.kind == EntryKind.CONF_CHANGE:
                self.configurations.logged(f"n{seen.number}", seen.node, entry.index, entry.term)

    def _look_at_commit(self, seen: Seen) -> None:
        log, number = seen.node.raft.log, seen.number
        low, seen.commit = seen.commit, log.commit
        committed = self.committed
        if log.commit > log.last_index:
            self.violation(f"n{number} commits {log.commit} in a log to {log.last_index}")
            return
        low = max(low, log.compacted)
        if low < log.commit:
            entries, _ = log.entries(low + 1, log.commit + 1, 1 << 30)
            for entry in entries:
                if entry.index < len(committed):
                    if committed[entry.index] != (entry.term, entry.data):
                        self.violation(f"n{number} commits another entry at {entry.index}")
                elif entry.index > len(committed):
                    self.violation(f"n{number} commits {entry.index} before {len(committed)}")
                    return
                else:
                    self._commit(number, entry.index, entry.term, entry.data, seen.node.raft.term)
                    if entry.kind == EntryKind.CONF_CHANGE:
                        self.configurations.committed(entry.index, seen.node.raft.term)

    def _commit(self, number: int, index: int, term: int, data: bytes, by_term: int) -> None:
        self.committed.append((term, data))
        self._committed_in.append(by_term)
        stamp = stamp_of(data)
        if stamp and stamp < self._stamp_ms:
            self.violation(f"entry {index} is stamped {stamp} after {self._stamp_ms}")
        self._stamp_ms = max(self._stamp_ms, stamp)
        for other in self._seen.values():
            raft = other.node.raft
            leads = raft.role is Role.LEADER and raft.term > by_term
            if leads and index > raft.log.compacted and raft.log.term(index) != term:
                self.violation(
                    f"n{number} commits {index} of term {term}, which the leader of term "
                    f"{raft.term} lacks"
                )

    def _look_at_recovery(self, seen: Seen) -> None:
        """It counts again only with all on its disk that was committed when it began to recover."""
        raft = seen.node.raft
        if raft.recovering:
            seen.missing_to = len(self.committed) - 1
        elif seen.missing_to is not None:
            if raft.log.stable < seen.missing_to:
                self.violation(
                    f"n{seen.number} counts again with {raft.log.stable} entries of the "
                    f"{seen.missing_to} that were committed when it began to recover"
                )
            seen.missing_to = None

    def _look_at_state(self, seen: Seen) -> None:
        node = seen.node
        log, machine = node.raft.log, node.machine
        seen.applied = machine.applied
        if machine.applied > min(log.commit, log.stable):
            self.violation(
                f"n{seen.number} applied {machine.applied}, committed is {log.commit}, "
                f"on its disk {log.stable}"
            )
        if node.roster.configured_at != seen.configured_at:
            seen.configured_at = node.roster.configured_at
            self.configurations.applied(f"n{seen.number}", node, seen.level)
        newest = seen.hashed
        for index, digest in reversed(node.applier._hashes):
            if index <= seen.hashed:
                break
            newest = max(newest, index)
            known, other = self.hashes.setdefault(index, (digest, seen.number))
            if known != digest:
                self.violation(f"n{seen.number} and n{other} differ in their state at {index}")
        seen.hashed = max(newest, machine.applied)

    # --- the end ----------------------------------------------------------------------------------

    def leader(self) -> int:
        """The machine that leads the highest term, or NONE."""
        leading = [
            (seen.node.raft.term, seen.number)
            for seen in self._seen.values()
            if seen.node.raft.role is Role.LEADER
        ]
        return max(leading)[1] if leading else NONE
