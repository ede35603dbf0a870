"""Mistakes planted in the product, to see whether the simulator finds them.

Each is one that real systems have made. It is planted as a change of source text: a piece of one
function is replaced by another, and the function compiled again in its place, so that it can be
read as a diff. A piece that is not there exactly once is an error: the product has moved on, and
the mistake must be written anew.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from kvnode.node.change_rules import _lowest_level
from kvnode.node.changes import Changes
from kvnode.node.clock import StampClock
from kvnode.node.log_writer import _Group
from kvnode.node.loss import loss_policy
from kvnode.node.outcomes import Outcomes
from kvnode.node.proposals import Proposer
from kvnode.node.reads import ReadRounds
from kvnode.node.roster import conf_state_of
from kvnode.node.snapshots import Snapshots
from kvnode.node.waiters import Wait
from kvnode.snapshot.writer import _Growing
from kvnode.store.draws import Draws
from kvnode.store.members import Members
from kvnode.store.redis.waiting import _Serving
from kvnode.store.sessions import Sessions
from kvnode.store.state_machine import StateMachine
from kvnode.store.waiting import Waiters
from raft.elections import Elections
from raft.leader import Leader, stored
from raft.log import RaftLog
from raft.quorum import vote_result
from raft.raft import Raft
from raft.read_index import ReadIndex
from raft.recovery import Recovery
from wal.log import Wal


class TargetMoved(Exception):
    """The text that a bug replaces is not where it was."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old` by `new` in the source of a function."""

    function: Callable[..., Any]
    old: str
    new: str


def changed(function: Callable[..., Any], edits: Sequence[Edit]) -> CodeType:
    """The function's code with some changes.

    Raises:
        TargetMoved: what is to be replaced is not there exactly once.
    """
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        if (count := source.count(edit.old)) != 1:
            raise TargetMoved(f"{function.__qualname__} holds {edit.old!r} {count} times")
        source = source.replace(edit.old, edit.new)
    if function.__code__.co_freevars:
        raise TargetMoved(f"{function.__qualname__} is a closure")
    names: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(source, function.__code__.co_filename, "exec", flags), names)
    code: CodeType = names[function.__name__].__code__
    return code


@dataclass(frozen=True, slots=True)
class Bug:
    """One mistake. `sentence` says what the product does with it."""

    name: str
    sentence: str
    edits: tuple[Edit, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The product has the mistake meanwhile."""
        functions = {id(edit.function): edit.function for edit in self.edits}
        before = {key: function.__code__ for key, function in functions.items()}
        codes = {
            key: changed(function, [edit for edit in self.edits if edit.function is function])
            for key, function in functions.items()
        }
        # The code changes in place: whoever holds the function already gets the mistake, too.
        for key, function in functions.items():
            function.__code__ = codes[key]
        try:
            yield
        finally:
            for key, function in functions.items():
                function.__code__ = before[key]


def _bug(name: str, sentence: str, *edits: tuple[Any, str, str]) -> Bug:
    return Bug(name, sentence, tuple(Edit(*edit) for edit in edits))


BUGS: Sequence[Bug] = (
    # --- term and vote
    _bug(
        "vote-not-kept",
        "The disk learns the term, but not who got the vote in it.",
        (
            Raft._make_persist,
            "hard_state = self.hard_state\n",
            "hard_state = self.hard_state._replace(vote=NONE)\n",
        ),
    ),
    _bug(
        "vote-before-sync",
        "A vote leaves before it is on the disk.",
        (
            Raft._grant,
            "self._send_after_sync(candidate,",
            "self._outbox.messages.append((candidate,",
        ),
        (Raft._grant, "granted=True))", "granted=True)))"),
    ),
    _bug(
        "votes-twice",
        "A vote is given to whoever asks, again in the same term.",
        (Raft._on_request_vote, "self.vote in (sender, NONE) and self.leader == NONE", "True"),
    ),
    _bug(
        "term-not-kept",
        "A new term without a vote is not written.",
        (_Group.write, "if self.state is not None or", "if (self.state and self.state.vote) or"),
    ),
    _bug(
        "any-log-wins",
        "A vote is given without looking whose log is more up to date (paper, 5.4.1).",
        (
            RaftLog.is_up_to_date,
            "return (last_term, last_index) >= (self.last_term, self.last_index)",
            "return True",
        ),
    ),
    # --- commit
    _bug(
        "old-term-by-count",
        "A leader commits entries of earlier terms by counting (paper, figure 8).",
        (
            Leader._maybe_commit,
            "if index <= log.commit or index < self.first_index:",
            "if index <= log.commit:",
        ),
    ),
    _bug(
        "minority-commits",
        "One other node is enough, however many there are; with three nodes: the leader alone.",
        (stored, "return agreed(", "return max("),
    ),
    _bug(
        "heartbeat-beyond-match",
        "Heartbeats tell every follower the commit index, whatever its log holds.",
        (Leader._send_heartbeats, "min(peer.match, commit)", "commit"),
    ),
    # --- the log
    _bug(
        "append-truncates",
        "Every append cuts what lies behind it, a delayed one too.",
        (
            RaftLog.maybe_append,
            "if self.term(entry.index) != entry.term:",
            "if self.term(entry.index) != entry.term or not position:",
        ),
    ),
    _bug(
        "ack-before-sync",
        "A follower acknowledges entries that are not on its disk yet.",
        (Raft._acknowledge, "if index > self.log.stable:", "if False:"),
    ),
    _bug(
        "no-sync",
        "Groups are written and not synced.",
        (Wal._write, "self._fs.fdatasync(self._fd)", "pass"),
    ),
    _bug(
        "stable-survives-truncation",
        "What was synced at an index counts for the entry that took its place.",
        (RaftLog._truncate, "self.stable = min(self.stable, index - 1)", "pass"),
    ),
    _bug(
        "applied-before-own-sync",
        "Committed entries are applied before they are on the own disk.",
        (RaftLog.take_committed, "high = min(self.commit, self.stable)", "high = self.commit"),
    ),
    _bug(
        "lost-tail-ignored",
        "A log that ends below what was durable is repaired as if nothing had happened.",
        (loss_policy, "return Decision.RECOVER", "return Decision.REPAIR"),
    ),
    # --- recovering
    _bug(
        "recovering-votes",
        "A node that lost acknowledged entries votes before it has them again.",
        (Raft._on_request_vote, "if self.recovering:", "if False:"),
    ),
    _bug(
        "recovering-campaigns",
        "Such a node stands for election.",
        (Raft._promotable, " and not self.recovering", ""),
    ),
    _bug(
        "healed-too-early",
        "Such a node counts as healed as soon as its leader answers.",
        (Recovery.is_healed, " and durable_commit >= self.index", ""),
    ),
    # --- reads
    _bug(
        "read-without-round",
        "A leader answers reads without asking whether it still leads.",
        (
            Leader._confirm_rounds,
            "newest = agreed([voter.acked_round for voter in self._voters])",
            "newest = self._reads.newest",
        ),
    ),
    _bug(
        "round-id-reused",
        "Rounds of reads share one id, so an old answer confirms a new round.",
        (ReadIndex.start, "self.new_id()", "self.newest or self.new_id()"),
    ),
    _bug(
        "read-before-own-term",
        "A new leader answers reads before it has committed in its own term.",
        (Leader._may_read, "self._log.commit >= self.first_index", "True"),
    ),
    _bug(
        "read-before-apply",
        "A read runs before its index is applied.",
        (ReadRounds.release, "while released and released[0][0] <= applied:", "while released:"),
    ),
    # --- exactly once
    _bug(
        "duplicate-applied",
        "A batch that was sent twice is applied twice.",
        (Sessions.admit, "if batch.sequence <= session.last:", "if False:"),
    ),
    _bug(
        "gap-applied",
        "A batch is applied although the one before it is missing.",
        (Sessions.admit, "if batch.sequence > session.last + 1:", "if False:"),
    ),
    _bug(
        "unknown-called-refused",
        "A client whose deadline passed is told that its command was not done.",
        (Proposer._answer_unknown, "pending.complete(UNKNOWN)", "pending.complete(NO_LEADER)"),
    ),
    _bug(
        "grouped-not-judged",
        "A batch that shares its entry is applied whatever its session says.",
        (
            StateMachine._apply,
            "for part in entry.parts]",
            "for part in entry.parts for self._sessions[part.node_id].last in [part.sequence - 1]]",
        ),
    ),
    _bug(
        "group-turned-round",
        "Some nodes apply the batches of an entry from its end.",
        (
            StateMachine._apply,
            "in entry.parts]",
            "in entry.parts[:: -1 if self.uncommitted_ops & 1 else 1]]",
        ),
    ),
    _bug(
        "group-told-in-part",
        "Of the batches of an entry only the first has its clients answered.",
        (Outcomes.on_applied, "in applied.parts or", "in applied.parts[:1] or"),
    ),
    # --- time
    _bug(
        "stamp-goes-back",
        "Whoever begins to lead goes by its wall clock.",
        (StampClock.lead, "if not self._is_set:", "if True:"),
        (StampClock.lead, "max(self._wall() * 1000, float(self._floor_ms))", "self._wall() * 1000"),
        (
            StampClock.stamp_ms,
            "    return self._floor_ms",
            "    return int(estimate)",
        ),
    ),
    # --- chance
    _bug(
        "chance-of-its-own",
        "Each node draws the random numbers of SPOP and the like for itself.",
        (Draws.reset, "seed & _MASK", "id(self) & _MASK"),
    ),
    # --- blocked clients
    _bug(
        "claimed-not-forgotten",
        "A waiter whose client fetched what it got stays, with that in hand.",
        (
            _Serving.resolve,
            "waiters.forget(waiter)\n    return waiter.result",
            "return waiter.result",
        ),
    ),
    _bug(
        "left-hand-lost",
        "What a client has in hand when it leaves goes with it.",
        (_Serving._leave, "if waiter.held is not None:", "if False:"),
    ),
    _bug(
        "abandoned-hand-lost",
        "What the clients of a node that died have in hand dies with it.",
        (_Serving.abandon, "self._leave(space, waiter)", "space.waiters.forget(waiter)"),
    ),
    _bug(
        "served-stays-queued",
        "A waiter that was served stays in the queues of its other keys.",
        (Waiters._unqueue, "dict.fromkeys(waiter.keys)", "waiter.keys[:1]"),
    ),
    _bug(
        "queue-rebuilt-backwards",
        "After a start, who came last is served first.",
        (
            Waiters.load,
            "waiters_of(self._space.engine) if totals.rows else ():",
            "reversed([*waiters_of(self._space.engine)]) if totals.rows else ():",
        ),
    ),
    _bug(
        "late-result-dropped",
        "What comes for a client that left while it came goes nowhere.",
        (Wait._finish, "elif not (", "elif False and ("),
    ),
    # --- snapshots
    _bug(
        "snapshot-without-mark",
        "A received snapshot takes the place of the state before the log knows of it.",
        (
            Snapshots._switch,
            "self._wal.mark_snapshot(file.index, marker, discard=discard)",
            "None",
        ),
    ),
    _bug(
        "snapshot-not-synced",
        "The log is cut although the snapshot is not on the disk.",
        (_Growing.sync, "self._fs.fdatasync(self._fd)", "pass"),
    ),
    _bug(
        "cut-too-far",
        "The log forgets what the newest snapshot covers, before that was taken as well.",
        (Snapshots._cut_log, "oldest = files[-1][0].index", "oldest = self._raft.applied"),
    ),
    # --- the membership
    _bug(
        "two-changes-at-once",
        "A leader proposes a change although the one before it is still under way.",
        (Leader.propose_change, "if log.changes:", "if False:"),
        (
            Changes._decide,
            "elif self._proposed is not None or self._node.raft.log.changes:",
            "elif False:",
        ),
        (Changes.sweep, " or self._proposed is not None", ""),
    ),
    _bug(
        "change-before-own-term",
        "A new leader proposes a change before it has committed in its own term.",
        (Leader.propose_change, "if log.commit < self.first_index:", "if False:"),
    ),
    _bug(
        "last-but-one-not-committed",
        "That a log holds a change does not prove that the one before it is committed.",
        (RaftLog._commit_earlier_changes, "if len(self.changes) > 1:", "if False:"),
    ),
    _bug(
        "change-not-noted",
        "A change is applied before the disk says that it is committed.",
        (RaftLog.take_committed, "if self.changes:", "if False:"),
    ),
    _bug(
        "joint-commit-by-one-half",
        "While a change is joint, a majority of the new half is enough to commit.",
        (Leader._maybe_commit, "if self._outgoing:", "if False:"),
    ),
    _bug(
        "joint-vote-by-one-half",
        "While a change is joint, a majority of the new half is enough to be elected.",
        (vote_result, "if not conf_state.outgoing:", "if True:"),
    ),
    _bug(
        "learner-counts",
        "A learner has a vote as soon as it is there.",
        (
            conf_state_of,
            "registry.voters, registry.learners,",
            "(*registry.voters, *registry.learners), (),",
        ),
    ),
    _bug(
        "membership-not-installed",
        "Whoever installs a snapshot goes on with the membership that it had.",
        (Snapshots._switch, "conf_state=self._conf_state()", "conf_state=raft.conf_state"),
    ),
    _bug(
        "told-only-who-asks",
        "What is committed is told to who asks for a vote, and to nobody else.",
        (Elections._on_silence, "for peer in self._peers:", "for peer in ():"),
    ),
    _bug(
        "id-used-again",
        "The id of a member is made from its name, and tombstones are not looked at.",
        (Changes._decide, "self._rng.getrandbits(64) or 1", "sum(request.member.encode()) or 1"),
        (Members._add, "if node_id in self.removed:", "if False:"),
    ),
    _bug(
        "removed-session-kept",
        "The session of a member that goes stays.",
        (StateMachine._configure, "del sessions[node_id]", "pass"),
    ),
    _bug(
        "level-gate-skipped",
        "The registry is founded, and the level raised, although some know only a lower one.",
        (_lowest_level, "min(", "max("),
    ),
)
