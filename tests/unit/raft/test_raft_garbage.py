"""Whatever a peer sends, nothing raises, and no invariant of the receiver breaks.

Each seed makes a node in some state, by the same kind of messages, and goes on with messages that
have the right shape and arbitrary contents: near what fits the node, where mistakes hide, and at
the ends of the ranges. A failing seed is in the test's id.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from raft import (
    MESSAGES,
    Config,
    ConfState,
    Entry,
    HardState,
    MalformedMessage,
    NodeId,
    NoLeader,
    NotLeader,
    ProposalDropped,
    Raft,
    RaftLog,
    ReadDropped,
    Role,
    decode,
)
from raft.messages import (
    AppendEntries,
    CommitAdvance,
    HeartbeatResponse,
    Message,
    PreVoteResponse,
    ReadIndexResponse,
    RequestPreVote,
    RequestVoteResponse,
)
from raft.types import U64_MAX
from tests.support.raft_cluster import Disk

STRANGER = 9


class Watched:
    """Node 1 of three voters and a learner, and what must hold of it after every call."""

    def __init__(self, terms: list[int], *, recovering: bool, lease_reads: bool) -> None:
        self.disk = Disk(log=[Entry(t, i, 0, b"x") for i, t in enumerate(sorted(terms), 1)])
        term = self.disk.log[-1].term if self.disk.log else 0
        self.raft = Raft(
            Config(
                node_id=1,
                heartbeat_ticks=1,
                election_ticks_min=3,
                election_ticks_max=3,
                random_ticks=lambda low, _high: low,
                boot_id=1,
                reads_waiting_max=2,
                lease_reads=lease_reads,
                uncommitted_bytes_max=2000,
            ),
            hard_state=HardState(term, 0, 0),
            conf_state=ConfState((1, 2, 3), (4,)),
            log=RaftLog.restore(self.disk, self.disk.log),
            applied=0,
            recovering=recovering,
        )
        self.durable_term = term
        self.before = self.look()

    def look(self) -> tuple[Any, ...]:
        raft = self.raft
        committed = [raft.log.term(i) for i in range(1, raft.commit + 1)]
        return raft.term, raft.vote, raft.role, committed, raft.applied, raft.last_index

    def check(self) -> None:
        """What the types promise of themselves, against what it was before the call."""
        raft, log = self.raft, self.raft.log
        term, vote, role, committed, applied, last_index = self.before
        assert raft.term >= term
        assert raft.vote == vote or vote == 0 or raft.term > term
        assert raft.applied >= applied
        ends = [log.compacted, log.applied, min(log.commit, log.stable), log.last_index]
        assert ends == sorted(ends)
        self.before = self.look()
        assert self.before[3][: len(committed)] == committed, "a committed entry was replaced"
        if raft.role is Role.LEADER:
            assert (raft.leader, raft.vote, raft.recovering) == (1, 1, False)
            assert role is not Role.LEADER or last_index <= raft.last_index
            for peer, view in raft.progress().items():
                assert peer == 1 or view.match < view.next_index
                assert view.match <= raft.last_index
        else:
            assert raft.leader != 1
            assert not raft.progress()
        if raft.recovering:
            assert raft.role is Role.FOLLOWER

    def step(self, sender: NodeId, message: Message) -> None:
        self.raft.step(sender, message)
        self.check()

    def tick(self) -> None:
        self.raft.tick()
        self.check()

    def work(self) -> None:
        """Ask for everything that a leader does."""
        try:
            self.raft.propose([b"p"])
            self.raft.read_index(1)
        except (NotLeader, NoLeader, ProposalDropped, ReadDropped):
            return
        self.check()

    def pump(self) -> None:
        """Be the driver, whose disk answers at once."""
        while (ready := self.raft.ready()) is not None:
            for _, message in ready.messages:
                self.check_leaving(message)
            if ready.persist is not None:
                self.disk.write(ready.persist)
                state = ready.persist.hard_state
                self.durable_term = state.term if state is not None else self.durable_term
                for _, message in ready.persist.messages:
                    self.check_leaving(message)
                self.raft.synced(ready.persist.number)
            self.check()
        while entries := self.raft.committed_entries(1000):
            self.raft.applied_to(entries[-1].index)
        self.check()

    def be_elected(self) -> None:
        """Win an election, as otherwise few examples lead."""
        for _ in range(4):
            self.tick()
        self.pump()
        self.step(2, PreVoteResponse(self.raft.term + 1, True))
        self.pump()
        self.step(2, RequestVoteResponse(self.raft.term, True))
        self.pump()

    def check_leaving(self, message: Message) -> None:
        """What leaves is something that a peer accepts, in a term that is durable."""
        assert decode(message.CODE, list(message)) == message
        if type(message).__name__ not in ("RequestPreVote", "PreVoteResponse"):
            assert message.term <= self.durable_term
        if self.disk.recovering and isinstance(message, RequestVoteResponse):
            assert not message.granted


# Relative to the receiver's term: others rarely fit.
TERMS = (0, 0, 0, 0, 1, 1, -1, 2, 2**32, 2**32 + 1, 2**63)
NUMBERS = (*range(8), *range(8), 2**32, 2**63, U64_MAX)


def arbitrary(rng: random.Random, term: int) -> Message | None:
    """A message of any type; None if what was drawn contradicts itself."""
    message_type = rng.choice(list(MESSAGES.values()))
    kinds = message_type.__mro__[1].__annotations__.values()
    fields: list[object] = [
        rng.random() < 0.5 if kind is bool else rng.choice(NUMBERS) for kind in kinds
    ]
    fields[0] = max(term + rng.choice(TERMS), 1)
    if message_type is AppendEntries:
        first, before = rng.randint(0, 8), rng.randint(0, min(term, 4))
        fields[1:3] = [first, before]
        entries = []
        for offset in range(1, rng.randint(1, 4)):
            before += rng.randint(0, 1)
            entries.append([before, first + offset, 0, b"x"])
        fields[4] = entries
    try:
        return decode(message_type.CODE, fields)
    except MalformedMessage:
        return None


@pytest.mark.parametrize("seed", range(150), ids=lambda seed: f"seed-{seed}-")
def test_no_message_of_a_peer_raises_or_breaks_an_invariant(seed: int) -> None:
    rng = random.Random(seed)
    node = Watched(
        [rng.randint(1, 3) for _ in range(rng.randint(0, 5))],
        recovering=rng.random() < 0.3,
        lease_reads=rng.random() < 0.3,
    )
    node.disk.recovering = node.raft.recovering
    for _ in range(200):
        action = rng.choice("ssssssppptttwe")
        if action == "s":
            message = arbitrary(rng, node.raft.term)
            if message is not None:
                node.step(rng.choice((2, 3, 4, STRANGER)), message)
        elif action == "p":
            node.pump()
        elif action == "t":
            node.tick()
        elif action == "w":
            node.work()
        elif not node.raft.recovering:
            node.be_elected()


# --- what is impossible is counted --------------------------------------------------------------


def leading() -> Watched:
    node = Watched([1, 1], recovering=False, lease_reads=False)
    node.be_elected()
    assert node.raft.role is Role.LEADER
    return node


def following() -> Watched:
    """Node 1 follows node 2 in term 1; two entries are committed."""
    node = Watched([1, 1, 1], recovering=False, lease_reads=False)
    node.step(2, CommitAdvance(1, 2, 1))
    return node


class Strange(CommitAdvance):
    """A type that no handler knows."""


@pytest.mark.parametrize(
    ("node", "sender", "message", "reason"),
    [
        (following, STRANGER, CommitAdvance(1, 1, 1), "sender is not a member"),
        (following, 3, CommitAdvance(1, 1, 1), "second leader in one term"),
        (following, 2, Strange(1, 1, 1), "unknown type of message"),
        (
            following,
            2,
            AppendEntries(3, 1, 1, 2, (Entry(2, 2, 0, b"y"), Entry(2, 3, 0, b"y"))),
            "append contradicts what is committed",
        ),
        (following, 2, decode(7, [1, 9, 0]), "commit beyond what was acknowledged"),
        (following, 3, ReadIndexResponse(1, 1, 1), "read index from a node that does not lead"),
        (leading, 2, decode(15, [2, 9, False, 0, 0, False]), "append response beyond the log"),
        (
            leading,
            2,
            HeartbeatResponse(2, 77, False),
            "heartbeat response to a round of another start",
        ),
        (following, 2, CommitAdvance(2**63, 1, 1), "term leaps"),
        (following, 2, RequestPreVote(2**63, 1, 1), "term leaps"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_cannot_be_is_counted_and_changes_nothing(
    node: Any, sender: NodeId, message: Message, reason: str
) -> None:
    made = node()
    before = (made.raft.commit, made.raft.last_index, made.raft.log.term_runs())
    made.step(sender, message)
    assert made.raft.rejected == {reason: 1}
    assert (made.raft.commit, made.raft.last_index, made.raft.log.term_runs()) == before
